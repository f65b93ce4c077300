"""`make wheels-check`: for which Python versions and processors can each service be installed from wheels alone?

Resolves what the images for processors install, with the versions of constraints.txt, and installs nothing. Exits with
status 1 if a service lacks a wheel.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from requirements import requirements

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "web", "transcriber", "diarizer")
PYTHONS = ("3.11", "3.12", "3.13")
PROCESSORS = ("x86_64", "aarch64")

_GLIBC = range(17, 40)
"""Minor versions of glibc 2 that wheels may ask for. pip takes no range."""


def missing(service: str, python: str, processor: str) -> str:
    """Returns what pip says is missing for ``service``; empty if nothing is."""
    platforms = [f"manylinux_2_{minor}_{processor}" for minor in _GLIBC] + [f"manylinux2014_{processor}"]
    with tempfile.TemporaryDirectory() as target:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp"]
        command += [f"--target={target}", f"--python-version={python}", *(f"--platform={each}" for each in platforms)]
        command += [f"--constraint={ROOT / 'constraints.txt'}", *requirements(service, "cpu", ROOT)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.returncode:
        return ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return errors[0] if errors else done.stderr.strip()[-300:]


def main() -> int:
    """Prints a line for each combination."""
    failed = False
    for processor in PROCESSORS:
        for python in PYTHONS:
            for service in SERVICES:
                problem = missing(service, python, processor)
                failed |= bool(problem)
                print(f"{processor:8} Python {python} {service:12} {problem or 'wheels for everything'}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
