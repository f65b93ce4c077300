"""The command line against a real gRPC server that follows a script."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import Result

from careca import codec
from careca.errors import (
    CarecaError,
    DeadlineExceeded,
    InternalError,
    InvalidRecording,
    OutOfMemory,
    Overloaded,
    PreconditionFailed,
)
from careca.types import AudioTrack, AudioTracks, ClearScope, Notice, NoticeCode, OutputFormat, Stage
from careca.v1 import gateway_pb2
from careca_client.cli.errors import WORST_FIRST, ExitCode, worst
from careca_client.cli.output.files import plan_names
from support.clients import NOWHERE
from support.command_line import CARECA, Careca, read_until, recording
from support.redis_server import free_port
from support.scripted_gateway import SPEAKERS, GatewayFixture
from support.waiting import HANG_SECONDS


def lines_for(result: Result, recording: Path) -> list[str]:
    """Returns the lines about one recording."""
    return [line for line in result.stderr.splitlines() if line.startswith(f"careca: {recording}: ")]


def test_without_a_format_the_utterances_are_printed_one_a_line(careca: Careca, call: Path) -> None:
    result = careca("transcribe", call)

    assert result.exit_code == ExitCode.OK
    assert result.stdout.splitlines() == [
        "[00:00:00.000 - 00:00:01.000] SPEAKER_00: Hello.",
        "[00:00:01.000 - 00:00:02.500] SPEAKER_01: Olá, você!",
    ]


@pytest.mark.parametrize("chosen", list(OutputFormat))
def test_with_a_format_stdout_is_that_text_and_nothing_else(careca: Careca, call: Path, chosen: OutputFormat) -> None:
    result = careca("transcribe", call, "--format", chosen)

    assert result.exit_code == ExitCode.OK
    assert result.stdout == f"{chosen} of call.wav\n"


def test_stderr_shows_progress_and_where_the_result_came_from(careca: Careca, call: Path) -> None:
    first, second = careca("transcribe", call), careca("transcribe", call)

    assert lines_for(first, call)[0].endswith(f"uploading {call.stat().st_size} bytes")
    assert f"careca: {call}: transcribe 50 %" in first.stderr
    assert "transcribe computed in 1.5 s, diarize computed in 1.5 s" in lines_for(first, call)[-1]
    assert "the gateway has this recording already" in second.stderr
    assert "transcribe from the cache, diarize from the cache, nothing uploaded" in lines_for(second, call)[-1]


def test_progress_without_a_terminal_is_plain_lines(careca: Careca, call: Path) -> None:
    result = careca("transcribe", call)

    assert "\x1b" not in result.stdout + result.stderr
    assert "\r" not in result.stderr
    assert all(line.startswith("careca: ") for line in result.stderr.splitlines())


def test_quiet_leaves_stderr_empty_without_an_error(careca: Careca, call: Path) -> None:
    result = careca("transcribe", "--quiet", call)

    assert result.stderr == ""
    assert result.stdout != ""


def test_all_options_reach_the_gateway(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    options = "--language en --translate --prompt Careca --hotword New --hotword Jersey --beam-size 3"
    more = "--min-speakers 2 --max-speakers 4 --skip-cache --timeout 60 --format json"

    assert careca("transcribe", call, *options.split(), *more.split()).exit_code == ExitCode.OK

    (config,) = gateway.script.configs
    assert config.transcription.language_code == "en"
    assert config.transcription.translate
    assert config.transcription.initial_prompt == "Careca"
    assert list(config.transcription.hotwords) == ["New", "Jersey"]
    assert config.transcription.beam_size == 3
    assert (config.diarization.min_speaker_count, config.diarization.max_speaker_count) == (2, 4)
    assert config.cache_control.skip_cache
    assert 0 < (gateway.script.deadlines[0] or 0) <= 60


def test_known_speakers_are_recordings_or_saved_voices(
    careca: Careca, gateway: GatewayFixture, call: Path, tmp_path: Path
) -> None:
    ana = recording(tmp_path / "ana.wav")

    saved = careca("voice", ana, "-o", tmp_path / "bob.json")
    result = careca(
        "transcribe", call, "--known-speaker", f"Ana={ana}", "--known-speaker", f"Bob B={tmp_path}/bob.json"
    )

    assert (saved.exit_code, saved.stdout, result.exit_code) == (ExitCode.OK, "", ExitCode.OK)
    one, other = gateway.script.configs[-1].known_speakers
    assert (one.name, one.recording) == ("Ana", ana.read_bytes())
    assert (other.name, tuple(other.voice.embedding)) == ("Bob B", SPEAKERS[0].embedding)
    assert other.voice.embedding_model == SPEAKERS[0].embedding_model


def test_the_voice_of_the_only_speaker_goes_to_stdout_without_a_file(
    careca: Careca, gateway: GatewayFixture, call: Path
) -> None:
    result = careca("voice", call)

    assert json.loads(result.stdout) == {"embedding_model": "voices@1", "embedding": [0.5, -0.5]}
    assert gateway.script.configs[-1].diarization.speaker_count == 1


def test_a_speaker_of_a_json_result_is_a_voice(
    careca: Careca, gateway: GatewayFixture, call: Path, tmp_path: Path
) -> None:
    file = tmp_path / "speaker.json"
    file.write_text('{"label": "SPEAKER_01", "name": null, "embedding": [0.25, 0.75], "embedding_model": "voices@1"}')

    assert careca("transcribe", call, "--known-speaker", f"Ana={file}").exit_code == ExitCode.OK

    assert tuple(gateway.script.configs[-1].known_speakers[0].voice.embedding) == (0.25, 0.75)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        '{"embedding": [1]}',
        '{"embedding": ["x"], "embedding_model": "m"}',
        pytest.param("[" * 100_000, id="nested too deeply"),
    ],
)
def test_a_file_that_is_not_a_voice_is_refused_in_one_line(
    careca: Careca, call: Path, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "ana.json"
    file.write_text(text)

    result = careca("transcribe", call, "--known-speaker", f"Ana={file}")

    assert result.exit_code == ExitCode.REFUSED
    (line,) = result.stderr.splitlines()
    assert f"{file} is not a voice" in line


def test_a_known_speaker_with_a_missing_file_is_refused_before_anything_is_sent(
    careca: Careca, gateway: GatewayFixture, call: Path, tmp_path: Path
) -> None:
    for name in ("ana.wav", "ana.json"):
        result = careca("transcribe", call, call, "--known-speaker", f"Ana={tmp_path / name}")

        assert result.exit_code == ExitCode.REFUSED
        (line,) = result.stderr.splitlines()
        assert f"there is no {tmp_path / name}" in line
    assert gateway.script.configs == []


@pytest.mark.parametrize("argument", ["Ana", "=ana.wav", "Ana="])
def test_a_known_speaker_without_a_name_or_a_file_is_a_usage_error(
    careca: Careca, gateway: GatewayFixture, call: Path, argument: str
) -> None:
    assert careca("transcribe", call, "--known-speaker", argument).exit_code == ExitCode.USAGE
    assert gateway.script.configs == []


def test_a_saved_voice_is_replaced_only_with_overwrite(
    careca: Careca, gateway: GatewayFixture, call: Path, tmp_path: Path
) -> None:
    file = tmp_path / "ana.json"
    file.write_text("mine")

    assert careca("voice", call, "-o", file).exit_code == ExitCode.REFUSED
    assert gateway.script.configs == []
    assert file.read_text() == "mine"
    assert careca("voice", call, "-o", file, "--overwrite").exit_code == ExitCode.OK
    assert json.loads(file.read_text())["embedding_model"] == "voices@1"


def test_without_a_speaker_there_is_no_voice_and_no_file(
    careca: Careca, gateway: GatewayFixture, call: Path, tmp_path: Path
) -> None:
    gateway.script.failed_stage = Stage.DIARIZE

    result = careca("voice", call, "-o", tmp_path / "ana.json")

    assert result.exit_code == ExitCode.FAILED
    assert "diarize failed: the device has too little memory" in result.stderr
    assert not (tmp_path / "ana.json").exists()


def test_a_voice_is_saved_even_if_the_transcription_failed(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    gateway.script.failed_stage = Stage.TRANSCRIBE

    assert json.loads(careca("voice", call).stdout)["embedding"] == [0.5, -0.5]


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [
        ((), gateway_pb2.CHANNEL_MODE_MIX),
        (("--channels", "mix", "--speakers", "2"), gateway_pb2.CHANNEL_MODE_MIX),
        (("--channels", "separate"), gateway_pb2.CHANNEL_MODE_SEPARATE),
    ],
)
def test_channels_are_mixed_by_default(
    careca: Careca, gateway: GatewayFixture, call: Path, arguments: Sequence[str], mode: int
) -> None:
    assert careca("transcribe", call, *arguments).exit_code == ExitCode.OK

    assert [config.channel_mode for config in gateway.script.configs] == [mode]


@pytest.mark.parametrize(
    ("arguments", "track"),
    [
        ((), AudioTracks.AUTO),
        (("--audio-track", "auto"), AudioTracks.AUTO),
        (("--audio-track", "all"), AudioTracks.ALL),
        (("--audio-track", "EACH"), AudioTracks.EACH),
        (("--audio-track", "2"), 2),
        (("--audio-track", "2", "--channels", "separate"), 2),
    ],
)
def test_audio_tracks_are_chosen_by_number_or_name(
    careca: Careca, gateway: GatewayFixture, call: Path, arguments: Sequence[str], track: AudioTrack
) -> None:
    assert careca("transcribe", call, *arguments).exit_code == ExitCode.OK

    assert [codec.decode_audio_track(config) for config in gateway.script.configs] == [track]


@pytest.mark.parametrize("command", ["transcribe", "submit"])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--audio-track", "0"), "neither a number from 1 to 999 nor one of all, each and auto"),
        (("--audio-track", "1000"), "neither a number"),
        (("--audio-track", "second"), "second is neither"),
        (("--audio-track", "each", "--speakers", "2"), "--audio-track each makes each track a speaker"),
        (("--audio-track", "all", "--channels", "separate"), "cannot be combined with --channels separate"),
    ],
)
def test_an_invalid_audio_track_is_refused_before_any_work(
    careca: Careca, gateway: GatewayFixture, call: Path, command: str, arguments: Sequence[str], told: str
) -> None:
    result = careca(command, call, *arguments)

    assert result.exit_code == ExitCode.USAGE
    assert told in " ".join(result.stderr.replace("│", " ").split())
    assert gateway.script.configs == []


def test_several_recordings_are_printed_in_the_order_of_the_arguments(careca: Careca, tmp_path: Path) -> None:
    calls = [recording(tmp_path / f"{number}.wav") for number in range(6)]

    result = careca("transcribe", *calls, "--concurrency", "6", "-f", "txt")

    assert result.stdout == "".join(f"txt of {call.name}\n" for call in calls)


def test_utterances_of_several_recordings_stand_under_their_names(careca: Careca, tmp_path: Path) -> None:
    calls = [recording(tmp_path / "a.wav"), recording(tmp_path / "b.wav")]

    result = careca("transcribe", *calls)

    headers = [line for line in result.stdout.splitlines() if line.startswith("==>")]
    assert headers == [f"==> {call} <==" for call in calls]


def test_an_output_dir_gets_one_file_per_recording_and_format(careca: Careca, tmp_path: Path) -> None:
    calls = [recording(tmp_path / "a.wav"), recording(tmp_path / "b.mp3")]

    result = careca("transcribe", *calls, "-f", "json", "-f", "srt", "-o", tmp_path / "out" / "deep")

    assert result.exit_code == ExitCode.OK
    assert result.stdout == ""
    assert {path.name: path.read_text() for path in (tmp_path / "out" / "deep").iterdir()} == {
        "a.json": "json of a.wav\n",
        "a.srt": "srt of a.wav\n",
        "b.json": "json of b.mp3\n",
        "b.srt": "srt of b.mp3\n",
    }


def test_output_files_of_recordings_with_the_same_name_never_collide(careca: Careca, tmp_path: Path) -> None:
    calls = [recording(tmp_path / name) for name in ("x/call.wav", "x/call.mp3", "y/call.mp3", "y/CALL.MP3", "y/b.wav")]

    result = careca("transcribe", *calls, "-f", "txt", "-o", tmp_path / "out")

    assert result.exit_code == ExitCode.OK
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "call.wav.txt": "txt of call.wav\n",
        "call.mp3.txt": "txt of call.mp3\n",
        "call.mp3-2.txt": "txt of call.mp3\n",
        "CALL.MP3-3.txt": "txt of CALL.MP3\n",
        "b.txt": "txt of b.wav\n",
    }


def test_an_output_never_replaces_a_recording_even_with_overwrite(careca: Careca, tmp_path: Path) -> None:
    odd = recording(tmp_path / "call.txt")
    content = odd.read_bytes()

    result = careca("transcribe", odd, "-f", "txt", "-o", tmp_path, "--overwrite")

    assert result.exit_code == ExitCode.OK
    assert odd.read_bytes() == content
    assert (tmp_path / "call.txt.txt").read_text() == "txt of call.txt\n"


@pytest.mark.parametrize(
    ("names", "planned"),
    [
        (["a.wav"], ["a"]),
        (["a.wav", "a.wav"], ["a.wav", "a.wav-2"]),
        (["a.wav", "a.mp3", "a.wav.ogg"], ["a.wav", "a.mp3", "a.wav.ogg"]),
        ([".hidden", "noextension"], [".hidden", "noextension"]),
        (["stdin", "stdin.wav"], ["stdin", "stdin.wav"]),
    ],
)
def test_names_of_outputs_are_all_different(names: list[str], planned: list[str]) -> None:
    found = plan_names(names, list(OutputFormat), [])

    assert found == planned
    assert len({name.casefold() for name in found}) == len(names)


def test_a_folder_stands_for_the_recordings_in_it(careca: Careca, gateway: GatewayFixture, tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    for name in ("b.wav", "a.MP3", "deep/er/c.mkv", "notes.txt", "deep/.hidden.wav", "e"):
        recording(folder / name)

    printed = careca("transcribe", folder, folder / "b.wav", folder / "e", "-f", "txt")
    written = careca("transcribe", folder, "-f", "srt", "-f", "txt", "-o", tmp_path / "out")

    assert printed.stdout == "".join(f"txt of {name}\n" for name in ("a.MP3", "b.wav", "c.mkv", "e"))
    assert printed.exit_code == written.exit_code == ExitCode.OK
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{stem}.{form}" for stem in "abc" for form in ("srt", "txt")
    }


def test_a_folder_of_several_recordings_needs_an_output_folder_as_files_do(
    careca: Careca, gateway: GatewayFixture, tmp_path: Path
) -> None:
    recording(tmp_path / "a.wav")
    assert careca("transcribe", tmp_path, "-f", "srt").stdout == "srt of a.wav\n"
    recording(tmp_path / "b.wav")

    result = careca("transcribe", tmp_path, "-f", "srt")

    assert result.exit_code == ExitCode.USAGE
    assert "needs --output-dir" in result.stderr


def usage_error(result: Result) -> str:
    """Returns the message of a usage error in one line."""
    assert result.exit_code == ExitCode.USAGE
    return " ".join(result.stderr.split())


@pytest.mark.parametrize("command", ["transcribe", "voice", "result"])
def test_a_folder_that_cannot_be_created_is_reported_before_anything_is_sent(
    careca: Careca, gateway: GatewayFixture, call: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").touch()
    option, about = ("--output-dir", call) if command == "transcribe" else ("--output", call)
    if command == "result":
        about = careca("submit", call).stdout.strip()
    gateway.script.recordings.clear()
    end = {"voice": "/ana.json", "result": "/"}.get(command, "")

    for folder in ("file", "file/deep/er") if command != "result" else ("file/deep",):
        said = usage_error(careca(command, about, option, f"{tmp_path}/{folder}{end}"))
        assert f"nothing can be written to the folder {tmp_path}/{folder.removesuffix('/')}" in said
        assert option in said
        if command == "transcribe":
            assert f"it cannot be created: {tmp_path}/file is a file" in said
    assert gateway.script.configs == []
    assert gateway.script.recordings == {}


def test_a_file_for_a_result_in_a_missing_folder_is_reported(careca: Careca, call: Path, tmp_path: Path) -> None:
    job = careca("submit", call).stdout.strip()

    said = usage_error(careca("result", job, "-o", tmp_path / "none" / "call.srt"))

    assert f"the folder {tmp_path}/none: it does not exist" in said


def test_a_folder_without_write_permission_is_reported_before_anything_is_sent(gateway: GatewayFixture) -> None:
    """Runs as another user if this one is the superuser, who may write everywhere."""
    as_nobody = "import os; from careca_client.cli import main; os.geteuid() or os.setuid(65534); main()"

    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder, call = Path(place) / "locked", recording(Path(place) / "call.wav")
        folder.mkdir(mode=0o555)
        for output, why in (
            (folder, "check its permissions"),
            (folder / "deep", "it cannot be created: Permission denied"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", as_nobody, "transcribe", call, "-o", output, "--gateway", gateway.target],
                capture_output=True,
                text=True,
                check=False,
                timeout=HANG_SECONDS,
            )
            assert done.returncode == ExitCode.USAGE, done.stderr
            assert f"the folder {output}: {why}" in " ".join(done.stderr.split())
    assert gateway.script.configs == []


def test_existing_outputs_are_replaced_only_with_overwrite(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    target = call.with_suffix(".txt")
    target.write_text("mine")

    refused = careca("transcribe", call, "-o", call.parent)
    asked = len(gateway.script.configs)
    replaced = careca("transcribe", call, "-o", call.parent, "--overwrite")

    assert refused.exit_code == ExitCode.REFUSED
    assert "exists already" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert asked == 0
    assert replaced.exit_code == ExitCode.OK
    assert target.read_text() == "txt of call.wav\n"
    assert sorted(path.name for path in call.parent.iterdir()) == ["call.txt", "call.wav"]


def test_the_standard_input_is_a_recording(careca: Careca, gateway: GatewayFixture) -> None:
    result = careca("transcribe", "-", "-f", "txt", stdin=b"RIFF from a pipe")

    assert result.stdout == "txt of stdin\n"
    assert list(gateway.script.recordings.values()) == [b"RIFF from a pipe"]


def test_a_real_pipe_is_spooled_and_transcribed_beside_a_file(gateway: GatewayFixture, call: Path) -> None:
    done = subprocess.run(
        [*CARECA, "transcribe", "-", str(call), "-f", "txt", "--gateway", gateway.target],
        input=b"RIFF from a pipe",
        capture_output=True,
        check=False,
        timeout=HANG_SECONDS,
    )

    assert done.stdout == b"txt of stdin\ntxt of call.wav\n"
    assert done.returncode == ExitCode.OK
    assert b"RIFF from a pipe" in gateway.script.recordings.values()


def test_a_file_that_cannot_be_used_is_named_before_anything_is_sent(
    careca: Careca, gateway: GatewayFixture, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.wav"
    empty.touch()
    (tmp_path / "deep").mkdir()

    for path, message in (
        (tmp_path / "nothing.wav", "there is no"),
        (tmp_path / "deep", "there is no recording in"),
        (empty, "is empty"),
    ):
        result = careca("transcribe", path)
        (line,) = result.stderr.splitlines()

        assert result.exit_code == ExitCode.REFUSED
        assert line.startswith("careca: ")
        assert message in line
        assert result.stdout == ""
    assert gateway.script.configs == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_file_is_refused(careca: Careca, call: Path) -> None:
    call.chmod(0)

    result = careca("transcribe", call)

    assert result.exit_code == ExitCode.REFUSED
    assert "permission denied" in result.stderr


def test_an_empty_standard_input_is_refused(careca: Careca) -> None:
    result = careca("transcribe", "-", stdin=b"")

    assert result.exit_code == ExitCode.REFUSED
    assert "stdin is empty" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRecording("there is no audio in it", reason="NO_AUDIO"), ExitCode.REFUSED),
        (Overloaded("too much is in flight", retry_after_seconds=7.0), ExitCode.OVERLOADED),
        (DeadlineExceeded("the deadline passed"), ExitCode.OVERLOADED),
        (OutOfMemory("too long for this device"), ExitCode.FAILED),
        (PreconditionFailed("the weights are missing"), ExitCode.FAILED),
        (InternalError("internal error"), ExitCode.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, CarecaError) else value.name,
)
def test_each_failure_has_its_code_and_one_line(
    careca: Careca, gateway: GatewayFixture, call: Path, error: CarecaError, code: ExitCode
) -> None:
    gateway.script.failures = [error]

    result = careca("transcribe", call)

    assert result.exit_code == code
    (line,) = lines_for(result, call)
    assert error.message in line
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_an_overloaded_gateway_says_when_to_try_again(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    gateway.script.failures = [Overloaded("too much is in flight", retry_after_seconds=7.0)]

    assert "try again in 7 s" in careca("transcribe", call).stderr


def test_a_gateway_that_cannot_be_reached_is_named(careca: Careca, call: Path) -> None:
    result = careca("transcribe", call, "--gateway", NOWHERE)

    assert result.exit_code == ExitCode.UNAVAILABLE
    assert f"(gateway {NOWHERE}: is it running?" in result.stderr.splitlines()[-1]
    assert "trying again" in result.stderr
    for command in (["stats"], ["clear-cache", "--yes"], ["release-memory"]):
        result = careca(*command, "--gateway", NOWHERE)
        assert result.exit_code == ExitCode.UNAVAILABLE
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("typed", ["localhost:{}", "127.0.0.1:{}", "dns:///localhost:{}", "ipv4:127.0.0.1:{}"])
def test_a_stopped_gateway_is_named_only_as_it_was_typed(careca: Careca, call: Path, typed: str) -> None:
    gateway = typed.format(free_port())
    commands: list[tuple[str | Path, ...]] = [
        ("transcribe", call, "--timeout", "1"),
        ("stats",),
        ("jobs", "list"),
        ("result", "0a"),
        ("health",),
    ]

    for command in commands:
        stderr = careca(*command, "--gateway", gateway).stderr

        assert f"(gateway {gateway}: is it running? --gateway selects another)" in stderr.splitlines()[-1]
        assert "Connection refused" in stderr
        rest = stderr.replace(gateway, "")
        assert not any(form in rest for form in ("ipv4:", "ipv6:", "dns:", "%5B", "backends"))


def test_an_unknown_host_name_is_reported(careca: Careca) -> None:
    (line,) = careca("stats", "--gateway", "nowhere.invalid:50051").stderr.splitlines()

    assert "address lookup failed for nowhere.invalid:50051" in line
    assert "field:" not in line


@pytest.mark.parametrize(
    ("command", "written", "meant"),
    [
        ("transcribe", "--hotwords", "--hotword"),
        ("transcribe", "--speaker", "--speakers"),
        ("transcribe", "--ouput-dir", "--output-dir"),
        ("transcribe", "--output", "--output-dir"),
        ("transcribe", "--formats", "--format"),
        ("transcribe", "--known-speakers", "--known-speaker"),
        ("transcribe", "--lang", "--language"),
        ("submit", "--min-speaker", "--min-speakers"),
        ("submit", "--webhooks", "--webhook"),
        ("result", "--overwite", "--overwrite"),
    ],
)
def test_an_option_that_is_nearly_right_names_the_right_one(
    careca: Careca, call: Path, command: str, written: str, meant: str
) -> None:
    result = careca(command, call, written, "2")

    said = usage_error(result)
    assert f"No such option: {written}" in said
    assert meant in said.partition("Possible options: ")[2].rstrip(")").split(", ")


def test_a_deadline_that_passes_has_its_own_code(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    gateway.script.hold = threading.Event()

    result = careca("transcribe", call, "--timeout", "0.5")

    assert result.exit_code == ExitCode.OVERLOADED


def test_a_partial_result_is_delivered_and_has_its_own_code(
    careca: Careca, gateway: GatewayFixture, call: Path
) -> None:
    gateway.script.failed_stage = Stage.DIARIZE

    result = careca("transcribe", call, "-f", "txt")

    assert result.exit_code == ExitCode.PARTIAL
    assert result.stdout == "txt of call.wav\n"
    assert "diarize failed: the device has too little memory; the rest is delivered without it" in result.stderr


def notices() -> tuple[Notice, ...]:
    return (
        Notice(NoticeCode.FEWER_SPEAKERS_THAN_ASKED, "50 speakers were asked for, but 2 could be found"),
        Notice(NoticeCode.SPEECH_WITHOUT_WORDS, "speech of 2.5 s is heard", 61.0, 63.5),
        Notice("OF_A_NEWER_GATEWAY", "something is\nas it is"),
    )


def test_notices_are_on_stderr_one_per_line_with_the_recording_and_the_time(
    careca: Careca, gateway: GatewayFixture, tmp_path: Path
) -> None:
    gateway.script.notices = notices()
    calls = [recording(tmp_path / "a.wav"), recording(tmp_path / "b.wav")]

    result = careca("transcribe", *calls, "-f", "txt")

    assert result.exit_code == ExitCode.OK
    assert result.stdout == "txt of a.wav\ntxt of b.wav\n"
    for call in calls:
        assert [line for line in lines_for(result, call) if ": notice " in line] == [
            f"careca: {call}: notice FEWER_SPEAKERS_THAN_ASKED: 50 speakers were asked for, but 2 could be found",
            f"careca: {call}: notice SPEECH_WITHOUT_WORDS [00:01:01.000 - 00:01:03.500]: speech of 2.5 s is heard",
            f"careca: {call}: notice OF_A_NEWER_GATEWAY: something is as it is",
        ]


def test_control_characters_are_escaped_in_notices(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    gateway.script.notices = (Notice(NoticeCode.AUDIO_TRACK_CHOSEN, "the track \x1b]0;mine\x07 [red]Ana[/] was used"),)
    gateway.jobs.script.notices = gateway.script.notices

    told = careca("transcribe", call).stderr
    shown = careca("jobs", "show", careca("submit", call).stdout.strip()).stdout

    assert "the track \\x1b]0;mine\\x07 [red]Ana[/] was used" in told
    assert "\\x1b]0;mine\\x07 [red]Ana[/]" in " ".join(shown.split())
    assert "\x1b" not in told + shown


def test_quiet_shows_no_notices(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    gateway.script.notices = notices()

    assert careca("transcribe", "--quiet", call).stderr == ""


def test_the_others_are_tried_after_one_bad_recording(careca: Careca, tmp_path: Path) -> None:
    good = [recording(tmp_path / "a.wav"), recording(tmp_path / "c.wav")]

    result = careca("transcribe", good[0], tmp_path / "b.wav", good[1], "-f", "txt")

    assert result.stdout == "txt of a.wav\ntxt of c.wav\n"
    assert result.exit_code == ExitCode.REFUSED
    assert len(lines_for(result, tmp_path / "b.wav")) == 1


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], ExitCode.OK),
        ([ExitCode.OK, ExitCode.PARTIAL], ExitCode.PARTIAL),
        ([ExitCode.PARTIAL, ExitCode.REFUSED, ExitCode.OK], ExitCode.REFUSED),
        ([ExitCode.REFUSED, ExitCode.OVERLOADED, ExitCode.UNAVAILABLE], ExitCode.UNAVAILABLE),
        ([ExitCode.UNAVAILABLE, ExitCode.FAILED], ExitCode.FAILED),
    ],
)
def test_the_worst_code_is_returned(codes: list[ExitCode], expected: ExitCode) -> None:
    assert worst(codes) is expected


def test_every_code_is_documented_in_the_help(careca: Careca) -> None:
    for page in (careca("--help"), careca("transcribe", "--help")):
        documented = {
            int(line.split()[0])
            for line in page.stdout.splitlines()
            if line.strip()[:1].isdigit() and "  " in line.strip()
        }
        assert documented == {code.value for code in ExitCode}
    assert set(WORST_FIRST) == set(ExitCode) - {ExitCode.USAGE}


@pytest.mark.parametrize(
    "arguments",
    [
        ["transcribe"],
        ["transcribe", "a.wav", "--format", "docx"],
        ["transcribe", "a.wav", "--speakers", "2", "--max-speakers", "3"],
        ["transcribe", "a.wav", "--min-speakers", "3", "--max-speakers", "2"],
        ["transcribe", "a.wav", "--channels", "stereo"],
        ["transcribe", "a.wav", "--channels", "separate", "--speakers", "2"],
        ["transcribe", "a.wav", "--channels", "separate", "--max-speakers", "2"],
        ["transcribe", "a.wav", "--beam-size", "21"],
        ["transcribe", "a.wav", "-f", "srt", "-f", "vtt"],
        ["transcribe", "a.wav", "b.wav", "-f", "srt"],
        ["transcribe", "-", "-"],
        ["clear-cache", "--stage", "merge", "--yes"],
        ["clear-cache"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_refused_without_a_call(
    careca: Careca, gateway: GatewayFixture, arguments: Sequence[str]
) -> None:
    result = careca(*arguments)

    assert result.exit_code == ExitCode.USAGE
    assert result.stdout == ""
    assert gateway.script.configs == []
    assert gateway.script.cleared == []


@pytest.mark.parametrize("command", ["transcribe", "submit"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("--prompt", "x" * 1001),
        ("--hotword", "x" * 101),
        ("--hotword", ""),
        [each for number in range(101) for each in ("--hotword", f"word{number}")],
        ("--known-speaker", "SPEAKER_00={}"),
    ],
    ids=["prompt", "hotword", "empty hotword", "hotwords", "name"],
)
def test_an_option_out_of_range_is_reported_once_for_all_recordings_before_anything_is_sent(
    careca: Careca, gateway: GatewayFixture, tmp_path: Path, command: str, arguments: Sequence[str]
) -> None:
    calls = [recording(tmp_path / "a.wav"), recording(tmp_path / "b.wav")]

    result = careca(command, *calls, *(argument.format(calls[0]) for argument in arguments))

    assert result.exit_code == ExitCode.REFUSED
    assert len(result.stderr.splitlines()) == 1
    assert "config." in result.stderr
    assert gateway.script.configs == []
    assert gateway.jobs.script.submissions == []


@pytest.mark.parametrize("command", ["transcribe", "submit"])
def test_a_language_may_be_written_as_people_write_it(
    careca: Careca, gateway: GatewayFixture, call: Path, command: str
) -> None:
    for written in ("pt", "PT", "pt-BR", "pt_BR.UTF-8", "por", "Portuguese", "português", ""):
        assert careca(command, call, "--language", written, "--again" if command == "submit" else "-q").exit_code == 0

    asked = [*gateway.script.configs, *(each.config for each in gateway.jobs.script.submissions if each.config)]
    known = [config.transcription.language_code for config in asked]
    assert set(known[:-1]) == {"pt"}
    assert known[-1] == ""


@pytest.mark.parametrize("command", ["transcribe", "submit"])
def test_an_unknown_language_is_refused_with_the_nearest_known_one(
    careca: Careca, gateway: GatewayFixture, call: Path, command: str
) -> None:
    result = careca(command, call, "--language", "Portugese")

    assert result.exit_code == ExitCode.USAGE
    assert "--language" in result.stderr
    assert "similar are Portuguese (pt)" in result.stderr
    assert gateway.script.configs == []
    assert gateway.jobs.script.submissions == []


def test_debug_shows_the_traceback(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    gateway.script.failures = [InternalError("internal error")]

    assert "Traceback" in careca("transcribe", call, "--debug").stderr


def test_an_interrupt_cancels_the_calls_and_ends_with_130(gateway: GatewayFixture, call: Path) -> None:
    gateway.script.hold = threading.Event()
    command = [*CARECA, "transcribe", str(call), "--gateway", gateway.target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        while "merge 100 %" not in process.stderr.readline():
            assert process.poll() is None

        process.send_signal(signal.SIGINT)

        assert process.wait(HANG_SECONDS) == ExitCode.INTERRUPTED
        assert process.stderr.read() == "careca: interrupted\n"
        assert process.stdout.read() == ""
    assert gateway.script.cancelled.wait(HANG_SECONDS)


def test_a_closed_pipe_ends_the_command_silently(gateway: GatewayFixture, tmp_path: Path) -> None:
    calls = [str(recording(tmp_path / f"{number}.wav")) for number in range(3)]
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        [*CARECA, "transcribe", "--quiet", "-f", "txt", *calls, "--gateway", gateway.target],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        timeout=HANG_SECONDS,
    )
    os.close(writing)

    assert done.stderr == b""
    assert done.returncode == ExitCode.FAILED


def test_in_a_terminal_bars_are_shown_and_stdout_has_results_only(gateway: GatewayFixture, call: Path) -> None:
    gateway.script.hold = threading.Event()
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*CARECA, "transcribe", str(call), "-f", "txt", "--gateway", gateway.target],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(terminal)
        shown = read_until(controller, b"merge")
        gateway.script.hold.set()
        shown += read_until(controller, None)
        assert process.stdout is not None
        assert process.stdout.read() == b"txt of call.wav\n"
    os.close(controller)

    assert process.returncode == ExitCode.OK
    for step in (b"upload", b"decode", b"transcribe", b"diarize", b"merge"):
        assert b"call.wav  " + step in shown
    assert b"\x1b[" in shown


def test_statistics_are_a_table_for_people_and_json_for_programs(careca: Careca) -> None:
    table, document = careca("stats"), careca("stats", "--json")

    assert "whisper-base@905e5bf8336b" in table.stdout
    assert "3 (75%)" in table.stdout
    assert "not reachable: connection refused" in table.stdout
    of_replicas = table.stdout.partition("10.0.0.1:50052")[2]
    assert "models loaded" in of_replicas
    assert "10.0.0.2:50052" in of_replicas
    assert "draining" in of_replicas
    stages = json.loads(document.stdout)["stages"]
    assert [stage["stage"] for stage in stages] == ["transcribe", "diarize"]
    assert stages[0]["stats"]["cache"]["hit_rate"] == 0.75
    assert stages[0]["replicas"][0]["stats"]["cache"]["hit_rate"] == 0.75
    assert stages[0]["replicas"][1] == {"address": "10.0.0.2:50052", "stats": None, "error": "it is draining"}
    assert stages[1]["stats"] is None


def test_clearing_everything_without_a_terminal_needs_yes(careca: Careca, gateway: GatewayFixture) -> None:
    refused = careca("clear-cache", stdin=b"y\n")

    assert refused.exit_code == ExitCode.USAGE
    assert "--yes" in refused.stderr
    assert gateway.script.cleared == []


def test_a_cache_is_cleared_by_scope_and_stage(careca: Careca, gateway: GatewayFixture) -> None:
    everything = careca("clear-cache", "--yes")
    expired = careca("clear-cache", "--expired-only", "--stage", "diarize", "--json")

    assert gateway.script.cleared == [
        (ClearScope.ALL, (Stage.TRANSCRIBE, Stage.DIARIZE)),
        (ClearScope.EXPIRED, (Stage.DIARIZE,)),
    ]
    assert everything.stdout.count("unloaded") == 2
    (entry,) = json.loads(expired.stdout)
    assert (entry["stage"], entry["cleared"]["removed_entries"]) == ("diarize", 3)


def test_in_a_terminal_clearing_everything_is_confirmed_first(gateway: GatewayFixture) -> None:
    for answer, code, cleared in ((b"n\n", ExitCode.OK, 0), (b"y\n", ExitCode.OK, 1)):
        controller, terminal = pty.openpty()
        with subprocess.Popen(
            [*CARECA, "clear-cache", "--gateway", gateway.target],
            stdin=terminal,
            stderr=terminal,
            stdout=subprocess.DEVNULL,
        ) as process:
            os.close(terminal)
            os.write(controller, answer)
            assert process.wait(HANG_SECONDS) == code
        os.close(controller)
        assert len(gateway.script.cleared) == cleared


def test_memory_is_released_by_stage(careca: Careca) -> None:
    table, document = careca("release-memory"), careca("release-memory", "--stage", "diarize", "--json")

    assert "900.0 MB" in table.stdout
    assert "200.0 MB" in table.stdout
    released = json.loads(document.stdout)
    assert [entry["stage"] for entry in released["stages"]] == ["diarize"]
    assert released["gateway"]["after"]["rss_bytes"] == 200_000_000


def test_health_is_the_exit_code(careca: Careca, gateway: GatewayFixture) -> None:
    serving = careca("health")
    gateway.serve("", False)
    draining = careca("health")
    unknown = careca("health", "--service", "nobody")
    unreachable = careca("health", "--gateway", NOWHERE)

    assert (serving.exit_code, serving.stdout) == (0, "SERVING\n")
    assert (draining.exit_code, draining.stdout) == (1, "NOT_SERVING\n")
    assert (unknown.exit_code, unknown.stdout) == (1, "SERVICE_UNKNOWN\n")
    assert unreachable.exit_code == 1
    assert unreachable.stderr.startswith("careca: ")


def test_models_that_are_missing_are_listed_and_fail_the_check(careca: Careca, tmp_path: Path) -> None:
    listed = careca("models", "list", "--models-dir", tmp_path, "--json")
    verified = careca("models", "verify", "--models-dir", tmp_path)
    unknown = careca("models", "pull", "nosuch", "--models-dir", tmp_path)

    defaults = {model["name"] for model in json.loads(listed.stdout) if model["default"]}
    assert not any(model["present"] for model in json.loads(listed.stdout))
    assert verified.exit_code == 1
    assert len(verified.stderr.splitlines()) == len(defaults)
    assert all("careca models pull" in line for line in verified.stderr.splitlines())
    assert unknown.exit_code == 1
    assert "whisper-base" in unknown.stderr


def test_the_models_folder_is_a_setting(careca: Careca, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARECA_MODELS_DIR", str(tmp_path))

    listed = careca("models", "list", "--json")

    assert all(model["folder"].startswith(str(tmp_path)) for model in json.loads(listed.stdout))


def test_the_version_is_printed(careca: Careca) -> None:
    assert careca("--version").stdout.startswith("careca 0.")


COMMANDS = ["transcribe", "recording", "stats", "clear-cache", "release-memory", "health", "models"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_page_with_examples(careca: Careca, command: str) -> None:
    page = careca(command, "--help")

    assert page.exit_code == ExitCode.OK
    assert page.stdout.startswith("Usage: ")
    if command != "models":
        assert f"careca {command}" in page.stdout.partition("Examples:")[2]
