"""A gateway that follows the script of a test, served on a port of its own."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from careca import codec
from careca.errors import CarecaError
from careca.rpc.statuses import DETAILS_KEY, status_code, to_status
from careca.types import (
    CacheClearance,
    CacheStats,
    Channel,
    ClearScope,
    Digest,
    MemoryUsage,
    ModelServiceStats,
    Notice,
    Progress,
    Result,
    Segment,
    Speaker,
    Stage,
    StageReport,
    StageState,
    Turn,
    Utterance,
    Word,
)
from careca.v1 import admin_pb2, admin_pb2_grpc, gateway_pb2, gateway_pb2_grpc, jobs_pb2_grpc, voices_pb2_grpc
from support.redis_server import free_port
from support.scripted_jobs import RELEASE, JobScript, ScriptedJobs
from support.scripted_voices import ScriptedVoices

Config = gateway_pb2.TranscribeRequest.Config
ReplicaStats = admin_pb2.StatsResponse.ReplicaStats
Responses = Iterator[gateway_pb2.TranscribeResponse]

SPEAKERS = (Speaker("SPEAKER_00", (0.5, -0.5), "voices@1"), Speaker("SPEAKER_01", (0.25, 0.75), "voices@1"))
STATS = ModelServiceStats(
    cache=CacheStats(True, entries=3, size_bytes=4096, hits=3, misses=1, max_entries=100, ttl_seconds=86400.0),
    memory=MemoryUsage(900_000_000, 800_000_000),
    models_loaded=True,
    model="whisper-base@905e5bf8336b",
    device="cpu",
    in_flight=1,
    waiting=0,
)


def result_for(
    config: Config, *, cached: bool = False, failed: Stage | None = None, notices: tuple[Notice, ...] = ()
) -> Result:
    """Returns a phone call of two people with all requested formats. The second speaker has the first channel."""
    stages = tuple(
        StageReport(
            stage,
            StageState.FAILED if stage is failed else StageState.SUCCEEDED,
            1.5,
            cached=cached and stage in {Stage.TRANSCRIBE, Stage.DIARIZE},
            error_reason="OUT_OF_MEMORY" if stage is failed else "",
            error_message="the device has too little memory" if stage is failed else "",
        )
        for stage in Stage
    )
    turns = (Turn(0.0, 1.0, "SPEAKER_00"), Turn(1.0, 2.5, "SPEAKER_01"))
    channels = (Channel(Digest("1" * 64, 80_000), "SPEAKER_01"), Channel(Digest("2" * 64, 80_000), "SPEAKER_00"))
    formats = [codec.decode_format(number) for number in config.formats]
    return Result(
        recording=codec.decode_digest(config.recording, "recording"),
        audio=Digest("0" * 64, 80_000),
        duration=2.5,
        stages=stages,
        channels=channels if config.channel_mode == gateway_pb2.CHANNEL_MODE_SEPARATE else (),
        language="en",
        language_probability=1.0,
        utterances=(
            Utterance(0.0, 1.0, "Hello.", "SPEAKER_00", (Word("Hello.", 0.0, 1.0, 0.75, "SPEAKER_00"),)),
            Utterance(1.0, 2.5, "Olá, você!", "SPEAKER_01", (Word("Olá,", 1.0, 1.5), Word("você!", 2.0, 2.5))),
        ),
        turns=turns,
        exclusive_turns=turns,
        speakers=() if failed is Stage.DIARIZE else SPEAKERS,
        transcription_model="whisper-base@905e5bf8336b",
        formats={name: f"{name} of {config.display_name}\n" for name in formats},
        notices=notices,
    )


@dataclass
class Script:
    """What the gateway does in the next calls, and what it has received."""

    failures: list[CarecaError] = field(default_factory=list)
    """Errors of the next calls, one for each, raised before the config is answered."""
    fail_after_bytes: CarecaError | None = None
    """An error that is raised once, after the first bytes of a recording."""
    failed_stage: Stage | None = None
    notices: tuple[Notice, ...] = ()
    """The notices of every result."""
    hold: threading.Event | None = None
    """The gateway waits for this event before it sends the result."""
    replies: Callable[[Config], Responses] | None = None
    """If set, the gateway sends only these responses."""
    configs: list[Config] = field(default_factory=list)
    uploads: list[int] = field(default_factory=list)
    """Number of bytes received in each call that sent any."""
    recordings: dict[str, bytes] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when a call ends without its result, for example because the caller cancelled it."""
    deadlines: list[float | None] = field(default_factory=list)
    cleared: list[tuple[ClearScope, tuple[Stage, ...]]] = field(default_factory=list)
    submitters: list[str] = field(default_factory=list)
    """The submitter of each call of ``Transcribe``."""


def abort(context: grpc.ServicerContext, error: CarecaError) -> None:
    context.set_trailing_metadata(((DETAILS_KEY, to_status(error).SerializeToString()),))
    context.abort(status_code(error), error.message)


class ScriptedGateway(gateway_pb2_grpc.GatewayServiceServicer, admin_pb2_grpc.AdminServiceServicer):
    """Follows the rules of the stream, unless its script says otherwise."""

    def __init__(self, script: Script) -> None:
        self.script = script

    def Transcribe(self, request_iterator: Any, context: Any) -> Responses:
        script, config = self.script, next(request_iterator).config
        script.configs.append(config)
        script.deadlines.append(context.time_remaining())
        script.submitters.append(dict(context.invocation_metadata()).get("x-careca-submitter", "anonymous"))
        delivered = threading.Event()
        context.add_callback(lambda: None if delivered.is_set() else script.cancelled.set())
        if script.failures:
            abort(context, script.failures.pop(0))
        if script.replies is not None:
            yield from script.replies(config)
            return
        known = config.recording.sha256 in script.recordings
        if known:
            yield gateway_pb2.TranscribeResponse(recording_known=gateway_pb2.TranscribeResponse.RecordingKnown())
        else:
            yield gateway_pb2.TranscribeResponse(recording_needed=gateway_pb2.TranscribeResponse.RecordingNeeded())
            self._receive(request_iterator, config, context)
        yield from self._work(config, context, cached=known and not config.cache_control.skip_cache)
        delivered.set()

    def _receive(self, requests: Any, config: Config, context: Any) -> None:
        script, received = self.script, b""
        script.uploads.append(0)
        for request in requests:
            received += request.recording_chunk
            script.uploads[-1] = len(received)
            if script.fail_after_bytes is not None:
                error, script.fail_after_bytes = script.fail_after_bytes, None
                abort(context, error)
        if hashlib.sha256(received).hexdigest() == config.recording.sha256:
            script.recordings[config.recording.sha256] = received

    def _work(self, config: Config, context: Any, *, cached: bool) -> Responses:
        for stage in Stage:
            for fraction in (0.5, 1.0):
                yield gateway_pb2.TranscribeResponse(progress=codec.encode_progress(Progress(stage, fraction)))
        if not cached:
            yield gateway_pb2.TranscribeResponse(segment=codec.encode_segment(Segment(0.0, 1.0, "Hello.")))
        while self.script.hold is not None and not self.script.hold.wait(0.01):
            if not context.is_active():
                return
        result = result_for(config, cached=cached, failed=self.script.failed_stage, notices=self.script.notices)
        yield gateway_pb2.TranscribeResponse(result=codec.encode_result(result))

    def Stats(self, request: Any, context: Any) -> admin_pb2.StatsResponse:
        self.raise_failure(context)
        return admin_pb2.StatsResponse(
            stages=[
                admin_pb2.StatsResponse.StageStats(
                    stage=codec.encode_stage(Stage.TRANSCRIBE),
                    stats=codec.encode_model_service_stats(STATS),
                    replicas=[
                        ReplicaStats(address="10.0.0.1:50052", stats=codec.encode_model_service_stats(STATS)),
                        ReplicaStats(address="10.0.0.2:50052", error_message="it is draining"),
                    ],
                ),
                admin_pb2.StatsResponse.StageStats(
                    stage=codec.encode_stage(Stage.DIARIZE), error_message="connection refused"
                ),
            ],
            gateway_memory=codec.encode_memory_usage(MemoryUsage(90_000_000, 80_000_000)),
            stored_recordings=len(self.script.recordings),
            stored_bytes=1234,
        )

    def ClearCache(self, request: Any, context: Any) -> admin_pb2.ClearCacheResponse:
        self.raise_failure(context)
        stages = tuple(codec.decode_stage(stage) for stage in request.stages) or (Stage.TRANSCRIBE, Stage.DIARIZE)
        scope = codec.decode_clear_scope(request.scope)
        self.script.cleared.append((scope, stages))
        release = RELEASE if scope is ClearScope.ALL else replace(RELEASE, after=RELEASE.before, models_unloaded=False)
        return admin_pb2.ClearCacheResponse(
            stages=[
                admin_pb2.ClearCacheResponse.StageClearance(
                    stage=codec.encode_stage(stage),
                    clearance=codec.encode_clearance(CacheClearance(3, 4096, 1), release),
                )
                for stage in stages
            ]
        )

    def ReleaseMemory(self, request: Any, context: Any) -> admin_pb2.ReleaseMemoryResponse:
        self.raise_failure(context)
        stages = tuple(codec.decode_stage(stage) for stage in request.stages) or (Stage.TRANSCRIBE, Stage.DIARIZE)
        return admin_pb2.ReleaseMemoryResponse(
            stages=[
                admin_pb2.ReleaseMemoryResponse.StageRelease(
                    stage=codec.encode_stage(stage), memory=codec.encode_memory_release(RELEASE)
                )
                for stage in stages
            ],
            gateway=codec.encode_memory_release(replace(RELEASE, models_unloaded=False)),
        )

    def raise_failure(self, context: Any) -> None:
        """Raises the script's next failure."""
        if self.script.failures:
            abort(context, self.script.failures.pop(0))


class GatewayFixture:
    """The running gateway."""

    def __init__(
        self,
        script: Script,
        health: Any,
        jobs: ScriptedJobs,
        voices: ScriptedVoices,
        serve: Callable[[int], tuple[grpc.Server, int]],
    ) -> None:
        self.script = script
        self.health = health
        self.jobs = jobs
        self.voices = voices
        self._serve = serve
        self._server, self._port = serve(free_port())
        self.target = f"127.0.0.1:{self._port}"

    def stop(self, grace_seconds: float) -> None:
        """Stops the server and ends calls in flight."""
        self._server.stop(grace_seconds).wait()

    def restart(self, pause_seconds: float) -> None:
        """Ends calls in flight and serves again after a pause, with the same data."""
        self.stop(0)
        time.sleep(pause_seconds)
        self._server, _ = self._serve(self._port)

    def serve(self, service: str, serving: bool) -> None:
        """Sets the health of ``service``."""
        status = health_pb2.HealthCheckResponse
        self.health.set(service, status.SERVING if serving else status.NOT_SERVING)


def run_gateway() -> Iterator[GatewayFixture]:
    """Yields a running gateway, and stops it afterwards."""
    script, servicer = Script(), health.HealthServicer()
    gateway = ScriptedGateway(script)
    jobs = ScriptedJobs(JobScript(gateway.raise_failure, script.recordings, script.uploads), abort, result_for)
    voices = ScriptedVoices(gateway.raise_failure, abort)

    def serve(port: int) -> tuple[grpc.Server, int]:
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=24))
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server(gateway, server)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(gateway, server)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(jobs, server)
        voices_pb2_grpc.add_VoiceServiceServicer_to_server(voices, server)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        return server, port

    fixture = GatewayFixture(script, servicer, jobs, voices, serve)
    fixture.serve("", True)
    yield fixture
    if script.hold is not None:
        script.hold.set()
    fixture.stop(0.2)
