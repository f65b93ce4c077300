"""The metrics of jobs and webhooks. The queue is shared: every gateway reports the same values for it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from careca.telemetry.metrics import SECONDS_BUCKETS
from careca.types import JobPriority, JobState
from careca_gateway.jobs.queue.port import QueueStats

ATTEMPT_OUTCOMES = ("succeeded", "partial", "failed", "refused", "cancelled", "handed_back", "lost")
"""How an attempt at a job may end. Refused means that the request was invalid, for example not a recording."""

WEBHOOK_OUTCOMES = ("delivered", "failed", "given_up")
"""How an attempt to call a webhook may end. After ``failed`` there is another attempt."""

RECOVERIES = ("waiting", "reclaimed")
"""How jobs are recovered: found waiting at the start, or reclaimed from a gateway that is gone."""

_STOP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class JobMetrics:
    """Metrics in the registry of the gateway's metrics."""

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
            "Seconds from learning that a running job was cancelled to the end of its work.",
            buckets=_STOP_BUCKETS,
            registry=registry,
        )
        self._jobs = Gauge("careca_jobs", "Jobs by state, of all gateways.", ("state",), registry=registry)
        self._waiting = Gauge(
            "careca_jobs_waiting", "Waiting jobs by priority, of all gateways.", ("priority",), registry=registry
        )
        self._oldest = Gauge(
            "careca_jobs_oldest_waiting_seconds", "Age of the job that has waited longest.", registry=registry
        )
        self._available = Gauge(
            "careca_jobs_available", "Whether the Redis of the jobs answers this gateway.", registry=registry
        )
        self._pending_webhooks = Gauge(
            "careca_webhooks_pending", "Webhooks that are still to be called.", registry=registry
        )
        self._without_job = Counter(
            "careca_calls_without_job",
            "Calls that run without a job, because no job could be submitted.",
            registry=registry,
        )
        self._in_flight = Gauge("careca_jobs_in_flight", "Jobs that are running in this gateway.", registry=registry)
        self._webhook_attempts = Histogram(
            "careca_webhook_attempt_seconds",
            "Seconds that attempts to call webhooks took, by how they ended.",
            ("outcome",),
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        for outcome in ATTEMPT_OUTCOMES:
            self._attempts.labels(outcome)
        for reason in RECOVERIES:
            self._recovered.labels(reason)
        for outcome in WEBHOOK_OUTCOMES:
            self._webhook_attempts.labels(outcome)
        self.queue_measured(QueueStats())

    def watch_work(self, in_flight: Callable[[], int]) -> None:
        """Sets the function that gives the number of running jobs, called whenever the metrics are read."""
        self._in_flight.set_function(in_flight)

    def job_attempted(self, outcome: str, seconds: float) -> None:
        """Counts an attempt that ended. ``outcome`` is one of ``ATTEMPT_OUTCOMES``."""
        self._attempts.labels(outcome).observe(seconds)

    def job_recovered(self, reason: str, count: int) -> None:
        """Counts jobs that were recovered. ``reason`` is one of ``RECOVERIES``."""
        self._recovered.labels(reason).inc(count)

    def job_stopped(self, seconds: float) -> None:
        """Counts the end of the work on a cancelled job."""
        self._stopped.observe(seconds)

    def call_without_job(self) -> None:
        """Counts a call that runs without a job."""
        self._without_job.inc()

    def webhook_attempted(self, outcome: str, seconds: float) -> None:
        """Counts an attempt to deliver a webhook. ``outcome`` is one of ``WEBHOOK_OUTCOMES``."""
        self._webhook_attempts.labels(outcome).observe(seconds)

    def queue_measured(self, stats: QueueStats) -> None:
        """Sets the state of the queue, which is available."""
        self._available.set(1)
        for state in JobState:
            self._jobs.labels(state).set(stats.by_state.get(state, 0))
        for priority in JobPriority:
            self._waiting.labels(priority).set(stats.waiting.get(priority, 0))
        self._oldest.set(stats.oldest_waiting_seconds)
        self._pending_webhooks.set(stats.pending_webhooks)

    def queue_unavailable(self) -> None:
        """Records that the queue does not answer. Its last state stays."""
        self._available.set(0)
