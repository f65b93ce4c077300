"""How soon pages of the console can be used, in a real Chromium that has one processor."""

from __future__ import annotations

import importlib.util
import os
import shutil
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from bench.common.harness import announce
from bench.common.report import Report
from bench.common.tables import seconds, table
from bench.web.stack import PATIENCE_SECONDS, finished_job, talking_stack
from careca_web.console.routes import STATIC

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, Request

LONG_SECONDS = 36_000.0
LONG_LIMIT_SECONDS = 2.0
REPETITIONS = 7


async def measure_pages(report: Report) -> None:
    """The first page without anything in the browser's cache, and a transcript of ten hours."""
    if reason := _missing():
        report.limit("pages in a real Chromium", "-", f"not measured: {reason}", met=False)
        return
    async with talking_stack(0.0) as (stack, client, _http), _chromium() as browser:
        first, size = [], 0
        for _ in range(REPETITIONS):
            taken, size = await _first_page(browser, stack.web_url)
            first.append(taken)
        job = await finished_job(client, stack.root, LONG_SECONDS)
        long = [await _transcript(browser, stack.web_url, job.id) for _ in range(REPETITIONS)]
    what = f"transcript of ten hours, 100,000 words, open in the console, median of {REPETITIONS}"
    report.at_most(what, LONG_LIMIT_SECONDS, statistics.median(long))
    rows = [
        [name, *(seconds(value) for value in (min(taken), statistics.median(taken), max(taken)))]
        for name, taken in ((f"first page, {size / 1e3:.0f} kB", first), ("transcript of ten hours", long))
    ]
    report.tables.append(table(["usable after, in a browser with one processor", "min", "median", "max"], rows))


def _missing() -> str:
    """What is missing for these measurements; empty if nothing is."""
    if not (STATIC / "index.html").is_file():
        return "the console is not built (`make console`)"
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed (`make test` installs it)"
    from support.browser import FETCHED

    found = (FETCHED / "chromium").exists() or any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    return "" if found else "there is no Chromium (`make test` fetches one)"


@asynccontextmanager
async def _chromium() -> AsyncIterator[Browser]:
    from support.browser import chromium

    with _one_processor():
        started = chromium()
        browser = await started.__aenter__()
    try:
        yield browser
    finally:
        await started.__aexit__(None, None, None)


@contextmanager
def _one_processor() -> Iterator[None]:
    """Processes that are started inside have one processor."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(processors)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, processors)


async def _first_page(browser: Browser, url: str) -> tuple[float, int]:
    """Returns when a file can be chosen, and the bytes of all responses until then."""
    async with _new_page(browser, url) as page:
        requests: list[Request] = []

        def finished(request: Request) -> None:
            requests.append(request)

        page.on("requestfinished", finished)
        began = time.perf_counter()
        await page.goto("/")
        await page.get_by_test_id("file-input").wait_for(state="attached")
        taken = time.perf_counter() - began
        await page.wait_for_load_state("networkidle")
        sizes = [await request.sizes() for request in requests]
    size = sum(each["responseBodySize"] + each["responseHeadersSize"] for each in sizes)
    announce(f"first page: {taken:.2f} s, {len(sizes)} responses of {size / 1e3:.0f} kB")
    return taken, size


async def _transcript(browser: Browser, url: str, job_id: str) -> float:
    """Returns when the first words of a transcript are there."""
    async with _new_page(browser, url) as page:
        began = time.perf_counter()
        await page.goto(f"/jobs/{job_id}")
        await page.get_by_test_id("utterance").first.wait_for(state="visible")
        taken = time.perf_counter() - began
    announce(f"transcript: {taken:.2f} s")
    return taken


@asynccontextmanager
async def _new_page(browser: Browser, url: str) -> AsyncIterator[Page]:
    """A page of a browser that has never seen the service."""
    context = await browser.new_context(base_url=url, locale="en-US")
    context.set_default_timeout(1000 * PATIENCE_SECONDS)
    try:
        yield await context.new_page()
    finally:
        await context.close()
