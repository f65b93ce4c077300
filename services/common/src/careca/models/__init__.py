"""The weights of models: the catalogue, the download, and the check of the files on disk.

``models.toml`` lists every file with its SHA-256. ``careca models pull`` fetches weights; a service never fetches them
while it serves, and checks them before it loads them.
"""

from careca.models.catalogue import Model, ModelFile, load_catalogue
from careca.models.sources import Downloads, PullProgress
from careca.models.store import ModelStatus, ModelStore

__all__ = [
    "Downloads",
    "Model",
    "ModelFile",
    "ModelStatus",
    "ModelStore",
    "PullProgress",
    "load_catalogue",
]
