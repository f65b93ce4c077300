"""Networks that are ready to infer, and OpenVINO, which runs them on a CPU. On a GPU, torch does: ``torch_networks``.

With OpenVINO, the results are the same bytes for any number of threads and any batch size; with torch they are not.
Arrays that pass between the host and a network are numpy's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from careca.inference.parallel import Threads

MEL_BINS = 80
"""Bands of the filter bank that the embedding network reads."""

EMBEDDING_SIZE = 192
"""Dimensions of an embedding."""

CONVERTED_SEGMENTATION, CONVERTED_EMBEDDING = "segmentation.xml", "embedding.xml"
"""The files of the networks in OpenVINO's format, each with a .bin file of the same name."""

_PART = 4
"""Inputs at a time in a thread. More are not faster."""

_KEPT_COMPUTATIONS = 100
"""Computations that OpenVINO keeps prepared in each thread, for the shapes of the newest inputs. By default it keeps
5,000, and its memory grows with each new length of a piece. Without any, the network is slower."""

Floats = npt.NDArray[np.float32]


class Network(Protocol):
    """A network that is ready to infer."""

    def __call__(self, inputs: Any) -> Floats:
        """Returns the outputs of a batch. ``inputs`` is a float32 array of the host, or of the network's device."""

    def release(self) -> None:
        """Releases memory that only makes the next batch faster."""


class Features(Protocol):
    """Computes the inputs of the embedding network."""

    def __call__(self, cuts: Sequence[Floats], length: int) -> Any:
        """Returns filter banks whose mean over each cut is zero, on the network's device: (cuts, length, 80).

        ``cuts`` have the shape (samples,), with values in [-1, 1), and at least one frame each. If a cut has more than
        ``length`` frames, the first ones are used; if it has fewer, they are repeated from the start.
        """


@dataclass(frozen=True, slots=True)
class Networks:
    """Both networks on one device. B is the batch."""

    segmentation: Network
    """Windows of audio to the log probability of each class: (B, 1, samples) -> (B, frames, 7)."""
    features: Features
    embedding: Network
    """Features to embeddings, not normalised: (B, frames, 80) -> (B, 192)."""


class OpenVINONetwork:
    """A network in OpenVINO, on the CPU.

    Each thread computes a part of a batch, a few inputs at a time. OpenVINO keeps buffers for the largest inputs so
    far, and prepared computations for each shape, so large inputs of many shapes would need much more memory.
    """

    def __init__(self, model: Any, threads: int) -> None:
        """Compiles ``model``: an OpenVINO model, or the path of a file with one."""
        core = import_openvino().Core()
        # Without memory mapping, the file may be removed. The default precision would be bfloat16 on processors that
        # support it, which would give other results on other machines.
        core.set_property({"ENABLE_MMAP": False})
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "CPU_RUNTIME_CACHE_CAPACITY": _KEPT_COMPUTATIONS,
        }
        self._compiled = core.compile_model(model, "CPU", settings)
        self._threads = Threads(threads)
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(threads):
            self._requests.put(self._compiled.create_infer_request())
        self._used = False

    def __call__(self, inputs: Floats) -> Floats:
        """See ``Network``."""
        if self._used:
            return np.concatenate(self._threads.compute(self._infer, inputs))
        # The Python module of OpenVINO initializes itself during the first inference. In two threads at the same time,
        # each of them may wait for the other one forever: one holds Python's lock, and one a lock of the module.
        first = self._infer(inputs[:1])
        self._used = True
        return np.concatenate([*first, *self._threads.compute(self._infer, inputs[1:])])

    def _infer(self, inputs: Floats) -> list[Floats]:
        """Returns the outputs of some inputs at a time."""
        request = self._requests.get()
        try:
            outputs = []
            for start, end in _parts(len(inputs)):
                request.infer([inputs[start:end]], share_inputs=True)
                outputs.append(request.get_output_tensor().data.copy())
            return outputs
        finally:
            self._requests.put(request)

    def release(self) -> None:
        """See ``Network``."""
        self._compiled.release_memory()


def _parts(count: int) -> Iterator[tuple[int, int]]:
    """Yields the limits of parts of ``_PART`` inputs, and of one input each for the rest: two sizes and no more."""
    whole = count - count % _PART
    yield from ((start, start + _PART) for start in range(0, whole, _PART))
    yield from ((start, start + 1) for start in range(whole, count))


def import_openvino() -> Any:
    """Returns the module ``openvino``, without the telemetry of its converter."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino
