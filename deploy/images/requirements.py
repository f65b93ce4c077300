"""Prints what a service's image installs from the package index, one requirement a line: all but Careca's own packages.

    python requirements.py transcriber cuda

So the layer with others' packages, gigabytes of them, stays the same as long as no ``pyproject.toml`` changes. Run in
the repository's root. A variant adds what the service's extra of that name lists, if it has one. All can send traces.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_OWN = re.compile(r"(careca-\w+)(?:\[([\w,-]+)\])?")
_FOLDERS = {
    "careca-common": "services/common",
    "careca-client": "client",
    "careca-diarizer": "services/diarizer",
}


def requirements(service: str, variant: str, root: Path = Path()) -> list[str]:
    """Requirements of ``services/SERVICE`` and of the packages of Careca's that it uses, sorted."""
    found = _requirements(root, "services/common", ["tracing"])
    return sorted(found | _requirements(root, f"services/{service}", [variant]))


def _requirements(root: Path, folder: str, extras: Iterable[str]) -> set[str]:
    """Requirements of one package with those of ``extras`` that it has."""
    project: dict[str, Any] = tomllib.loads((root / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project.get("optional-dependencies", {})
    found: set[str] = set()
    for requirement in [*project["dependencies"], *(each for extra in extras for each in optional.get(extra, ()))]:
        if own := _OWN.fullmatch(requirement):
            found |= _requirements(root, _FOLDERS[own[1]], filter(None, (own[2] or "").split(",")))
        else:
            found.add(requirement)
    return found


if __name__ == "__main__":
    service_name, variant_name = sys.argv[1:]
    print("\n".join(requirements(service_name, variant_name)))
