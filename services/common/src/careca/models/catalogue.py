"""The catalogue of known models, read from ``models.toml``: their files with digests, and their sources."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

SHORT_DIGEST = 12
"""How many hexadecimal digits of a SHA-256 are used in ids."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model's folder."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class WheelMember:
    """A file in a package of the Python package index: the pinned package, its size, and the path in its wheel."""

    requirement: str
    wheel_bytes: int
    path: str


@dataclass(frozen=True, slots=True)
class WheelSource:
    """Packages of the Python package index with the files. Each file consists of its parts in order."""

    parts: Mapping[str, tuple[WheelMember, ...]]


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of the Hugging Face hub at a full commit id. A gated one needs an account and a token."""

    repository: str
    revision: str
    gated: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """A known model. The digest of the file ``weights`` identifies the model."""

    name: str
    kind: str
    description: str
    licence: str
    default: bool
    weights: str
    files: tuple[ModelFile, ...]
    sources: tuple[WheelSource | HubSource, ...]

    @property
    def id(self) -> str:
        """The name and the short digest of the weights, such as ``whisper-base@905e5bf8336b``."""
        sha256 = next(file.sha256 for file in self.files if file.name == self.weights)
        return f"{self.name}@{sha256[:SHORT_DIGEST]}"

    @property
    def size_bytes(self) -> int:
        """Total size of its files in bytes."""
        return sum(file.size_bytes for file in self.files)


def load_catalogue() -> Mapping[str, Model]:
    """Returns all known models by name."""
    document = tomllib.loads(resources.files("careca.models").joinpath("models.toml").read_text(encoding="utf-8"))
    wheels = document.get("wheels", {})
    return {name: _model(name, entry, wheels) for name, entry in document["models"].items()}


def _model(name: str, entry: Mapping[str, Any], wheels: Mapping[str, int]) -> Model:
    files = tuple(ModelFile(file, **facts) for file, facts in entry["files"].items())
    sources = tuple(_source(source, wheels) for source in entry["sources"])
    return Model(
        name=name,
        kind=entry["kind"],
        description=entry["description"],
        licence=entry["licence"],
        default=entry["default"],
        weights=entry["weights"],
        files=files,
        sources=sources,
    )


def _source(source: Mapping[str, Any], wheels: Mapping[str, int]) -> WheelSource | HubSource:
    if "repository" in source:
        return HubSource(**source)
    return WheelSource(
        {
            file: tuple(WheelMember(requirement, wheels[requirement], path) for requirement, path in parts)
            for file, parts in source["wheels"].items()
        }
    )
