"""Prometheus metrics: base units, counters end in ``_total``, label values are known beforehand and start at zero.

A registry of its own is passed around with ``Metrics``; nothing here is global.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from careca.cache.port import CacheObserver, CacheOutcome, Removal
from careca.resources.memory import CleanupLevel, MemoryKind, MemoryObserver, measure
from careca.resources.memory_limit import memory_limit
from careca.types import GpuMemory, MemoryRelease, MemoryUsage, Stage

if TYPE_CHECKING:
    from careca.auth.tls import PemFiles
    from careca.inference.engine import Engine
    from careca.inference.worker import Worker

SECONDS_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0),
)
"""Upper bounds for durations: from an answer out of a cache to a day-long recording on a slow machine."""


class Metrics(MemoryObserver):
    """What every service counts.

    Args:
        stages: the stages that the service runs or has run for it.
        engine: whose GPU memory is exported; ``None`` exports none.
    """

    def __init__(self, stages: Sequence[Stage] = (), engine: Engine | None = None) -> None:
        self.registry = CollectorRegistry()
        self._rpc_seconds = Histogram(
            "careca_rpc_seconds",
            "Seconds that calls took, by method and status code.",
            ("method", "code"),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._stage_seconds = Histogram(
            "careca_stage_seconds",
            "Seconds that successful stages took, waiting included, by whether the result was cached.",
            ("stage", "cached"),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._audio_seconds = Counter(
            "careca_audio_seconds", "Seconds of audio that stages worked on.", ("stage",), registry=self.registry
        )
        self._memory_released = Counter(
            "careca_memory_released_bytes",
            "Bytes of memory that cleanups gave back.",
            ("kind", "level"),
            registry=self.registry,
        )
        self._memory_cleaned = Gauge(
            "careca_cleanup_memory_bytes",
            "Memory that was held before and after the last cleanup of each level.",
            ("kind", "level", "moment"),
            registry=self.registry,
        )
        self._certificates = Gauge(
            "careca_tls_certificate_expiry_timestamp_seconds",
            "When a certificate that is in use ends, in Unix time.",
            ("file",),
            registry=self.registry,
        )
        for stage in stages:
            self._audio_seconds.labels(stage)
            for cached in ("false", "true"):
                self._stage_seconds.labels(stage, cached)
        for kind in ("ram", "gpu"):
            for level in ("task", "release"):
                self._memory_released.labels(kind, level)
        ProcessCollector(registry=self.registry)
        self.registry.register(MemoryCollector(engine))

    def expect_rpcs(self, methods: Iterable[str]) -> None:
        """Starts the metrics of ``methods``, such as /careca.v1.GatewayService/Transcribe, at zero."""
        for method in methods:
            self._rpc_seconds.labels(method, "OK")

    def observe_rpc(self, method: str, code: str, seconds: float) -> None:
        """Counts a call that has ended. ``method`` must be one that the server has."""
        self._rpc_seconds.labels(method, code).observe(seconds)

    def watch_certificate(self, of: str, files: PemFiles) -> None:
        """Exports when the certificate of ``files`` ends. ``of`` says what it is for."""
        self._certificates.labels(of).set_function(lambda: files.expiry_unix)

    def observe_stage(self, stage: Stage, seconds: float, *, cached: bool) -> None:
        """Counts a stage that succeeded."""
        self._stage_seconds.labels(stage, "true" if cached else "false").observe(seconds)

    def count_audio(self, stage: Stage, seconds: float) -> None:
        """Counts audio that a stage worked on, whether or not it succeeded."""
        self._audio_seconds.labels(stage).inc(seconds)

    def memory_released(self, kind: MemoryKind, level: CleanupLevel, size_bytes: int) -> None:
        """Counts bytes given back."""
        self._memory_released.labels(kind, level).inc(size_bytes)

    def memory_cleaned(self, level: CleanupLevel, release: MemoryRelease) -> None:
        """Takes what was held before and after a cleanup; there is nothing to see before the first of a level."""
        for moment, usage in (("before", release.before), ("after", release.after)):
            self._memory_cleaned.labels("ram", level, moment).set(usage.rss_bytes)
            self._memory_cleaned.labels("gpu", level, moment).set(usage.gpu_reserved_bytes)


class ModelServiceMetrics(Metrics, CacheObserver):
    """What a model service counts beside that: its cache, its work and its model."""

    def __init__(self, stage: Stage, engine: Engine, worker: Worker) -> None:
        super().__init__((stage,), engine)
        self._cache_requests = Counter(
            "careca_cache_requests", "Lookups and bypasses of the cache.", ("result",), registry=self.registry
        )
        self._cache_evictions = Counter(
            "careca_cache_evictions", "Entries removed from the cache.", ("reason",), registry=self.registry
        )
        self._cache_entries = self._gauge("careca_cache_entries", "Entries in the cache, of all replicas together.")
        self._cache_size = self._gauge("careca_cache_size_bytes", "Compressed bytes in the cache, of all replicas.")
        self._cache_max_entries = self._gauge(
            "careca_cache_max_entries", "Most entries that the cache may hold; 0 where there is no cache."
        )
        self._cache_available = self._gauge("careca_cache_available", "Whether the cache's store answers.")
        self._cache_saved = Counter(
            "careca_cache_saved_seconds",
            "Seconds that computing results took, of those that were answered again without computing them.",
            registry=self.registry,
        )
        self._out_of_memory = Counter(
            "careca_out_of_memory", "Tasks that were too much for the device's memory.", registry=self.registry
        )
        self._gauge("careca_work_in_flight", "Tasks that compute.").set_function(lambda: worker.in_flight)
        self._gauge("careca_work_waiting", "Tasks admitted that do not compute yet.").set_function(
            lambda: worker.waiting
        )
        self._gauge("careca_model_loaded", "Whether the models are in memory.").set_function(lambda: engine.loaded)
        for outcome in CacheOutcome:
            self._cache_requests.labels(outcome)
        for reason in Removal:
            self._cache_evictions.labels(reason)

    def cache_requested(self, outcome: CacheOutcome) -> None:
        """Counts one request to the cache."""
        self._cache_requests.labels(outcome).inc()

    def cache_removed(self, reason: Removal, entries: int) -> None:
        """Counts entries removed."""
        self._cache_evictions.labels(reason).inc(entries)

    def cache_sized(self, entries: int, size_bytes: int) -> None:
        """Takes the size of the cache."""
        self._cache_entries.set(entries)
        self._cache_size.set(size_bytes)

    def cache_available(self, available: bool) -> None:
        """Takes whether the cache's store answers."""
        self._cache_available.set(available)

    def cache_limited(self, max_entries: int) -> None:
        """Takes how many entries the cache may hold, 0 where there is no cache."""
        self._cache_max_entries.set(max_entries)

    def cache_saved(self, seconds: float) -> None:
        """Counts the time of a computation that was not done again."""
        self._cache_saved.inc(seconds)

    def out_of_memory(self) -> None:
        """Counts a task that was too much for the device's memory."""
        self._out_of_memory.inc()

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, registry=self.registry)


class MemoryCollector(Collector):
    """What the process holds, measured when it is scraped."""

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The names alone, so that registering measures nothing."""
        return self._families(MemoryUsage(0, 0), GpuMemory())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The values now."""
        return self._families(measure(), self._engine.gpu_memory() if self._engine else GpuMemory())

    def _families(self, usage: MemoryUsage, gpu: GpuMemory) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("careca_memory_rss_bytes", "Resident set size.", usage.rss_bytes)
        yield GaugeMetricFamily("careca_memory_uss_bytes", "Unique set size.", usage.uss_bytes)
        yield GaugeMetricFamily(
            "careca_memory_limit_bytes", "Memory that the container, or else the machine, has.", memory_limit()
        )
        if self._engine is not None:
            for what, documentation, value in (
                ("allocated", "GPU memory that live data of the process uses.", gpu.allocated_bytes),
                ("reserved", "GPU memory that the process holds.", gpu.reserved_bytes),
                ("used", "Memory that is held of the GPU, by whatever process.", gpu.used_bytes),
                ("total", "Memory that the GPU has; 0 without one or before its use.", gpu.total_bytes),
            ):
                yield GaugeMetricFamily(f"careca_gpu_memory_{what}_bytes", documentation, value)


class MetricsEndpoint:
    """Serves a registry over HTTP from a thread of its own until it is closed."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        """Starts to serve; port 0 takes any free one. Raises ``OSError`` where the port cannot be had."""
        self._server, self._thread = start_http_server(port, addr=host, registry=registry)

    @property
    def port(self) -> int:
        """The port that is served."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stops serving and gives the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> MetricsEndpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
