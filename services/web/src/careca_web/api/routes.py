"""All endpoints under /api except those for sessions."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from careca_web.api import admin, events, info, jobs, media, recordings, results, transcripts, uploads, voices
from careca_web.http.requests import Draining
from careca_web.metrics import WebMetrics
from careca_web.sessions.callers import BEARER
from careca_web.uploads.store import UploadStore


def routes(metrics: WebMetrics, draining: Draining, upload_store: UploadStore) -> APIRouter:
    """Returns the endpoints."""
    router = APIRouter(prefix="/api", dependencies=[Depends(BEARER)])
    for each in (
        info.routes(),
        recordings.routes(metrics),
        uploads.routes(upload_store, metrics),
        jobs.routes(metrics),
        results.routes(),
        transcripts.routes(),
        media.routes(),
        voices.routes(),
        events.routes(metrics, draining),
        admin.routes(),
    ):
        router.include_router(each)
    return router
