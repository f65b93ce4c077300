"""A conversation of two hours with six people: does each of them keep one label to the end?

The real engine of the diarizer hears the windows that a session would send, one after the other, as fast as it can, and
the session's own memory of voices names the words. The words are those of the reference: what is measured are voices.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from bench.common import dataset
from bench.common.harness import announce
from bench.common.report import Report
from bench.common.tables import rate, seconds, table
from bench.diarization.mixtures import Recipe, Voice, load_voices, mix
from careca.inference.audio import Audio
from careca.inference.engine import complete
from careca.types import SAMPLE_RATE, Turn, VoicesToCluster, WindowToDiarize, Word
from careca_diarizer.engine import DiarizerEngine, build_engine
from careca_diarizer.settings import DiarizerSettings
from careca_gateway.live.recognition import DIARIZE_STEP_SECONDS, DIARIZED_SECONDS
from careca_gateway.live.speakers import SpeakerMemory
from careca_gateway.settings import GatewaySettings

PRESENT = ((0, 1, 2), (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5), (0, 4, 5), (0, 1, 5), (0, 1, 2, 3, 4, 5))
"""Who is there in each part of the conversation. In the last part all come together, some after half an hour."""

PART_SECONDS = 900.0

_WORD_SECONDS = 0.4
_KNOWN_AFTER_SECONDS = 1.0
"""A word is named when so much more has been diarized."""

_SPLIT_SECONDS = 10.0
"""Words under a label that nobody has first: more of them are a person who was split."""
_ABSENT_SECONDS = 1200.0
_BACK_SECONDS = 60.0
"""Words of a person after an absence, by which it is judged whether the person was forgotten."""


@dataclass
class Conversation:
    """What is played, and who speaks when."""

    samples: npt.NDArray[np.int16]
    turns: list[Turn]


@dataclass
class Named:
    """The words of the conversation and their labels."""

    words: list[tuple[str, Word]] = field(default_factory=list)
    """The person and the word, with the label that it got first."""
    labels: list[str] = field(default_factory=list)
    """The last label of each word."""
    corrected: int = 0
    step_seconds: list[float] = field(default_factory=list)
    """What each second of audio took, clustering included."""


def conversation(voices: Sequence[Voice]) -> Conversation:
    """Makes the conversation from the six people who are heard longest."""
    by_length = sorted(
        (voice for voice in voices if voice.speed == 1), key=lambda voice: -sum(map(len, voice.utterances))
    )
    people = by_length[: 1 + max(index for part in PRESENT for index in part)]
    parts, turns = [], []
    for number, present in enumerate(PRESENT):
        recipe = Recipe(
            seed=number + 1,
            speakers=len(present),
            seconds=PART_SECONDS,
            turn_seconds=6.0,
            overlap=0.1,
            imbalance=0.5,
            noise_db=25.0,
            telephone=False,
        )
        mixture = mix([people[index] for index in present], recipe)
        parts.append(mixture.samples)
        turns += [
            Turn(turn.start + number * PART_SECONDS, turn.end + number * PART_SECONDS, turn.speaker)
            for turn in mixture.turns
        ]
    return Conversation(np.concatenate(parts), turns)


async def measure_long(report: Report) -> None:
    """Names the words of the conversation."""
    made = conversation(load_voices(dataset.find()))
    engine = build_engine(DiarizerSettings())
    engine.load()
    named = name_words(engine, made)
    report_named(report, named)


def name_words(engine: DiarizerEngine, made: Conversation) -> Named:
    """Names the words of a conversation as a session does."""
    memory = SpeakerMemory(similarity=GatewaySettings().known_speaker_similarity)
    named, waiting = Named(), deque(_words(made.turns))
    length = len(made.samples) / SAMPLE_RATE
    now = 0.0
    while now < length:
        now = min(length, now + DIARIZE_STEP_SECONDS)
        began = time.monotonic()
        start = max(0.0, now - DIARIZED_SECONDS)
        samples = made.samples[round(start * SAMPLE_RATE) : round(now * SAMPLE_RATE)]
        window = WindowToDiarize(voices_from=max(0.0, memory.voices_until - start))
        memory.add(complete(engine.infer(Audio(samples), window)), start, now)
        if memory.must_cluster:
            pieces = memory.pieces
            clustered = complete(engine.infer(Audio(samples[:0]), VoicesToCluster(pieces)))
            for correction in memory.settle(len(pieces), clustered.speakers):
                for number in range(correction.first_word, correction.first_word + correction.word_count):
                    named.labels[number] = correction.speaker
                named.corrected += correction.word_count
        named.step_seconds.append(time.monotonic() - began)
        while waiting and ((waiting[0][1].end or 0.0) <= now - _KNOWN_AFTER_SECONDS or now >= length):
            person, word = waiting.popleft()
            label = memory.speaker_of(len(named.words), word)
            named.words.append((person, replace(word, speaker=label)))
            named.labels.append(label)
        if round(now) % 600 == 0:
            announce(f"{now / 60:.0f} minutes: {len(named.words)} words, {len(set(named.labels))} labels")
    return named


def _words(turns: Sequence[Turn]) -> list[tuple[str, Word]]:
    """Returns a word for each part of a turn, in the order of their ends."""
    words = [
        (turn.speaker, Word("word", float(start), float(min(start + _WORD_SECONDS, turn.end))))
        for turn in turns
        for start in np.arange(turn.start, turn.end - _WORD_SECONDS / 2, _WORD_SECONDS)
    ]
    return sorted(words, key=lambda each: each[1].end or 0.0)


def report_named(report: Report, named: Named) -> None:
    """Reports whether each person has one label, of their own, to the end."""
    people = sorted({person for person, _ in named.words})
    seconds_of: dict[str, dict[str, float]] = {person: defaultdict(float) for person in people}
    for (person, _), label in zip(named.words, named.labels, strict=True):
        seconds_of[person][label] += _WORD_SECONDS
    own = {person: max(found, key=lambda label: found[label]) for person, found in seconds_of.items()}
    split = sum(
        spoken > _SPLIT_SECONDS and label not in own.values()
        for found in seconds_of.values()
        for label, spoken in found.items()
    )
    first = sum(word.speaker != own[person] for person, word in named.words)
    last = sum(label != own[person] for (person, _), label in zip(named.words, named.labels, strict=True))
    returns, forgotten = _returns(named, own)
    shared = len(people) - len(set(own.values()))
    for what, measured in (
        ("people who share a label with another one", shared),
        (f"labels with more than {_SPLIT_SECONDS:.0f} s of a person that are nobody's own", split),
        (f"people not recognised after an absence of {_ABSENT_SECONDS / 60:.0f} minutes, of {returns}", forgotten),
    ):
        report.limit(what, "0", str(measured), met=measured == 0)
    tenth = round(len(named.step_seconds) * 600 / (PART_SECONDS * len(PRESENT)))
    row = [str(len(people)), str(len(named.words))]
    row += [rate(count / len(named.words)) for count in (first, last, named.corrected)]
    row += [seconds(float(np.mean(each))) for each in (named.step_seconds[:tenth], named.step_seconds[-tenth:])]
    head = ["people", "words", "other label at first", "in the end", "corrected"]
    head += ["a second of audio takes, first ten minutes", "last ten"]
    report.tables.append(table(head, [row]))
    for person in people:
        found = sorted(seconds_of[person].items(), key=lambda each: -each[1])
        announce(f"{person}: " + ", ".join(f"{label} {spoken:.0f} s" for label, spoken in found))


def _returns(named: Named, own: dict[str, str]) -> tuple[int, int]:
    """Returns how often a person came back after a long absence, and how often under another label."""
    last: dict[str, float] = {}
    back: dict[tuple[str, float], list[bool]] = defaultdict(list)
    came: dict[str, float] = {}
    for person, word in named.words:
        start = word.start or 0.0
        if person in last and start - last[person] >= _ABSENT_SECONDS:
            came[person] = start
        last[person] = start
        if person in came and start < came[person] + _BACK_SECONDS:
            back[person, came[person]].append(word.speaker == own[person])
    return len(back), sum(sum(same) < len(same) / 2 for same in back.values())
