"""``careca edit`` and ``careca revisions``: correct the transcript of a job, and list what was saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from careca.errors import InvalidRequest
from careca.types import Edit, RenameSpeaker, ReplaceUtterances, Revision
from careca_client.access import DEFAULT_TARGET
from careca_client.blocking.client import Client
from careca_client.cli.connection import connected
from careca_client.cli.help import epilog
from careca_client.cli.options.common import AsJson, Debug, Gateway, JobId, Submitter
from careca_client.cli.options.revision import ORIGINAL, parse_revision
from careca_client.cli.output import job_tables, terminal
from careca_client.transcripts import read_transcript

EDIT_EPILOG = epilog(
    "careca edit JOB --rename SPEAKER_00=Ana --rename SPEAKER_01=Bob",
    "careca edit JOB --rename SPEAKER_02=Ana --merge",
    "careca result JOB -o call.json && $EDITOR call.json && careca edit JOB --import call.json",
    "careca edit JOB --restore original",
)

REVISIONS_EPILOG = epilog("careca revisions JOB", "careca result JOB --revision 2")


def edit(
    *,
    job_id: JobId,
    rename: Annotated[
        list[str],
        typer.Option("--rename", metavar="OLD=NEW", help="Rename a speaker everywhere. May be repeated."),
    ] = [],  # noqa: B006 -- typer copies it
    merge: Annotated[
        bool, typer.Option("--merge", help="With --rename: if another speaker has the new name, make them one speaker.")
    ] = False,
    edited: Annotated[
        Path | None,
        typer.Option(
            "--import",
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Take all utterances from a result in JSON that was edited. Words whose text did not change keep their"
            " times, even if only the text of their utterance was edited.",
        ),
    ] = None,
    restore: Annotated[
        int | None,
        typer.Option(
            "--restore",
            parser=parse_revision,
            metavar=f"{ORIGINAL}|N",
            help=f"Save an older revision again; {ORIGINAL} is what was recognised.",
        ),
    ] = None,
    base: Annotated[
        int | None,
        typer.Option(
            "--base",
            parser=parse_revision,
            metavar=f"{ORIGINAL}|N",
            help="The revision that the change was made for. It is refused if there is a newer one. Default: that of"
            " the imported file, otherwise the newest.",
        ),
    ] = None,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Corrects the transcript of a job, and prints the revision that was saved.

    The formats of `careca result` are made of the newest revision. What was recognised is kept.
    """
    renames = [_rename(text, merge=merge) for text in rename]
    if restore is None and not renames and edited is None:
        raise typer.BadParameter("there is nothing to do: give --rename, --import or --restore")
    if restore is not None and (renames or edited):
        raise typer.BadParameter("--restore cannot be combined with --rename and --import")
    if merge and not renames:
        raise typer.BadParameter("--merge needs --rename")
    with connected(gateway, submitter, debug=debug) as client:
        if restore is not None:
            newest = _newest(client, job_id) if base is None else base
            saved = client.restore_revision(job_id, restore, base_revision=newest)
        else:
            saved = _save(client, job_id, renames, edited, base)
        terminal.print_document(dataclasses.asdict(saved), f"revision {saved.number}: {saved.summary}", as_json=as_json)


def revisions(
    *,
    job_id: JobId,
    gateway: Gateway = DEFAULT_TARGET,
    submitter: Submitter = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Lists the revisions of the transcript of a job, oldest first."""
    with connected(gateway, submitter, debug=debug) as client:
        found = client.revisions(job_id)
        document = [dataclasses.asdict(revision) for revision in found]
        terminal.print_document(document, job_tables.revision_table(found), as_json=as_json)


def _rename(text: str, *, merge: bool) -> RenameSpeaker:
    speaker, equals, name = text.partition("=")
    if not (speaker and equals and name):
        raise typer.BadParameter(f"{text} must be OLD=NEW, such as SPEAKER_00=Ana", param_hint="--rename")
    return RenameSpeaker(speaker, name, merge)


def _newest(client: Client, job_id: str) -> int:
    return max((revision.number for revision in client.revisions(job_id)), default=0)


def _save(
    client: Client, job_id: str, renames: Iterable[RenameSpeaker], edited: Path | None, base: int | None
) -> Revision:
    """Saves what was imported, and then the other names."""
    edits: list[Edit] = list(renames)
    if edited is not None:
        transcript = read_transcript(edited)
        base = transcript.revision if base is None else base
        if base is None:
            raise InvalidRequest(
                f"{edited} does not say which revision it was made of: say it with --base, or add the field revision"
            )
        count = len(client.job_result(job_id, revision=base).message.utterances)
        edits.insert(0, ReplaceUtterances(0, count, transcript.utterances))
    if base is None:
        base = _newest(client, job_id)
    return client.save_transcript(job_id, edits, base_revision=base).revision
