"""What the benchmark stores: plain values, written to and read from JSON. Times are seconds, sizes are bytes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class Machine:
    """What the benchmark ran on, and with which versions of what computes and scores."""

    cpu: str
    cores: int
    memory_bytes: int
    gpu: str
    system: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one part. ``quick`` runs take short cuts and prove nothing."""

    finished: str
    wall_seconds: float
    quick: bool
    revision: str
    models: tuple[str, ...]
    machine: Machine


@dataclass(frozen=True, slots=True)
class TurnRates:
    """Diarization error rate and its parts, as fractions of the speech; ``None`` where there is none."""

    speech_seconds: float
    der: float | None
    missed: float | None
    false_alarm: float | None
    confusion: float | None
    recordings: int
    right_speaker_counts: int


@dataclass(frozen=True, slots=True)
class WordRates:
    """Word error rate and its parts, as fractions of the reference; ``None`` where nothing was said."""

    words: int
    error_rate: float | None
    substitutions: float | None
    deletions: float | None
    insertions: float | None


@dataclass(frozen=True, slots=True)
class QualityRow:
    """Rates of one recording or of a set of them, each ``None`` where there is no truth to score by.

    ``turns`` has DER, ``utterances`` cpWER, ``text`` WER. Seconds of stages and of whole requests are sums.
    """

    name: str
    recordings: int
    audio_seconds: float
    whole_seconds: float
    stage_seconds: dict[str, float]
    turns: TurnRates | None
    utterances: WordRates | None
    text: WordRates | None
    right_languages: int


@dataclass(frozen=True, slots=True)
class Quality:
    """How right the answers are: rows of sets and of single recordings."""

    run: Run
    conversations: tuple[QualityRow, ...]
    read_speech: tuple[QualityRow, ...]
    recordings: tuple[QualityRow, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One request through the gateway, as the client saw it."""

    seconds: float
    uploaded_bytes: int
    stage_seconds: dict[str, float]
    cached_stages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FirstAndSecond:
    """The same recording sent twice to a stack that did not know it."""

    audio_seconds: float
    file_bytes: int
    first: Request
    second: Request


@dataclass(frozen=True, slots=True)
class OverheadPair:
    """Both engines called directly in one process, and a request through the gateway, one right after the other.

    The request is for a file that the gateway has not seen: it is uploaded, decoded, computed and merged. The direct
    calls start from decoded samples in memory.
    """

    direct_seconds: float
    direct_transcribe_seconds: float
    direct_diarize_seconds: float
    gateway: Request

    @property
    def overhead(self) -> float:
        """The gateway path's time over the direct one's, less one."""
        return self.gateway.seconds / self.direct_seconds - 1


@dataclass(frozen=True, slots=True)
class Overhead:
    """What the gateway path costs over the engines: the median over pairs of the ratio of times, less one."""

    audio_seconds: float
    pairs: tuple[OverheadPair, ...]
    median: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Repeat:
    """One more request for a known recording, as the client saw it.

    ``seconds`` runs from the call to the answer; ``hashing_seconds`` is the part of it in which the client finds the
    digest that names the file; ``reading_seconds`` is what making values of the answer takes afterwards.
    """

    seconds: float
    hashing_seconds: float
    reading_seconds: float


@dataclass(frozen=True, slots=True)
class Repeats:
    """A known recording asked for again and again.

    ``same_client`` has requests of the client that asked before and knows the file's digest, ``new_client`` one request
    of each of as many clients that have to hash the file first. Bytes and stages are totals over all requests.
    """

    audio_seconds: float
    file_bytes: int
    same_client: tuple[Repeat, ...]
    new_client: tuple[Repeat, ...]
    uploaded_bytes: int
    computed_stages: int

    @property
    def median_seconds(self) -> float:
        """Of requests of the client that asked before."""
        return statistics.median(each.seconds for each in self.same_client)


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the answers are."""

    run: Run
    recordings: tuple[FirstAndSecond, ...]
    overhead: Overhead
    repeats: Repeats


@dataclass(frozen=True, slots=True)
class Memory:
    """What one process holds."""

    rss: int
    uss: int
    gpu_allocated: int = 0
    gpu_reserved: int = 0


@dataclass(frozen=True, slots=True)
class ServiceMemory:
    """One service's memory over the run, always after the cleanup of the last task but for ``peak``.

    ``peak`` holds the highest of each number, seen together or not. ``after_same`` follows 20 tasks on one recording,
    ``after_different`` as many more on different ones, ``after_reload`` the first task after the release.
    ``children_peak_rss`` is the most that processes started by the service held at one time.
    """

    service: str
    at_start: Memory
    after_first: Memory
    after_same: Memory
    after_different: Memory
    peak: Memory
    after_release: Memory
    after_reload: Memory
    children_peak_rss: int

    @property
    def same_growth(self) -> float:
        """RSS after the tasks on one recording over RSS after the first, less one."""
        return self.after_same.rss / self.after_first.rss - 1

    @property
    def different_growth(self) -> float:
        """RSS after the tasks on different recordings over RSS after the first, less one."""
        return self.after_different.rss / self.after_first.rss - 1

    @property
    def left_after_release(self) -> float:
        """RSS after ReleaseMemory over peak RSS."""
        return self.after_release.rss / self.peak.rss


@dataclass(frozen=True, slots=True)
class Upload:
    """The gateway's RSS while a large file is uploaded."""

    file_bytes: int
    written_bytes: int
    seconds: float
    before_rss: int
    peak_rss: int
    outcome: str

    @property
    def growth(self) -> int:
        """Bytes by which RSS grew at most."""
        return self.peak_rss - self.before_rss


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the services hold."""

    run: Run
    same_tasks: int
    different_tasks: int
    services: tuple[ServiceMemory, ...]
    upload: Upload


@dataclass(frozen=True, slots=True)
class ServiceStart:
    """Seconds from the start of a service's process until it is ready, once for each start, and the machine's load."""

    service: str
    seconds: tuple[float, ...]
    load_average: float

    @property
    def median(self) -> float:
        """The median over the starts."""
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class Starts:
    """How fast the model services are ready."""

    run: Run
    services: tuple[ServiceStart, ...]


Part = Quality | Speed | Footprint | Starts
"""What one part of the benchmark measures."""


@dataclass(frozen=True, slots=True)
class Report:
    """The latest run of each part; ``None`` for one that has not run."""

    quality: Quality | None = None
    speed: Speed | None = None
    memory: Footprint | None = None
    start: Starts | None = None

    def with_part(self, part: Part) -> Report:
        """This report with ``part`` in place of the last run of the same part."""
        if isinstance(part, Quality):
            return replace(self, quality=part)
        if isinstance(part, Speed):
            return replace(self, speed=part)
        if isinstance(part, Starts):
            return replace(self, start=part)
        return replace(self, memory=part)


_REPORT: TypeAdapter[Report] = TypeAdapter(Report)


def read(path: Path) -> Report:
    """The report in ``path``, empty where there is no such file. Raises ``pydantic.ValidationError`` for another's."""
    return _REPORT.validate_json(path.read_bytes()) if path.exists() else Report()


def write(report: Report, path: Path) -> None:
    """Stores ``report`` in ``path``, through a file beside it so that there is always a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_bytes(_REPORT.dump_json(report, indent=2) + b"\n")
    partial.replace(path)
