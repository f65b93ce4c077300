"""Names and paths from callers never become paths, and break neither log lines nor result formats."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars

from careca import codec
from careca.errors import CarecaError, InvalidRequest
from careca.names import check_name
from careca.rpc.statuses import responses_of
from careca.telemetry import logs
from careca.telemetry.logs import get_logger
from careca.types import Digest, Job, JobPriority, JobState, OutputFormat, RecordingForm, Result, Turn, Utterance, Word
from careca.v1 import gateway_pb2, jobs_pb2, recordings_pb2
from careca_client.cli.commands import recording as recording_command
from careca_client.cli.commands import result as result_command
from careca_client.cli.output import files as output_files
from careca_client.cli.output import terminal
from careca_client.recording import open_recording
from careca_gateway.formats import render
from careca_gateway.request_codec import decode_request
from support.fakes import digest_of
from support.media import tone, wav
from support.stack import Config, Stack
from support.waiting import HANG_SECONDS

RECORDING = wav(tone(1.0))
NO_TEXT = "~no~text~"
"""Stands for bytes that are not text."""

HOSTILE = {
    "parent": "../../../../tmp/careca-escaped",
    "absolute": "/tmp/careca-escaped",
    "windows": "..\\..\\careca-escaped",
    "drive": "C:\\careca-escaped",
    "folder": "..",
    "nul": "a\0/tmp/careca-escaped",
    "line break": 'a\n{"event": "forged", "level": "info"}',
    "carriage return": "a\r\nforged: yes",
    "next line": "a\x85b\u2028c\u2029d",
    "escape": "\x1b[2J\x1b]0;owned\x07",
    "turned": "\u202egpj.exe\u2066",
    "tab": "a\tb",
    "arrow": "00:00:00,000 --> 00:00:09,000",
    "markup": "<v Eve>&amp;</v><script>",
    "long": "a" * 100_000,
    "wide": "\U0001f4a5" * 255,
    "format": "%s%n%x{0}${HOME}`id`$(id)",
    "glob": "*?[a-z]",
    "no text": NO_TEXT,
    "blank": "   ",
}


def config(**changes: Any) -> Config:
    return Config(recording=codec.encode_digest(digest_of(RECORDING)), **changes)


def submission(**changes: Any) -> jobs_pb2.SubmitJobRequest:
    return jobs_pb2.SubmitJobRequest(config=config(), **changes)


def known(name: str = "Ana", model: str = "fake-voices@0123456789ab") -> dict[str, Any]:
    return {"known_speakers": [{"name": name, "voice": {"embedding": [1.0, 0.0, 0.0], "embedding_model": model}}]}


def transcribing(**changes: Any) -> gateway_pb2.TranscribeRequest:
    return gateway_pb2.TranscribeRequest(config=config(formats=range(1, 8), **changes))


JOBS = "/careca.v1.JobService/"
RECORDINGS = "/careca.v1.RecordingService/"
TRANSCRIBE = "/careca.v1.GatewayService/Transcribe"
FIELDS: dict[str, tuple[str, Any]] = {
    "sha256": (
        TRANSCRIBE,
        lambda text: gateway_pb2.TranscribeRequest(config=Config(recording={"sha256": text, "size_bytes": 1})),
    ),
    "sha256 of an upload": (
        JOBS + "UploadRecording",
        lambda text: jobs_pb2.UploadRecordingRequest(config={"recording": {"sha256": text, "size_bytes": 1}}),
    ),
    "display name": (TRANSCRIBE, lambda text: transcribing(display_name=text)),
    "language": (TRANSCRIBE, lambda text: transcribing(transcription={"language_code": text})),
    "prompt": (TRANSCRIBE, lambda text: transcribing(transcription={"initial_prompt": text})),
    "hotword": (TRANSCRIBE, lambda text: transcribing(transcription={"hotwords": [text]})),
    "known speaker": (TRANSCRIBE, lambda text: transcribing(**known(name=text))),
    "embedding model": (TRANSCRIBE, lambda text: transcribing(**known(model=text))),
    "display name of a job": (
        JOBS + "SubmitJob",
        lambda text: jobs_pb2.SubmitJobRequest(config=config(display_name=text)),
    ),
    "request id": (JOBS + "SubmitJob", lambda text: submission(request_id=text)),
    "webhook": (JOBS + "SubmitJob", lambda text: submission(webhook_url=text)),
    "job": (JOBS + "GetJob", lambda text: jobs_pb2.GetJobRequest(job_id=text)),
    "watched job": (JOBS + "WatchJob", lambda text: jobs_pb2.WatchJobRequest(job_id=text)),
    "job's result": (JOBS + "GetJobResult", lambda text: jobs_pb2.GetJobResultRequest(job_id=text)),
    "cancelled job": (JOBS + "CancelJob", lambda text: jobs_pb2.CancelJobRequest(job_id=text)),
    "retried job": (JOBS + "RetryJob", lambda text: jobs_pb2.RetryJobRequest(job_id=text)),
    "deleted job": (JOBS + "DeleteJob", lambda text: jobs_pb2.DeleteJobRequest(job_id=text)),
    "read job": (RECORDINGS + "ReadRecording", lambda text: recordings_pb2.ReadRecordingRequest(job_id=text, form=1)),
    "drawn job": (RECORDINGS + "GetWaveform", lambda text: recordings_pb2.GetWaveformRequest(job_id=text)),
    "page": (JOBS + "ListJobs", lambda text: jobs_pb2.ListJobsRequest(page_token=text)),
}

ALLOWED_FILE = re.compile(
    r"owner\.lock|waveforms/[0-9a-f]{64}\.i8|(recordings|audio|decoded)/[0-9a-f]{64}(\.s16|\.(mix|separate)(\.[0-9]+|\.all|\.each)?\.json)?"
    r"|jobs/(results|stages|specs|texts)/[0-9a-f]{1,64}(/[0-9a-z._-]{1,100})?"
)


class Lines:
    """Captures the log as a service writes it: each event in both forms."""

    def __init__(self, written: Sequence[io.StringIO]) -> None:
        self._written = written
        self._read = [0 for _ in written]

    def read(self) -> list[str]:
        """Returns what was logged since the last call."""
        new = [each.getvalue()[read:] for each, read in zip(self._written, self._read, strict=True)]
        self._read = [read + len(text) for read, text in zip(self._read, new, strict=True)]
        return [line for text in new for line in text.split("\n")[:-1]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written, both = [], []
    for form in ("json", "console"):
        written.append(io.StringIO())
        monkeypatch.setattr("sys.stderr", written[-1])
        logs.configure("info", form)
        both += root.handlers
    root.handlers[:] = both
    yield Lines(written)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
async def stack(tmp_path: Path, redis_url: str) -> AsyncIterator[Stack]:
    async with Stack(tmp_path / "gateway", redis_url, jobs=True) as running, running.caller() as caller:
        await caller.transcribe(RECORDING)
        yield running


async def send(stack: Stack, method: str, message: Any, metadata: tuple[tuple[str, str], ...] = ()) -> str:
    """Returns the answer as Careca's own status. Sends raw bytes, so that they need not be text."""
    raw = message.SerializeToString().replace(NO_TEXT.encode(), b"\xff\xed\xa0\x80\xc0\xaf\xfe\xfe\xfe")

    async def requests() -> AsyncIterator[bytes]:
        yield raw

    async with grpc.aio.insecure_channel(stack.target) as channel:
        call = channel.stream_stream(method)(requests(), timeout=HANG_SECONDS, metadata=metadata)
        try:
            async for _ in responses_of(call):
                pass
        except CarecaError as error:
            return error.status
    return "OK"


@pytest.mark.parametrize("field", FIELDS)
async def test_texts_of_callers_never_become_paths_or_second_lines(
    field: str, stack: Stack, lines: Lines, tmp_path: Path
) -> None:
    method, message = FIELDS[field]
    for text in HOSTILE.values():
        lines.read()

        status = await send(stack, method, message(text))

        assert status in ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"), text[:50]
        written = lines.read()
        assert all(line.isprintable() or "\x1b[0m" in line for line in written), written
        assert not any(line.startswith(("forged", '{"event": "forged"')) for line in written)
        assert not any("\x1b[2J" in line or "\u202e" in line for line in written)
    assert files_of_others(tmp_path, stack.store) == []
    assert not await asyncio.to_thread(Path("/tmp/careca-escaped").exists)


def files_of_others(folder: Path, store: Path) -> list[str]:
    """Returns files in ``folder`` whose place or name is not that of a store's file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        str(path)
        for path in files
        if not path.is_relative_to(store) or not ALLOWED_FILE.fullmatch(str(path.relative_to(store)))
    ]


@pytest.mark.parametrize("key", ["x-request-id", "x-careca-submitter", "authorization"])
async def test_metadata_never_becomes_a_path_or_a_second_line(
    key: str, stack: Stack, lines: Lines, tmp_path: Path
) -> None:
    for text in ("../../x", "/tmp/careca-escaped", "a" * 5_000, "a b", '"}{"event": "forged"', "%s%n", " ", "\\n"):
        await send(stack, JOBS + "ListJobs", jobs_pb2.ListJobsRequest(), ((key, text),))
        status = await send(stack, JOBS + "SubmitJob", submission(), ((key, text),))
        assert status in ("OK", "INVALID_ARGUMENT", "UNAUTHENTICATED"), text
    assert all(line.isprintable() or "\x1b[0m" in line for line in lines.read())
    assert files_of_others(tmp_path, stack.store) == []


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_any_logged_text_stays_one_harmless_line(text: str, lines: Lines) -> None:
    with bound_contextvars(request_id=text):
        get_logger("test").info(text, name=text, several=[text], **{"of_a_kind": {text: text}})

    in_json, in_console = lines.read()
    assert json.loads(in_json)["name"] == text
    assert "name=" in re.sub(r"\x1b\[\d*m", "", in_console)
    for code in ("\x1b[2J", "\x07", "\r", "\0", "\x85", "\u2028", "\u202e"):
        assert code not in in_json + in_console


def names() -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), max_size=120)


def accepted(name: str) -> bool:
    try:
        decode_request(config(display_name=name, **known(name=name)))
    except InvalidRequest:
        return False
    return True


@given(names(), names())
@example("00:00:00,000 --> 00:00:09,000", "00:00:01.000 --> 00:00:02.000")
@example("<v Eve>x</v>", "a & b")
@example("..", "-->")
@example("\u200f", "\u200b")
@example(";; x", ";;")
@example("\ufeff", "\u00a0x")
def test_an_accepted_name_breaks_no_format(name: str, speaker: str) -> None:
    if not accepted(name) or not accepted(speaker):
        return
    forms = {form: render(said_by(speaker), form, name) for form in OutputFormat}

    assert json.loads(forms[OutputFormat.JSON])["name"] == name
    assert forms[OutputFormat.TXT].count("\n") == len(forms[OutputFormat.TXT].splitlines()) == 2
    for form, columns in ((OutputFormat.RTTM, 10), (OutputFormat.STM, 8)):
        assert [len(line.split()) for line in forms[form].splitlines()] == [columns] * 2, form
    rows = list(csv.reader(io.StringIO(forms[OutputFormat.TSV]), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [len(row) for row in rows] == [4] * 3
    assert forms[OutputFormat.SRT].count("-->") == forms[OutputFormat.VTT].count("-->") == 2
    assert len(forms[OutputFormat.SRT].split("\n\n")) == 2
    assert len(re.findall(r"<v [^<>\n]+>[^<>]*</v>\n", forms[OutputFormat.VTT])) == 2
    assert len(forms[OutputFormat.VTT].split("\n\n")) == 3


def said_by(speaker: str) -> Result:
    words = tuple(Word(text, start, start + 0.4, 0.9, speaker) for text, start in (("ten", 0.0), ("--> two", 0.5)))
    first = Utterance(0.0, 1.0, "ten --> two", speaker, words)
    later = replace(first, start=5.0, end=6.0, words=tuple(replace(word, start=5.0, end=5.5) for word in words))
    digest = Digest("a" * 64, 1)
    turns = (Turn(0.0, 1.0, speaker), Turn(5.0, 6.0, speaker))
    return Result(digest, digest, 6.0, (), utterances=(first, later), turns=turns, exclusive_turns=turns)


def job_called(name: str) -> Job:
    return Job(
        id="0" * 20,
        state=JobState.SUCCEEDED,
        recording=Digest("a" * 64, 1),
        display_name=name,
        submitter="anonymous",
        priority=JobPriority.BATCH,
        request_id="one",
        create_unix=0.0,
        start_unix=None,
        end_unix=None,
        stages=(),
        attempts=(),
    )


JOB_NAMES = [*HOSTILE.values(), ".", "/", "", "a/..", "\u00e9" * 255, "a" * 255, "." * 255]


@pytest.mark.parametrize("name", JOB_NAMES)
def test_the_name_of_a_job_does_not_choose_the_folder_of_its_result(name: str, tmp_path: Path) -> None:
    if not accepted_as_display_name(name):
        return
    folder = tmp_path / "results"

    files = result_command._plan_files(job_called(name), list(OutputFormat), f"{folder}/")

    for path in files.values():
        assert path.resolve().parent == folder.resolve()
        output_files.write_file(path, "text", overwrite=False)
    assert len(list(folder.iterdir())) == len(OutputFormat)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", JOB_NAMES)
def test_the_name_of_a_job_does_not_choose_the_folder_of_its_recording(name: str, tmp_path: Path) -> None:
    if not accepted_as_display_name(name):
        return
    folder = tmp_path / "recordings"

    for form in RecordingForm:
        path = recording_command._plan_file(job_called(name), f"{folder}/", form)
        assert path.resolve().parent == folder.resolve()


def accepted_as_display_name(name: str) -> bool:
    try:
        check_name(name, 255, "name")
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("name", [b"a\nb.wav", b"\x1b[2J.wav", b"\xff\xfe.wav", "\u202ex.wav".encode(), b"a" * 250])
def test_a_file_with_any_name_can_be_sent_and_shown(name: bytes, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(RECORDING)

    with open_recording(path) as recording:
        check_name(recording.name, 255, "display_name")

    (planned,) = output_files.plan_names([path.name], [OutputFormat.TXT], [])
    output_files.write_file(tmp_path / f"{planned}.txt", "text", overwrite=False)
    assert terminal.line("is there", path.name).isprintable()


def test_joining_characters_are_allowed_in_names() -> None:
    for name in ("\u200f\u05d0\u05d1", "\U0001f469\u200d\U0001f52c", "e\u0301", "\u0646\u200c\u0645"):
        check_name(name, 255, "name")
