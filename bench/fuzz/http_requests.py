"""Sends damaged HTTP requests to the real web service, and judges each answer.

An answer is a result, a problem in the API's shape, or what the HTTP parser says about bytes that are no request.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import h11

from bench.fuzz.http_calls import SECRET, HttpCall
from bench.fuzz.http_damage import INJECTED, damaged_request, headers_of
from bench.fuzz.requests import AT_ONCE, TIMEOUT_SECONDS, is_fault

RENEW_EVERY = 250
"""After so many requests there are new jobs: most requests should be about a job that there is."""

STREAM_SECONDS = 0.2
"""How long an event stream is read."""

PROBLEM_FIELDS = {
    *("type", "title", "status", "detail", "reason", "field", "retry_after_seconds", "request_id", "metadata"),
}
OPENAI_FIELDS = {"message", "type", "param", "code"}

_ALLOWED_FAULTS = (503, 504)
"""Statuses from 500 that may be answered, with a reason: the service stops or is overloaded, or took too long."""

_REASON = re.compile("[A-Z][A-Z0-9_]+")
_PARSER_STATUSES = (400, 431)
CUT = "an answer that ended early"
"""Only right if what it was about was removed after its head was sent: nothing else can tell the caller then."""

_ENDED_EARLY = "a response ended early"
_REMOVED_REASONS = {"JOB_NOT_FOUND", "RECORDING_MISSING", "RESULT_MISSING"}
_LEFT = "left by the caller"


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: str = ""
    """How it ended if not as it should: closed, reset, stream, or not HTTP."""


class HttpRequester:
    """Sends damaged requests to one service.

    Args:
        target: host and port.
        renew: makes new jobs, and returns the valid requests about them.
        seed: of all chance here.
    """

    def __init__(self, target: str, renew: Callable[[], Awaitable[list[HttpCall]]], seed: str) -> None:
        self._target = target
        self._renew = renew
        self._seed = seed
        self._calls: list[HttpCall] = []
        self.outcomes: Counter[str] = Counter()
        self.faults: list[str] = []
        """What must not be answered, with what was sent, for those who look into it."""
        self.cut: dict[str, str] = {}
        """Answers that ended early after their head, by their request ids: see ``unexplained``."""

    async def send(self, numbers: range) -> None:
        """Sends the damaged requests of those numbers."""
        for first in range(numbers.start, numbers.stop, RENEW_EVERY):
            self._calls = await self._renew()
            waiting = iter(range(first, min(first + RENEW_EVERY, numbers.stop)))
            await asyncio.gather(*(self._send_some(waiting) for _ in range(AT_ONCE)))

    async def _send_some(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            chance = random.Random(f"{self._seed}/{number}")
            call = chance.choices(self._calls, [each.weight for each in self._calls])[0]
            request = damaged_request(call, self._target, chance)
            outcome, answer = await outcome_of(self._target, request, chance)
            self.outcomes[outcome] += 1
            if outcome == CUT:
                self.cut[answer.headers.get("x-request-id", "")] = f"{self._seed}/{number} {call.method} {call.route}"
            if is_fault(outcome):
                self.faults.append(f"{outcome}: {self._seed}/{number} {call.method} {call.route} {request!r:.600}")


def unexplained(cut: Mapping[str, str], log: Iterable[bytes]) -> list[str]:
    """Returns those answers that ended early without a line in the service's log that what they were about is gone."""
    lines = [json.loads(line) for line in log if _ENDED_EARLY.encode() in line]
    explained = {line["request_id"] for line in lines if line["reason"] in _REMOVED_REASONS}
    return [f"{CUT}: {what}" for request_id, what in cut.items() if request_id not in explained]


async def outcome_of(target: str, request: bytes, chance: random.Random) -> tuple[str, Answer]:
    """What becomes of a request, named so that outcomes can be counted; a few callers do not wait for the answer."""
    leaves_after = chance.choice((0.0, 0.001, 0.02)) if chance.random() < 0.03 else None
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS if leaves_after is None else leaves_after):
            answer = await exchange(target, request)
    except TimeoutError:
        return "HUNG" if leaves_after is None else _LEFT, Answer()
    return judge(request, answer), answer


async def exchange(target: str, request: bytes) -> Answer:
    """Sends the bytes on a connection of their own, and returns the first answer."""
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer, parser = Answer(), h11.Connection(h11.CLIENT)
    # The parser has to know whether the answer has a body; what is really sent are the bytes.
    parser.send(
        h11.Request(method="HEAD" if request.startswith(b"HEAD ") else "GET", target="/", headers=[("host", "x")])
    )
    parser.send(h11.EndOfMessage())
    try:
        writer.write(request)
        await _read(parser, reader, answer)
    except ConnectionError:
        answer.ended = "reset"
    except h11.RemoteProtocolError as error:
        answer.ended = "closed" if "peer" in str(error) else f"not HTTP: {error}"
    finally:
        writer.close()
    return answer


async def _read(parser: h11.Connection, reader: asyncio.StreamReader, answer: Answer) -> None:
    while True:
        match parser.next_event():
            case h11.NEED_DATA:
                streams = answer.headers.get("content-type", "").startswith("text/event-stream")
                try:
                    async with asyncio.timeout(STREAM_SECONDS if streams else None):
                        data = await reader.read(65_536)
                except TimeoutError:
                    if not streams:
                        raise
                    answer.ended = "stream"
                    return
                if not data and not answer.status:
                    answer.ended = "closed"
                    return
                parser.receive_data(data)
            case h11.Response(status_code=status, headers=headers):
                answer.status, answer.headers = status, dict(headers_of(list(headers)))
            case h11.Data(data=data):
                answer.body += bytes(data)
            case h11.EndOfMessage():
                return


def judge(request: bytes, answer: Answer) -> str:
    """The name of the outcome; it begins with WRONG where no caller should ever be answered so."""
    if answer.ended == "stream":
        return "an event stream"
    if answer.ended == "reset" and answer.status >= 400:  # the service closes without having read everything
        return f"{answer.status}, and a reset"
    if answer.ended:
        complete = b"\r\n\r\n" in request
        if answer.ended == "closed" and answer.status in (200, 206):
            return CUT
        if answer.status or answer.ended.startswith("not HTTP"):
            return f"WRONG: the answer {answer.status} was {answer.ended} before its end"
        return f"{answer.ended} without an answer, {'after' if complete else 'before the end of'} the head"
    told = answer.body.decode("utf-8", "replace") + repr(answer.headers)
    if SECRET in told or INJECTED in answer.headers or "Traceback (" in told:
        return f"WRONG: the answer {answer.status} has what it must not have"
    if answer.status in _PARSER_STATUSES and answer.headers.get("content-type", "").startswith("text/plain"):
        return f"{answer.status} by the HTTP parser"
    if "x-request-id" not in answer.headers or answer.headers.get("x-content-type-options") != "nosniff":
        return f"WRONG: the answer {answer.status} lacks headers that every answer has"
    if answer.status < 400:
        return str(answer.status)
    return _judge_error(request, answer)


def _judge_error(request: bytes, answer: Answer) -> str:
    if request.startswith(b"HEAD "):
        return f"{answer.status} to HEAD"
    try:
        body = json.loads(answer.body)
        reason = _reason_in(body, answer)
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"WRONG: the error {answer.status} has another shape: {answer.body!r:.200}"
    if answer.status >= 500 and answer.status not in _ALLOWED_FAULTS:
        return f"WRONG: {answer.status} {reason}"
    return f"{answer.status} {reason}"


def _reason_in(body: dict[str, object], answer: Answer) -> str:
    """The reason of an error. Raises ``ValueError`` if it has neither of the two shapes."""
    media_type = answer.headers.get("content-type", "")
    if set(body) == PROBLEM_FIELDS and media_type == "application/problem+json" and body["status"] == answer.status:
        reason, message = body["reason"], body["detail"]
    else:
        error = body["error"]
        if set(body) != {"error"} or not isinstance(error, dict) or set(error) != OPENAI_FIELDS:
            raise ValueError("neither shape")
        reason, message = str(error["code"]).upper(), error["message"]
    if not _REASON.fullmatch(str(reason)) or not message:
        raise ValueError("no reason or no message")
    return str(reason)
