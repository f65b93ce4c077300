"""Measures how fast recordings are read, beside faster-whisper's batched pipeline. Takes some minutes.

    speed   conversations, joined: seconds and words of both, with beam search and without
    words   word error rates of both, on all recordings whose words are known

Both have the same model and processors, read decoded audio and find its language and the times of words. They take
turns. Without a part, both run, and docs/benchmarks.md is updated.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from statistics import median

import numpy as np

from bench import REPOSITORY
from bench.common import audio, dataset
from bench.common.dataset import Recording
from bench.common.harness import announce, cleanly
from bench.common.report import Report, measure
from bench.common.scoring import WordErrors, score_text
from bench.common.tables import rate, seconds, table
from bench.reading.readers import Careca, Peer, Reader, Reading, loaded_readers
from careca.inference.audio import Audio

LIMITS = {5: 0.7, 1: 0.5}
"""The largest time over the peer's, by beam size."""
PAIRS = 3
SPEECH_SECONDS = 700.0


def main() -> int:
    """Runs the parts asked for."""
    return measure(PARTS, __doc__ or "", REPOSITORY / "docs" / "benchmarks.md", "reading")


async def measure_speed(report: Report) -> None:
    """Both read the same conversations in turns; the ratio is the median over the pairs."""
    await asyncio.to_thread(_measure_speed, report)


async def measure_words(report: Report) -> None:
    """Both read each recording once."""
    await asyncio.to_thread(_measure_words, report)


def _measure_speed(report: Report) -> None:
    recordings = dataset.conversations(dataset.find())
    joined = audio.join([each.path for each in dataset.spread(recordings, len(recordings))], SPEECH_SECONDS)
    speech = Audio(np.ascontiguousarray(joined))
    rows = []
    with loaded_readers() as (careca, peer):
        for beam_size, limit in LIMITS.items():
            pairs = [_pair(careca, peer, speech, beam_size, peer_first=bool(n % 2)) for n in range(PAIRS)]
            ratio = median(own.seconds / other.seconds for own, other in pairs)
            what = f"time of {SPEECH_SECONDS:.0f} s of conversations over the peer's, beam size {beam_size}"
            report.limit(what, f"at most {limit}", f"{ratio:.2f}", met=ratio <= limit)
            for name, readings in (
                ("faster-whisper, batched", [b for _, b in pairs]),
                ("Careca", [a for a, _ in pairs]),
            ):
                times = [each.seconds for each in readings]
                rows.append(
                    [
                        name,
                        str(beam_size),
                        *map(seconds, (min(times), median(times), max(times))),
                        str(readings[0].words),
                    ]
                )
    report.tables.append(table(["", "beam size", "min", "median", "max", "words"], rows))


def _pair(careca: Careca, peer: Peer, speech: Audio, beam_size: int, *, peer_first: bool) -> tuple[Reading, Reading]:
    readers: list[Reader] = [careca, peer]
    order = readers[::-1] if peer_first else readers
    found = {reader: reader.read(speech, beam_size) for reader in order}
    announce(f"beam size {beam_size}: {found[careca].seconds:.1f} s, the peer {found[peer].seconds:.1f} s")
    return found[careca], found[peer]


def _measure_words(report: Report) -> None:
    recordings = [each for each in dataset.find() if each.text is not None or each.utterances is not None]
    errors: dict[tuple[str, str], WordErrors] = defaultdict(WordErrors)
    with loaded_readers() as (careca, peer):
        names: dict[str, Reader] = {"faster-whisper, batched": peer, "Careca": careca}
        for recording in recordings:
            speech = Audio(audio.decode(recording.path))
            for name, reader in names.items():
                errors[name, recording.folder] += _errors(recording, reader.read(speech, max(LIMITS)))
            announce(recording.name)
    folders = sorted({recording.folder for recording in recordings})
    rows = [[name, *(rate(errors[name, folder].error_rate) for folder in folders)] for name in names]
    report.tables.append(table(["", *(f"{folder} WER" for folder in folders)], rows))


def _errors(recording: Recording, found: Reading) -> WordErrors:
    """Errors of words, whoever said them."""
    said = recording.text
    if said is None:
        said = " ".join(each.text for each in sorted(recording.utterances or (), key=lambda each: each.start))
    return score_text(said, found.text, recording.language)


PARTS = {"speed": measure_speed, "words": measure_words}

if __name__ == "__main__":
    sys.exit(cleanly(main))
