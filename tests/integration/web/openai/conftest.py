"""OpenAI's own client of the web service. It refuses every response that its types do not describe."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest

from support.media import tone, wav
from support.openai_client import openai_client
from support.web import Web


@pytest.fixture
def recording() -> tuple[str, bytes]:
    """Two seconds of sound, with a file name."""
    return "call.wav", wav(tone(2.0))


@pytest.fixture
async def client(web: Web) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai_client(web.url) as client:
        yield client
