"""What computes a network: torch on a GPU, OpenVINO on a CPU, where it takes about half of torch's time.

OpenVINO gives a recording the same bytes on any number of threads and in batches of any size, which torch does not.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Network(Protocol):
    """A network that is ready to infer."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """Computes a batch on the device of its input."""

    def release(self) -> None:
        """Gives memory back that only speeds up the next batch."""


def prepare_network(module: nn.Module, example: Tensor, device: torch.device, *, threads: int) -> Network:
    """``module``, which is on the CPU and infers, on ``device``; ``example`` is an input on the CPU."""
    return _Compiled(module, example, threads) if device.type == "cpu" else _OnTorch(module.to(device))


class _OnTorch:
    """torch's own memory is released by its allocator, for all networks at once."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self._module(inputs)
        return outputs

    def release(self) -> None:
        pass


class _Compiled:
    """OpenVINO keeps buffers for the largest batch that it has seen."""

    def __init__(self, module: nn.Module, example: Tensor, threads: int) -> None:
        openvino = _import_openvino()
        with torch.no_grad(), warnings.catch_warnings():  # a trace cannot be made in inference mode
            # Shapes are checked while tracing, and the parts of torch that OpenVINO reads are on their way out.
            warnings.simplefilter("ignore")
            traced = torch.jit.freeze(torch.jit.trace(module, example, check_trace=False))  # type: ignore[no-untyped-call]
        model = openvino.convert_model(traced, example_input=example)
        # The default would be bfloat16 where the processor has it: other results on other machines.
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self._compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._request = self._compiled.create_infer_request()

    def __call__(self, inputs: Tensor) -> Tensor:
        self._request.infer([inputs.numpy()], share_inputs=True)
        return torch.from_numpy(self._request.get_output_tensor().data.copy())

    def release(self) -> None:
        self._compiled.release_memory()


def _import_openvino() -> Any:
    """The module ``openvino``. Its converter reports its use to its makers unless the package for it is missing."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino
