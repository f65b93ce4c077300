"""Has the audio of a session read and diarized, window by window.

Three tasks work beside each other: one reads windows, one diarizes them, and one clusters voices again from time to
time. If each channel is one speaker, there is only the first, which reads the windows of all channels at the same time.
All times are seconds of audio from the start of the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import chain, repeat
from typing import Protocol, TypeVar

from careca import codec
from careca.errors import DeadlineExceeded, InternalError, Overloaded, Unavailable
from careca.telemetry.logs import get_logger
from careca.types import ClusteredVoices, DiarizedWindow, ReadWindow, VoicesToCluster, WindowToDiarize, WindowToRead
from careca_gateway.live.audio import AudioBuffer
from careca_gateway.live.changes import Changes
from careca_gateway.live.journal import Journal, is_lost
from careca_gateway.live.options import LiveOptions
from careca_gateway.live.publisher import Position, Publisher
from careca_gateway.live.speakers import SpeakerMemory
from careca_gateway.live.words import WordsChange, WordStream

_READ_STEP_SECONDS = 0.5
"""New audio after which the window is read again."""

DIARIZE_STEP_SECONDS = 1.0
"""New audio after which who speaks is found again."""

DIARIZED_SECONDS = 10.0
"""Length of the diarizer's windows."""

_MOST_NEW_SECONDS = 5.0
"""Most new audio in a window, while a session catches up."""

_MOST_READ_SECONDS = 13.0
"""A longer window gets only a step of new audio. It may soon have to be the last one, which could cut a word."""

_MOST_UNDIARIZED_SECONDS = 40.0
"""Audio that is kept for a diarizer that is away. It goes on with the newest audio once it is back."""

_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds before a window is tried again after a model service failed; the last one without end."""

_MOST_FAILURES = 4
"""How often a model may fail at one window. The fault is in the window then, or lasts."""

R = TypeVar("R")

_log = get_logger(__name__)


class Models(Protocol):
    """The model services, for the windows of one session."""

    async def read_window(self, audio: bytes, window: WindowToRead) -> ReadWindow:
        """Returns what is said in a window."""

    async def diarize_window(self, audio: bytes, window: WindowToDiarize) -> DiarizedWindow:
        """Returns who speaks when in a window."""

    async def cluster_voices(self, voices: VoicesToCluster) -> ClusteredVoices:
        """Returns which pieces of speech have the same voice."""


class Recognition:
    """The work of one session, from its audio to its events.

    Args:
        journal: keeps the voices that were heard.
        options: what the caller asks for.
        models: the model services.
        audio: the audio that has been received.
        speakers: the memory of voices.
        publisher: gets the words.
        changes: says that there is more audio, and is notified of progress.
        positions: where each channel begins.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        options: LiveOptions,
        models: Models,
        audio: AudioBuffer,
        speakers: SpeakerMemory,
        publisher: Publisher,
        changes: Changes,
        positions: Mapping[int, Position],
    ) -> None:
        self._journal = journal
        self._options = options
        self._models = models
        self._audio = audio
        self._speakers = speakers
        self._publisher = publisher
        self._changes = changes
        self._words = {
            channel: WordStream(
                options.transcription,
                pause=options.utterance_pause,
                start=position.start,
                in_utterance=position.in_utterance,
            )
            for channel, position in positions.items()
        }
        """The words of each channel."""
        self._speech_until = 0.0
        """The end of the last speech that was found."""
        self._flushes: list[float] = []
        """Times up to which words are to be final."""
        self._ending = False
        self.all_read = False
        """Whether all words have been found."""

    def flush(self) -> None:
        """Makes all words final that were said so far."""
        if self._audio.end not in self._flushes[-1:]:
            self._flushes.append(self._audio.end)
        self._changes.notify()

    def end(self) -> None:
        """Says that no more audio comes."""
        self._ending = True
        self._changes.notify()

    async def run(self) -> None:
        """Works until the end of the audio. Raises the error of a window that fails again and again."""
        if self._options.separate:
            await self._read()
        else:
            await self._read_and_diarize()
        await self._publisher.publish_words(all_words=True)

    async def _read_and_diarize(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._diarize())
            clustering = tasks.create_task(self._cluster_repeatedly())
            while not self._all_diarized():
                await self._changes.wait()
            async with self._publisher.numbering:  # between two corrections, the rest would be lost
                clustering.cancel()
        if self._speakers.new_seconds:
            await self._cluster()

    def drop_audio(self) -> None:
        """Drops audio that no window needs any more."""
        needed = min(self._start, self._publisher.read_until)
        if not self._options.separate:
            diarized = max(self._speakers.diarized_until, self._audio.end - _MOST_UNDIARIZED_SECONDS)
            needed = min(needed, diarized - DIARIZED_SECONDS)
        self._audio.drop_before(needed)

    @property
    def _start(self) -> float:
        """The audio before this time has been read for the last time."""
        return min(words.start for words in self._words.values())

    async def _read(self) -> None:
        """Reads windows to the end of the audio."""
        while not self.all_read:
            while not self._must_read():
                await self._changes.wait()
            until = self._publisher.read_until
            most = max(until + _READ_STEP_SECONDS, self._start + _MOST_READ_SECONDS)
            now = min(self._audio.end, until + _MOST_NEW_SECONDS, most, *self._flushes[:1])
            flushed = now in self._flushes[:1]
            at_end = self._ending and now >= self._audio.end
            await self._read_windows(now, last=at_end or flushed)
            if flushed:
                self._publisher.flushed_until = self._flushes.pop(0)
            self.all_read = at_end
            self._changes.notify()

    def _must_read(self) -> bool:
        return self._publisher.behind >= _READ_STEP_SECONDS or bool(self._flushes) or self._ending

    async def _read_windows(self, now: float, *, last: bool) -> None:
        """Reads the audio of each channel up to ``now``."""
        async with asyncio.TaskGroup() as tasks:
            reading = {
                channel: tasks.create_task(self._read_window(channel, now, last=last)) for channel in self._words
            }
        self._publisher.add_words({channel: task.result() for channel, task in reading.items()}, now)
        await self._publisher.publish_words()
        await self._publisher.publish_delay()
        self._publisher.settle(self._start)
        self.drop_audio()

    async def _read_window(self, channel: int, now: float, *, last: bool) -> WordsChange:
        words = self._words[channel]
        start = words.start
        last = last or words.must_end(now)
        audio = self._audio.read(start, now, channel)
        read = ReadWindow()
        if audio.strip(b"\0"):  # a telephone line has such silence, as have channels whose crosstalk was silenced
            read = await self.retry(partial(self._models.read_window, audio, words.window(last=last)))
        if read.speech_end is not None:
            self._speech_until = start + read.speech_end
        return words.add(read, now, last=last)

    async def _diarize(self) -> None:
        """Finds who speaks, to the end of the audio."""
        while not self._all_diarized():
            until = self._speakers.diarized_until
            enough = self._audio.end - until >= DIARIZE_STEP_SECONDS or self._publisher.flushed_until > until
            if not (enough or self.all_read):
                await self._changes.wait()
                continue
            kept_from = self._audio.start
            now = min(self._audio.end, max(until, kept_from) + _MOST_NEW_SECONDS)
            start = max(0.0, now - DIARIZED_SECONDS, kept_from)
            found = DiarizedWindow()
            if self._may_have_speech(start, now):
                audio = self._audio.read(start, now)
                window = WindowToDiarize(voices_from=max(0.0, self._speakers.voices_until - start))
                found = await self.retry(partial(self._models.diarize_window, audio, window))
            for heard in self._speakers.add(found, start, now):
                await self._journal.append_voice(codec.encode_voice_piece(heard.piece))
            await self._publisher.publish_words()
            self._changes.notify()

    def _all_diarized(self) -> bool:
        return self.all_read and self._speakers.diarized_until >= self._audio.end

    def _may_have_speech(self, start: float, end: float) -> bool:
        """Whether there may be speech in a window: some was found in it, or it has not been read yet.

        The last second or so need not have been read: if there is speech, a later window has it too.
        """
        unread = 0.0 if self._ending else DIARIZE_STEP_SECONDS
        return self._speech_until > start or self._publisher.read_until < end - unread

    async def _cluster_repeatedly(self) -> None:
        """Clusters the voices again from time to time."""
        while True:
            if self._speakers.must_cluster:
                await self._cluster()
            else:
                await self._changes.wait()

    async def _cluster(self) -> None:
        pieces = self._speakers.pieces
        voices = VoicesToCluster(pieces, self._options.diarization)
        clustered = await self.retry(partial(self._models.cluster_voices, voices))
        async with self._publisher.numbering:
            await self._publisher.publish_corrections(self._speakers.settle(len(pieces), clustered.speakers))

    async def retry(self, call: Callable[[], Awaitable[R]]) -> R:
        """Returns what a service answers. Waits until one can be reached: the audio is kept meanwhile.

        Raises the error of a call that fails again and again.
        """
        failures = 0
        for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
            try:
                return await call()
            except (Unavailable, Overloaded, DeadlineExceeded, InternalError) as error:
                if is_lost(error):
                    raise
                failures += isinstance(error, InternalError)
                if failures == _MOST_FAILURES:
                    raise
                session_id = self._journal.session_id
                _log.info("a window is tried again", session_id=session_id, reason=error.reason, error=error.message)
                await asyncio.sleep(pause)
        raise AssertionError  # the pauses do not end
