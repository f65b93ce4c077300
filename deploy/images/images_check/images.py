"""Builds the images for processors."""

from __future__ import annotations

import shlex
from pathlib import Path

from images_check.base import ROOT
from images_check.podman import CheckError, Podman

IMAGES = {"gateway": "", "web": "", "transcriber": "cpu", "diarizer": "cpu"}
"""What is built, each with its variant."""

MOST_BYTES = {"gateway": 450e6, "web": 300e6, "transcriber": 900e6, "diarizer": 800e6}
"""What an image may add to its base image. With CUDA or torch, it would be several times as much."""

_GPU_PACKAGES = ("torch", "nvidia-cublas-cu12", "nvidia-cudnn-cu12", "triton", "cuda-toolkit")


def build(podman: Podman, service: str, name: str, options: str, root: Path = ROOT) -> None:
    """Builds the image of ``service`` from ``root``, with more ``options`` of ``buildah bud``, such as a volume."""
    variant = IMAGES[service]
    podman.run(
        *("bud", "--isolation=chroot", "--layers", "--format=docker", "--quiet"),  # OCI's format has no HEALTHCHECK
        *shlex.split(options),
        *(("--build-arg", f"VARIANT={variant}") if variant else ()),
        *("--file", root / "services" / service / "Dockerfile", "--tag", name, root),
        program="buildah",
    )


def examine(podman: Podman, service: str, name: str, base: str) -> int:
    """Returns the bytes that the image adds to its base image. Raises ``CheckError`` if it is not as it must be."""
    found = podman.inspect(name, "image")
    added = found["Size"] - podman.inspect(base, "image")["Size"]
    if added > MOST_BYTES[service]:
        raise CheckError(f"the image of {service} adds {added / 1e6:.0f} MB: what makes it so large?")
    if found["Config"]["User"] != "10001:10001" or not found.get("Healthcheck"):
        raise CheckError(f"the image of {service} has no user 10001 or no HEALTHCHECK")
    listed = podman.run("run", "--rm", "--network=none", name, "python", "-m", "pip", "list", "--format=freeze")
    packages = {line.partition("==")[0].lower() for line in listed.splitlines()}
    if unwanted := packages.intersection(_GPU_PACKAGES):
        raise CheckError(f"the image of {service} for processors has {', '.join(sorted(unwanted))}")
    return int(added)
