"""Calls with invalid messages or without a message: they are refused like other invalid requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import grpc.aio
import pytest

from careca.errors import CarecaError, DeadlineExceeded, InvalidRequest
from careca.rpc.requests import DecodeFailure, single_message
from careca.rpc.server import Service, ServiceServer
from careca.rpc.statuses import responses_of
from careca.settings import ServiceSettings
from careca.telemetry.metrics import Metrics
from support.waiting import HANG_SECONDS

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
BROKEN = b"\x0a\xff\xff\xff\xff\x7f"
BAD_TEXT = b"\x0a\x02\xff\xfe"


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    server = ServiceServer(
        ServiceSettings(port=0, metrics_port=-1, drain_seconds=1.0), Service(lambda _: (), Metrics())
    )
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel
    await server.stop()


async def call(channel: grpc.aio.Channel, method: str, messages: Sequence[bytes]) -> list[bytes]:
    async def requests() -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    return [
        response async for response in responses_of(channel.stream_stream(method)(requests(), timeout=HANG_SECONDS))
    ]


@pytest.mark.parametrize("message", [BROKEN, BAD_TEXT])
@pytest.mark.parametrize("method", [CHECK, WATCH, REFLECT])
async def test_bytes_that_are_not_a_message_are_an_error_of_the_caller(
    channel: grpc.aio.Channel, method: str, message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CarecaError) as caught:
        await call(channel, method, [message])

    assert (caught.value.status, caught.value.reason) == ("INVALID_ARGUMENT", "UNREADABLE_MESSAGE")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("method", [CHECK, WATCH])
async def test_a_call_without_a_message_is_refused_and_does_not_stay_open(
    channel: grpc.aio.Channel, method: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await call(channel, method, [])

    assert caught.value.reason == "NO_MESSAGE"


async def test_only_the_first_message_of_a_unary_call_is_used(channel: grpc.aio.Channel) -> None:
    assert await call(channel, CHECK, [b"", BROKEN]) == await call(channel, CHECK, [b""])


async def test_the_wait_for_a_message_has_a_limit() -> None:
    async def nothing() -> AsyncIterator[object]:
        await asyncio.Event().wait()
        yield

    with pytest.raises(DeadlineExceeded):
        await single_message(nothing(), stall_seconds=0.01)


async def test_the_error_of_an_unreadable_message_has_the_reason() -> None:
    async def messages() -> AsyncIterator[object]:
        yield DecodeFailure("it is torn")

    with pytest.raises(InvalidRequest, match="it is torn"):
        await single_message(messages())
