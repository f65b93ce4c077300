"""Small working stand-ins: engines that follow a script instead of a model, and a cache that is a dictionary."""

from __future__ import annotations

import copy
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from careca.cache.port import CacheObserver, CacheOutcome, NoCache
from careca.inference.audio import Audio
from careca.inference.engine import Batch, Work
from careca.types import (
    CacheClearance,
    CacheStats,
    ClearScope,
    ClusteredVoices,
    Diarization,
    DiarizationOptions,
    DiarizedWindow,
    Digest,
    GpuMemory,
    Progress,
    Segment,
    Speaker,
    Stage,
    Transcript,
    TranscriptionOptions,
    Turn,
    VoicePiece,
    VoicesToCluster,
    WindowToDiarize,
    Word,
)

SEGMENTS = (
    Segment(0.0, 1.0, "hello there", (Word("hello", 0.0, 0.5, 0.9), Word("there", 0.5, 1.0, 0.8))),
    Segment(1.0, 2.0, "good morning", (Word("good", 1.0, 1.5, 0.9), Word("morning", 1.5, 2.0, 0.7))),
)
TURNS = (Turn(0.0, 1.0, "SPEAKER_00"), Turn(1.0, 2.0, "SPEAKER_01"))

EMBEDDING_MODEL = "fake-voices@0123456789ab"
ANA, BOB, EVE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
"""Voices of which no two are alike."""


def pcm(seconds: float = 2.0, *, seed: int = 0) -> bytes:
    """Bytes of 16 kHz mono PCM, different for each seed."""
    return bytes([seed % 256, seed // 256]) * round(seconds * 16_000)


def digest_of(data: bytes) -> Digest:
    """The digest of ``data``."""
    return Digest(hashlib.sha256(data).hexdigest(), len(data))


async def chunks_of(data: bytes, size: int = 16_384) -> AsyncIterator[bytes]:
    """``data`` in pieces, as a caller sends it."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


class FakeEngine:
    """Takes ``steps`` batches of ``step_seconds`` each, waits between them, and counts what is done to it.

    ``failures`` are raised one per inference until there are none left. Clear ``may_go_on`` to hold an inference where
    it is, until it is set again or the inference is cancelled. ``started`` is set once one has begun, ``unloaded`` once
    the weights are gone.
    """

    model = "fake@0123456789ab"
    device = "cpu"
    parallel_live = False

    def __init__(
        self,
        *,
        steps: int = 2,
        step_seconds: float = 0.0,
        failures: Sequence[Exception] = (),
        load_failure: Exception | None = None,
    ) -> None:
        self.steps = steps
        self.step_seconds = step_seconds
        self.failures = list(failures)
        self.load_failure = load_failure
        self.loaded = False
        self.loads = 0
        self.inferences = 0
        self.cancellations = 0
        self.running = 0
        self.started = threading.Event()
        self.unloaded = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def load(self) -> None:
        if self.load_failure:
            raise copy.copy(self.load_failure)  # an error that is raised again has the frames of the last time
        self.loads += not self.loaded
        self.loaded = True
        self.unloaded.clear()

    def unload(self) -> None:
        assert not self.running, "unloaded under a running inference"
        self.loaded = False
        self.unloaded.set()

    def gpu_memory(self) -> GpuMemory:
        return GpuMemory()

    def release_gpu_cache(self) -> None:
        pass

    def _follow_script(self, stage: Stage) -> Work[None]:
        assert self.loaded
        self.inferences += 1
        self.running += 1
        steps = self.steps
        self.started.set()
        try:
            for step in range(steps):
                yield from self._wait_to_go_on()
                yield Batch.alone(self._take_step)
                yield Progress(stage, (step + 1) / steps)
            yield from self._wait_to_go_on()
            if self.failures:
                raise self.failures.pop(0)
        except GeneratorExit:
            self.cancellations += 1
            raise
        finally:
            self.running -= 1

    def _take_step(self) -> None:
        time.sleep(self.step_seconds)

    def _wait_to_go_on(self) -> Work[None]:
        while not self.may_go_on.is_set():
            yield Batch.alone(partial(self.may_go_on.wait, 0.005))


class FakeTranscriberEngine(FakeEngine):
    """Hears the same segments in every audio but those in ``segments_of``."""

    def __init__(
        self,
        segments: Sequence[Segment] = SEGMENTS,
        language: str = "en",
        segments_of: Mapping[Digest, Sequence[Segment]] | None = None,
        **script: Any,
    ) -> None:
        super().__init__(**script)
        self.segments = tuple(segments)
        self.segments_of = dict(segments_of or {})
        self.language = language
        self.options: list[TranscriptionOptions] = []

    def infer(self, audio: Audio, options: TranscriptionOptions) -> Work[Transcript]:
        self.options.append(options)
        yield from self._follow_script(Stage.TRANSCRIBE)
        segments = tuple(self.segments_of.get(digest_of(audio.samples.tobytes()), self.segments))
        yield from segments
        return Transcript(segments, options.language or self.language, 0.5, audio.duration, self.model)


class FakeDiarizerEngine(FakeEngine):
    """Hears the same turns in every audio but those in ``turns_of``, and their speakers with ``voices`` in order.

    In a window of live audio it hears the turns that start in it, with one piece of speech each. Equal embeddings are
    the same voice for it. Windows are counted in ``windows`` and not in ``inferences``; ``failures`` are raised too.
    """

    def __init__(
        self,
        turns: Sequence[Turn] = TURNS,
        turns_of: Mapping[Digest, Sequence[Turn]] | None = None,
        voices: Sequence[tuple[float, ...]] = (ANA, BOB, EVE),
        **script: Any,
    ) -> None:
        super().__init__(**script)
        self.turns = tuple(turns)
        self.turns_of = dict(turns_of or {})
        self.voices = tuple(voices)
        self.options: list[DiarizationOptions] = []
        self.windows = 0

    def infer(self, audio: Audio, options: Any) -> Work[Any]:
        match options:
            case WindowToDiarize():
                return self._diarize_window(audio)
            case VoicesToCluster():
                return self._cluster_voices(options)
        return self._diarize(audio, options)

    def _diarize(self, audio: Audio, options: DiarizationOptions) -> Work[Diarization]:
        self.options.append(options)
        yield from self._follow_script(Stage.DIARIZE)
        turns = self._turns_in(audio)
        speakers = tuple(
            Speaker(label, voice, EMBEDDING_MODEL if voice else "") for label, voice in self._voices_in(turns).items()
        )
        return Diarization(turns, turns, audio.duration, self.model, speakers=speakers)

    def _diarize_window(self, audio: Audio) -> Work[DiarizedWindow]:
        assert self.loaded
        self.windows += 1
        yield from self._wait_to_go_on()
        if self.failures:
            raise self.failures.pop(0)
        turns = self._turns_in(audio)
        voices = self._voices_in(turns)
        heard = tuple(replace(turn, end=min(turn.end, audio.duration)) for turn in turns if turn.start < audio.duration)
        pieces = tuple(
            VoicePiece(voices[turn.speaker], turn.end - turn.start, turn.start, turn.end, turn.speaker, alone=True)
            for turn in heard
            if voices.get(turn.speaker)
        )
        return DiarizedWindow(heard, pieces, EMBEDDING_MODEL)

    def _cluster_voices(self, asked: VoicesToCluster) -> Work[ClusteredVoices]:
        assert self.loaded
        yield from self._wait_to_go_on()
        known = list(dict.fromkeys(piece.embedding for piece in asked.pieces))
        return ClusteredVoices(tuple(known.index(piece.embedding) for piece in asked.pieces))

    def _turns_in(self, audio: Audio) -> tuple[Turn, ...]:
        return tuple(self.turns_of.get(digest_of(audio.samples.tobytes()), self.turns))

    def _voices_in(self, turns: Sequence[Turn]) -> dict[str, tuple[float, ...]]:
        labels = dict.fromkeys(turn.speaker for turn in turns)
        return dict(zip(labels, self.voices, strict=False))


class FakeCache(NoCache):
    """Keeps results in a dictionary for as long as it lives."""

    def __init__(self, observer: CacheObserver | None = None) -> None:
        super().__init__(observer)
        self.entries: dict[str, bytes] = {}
        self.closed = False

    async def get(self, key: str) -> bytes | None:
        value = self.entries.get(key)
        self._observer.cache_requested(CacheOutcome.MISS if value is None else CacheOutcome.HIT)
        return value

    async def put(self, key: str, value: bytes) -> None:
        self.entries[key] = value
        await super().put(key, value)

    async def stats(self) -> CacheStats:
        return CacheStats(available=True, entries=len(self.entries))

    async def clear(self, scope: ClearScope) -> CacheClearance:
        if scope is ClearScope.EXPIRED:
            return CacheClearance(0, 0)
        cleared = CacheClearance(len(self.entries), sum(map(len, self.entries.values())))
        self.entries.clear()
        return cleared

    async def close(self) -> None:
        self.closed = True
