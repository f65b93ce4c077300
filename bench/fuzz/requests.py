"""Damaged requests to real servers: messages that were valid, twisted field by field or byte by byte, and sent raw.

Every answer must be one that the protos promise: a result, or a status with Careca's own details.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from bench.fuzz.mutations import mutated
from careca.errors import CarecaError
from careca.rpc.statuses import responses_of
from careca.v1 import (
    admin_pb2,
    audio_pb2,
    diarizer_pb2,
    gateway_pb2,
    jobs_pb2,
    recordings_pb2,
    transcriber_pb2,
    transcripts_pb2,
    voices_pb2,
)

AT_ONCE = 24
"""Calls in flight: more than the services take at once."""

TIMEOUT_SECONDS = 240.0
"""A call that takes longer hangs."""

BROKEN = "broken~utf~8"
"""Stands in strings for bytes that are none; as long as ``BROKEN_BYTES``."""

BROKEN_BYTES = b"\xff\xfe\xed\xa0\x80\xc0\xaf\xf8\x80\x80\x80\x80"

NASTY_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "../../../etc/passwd",
        "/etc/passwd",
        "C:\\x\\..\\y",
        "a\nb",
        "a\r\nb: c",
        "\x1b[2J\x1b]0;x\x07",
    ),
    *("\u202etxt.exe", "\u2028", "\ufeff", "--> <v x>", "%s%n{0}${x}`id`", "a" * 300, "a" * 5_000, "\U0001f4a5" * 260),
    *("{", "NaN", "-1", "SPEAKER_00", "0" * 16, "f" * 64, "0" * 64, "http://169.254.169.254/", "http://[::1]:1/"),
    *("http://\0/", "file:///etc/passwd", "http://a@b:99999/", BROKEN, f"en{BROKEN}"),
)
_NASTY_NUMBERS = (
    *(0, 1, -1, 2, 50, 51, 10**9, -(10**9), 2**31 - 1, -(2**31), 2**31, 2**32 - 1),
    *(2**63 - 1, -(2**63), 2**64 - 1),
)
_NASTY_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e38, -1e38, 1e-45, float("nan"), float("inf"), float("-inf"))

_FLOATS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that is valid: the full name of its method, and what is sent."""

    method: str
    messages: tuple[Message, ...]
    weight: int = 10
    """How often it is chosen: rarely what gives memory back, or decodes."""


def gateway_calls(recording: bytes, job_ids: Sequence[str]) -> list[Call]:
    """One or more of every method of the gateway, about a recording that it has and jobs that there are."""
    config, spoken = _config(recording), _config(recording)
    spoken.known_speakers.add(name="Ana", recording=recording)
    chunks = [recording[start : start + 4_000] for start in range(0, len(recording), 4_000)]
    transcribe, upload, admin = (
        gateway_pb2.TranscribeRequest,
        jobs_pb2.UploadRecordingRequest,
        "/careca.v1.AdminService/",
    )
    jobs, job_id, other, third = "/careca.v1.JobService/", *job_ids
    voices = "/careca.v1.VoiceService/"
    submission = jobs_pb2.SubmitJobRequest(request_id="one", config=config, priority=jobs_pb2.JOB_PRIORITY_BATCH)
    return [
        Call(
            "/careca.v1.GatewayService/Transcribe",
            (transcribe(config=config), *(transcribe(recording_chunk=chunk) for chunk in chunks)),
            30,
        ),
        Call("/careca.v1.GatewayService/Transcribe", (transcribe(config=spoken),), 1),
        Call(
            jobs + "UploadRecording",
            (
                upload(config=upload.Config(recording=_digest(recording))),
                *(upload(recording_chunk=chunk) for chunk in chunks),
            ),
        ),
        Call(jobs + "SubmitJob", (submission,), 20),
        Call(jobs + "GetJob", (jobs_pb2.GetJobRequest(job_id=job_id),)),
        Call(
            jobs + "ListJobs",
            (
                _read(
                    jobs_pb2.ListJobsRequest(),
                    page_size=5,
                    page_token=job_id,
                    states=[1, 4],
                    query="one two",
                    created_from="1970-01-01T00:00:01Z",
                ),
            ),
        ),
        Call(jobs + "WatchJob", (jobs_pb2.WatchJobRequest(job_id=job_id, cursor="0"),)),
        Call(jobs + "GetJobResult", (_read(jobs_pb2.GetJobResultRequest(), job_id=job_id, formats=list(range(1, 8))),)),
        *_transcript_calls(job_id),
        Call(jobs + "CancelJob", (jobs_pb2.CancelJobRequest(job_id=other),)),
        Call(jobs + "RetryJob", (jobs_pb2.RetryJobRequest(job_id=other),)),
        Call(jobs + "DeleteJob", (jobs_pb2.DeleteJobRequest(job_id=third),)),
        Call(jobs + "ClearJobs", (jobs_pb2.ClearJobsRequest(),), 1),
        *_recording_calls("/careca.v1.RecordingService/", job_id),
        Call(voices + "SaveVoice", (voices_pb2.SaveVoiceRequest(name="Ana", voice=config.known_speakers[0].voice),)),
        Call(
            voices + "SaveVoice",
            (_read(voices_pb2.SaveVoiceRequest(name="Bob"), job_speaker={"job_id": job_id, "speaker_label": "A"}),),
        ),
        Call(voices + "ListVoices", (voices_pb2.ListVoicesRequest(),)),
        Call(voices + "DeleteVoice", (voices_pb2.DeleteVoiceRequest(name="Ana"),)),
        *_admin_calls(admin, admin_pb2.StatsRequest(), admin_pb2.ClearCacheRequest()),
        Call(admin + "ReleaseMemory", (_read(admin_pb2.ReleaseMemoryRequest(), stages=[2, 3]),), 1),
    ]


def _recording_calls(recordings: str, job_id: str) -> list[Call]:
    forms = (recordings_pb2.RECORDING_FORM_ORIGINAL, recordings_pb2.RECORDING_FORM_PLAYABLE)
    drawn = _read(recordings_pb2.GetWaveformRequest(), job_id=job_id, start_offset="0.1s", end_offset="1s")
    return [
        *(
            Call(
                recordings + "ReadRecording",
                (recordings_pb2.ReadRecordingRequest(job_id=job_id, form=form, offset=10, length=1000),),
            )
            for form in forms
        ),
        Call(recordings + "GetWaveform", (drawn,)),
    ]


def transcriber_calls(audio: bytes) -> list[Call]:
    """Every method of the transcriber, about that audio."""
    request, service = transcriber_pb2.TranscriberServiceTranscribeRequest, "/careca.v1.TranscriberService/"
    config = request.Config(audio=_digest(audio), options=_config(audio).transcription)
    config.cache_control.skip_cache = True
    return [
        Call(
            service + "Transcribe",
            (request(config=config), *(request(audio_chunk=part) for part in _halves(audio))),
            40,
        ),
        *_admin_calls(
            service,
            transcriber_pb2.TranscriberServiceStatsRequest(),
            transcriber_pb2.TranscriberServiceClearCacheRequest(),
        ),
        Call(service + "ReleaseMemory", (transcriber_pb2.TranscriberServiceReleaseMemoryRequest(),), 1),
    ]


def diarizer_calls(audio: bytes) -> list[Call]:
    """Every method of the diarizer, about that audio."""
    request, service = diarizer_pb2.DiarizeRequest, "/careca.v1.DiarizerService/"
    config = request.Config(audio=_digest(audio), options=_config(audio).diarization)
    return [
        Call(
            service + "Diarize", (request(config=config), *(request(audio_chunk=part) for part in _halves(audio))), 40
        ),
        *_admin_calls(
            service, diarizer_pb2.DiarizerServiceStatsRequest(), diarizer_pb2.DiarizerServiceClearCacheRequest()
        ),
        Call(service + "ReleaseMemory", (diarizer_pb2.DiarizerServiceReleaseMemoryRequest(),), 1),
    ]


def _transcript_calls(job_id: str) -> list[Call]:
    """Every method that corrects the transcript of that job."""
    service = "/careca.v1.TranscriptService/"
    utterance = {
        "start_offset": "0.1s",
        "end_offset": "0.5s",
        "speaker_label": "Ana",
        "text": "one two",
        "language_code": "en",
        "words": [{"text": "one", "start_offset": "0.1s", "end_offset": "0.2s", "probability": 0.5}],
    }
    edits = [
        {"replace_utterances": {"index": 0, "count": 1, "utterances": [utterance]}},
        {"rename_speaker": {"speaker_label": "Ana", "new_name": "Bea", "merge": True}},
    ]
    return [
        Call(
            service + "SaveTranscript",
            (_read(transcripts_pb2.SaveTranscriptRequest(), job_id=job_id, base_revision=0, edits=edits),),
            30,
        ),
        Call(service + "ListRevisions", (transcripts_pb2.ListRevisionsRequest(job_id=job_id),)),
        Call(
            service + "RestoreRevision",
            (transcripts_pb2.RestoreRevisionRequest(job_id=job_id, base_revision=1, revision=0),),
        ),
    ]


def _admin_calls(service: str, stats: Message, clear: Message) -> list[Call]:
    return [Call(service + "Stats", (stats,), 4), Call(service + "ClearCache", (_read(clear, scope=1),), 2)]


def _digest(data: bytes) -> audio_pb2.Digest:
    return audio_pb2.Digest(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def _halves(audio: bytes) -> tuple[bytes, bytes]:
    return audio[: len(audio) // 2], audio[len(audio) // 2 :]


M = TypeVar("M", bound=Message)


def _read(message: M, **fields: Any) -> M:
    """``message`` with those fields, as JSON has them."""
    return ParseDict(fields, message)


def _config(recording: bytes) -> gateway_pb2.TranscribeRequest.Config:
    """All that can be asked for, but what cannot be asked for together."""
    return _read(
        gateway_pb2.TranscribeRequest.Config(recording=_digest(recording)),
        display_name="call.wav",
        transcription={"language_code": "en", "initial_prompt": "Careca", "hotwords": ["one", "two"], "beam_size": 2},
        diarization={"min_speaker_count": 1, "max_speaker_count": 3},
        cache_control={"skip_cache": False},
        formats=list(range(1, 8)),
        channel_mode=1,
        audio_track=1,
        use_saved_voices=True,
        known_speakers=[{"name": "Bob", "voice": {"embedding": [0.6, 0.8], "embedding_model": "timed@000000000000"}}],
    )


class Requester:
    """Sends damaged calls to one server.

    Args:
        target: where it is.
        calls: what is damaged.
        seed: of all chance here.
    """

    def __init__(self, target: str, calls: Sequence[Call], seed: str) -> None:
        self._target = target
        self._calls = calls
        self._seed = seed
        self.outcomes: Counter[str] = Counter()
        self.faults: list[str] = []
        """What must not be answered, with what was sent, for those who look into it."""

    async def send(self, numbers: range) -> None:
        """Sends the damaged calls of those numbers; which they are depends on the seed alone."""
        waiting = iter(numbers)
        options = [("grpc.max_metadata_size", 1 << 20), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._target, options=options) as channel:
            await asyncio.gather(*(self._send_some(channel, waiting) for _ in range(AT_ONCE)))

    async def _send_some(self, channel: grpc.aio.Channel, numbers: Any) -> None:
        for number in numbers:
            chance = random.Random(f"{self._seed}/{number}")
            call = chance.choices(self._calls, [each.weight for each in self._calls])[0]
            messages = damaged_messages(call.messages, chance)
            outcome = await answer_to(channel, call.method, messages, damaged_metadata(chance), chance)
            self.outcomes[outcome] += 1
            if is_fault(outcome):
                self.faults.append(f"{outcome}: {self._seed}/{number} {call.method} {messages!r:.300}")


_FAULT = re.compile(r"(INTERNAL|UNKNOWN|HUNG|WRONG)\b")
"""Whole words: UNKNOWN_AUDIO_TRACK_CODEC, for example, is a reason that the protos promise."""


def is_fault(outcome: str) -> bool:
    """Whether no caller should ever be answered so."""
    return bool(_FAULT.match(outcome))


def damaged_messages(messages: Sequence[Message], chance: random.Random) -> list[bytes]:
    """The stream of ``messages``, some of them twisted, out of order, more or fewer of them, or not even messages."""
    sent = [type(message).FromString(message.SerializeToString()) for message in messages]
    for _ in range(chance.choice((0, 1, 1, 1, 2, 4))):
        twist(chance.choice(sent[:1] * 3 + sent), chance)
    raw = [message.SerializeToString().replace(BROKEN.encode(), BROKEN_BYTES) for message in sent]
    if chance.random() < 0.4:
        at = 0 if chance.random() < 0.7 else chance.randrange(len(raw))
        raw[at] = mutated(raw[at], chance, raw)
    if chance.random() < 0.15:
        chance.shuffle(raw)
    if chance.random() < 0.1:
        raw.insert(chance.randrange(len(raw) + 1), chance.randbytes(chance.choice((0, 1, 8, 300, 70_000))))
    if chance.random() < 0.1:
        del raw[chance.randrange(len(raw)) :]
    return raw


def twist(message: Message, chance: random.Random) -> None:
    """Sets one field of ``message``, at whatever depth, to something that somebody should have thought of."""
    if not message.DESCRIPTOR.fields:
        return
    field: Any = chance.choice(list(message.DESCRIPTOR.fields))
    if chance.random() < 0.1:
        message.ClearField(field.name)
    elif field.is_repeated:
        _twist_repeated(getattr(message, field.name), field, chance)
    elif field.message_type:
        inner = getattr(message, field.name)
        inner.SetInParent()
        twist(inner, chance)
    else:
        _set(message, field, chance)


def _twist_repeated(values: Any, field: FieldDescriptor, chance: random.Random) -> None:
    count = chance.choice((1, 1, 2, 60, 200))
    if field.message_type:
        for _ in range(count):
            twist(values.add() if count > 1 or not values else chance.choice(values), chance)
        return
    for _ in range(count):
        try:
            values.append(_nasty(field, chance))
        except (ValueError, TypeError):  # the field cannot hold it
            values.append("" if field.type == FieldDescriptor.TYPE_STRING else 0)


def _set(message: Message, field: FieldDescriptor, chance: random.Random) -> None:
    try:
        setattr(message, field.name, _nasty(field, chance))
    except (ValueError, TypeError):  # the field cannot hold it
        message.ClearField(field.name)


def _nasty(field: FieldDescriptor, chance: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return chance.choice(NASTY_TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.randbytes(chance.choice((0, 1, 100, 5_000)))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return chance.random() < 0.5
    return chance.choice(_NASTY_FLOATS if field.type in _FLOATS else _NASTY_NUMBERS)


def damaged_metadata(chance: random.Random) -> tuple[tuple[str, str | bytes], ...]:
    """Metadata, mostly none, else strange values under the keys that are looked at."""
    if chance.random() < 0.7:
        return ()
    key = chance.choice(
        ("x-request-id", "x-careca-submitter", "authorization", "grpc-trace-bin", "x-strange-bin", "x-y")
    )
    if key.endswith("-bin"):
        return ((key, chance.randbytes(chance.choice((0, 1, 30, 3_000)))),)
    text = chance.choice(
        (
            "",
            " ",
            "a b",
            "../../x",
            "/",
            "%00",
            "a" * 200,
            "a" * 4_000,
            "{}",
            "Bearer",
            "Bearer x",
            '"',
            "\\n",
            "-" * 65,
        )
    )
    return ((key, text),) * chance.choice((1, 1, 2))


async def answer_to(
    channel: grpc.aio.Channel,
    method: str,
    messages: Sequence[bytes],
    metadata: Sequence[tuple[str, str | bytes]],
    chance: random.Random,
) -> str:
    """What the server answers, named so that outcomes can be counted; a few callers do not wait for it."""

    async def requests() -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    patience = chance.choice((0.0, 0.001, 0.02)) if chance.random() < 0.03 else TIMEOUT_SECONDS
    sending: Any = channel.stream_stream(method)  # of bytes, of which the stubs know nothing
    call = sending(requests(), metadata=metadata, timeout=patience)
    try:
        async for _ in responses_of(call):
            pass
    except CarecaError as error:
        if patience == TIMEOUT_SECONDS and error.status == "DEADLINE_EXCEEDED" and error.reason == error.default_reason:
            return "HUNG"
        if "received metadata size exceeds" in error.message:  # gRPC's own refusal, which has none of our details
            return "RESOURCE_EXHAUSTED too much metadata"
        told = f": {error.message}" if error.status in ("INTERNAL", "UNKNOWN") else ""
        return f"{error.status} {error.reason}{told}"
    except asyncio.CancelledError:
        if not call.cancelled():
            raise  # somebody ends all of this
        return "UNKNOWN: taken back by gRPC" if patience == TIMEOUT_SECONDS else "CANCELLED by the caller"
    return "OK"
