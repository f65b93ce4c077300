"""A gRPC server that a caller cannot end.

grpc.aio takes every call in one task and decodes the name of the method there, if it is none of the server's own. A
name that is no UTF-8 raises in that task, whose end cancels all calls and closes the port: whoever can connect could
end the service with one header, before anybody asks who they are. Here calls of unknown methods are refused in a task
of their own, which never looks at the name.

This reaches into what grpc.aio calls private. Where that has changed, its own server is used as it is, and a test that
sends such a header says whether it still needs help.
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
"""Stands for the names of methods that there are not."""

_HANDLE = ("method_name", "method_resolver", "interceptors", "rpc_state", "loop", "concurrency_exceeded")
_SCHEDULE = ("rpc_coro", "rpc_state", "loop", "method_name")

_log = get_logger(__name__)


def new_server(interceptors: Sequence[grpc.aio.ServerInterceptor], options: Options) -> grpc.aio.Server:
    """A server for services whose methods are all registered with it, as generated code does. Made in its loop."""
    if not _is_as_known():
        _log.warning("this version of gRPC is not known: a caller may be able to end the service")
        return grpc.aio.server(interceptors=interceptors, options=options)
    theirs = cygrpc.AioServer
    cygrpc.AioServer = _RobustServer
    try:
        return grpc.aio.server(interceptors=interceptors, options=options)
    finally:
        cygrpc.AioServer = theirs


def _is_as_known() -> bool:
    """Whether everything that is used below is there and takes what it is given."""
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
    """What finds no method, whatever its name."""
    return cygrpc._MethodResolver([], {})


class _RobustServer(cygrpc.AioServer):  # type: ignore[misc]  # it has no types
    """grpc.aio's own, but for how calls of unknown methods are answered."""

    def _make_request_call_future(self, method_bytes: bytes | None) -> asyncio.Future[Any]:
        """The next call of a method, or of any that is unknown: that never comes, as it is answered here."""
        if method_bytes is not None:
            future: asyncio.Future[Any] = super()._make_request_call_future(method_bytes)
            return future
        return asyncio.get_running_loop().create_task(self._refuse_unknown_methods())

    async def _refuse_unknown_methods(self) -> Never:
        """Answers UNIMPLEMENTED until the server stops; raises then what grpc.aio expects."""
        loop = asyncio.get_running_loop()
        refusing: set[asyncio.Task[None]] = set()
        while True:
            call = await self._request_call()
            refusal = cygrpc._handle_rpc(_UNKNOWN, _no_methods(), (), call, loop, False)
            task = loop.create_task(cygrpc._schedule_rpc_coro(refusal, call, loop, _UNKNOWN))
            refusing.add(task)
            task.add_done_callback(refusing.discard)
