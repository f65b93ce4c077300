"""Has kustomize build the overlays, and components on top of them, as an operator's own overlay would."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

import kubectl
from k8s_check.manifests import Manifests, Object

FOLDER = Path(__file__).parents[1]

BUILDS: dict[str, tuple[str, ...]] = {
    "base": ("base",),
    "base, shared store": ("base", "shared-store"),
    "cpu": ("overlays/cpu",),
    "gpu": ("overlays/gpu",),
    "ha": ("overlays/ha",),
    "cpu, weights per pod": ("overlays/cpu", "weights-per-pod"),
    "gpu, weights per pod": ("overlays/gpu", "weights-per-pod"),
    "gpu, S3": ("overlays/gpu", "store-s3"),
    "ha, KEDA": ("overlays/ha", "keda"),
    "ha, everything": (
        "overlays/ha",
        "monitoring",
        "expose",
        "ingress",
        "ingress-traefik",
        "webhooks",
        "cert-manager",
        "tracing",
        "keda",
        "keda-diarizer-to-zero",
    ),
}
"""What is checked: a base or an overlay, and components on top of it."""


def build(name: str, folder: Path = FOLDER) -> Manifests:
    """One of ``BUILDS``. Raises ``RuntimeError`` with what kustomize says where it cannot be built."""
    overlay, *components = BUILDS[name]
    built_in = {"ha": ("shared-store",)}.get(Path(overlay).name, ())
    places = [each if (folder / each).is_dir() else f"components/{each}" for each in components]
    return Manifests(name, _build(folder, overlay, places), frozenset((*components, *built_in)))


def kustomize(folder: Path) -> str:
    """What kustomize makes of the folder. Raises ``RuntimeError`` with what it says where it cannot be built."""
    done = subprocess.run([kubectl.find(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def read(text: str) -> tuple[Object, ...]:
    """The objects in what kustomize made."""
    return tuple(each for each in yaml.safe_load_all(text) if each)


def _build(folder: Path, overlay: str, components: Sequence[str]) -> tuple[Object, ...]:
    with tempfile.TemporaryDirectory() as own:
        place = Path(own).resolve()
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(folder.resolve() / overlay, place)],
            "components": [os.path.relpath(folder.resolve() / each, place) for each in components],
        }
        (place / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return read(kustomize(place))
