"""What this gateway serves, and as whom it knows the caller."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from careca.auth.caller import Caller, current_caller
from careca.types import ModelServiceStats, Stage
from careca_gateway.admin import AdminService, SystemStats
from careca_gateway.request import Deadline

MODELS_SECONDS = 10.0
"""How long the ids of the models are kept: browsers ask with each page, and models change with a new release only."""

_MODELS_WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class GatewayInfo:
    """What a gateway serves, and its limits for one caller."""

    caller: Caller
    max_recording_bytes: int
    max_audio_seconds: float
    transcription_model: str
    """Ids of the transcriber's models; empty if no transcriber can be reached."""
    diarization_model: str
    """Ids of the diarizer's models; empty if no diarizer can be reached."""
    requires_token: bool
    takes_jobs: bool
    version: str = version("careca-gateway")


class InfoService:
    """Describes the gateway.

    Args:
        admin: knows the models of the services.
        requires_token: whether callers need a token.
        takes_jobs: whether the gateway has a job queue.
        max_recording_bytes: greatest size of a recording.
        max_audio_seconds: greatest length of a recording's audio.
    """

    def __init__(
        self,
        admin: AdminService,
        *,
        requires_token: bool,
        takes_jobs: bool,
        max_recording_bytes: int,
        max_audio_seconds: float,
    ) -> None:
        self._admin = admin
        self._requires_token = requires_token
        self._takes_jobs = takes_jobs
        self._max_recording_bytes = max_recording_bytes
        self._max_audio_seconds = max_audio_seconds
        self._models: Mapping[Stage, str] = {}
        self._models_until = 0.0

    async def info(self, deadline: Deadline) -> GatewayInfo:
        """Returns the description for the current caller, whose token may have lower limits than the gateway."""
        caller = current_caller()
        models = await self._current_models(deadline)
        return GatewayInfo(
            caller=caller,
            max_recording_bytes=int(_least(self._max_recording_bytes, caller.limits.recording_bytes)),
            max_audio_seconds=_least(self._max_audio_seconds, caller.limits.recording_seconds),
            transcription_model=models[Stage.TRANSCRIBE],
            diarization_model=models[Stage.DIARIZE],
            requires_token=self._requires_token,
            takes_jobs=self._takes_jobs,
        )

    async def _current_models(self, deadline: Deadline) -> Mapping[Stage, str]:
        if time.monotonic() >= self._models_until:
            stats = await self._admin.stats(deadline.within(_MODELS_WAIT_SECONDS))
            self._models = {stage: _models(stats, stage) for stage in self._admin.stages}
            if all(self._models.values()):  # a service that cannot be reached now is asked again with the next call
                self._models_until = time.monotonic() + MODELS_SECONDS
        return self._models


def _least(limit: float, own: float | None) -> float:
    return limit if own is None else min(limit, own)


def _models(stats: SystemStats, stage: Stage) -> str:
    """Returns the ids of the models of all replicas that can be reached, each once."""
    replicas = stats.services[stage].values()
    return ", ".join(sorted({each.model for each in replicas if isinstance(each, ModelServiceStats)}))
