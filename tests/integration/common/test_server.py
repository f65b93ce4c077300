"""A server from start to stop, over real sockets."""

import asyncio
import os
import signal
import socket
import urllib.request
from contextlib import asynccontextmanager, suppress

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from bench.common.balancer import balanced
from careca.errors import PreconditionFailed, Unavailable
from careca.rpc import server as server_module
from careca.rpc.channel import create_channel, create_sync_channel
from careca.rpc.server import Service, ServiceServer, serve
from careca.rpc.statuses import translated_errors
from careca.settings import ServiceSettings
from careca.telemetry.metrics import Metrics
from careca.v1 import diarizer_pb2, diarizer_pb2_grpc
from support.name_server import NameServer
from support.waiting import HANG_SECONDS, eventually, settle

SERVICE = "careca.v1.DiarizerService"
STATUS = health_pb2.HealthCheckResponse


class Diarizer(diarizer_pb2_grpc.DiarizerServiceServicer):
    """Answers statistics at once, and a release of memory when it is allowed to."""

    def __init__(self):
        self.stats_calls = 0
        self.releasing = asyncio.Event()
        self.may_release = asyncio.Event()

    async def Stats(self, request, context):
        self.stats_calls += 1
        return diarizer_pb2.DiarizerServiceStatsResponse(stats={"model": "fake"})

    async def ReleaseMemory(self, request, context):
        self.releasing.set()
        await self.may_release.wait()
        return diarizer_pb2.DiarizerServiceReleaseMemoryResponse()

    async def Diarize(self, request_iterator, context):
        async for request in request_iterator:
            result = diarizer_pb2.DiarizeResponse.Result(diarization={"model": "x" * len(request.audio_chunk)})
            yield diarizer_pb2.DiarizeResponse(result=result)

    def add_to(self, server):
        diarizer_pb2_grpc.add_DiarizerServiceServicer_to_server(self, server)
        return [SERVICE]


def new_server(diarizer, settings=None, **hooks):
    settings = settings or ServiceSettings(drain_seconds=10 * HANG_SECONDS)
    return ServiceServer(settings, Service(diarizer.add_to, Metrics(), **hooks))


@asynccontextmanager
async def stopping(server):
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def diarizer():
    return Diarizer()


@pytest.fixture
async def server(diarizer):
    server = new_server(diarizer)
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def client(server):
    """The stubs of the service and of its health."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield diarizer_pb2_grpc.DiarizerServiceStub(channel), health_pb2_grpc.HealthStub(channel)


def stats(stub):
    return stub.Stats(diarizer_pb2.DiarizerServiceStatsRequest(), timeout=HANG_SECONDS)


def release(stub):
    return stub.ReleaseMemory(diarizer_pb2.DiarizerServiceReleaseMemoryRequest(), timeout=HANG_SECONDS)


async def statuses(health):
    names = ("", "readiness", "liveness")
    return [(await health.Check(health_pb2.HealthCheckRequest(service=name))).status for name in names]


async def test_a_started_server_accepts_calls_and_is_healthy(server):
    async with client(server) as (stub, health):
        assert (await stats(stub)).stats.model == "fake"
        assert await statuses(health) == [STATUS.SERVING] * 3


async def test_a_long_silent_call_survives_any_number_of_pings(diarizer, server):
    options = [("grpc.keepalive_time_ms", 50), ("grpc.http2.max_pings_without_data", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        call = release(diarizer_pb2_grpc.DiarizerServiceStub(channel))
        await diarizer.releasing.wait()
        await asyncio.sleep(4.5)  # gRPC spaces its pings by a second; the third too early used to end the connection
        assert not call.done()
        diarizer.may_release.set()

        await call


async def test_during_the_warm_up_the_server_is_alive_but_not_ready_and_refuses_calls(diarizer):
    may_warm_up = asyncio.Event()
    async with stopping(new_server(diarizer, warm_up=may_warm_up.wait)) as server:
        starting = asyncio.create_task(server.start())
        while not server.port:  # noqa: ASYNC110 - it listens before anything can be awaited
            await asyncio.sleep(0.001)
        async with client(server) as (stub, health):
            assert await statuses(health) == [STATUS.NOT_SERVING, STATUS.NOT_SERVING, STATUS.SERVING]
            with pytest.raises(Unavailable, match="starting") as refusal, translated_errors():
                await stats(stub)
            assert refusal.value.retry_after_seconds

            may_warm_up.set()
            await starting

            assert await statuses(health) == [STATUS.SERVING] * 3
            await stats(stub)


async def test_reflection_lists_the_services_if_it_is_enabled(diarizer, server):
    assert {SERVICE, "grpc.health.v1.Health"} <= set(await reflected(server))

    async with stopping(new_server(diarizer, ServiceSettings(reflection=False))) as closed:
        await closed.start()
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await reflected(closed)
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def reflected(server):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
        return [service.name for service in answers[0].list_services_response.service]


def scrape(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=HANG_SECONDS) as response:
        return response.read().decode()


async def test_metrics_know_all_methods_from_the_start_and_count_calls(server):
    name = f'careca_rpc_seconds_count{{code="OK",method="/{SERVICE}/'
    for method in ("Diarize", "Stats", "ClearCache", "ReleaseMemory"):
        assert f'{name}{method}"}} 0.0' in await asyncio.to_thread(scrape, server)

    async with client(server) as (stub, health):
        await stats(stub)
        await statuses(health)

    metrics = await asyncio.to_thread(scrape, server)
    assert f'{name}Stats"}} 1.0' in metrics
    assert "grpc.health" not in metrics


async def test_metrics_can_be_left_out(diarizer):
    async with stopping(new_server(diarizer, ServiceSettings(metrics_port=-1))) as server:
        await server.start()

        assert server.metrics_port is None


async def test_a_stopped_server_frees_its_ports(diarizer):
    first = new_server(diarizer)
    await first.start()
    ports = {"port": first.port, "metrics_port": first.metrics_port}
    await first.stop()

    async with stopping(new_server(diarizer, ServiceSettings(**ports))) as second:
        await second.start()
        assert (second.port, second.metrics_port) == (ports["port"], ports["metrics_port"])


async def test_a_grpc_server_that_does_not_stop_delays_the_end_only_for_a_while(diarizer, monkeypatch):
    monkeypatch.setattr(server_module, "_STOP_SECONDS", 0.01)
    closed = asyncio.Event()

    async def close():
        closed.set()

    server = new_server(diarizer, close=close)
    await server.start()
    (running,) = server._servers

    async def stop(grace):
        await asyncio.Event().wait()

    with capture_logs() as logs, monkeypatch.context() as patched:
        patched.setattr(running, "stop", stop)
        await server.stop()

    assert closed.is_set()
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == [
        "gRPC did not stop: the process ends without waiting for it"
    ]
    await running.stop(0)


async def test_a_large_message_passes(server):
    size = 10 * 1024 * 1024
    request = diarizer_pb2.DiarizeRequest(audio_chunk=b"x" * size)
    async with create_channel(f"127.0.0.1:{server.port}") as channel:
        stub = diarizer_pb2_grpc.DiarizerServiceStub(channel)
        answers = [answer async for answer in stub.Diarize(iter([request]), timeout=HANG_SECONDS)]

    assert [len(answer.result.diarization.model) for answer in answers] == [size]


async def test_while_it_drains_calls_in_flight_finish_and_new_ones_are_refused(diarizer):
    server = new_server(diarizer)
    await server.start()
    async with client(server) as (stub, health):
        call = asyncio.ensure_future(release(stub))
        await diarizer.releasing.wait()
        stop = asyncio.create_task(server.stop())
        await settle()

        with pytest.raises(Unavailable, match="draining") as refusal, translated_errors():
            await stats(stub)
        assert refusal.value.retry_after_seconds
        assert await statuses(health) == [STATUS.NOT_SERVING, STATUS.NOT_SERVING, STATUS.SERVING]
        assert server.calls_in_flight == 1
        assert not stop.done()

        diarizer.may_release.set()
        assert await call == diarizer_pb2.DiarizerServiceReleaseMemoryResponse()
        await stop


async def test_calls_that_outlast_the_drain_are_cancelled_with_unavailable(diarizer):
    server = new_server(diarizer, ServiceSettings(drain_seconds=0.05))
    await server.start()
    async with client(server) as (stub, _):
        call = asyncio.ensure_future(release(stub))
        await diarizer.releasing.wait()

        await server.stop()

        with pytest.raises(Unavailable, match="stopped"), translated_errors():
            await call


async def test_an_open_health_watch_does_not_hold_up_the_drain(diarizer):
    server = new_server(diarizer)
    await server.start()
    async with client(server) as (stub, health):
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == STATUS.SERVING
        await stats(stub)

        async with asyncio.timeout(HANG_SECONDS):  # far below the drain's seconds
            await server.stop()

        assert (await watch.read()).status == STATUS.NOT_SERVING


async def test_callers_behind_one_address_connect_elsewhere_while_a_call_goes_on(monkeypatch):
    """Behind a Kubernetes Service, for example."""
    monkeypatch.setattr(server_module, "_DISCONNECT_AFTER_SECONDS", 0.01)
    diarizers = [Diarizer(), Diarizer()]
    servers = [new_server(each) for each in diarizers]
    for each in servers:
        await each.start()
    targets = [f"127.0.0.1:{servers[0].port}"]
    async with balanced(lambda: targets) as address, create_channel(address) as channel:
        with create_sync_channel(address) as blocking_channel:
            stub = diarizer_pb2_grpc.DiarizerServiceStub(channel)
            blocking_stub = diarizer_pb2_grpc.DiarizerServiceStub(blocking_channel)
            call = asyncio.ensure_future(release(stub))  # keeps the first server draining
            await asyncio.to_thread(blocking_stub.Stats, diarizer_pb2.DiarizerServiceStatsRequest())
            await diarizers[0].releasing.wait()
            targets[:] = [f"127.0.0.1:{servers[1].port}"]
            stop = asyncio.create_task(servers[0].stop())

            async def answers():
                with suppress(Unavailable), translated_errors():
                    await asyncio.to_thread(blocking_stub.Stats, diarizer_pb2.DiarizerServiceStatsRequest())
                    return await stats(stub)

            await eventually(answers)

            assert (diarizers[0].stats_calls, diarizers[1].stats_calls) == (1, 2)
            assert not call.done()
            diarizers[0].may_release.set()
            await call
            await stop
    await servers[1].stop()


async def test_callers_of_a_name_find_the_replica_that_came_before_all_others_drain():
    diarizers = [Diarizer(), Diarizer()]
    first = new_server(diarizers[0], ServiceSettings(host="127.0.0.1", drain_seconds=10 * HANG_SECONDS))
    await first.start()
    names = NameServer("127.0.0.1")
    async with create_channel(f"{await names.start()}:{first.port}") as channel:
        stub = diarizer_pb2_grpc.DiarizerServiceStub(channel)
        await stats(stub)
        second = new_server(diarizers[1], ServiceSettings(host="127.0.0.2", port=first.port))
        await second.start()
        names.addresses.append("127.0.0.2")
        call = asyncio.ensure_future(release(stub))  # keeps the first server draining
        await diarizers[0].releasing.wait()
        stop = asyncio.create_task(first.stop())

        async def answers():
            with suppress(Unavailable), translated_errors():
                return await stats(stub)

        await eventually(answers)

        assert diarizers[1].stats_calls
        diarizers[0].may_release.set()
        await call
        await stop
    await second.stop()
    names.stop()


async def test_close_runs_when_no_call_is_in_flight_any_more(diarizer):
    in_flight = []

    async def close():
        in_flight.append(server.calls_in_flight)

    server = new_server(diarizer, close=close)
    await server.start()
    async with client(server) as (stub, _):
        call = asyncio.ensure_future(release(stub))
        await diarizer.releasing.wait()
        stop = asyncio.create_task(server.stop())
        await settle()
        assert in_flight == []
        diarizer.may_release.set()
        await call
        await stop

    assert in_flight == [0]


@pytest.mark.parametrize("variable", ["CARECA_PORT", "CARECA_METRICS_PORT"])
async def test_a_port_in_use_is_an_error_that_says_what_to_do(variable, diarizer):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        setting = {variable.removeprefix("CARECA_").lower(): taken.getsockname()[1]}
        async with stopping(new_server(diarizer, ServiceSettings(**setting))) as server:
            with pytest.raises(PreconditionFailed, match=variable) as failure:
                await server.start()

    assert failure.value.reason == "CANNOT_LISTEN"


async def test_two_servers_cannot_share_a_port(diarizer, server):
    async with stopping(new_server(diarizer, ServiceSettings(port=server.port))) as second:
        with pytest.raises(PreconditionFailed):
            await second.start()


async def test_calls_go_to_the_healthy_one_of_two_servers_while_the_other_drains():
    diarizers = [Diarizer(), Diarizer()]
    servers = [new_server(diarizer) for diarizer in diarizers]
    for server in servers:
        await server.start()
    target = "ipv4:" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
    async with create_channel(target) as channel, client(servers[0]) as (first, _):
        stub = diarizer_pb2_grpc.DiarizerServiceStub(channel)
        while not all(diarizer.stats_calls for diarizer in diarizers):
            await stats(stub)
        call = asyncio.ensure_future(release(first))  # keeps the first server draining
        await diarizers[0].releasing.wait()
        stop = asyncio.create_task(servers[0].stop())

        async def has_heard_of_it():
            """Whether it asks the other one alone: in turn, every second call would be refused."""
            with suppress(Unavailable), translated_errors():
                for _ in range(4):
                    await stats(stub)
                return True

        await eventually(has_heard_of_it)
        before = [diarizer.stats_calls for diarizer in diarizers]

        for _ in range(20):
            await stats(stub)

        assert [diarizer.stats_calls for diarizer in diarizers] == [before[0], before[1] + 20]
        diarizers[0].may_release.set()
        await asyncio.gather(call, stop)
    await servers[1].stop()


async def run(diarizer, settings=None, **hooks):
    settings = settings or ServiceSettings(drain_seconds=10 * HANG_SECONDS)
    await serve(settings, Service(diarizer.add_to, Metrics(), **hooks))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_service_cleanly(number, diarizer):
    ready = asyncio.Event()

    async def warm_up():
        ready.set()

    with capture_logs() as logs:
        serving = asyncio.create_task(run(diarizer, warm_up=warm_up))
        await ready.wait()
        os.kill(os.getpid(), number)
        await serving

    events = [line["event"] for line in logs]
    assert events[0] == "Service starting up"
    assert events[-1] == "Service stopped"
    assert logs[0]["drain_seconds"] == 10 * HANG_SECONDS


async def test_a_signal_during_the_warm_up_ends_the_service(diarizer):
    warming_up = asyncio.Event()

    async def warm_up():
        warming_up.set()
        await asyncio.Event().wait()

    serving = asyncio.create_task(run(diarizer, warm_up=warm_up))
    await warming_up.wait()
    os.kill(os.getpid(), signal.SIGTERM)

    await serving


async def test_a_service_that_cannot_start_logs_the_reason_and_exits_with_status_1(diarizer):
    async def warm_up():
        raise PreconditionFailed("no weights of whisper-base: run `careca models pull whisper-base`")

    closed = []

    async def close():
        closed.append(True)

    with capture_logs() as logs, pytest.raises(SystemExit) as end:
        await run(diarizer, warm_up=warm_up, close=close)

    assert end.value.code == 1
    errors = [line for line in logs if line["log_level"] == "error"]
    assert [line["error"] for line in errors] == ["no weights of whisper-base: run `careca models pull whisper-base`"]
    assert "exc_info" not in errors[0]
    assert closed == [True]
