"""How fast the answers are: first and second requests, the cost of the gateway path, an hour that is known already."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.common import audio
from bench.common.asking import MODEL_STAGES, HashingWatch, ask
from bench.system.direct import DirectEngines
from bench.system.results import FirstAndSecond, Overhead, OverheadPair, Repeat, Repeats
from careca.types import SAMPLE_RATE
from careca_client import Client, TranscriptionResult

Samples = npt.NDArray[np.int16]
Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure. Lengths are seconds of audio."""

    short_seconds: float = 300.0
    long_seconds: float = 3600.0
    pairs: int = 3
    repeats: int = 30


QUICK = Plan(short_seconds=30.0, long_seconds=60.0, pairs=2, repeats=20)


def first_and_second(client: Client, recording: Path, announce: Announce) -> FirstAndSecond:
    """Sends ``recording``, which the stack must not know, twice."""
    first, result = ask(client, recording)
    second, _result = ask(client, recording)
    announce(
        f"{result.duration:.0f} s of audio: first {first.seconds:.2f} s, {first.uploaded_bytes:,} bytes sent;"
        f" second {second.seconds:.4f} s, {second.uploaded_bytes:,} bytes sent"
    )
    return FirstAndSecond(
        audio_seconds=result.duration, file_bytes=recording.stat().st_size, first=first, second=second
    )


def overhead(
    client: Client, samples: Samples, folder: Path, pairs: int, environment: Mapping[str, str], announce: Announce
) -> Overhead:
    """Measures both ways side by side, ``pairs`` times, now the one first and now the other.

    Each request is for a file of its own with the same ``samples``. Both ways have computed them once before.
    """
    files = list(_same_audio(samples, folder, pairs + 1))
    with DirectEngines(environment) as direct:
        direct.compute(files[0])
        ask(client, files[0], skip_cache=True)
        done = []
        for number, file in enumerate(files[1:], 1):
            done.append(_pair(client, direct, file, gateway_first=number % 2 == 0))
            announce(f"pair {number}/{pairs}: direct {done[-1].direct_seconds:.2f} s, gateway {done[-1].overhead:+.1%}")
    ratios = [each.overhead for each in done]
    return Overhead(
        audio_seconds=len(samples) / SAMPLE_RATE,
        pairs=tuple(done),
        median=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
    )


def repeat(
    client: Client, new_client: Callable[[], Client], recording: Path, count: int, announce: Announce
) -> Repeats:
    """Asks ``count`` times for ``recording``, whose results must be cached, and as often with a client of its own."""
    same, new, results = [], [], []
    for _ in range(count):
        one, result = _repeat(client, recording)
        same.append(one)
        results.append(result)
        with new_client() as other:
            other.stats()  # connects, so that only the request is in the time
            one, result = _repeat(other, recording)
        new.append(one)
        results.append(result)
    repeats = Repeats(
        audio_seconds=results[0].duration,
        file_bytes=recording.stat().st_size,
        same_client=tuple(same),
        new_client=tuple(new),
        uploaded_bytes=sum(each.uploaded_bytes for each in results),
        computed_stages=sum(
            not stage.cached for each in results for stage in each.stages if stage.stage in MODEL_STAGES
        ),
    )
    announce(
        f"known already: {repeats.median_seconds * 1e3:.1f} ms median of {count}, {repeats.uploaded_bytes} bytes sent"
    )
    return repeats


def _repeat(client: Client, recording: Path) -> tuple[Repeat, TranscriptionResult]:
    watch = HashingWatch()
    result = client.transcribe(recording, on_event=watch)
    answered = time.perf_counter()
    _ = result.values
    return Repeat(answered - watch.started, watch.seconds, time.perf_counter() - answered), result


def _same_audio(samples: Samples, folder: Path, count: int) -> Iterator[Path]:
    for number in range(count):
        path = folder / f"same-audio-{number}.flac"
        audio.write_flac(samples, path, comment=f"copy {number}")
        yield path


def _pair(client: Client, direct: DirectEngines, file: Path, *, gateway_first: bool) -> OverheadPair:
    early = ask(client, file, skip_cache=True)[0] if gateway_first else None
    timing = direct.compute(file)
    return OverheadPair(
        direct_seconds=timing.whole,
        direct_transcribe_seconds=timing.transcribe,
        direct_diarize_seconds=timing.diarize,
        gateway=early or ask(client, file, skip_cache=True)[0],
    )
