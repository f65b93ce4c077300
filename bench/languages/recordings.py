"""Recordings of several languages that the benchmark makes, with the truth about them, and damaged ones of one.

Who speaks are the readers and the people of labelled recordings, the voices of Asterisk's prompts where Debian's
``asterisk-core-sounds-*-g722`` are installed, and, apart from them, espeak-ng's where that is: a formant synthesizer
shows whether a language is known at all, but no accuracy.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.common import audio
from bench.common.dataset import Recording, conversations, read_speech
from bench.diarization import mixtures
from bench.diarization.mixtures import Samples
from careca.types import SAMPLE_RATE

PROMPTS = Path("/usr/share/asterisk/sounds")
"""Folders of prompts such as ``es_MX_f_Allison``: language, country, sex and name of who speaks."""

MOST_CHANGES = 5

_SHORTEST_UTTERANCE_SECONDS = 3.0
_PAUSES = (0.2, 0.5, 1.0, 2.0)
_LENGTHS = ((3.0, 6.0), (6.0, 12.0), (12.0, 20.0))
_PAUSE_WITHIN_SECONDS = 0.4
_SENTENCES = {
    "de": "Der Zug nach Hamburg hat heute leider zwanzig Minuten Verspätung. Wir treffen uns morgen früh am Bahnhof.",
    "fr": "Le train pour Paris partira avec vingt minutes de retard. Nous nous retrouverons demain matin à la gare.",
    "it": "Il treno per Milano partirà con venti minuti di ritardo. Ci vediamo domani mattina alla stazione.",
    "ru": "Поезд в Москву отправится с опозданием на двадцать минут. Мы встретимся завтра утром на вокзале.",  # noqa: RUF001
    "pl": "Pociąg do Krakowa odjedzie z dwudziestominutowym opóźnieniem. Spotkamy się jutro rano na dworcu.",
    "nl": "De trein naar Utrecht vertrekt met twintig minuten vertraging. We zien elkaar morgenochtend op het station.",
}


@dataclass(frozen=True, slots=True)
class Voice:
    """What one person said in one language, utterance by utterance, at one level and without silence around it."""

    name: str
    language: str
    utterances: tuple[Samples, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a recording, in seconds, in one language."""

    start: float
    end: float
    language: str


@dataclass(frozen=True, slots=True)
class Made:
    """A recording and the truth about it: where each language is spoken, and where anything is."""

    name: str
    samples: npt.NDArray[np.int16]
    passages: tuple[Passage, ...]
    speech: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a recording is like."""

    seed: int
    changes: int
    noise_db: float | None = None
    telephone: bool = False


def recipes(count: int, seed: int) -> list[Recipe]:
    """``count`` recipes that vary in everything; from 1 to ``MOST_CHANGES`` changes of language in turn."""
    made = []
    for number in range(count):
        random = np.random.default_rng(seed + number)
        noise_db = None if random.random() < 0.6 else float(random.uniform(10, 20))
        made.append(Recipe(seed + number, number % MOST_CHANGES + 1, noise_db, bool(random.random() < 0.25)))
    return made


def load_voices(recordings: Iterable[Recording], half: int) -> list[Voice]:
    """Everybody who can be heard: of each one's utterances every second one, from number ``half`` on."""
    spoken: dict[tuple[str, str], list[Samples]] = defaultdict(list)
    known = list(recordings)
    for recording in read_speech(known):
        spoken[f"read {recording.language}", recording.language].append(_samples(recording.path))
    for recording in conversations(known):
        samples = _samples(recording.path)
        for turn in mixtures.alone(recording.turns or ()):
            cut = samples[round(turn.start * SAMPLE_RATE) : round(turn.end * SAMPLE_RATE)]
            spoken[f"{recording.folder}/{turn.speaker}", recording.language].append(cut)
    for folder in sorted(PROMPTS.glob("??_??_*")):
        language, _, _, name = folder.name.split("_")
        paths = (path for path in sorted(folder.iterdir()) if path.suffix in {".g722", ".wav"})
        spoken[f"prompts/{name}", language] += map(_samples, paths)
    return _voices(spoken, half)


def synthesize_voices() -> list[Voice]:
    """espeak-ng's, one for each language; none where it is not installed."""
    program = shutil.which("espeak-ng")
    if program is None:
        return []
    spoken: dict[tuple[str, str], list[Samples]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for language, text in _SENTENCES.items():
            path = Path(folder) / f"{language}.wav"
            subprocess.run([program, "-v", language, "-s", "150", "-w", str(path), text], check=True)
            spoken["espeak-ng", language] = [_samples(path)]
    return _voices(spoken, half=0)


def make(voices: Sequence[Voice], recipe: Recipe) -> Made:
    """A recording after ``recipe``; the same for the same seed. Raises ``ValueError`` for voices of one language."""
    random = np.random.default_rng(recipe.seed)
    by_language: dict[str, list[Voice]] = defaultdict(list)
    for voice in voices:
        by_language[voice.language].append(voice)
    if len(by_language) < 2:
        raise ValueError("a change of language needs voices in two languages")
    parts: list[Samples] = [_silence(random.uniform(0.1, 1.0))]
    passages: list[Passage] = []
    speech: list[tuple[float, float]] = []
    now = len(parts[0])
    speaking: Voice | None = None
    for _ in range(recipe.changes + 1):
        speaking = _next_voice(by_language, speaking, random)
        said = _passage(speaking, random)
        start, end = now / SAMPLE_RATE, (now + len(said)) / SAMPLE_RATE
        passages.append(Passage(start, end, speaking.language))
        speech += [(start + first, start + last) for first, last in mixtures.speech_of(said)]
        parts += [said, _silence(random.choice(_PAUSES))]
        now += len(parts[-2]) + len(parts[-1])
    heard = mixtures.through_channel(np.concatenate(parts), recipe.noise_db, recipe.telephone, random)
    order = " ".join(passage.language for passage in passages)
    return Made(f"{recipe.seed}: {order}", mixtures.to_int16(heard), tuple(passages), tuple(speech))


def single_language(recordings: Iterable[Recording], most_seconds: float = 60.0) -> Iterator[tuple[str, Made]]:
    """Recordings of one language, damaged in several ways: pairs of the kind of damage and the recording."""
    for number, recording in enumerate(recordings):
        samples = _samples(recording.path)[: round(most_seconds * SAMPLE_RATE)]
        random = np.random.default_rng(number)
        start = int(random.integers(max(1, len(samples) - 3 * SAMPLE_RATE)))
        damaged: Mapping[str, Samples] = {
            "as it is": samples,
            "noise at 10 dB": mixtures.through_channel(_levelled(samples), 10.0, False, random),
            "telephone, noise at 15 dB": mixtures.through_channel(_levelled(samples), 15.0, True, random),
            "less than 3 s": samples[start : start + round(2.8 * SAMPLE_RATE)],
            "silence and music between": _with_music(samples),
        }
        for kind, heard in damaged.items():
            whole = Passage(0.0, len(heard) / SAMPLE_RATE, recording.language)
            yield kind, Made(recording.name, mixtures.to_int16(heard), (whole,), ((whole.start, whole.end),))


def _samples(path: Path) -> Samples:
    return audio.decode(path).astype(np.float32) / np.float32(32768)


def _voices(spoken: Mapping[tuple[str, str], Sequence[Samples]], half: int) -> list[Voice]:
    voices = []
    for (name, language), utterances in spoken.items():
        clean = [mixtures.trimmed(each) for each in utterances]
        long_enough = [each for each in clean if len(each) >= _SHORTEST_UTTERANCE_SECONDS * SAMPLE_RATE][half::2]
        if long_enough:
            voices.append(Voice(name, language, tuple(long_enough)))
    return voices


def _next_voice(by_language: Mapping[str, Sequence[Voice]], before: Voice | None, random: np.random.Generator) -> Voice:
    """Somebody in another language, in half of the cases the same person if there is one who speaks it."""
    others = [language for language in sorted(by_language) if before is None or language != before.language]
    same = [voice for other in others for voice in by_language[other] if before and voice.name == before.name]
    if same and random.random() < 0.5:
        return same[0]
    voices = by_language[others[int(random.integers(len(others)))]]
    return voices[int(random.integers(len(voices)))]


def _passage(voice: Voice, random: np.random.Generator) -> Samples:
    """Some seconds of what ``voice`` says: utterances with a short pause between them, cut in a quiet moment."""
    wanted = round(random.uniform(*_LENGTHS[int(random.integers(len(_LENGTHS)))]) * SAMPLE_RATE)
    order = random.permutation(len(voice.utterances))
    said: Samples = voice.utterances[order[0]]
    if not voice.name.startswith("read"):  # of read sentences nothing says which are of one person
        for index in order[1:]:
            if len(said) >= wanted:
                break
            said = np.concatenate([said, _silence(_PAUSE_WITHIN_SECONDS), voice.utterances[index]])
    if len(said) <= wanted + SAMPLE_RATE:
        return said
    return mixtures.trimmed(said[: mixtures.quiet_moment(said, wanted)])


def _levelled(samples: Samples) -> Samples:
    level = float(np.sqrt(np.mean(np.square(mixtures.trimmed(samples), dtype=np.float64)))) if len(samples) else 0.0
    spoken = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
    louder: Samples = (samples * (level / spoken if spoken and level else 1.0)).astype(np.float32)
    return louder


def _with_music(samples: Samples) -> Samples:
    """The halves of a recording with silence, plucked notes and silence between them."""
    time = np.arange(SAMPLE_RATE // 4) / SAMPLE_RATE
    notes = np.random.default_rng(1).choice([262, 294, 330, 349, 392, 440, 494], 32)
    plucked = [np.exp(-6 * time) * sum(np.sin(2 * np.pi * note * k * time) / k for k in range(1, 6)) for note in notes]
    music = (np.concatenate(plucked) * 0.1).astype(np.float32)
    middle = mixtures.quiet_moment(samples, len(samples) // 2)
    return np.concatenate([samples[:middle], _silence(4.0), music, _silence(4.0), samples[middle:]])


def _silence(seconds: float) -> Samples:
    return np.zeros(round(float(seconds) * SAMPLE_RATE), dtype=np.float32)
