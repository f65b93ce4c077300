"""Weights of models for tests that need the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from careca.models import ModelStore
from careca.settings import ModelStoreSettings


def model_store(*names: str) -> ModelStore:
    """The store of models on this machine; skips the test where one of these models is not in it."""
    store = ModelStore(ModelStoreSettings().models_dir)
    present = {status.model.name for status in store.list() if status.present}
    if missing := set(names) - present:
        pytest.skip(f"not in {store.root}: run `careca models pull {' '.join(sorted(missing))}`")
    return store


def model_folder(name: str) -> Path:
    """The folder of one model; skips the test where it is not there."""
    return model_store(name).path(name)
