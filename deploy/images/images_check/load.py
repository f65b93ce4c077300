"""Callers of two replicas of each service: calls and jobs by gRPC, OpenAI's API by HTTP, and live sessions."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt

from bench.common import audio
from bench.common.balancer import balanced
from bench.common.tables import table
from bench.load.arrivals import Ask, Asked, answered, closed_loop_while, latencies, open_loop_while
from bench.load.callers import Callers, worst
from careca.errors import InternalError, Unavailable
from careca.types import SAMPLE_RATE
from careca_client import Access, AsyncClient, LiveFinal, LiveReconnecting, LiveResult
from demo import sample
from images_check.checks import System
from images_check.podman import CheckError
from images_check.pods import Cluster
from images_check.replicas import FORWARD, OVERLAY, Replicas
from k8s_check.build import build

CLIP_SECONDS = 5.0
CLIPS = 60
"""Recordings of each kind of request, so many that none is asked for twice at once."""

_CLIENTS = 2
"""Each has a connection of its own, so that both gateways are called."""

_PATIENCE_SECONDS = 600.0
"""As long as a rolling update takes on a slow machine."""

_QUIET_SECONDS = 90.0

_SEED = 7
_CHUNK_SECONDS = 0.1


@dataclass
class Outside:
    """Callers that reach the gateways and the web services as through a Service."""

    people: Path
    clients: Sequence[AsyncClient]
    asks: Mapping[str, Ask]
    """How to ask, for each kind of request."""
    speech: npt.NDArray[np.int16]
    """The sample: 16 kHz mono, shape (samples,)."""

    def http(self, address: str) -> httpx2.AsyncClient:
        """Returns a client of the web service at an address, with the token."""
        trust = ssl.create_default_context(cafile=str(self.people / "ca.crt"))
        headers = {"Host": "careca.example", "Authorization": f"Bearer {_token(self.people)}"}
        return httpx2.AsyncClient(
            base_url=f"https://{address}", headers=headers, verify=trust, trust_env=False, timeout=_PATIENCE_SECONDS
        )


@asynccontextmanager
async def outside(replicas: Replicas, people: Path, folder: Path) -> AsyncIterator[Outside]:
    """Yields the callers. ``people`` has the authority and the token, ``folder`` gets recordings."""
    access = Access(token=_token(people), ca_file=people / "ca.crt")
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(_CLIENTS):
            address = await stack.enter_async_context(balanced(lambda: replicas.targets("gateway")))
            clients.append(await stack.enter_async_context(AsyncClient(address, access=access)))
        web = await stack.enter_async_context(balanced(lambda: replicas.targets("web")))
        kinds = ("call", "job", "OpenAI")
        clips = await asyncio.to_thread(_cut, folder, len(kinds) * CLIPS)
        by_kind = [[Callers(client, clips[start :: len(kinds)]) for client in clients] for start in range(len(kinds))]

        async def call(number: int) -> None:
            await by_kind[0][number % _CLIENTS].transcribe(number)

        async def submit(number: int) -> None:
            await by_kind[1][number % _CLIENTS].submit(number)

        turns = itertools.count()  # not the number, which begins anew: the same clip again would come from the caches

        async def openai(_number: int) -> None:
            async with found.http(web) as client:
                await _transcribe_by_http(client, by_kind[2][0].clips[next(turns) % CLIPS])

        asks = dict(zip(kinds, (call, submit, openai), strict=True))
        found = Outside(people, clients, asks, audio.decode(sample()))
        yield found


async def asked_while(
    change: Coroutine[Any, Any, None], callers: Outside, rate: float | None = None
) -> tuple[dict[str, list[Asked]], str]:
    """Asks while ``change`` runs, and speaks in a live session meanwhile.

    Each kind of request comes ``rate`` times a second. Without it there is one caller of each kind, who asks again when
    there is an answer.

    Returns what became of each request, and of the live session. Raises what ``change`` raises, and ``CheckError`` if
    the session is not whole.
    """
    changing = asyncio.create_task(change)
    asking = asyncio.gather(
        *(
            open_loop_while(changing, ask, rate, _SEED + number) if rate else closed_loop_while(changing, ask, 1)
            for number, ask in enumerate(callers.asks.values())
        )
    )
    live = await _speak_while(changing, callers)
    return dict(zip(callers.asks, await asking, strict=True)), live


async def _speak_while(changing: asyncio.Task[None], callers: Outside) -> str:
    """Speaks in a live session until ``changing`` is done. Returns what came of it.

    Raises ``CheckError`` if a word is missing or comes twice, or the session has no result.
    """
    async with callers.clients[0].live(display_name="live") as session:

        async def speak() -> None:
            size, position = round(_CHUNK_SECONDS * SAMPLE_RATE), 0
            while not changing.done():
                await session.send(callers.speech[position : position + size].tobytes())
                position = (position + size) % len(callers.speech)
                await asyncio.sleep(_CHUNK_SECONDS)
            await session.end()

        speaking = asyncio.create_task(speak())
        words, connections, result = 0, 1, None
        async for event in session:
            if isinstance(event, LiveFinal):
                if event.first_word != words:
                    raise CheckError(f"after {words} words of a live session comes number {event.first_word}")
                words += len(event.words)
            elif isinstance(event, LiveReconnecting):
                connections += 1
            elif isinstance(event, LiveResult):
                result = event.result
        await speaking
    if result is None or result.partial or not words:
        raise CheckError(f"a live session ended with {words} words and {'a partial' if result else 'no'} result")
    return f"a live session of {result.duration:.0f} s: {words} words, {connections} connections"


def load(system: System) -> Iterator[str]:
    """Callers lose nothing while each replica is replaced, and while each is killed."""
    system.cluster.remove_pods()
    cluster = system.cluster.of(build(OVERLAY))
    replicas = Replicas()
    replicas.start(cluster)
    yield from asyncio.run(_load(system, replicas, cluster))


async def _load(system: System, replicas: Replicas, cluster: Cluster) -> list[str]:
    changes = {
        "one caller of each kind": asyncio.sleep(_QUIET_SECONDS),
        "half of it, at random moments": asyncio.sleep(_QUIET_SECONDS),
        "the same, each replica is replaced": replicas.replace_all(cluster, FORWARD),
        "the same, each replica behind the web services is killed": replicas.kill_all(),
    }
    found, lost, rate = [], [], None
    async with outside(replicas, system.people, system.folder) as callers:
        for what, change in changes.items():
            asked, live = await asked_while(change, callers, rate)
            found += [f"{what}:", *figures(asked).splitlines(), live]
            lost += losses(what, asked)
            rate = rate or len(list(itertools.chain(*asked.values()))) / _seconds(asked) / len(asked) / 2
    if lost:
        raise CheckError("\n".join([*found, *lost]))
    return found


def losses(what: str, asked: Mapping[str, Sequence[Asked]]) -> list[str]:
    """Returns a line if requests have no result."""
    lost = [each.error for several in asked.values() for each in several if each.error]
    return [f"{what}: {len(lost)} requests are lost: {worst(lost)}"] if lost else []


def figures(asked: Mapping[str, Sequence[Asked]]) -> str:
    """Returns a table: for each kind how many were asked in a second, and how long they took."""
    rows, seconds = [], _seconds(asked)
    for kind, several in asked.items():
        count, done = len(several), len(answered(several))
        rows.append([kind, str(count), f"{done / seconds:.2f}/s", *latencies(several)[:2], str(count - done)])
    return table(["", "requests", "throughput", "p50", "p95", "lost"], rows)


def _seconds(asked: Mapping[str, Sequence[Asked]]) -> float:
    """Returns the time from the first question to the last answer."""
    every = list(itertools.chain(*asked.values()))
    return max(each.ended for each in every) - min(each.at for each in every)


async def _transcribe_by_http(client: httpx2.AsyncClient, clip: Path) -> None:
    """Raises ``Unavailable`` where there is no answer, ``InternalError`` where it is not a transcript."""
    files = {"file": (clip.name, await asyncio.to_thread(clip.read_bytes))}
    try:
        answer = await client.post(
            "/v1/audio/transcriptions", files=files, data={"model": "whisper-1", "response_format": "diarized_json"}
        )
    except httpx2.TransportError as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error
    if answer.status_code != HTTPStatus.OK or "segments" not in answer.json():
        raise InternalError(f"HTTP {answer.status_code}: {answer.text[:300]}")


def _cut(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"clip-{number}.flac" for number in range(count)]
    for piece, path in zip(audio.pieces([sample()], [CLIP_SECONDS] * count), paths, strict=True):
        audio.write_flac(piece, path)
    return paths


def _token(people: Path) -> str:
    return (people / "admin.token").read_text()
