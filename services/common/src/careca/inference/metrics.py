"""The metrics of a model service."""

from __future__ import annotations

from typing import Any

from careca.cache.port import CacheObserver, CacheOutcome, Removal
from careca.inference.scheduler import Step
from careca.inference.shared_engine import SharedEngine
from careca.inference.worker import Worker
from careca.telemetry.metrics import Metrics
from careca.types import SchedulingClass, Stage

_ITEM_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)


class ModelServiceMetrics(Metrics, CacheObserver):
    """Adds the metrics of the cache, the work and the model to those of every service."""

    def __init__(self, stage: Stage, engine: SharedEngine[Any, Any], worker: Worker) -> None:
        super().__init__((stage,), engine)
        self._cache_requests = self._counter("careca_cache_requests", "Lookups and bypasses of the cache.", ("result",))
        self._cache_evictions = self._counter("careca_cache_evictions", "Entries removed from the cache.", ("reason",))
        self._cache_entries = self._gauge("careca_cache_entries", "Entries in the cache, for all replicas together.")
        self._cache_size = self._gauge("careca_cache_size_bytes", "Compressed bytes in the cache, for all replicas.")
        self._cache_max_entries = self._gauge(
            "careca_cache_max_entries", "Most entries that the cache may hold; 0 without a cache."
        )
        self._cache_available = self._gauge("careca_cache_available", "Whether the cache's store answers.")
        self._cache_saved = self._counter(
            "careca_cache_saved_seconds", "Compute time in seconds that cached results saved."
        )
        self._out_of_memory = self._counter("careca_out_of_memory", "Tasks that ran out of the device's memory.")
        self._gauge("careca_work_in_flight", "Tasks that compute.").set_function(lambda: worker.in_flight)
        self._gauge("careca_work_waiting", "Admitted tasks that do not compute yet.").set_function(
            lambda: worker.waiting
        )
        self._gauge("careca_live_windows", "Windows of live audio in hand.").set_function(lambda: worker.windows)
        self._gauge("careca_model_loaded", "Whether the models are in memory.").set_function(lambda: engine.loaded)
        self._step_seconds = self._histogram(
            "careca_scheduler_step_seconds",
            "Seconds of each batch, by the class of the task chosen.",
            ("class",),
        )
        self._shared_steps = self._counter(
            "careca_scheduler_shared_steps",
            "Batches with items of several tasks, by the class of the task chosen.",
            ("class",),
        )
        self._batch_items = self._histogram(
            "careca_scheduler_batch_items",
            "Items in a batch: clips, windows or pieces of audio.",
            buckets=_ITEM_BUCKETS,
        )
        self._waited = self._histogram(
            "careca_scheduler_wait_seconds",
            "Seconds of successful tasks in which the model worked for other tasks.",
            ("class",),
        )
        for each in SchedulingClass:
            self._step_seconds.labels(each.label)
            self._shared_steps.labels(each.label)
            self._waited.labels(each.label)
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
        """Sets the size of the cache."""
        self._cache_entries.set(entries)
        self._cache_size.set(size_bytes)

    def cache_available(self, available: bool) -> None:
        """Sets whether the cache's store answers."""
        self._cache_available.set(available)

    def cache_limited(self, max_entries: int) -> None:
        """Sets how many entries the cache may hold; 0 means that there is no cache."""
        self._cache_max_entries.set(max_entries)

    def cache_saved(self, seconds: float) -> None:
        """Counts the time of a computation that a cached result replaced."""
        self._cache_saved.inc(seconds)

    def out_of_memory(self) -> None:
        """Counts a task that ran out of the device's memory."""
        self._out_of_memory.inc()

    def count_step(self, step: Step) -> None:
        """Counts one batch."""
        self._step_seconds.labels(step.scheduling_class.label).observe(step.seconds)
        self._shared_steps.labels(step.scheduling_class.label).inc(step.requests > 1)
        self._batch_items.observe(step.items)

    def observe_wait(self, scheduling_class: SchedulingClass, seconds: float) -> None:
        """Counts the time in which the model worked for others than a task that succeeded."""
        self._waited.labels(scheduling_class.label).observe(seconds)
