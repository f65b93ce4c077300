"""The gateway's two gRPC services: translation only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc.aio

from careca import codec
from careca.rpc.upload_stream import open_upload
from careca.v1 import admin_pb2, admin_pb2_grpc, gateway_pb2, gateway_pb2_grpc
from careca_gateway.admin import AdminService
from careca_gateway.api.messages import (
    decode_request,
    decode_stages,
    encode_clearances,
    encode_event,
    encode_releases,
    encode_stats,
)
from careca_gateway.api.submitter import submitter_of
from careca_gateway.request import Deadline
from careca_gateway.transcription import Gateway, Run

Context = grpc.aio.ServicerContext[Any, Any]

RunFor = Callable[[str, gateway_pb2.TranscribeRequest.Config], Run[gateway_pb2.TranscribeResponse]]
"""What works on the call of that submitter with that config."""


class GatewayServicer(gateway_pb2_grpc.GatewayServiceServicer):
    """A recording in, who said what and when out.

    Args:
        gateway: takes calls.
        run_for: says what works on each.
    """

    def __init__(self, gateway: Gateway, run_for: RunFor) -> None:
        self._gateway = gateway
        self._run_for = run_for

    async def Transcribe(
        self, request_iterator: AsyncIterator[gateway_pb2.TranscribeRequest], context: Context
    ) -> AsyncIterator[gateway_pb2.TranscribeResponse]:
        """Answers one call: see gateway.proto."""
        deadline = Deadline.after(context.time_remaining())
        config, chunks = await open_upload(request_iterator, "recording_chunk")
        run = self._run_for(submitter_of(context.invocation_metadata()), config)
        async with aclosing(self._gateway.transcribe(decode_request(config), chunks, deadline, run)) as events:
            async for event in events:
                yield encode_event(event)


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """What operators do."""

    def __init__(self, administration: AdminService) -> None:
        self._administration = administration

    async def Stats(self, request: admin_pb2.StatsRequest, context: Context) -> admin_pb2.StatsResponse:
        """Statistics of all services."""
        return encode_stats(await self._administration.stats(Deadline.after(context.time_remaining())))

    async def ClearCache(self, request: admin_pb2.ClearCacheRequest, context: Context) -> admin_pb2.ClearCacheResponse:
        """Clears result caches."""
        scope = codec.decode_clear_scope(request.scope)
        stages = decode_stages(request.stages, self._administration.stages)
        deadline = Deadline.after(context.time_remaining())
        return encode_clearances((await self._administration.clear_cache(scope, stages, deadline)).items())

    async def ReleaseMemory(
        self, request: admin_pb2.ReleaseMemoryRequest, context: Context
    ) -> admin_pb2.ReleaseMemoryResponse:
        """Gives memory back."""
        stages = decode_stages(request.stages, self._administration.stages)
        deadline = Deadline.after(context.time_remaining())
        releases, own = await self._administration.release_memory(stages, deadline)
        return encode_releases(releases.items(), own)
