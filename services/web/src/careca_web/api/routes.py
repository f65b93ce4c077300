"""All endpoints under /api except those for sessions."""

from __future__ import annotations

from fastapi import APIRouter

from careca_web.api import admin, events, info, jobs, media, recordings, results, transcripts, uploads, voices
from careca_web.http.requests import Draining
from careca_web.metrics import WebMetrics
from careca_web.uploads.store import UploadStore


def routers(metrics: WebMetrics, draining: Draining, upload_store: UploadStore) -> list[APIRouter]:
    """Returns a router for each module."""
    return [
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
    ]
