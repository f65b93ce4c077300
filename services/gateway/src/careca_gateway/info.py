"""What this gateway serves, and as whom it knows the caller."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from careca.auth.caller import Caller, current_caller
from careca.types import ModelServiceStats, Stage
from careca_gateway.admin import AdminService, SystemStats
from careca_gateway.request import Deadline


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

    async def info(self, deadline: Deadline) -> GatewayInfo:
        """Returns the description for the current caller, whose token may have lower limits than the gateway."""
        caller = current_caller()
        stats = await self._admin.stats(deadline)
        return GatewayInfo(
            caller=caller,
            max_recording_bytes=int(_least(self._max_recording_bytes, caller.limits.recording_bytes)),
            max_audio_seconds=_least(self._max_audio_seconds, caller.limits.recording_seconds),
            transcription_model=_models(stats, Stage.TRANSCRIBE),
            diarization_model=_models(stats, Stage.DIARIZE),
            requires_token=self._requires_token,
            takes_jobs=self._takes_jobs,
        )


def _least(limit: float, own: float | None) -> float:
    return limit if own is None else min(limit, own)


def _models(stats: SystemStats, stage: Stage) -> str:
    """Returns the ids of the models of all replicas that can be reached, each once."""
    replicas = stats.services[stage].values()
    return ", ".join(sorted({each.model for each in replicas if isinstance(each, ModelServiceStats)}))
