"""Who speaks in a session, from windows that overlap and do not know each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from careca.types import DiarizationOptions, DiarizedWindow, Turn, Voice, VoicePiece, Word
from careca_gateway.live import speakers
from careca_gateway.live.speakers import Correction, Heard, SpeakerMemory

SIZE = 32
WINDOW = 10.0


def voice(person: int, noise: float = 0.0, seed: int = 0) -> tuple[float, ...]:
    """A voice of a person, as it sounds once: of unit length, and unlike those of others."""
    values = np.zeros(SIZE)
    values[person] = 1.0
    values += noise * np.random.default_rng((person, seed)).normal(size=SIZE) / np.sqrt(SIZE)
    return tuple((values / np.linalg.norm(values)).tolist())


@dataclass
class Talk:
    """Turns of people with times of the session, and a diarizer that sees windows of them."""

    turns: Sequence[tuple[float, float, int]]
    noise: float = 0.3
    piece: float = 2.0
    memory: SpeakerMemory = field(default_factory=lambda: SpeakerMemory(similarity=0.5))
    heard: list[Heard] = field(default_factory=list)

    @property
    def end(self) -> float:
        return max(end for _, end, _ in self.turns)

    def window(self, start: float, end: float) -> DiarizedWindow:
        labels: dict[int, str] = {}
        turns, pieces = [], []
        inside = [
            (max(begin, start) - start, min(finish, end) - start, who)
            for begin, finish, who in self.turns
            if begin < end and finish > start
        ]
        for begin, finish, who in inside:
            label = labels.setdefault(who, str(len(labels)))
            turns.append(Turn(begin, finish, label))
            alone = not any(other != who and b < finish and f > begin for b, f, other in inside)
            count = max(1, round((finish - begin) / self.piece))
            borders = np.linspace(begin, finish, count + 1).tolist()
            for number, (first, last) in enumerate(pairwise(borders)):
                seed = round(100 * (start + first)) + number
                embedding = voice(who, self.noise, seed)
                pieces.append(VoicePiece(embedding, last - first, first, last, label, alone=alone))
        return DiarizedWindow(tuple(turns), tuple(pieces), "model")

    def listen(self, until: float | None = None, *, step: float = 1.0, start: float = 0.0) -> None:
        """Gives the memory all windows up to a time, as a session does."""
        until = self.end if until is None else until
        now = start
        while now < until:
            now = min(until, now + step)
            first = max(0.0, now - WINDOW)
            self.heard += self.memory.add(self.window(first, now), first, now)

    def cluster(self) -> list[Correction]:
        """Gives the memory the truth of all voices."""
        pieces = self.memory.pieces
        return self.memory.settle(len(pieces), [int(np.argmax(piece.embedding)) for piece in pieces])


class Told:
    """The labels of words, as a caller sees them."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.labels: list[str] = []
        self.truth: list[int] = []

    def say(self, *times: tuple[float, float]) -> list[str]:
        for start, end in times:
            word = Word("word", start, end)
            self.labels.append(self.talk.memory.speaker_of(len(self.labels), word))
            middle = (start + end) / 2
            self.truth.append(next(who for begin, finish, who in self.talk.turns if begin <= middle <= finish))
        return self.labels[-len(times) :]

    def correct(self, corrections: Sequence[Correction]) -> None:
        for each in corrections:
            for number in range(each.first_word, each.first_word + each.word_count):
                assert self.labels[number] != each.speaker
                self.labels[number] = each.speaker

    def people(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for label, who in zip(self.labels, self.truth, strict=True):
            found.setdefault(label, set()).add(who)
        return found


def alternating(count: int, seconds: float = 4.0, people: int = 2, gap: float = 0.5) -> list[tuple[float, float, int]]:
    return [(n * (seconds + gap), n * (seconds + gap) + seconds, n % people) for n in range(count)]


def times_in(start: float, end: float, step: float = 0.4) -> list[tuple[float, float]]:
    return [(float(first), float(first + step)) for first in np.arange(start, end - step + 1e-9, step)]


def test_nobody_is_known_before_anybody_was_heard() -> None:
    memory = SpeakerMemory(similarity=0.5)

    assert memory.speaker_of(0, Word("hello", 0.0, 0.5)) == ""
    assert (memory.pieces, memory.heard_seconds, memory.new_seconds, memory.diarized_until) == ((), 0, 0, 0)


@pytest.mark.parametrize("noise", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("step", [1.0, 5.0])
@pytest.mark.parametrize("people", [1, 2, 3, 5])
def test_each_person_keeps_a_label(people: int, step: float, noise: float) -> None:
    talk = Talk(alternating(20, people=people), noise)
    told = Told(talk)
    for begin, end, _ in talk.turns:
        talk.listen(min(talk.end, end + 0.5), step=step, start=talk.memory.diarized_until)
        told.say(*times_in(begin + 2, end))

    assert sorted(told.people().values()) == [{who} for who in range(people)] if people == 1 else True
    assert all(len(who) == 1 for who in told.people().values())
    assert set(told.labels) == {f"SPEAKER_{number:02d}" for number in range(people)}
    assert list(dict.fromkeys(told.labels)) == sorted(set(told.labels)), "not by first words"


def test_a_voice_is_known_again_after_a_long_silence() -> None:
    talk = Talk([(0.0, 5.0, 0), (6.0, 11.0, 1), (1_800.0, 1_806.0, 1), (1_807.0, 1_813.0, 0)])
    talk.listen(12)
    told = Told(talk)
    assert told.say((2.0, 2.5), (8.0, 8.5)) == ["SPEAKER_00", "SPEAKER_01"]

    talk.listen(1_813.0, start=1_790.0)

    assert told.say((1_804.0, 1_804.5), (1_811.0, 1_811.5)) == ["SPEAKER_01", "SPEAKER_00"]


def test_overlapping_windows_do_not_count_speech_again_and_again() -> None:
    """Each second is in ten windows."""
    talk = Talk([(0.0, 60.0, 0)])

    talk.listen()

    assert 50 < talk.memory.heard_seconds < 2 * 60
    assert all(0 <= each.piece.start < each.piece.end <= 60 for each in talk.heard)
    starts = [each.piece.start for each in talk.heard]
    assert starts == sorted(starts)


def test_little_speech_of_a_new_voice_makes_no_new_speaker() -> None:
    talk = Talk([(0.0, 5.0, 0), (5.5, 6.2, 1), (7.0, 12.0, 0)], noise=0.0)

    talk.listen()

    told = Told(talk)
    told.say(*times_in(1.0, 5.0), *times_in(8.0, 12.0))
    assert set(told.labels) == {"SPEAKER_00"}


@pytest.mark.parametrize("options", [DiarizationOptions(speaker_count=2), DiarizationOptions(max_speaker_count=2)])
def test_there_are_never_more_speakers_than_asked_for(options: DiarizationOptions) -> None:
    talk = Talk(alternating(16, people=4), memory=SpeakerMemory(similarity=0.5, options=options))
    talk.listen()

    told = Told(talk)
    told.say(*(time for begin, end, _ in talk.turns[-8:] for time in times_in(begin, end)))
    assert set(told.labels) <= {"SPEAKER_00", "SPEAKER_01"}


def test_a_known_voice_has_its_name_and_others_are_numbered_without_it() -> None:
    memory = SpeakerMemory(
        similarity=0.5,
        known=[("Ana", Voice(voice(0), "model")), ("Eve", Voice(voice(3), "model")), ("Other", Voice((1.0,), "model"))],
    )
    talk = Talk(alternating(6, people=3), memory=memory)
    talk.listen()

    told = Told(talk)
    told.say(*(time for begin, end, _ in talk.turns for time in times_in(begin + 2, end)))

    assert told.people() == {"Ana": {0}, "SPEAKER_00": {1}, "SPEAKER_01": {2}}


def test_a_voice_that_is_only_a_little_alike_gets_no_name() -> None:
    almost = tuple(0.45 * a + 0.893 * b for a, b in zip(voice(0), voice(7), strict=True))
    memory = SpeakerMemory(similarity=0.5, known=[("Ana", Voice(almost, "model"))])
    talk = Talk([(0.0, 6.0, 0)], noise=0.0, memory=memory)
    talk.listen()

    assert memory.speaker_of(0, Word("hello", 2.0, 3.0)) == "SPEAKER_00"


def test_a_word_between_turns_gets_the_nearest_speaker() -> None:
    talk = Talk([(0.0, 4.0, 0), (6.0, 10.0, 1)], noise=0.0)
    talk.listen(12)
    told_first, told_second = Word("a", 4.1, 4.6), Word("b", 5.2, 5.7)

    assert talk.memory.speaker_of(0, told_first) == "SPEAKER_00"
    assert talk.memory.speaker_of(1, told_second) == "SPEAKER_01"


def test_overlapping_speech_gives_each_word_to_one_of_them() -> None:
    talk = Talk([(0.0, 6.0, 0), (7.0, 13.0, 1), (14.0, 20.0, 0), (16.0, 18.0, 1)], noise=0.0)
    talk.listen(21)

    told = Told(talk)
    told.say((2.0, 2.5), (9.0, 9.5), (14.5, 15.0), (19.0, 19.5))
    assert told.labels == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_00", "SPEAKER_00"]
    assert talk.memory.speaker_of(4, Word("both", 16.5, 17.5)) == "SPEAKER_01"


# Clustering


@pytest.fixture
def wrong_at_first(monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Two people who are taken for one, because nothing is unlike enough. No window has both."""
    monkeypatch.setattr(speakers, "_SAME_VOICE", -1.0)
    return Talk(alternating(4, gap=WINDOW + 2), noise=0.0)


def test_speakers_taken_for_one_are_divided_and_recent_words_corrected(wrong_at_first: Talk) -> None:
    talk = wrong_at_first
    talk.listen(talk.end + 2)
    told = Told(talk)
    told.say(*(time for begin, end, _ in talk.turns for time in times_in(begin, end)))
    assert set(told.labels) == {"SPEAKER_00"}

    told.correct(talk.cluster())

    assert all(len(who) == 1 for who in told.people().values())
    assert set(told.labels) == {"SPEAKER_00", "SPEAKER_01"}
    assert talk.memory.new_seconds == 0
    assert talk.cluster() == []


def test_speakers_that_are_one_are_united_and_recent_words_corrected() -> None:
    talk = Talk([(0.0, 5.0, 0), (6.0, 11.0, 1), (12.0, 17.0, 0)], noise=0.0)
    talk.listen()
    told = Told(talk)
    told.say(*times_in(1.0, 5.0), *times_in(7.0, 11.0), *times_in(13.0, 17.0))
    assert set(told.labels) == {"SPEAKER_00", "SPEAKER_01"}

    count = len(talk.memory.pieces)
    told.correct(talk.memory.settle(count, [0] * count))

    assert len(set(told.labels)) == 1


def test_a_cluster_keeps_the_label_of_the_speaker_with_most_speech() -> None:
    talk = Talk([(0.0, 8.0, 0), (9.0, 13.0, 1), (14.0, 22.0, 0)], noise=0.0)
    talk.listen()
    told = Told(talk)
    told.say(*times_in(1.0, 8.0), *times_in(10.0, 13.0), *times_in(15.0, 22.0))
    before = list(told.labels)
    count = len(talk.memory.pieces)

    told.correct(talk.memory.settle(count, [5] * count))
    assert set(told.labels) == {before[0]} == {"SPEAKER_00"}

    told.correct(talk.cluster())
    assert all(len(who) == 1 for who in told.people().values())
    assert told.labels[0] == "SPEAKER_00"


def test_corrections_are_bounded_in_time(wrong_at_first: Talk) -> None:
    talk = wrong_at_first
    talk.turns = alternating(20, gap=WINDOW + 2)
    talk.listen(talk.end + 2)
    told = Told(talk)
    told.say(*(time for begin, end, _ in talk.turns for time in times_in(begin, end)))
    starts = [time for begin, end, _ in talk.turns for time, _ in times_in(begin, end)]

    corrections = talk.cluster()

    assert corrections
    assert all(starts[each.first_word] > talk.end - 61 for each in corrections)
    numbers = [n for each in corrections for n in range(each.first_word, each.first_word + each.word_count)]
    assert numbers == sorted(set(numbers))


def test_consecutive_words_are_one_correction(wrong_at_first: Talk) -> None:
    talk = wrong_at_first
    talk.listen(21.0)
    told = Told(talk)
    told.say(*times_in(0.5, 4.0), *times_in(16.2, 20.0))

    (correction,) = talk.cluster()

    assert correction.first_word == len(times_in(0.5, 4.0))
    assert correction.word_count == len(times_in(16.2, 20.0))


@pytest.mark.parametrize(("seconds", "joined"), [(4.0, False), (20.0, True)])
def test_clusters_of_little_speech_do_not_join_people_who_spoke_at_the_same_time(seconds: float, joined: bool) -> None:
    second = seconds - 1.0
    talk = Talk([(0.0, seconds, 0), (second, second + seconds, 1)], noise=0.0)
    talk.listen()
    told = Told(talk)
    told.say(*times_in(0.5, second), *times_in(seconds + 0.2, second + seconds))
    assert set(told.labels) == {"SPEAKER_00", "SPEAKER_01"}

    count = len(talk.memory.pieces)
    told.correct(talk.memory.settle(count, [0] * count))

    assert len(set(told.labels)) == (1 if joined else 2)
    assert talk.memory.new_seconds == 0


def test_local_speakers_with_the_same_voice_are_one_unless_they_speak_at_the_same_time() -> None:
    """The diarizer takes one person in a window for two."""

    def heard(begin: float) -> list[str]:
        memory = SpeakerMemory(similarity=0.5)
        turns = (Turn(0.0, 4.0, "0"), Turn(begin, begin + 4.0, "1"))
        pieces = tuple(VoicePiece(voice(0), 4.0, turn.start, turn.end, turn.speaker, alone=True) for turn in turns)
        memory.add(DiarizedWindow(turns, pieces, "model"), 0.0, 10.0)
        return [memory.speaker_of(0, Word("one", 1.0, 2.0)), memory.speaker_of(1, Word("two", 6.0, 7.0))]

    assert heard(5.0) == ["SPEAKER_00", "SPEAKER_00"]
    assert heard(3.5) == ["SPEAKER_00", "SPEAKER_01"]


def test_a_short_unknown_voice_is_nobody_yet() -> None:
    talk = Talk([(0.0, 5.0, 0), (6.0, 10.0, 1)], noise=0.0)
    talk.listen(7.0)
    assert not talk.memory.knows(Word("new", 6.2, 6.8))

    talk.listen(9.0, start=7.0)
    assert talk.memory.knows(Word("new", 6.2, 6.8))
    assert talk.memory.speaker_of(0, Word("new", 6.2, 6.8)) == "SPEAKER_00"
    assert talk.memory.speaker_of(1, Word("old", 2.0, 2.5)) == "SPEAKER_01"


def test_pieces_that_come_while_voices_are_clustered_stay() -> None:
    talk = Talk(alternating(6), noise=0.0)
    talk.listen(10.0)
    pieces = talk.memory.pieces
    clusters = [int(np.argmax(piece.embedding)) for piece in pieces]
    talk.listen(20.0, start=10.0)

    talk.memory.settle(len(pieces), clusters)

    assert len(talk.memory.pieces) > len(pieces)
    told = Told(talk)
    told.say((2.0, 2.5), (6.5, 7.0), (11.0, 11.5), (15.5, 16.0))
    assert told.labels == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_00", "SPEAKER_01"]


def test_the_memory_of_a_long_session_is_bounded() -> None:
    memory = SpeakerMemory(similarity=0.5)
    memory.restore(
        Heard(VoicePiece(voice(n % 2), 2.0, 3.0 * n, 3.0 * n + 2, str(n % 2), alone=True), n % 2) for n in range(3_900)
    )

    count = len(memory.pieces)
    memory.settle(count, [n % 2 for n in range(count)])

    pieces = memory.pieces
    assert len(pieces) <= 3_000
    assert pieces[-1].start == 3.0 * 3_899
    assert pieces[0].start < 30
    assert [piece.start for piece in pieces] == sorted(piece.start for piece in pieces)


# Restarts


def test_voices_are_known_after_a_restart() -> None:
    first = Talk(alternating(6))
    first.listen()
    memory = SpeakerMemory(similarity=0.5)
    memory.restore(first.heard)
    again = Talk(alternating(12), memory=memory)
    memory.diarized_until = first.end

    again.listen(start=first.end)

    assert {each.speaker for each in again.heard} == {0, 1}
    by_person: dict[int, set[int]] = {}
    for each in (*first.heard, *again.heard):
        by_person.setdefault(int(np.argmax(each.piece.embedding)), set()).add(each.speaker)
    assert all(len(numbers) == 1 for numbers in by_person.values())


def test_a_new_voice_after_a_restart_gets_a_new_number() -> None:
    memory = SpeakerMemory(similarity=0.5)
    first = Talk(alternating(4))
    first.listen()
    memory.restore(first.heard)
    memory.diarized_until = first.end
    again = Talk([*alternating(4), (20.0, 26.0, 2)], memory=memory)

    again.listen(start=first.end)

    assert {each.speaker for each in again.heard if each.piece.end > 20} == {2}


def test_windows_without_anybody_change_nothing() -> None:
    memory: Any = SpeakerMemory(similarity=0.5)

    assert memory.add(DiarizedWindow(), 0.0, 10.0) == []
    assert memory.add(DiarizedWindow(), 10.0, 10.0) == []
    assert memory.diarized_until == 10.0
    assert memory.settle(0, []) == []
