"""Prometheus metrics of every service: base units, and label values that are known in advance and start at zero.

Each ``Metrics`` has a registry of its own; nothing here is global.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from careca.errors import cannot_listen
from careca.resources.memory import CleanupLevel, ModelMemory, measure_memory
from careca.resources.memory_limit import memory_limit
from careca.types import GpuMemory, MemoryRelease, MemoryUsage, Stage

SECONDS_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0),
)
"""Upper bounds for durations, from a cached result to a very long recording on a slow machine."""


class Metrics:
    """The metrics of every service.

    Args:
        stages: the stages that the service runs itself or in a child process.
        model: exports the GPU memory of this model; ``None`` exports no GPU memory.
    """

    def __init__(self, stages: Sequence[Stage] = (), model: ModelMemory | None = None) -> None:
        self.registry = CollectorRegistry()
        self._rpc_seconds = self._histogram(
            "careca_rpc_seconds", "Seconds that calls took, by method and status code.", ("method", "code")
        )
        self._stage_seconds = self._histogram(
            "careca_stage_seconds",
            "Seconds that successful stages took, including waiting, by whether the result was cached.",
            ("stage", "cached"),
        )
        self._audio_seconds = self._counter(
            "careca_audio_seconds", "Seconds of audio that stages processed.", ("stage",)
        )
        self._memory_released = self._counter(
            "careca_memory_released_bytes", "Bytes of memory that cleanups released.", ("kind", "level")
        )
        self._memory_cleaned = self._gauge(
            "careca_cleanup_memory_bytes",
            "Memory before and after the last cleanup of each level.",
            ("kind", "level", "moment"),
        )
        self._certificates = self._gauge(
            "careca_tls_certificate_expiry_timestamp_seconds",
            "When a certificate in use expires, in Unix time.",
            ("file",),
        )
        for stage in stages:
            self._audio_seconds.labels(stage)
            for cached in ("false", "true"):
                self._stage_seconds.labels(stage, cached)
        for kind in ("ram", "gpu"):
            for level in ("task", "release"):
                self._memory_released.labels(kind, level)
        ProcessCollector(registry=self.registry)
        self.registry.register(MemoryCollector(model))

    def expect_rpcs(self, methods: Iterable[str]) -> None:
        """Starts the counts of ``methods``, such as /careca.v1.GatewayService/Transcribe, at zero."""
        for method in methods:
            self._rpc_seconds.labels(method, "OK")

    def observe_rpc(self, method: str, code: str, seconds: float) -> None:
        """Counts a call that has ended. ``method`` must be a method of the server, so that labels stay bounded."""
        self._rpc_seconds.labels(method, code).observe(seconds)

    def watch_certificate(self, name: str, expiry_unix: Callable[[], float]) -> None:
        """Exports when a certificate expires. ``expiry_unix`` is called at each scrape."""
        self._certificates.labels(name).set_function(expiry_unix)

    def observe_stage(self, stage: Stage, seconds: float, *, cached: bool) -> None:
        """Counts a stage that succeeded."""
        self._stage_seconds.labels(stage, "true" if cached else "false").observe(seconds)

    def count_audio(self, stage: Stage, seconds: float) -> None:
        """Counts audio that a stage processed, even if the stage failed."""
        self._audio_seconds.labels(stage).inc(seconds)

    def memory_cleaned(self, level: CleanupLevel, release: MemoryRelease) -> None:
        """Counts the bytes that a cleanup released, and sets the memory before and after it."""
        for kind, before, after in (
            ("ram", release.before.rss_bytes, release.after.rss_bytes),
            ("gpu", release.before.gpu_reserved_bytes, release.after.gpu_reserved_bytes),
        ):
            self._memory_released.labels(kind, level).inc(max(0, before - after))
            self._memory_cleaned.labels(kind, level, "before").set(before)
            self._memory_cleaned.labels(kind, level, "after").set(after)

    def _counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, documentation, labels, registry=self.registry)

    def _histogram(
        self, name: str, documentation: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = SECONDS_BUCKETS
    ) -> Histogram:
        return Histogram(name, documentation, labels, buckets=buckets, registry=self.registry)


class MemoryCollector(Collector):
    """The memory of this process, measured at each scrape."""

    def __init__(self, model: ModelMemory | None = None) -> None:
        self._model = model

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The names of the metrics, without measuring."""
        return self._families(MemoryUsage(0, 0), GpuMemory())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The current values."""
        return self._families(measure_memory(), self._model.gpu_memory() if self._model else GpuMemory())

    def _families(self, usage: MemoryUsage, gpu: GpuMemory) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("careca_memory_rss_bytes", "Resident set size.", usage.rss_bytes)
        yield GaugeMetricFamily("careca_memory_uss_bytes", "Unique set size.", usage.uss_bytes)
        yield GaugeMetricFamily(
            "careca_memory_limit_bytes", "Memory limit of the container, or else memory of the machine.", memory_limit()
        )
        if self._model is not None:
            for what, documentation, value in (
                ("allocated", "GPU memory that live data of the process uses.", gpu.allocated_bytes),
                ("reserved", "GPU memory that the process holds.", gpu.reserved_bytes),
                ("used", "GPU memory in use by all processes.", gpu.used_bytes),
                ("total", "Total GPU memory; 0 without a GPU and before its first use.", gpu.total_bytes),
            ):
                yield GaugeMetricFamily(f"careca_gpu_memory_{what}_bytes", documentation, value)


class MetricsEndpoint:
    """Serves a registry over HTTP, from a thread of its own, until it is closed."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        """Starts serving; port 0 takes any free port. Raises ``PreconditionFailed`` if the port is not available."""
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise cannot_listen(f"{host}:{port}", "CARECA_METRICS_PORT") from error

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stops serving and frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
