"""Signing in and out with tokens, and sessions that end while somebody works."""

from __future__ import annotations

from dataclasses import replace

from playwright.async_api import Page, expect

from support.browser import assert_accessible, chromium, watched_page
from support.tokens import Tokens
from support.web import Web, ended, submit


async def sign_in(page: Page, token: str) -> None:
    await page.get_by_label("Token").fill(token)
    await page.keyboard.press("Enter")


async def test_people_sign_in_and_out(guarded: Web, tokens: Tokens) -> None:
    async with chromium() as browser, watched_page(browser, guarded.url) as watched:
        watched.expected.append("401 (Unauthorized)")
        page = watched.page
        await page.goto("/jobs?page=1")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await assert_accessible(page)
        await page.get_by_label("Token").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("This token is not known, or has expired.")
        await page.get_by_label("Token").fill(tokens.of["ana"])
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="History")).to_be_visible()
        assert page.url == f"{guarded.url}/jobs?page=1"
        assert await page.evaluate("document.cookie") == ""

        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert (await page.request.get("/api/jobs")).status == 401


async def test_an_expired_session_keeps_edits_and_a_link_shows_nothing_to_others(guarded: Web, tokens: Tokens) -> None:
    async with guarded.as_caller(tokens.of["ana"]) as ana:
        of_ana = replace(guarded, http=ana)
        job = (await ended(of_ana, await submit(of_ana)))["id"]
    async with chromium() as browser, watched_page(browser, guarded.url) as watched:
        watched.expected += ["401 (Unauthorized)", "404 (Not Found)"]
        page = watched.page
        await page.goto(f"/jobs/{job}")
        await sign_in(page, tokens.of["ana"])
        await expect(page.get_by_test_id("utterance")).to_have_count(2)
        await page.context.clear_cookies()
        await page.locator('[data-index="0"]').dblclick()
        await page.get_by_test_id("text-editor").fill("written too late")
        await page.keyboard.press("Escape")
        await expect(page.get_by_text("Your session has expired")).to_be_visible()
        await sign_in(page, tokens.of["bo"])
        await expect(page.get_by_role("alert")).to_contain_text("does not exist")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await page.goto(f"/jobs/{job}")
        await sign_in(page, tokens.of["ana"])
        await expect(page.get_by_test_id("utterance").first).to_contain_text("written too late")
        await expect(page.get_by_test_id("save-state")).to_have_attribute("data-state", "saved")
