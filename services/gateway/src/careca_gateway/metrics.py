"""What the gateway counts beside what every service does."""

from __future__ import annotations

from collections.abc import Callable, Collection

from prometheus_client import Gauge

from careca.telemetry.metrics import Metrics
from careca.types import Stage
from careca_gateway.decoding.sandbox import LAYERS
from careca_gateway.storage.store import StoreUsage


class GatewayMetrics(Metrics):
    """Requests, recordings waiting to be decoded, and the store."""

    def __init__(self) -> None:
        super().__init__((Stage.DECODE, Stage.MERGE))
        self._in_flight = self._gauge("careca_work_in_flight", "Requests that are worked on.")
        self._waiting = self._gauge("careca_work_waiting", "Recordings that wait for a decoder.")
        self._recordings = self._gauge("careca_store_recordings", "Recordings in the store.")
        self._store_size = self._gauge("careca_store_size_bytes", "Bytes in the store, decoded audio included.")
        self._store_max = self._gauge("careca_store_max_bytes", "Bytes that the store may hold.")
        self._store_free = self._gauge("careca_store_free_bytes", "Bytes that are free on the disk of the store.")
        self._confined = Gauge(
            "careca_decode_confined",
            "Whether that layer confines the processes that decode recordings.",
            ("layer",),
            registry=self.registry,
        )

    def watch_work(self, *, in_flight: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Takes where to ask for the work, whenever the metrics are read."""
        self._in_flight.set_function(in_flight)
        self._waiting.set_function(waiting)

    def watch_store(self, *, max_bytes: int, free: Callable[[], int]) -> None:
        """Takes the store's bound, and where to ask for the room on its disk whenever the metrics are read."""
        self._store_max.set(max_bytes)
        self._store_free.set_function(free)

    def set_sandbox_layers(self, layers: Collection[str]) -> None:
        """Takes which layers confine decoders."""
        for layer in LAYERS:
            self._confined.labels(layer).set(layer in layers)

    def store_used(self, usage: StoreUsage) -> None:
        """Takes what the store holds."""
        self._recordings.set(usage.recordings)
        self._store_size.set(usage.size_bytes)
