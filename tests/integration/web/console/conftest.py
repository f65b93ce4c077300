"""The console in a real Chromium, in front of the whole stack with scripted engines.

Stack and browser serve all tests of a module, which run in one event loop. Each test has its own recording, its own
page, and no jobs or voices of others.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from support.browser import Watched, chromium, watched_page
from support.media import tone, wav
from support.redis_server import RedisServer
from support.stack import Stack
from support.waiting import HANG_SECONDS
from support.web import Web, web_service

expect.set_options(timeout=1000 * HANG_SECONDS)

_hertz = itertools.count(300)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """With a Redis of its own: other tests of the session empty theirs."""
    redis_server = RedisServer()
    redis_server.start()
    try:
        async with Stack(tmp_path_factory.mktemp("stack"), redis_server.url, jobs=True) as stack:
            yield stack
    finally:
        redis_server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_web(shared_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Web]:
    async with web_service(shared_stack.target, tmp_path_factory.mktemp("web")) as web:
        yield web


@pytest_asyncio.fixture(loop_scope="module")
async def stack(shared_stack: Stack) -> AsyncIterator[Stack]:
    """At the end, nothing holds its engines."""
    yield shared_stack
    for service in shared_stack.model_services:
        service.engine.may_go_on.set()


@pytest_asyncio.fixture(loop_scope="module")
async def web(shared_web: Web) -> Web:
    """Has no jobs and no voices."""
    for job in (await shared_web.http.get("/api/jobs")).json()["jobs"]:
        await shared_web.http.delete(f"/api/jobs/{job['id']}")
    for voice in (await shared_web.http.get("/api/voices")).json()["voices"]:
        await shared_web.http.delete(f"/api/voices/{voice['name']}")
    return shared_web


@pytest_asyncio.fixture(loop_scope="module")
async def watched(browser: Browser, web: Web) -> AsyncIterator[Watched]:
    """A page of a service that asks for no token."""
    async with watched_page(browser, web.url) as watched:
        yield watched


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A recording that no other test has."""
    path = tmp_path / "a call.wav"
    path.write_bytes(wav(tone(2.0, hertz=next(_hertz))))
    return path


@pytest_asyncio.fixture(loop_scope="module")
async def transcript(page: Page, recording: Path) -> str:
    """A finished job that is open in the page. Returns its id."""
    await page.goto("/")
    await page.get_by_test_id("file-input").set_input_files(recording)
    await page.get_by_role("link", name="Open the transcript").click()
    await expect(page.get_by_test_id("utterance").first).to_be_visible()
    return page.url.rpartition("/")[2]
