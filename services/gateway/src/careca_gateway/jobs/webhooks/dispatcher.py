"""Tells webhooks that their jobs have ended. ``docs/webhooks.md`` has the rules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from yarl import URL

from careca.errors import Overloaded, PreconditionFailed, Unavailable
from careca.settings import variable_name
from careca.telemetry.logs import get_logger
from careca_gateway.background import end, repeat
from careca_gateway.jobs.queue.notifications import Wakeup
from careca_gateway.jobs.queue.port import DueWebhook, JobQueue
from careca_gateway.jobs.webhooks.addresses import check_url
from careca_gateway.jobs.webhooks.delivery import Answer, Sender, delay_seconds

OUTCOMES = ("delivered", "failed", "given_up")
"""How an attempt may end. After ``failed`` comes another."""

AT_ONCE = 64
"""How many webhooks are in hand at once."""

AT_ONCE_PER_RECEIVER = 8
"""How many of one receiver's are told at once: one that is slow leaves room for the others."""

TURN_SECONDS = 1.0
"""How long a webhook waits for its receiver to be done with others. A receiver that takes longer is slow."""

LOOK_SECONDS = 1.0
"""How often the queue is asked for webhooks to tell."""

LEASE_MARGIN_SECONDS = 5.0
"""How much longer than an attempt may take its webhook is ours; ``TURN_SECONDS`` of it may go by waiting."""

_PAUSE_SECONDS = 0.5
_TURNED_OFF = (
    f"webhooks are off: {variable_name('webhook_secret_file')} has to name a file, readable for the gateway, "
    "with the secret to sign them with"
)

_log = get_logger(__name__)


class WebhookObserver(Protocol):
    """Told what happens to webhooks, for metrics."""

    def webhook_attempted(self, outcome: str, seconds: float) -> None:
        """An attempt ended: as one of ``OUTCOMES``."""


def read_secret(path: Path | None) -> bytes:
    """What webhooks are signed with, without white space around it; never empty.

    Raises ``PreconditionFailed`` (WEBHOOKS_OFF) where there is no such file or nothing in it.
    """
    try:
        secret = path.read_bytes().strip() if path else b""
    except OSError as error:
        raise PreconditionFailed(_TURNED_OFF, reason="WEBHOOKS_OFF", field="webhook_url") from error
    if not secret:
        raise PreconditionFailed(_TURNED_OFF, reason="WEBHOOKS_OFF", field="webhook_url")
    return secret


def check_webhook(url: str, *, secret_file: Path | None, allow_private: bool) -> None:
    """Says whether a job may be submitted with this webhook. Raises as ``read_secret`` and ``check_url`` do."""
    read_secret(secret_file)
    check_url(url, allow_private=allow_private)


class WebhookDispatcher:
    """One gateway's part in telling webhooks.

    Each is told at least once and, where a gateway is lost at the wrong moment, perhaps twice.

    Args:
        queue: knows whom to tell.
        sender: tells them; this one closes it.
        secret_file: has the secret; it is read anew all the time, so that it can change.
        timeout_seconds: how long an attempt may take.
        attempts: how many are made before a webhook is given up.
        observer: told what happens.
    """

    def __init__(
        self,
        queue: JobQueue,
        sender: Sender,
        *,
        secret_file: Path | None,
        timeout_seconds: float,
        attempts: int,
        observer: WebhookObserver,
    ) -> None:
        self._queue = queue
        self._sender = sender
        self._secret_file = secret_file
        self._lease_seconds = timeout_seconds + LEASE_MARGIN_SECONDS
        self._attempts = attempts
        self._observer = observer
        self._woken = Wakeup()
        self._off = False
        self._task: asyncio.Task[None] | None = None
        self._deliveries: set[asyncio.Task[None]] = set()
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """By receiver; there is one as long as something of that receiver is in hand."""
        self._slow: dict[str, float] = {}
        """Until when receivers are taken for slow, on the clock of ``time.monotonic``."""

    async def start(self) -> None:
        """Begins."""
        self._task = repeat("tell webhooks", self._tell_and_wait, retry_seconds=_PAUSE_SECONDS)

    def wake(self) -> None:
        """Looks for webhooks to tell right away."""
        self._woken.raise_()

    async def close(self) -> None:
        """Ends at once. Webhooks that are being told right now are told again by others, or later."""
        await end([self._task, *self._deliveries])
        await self._sender.close()

    async def _tell_and_wait(self) -> None:
        await self._tell_due()
        await self._woken.wait(LOOK_SECONDS)
        self._woken.lower()

    async def _tell_due(self) -> None:
        """Begins to tell as many as there is room for. Without a secret they wait."""
        room = AT_ONCE - len(self._deliveries)
        secret = self._secret()
        if not room or not secret:
            return
        due = await self._queue.due_webhooks(room, self._lease_seconds)
        for notice in due:
            self._begin(notice, secret)
        if len(due) == room:
            self.wake()

    def _secret(self) -> bytes:
        try:
            secret = read_secret(self._secret_file)
        except PreconditionFailed as error:
            if self._secret_file and not self._off:
                _log.warning("webhooks wait", reason=error.reason, error=error.message)
            self._off = True
            return b""
        self._off = False
        return secret

    def _begin(self, notice: DueWebhook, secret: bytes) -> None:
        origin = _origin(notice.webhook.url)
        turn = self._turns.setdefault(origin, asyncio.Semaphore(AT_ONCE_PER_RECEIVER))
        if turn.locked() and self._slow.get(origin, 0.0) > time.monotonic():
            return  # it is due again when its lease has run out, and does not hold others here until then
        task = asyncio.create_task(self._tell(notice, origin, turn, secret), name=f"webhook of job {notice.job.id}")
        self._deliveries.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._deliveries.discard(task)
        self.wake()

    async def _tell(self, notice: DueWebhook, origin: str, turn: asyncio.Semaphore, secret: bytes) -> None:
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await turn.acquire()
        except TimeoutError:
            self._found_slow(origin)
            return
        started = time.monotonic()
        try:
            answer = await self._sender.send(notice, secret)
            await self._conclude(notice, origin, answer, time.monotonic() - started)
        except Exception as error:  # noqa: BLE001 - a fault of ours: the webhook is due again when its lease is over
            _log.exception("fault while telling a webhook", job_id=notice.job.id, exc_info=error)
        finally:
            turn.release()

    def _found_slow(self, origin: str) -> None:
        now = time.monotonic()
        self._slow = {each: until for each, until in self._slow.items() if until > now}
        self._slow[origin] = now + self._lease_seconds

    async def _conclude(self, notice: DueWebhook, origin: str, answer: Answer, seconds: float) -> None:
        job, attempt = notice.job, notice.webhook.attempts + 1
        delay: float | None = None
        if not answer.error:
            outcome = "delivered"
            await _until_reached(lambda: self._queue.webhook_delivered(job))
        else:
            if not answer.final and attempt < self._attempts:
                delay = delay_seconds(attempt, answer.asked_seconds)
            outcome = "given_up" if delay is None else "failed"
            await _until_reached(lambda: self._queue.webhook_failed(job, answer.error, delay))
        self._observer.webhook_attempted(outcome, seconds)
        _log.info(
            "webhook attempt ended",
            outcome=outcome,
            attempt=attempt,
            job_id=job.id,
            request_id=job.request_id,
            receiver=origin,
            error=answer.error,
            again_in_seconds=delay and round(delay, 1),
            seconds=round(seconds, 3),
        )


async def _until_reached(tell: Callable[[], Awaitable[None]]) -> None:
    """Tells the queue, however long it cannot be reached."""
    while True:
        try:
            return await tell()
        except (Unavailable, Overloaded) as error:
            _log.warning("what became of a webhook cannot be told yet", reason=error.reason, error=error.message)
            await asyncio.sleep(_PAUSE_SECONDS)


def _origin(url: str) -> str:
    """Scheme, host and port: what may stand in logs. Paths and queries are often secrets."""
    try:
        return str(URL(url).origin())
    except ValueError:
        return "invalid"
