"""The content of webhooks, their allowed addresses, and their retries."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from careca.errors import InvalidRequest, PreconditionFailed
from careca.types import Digest, Job, JobPriority, JobStage, JobState, Stage, StageState
from careca_gateway.jobs.metrics import WEBHOOK_OUTCOMES, JobMetrics
from careca_gateway.jobs.webhooks import delivery, payloads
from careca_gateway.jobs.webhooks.addresses import MAX_CHARACTERS, CheckedResolver, check_address, check_url
from careca_gateway.jobs.webhooks.delivery import DeliveryResult, delay_seconds, interpret_response
from careca_gateway.jobs.webhooks.dispatcher import check_webhook, read_secret
from support.samples import sample_value

SECRET = b"not a real secret"
PAGE = (Path(__file__).parents[4] / "docs" / "webhooks.md").read_text()

JOB = Job(
    id="0000000000000012",
    state=JobState.FAILED,
    recording=Digest("a" * 64, 960_044),
    display_name="Größe.wav",
    submitter="call-centre",
    priority=JobPriority.BATCH,
    request_id="monday",
    create_unix=1_772_442_000.0,
    end_unix=1_772_442_041.5,
    stages=(
        JobStage(
            Stage.TRANSCRIBE,
            StageState.FAILED,
            seconds=38.20049,
            error_reason="OUT_OF_MEMORY",
            error_message="too long",
        ),
        JobStage(Stage.DIARIZE, StageState.SKIPPED),
    ),
    error_reason="OUT_OF_MEMORY",
    error_message="too long",
)

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "198.18.0.1",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "2001::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
]
PUBLIC = ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700:4700::1111", "64:ff9b::8.8.8.8"]
NUMBERS = ["2130706433", "0x7f000001", "017700000001", "127.1", "0x7f.0.0.1", "0177.0.0.1", "127.0.1", "8.526344"]


def in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def documented_verify() -> Callable[..., bool]:
    """The example in the page for receivers."""
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, Callable[..., bool]] = {}
    exec(example, names)
    return names["verify"]


# What is told


def test_the_notice_says_how_the_job_ended() -> None:
    assert json.loads(payloads.body(JOB)) == {
        "job_id": "0000000000000012",
        "state": "failed",
        "partial": False,
        "request_id": "monday",
        "submitter": "call-centre",
        "display_name": "Größe.wav",
        "recording": {"sha256": "a" * 64, "size_bytes": 960_044},
        "create_time": "2026-03-02T09:00:00.000Z",
        "start_time": None,
        "end_time": "2026-03-02T09:00:41.500Z",
        "error_reason": "OUT_OF_MEMORY",
        "error_message": "too long",
        "stages": [
            {
                "stage": "transcribe",
                "state": "failed",
                "seconds": 38.2,
                "error_reason": "OUT_OF_MEMORY",
                "error_message": "too long",
            },
            {"stage": "diarize", "state": "skipped", "seconds": 0.0, "error_reason": "", "error_message": ""},
        ],
    }


def test_the_page_for_receivers_shows_what_is_sent() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    shown, sent = json.loads(shown), json.loads(payloads.body(JOB))

    assert list(shown) == list(sent)
    assert list(shown["stages"][0]) == list(sent["stages"][0])
    assert list(shown["recording"]) == list(sent["recording"])


@given(st.text())
def test_any_name_can_be_encoded(name: str) -> None:
    assert json.loads(payloads.body(replace(JOB, display_name=name)))["display_name"] == name


# How it is signed


def test_the_signature_is_the_hmac_of_time_and_body() -> None:
    expected = hmac.new(SECRET, b'1700000000.{"a":1}', hashlib.sha256).hexdigest()

    assert payloads.signature(b'{"a":1}', SECRET, 1_700_000_000) == f"t=1700000000,v1={expected}"


def test_the_documented_check_accepts_what_is_sent() -> None:
    header = payloads.signature(b"body", SECRET, int(time.time()))

    assert documented_verify()(b"body", header, SECRET)


@pytest.mark.parametrize("body", [b"Body", b"body ", b"", b"0.body"])
def test_a_changed_body_is_refused(body: bytes) -> None:
    assert not documented_verify()(body, payloads.signature(b"body", SECRET, 1000), SECRET, now=1000)


@pytest.mark.parametrize("position", range(len(payloads.signature(b"body", SECRET, 1000))))
def test_a_header_with_any_character_changed_is_refused(position: int) -> None:
    header = payloads.signature(b"body", SECRET, 1000)
    changed = header[:position] + ("0" if header[position] != "0" else "1") + header[position + 1 :]

    assert not documented_verify()(b"body", changed, SECRET, tolerance_seconds=1e9, now=1000)


@pytest.mark.parametrize("header", ["", "t=1000", "v1=00", "t=x,v1=00", "t=1000,v1=zz", "garbage", "t=1000,v1=é"])
def test_an_invalid_header_is_refused(header: str) -> None:
    assert not documented_verify()(b"body", header, SECRET, now=1000)


def test_another_secret_is_refused() -> None:
    assert not documented_verify()(b"body", payloads.signature(b"body", b"other", 1000), SECRET, now=1000)


@pytest.mark.parametrize(("now", "good"), [(1300, True), (1301, False), (700, True), (699, False)])
def test_an_old_signature_is_refused(now: float, good: bool) -> None:
    assert documented_verify()(b"body", payloads.signature(b"body", SECRET, 1000), SECRET, now=now) is good


# Where it may lead


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused_unless_allowed(address: str) -> None:
    url = f"https://{in_url(address)}:8443/done"

    with pytest.raises(InvalidRequest) as raised:
        check_url(url, allow_private=False)
    check_url(url, allow_private=True)

    assert (raised.value.reason, raised.value.field) == ("WEBHOOK_REFUSED", "webhook_url")


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_accepted(address: str) -> None:
    check_url(f"http://{in_url(address)}/done", allow_private=False)
    check_address(ip_address(address), allow_private=False)


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_in_an_unusual_notation_is_refused(number: str, allow_private: bool) -> None:
    socket.inet_aton(number)  # the system takes it for an address

    with pytest.raises(InvalidRequest) as raised:
        check_url(f"http://{number}/", allow_private=allow_private)

    assert raised.value.reason == "WEBHOOK_REFUSED"


@pytest.mark.parametrize("host", ["127.0.0.1.", "127。0。0。1", "①②⑦.0.0.1", "127%2e0%2e0%2e1", "[::ffff:7f00:1]"])
def test_a_private_address_in_disguise_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequest):
        check_url(f"http://{host}/", allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org/done",
        "//example.org/done",
        "ftp://example.org/done",
        "file:///etc/passwd",
        "gopher://example.org/",
        "http://",
        "http:///done",
        "http://:80/",
        "http://user@example.org/",
        "http://user:password@example.org/",
        "http://:password@example.org/",
        "http://example.org:0/",
        "http://example.org:65536/",
        "http://example.org:http/",
        "http://[::1/",
        "http://[fe80::g]/",
        "http://exa mple.org/",
        "http://example.org/\r\nHost: other",
        "http://example.org/\x7f",
        f"http://{'a' * 64}.org/",
        "http://example..org/",
        f"https://example.org/{'a' * MAX_CHARACTERS}",
    ],
)
def test_an_invalid_webhook_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        check_url(url, allow_private=True)

    assert raised.value.field == "webhook_url"
    assert "password@" not in raised.value.message


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org",
        "HTTPS://Example.ORG/Done?token=a%20b#c",
        "http://hooks.example.org:8080/a/b",
        "https://bücher.example/",
        f"https://example.org/{'a' * (MAX_CHARACTERS - 20)}",
    ],
)
def test_names_are_accepted(url: str) -> None:
    check_url(url, allow_private=False)


@given(st.text(max_size=60))
def test_any_text_is_accepted_or_refused_without_another_error(text: str) -> None:
    for url in (text, f"http://{text}", f"http://[{text}]/"):
        with suppress(InvalidRequest):
            check_url(url, allow_private=False)


def answering(*addresses: str) -> Callable[..., list[tuple[object, ...]]]:
    """A name server with one answer to all questions."""

    def lookup(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        kinds = [(socket.AF_INET6 if ":" in each else socket.AF_INET, each) for each in addresses]
        return [(kind, socket.SOCK_STREAM, 6, "", (each, port)) for kind, each in kinds]

    return lookup


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_with_one_address_that_is_not_public_is_refused(address: str) -> None:
    resolver = CheckedResolver(allow_private=False, lookup=answering("8.8.8.8", address, "2606:4700::1"))

    with pytest.raises(InvalidRequest) as raised:
        await resolver.resolve("example.org", 443)
    await resolver.close()

    assert raised.value.reason == "WEBHOOK_REFUSED"


async def test_a_name_with_public_addresses_resolves_to_them() -> None:
    resolver = CheckedResolver(allow_private=False, lookup=answering("8.8.8.8", "2606:4700::1"))

    found = await resolver.resolve("example.org", 443)
    await resolver.close()

    assert [(each["hostname"], each["host"], each["port"]) for each in found] == [
        ("example.org", "8.8.8.8", 443),
        ("example.org", "2606:4700::1", 443),
    ]


async def test_the_name_of_this_machine_is_refused() -> None:
    resolver = CheckedResolver(allow_private=False)

    with pytest.raises(InvalidRequest):
        await resolver.resolve("localhost", 80)
    await resolver.close()


# Without a secret


def test_a_webhook_is_refused_while_there_is_no_secret(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text(" \n")

    for path in (None, empty, tmp_path / "missing", tmp_path):
        with pytest.raises(PreconditionFailed, match="CARECA_WEBHOOK_SECRET_FILE") as raised:
            check_webhook("https://example.org/", secret_file=path, allow_private=False)
        assert raised.value.reason == "WEBHOOKS_OFF"


def test_a_webhook_is_accepted_with_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")

    check_webhook("https://example.org/", secret_file=path, allow_private=False)
    with pytest.raises(InvalidRequest):
        check_webhook("https://127.0.0.1/", secret_file=path, allow_private=False)
    assert read_secret(path) == SECRET


# What an answer means


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_success_status_is_a_success(status: int) -> None:
    assert interpret_response(status, "") == DeliveryResult()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 499])
def test_a_client_error_status_is_final(status: int) -> None:
    assert interpret_response(status, "") == DeliveryResult(f"the receiver answered {status}", final=True)


@pytest.mark.parametrize("status", [300, 301, 302, 307, 408, 425, 429, 500, 502, 503, 599])
def test_a_temporary_error_status_is_retried(status: int) -> None:
    assert interpret_response(status, "") == DeliveryResult(f"the receiver answered {status}")


def test_retry_after_is_read() -> None:
    assert interpret_response(503, "120").retry_after_seconds == 120.0
    at = interpret_response(429, formatdate(time.time() + 600, usegmt=True)).retry_after_seconds
    assert at is not None
    assert 300 < at <= 600


@pytest.mark.parametrize("text", ["", "soon", "-5", "1.5", "²", "Mon, 99 Foo 2026", "0x10"])
def test_an_invalid_retry_after_is_ignored(text: str) -> None:
    assert interpret_response(503, text).retry_after_seconds is None


def test_delays_grow_up_to_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_JITTER", 0.0)

    assert [delay_seconds(attempt) for attempt in (1, 2, 3, 4, 10, 11, 12, 10_000)] == [
        *(5.0, 10.0, 20.0, 40.0, 2560.0),
        *(3600.0, 3600.0, 3600.0),
    ]


@pytest.mark.parametrize(("asked", "waited"), [(120.0, 120.0), (0.0, 5.0), (-900.0, 5.0), (86_400.0, 3600.0)])
def test_retry_after_is_respected_within_limits(asked: float, waited: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_JITTER", 0.0)

    assert delay_seconds(4, asked) == waited


def test_delays_are_random() -> None:
    delays = [delay_seconds(3) for _ in range(50)]

    assert len(set(delays)) > 40
    assert all(20.0 <= delay <= 24.0 for delay in delays)


def test_attempts_are_counted_by_how_they_ended() -> None:
    registry = CollectorRegistry()
    metrics = JobMetrics(registry)
    metrics.webhook_attempted("delivered", 0.5)

    counts = {
        outcome: sample_value(registry, "careca_webhook_attempt_seconds_count", outcome=outcome)
        for outcome in WEBHOOK_OUTCOMES
    }
    assert counts == {"delivered": 1.0, "failed": 0.0, "given_up": 0.0}
