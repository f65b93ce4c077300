"""The operators' calls: caches, memory, replicas. The gateway refuses them to callers who are not administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from careca.types import ClearScope, Stage
from careca_client import AsyncClient
from careca_web.api.models.admin import (
    CacheClearance,
    CacheClearRequest,
    MemoryReleaseRequest,
    Replicas,
    ServiceName,
    StageCacheStats,
    SystemMemory,
    SystemStats,
)
from careca_web.api.router import api_router
from careca_web.sessions.callers import CallerClient

_EXPIRED_ONLY = Query(description="The same as in the body.")


def routes() -> APIRouter:
    """Returns the endpoints under /admin."""
    router = api_router("/admin", "operators")

    @router.get("/stats")
    async def show_stats(client: CallerClient) -> SystemStats:
        """Returns the caches, the memory and the work of all services now."""
        return SystemStats.from_value(await client.stats())

    @router.get("/replicas")
    async def list_replicas(client: CallerClient) -> Replicas:
        """Returns each replica of the model services."""
        return Replicas.from_value(await client.stats())

    @router.post("/memory/release")
    async def release_memory(client: CallerClient, body: MemoryReleaseRequest | None = None) -> SystemMemory:
        """Unloads models, and makes services give back memory. The next request loads the models again."""
        stages = [service.stage for service in body.stages] if body else []
        return SystemMemory.from_value(await client.release_memory(stages))

    @router.get("/diarization/stats")
    async def show_diarization_cache(client: CallerClient) -> StageCacheStats:
        """Returns the diarizer's cache now: hit rate, size, limits; and its memory."""
        return StageCacheStats.of_stage(await client.stats(), Stage.DIARIZE)

    @router.get("/transcription/stats")
    async def show_transcription_cache(client: CallerClient) -> StageCacheStats:
        """Returns the transcriber's cache now: hit rate, size, limits; and its memory."""
        return StageCacheStats.of_stage(await client.stats(), Stage.TRANSCRIBE)

    @router.post("/diarization/cache/clear")
    async def clear_diarization_cache(
        client: CallerClient,
        body: CacheClearRequest | None = None,
        expired_only: Annotated[bool, _EXPIRED_ONLY] = False,
    ) -> CacheClearance:
        """Clears the diarizer's cache. Unless only expired entries are removed, it also unloads the models."""
        return await _clear(client, ServiceName.DIARIZATION, body, expired_only=expired_only)

    @router.post("/transcription/cache/clear")
    async def clear_transcription_cache(
        client: CallerClient,
        body: CacheClearRequest | None = None,
        expired_only: Annotated[bool, _EXPIRED_ONLY] = False,
    ) -> CacheClearance:
        """Clears the transcriber's cache. Unless only expired entries are removed, it also unloads the models."""
        return await _clear(client, ServiceName.TRANSCRIPTION, body, expired_only=expired_only)

    return router


async def _clear(
    client: AsyncClient, service: ServiceName, body: CacheClearRequest | None, *, expired_only: bool
) -> CacheClearance:
    expired_only = expired_only or (body is not None and body.expired_only)
    scope = ClearScope.EXPIRED if expired_only else ClearScope.ALL
    (clearance,) = await client.clear_cache(scope, [service.stage])
    return CacheClearance.from_value(clearance)
