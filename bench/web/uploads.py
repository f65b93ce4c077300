"""What the services hold while a large recording is uploaded, and what is left of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2

from bench.common import audio
from bench.common.harness import announce
from bench.common.report import Report
from bench.system.memory import Sampler
from bench.web.stack import SETTLE_SECONDS, TalkingStack, report_rss, talking_stack

UPLOAD_BYTES = 2 * 10**9
WARM_UP_BYTES = 10**7
TUS_PIECE_BYTES = 64 * 2**20
BLOCK_BYTES = 2**20
GROWTH_LIMIT_BYTES = 64_000_000
_TUS = {"Tus-Resumable": "1.0.0"}


async def measure_uploads(report: Report) -> None:
    """Uploads 2 GB as a form, and other 2 GB in pieces that could be resumed."""
    async with talking_stack(0.0) as (stack, _client, http):
        await asyncio.sleep(SETTLE_SECONDS)
        report_rss(report, stack.process("web"), "idle")
        for number, (name, send) in enumerate({"a form": _send_form, "tus, in pieces of 64 MiB": _send_tus}.items()):
            await _upload(stack, http, send, WARM_UP_BYTES + 2 * number)
            await asyncio.sleep(SETTLE_SECONDS)
            processes = [stack.process(part) for part in ("web", "gateway")]
            before = {each.pid: each.memory_info().rss for each in processes}
            descriptors = processes[0].num_fds()
            began = time.monotonic()
            with Sampler({part: stack.pids[part] for part in ("web", "gateway")}) as sampler:
                await _upload(stack, http, send, UPLOAD_BYTES + 2 * number)
            rate = UPLOAD_BYTES / 1e6 / (time.monotonic() - began)
            announce(f"{name}: {rate:.0f} MB/s")
            growth = sum(peak.rss for peak in sampler.peaks.values()) - sum(before.values())
            what = f"growth of the RSS of web service and gateway together, upload of 2 GB as {name}"
            report.limit(what, "64 MB", f"{growth / 1e6:.0f} MB", met=growth < GROWTH_LIMIT_BYTES)
            await asyncio.sleep(SETTLE_SECONDS)
            left = [path for path in stack.temporary.rglob("*") if path.is_file()]
            left += [path for path in (stack.root / "uploads").rglob("*") if path.stat().st_size > BLOCK_BYTES]
            left_open = processes[0].num_fds() - descriptors
            what = f"files and descriptors that are left of it, {name.partition(',')[0]}"
            report.limit(what, "0", f"{len(left)} and {max(left_open, 0)}", met=not left and left_open <= 0)
        report_rss(report, stack.process("web"), "after the uploads")


Send = Callable[[httpx2.AsyncClient, Path, int], Awaitable[None]]


async def _upload(stack: TalkingStack, http: httpx2.AsyncClient, send: Send, size_bytes: int) -> None:
    """Uploads a new file of that size, sparse."""
    path = stack.root / "large.wav"
    audio.write_silence(path, size_bytes)
    await send(http, path, size_bytes)
    path.unlink()


async def _send_form(http: httpx2.AsyncClient, path: Path, _size_bytes: int) -> None:
    with path.open("rb") as file:
        response = await http.post("/api/recordings", files={"file": (path.name, file)})
    response.raise_for_status()


async def _send_tus(http: httpx2.AsyncClient, path: Path, size_bytes: int) -> None:
    created = await http.post("/api/uploads", headers={**_TUS, "Upload-Length": str(size_bytes)})
    created.raise_for_status()
    location = created.headers["location"]
    for offset in range(0, size_bytes, TUS_PIECE_BYTES):
        length = min(TUS_PIECE_BYTES, size_bytes - offset)
        headers = {
            **_TUS,
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(length),
        }
        sent = await http.patch(location, headers=headers, content=_piece(path, offset, length))
        sent.raise_for_status()
    state = (await http.get(location)).json()
    if not state["recording"]:
        raise RuntimeError(f"the gateway has not got the upload: {state}")


async def _piece(path: Path, offset: int, length: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        for start in range(0, length, BLOCK_BYTES):
            yield file.read(min(BLOCK_BYTES, length - start))
