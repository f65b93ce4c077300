"""A real Chromium, and pages of it that notice what must not happen: errors, other origins, inaccessible content."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Page, Request, Route, async_playwright

from support.waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
FETCHED = Path(sys.prefix) / "chromium"
"""Where `make test` unpacks npm's Chromium if this machine has none."""

_AXE = ROOT / "services" / "web" / "console" / "node_modules" / "axe-core" / "axe.min.js"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Starts a browser: this machine's, or the one that `make test` fetched."""
    found = next((path for path in map(shutil.which, _NAMES) if path), None)
    environment: dict[str, str | float | bool] = dict(os.environ)
    if found is None:
        found = str(FETCHED / "chromium")
        environment["LD_LIBRARY_PATH"] = str(FETCHED / "lib")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=list(_ARGUMENTS), env=environment)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Watched:
    """A page, and what went wrong in it. ``expected`` are parts of console errors that the test causes on purpose."""

    page: Page
    expected: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Fails if there was an error that the test did not cause on purpose."""
        assert [error for error in self.errors if not any(part in error for part in self.expected)] == []


@asynccontextmanager
async def watched_page(browser: Browser, url: str, **context_options: Any) -> AsyncIterator[Watched]:
    """Opens a page for the service at ``url``. At the end, errors and requests to other origins fail the test."""
    context = await browser.new_context(base_url=url, **{"locale": "en-US", **context_options})
    context.set_default_timeout(1000 * HANG_SECONDS)
    page = await context.new_page()
    watched = Watched(page)

    def console(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            watched.errors.append(f"{message.type}: {message.text}")

    def requested(request: Request) -> None:
        origin = urlsplit(request.url)
        if origin.scheme not in {"blob", "data"} and origin.netloc != urlsplit(url).netloc:
            watched.errors.append(f"request to {request.url}")

    page.on("console", console)
    page.on("pageerror", lambda error: watched.errors.append(f"exception: {error}"))
    page.on("request", requested)
    try:
        yield watched
    finally:
        await context.close()
    watched.check()


async def assert_accessible(page: Page) -> None:
    """Fails if axe finds anything."""
    # Evaluated by the debugger, which the page's Content-Security-Policy does not concern.
    await page.evaluate(_AXE.read_text())
    found = await page.evaluate("axe.run({resultTypes: ['violations']})")
    assert found["passes"], "axe has not looked at anything"
    violations = [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]]
    assert violations == [], violations


async def hold_player(page: Page) -> None:
    """Makes the player go to a time but not run on, so that what it shows there does not depend on the machine."""
    only_say_so = "audio => { audio.play = async () => { audio.dataset.started = 'yes' } }"
    await page.get_by_test_id("audio").evaluate(only_say_so)


async def refuse(route: Route) -> None:
    """A handler of requests that fails them, as if the network were down."""
    await route.abort("connectionfailed")
