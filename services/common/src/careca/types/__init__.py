"""The values that all parts of Careca share. Data only: no I/O, no protobuf, no model library.

Times are seconds from the start of the recording, as ``float``. Import everything from ``careca.types`` itself.
"""

from careca.types.audio import SAMPLE_BYTES, SAMPLE_RATE, AudioTrack, AudioTracks, Channel, ChannelMode, Digest
from careca.types.corrections import Edit, RenameSpeaker, ReplaceUtterances, Revision, SavedTranscript, Splice
from careca.types.diarization import (
    Diarization,
    DiarizationOptions,
    KnownSpeaker,
    SavedVoice,
    Speaker,
    SpeakerCountCandidate,
    Turn,
    Voice,
)
from careca.types.jobs import Job, JobAttempt, JobPriority, JobStage, JobState, JobWebhook, WebhookState
from careca.types.live import (
    ClusteredVoices,
    DiarizedWindow,
    ReadWindow,
    VoicePiece,
    VoicesToCluster,
    WindowToDiarize,
    WindowToRead,
)
from careca.types.recordings import Peaks, RecordingForm, RecordingInfo, Waveform
from careca.types.result import Notice, NoticeCode, OutputFormat, Result, Utterance
from careca.types.scheduling import Scheduling, SchedulingClass
from careca.types.stages import Progress, Stage, StageReport, StageState
from careca.types.statistics import (
    CacheClearance,
    CacheStats,
    ClearScope,
    GpuMemory,
    MemoryRelease,
    MemoryUsage,
    ModelServiceStats,
)
from careca.types.transcript import Segment, Transcript, TranscriptionOptions, Word

__all__ = [
    "SAMPLE_BYTES",
    "SAMPLE_RATE",
    "AudioTrack",
    "AudioTracks",
    "CacheClearance",
    "CacheStats",
    "Channel",
    "ChannelMode",
    "ClearScope",
    "ClusteredVoices",
    "Diarization",
    "DiarizationOptions",
    "DiarizedWindow",
    "Digest",
    "Edit",
    "GpuMemory",
    "Job",
    "JobAttempt",
    "JobPriority",
    "JobStage",
    "JobState",
    "JobWebhook",
    "KnownSpeaker",
    "MemoryRelease",
    "MemoryUsage",
    "ModelServiceStats",
    "Notice",
    "NoticeCode",
    "OutputFormat",
    "Peaks",
    "Progress",
    "ReadWindow",
    "RecordingForm",
    "RecordingInfo",
    "RenameSpeaker",
    "ReplaceUtterances",
    "Result",
    "Revision",
    "SavedTranscript",
    "SavedVoice",
    "Scheduling",
    "SchedulingClass",
    "Segment",
    "Speaker",
    "SpeakerCountCandidate",
    "Splice",
    "Stage",
    "StageReport",
    "StageState",
    "Transcript",
    "TranscriptionOptions",
    "Turn",
    "Utterance",
    "Voice",
    "VoicePiece",
    "VoicesToCluster",
    "Waveform",
    "WebhookState",
    "WindowToDiarize",
    "WindowToRead",
    "Word",
]
