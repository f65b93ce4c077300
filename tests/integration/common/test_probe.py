"""``python -m careca.rpc.probe`` against real servers."""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from careca.rpc.probe import main
from careca.rpc.server import Service, ServiceServer
from careca.settings import ServiceSettings
from careca.telemetry.metrics import Metrics
from support.redis_server import free_port
from support.waiting import HANG_SECONDS


async def probe(*arguments: str) -> tuple[int, str]:
    """The exit code and the output of the real command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "careca.rpc.probe", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


def new_server(warm_up=None):
    hooks = {"warm_up": warm_up} if warm_up else {}
    return ServiceServer(ServiceSettings(metrics_port=-1), Service(lambda _: [], Metrics(), **hooks))


async def test_a_service_that_takes_calls_is_ready_and_alive():
    server = new_server()
    await server.start()
    try:
        assert await probe(f"127.0.0.1:{server.port}") == (0, "SERVING\n")
        assert await probe("--service", "liveness", f"127.0.0.1:{server.port}") == (0, "SERVING\n")
    finally:
        await server.stop()


async def test_a_service_that_loads_its_model_is_alive_and_not_ready():
    loaded = asyncio.Event()
    server = new_server(warm_up=loaded.wait)
    starting = asyncio.create_task(server.start())
    try:
        while not server.port:  # noqa: ASYNC110 - a server does not tell when it listens
            await asyncio.sleep(0.01)

        assert await probe("--service", "liveness", f"127.0.0.1:{server.port}") == (0, "SERVING\n")
        assert await probe(f"127.0.0.1:{server.port}") == (1, "NOT_SERVING\n")
    finally:
        loaded.set()
        await starting
        await server.stop()


async def test_a_name_that_the_service_does_not_know_fails():
    server = new_server()
    await server.start()
    try:
        code, output = await probe("--service", "happiness", f"127.0.0.1:{server.port}")
    finally:
        await server.stop()

    assert code == 1
    assert output.startswith("NOT_FOUND")


def test_a_probe_without_a_server_fails(capsys):
    assert main([f"127.0.0.1:{free_port()}"]) == 1
    assert capsys.readouterr().err.startswith("UNAVAILABLE")


def test_a_service_that_does_not_answer_fails_in_time(capsys):
    released = threading.Event()

    class Silent(health_pb2_grpc.HealthServicer):
        def Check(self, request, context):
            context.add_callback(released.set)
            released.wait(HANG_SECONDS)

    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(Silent(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert main(["--timeout", "0.5", f"127.0.0.1:{port}"]) == 1
    finally:
        server.stop(0).wait()

    assert capsys.readouterr().err.startswith("DEADLINE_EXCEEDED")


@pytest.mark.parametrize(("name", "code"), [("careca.example", 0), ("another.example", 1)])
def test_a_service_with_tls_is_probed_with_the_name_in_its_certificate(tmp_path, name, code):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    certificate = authority.issue_cert("careca.example")
    credentials = grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())]
    )
    servicer = health.HealthServicer()
    servicer.set("readiness", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        tls = ["--tls-ca-file", str(tmp_path / "ca.crt"), "--tls-server-name", name]
        assert main([*tls, f"127.0.0.1:{port}"]) == code
    finally:
        server.stop(0).wait()
