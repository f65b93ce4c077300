"""``python -m careca_diarizer.conversion SEGMENTATION EMBEDDING FOLDER`` converts two checkpoints to OpenVINO.

It needs torch and pyannote.audio. ``networks`` runs it in a process of its own.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from careca_diarizer.campplus import load_campplus
from careca_diarizer.pyannet import load_segmentation
from careca_diarizer.runtime import CONVERTED_EMBEDDING, CONVERTED_SEGMENTATION, MEL_BINS, import_openvino
from careca_diarizer.windows import WINDOW_SAMPLES


def main() -> None:
    """Converts the checkpoints in the command line."""
    segmentation, embedding, folder = map(Path, sys.argv[1:])
    _save(load_segmentation(segmentation), torch.zeros(1, 1, WINDOW_SAMPLES), folder / CONVERTED_SEGMENTATION)
    _save(load_campplus(embedding), torch.zeros(1, 100, MEL_BINS), folder / CONVERTED_EMBEDDING)


def convert(module: nn.Module, example: Tensor) -> Any:
    """Returns ``module``, which must be on the CPU, as an OpenVINO model for inputs of any size."""
    with torch.no_grad(), warnings.catch_warnings():  # a trace cannot be made in inference mode
        # Tracing warns about shape checks, and about parts of torch that are deprecated and that OpenVINO needs.
        warnings.simplefilter("ignore")
        traced = torch.jit.freeze(torch.jit.trace(module, example, check_trace=False))  # type: ignore[no-untyped-call]
    return import_openvino().convert_model(traced, example_input=example)


def _save(module: nn.Module, example: Tensor, path: Path) -> None:
    # The default would round weights to half precision.
    import_openvino().save_model(convert(module, example), path, compress_to_fp16=False)


if __name__ == "__main__":
    main()
