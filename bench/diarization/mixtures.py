"""Conversations made of utterances whose speaker is known: as many as wanted, with the truth about each.

Few voices become more by playing some faster and slower, which raises and lowers pitch and formants (Yamamoto et al.,
"Speaker augmentation and bandwidth extension for deep speaker embedding", Interspeech 2019, count them as speakers of
their own). Who speaks when is known from the energy of each utterance before it is mixed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy import signal

from bench.common import audio
from bench.common.dataset import Recording, conversations
from careca.types import SAMPLE_RATE, Turn

Samples = npt.NDArray[np.float32]

SPEEDS = (Fraction(1), Fraction(8, 9), Fraction(9, 8))
"""How fast each person is heard. Slow and fast are as far apart as most people are, to the embedding network; each is
too near to the person's own speed to be told from it."""

MOST_SPEAKERS = 10

_ROLES = frozenset({"agent", "caller"})
"""Labels that say what somebody does in a call, and not who it is."""

_STEREO = "_stereo"
"""How the names of recordings end that have a party on each channel."""

_FRAME = SAMPLE_RATE // 100
_SPEECH_BELOW_PEAK_DB = 35.0
"""A frame this far below the loud ones of its utterance is a pause."""
_LONGEST_GAP_SECONDS = 0.4
_SHORTEST_SPEECH_SECONDS = 0.1
_FADE_SAMPLES = SAMPLE_RATE // 100
_SHORTEST_UTTERANCE_SECONDS = 1.5
_LEAST_VOICE_SECONDS = 25.0
"""Of less, what is heard again and again would be the same few words."""
_LEVEL = 0.05
"""Root mean square of an utterance's speech before the gain of its speaker."""


@dataclass(frozen=True, slots=True)
class Voice:
    """What one person said, utterance by utterance, at one speed."""

    person: str
    speed: Fraction
    utterances: tuple[Samples, ...]

    @property
    def name(self) -> str:
        """Another one for each voice."""
        return f"{self.person}@{float(self.speed):.2f}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a conversation is like."""

    seed: int
    speakers: int
    seconds: float
    turn_seconds: float
    """Length of a turn in the median."""
    overlap: float
    """Share of turns that begin before the one before has ended."""
    imbalance: float
    """0: all speak as long; 1: who speaks most may do so eight times as long as who speaks least."""
    noise_db: float | None
    """Signal-to-noise ratio; ``None`` is no noise."""
    telephone: bool
    """Only 300 to 3,400 Hz."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """A conversation and the truth about it."""

    recipe: Recipe
    samples: npt.NDArray[np.int16]
    turns: tuple[Turn, ...]


def recipes(count: int, seed: int = 1) -> list[Recipe]:
    """``count`` recipes that vary in everything; from 1 to ``MOST_SPEAKERS`` speakers in turn."""
    return [_recipe(seed + number, number % MOST_SPEAKERS + 1) for number in range(count)]


def _recipe(seed: int, speakers: int) -> Recipe:
    random = np.random.default_rng(seed)
    return Recipe(
        seed=seed,
        speakers=speakers,
        seconds=40.0 + speakers * float(random.uniform(15, 30)),
        turn_seconds=float(random.choice([2.5, 5.0, 9.0])),
        overlap=float(random.choice([0.0, 0.1, 0.25])),
        imbalance=float(random.choice([0.0, 0.5, 1.0])),
        noise_db=None if random.random() < 0.5 else float(random.uniform(12, 25)),
        telephone=bool(random.random() < 0.25),
    )


def load_voices(recordings: Iterable[Recording]) -> list[Voice]:
    """Everybody who is heard alone in the conversations among ``recordings``, at each speed.

    A label is the same person in all recordings of a folder, but for the parts that people play in a call. Read speech
    is left out: two of its recordings may be of one person, and nothing says so. So are stereo recordings: each is of
    the same call as a recording in mono beside it.
    """
    spoken: dict[str, list[Samples]] = defaultdict(list)
    for recording in conversations(recordings):
        if recording.name.endswith(_STEREO):
            continue
        samples = audio.decode(recording.path).astype(np.float32) / np.float32(32768)
        for turn in alone(recording.turns or ()):
            cut = samples[round(turn.start * SAMPLE_RATE) : round(turn.end * SAMPLE_RATE)]
            place = f"{recording.folder}/{recording.name}" if turn.speaker in _ROLES else recording.folder
            spoken[f"{place}/{turn.speaker}"].append(cut)
    return make_voices(spoken)


def make_voices(spoken: dict[str, list[Samples]]) -> list[Voice]:
    """The voices of persons, at each speed, without silence around what they say."""
    voices = []
    for person, utterances in spoken.items():
        for speed in SPEEDS:
            played = [_play(trimmed(each), speed) for each in utterances]
            long_enough = tuple(each for each in played if len(each) >= _SHORTEST_UTTERANCE_SECONDS * SAMPLE_RATE)
            if sum(map(len, long_enough)) >= _LEAST_VOICE_SECONDS * SAMPLE_RATE:
                voices.append(Voice(person, speed, long_enough))
    return voices


def mix(voices: Sequence[Voice], recipe: Recipe) -> Mixture:
    """A conversation after ``recipe``; the same for the same seed. Raises ``ValueError`` where voices are too few."""
    random = np.random.default_rng(recipe.seed)
    chosen = _cast(voices, recipe.speakers, random)
    shares = np.exp(recipe.imbalance * random.uniform(-1.04, 1.04, recipe.speakers))
    gains = 10 ** (random.uniform(-4, 4, recipe.speakers) / 20)
    length = round(recipe.seconds * SAMPLE_RATE)
    mixed = np.zeros(length, dtype=np.float32)
    turns: list[Turn] = []
    spoken = np.zeros(recipe.speakers)
    sources = [_endless(voice, random) for voice in chosen]
    now, before = round(random.uniform(0.1, 1.0) * SAMPLE_RATE), -1
    while now < length - 2 * SAMPLE_RATE:
        speaker = _next_speaker(spoken / shares, before, random)
        seconds = recipe.turn_seconds * shares[speaker] * random.lognormal(0.0, 0.5)
        turn = _turn(sources[speaker], float(seconds), random)[: length - now]
        end = now + len(turn)
        mixed[now:end] += turn * gains[speaker]
        turns += [
            Turn(now / SAMPLE_RATE + start, now / SAMPLE_RATE + stop, chosen[speaker].name)
            for start, stop in speech_of(turn)
        ]
        spoken[speaker] += len(turn)
        overlaps = random.random() < recipe.overlap
        gap = -random.uniform(0.3, 2.0) if overlaps else random.exponential(0.4) + 0.1
        now, before = max(now + _FRAME, end + round(gap * SAMPLE_RATE)), speaker
    return Mixture(recipe, to_int16(through_channel(mixed, recipe.noise_db, recipe.telephone, random)), _joined(turns))


def speech_of(samples: Samples) -> Iterator[tuple[float, float]]:
    """Where one clean utterance is no pause, in seconds."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if not len(frames):
        return
    level = 10 * np.log10((frames.astype(np.float64) ** 2).mean(axis=1) + 1e-10)
    edges = np.flatnonzero(
        np.diff(level > np.percentile(level, 95) - _SPEECH_BELOW_PEAK_DB, prepend=False, append=False)
    )
    spans: list[list[int]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if spans and (start - spans[-1][1]) / 100 < _LONGEST_GAP_SECONDS:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    yield from ((start / 100, end / 100) for start, end in spans if (end - start) / 100 >= _SHORTEST_SPEECH_SECONDS)


def alone(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Those during which nobody else speaks."""
    for turn in turns:
        if not any(other is not turn and other.start < turn.end and turn.start < other.end for other in turns):
            yield turn


def trimmed(samples: Samples) -> Samples:
    """At one level, without the silence before and after."""
    spans = list(speech_of(samples))
    if not spans:
        return samples[:0]
    speech = samples[round(spans[0][0] * SAMPLE_RATE) : round(spans[-1][1] * SAMPLE_RATE)]
    level = float(np.sqrt(np.mean(speech.astype(np.float64) ** 2)))
    return speech * np.float32(_LEVEL / max(level, 1e-6))


def _play(samples: Samples, speed: Fraction) -> Samples:
    if speed == 1 or not len(samples):
        return samples
    played: Samples = signal.resample_poly(samples, speed.denominator, speed.numerator).astype(np.float32)
    return played


def _cast(voices: Sequence[Voice], count: int, random: np.random.Generator) -> list[Voice]:
    """``count`` different voices. Where there are fewer persons, as many as needed are heard twice: slow and fast."""
    by_person: dict[str, list[Voice]] = defaultdict(list)
    for voice in voices:
        by_person[voice.person].append(voice)
    persons = list(by_person)
    twice = max(0, count - len(persons))
    if twice > len(persons):
        raise ValueError(f"{count} speakers need as many voices; there are {2 * len(persons)}")
    chosen: list[Voice] = []
    for place, index in enumerate(random.permutation(len(persons))):
        own = by_person[persons[index]]
        chosen += [voice for voice in own if (voice.speed != 1) == (place < twice)]
    return chosen[:count]


def _endless(voice: Voice, random: np.random.Generator) -> Iterator[Samples]:
    while True:
        for index in random.permutation(len(voice.utterances)):
            yield voice.utterances[index]


def _next_speaker(spoken: npt.NDArray[np.float64], before: int, random: np.random.Generator) -> int:
    """Somebody else, mostly who has spoken least for their share; each speaks in the first round."""
    order = [int(speaker) for speaker in np.argsort(spoken, kind="stable") if speaker != before] or [before]
    if spoken[order[0]] > 0 and random.random() < 0.25:
        return int(random.choice(order))
    return order[0]


def _turn(source: Iterator[Samples], seconds: float, random: np.random.Generator) -> Samples:
    """Some part of about ``seconds`` of an utterance, cut in quiet moments, with soft edges."""
    utterance = next(source)
    wanted = round(max(seconds, _SHORTEST_UTTERANCE_SECONDS) * SAMPLE_RATE)
    spare = len(utterance) - wanted
    start = quiet_moment(utterance, int(random.integers(spare))) if spare > SAMPLE_RATE else 0
    end = quiet_moment(utterance, start + wanted) if len(utterance) - start - wanted > SAMPLE_RATE // 2 else None
    turn = utterance[start:end].copy()
    fade = np.linspace(0, 1, _FADE_SAMPLES, dtype=np.float32)
    turn[:_FADE_SAMPLES] *= fade
    turn[-_FADE_SAMPLES:] *= fade[::-1]
    return turn


def quiet_moment(utterance: Samples, sample: int) -> int:
    """The quietest place within a quarter of a second of ``sample``."""
    first = max(0, sample - SAMPLE_RATE // 4)
    around = np.abs(utterance[first : sample + SAMPLE_RATE // 4])
    return first + int(np.convolve(around, np.ones(_FRAME) / _FRAME, mode="same").argmin())


def through_channel(samples: Samples, noise_db: float | None, telephone: bool, random: np.random.Generator) -> Samples:
    """Speech at the level of ``trimmed`` with pink noise ``noise_db`` below it, then in the band of a telephone."""
    if noise_db is not None:
        noise = audio.pink_noise(len(samples), random)
        noise *= _LEVEL * 10 ** (-noise_db / 20) / max(float(noise.std()), 1e-9)
        samples = samples + noise.astype(np.float32)
    if telephone:
        band = signal.butter(4, [300, 3400], "bandpass", fs=SAMPLE_RATE, output="sos")
        samples = signal.sosfilt(band, samples).astype(np.float32)
    return samples


def to_int16(samples: Samples) -> npt.NDArray[np.int16]:
    """As samples of 16 bits, quieter where they would be clipped."""
    scaled = samples * (0.9 / max(float(np.abs(samples).max(initial=0.0)), 0.9))
    return np.round(scaled * 32767).astype(np.int16)


def _joined(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """By start; turns of one speaker with a short pause between them are one."""
    joined: dict[str, list[Turn]] = defaultdict(list)
    for turn in sorted(turns, key=lambda each: each.start):
        own = joined[turn.speaker]
        if own and turn.start - own[-1].end < _LONGEST_GAP_SECONDS:
            own[-1] = Turn(own[-1].start, max(own[-1].end, turn.end), turn.speaker)
        else:
            own.append(turn)
    return tuple(sorted((turn for own in joined.values() for turn in own), key=lambda each: (each.start, each.end)))
