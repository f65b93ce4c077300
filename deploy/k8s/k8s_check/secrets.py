"""The Secrets that secrets.sh makes."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

from k8s_check.build import FOLDER, read
from k8s_check.manifests import Object

SCRIPT = FOLDER / "secrets.sh"


def make_secrets(people: Path, *names: str, **environment: str) -> tuple[Object, ...]:
    """Returns the Secrets. ``people`` gets what people need; ``environment`` are variables of the script."""
    command = ["sh", str(SCRIPT), str(people), *names]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return read(done.stdout)


def contents(secrets: tuple[Object, ...]) -> dict[str, dict[str, bytes]]:
    """Returns what is in Secrets, by their names and keys."""
    return {
        each["metadata"]["name"]: {key: base64.b64decode(value) for key, value in each["data"].items()}
        for each in secrets
    }
