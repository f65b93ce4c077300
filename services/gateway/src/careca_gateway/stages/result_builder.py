"""The merge stage: builds the gateway's result, with its formats, from the model services' messages.

The last results are cached, serialized and without the stages' reports. Answering the same request again then only
copies bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from careca import codec
from careca.telemetry.logs import get_logger
from careca.types import Channel, Diarization, Result, StageReport, Transcript, Utterance
from careca.v1 import audio_pb2, gateway_pb2
from careca_gateway.formats import render
from careca_gateway.pipeline.channels import combine_diarizations, label_channels, main_transcript
from careca_gateway.pipeline.merge import merge, merge_channels
from careca_gateway.pipeline.notices import collect_notices
from careca_gateway.pipeline.port import Found, StageResult
from careca_gateway.pipeline.speaker_naming import (
    KnownVoice,
    apply_names,
    best_similarity,
    incomparable,
    recognize_speakers,
)
from careca_gateway.request import Request
from careca_gateway.stages.speaker_recognition import DiarizedAudio
from careca_gateway.storage.held_recording import DecodedAudio, StoredAudio

CACHE_ENTRIES = 16
"""The maximum number of cached results."""

CACHE_BYTES = 16 * 1024 * 1024
"""The maximum size of the cached results. Recordings of many hours have results of several megabytes."""

StageMessages = Found[audio_pb2.Transcript, DiarizedAudio]

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MergedResult:
    """A result without the reports of its stages."""

    outline: Result
    """What is known without the models."""
    content: bytes
    """The rest, as a serialized ``TranscribeResult``."""


class ResultBuilder:
    """Builds results, in threads.

    Args:
        least_similarity: two voices with this cosine similarity or more are the same person's.
    """

    def __init__(self, *, least_similarity: float) -> None:
        self._least_similarity = least_similarity
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    async def merge(
        self, request: Request, decoded: DecodedAudio, found: StageMessages, reports: tuple[StageReport, ...]
    ) -> StageResult[MergedResult]:
        """Builds the result without reports. ``reports`` are only used to name failed stages in the formats."""
        content, cached = await asyncio.to_thread(self._merge, request, decoded, found, reports)
        return StageResult(MergedResult(_outline(request, decoded.audio), content), cached)

    def add_reports(self, merged: MergedResult, reports: tuple[StageReport, ...]) -> gateway_pb2.TranscribeResponse:
        """Returns the response with the result and all reports. The result is too large to be copied once more."""
        outline = codec.encode_result(replace(merged.outline, stages=reports))
        response = gateway_pb2.TranscribeResponse(result=outline)
        response.result.MergeFromString(merged.content)
        return response

    def clear(self) -> None:
        """Clears the cache."""
        with self._lock:
            self._cache.clear()

    def _merge(
        self, request: Request, decoded: DecodedAudio, found: StageMessages, reports: tuple[StageReport, ...]
    ) -> tuple[bytes, bool]:
        """Returns the content of the result, and whether it was cached. Runs in a thread."""
        if found.transcripts is None or found.diarizations is None:
            return self._content(request, decoded, found, reports), False
        key = _key(request, decoded, found.transcripts, found.diarizations)
        if (cached := self._cached(key)) is not None:
            return cached, True
        content = self._content(request, decoded, found, reports)
        self._store(key, content)
        return content, False

    def _content(
        self, request: Request, decoded: DecodedAudio, found: StageMessages, reports: tuple[StageReport, ...]
    ) -> bytes:
        """Returns a serialized ``TranscribeResult`` with its formats, which name the failed stages in ``reports``."""
        transcripts = None if found.transcripts is None else tuple(map(codec.decode_transcript, found.transcripts))
        diarized = found.diarizations
        diarizations = (
            None if diarized is None else tuple(codec.decode_diarization(each.diarization) for each in diarized)
        )
        known = diarized[0].known_voices if diarized else ()
        skipped = incomparable([speaker for each in diarizations or () for speaker in each.speakers], known)
        known = tuple(each for each in known if each.name not in skipped)
        notices = collect_notices(request, transcripts, diarizations, decoded.notices, skipped_voices=skipped)
        result = replace(_outline(request, decoded.audio), stages=reports, notices=notices)
        if request.selection.separates_speakers:
            result = self._add_channels(result, decoded.audio, transcripts, diarizations, known)
        else:
            result = self._add_mix(result, transcripts, diarizations, known)
        forms = {form: render(result, form, request.display_name) for form in request.formats}
        return codec.encode_result(replace(result, stages=(), formats=forms)).SerializeToString()

    def _add_mix(
        self,
        result: Result,
        transcripts: Sequence[Transcript] | None,
        diarizations: Sequence[Diarization] | None,
        known: Sequence[KnownVoice],
    ) -> Result:
        diarization = None
        if diarizations is not None:
            diarization = self._name_speakers(diarizations[0], known)
            result = _with_diarization(result, diarization)
        if transcripts is not None:
            result = _with_transcript(result, transcripts[0], merge(transcripts[0], diarization))
        return result

    def _add_channels(
        self,
        result: Result,
        audio: Sequence[StoredAudio],
        transcripts: Sequence[Transcript] | None,
        diarizations: Sequence[Diarization] | None,
        known: Sequence[KnownVoice],
    ) -> Result:
        labels = label_channels(transcripts, diarizations)
        names: dict[str | None, str] = {}
        if diarizations is not None:
            whole = self._name_speakers(combine_diarizations(diarizations, labels), known)
            names = {speaker.label: speaker.display_name for speaker in whole.speakers}
            result = _with_diarization(result, whole)
        speakers = [names.get(label, label) for label in labels]
        channels = tuple(Channel(each.digest, speaker) for each, speaker in zip(audio, speakers, strict=True))
        result = replace(result, channels=channels)
        if transcripts is None:
            return result
        return _with_transcript(result, main_transcript(transcripts), merge_channels(transcripts, speakers))

    def _name_speakers(self, diarization: Diarization, known: Sequence[KnownVoice]) -> Diarization:
        """Names the speakers who are recognized. Logs how similar the voices are, without any names."""
        if not known:
            return diarization
        speakers = recognize_speakers(diarization.speakers, known, least_similarity=self._least_similarity)
        _log.info(
            "speakers compared",
            known=len(known),
            recognised=sum(speaker.name is not None for speaker in speakers),
            best_similarity={
                speaker.label: round(best_similarity(speaker, known), 3) for speaker in speakers if speaker.voice
            },
        )
        return apply_names(replace(diarization, speakers=speakers))

    def _cached(self, key: str) -> bytes | None:
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
            return self._cache.get(key)

    def _store(self, key: str, content: bytes) -> None:
        with self._lock:
            self._cache[key] = content
            while len(self._cache) > CACHE_ENTRIES or sum(map(len, self._cache.values())) > CACHE_BYTES:
                self._cache.popitem(last=False)


def _key(
    request: Request,
    decoded: DecodedAudio,
    transcripts: Sequence[audio_pb2.Transcript],
    diarized: Sequence[DiarizedAudio],
) -> str:
    """Returns a digest of everything that the result depends on."""
    digest = hashlib.sha256()
    parameters = (
        request.recording,
        request.selection,
        request.display_name,
        request.formats,
        decoded.notices,
        diarized[0].known_voices,
        request.diarization,
    )
    for part in (
        *(message.SerializeToString(deterministic=True) for message in transcripts),
        *(each.diarization.SerializeToString(deterministic=True) for each in diarized),
        repr(parameters).encode(),
    ):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _outline(request: Request, audio: Sequence[StoredAudio]) -> Result:
    return Result(recording=request.recording, audio=audio[0].digest, duration=audio[0].duration, stages=())


def _with_transcript(result: Result, transcript: Transcript, utterances: tuple[Utterance, ...]) -> Result:
    return replace(
        result,
        language=transcript.language,
        language_probability=transcript.language_probability,
        utterances=utterances,
        transcription_model=transcript.model,
    )


def _with_diarization(result: Result, diarization: Diarization) -> Result:
    return replace(
        result,
        turns=diarization.turns,
        exclusive_turns=diarization.exclusive_turns,
        speakers=diarization.speakers,
        candidates=diarization.candidates,
        diarization_model=diarization.model,
    )
