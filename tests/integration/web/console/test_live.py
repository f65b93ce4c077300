"""Live: captions while somebody speaks into the microphone, and the transcript at the end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, WebSocketRoute, expect

from support import browser as browser_support
from support.browser import assert_accessible, chromium
from support.live import Said, spoken, spoken_stack, spoken_words, wav_of, word
from support.redis_server import RedisServer
from support.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

GRAIN = 500
"""Browsers convert the audio, so that amplitudes change a little."""

TALK: list[Said | float] = [
    1.5,
    *(word(0, GRAIN * number) for number in range(1, 7)),
    1.2,
    *(word(1, GRAIN * number) for number in range(1, 7)),
    1.5,
]
TEXTS = [each.text for each in spoken_words(TALK)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """Its microphone hears the talk once."""
    path = tmp_path_factory.mktemp("microphone") / "talk.wav"
    path.write_bytes(wav_of(spoken(TALK, flat=True)))
    with pytest.MonkeyPatch.context() as patch:
        heard = f"--use-file-for-fake-audio-capture={path}%noloop"
        patch.setattr(browser_support, "_ARGUMENTS", (*browser_support._ARGUMENTS, heard))
        async with chromium() as browser:
            yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    redis_server = RedisServer()
    redis_server.start()
    try:
        async with spoken_stack(tmp_path_factory.mktemp("stack"), redis_server.url, GRAIN) as stack:
            yield stack
    finally:
        redis_server.stop()


async def start(page: Page) -> None:
    await page.goto("/live")
    await page.get_by_role("button", name="Start").click()
    await expect(page.get_by_test_id("live-state")).to_have_attribute("data-state", "live")


async def words_in(page: Page, test_id: str) -> list[str]:
    """The words in all elements with this id. The first word may have begun before the browser listened."""
    return re.findall(r"w\d+", " ".join(await page.get_by_test_id(test_id).all_inner_texts()))


async def test_captions_come_while_somebody_speaks_and_end_as_a_transcript(page: Page) -> None:
    await start(page)

    await expect(page.get_by_test_id("interim")).to_contain_text("w")
    await expect(page.get_by_test_id("floor")).to_contain_text("SPEAKER_01 speaks")
    await expect(page.get_by_test_id("captions")).to_contain_text(TEXTS[-1])
    for number in range(2):
        name = page.get_by_test_id("speaker").filter(has_text=f"SPEAKER_0{number}").first
        await expect(name).to_have_class(re.compile(f"speaker-colour-{number}"))
    assert await words_in(page, "caption") == TEXTS
    await assert_accessible(page)
    await page.get_by_role("button", name="Stop").click()

    await page.wait_for_url("**/jobs/*")
    await expect(page.get_by_test_id("utterance")).to_have_count(2)
    assert await words_in(page, "utterance") == TEXTS
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Live")


async def test_a_lost_connection_loses_no_word(page: Page) -> None:
    connections: list[WebSocketRoute] = []

    async def pass_on(route: WebSocketRoute) -> None:
        connections.append(route)
        server = route.connect_to_server()
        sent = 0

        async def from_page(message: str | bytes) -> None:
            nonlocal sent
            sent += isinstance(message, bytes)
            server.send(message)
            if len(connections) == 1 and sent == 30:
                await server.close()
                await route.close()

        route.on_message(from_page)

    await page.route_web_socket("**/api/live", pass_on)
    await start(page)
    await expect(page.get_by_test_id("captions")).to_contain_text(TEXTS[-1])
    await page.get_by_role("button", name="Stop").click()

    await page.wait_for_url("**/jobs/*")
    await expect(page.get_by_test_id("utterance")).to_have_count(2)
    assert await words_in(page, "utterance") == TEXTS
    assert len(connections) == 2


async def test_nothing_is_sent_in_a_pause(page: Page) -> None:
    await start(page)
    await expect(page.get_by_test_id("captions")).to_contain_text(TEXTS[2])
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_test_id("live-state")).to_have_text("Paused")
    await page.wait_for_timeout(6000)  # the rest of the talk
    await page.get_by_role("button", name="Continue").click()
    await page.get_by_role("button", name="Stop").click()

    await page.wait_for_url("**/jobs/*")
    await expect(page.get_by_test_id("utterance").first).to_be_visible()
    heard = await words_in(page, "utterance")
    assert heard == TEXTS[: len(heard)]
    assert TEXTS[-1] not in heard


async def test_who_leaves_the_page_finds_the_talk_in_the_history(page: Page) -> None:
    await start(page)
    await expect(page.get_by_test_id("captions")).to_contain_text(TEXTS[2])
    await page.get_by_role("link", name="History").click()

    await expect(page.get_by_role("main").get_by_role("link", name=re.compile("^Live"))).to_be_visible()


async def test_the_microphone_may_be_refused(page: Page) -> None:
    await page.add_init_script(
        "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('no', 'NotAllowedError') }"
    )
    await page.goto("/live")
    await page.get_by_role("button", name="Start").click()

    await expect(page.get_by_role("alert")).to_contain_text("microphone cannot be used")
    await expect(page.get_by_role("button", name="Start")).to_be_enabled()
    await assert_accessible(page)


async def test_what_the_server_refuses_is_told(page: Page) -> None:
    await page.goto("/live")
    await page.get_by_text("Options", exact=True).click()
    await page.get_by_label("Words that are likely").fill(", ".join(f"word {number}" for number in range(101)))
    await page.get_by_role("button", name="Start").click()

    await expect(page.get_by_role("alert")).to_contain_text("hotwords")
    await expect(page.get_by_role("button", name="Start")).to_be_enabled()
