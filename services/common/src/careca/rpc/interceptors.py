"""Around every call that a server takes: request id, who calls, access line, metrics, deadline, errors to statuses.

A servicer raises ``careca.errors`` and knows nothing of statuses. What else it raises is a fault of ours: it is logged
with its traceback and the caller learns nothing but the request id.
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

from careca.auth.caller import Guard, let_anybody_in, serving
from careca.errors import CarecaError, DeadlineExceeded, InternalError, Unavailable
from careca.rpc import request_id
from careca.rpc.admission import CallGate
from careca.rpc.requests import Readable, only_message, tolerant
from careca.rpc.statuses import DETAILS_KEY, status_code, to_status
from careca.telemetry import tracing
from careca.telemetry.logs import get_logger
from careca.telemetry.metrics import Metrics

DEADLINE_SLACK_SECONDS = 1.0
"""A caller whose deadline passes takes the call back this much before the deadline has passed here, or less.

Here it counts from when the call was read off the connection: where a machine is busy, noticeably later than the caller
began to count.
"""

# Health and reflection: asked every few seconds by machines, and never to be refused.
_INFRASTRUCTURE = "/grpc."

_log = get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]
Take = Callable[[AsyncIterator[Any]], Awaitable[Any]]
Metadata = tuple[tuple[str, str], ...]

# By whether responses are streamed. On the wire a request is a stream of one message: see ``careca.rpc.requests``.
_HANDLERS = {False: grpc.stream_unary_rpc_method_handler, True: grpc.stream_stream_rpc_method_handler}


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handlers of all four shapes of calls."""

    def __init__(self, *, metrics: Metrics, gate: CallGate, guard: Guard = let_anybody_in) -> None:
        self._metrics = metrics
        self._gate = gate
        self._guard = guard

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The wrapped handler, or ``None`` where the server has no such method, which gRPC answers."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method: str = handler_call_details.method
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        wrap = self._streaming if handler.response_streaming else self._unary
        return _HANDLERS[handler.response_streaming](
            wrap(method, behaviour, _all_messages if handler.request_streaming else only_message),
            request_deserializer=tolerant(handler.request_deserializer),
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
                if isinstance(responses, Awaitable):  # writes to the context by itself, as the health service does
                    await responses
                    return
                # Closed here and now: a generator that is left to the garbage collector keeps its slot until then.
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
        """Everything around a call; yields the metadata to send before the first response."""
        infrastructure = method.startswith(_INFRASTRUCTURE)
        metadata = list(context.invocation_metadata() or ())
        call_id = request_id.accepted(metadata)
        started = time.monotonic()
        cancelled: grpc.StatusCode | None = None
        with ExitStack() as around:
            around.enter_context(bound_contextvars(request_id=call_id))
            note = around.enter_context(tracing.serving(method, metadata, traced=not infrastructure))
            try:
                async with self._answering_errors(method, context, call_id):
                    with ExitStack() as stack:
                        if not infrastructure:
                            self._let_in(method, metadata, stack)
                        _refuse_passed_deadline(context)
                        yield request_id.outgoing(call_id)
            except asyncio.CancelledError:
                cancelled = _cancellation_code(context)
                raise
            finally:
                code = cancelled or context.code() or grpc.StatusCode.OK
                note(code=code.name)
                self._report(method, code.name, started, context.peer(), quiet=infrastructure)

    def _let_in(self, method: str, metadata: list[tuple[str, str | bytes]], stack: ExitStack) -> None:
        stack.enter_context(self._gate.passing())
        caller = self._guard(method, metadata)
        stack.enter_context(serving(caller))
        if caller.name:
            bind_contextvars(caller=caller.name)

    @asynccontextmanager
    async def _answering_errors(self, method: str, context: Context, call_id: str) -> AsyncIterator[None]:
        """Ends the call with the status of what is raised inside."""
        try:
            yield
        except grpc.aio.AbortError:  # the call has its status already
            raise
        except grpc.aio.InternalError as error:
            raise _gone() from error
        except asyncio.CancelledError:
            if not self._gate.overdue:
                raise
            await _abort(context, Unavailable("the service stopped before the call had ended"), call_id)
        except Exception as error:  # noqa: BLE001 - every failure gets an answer; what was not expected is logged
            await _abort(context, _refusal(error, method, call_id), call_id)

    def _report(self, method: str, code: str, started: float, peer: str, *, quiet: bool) -> None:
        seconds = time.monotonic() - started
        if not quiet:
            self._metrics.observe_rpc(method, code, seconds)
        log = _log.debug if quiet else _log.info
        log("call served", method=method, code=code, seconds=round(seconds, 3), peer=peer)


def _gone() -> asyncio.CancelledError:
    """What it means that something could not be sent: nobody is there to take it any more.

    grpc.aio may fail to send before it cancels the handler of a call that was taken back.
    """
    return asyncio.CancelledError()


async def _write(context: Context, response: Any) -> None:
    """Sends a response. Raises ``CancelledError`` where nobody is there to take it any more."""
    try:
        await context.write(response)
    except grpc.aio.BaseError as error:
        raise _gone() from error


async def _all_messages(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The messages of a call that carries any number, as they come."""
    return Readable(messages)


def _refuse_passed_deadline(context: Context) -> None:
    if context.time_remaining() == 0:
        raise DeadlineExceeded("the call's deadline had passed before it was taken up")


def _cancellation_code(context: Context) -> grpc.StatusCode:
    """What the caller sees of a call that was taken back: its deadline passed, or it went away."""
    remaining: float | None = context.time_remaining()  # None without a deadline
    passed = remaining is not None and remaining < DEADLINE_SLACK_SECONDS
    return grpc.StatusCode.DEADLINE_EXCEEDED if passed else grpc.StatusCode.CANCELLED


def _refusal(error: Exception, method: str, call_id: str) -> CarecaError:
    """What the caller may know of ``error``. A fault of ours goes to the log and only its request id to the caller."""
    if isinstance(error, CarecaError) and not isinstance(error, InternalError):
        return error
    _log.error("a call failed unexpectedly", method=method, exc_info=error)
    return InternalError(f"internal error; the service's log has the details under request id {call_id}")


async def _abort(context: Context, error: CarecaError, call_id: str) -> Never:
    bind_contextvars(reason=error.reason, error=error.message)  # for the call's line in the log
    status = to_status(error)
    details = (DETAILS_KEY, status.SerializeToString())
    try:
        await context.abort(status_code(error), status.message, trailing_metadata=(details, (request_id.KEY, call_id)))
    except grpc.aio.InternalError as unsent:
        raise _gone() from unsent
