"""Labelled and awkward recordings, which stand beside the project: tests of them are skipped where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def labelled(name: str) -> Path:
    """A labelled recording, such as ``phone/sample.flac``."""
    return _present(_folder() / name)


def awkward(name: str) -> Path:
    """An awkward recording, such as ``two_tracks.mkv``."""
    return _present(_folder().parent / "field" / name)


def _folder() -> Path:
    return Path(os.environ.get("CARECA_DATA") or Path(__file__).parents[3] / "shared" / "data" / "dev")


def _present(path: Path) -> Path:
    if not path.is_file():
        pytest.skip(f"there is no {path}: set CARECA_DATA")
    return path
