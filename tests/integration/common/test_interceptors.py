"""The interceptor, over real sockets, for all four kinds of methods."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from careca import errors
from careca.errors import CarecaError, InternalError, InvalidRecording, InvalidRequest, Overloaded, Unavailable
from careca.rpc import request_id
from careca.rpc.admission import AdmissionControl
from careca.rpc.channel import create_channel, create_sync_channel
from careca.rpc.interceptors import CallInterceptor
from careca.rpc.statuses import DETAILS_KEY, from_rpc_error, is_unanswered, to_status, translated_errors
from careca.telemetry.metrics import Metrics
from support.fakes import chunks_of
from support.samples import sample_value
from support.waiting import HANG_SECONDS, longer_and_longer, until

SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")

ALL_ERRORS = [
    InvalidRequest("no", field="config.audio", metadata={"size_bytes": "3"}),
    InvalidRequest("no", reason="DIGEST_MISMATCH", field="config.audio.sha256"),
    InvalidRecording("no audio in it", reason="NO_AUDIO"),
    errors.NotFound("no"),
    errors.PermissionDenied("no"),
    errors.PreconditionFailed("no", reason="WEIGHTS_MISSING"),
    Overloaded("no", retry_after_seconds=2.5),
    errors.OutOfMemory("no"),
    Unavailable("no", retry_after_seconds=1.0),
    Unavailable("no"),
    errors.DeadlineExceeded("no"),
    errors.Cancelled("no"),
]


def facts(error):
    return (type(error), error.message, error.reason, error.field, error.retry_after_seconds, error.metadata)


class Echo:
    """A service with one method of each kind, which answers with the result of ``behave``."""

    def __init__(self):
        self.behave = self.repeat
        self.calls = 0
        self.metrics = Metrics()
        self.admission = AdmissionControl()
        self.admission.start_serving()

    async def repeat(self, request, context):
        return request

    async def _one(self, request, context):
        self.calls += 1
        return await self.behave(request, context)

    async def _several(self, request, context):
        for part in (b"1", b"2"):
            yield part + await self._one(request, context)

    async def _joined(self, requests, context):
        return await self._one(b"".join([request async for request in requests]), context)

    async def _each(self, requests, context):
        async for request in requests:
            yield await self._one(request, context)

    def handlers(self):
        return grpc.method_handlers_generic_handler(
            "test.Echo",
            {
                "unary_unary": grpc.unary_unary_rpc_method_handler(self._one),
                "unary_stream": grpc.unary_stream_rpc_method_handler(self._several),
                "stream_unary": grpc.stream_unary_rpc_method_handler(self._joined),
                "stream_stream": grpc.stream_stream_rpc_method_handler(self._each),
            },
        )

    def count(self, shape, code):
        labels = {"method": f"/test.Echo/{shape}", "code": code}
        return sample_value(self.metrics.registry, "careca_rpc_seconds_count", **labels)


@asynccontextmanager
async def serving(echo):
    server = grpc.aio.server(interceptors=[CallInterceptor(metrics=echo.metrics, admission=echo.admission)])
    server.add_generic_rpc_handlers((echo.handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
async def echo():
    return Echo()


@pytest.fixture
async def target(echo):
    async with serving(echo) as target:
        yield target


@pytest.fixture
async def channel(target):
    async with grpc.aio.insecure_channel(target) as channel:
        yield channel


def call(channel, shape, **options):
    """A call of that kind with the request b"x"."""
    request = iter([b"x"]) if shape.startswith("stream") else b"x"
    return getattr(channel, shape)(f"/test.Echo/{shape}")(request, **options)


async def responses(call):
    """All responses of a call of any kind."""
    if hasattr(call, "__aiter__"):
        return [response async for response in call]
    return [await call]


@pytest.mark.parametrize("shape", SHAPES)
async def test_responses_pass_and_the_callers_request_id_comes_back(shape, echo, channel):
    made = call(channel, shape, metadata=request_id.outgoing("caller-1"))

    assert await responses(made) == ([b"1x", b"2x"] if shape == "unary_stream" else [b"x"])
    assert dict(await made.initial_metadata())["x-request-id"] == "caller-1"
    assert await made.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_handler_knows_the_request_id_and_passes_it_on(shape, echo, channel):
    async def behave(request, context):
        return dict(request_id.outgoing())["x-request-id"].encode()

    echo.behave = behave

    answer = (await responses(call(channel, shape, metadata=request_id.outgoing("caller-1"))))[0]

    assert answer.removeprefix(b"1") == b"caller-1"
    assert request_id.current() is None


@pytest.mark.parametrize("given", [None, "", "x" * 129, "two words"], ids=["none", "empty", "long", "space"])
async def test_a_missing_or_invalid_request_id_is_replaced(given, channel):
    metadata = () if given is None else ((request_id.KEY, given),)
    first, second = (call(channel, "unary_unary", metadata=metadata) for _ in range(2))

    ids = [dict(await made.initial_metadata())["x-request-id"] for made in (first, second)]

    assert len(set(ids)) == 2
    assert all(len(made) == 36 for made in ids)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: f"{type(error).__name__}-{error.reason}")
async def test_an_error_reaches_the_caller_as_it_was_raised(error, shape, echo, channel):
    async def behave(request, context):
        raise error

    echo.behave = behave
    made = call(channel, shape, metadata=request_id.outgoing("caller-1"))

    with pytest.raises(CarecaError) as translated, translated_errors():
        await responses(made)

    assert facts(translated.value) == facts(error)
    assert await made.code() is grpc.StatusCode[error.status]
    assert dict(await made.trailing_metadata())["x-request-id"] == "caller-1"
    await until(lambda: echo.count(shape, error.status) == 1)


@pytest.mark.parametrize("error", ALL_ERRORS[:3], ids=lambda error: error.reason)
async def test_an_error_reaches_a_blocking_caller_as_it_was_raised(error, echo, target):
    async def behave(request, context):
        raise error

    echo.behave = behave

    def call_blocking():
        with create_sync_channel(target) as channel, translated_errors():
            return channel.unary_unary("/test.Echo/unary_unary")(b"x", timeout=HANG_SECONDS)

    with pytest.raises(CarecaError) as translated:
        await asyncio.to_thread(call_blocking)
    assert facts(translated.value) == facts(error)


async def test_an_error_carries_the_standard_details(echo, channel):
    async def behave(request, context):
        raise InvalidRequest("too wide", field="config.options.beam_size", retry_after_seconds=1.5)

    echo.behave = behave

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call(channel, "unary_unary")

    status = status_pb2.Status.FromString(dict(failure.value.trailing_metadata())[DETAILS_KEY])
    info, request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    assert [packed.Unpack(detail) for packed, detail in zip(status.details, (info, request, retry), strict=True)]
    assert (info.reason, info.domain) == ("INVALID_REQUEST", "careca.v1")
    assert request.field_violations[0].field == "config.options.beam_size"
    assert request.field_violations[0].description == "too wide"
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert (status.code, status.message) == (3, "too wide")


async def test_a_message_too_long_for_a_header_is_cut(echo, channel):
    async def behave(request, context):
        raise InvalidRequest("x" * 100_000, field="config")

    echo.behave = behave

    with pytest.raises(InvalidRequest) as failure, translated_errors():
        await call(channel, "unary_unary")
    assert failure.value.message == "x" * 1000


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("error", [ValueError("secret"), InternalError("secret")], ids=["bug", "InternalError"])
async def test_a_bug_is_logged_and_the_caller_gets_only_the_request_id(error, shape, echo, channel):
    async def behave(request, context):
        raise error

    echo.behave = behave
    with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as failure:
        await responses(call(channel, shape, metadata=request_id.outgoing("caller-1")))

    assert failure.value.code() is grpc.StatusCode.INTERNAL
    assert "caller-1" in failure.value.details()
    assert "secret" not in f"{failure.value} {failure.value.trailing_metadata()}"
    assert isinstance(from_rpc_error(failure.value), InternalError)
    assert [line["exc_info"] for line in logs if line["log_level"] == "error"] == [error]


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_call_writes_one_log_line_and_is_counted_once(shape, echo, channel):
    with capture_logs() as logs:
        await responses(call(channel, shape))
        await until(lambda: any(line["event"] == "call served" for line in logs))

    lines = [line for line in logs if line["event"] == "call served"]
    assert [(line["method"], line["code"]) for line in lines] == [(f"/test.Echo/{shape}", "OK")]
    assert lines[0]["seconds"] >= 0
    assert lines[0]["peer"].startswith("ipv4:127.0.0.1:")
    assert echo.count(shape, "OK") == 1


async def test_the_log_line_of_a_refused_call_has_the_reason(echo, channel):
    async def behave(request, context):
        raise InvalidRequest("too wide", reason="TOO_WIDE")

    echo.behave = behave
    with capture_logs(processors=[merge_contextvars]) as logs:
        with pytest.raises(grpc.aio.AioRpcError):
            await call(channel, "unary_unary", metadata=request_id.outgoing("caller-1"))
        await until(lambda: logs)

    (line,) = logs
    assert (line["event"], line["code"], line["request_id"]) == ("call served", "INVALID_ARGUMENT", "caller-1")
    assert (line["reason"], line["error"]) == ("TOO_WIDE", "too wide")


@pytest.mark.parametrize("size", [1, 1_000_000], ids=["while it writes", "while it waits for the reader"])
async def test_a_cancelled_stream_closes_the_generator_and_is_not_logged_as_a_bug(size, echo, channel):
    closed = asyncio.Event()

    async def endless(request, context):
        try:
            while True:
                yield b"x" * size
        finally:
            closed.set()

    echo._several = endless
    async with serving(echo) as target, grpc.aio.insecure_channel(target) as channel:
        made = call(channel, "unary_stream")
        with capture_logs() as logs:
            for _ in range(3):
                await made.read()
            made.cancel()
            await asyncio.wait_for(closed.wait(), HANG_SECONDS)
            await until(lambda: echo.count("unary_stream", "CANCELLED") == 1)

    assert [line["event"] for line in logs] == ["call served"]


async def test_a_response_that_cannot_be_sent_ends_the_call_as_cancelled():
    closed = asyncio.Event()

    async def endless(request, context):
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    async def fail(_):
        raise grpc.aio.InternalError

    async def succeed(_):
        return None

    async def find(_):
        return grpc.unary_stream_rpc_method_handler(endless)

    context = SimpleNamespace(
        invocation_metadata=lambda: (),
        time_remaining=lambda: None,
        send_initial_metadata=succeed,
        write=fail,
        code=lambda: None,
        peer=lambda: "nobody",
    )
    admission = AdmissionControl()
    admission.start_serving()
    interceptor = CallInterceptor(metrics=Metrics(), admission=admission)
    handler = await interceptor.intercept_service(find, SimpleNamespace(method="/test.Echo/unary_stream"))
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await handler.stream_stream(chunks_of(b"x"), context)

    assert closed.is_set()
    assert [(line["event"], line["code"]) for line in logs] == [("call served", "CANCELLED")]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_cancelled_call_cancels_the_handler(shape, echo, channel):
    handler = Hanging()
    echo.behave = handler
    made = call(channel, shape)
    reading = asyncio.ensure_future(responses(made))
    await handler.started.wait()

    made.cancel()

    await asyncio.wait_for(handler.cancelled.wait(), HANG_SECONDS)
    await asyncio.gather(reading, return_exceptions=True)
    await until(lambda: echo.count(shape, "CANCELLED") == 1)
    assert echo.admission.in_flight == 0


class Hanging:
    """A handler that never ends by itself."""

    def __init__(self):
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, request, context):
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_deadline_cancels_the_handler_and_is_counted_as_such(shape, echo, channel):
    handler = Hanging()
    echo.behave = handler

    deadlines = longer_and_longer(0.1)
    while not handler.started.is_set():
        with pytest.raises(errors.DeadlineExceeded), translated_errors():
            await responses(call(channel, shape, timeout=next(deadlines)))

    await asyncio.wait_for(handler.cancelled.wait(), HANG_SECONDS)
    await until(lambda: echo.count(shape, "DEADLINE_EXCEEDED"))
    assert not echo.count(shape, "CANCELLED")


class LateContext:
    """The context of a call whose deadline passed before the event loop served it."""

    aborted_with = None

    def invocation_metadata(self):
        return ()

    def time_remaining(self):
        return 0.0

    def peer(self):
        return "ipv4:127.0.0.1:1"

    def code(self):
        return self.aborted_with

    async def abort(self, code, details, trailing_metadata):
        self.aborted_with = code
        raise grpc.aio.AbortError


async def test_a_call_whose_deadline_has_passed_never_reaches_the_handler(echo):
    async def find(details):
        return grpc.unary_unary_rpc_method_handler(echo._one)

    details = SimpleNamespace(method="/test.Echo/unary_unary")
    handler = await CallInterceptor(metrics=echo.metrics, admission=echo.admission).intercept_service(find, details)
    context = LateContext()

    with pytest.raises(grpc.aio.AbortError):
        await handler.stream_unary(chunks_of(b"x"), context)

    assert context.aborted_with is grpc.StatusCode.DEADLINE_EXCEEDED
    assert echo.calls == 0


@pytest.mark.parametrize("shape", SHAPES)
async def test_calls_are_refused_while_the_service_starts_and_drains(shape, echo, channel):
    echo.admission = AdmissionControl()
    async with serving(echo) as target, grpc.aio.insecure_channel(target) as channel:
        with pytest.raises(Unavailable, match="starting") as starting, translated_errors():
            await responses(call(channel, shape))
        echo.admission.start_serving()
        await responses(call(channel, shape))
        echo.admission.start_draining()
        with pytest.raises(Unavailable, match="draining") as draining, translated_errors():
            await responses(call(channel, shape))

    assert starting.value.retry_after_seconds
    assert draining.value.retry_after_seconds


async def test_an_unknown_method_is_unimplemented_and_does_not_become_a_label(echo, channel):
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await channel.unary_unary("/test.Echo/Nothing")(b"x")

    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
    samples = [sample for family in echo.metrics.registry.collect() for sample in family.samples]
    assert "/test.Echo/Nothing" not in str(samples)


async def test_the_status_of_a_handler_that_aborts_is_kept(echo, channel):
    async def behave(request, context):
        await context.abort(grpc.StatusCode.DATA_LOSS, "gone")

    echo.behave = behave

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call(channel, "unary_unary")
    assert (failure.value.code(), failure.value.details()) == (grpc.StatusCode.DATA_LOSS, "gone")
    await until(lambda: echo.count("unary_unary", "DATA_LOSS") == 1)


async def test_a_server_that_cannot_be_reached_is_unavailable():
    async with create_channel("127.0.0.1:1") as channel:
        with pytest.raises(Unavailable) as failure, translated_errors():
            await channel.unary_unary("/test.Echo/unary_unary")(b"x", timeout=HANG_SECONDS)

    assert failure.value.message


@pytest.mark.parametrize(
    ("code", "error_class"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.CANCELLED, errors.Cancelled),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, InternalError),
        (grpc.StatusCode.UNIMPLEMENTED, InternalError),
        (grpc.StatusCode.UNKNOWN, InternalError),
    ],
)
@pytest.mark.parametrize(
    "trailing", [(), ((DETAILS_KEY, b"junk"),), ((DETAILS_KEY, status_pb2.Status().SerializeToString()),)]
)
def test_a_status_without_our_details_becomes_the_nearest_error(code, error_class, trailing):
    metadata = grpc.aio.Metadata(*trailing)
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details="said the peer")

    translated = from_rpc_error(error)

    assert type(translated) is error_class
    assert "said the peer" in translated.message


def test_details_of_another_domain_are_ignored():
    status = to_status(errors.OutOfMemory("no"))
    info = error_details_pb2.ErrorInfo(reason="OUT_OF_MEMORY", domain="example.com")
    status.details[0].Pack(info)
    metadata = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))

    translated = from_rpc_error(
        grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), metadata, details="no")
    )

    assert type(translated) is Unavailable


@pytest.mark.parametrize(
    ("details", "message"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.1.2.3:50052: Failed to connect to remote"
            " host: Connection refused",
            "no connection: Connection refused",
        ),
        (
            "connections to all backends failing; last error: UNAVAILABLE: ipv6:%5B::1%5D:50052: Socket closed",
            "no connection: Socket closed",
        ),
        (
            "connections to all backends failing; last error: FAILED_PRECONDITION: unix:/tmp/none.sock: connect failed:"
            " addr: unix:/tmp/none.sock error: No such file or directory",
            "no connection: No such file or directory",
        ),
        (
            "errors resolving a.example:1: [field:hostname lookup error:address lookup failed for a.example:1: none]",
            "no connection: address lookup failed for a.example:1: none",
        ),
        ("Socket closed", "Socket closed"),
    ],
)
def test_a_failed_connection_is_reported_without_internal_addresses(details, message):
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)

    assert from_rpc_error(error).message == message


def test_a_call_that_reached_the_service_was_answered() -> None:
    def caught(error: grpc.RpcError) -> CarecaError:
        with pytest.raises(CarecaError) as raised, translated_errors():
            raise error
        return raised.value

    details = grpc.aio.Metadata((DETAILS_KEY, to_status(Unavailable("no connection: to a model")).SerializeToString()))
    of_service = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), details)
    of_grpc = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())
    cancelled = grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, grpc.aio.Metadata(), grpc.aio.Metadata())

    assert is_unanswered(caught(of_grpc))
    assert not is_unanswered(caught(of_service))
    assert not is_unanswered(caught(cancelled))
    assert not is_unanswered(Unavailable("not from a call"))
