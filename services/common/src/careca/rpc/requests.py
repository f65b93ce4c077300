"""Request messages as servicers get them: decoded, one or a stream.

gRPC decodes messages outside of any interceptor and reports a failure as a fault of the server. And a unary call whose
caller sends no message stays open for as long as the caller wants. So the server takes all calls as streams, and
decodes messages here.
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
class DecodeFailure:
    """Takes the place of a message that could not be decoded."""

    error: str


def catching_decode_errors(deserialize: Deserializer | None) -> Deserializer | None:
    """Returns ``deserialize``, changed to return a ``DecodeFailure`` when it would raise ``DecodeError``."""
    if deserialize is None:  # the method takes plain bytes
        return None

    def attempt(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return DecodeFailure(str(error))

    return attempt


class DecodedMessages(AsyncIterator[Any]):
    """Iterates over ``messages``. Raises ``InvalidRequest`` at one that could not be decoded."""

    def __init__(self, messages: AsyncIterator[Any]) -> None:
        self._messages = messages

    async def __anext__(self) -> Any:
        message = await anext(self._messages)
        if isinstance(message, DecodeFailure):
            raise InvalidRequest(
                f"a message that was sent cannot be read: {message.error}", reason="UNREADABLE_MESSAGE"
            )
        return message


async def single_message(messages: AsyncIterator[Any], stall_seconds: float = STALL_SECONDS) -> Any:
    """Returns the message of a unary call; further messages are ignored.

    Raises ``InvalidRequest`` if there is none or it cannot be decoded, ``DeadlineExceeded`` if none comes within
    ``stall_seconds``.
    """
    try:
        async with asyncio.timeout(stall_seconds):
            return await anext(DecodedMessages(messages))
    except StopAsyncIteration:
        raise InvalidRequest("the call carries no message", reason="NO_MESSAGE") from None
    except TimeoutError:
        raise DeadlineExceeded(f"nothing was sent for {stall_seconds:g} seconds", reason="STALLED") from None
