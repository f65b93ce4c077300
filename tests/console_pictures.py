"""`make console-pictures`: takes the pictures in docs/console, from the real stack with real models."""

from __future__ import annotations

import asyncio
import io
import shutil
import tempfile
import wave
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser, Page, expect

from demo import sample
from local_stack import LocalStack
from support.browser import chromium, watched_page
from support.waiting import HANG_SECONDS

FOLDER = Path(__file__).parents[1] / "docs" / "console"
DESKTOP = {"width": 1200, "height": 760}
TALL = {"width": 1200, "height": 1100}
TELEPHONE = {"width": 390, "height": 760}
COLOURS = 64
"""More are not needed for letters and areas, and would make the files larger."""

NAMES = ("Board meeting.wav", "Interview with Ana.wav", "Call to Texas.wav")
"""As which the sample is uploaded. The last one, which is in the cache by then, is the transcript that is shown."""

LONG = 4
"""So many times the sample is the first recording, so that there is time for a picture of its progress."""

SETTINGS = {"CARECA_WHISPER_BATCH_SIZE": "1"}
"""Otherwise all text of such a short recording comes at once."""


async def main() -> None:
    """Writes all pictures."""
    expect.set_options(timeout=1000 * HANG_SECONDS)
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="careca-pictures-") as root:
        recordings = [Path(root) / name for name in NAMES]
        write_repeated(sample(), recordings[0], LONG)
        for recording in recordings[1:]:
            shutil.copy(sample(), recording)
        with LocalStack(Path(root) / "stack", environment=SETTINGS, web=True) as stack:
            async with chromium() as browser:
                await take(browser, stack.web_url, recordings)


async def take(browser: Browser, url: str, recordings: list[Path]) -> None:
    """Uses the console as a person does, and takes a picture of each page."""
    async with watched_page(browser, url, viewport=DESKTOP) as watched:
        page = watched.page
        await page.goto("/")
        await page.get_by_test_id("file-input").set_input_files(recordings[0])
        await expect(page.get_by_test_id("live-text")).to_contain_text("New Jersey")
        await picture(page, "start")
        for count, recording in enumerate(recordings[1:], start=2):
            await page.get_by_test_id("file-input").set_input_files(recording)
            await expect(page.locator("[data-testid=job-state][data-state=succeeded]")).to_have_count(count)

        await page.get_by_role("link", name="Open the transcript").first.click()
        for speaker, name in (("SPEAKER_00", "Diane"), ("SPEAKER_01", "Sheila")):
            await page.get_by_role("button", name=f"Rename {speaker}").click()
            await page.get_by_role("textbox", name="Name").fill(name)
            await page.keyboard.press("Enter")
        await expect(page.get_by_test_id("save-state")).to_have_attribute("data-state", "saved")
        await page.locator('[data-index="2"] [data-word="7"]').click()
        await page.keyboard.press("Space")
        await picture(page, "transcript")
        transcript = page.url

        await page.get_by_role("link", name="History").click()
        await expect(page.get_by_test_id("history-row")).to_have_count(len(recordings))
        await picture(page, "history")
        await page.get_by_role("link", name="Operators").click()
        await expect(page.get_by_test_id("cache-diarization")).to_be_visible()
        await page.set_viewport_size(TALL)
        await picture(page, "operators")
    async with watched_page(browser, url, viewport=TELEPHONE, has_touch=True, color_scheme="dark") as watched:
        await watched.page.goto(transcript)
        await expect(watched.page.get_by_test_id("utterance").first).to_be_visible()
        await picture(watched.page, "telephone")


def write_repeated(source: Path, target: Path, times: int) -> None:
    """Writes a WAV file that has the audio of ``source`` several times."""
    with wave.open(str(source)) as reader, wave.open(str(target), "wb") as writer:
        writer.setparams(reader.getparams())
        writer.writeframes(times * reader.readframes(reader.getnframes()))


async def picture(page: Page, name: str) -> None:
    """Writes what the page shows now as a small PNG."""
    taken = Image.open(io.BytesIO(await page.screenshot(animations="disabled", caret="hide")))
    taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    asyncio.run(main())
