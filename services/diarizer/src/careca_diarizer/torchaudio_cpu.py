"""Makes it possible to import torchaudio with a torch without CUDA."""

from __future__ import annotations

import sys
import types


def hide_cuda_extension() -> None:
    """Makes torchaudio treat its compiled extension as not installed, if torch has no CUDA.

    The extension in torchaudio's wheel of the package index is linked against CUDA libraries, so its import with a CPU
    build of torch fails on ``libc10_cuda.so``. torchaudio works without the extension, and pyannote.audio uses only its
    pure Python parts. Call it before the first import of torchaudio; afterwards, or with CUDA, it does nothing.
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
    """Replaces torchaudio's decorator for functions that need the extension."""

    def unavailable(*_args: object, **_kwargs: object) -> object:
        raise RuntimeError(f"{function} needs torchaudio's compiled extension, which this torch cannot load")

    return unavailable
