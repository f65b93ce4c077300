"""The commands for saved voices against a real gRPC server that keeps voices in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from careca_client import Voice, voice_json
from careca_client.cli.errors import ExitCode
from support.command_line import Careca
from support.scripted_gateway import GatewayFixture
from support.scripted_voices import SAVED_AT


def test_a_speaker_of_a_job_is_saved_listed_and_deleted(careca: Careca, gateway: GatewayFixture) -> None:
    saved = careca("voices", "save", "Ana de Sá", "--job", "0123abc", "--speaker", "SPEAKER_01", submitter="ana")

    assert (saved.exit_code, saved.stdout) == (ExitCode.OK, "Ana de Sá saved\n")
    assert gateway.voices.requests["ana"]["Ana de Sá"].job_speaker.speaker_label == "SPEAKER_01"
    table = careca("voices", "list", submitter="ana").stdout
    assert all(part in table for part in ("Ana de Sá", "0123abc", "voices@1"))
    assert json.loads(careca("voices", "list", "--json", submitter="ana").stdout) == [
        {"name": "Ana de Sá", "embedding_model": "voices@1", "create_unix": SAVED_AT, "job_id": "0123abc"}
    ]
    assert json.loads(careca("voices", "list", "--json", submitter="bob").stdout) == []
    assert careca("voices", "delete", "Ana de Sá", submitter="ana").stdout == "Ana de Sá deleted\n"
    assert gateway.voices.requests["ana"] == {}


def test_a_voice_from_a_file_is_saved(careca: Careca, gateway: GatewayFixture, tmp_path: Path) -> None:
    file = tmp_path / "bob.json"
    file.write_text(voice_json(Voice((0.5, -0.25), "voices@2")))

    assert careca("voices", "save", "Bob", "--file", file).exit_code == ExitCode.OK
    assert gateway.voices.requests["anonymous"]["Bob"].voice.embedding_model == "voices@2"


@pytest.mark.parametrize(
    "options",
    [(), ("--job", "1"), ("--speaker", "A"), ("--file", "a.json", "--job", "1", "--speaker", "A")],
    ids=["nothing", "only a job", "only a speaker", "both"],
)
def test_there_must_be_exactly_one_source(careca: Careca, options: tuple[str, ...]) -> None:
    result = careca("voices", "save", "Ana", *options)

    assert result.exit_code == ExitCode.USAGE
    assert "give either --job and --speaker, or --file" in " ".join(result.stderr.split())


def test_deleting_what_is_not_saved_is_refused_in_one_line(careca: Careca) -> None:
    result = careca("voices", "delete", "Nobody")

    assert result.exit_code == ExitCode.REFUSED
    (line,) = result.stderr.splitlines()
    assert "no voice is saved under this name" in line


@pytest.mark.parametrize("command", ["transcribe", "submit"])
def test_saved_voices_are_used_only_if_asked_for(
    careca: Careca, gateway: GatewayFixture, call: Path, command: str
) -> None:
    for options in ((), ("--saved-voices",)):
        assert careca(command, call, *options).exit_code == ExitCode.OK

    configs = [*gateway.script.configs, *(request.config for request in gateway.jobs.script.submissions)]
    assert {config.use_saved_voices for config in configs} == {True, False}
