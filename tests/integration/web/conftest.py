"""The whole stack with scripted engines, and a web service in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.redis_server import RedisServer
from support.stack import Stack
from support.tokens import Tokens
from support.web import Web, web_service


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    async with Stack(tmp_path, redis_server.url, jobs=True) as stack:
        yield stack


@pytest.fixture
async def web(stack: Stack, tmp_path: Path) -> AsyncIterator[Web]:
    async with web_service(stack.target, tmp_path) as web:
        yield web


@pytest.fixture
async def guarded_stack(tmp_path: Path, redis_server: RedisServer, tokens: Tokens) -> AsyncIterator[Stack]:
    """A stack whose gateway requires a token."""
    settings = {"tokens_file": tokens.path}
    async with Stack(tmp_path, redis_server.url, jobs=True, gateway_settings=settings) as stack:
        yield stack


@pytest.fixture
async def guarded(guarded_stack: Stack, tmp_path: Path) -> AsyncIterator[Web]:
    """A web service whose gateway requires a token."""
    async with web_service(guarded_stack.target, tmp_path) as web:
        yield web
