"""The result of one call, as the client returns it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

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

_FIELDS = {field.name for field in dataclasses.fields(Result)}
_SPEECH = {"utterances", "turns", "exclusive_turns", "speakers", "candidates"}


class TranscriptionResult:
    """Who said what, and when, and what the call took.

    Has all attributes of ``careca.types.Result``. They are decoded from the message when they are read. Words, turns
    and speakers are decoded apart from the rest, because an hour of speech has about ten thousand words.
    """

    recording: Digest
    """The recording."""
    audio: Digest
    """The decoded audio: 16 kHz mono signed 16-bit PCM. With separate channels: of the first channel."""
    duration: float
    """Length of the audio in seconds."""
    stages: tuple[StageReport, ...]
    """The outcome of each stage, in order of execution."""
    channels: tuple[Channel, ...]
    """With separate channels: each channel with its speaker, in the order of the recording. Otherwise empty."""
    language: str
    """ISO 639-1 code of the language spoken; of several, the one with the most speech. Empty without speech."""
    language_probability: float
    """Probability of the language, from 0 to 1."""
    utterances: tuple[Utterance, ...]
    """Consecutive words of one speaker, in order of time."""
    turns: tuple[Turn, ...]
    """Who spoke when. Turns overlap if several people talk at once."""
    exclusive_turns: tuple[Turn, ...]
    """Turns that never overlap."""
    speakers: tuple[Speaker, ...]
    """All speakers in order of first speech, with label, voice, and the name of a known speaker."""
    candidates: tuple[SpeakerCountCandidate, ...]
    """The numbers of speakers that were considered."""
    transcription_model: str
    """Id of the transcriber's model, with the digest of its weights."""
    diarization_model: str
    """Ids of the diarizer's models, with the digests of their weights."""
    formats: Mapping[OutputFormat, str]
    """The text formats that were requested, ready to be written to files."""
    notices: tuple[Notice, ...]
    """Notices about the recording, in order of time. Notices about the whole recording come first."""
    revision: int
    """The revision of a job's transcript. 0: what was recognised."""

    def __init__(self, message: gateway_pb2.TranscribeResult, *, uploaded_bytes: int, seconds: float) -> None:
        self.message = message
        """The message from the gateway."""
        self.uploaded_bytes = uploaded_bytes
        """Bytes of the recording that were sent, over all attempts. 0 if the gateway had the recording."""
        self.seconds = seconds
        """Seconds from the call to the result, including hashing."""

    def __repr__(self) -> str:
        return (
            f"<TranscriptionResult of {self.recording.sha256[:12]}: {self.duration:.1f} s,"
            f" {len(self.message.utterances)} utterances{', partial' if self.partial else ''}>"
        )

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of ``Result``."""
        if name not in _FIELDS:
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        return getattr(self.values if name in _SPEECH else self._head, name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *_FIELDS]

    @cached_property
    def values(self) -> Result:
        """The whole result as one frozen value."""
        return codec.decode_result(self.message)

    @cached_property
    def _head(self) -> Result:
        """The result without words, turns and speakers: quick to decode."""
        head = {field.name: value for field, value in self.message.ListFields() if field.name not in _SPEECH}
        return codec.decode_result(gateway_pb2.TranscribeResult(**head))

    @property
    def known(self) -> bool:
        """Whether the gateway had the recording, so that nothing was sent."""
        return self.uploaded_bytes == 0

    @property
    def partial(self) -> bool:
        """Whether a stage failed and its part of the result is missing. ``stages`` says which stage and why."""
        return self.message.partial

    @property
    def cached(self) -> bool:
        """Whether no model ran: both model stages answered from their caches."""
        models = [report for report in self.stages if report.stage in {Stage.TRANSCRIBE, Stage.DIARIZE}]
        return bool(models) and all(report.cached for report in models)

    @property
    def text(self) -> str:
        """All that was said, one line for each utterance."""
        return "\n".join(utterance.text for utterance in self.message.utterances)
