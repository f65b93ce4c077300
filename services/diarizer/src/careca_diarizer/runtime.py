"""What computes a network: torch on a GPU, OpenVINO on a CPU, where it takes about half of torch's time.

OpenVINO gives a recording the same bytes on any number of threads and in batches of any size, which torch does not.
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
        """Gives memory back that only speeds up the next batch."""


class OnTorch:
    """A network on the device that its weights are on.

    torch's own memory is released by its allocator, for all networks at once.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, inputs: Tensor) -> Tensor:
        """See ``Network``."""
        outputs: Tensor = self._module(inputs)
        return outputs

    def release(self) -> None:
        """Does nothing."""


class OnOpenVINO:
    """A network on the CPU. OpenVINO keeps buffers for the largest batch that it has seen."""

    def __init__(self, model: Any, threads: int) -> None:
        """Compiles ``model``, which is one of OpenVINO's, or the path of a file that holds one."""
        core = import_openvino().Core()
        # A file need not stay. The default precision would be bfloat16 where the processor has it: other results on
        # other machines.
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
    """The module ``openvino``. Its converter reports its use to its makers unless the package for it is missing."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino
