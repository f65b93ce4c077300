"""Imports pyannote.audio with the necessary preparations."""

from __future__ import annotations

import os
import warnings
from types import ModuleType

from careca_diarizer.torchaudio_cpu import hide_cuda_extension


def import_pyannote() -> ModuleType:
    """Returns the module ``pyannote.audio``, with telemetry off.

    Its telemetry is on by default, is configured during the import, and would report the length of each recording.
    """
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    hide_cuda_extension()
    with warnings.catch_warnings():
        # Without torchcodec it cannot read files, but it only gets samples here.
        warnings.filterwarnings("ignore", message=r"(?s).*torchcodec is not installed correctly")
        import pyannote.audio
    return pyannote.audio
