"""What callers send, as servicers get it: one message, or messages as they come, each of them one that could be read.

gRPC parses messages where no interceptor sees it, and calls it a fault of the server when that fails. And a call that
is to carry one message and carries none stays open for as long as its caller likes: so all calls are taken as streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from careca.errors import DeadlineExceeded, InvalidRequest
from careca.rpc.upload_stream import STALL_SECONDS

Deserializer = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Stands for bytes that are no message; says why."""

    why: str


def tolerant(deserialize: Deserializer | None) -> Deserializer | None:
    """As ``deserialize``, which raises ``DecodeError``, but gives ``Undecodable`` where it does."""
    if deserialize is None:  # bytes are wanted as they are
        return None

    def attempt(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return Undecodable(str(error))

    return attempt


class Readable(AsyncIterator[Any]):
    """``messages``. Raises ``InvalidRequest`` where one cannot be read."""

    def __init__(self, messages: AsyncIterator[Any]) -> None:
        self._messages = messages

    async def __anext__(self) -> Any:
        message = await anext(self._messages)
        if isinstance(message, Undecodable):
            raise InvalidRequest(f"a message that was sent cannot be read: {message.why}", reason="UNREADABLE_MESSAGE")
        return message


async def only_message(messages: AsyncIterator[Any], stall_seconds: float = STALL_SECONDS) -> Any:
    """The message of a call that carries one; more are passed over.

    Raises ``InvalidRequest`` where there is none or it cannot be read, ``DeadlineExceeded`` where none comes for
    ``stall_seconds``.
    """
    try:
        async with asyncio.timeout(stall_seconds):
            return await anext(Readable(messages))
    except StopAsyncIteration:
        raise InvalidRequest("the call carries no message", reason="NO_MESSAGE") from None
    except TimeoutError:
        raise DeadlineExceeded(f"nothing was sent for {stall_seconds:g} seconds", reason="STALLED") from None
