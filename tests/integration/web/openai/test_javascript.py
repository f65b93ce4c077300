"""OpenAI's JavaScript client, in Node, against real services with scripted engines.

Installing the client takes more than ten seconds on a busy machine, because it has thousands of files.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from support.stack import Stack
from support.waiting import HANG_SECONDS
from support.web import Web

PROJECT = Path(__file__).parent / "javascript"

_PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
"""Where Node is: `make test` installs it beside Python."""


async def run(program: str, *arguments: str) -> str:
    """Runs a program of Node and returns what it prints."""
    process = await asyncio.create_subprocess_exec(
        shutil.which(program, path=_PATH) or program,
        *arguments,
        cwd=PROJECT,
        env=os.environ | {"PATH": _PATH, "NO_PROXY": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(HANG_SECONDS):
        printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return printed.decode()


@pytest.fixture
async def installed() -> None:
    """The client's package, in the version of the lock file."""
    if not (shutil.which("node", path=_PATH) and shutil.which("npm", path=_PATH)):
        pytest.skip("there is no Node: `make setup` installs it")
    await run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")


@pytest.mark.usefixtures("installed")
async def test_the_javascript_client(web: Web, stack: Stack, recording: tuple[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / recording[0]
    path.write_bytes(recording[1])

    seen: dict[str, Any] = json.loads(await run("node", "transcribe.mjs", f"{web.url}/v1", str(path)))

    text = "hello there good morning"
    assert seen["models"][:3] == ["fake@0123456789ab", "fake", "whisper-1"]
    assert seen["short"]["text"] == seen["verbose"]["text"] == seen["translation"]["text"] == text
    assert seen["text"] == f"{text}\n"
    assert [word["speaker"] for word in seen["verbose"]["words"]] == [*["SPEAKER_00"] * 2, *["SPEAKER_01"] * 2]
    assert "".join(event.get("delta", "") for event in seen["events"]) == text
    assert [event["speaker"] for event in seen["events"] if event["type"] == "transcript.text.segment"] == [
        "SPEAKER_00",
        "SPEAKER_01",
    ]
    assert seen["events"][-1]["text"] == text
    assert seen["error"] == {
        "class": "BadRequestError",
        "status": 400,
        "code": "unsupported_value",
        "param": "temperature",
    }
    assert ("Careca",) in [options.hotwords for options in stack.transcriber.engine.options]  # type: ignore[union-attr]
    assert 2 in [options.speaker_count for options in stack.diarizer.engine.options]  # type: ignore[union-attr]
