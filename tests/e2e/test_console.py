"""What people do with the system in a browser, and what operators see of it: the real stack with real models."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.async_api import Page, expect

from local_stack import LocalStack
from support.browser import chromium, watched_page
from support.waiting import HANG_SECONDS

pytestmark = pytest.mark.models


@pytest.fixture
async def page(stack: LocalStack) -> AsyncIterator[Page]:
    expect.set_options(timeout=1000 * HANG_SECONDS)
    async with chromium() as browser, watched_page(browser, stack.web_url) as watched:
        yield watched.page


def ask(stack: LocalStack, path: str, method: str = "GET") -> Any:
    """What the HTTP API answers to an administrator, who is anybody where the gateway asks for no token."""
    request = urllib.request.Request(stack.web_url + path, method=method)
    with urllib.request.urlopen(request, timeout=HANG_SECONDS) as response:
        return json.load(response)


def resident(pid: int) -> int:
    """Resident bytes of a service and the processes that it has."""
    service = psutil.Process(pid)
    return sum(process.memory_info().rss for process in (service, *service.children(recursive=True)))


async def test_a_call_is_read_in_the_browser_and_is_at_once_the_second_time(
    page: Page, stack: LocalStack, recording: Path
) -> None:
    """May take more than ten seconds, because the models run."""
    ask(stack, "/api/admin/transcription/cache/clear", "POST")
    ask(stack, "/api/admin/diarization/cache/clear", "POST")
    await page.goto("/")
    await page.get_by_test_id("file-input").set_input_files(recording)
    await page.get_by_role("link", name="Open the transcript").click()
    for speaker, text in (("SPEAKER_00", "New Jersey"), ("SPEAKER_01", "Texas")):
        said = page.get_by_test_id("utterance").filter(has_text=text).first
        await expect(said.get_by_test_id("speaker")).to_have_text(speaker)
    await expect(page.get_by_test_id("from-cache")).to_have_count(0)

    before = ask(stack, "/api/admin/diarization/stats")
    await page.get_by_role("link", name="Start").click()
    await page.get_by_test_id("file-input").set_input_files(recording)
    await expect(page.get_by_test_id("from-cache")).to_be_visible()
    after = ask(stack, "/api/admin/diarization/stats")
    assert after["hits"] == before["hits"] + 1
    assert after["hit_rate"] > before["hit_rate"]

    await page.get_by_role("link", name="Operators").click()
    loaded = resident(stack.pids["diarizer"])
    cache = page.get_by_test_id("cache-diarization")
    await cache.get_by_role("button", name="Clear all").click()
    await page.get_by_role("dialog").get_by_role("button", name="Clear all").click()
    await expect(cache.get_by_test_id("cleared")).to_contain_text("Memory before:")
    await expect(cache.get_by_test_id("entries")).to_have_text("0")
    assert resident(stack.pids["diarizer"]) < loaded
