"""What computes a network: torch on a GPU, OpenVINO on a CPU, where it takes about half of torch's time.

OpenVINO gives a recording the same bytes on any number of threads and in batches of any size, which torch does not.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Network = Callable[[Tensor], Tensor]
"""Computes a batch on the device of its input."""


def prepare_network(module: nn.Module, example: Tensor, device: torch.device, *, threads: int) -> Network:
    """``module``, which is on the CPU and infers, on ``device``; ``example`` is an input on the CPU."""
    return _compile(module, example, threads) if device.type == "cpu" else module.to(device)


def _compile(module: nn.Module, example: Tensor, threads: int) -> Network:
    openvino = _import_openvino()
    with torch.no_grad(), warnings.catch_warnings():  # a trace cannot be made in inference mode
        # Shapes are checked while tracing, and the parts of torch that OpenVINO reads are on their way out.
        warnings.simplefilter("ignore")
        traced = torch.jit.freeze(torch.jit.trace(module, example, check_trace=False))  # type: ignore[no-untyped-call]
    model = openvino.convert_model(traced, example_input=example)
    # The default would be bfloat16 where the processor has it: other results on other machines.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request: Any = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def compute(inputs: Tensor) -> Tensor:
        request.infer([inputs.numpy()], share_inputs=True)
        return torch.from_numpy(request.get_output_tensor().data.copy())

    return compute


def _import_openvino() -> Any:
    """The module ``openvino``. Its converter reports its use to its makers unless the package for it is missing."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino
