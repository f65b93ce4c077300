"""Damaged recordings through the real decoder, each in a process of its own, confined and limited as in the gateway.

The interpreter and FFmpeg are loaded once for each worker, which then forks for each recording: what runs from there on
is ``careca_gateway.decoding.process.main``, with the same arguments, descriptors, limits and confinement.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import select
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np
import structlog

from bench.fuzz.mutations import mutated
from careca.errors import InternalError
from careca_gateway.decoding import process
from careca_gateway.decoding.sandbox import REQUIRE
from careca_gateway.ingest.decoder import decoder_error
from support.media import encoded, recording

TIMEOUT_SECONDS = 300.0
"""Time that a decoder gets, on the clock, which a busy machine does not reach: it has ten seconds of a processor."""

_OPTIONS = {"memory_bytes": 1 << 30, "cpu_seconds": 10, "max_samples": 16_000 * 600, "sandbox_mode": REQUIRE}

_SHAPES = (
    # container, codec, rate, channels
    ("wav", "pcm_s16le", 16_000, 2),
    ("wav", "pcm_mulaw", 8_000, 1),
    ("wav", "adpcm_ms", 16_000, 1),
    ("wav", "pcm_f32le", 16_000, 2),
    ("w64", "pcm_s24le", 16_000, 1),
    ("flac", "flac", 16_000, 2),
    ("mp3", "libmp3lame", 44_100, 2),
    ("ogg", "libopus", 48_000, 2),
    ("ogg", "flac", 16_000, 1),
    ("mp4", "aac", 48_000, 1),
    ("ipod", "alac", 44_100, 2),
    ("mov", "pcm_s16be", 16_000, 1),
    ("3gp", "aac", 16_000, 1),
    ("3gp", "libopencore_amrnb", 8_000, 1),
    ("amr", "libopencore_amrnb", 8_000, 1),
    ("webm", "libopus", 48_000, 1),
    ("matroska", "flac", 16_000, 1),
    ("matroska", "ac3", 48_000, 2),
    ("aiff", "pcm_s16be", 22_050, 2),
    ("adts", "aac", 44_100, 2),
    ("caf", "pcm_s16le", 16_000, 1),
    ("mpegts", "mp2", 48_000, 2),
    ("avi", "libmp3lame", 44_100, 1),
    ("asf", "libmp3lame", 44_100, 1),
    ("flv", "aac", 44_100, 1),
    ("eac3", "eac3", 48_000, 2),
    ("wv", "wavpack", 16_000, 1),
    ("tta", "tta", 16_000, 1),
    ("au", "pcm_mulaw", 8_000, 1),
)


TRACKS = ("auto", "auto", "all", "each", 1, "auto", 2)
"""The tracks that are asked for, in turn."""


def valid_recordings() -> dict[str, bytes]:
    """Short recordings of all kinds, films among them, and the phone call of pyannote.audio's wheel; by their kind."""
    found = {
        f"{container}/{codec}": recording(
            container, codec, 0.5, rate=rate, channels=channels, hertz=(440, 660)[:channels]
        )
        for container, codec, rate, channels in _SHAPES
    }
    for container, codec in (("mp4", "aac"), ("matroska", "flac"), ("mpegts", "mp2")):
        found[f"{container}/{codec} film"] = recording(container, codec, 0.5, rate=48_000, video=True)
    tone, silence = np.sin(np.arange(8_000) / 6) / 3, np.zeros(8_000)
    for container, codec in (("matroska", "aac"), ("mp4", "aac"), ("mpegts", "mp2")):
        found[f"{container}/{codec}, two tracks"] = encoded(container, codec, silence, tone, titles=["one", "two"])
    for codec in ("flac", "pcm_s24le"):
        found[f"matroska/{codec}, very quiet"] = encoded("matroska", codec, tone / 1000)
    if package := importlib.util.find_spec("pyannote"):
        for folder in package.submodule_search_locations or ():
            call = Path(folder) / "audio" / "sample" / "sample.wav"
            if call.exists():
                found["phone call"] = call.read_bytes()
    return found


def damaged(seed: int | str, numbers: range) -> Iterator[bytes]:
    """The damaged recordings of those numbers; which they are depends on nothing but ``seed``."""
    valid = list(valid_recordings().values())
    for number in numbers:
        chance = random.Random(f"{seed}/{number}")
        yield mutated(chance.choice(valid), chance, valid)


def decode_each(seed: int, numbers: range) -> Counter[str]:
    """What became of the damaged recordings of those numbers, by outcome."""
    return Counter(
        outcome_of(data, separate=number % 4 == 0, track=TRACKS[number % len(TRACKS)])
        for number, data in zip(numbers, damaged(seed, numbers), strict=True)
    )


def outcome_of(data: bytes, *, separate: bool = False, track: str | int = "auto") -> str:
    """What the gateway would make of the decoder's end: ``decoded``, a reason, or what must not be."""
    with ExitStack() as files:
        source, report, faults = (files.enter_context(_memory(name)) for name in ("source", "report", "faults"))
        several = track in ("all", "each")
        audio = [files.enter_context(_memory(f"audio{number}")) for number in range(8 if separate or several else 1)]
        os.write(source, data)
        os.lseek(source, 0, os.SEEK_SET)
        asked = {"output_fds": audio, "separate": separate and not several, "track": track}
        options = json.dumps({**_OPTIONS, **asked})
        status = _run(options, source, report, faults)
        if status is None:
            return "HUNG"
        said = _content(report).decode().splitlines()
        return _outcome(json.loads(said[-1]) if said else {}, status, _content(faults).decode(errors="replace"))


def _outcome(report: dict[str, Any], status: int, fault: str) -> str:
    if "audio" in report:
        return "decoded"
    error = decoder_error(report, status, fault)
    if isinstance(error, InternalError):
        sys.stderr.write(fault)
        return f"INTERNAL (the decoder ended with status {status})"
    died = f" (the decoder died of {signal.Signals(-status).name})" if status < 0 else ""
    return error.reason + died


@contextmanager
def _memory(name: str) -> Iterator[int]:
    descriptor = os.memfd_create(name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _run(options: str, source: int, report: int, faults: int) -> int | None:
    """How the decoder ended, as ``subprocess`` says it; ``None`` where it had to be killed."""
    child = os.fork()
    if not child:
        _be_the_decoder(options, source, report, faults)
    watched = os.pidfd_open(child)
    try:
        ended, _, _ = select.select([watched], [], [], TIMEOUT_SECONDS)
        if not ended:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(watched)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if ended else None


def _be_the_decoder(options: str, source: int, report: int, faults: int) -> None:
    """What is left of this process is the decoder."""
    status = 1
    try:
        for target, descriptor in enumerate((source, report, faults)):
            os.dup2(descriptor, target)
        sys.stdout, sys.stderr = (open(target, "w", closefd=False) for target in (1, 2))  # noqa: SIM115
        sys.argv = ["decoder", options]
        process.main()
        status = 0
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main(arguments: Sequence[str]) -> None:
    """A worker: seed, first and last number, step. Its answer is one JSON object on standard output."""
    seed, start, stop, step = map(int, arguments)
    av.logging.set_level(None)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    print(json.dumps(decode_each(seed, range(start, stop, step))))


if __name__ == "__main__":
    main(sys.argv[1:])
