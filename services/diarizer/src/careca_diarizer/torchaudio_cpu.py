"""The one place that lets torchaudio be imported beside a torch without CUDA."""

from __future__ import annotations

import sys
import types


def hide_cuda_extension() -> None:
    """Makes torchaudio take its compiled extension as not installed, only where torch has no CUDA.

    The package index's torchaudio wheel links its extension against CUDA libraries, so that importing it beside a CPU
    build of torch fails on ``libc10_cuda.so``. torchaudio works without the extension, and pyannote.audio uses only its
    pure Python parts. Must run before torchaudio is first imported; does nothing afterwards or where torch has CUDA.
    """
    import torch

    if torch.version.cuda is not None or "torchaudio" in sys.modules:
        return
    absent = types.ModuleType("torchaudio._extension")
    vars(absent).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _load_lib=lambda _library: False,
        fail_if_no_align=_needs_extension,
    )
    sys.modules["torchaudio._extension"] = absent


def _needs_extension(function: object) -> object:
    """Stands for torchaudio's decorator of functions that need the extension."""

    def unavailable(*_args: object, **_kwargs: object) -> object:
        raise RuntimeError(f"{function} needs torchaudio's compiled extension, which this torch cannot load")

    return unavailable
