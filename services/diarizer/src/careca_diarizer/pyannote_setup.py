"""Imports pyannote.audio with the necessary preparations."""

from __future__ import annotations

import os
import sys
import warnings
from types import ModuleType


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


def hide_cuda_extension() -> None:
    """Makes torchaudio treat its compiled extension as not installed, if torch has no CUDA.

    The extension in torchaudio's wheel of the package index is linked against CUDA libraries, so its import with a CPU
    build of torch fails on ``libc10_cuda.so``. torchaudio works without the extension, and pyannote.audio uses only its
    pure Python parts. Call it before the first import of torchaudio; afterwards, or with CUDA, it does nothing.
    """
    import torch

    if torch.version.cuda is not None or "torchaudio" in sys.modules:
        return
    absent = ModuleType("torchaudio._extension")
    vars(absent).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _load_lib=lambda _library: False,
        fail_if_no_align=_needs_extension,
    )
    sys.modules["torchaudio._extension"] = absent


def _needs_extension(function: object) -> object:
    """Replaces torchaudio's decorator for functions that need the extension."""

    def unavailable(*_args: object, **_kwargs: object) -> object:
        raise RuntimeError(f"{function} needs torchaudio's compiled extension, which this torch cannot load")

    return unavailable
