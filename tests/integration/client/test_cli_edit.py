"""Corrections with both clients and with the command line, at a real gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from careca.errors import InvalidRequest, PreconditionFailed
from careca.types import Utterance, Word
from careca_client import AsyncClient, RenameSpeaker, ReplaceUtterances, read_transcript
from careca_client.cli.app import build_app
from careca_client.cli.errors import ExitCode
from support.clients import Connect, EitherClient
from support.redis_server import RedisServer
from support.stack import Stack
from support.submitters import RECORDING


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    async with Stack(tmp_path / "stack", redis_server.url, jobs=True) as stack:
        yield stack


@pytest.fixture
async def job(stack: Stack) -> str:
    """The id of a job that has ended."""
    async with AsyncClient(stack.target) as client:
        submitted = await client.submit(RECORDING, display_name="call.wav")
        async for _ in client.watch(submitted.id):
            pass
    return submitted.id


@pytest.fixture
def editor(connect: Connect, stack: Stack) -> EitherClient:
    return connect(stack.target)


@dataclass
class Command:
    """Runs the command in this process, in a thread. What the services log meanwhile is not in its output."""

    target: str

    async def __call__(self, *arguments: object) -> tuple[int, str, str]:
        with capture_logs():
            result = await asyncio.to_thread(
                CliRunner().invoke, build_app(), list(map(str, arguments)), env={"CARECA_GATEWAY": self.target}
            )
        return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def careca(stack: Stack) -> Command:
    return Command(stack.target)


async def test_both_clients_correct_list_and_restore(editor: EitherClient, job: str) -> None:
    result = await editor.job_result(job)
    changed = replace(result.utterances[0], text="Hello there!")

    saved = await editor.save_transcript(
        job, [ReplaceUtterances(0, 1, (changed,)), RenameSpeaker("SPEAKER_00", "Ana")], base_revision=result.revision
    )
    restored = await editor.restore_revision(job, 0, base_revision=1)

    assert saved.splices[0].utterances[0].text == "Hello there!"
    assert await editor.revisions(job) == (saved.revision, restored)
    first = await editor.job_result(job, revision=1)
    assert (first.revision, first.utterances[0].speaker, first.utterances[0].text) == (1, "Ana", "Hello there!")
    assert (await editor.job_result(job)).utterances == result.utterances
    with pytest.raises(PreconditionFailed) as caught:
        await editor.save_transcript(job, [RenameSpeaker("SPEAKER_00", "Ana")], base_revision=0)
    assert caught.value.metadata["newest_revision"] == "2"


async def test_speakers_are_renamed_and_merged(careca: Command, job: str) -> None:
    renamed = await careca("edit", job, "--rename", "SPEAKER_00=Ana", "--rename", "SPEAKER_01=Bob")
    refused = await careca("edit", job, "--rename", "Bob=Ana")
    merged = await careca("edit", job, "--rename", "Bob=Ana", "--merge")
    listed = await careca("revisions", job)
    text = await careca("result", job, "--format", "txt")

    assert renamed == (ExitCode.OK, "revision 1: renamed SPEAKER_00 to Ana; renamed SPEAKER_01 to Bob\n", "")
    assert refused[0] == ExitCode.REFUSED
    assert "set merge" in refused[2]
    assert merged == (ExitCode.OK, "revision 2: renamed Bob to Ana\n", "")
    assert [line.split()[0] for line in listed[1].splitlines()[2:]] == ["1", "2"]
    assert [line.split("] ")[1] for line in text[1].splitlines()] == ["Ana: hello there", "Ana: good morning"]


async def test_an_edited_result_is_imported(careca: Command, job: str, tmp_path: Path) -> None:
    path = tmp_path / "call.json"
    await careca("result", job, "--output", path)
    document = json.loads(path.read_text())
    document["utterances"][1]["text"] = "good evening"
    path.write_text(json.dumps(document))

    imported = await careca("edit", job, "--import", path, "--rename", "SPEAKER_01=Bob", "--json")
    again = await careca("edit", job, "--import", path)
    forced = await careca("edit", job, "--import", path, "--base", "1")
    original = await careca("result", job, "--revision", "original", "--format", "json")
    newest = await careca("result", job, "--format", "json")

    assert imported[0] == ExitCode.OK
    assert json.loads(imported[1])["summary"] == "renamed SPEAKER_01 to Bob; 1 utterance changed"
    assert again[0] == ExitCode.FAILED
    assert "newest revision is 1" in again[2]
    assert forced[0] == ExitCode.OK
    before, after = json.loads(original[1]), json.loads(newest[1])
    assert (before["revision"], after["revision"]) == (0, 2)
    assert before["utterances"][1]["text"] == "good morning"
    assert after["utterances"][1]["words"][1] == before["utterances"][1]["words"][1] | {
        "text": "evening",
        "probability": None,
        "speaker": "Bob",
    }
    assert after["utterances"][0] == before["utterances"][0]
    assert [(turn["start"], turn["end"]) for turn in after["turns"]] == [
        (turn["start"], turn["end"]) for turn in before["turns"]
    ]


async def test_a_revision_is_restored_and_shown(careca: Command, job: str) -> None:
    await careca("edit", job, "--rename", "SPEAKER_00=Ana")

    restored = await careca("edit", job, "--restore", "original")
    first = await careca("result", job, "--revision", "1", "--format", "txt")
    missing = await careca("result", job, "--revision", "7")

    assert restored == (ExitCode.OK, "revision 2: restored what was recognised\n", "")
    assert "Ana: hello there" in first[1]
    assert missing[0] == ExitCode.REFUSED
    assert "there is no revision 7" in missing[2]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--merge",),
        ("--rename", "Ana"),
        ("--rename", "=Ana"),
        ("--rename", "Ana="),
        ("--restore", "first"),
        ("--restore", "-1"),
        ("--restore", "1", "--rename", "A=B"),
        ("--import", "/does/not/exist.json"),
    ],
)
async def test_a_wrong_command_line_is_refused_before_anything_is_changed(arguments: tuple[str, ...]) -> None:
    code, _, errors = await Command("127.0.0.1:1")("edit", "job", *arguments)

    assert code == ExitCode.USAGE
    assert errors


async def test_a_file_without_a_revision_needs_the_base(careca: Command, job: str, tmp_path: Path) -> None:
    path = tmp_path / "call.json"
    path.write_text(json.dumps({"utterances": [{"start": 0, "end": 1, "text": "All is new.", "speaker": "Ana"}]}))

    without = await careca("edit", job, "--import", path)
    based = await careca("edit", job, "--import", path, "--base", "original")
    text = await careca("result", job, "--format", "txt")

    assert without[0] == ExitCode.REFUSED
    assert "--base" in without[2]
    assert based[0] == ExitCode.OK
    assert text[1].endswith("Ana: All is new.\n")


def test_a_transcript_is_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "call.json"
    word = {"text": "Hi", "start": 0.5, "end": 1, "probability": 0.5, "speaker": "Ana"}
    utterance = {"start": 0.5, "end": 1, "text": "Hi", "speaker": None, "language": "en", "words": [word]}
    path.write_text(json.dumps({"revision": 3, "utterances": [utterance], "other": 1}))

    transcript = read_transcript(path)

    assert transcript.revision == 3
    assert transcript.utterances == (Utterance(0.5, 1.0, "Hi", None, (Word("Hi", 0.5, 1.0, 0.5),), "en"),)


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        "{}",
        '{"utterances": 5}',
        '{"utterances": [], "revision": "new"}',
        '{"utterances": [5]}',
        '{"utterances": [{"start": 0, "text": "x"}]}',
        '{"utterances": [{"start": 0, "end": null, "text": "x"}]}',
        '{"utterances": [{"start": 0, "end": NaN, "text": "x"}]}',
        '{"utterances": [{"start": 0, "end": 1e300, "text": "x"}]}',
        '{"utterances": [{"start": 0, "end": 1, "text": 5}]}',
        '{"utterances": [{"start": 0, "end": 1, "text": "\\ud800"}]}',
        '{"utterances": [{"start": 0, "end": 1, "text": "x", "speaker": 1}]}',
        '{"utterances": [{"start": 0, "end": 1, "text": "x", "words": [{}]}]}',
        '{"utterances": [{"start": 0, "end": 1, "text": "x", "words": 5}]}',
        pytest.param("[" * 100_000, id="nested too deeply"),
    ],
)
def test_a_file_that_is_no_transcript_is_refused(document: Any, tmp_path: Path) -> None:
    path = tmp_path / "call.json"
    path.write_text(document)

    with pytest.raises(InvalidRequest, match=r"call\.json"):
        read_transcript(path)
