"""Calls podman and buildah. Containers, networks and images of others on this machine are left alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROGRAMS = ("podman", "buildah", "runc")

# A container starts with these limits if it may not raise those of this process.
_CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
"""


class CheckError(Exception):
    """Something that is checked is not as it must be, or the check cannot run. The text says what, and what to do."""


class Podman:
    """podman and buildah with a configuration of their own, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        missing = [name for name in PROGRAMS if not shutil.which(name)]
        if missing or os.geteuid():
            raise CheckError(
                f"This needs root and {', '.join(PROGRAMS)}"
                + (f"; {', '.join(missing)} cannot be found" if missing else "")
                + ". On Debian: apt-get install podman buildah runc iptables mmdebstrap"
            )
        configuration = folder / "containers.conf"
        configuration.write_text(_CONFIGURATION)
        self._environment = {**os.environ, "CONTAINERS_CONF": str(configuration)}

    def run(self, *arguments: str | Path, program: str = "podman") -> str:
        """Runs a command and returns what it prints. Raises ``CheckError`` with its last lines if it fails."""
        done = self._done(program, arguments)
        if done.returncode:
            text = _last_lines(done.stderr or done.stdout)
            raise CheckError(f"{program} {' '.join(map(str, arguments[:2]))} ended with {done.returncode}: {text}")
        return done.stdout.strip()

    def succeeds(self, *arguments: str | Path) -> bool:
        """Runs a command, and returns whether it succeeds."""
        return self._done("podman", arguments).returncode == 0

    def output(self, *arguments: str | Path) -> str:
        """Runs a command that may fail, and returns all that it prints."""
        done = self._done("podman", arguments)
        return done.stdout + done.stderr

    def inspect(self, name: str, kind: str = "container") -> Any:
        """Returns what podman knows of a container or an image."""
        return json.loads(self.run(kind, "inspect", name))[0]

    def remove(self, kind: str, *names: str) -> None:
        """Removes containers or networks, if there are such."""
        for name in names:
            with contextlib.suppress(CheckError):
                self.run(kind, "rm", "--force", "--time=0", name)

    def _done(self, program: str, arguments: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        command = [program, *map(str, arguments)]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-15:])
