"""The command `careca live` against a real gRPC server that keeps sessions and breaks connections."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
import types
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from careca import codec
from careca.errors import InternalError, Overloaded, PreconditionFailed, Unavailable
from careca.types import Notice, OutputFormat, Stage
from careca.v1 import gateway_pb2, live_pb2
from careca_client.cli import audio_sources
from careca_client.cli.app import build_app
from careca_client.cli.errors import ExitCode
from integration.client.live_gateway import JOB, SECOND, Fault, LiveFixture
from support.command_line import CARECA, Careca, read_until
from support.waiting import HANG_SECONDS

AUDIO = b"".join(bytes([number]) * SECOND for number in range(4))
LINES = [
    "[00:00:00.000 - 00:00:01.500] SPEAKER_00: word0 word1",
    "[00:00:02.000 - 00:00:03.500] SPEAKER_01: word2 word3",
]
RESULT = [
    "[00:00:00.000 - 00:00:01.000] SPEAKER_00: Hello.",
    "[00:00:01.000 - 00:00:02.500] SPEAKER_01: Olá, você!",
]


@pytest.fixture
def careca(live_gateway: LiveFixture) -> Careca:
    """Runs the command in this process."""

    def run(*arguments: str | Path, stdin: bytes | None = None) -> Result:
        words = [str(part) for part in arguments]
        return CliRunner().invoke(build_app(), words, input=stdin, env={"CARECA_GATEWAY": live_gateway.target})

    return run


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    return wav(tmp_path / "talk.wav")


def wav(path: Path, *, channels: int = 1, width: int = 2, rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(AUDIO)
    return path


def test_finished_lines_come_first_and_then_the_result(careca: Careca, live_gateway: LiveFixture, talk: Path) -> None:
    result = careca("live", "--no-realtime", talk)

    assert result.exit_code == ExitCode.OK
    assert result.stdout.splitlines() == [*LINES, "==> result <==", *RESULT]
    assert "\x1b" not in result.stdout + result.stderr
    assert live_gateway.script.audio == AUDIO
    (config,) = live_gateway.script.configs
    assert not config.interim_results
    assert (config.encoding, config.sample_rate_hertz) == (live_pb2.LIVE_ENCODING_PCM_S16LE, 16_000)
    assert config.display_name == "talk.wav"
    assert f"careca: {talk}: the audio has ended; job {JOB} makes the result" in result.stderr


def test_with_a_format_stdout_is_that_text_and_nothing_else(
    careca: Careca, live_gateway: LiveFixture, talk: Path
) -> None:
    result = careca("live", "--no-realtime", talk, "--format", "srt")

    assert (result.exit_code, result.stdout) == (ExitCode.OK, "srt of live\n")
    assert "word" not in result.stderr
    assert live_gateway.script.formats == [[codec.encode_format(OutputFormat.SRT)]]


def test_an_output_dir_gets_a_file_per_format(careca: Careca, talk: Path, tmp_path: Path) -> None:
    arguments = ("live", "--no-realtime", talk, "-f", "srt", "-f", "json", "-o", tmp_path / "out")

    first, again = careca(*arguments), careca(*arguments)

    assert first.stdout.splitlines() == LINES
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "talk.srt": "srt of live\n",
        "talk.json": "json of live\n",
    }
    assert again.exit_code == ExitCode.REFUSED
    assert "exists already" in again.stderr


def test_the_standard_input_is_audio_without_a_header(careca: Careca, live_gateway: LiveFixture) -> None:
    result = careca("live", "-", "--encoding", "mulaw", "--quiet", stdin=AUDIO)

    assert (result.exit_code, result.stderr) == (ExitCode.OK, "")
    assert live_gateway.script.audio == AUDIO
    (config,) = live_gateway.script.configs
    assert (config.encoding, config.sample_rate_hertz) == (live_pb2.LIVE_ENCODING_MULAW, 8_000)
    assert config.display_name == ""


def test_the_sample_rate_of_a_file_is_in_its_header(careca: Careca, live_gateway: LiveFixture, tmp_path: Path) -> None:
    assert careca("live", "--no-realtime", wav(tmp_path / "a.wav", rate=44_100)).exit_code == ExitCode.OK

    assert live_gateway.script.configs[0].sample_rate_hertz == 44_100


def test_the_sample_rate_of_the_standard_input_is_an_option(careca: Careca, live_gateway: LiveFixture) -> None:
    assert careca("live", "-", "--sample-rate", "48000", stdin=AUDIO).exit_code == ExitCode.OK

    assert live_gateway.script.configs[0].sample_rate_hertz == 48_000


@pytest.mark.parametrize(
    ("options", "mode"),
    [((), gateway_pb2.CHANNEL_MODE_MIX), (("--channels", "separate"), gateway_pb2.CHANNEL_MODE_SEPARATE)],
)
def test_a_file_may_be_stereo(
    careca: Careca,
    live_gateway: LiveFixture,
    tmp_path: Path,
    options: tuple[str, ...],
    mode: gateway_pb2.ChannelMode.ValueType,
) -> None:
    assert careca("live", wav(tmp_path / "call.wav", channels=2), "--no-realtime", *options).exit_code == ExitCode.OK

    (config,) = live_gateway.script.configs
    assert (config.channel_count, config.channel_mode) == (2, mode)
    assert live_gateway.script.audio == AUDIO


def test_the_standard_input_may_have_two_channels(careca: Careca, live_gateway: LiveFixture) -> None:
    arguments = ("live", "-", "--encoding", "alaw", "--channel-count", "2", "--channels", "separate")

    assert careca(*arguments, stdin=AUDIO).exit_code == ExitCode.OK

    (config,) = live_gateway.script.configs
    assert (config.channel_count, config.channel_mode) == (2, gateway_pb2.CHANNEL_MODE_SEPARATE)
    assert live_gateway.script.audio == AUDIO


def test_the_speed_of_stereo_is_that_of_its_frames(tmp_path: Path) -> None:
    source = audio_sources.wav_file(str(wav(tmp_path / "call.wav", channels=2, rate=8_000)))

    assert (source.channels, source.bytes_per_second) == (2, 32_000)
    with source.chunks as chunks:
        assert b"".join(chunks) == AUDIO


def test_all_options_reach_the_gateway(careca: Careca, live_gateway: LiveFixture, talk: Path) -> None:
    options = "--language português --translate --prompt Careca --hotword New --hotword Jersey --beam-size 3"
    more = f"--min-speakers 2 --max-speakers 4 --known-speaker Ana={talk} --saved-voices --utterance-pause 1.5"

    assert careca("live", talk, "--no-realtime", *options.split(), *more.split()).exit_code == ExitCode.OK

    (config,) = live_gateway.script.configs
    assert config.transcription.language_code == "pt"
    assert config.transcription.translate
    assert config.transcription.initial_prompt == "Careca"
    assert list(config.transcription.hotwords) == ["New", "Jersey"]
    assert config.transcription.beam_size == 3
    assert (config.diarization.min_speaker_count, config.diarization.max_speaker_count) == (2, 4)
    assert [(each.name, each.recording) for each in config.known_speakers] == [("Ana", talk.read_bytes())]
    assert config.use_saved_voices
    assert codec.decode_duration(config.utterance_pause) == 1.5


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("talk.wav", "--encoding", "alaw"), ExitCode.USAGE),
        (("talk.wav", "--sample-rate", "8000"), ExitCode.USAGE),
        (("talk.wav", "--channel-count", "2"), ExitCode.USAGE),
        (("-", "--channel-count", "3"), ExitCode.USAGE),
        (("-", "--channels", "apart"), ExitCode.USAGE),
        (("-", "--channel-count", "2", "--channels", "separate", "--max-speakers", "2"), ExitCode.USAGE),
        (("-", "--channels", "separate"), ExitCode.REFUSED),
        (("talk.wav", "--channels", "separate"), ExitCode.REFUSED),
        (("-", "--encoding", "container", "--channels", "separate"), ExitCode.REFUSED),
        (("-", "--encoding", "container", "--channel-count", "2"), ExitCode.REFUSED),
        (("talk.wav", "-f", "srt", "-f", "vtt"), ExitCode.USAGE),
        (("talk.wav", "--speakers", "2", "--max-speakers", "3"), ExitCode.USAGE),
        (("talk.wav", "--min-speakers", "3", "--max-speakers", "2"), ExitCode.USAGE),
        (("-", "--encoding", "opus"), ExitCode.USAGE),
        (("-", "--encoding", "container", "--realtime"), ExitCode.USAGE),
        (("-", "--encoding", "alaw", "--sample-rate", "16000"), ExitCode.REFUSED),
        (("talk.wav", "--prompt", "x" * 1001), ExitCode.REFUSED),
        (("missing.wav",), ExitCode.REFUSED),
        ((".",), ExitCode.REFUSED),
    ],
    ids=lambda each: " ".join(each)[:40] if isinstance(each, tuple) else each.name,
)
def test_a_wrong_command_line_is_refused_without_a_call(
    careca: Careca,
    live_gateway: LiveFixture,
    talk: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: ExitCode,
) -> None:
    monkeypatch.chdir(talk.parent)

    result = careca("live", *arguments, stdin=b"ab")

    assert (result.exit_code, result.stdout) == (code, "")
    assert live_gateway.script.configs == []


def test_a_file_that_cannot_be_sent_says_how_to_convert_it(
    careca: Careca, live_gateway: LiveFixture, tmp_path: Path
) -> None:
    mp3, empty = tmp_path / "call.mp3", tmp_path / "empty.wav"
    mp3.write_bytes(b"ID3 and more")
    empty.write_bytes(b"")
    files = [
        *(mp3, empty, wav(tmp_path / "surround.wav", channels=4), wav(tmp_path / "8bit.wav", width=1)),
        wav(tmp_path / "fast.wav", rate=96_000),
    ]

    for file in files:
        result = careca("live", file)

        assert result.exit_code == ExitCode.REFUSED
        (line,) = result.stderr.splitlines()
        assert f"ffmpeg -i {file} -ac 1 -ar 16000 -c:a pcm_s16le {file.stem}-mono.wav" in line
    assert live_gateway.script.configs == []


def test_without_the_library_for_microphones_it_is_named(
    careca: Careca, live_gateway: LiveFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)

    result = careca("live")

    assert result.exit_code == ExitCode.FAILED
    (line,) = result.stderr.splitlines()
    assert "install careca-client[live]" in line
    assert live_gateway.script.configs == []


class Microphone(types.ModuleType):
    """Stands in for sounddevice: hears all at once, and is then interrupted."""

    PortAudioError = OSError

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__("sounddevice")
        self.broken = broken
        self.settings: dict[str, Any] = {}

    def RawInputStream(self, *, callback: Callable[..., None], **settings: Any) -> Microphone:
        if self.broken:
            raise self.PortAudioError("no default device")
        self.settings, self._callback = settings, callback
        return self

    def __enter__(self) -> Microphone:
        for begin in range(0, len(AUDIO), SECOND):
            self._callback(AUDIO[begin : begin + SECOND], SECOND // 2, None, None)
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_the_microphone_is_sent_until_an_interrupt(
    careca: Careca, live_gateway: LiveFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    microphone = Microphone()
    monkeypatch.setitem(sys.modules, "sounddevice", microphone)

    def interrupt() -> None:
        while len(live_gateway.script.audio) < len(AUDIO):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    result = careca("live")

    assert result.exit_code == ExitCode.OK
    assert result.stdout.splitlines() == [*LINES, "==> result <==", *RESULT]
    assert live_gateway.script.audio == AUDIO
    assert microphone.settings == {"samplerate": 16_000, "channels": 1, "dtype": "int16", "blocksize": 1600}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_machine_without_a_microphone_is_reported(careca: Careca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Microphone(broken=True))

    result = careca("live")

    assert result.exit_code == ExitCode.FAILED
    assert "the microphone cannot be used: no default device" in result.stderr


def test_notices_and_failed_stages_are_on_stderr(careca: Careca, live_gateway: LiveFixture, talk: Path) -> None:
    live_gateway.script.notices = (Notice("FALLING_BEHIND", "words come late"),)
    live_gateway.script.failed_stage = Stage.DIARIZE

    result = careca("live", "--no-realtime", talk)

    assert result.exit_code == ExitCode.PARTIAL
    assert f"careca: {talk}: notice FALLING_BEHIND: words come late" in result.stderr.splitlines()
    assert "diarize failed" in result.stderr
    assert "FALLING_BEHIND" not in result.stdout


def test_a_broken_connection_is_reported_and_changes_nothing(
    careca: Careca, live_gateway: LiveFixture, talk: Path
) -> None:
    live_gateway.script.faults = [Fault(SECOND, Unavailable("draining"))]

    result = careca("live", "--no-realtime", talk)

    assert result.exit_code == ExitCode.OK
    assert result.stdout.splitlines() == [*LINES, "==> result <==", *RESULT]
    assert f"careca: {talk}: draining; trying again in 0.2 s (attempt 2)" in result.stderr.splitlines()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PreconditionFailed("it takes no jobs", reason="JOBS_OFF"), ExitCode.FAILED),
        (Overloaded("too many", reason="TOO_MANY_SESSIONS"), ExitCode.OVERLOADED),
        (InternalError("a bug"), ExitCode.FAILED),
    ],
)
@pytest.mark.parametrize("started", [False, True], ids=["at the start", "later"])
def test_a_session_that_fails_has_its_code_and_one_line(
    careca: Careca, live_gateway: LiveFixture, talk: Path, error: Any, code: ExitCode, started: bool
) -> None:
    live_gateway.script.faults = [Fault(SECOND, error, before_started=not started)]

    result = careca("live", "--no-realtime", talk)

    assert result.exit_code == code
    (line,) = result.stderr.splitlines()
    assert error.message in line


def test_a_file_that_breaks_off_has_a_result_and_its_error(
    careca: Careca, live_gateway: LiveFixture, monkeypatch: pytest.MonkeyPatch, talk: Path
) -> None:
    def frames(reader: wave.Wave_read, count: int) -> bytes:
        if reader.tell():
            raise OSError("the disk is gone")
        reader.setpos(count)
        return AUDIO[: 2 * SECOND]

    monkeypatch.setattr(wave.Wave_read, "readframes", frames)

    result = careca("live", "--no-realtime", talk)

    assert result.exit_code == ExitCode.FAILED
    assert live_gateway.script.audio == AUDIO[: 2 * SECOND]
    assert result.stdout.splitlines() == [LINES[0], "==> result <==", *RESULT]
    assert result.stderr.splitlines()[-1] == f"careca: {talk}: the disk is gone"


def test_a_session_that_the_gateway_ends_has_a_result(
    careca: Careca, live_gateway: LiveFixture, monkeypatch: pytest.MonkeyPatch, talk: Path
) -> None:
    live_gateway.script.ends_after = 2 * SECOND
    monkeypatch.setattr(wave.Wave_read, "readframes", lambda *_: AUDIO[:SECOND])  # without end

    result = careca("live", "--no-realtime", talk)

    assert result.exit_code == ExitCode.OK
    assert result.stdout.splitlines()[-3:] == ["==> result <==", *RESULT]


def test_no_audio_is_an_error(careca: Careca) -> None:
    result = careca("live", "-", "--format", "srt", stdin=b"")

    assert (result.exit_code, result.stdout) == (ExitCode.REFUSED, "")
    assert result.stderr == "careca: stdin: there was no audio\n"


def start(gateway: LiveFixture, *arguments: str, **settings: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*CARECA, "live", *arguments, "--gateway", gateway.target], **settings)


@pytest.fixture
def talking(live_gateway: LiveFixture) -> Iterator[subprocess.Popen[bytes]]:
    """The command, which has sent four seconds and waits for more."""
    pipe = subprocess.PIPE
    with start(live_gateway, "-", stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(AUDIO)
        process.stdin.flush()
        assert process.stdout.readline().decode().rstrip() == LINES[0]
        yield process


def test_the_first_interrupt_ends_the_audio(talking: subprocess.Popen[bytes], live_gateway: LiveFixture) -> None:
    while len(live_gateway.script.audio) < len(AUDIO):
        assert talking.poll() is None
    talking.send_signal(signal.SIGINT)

    assert talking.wait(HANG_SECONDS) == ExitCode.OK
    assert talking.stdout is not None
    assert talking.stdout.read().decode().splitlines() == [LINES[1], "==> result <==", *RESULT]
    assert live_gateway.script.ends == 1


def test_the_second_interrupt_leaves(talking: subprocess.Popen[bytes], live_gateway: LiveFixture) -> None:
    live_gateway.script.result = threading.Event()
    talking.send_signal(signal.SIGINT)
    assert talking.stderr is not None
    assert b"the audio has ended" in talking.stderr.readline()
    talking.send_signal(signal.SIGINT)

    assert talking.wait(HANG_SECONDS) == ExitCode.INTERRUPTED
    assert talking.stderr.read() == b"careca: interrupted\n"
    assert live_gateway.script.left.wait(HANG_SECONDS)


@pytest.mark.parametrize("option", ["--interim", "--no-interim"])
def test_in_a_terminal_words_are_shown_before_they_are_final(
    live_gateway: LiveFixture, talk: Path, option: str
) -> None:
    controller, terminal = pty.openpty()
    with start(
        live_gateway,
        *(str(talk), "--no-realtime", option),
        stdout=terminal,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(terminal)
        shown = read_until(controller, None).decode()
    os.close(controller)

    assert process.returncode == ExitCode.OK
    assert live_gateway.script.configs[0].interim_results == (option == "--interim")
    assert ("\x1b[2mguess0\x1b[0m" in shown) == (option == "--interim")
    assert "\x1b[36mSPEAKER_00: \x1b[0mword0 word1\r\n" in shown
    assert "\x1b[35mSPEAKER_01: \x1b[0mword2 word3\r\n" in shown
    assert shown.index("==> result <==") < shown.index("Hello.")


def test_with_a_format_a_terminal_still_shows_the_words(live_gateway: LiveFixture, talk: Path) -> None:
    controller, terminal = pty.openpty()
    with start(
        live_gateway,
        *(str(talk), "--no-realtime", "-f", "txt"),
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(terminal)
        shown = read_until(controller, None).decode()
        assert process.stdout is not None
        assert process.stdout.read() == b"txt of live\n"
    os.close(controller)

    assert "guess0" in shown
    assert "word2 word3" in shown


def test_the_help_page_has_examples(careca: Careca) -> None:
    page = careca("live", "--help")

    assert page.exit_code == ExitCode.OK
    assert "careca live meeting.wav" in page.stdout.partition("Examples:")[2]
