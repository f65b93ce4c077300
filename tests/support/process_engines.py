"""Engines for tests of ``careca.inference.engine_process``, made in another process and so found there by name."""

from __future__ import annotations

import os
import signal

import numpy as np

from careca.errors import OutOfMemory, PreconditionFailed
from careca.inference.engine import Batch
from careca.settings import ModelServiceSettings
from careca.types import Diarization, Turn
from support.fakes import FakeDiarizerEngine

HOARD_BYTES = 200_000_000


class Echo(FakeDiarizerEngine):
    """Answers with one turn as long as the audio, by a speaker that is named after the sum of its samples."""

    def infer(self, audio, options):
        yield from super().infer(audio, options)
        total = int(np.asarray(audio.samples, dtype=np.int64).sum())
        turn = Turn(0.0, audio.duration, f"{total}/{options.speaker_count}/{os.getpid()}")
        return Diarization((turn,), (turn,), audio.duration, self.model)


class Hoarder(Echo):
    """Keeps what it allocated even when it is told to unload."""

    hoard: list[np.ndarray] = []

    def load(self):
        super().load()
        self.hoard.append(np.ones(HOARD_BYTES, dtype=np.uint8))


class Killed(Echo):
    """Is killed in its first inference, as the kernel does where memory runs out."""

    def infer(self, audio, options):
        yield Batch.alone(lambda: os.kill(os.getpid(), signal.SIGKILL))


def echo(_settings: ModelServiceSettings) -> Echo:
    return Echo()


class Slow(Echo):
    """Takes very long for audio, and no time for audio without samples."""

    def infer(self, audio, options):
        self.steps = 2000 if len(audio.samples) else 0
        return (yield from super().infer(audio, options))


def slow(_settings: ModelServiceSettings) -> Slow:
    return Slow(step_seconds=0.02)


def hoarder(_settings: ModelServiceSettings) -> Hoarder:
    return Hoarder()


def killed(_settings: ModelServiceSettings) -> Killed:
    return Killed()


def refusing(_settings: ModelServiceSettings) -> Echo:
    return Echo(failures=[OutOfMemory("too little memory", metadata={"device": "cpu"})])


def buggy(_settings: ModelServiceSettings) -> Echo:
    return Echo(failures=[ValueError("secret detail")])


def without_weights(_settings: ModelServiceSettings) -> Echo:
    raise PreconditionFailed("weights are missing", reason="WEIGHTS_MISSING")
