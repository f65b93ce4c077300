"""What the system is, over HTTP."""

from __future__ import annotations

from support.tokens import Tokens
from support.web import Web, problem


async def test_the_system_describes_itself(web: Web) -> None:
    info = (await web.http.get("/api/info")).json()

    assert (info["requires_token"], info["takes_jobs"]) == (False, True)
    assert "fake@0123456789ab" in info["transcription_model"]
    assert info["formats"] == ["json", "txt", "srt", "vtt", "tsv", "rttm", "stm"]
    assert {"code": "pt", "name": "Portuguese"} in info["languages"]
    assert info["max_recording_bytes"] == 4 << 30


async def test_strangers_learn_nothing(guarded: Web, tokens: Tokens) -> None:
    assert problem(await guarded.http.get("/api/info"))[:2] == (401, "NO_TOKEN")
    async with guarded.as_caller(tokens.of["ana"]) as ana:
        assert (await ana.get("/api/info")).json()["requires_token"] is True
