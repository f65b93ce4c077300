"""The diarize stage: finds who speaks when, and the voices of known speakers to recognize them by.

Both come from the diarizer, which knows nobody: its answers and its cache do not depend on the known speakers. The
comparison of voices is in ``careca_gateway.pipeline.speaker_naming``.
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
from careca_gateway.pipeline.port import DecodeStage, ModelStage, StageResult, stage_result
from careca_gateway.pipeline.speaker_naming import KnownVoice, check_comparable
from careca_gateway.request import AudioSelection, Deadline, DiarizationRequest, PipelineEvent
from careca_gateway.storage.held_recording import HeldRecording, StoredAudio
from careca_gateway.storage.store import Store

Diarizer = ModelStage[DiarizationOptions, audio_pb2.Diarization]

_ONE_SPEAKER = DiarizationOptions(speaker_count=1)
"""The options for recordings of known speakers: one person speaks in each."""


@dataclass(frozen=True, slots=True)
class DiarizedAudio:
    """Who speaks when in an audio, and the voices of the known speakers, in the request's order."""

    diarization: audio_pb2.Diarization
    known_voices: tuple[KnownVoice, ...] = ()


class SpeakerRecognitionStage:
    """A ``ModelStage`` that diarizes an audio and the recordings of known speakers.

    Args:
        diarizer: finds who speaks when.
        store: keeps the recordings of known speakers like all others.
        decoder: decodes them.
    """

    def __init__(self, diarizer: Diarizer, *, store: Store, decoder: DecodeStage) -> None:
        self._diarizer = diarizer
        self._store = store
        self._decoder = decoder

    async def run(
        self, audio: StoredAudio, options: DiarizationRequest, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[DiarizedAudio], None]:
        """Yields progress and lastly the result, which counts as cached if nothing had to be computed.

        The recordings of known speakers come first, one after the other. So an error in them is reported early, and a
        request never takes more than one place in the diarizer.

        Raises ``InvalidRequest`` if a known speaker cannot be recognized by what the request contains, and the
        diarizer's errors.
        """
        voices = [
            await self._known_voice(speaker, f"config.known_speakers[{index}].recording", skip_cache, deadline)
            for index, speaker in enumerate(options.known_speakers)
        ]
        known = tuple(voice.message for voice in voices)
        running = self._diarizer.run(audio, options.options, skip_cache=skip_cache, deadline=deadline)
        async with aclosing(running) as events:
            async for event in events:
                if not isinstance(event, StageResult):
                    yield event
                else:
                    _check_voices(event.message, known)
                    cached = event.cached and all(voice.cached for voice in voices)
                    yield StageResult(DiarizedAudio(event.message, known), cached)

    async def _known_voice(
        self, speaker: KnownSpeaker, field: str, skip_cache: bool, deadline: Deadline
    ) -> StageResult[KnownVoice]:
        if isinstance(speaker.reference, Voice):
            return StageResult(KnownVoice(speaker.name, speaker.reference, speaker.skip_if_incomparable), cached=True)
        with _errors_of(speaker.name, field):
            found = await self._find_speaker(speaker.reference, skip_cache, deadline)
            if found.message is None:
                raise InvalidRecording("there is no speech in it", reason="NO_SPEECH")
            if found.message.voice is None:
                raise _no_embeddings()
        return StageResult(KnownVoice(speaker.name, found.message.voice), found.cached)

    async def _find_speaker(
        self, recording: bytes, skip_cache: bool, deadline: Deadline
    ) -> StageResult[Speaker | None]:
        """Returns the one speaker in ``recording``, ``None`` if there is no speech."""
        digest = await asyncio.to_thread(_digest_of, recording)
        selection = AudioSelection()
        with self._store.hold(digest) as held:
            if not await asyncio.to_thread(held.known, selection):
                await asyncio.to_thread(_store_recording, held, recording)
            (audio,) = (await self._decoder.decode(held, selection, _ignore)).message.audio
            running = self._diarizer.run(audio, _ONE_SPEAKER, skip_cache=skip_cache, deadline=deadline)
            result = await stage_result(running, _ignore)
        speakers = codec.read_speakers(result.message.speakers)
        return StageResult(speakers[0] if speakers else None, result.cached)


def _digest_of(recording: bytes) -> Digest:
    return Digest(hashlib.sha256(recording).hexdigest(), len(recording))


def _store_recording(held: HeldRecording, recording: bytes) -> None:
    """Stores the bytes in the same way as an upload."""
    with held.upload() as upload:
        upload.write(recording)
        upload.finish()


def _check_voices(diarization: audio_pb2.Diarization, known: Sequence[KnownVoice]) -> None:
    """Raises ``CarecaError`` if the voices that were found cannot be compared with known voices that are needed."""
    needed = any(not each.skip_if_incomparable for each in known)
    speakers = codec.read_speakers(diarization.speakers) if needed else ()
    if speakers and not any(speaker.voice for speaker in speakers):
        raise _no_embeddings()
    check_comparable(speakers, known)


@contextmanager
def _errors_of(name: str, field: str) -> Iterator[None]:
    """Adds the known speaker's name to the message of every error, and the field to an ``InvalidRequest``."""
    try:
        yield
    except CarecaError as error:
        error.message = f"the recording of the known speaker {name}: {error.message}"
        if isinstance(error, InvalidRequest):
            error.field = field
        raise


def _no_embeddings() -> PreconditionFailed:
    return PreconditionFailed(
        "the diarizer returned no embedding, so speakers cannot be recognized: its pipeline does not support "
        "embeddings, or there is too little speech",
        reason="NO_EMBEDDINGS",
    )


def _ignore(_: object) -> None:
    """Drops the progress of one recording: it says nothing about the progress of the whole stage."""
