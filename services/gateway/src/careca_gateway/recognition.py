"""The diarize stage of the gateway: who speaks when, from the diarizer, and who of them is somebody known.

The diarizer knows nobody: its answers, and what it caches of them, are the same whoever is known.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager

from careca import codec
from careca.errors import CarecaError, InvalidRecording, InvalidRequest, PreconditionFailed
from careca.logs import get_logger
from careca.types import DiarizationOptions, Digest, KnownSpeaker, Speaker, Voice
from careca.v1 import audio_pb2
from careca_gateway.identity import KnownVoice, cosine, recognise, refuse_other_models
from careca_gateway.pipeline import DecodeStage, Finished, ModelStage, last
from careca_gateway.request import Deadline, WhoSpeaks, WorkEvent
from careca_gateway.store import HeldRecording, Store, StoredAudio

Diarizer = ModelStage[DiarizationOptions, audio_pb2.Diarization]

_ALONE = DiarizationOptions(speaker_count=1)
"""What recordings of known speakers are diarized with: one person speaks in them."""

_log = get_logger(__name__)


class RecognisingDiarizer:
    """A ``ModelStage`` that diarizes and names those speakers who are known.

    Args:
        diarizer: finds who speaks when.
        store: where recordings of known speakers are kept, as those to be transcribed are.
        decoder: makes audio of them.
        least_similarity: cosine of two voices from which on they are one person's.
    """

    def __init__(self, diarizer: Diarizer, *, store: Store, decoder: DecodeStage, least_similarity: float) -> None:
        self._diarizer = diarizer
        self._store = store
        self._decoder = decoder
        self._least_similarity = least_similarity

    async def run(
        self, audio: StoredAudio, options: WhoSpeaks, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[WorkEvent | Finished[audio_pb2.Diarization], None]:
        """Progress, lastly the diarization's message with names.

        The recordings of known speakers come first, one after the other: what is wrong with them is told at once, and
        one request never takes more than one place of the diarizer.

        Raises ``InvalidRequest`` where somebody cannot be recognised by what the request gives, and what the diarizer
        raises.
        """
        voices = [
            await self._voice(speaker, f"config.known_speakers[{index}].recording", skip_cache, deadline)
            for index, speaker in enumerate(options.known)
        ]
        diarizing = self._diarizer.run(audio, options.options, skip_cache=skip_cache, deadline=deadline)
        async with aclosing(diarizing) as events:
            async for event in events:
                yield self._named(event, voices) if isinstance(event, Finished) and voices else event

    def _named(
        self, found: Finished[audio_pb2.Diarization], voices: Sequence[Finished[KnownVoice]]
    ) -> Finished[audio_pb2.Diarization]:
        """What was found, with the names of those who are known written into the message."""
        diarization, known = found.message, [voice.message for voice in voices]
        speakers = codec.read_speakers(diarization.speakers)
        if speakers and not any(speaker.embedding for speaker in speakers):
            raise _no_voices()
        refuse_other_models(speakers, known)
        named = recognise(speakers, known, least_similarity=self._least_similarity)
        _report(named, known)
        del diarization.speakers[:]
        codec.write_speakers(diarization.speakers, named)
        return Finished(diarization, found.cached and all(voice.cached for voice in voices))

    async def _voice(
        self, speaker: KnownSpeaker, field: str, skip_cache: bool, deadline: Deadline
    ) -> Finished[KnownVoice]:
        """The voice of somebody known, and whether nothing had to be computed for it."""
        if isinstance(speaker.reference, Voice):
            return Finished(KnownVoice(speaker.name, speaker.reference), cached=True)
        with _telling_whose(speaker.name, field):
            heard = await self._hear(speaker.reference, skip_cache, deadline)
            if heard.message is None:
                raise InvalidRecording("there is no speech in it", reason="NO_SPEECH")
            if heard.message.voice is None:
                raise _no_voices()
        return Finished(KnownVoice(speaker.name, heard.message.voice), heard.cached)

    async def _hear(self, recording: bytes, skip_cache: bool, deadline: Deadline) -> Finished[Speaker | None]:
        """Who speaks in ``recording``."""
        digest = await asyncio.to_thread(_digest_of, recording)
        with self._store.hold(digest) as held:
            if not await asyncio.to_thread(held.known):
                await asyncio.to_thread(_keep, held, recording)
            audio = (await self._decoder.decode(held, _ignore)).message
            diarizing = self._diarizer.run(audio, _ALONE, skip_cache=skip_cache, deadline=deadline)
            finished = await last(diarizing, _ignore)
        speakers = codec.read_speakers(finished.message.speakers)
        return Finished(speakers[0] if speakers else None, finished.cached)


def _digest_of(recording: bytes) -> Digest:
    return Digest(hashlib.sha256(recording).hexdigest(), len(recording))


def _keep(held: HeldRecording, recording: bytes) -> None:
    """Puts the bytes into the store as if they had been uploaded."""
    with held.upload() as upload:
        upload.write(recording)
        upload.finish()


def _report(speakers: Sequence[Speaker], known: Sequence[KnownVoice]) -> None:
    """Logs how alike each speaker is to the nearest of those known: what a threshold is set by. Names nobody."""
    nearest = {
        speaker.label: round(max(cosine(speaker.embedding, voice.embedding) for _, voice in known), 3)
        for speaker in speakers
        if speaker.embedding
    }
    recognised = sum(speaker.name is not None for speaker in speakers)
    _log.info("speakers compared", known=len(known), recognised=recognised, nearest=nearest)


@contextmanager
def _telling_whose(name: str, field: str) -> Iterator[None]:
    """Adds to every failure whose recording it is about, and to a refusal its field."""
    try:
        yield
    except CarecaError as error:
        error.message = f"the recording of the known speaker {name}: {error.message}"
        if isinstance(error, InvalidRequest):
            error.field = field
        raise


def _no_voices() -> PreconditionFailed:
    return PreconditionFailed(
        "the diarizer gives no embedding to recognise by: its pipeline never does, or there is too little speech",
        reason="NO_EMBEDDINGS",
    )


def _ignore(_: object) -> None:
    """The progress of one recording among several says nothing of the whole."""
