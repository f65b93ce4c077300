"""Decodes recordings in separate processes. ``careca_gateway.decoding.process`` is what runs in such a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio import StreamReader
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from careca.errors import CarecaError, InternalError, InvalidRecording, Overloaded, PreconditionFailed
from careca.telemetry.logs import get_logger
from careca.types import SAMPLE_RATE, AudioTracks, ChannelMode, Digest, Notice
from careca_gateway.decoding.sandbox import AUTO, SECCOMP
from careca_gateway.request import AudioSelection
from careca_gateway.storage.decoded_record import DecodedRecord

CHILD = ("-I", "-m", "careca_gateway.decoding.process")
"""Arguments for the Python of the process. ``-I`` isolates it from this process's paths and settings."""

MAX_CHANNELS = 8
"""The maximum number of channels that are separated, and of tracks that are used together. Each one takes as much
computing as a whole recording."""

TRACK_REASONS = frozenset(
    {
        "NO_SUCH_AUDIO_TRACK",
        "SINGLE_AUDIO_TRACK",
        "IDENTICAL_AUDIO_TRACKS",
        "TOO_MANY_AUDIO_TRACKS",
        "UNKNOWN_AUDIO_TRACK_CODEC",
    }
)
"""Reasons to refuse the requested audio tracks."""

SELECTION_REASONS = frozenset({"SINGLE_CHANNEL", "IDENTICAL_CHANNELS", "TOO_MANY_CHANNELS", *TRACK_REASONS})
"""Reasons to refuse an audio selection. Another selection of the same recording may work."""

_STDERR_BYTES = 8192
"""How much of a failed decoder's error output is logged."""

_log = get_logger(__name__)


def files_needed(selection: AudioSelection) -> int:
    """Returns the number of files that decoding the selection needs. Some may stay empty."""
    several = selection.channel_mode is ChannelMode.SEPARATE or selection.audio_track in (
        AudioTracks.ALL,
        AudioTracks.EACH,
    )
    return MAX_CHANNELS if several else 1


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """The limits for decoding one recording."""

    memory_bytes: int
    """Address space of the process."""
    cpu_seconds: int
    timeout_seconds: float
    """Wall-clock time."""
    max_audio_seconds: float


class Decoder:
    """Decodes any recording that FFmpeg reads to 16 kHz mono s16le PCM, a bounded number of recordings at a time.

    Args:
        limits: the limits for each recording.
        slots: the number of recordings decoded at the same time.
        sandbox_mode: how the processes are isolated: see ``careca_gateway.decoding.sandbox``.
    """

    def __init__(self, limits: DecodeLimits, *, slots: int, sandbox_mode: str = AUTO) -> None:
        self._limits = limits
        self._sandbox_mode = sandbox_mode
        self._slots = asyncio.Semaphore(slots)
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """The number of recordings that wait for a slot."""
        return self._waiting

    async def sandbox_layers(self) -> Sequence[str]:
        """Starts a decoder to find out which layers of the sandbox are active here. Returns and logs them.

        Raises ``PreconditionFailed`` (NOT_CONFINED) if the sandbox is required and the kernel does not allow it.
        """
        report = await self._run(Path(os.devnull), AudioSelection(), [], lambda _: None)
        layers: list[str] = report["sandbox_layers"]
        log = _log.info if SECCOMP in layers or self._sandbox_mode != AUTO else _log.warning
        log("how decoders are confined", layers=layers, confinement=self._sandbox_mode)
        return layers

    async def decode(
        self, recording: Path, selection: AudioSelection, drafts: Sequence[Path], emit: Callable[[float], None]
    ) -> DecodedRecord:
        """Decodes the selection of ``recording``. Emits the fraction that is done.

        Writes to the first of ``drafts``, of which there must be as many as ``files_needed`` returns. Cancelling kills
        the process.

        Raises ``InvalidRecording`` with the reason NO_AUDIO, NOT_A_RECORDING, EMPTY_AUDIO, RECORDING_TOO_LONG,
        DECODE_LIMIT_EXCEEDED or one of ``SELECTION_REASONS``, and ``Overloaded`` if the disk is full.
        """
        async with self._slot():
            try:
                async with asyncio.timeout(self._limits.timeout_seconds):
                    report = await self._run(recording, selection, drafts, emit)
            except TimeoutError:
                raise _limit_exceeded("time") from None
        notices = tuple(Notice(**each) for each in report["notices"])
        if notices:
            _log.info(
                "noticed while decoding",
                recording=recording.name,
                notices=[each.code for each in notices],
                raised_db=report["raised_db"],
            )
        return DecodedRecord(tuple(Digest(**each) for each in report["audio"]), notices)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _run(
        self, recording: Path, selection: AudioSelection, drafts: Sequence[Path], emit: Callable[[float], None]
    ) -> dict[str, Any]:
        """Runs a process and returns its last report. Raises the error that it reports, or by which it ended."""
        process = await self._start(recording, selection, drafts)
        try:
            return await last_report(process, emit)
        finally:
            await kill(process)

    async def _start(self, recording: Path, selection: AudioSelection, drafts: Sequence[Path]) -> Process:
        """Starts a process that inherits only the recording, as its standard input, and the files to write to."""
        with ExitStack() as files:
            source = files.enter_context(await asyncio.to_thread(recording.open, "rb"))
            targets = [files.enter_context(await asyncio.to_thread(path.open, "w+b")).fileno() for path in drafts]
            options = {"track": selection.audio_track, "separate": selection.channel_mode is ChannelMode.SEPARATE}
            return await self._start_process(source, targets, options)

    async def start_stream(self, output: int) -> Process:
        """Starts a process that decodes a recording that is still being made.

        It reads the recording from its standard input, and writes PCM to the file descriptor ``output``. The caller
        waits for its ``last_report``, and kills it in the end.
        """
        return await self._start_process(PIPE, [output], {"stream": True})

    async def _start_process(self, source: IO[bytes] | int, outputs: Sequence[int], options: dict[str, Any]) -> Process:
        common = {
            "output_fds": outputs,
            "memory_bytes": self._limits.memory_bytes,
            "cpu_seconds": self._limits.cpu_seconds,
            "max_samples": int(self._limits.max_audio_seconds * SAMPLE_RATE),
            "sandbox_mode": self._sandbox_mode,
        }
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *CHILD, json.dumps(common | options)),
            stdin=source,
            stdout=PIPE,
            stderr=PIPE,
            pass_fds=outputs,
            env={},
            cwd="/",
        )


async def last_report(process: Process, emit: Callable[[float], None]) -> dict[str, Any]:
    """Emits the fractions that the process reports. Returns its last report when it has ended.

    Raises the error that it reports, or by which it ended.
    """
    report: dict[str, Any]
    report, stderr = await asyncio.gather(
        _read_reports(cast("StreamReader", process.stdout), emit),
        _read_stderr(cast("StreamReader", process.stderr)),
    )
    status = await process.wait()
    if not report.keys() & {"audio", "sandbox_layers"}:
        raise decoder_error(report, status, stderr)
    return report


async def kill(process: Process) -> None:
    """Ends the process if it still runs."""
    if process.returncode is None:
        process.kill()
        await process.wait()


async def _read_reports(output: StreamReader, emit: Callable[[float], None]) -> dict[str, Any]:
    """Emits the fractions that the process reports. Returns the last report, empty if there is none."""
    report: dict[str, Any] = {}
    async for line in output:
        report = json.loads(line)
        if "fraction" in report:
            emit(report["fraction"])
    return report


async def _read_stderr(errors: StreamReader) -> str:
    """Reads all of the error output and returns its beginning."""
    beginning = b""
    while chunk := await errors.read(_STDERR_BYTES):
        beginning = (beginning + chunk)[:_STDERR_BYTES]
    return beginning.decode(errors="replace")


def decoder_error(report: dict[str, Any], status: int, stderr: str) -> CarecaError:
    """Returns the error for a process that ended without a result: by its last report, exit status and error output."""
    match report.get("reason"):
        case "STORE_FULL":
            return Overloaded(report["message"], reason="STORE_FULL", retry_after_seconds=60.0)
        case "NOT_CONFINED":
            return PreconditionFailed(
                f"{report['message']}; with CARECA_DECODE_CONFINED=auto it decodes without the filter",
                reason="NOT_CONFINED",
            )
        case str(reason):
            field = "config.audio_track" if reason in TRACK_REASONS else ""
            return InvalidRecording(report["message"], reason=reason, field=field)
    _log.warning("the decoder died", status=status, fault=stderr)
    return _error_of_status(status)


def _error_of_status(status: int) -> CarecaError:
    """Returns the error for a process that exited (status > 0) or was ended by a signal (status < 0)."""
    if status in (-signal.SIGKILL, -signal.SIGXCPU):
        return _limit_exceeded("processor time or memory")
    if status < 0:
        return InvalidRecording(
            "the recording cannot be read: the decoder crashed on it; converting it to WAV or MP3 may help",
            reason="NOT_A_RECORDING",
        )
    return InternalError(f"the decoder ended with status {status}")


def _limit_exceeded(what: str) -> InvalidRecording:
    return InvalidRecording(
        f"decoding the recording takes more {what} than is allowed; send only its sound, as WAV, MP3 or M4A",
        reason="DECODE_LIMIT_EXCEEDED",
    )
