"""Measures whether the transcriber finds the languages of a recording that changes them, and leaves others alone.

Writes its table into docs/benchmarks.md, which says what it means. Runs the transcriber's engine in this process.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import REPOSITORY
from bench.common import dataset
from bench.common.dataset import Recording
from bench.common.harness import announce, cleanly
from bench.common.tables import count, minutes, rate, splice, table
from bench.languages import recordings as multilingual
from bench.languages.recordings import Made
from careca.inference.audio import Audio
from careca.inference.engine import complete
from careca.models import ModelStore
from careca.resources.processors import disable_openmp_spinning
from careca.types import SAMPLE_RATE
from careca_transcriber.passages import Passage, language_at
from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.whisper_engine import WhisperEngine

DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"

_STEP_SECONDS = 0.05
_SEED = 3000


@dataclass(frozen=True, slots=True)
class Score:
    """What was found in some recordings of one kind."""

    kind: str
    seconds: float
    changes: int
    speech: int
    right: int
    found: int
    """How many changes of language were found."""


def main() -> int:
    """Makes the recordings, has their languages found and renews the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of folders of recordings; by default that of CARECA_DATA")
    parser.add_argument("--recordings", type=int, default=40, help="how many recordings of several languages to make")
    parser.add_argument("--seed", type=int, default=_SEED, help="others are other recordings; the table is not renewed")
    arguments = parser.parse_args()
    recordings = dataset.find(arguments.data)
    dataset.require_labelled(recordings, "the languages of recordings")
    disable_openmp_spinning()
    settings = TranscriberSettings()
    engine = WhisperEngine(settings, ModelStore(settings.models_dir))
    engine.load()
    scores = [
        score(kind, made, find(engine, made))
        for kind, made in recordings_to_make(recordings, arguments.recordings, arguments.seed)
    ]
    text = render(scores)
    print(text)
    if arguments.seed == _SEED:
        DOCUMENT.write_text(splice(DOCUMENT.read_text(encoding="utf-8"), text, mark="languages"), encoding="utf-8")
    return 0


def recordings_to_make(recordings: Sequence[Recording], count: int, seed: int) -> Iterator[tuple[str, Made]]:
    """Pairs of a kind and a recording: of several languages first, then of one."""
    people, synthetic = multilingual.load_voices(recordings, half=1), multilingual.synthesize_voices()
    for recipe in multilingual.recipes(count, seed):
        damaged = recipe.telephone or recipe.noise_db is not None
        yield "several languages, " + ("damaged" if damaged else "clean"), multilingual.make(people, recipe)
    if synthetic:
        for recipe in multilingual.recipes(count // 4, seed):
            yield "several languages, synthetic voices", multilingual.make(synthetic, recipe)
    for kind, made in multilingual.single_language(recordings):
        yield f"one language, {kind}", made


def find(engine: WhisperEngine, made: Made) -> Sequence[Passage]:
    """Where the engine finds which language."""
    passages = complete(engine.find_passages(Audio(made.samples)))
    found = " ".join(passage.language for passage in passages)
    announce(f"{made.name}: {found}")
    return passages


def score(kind: str, made: Made, found: Sequence[Passage]) -> Score:
    """``found`` against the truth, at each moment of speech."""
    moments = [
        (first + step * _STEP_SECONDS, passage.language)
        for passage in made.passages
        for first, last in _within(made.speech, passage.start, passage.end)
        for step in range(int((last - first) / _STEP_SECONDS))
    ]
    return Score(
        kind=kind,
        seconds=len(made.samples) / SAMPLE_RATE,
        changes=len(made.passages) - 1,
        speech=len(moments),
        right=sum(language_at(round(moment * SAMPLE_RATE), found) == language for moment, language in moments),
        found=len(found) - 1,
    )


def render(scores: Sequence[Score]) -> str:
    """A row for each kind of recording, in order."""
    rows = []
    for kind in dict.fromkeys(each.kind for each in scores):
        own = [each for each in scores if each.kind == kind]
        right = sum(each.right for each in own) / max(1, sum(each.speech for each in own))
        rows.append(
            [
                kind,
                str(len(own)),
                minutes(sum(each.seconds for each in own)),
                count(sum(each.found == each.changes for each in own), len(own)),
                rate(right),
            ]
        )
    head = ["recordings", "files", "audio", "with as many changes as there are", "speech in the right language"]
    return table(head, rows)


def _within(spans: Iterable[tuple[float, float]], start: float, end: float) -> Iterator[tuple[float, float]]:
    """What of ``spans`` lies between ``start`` and ``end``."""
    clipped = ((max(first, start), min(last, end)) for first, last in spans)
    return (span for span in clipped if span[1] > span[0])


if __name__ == "__main__":
    sys.exit(cleanly(main))
