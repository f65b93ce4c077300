"""History, operators; accessibility, telephones, colours, languages, and a run by keys alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import assert_accessible, hold_player, watched_page
from support.stack import Stack
from support.web import Web, submit

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_history_follows_searches_and_deletes(page: Page, web: Web) -> None:
    for name in ("one.wav", "two.wav"):
        await submit(web, name=name)
    await page.goto("/jobs")
    await expect(page.get_by_test_id("history-row")).to_have_count(2)
    await expect(page.locator("[data-testid=job-state][data-state=succeeded]")).to_have_count(2)

    await page.get_by_label("Search in names and texts").fill("one")
    await expect(page.get_by_test_id("history-row")).to_have_count(1)
    await page.get_by_role("button", name="Delete: one.wav").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("Nothing fits.")).to_be_visible()

    jobs = (await web.http.get("/api/jobs")).json()["jobs"]
    assert [job["name"] for job in jobs] == ["two.wav"]


async def test_a_job_is_cancelled_in_the_history(page: Page, web: Web, stack: Stack) -> None:
    stack.diarizer.engine.may_go_on.clear()
    await submit(web, name="long.wav", skip_cache="true")
    await page.goto("/jobs")
    await page.get_by_role("button", name="Cancel: long.wav").click()

    await expect(page.get_by_test_id("job-state")).to_have_text("Cancelled")


async def test_the_history_is_cleared(page: Page, web: Web) -> None:
    await submit(web)
    await page.goto("/jobs")
    await page.get_by_role("button", name="Clear the history").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(page.get_by_test_id("history-row")).to_have_count(1)
    await page.get_by_role("button", name="Clear the history").click()
    await page.get_by_role("dialog").get_by_role("button", name="Clear the history").click()

    await expect(page.get_by_text("1 job was deleted.")).to_be_visible()
    assert (await web.http.get("/api/jobs")).json()["jobs"] == []


async def test_operators_see_the_hit_rate_rise_and_clear_a_cache(page: Page, transcript: str, recording: Path) -> None:
    await page.goto("/operators")
    cache = page.get_by_test_id("cache-diarization")
    before = await cache.get_by_test_id("hits").inner_text()
    await page.goto("/")
    await page.get_by_test_id("file-input").set_input_files(recording)
    await expect(page.get_by_test_id("from-cache")).to_be_visible()

    await page.goto("/operators")
    await expect(cache.get_by_test_id("hits")).to_have_text(str(int(before) + 1))
    await cache.get_by_role("button", name="Clear all").click()
    await page.get_by_role("dialog").get_by_role("button", name="Clear all").click()

    await expect(cache.get_by_test_id("cleared")).to_contain_text("Memory before:")
    await expect(cache.get_by_test_id("entries")).to_have_text("0")
    await page.get_by_role("button", name="Release memory").click()
    await expect(page.get_by_test_id("released")).to_contain_text("Gateway: Memory before:")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_is_inaccessible(browser: Browser, web: Web, transcript: str, scheme: str) -> None:
    async with watched_page(browser, web.url, color_scheme=scheme) as watched:
        for path, shown in {
            "/": "drop-zone",
            "/jobs": "history-row",
            "/operators": "cache-diarization",
            f"/jobs/{transcript}": "utterance",
        }.items():
            await watched.page.goto(path)
            await expect(watched.page.get_by_test_id(shown).first).to_be_visible()
            await assert_accessible(watched.page)
        await watched.page.keyboard.press("?")
        await expect(watched.page.get_by_role("dialog")).to_be_visible()
        await assert_accessible(watched.page)


async def test_a_telephone_shows_everything(browser: Browser, web: Web, transcript: str) -> None:
    async with watched_page(browser, web.url, viewport={"width": 390, "height": 844}, has_touch=True) as watched:
        page = watched.page
        for path in ("/", "/jobs", "/operators", f"/jobs/{transcript}"):
            await page.goto(path)
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        await hold_player(page)
        await page.locator('[data-index="1"] [data-word="0"]').tap()
        await expect(page.locator('[data-index="1"] .spoken')).to_be_visible()
        await assert_accessible(page)


async def test_portuguese_is_taken_from_the_browser_and_can_be_changed(browser: Browser, web: Web) -> None:
    async with watched_page(browser, web.url, locale="pt-BR") as watched:
        page = watched.page
        await page.goto("/")
        await expect(page.get_by_role("heading", name="Quem disse o quê, e quando")).to_be_visible()
        assert await page.evaluate("document.documentElement.lang") == "pt-BR"
        await page.get_by_label("Idioma do console").select_option("en")
        await page.reload()
        await expect(page.get_by_role("heading", name="Who said what, and when")).to_be_visible()


async def test_colours_can_be_changed(page: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    await page.goto("/")
    light = await page.evaluate(background)
    await page.get_by_label("Colours").select_option("dark")
    dark = await page.evaluate(background)
    await page.reload()

    assert light != dark
    assert await page.evaluate(background) == dark


async def test_everything_is_reached_by_keys(page: Page, transcript: str) -> None:
    await page.goto("/")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    await page.keyboard.press("g")
    await page.keyboard.press("h")
    await expect(page.get_by_test_id("history-row")).to_have_count(1)
    await page.get_by_label("Search in names and texts").focus()
    while await page.evaluate("document.activeElement.getAttribute('href')") != f"/jobs/{transcript}":
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement !== document.body"), "the link is not reached"
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("utterance")).to_have_count(2)
    await hold_player(page)
    while await page.evaluate("document.activeElement.dataset.index") is None:
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement !== document.body"), "no utterance is reached"
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("Enter")
    await expect(page.locator('[data-index="1"] [data-word="1"].spoken')).to_be_visible()
    await page.keyboard.press("s")
    await expect(page.get_by_label("Speaker", exact=True)).to_be_focused()


async def test_the_page_of_the_api_shows_every_endpoint(page: Page, web: Web) -> None:
    paths = (await web.http.get("/openapi.json")).json()["paths"]
    await page.goto("/docs")

    operations = page.locator("details")
    await expect(operations).to_have_count(sum(map(len, paths.values())))
    upload = operations.filter(has_text="POST /v1/audio/transcriptions")
    await upload.locator("summary").click()
    await expect(upload.locator("pre")).to_contain_text("-F file=@call.wav", use_inner_text=True)
    await assert_accessible(page)
