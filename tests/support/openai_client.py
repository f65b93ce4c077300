"""OpenAI's own client, strict about what it receives."""

from __future__ import annotations

from typing import Any

import openai

from support.waiting import HANG_SECONDS


def openai_client(url: str, **options: Any) -> openai.AsyncOpenAI:
    """Returns a client of the web service at ``url`` that raises for a response unlike its types. It never retries."""
    defaults: dict[str, Any] = {
        "api_key": "none",
        "max_retries": 0,
        "timeout": HANG_SECONDS,
        # Without the certificates of the system, which takes time to read.
        "http_client": openai.DefaultAsyncHttpxClient(trust_env=False, verify=not url.startswith("http:")),
        "_strict_response_validation": True,
    }
    return openai.AsyncOpenAI(base_url=f"{url}/v1", **(defaults | options))
