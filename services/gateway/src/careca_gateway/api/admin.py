"""The gRPC service for operators."""

from __future__ import annotations

from typing import Any

import grpc.aio

from careca import codec
from careca.v1 import admin_pb2, admin_pb2_grpc
from careca_gateway.admin import AdminService
from careca_gateway.api.admin_messages import decode_stages, encode_clearances, encode_releases, encode_stats
from careca_gateway.request import Deadline

Context = grpc.aio.ServicerContext[Any, Any]


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Statistics, caches and memory of all services: see admin.proto."""

    def __init__(self, admin: AdminService) -> None:
        self._admin = admin

    async def Stats(self, request: admin_pb2.StatsRequest, context: Context) -> admin_pb2.StatsResponse:
        """Returns statistics of all services."""
        return encode_stats(await self._admin.stats(Deadline.after(context.time_remaining())))

    async def ClearCache(self, request: admin_pb2.ClearCacheRequest, context: Context) -> admin_pb2.ClearCacheResponse:
        """Clears result caches."""
        scope = codec.decode_clear_scope(request.scope)
        stages = decode_stages(request.stages, self._admin.stages)
        deadline = Deadline.after(context.time_remaining())
        return encode_clearances((await self._admin.clear_cache(scope, stages, deadline)).items())

    async def ReleaseMemory(
        self, request: admin_pb2.ReleaseMemoryRequest, context: Context
    ) -> admin_pb2.ReleaseMemoryResponse:
        """Releases memory."""
        stages = decode_stages(request.stages, self._admin.stages)
        deadline = Deadline.after(context.time_remaining())
        releases, own = await self._admin.release_memory(stages, deadline)
        return encode_releases(releases.items(), own)
