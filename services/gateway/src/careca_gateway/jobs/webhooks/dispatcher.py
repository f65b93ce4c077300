"""Calls the webhooks of jobs that have ended. See ``docs/webhooks.md``."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from weakref import WeakValueDictionary

from yarl import URL

from careca.cancellation import cancel_and_wait
from careca.errors import PreconditionFailed
from careca.settings import variable_name
from careca.telemetry.logs import get_logger
from careca_gateway.background import repeat, retry_until_reachable
from careca_gateway.jobs.metrics import JobMetrics
from careca_gateway.jobs.queue.notifications import Wakeup
from careca_gateway.jobs.queue.port import DueWebhook, JobQueue
from careca_gateway.jobs.webhooks.addresses import check_url
from careca_gateway.jobs.webhooks.delivery import DeliveryResult, WebhookSender, delay_seconds

MAX_DELIVERIES = 64
"""How many webhooks are delivered at the same time."""

MAX_DELIVERIES_PER_RECEIVER = 8
"""How many webhooks of one receiver are delivered at the same time, so that a slow receiver does not block others."""

SLOT_SECONDS = 1.0
"""How long a webhook waits for a free slot of its receiver. After that, the receiver counts as slow."""

POLL_SECONDS = 1.0
"""How often the queue is asked for due webhooks."""

LEASE_MARGIN_SECONDS = 5.0
"""How much longer the lease of a webhook is than the timeout of an attempt. It includes ``SLOT_SECONDS``."""

_DISABLED = (
    f"webhooks are off: {variable_name('webhook_secret_file')} has to name a file, readable for the gateway, "
    "with the secret to sign them with"
)

_log = get_logger(__name__)


def read_secret(path: Path | None) -> bytes:
    """Returns the secret for signatures, without white space around it. It is never empty.

    Raises ``PreconditionFailed`` (WEBHOOKS_OFF) if there is no such file or it is empty.
    """
    try:
        secret = path.read_bytes().strip() if path else b""
    except OSError as error:
        raise PreconditionFailed(_DISABLED, reason="WEBHOOKS_OFF", field="webhook_url") from error
    if not secret:
        raise PreconditionFailed(_DISABLED, reason="WEBHOOKS_OFF", field="webhook_url")
    return secret


def check_webhook(url: str, *, secret_file: Path | None, allow_private: bool) -> None:
    """Checks whether a job may have this webhook. Raises as ``read_secret`` and ``check_url`` do."""
    read_secret(secret_file)
    check_url(url, allow_private=allow_private)


class WebhookDispatcher:
    """Delivers webhooks from this gateway.

    Each webhook is delivered at least once, and perhaps twice if a gateway fails at the wrong moment.

    Args:
        queue: has the due webhooks.
        sender: sends them. The dispatcher closes it.
        secret_file: contains the secret. It is read for each delivery, so that it can be changed.
        timeout_seconds: the timeout of an attempt.
        attempts: the number of attempts before a webhook is given up.
        metrics: counts attempts.
    """

    def __init__(
        self,
        queue: JobQueue,
        sender: WebhookSender,
        *,
        secret_file: Path | None,
        timeout_seconds: float,
        attempts: int,
        metrics: JobMetrics,
    ) -> None:
        self._queue = queue
        self._sender = sender
        self._secret_file = secret_file
        self._lease_seconds = timeout_seconds + LEASE_MARGIN_SECONDS
        self._attempts = attempts
        self._metrics = metrics
        self._wakeup = Wakeup()
        self._disabled = False
        self._task: asyncio.Task[None] | None = None
        self._deliveries: set[asyncio.Task[None]] = set()
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """By receiver, while it has deliveries."""
        self._slow: dict[str, float] = {}
        """Until when a receiver counts as slow, on the clock of ``time.monotonic``."""

    async def start(self) -> None:
        """Starts."""
        self._task = repeat("deliver webhooks", self._deliver_and_wait)

    def wake(self) -> None:
        """Looks for due webhooks now."""
        self._wakeup.set()

    async def close(self) -> None:
        """Stops at once. Deliveries that are in progress are repeated later, by this gateway or another one."""
        await cancel_and_wait([self._task, *self._deliveries])
        await self._sender.close()

    async def _deliver_and_wait(self) -> None:
        await self._deliver_due()
        await self._wakeup.wait_for(POLL_SECONDS)
        self._wakeup.clear()

    async def _deliver_due(self) -> None:
        """Starts as many deliveries as there is room for. Without a secret, the webhooks wait."""
        room = MAX_DELIVERIES - len(self._deliveries)
        secret = self._secret()
        if not room or not secret:
            return
        due = await self._queue.due_webhooks(room, self._lease_seconds)
        for webhook in due:
            self._start_delivery(webhook, secret)
        if len(due) == room:
            self.wake()

    def _secret(self) -> bytes:
        try:
            secret = read_secret(self._secret_file)
        except PreconditionFailed as error:
            if self._secret_file and not self._disabled:
                _log.warning("webhooks wait", reason=error.reason, error=error.message)
            self._disabled = True
            return b""
        self._disabled = False
        return secret

    def _start_delivery(self, due: DueWebhook, secret: bytes) -> None:
        origin = _origin(due.webhook.url)
        slots = self._slots.setdefault(origin, asyncio.Semaphore(MAX_DELIVERIES_PER_RECEIVER))
        if slots.locked() and self._slow.get(origin, 0.0) > time.monotonic():
            return  # it is due again after its lease, and takes no room from other receivers until then
        task = asyncio.create_task(self._deliver(due, origin, slots, secret), name=f"webhook of job {due.job.id}")
        self._deliveries.add(task)
        task.add_done_callback(self._delivery_ended)

    def _delivery_ended(self, task: asyncio.Task[None]) -> None:
        self._deliveries.discard(task)
        self.wake()

    async def _deliver(self, due: DueWebhook, origin: str, slots: asyncio.Semaphore, secret: bytes) -> None:
        try:
            async with asyncio.timeout(SLOT_SECONDS):
                await slots.acquire()
        except TimeoutError:
            self._set_slow(origin)
            return
        started = time.monotonic()
        try:
            result = await self._sender.send(due, secret)
            await self._record(due, origin, result, time.monotonic() - started)
        except Exception as error:  # noqa: BLE001 - the webhook is due again after its lease
            _log.exception("unexpected error while calling a webhook", job_id=due.job.id, exc_info=error)
        finally:
            slots.release()

    def _set_slow(self, origin: str) -> None:
        now = time.monotonic()
        self._slow = {each: until for each, until in self._slow.items() if until > now}
        self._slow[origin] = now + self._lease_seconds

    async def _record(self, due: DueWebhook, origin: str, result: DeliveryResult, seconds: float) -> None:
        """Records the attempt in the queue, in the metrics and in the log."""
        job, attempt = due.job, due.webhook.attempts + 1
        delay: float | None = None
        warning = "an attempt to call a webhook cannot be recorded yet"
        if not result.error:
            outcome = "delivered"
            await retry_until_reachable(lambda: self._queue.webhook_delivered(job), warning)
        else:
            if not result.final and attempt < self._attempts:
                delay = delay_seconds(attempt, result.retry_after_seconds)
            outcome = "given_up" if delay is None else "failed"
            await retry_until_reachable(lambda: self._queue.webhook_failed(job, result.error, delay), warning)
        self._metrics.webhook_attempted(outcome, seconds)
        _log.info(
            "webhook attempt ended",
            outcome=outcome,
            attempt=attempt,
            job_id=job.id,
            request_id=job.request_id,
            receiver=origin,
            error=result.error,
            again_in_seconds=delay and round(delay, 1),
            seconds=round(seconds, 3),
        )


def _origin(url: str) -> str:
    """Returns scheme, host and port, which may appear in logs. Paths and queries often contain secrets."""
    try:
        return str(URL(url).origin())
    except ValueError:
        return "invalid"
