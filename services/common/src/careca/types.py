"""The small vocabulary of values that every part of Careca shares. Data only: no I/O, no protobuf, no model library.

Times are seconds from the start of the recording, as ``float``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

SAMPLE_RATE = 16_000
"""Samples per second of all decoded audio."""

SAMPLE_BYTES = 2
"""Bytes per sample: signed 16-bit little-endian."""


class Stage(enum.StrEnum):
    """A step of a job, in order of execution; transcribe and diarize run at the same time."""

    DECODE = "decode"
    TRANSCRIBE = "transcribe"
    DIARIZE = "diarize"
    MERGE = "merge"


class StageState(enum.StrEnum):
    """Where a stage is, or what became of it. Results know only the last three."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


class JobState(enum.StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the job changes no more by itself."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class JobPriority(enum.StrEnum):
    """Which jobs go first."""

    INTERACTIVE = "interactive"
    """Somebody waits."""
    BATCH = "batch"


class WebhookState(enum.StrEnum):
    """What became of telling a webhook that its job has ended."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class OutputFormat(enum.StrEnum):
    """A textual form of a result."""

    JSON = "json"
    TXT = "txt"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"
    RTTM = "rttm"
    STM = "stm"


class ChannelMode(enum.StrEnum):
    """What becomes of the channels of a recording."""

    MIX = "mix"
    """They are mixed into one audio, and speakers are told apart by their voices."""
    SEPARATE = "separate"
    """Each is a speaker's own, transcribed apart from the others."""


class AudioTracks(enum.StrEnum):
    """Which of several audio tracks of a recording are used."""

    AUTO = "auto"
    """One of them: the one that is marked as default, or the first, unless it is silent; then the first that is not."""
    ALL = "all"
    """All of them, mixed into one audio."""
    EACH = "each"
    """All of them, each a speaker's own, transcribed apart from the others as separate channels are."""


AudioTrack = AudioTracks | int
"""Which audio tracks are used, or the number of one: from 1, audio tracks only."""


class NoticeCode(enum.StrEnum):
    """What notices can be about. The codes never change their meaning; docs/notices.md says what to do about each."""

    TRUNCATED = "TRUNCATED"
    """The recording ends before its container says, or breaks off."""
    DAMAGED = "DAMAGED"
    """Damaged parts of the recording were skipped."""
    AUDIO_TRACK_CHOSEN = "AUDIO_TRACK_CHOSEN"
    """The recording has several audio tracks, of which one was taken."""
    CLIPPED = "CLIPPED"
    """The recording was made too loud: its peaks are cut off."""
    VERY_QUIET = "VERY_QUIET"
    """The recording is so quiet that few bits are left for voices, or that it was raised."""
    SILENT = "SILENT"
    """There is no sound in the recording."""
    SPEECH_WITHOUT_WORDS = "SPEECH_WITHOUT_WORDS"
    """The diarizer hears speech of two seconds or more where the transcriber found no word."""
    FEWER_SPEAKERS_THAN_ASKED = "FEWER_SPEAKERS_THAN_ASKED"
    """Fewer speakers were found than the exact or the least number that was asked for."""
    SEVERAL_LANGUAGES = "SEVERAL_LANGUAGES"
    """More than one language is spoken."""


class ClearScope(enum.StrEnum):
    """Which entries of a cache to clear."""

    EXPIRED = "expired"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Digest:
    """Names bytes by their content: lower-case hexadecimal SHA-256 and length."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its time. ``start`` and ``end`` are ``None`` where the model gave no time."""

    text: str
    start: float | None = None
    end: float | None = None
    probability: float | None = None
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech as the transcriber cut it, with its words."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    language: str = ""
    """ISO 639-1 code of the language spoken in it; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said: segments in order of time."""

    segments: tuple[Segment, ...]
    language: str
    """ISO 639-1 code, of several languages the one in which most was said; empty where nothing was."""
    language_probability: float
    duration: float
    model: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker talking from ``start`` to ``end``."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True, slots=True)
class SpeakerCountCandidate:
    """A number of speakers that was considered, with its silhouette score in [-1, 1]; ``None`` where undefined."""

    speaker_count: int
    silhouette_score: float | None


@dataclass(frozen=True, slots=True)
class Voice:
    """What somebody sounds like: an embedding of unit length, and the id of the model that made it.

    Cosines of embeddings say how alike two voices are, and mean nothing between different models.
    """

    embedding: tuple[float, ...]
    embedding_model: str


@dataclass(frozen=True, slots=True)
class Speaker:
    """Somebody who speaks in a recording. ``name`` and ``similarity`` are set where it is somebody known."""

    label: str
    """``SPEAKER_00``, ``SPEAKER_01`` ... in order of first speech."""
    embedding: tuple[float, ...] = ()
    """Of the speaker's mean voice, of unit length; empty where the diarizer gives none."""
    embedding_model: str = ""
    """Id of the model that made the embedding."""
    name: str | None = None
    similarity: float | None = None
    """Cosine of this voice and that of the known speaker."""

    @property
    def voice(self) -> Voice | None:
        """What the speaker sounds like, ``None`` where that is not known."""
        return Voice(self.embedding, self.embedding_model) if self.embedding else None

    @property
    def display_name(self) -> str:
        """The name, or the label of somebody who is not known."""
        return self.name or self.label


@dataclass(frozen=True, slots=True)
class KnownSpeaker:
    """Somebody to recognise, by a recording of that person alone, whatever its container, or by a voice."""

    name: str
    reference: bytes | Voice = field(repr=False)


@dataclass(frozen=True, slots=True)
class Diarization:
    """Who spoke when.

    ``turns`` may overlap, as people do; ``exclusive_turns`` never do and are the ones to give words to speakers by.
    Both name their speaker by the label. ``speakers`` has one entry for each label in the turns, in order of first
    speech.
    """

    turns: tuple[Turn, ...]
    exclusive_turns: tuple[Turn, ...]
    duration: float
    model: str
    candidates: tuple[SpeakerCountCandidate, ...] = ()
    speakers: tuple[Speaker, ...] = ()


@dataclass(frozen=True, slots=True)
class Utterance:
    """One speaker's words in a row. ``speaker`` is ``None`` where nobody could be named."""

    start: float
    end: float
    text: str
    speaker: str | None = None
    words: tuple[Word, ...] = ()
    language: str = ""
    """ISO 639-1 code of the language spoken in it; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about a recording that its result alone does not show. It is no failure: the result is complete."""

    code: str
    """For programs: a ``NoticeCode``, or one of a newer version."""
    message: str
    """For people: one sentence."""
    start: float | None = None
    """The place it is about, where it is about one."""
    end: float | None = None


@dataclass(frozen=True, slots=True)
class TranscriptionOptions:
    """What a caller may ask of the transcriber."""

    language: str | None = None
    """ISO 639-1 code of the whole recording; ``None`` finds it, and anew where the recording changes it."""
    translate: bool = False
    """Translate to English instead of writing down the language spoken."""
    initial_prompt: str = ""
    """Text that the model takes as having come before: names, spelling, style."""
    hotwords: tuple[str, ...] = ()
    """Words and phrases to listen for."""
    beam_size: int = 5
    """Width of the beam search, 1 to 20; 1 is greedy and fastest."""


@dataclass(frozen=True, slots=True)
class DiarizationOptions:
    """What a caller may ask of the diarizer; ``None`` leaves it to the diarizer."""

    speaker_count: int | None = None
    min_speaker_count: int | None = None
    max_speaker_count: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage has come, as a fraction from 0 to 1."""

    stage: Stage
    fraction: float


@dataclass(frozen=True, slots=True)
class StageReport:
    """What a stage did: its state, the seconds it took, whether its result came from the cache, and why it failed."""

    stage: Stage
    state: StageState
    seconds: float
    cached: bool = False
    error_reason: str = ""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class JobStage:
    """One stage of a job, over all attempts."""

    stage: Stage
    state: StageState = StageState.WAITING
    progress: float = 0.0
    """Fraction done, from 0 to 1."""
    seconds: float = 0.0
    cached: bool = False
    """Whether its result came from a cache or was kept from an earlier attempt."""
    attempts: int = 0
    """How often it was begun."""
    error_reason: str = ""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class JobAttempt:
    """One time that a gateway worked on a job. Times are seconds since 1970."""

    number: int
    worker: str
    start_unix: float
    end_unix: float | None = None
    outcome: str = ""
    """SUCCEEDED, CANCELLED, HANDED_BACK, WORKER_LOST, or the reason of the error; empty while it goes on."""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class JobWebhook:
    """Whom to tell that a job has ended, and whether they know."""

    url: str
    state: WebhookState = WebhookState.PENDING
    attempts: int = 0
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One recording to be worked on, whoever waits. Times are seconds since 1970."""

    id: str
    """Later jobs have greater ids."""
    state: JobState
    recording: Digest
    display_name: str
    submitter: str
    priority: JobPriority
    request_id: str
    create_unix: float
    start_unix: float | None = None
    """When work on it last began."""
    end_unix: float | None = None
    stages: tuple[JobStage, ...] = ()
    attempts: tuple[JobAttempt, ...] = ()
    """Oldest first; the last 20."""
    partial: bool = False
    """Whether it has a result in which a stage's part is missing."""
    error_reason: str = ""
    error_message: str = ""
    webhook: JobWebhook | None = None


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel or track of a recording, decoded to its own audio. ``speaker`` is ``None`` where nobody speaks."""

    audio: Digest
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """Who said what, and when, in one recording.

    Words, utterances and turns name their speaker by ``Speaker.display_name``: the name of somebody known, else the
    label. A stage that failed leaves its fields empty and its report says why; ``partial`` is then true.
    """

    recording: Digest
    audio: Digest
    """The audio; that of the first channel where each was a speaker's own."""
    duration: float
    stages: tuple[StageReport, ...]
    channels: tuple[Channel, ...] = ()
    """All channels, in the recording's order, where each was a speaker's own; empty where they were mixed."""
    language: str = ""
    language_probability: float = 0.0
    utterances: tuple[Utterance, ...] = ()
    turns: tuple[Turn, ...] = ()
    exclusive_turns: tuple[Turn, ...] = ()
    speakers: tuple[Speaker, ...] = ()
    """Everybody who speaks, in order of first speech."""
    candidates: tuple[SpeakerCountCandidate, ...] = ()
    transcription_model: str = ""
    diarization_model: str = ""
    formats: Mapping[OutputFormat, str] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    """What a person should know about the recording, by place; those about all of it first."""

    @property
    def partial(self) -> bool:
        """Whether a stage failed and the rest was delivered without it."""
        return any(report.state is StageState.FAILED for report in self.stages)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The live state of one stage's result cache, shared by all replicas."""

    available: bool
    """Whether Redis answered; where not, the numbers below are zero."""
    entries: int = 0
    size_bytes: int = 0
    hits: int = 0
    misses: int = 0
    stores: int = 0
    evictions: int = 0
    expiries: int = 0
    oldest_entry_unix: float | None = None
    newest_entry_unix: float | None = None
    max_entries: int = 0
    ttl_seconds: float = 0.0

    @property
    def hit_rate(self) -> float | None:
        """Hits per lookup, or ``None`` before the first lookup."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else None


@dataclass(frozen=True, slots=True)
class CacheClearance:
    """What clearing a cache removed."""

    removed_entries: int
    removed_bytes: int
    removed_locks: int = 0


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Memory of the GPU that an engine computes on, in bytes; all 0 without one or before its use."""

    allocated_bytes: int = 0
    """Of this process: in use by live data."""
    reserved_bytes: int = 0
    """Of this process: held, caches included."""
    used_bytes: int = 0
    """Of the GPU: held by whoever."""
    total_bytes: int = 0
    """Of the GPU: all that there is."""


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """What one process and its children hold, in bytes."""

    rss_bytes: int
    uss_bytes: int
    """0 where only what is quick to know was measured, as it is after each task."""
    gpu_allocated_bytes: int = 0
    gpu_reserved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ModelServiceStats:
    """The live state of one model service."""

    cache: CacheStats
    memory: MemoryUsage
    models_loaded: bool
    model: str
    device: str
    in_flight: int
    waiting: int


@dataclass(frozen=True, slots=True)
class MemoryRelease:
    """Memory before and after a cleanup; ``models_unloaded`` where the weights went too."""

    before: MemoryUsage
    after: MemoryUsage
    models_unloaded: bool = False
