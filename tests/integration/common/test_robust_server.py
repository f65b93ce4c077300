"""A server that callers cannot stop, tested with raw bytes on its port."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from careca.rpc import robust_server
from careca.rpc.server import Service, ServiceServer
from careca.settings import ServiceSettings
from careca.telemetry.metrics import Metrics
from support.waiting import HANG_SECONDS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # and no settings
PING = (8).to_bytes(3, "big") + b"\x06\0" + bytes(4) + bytes(8)
SILENT = health_pb2.HealthCheckRequest()


def literal(name: bytes, value: bytes) -> bytes:
    """A header field in HPACK, without its tables."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def call_of(path: bytes, *more: bytes, number: int = 1) -> bytes:
    """The bytes of a call of the method ``path`` with an empty message, in one stream."""
    fields = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"))
    headers = b"".join(literal(*field) for field in fields)
    headers += literal(b"content-type", b"application/grpc") + literal(b"te", b"trailers") + b"".join(more)
    message = bytes(5)
    return (
        len(headers).to_bytes(3, "big") + b"\x01\x04" + number.to_bytes(4, "big") + headers
        + len(message).to_bytes(3, "big") + b"\x00\x01" + number.to_bytes(4, "big") + message
    )  # fmt: skip


async def send(port: int, data: bytes, *, ends: int = 1) -> bytes:
    """The answer of the server up to the end of a stream; for stream 0 up to the answer to a ping."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE + data)
    answer = head = b""
    try:
        async with asyncio.timeout(HANG_SECONDS):
            while not (head and _ends(head, ends)):
                head = await reader.readexactly(9)
                answer += head + await reader.readexactly(int.from_bytes(head[:3], "big"))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
    return answer


def _ends(head: bytes, number: int) -> bool:
    """Whether a frame is the last of the stream: headers that end it, its reset, or the answer to a ping."""
    kind, flags, of = head[3], head[4], int.from_bytes(head[5:], "big")
    return of == number and (kind == 3 or (kind in (1, 6) and bool(flags & 1)))


@pytest.fixture
async def server() -> AsyncIterator[ServiceServer]:
    running = ServiceServer(
        ServiceSettings(port=0, metrics_port=-1, drain_seconds=1.0), Service(lambda _: (), Metrics())
    )
    await running.start()
    yield running
    await running.stop()


HEALTH = b"/grpc.health.v1.Health/Check"


async def test_the_bytes_of_these_tests_are_a_call(server: ServiceServer) -> None:
    assert b"grpc-status" in await send(server.port, call_of(HEALTH))


@pytest.mark.parametrize("path", [b"/\xff\xfe", HEALTH + b"\xff", b"/a/\xed\xa0\x80", b"\xc0\xaf", b""])
async def test_a_method_whose_name_is_not_text_ends_no_other_call(
    server: ServiceServer, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(SILENT)
        await watching.read()

        for _ in range(3):
            await send(server.port, call_of(path) + call_of(HEALTH, number=3), ends=3)

        assert not watching.done()
        await health_pb2_grpc.HealthStub(channel).Check(SILENT)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_an_unknown_method_is_unimplemented(server: ServiceServer) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/careca.v1.Nothing/Ever")(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_metadata_that_is_not_text_is_harmless(server: ServiceServer) -> None:
    answer = await send(
        server.port, call_of(HEALTH, literal(b"x-request-id", b"\xff\xfe"), literal(b"x-y", b"\xed\xa0"))
    )

    assert b"grpc-status" in answer
    assert b"grpc-status" in await send(server.port, call_of(HEALTH))


async def test_the_server_of_grpc_still_has_the_bug() -> None:
    """If this fails, ``careca.rpc.robust_server`` can be removed."""
    assert robust_server._is_supported()
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health_pb2_grpc.HealthServicer(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    sending = asyncio.create_task(send(port, call_of(b"/\xff")))

    with pytest.raises(UnicodeDecodeError):
        await server.wait_for_termination(timeout=HANG_SECONDS)
    sending.cancel()


async def test_with_an_unsupported_grpc_its_own_server_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust_server, "_HANDLE", ("something", "else"))

    server = robust_server.new_server((), [])

    assert not isinstance(server._server, robust_server._RobustServer)  # type: ignore[attr-defined]


SERVE = """
import asyncio
from careca.rpc import robust_server, server
from careca.telemetry import logs
from careca.telemetry.metrics import Metrics
from careca.settings import ServiceSettings
{before}
settings = ServiceSettings(port=0, metrics_port=-1, drain_seconds=1.0, log_format='json')
logs.configure(settings.log_level, settings.log_format)
asyncio.run(server.serve(settings, server.Service(lambda _: (), Metrics())))
"""


async def serving(before: str = "") -> tuple[asyncio.subprocess.Process, asyncio.StreamReader, int]:
    """A process that serves, its log, and its port."""
    command = (sys.executable, "-c", SERVE.format(before=before))
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr
    told = b""
    while b"Service ready" not in told:
        told = await process.stderr.readline()
        assert told
    return process, process.stderr, json.loads(told)["port"]


async def test_a_process_exits_when_grpc_stops_serving() -> None:
    process, log, port = await serving(before="robust_server._HANDLE = ()")

    await send(port, call_of(b"/\xff"))

    rest = await log.read()
    assert await process.wait() == 1
    assert b"Service does not serve any more" in rest


async def test_text_in_a_callers_goaway_frame_is_not_logged() -> None:
    process, log, port = await serving()
    text = b'x\n{"event": "forged"}\n'
    leaving = (8 + len(text)).to_bytes(3, "big") + b"\x07\x00" + bytes(4) + bytes(7) + b"\x02" + text

    for _ in range(3):
        await send(port, leaving + PING, ends=0)
        await send(port, call_of(HEALTH) + leaving)
    process.terminate()

    lines = (await log.read()).splitlines()
    assert await process.wait() == 0
    assert {json.loads(line)["event"] for line in lines} == {"Service stopped"}
