"""TLS on real sockets: which callers are accepted, and how replaced files are loaded."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from careca.auth.tls import TlsFiles
from careca.errors import CarecaError, PreconditionFailed, Unavailable
from careca.rpc.channel import create_channel
from careca.rpc.statuses import translated_errors
from careca.types import Stage
from careca.v1 import diarizer_pb2, diarizer_pb2_grpc
from careca_client import Access, AsyncClient
from careca_gateway.backends import Replicas
from support.certificates import CertificateFiles, issue
from support.fakes import FakeDiarizerEngine, FakeTranscriberEngine
from support.media import tone, wav
from support.stack import ModelService, Stack
from support.waiting import HANG_SECONDS, until

RECORDING = wav(tone(2.0))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_files(tmp_path: Path, authority: trustme.CA) -> CertificateFiles:
    return issue(tmp_path / "server", authority)


@pytest.fixture
def caller_files(tmp_path: Path, authority: trustme.CA) -> CertificateFiles:
    return issue(tmp_path / "caller", authority, "gateway")


def serving_with(files: CertificateFiles, *, mutual: bool = True) -> dict[str, Any]:
    settings = {"tls_cert_file": files.certificate, "tls_key_file": files.key}
    return settings | ({"tls_client_ca_file": files.authority} if mutual else {})


def calling_with(files: CertificateFiles) -> TlsFiles:
    return TlsFiles(certificate=files.certificate, key=files.key, authority=files.authority)


@asynccontextmanager
async def diarizer(files: CertificateFiles, **settings: Any) -> AsyncIterator[ModelService]:
    service = ModelService(FakeDiarizerEngine(), **serving_with(files), **settings)
    await service.start("")
    try:
        yield service
    finally:
        await service.stop()


async def ask(service: ModelService, tls: TlsFiles | None) -> str:
    async with create_channel(f"127.0.0.1:{service.port}", tls) as channel:
        return await ask_on(diarizer_pb2_grpc.DiarizerServiceStub(channel))


async def ask_on(stub: Any) -> str:
    with translated_errors():
        response = await stub.Stats(diarizer_pb2.DiarizerServiceStatsRequest(), timeout=HANG_SECONDS)
    return str(response.stats.model)


async def test_a_caller_with_a_certificate_of_the_authority_is_accepted(
    server_files: CertificateFiles, caller_files: CertificateFiles
) -> None:
    async with diarizer(server_files) as service:
        assert await ask(service, calling_with(caller_files))


async def test_callers_without_tls_or_a_valid_certificate_are_refused(
    server_files: CertificateFiles, tmp_path: Path
) -> None:
    strange = issue(tmp_path / "strange", trustme.CA(), "gateway")
    strangers = [
        None,
        TlsFiles(authority=server_files.authority),
        TlsFiles(certificate=strange.certificate, key=strange.key, authority=server_files.authority),
    ]
    async with diarizer(server_files) as service:
        for tls in strangers:
            with pytest.raises(Unavailable):
                await ask(service, tls)


async def test_a_server_of_another_authority_or_for_another_name_is_not_trusted(
    authority: trustme.CA, caller_files: CertificateFiles, tmp_path: Path
) -> None:
    for files in (
        issue(tmp_path / "other", trustme.CA()),
        issue(tmp_path / "elsewhere", authority, host="diarizer.example"),
    ):
        async with diarizer(files) as service:
            with pytest.raises(Unavailable):
                await ask(service, calling_with(caller_files))


async def test_both_sides_load_files_of_a_new_authority_without_a_restart_while_calls_continue(
    server_files: CertificateFiles, caller_files: CertificateFiles, tmp_path: Path
) -> None:
    async with diarizer(server_files) as service:
        target = f"127.0.0.1:{service.port}"
        async with create_channel(target, calling_with(caller_files)) as channel:
            stub = diarizer_pb2_grpc.DiarizerServiceStub(channel)
            assert await ask_on(stub)
            before = calling_with(issue(tmp_path / "before", trustme.CA(), "gateway"))

            rotated = trustme.CA()
            issue(tmp_path / "caller", rotated, "gateway")
            issue(tmp_path / "server", rotated)

            assert await ask_on(stub)
            with pytest.raises(Unavailable):
                await ask(service, before)


async def test_a_gateway_checks_the_server_name_for_every_address(
    authority: trustme.CA, caller_files: CertificateFiles, tmp_path: Path
) -> None:
    async def resolve(_name: str, port: int) -> set[str]:
        return {f"ipv4:127.0.0.1:{port}"}

    files = issue(tmp_path / "named", authority, host="diarizer.careca.svc")
    async with diarizer(files) as service:
        for name, is_right in (("diarizer.careca.svc", True), ("transcriber.careca.svc", False)):
            target = f"dns:///{name}:{service.port}"
            async with Replicas(target, calling_with(caller_files), resolve=resolve) as replicas:
                await until(lambda replicas=replicas: all(r.address.startswith("ipv4:") for r in replicas.all))
                stub = diarizer_pb2_grpc.DiarizerServiceStub(replicas.best())
                if is_right:
                    assert await ask_on(stub)
                else:
                    with pytest.raises(Unavailable):
                        await ask_on(stub)


async def test_new_files_that_cannot_be_used_are_logged_and_the_old_ones_stay_in_use(
    server_files: CertificateFiles, caller_files: CertificateFiles
) -> None:
    async with diarizer(server_files) as service:
        with capture_logs() as logs:
            server_files.certificate.write_text("-----BEGIN nonsense")
            assert await ask(service, calling_with(caller_files))
        (line,) = [line for line in logs if line["log_level"] == "error"]
        assert "cannot be used" in line["event"]
        assert str(server_files.certificate) in line["error"]


def test_an_expired_certificate_is_logged_as_an_error(tmp_path: Path, authority: trustme.CA) -> None:
    files = issue(tmp_path / "server", authority, ends_in=timedelta(seconds=-1))

    with capture_logs() as logs:
        calling_with(files)

    (line,) = logs
    assert (line["log_level"], line["event"]) == ("error", "the certificate has expired")
    assert line["file"] == str(files.certificate)


@pytest.mark.parametrize("spoil", ["missing", "nonsense", "other key"])
async def test_a_service_with_unusable_files_does_not_start_and_reports_the_reason(
    spoil: str, server_files: CertificateFiles, tmp_path: Path
) -> None:
    if spoil == "missing":
        server_files.key.unlink()
    elif spoil == "nonsense":
        server_files.key.write_text("no key")
    else:
        server_files.key.write_bytes(issue(tmp_path / "other", trustme.CA()).key.read_bytes())
    service = ModelService(FakeDiarizerEngine(), **serving_with(server_files))

    with pytest.raises(PreconditionFailed) as caught:
        await service.start("")

    await service.stop()
    assert caught.value.reason == "TLS_FILES"
    assert str(server_files.key) in caught.value.message


async def test_probes_without_tls_can_only_check_health(server_files: CertificateFiles) -> None:
    async with diarizer(server_files, health_port=0) as service:
        async with create_channel(f"127.0.0.1:{service.health_port}", respect_health=False) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for name in ("", "readiness", "liveness"):
                response = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=HANG_SECONDS)
                assert response.status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(CarecaError) as caught:
                await ask_on(diarizer_pb2_grpc.DiarizerServiceStub(channel))
        assert "UNIMPLEMENTED" in caught.value.message or "Method not found" in caught.value.message


async def test_the_expiry_of_the_certificate_is_exported(tmp_path: Path, authority: trustme.CA) -> None:
    files = issue(tmp_path / "server", authority, ends_in=timedelta(days=20))
    async with diarizer(files, metrics_port=0) as service:
        url = f"http://127.0.0.1:{service.metrics_port}/metrics"
        text = (await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())).decode()

    (line,) = [
        line for line in text.splitlines() if line.startswith("careca_tls_certificate_expiry_timestamp_seconds{")
    ]
    left = float(line.split()[-1]) - datetime.now(UTC).timestamp()
    assert line.startswith('careca_tls_certificate_expiry_timestamp_seconds{file="server"}')
    assert timedelta(days=19) < timedelta(seconds=left) < timedelta(days=20, seconds=1)


async def test_a_recording_passes_a_stack_with_mutual_tls_on_every_hop(
    server_files: CertificateFiles, caller_files: CertificateFiles, tmp_path: Path, redis_url: str
) -> None:
    gateway_settings = serving_with(server_files, mutual=False) | {
        "services_ca_file": caller_files.authority,
        "services_cert_file": caller_files.certificate,
        "services_key_file": caller_files.key,
    }
    stack = Stack(
        tmp_path,
        redis_url,
        transcriber=ModelService(FakeTranscriberEngine(), **serving_with(server_files)),
        diarizer=ModelService(FakeDiarizerEngine(), **serving_with(server_files)),
        gateway_settings=gateway_settings,
    )
    async with stack, AsyncClient(stack.target, access=Access(ca_file=server_files.authority)) as client:
        result = await client.transcribe(RECORDING)
        stats = await client.stats()

        assert result.utterances
        assert {stage.stage: stage.error for stage in stats.stages} == {Stage.TRANSCRIBE: "", Stage.DIARIZE: ""}
        assert (await client.health()).serving
        async with AsyncClient(stack.target, retries=0) as plain:
            with pytest.raises(Unavailable):
                await plain.stats(timeout=HANG_SECONDS)
