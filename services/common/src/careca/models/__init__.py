"""Weights of models: which there are, where they come from, and whether the ones on disk are the right ones.

``models.toml`` names every file with its SHA-256. Weights are fetched by ``careca models pull`` and never while a
request is served; a service checks them before it loads them.
"""

from careca.models.catalogue import Model, ModelFile, load_catalogue
from careca.models.sources import Downloads, PullProgress
from careca.models.store import ModelStatus, ModelStore, ResolvedModel

__all__ = [
    "Downloads",
    "Model",
    "ModelFile",
    "ModelStatus",
    "ModelStore",
    "PullProgress",
    "ResolvedModel",
    "load_catalogue",
]
