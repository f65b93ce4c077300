"""The events of a session: makes, numbers and keeps them.

Final words wait here for their speakers. If each channel is one speaker, they wait until it is known that nothing was
said before them on another channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from careca import codec
from careca.turns import speaker_label
from careca.types import NoticeCode, Word
from careca.v1 import gateway_pb2, live_pb2
from careca_gateway.live.audio import AudioBuffer
from careca_gateway.live.changes import Changes, run_to_end
from careca_gateway.live.journal import Journal
from careca_gateway.live.metrics import LiveMetrics
from careca_gateway.live.options import LiveOptions
from careca_gateway.live.speakers import Correction, SpeakerMemory
from careca_gateway.live.words import WordsChange

Response = live_pb2.LiveServiceTranscribeResponse

_SPEAKER_LAG_SECONDS = 0.2
"""Audio after a word that the diarizer needs to find its speaker."""

_NEW_SPEAKER_LAG_SECONDS = 2.0
"""The same for a word of nobody who is known: a new voice is a speaker only after some speech."""

_LONGEST_SPEAKER_WAIT_SECONDS = 4.0
"""A word gets the most probable speaker if the diarizer is further behind."""

_LONGEST_ORDER_WAIT_SECONDS = 4.0
"""A word of one channel is published before words of another one that the model is not sure of for so long."""

_BEHIND_SECONDS = 10.0
_CAUGHT_UP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Position:
    """Where a channel begins that has no final words yet."""

    start: float = 0.0
    in_utterance: bool = False
    """Whether an utterance goes on there."""


@dataclass(slots=True)
class _Pending:
    """A final word that waits, or the end of an utterance."""

    at: float
    """The start of the word, or the end of the last one."""
    channel: int
    word: Word | None = None
    language: str = ""
    known_at: float = 0.0
    """All audio before this time had been read when the word was final."""


class Publisher:
    """The events of one session.

    Args:
        journal: keeps the numbered events.
        audio: the audio that has been received.
        speakers: find the speakers of words.
        changes: is notified of each event.
        metrics: counts.
        options: what the caller asks for.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        audio: AudioBuffer,
        speakers: SpeakerMemory,
        changes: Changes,
        metrics: LiveMetrics,
        options: LiveOptions,
    ) -> None:
        self.events: list[Response] = []
        """All numbered events."""
        self.interim: Response | None = None
        """The newest interim words; ``None`` if there are none after the final ones."""
        self.read_until = 0.0
        """All audio before this time has been read."""
        self.flushed_until = 0.0
        """All words before this time are to be final, without waiting for more audio."""
        self._journal = journal
        self._audio = audio
        self._speakers = speakers
        self._changes = changes
        self._metrics = metrics
        self._options = options
        self._newest = dict.fromkeys(options.channels, WordsChange())
        """The last reading of each channel."""
        self._ends = dict.fromkeys(options.channels, 0.0)
        """The end of the last final word of each channel."""
        self._labels: dict[int, str] = {}
        """The speakers of channels, in the order of their first words."""
        self._pending: list[_Pending] = []
        """In order of time."""
        self._word_count = 0
        self._is_behind = False
        self.numbering = asyncio.Lock()
        """Held while numbered events are made, so that they are in order."""

    @property
    def behind(self) -> float:
        """Seconds of audio that have not been read yet."""
        return max(0.0, self._audio.end - self.read_until)

    def restore(self, events: Sequence[Response], settled_until: float) -> dict[int, Position]:
        """Takes the events of a session that is continued. Returns from where on its channels must be read."""
        self.events = list(events)
        in_utterance = set[int]()
        for event in events:
            if event.HasField("final"):
                last = event.final.words[-1]
                self._word_count = event.final.first_word + len(event.final.words)
                self._ends[event.final.channel] = codec.decode_duration(last.end_offset)
                self._labels.setdefault(event.final.channel, last.speaker_label)
                in_utterance.add(event.final.channel)
            elif event.HasField("utterance_end"):
                in_utterance.discard(event.utterance_end.channel)
        starts = {channel: max(end, settled_until) for channel, end in self._ends.items()}
        self._newest = {channel: WordsChange(interim_start=start) for channel, start in starts.items()}
        self.read_until = min(starts.values())
        return {channel: Position(start, channel in in_utterance) for channel, start in starts.items()}

    def settle(self, start: float) -> None:
        """Says that the next window begins at ``start``. If no word waits, audio before it need not be read again."""
        if not self._pending:
            self._journal.settled_until = max(self._journal.settled_until, start)

    def add_words(self, changes: Mapping[int, WordsChange], read_until: float) -> None:
        """Takes the words of a reading of each channel, which are published by ``publish_words``."""
        self.read_until = read_until
        for channel, change in changes.items():
            for index, word in enumerate(change.final):
                if index in change.pauses:
                    self._pending.append(_Pending(self._ends[channel], channel))
                self._pending.append(_Pending(word.start or 0.0, channel, word, change.language, read_until))
                self._ends[channel] = word.end or 0.0
            if change.utterance_ended:
                self._pending.append(_Pending(self._ends[channel], channel))
        self._pending.sort(key=lambda each: (each.at, each.channel))  # stable: a channel stays in order
        self._newest.update(changes)

    async def publish_words(self, *, all_words: bool = False) -> None:
        """Publishes the final words that need not wait, in order, and the interim words after them."""
        async with self.numbering:
            words: list[Word] = []
            channel, language = 0, ""
            while self._pending and (all_words or self._is_ready(self._pending[0])):
                pending = self._pending.pop(0)
                same = (pending.channel, pending.language) == (channel, language)
                if words and (pending.word is None or not same):
                    await self._publish_final(words, channel, language)
                    words = []
                channel, language = pending.channel, pending.language
                if pending.word is None:
                    end = Response.UtteranceEnd(channel=channel)
                    await self._keep(self.message(self.read_until, utterance_end=end))
                else:
                    words.append(pending.word)
            if words:
                await self._publish_final(words, channel, language)
        self._publish_interim()

    async def publish_corrections(self, corrections: Sequence[Correction]) -> None:
        """Publishes new speakers of final words. The caller holds ``numbering``."""
        for correction in corrections:
            self._metrics.corrected(correction.word_count)
            message = Response.SpeakerCorrection(
                first_word=correction.first_word,
                word_count=correction.word_count,
                speaker_label=correction.speaker,
            )
            await self._keep(self.message(self.read_until, speaker_correction=message))

    async def publish_delay(self) -> None:
        """Publishes a notice when the session begins to fall behind."""
        if not self._is_behind and self.behind > _BEHIND_SECONDS:
            self._is_behind = True
            text = f"The transcript is {self.behind:.0f} s behind: the audio arrives faster than the models work."
            notice = gateway_pb2.Notice(code=NoticeCode.FALLING_BEHIND, message=text)
            async with self.numbering:
                await self._keep(self.message(self.read_until, notice=notice))
        elif self.behind < _CAUGHT_UP_SECONDS:
            self._is_behind = False

    async def publish_end(self, job_id: str) -> None:
        """Publishes the last event."""
        await self._keep(self.message(self._audio.end, ended=Response.Ended(job_id=job_id)))

    def message(self, until: float, **content: object) -> Response:
        """Returns a message without a number that says what is known up to a time."""
        event = Response(received_bytes=self._journal.audio_bytes, **content)  # type: ignore[arg-type]  # a message
        codec.set_duration(event.audio_offset, until)
        codec.set_duration(event.behind, max(0.0, self._audio.end - until))
        return event

    def _is_ready(self, pending: _Pending) -> bool:
        if pending.word is None:
            return True
        if self._options.separate:
            complete_until = min(change.interim_start for change in self._newest.values())
            # Not since the word was said: a session that catches up reads more than that at once.
            waited = self.read_until - pending.known_at
            return pending.at < complete_until or waited > _LONGEST_ORDER_WAIT_SECONDS
        lag = _SPEAKER_LAG_SECONDS if self._speakers.knows(pending.word) else _NEW_SPEAKER_LAG_SECONDS
        end = (pending.word.end or 0.0) + lag
        if end > self.flushed_until >= (pending.word.end or 0.0):
            end = self.flushed_until
        until = self._speakers.diarized_until
        return until >= min(end, self._audio.end) or self.read_until - end > _LONGEST_SPEAKER_WAIT_SECONDS

    async def _publish_final(self, words: Sequence[Word], channel: int, language: str) -> None:
        final = Response.Final(first_word=self._word_count, language_code=language, channel=channel)
        for number, word in enumerate(words, self._word_count):
            if self._options.separate:
                speaker = self._labels.setdefault(channel, speaker_label(len(self._labels)))
            else:
                speaker = self._speakers.speaker_of(number, word)
            codec.write_words(final.words, [replace(word, speaker=speaker or None)])
        self._word_count += len(words)
        self._metrics.final(self._audio.end - (words[-1].end or 0.0), len(words))
        await self._keep(self.message(self.read_until, final=final))

    def _publish_interim(self) -> None:
        if not self._options.interim_results:
            return
        newest = (
            _Pending(change.interim_start, channel, word, change.language)
            for channel, change in self._newest.items()
            for word in change.interim
        )
        interim = Response.Interim()
        labels = dict(self._labels)
        for each in sorted((*self._pending, *newest), key=lambda pending: pending.at):
            if each.word is not None:
                if self._options.separate:
                    labels.setdefault(each.channel, speaker_label(len(labels)))
                interim.words.add(text=each.word.text, speaker_label=labels.get(each.channel, ""))
                interim.language_code = each.language
        if interim.words if self.interim is None else self.interim.interim != interim:
            self.interim = self.message(self.read_until, interim=interim)
            self._metrics.interim(self.behind)
            self._changes.notify()

    async def _keep(self, event: Response) -> None:
        """Numbers an event, and keeps and sends it. Final words replace the interim ones."""
        event.event_number = len(self.events) + 1
        await run_to_end(self._append(event))
        self._changes.notify()

    async def _append(self, event: Response) -> None:
        await self._journal.append_event(event)
        self.events.append(event)
        if event.HasField("final") or event.HasField("ended"):
            self.interim = None


def published_words(events: Sequence[Response]) -> list[Word]:
    """Returns the final words in ``events``, with their speakers as corrected since."""
    words: list[Word] = []
    for event in events:
        if event.HasField("final"):
            words += codec.read_words(event.final.words)
        elif event.HasField("speaker_correction"):
            correction = event.speaker_correction
            for number in range(correction.first_word, correction.first_word + correction.word_count):
                words[number] = replace(words[number], speaker=correction.speaker_label)
    return words
