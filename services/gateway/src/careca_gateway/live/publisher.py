"""The events of a session: makes, numbers and keeps them. Final words wait here for their speakers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from careca import codec
from careca.types import NoticeCode, Word
from careca.v1 import gateway_pb2, live_pb2
from careca_gateway.live.audio import AudioBuffer
from careca_gateway.live.changes import Changes, run_to_end
from careca_gateway.live.journal import Journal
from careca_gateway.live.metrics import LiveMetrics
from careca_gateway.live.speakers import Correction, SpeakerMemory
from careca_gateway.live.words import WordsChange

Response = live_pb2.LiveServiceTranscribeResponse

_SPEAKER_LAG_SECONDS = 0.2
"""Audio after a word that the diarizer needs to find its speaker."""

_NEW_SPEAKER_LAG_SECONDS = 2.0
"""The same for a word of nobody who is known: a new voice is a speaker only after some speech."""

_LONGEST_SPEAKER_WAIT_SECONDS = 4.0
"""A word gets the most probable speaker if the diarizer is further behind."""

_BEHIND_SECONDS = 10.0
_CAUGHT_UP_SECONDS = 3.0


@dataclass(slots=True)
class _Pending:
    """A final word that waits for its speaker, or the end of an utterance."""

    word: Word | None
    language: str = ""


class Publisher:
    """The events of one session.

    Args:
        journal: keeps the numbered events.
        audio: the audio that has been received.
        speakers: find the speakers of words.
        changes: is notified of each event.
        metrics: counts.
        interim_results: whether the caller wants interim words.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        audio: AudioBuffer,
        speakers: SpeakerMemory,
        changes: Changes,
        metrics: LiveMetrics,
        interim_results: bool,
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
        self._interim_results = interim_results
        self._newest: tuple[Sequence[Word], str] = ((), "")
        """The words and the language of the last reading that are not final."""
        self._pending: list[_Pending] = []
        self._word_count = 0
        self._is_behind = False
        self.numbering = asyncio.Lock()
        """Held while numbered events are made, so that they are in order."""

    @property
    def behind(self) -> float:
        """Seconds of audio that have not been read yet."""
        return max(0.0, self._audio.end - self.read_until)

    def restore(self, events: Sequence[Response], settled_until: float) -> float:
        """Takes the events of a session that is continued. Returns from where on its audio must be read."""
        self.events = list(events)
        finals = [event.final for event in events if event.HasField("final")]
        if finals:
            self._word_count = finals[-1].first_word + len(finals[-1].words)
            self.read_until = codec.decode_duration(finals[-1].words[-1].end_offset)
        self.read_until = max(self.read_until, settled_until)
        return self.read_until

    def settle(self, start: float) -> None:
        """Says that the next window begins at ``start``. If no word waits, audio before it need not be read again."""
        if not self._pending:
            self._journal.settled_until = max(self._journal.settled_until, start)

    def add_words(self, change: WordsChange, read_until: float) -> None:
        """Takes the words of a reading, which are published by ``publish_words``."""
        self.read_until = read_until
        for index, word in enumerate(change.final):
            if index in change.pauses:
                self._pending.append(_Pending(None))
            self._pending.append(_Pending(word, change.language))
        if change.utterance_ended:
            self._pending.append(_Pending(None))
        self._newest = change.interim, change.language

    async def publish_words(self, *, all_words: bool = False) -> None:
        """Publishes the final words whose speakers are known, in order, and the interim words after them."""
        async with self.numbering:
            words: list[Word] = []
            language = ""
            while self._pending and (all_words or self._is_ready(self._pending[0])):
                pending = self._pending.pop(0)
                if words and (pending.word is None or pending.language != language):
                    await self._publish_final(words, language)
                    words = []
                if pending.word is None:
                    await self._keep(self.message(self.read_until, utterance_end=Response.UtteranceEnd()))
                else:
                    words.append(pending.word)
                    language = pending.language
            if words:
                await self._publish_final(words, language)
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
        lag = _SPEAKER_LAG_SECONDS if self._speakers.knows(pending.word) else _NEW_SPEAKER_LAG_SECONDS
        end = (pending.word.end or 0.0) + lag
        if end > self.flushed_until >= (pending.word.end or 0.0):
            end = self.flushed_until
        until = self._speakers.diarized_until
        return until >= min(end, self._audio.end) or self.read_until - end > _LONGEST_SPEAKER_WAIT_SECONDS

    async def _publish_final(self, words: Sequence[Word], language: str) -> None:
        final = Response.Final(first_word=self._word_count, language_code=language)
        for number, word in enumerate(words, self._word_count):
            speaker = self._speakers.speaker_of(number, word)
            codec.write_words(final.words, [replace(word, speaker=speaker or None)])
        self._word_count += len(words)
        self._metrics.final(self._audio.end - (words[-1].end or 0.0), len(words))
        await self._keep(self.message(self.read_until, final=final))

    def _publish_interim(self) -> None:
        if not self._interim_results:
            return
        words, language = self._newest
        waiting = [each.word for each in self._pending if each.word is not None]
        interim = Response.Interim(language_code=language)
        for word in (*waiting, *words):
            interim.words.add(text=word.text)
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
