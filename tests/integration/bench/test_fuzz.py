"""A part of ``make fuzz``, and whether it would notice what must not be."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest

from bench.fuzz import __main__ as fuzz
from bench.fuzz import http_calls, http_damage, http_requests, mutations, services
from bench.fuzz import recordings as fuzz_recordings
from bench.fuzz import requests as fuzz_requests
from bench.fuzz.http_calls import SECRET
from bench.fuzz.services import MOST_DESCRIPTORS, MOST_GROWTH_BYTES, Vitals, complaints, troubles


def test_nothing_that_is_damaged_is_answered_kept_or_logged_as_it_must_not_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Takes more than ten seconds: four real services start, must come to rest twice and forget all recordings."""
    monkeypatch.setattr(services, "RETENTION_SECONDS", 5.0)
    amounts = fuzz.Amounts(recordings=100, uploads=12, requests=120, connections=32, http=100)

    report = fuzz.fuzz(amounts, seed=20)

    assert report.faults == []
    counted = {kind: sum(outcomes.values()) for kind, outcomes in report.outcomes.items()}
    assert counted == {
        "recordings, in the decoder": 100,
        "recordings, through the gateway": 12,
        "requests to the gateway": 60,
        "requests to the transcriber": 30,
        "requests to the diarizer": 30,
        "HTTP requests": 100,
        "connections": 32,
    }
    decoded = report.outcomes["recordings, in the decoder"]
    assert min(decoded["decoded"], decoded["NOT_A_RECORDING"]) > 5
    assert "| recordings, in the decoder |" in fuzz.as_text(report, 20)


def test_every_kind_of_recording_can_be_decoded_before_it_is_damaged() -> None:
    # From a process of its own, as fuzz.py does: what gRPC runs in this one would not survive a fork that is confined.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        outcomes = list(pool.map(fuzz_recordings.outcome_of, fuzz_recordings.valid_recordings().values()))

    assert len(outcomes) > 30
    assert set(outcomes) == {"decoded"}


def test_the_same_seed_damages_in_the_same_way() -> None:
    valid = list(fuzz_recordings.damaged(5, range(20)))

    assert valid == list(fuzz_recordings.damaged(5, range(20)))
    assert valid != list(fuzz_recordings.damaged(6, range(20)))
    assert len(set(valid)) == 20


def test_each_mutation_damages_what_it_is_given() -> None:
    data = bytes(range(256)) * 40
    chance = mutations.random.Random(3)

    for mutation in set(mutations._MUTATIONS):
        found = {_after(mutation, data, chance) for _ in range(20)}
        assert len(found - {data}) > 5, mutation


def _after(mutation: mutations.Mutation, data: bytes, chance: mutations.random.Random) -> bytes:
    damaged = bytearray(data)
    mutation(damaged, chance, [b"other" * 500])
    return bytes(damaged)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (
            "import faulthandler, os; faulthandler.disable(); os.abort()",
            "NOT_A_RECORDING (the decoder died of SIGABRT)",
        ),
        ("raise ValueError('unforeseen')", "INTERNAL (the decoder ended with status 1)"),
        ("import time; time.sleep(3600)", "HUNG"),
    ],
)
def test_a_decoder_that_ends_as_it_must_not_is_noticed(
    code: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz_recordings.process, "main", lambda: exec(code))
    if outcome == "HUNG":
        monkeypatch.setattr(fuzz_recordings, "TIMEOUT_SECONDS", 0.1)

    assert fuzz_recordings.outcome_of(b"x") == outcome


def test_answers_that_must_not_be_are_faults() -> None:
    assert [fuzz_requests.is_fault(each) for each in ("INTERNAL INTERNAL", "UNKNOWN x", "HUNG")] == [True] * 3
    assert [fuzz_requests.is_fault(each) for each in ("OK", "UNKNOWN_AUDIO_TRACK_CODEC", "result")] == [False] * 3


PROBLEM = {
    **{"type": "about:blank", "title": "Not Found", "status": 404, "detail": "no job", "reason": "JOB_NOT_FOUND"},
    **{"field": "", "retry_after_seconds": None, "request_id": "1", "metadata": {}},
}
OPENAI = {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": "invalid_value"}}
HEADERS = {"x-request-id": "1", "x-content-type-options": "nosniff"}
PROBLEM_HEADERS = HEADERS | {"content-type": "application/problem+json"}
REQUEST = b"GET / HTTP/1.1\r\n\r\n"


def judged(status: int, body: object = None, headers: dict[str, str] = HEADERS, *, ended: str = "") -> str:
    """The outcome of an answer."""
    content = b"" if body is None else json.dumps(body).encode()
    return http_requests.judge(REQUEST, http_requests.Answer(status, headers, content, ended))


def test_answers_over_http_are_named() -> None:
    assert judged(200) == "200"
    assert judged(200, ended="stream") == "an event stream"
    assert judged(404, PROBLEM, PROBLEM_HEADERS) == "404 JOB_NOT_FOUND"
    assert judged(400, OPENAI) == "400 INVALID_VALUE"
    assert judged(503, PROBLEM | {"status": 503}, PROBLEM_HEADERS) == "503 JOB_NOT_FOUND"
    assert judged(400, headers={"content-type": "text/plain"}) == "400 by the HTTP parser"
    assert judged(0, ended="closed") == "closed without an answer, after the head"


@pytest.mark.parametrize(
    "outcome",
    [
        judged(500, PROBLEM | {"status": 500, "reason": "INTERNAL"}, PROBLEM_HEADERS),
        judged(404, PROBLEM | {"status": 400}, PROBLEM_HEADERS),
        judged(404, PROBLEM | {"reason": "in words"}, PROBLEM_HEADERS),
        judged(404, PROBLEM, HEADERS),
        judged(404, {"detail": "Not Found"}),
        judged(404, OPENAI | {"more": 1}),
        judged(200, headers={}),
        judged(200, headers={"x-request-id": "1"}),
        judged(200, f"the token is {SECRET}"),
        judged(200, headers=HEADERS | {http_damage.INJECTED: "yes"}),
        judged(200, "Traceback (most recent call last):"),
        judged(404, ended="closed"),
        judged(0, ended="not HTTP: x"),
    ],
)
def test_answers_over_http_that_must_not_be_are_faults(outcome: str) -> None:
    assert fuzz_requests.is_fault(outcome)


def test_answers_that_end_early_are_faults_unless_the_log_says_what_was_removed() -> None:
    assert judged(206, ended="closed") == http_requests.CUT
    line = {"event": "a response ended early", "request_id": "1", "reason": "JOB_NOT_FOUND"}
    log = [
        json.dumps(each).encode() for each in (line, line | {"request_id": "2", "reason": "INTERNAL"}, {"event": "x"})
    ]

    assert http_requests.unexplained({"1": "GET /a"}, log) == []
    assert len(http_requests.unexplained({"1": "GET /a", "2": "GET /b", "3": "GET /c"}, log)) == 2


def test_endpoints_that_no_http_request_is_about_are_noticed() -> None:
    calls = [http_calls.HttpCall("GET", "/a/{b}"), http_calls.HttpCall("GET", "/page", described=False)]

    assert http_calls.undescribed({"paths": {"/a/{b}": {"get": {}}}}, calls) == []
    assert http_calls.undescribed({"paths": {"/a/{b}": {"post": {}}}}, calls) == ["GET /a/{b}", "POST /a/{b}"]


def test_http_requests_are_damaged_in_their_heads_and_bodies() -> None:
    targets = http_calls.Targets(b"recording", "job", "other", "upload", "cookie=1")
    calls = http_calls.http_calls(targets)
    chance = mutations.random.Random(3)
    again = mutations.random.Random(3)

    damaged = [http_damage.damaged_request(call, "localhost", chance) for call in calls for _ in range(20)]

    assert damaged == [http_damage.damaged_request(call, "localhost", again) for call in calls for _ in range(20)]
    assert len(set(damaged)) > 0.9 * len(damaged)
    assert sum(b"HTTP/1.1\r\nHost: localhost\r\n" in each for each in damaged) > 0.7 * len(damaged)


def test_what_a_service_does_not_let_go_is_noticed() -> None:
    before = {"gateway": Vitals(100, 100, 20, 10, 0, 0.0)}

    def found(**changes: float) -> list[str]:
        return list(troubles(before, {"gateway": replace(before["gateway"], **changes)}))

    assert found(uss_bytes=100 + MOST_GROWTH_BYTES, descriptors=20 + MOST_DESCRIPTORS) == []
    assert len(found(uss_bytes=101 + MOST_GROWTH_BYTES)) == 1
    assert len(found(descriptors=21 + MOST_DESCRIPTORS)) == 1
    assert len(found(children=1)) == len(found(work=1.0)) == 1


def test_lines_of_a_log_that_must_not_be_are_noticed() -> None:
    fine = json.dumps({"event": "call served", "level": "info"}).encode()
    core = b"I0000 00:00:1763872693.977088   16355 chttp2_transport.cc:1403] ipv4:127.0.0.1:43105: Got goaway"
    failed = json.dumps({"event": "a call failed unexpectedly", "level": "error", "exception": "Traceback"}).encode()

    assert list(complaints([fine, core])) == []
    assert len(list(complaints([fine, failed, b"Traceback (most recent call last):"]))) == 2
    assert list(complaints([fine], ["call"])) == ["a secret is in the log"]
