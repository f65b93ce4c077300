"""Webhooks delivered to real servers on this machine.

The queue here is a small one in memory with the three methods that matter. The tests of the real queue prove that it
behaves in the same way.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import structlog.testing
import trustme
from aiohttp import web

from careca.errors import Unavailable
from careca.types import Digest, Job, JobPriority, JobState, JobWebhook
from careca_gateway import background
from careca_gateway.jobs.metrics import WEBHOOK_OUTCOMES
from careca_gateway.jobs.queue.port import DueWebhook
from careca_gateway.jobs.webhooks import delivery, dispatcher
from careca_gateway.jobs.webhooks.addresses import CheckedResolver, Lookup
from careca_gateway.jobs.webhooks.delivery import WebhookSender
from careca_gateway.jobs.webhooks.dispatcher import WebhookDispatcher
from support.waiting import HANG_SECONDS, until

PAGE = (Path(__file__).parents[4] / "docs" / "webhooks.md").read_text()
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Told:
    """One request as a receiver got it."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A server that records requests. The path defines the answers: ``/500,200`` is a failure, then a success."""

    url: str
    told: list[Told] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to let ``/slow`` answer."""
    sent_bytes: int = 0
    """How much of an endless answer was taken."""
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the endless answer ended."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.told.append(Told(request.path_qs, dict(request.headers), await request.read()))
        match request.path.strip("/").split("/"):
            case ["slow"]:
                await self.release.wait()
                return web.Response()
            case ["huge"]:
                return await self._endless(request)
            case ["redirect"]:
                return web.Response(status=307, headers={"Location": f"{self.url}/200"})
            case [statuses]:
                before = sum(each.path == request.path_qs for each in self.told) - 1
                listed = statuses.split(",")
                return web.Response(
                    status=int(listed[min(before, len(listed) - 1)]),
                    headers={"Retry-After": request.query.get("after", "")},
                )
            case _:
                raise AssertionError(request.path)

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while self.sent_bytes < 200_000_000:
                await response.write(b"x" * 65_536)
                self.sent_bytes += 65_536
        finally:
            self.cut.set()
        return response


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    app = web.Application()
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    made = Receiver("")
    app.router.add_route("*", "/{path:.*}", made.answer)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.url = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield made
    finally:
        made.release.set()
        await runner.cleanup()


@dataclass
class _Notice:
    job: Job
    due_at: float = 0.0
    attempts: int = 0


class Notices:
    """The part of the queue that the dispatcher uses, in memory."""

    def __init__(self) -> None:
        self.waiting: dict[str, _Notice] = {}
        self.told: list[str] = []
        self.failed: list[tuple[str, str, float | None]] = []
        self.away = 0
        """How many calls are not answered."""

    def add(self, job_id: str, url: str) -> Job:
        job = Job(
            id=job_id,
            state=JobState.SUCCEEDED,
            recording=Digest("a" * 64, 1),
            display_name="a.wav",
            submitter="somebody",
            priority=JobPriority.BATCH,
            request_id=f"request-{job_id}",
            create_unix=1.0,
            start_unix=2.0,
            end_unix=3.0,
            webhook=JobWebhook(url),
        )
        self.waiting[job_id] = _Notice(job)
        return job

    async def due_webhooks(self, limit: int, lease_seconds: float) -> list[DueWebhook]:
        self._reach()
        now = time.monotonic()
        due = [each for each in self.waiting.values() if each.due_at <= now][:limit]
        for each in due:
            each.due_at = now + lease_seconds
        return [
            DueWebhook(each.job, replace(each.job.webhook or JobWebhook(""), attempts=each.attempts)) for each in due
        ]

    async def webhook_delivered(self, job: Job) -> None:
        self._reach()
        del self.waiting[job.id]
        self.told.append(job.id)

    async def webhook_failed(self, job: Job, error_message: str, retry_after_seconds: float | None) -> None:
        self._reach()
        self.failed.append((job.id, error_message, retry_after_seconds))
        if retry_after_seconds is None:
            del self.waiting[job.id]
        else:
            self.waiting[job.id].attempts += 1
            self.waiting[job.id].due_at = time.monotonic() + retry_after_seconds

    def _reach(self) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("the queue is away")


class Counts:
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def webhook_attempted(self, outcome: str, seconds: float) -> None:
        assert outcome in WEBHOOK_OUTCOMES
        assert seconds >= 0
        self.outcomes.append(outcome)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(dispatcher, "POLL_SECONDS", 0.02)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("the first secret\n")
    return path


@pytest.fixture
def notices() -> Notices:
    return Notices()


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def logged() -> Iterator[list[structlog.typing.EventDict]]:
    with structlog.testing.capture_logs() as events:
        yield events


def knows(*addresses: str, asked: list[str] | None = None) -> Lookup:
    """A name server that returns the same addresses for each name and records the questions."""

    def lookup(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if asked is not None:
            asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    return lookup


@asynccontextmanager
async def notifier(
    notices: Notices,
    counts: Counts,
    secret_file: Path | None,
    *,
    allow_private: bool = True,
    lookup: Lookup = socket.getaddrinfo,
    timeout_seconds: float = HANG_SECONDS,
    attempts: int = 5,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[WebhookDispatcher]:
    resolver = CheckedResolver(allow_private=allow_private, lookup=lookup)
    sender = WebhookSender(resolver, allow_private=allow_private, timeout_seconds=timeout_seconds, tls=tls)
    made = WebhookDispatcher(
        notices,
        sender,
        secret_file=secret_file,
        timeout_seconds=timeout_seconds,
        attempts=attempts,
        metrics=counts,
    )
    await made.start()
    try:
        yield made
    finally:
        async with asyncio.timeout(HANG_SECONDS):
            await made.close()


def write(path: Path, text: str) -> None:
    path.write_text(text)


def verified(told: Told, secret: bytes) -> bool:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, Callable[..., bool]] = {}
    exec(example, names)
    return names["verify"](told.body, told.headers["Careca-Signature"], secret)


async def test_a_webhook_is_delivered_once_and_signed(notices: Notices, counts: Counts, secret_file: Path) -> None:
    async with receiver() as there, notifier(notices, counts, secret_file):
        notices.add("7", f"{there.url}/200?token=abc")
        await until(lambda: bool(counts.outcomes))

    (told,) = there.told
    assert verified(told, b"the first secret")
    assert not verified(told, b"another secret")
    assert told.path == "/200?token=abc"
    assert json.loads(told.body)["job_id"] == told.headers["Careca-Job-Id"] == "7"
    assert told.headers["Careca-Delivery"] == "1"
    assert told.headers["User-Agent"] == "Careca-Webhooks/1"
    assert told.headers["Content-Type"] == "application/json"
    assert (notices.told, notices.failed, counts.outcomes) == (["7"], [], ["delivered"])


async def test_a_retry_has_the_number_of_the_attempt(notices: Notices, counts: Counts, secret_file: Path) -> None:
    async with receiver() as there, notifier(notices, counts, secret_file):
        notices.add("7", f"{there.url}/500,503,200")
        await until(lambda: bool(notices.told))
        await until(lambda: len(counts.outcomes) == 3)

    assert [told.headers["Careca-Delivery"] for told in there.told] == ["1", "2", "3"]
    assert [error for _, error, _ in notices.failed] == ["the receiver answered 500", "the receiver answered 503"]
    assert counts.outcomes == ["failed", "failed", "delivered"]


@pytest.mark.parametrize("status", [410, 404, 400])
async def test_a_client_error_gives_up(status: int, notices: Notices, counts: Counts, secret_file: Path) -> None:
    async with receiver() as there, notifier(notices, counts, secret_file):
        notices.add("7", f"{there.url}/{status}")
        await until(lambda: bool(counts.outcomes))

    assert len(there.told) == 1
    assert notices.failed == [("7", f"the receiver answered {status}", None)]
    assert counts.outcomes == ["given_up"]


async def test_after_the_last_attempt_the_webhook_is_given_up(
    notices: Notices, counts: Counts, secret_file: Path
) -> None:
    async with receiver() as there, notifier(notices, counts, secret_file, attempts=3):
        notices.add("7", f"{there.url}/500")
        await until(lambda: "given_up" in counts.outcomes)

    assert len(there.told) == 3
    assert counts.outcomes == ["failed", "failed", "given_up"]


async def test_the_receivers_retry_after_is_used(notices: Notices, counts: Counts, secret_file: Path) -> None:
    async with receiver() as there, notifier(notices, counts, secret_file):
        notices.add("7", f"{there.url}/429?after=1000")
        notices.add("8", f"{there.url}/503?after=9999999")
        await until(lambda: len(counts.outcomes) == 2)

    delays = {job_id: delay or 0.0 for job_id, _, delay in notices.failed}
    assert 1000 <= delays["7"] <= 1200
    assert 3600 <= delays["8"] <= 4320


async def test_a_redirect_is_not_followed(notices: Notices, counts: Counts, secret_file: Path) -> None:
    async with receiver() as there, notifier(notices, counts, secret_file, attempts=1):
        notices.add("7", f"{there.url}/redirect")
        await until(lambda: bool(counts.outcomes))

    assert [told.path for told in there.told] == ["/redirect"]
    assert notices.failed == [("7", "the receiver answered 307", None)]


async def test_proxies_of_the_environment_are_not_used(
    notices: Notices, counts: Counts, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiver() as proxy, receiver() as there:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with notifier(notices, counts, secret_file):
            notices.add("7", f"{there.url}/200")
            await until(lambda: bool(counts.outcomes))

        assert len(there.told) == 1
        assert proxy.told == []


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("127.0.0.1", "8.8.8.8")])
async def test_a_name_of_this_machine_is_given_up_without_a_connection(
    addresses: tuple[str, ...], notices: Notices, counts: Counts, secret_file: Path
) -> None:
    async with (
        receiver() as there,
        notifier(notices, counts, secret_file, allow_private=False, lookup=knows(*addresses)),
    ):
        notices.add("7", there.url.replace("127.0.0.1", "receiver.test") + "/200")
        await until(lambda: bool(counts.outcomes))

    assert there.told == []
    assert notices.failed == [("7", "the webhook leads to 127.0.0.1, which is not a public address", None)]


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost"])
async def test_the_address_is_checked_again_at_each_attempt(
    host: str, notices: Notices, counts: Counts, secret_file: Path
) -> None:
    async with receiver() as there, notifier(notices, counts, secret_file, allow_private=False):
        notices.add("7", there.url.replace("127.0.0.1", host) + "/200")
        await until(lambda: bool(counts.outcomes))

    assert there.told == []
    assert counts.outcomes == ["given_up"]


async def test_a_name_is_resolved_once_and_its_address_used(
    notices: Notices, counts: Counts, secret_file: Path
) -> None:
    asked: list[str] = []
    async with receiver() as there, notifier(notices, counts, secret_file, lookup=knows("127.0.0.1", asked=asked)):
        notices.add("7", there.url.replace("127.0.0.1", "receiver.test") + "/500,200")
        await until(lambda: bool(notices.told))

    assert asked == ["receiver.test"] * 2  # once for each attempt
    assert {told.headers["Host"].split(":")[0] for told in there.told} == {"receiver.test"}


async def test_an_unknown_name_is_retried(notices: Notices, counts: Counts, secret_file: Path) -> None:
    def lookup(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    async with notifier(notices, counts, secret_file, lookup=lookup, attempts=2):
        notices.add("7", "http://receiver.test/200")
        await until(lambda: len(counts.outcomes) == 2)

    assert counts.outcomes == ["failed", "given_up"]
    assert "receiver.test" in notices.failed[0][1]


@pytest.mark.parametrize(("named", "outcome"), [("receiver.test", "delivered"), ("other.test", "given_up")])
async def test_tls_is_verified_against_the_name(
    named: str, outcome: str, notices: Notices, counts: Counts, secret_file: Path
) -> None:
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("receiver.test").configure_cert(server)
    authority.configure_trust(client)
    async with (
        receiver(server) as there,
        notifier(notices, counts, secret_file, lookup=knows("127.0.0.1"), attempts=1, tls=client),
    ):
        notices.add("7", there.url.replace("127.0.0.1", named) + "/200")
        await until(lambda: bool(counts.outcomes))

    assert counts.outcomes == [outcome]
    assert len(there.told) == (outcome == "delivered")


async def test_an_untrusted_certificate_is_refused(notices: Notices, counts: Counts, secret_file: Path) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("receiver.test").configure_cert(server)
    async with (
        receiver(server) as there,
        notifier(notices, counts, secret_file, lookup=knows("127.0.0.1"), attempts=1),
    ):
        notices.add("7", there.url.replace("127.0.0.1", "receiver.test") + "/200")
        await until(lambda: bool(counts.outcomes))

    assert there.told == []
    assert "certificate" in notices.failed[0][1].lower()


async def test_a_slow_receiver_does_not_delay_others(notices: Notices, counts: Counts, secret_file: Path) -> None:
    async with receiver() as slow, receiver() as there, notifier(notices, counts, secret_file):
        for number in range(3 * dispatcher.MAX_DELIVERIES):
            notices.add(f"slow-{number}", f"{slow.url}/slow")
        await until(lambda: len(slow.told) == dispatcher.MAX_DELIVERIES_PER_RECEIVER)
        for number in range(5):
            notices.add(f"quick-{number}", f"{there.url}/200")
        await until(lambda: len(notices.told) == 5)

        assert {job_id.split("-")[0] for job_id in notices.told} == {"quick"}
        assert len(slow.told) == dispatcher.MAX_DELIVERIES_PER_RECEIVER


async def test_webhooks_of_a_slow_receiver_are_delivered_later(
    notices: Notices, counts: Counts, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "SLOT_SECONDS", 0.05)
    monkeypatch.setattr(dispatcher, "LEASE_MARGIN_SECONDS", 0.1)
    ids = [str(number) for number in range(dispatcher.MAX_DELIVERIES_PER_RECEIVER + 5)]
    async with receiver() as slow, notifier(notices, counts, secret_file, timeout_seconds=2.0) as stream_events:
        for job_id in ids:
            notices.add(job_id, f"{slow.url}/slow")
        await until(lambda: bool(stream_events._slow))
        slow.release.set()
        await until(lambda: not notices.waiting)

    assert sorted(notices.told) == sorted(ids)


async def test_many_webhooks_of_one_receiver_are_all_delivered(
    notices: Notices, counts: Counts, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "SLOT_SECONDS", HANG_SECONDS)
    ids = [str(number) for number in range(3 * dispatcher.MAX_DELIVERIES)]
    async with receiver() as there, notifier(notices, counts, secret_file):
        for job_id in ids:
            notices.add(job_id, f"{there.url}/200")
        await until(lambda: not notices.waiting)

    assert sorted(notices.told) == sorted(ids)


async def test_a_receiver_that_times_out_is_called_again(notices: Notices, counts: Counts, secret_file: Path) -> None:
    async with receiver() as there, notifier(notices, counts, secret_file, timeout_seconds=0.3, attempts=1000):
        notices.add("7", f"{there.url}/slow")
        await until(lambda: bool(notices.failed))
        there.release.set()
        await until(lambda: notices.told == ["7"])

    assert notices.failed[0][1] == "no answer within 0.3 seconds"


async def test_a_huge_answer_is_not_read(notices: Notices, counts: Counts, secret_file: Path) -> None:
    async with receiver() as there, notifier(notices, counts, secret_file):
        notices.add("7", f"{there.url}/huge")
        await until(lambda: notices.told == ["7"])
        await asyncio.wait_for(there.cut.wait(), HANG_SECONDS)

    assert there.sent_bytes < 50_000_000  # what sockets buffer, and by far not all


async def test_an_answer_that_is_not_http_is_retried_and_hides_the_url(
    notices: Notices, counts: Counts, secret_file: Path
) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, notifier(notices, counts, secret_file, attempts=2):
        notices.add("7", f"http://127.0.0.1:{port}/path?token=abc")
        await until(lambda: "given_up" in counts.outcomes)

    assert [error for _, error, _ in notices.failed] == ["the answer is not HTTP"] * 2


async def test_a_refused_connection_is_retried(notices: Notices, counts: Counts, secret_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with notifier(notices, counts, secret_file, attempts=2):
        notices.add("7", f"http://127.0.0.1:{port}/200")
        await until(lambda: len(counts.outcomes) == 2)

    assert counts.outcomes == ["failed", "given_up"]
    assert "connect" in notices.failed[0][1].lower()


async def test_the_secret_may_change_at_any_time(notices: Notices, counts: Counts, secret_file: Path) -> None:
    async with receiver() as there, notifier(notices, counts, secret_file):
        notices.add("7", f"{there.url}/200")
        await until(lambda: notices.told == ["7"])
        write(secret_file, "the second secret\n")
        notices.add("8", f"{there.url}/200")
        await until(lambda: notices.told == ["7", "8"])

    first, second = there.told
    assert verified(first, b"the first secret")
    assert verified(second, b"the second secret")
    assert not verified(second, b"the first secret")


async def test_without_a_secret_webhooks_wait_until_there_is_one(
    notices: Notices, counts: Counts, secret_file: Path, logged: list[structlog.typing.EventDict]
) -> None:
    write(secret_file, "\n")
    async with receiver() as there, notifier(notices, counts, secret_file):
        notices.add("7", f"{there.url}/200")
        await until(lambda: any(event["event"] == "webhooks wait" for event in logged))
        assert notices.waiting["7"].due_at == 0.0  # nobody has taken it
        write(secret_file, "late")
        await until(lambda: notices.told == ["7"])

    assert verified(there.told[0], b"late")


async def test_an_unavailable_queue_is_retried(
    notices: Notices, counts: Counts, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.01)
    notices.away = 3
    async with receiver() as there, notifier(notices, counts, secret_file):
        notices.add("7", f"{there.url}/slow")
        await until(lambda: len(there.told) == 1)
        notices.away = 3
        there.release.set()
        await until(lambda: notices.told == ["7"])

    assert len(there.told) == 1
    assert notices.away == 0


async def test_an_unexpected_error_does_not_stop_the_dispatcher(
    notices: Notices, counts: Counts, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.01)
    whole = notices.due_webhooks
    faults = [RuntimeError("a fault"), OSError("another")]

    async def due_webhooks(limit: int, lease_seconds: float) -> list[DueWebhook]:
        if faults:
            raise faults.pop()
        return await whole(limit, lease_seconds)

    monkeypatch.setattr(notices, "due_webhooks", due_webhooks)
    async with receiver() as there, notifier(notices, counts, secret_file):
        notices.add("7", f"{there.url}/200")
        await until(lambda: notices.told == ["7"])

    assert faults == []


async def test_wake_ends_the_pause(
    notices: Notices, counts: Counts, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "POLL_SECONDS", 10 * HANG_SECONDS)
    looks = []
    whole = notices.due_webhooks

    async def due_webhooks(limit: int, lease_seconds: float) -> list[DueWebhook]:
        looks.append(limit)
        return await whole(limit, lease_seconds)

    monkeypatch.setattr(notices, "due_webhooks", due_webhooks)
    async with receiver() as there, notifier(notices, counts, secret_file) as stream_events:
        await until(lambda: len(looks) == 1)
        notices.add("7", f"{there.url}/200")
        stream_events.wake()
        await until(lambda: notices.told == ["7"])


async def test_close_does_not_wait_for_receivers(notices: Notices, counts: Counts, secret_file: Path) -> None:
    # The notifier closes before the receiver lets go, within HANG_SECONDS.
    async with receiver() as there, notifier(notices, counts, secret_file, timeout_seconds=10 * HANG_SECONDS):
        notices.add("7", f"{there.url}/slow")
        await until(lambda: len(there.told) == 1)

    assert (notices.told, notices.failed, counts.outcomes) == ([], [], [])
    assert notices.waiting["7"].attempts == 0


async def test_logs_have_one_line_for_each_attempt_and_nothing_secret(
    notices: Notices, counts: Counts, secret_file: Path, logged: list[structlog.typing.EventDict]
) -> None:
    async with receiver() as there, notifier(notices, counts, secret_file):
        notices.add("7", f"{there.url}/500,200?token=abc")
        await until(lambda: len(counts.outcomes) == 2)

    lines = [event for event in logged if event["event"] == "webhook attempt ended"]
    assert [(line["outcome"], line["attempt"], line["job_id"], line["receiver"]) for line in lines] == [
        ("failed", 1, "7", there.url),
        ("delivered", 2, "7", there.url),
    ]
    assert lines[0]["error"] == "the receiver answered 500"
    assert "abc" not in str(logged)
    assert "the first secret" not in str(logged)
