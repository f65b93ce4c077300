"""``careca live``: shows who says what while people talk."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from careca.codec.options import MAX_LIVE_CHANNELS
from careca.errors import CarecaError, InvalidRecording
from careca.formatting import format_notice
from careca.types import ChannelMode, OutputFormat
from careca_client.access import DEFAULT_TARGET
from careca_client.blocking.client import Client
from careca_client.blocking.live import LiveSession
from careca_client.cli.audio_sources import AudioSource, microphone, paced, stdin_audio, wav_file
from careca_client.cli.connection import connected
from careca_client.cli.errors import ExitCode, describe_failures, report_error, reporting, worst
from careca_client.cli.help import epilog
from careca_client.cli.options import recording as option
from careca_client.cli.options.common import Debug, Formats, Gateway, Overwrite, Quiet, Submitter
from careca_client.cli.options.inputs import STDIN, check_stdin
from careca_client.cli.options.recording import speech_options
from careca_client.cli.output import files as output_files
from careca_client.cli.output.display import Display, LineDisplay, describe_retry
from careca_client.cli.output.live_transcript import LiveTranscript
from careca_client.cli.output.results import write_result
from careca_client.cli.output.terminal import stderr, stdout
from careca_client.live import LiveEncoding, LiveEnded, LiveNotice, LiveReconnecting, LiveResult
from careca_client.protocol.live import LiveOptions, build_live_config
from careca_client.result import TranscriptionResult

EPILOG = epilog(
    "careca live",
    "careca live meeting.wav",
    "careca live --speakers 2 --language pt-BR -f srt -o captions/ meeting.wav",
    "careca live --channels separate call.wav",
    "ffmpeg -i rtsp://camera -ac 1 -ar 16000 -f s16le - | careca live -",
)


@dataclass(frozen=True, slots=True)
class _Live:
    """One live session of the command line."""

    source: AudioSource
    options: LiveOptions
    formats: tuple[OutputFormat, ...]
    files: Mapping[OutputFormat, Path]
    """The output file of each format. Empty: the result goes to stdout."""
    realtime: bool
    overwrite: bool
    gateway: str
    debug: bool
    display: Display
    transcript: LiveTranscript

    def run(self, client: Client) -> ExitCode:
        """Sends the audio, shows the words, writes the result, and returns the exit code."""
        stopped, failures = threading.Event(), list[Exception]()
        with self.source.chunks as chunks, client.live(**self.options) as session, _interrupts(session, stopped):
            # Daemonic: it may wait for the standard input when the command ends.
            threading.Thread(target=self._feed, args=(session, chunks, stopped, failures), daemon=True).start()
            try:
                job_id, result = self._follow(session)
            finally:
                stopped.set()
                self.transcript.end()
        report = partial(
            report_error, subject=self.source.name, display=self.display, gateway=self.gateway, debug=self.debug
        )
        if result is None:
            code = report(InvalidRecording("there was no audio", reason="EMPTY_AUDIO"))
        else:
            code = self._conclude(client, job_id, result)
        return worst([code, *map(report, failures)])

    def _feed(
        self, session: LiveSession, chunks: Iterator[bytes], stopped: threading.Event, failures: list[Exception]
    ) -> None:
        """Sends the audio, in a thread of its own."""
        if self.realtime and self.source.bytes_per_second:
            chunks = paced(chunks, self.source.bytes_per_second, stopped)
        try:
            for chunk in chunks:
                if stopped.is_set() or not _sent(session, chunk):
                    break
        except Exception as error:  # noqa: BLE001 -- what was said so far has a result; the error is reported after it
            failures.append(error)
        finally:
            session.end()

    def _follow(self, session: LiveSession) -> tuple[str, TranscriptionResult | None]:
        """Shows the events. Returns the job and its result, ``None`` if there was no audio."""
        job_id = ""
        for event in session:
            match event:
                case LiveNotice():
                    with self.transcript.paused():
                        self.display.warning(format_notice(event.notice), self.source.name)
                case LiveReconnecting():
                    with self.transcript.paused():
                        self.display.info(describe_retry(event), self.source.name)
                case LiveEnded():
                    job_id = event.job_id
                    self.transcript.end()
                    if job_id:
                        self.display.info(f"the audio has ended; job {job_id} makes the result", self.source.name)
                case LiveResult():
                    return job_id, event.result
                case _:
                    self.transcript.show(event)
        return job_id, None

    def _conclude(self, client: Client, job_id: str, result: TranscriptionResult) -> ExitCode:
        """Writes the result."""
        if self.formats:
            result = client.job_result(job_id, formats=self.formats)
        else:
            typer.echo("==> result <==")
        write_result(result, self.formats, self.files, overwrite=self.overwrite)
        for failure in describe_failures(result.stages):
            self.display.error(failure, self.source.name)
        for notice in result.notices:
            self.display.warning(format_notice(notice), self.source.name)
        self.display.info(f"done; `careca result {job_id}` prints it again", self.source.name)
        return ExitCode.PARTIAL if result.partial else ExitCode.OK


def _sent(session: LiveSession, chunk: bytes) -> bool:
    """Whether the session has taken the audio. If it has failed or ended, whoever iterates it knows."""
    try:
        session.send(chunk)
    except CarecaError:
        return False
    return True


@contextmanager
def _interrupts(session: LiveSession, stopped: threading.Event) -> Iterator[None]:
    """Inside, the first interrupt ends the audio, and the second one raises ``KeyboardInterrupt`` as usual."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGINT, previous)
        stopped.set()
        # In a thread: the interrupted code may hold the lock of the session.
        threading.Thread(target=session.end, daemon=True).start()

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    previous = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def live(
    *,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE|-]",
            help="A WAV file of 16-bit PCM, mono or stereo. - is the standard input: audio without a header, or a"
            " container. Without the argument: the microphone, which needs the package careca-client[live].",
        ),
    ] = None,
    encoding: Annotated[
        LiveEncoding, typer.Option("--encoding", case_sensitive=False, help="Encoding of the standard input.")
    ] = LiveEncoding.PCM,
    sample_rate: Annotated[
        int | None,
        typer.Option(
            "--sample-rate", min=8_000, max=48_000, metavar="HZ", help="Of the standard input. Default: 16000, or 8000."
        ),
    ] = None,
    channel_count: Annotated[
        int | None,
        typer.Option(
            "--channel-count",
            min=1,
            max=MAX_LIVE_CHANNELS,
            metavar="N",
            help="Number of channels of the standard input. Default: 1.",
        ),
    ] = None,
    channels: option.Channels = ChannelMode.MIX,
    realtime: Annotated[
        bool | None,
        typer.Option(
            "--realtime/--no-realtime",
            help="Whether to send as fast as people talk, or as fast as possible. Default: as they talk for a file.",
            show_default=False,
        ),
    ] = None,
    interim: Annotated[
        bool, typer.Option("--interim/--no-interim", help="Whether a terminal shows words that may still change.")
    ] = True,
    utterance_pause: Annotated[
        float | None,
        typer.Option(min=0.2, max=5.0, metavar="SECONDS", help="The pause that ends an utterance. Default: 0.8."),
    ] = None,
    formats: Formats = [],  # noqa: B006 -- typer copies it
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            "-o",
            help="Folder for one file per format, named STEM.EXT. Created if it is missing. Without --format: txt.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    speakers: option.Speakers = None,
    min_speakers: option.MinSpeakers = None,
    max_speakers: option.MaxSpeakers = None,
    known: option.Known = [],  # noqa: B006
    saved_voices: option.SavedVoices = False,
    language: option.Language = None,
    translate: option.Translate = False,
    prompt: option.Prompt = "",
    hotwords: option.Hotwords = [],  # noqa: B006
    beam_size: option.BeamSize = None,
    quiet: Quiet = False,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Shows who says what while people talk, and prints the result at the end.

    A line is printed when an utterance ends or the speaker changes. When the audio has ended, a job transcribes it as
    any other recording. Its result follows: it is better, and the speakers of lines that were printed before may be
    others in it. Without --format it has one line for each utterance. With --format, stdout has nothing else.
    --translate, --prompt and --beam-size are for this result only.

    An interrupt (Ctrl-C) ends the audio and waits for the result. A second one leaves at once.
    """
    if file != STDIN and (encoding, sample_rate, channel_count) != (LiveEncoding.PCM, None, None):
        raise typer.BadParameter(
            "--encoding, --sample-rate and --channel-count are for the standard input: give - instead of a file"
        )
    option.check_channels(channels, counted=(speakers, min_speakers, max_speakers) != (None, None, None))
    check_stdin([file or ""])
    chosen = _choose_formats(formats, output_dir)
    with reporting(gateway=gateway, debug=debug):
        source = _open_source(file, encoding, sample_rate, channel_count)
        if realtime and not source.bytes_per_second:
            raise typer.BadParameter("--realtime is not for a container, whose speed is not known before it is decoded")
        transcript = _transcript(to_stdout=output_dir is not None or not chosen, quiet=quiet)
        options: LiveOptions = {
            **speech_options(
                speakers=speakers,
                min_speakers=min_speakers,
                max_speakers=max_speakers,
                known=known,
                saved_voices=saved_voices,
                language=language,
                translate=translate,
                prompt=prompt,
                hotwords=hotwords,
                beam_size=beam_size,
            ),
            "encoding": source.encoding,
            "sample_rate": source.sample_rate,
            "channels": source.channels,
            "channel_mode": channels,
            "interim_results": interim and transcript.shows_interim,
            "utterance_pause": utterance_pause,
            "display_name": source.display_name,
            "session_id": "",
            "after_event": 0,
        }
        build_live_config(options)
        files = _plan_files(source, chosen, output_dir, overwrite=overwrite)
    with connected(gateway, submitter, debug=debug) as client:
        work = _Live(
            source=source,
            options=options,
            formats=chosen,
            files=files,
            realtime=file not in (None, STDIN) if realtime is None else realtime,
            overwrite=overwrite,
            gateway=gateway,
            debug=debug,
            display=(Display if quiet else LineDisplay)(stderr()),
            transcript=transcript,
        )
        raise typer.Exit(work.run(client))


def _open_source(
    file: str | None, encoding: LiveEncoding, sample_rate: int | None, channel_count: int | None
) -> AudioSource:
    if file is None:
        return microphone()
    return stdin_audio(encoding, sample_rate, channel_count) if file == STDIN else wav_file(file)


def _transcript(*, to_stdout: bool, quiet: bool) -> LiveTranscript:
    """Where words are shown: on stdout. If that is for a format, on stderr, and only to people."""
    if to_stdout:
        return LiveTranscript(stdout())
    console = stderr()
    return LiveTranscript(console if console.is_terminal and not quiet else None)


def _choose_formats(formats: Sequence[OutputFormat], output_dir: Path | None) -> tuple[OutputFormat, ...]:
    """Returns the formats to request. Raises a usage error if stdout would get several."""
    chosen = tuple(dict.fromkeys(formats))
    if output_dir is not None:
        return chosen or (OutputFormat.TXT,)
    if len(chosen) > 1:
        raise typer.BadParameter("several formats need --output-dir: they cannot be separated on stdout")
    return chosen


def _plan_files(
    source: AudioSource, formats: Sequence[OutputFormat], output_dir: Path | None, *, overwrite: bool
) -> Mapping[OutputFormat, Path]:
    """Returns the file of each format, empty for stdout. Creates the folder."""
    if output_dir is None:
        return {}
    output_files.create_folder(output_dir, "--output-dir")
    (name,) = output_files.plan_names([source.display_name or "live"], formats, [])
    files = {chosen: output_dir / f"{name}.{chosen}" for chosen in formats}
    for path in files.values():
        output_files.check_overwrite(path, overwrite=overwrite)
    return files
