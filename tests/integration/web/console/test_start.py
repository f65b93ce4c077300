"""Start: upload, progress, cancelling, trying again, the cache, and the microphone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from support.browser import Watched
from support.stack import Stack
from support.web import Web

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def choose(page: Page, *files: Path) -> None:
    await page.goto("/")
    await page.get_by_test_id("file-input").set_input_files(list(files))


async def test_a_recording_becomes_a_transcript_while_its_text_is_shown(
    page: Page, stack: Stack, recording: Path
) -> None:
    stack.diarizer.engine.may_go_on.clear()
    await choose(page, recording)

    await expect(page.get_by_test_id("live-text")).to_contain_text("hello there")
    await expect(page.locator("[data-stage=diarize][data-state=running]")).to_be_visible()
    stack.diarizer.engine.may_go_on.set()
    await page.get_by_role("link", name="Open the transcript").click()

    await expect(page.get_by_test_id("utterance")).to_have_count(2)
    await expect(page.get_by_role("heading", name="a call.wav")).to_be_visible()


async def test_a_known_recording_is_answered_from_the_cache(page: Page, recording: Path) -> None:
    await choose(page, recording)
    await expect(page.get_by_test_id("job-state")).to_have_text("Done")
    uploads: list[str] = []
    page.on("request", lambda request: uploads.append(request.url) if "/api/uploads" in request.url else None)

    await page.get_by_test_id("file-input").set_input_files(recording)

    await expect(page.get_by_test_id("from-cache")).to_have_count(1)
    assert uploads == []


async def test_a_job_can_be_cancelled_and_tried_again(page: Page, stack: Stack, recording: Path) -> None:
    stack.diarizer.engine.may_go_on.clear()
    await choose(page, recording)
    await expect(page.locator("[data-stage=diarize][data-state=running]")).to_be_visible()

    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_test_id("job-state")).to_have_text("Cancelled")
    stack.diarizer.engine.may_go_on.set()
    await page.get_by_role("link", name="History").click()
    await page.get_by_role("button", name="Try again: a call.wav").click()

    await expect(page.get_by_test_id("job-state")).to_have_text("Done")


async def test_the_options_are_sent(page: Page, recording: Path) -> None:
    await page.goto("/")
    await page.get_by_text("Options", exact=True).click()
    await page.get_by_label("Language spoken").select_option("pt")
    await page.get_by_role("combobox", name="Speakers").select_option("exact")
    await page.get_by_label("Number of speakers").fill("3")
    async with page.expect_request(
        lambda request: request.method == "POST" and request.url.endswith("/api/jobs")
    ) as sent:
        await page.get_by_test_id("file-input").set_input_files(recording)

    assert (await sent.value).post_data_json["options"] == {
        "language": "pt",
        "speaker_count": 3,
        "use_saved_voices": True,
    }
    await expect(page.get_by_test_id("job-state")).to_have_text("Done")


async def test_what_is_no_recording_is_not_sent(page: Page, tmp_path: Path, web: Web) -> None:
    text, empty = tmp_path / "notes.txt", tmp_path / "nothing.wav"
    text.write_text("notes")
    empty.write_bytes(b"")

    await choose(page, text, empty)

    await expect(page.get_by_text("1 file was skipped")).to_contain_text("notes.txt")
    await expect(page.get_by_text("nothing.wav is empty.")).to_be_visible()
    assert (await web.http.get("/api/jobs")).json()["jobs"] == []


async def test_a_talk_is_recorded_from_the_microphone(page: Page) -> None:
    await page.goto("/")
    await page.get_by_role("button", name="Record").click()
    await expect(page.get_by_test_id("recording-time")).to_contain_text("0:01")
    await page.get_by_role("button", name="Stop and transcribe").click()

    await expect(page.get_by_test_id("submission").get_by_role("heading")).to_contain_text("Recording")
    await expect(page.get_by_test_id("job-state")).to_have_text("Done")


async def test_an_upload_that_breaks_goes_on(page: Page, watched: Watched, recording: Path) -> None:
    watched.expected.append("ERR_CONNECTION_FAILED")
    offsets: list[str] = []

    async def break_first(route: Route) -> None:
        if route.request.method != "PATCH":
            await route.continue_()
            return
        offsets.append(route.request.headers["upload-offset"])
        if len(offsets) == 1:
            await route.abort("connectionfailed")
        else:
            await route.continue_()

    await page.route("**/api/uploads/*", break_first)
    await choose(page, recording)

    await expect(page.get_by_test_id("job-state")).to_have_text("Done")
    assert offsets == ["0", "0"]
