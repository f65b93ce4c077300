"""The gateway's own messages to values and back. What comes from a caller is checked here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from careca import codec
from careca.errors import CarecaError, InvalidRequest
from careca.types import CacheClearance, MemoryRelease, ModelServiceStats, Progress, Segment, Stage
from careca.v1 import admin_pb2, audio_pb2, gateway_pb2
from careca_gateway.admin import SystemStats
from careca_gateway.backends.aggregation import aggregate_stats
from careca_gateway.request import Completed, RecordingKnown, RecordingNeeded, Request

MAX_NAME_CHARACTERS = 255
"""Greatest length of a display name."""

Event = RecordingNeeded | RecordingKnown | Progress | Segment | Completed[gateway_pb2.TranscribeResponse]


def decode_request(config: gateway_pb2.TranscribeRequest.Config) -> Request:
    """What ``config`` asks for. Raises ``InvalidRequest`` with the path of the field at fault."""
    codec.check_name(config.display_name, MAX_NAME_CHARACTERS, "config.display_name")
    formats = (codec.decode_format(number, f"config.formats[{index}]") for index, number in enumerate(config.formats))
    return Request(
        recording=codec.decode_digest(config.recording, "config.recording"),
        display_name=config.display_name,
        transcription=codec.decode_transcription_options(config.transcription, "config.transcription"),
        diarization=codec.decode_diarization_options(config.diarization, "config.diarization"),
        skip_cache=config.cache_control.skip_cache,
        formats=tuple(dict.fromkeys(formats)),
        channel_mode=codec.decode_channel_mode(config.channel_mode, config.diarization),
        audio_track=codec.decode_audio_track(config),
        known_speakers=codec.decode_known_speakers(config.known_speakers),
    )


def encode_event(event: Event) -> gateway_pb2.TranscribeResponse:
    """The message that tells ``event``."""
    response = gateway_pb2.TranscribeResponse
    match event:
        case RecordingNeeded():
            return response(recording_needed=response.RecordingNeeded())
        case RecordingKnown():
            return response(recording_known=response.RecordingKnown())
        case Progress():
            return response(progress=codec.encode_progress(event))
        case Segment():
            return response(segment=codec.encode_segment(event))
        case Completed():
            return event.result


def decode_stages(numbers: Sequence[audio_pb2.Stage.ValueType], known: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages named, once each; all of ``known`` where none is. Raises ``InvalidRequest`` for any other stage."""
    stages = tuple(codec.decode_stage(number, f"stages[{index}]") for index, number in enumerate(numbers))
    for index, stage in enumerate(stages):
        if stage not in known:
            raise InvalidRequest(
                f"the stage {stage} has no service of its own; accepted are {' and '.join(known)}",
                field=f"stages[{index}]",
                metadata={"value": stage},
            )
    return tuple(dict.fromkeys(stages)) or tuple(known)


def encode_stats(stats: SystemStats) -> admin_pb2.StatsResponse:
    """The message of the state of all services."""
    return admin_pb2.StatsResponse(
        stages=[_encode_stage_stats(stage, replicas) for stage, replicas in stats.services.items()],
        gateway_memory=codec.encode_memory_usage(stats.memory),
        stored_recordings=stats.store.recordings,
        stored_bytes=stats.store.size_bytes,
    )


def _encode_stage_stats(
    stage: Stage, replicas: Mapping[str, ModelServiceStats | CarecaError]
) -> admin_pb2.StatsResponse.StageStats:
    reached = [each for each in replicas.values() if isinstance(each, ModelServiceStats)]
    reasons = dict.fromkeys(each.message for each in replicas.values() if isinstance(each, CarecaError))
    return admin_pb2.StatsResponse.StageStats(
        stage=codec.encode_stage(stage),
        stats=codec.encode_model_service_stats(aggregate_stats(reached)) if reached else None,
        error_message="" if reached else "; ".join(reasons),
        replicas=[
            admin_pb2.StatsResponse.ReplicaStats(address=address, error_message=each.message)
            if isinstance(each, CarecaError)
            else admin_pb2.StatsResponse.ReplicaStats(address=address, stats=codec.encode_model_service_stats(each))
            for address, each in replicas.items()
        ],
    )


def encode_clearances(
    clearances: Iterable[tuple[Stage, tuple[CacheClearance, MemoryRelease]]],
) -> admin_pb2.ClearCacheResponse:
    """The message of what was cleared."""
    return admin_pb2.ClearCacheResponse(
        stages=[
            admin_pb2.ClearCacheResponse.StageClearance(
                stage=codec.encode_stage(stage), clearance=codec.encode_clearance(clearance, release)
            )
            for stage, (clearance, release) in clearances
        ]
    )


def encode_releases(
    releases: Iterable[tuple[Stage, MemoryRelease]], gateway: MemoryRelease
) -> admin_pb2.ReleaseMemoryResponse:
    """The message of the memory that came back."""
    return admin_pb2.ReleaseMemoryResponse(
        stages=[
            admin_pb2.ReleaseMemoryResponse.StageRelease(
                stage=codec.encode_stage(stage), memory=codec.encode_memory_release(release)
            )
            for stage, release in releases
        ],
        gateway=codec.encode_memory_release(gateway),
    )
