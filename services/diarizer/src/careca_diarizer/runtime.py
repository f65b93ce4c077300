"""Runtimes for networks: torch on a GPU; OpenVINO on a CPU, where it needs about half of torch's time.

With OpenVINO, the results are the same bytes for any number of threads and any batch size; with torch they are not.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Network(Protocol):
    """A network that is ready to infer."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """Computes a batch on the device of its input."""

    def release(self) -> None:
        """Releases memory that only makes the next batch faster."""


class TorchNetwork:
    """A network in torch, on the device of its weights.

    torch's allocator releases memory for all networks at once.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, inputs: Tensor) -> Tensor:
        """See ``Network``."""
        outputs: Tensor = self._module(inputs)
        return outputs

    def release(self) -> None:
        """Does nothing."""


class OpenVINONetwork:
    """A network in OpenVINO, on the CPU. OpenVINO keeps buffers for the largest batch so far."""

    def __init__(self, model: Any, threads: int) -> None:
        """Compiles ``model``: an OpenVINO model, or the path of a file with one."""
        core = import_openvino().Core()
        # Without memory mapping, the file may be removed. The default precision would be bfloat16 on processors that
        # support it, which would give other results on other machines.
        core.set_property({"ENABLE_MMAP": False})
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self._compiled = core.compile_model(model, "CPU", settings)
        self._request = self._compiled.create_infer_request()

    def __call__(self, inputs: Tensor) -> Tensor:
        """See ``Network``."""
        self._request.infer([inputs.numpy()], share_inputs=True)
        return torch.from_numpy(self._request.get_output_tensor().data.copy())

    def release(self) -> None:
        """See ``Network``."""
        self._compiled.release_memory()


def import_openvino() -> Any:
    """Returns the module ``openvino``, without the telemetry of its converter."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino
