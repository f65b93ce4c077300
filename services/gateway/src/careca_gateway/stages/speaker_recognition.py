"""The diarize stage of the gateway: who speaks when, and what those sound like who are known.

Both are asked of the diarizer, which knows nobody: its answers, and what it caches of them, are the same whoever is
known. Who of the speakers is who is for ``careca_gateway.pipeline.speaker_naming`` to say.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from careca import codec
from careca.errors import CarecaError, InvalidRecording, InvalidRequest, PreconditionFailed
from careca.types import DiarizationOptions, Digest, KnownSpeaker, Speaker, Voice
from careca.v1 import audio_pb2
from careca_gateway.pipeline.pipeline import DecodeStage, ModelStage, StageResult, last
from careca_gateway.pipeline.speaker_naming import KnownVoice, check_comparable
from careca_gateway.request import AudioSelection, Deadline, DiarizationRequest, PipelineEvent
from careca_gateway.storage.store import HeldRecording, Store, StoredAudio

Diarizer = ModelStage[DiarizationOptions, audio_pb2.Diarization]

_ALONE = DiarizationOptions(speaker_count=1)
"""What recordings of known speakers are diarized with: one person speaks in them."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Who speaks when in an audio, and the voices to recognise the speakers by, in the request's order."""

    diarization: audio_pb2.Diarization
    known: tuple[KnownVoice, ...] = ()


class DiarizeStage:
    """A ``ModelStage`` that diarizes, and hears those who are known.

    Args:
        diarizer: finds who speaks when.
        store: where recordings of known speakers are kept, as those to be transcribed are.
        decoder: makes audio of them.
    """

    def __init__(self, diarizer: Diarizer, *, store: Store, decoder: DecodeStage) -> None:
        self._diarizer = diarizer
        self._store = store
        self._decoder = decoder

    async def run(
        self, audio: StoredAudio, options: DiarizationRequest, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[Heard], None]:
        """Progress, lastly what was heard; cached where nothing at all had to be computed.

        The recordings of known speakers come first, one after the other: what is wrong with them is told at once, and
        one request never takes more than one place of the diarizer.

        Raises ``InvalidRequest`` where somebody cannot be recognised by what the request gives, and what the diarizer
        raises.
        """
        voices = [
            await self._voice(speaker, f"config.known_speakers[{index}].recording", skip_cache, deadline)
            for index, speaker in enumerate(options.known)
        ]
        known = tuple(voice.message for voice in voices)
        diarizing = self._diarizer.run(audio, options.options, skip_cache=skip_cache, deadline=deadline)
        async with aclosing(diarizing) as events:
            async for event in events:
                if not isinstance(event, StageResult):
                    yield event
                else:
                    _check_comparable(event.message, known)
                    yield StageResult(
                        Heard(event.message, known), event.cached and all(voice.cached for voice in voices)
                    )

    async def _voice(
        self, speaker: KnownSpeaker, field: str, skip_cache: bool, deadline: Deadline
    ) -> StageResult[KnownVoice]:
        """The voice of somebody known, and whether nothing had to be computed for it."""
        if isinstance(speaker.reference, Voice):
            return StageResult(KnownVoice(speaker.name, speaker.reference), cached=True)
        with _telling_whose(speaker.name, field):
            heard = await self._hear(speaker.reference, skip_cache, deadline)
            if heard.message is None:
                raise InvalidRecording("there is no speech in it", reason="NO_SPEECH")
            if heard.message.voice is None:
                raise _no_voices()
        return StageResult(KnownVoice(speaker.name, heard.message.voice), heard.cached)

    async def _hear(self, recording: bytes, skip_cache: bool, deadline: Deadline) -> StageResult[Speaker | None]:
        """Who speaks in ``recording``."""
        digest = await asyncio.to_thread(_digest_of, recording)
        with self._store.hold(digest) as held:
            if not await asyncio.to_thread(held.known, AudioSelection()):
                await asyncio.to_thread(_keep, held, recording)
            (audio,) = (await self._decoder.decode(held, AudioSelection(), _ignore)).message.audio
            diarizing = self._diarizer.run(audio, _ALONE, skip_cache=skip_cache, deadline=deadline)
            finished = await last(diarizing, _ignore)
        speakers = codec.read_speakers(finished.message.speakers)
        return StageResult(speakers[0] if speakers else None, finished.cached)


def _digest_of(recording: bytes) -> Digest:
    return Digest(hashlib.sha256(recording).hexdigest(), len(recording))


def _keep(held: HeldRecording, recording: bytes) -> None:
    """Puts the bytes into the store as if they had been uploaded."""
    with held.upload() as upload:
        upload.write(recording)
        upload.finish()


def _check_comparable(diarization: audio_pb2.Diarization, known: Sequence[KnownVoice]) -> None:
    """Raises ``CarecaError`` where the voices found cannot be compared with those known."""
    speakers = codec.read_speakers(diarization.speakers) if known else ()
    if speakers and not any(speaker.voice for speaker in speakers):
        raise _no_voices()
    check_comparable(speakers, known)


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
