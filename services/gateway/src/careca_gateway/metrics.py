"""The gateway's own metrics, in addition to those of every service."""

from __future__ import annotations

from collections.abc import Callable, Collection

from careca.telemetry.metrics import Metrics
from careca.types import Stage
from careca_gateway.decoding.sandbox import LAYERS
from careca_gateway.storage.store import StoreUsage


class GatewayMetrics(Metrics):
    """Metrics of requests, of recordings that wait for a decoder, of the store and of the decoders' sandbox."""

    def __init__(self) -> None:
        super().__init__((Stage.DECODE, Stage.MERGE))
        self._in_flight = self._gauge("careca_work_in_flight", "Requests that are running.")
        self._waiting = self._gauge("careca_work_waiting", "Recordings that wait for a decoder.")
        self._recordings = self._gauge("careca_store_recordings", "Recordings in the store.")
        self._store_size = self._gauge("careca_store_size_bytes", "Bytes in the store, including decoded audio.")
        self._store_max = self._gauge("careca_store_max_bytes", "Bytes that the store may hold.")
        self._store_free = self._gauge("careca_store_free_bytes", "Bytes that are free on the disk of the store.")
        self._sandbox = self._gauge(
            "careca_decode_confined", "Whether this layer of the decoders' sandbox is active.", ("layer",)
        )

    def watch_work(self, *, in_flight: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Sets the functions that give the numbers of requests, called whenever the metrics are read."""
        self._in_flight.set_function(in_flight)
        self._waiting.set_function(waiting)

    def watch_store(self, *, max_bytes: int, free: Callable[[], int]) -> None:
        """Sets the store's limit, and the function that gives the free bytes on its disk."""
        self._store_max.set(max_bytes)
        self._store_free.set_function(free)

    def set_sandbox_layers(self, layers: Collection[str]) -> None:
        """Sets which layers of the sandbox are active for decoders."""
        for layer in LAYERS:
            self._sandbox.labels(layer).set(layer in layers)

    def set_store_usage(self, usage: StoreUsage) -> None:
        """Sets what the store contains."""
        self._recordings.set(usage.recordings)
        self._store_size.set(usage.size_bytes)
