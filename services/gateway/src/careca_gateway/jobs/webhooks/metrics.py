"""What a gateway counts of webhooks."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

from careca.telemetry.metrics import SECONDS_BUCKETS
from careca_gateway.jobs.webhooks.dispatcher import OUTCOMES


class WebhookMetrics:
    """Attempts to tell webhooks in the registry of the gateway's metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Histogram(
            "careca_webhook_attempt_seconds",
            "Seconds that attempts to tell webhooks took, by how they ended.",
            ("outcome",),
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        for outcome in OUTCOMES:
            self._attempts.labels(outcome)

    def webhook_attempted(self, outcome: str, seconds: float) -> None:
        """Counts an attempt; ``outcome`` is one of ``OUTCOMES``."""
        self._attempts.labels(outcome).observe(seconds)
