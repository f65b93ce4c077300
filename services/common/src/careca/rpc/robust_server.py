"""A gRPC server that a caller cannot stop.

grpc.aio accepts all calls in one task. For an unknown method, it decodes the method's name there. A name that is not
UTF-8 raises in that task; when the task ends, grpc.aio cancels all calls and closes the port. So any client that can
connect could stop the service with one header, before authentication. Here a separate task refuses calls of unknown
methods and does not decode the name.

This uses private parts of grpc.aio. If they have changed, its own server is used unchanged; a test that sends such a
header shows whether it still needs this fix.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any, Never

import grpc.aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs leave it out

from careca.rpc.channel import Options
from careca.telemetry.logs import get_logger

_UNKNOWN = "unknown"
"""Takes the place of the names of unknown methods."""

_HANDLE = ("method_name", "method_resolver", "interceptors", "rpc_state", "loop", "concurrency_exceeded")
_SCHEDULE = ("rpc_coro", "rpc_state", "loop", "method_name")

_log = get_logger(__name__)


def new_server(interceptors: Sequence[grpc.aio.ServerInterceptor], options: Options) -> grpc.aio.Server:
    """Returns a server for services that generated code registers. Call it in the event loop of the server."""
    if not _is_supported():
        _log.warning("this version of gRPC is not supported: a caller may be able to stop the service")
        return grpc.aio.server(interceptors=interceptors, options=options)
    original = cygrpc.AioServer
    cygrpc.AioServer = _RobustServer
    try:
        return grpc.aio.server(interceptors=interceptors, options=options)
    finally:
        cygrpc.AioServer = original


def _is_supported() -> bool:
    """Whether the private functions below exist and have the expected parameters."""
    try:
        return (
            _parameters(cygrpc._handle_rpc) == _HANDLE
            and _parameters(cygrpc._schedule_rpc_coro) == _SCHEDULE
            and _parameters(cygrpc.AioServer._request_call) == ("self",)
            and _parameters(cygrpc.AioServer._make_request_call_future) == ("self", "method_bytes")
            and bool(_no_methods())
        )
    except (AttributeError, ValueError, TypeError):
        return False


def _parameters(function: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def _no_methods() -> Any:
    """Returns a resolver that finds no method."""
    return cygrpc._MethodResolver([], {})


class _RobustServer(cygrpc.AioServer):  # type: ignore[misc]  # it has no types
    """The server of grpc.aio, except for how it answers calls of unknown methods."""

    def _make_request_call_future(self, method_bytes: bytes | None) -> asyncio.Future[Any]:
        """Returns the next call of a known method. Calls of unknown methods are answered here and never returned."""
        if method_bytes is not None:
            future: asyncio.Future[Any] = super()._make_request_call_future(method_bytes)
            return future
        return asyncio.get_running_loop().create_task(self._refuse_unknown_methods())

    async def _refuse_unknown_methods(self) -> Never:
        """Answers UNIMPLEMENTED until the server stops; then raises what grpc.aio expects."""
        loop = asyncio.get_running_loop()
        refusing: set[asyncio.Task[None]] = set()
        while True:
            call = await self._request_call()
            refusal = cygrpc._handle_rpc(_UNKNOWN, _no_methods(), (), call, loop, False)
            task = loop.create_task(cygrpc._schedule_rpc_coro(refusal, call, loop, _UNKNOWN))
            refusing.add(task)
            task.add_done_callback(refusing.discard)
