"""The whole stack with scripted engines, and a web service in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.redis_server import RedisServer
from support.stack import Stack
from support.web import Web, web_service


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    async with Stack(tmp_path, redis_server.url, jobs=True) as stack:
        yield stack


@pytest.fixture
async def web(stack: Stack, tmp_path: Path) -> AsyncIterator[Web]:
    async with web_service(stack.target, tmp_path) as web:
        yield web
