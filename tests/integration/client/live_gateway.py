"""A gateway that serves live sessions as a test wants: it keeps the audio and its events, and breaks connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from careca import codec
from careca.errors import CarecaError, PreconditionFailed
from careca.types import Digest, Notice, Stage
from careca.v1 import audio_pb2, gateway_pb2, jobs_pb2, jobs_pb2_grpc, live_pb2, live_pb2_grpc
from support.redis_server import free_port
from support.scripted_gateway import abort, result_for

Request = live_pb2.LiveServiceTranscribeRequest
Response = live_pb2.LiveServiceTranscribeResponse

SECOND = 32_000
"""Bytes in a second of the default audio."""
JOB = "job-1"
SPEAKERS = ("SPEAKER_00", "SPEAKER_01")


@dataclass
class Fault:
    """What goes wrong in one call."""

    after_bytes: int = 0
    """The call takes this much audio first."""
    error: CarecaError | None = None
    """``None``: the call ends as if all was done."""
    after_end: bool = False
    """Whether it happens when the audio has ended, before the result."""
    before_started: bool = False


@dataclass
class LiveScript:
    """What the gateway does in the next calls, and what it has received."""

    last_error: CarecaError | None = None
    """Ends the call after the result."""
    faults: list[Fault] = field(default_factory=list)
    """One for each call, in order. Later calls succeed."""
    reading: threading.Event | None = None
    """The gateway reads no audio before this event."""
    ends_after: int | None = None
    """The gateway ends the session by itself after this much audio."""
    result: threading.Event | None = None
    """The gateway sends no result before this event."""
    failed_stage: Stage | None = None
    notices: tuple[Notice, ...] = ()
    breaks_rules: bool = False
    """Whether the gateway sends started twice."""
    repeats: bool = False
    """Whether all events are sent again when a session is continued, also those that the caller has."""
    corrections: list[tuple[int, int, str]] = field(default_factory=list)
    """What is corrected when the audio has ended."""
    configs: list[Request.Config] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    flushes: list[int] = field(default_factory=list)
    """How much audio there was before each flush."""
    ends: int = 0
    formats: list[list[int]] = field(default_factory=list)
    """The formats of each result that was fetched."""
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a call ends that the caller cancelled."""


class LiveGateway(live_pb2_grpc.LiveServiceServicer, jobs_pb2_grpc.JobServiceServicer):
    """Hears one word in each second, said by two people in turns of two words. Knows one session."""

    def __init__(self, script: LiveScript) -> None:
        self.script = script
        self._events: list[Response] = []
        self._words = 0

    def Transcribe(self, requests: Any, context: Any) -> Iterator[Response]:
        served = threading.Event()
        context.add_callback(lambda: None if served.is_set() else self.script.left.set())
        try:
            yield from self._serve(requests, context)
        finally:
            if context.is_active():
                served.set()

    def _serve(self, requests: Any, context: Any) -> Iterator[Response]:
        script, config = self.script, next(requests).config
        script.configs.append(config)
        fault = script.faults.pop(0) if script.faults else None
        if fault and fault.before_started:
            self._fail(fault, context)
            return
        yield Response(started=Response.Started(session_id="s1", received_bytes=len(script.audio)))
        yield from self._events[0 if script.repeats else config.after_event :]
        if script.breaks_rules:
            yield Response(started=Response.Started(session_id="s1"))
        if script.reading is not None:
            script.reading.wait()
        if not script.ends:
            yield from self._listen(requests, config, fault, context)
        if fault:
            self._fail(fault, context)
            return
        while not script.ends and context.is_active():  # a cancelled call looks as if the caller had no more to send
            time.sleep(0.005)
        if not script.ends:
            return
        while script.result is not None and not script.result.wait(0.01):
            if not context.is_active():
                return
        if script.audio and self._events[-1].WhichOneof("message") != "result":
            yield self._keep(result=codec.encode_result(self.result(())))
        if script.last_error is not None:
            abort(context, script.last_error)

    def _listen(self, requests: Any, config: Request.Config, fault: Fault | None, context: Any) -> Iterator[Response]:
        script, taken = self.script, 0
        for request in requests:
            match request.WhichOneof("message"):
                case "audio":
                    # What was on its way when the connection broke is lost.
                    audio = (
                        request.audio[: fault.after_bytes - taken] if fault and not fault.after_end else request.audio
                    )
                    script.audio += audio
                    taken += len(audio)
                    yield from self._hear(config)
                case "flush":
                    script.flushes.append(len(script.audio))
                    yield self._keep(utterance_end=Response.UtteranceEnd())
                case "end":
                    script.ends += 1
                    yield from self._end()
                    return
            if script.ends_after is not None and len(script.audio) >= script.ends_after:
                script.ends += 1
                yield from self._end()
                return
            if fault and not fault.after_end and taken >= fault.after_bytes:
                return

    def _hear(self, config: Request.Config) -> list[Response]:
        """All at once: the call may break before they are sent."""
        heard = []
        while len(self.script.audio) >= (self._words + 1) * SECOND:
            number = self._words
            self._words += 1
            if config.interim_results:
                heard.append(self._message(interim=Response.Interim(words=[audio_pb2.Word(text=f"guess{number}")])))
            word = audio_pb2.Word(
                text=f"word{number}",
                start_offset=codec.encode_duration(number),
                end_offset=codec.encode_duration(number + 0.5),
                speaker_label=SPEAKERS[number // 2 % 2],
            )
            heard.append(self._keep(final=Response.Final(words=[word], first_word=number, language_code="en")))
        return heard

    def _end(self) -> list[Response]:
        notices = [gateway_pb2.Notice(code=notice.code, message=notice.message) for notice in self.script.notices]
        corrections = [
            Response.SpeakerCorrection(first_word=first, word_count=count, speaker_label=speaker)
            for first, count, speaker in self.script.corrections
        ]
        return [
            self._keep(utterance_end=Response.UtteranceEnd()),
            *(self._keep(notice=notice) for notice in notices),
            *(self._keep(speaker_correction=correction) for correction in corrections),
            self._keep(ended=Response.Ended(job_id=JOB if self.script.audio else "")),
        ]

    def _keep(self, **message: Any) -> Response:
        response = self._message(**message)
        response.event_number = len(self._events) + 1
        self._events.append(response)
        return response

    def _message(self, **message: Any) -> Response:
        seconds = len(self.script.audio) // 2 / 16_000
        offset = min(seconds, float(self._words))
        return Response(
            audio_offset=codec.encode_duration(offset),
            behind=codec.encode_duration(seconds - offset),
            received_bytes=len(self.script.audio),
            **message,
        )

    def _fail(self, fault: Fault, context: Any) -> None:
        if fault.error is not None:
            abort(context, fault.error)

    def GetJobResult(self, request: Any, context: Any) -> jobs_pb2.GetJobResultResponse:
        if request.job_id != JOB:
            abort(context, PreconditionFailed("no result", reason="NO_RESULT"))
        self.script.formats.append(list(request.formats))
        return jobs_pb2.GetJobResultResponse(result=codec.encode_result(self.result(request.formats)))

    def result(self, formats: Any) -> Any:
        """The result of the job."""
        recording = codec.encode_digest(Digest("a" * 64, max(1, len(self.script.audio))))
        config = gateway_pb2.TranscribeRequest.Config(recording=recording, formats=formats, display_name="live")
        return result_for(config, failed=self.script.failed_stage)


class LiveFixture:
    """The running gateway."""

    def __init__(self) -> None:
        self.script = LiveScript()
        self._gateway = LiveGateway(self.script)  # type: ignore[abstract]  # of the jobs, only results are read
        self._port = free_port()
        self.target = f"127.0.0.1:{self._port}"
        self._server = self._serve()

    def _serve(self) -> grpc.Server:
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        live_pb2_grpc.add_LiveServiceServicer_to_server(self._gateway, server)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(self._gateway, server)
        servicer = health.HealthServicer()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        server.add_insecure_port(self.target)
        server.start()
        return server

    def restart(self) -> None:
        """Ends calls in flight and serves again, with the same session."""
        self._server.stop(0).wait()
        self._server = self._serve()

    def stop(self) -> None:
        """Stops the server."""
        for event in (self.script.reading, self.script.result):
            if event is not None:
                event.set()
        self._server.stop(0.2).wait()
