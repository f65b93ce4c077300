"""The transcript: playing from a word, corrections, undo, revisions, conflicts, and edits that must not get lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect

from support.browser import Watched, hold_player, refuse, watched_page
from support.media import recording as encoded
from support.waiting import eventually
from support.web import Web, ended, submit

pytestmark = pytest.mark.asyncio(loop_scope="module")

RESULT = "**/api/jobs/*/result"
DRAWN_COLUMNS = """canvas => {
    const { width, height } = canvas
    const drawn = canvas.getContext('2d').getImageData(0, 0, width, height).data
    const columns = Array.from({ length: width }, (_, x) => x)
    const rows = Array.from({ length: height - 20 }, (_, y) => y)  // without the speakers
    return columns.filter(x => rows.filter(y => drawn[4 * (y * width + x) + 3]).length > 10).length / width
}"""
"""The part of a picture's columns that have a wave of more than ten pixels."""


async def spoken(web: Web, job: str) -> list[str]:
    """The newest revision as lines ``speaker: text``."""
    result = (await web.http.get(f"/api/jobs/{job}/result")).json()
    return [f"{utterance['speaker']}: {utterance['text']}" for utterance in result["utterances"]]


def content(path: Path) -> bytes:
    """The bytes of a file that was downloaded."""
    return path.read_bytes()


async def saved(page: Page) -> None:
    """Waits until the server has confirmed all changes."""
    await expect(page.get_by_test_id("save-state")).to_have_attribute("data-state", "saved")


async def rewrite(page: Page, index: int, text: str) -> None:
    """Edits an utterance by keys alone."""
    await page.locator(f'[data-index="{index}"]').focus()
    await page.keyboard.press("e")
    await page.get_by_test_id("text-editor").fill(text)
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("text-editor")).to_have_count(0)


async def rename(page: Page, speaker: str, name: str, button: str = "Save") -> None:
    await page.get_by_role("button", name=f"Rename {speaker}").click()
    await page.get_by_role("textbox", name="Name").fill(name)
    await page.get_by_role("button", name=button, exact=True).click()


async def test_a_click_on_a_word_plays_from_it(page: Page, transcript: str) -> None:
    await hold_player(page)
    await page.locator('[data-index="1"] [data-word="1"]').click()

    await expect(page.locator('[data-index="1"] [data-word="1"].spoken')).to_be_visible()
    await expect(page.get_by_test_id("audio")).to_have_attribute("data-started", "yes")
    assert await page.get_by_test_id("audio").evaluate("audio => audio.currentTime") == 1.5


async def test_the_player_plays_to_the_end(page: Page, transcript: str) -> None:
    await page.get_by_label("Speed").select_option("3")
    await page.locator('[data-index="0"]').focus()
    await page.keyboard.press("Space")

    await expect(page.get_by_test_id("time")).to_have_text("0:02 / 0:02")
    assert await page.get_by_test_id("audio").evaluate("audio => [audio.ended, audio.playbackRate]") == [True, 3]


async def test_a_text_is_edited_and_stays_after_a_reload(page: Page, web: Web, transcript: str) -> None:
    await rewrite(page, 0, "hello over there")
    await saved(page)

    assert await spoken(web, transcript) == ["SPEAKER_00: hello over there", "SPEAKER_01: good morning"]
    await page.reload()
    await expect(page.get_by_test_id("utterance").first).to_contain_text("hello over there")


async def test_an_utterance_is_split_and_joined_again(page: Page, web: Web, transcript: str) -> None:
    await page.locator('[data-index="0"]').focus()
    await page.keyboard.press("e")
    await page.get_by_test_id("text-editor").press("Home")
    for _ in "hello":
        await page.keyboard.press("ArrowRight")
    await page.keyboard.press("Control+Enter")
    await expect(page.get_by_test_id("utterance")).to_have_count(3)
    await saved(page)
    assert await spoken(web, transcript) == ["SPEAKER_00: hello", "SPEAKER_00: there", "SPEAKER_01: good morning"]

    await page.locator('[data-index="0"]').focus()
    await page.keyboard.press("j")
    await expect(page.get_by_test_id("utterance")).to_have_count(2)
    await saved(page)
    assert await spoken(web, transcript) == ["SPEAKER_00: hello there", "SPEAKER_01: good morning"]


async def test_selected_words_are_given_to_another_speaker(page: Page, web: Web, transcript: str) -> None:
    box = await page.locator('[data-index="0"] [data-word="1"]').bounding_box()
    assert box
    await page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2, steps=4)
    await page.mouse.up()
    await page.get_by_label("Give the selected words to").select_option("SPEAKER_01")
    await expect(page.get_by_test_id("utterance")).to_have_count(3)
    await saved(page)

    assert await spoken(web, transcript) == ["SPEAKER_00: hello", "SPEAKER_01: there", "SPEAKER_01: good morning"]


async def test_an_utterance_is_given_to_another_speaker(page: Page, web: Web, transcript: str) -> None:
    await page.locator('[data-index="1"]').focus()
    await page.keyboard.press("s")
    await page.get_by_label("Speaker", exact=True).select_option("SPEAKER_00")
    await saved(page)
    assert await spoken(web, transcript) == ["SPEAKER_00: hello there", "SPEAKER_00: good morning"]

    await page.locator('[data-index="0"]').focus()
    await page.keyboard.press("s")
    await page.get_by_label("Speaker", exact=True).select_option("Another speaker…")
    await page.get_by_label("Name of the new speaker").fill("Carla")
    await page.keyboard.press("Enter")
    await saved(page)
    assert await spoken(web, transcript) == ["Carla: hello there", "SPEAKER_00: good morning"]


async def test_keys_act_on_the_utterance_that_was_clicked(page: Page, web: Web, transcript: str) -> None:
    await page.get_by_test_id("speaker").nth(1).click()
    await page.keyboard.press("Delete")
    await saved(page)

    assert await spoken(web, transcript) == ["SPEAKER_00: hello there"]


async def test_a_speaker_is_renamed_merged_and_separated_again(page: Page, web: Web, transcript: str) -> None:
    await rename(page, "SPEAKER_00", "Ana")
    await expect(page.get_by_test_id("speaker-item").first).to_contain_text("Ana")
    await saved(page)
    await rename(page, "SPEAKER_01", "Ana", "Merge")
    await expect(page.get_by_test_id("speaker-item")).to_have_count(1)
    await saved(page)
    assert await spoken(web, transcript) == ["Ana: hello there", "Ana: good morning"]

    await page.get_by_role("button", name="Undo").click()

    await expect(page.get_by_test_id("speaker-item")).to_have_count(2)
    assert await spoken(web, transcript) == ["Ana: hello there", "SPEAKER_01: good morning"]


async def test_changes_are_undone_and_done_again(page: Page, web: Web, transcript: str) -> None:
    await rewrite(page, 0, "changed")
    await page.locator('[data-index="1"]').focus()
    await page.keyboard.press("Delete")
    await expect(page.get_by_test_id("utterance")).to_have_count(1)
    await page.keyboard.press("Control+z")
    await expect(page.get_by_test_id("utterance")).to_have_count(2)
    await page.keyboard.press("Control+z")
    await expect(page.get_by_test_id("utterance").first).to_contain_text("hello there")
    await page.keyboard.press("Control+Shift+z")
    await expect(page.get_by_test_id("utterance").first).to_contain_text("changed")
    await saved(page)

    assert await spoken(web, transcript) == ["SPEAKER_00: changed", "SPEAKER_01: good morning"]


async def test_an_older_revision_is_viewed_and_restored(page: Page, web: Web, transcript: str) -> None:
    await rewrite(page, 0, "changed")
    await saved(page)
    await page.get_by_text("Revisions", exact=True).click()
    await page.get_by_role("button", name="View: 0").click()
    await expect(page.get_by_test_id("utterance").first).to_contain_text("hello there")
    await expect(page.get_by_role("button", name="Edit the text")).to_have_count(0)
    await page.get_by_role("button", name="Restore: 0").click()
    await expect(page.get_by_text("You see an older revision")).to_have_count(0)

    assert await spoken(web, transcript) == ["SPEAKER_00: hello there", "SPEAKER_01: good morning"]


async def test_edits_wait_for_the_connection(page: Page, watched: Watched, web: Web, transcript: str) -> None:
    watched.expected.append("ERR_CONNECTION_FAILED")
    await page.route(RESULT, refuse)
    await rewrite(page, 0, "written offline")
    await expect(page.get_by_test_id("save-state")).to_have_attribute("data-state", "offline")
    assert (await spoken(web, transcript))[0] == "SPEAKER_00: hello there"

    await page.unroute(RESULT)
    await saved(page)
    assert (await spoken(web, transcript))[0] == "SPEAKER_00: written offline"


async def test_edits_of_a_page_that_was_closed_are_saved_by_the_next_one(
    page: Page, watched: Watched, web: Web, transcript: str
) -> None:
    watched.expected.append("ERR_CONNECTION_FAILED")

    async def refuse_to_save(route: Route) -> None:
        if route.request.method == "PATCH":
            await route.abort("connectionfailed")
        else:
            await route.continue_()

    await page.route(RESULT, refuse_to_save)
    await rewrite(page, 0, "not saved yet")
    await expect(page.get_by_test_id("save-state")).to_have_attribute("data-state", "offline")
    await page.goto("about:blank")
    await page.unroute(RESULT)

    await page.goto(f"/jobs/{transcript}")
    await expect(page.get_by_test_id("utterance").first).to_contain_text("not saved yet")
    await saved(page)
    assert (await spoken(web, transcript))[0] == "SPEAKER_00: not saved yet"


async def test_two_pages_that_edit_at_once_lose_nothing(
    browser: Browser, page: Page, watched: Watched, web: Web, transcript: str
) -> None:
    watched.expected.append("412 (Precondition Failed)")
    async with watched_page(browser, web.url) as other:
        await other.page.goto(f"/jobs/{transcript}")
        await expect(other.page.get_by_test_id("utterance")).to_have_count(2)
        await rewrite(other.page, 1, "theirs")
        await saved(other.page)

        await rewrite(page, 1, "mine")
        await expect(page.get_by_test_id("conflict")).to_contain_text("1 change of yours")
        await page.get_by_role("button", name="Apply my changes again").click()

    await expect(page.get_by_test_id("refused")).to_contain_text("mine")
    assert await spoken(web, transcript) == ["SPEAKER_00: hello there", "SPEAKER_01: theirs"]


async def test_the_edit_of_somebody_else_is_told_and_both_are_kept(
    page: Page, watched: Watched, web: Web, transcript: str
) -> None:
    watched.expected.append("412 (Precondition Failed)")
    edit = {"type": "rename_speaker", "speaker": "SPEAKER_01", "new_name": "Bruno"}
    answer = await web.http.patch(f"/api/jobs/{transcript}/result", json={"edits": [edit]}, headers={"If-Match": '"0"'})
    assert answer.status_code == 200, answer.text

    await rewrite(page, 0, "mine")
    await expect(page.get_by_test_id("conflict")).to_contain_text("1 change of yours")
    assert await spoken(web, transcript) == ["SPEAKER_00: hello there", "Bruno: good morning"]
    await page.get_by_role("button", name="Apply my changes again").click()
    await saved(page)

    assert await spoken(web, transcript) == ["SPEAKER_00: mine", "Bruno: good morning"]


async def test_an_export_is_what_the_api_sends(page: Page, web: Web, transcript: str) -> None:
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Export as SRT").click()
    file = await download.value

    expected = await web.http.get(f"/api/jobs/{transcript}/result.srt")
    assert file.suggested_filename == "a call.srt"
    assert content(await file.path()) == expected.content


async def test_the_recording_comes_back_as_it_was(page: Page, transcript: str, recording: Path) -> None:
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Recording", exact=True).click()

    assert content(await (await download.value).path()) == content(recording)


async def test_a_voice_is_remembered(page: Page, web: Web, transcript: str) -> None:
    await page.get_by_role("button", name="Remember the voice of SPEAKER_00").click()
    await page.get_by_role("textbox", name="Remember this voice as").fill("Ana")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_text("The voice of Ana is saved.")).to_be_visible()

    assert [voice["name"] for voice in (await web.http.get("/api/voices")).json()["voices"]] == ["Ana"]


async def test_the_search_finds_words(page: Page, transcript: str) -> None:
    await page.locator('[data-index="0"]').focus()
    await page.keyboard.press("/")
    await page.keyboard.type("MORNING")

    await expect(page.get_by_test_id("matches")).to_have_text("1 of 1")
    await expect(page.locator(".found")).to_have_text("morning")


async def test_the_waveform_and_the_speakers_are_drawn(page: Page, transcript: str) -> None:
    """The loudness of the tone never changes, so the pictures are filled from the left to the right."""
    canvases = await page.get_by_test_id("timeline").locator("canvas").all()
    assert len(canvases) == 2
    for canvas in canvases:

        async def is_filled(canvas: Locator = canvas) -> bool:
            drawn: float = await canvas.evaluate(DRAWN_COLUMNS)
            return drawn > 0.99

        await eventually(is_filled)


async def test_what_a_browser_cannot_play_is_played_too(page: Page, web: Web) -> None:
    job = await ended(web, await submit(web, encoded("aiff", "pcm_s16be"), name="call.aiff"))
    await page.goto(f"/jobs/{job['id']}")
    await page.get_by_label("Speed").select_option("3")
    await page.locator('[data-index="0"]').focus()
    await page.keyboard.press("Space")

    await expect(page.get_by_test_id("time")).to_have_text("0:02 / 0:02")


async def test_a_remembered_voice_is_recognised(page: Page, transcript: str, tmp_path: Path) -> None:
    await page.get_by_role("button", name="Remember the voice of SPEAKER_00").click()
    await page.get_by_label("Remember this voice as").fill("Ana")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("The voice of Ana is saved.")).to_be_visible()
    other = tmp_path / "another call.wav"
    other.write_bytes(encoded("wav", "pcm_s16le"))

    await page.get_by_role("link", name="Start").click()
    await page.get_by_test_id("file-input").set_input_files(other)
    await page.get_by_test_id("submission").filter(has_text=other.name).get_by_role("link", name="Open").click()
    await expect(page.get_by_test_id("speaker-item").first).to_contain_text("Ana")
    await page.get_by_text("Saved voices").click()
    await page.get_by_role("button", name="Delete the voice of Ana").click()
    await expect(page.get_by_text("Saved voices")).to_have_count(0)
