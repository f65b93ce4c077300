"""The merge stage: the model services' messages to the gateway's result, with the textual forms that were asked for.

What does not depend on the course of one request is remembered, serialized, for the last few recordings: answering the
same question again then costs no more than copying bytes.
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
from careca_gateway.pipeline.channels import combine, main_transcript, name_speakers
from careca_gateway.pipeline.merge import merge, merge_channels
from careca_gateway.pipeline.notices import collect_notices
from careca_gateway.pipeline.pipeline import Found, StageResult
from careca_gateway.pipeline.speaker_naming import KnownVoice, apply_names, nearest, recognize_speakers
from careca_gateway.request import Request
from careca_gateway.stages.speaker_recognition import Heard
from careca_gateway.storage.store import DecodedAudio, StoredAudio

MEMO_ENTRIES = 16
"""How many results are remembered."""

MEMO_BYTES = 16 * 1024 * 1024
"""How many bytes of results are remembered; recordings of many hours have results of several megabytes."""

Messages = Found[audio_pb2.Transcript, Heard]

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Merged:
    """A result but for the reports of its stages."""

    outline: Result
    """What is known without the models."""
    content: bytes
    """A serialized ``TranscribeResult`` with the rest."""


class ResultBuilder:
    """Makes results. The work is done in threads.

    Args:
        least_similarity: cosine of two voices from which on they are one person's.
    """

    def __init__(self, *, least_similarity: float) -> None:
        self._least_similarity = least_similarity
        self._memo: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    async def merge(
        self, request: Request, decoded: DecodedAudio, found: Messages, reports: tuple[StageReport, ...]
    ) -> StageResult[Merged]:
        """Everything that is known of the recording."""
        merged, cached = await asyncio.to_thread(self._merge, request, decoded, found, reports)
        return StageResult(Merged(_outline(request, decoded.audio), merged), cached)

    def conclude(self, merged: Merged, reports: tuple[StageReport, ...]) -> gateway_pb2.TranscribeResponse:
        """The result with the reports of all stages, in the message that carries it: it is too large to be copied."""
        outline = codec.encode_result(replace(merged.outline, stages=reports))
        response = gateway_pb2.TranscribeResponse(result=outline)
        response.result.MergeFromString(merged.content)
        return response

    def clear(self) -> None:
        """Forgets all results."""
        with self._lock:
            self._memo.clear()

    def _merge(
        self, request: Request, decoded: DecodedAudio, found: Messages, reports: tuple[StageReport, ...]
    ) -> tuple[bytes, bool]:
        """The content of the result, and whether it was remembered. Runs in a thread."""
        if found.transcripts is None or found.diarizations is None:
            return self._content(request, decoded, found, reports), False
        key = _key(request, decoded, found.transcripts, found.diarizations)
        if (remembered := self._recall(key)) is not None:
            return remembered, True
        content = self._content(request, decoded, found, reports)
        self._remember(key, content)
        return content, False

    def _content(
        self, request: Request, decoded: DecodedAudio, found: Messages, reports: tuple[StageReport, ...]
    ) -> bytes:
        """A serialized ``TranscribeResult`` with its textual forms, which tell of ``reports`` that a stage failed."""
        transcripts = None if found.transcripts is None else tuple(map(codec.decode_transcript, found.transcripts))
        heard = found.diarizations
        diarizations = None if heard is None else tuple(codec.decode_diarization(each.diarization) for each in heard)
        known = heard[0].known if heard else ()
        notices = collect_notices(request, transcripts, diarizations, decoded.notices)
        result = replace(_outline(request, decoded.audio), stages=reports, notices=notices)
        if request.sound.separates_speakers:
            result = self._of_channels(result, decoded.audio, transcripts, diarizations, known)
        else:
            result = self._of_mix(result, transcripts, diarizations, known)
        forms = {form: render(result, form, request.display_name) for form in request.formats}
        return codec.encode_result(replace(result, stages=(), formats=forms)).SerializeToString()

    def _of_mix(
        self,
        result: Result,
        transcripts: Sequence[Transcript] | None,
        diarizations: Sequence[Diarization] | None,
        known: Sequence[KnownVoice],
    ) -> Result:
        diarization = None
        if diarizations is not None:
            diarization = self._named(diarizations[0], known)
            result = _with_diarization(result, diarization)
        if transcripts is not None:
            result = _with_transcript(result, transcripts[0], merge(transcripts[0], diarization))
        return result

    def _of_channels(
        self,
        result: Result,
        audio: Sequence[StoredAudio],
        transcripts: Sequence[Transcript] | None,
        diarizations: Sequence[Diarization] | None,
        known: Sequence[KnownVoice],
    ) -> Result:
        labels = name_speakers(transcripts, diarizations)
        names: dict[str | None, str] = {}
        if diarizations is not None:
            whole = self._named(combine(diarizations, labels), known)
            names = {speaker.label: speaker.display_name for speaker in whole.speakers}
            result = _with_diarization(result, whole)
        speakers = [names.get(label, label) for label in labels]
        channels = tuple(Channel(each.digest, speaker) for each, speaker in zip(audio, speakers, strict=True))
        result = replace(result, channels=channels)
        if transcripts is None:
            return result
        return _with_transcript(result, main_transcript(transcripts), merge_channels(transcripts, speakers))

    def _named(self, diarization: Diarization, known: Sequence[KnownVoice]) -> Diarization:
        """``diarization`` by name where it is somebody known. The log says how alike voices are, and names nobody."""
        if not known:
            return diarization
        speakers = recognize_speakers(diarization.speakers, known, least_similarity=self._least_similarity)
        _log.info(
            "speakers compared",
            known=len(known),
            recognised=sum(speaker.name is not None for speaker in speakers),
            nearest={speaker.label: round(nearest(speaker, known), 3) for speaker in speakers if speaker.voice},
        )
        return apply_names(replace(diarization, speakers=speakers))

    def _recall(self, key: str) -> bytes | None:
        with self._lock:
            if key in self._memo:
                self._memo.move_to_end(key)
            return self._memo.get(key)

    def _remember(self, key: str, merged: bytes) -> None:
        with self._lock:
            self._memo[key] = merged
            while len(self._memo) > MEMO_ENTRIES or sum(map(len, self._memo.values())) > MEMO_BYTES:
                self._memo.popitem(last=False)


def _key(
    request: Request, decoded: DecodedAudio, transcripts: Sequence[audio_pb2.Transcript], heard: Sequence[Heard]
) -> str:
    """Names a result by everything that it depends on."""
    digest = hashlib.sha256()
    asked = (
        request.recording,
        request.sound,
        request.display_name,
        request.formats,
        decoded.notices,
        heard[0].known,
        request.diarization,
    )
    for part in (
        *(message.SerializeToString(deterministic=True) for message in transcripts),
        *(each.diarization.SerializeToString(deterministic=True) for each in heard),
        repr(asked).encode(),
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
