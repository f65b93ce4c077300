"""The interface of a model engine: a request is a generator that asks for its batches to be computed.

    work = engine.infer(audio, options)

``work`` yields ``Progress`` and ``Segment`` events, and ``Batch`` values. Whoever runs it computes each batch, perhaps
together with items of other requests, and sends the results back. ``work.close()`` cancels it between two batches.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from careca.inference.audio import Audio
from careca.resources.memory import ModelMemory
from careca.types import Progress, Segment

O_contra = TypeVar("O_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

Event: TypeAlias = Progress | Segment


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Items for the device to compute together. Raises ``ValueError`` if there are none, or more than ``most``."""

    key: Hashable
    """Batches of several requests can be computed together if their keys are equal."""
    items: Sequence[Any]
    compute: Callable[[Sequence[Any]], Sequence[Any]]
    """Returns one result for each item. With an equal key, it accepts the items of other requests too."""
    most: int
    """Largest number of items to compute together."""
    exclusive: bool = False
    """Whether the next batch of the request must follow at once, because the model keeps state between the two."""
    identity: Callable[[Any], bytes] | None = None
    """Returns what the result of an item depends on beside ``key``: a digest of the audio, say. ``None``: it is not
    known. See ``careca.inference.preparation``."""
    together: bool = False
    """Whether results also depend on the other items of the batch, if only in their last digits."""
    settled: Callable[[Any], bool] | None = None
    """Returns whether a request whose audio begins with the same audio, and goes on, has the same item. ``None``: it
    probably has. See ``careca.inference.preparation``."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.items) <= self.most:
            raise ValueError(f"a batch has from 1 to {self.most} items, not {len(self.items)}")

    @classmethod
    def alone(cls, compute: Callable[[], Any], *, exclusive: bool = False) -> Batch:
        """Returns work that cannot be shared, as a batch of one item. Its only result is what ``compute`` returns."""
        return cls(None, (None,), lambda _: (compute(),), most=1, exclusive=exclusive)


Work: TypeAlias = Generator[Event | Batch, Any, R]
"""The work on one request. It receives the results of each batch, in the order of its items, and returns the result.

A failed batch raises its error where it was yielded. Between two yields there is at most as much work as in a batch.
"""


class Engine(ModelMemory, Protocol[O_contra, R_co]):
    """Models on one device, for one kind of options and results.

    One thread calls all methods of a loaded engine. With ``parallel_live``, a second one does the work on live windows.
    """

    @property
    def model(self) -> str:
        """Ids of the models and short digests of their weights; part of every cache key. Known before ``load``."""

    @property
    def device(self) -> str:
        """The device that computes, such as ``cpu`` or ``cuda:0``."""

    @property
    def parallel_live(self) -> bool:
        """Whether a second thread may do the work on windows of live audio at the same time as all other work."""

    def load(self) -> None:
        """Loads the weights into memory and warms the device up; does nothing if they are loaded.

        Raises ``PreconditionFailed`` if weights are missing or their digest differs.
        """

    def release_gpu_cache(self) -> None:
        """Releases memory that no live data uses: caches on a GPU, and buffers of a runtime on the CPU."""

    def infer(self, audio: Audio, options: O_contra) -> Work[R_co]:
        """Returns the work to find the result for ``audio``. It yields progress, and segments if the model finds them.

        On a CPU, the same audio and options give the same result. Audio without speech, also very short audio, gives an
        empty result. The work raises ``InvalidRequest`` for options that the model does not support, ``OutOfMemory`` if
        the device has too little memory, and ``PreconditionFailed`` if nothing is loaded.
        """


def complete(work: Work[R], emit: Callable[[Event], None] = lambda _: None) -> R:
    """Runs ``work`` alone, in this thread, to its end, and returns its result. Passes its events to ``emit``."""
    results: Any = None
    while True:
        try:
            asked = work.send(results)
        except StopIteration as stop:
            value: R = stop.value
            return value
        results = None
        if isinstance(asked, Batch):
            results = asked.compute(asked.items)
        else:
            emit(asked)
