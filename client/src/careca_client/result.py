"""Who said what, as the client gives it to its caller: typed values, made from the message only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from careca import codec
from careca.types import (
    Channel,
    Digest,
    Notice,
    OutputFormat,
    Result,
    Speaker,
    SpeakerCountCandidate,
    Stage,
    StageReport,
    Turn,
    Utterance,
)
from careca.v1 import gateway_pb2


class TranscriptionResult:
    """The result of one call, decoded when first looked at: an hour of speech has some ten thousand words.

    Has the attributes of ``careca.types.Result`` and, beside them, what the call itself cost.
    """

    def __init__(self, message: gateway_pb2.TranscribeResult, *, uploaded_bytes: int, seconds: float) -> None:
        self.message = message
        """The message as it came."""
        self.uploaded_bytes = uploaded_bytes
        """Bytes of the recording that were sent, over all attempts; 0 where the gateway had it."""
        self.seconds = seconds
        """Seconds from the call to the result, hashing included."""

    def __repr__(self) -> str:
        return (
            f"<TranscriptionResult of {self.recording.sha256[:12]}: {self.duration:.1f} s,"
            f" {len(self.message.utterances)} utterances{', partial' if self.partial else ''}>"
        )

    @property
    def known(self) -> bool:
        """Whether the gateway had the recording, so that nothing was sent."""
        return self.uploaded_bytes == 0

    @property
    def partial(self) -> bool:
        """Whether a stage failed and the rest was delivered without it; ``stages`` says which and why."""
        return self.message.partial

    @property
    def cached(self) -> bool:
        """Whether nothing was computed by a model: both model stages answered from their caches."""
        models = [report for report in self.stages if report.stage in {Stage.TRANSCRIBE, Stage.DIARIZE}]
        return bool(models) and all(report.cached for report in models)

    @property
    def text(self) -> str:
        """All that was said, one line for each utterance."""
        return "\n".join(utterance.text for utterance in self.message.utterances)

    @property
    def recording(self) -> Digest:
        """The recording."""
        return self._head.recording

    @property
    def audio(self) -> Digest:
        """Its audio, decoded: 16 kHz mono signed 16-bit PCM; with separate channels that of the first."""
        return self._head.audio

    @property
    def channels(self) -> tuple[Channel, ...]:
        """With separate channels all of them, in the recording's order, each with its speaker; else empty."""
        return self._head.channels

    @property
    def duration(self) -> float:
        """Length of the audio in seconds."""
        return self._head.duration

    @property
    def stages(self) -> tuple[StageReport, ...]:
        """What each stage did, in order of execution."""
        return self._head.stages

    @property
    def language(self) -> str:
        """ISO 639-1 code of the language spoken, of several that of the most speech; empty where nothing was said."""
        return self.message.language_code

    @property
    def language_probability(self) -> float:
        """Probability of the language, from 0 to 1."""
        return self.message.language_probability

    @property
    def transcription_model(self) -> str:
        """The transcriber's model, with the digest of its weights."""
        return self.message.transcription_model

    @property
    def diarization_model(self) -> str:
        """The diarizer's models, with the digests of their weights."""
        return self.message.diarization_model

    @cached_property
    def formats(self) -> Mapping[OutputFormat, str]:
        """The textual forms that were asked for, ready to be written to files."""
        return {codec.decode_format(form.format, "formats"): form.text for form in self.message.formats}

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """One speaker's words in a row, in order of time."""
        return self.values.utterances

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Who spoke when; two turns overlap where two people talk at once."""
        return self.values.turns

    @property
    def exclusive_turns(self) -> tuple[Turn, ...]:
        """Turns that never overlap."""
        return self.values.exclusive_turns

    @property
    def candidates(self) -> tuple[SpeakerCountCandidate, ...]:
        """The numbers of speakers that were considered."""
        return self.values.candidates

    @property
    def speakers(self) -> tuple[Speaker, ...]:
        """Everybody who speaks, in order of first speech: label, voice, and the name where it is somebody known."""
        return self.values.speakers

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What a person should know about the recording; notices about all of it come first."""
        return self._head.notices

    @cached_property
    def values(self) -> Result:
        """All of it as one frozen value."""
        return codec.decode_result(self.message)

    @cached_property
    def _head(self) -> Result:
        """What is small whatever was said."""
        whole = self.message
        return codec.decode_result(
            gateway_pb2.TranscribeResult(
                recording=whole.recording,
                audio=whole.audio,
                duration=whole.duration,
                stages=whole.stages,
                channels=whole.channels,
                notices=whole.notices,
            )
        )
