"""A gateway whose engines hear what is spoken in the audio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from careca_gateway import wiring
from careca_gateway.live.service import LiveService
from careca_gateway.live.session import LiveSession
from support.live import Live, LiveClient, SpokenDiarizer, SpokenTranscriber, live_client
from support.redis_server import RedisServer
from support.stack import ModelService, Stack

Start = Callable[..., AsyncIterator[Stack]]


class Sessions:
    """The live sessions of the gateway that was started last."""

    def __init__(self) -> None:
        self.service: LiveService | None = None

    async def of(self, live: Live, submitter: str = "anonymous") -> LiveSession:
        """The session of a call."""
        assert self.service
        return await self.service.resume(submitter, live.session_id)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Sessions:
    sessions = Sessions()

    class Recorded(LiveService):
        def __init__(self, *parts: Any, **named: Any) -> None:
            super().__init__(*parts, **named)
            sessions.service = self

    monkeypatch.setattr(wiring, "LiveService", Recorded)
    return sessions


@pytest.fixture
def gateway_settings() -> dict[str, Any]:
    """Tests give other ones with ``pytest.mark.parametrize``."""
    return {}


@pytest.fixture
async def stack(
    tmp_path: Path, redis_server: RedisServer, sessions: Sessions, gateway_settings: dict[str, Any]
) -> AsyncIterator[Stack]:
    async with Stack(
        tmp_path,
        redis_server.url,
        transcriber=ModelService(SpokenTranscriber()),
        diarizer=ModelService(SpokenDiarizer()),
        gateway_settings=gateway_settings,
        jobs=True,
    ) as stack:
        yield stack


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[LiveClient]:
    async with live_client(stack.target) as client:
        yield client


@pytest.fixture
def transcriber(stack: Stack) -> SpokenTranscriber:
    assert isinstance(stack.transcriber.engine, SpokenTranscriber)
    return stack.transcriber.engine


@pytest.fixture
def diarizer(stack: Stack) -> SpokenDiarizer:
    assert isinstance(stack.diarizer.engine, SpokenDiarizer)
    return stack.diarizer.engine
