"""Measures what damage does to answers: the labelled recordings as they are, and after each of ``damage.DAMAGES``.

Each recording goes through the whole stack, past the caches, or through the diarizer alone, which takes a tenth of the
time and says nothing about words. Writes its table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from bench import REPOSITORY
from bench.common import audio, dataset
from bench.common.asking import ask
from bench.common.dataset import DatasetError, Recording
from bench.common.harness import announce, cleanly, running_stack
from bench.common.scoring import score_turns
from bench.common.tables import count, rate, splice, table
from bench.diarization.__main__ import diarize, load_engine
from bench.robustness.damage import DAMAGES, Damage, Samples
from bench.system import quality
from bench.system.results import QualityRow, Request
from careca_client import Client
from careca_diarizer.pyannote_engine import PyannoteEngine

DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
MARK = "robustness"
CLEAN = "as they are"


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line."""

    data: Path | None
    damages: tuple[str, ...]
    quick: bool
    speakers_only: bool


def main() -> int:
    """Measures the damages asked for. Only a whole run, on more than the sample, renews the document."""
    arguments = parse_arguments()
    recordings = labelled(dataset.find(arguments.data), quick=arguments.quick)
    sample = dataset.is_sample(recordings)
    if sample:
        announce(f"measured on the sample alone, for want of CARECA_DATA: {DOCUMENT.name} stays as it is")
    rows: list[tuple[str, Sequence[quality.Score]]] = []
    with contextlib.ExitStack() as stack:
        if arguments.speakers_only:
            score = partial(score_speakers, load_engine())
        else:
            bench = stack.enter_context(running_stack())
            score = partial(score_answer, bench.client, bench.folder / "damaged.flac")
        for name in (CLEAN, *arguments.damages):
            damage = DAMAGES.get(name, _NOTHING)
            scores = [
                score(played(recording, damage.speed), damage.apply(audio.decode(recording.path)))
                for recording in recordings
            ]
            rows.append((name, scores))
            announce(" | ".join(_cells(name, scores, rows[0][1])))
    text = report(rows)
    print(text)
    if arguments.damages == tuple(DAMAGES) and not (arguments.quick or sample):
        DOCUMENT.write_text(splice(DOCUMENT.read_text(encoding="utf-8"), text, mark=MARK), encoding="utf-8")
    return 0


def labelled(recordings: Sequence[Recording], *, quick: bool) -> list[Recording]:
    """The conversations whose speakers are known; with ``quick`` one of each folder.

    Raises ``DatasetError`` where there is none.
    """
    chosen = [each for each in dataset.conversations(recordings) if each.turns is not None]
    if quick:
        chosen = list({each.folder: each for each in reversed(chosen)}.values())
    if not chosen:
        raise DatasetError("no recording has an RTTM file beside it that says who speaks when")
    return chosen


def score_answer(client: Client, path: Path, recording: Recording, samples: Samples) -> quality.Score:
    """What the whole stack makes of ``samples``, written to ``path``, against the truth about ``recording``."""
    audio.write_flac(samples, path)
    request, result = ask(client, path, skip_cache=True)
    return quality.score(recording, result, request)


def score_speakers(engine: PyannoteEngine, recording: Recording, samples: Samples) -> quality.Score:
    """What the diarizer alone makes of ``samples`` against the truth about ``recording``."""
    found, seconds = diarize(engine, samples)
    return quality.Score(
        recording=recording,
        audio_seconds=found.duration,
        request=Request(seconds, 0, {}, ()),
        models=(found.model,),
        right_language=False,
        turns=score_turns(recording.turns or (), found.turns, found.duration),
    )


def played(recording: Recording, speed: Fraction) -> Recording:
    """The truth about a recording whose clock runs faster by ``speed``."""
    factor = float(speed)
    if factor == 1.0:
        return recording
    turns, utterances = recording.turns, recording.utterances
    return replace(
        recording,
        turns=turns and tuple(replace(each, start=each.start / factor, end=each.end / factor) for each in turns),
        utterances=utterances
        and tuple(replace(each, start=each.start / factor, end=each.end / factor) for each in utterances),
    )


def report(measured: Sequence[tuple[str, Sequence[quality.Score]]]) -> str:
    """A row for each damage, beside what the undamaged recordings have."""
    head = ["", "DER", "confusion", "over the clean one's", "right counts", "cpWER", "over the clean one's"]
    clean = measured[0][1]
    return table(head, [_cells(name, scores, clean) for name, scores in measured])


def _cells(name: str, scores: Sequence[quality.Score], clean: Sequence[quality.Score]) -> list[str]:
    row, reference = quality.row(name, scores), quality.row(name, clean)
    turns = row.turns
    return [
        name,
        rate(turns.der if turns else None),
        rate(_confusion(row)),
        _difference(_confusion(row), _confusion(reference)),
        count(turns.right_speaker_counts, turns.recordings) if turns else "-",
        rate(_word_errors(row)),
        _difference(_word_errors(row), _word_errors(reference)),
    ]


def _confusion(row: QualityRow) -> float | None:
    return row.turns.confusion if row.turns else None


def _word_errors(row: QualityRow) -> float | None:
    return row.utterances.error_rate if row.utterances else None


def _difference(value: float | None, reference: float | None) -> str:
    return "-" if value is None or reference is None else f"{value - reference:+.3f}"


def parse_arguments() -> Arguments:
    """The command line; the recordings' folder is by default that of ``CARECA_DATA``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of folders of recordings; by default that of CARECA_DATA")
    parser.add_argument(
        "--damage", choices=[*DAMAGES], action="append", help="measure this damage alone; may be given several times"
    )
    parser.add_argument("--quick", action="store_true", help="one recording of each folder: shows that it works")
    parser.add_argument("--speakers-only", action="store_true", help="through the diarizer alone, in this process")
    parsed = parser.parse_args()
    return Arguments(parsed.data, tuple(parsed.damage or DAMAGES), parsed.quick, parsed.speakers_only)


_NOTHING = Damage(lambda samples: samples)

if __name__ == "__main__":
    sys.exit(cleanly(main))
