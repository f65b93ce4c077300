"""What must be done before pyannote.audio is imported, and its import."""

from __future__ import annotations

import os
import warnings
from types import ModuleType

from careca_diarizer.torchaudio_cpu import hide_cuda_extension


def import_pyannote() -> ModuleType:
    """The module ``pyannote.audio``, with its telemetry off.

    Telemetry is on by default, is decided while it is imported, and would report each recording's length.
    """
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    hide_cuda_extension()
    with warnings.catch_warnings():
        # Without torchcodec it cannot read files; it is only ever given samples.
        warnings.filterwarnings("ignore", message=r"(?s).*torchcodec is not installed correctly")
        import pyannote.audio
    return pyannote.audio
