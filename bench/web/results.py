"""How long a result takes over HTTP, beside the same result by gRPC."""

from __future__ import annotations

import statistics
import time

import httpx2

from bench.common.report import Report
from bench.common.tables import seconds, table
from bench.web.stack import finished_job, talking_stack
from careca.types import OutputFormat
from careca_client import AsyncClient

AUDIO_SECONDS = 3600.0
REPETITIONS = 60
LIMIT_SECONDS = 0.1
LIMIT_RATIO = 2.5


async def measure_results(report: Report) -> None:
    """The result of an hour, by both ways in turn."""
    async with talking_stack(0.0) as (stack, client, http):
        job = await finished_job(client, stack.root, AUDIO_SECONDS)
        by_http, by_grpc, size = [], [], 0
        for _ in range(REPETITIONS):
            by_grpc.append(await _by_grpc(client, job.id))
            taken, size = await _by_http(http, job.id)
            by_http.append(taken)
    ratio = statistics.median(by_http) / statistics.median(by_grpc)
    report.at_most(f"result of one hour over HTTP, median of {REPETITIONS}", LIMIT_SECONDS, statistics.median(by_http))
    report.limit("  this over the same result by gRPC", f"{LIMIT_RATIO}", f"{ratio:.2f}", met=ratio <= LIMIT_RATIO)
    rows = [
        [name, *(seconds(value) for value in (min(taken), statistics.median(taken), max(taken)))]
        for name, taken in (("HTTP", by_http), ("gRPC", by_grpc))
    ]
    report.tables.append(table([f"result of one hour, {size / 1e6:.1f} MB of JSON", "min", "median", "max"], rows))


async def _by_grpc(client: AsyncClient, job_id: str) -> float:
    began = time.perf_counter()
    await client.job_result(job_id, formats=[OutputFormat.JSON])
    return time.perf_counter() - began


async def _by_http(http: httpx2.AsyncClient, job_id: str) -> tuple[float, int]:
    began = time.perf_counter()
    response = await http.get(f"/api/jobs/{job_id}/result", headers={"Accept-Encoding": "identity"})
    response.raise_for_status()
    return time.perf_counter() - began, len(response.content)
