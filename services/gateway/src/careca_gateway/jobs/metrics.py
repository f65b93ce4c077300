"""What a gateway counts of jobs. The queue is shared: what is told of it is the same for every gateway."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from careca.telemetry.metrics import SECONDS_BUCKETS
from careca.types import JobPriority, JobState
from careca_gateway.jobs.queue.port import QueueStats

ATTEMPT_OUTCOMES = ("succeeded", "partial", "failed", "refused", "cancelled", "handed_back", "lost")
"""How an attempt at a job may end; refused where the submitter is to blame, who sent what is no recording."""

RECOVERIES = ("waiting", "reclaimed")
"""How jobs are found that somebody had left."""

_STOP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class JobMetrics:
    """Jobs in the registry of the gateway's metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Histogram(
            "careca_job_attempt_seconds",
            "Seconds that attempts at jobs took, by how they ended.",
            ("outcome",),
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._recovered = Counter(
            "careca_jobs_recovered",
            "Jobs found waiting when this gateway started, and jobs reclaimed from gateways that were gone.",
            ("reason",),
            registry=registry,
        )
        self._stopped = Histogram(
            "careca_job_cancel_seconds",
            "Seconds from hearing that a running job was cancelled to the end of its work.",
            buckets=_STOP_BUCKETS,
            registry=registry,
        )
        self._jobs = Gauge("careca_jobs", "Jobs by state, of all gateways.", ("state",), registry=registry)
        self._waiting = Gauge(
            "careca_jobs_waiting", "Jobs that wait, by priority, of all gateways.", ("priority",), registry=registry
        )
        self._oldest = Gauge(
            "careca_jobs_oldest_waiting_seconds", "Age of the job that has waited longest.", registry=registry
        )
        self._available = Gauge(
            "careca_jobs_available", "Whether the Redis of the jobs answers this gateway.", registry=registry
        )
        self._notices = Gauge("careca_webhooks_pending", "Webhooks that are still to be told.", registry=registry)
        self._without_job = Counter(
            "careca_calls_without_job", "Calls worked on without a job, as none could be made.", registry=registry
        )
        self._in_flight = Gauge("careca_jobs_in_flight", "Jobs that this gateway works on.", registry=registry)
        for outcome in ATTEMPT_OUTCOMES:
            self._attempts.labels(outcome)
        for reason in RECOVERIES:
            self._recovered.labels(reason)
        self.queue_measured(QueueStats())

    def watch_work(self, in_flight: Callable[[], int]) -> None:
        """Takes where to ask for the jobs in flight, whenever the metrics are read."""
        self._in_flight.set_function(in_flight)

    def job_attempted(self, outcome: str, seconds: float) -> None:
        """Counts an attempt that ended; ``outcome`` is one of ``ATTEMPT_OUTCOMES``."""
        self._attempts.labels(outcome).observe(seconds)

    def job_recovered(self, reason: str, count: int) -> None:
        """Counts jobs that somebody had left; ``reason`` is one of ``RECOVERIES``."""
        self._recovered.labels(reason).inc(count)

    def job_stopped(self, seconds: float) -> None:
        """Counts the end of a cancelled job's work."""
        self._stopped.observe(seconds)

    def call_without_job(self) -> None:
        """Counts a call that could not become a job."""
        self._without_job.inc()

    def queue_measured(self, stats: QueueStats) -> None:
        """Takes the state of the queue, which answers."""
        self._available.set(1)
        for state in JobState:
            self._jobs.labels(state).set(stats.by_state.get(state, 0))
        for priority in JobPriority:
            self._waiting.labels(priority).set(stats.waiting.get(priority, 0))
        self._oldest.set(stats.oldest_waiting_seconds)
        self._notices.set(stats.pending_webhooks)

    def queue_away(self) -> None:
        """Takes that the queue does not answer; what was told of it last stays."""
        self._available.set(0)
