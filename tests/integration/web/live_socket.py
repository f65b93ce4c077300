"""A WebSocket of a live session, and the JSON messages that came over it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from support.live import BYTES_PER_SECOND
from support.waiting import HANG_SECONDS
from support.web import PROBLEM_FIELDS, Web

Message = dict[str, Any]


class LiveSocket:
    """One WebSocket. ``messages`` are all that were read."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.messages: list[Message] = []

    async def send(self, message: Mapping[str, Any] | str | bytes) -> None:
        await self.connection.send(json.dumps(message) if isinstance(message, Mapping) else message)

    async def audio(self, data: bytes, piece: int = BYTES_PER_SECOND // 4) -> None:
        """Sends audio in pieces, as fast as it is taken."""
        for begin in range(0, len(data), piece):
            await self.send(data[begin : begin + piece])

    async def next(self) -> Message:
        async with asyncio.timeout(HANG_SECONDS):
            message: Message = json.loads(await self.connection.recv())
        self.messages.append(message)
        return message

    async def until(self, kind: str) -> Message:
        """Reads up to the next message of a kind, and returns it."""
        while (message := await self.next())["type"] != kind:
            assert message["type"] != "error", message
        return message

    async def rest(self) -> int:
        """Reads up to the close, and returns its code."""
        with suppress(ConnectionClosed):
            while True:
                await self.next()
        code = self.connection.close_code
        assert code
        return code

    async def problem(self) -> tuple[int, str, str, int]:
        """Reads up to the close. Returns status, reason and field of the error before it, and the code."""
        code = await self.rest()
        body = self.messages[-1]
        assert body["type"] == "error", body
        assert set(body) == PROBLEM_FIELDS
        assert body["detail"]
        assert body["request_id"]
        return body["status"], body["reason"], body["field"], code

    def of(self, kind: str) -> list[Message]:
        return [message for message in self.messages if message["type"] == kind]


@asynccontextmanager
async def socket(
    web: Web, path: str = "/api/live", headers: Mapping[str, str] | None = None, *, host: str = "127.0.0.1"
) -> AsyncIterator[LiveSocket]:
    """Opens a WebSocket without sending anything. ``host`` is the name that the request has."""
    port = web.server.port
    async with connect(
        f"ws://{host}:{port}{path}",
        host="127.0.0.1",
        port=port,
        additional_headers=headers,
        proxy=None,
        open_timeout=HANG_SECONDS,
    ) as connection:
        yield LiveSocket(connection)


@asynccontextmanager
async def live(web: Web, headers: Mapping[str, str] | None = None, **config: Any) -> AsyncIterator[LiveSocket]:
    """Opens a WebSocket and sends the config."""
    async with socket(web, headers=headers) as opened:
        await opened.send(config)
        yield opened


def words_of(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The final words, each with its speaker as it was corrected. Their numbers must have no holes."""
    words: list[dict[str, Any]] = []
    for message in messages:
        if message["type"] == "final":
            assert message["first_word"] == len(words)
            words += [dict(word) for word in message["words"]]
        elif message["type"] == "speaker_correction":
            first = message["first_word"]
            for word in words[first : first + message["word_count"]]:
                word["speaker"] = message["speaker"]
    return words


def numbers_of(messages: Iterable[Message]) -> list[int]:
    """The numbers of the events that have one."""
    return [message["event_number"] for message in messages if message.get("event_number")]
