"""Who speaks in a session: voices that were heard, and the speaker of each word. Pure.

The diarizer hears overlapping windows and knows nothing of those before. So each local speaker of a window is compared
with the voices of the session. From time to time all voices are clustered again, as in a recording: then speakers that
were taken for one are divided, or those for two are one, and recent words are corrected.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, count, islice

import numpy as np
import numpy.typing as npt

from careca.turns import exclusive_turns, speaker_label
from careca.types import DiarizationOptions, DiarizedWindow, Turn, Voice, VoicePiece, Word

Floats = npt.NDArray[np.float32]

_NEW_VOICE_SECONDS = 1.5
"""Speech after which an unknown voice is a new speaker. The embedding of less speech is not reliable."""

_MARGIN_SECONDS = 0.5
"""A piece that ends closer to the end of its window may go on, and is taken from the next window."""

_UNSETTLED_SECONDS = 2.0
"""The end of a window is heard again with more speech after it: a new voice may be known only then."""

_OVERLAP_SECONDS = 1.0
"""Each window divides speech into pieces anew: so much of a piece may be in memory already."""

_SAME_VOICE, _SURELY_SAME_VOICE = 0.35, 0.5
"""Cosine from which a voice in a window is the one of a speaker; the second one if the window has that speaker already,
as another local speaker. With a value from 0.3 to 0.4 for the first and from 0.5 to 0.6 for the second, eleven
recordings of the bench have the same corrections but for a few words."""

_LEAST_TOGETHER_SECONDS = 0.25
"""Local speakers who speak at the same time for so long are two people."""

_LEAST_MERGE_SECONDS = 30.0
"""Speech from which clustering may join speakers who have spoken at the same time. From less of it, the number of
speakers is uncertain: two voices of a phone call are one cluster for its first 25 s."""

_CORRECTED_SECONDS = 60.0
"""How far back words are corrected: people do not read further back while others talk."""

_FIRST_CLUSTERING_SECONDS = 6.0
_CLUSTERING_SHARE = 0.1
"""Voices are clustered again after so much new speech, absolute and as a share of all speech, because the time of the
clustering grows with it."""

_MOST_SPEAKERS = 50
"""As many as a request may ask for."""

_MOST_PIECES = 2_000
"""Pieces to cluster, about an hour and a half of speech. Of more, every other one of the older half is forgotten."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A piece of speech in the memory of the session, and its speaker."""

    piece: VoicePiece
    """Its times are those of the session."""
    speaker: int


@dataclass(frozen=True, slots=True)
class Correction:
    """Consecutive words that have another speaker."""

    first_word: int
    word_count: int
    speaker: str


@dataclass(slots=True)
class _SpokenWord:
    number: int
    start: float
    end: float
    speaker: int | None


class SpeakerMemory:
    """The speakers of one session.

    Args:
        similarity: cosine from which a voice is the one of a speaker.
        options: limits for the number of speakers.
        known: names of known speakers, and their voices, which are compared with those of their own model.
    """

    def __init__(
        self,
        *,
        similarity: float,
        options: DiarizationOptions | None = None,
        known: Sequence[tuple[str, Voice]] = (),
    ) -> None:
        options = options or DiarizationOptions()
        self._similarity = similarity
        self._most = options.speaker_count or options.max_speaker_count or _MOST_SPEAKERS
        self._known = [(name, voice.embedding_model, np.asarray(voice.embedding, np.float32)) for name, voice in known]
        self._embedding_model = ""
        self._heard: list[Heard] = []
        self._voices: dict[int, Floats] = {}
        """The sum of the embeddings of each speaker, weighted by seconds: shape (D,)."""
        self._next = 0
        self._apart: set[frozenset[int]] = set()
        """Speakers who have spoken at the same time."""
        self._labels: dict[int, str] = {}
        self._turns: list[Turn] = []
        """Recent turns without overlap, by speaker number."""
        self._words: list[_SpokenWord] = []
        self._heard_until = 0.0
        self._new_seconds = 0.0
        self.diarized_until = 0.0
        """Who speaks is known up to this time."""

    @property
    def pieces(self) -> tuple[VoicePiece, ...]:
        """All pieces in memory, to be clustered."""
        return tuple(each.piece for each in self._heard)

    @property
    def new_seconds(self) -> float:
        """Seconds of speech since the last clustering."""
        return self._new_seconds

    @property
    def must_cluster(self) -> bool:
        """Whether enough is new to cluster all voices again."""
        return self._new_seconds >= max(_FIRST_CLUSTERING_SECONDS, self.heard_seconds * _CLUSTERING_SHARE)

    @property
    def heard_seconds(self) -> float:
        """Seconds of speech in memory."""
        return sum(each.piece.speech for each in self._heard)

    @property
    def voices_until(self) -> float:
        """The voices of pieces that end before this time are in memory."""
        return self._heard_until

    def add(self, window: DiarizedWindow, start: float, end: float) -> list[Heard]:
        """Takes a window from ``start`` to ``end``. Returns what was added to the memory."""
        self._embedding_model = window.embedding_model or self._embedding_model
        speakers = self._match(window, start)
        turns = [
            Turn(start + turn.start, start + turn.end, str(speakers[turn.speaker]))
            for turn in window.turns
            if speakers.get(turn.speaker) is not None
        ]
        # The beginning of a window is known better from the one before it, which heard what came before.
        border = max(start, self.diarized_until - _UNSETTLED_SECONDS)
        kept = [replace(turn, end=min(turn.end, border)) for turn in self._turns if turn.start < border]
        fresh = [replace(turn, start=max(turn.start, border)) for turn in exclusive_turns(turns) if turn.end > border]
        self._turns = [turn for turn in (*kept, *fresh) if turn.end > end - _CORRECTED_SECONDS]
        self.diarized_until = max(self.diarized_until, end)
        added = []
        for piece in window.pieces:
            begin, finish = start + piece.start, start + piece.end
            speaker = speakers.get(piece.speaker)
            if speaker is None or begin < self._heard_until - _OVERLAP_SECONDS or finish > end - _MARGIN_SECONDS:
                continue
            added.append(Heard(replace(piece, start=begin, end=finish, speaker=str(speaker)), speaker))
        for each in added:
            self._remember(each)
            self._new_seconds += each.piece.speech
        self._heard_until = max([self._heard_until, *(each.piece.end for each in added)])
        return added

    def restore(self, heard: Iterable[Heard], words: Sequence[Word] = ()) -> None:
        """Takes what ``add`` returned before a restart, and the final words with their labels.

        A piece is given the speaker of the words in it: clustering may have changed the one with whom it was added.
        """
        words = [word for word in words if word.speaker]
        ends = [word.end or 0.0 for word in words]  # ascending
        numbers = {label: number for number, label in enumerate(dict.fromkeys(word.speaker or "" for word in words))}
        self._labels = {number: label for label, number in numbers.items()}
        self._next = len(numbers)
        others: dict[int, int] = {}
        for each in heard:
            common: dict[int, float] = defaultdict(float)
            for word in islice(words, bisect_right(ends, each.piece.start), None):
                shared = min(each.piece.end, word.end or 0.0) - max(each.piece.start, word.start or 0.0)
                if shared <= 0:
                    break
                common[numbers[word.speaker or ""]] += shared
            if common:
                speaker = max(common, key=lambda number: common[number])
            else:
                speaker = others.setdefault(each.speaker, self._next)
                self._next = max(self._next, speaker + 1)
            self._remember(Heard(replace(each.piece, speaker=str(speaker)), speaker))
            self._heard_until = max(self._heard_until, each.piece.end)
        while len(self._heard) > _MOST_PIECES:
            self._forget()

    def knows(self, word: Word) -> bool:
        """Returns whether somebody is known to speak during ``word``."""
        start, end = word.start or 0.0, word.end or 0.0
        return any(turn.start <= end and turn.end >= start for turn in self._turns)

    def speaker_of(self, number: int, word: Word) -> str:
        """Returns the label of the speaker of the final word ``number``; empty if nobody has been heard."""
        start, end = word.start or 0.0, word.end or 0.0
        speaker = self._speaker_at(start, end)
        self._words.append(_SpokenWord(number, start, end, speaker))
        while self._words and self._words[0].end < end - _CORRECTED_SECONDS:
            self._words.pop(0)
        return "" if speaker is None else self._label(speaker)

    def settle(self, count: int, clusters: Sequence[int]) -> list[Correction]:
        """Takes the cluster of each of the first ``count`` pieces. Returns the corrections of recent words.

        A cluster keeps the number of the speaker with whom it has the most speech in common.
        """
        self._new_seconds = 0.0
        if self._merges_early(clusters):
            return []
        names = self._numbers_of(clusters, self._heard[:count])
        self._heard[:count] = [
            Heard(replace(each.piece, speaker=str(names[cluster])), names[cluster])
            for each, cluster in zip(self._heard[:count], clusters, strict=True)
        ]
        self._voices = {}
        for each in self._heard:
            self._weigh(each)
        self._relabel_turns()
        changed: list[tuple[int, int]] = []
        for word in self._words:
            speaker = self._speaker_at(word.start, word.end)
            if speaker is not None and speaker != word.speaker:
                word.speaker = speaker
                changed.append((word.number, speaker))
        self._forget()
        return self._corrections(changed)

    def _match(self, window: DiarizedWindow, start: float) -> dict[str, int | None]:
        """Returns the speaker of each local speaker; ``None`` if that cannot be told yet.

        A local speaker with enough new speech is known by the voice, another one by having spoken at the same time as
        in the window before.
        """
        own: dict[str, list[VoicePiece]] = defaultdict(list)
        for piece in window.pieces:
            own[piece.speaker].append(piece)
        seconds = {label: sum(piece.speech for piece in pieces if not piece.part) for label, pieces in own.items()}
        common = self._common_seconds(window, start)
        together = _labels_together(window.turns)
        found: dict[str, int | None] = {}
        labels = dict.fromkeys(turn.speaker for turn in window.turns)
        for label in sorted(labels, key=lambda label: -seconds.get(label, 0.0)):
            voice = _mean(own[label]) if label in own else None
            others = {speaker for other, speaker in found.items() if other in together[label] and speaker is not None}
            taken = set(found.values())
            similar = self._similar(voice, taken) if voice is not None else {}
            for other in others:
                similar.pop(other, None)
            if similar:
                found[label] = max(similar, key=lambda number: similar[number])
            elif voice is not None and seconds[label] >= _NEW_VOICE_SECONDS and len(self._voices) < self._most:
                found[label] = self._next
                self._voices[self._next] = voice * np.float32(seconds[label])
                self._next += 1
            else:
                before = {number: shared for number, shared in common[label].items() if number not in taken}
                found[label] = max(before, key=lambda number: before[number], default=None)
            speaker = found[label]
            if speaker is not None:
                self._apart.update(frozenset((speaker, other)) for other in others)
        return found

    def _similar(self, voice: Floats, taken: Container[int | None]) -> dict[int, float]:
        """Returns the similarity of each speaker who may have this voice. A local speaker has those of ``taken``.

        If there can be no more speakers, every one of them may have it.
        """
        similar = {number: _cosine(voice, known) for number, known in self._voices.items()}
        if len(self._voices) >= self._most:
            return similar
        return {
            number: cosine
            for number, cosine in similar.items()
            if cosine >= (_SURELY_SAME_VOICE if number in taken else _SAME_VOICE)
        }

    def _common_seconds(self, window: DiarizedWindow, start: float) -> dict[str, dict[int, float]]:
        """Returns how long each local speaker spoke when a speaker of the session did, in the windows before."""
        common: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        for turn in window.turns:
            for known in self._turns:
                shared = min(start + turn.end, known.end) - max(start + turn.start, known.start)
                if shared > 0:
                    common[turn.speaker][int(known.speaker)] += shared
        return common

    def _remember(self, heard: Heard) -> None:
        self._heard.append(heard)
        self._weigh(heard)

    def _weigh(self, heard: Heard) -> None:
        """Adds a piece to the voice of its speaker. Pieces with several voices do not count."""
        if heard.piece.part or not (heard.piece.alone or heard.speaker not in self._voices):
            return
        weighted = np.asarray(heard.piece.embedding, np.float32) * np.float32(heard.piece.speech)
        self._voices[heard.speaker] = self._voices.get(heard.speaker, np.zeros_like(weighted)) + weighted

    def _numbers_of(self, clusters: Sequence[int], heard: Sequence[Heard]) -> dict[int, int]:
        common: dict[tuple[int, int], float] = defaultdict(float)
        for cluster, each in zip(clusters, heard, strict=True):
            common[cluster, each.speaker] += each.piece.speech
        numbers: dict[int, int] = {}
        for cluster, speaker in sorted(common, key=lambda pair: -common[pair]):
            if cluster not in numbers and speaker not in numbers.values():
                numbers[cluster] = speaker
        for cluster in dict.fromkeys(clusters):
            if cluster not in numbers:
                numbers[cluster] = self._next
                self._next += 1
        return numbers

    def _merges_early(self, clusters: Sequence[int]) -> bool:
        """Returns whether the clusters join speakers although little has been heard."""
        if self.heard_seconds >= _LEAST_MERGE_SECONDS:
            return False
        speakers: dict[int, set[int]] = defaultdict(set)
        for cluster, each in zip(clusters, self._heard, strict=False):
            speakers[cluster].add(each.speaker)
        return any(
            frozenset(pair) in self._apart for joined in speakers.values() for pair in combinations(sorted(joined), 2)
        )

    def _relabel_turns(self) -> None:
        """Gives each recent turn the speaker of the piece in memory with which it has the most time in common."""
        earliest = self._turns[0].start if self._turns else 0.0
        recent = [each for each in self._heard if each.piece.end > earliest]
        relabelled = []
        for turn in self._turns:
            common: dict[int, float] = defaultdict(float)
            for each in recent:
                common[each.speaker] += max(0.0, min(turn.end, each.piece.end) - max(turn.start, each.piece.start))
            best = max(common, key=lambda speaker: common[speaker], default=None)
            known = best is not None and common[best] > 0
            relabelled.append(replace(turn, speaker=str(best)) if known else turn)
        self._turns = relabelled

    def _speaker_at(self, start: float, end: float) -> int | None:
        """Returns who speaks most from ``start`` to ``end``, else who speaks nearest to it."""
        common: dict[str, float] = defaultdict(float)
        for turn in self._turns:
            common[turn.speaker] += max(0.0, min(turn.end, end) - max(turn.start, start))
        best = max(common, key=lambda speaker: common[speaker], default=None)
        if best is None:
            return None
        if not common[best]:
            best = min(self._turns, key=lambda turn: max(turn.start - end, start - turn.end)).speaker
        return int(best)

    def _label(self, speaker: int) -> str:
        """Returns the name of a known speaker with this voice, else a label in the order of first words."""
        for name, model, voice in self._known:
            if model != self._embedding_model:
                continue
            if speaker in self._voices and _cosine(self._voices[speaker], voice) >= self._similarity:
                return name
        if speaker not in self._labels:
            known = set(self._labels.values())  # not all numbers: a restart leaves labels out that nobody has any more
            self._labels[speaker] = next(label for label in map(speaker_label, count()) if label not in known)
        return self._labels[speaker]

    def _corrections(self, changed: Sequence[tuple[int, int]]) -> list[Correction]:
        corrections: list[Correction] = []
        for number, speaker in changed:
            label, last = self._label(speaker), corrections[-1] if corrections else None
            if last and last.speaker == label and last.first_word + last.word_count == number:
                corrections[-1] = replace(last, word_count=last.word_count + 1)
            else:
                corrections.append(Correction(number, 1, label))
        return corrections

    def _forget(self) -> None:
        if len(self._heard) > _MOST_PIECES:
            half = len(self._heard) // 2
            self._heard = self._heard[:half:2] + self._heard[half:]


def _labels_together(turns: Sequence[Turn]) -> dict[str, set[str]]:
    """Returns, for each local speaker, those who speak at the same time."""
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for first, second in combinations(turns, 2):
        shared = min(first.end, second.end) - max(first.start, second.start)
        if first.speaker != second.speaker and shared > 0:
            seconds[first.speaker, second.speaker] += shared
            seconds[second.speaker, first.speaker] += shared
    together: dict[str, set[str]] = {turn.speaker: set() for turn in turns}
    for (label, other), shared in seconds.items():
        if shared >= _LEAST_TOGETHER_SECONDS:
            together[label].add(other)
    return together


def _mean(pieces: Sequence[VoicePiece]) -> Floats:
    """Returns the voice of ``pieces``, of unit length; of those in which nobody else speaks, if there are any."""
    alone = [piece for piece in pieces if piece.alone and not piece.part] or pieces
    total = np.sum([np.asarray(piece.embedding, np.float32) * np.float32(piece.speech) for piece in alone], axis=0)
    voice: Floats = total / max(float(np.linalg.norm(total)), 1e-12)
    return voice


def _cosine(one: Floats, other: Floats) -> float:
    if len(one) != len(other):
        return -1.0
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12))
