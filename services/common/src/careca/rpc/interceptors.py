"""What every call of a server gets: request id, authorization, log line, metrics, deadline, errors as statuses.

A servicer raises ``careca.errors`` and does not know statuses. Any other exception is a bug: it is logged with its
traceback, and the caller gets only the request id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager
from typing import Any, Never

import grpc
import grpc.aio
from structlog.contextvars import bind_contextvars, bound_contextvars

from careca.auth.caller import Authorize, acting_as, allow_anyone
from careca.errors import CarecaError, DeadlineExceeded, InternalError, Unavailable, internal_error
from careca.rpc import request_id
from careca.rpc.admission import AdmissionControl
from careca.rpc.requests import DecodedMessages, catching_decode_errors, single_message
from careca.rpc.statuses import DETAILS_KEY, status_code, to_status
from careca.telemetry import tracing
from careca.telemetry.logs import get_logger
from careca.telemetry.metrics import Metrics

DEADLINE_SLACK_SECONDS = 1.0
"""A cancelled call with less time than this until its deadline counts as one whose deadline has passed.

The deadline here counts from the moment when the call was read from the connection. On a busy machine that is
noticeably later than the moment when the caller started to count.
"""

# Health and reflection: called by machines every few seconds, and never refused.
_INFRASTRUCTURE = "/grpc."

# Windows of live audio: several a second for each session.
_FREQUENT_METHODS = ("/ReadWindow", "/DiarizeWindow", "/ClusterVoices")

_log = get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]
Take = Callable[[AsyncIterator[Any]], Awaitable[Any]]
Metadata = tuple[tuple[str, str], ...]

# By whether responses are streamed. On the wire a unary request is a stream of one message: see careca.rpc.requests.
_HANDLERS = {False: grpc.stream_unary_rpc_method_handler, True: grpc.stream_stream_rpc_method_handler}


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handlers of all four kinds of methods."""

    def __init__(self, *, metrics: Metrics, admission: AdmissionControl, authorize: Authorize = allow_anyone) -> None:
        self._metrics = metrics
        self._admission = admission
        self._authorize = authorize

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Returns the wrapped handler, or ``None`` if the server has no such method; gRPC answers these calls."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method: str = handler_call_details.method
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        wrap = self._streaming if handler.response_streaming else self._unary
        return _HANDLERS[handler.response_streaming](
            wrap(method, behaviour, _all_messages if handler.request_streaming else single_message),
            request_deserializer=catching_decode_errors(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _unary(self, method: str, behaviour: Behaviour, take: Take) -> Behaviour:
        async def serve(messages: AsyncIterator[Any], context: Context) -> Any:
            async with self._serving(method, context) as echo:
                response = await behaviour(await take(messages), context)
                await context.send_initial_metadata(echo)
                return response

        return serve

    def _streaming(self, method: str, behaviour: Behaviour, take: Take) -> Behaviour:
        async def serve(messages: AsyncIterator[Any], context: Context) -> None:
            async with self._serving(method, context) as echo:
                responses = behaviour(await take(messages), context)
                if isinstance(responses, Awaitable):  # it writes to the context itself, as the health service does
                    await responses
                    return
                # Closed at once: a generator that waits for the garbage collector keeps its slot until then.
                async with aclosing(responses):
                    echoed = False
                    async for response in responses:
                        if not echoed:
                            await context.send_initial_metadata(echo)
                            echoed = True
                        await _write(context, response)

        return serve

    @asynccontextmanager
    async def _serving(self, method: str, context: Context) -> AsyncIterator[Metadata]:
        """Does everything around a call; yields the metadata to send before the first response."""
        infrastructure = method.startswith(_INFRASTRUCTURE)
        metadata = list(context.invocation_metadata() or ())
        call_id = request_id.accepted(metadata)
        started = time.monotonic()
        cancelled: grpc.StatusCode | None = None
        with ExitStack() as around:
            around.enter_context(bound_contextvars(request_id=call_id))
            set_attributes = around.enter_context(
                tracing.serving(method, metadata, {"rpc.system": "grpc"}, traced=not infrastructure)
            )
            try:
                async with self._errors_as_statuses(method, context, call_id):
                    with ExitStack() as stack:
                        if not infrastructure:
                            self._admit(method, metadata, stack)
                        _refuse_passed_deadline(context)
                        yield request_id.outgoing(call_id)
            except asyncio.CancelledError:
                cancelled = _cancellation_code(context)
                raise
            finally:
                code = cancelled or context.code() or grpc.StatusCode.OK
                set_attributes(code=code.name)
                self._report(method, code.name, started, context.peer(), quiet=infrastructure)

    def _admit(self, method: str, metadata: list[tuple[str, str | bytes]], stack: ExitStack) -> None:
        stack.enter_context(self._admission.admit())
        caller = self._authorize(method, metadata)
        stack.enter_context(acting_as(caller))
        if caller.name:
            bind_contextvars(caller=caller.name)

    @asynccontextmanager
    async def _errors_as_statuses(self, method: str, context: Context, call_id: str) -> AsyncIterator[None]:
        """Ends the call with the status of the exception that is raised inside."""
        try:
            yield
        except grpc.aio.AbortError:  # the call has its status already
            raise
        except grpc.aio.InternalError as error:
            raise _caller_gone() from error
        except asyncio.CancelledError:
            if not self._admission.cancelled_calls:
                raise
            await _abort(context, Unavailable("the service stopped before the call had ended"), call_id)
        except Exception as error:  # noqa: BLE001 - every failure gets an answer; unexpected ones are logged
            await _abort(context, _public_error(error, method, call_id), call_id)

    def _report(self, method: str, code: str, started: float, peer: str, *, quiet: bool) -> None:
        seconds = time.monotonic() - started
        if not quiet:
            self._metrics.observe_rpc(method, code, seconds)
        log = _log.debug if quiet or method.endswith(_FREQUENT_METHODS) else _log.info
        log("call served", method=method, code=code, seconds=round(seconds, 3), peer=peer)


def _caller_gone() -> asyncio.CancelledError:
    """The error for a message that could not be sent because the caller has gone.

    grpc.aio may fail to send before it cancels the handler of a cancelled call.
    """
    return asyncio.CancelledError()


async def _write(context: Context, response: Any) -> None:
    """Sends a response. Raises ``CancelledError`` if the caller has gone."""
    try:
        await context.write(response)
    except grpc.aio.BaseError as error:
        raise _caller_gone() from error


async def _all_messages(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Returns the messages of a streaming call."""
    return DecodedMessages(messages)


def _refuse_passed_deadline(context: Context) -> None:
    if context.time_remaining() == 0:
        raise DeadlineExceeded("the call's deadline had passed before it was served")


def _cancellation_code(context: Context) -> grpc.StatusCode:
    """Returns the status of a cancelled call: its deadline has passed, or the caller has gone."""
    remaining: float | None = context.time_remaining()  # None without a deadline
    passed = remaining is not None and remaining < DEADLINE_SLACK_SECONDS
    return grpc.StatusCode.DEADLINE_EXCEEDED if passed else grpc.StatusCode.CANCELLED


def _public_error(error: Exception, method: str, call_id: str) -> CarecaError:
    """Returns what the caller may see of ``error``. Bugs go to the log, and the caller gets only the request id."""
    if isinstance(error, CarecaError) and not isinstance(error, InternalError):
        return error
    _log.error("a call failed unexpectedly", method=method, exc_info=error)
    return internal_error(call_id)


async def _abort(context: Context, error: CarecaError, call_id: str) -> Never:
    bind_contextvars(reason=error.reason, error=error.message)  # for the log line of the call
    status = to_status(error)
    details = (DETAILS_KEY, status.SerializeToString())
    try:
        await context.abort(status_code(error), status.message, trailing_metadata=(details, (request_id.KEY, call_id)))
    except grpc.aio.InternalError as unsent:
        raise _caller_gone() from unsent
