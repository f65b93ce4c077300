"""What is inside an image: a software bill of materials in the format of CycloneDX 1.5, with licences.

Python packages have the licence that their metadata names. Debian packages have none here: their licences are in
``/usr/share/doc`` of the image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from images_check.podman import Podman

# Runs in the image. The licence is an SPDX expression if the package has one, else free text or the classifiers.
_PYTHON = """if True:
    import json
    from importlib.metadata import distributions

    def licence(about):
        text = (about.get("License") or "").strip().splitlines()
        if len(text) == 1 and text[0] != "UNKNOWN":
            return text[0]
        classifiers = (each for each in about.get_all("Classifier", ()) if each.startswith("License ::"))
        return " OR ".join(each.rpartition(" :: ")[2] for each in classifiers)

    packages = [(each.metadata, each.version) for each in distributions()]
    keys = ("name", "version", "spdx", "text")
    found = [(about["Name"], version, about.get("License-Expression"), licence(about)) for about, version in packages]
    print(json.dumps([dict(zip(keys, each)) for each in found]))
"""


def bill_of_materials(podman: Podman, image: str) -> dict[str, Any]:
    """Returns the bill of an image."""
    python = json.loads(_in(podman, image, "python", "-c", _PYTHON))
    debian = _in(podman, image, "dpkg-query", "--show", "--showformat=${Package} ${Version}\\n").splitlines()
    components = [*map(_python_component, python), *_debian_components(debian)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": image, "bom-ref": image}},
        "components": sorted(components, key=lambda component: str(component["purl"])),
    }


def without_licence(bill: dict[str, Any]) -> list[str]:
    """Returns the Python packages of a bill that name no licence."""
    return [
        component["name"]
        for component in bill["components"]
        if component["purl"].startswith("pkg:pypi/") and "licenses" not in component
    ]


def _in(podman: Podman, image: str, *command: str) -> str:
    return podman.run("run", "--rm", "--network=none", f"--entrypoint={command[0]}", image, *command[1:])


def _python_component(package: dict[str, str | None]) -> dict[str, Any]:
    name, version = package["name"], package["version"]
    component: dict[str, Any] = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{str(name).lower().replace('_', '-')}@{version}",
    }
    if spdx := package["spdx"]:
        component["licenses"] = [{"expression": spdx}]
    elif text := package["text"]:
        component["licenses"] = [{"license": {"name": text}}]
    return component


def _debian_components(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        name, version = line.split()
        yield {"type": "library", "name": name, "version": version, "purl": f"pkg:deb/debian/{name}@{version}"}
