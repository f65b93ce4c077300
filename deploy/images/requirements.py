"""Prints what a service's image installs from the package index, one requirement a line: all but Careca's own packages.

    python requirements.py transcriber cuda

So the layer with others' packages, gigabytes of them, stays the same as long as no ``pyproject.toml`` changes. Run in
the repository's root. ``cuda`` adds what the service's extra of that name lists, if it has one. All can send traces.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

_COMMON = re.compile(r"careca-common(?:\[([\w,-]+)\])?")


def requirements(service: str, variant: str, root: Path = Path()) -> list[str]:
    """Requirements of ``services/SERVICE`` and of what it uses of ``services/common``, sorted."""
    project = _project(root, service)
    common = _project(root, "common")
    found = {
        *common["dependencies"],
        *common["optional-dependencies"]["tracing"],
        *project.get("optional-dependencies", {}).get(variant, ()),
    }
    for requirement in project["dependencies"]:
        if own := _COMMON.fullmatch(requirement):
            for extra in filter(None, (own[1] or "").split(",")):
                found.update(common["optional-dependencies"][extra])
        else:
            found.add(requirement)
    return sorted(found)


def _project(root: Path, part: str) -> dict[str, Any]:
    text = (root / "services" / part / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project


if __name__ == "__main__":
    service_name, variant_name = sys.argv[1:]
    print("\n".join(requirements(service_name, variant_name)))
