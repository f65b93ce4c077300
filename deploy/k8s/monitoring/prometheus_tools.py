"""Finds ``prometheus`` and ``promtool``, and fetches them where there are none: no root is needed.

``python deploy/k8s/monitoring/prometheus_tools.py`` prints where they are.

Those on the PATH are taken, else Debian's package is unpacked, not installed, into the virtual environment. Both
programs need nothing beside the C library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKAGE = "prometheus"
PROGRAMS = ("prometheus", "promtool")
FETCHED = Path(sys.prefix) / "bin"


class NoPrometheusError(Exception):
    """There is none and none can be had; the text says why and what to do."""


def find(program: str) -> Path:
    """Where one of ``PROGRAMS`` is, fetched if need be. Raises ``NoPrometheusError``."""
    if there := shutil.which(program):
        return Path(there)
    if not (FETCHED / program).exists():
        fetch(FETCHED)
    return FETCHED / program


def fetch(folder: Path) -> None:
    """Downloads the package, which apt verifies, and puts ``PROGRAMS`` there. Raises ``NoPrometheusError``."""
    if missing := [tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)]:
        raise NoPrometheusError(f"{PACKAGE} is to be installed by hand: there is no {missing[0]} here to fetch it with")
    with tempfile.TemporaryDirectory(prefix="careca-prometheus-") as name:
        place = Path(name)
        package = _download(place)
        _run(["dpkg-deb", "--extract", str(package), str(place / "unpacked")], place)
        for program in PROGRAMS:
            _put(place / "unpacked" / "usr" / "bin" / program, folder / program)


def _download(place: Path) -> Path:
    """The package's file. What is known of packages is asked for anew: a fresh machine knows of none."""
    for part in ("lists/partial", "cache/archives/partial"):
        (place / part).mkdir(parents=True)
    own = {"Dir::State::lists": place / "lists", "Dir::Cache": place / "cache", "APT::Sandbox::User": ""}
    options = [f"--option={key}={value}" for key, value in own.items()]
    _run(["apt-get", *options, "--quiet", "update"], place)
    _run(["apt-get", *options, "--quiet", "download", PACKAGE], place)
    return next(place.glob(f"{PACKAGE}_*.deb"))


def _run(command: Sequence[str], place: Path) -> None:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoPrometheusError(
            f"{PACKAGE} could not be fetched, install it by hand: {' '.join(command[:1])} says {done.stderr.strip()}"
        )


def _put(program: Path, target: Path) -> None:
    """In one step, so that nobody runs half of it."""
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(program, draft)
    draft.replace(target)


if __name__ == "__main__":
    for each in PROGRAMS:
        print(find(each))
