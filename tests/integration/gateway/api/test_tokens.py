"""Tokens at a real gateway: what each caller may do, and how much."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from careca.auth.caller import Role
from careca.auth.tokens import hash_token
from careca.errors import (
    CarecaError,
    InvalidRecording,
    NotFound,
    Overloaded,
    PermissionDenied,
    PreconditionFailed,
    Unauthenticated,
)
from careca.rpc.channel import create_channel
from careca.rpc.statuses import responses_of, translated_errors
from careca.types import ClearScope, JobState, Stage
from careca.v1 import admin_pb2, admin_pb2_grpc, gateway_pb2, jobs_pb2, recordings_pb2, transcripts_pb2, voices_pb2
from careca_client import Access, AsyncClient
from support.media import tone, wav
from support.samples import sample_value
from support.stack import Stack
from support.submitters import pause_models, resume_models
from support.tokens import Tokens
from support.waiting import HANG_SECONDS, until

RECORDING = wav(tone(2.0))


@pytest.fixture
async def stack(tmp_path: Path, redis_url: str, tokens: Tokens) -> AsyncIterator[Stack]:
    async with Stack(tmp_path, redis_url, gateway_settings={"tokens_file": tokens.path}, jobs=True) as stack:
        yield stack


@asynccontextmanager
async def client(stack: Stack, token: str, **options: Any) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(stack.target, retries=0, access=Access(token), **options) as client:
        yield client


async def test_a_user_transcribes_and_an_admin_sees_statistics_and_clears_caches(stack: Stack, tokens: Tokens) -> None:
    async with client(stack, tokens.of["ana"]) as ana, client(stack, tokens.of["ops"]) as ops:
        assert (await ana.transcribe(RECORDING)).utterances
        assert [stage.stats.cache.entries for stage in (await ops.stats()).stages if stage.stats] == [1, 1]
        assert [cleared.cleared.removed_entries for cleared in await ops.clear_cache(ClearScope.ALL)] == [1, 1]
        assert (await ops.release_memory()).stages


async def test_admin_methods_are_refused_for_users(stack: Stack, tokens: Tokens) -> None:
    async with client(stack, tokens.of["ana"]) as ana:
        for call in (ana.stats(), ana.clear_cache(ClearScope.EXPIRED), ana.release_memory()):
            with pytest.raises(PermissionDenied) as caught:
                await call
            assert caught.value.reason == "NEEDS_ADMIN"


async def every_method(channel: grpc.aio.Channel, metadata: Any) -> list[str]:
    """Returns the error reasons of all methods of all services for a call with nothing but ``metadata``."""
    services = [
        *gateway_pb2.DESCRIPTOR.services_by_name.values(),
        *admin_pb2.DESCRIPTOR.services_by_name.values(),
        *jobs_pb2.DESCRIPTOR.services_by_name.values(),
        *recordings_pb2.DESCRIPTOR.services_by_name.values(),
        *transcripts_pb2.DESCRIPTOR.services_by_name.values(),
        *voices_pb2.DESCRIPTOR.services_by_name.values(),
    ]
    reasons = []
    for method in (method for service in services for method in service.methods):
        try:
            with translated_errors():
                await call(channel, method, metadata)
        except CarecaError as error:
            reasons.append(error.reason)
        else:
            reasons.append(f"{method.name} was served")
    return reasons


async def call(channel: grpc.aio.Channel, method: Any, metadata: Any) -> None:
    """Sends one empty message. Returns when the call has ended successfully."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    terms: Any = {"metadata": metadata, "timeout": 10.0}
    if method.client_streaming:
        async for _ in responses_of(channel.stream_stream(path)(iter([b""]), **terms)):
            pass
    elif method.server_streaming:
        async for _ in channel.unary_stream(path)(b"", **terms):
            pass
    else:
        await channel.unary_unary(path)(b"", **terms)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), "NO_TOKEN"),
        ((("authorization", "Basic YW5hOmFuYQ=="),), "NO_TOKEN"),
        ((("authorization", "Bearer "),), "UNKNOWN_TOKEN"),
        ((("authorization", "Bearer " + "x" * 5000),), "UNKNOWN_TOKEN"),
        ((("authorization", "Bearer careca_guess"), ("x-careca-submitter", "ana")), "UNKNOWN_TOKEN"),
    ],
)
async def test_without_a_valid_token_every_method_is_refused(metadata: Any, reason: str, stack: Stack) -> None:
    async with create_channel(stack.target) as channel:
        reasons = await every_method(channel, metadata)

    assert len(reasons) == 2 + 3 + 10 + 2 + 3 + 3
    assert set(reasons) == {reason}


async def test_the_hash_of_a_token_is_not_a_token(stack: Stack, tokens: Tokens) -> None:
    async with client(stack, hash_token(tokens.of["ops"])) as thief:
        with pytest.raises(Unauthenticated):
            await thief.stats()


async def test_users_can_only_use_their_own_jobs(stack: Stack, tokens: Tokens) -> None:
    async with client(stack, tokens.of["ana"]) as ana, client(stack, tokens.of["bo"]) as bo:
        job = await ana.submit(RECORDING)
        async for _ in ana.watch(job.id):
            pass

        assert job.submitter == "ana"
        assert [each.id async for each in ana.jobs()] == [job.id]
        assert [each.id async for each in bo.jobs()] == []
        for call in (bo.job(job.id), bo.job_result(job.id), bo.cancel_job(job.id), bo.retry_job(job.id)):
            with pytest.raises(NotFound):
                await call
        with pytest.raises(NotFound):
            await bo.delete_job(job.id)
        with pytest.raises(NotFound):
            await anext(bo.watch(job.id))
        with pytest.raises(NotFound):
            await bo.waveform(job.id)
        with pytest.raises(NotFound):
            async with bo.read_recording(job.id):
                pass
        assert (await ana.waveform(job.id)).audio_seconds == 2.0
        assert (await bo.clear_jobs()).removed_jobs == 0
        assert (await ana.job(job.id)).state is JobState.SUCCEEDED


async def test_an_administrator_sees_the_jobs_of_all_and_clears_the_whole_history(stack: Stack, tokens: Tokens) -> None:
    async with client(stack, tokens.of["ana"]) as ana, client(stack, tokens.of["ops"]) as ops:
        job = await ana.submit(RECORDING)
        async for _ in ops.watch(job.id):
            pass
        assert [each.submitter async for each in ops.jobs(all_submitters=True)] == ["ana"]
        assert [each async for each in ops.jobs()] == []
        assert (await ops.job_result(job.id)).utterances
        assert (await ops.waveform(job.id)).audio_seconds == 2.0
        async with ops.read_recording(job.id) as reader:
            assert b"".join([chunk async for chunk in reader.chunks]) == RECORDING
        assert (await ops.clear_jobs()).removed_jobs == 0

        for refused in (ana.clear_jobs(all_submitters=True), anext(ana.jobs(all_submitters=True))):
            with pytest.raises(PermissionDenied) as caught:
                await refused
            assert caught.value.reason == "NEEDS_ADMIN"
        assert [each.id async for each in ana.jobs()] == [job.id]
        cleared = await ops.clear_jobs(all_submitters=True)

        assert cleared.removed_jobs == 1
        assert cleared.memory
        assert {stage for stage, _ in cleared.memory.stages} == {Stage.TRANSCRIBE, Stage.DIARIZE}
        assert [each async for each in ana.jobs()] == []


async def test_a_user_clears_its_own_history_and_unloads_nothing(stack: Stack, tokens: Tokens) -> None:
    async with client(stack, tokens.of["ana"]) as ana, client(stack, tokens.of["bo"]) as bo:
        for owner in (ana, bo):
            job = await owner.submit(RECORDING)
            async for _ in owner.watch(job.id):
                pass

        cleared = await ana.clear_jobs()

        assert (cleared.removed_jobs, cleared.memory) == (1, None)
        assert len([each async for each in bo.jobs()]) == 1
        assert all(service.engine.loaded for service in stack.model_services)


async def test_a_caller_cannot_use_another_name(stack: Stack, tokens: Tokens) -> None:
    async with client(stack, tokens.of["bo"], submitter="ana") as bo:
        with pytest.raises(PermissionDenied) as caught:
            await bo.submit(RECORDING)

    assert caught.value.reason == "NOT_YOUR_NAME"


async def test_logs_contain_the_name_and_not_the_token(
    stack: Stack, tokens: Tokens, capsys: pytest.CaptureFixture[str]
) -> None:
    async with client(stack, tokens.of["ana"]) as ana:
        await ana.transcribe(RECORDING)

    lines = [line for line in capsys.readouterr().out.splitlines() if "GatewayService/Transcribe" in line]
    assert lines
    assert all("caller=ana" in line for line in lines)
    assert not any(token in line for line in lines for token in tokens.of.values())


async def test_tokens_can_be_added_and_removed_without_a_restart(stack: Stack, tokens: Tokens) -> None:
    async with client(stack, tokens.of["ana"]) as ana, client(stack, tokens.of["ops"]) as ops:
        await ana.transcribe(RECORDING)
        text = tokens.path.read_text()
        tokens.path.write_text(text[text.index("[[token]]", 10) :])
        with pytest.raises(Unauthenticated):
            await ana.transcribe(RECORDING)
        tokens.add("cy")
        async with client(stack, tokens.of["cy"]) as cy:
            await cy.transcribe(RECORDING)

        with capture_logs() as logs:
            tokens.path.write_text("[[token]")
            assert await ops.stats()
        assert [line["event"] for line in logs if line["log_level"] == "error"] == [
            "new tokens cannot be used; the old ones stay in use"
        ]


def entry(name: str = "a", role: str = "user", sha256: str = "0" * 64, more: str = "") -> str:
    return f'[[token]]\nname = "{name}"\nrole = "{role}"\nsha256 = "{sha256}"\n{more}\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[token]", "not valid TOML"),
        ("", "token: Field required"),
        (entry(name="a b"), "a name has"),
        (entry(role="root"), "role"),
        (entry(sha256="careca_secret"), "sha256"),
        (entry(more="job = 3"), "job"),
        (entry(more="jobs = 0"), "jobs"),
        (entry() * 2, "twice"),
    ],
)
async def test_a_gateway_does_not_start_with_a_file_it_cannot_use_and_shows_no_secret(
    text: str, complaint: str, tmp_path: Path, redis_url: str
) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(text)

    with pytest.raises(PreconditionFailed) as caught:
        await Stack(tmp_path, redis_url, gateway_settings={"tokens_file": path}).start_gateway()

    assert caught.value.reason == "TOKENS_FILE"
    assert complaint in caught.value.message
    assert "careca_secret" not in caught.value.message


async def test_more_requests_in_a_second_than_a_token_allows_are_refused_with_a_delay(
    stack: Stack, tokens: Tokens
) -> None:
    tokens.add("fast", requests_per_second=0.001)
    async with client(stack, tokens.of["fast"]) as fast, client(stack, tokens.of["ana"]) as ana:
        assert [job async for job in fast.jobs()] == []
        with pytest.raises(Overloaded) as caught:
            [job async for job in fast.jobs()]
        assert [job async for job in ana.jobs()] == []

    assert caught.value.reason == "TOO_MANY_REQUESTS"
    assert caught.value.retry_after_seconds
    assert 900 < caught.value.retry_after_seconds <= 1000


async def test_a_token_limits_the_size_and_the_length_of_recordings_in_calls_and_in_jobs(
    stack: Stack, tokens: Tokens
) -> None:
    tokens.add("small", recording_bytes=len(RECORDING) - 1)
    tokens.add("short", recording_seconds=1.9)
    async with client(stack, tokens.of["small"]) as small, client(stack, tokens.of["short"]) as short:
        for call in (small.transcribe(RECORDING), small.upload(RECORDING), small.submit(RECORDING)):
            with pytest.raises(InvalidRecording) as caught:
                await call
            assert caught.value.reason == "RECORDING_TOO_LARGE"
        for _ in range(2):  # decoded, and decoded before
            with pytest.raises(InvalidRecording) as caught:
                await short.transcribe(RECORDING)
            assert caught.value.reason == "RECORDING_TOO_LONG"
        job = await short.submit(RECORDING)
        async for _ in short.watch(job.id):
            pass
        assert (await short.job(job.id)).error_reason == "RECORDING_TOO_LONG"


async def test_health_is_open_to_probes_and_can_be_closed(tmp_path: Path, redis_url: str, tokens: Tokens) -> None:
    for health in (True, False):
        settings = {"tokens_file": tokens.path, "health": health, "reflection": health}
        async with (
            Stack(tmp_path / str(health), redis_url, gateway_settings=settings) as stack,
            create_channel(stack.target, respect_health=False) as channel,
        ):
            call = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=HANG_SECONDS)
            if health:
                assert (await call).status == health_pb2.HealthCheckResponse.SERVING
            else:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_tokens_need_tls_unless_insecure_is_allowed() -> None:
    with pytest.raises(CarecaError) as caught:
        AsyncClient("gateway.example:50051", access=Access("careca_x"))
    assert caught.value.reason == "TOKEN_IN_CLEAR"

    for target in ("localhost:1", "127.0.0.1:1", "[::1]:1", "ipv4:127.0.0.1:1,127.0.0.1:2", "dns:///localhost:1"):
        await AsyncClient(target, access=Access("careca_x")).close()
    for target in ("ipv4:127.0.0.1:1,10.0.0.1:2", "dns:///gateway:1", "10.0.0.1"):
        with pytest.raises(CarecaError):
            AsyncClient(target, access=Access("careca_x"))
    await AsyncClient("gateway.example:50051", access=Access("careca_x", insecure=True)).close()


async def test_plain_grpc_calls_need_only_the_metadata(stack: Stack, tokens: Tokens) -> None:
    metadata = (("authorization", f"Bearer {tokens.of['ops']}"),)
    async with create_channel(stack.target) as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        response = await admin.Stats(admin_pb2.StatsRequest(), metadata=metadata, timeout=HANG_SECONDS)
        assert len(response.stages) == 2


async def test_a_token_limits_how_many_jobs_wait(stack: Stack, tokens: Tokens) -> None:
    tokens.add("few", jobs=2)
    pause_models(stack)
    stack_slots = 8
    async with client(stack, tokens.of["few"]) as few, client(stack, tokens.of["ana"]) as ana:
        for _ in range(stack_slots):
            await ana.submit(RECORDING, skip_cache=True)
        await until(lambda: sample_value(stack.metrics.registry, "careca_jobs_in_flight") == stack_slots)
        for _ in range(2):
            await few.submit(RECORDING)
        with pytest.raises(Overloaded) as caught:
            await few.submit(RECORDING)
        await ana.submit(RECORDING)
    resume_models(stack)

    assert caught.value.reason == "TOO_MANY_JOBS"


async def test_the_gateway_says_what_it_serves_and_as_whom_it_knows_the_caller(stack: Stack, tokens: Tokens) -> None:
    tokens.add("small", recording_bytes=1000, recording_seconds=60.0)
    async with client(stack, "") as base:
        ana = await base.as_caller(token=tokens.of["ana"]).info()
        ops = await base.as_caller(token=tokens.of["ops"]).info()
        small = await base.as_caller(token=tokens.of["small"]).info()
        with pytest.raises(Unauthenticated) as caught:
            await base.info()

    assert (ana.caller_name, ana.caller_role) == ("ana", Role.USER)
    assert (ops.caller_name, ops.caller_role) == ("ops", Role.ADMIN)
    assert ana.requires_token
    assert ana.takes_jobs
    assert ana.transcription_model.startswith("fake")
    assert ana.diarization_model.startswith("fake")
    assert (small.max_recording_bytes, small.max_audio_seconds) == (1000, 60.0)
    assert ana.max_recording_bytes > 1000
    assert caught.value.reason == "NO_TOKEN"


async def test_a_client_for_another_caller_passes_its_metadata_and_leaves_the_connections_open(
    stack: Stack, tokens: Tokens
) -> None:
    async with client(stack, tokens.of["ana"]) as ana:
        bo = ana.as_caller(token=tokens.of["bo"], metadata=(("x-careca-submitter", "ana"),))
        with pytest.raises(PermissionDenied) as caught:
            [job async for job in bo.jobs()]
        info = await ana.info()

    assert caught.value.reason == "NOT_YOUR_NAME"
    assert info.caller_name == "ana"
