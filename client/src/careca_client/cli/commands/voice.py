"""``careca voice``: saves the voice of a person."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from careca.errors import InternalError, InvalidRecording
from careca.types import Stage, StageState, Voice
from careca_client.access import DEFAULT_TARGET
from careca_client.cli.connection import connected
from careca_client.cli.help import epilog
from careca_client.cli.options.common import Debug, Gateway, Overwrite, Submitter
from careca_client.cli.options.inputs import STDIN
from careca_client.cli.output.files import check_folder, check_overwrite, write_file
from careca_client.result import TranscriptionResult
from careca_client.speakers import voice_json

EPILOG = epilog(
    "careca voice ana.wav -o ana.json",
    'careca transcribe --known-speaker Ana=ana.json --known-speaker "Bob B"=bob.wav meeting.mp4',
)


def voice(
    *,
    recording: Annotated[
        str, typer.Argument(metavar="FILE", help="A recording of one person alone. - is the standard input.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="File for the voice. Default: stdout.")
    ] = None,
    overwrite: Overwrite = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="Limit for the call. Default: none.")
    ] = None,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Saves the voice of a person, to recognise this person in other recordings.

    Half a minute of speech is enough. The file has the embedding of the voice and the id of the embedding model. It is
    valid as long as the diarizer uses the same model.
    """
    with connected(gateway, submitter, debug=debug) as client:
        if output is not None:
            check_folder(output.parent, "--output")
            check_overwrite(output, overwrite=overwrite)
        source = sys.stdin.buffer if recording == STDIN else recording
        # The text does not matter, so the fastest search is enough.
        text = voice_json(_voice_of(client.transcribe(source, timeout=timeout, speaker_count=1, beam_size=1)))
        if output is None:
            typer.echo(text, nl=False)
        else:
            write_file(output, text, overwrite=overwrite)


def _voice_of(result: TranscriptionResult) -> Voice:
    """Returns the voice of the first speaker. Raises ``CarecaError`` if there is none."""
    for report in result.stages:
        if report.stage is Stage.DIARIZE and report.state is StageState.FAILED:
            raise InternalError(f"{report.stage} failed: {report.error_message or report.error_reason}")
    for speaker in result.speakers:
        if speaker.voice is not None:
            return speaker.voice
        raise InternalError("the diarizer's pipeline gives no embeddings of speakers")
    raise InvalidRecording("there is no speech in this recording", reason="NO_SPEECH")
