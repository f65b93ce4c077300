"""Decodes recordings in processes of their own: see ``careca_gateway.decoding.process`` for what runs there."""

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
from typing import Any, cast

from careca.errors import CarecaError, InternalError, InvalidRecording, Overloaded, PreconditionFailed
from careca.telemetry.logs import get_logger
from careca.types import SAMPLE_RATE, AudioTracks, ChannelMode, Digest, Notice
from careca_gateway.decoding.sandbox import AUTO, SECCOMP
from careca_gateway.request import AudioSelection
from careca_gateway.storage.decoded_record import DecodedRecord

CHILD = ("-I", "-m", "careca_gateway.decoding.process")
"""What the Python of the process is told to run: isolated from paths and settings of this one."""

MAX_CHANNELS = 8
"""Most channels that are separated, and most tracks that are used together; each is as much work as a recording of its
own."""

TRACK_REASONS = frozenset(
    {
        "NO_SUCH_AUDIO_TRACK",
        "SINGLE_AUDIO_TRACK",
        "IDENTICAL_AUDIO_TRACKS",
        "TOO_MANY_AUDIO_TRACKS",
        "UNKNOWN_AUDIO_TRACK_CODEC",
    }
)
"""Why the audio tracks that were asked for may be refused."""

SELECTION_REASONS = frozenset({"SINGLE_CHANNEL", "IDENTICAL_CHANNELS", "TOO_MANY_CHANNELS", *TRACK_REASONS})
"""Why a sound of a recording may be refused of which another one is fine."""

_FAULT_BYTES = 8192
"""How much of what a failed decoder writes about itself goes to the log."""

_log = get_logger(__name__)


def files_needed(sound: AudioSelection) -> int:
    """How many files it takes to decode that sound, some of which may stay empty."""
    several = sound.channel_mode is ChannelMode.SEPARATE or sound.audio_track in (AudioTracks.ALL, AudioTracks.EACH)
    return MAX_CHANNELS if several else 1


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What decoding one recording may take."""

    memory_bytes: int
    """Address space of the process."""
    cpu_seconds: int
    timeout_seconds: float
    """Time on the clock."""
    max_audio_seconds: float


class Decoder:
    """Turns any recording that FFmpeg reads into 16 kHz mono s16le PCM, a bounded number of recordings at a time.

    Args:
        limits: what decoding one recording may take.
        slots: how many are decoded at once.
        confinement: how the processes are confined: see ``careca_gateway.decoding.sandbox``.
    """

    def __init__(self, limits: DecodeLimits, *, slots: int, sandbox_mode: str = AUTO) -> None:
        self._limits = limits
        self._confinement = sandbox_mode
        self._slots = asyncio.Semaphore(slots)
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Recordings that wait for a slot."""
        return self._waiting

    async def sandbox_layers(self) -> Sequence[str]:
        """The layers that confine a decoder here, found out by starting one; logs whether they are what they should be.

        Raises ``PreconditionFailed`` (NOT_CONFINED) where confining is required and the kernel does not allow it.
        """
        report = await self._run(Path(os.devnull), AudioSelection(), [], lambda _: None)
        layers: list[str] = report["confined"]
        log = _log.info if SECCOMP in layers or self._confinement != AUTO else _log.warning
        log("how decoders are confined", layers=layers, sandbox_mode=self._confinement)
        return layers

    async def decode(
        self, recording: Path, sound: AudioSelection, drafts: Sequence[Path], emit: Callable[[float], None]
    ) -> DecodedRecord:
        """Decodes that sound of ``recording`` and tells what was written and noticed; emits the fraction done.

        It goes to the first of ``drafts``, of which there must be as many as ``files_needed`` says.

        Raises ``InvalidRecording`` with the reason NO_AUDIO, NOT_A_RECORDING, EMPTY_AUDIO, RECORDING_TOO_LONG,
        DECODE_LIMIT_EXCEEDED or one of ``SELECTION_REASONS``, and ``Overloaded`` where the disk is full. Cancelling
        kills the process.
        """
        async with self._slot():
            try:
                async with asyncio.timeout(self._limits.timeout_seconds):
                    report = await self._run(recording, sound, drafts, emit)
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
        self, recording: Path, sound: AudioSelection, drafts: Sequence[Path], emit: Callable[[float], None]
    ) -> dict[str, Any]:
        """What the process reports of its work. Raises what else it reports, or how it ended."""
        process = await self._start(recording, sound, drafts)
        report: dict[str, Any]
        try:
            report, fault = await asyncio.gather(
                _last_report(cast("StreamReader", process.stdout), emit), _fault(cast("StreamReader", process.stderr))
            )
            status = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if not report.keys() & {"audio", "confined"}:
            raise failure(report, status, fault)
        return report

    async def _start(self, recording: Path, sound: AudioSelection, drafts: Sequence[Path]) -> Process:
        """The process, with the recording as its input and nothing else of ours but the files to write to."""
        with ExitStack() as files:
            source = files.enter_context(await asyncio.to_thread(recording.open, "rb"))
            targets = [files.enter_context(await asyncio.to_thread(path.open, "w+b")).fileno() for path in drafts]
            options = {
                "output_fds": targets,
                "track": sound.audio_track,
                "separate": sound.channel_mode is ChannelMode.SEPARATE,
                "memory_bytes": self._limits.memory_bytes,
                "cpu_seconds": self._limits.cpu_seconds,
                "max_samples": int(self._limits.max_audio_seconds * SAMPLE_RATE),
                "confinement": self._confinement,
            }
            return await asyncio.create_subprocess_exec(
                *(sys.executable, *CHILD, json.dumps(options)),
                stdin=source,
                stdout=PIPE,
                stderr=PIPE,
                pass_fds=targets,
                env={},
                cwd="/",
            )


async def _last_report(output: StreamReader, emit: Callable[[float], None]) -> dict[str, Any]:
    """What the process says last, empty if it says nothing; emits the fractions that come before."""
    report: dict[str, Any] = {}
    async for line in output:
        report = json.loads(line)
        if "fraction" in report:
            emit(report["fraction"])
    return report


async def _fault(errors: StreamReader) -> str:
    """The first of what the process writes about its own failure; the rest is read and dropped."""
    fault = b""
    while chunk := await errors.read(_FAULT_BYTES):
        fault = (fault + chunk)[:_FAULT_BYTES]
    return fault.decode(errors="replace")


def failure(report: dict[str, Any], status: int, fault: str) -> CarecaError:
    """What it means that a process ended without a result: by what it said last, how it ended, its last words."""
    match report.get("reason"):
        case "STORE_FULL":
            return Overloaded(report["message"], reason="STORE_FULL", retry_after_seconds=60.0)
        case "NOT_CONFINED":
            return PreconditionFailed(
                f"{report['message']}; CARECA_DECODE_CONFINED=auto decodes all the same", reason="NOT_CONFINED"
            )
        case str(reason):
            field = "config.audio_track" if reason in TRACK_REASONS else ""
            return InvalidRecording(report["message"], reason=reason, field=field)
    _log.warning("the decoder died", status=status, fault=fault)
    return _meaning_of_death(status)


def _meaning_of_death(status: int) -> CarecaError:
    """What it means that the process ended by itself (status > 0) or by a signal (status < 0)."""
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
        f"decoding the recording takes more {what} than is allowed; send its sound alone, as WAV, MP3 or M4A",
        reason="DECODE_LIMIT_EXCEEDED",
    )
