"""``careca voice``, and the voices of people whom ``careca transcribe`` is to recognise."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from careca.errors import InternalError, InvalidRecording
from careca.types import Stage, StageState, Voice
from careca_client.access import DEFAULT_TARGET
from careca_client.cli.connection import client_of
from careca_client.cli.errors import reporting
from careca_client.cli.options.common import Debug, Gateway, Submitter
from careca_client.cli.options.inputs import STDIN
from careca_client.cli.output import destinations
from careca_client.result import TranscriptionResult
from careca_client.speakers import KnownSpeaker, read_reference, read_voice, voice_json

VOICE_EXAMPLES = """\
Examples:

\b
  careca voice ana.wav -o ana.json
  careca transcribe --known-speaker Ana=ana.json --known-speaker "Bob B"=bob.wav meeting.mp4
"""


def voice(
    *,
    recording: Annotated[
        str, typer.Argument(metavar="FILE", help="A recording of one person alone; - is the standard input.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="File for the voice; by default stdout.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output file that exists.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="Limit in seconds; none by default.")
    ] = None,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    debug: Debug = False,
) -> None:
    """Saves what somebody sounds like, to recognise that person in other recordings.

    Half a minute of speech is enough. The file holds the embedding of the voice and the id of the model that made it,
    and is of use as long as the diarizer has the same one.
    """
    with reporting(gateway=gateway, debug=debug), client_of(gateway, submitter) as client:
        if output is not None:
            destinations.check_folder(output.parent, "--output")
            destinations.refuse_existing(output, overwrite=overwrite)
        source = sys.stdin.buffer if recording == STDIN else recording
        # The words do not matter: the narrowest search is the fastest.
        text = voice_json(_voice_of(client.transcribe(source, timeout=timeout, speaker_count=1, beam_size=1)))
        if output is None:
            typer.echo(text, nl=False)
        else:
            destinations.write_file(output, text, overwrite=overwrite)


def known_speakers(given: Sequence[str]) -> list[KnownSpeaker]:
    """The people of ``NAME=FILE``, whose voices are read where the file is one.

    Raises ``OSError`` where a file is not there, ``InvalidRequest`` where one is no voice, and a usage error for
    anything that is not of this form.
    """
    known = []
    for argument in given:
        name, equals, file = argument.partition("=")
        if not (name and equals and file):
            raise typer.BadParameter(f"--known-speaker must be NAME=FILE, but is {argument}")
        known.append(KnownSpeaker(name, read_voice(file) if file.endswith(".json") else read_reference(name, file)))
    return known


def _voice_of(result: TranscriptionResult) -> Voice:
    """The voice of the one speaker. Raises ``CarecaError`` where there is none."""
    for report in result.stages:
        if report.stage is Stage.DIARIZE and report.state is StageState.FAILED:
            raise InternalError(f"{report.stage} failed: {report.error_message or report.error_reason}")
    for speaker in result.speakers:
        if speaker.voice is not None:
            return speaker.voice
        raise InternalError("the diarizer's pipeline gives no embeddings of speakers")
    raise InvalidRecording("there is no speech in this recording", reason="NO_SPEECH")
