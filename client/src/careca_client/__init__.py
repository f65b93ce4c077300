"""Careca's client library. It sends a recording to a gateway and returns who said what, and when.

    from careca_client import Client

    with Client("localhost:50051") as client:
        result = client.transcribe("meeting.mp4", max_speaker_count=4)
        for utterance in result.utterances:
            print(utterance.start, utterance.speaker, utterance.text)

``AsyncClient`` has the same methods for asyncio. Both raise the errors of ``careca.errors``.
"""

from careca.types import (
    Digest,
    Job,
    JobPriority,
    JobStage,
    JobState,
    Peaks,
    RecordingForm,
    RecordingInfo,
    RenameSpeaker,
    ReplaceUtterances,
    Revision,
    SavedTranscript,
    SavedVoice,
    Segment,
    Speaker,
    Splice,
    Utterance,
    Voice,
    Waveform,
    Word,
)
from careca_client.access import Access
from careca_client.admin import (
    GatewayInfo,
    Health,
    ReplicaStats,
    StageClearance,
    StageStats,
    SystemRelease,
    SystemStats,
)
from careca_client.aio.client import AsyncClient
from careca_client.aio.live import AsyncLiveSession
from careca_client.aio.recordings import AsyncRecordingReader
from careca_client.blocking.client import Client
from careca_client.blocking.live import LiveSession
from careca_client.blocking.recordings import RecordingReader
from careca_client.events import Event, EventCallback, Hashing, RecordingKnown, Retrying, Uploading
from careca_client.live import (
    LiveEncoding,
    LiveEnded,
    LiveEvent,
    LiveFinal,
    LiveInterim,
    LiveNotice,
    LiveReconnecting,
    LiveResult,
    LiveStarted,
    SpeakerCorrection,
    UtteranceEnd,
)
from careca_client.protocol.jobs import JobPage, JobsClearance, JobUpdate
from careca_client.protocol.live import LiveOptions
from careca_client.protocol.options import TranscribeOptions
from careca_client.result import TranscriptionResult
from careca_client.speakers import KnownSpeaker, read_voice, voice_json
from careca_client.transcripts import EditedTranscript, read_transcript

__all__ = [
    "Access",
    "AsyncClient",
    "AsyncLiveSession",
    "AsyncRecordingReader",
    "Client",
    "Digest",
    "EditedTranscript",
    "Event",
    "EventCallback",
    "GatewayInfo",
    "Hashing",
    "Health",
    "Job",
    "JobPage",
    "JobPriority",
    "JobStage",
    "JobState",
    "JobUpdate",
    "JobsClearance",
    "KnownSpeaker",
    "LiveEncoding",
    "LiveEnded",
    "LiveEvent",
    "LiveFinal",
    "LiveInterim",
    "LiveNotice",
    "LiveOptions",
    "LiveReconnecting",
    "LiveResult",
    "LiveSession",
    "LiveStarted",
    "Peaks",
    "RecordingForm",
    "RecordingInfo",
    "RecordingKnown",
    "RecordingReader",
    "RenameSpeaker",
    "ReplaceUtterances",
    "ReplicaStats",
    "Retrying",
    "Revision",
    "SavedTranscript",
    "SavedVoice",
    "Segment",
    "Speaker",
    "SpeakerCorrection",
    "Splice",
    "StageClearance",
    "StageStats",
    "SystemRelease",
    "SystemStats",
    "TranscribeOptions",
    "TranscriptionResult",
    "Uploading",
    "Utterance",
    "UtteranceEnd",
    "Voice",
    "Waveform",
    "Word",
    "read_transcript",
    "read_voice",
    "voice_json",
]
