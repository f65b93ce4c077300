"""The console in a real Chromium, in front of the whole stack with scripted engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import Watched, chromium, watched_page
from support.submitters import RECORDING
from support.waiting import HANG_SECONDS
from support.web import Web

expect.set_options(timeout=1000 * HANG_SECONDS)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def watched(browser: Browser, web: Web) -> AsyncIterator[Watched]:
    """A page of a service that asks for no token."""
    async with watched_page(browser, web.url) as watched:
        yield watched


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "a call.wav"
    path.write_bytes(RECORDING)
    return path


@pytest.fixture
async def transcript(page: Page, recording: Path) -> str:
    """A finished job that is open in the page. Returns its id."""
    await page.goto("/")
    await page.get_by_test_id("file-input").set_input_files(recording)
    await page.get_by_role("link", name="Open the transcript").click()
    await expect(page.get_by_test_id("utterance").first).to_be_visible()
    return page.url.rpartition("/")[2]
