"""``careca models``: the weights of models on this machine. Talks to no gateway."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.table import Table

from careca.errors import CarecaError
from careca.models import ModelStatus, ModelStore, PullProgress
from careca.settings import ModelStoreSettings
from careca_client.cli.errors import ExitCode, describe, reporting
from careca_client.cli.options.common import AsJson, Debug
from careca_client.cli.output import tables, terminal

EXIT_CODES_HELP = """\
Exit codes:

\b
  0    all is well
  1    a model is missing, wrong, unknown, or cannot be fetched
  2    the command line is wrong
  130  interrupted
"""

HELP = """\
Lists, fetches and checks the models of the services.

They lie in the folder that CARECA_MODELS_DIR names. Fetching needs no account and no token.
"""

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME", help="Models, or ORGANISATION/NAME on the Hugging Face hub; else the default ones."),
]

Folder = Annotated[
    Path | None,
    typer.Option("--models-dir", file_okay=False, help="Folder of the models; by default what CARECA_MODELS_DIR says."),
]


def build_app() -> typer.Typer:
    """The command with its subcommands."""
    app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
    app.command("list", epilog=_examples("list", "list --json"))(list_models)
    app.command("pull", epilog=_examples("pull", "pull whisper-tiny.en", "pull Systran/faster-whisper-small"))(pull)
    app.command("verify", epilog=_examples("verify", "verify whisper-base || careca models pull whisper-base"))(verify)
    return app


def _examples(*lines: str) -> str:
    return "\n".join(["Examples:", "", "\b", *(f"  careca models {line}" for line in lines), "", EXIT_CODES_HELP])


def list_models(*, folder: Folder = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Lists the models that Careca knows.

    Whether one is there says nothing of whether its files are right: verify does.
    """
    with reporting(debug=debug):
        found = _open_store(folder).list()
        if as_json:
            typer.echo(json.dumps([_document(status) for status in found], indent=2))
        else:
            terminal.stdout().print(_table(found))


def pull(names: Names = [], *, folder: Folder = None, debug: Debug = False) -> None:  # noqa: B006 -- typer copies it
    """Fetches models and prints their folders.

    Every file is checked by its digest. Quick where all are there and right.
    """
    with reporting(debug=debug, failure=ExitCode.FAILED):
        store = _open_store(folder)
        console = terminal.stderr()
        if console.is_terminal:
            _pull_with_bars(store, names, console)
        else:
            store.pull(*names, on_progress=_narrator(console))
        for name in names or _defaults(store):
            typer.echo(store.path(name))


def verify(names: Names = [], *, folder: Folder = None, debug: Debug = False) -> None:  # noqa: B006 -- typer copies it
    """Checks models on disk by their digests.

    Prints the folders of those that are right.
    """
    with reporting(debug=debug, failure=ExitCode.FAILED):
        store = _open_store(folder)
        verified = [_is_right(store, name) for name in names or _defaults(store)]
        if not all(verified):
            raise typer.Exit(ExitCode.FAILED)


def _open_store(folder: Path | None) -> ModelStore:
    return ModelStore(folder or ModelStoreSettings().models_dir)


def _defaults(store: ModelStore) -> list[str]:
    return [status.model.name for status in store.list() if status.model.default]


def _is_right(store: ModelStore, name: str) -> bool:
    """Whether the model is there and right; if it is not, says why, and the others are still looked at."""
    try:
        typer.echo(store.verify(name))
    except CarecaError as error:
        terminal.complain(describe(error))
        return False
    return True


def _pull_with_bars(store: ModelStore, names: Sequence[str], console: Console) -> None:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console) as progress:
        bars: dict[str, TaskID] = {}

        def show(at: PullProgress) -> None:
            if at.model not in bars:
                bars[at.model] = progress.add_task(at.model, total=None)
            description = f"{at.model}: {at.step}"
            progress.update(
                bars[at.model], description=description, completed=at.done_bytes, total=at.total_bytes or None
            )

        store.pull(*names, on_progress=show)


def _narrator(console: Console) -> Callable[[PullProgress], None]:
    """A line where a step begins and at each quarter of it."""
    said = ""

    def narrate(at: PullProgress) -> None:
        nonlocal said
        quarter = at.done_bytes * 4 // at.total_bytes * 25 if at.total_bytes else 0
        line = terminal.line(f"{at.step} ({quarter} %)" if 0 < quarter < 100 else at.step, at.model)
        if line != said:
            console.print(line)
            said = line

    return narrate


def _table(found: Sequence[ModelStatus]) -> Table:
    table = tables.new("model", "there", "default", "kind", "size", "licence")
    for status in found:
        model = status.model
        there, default = ("yes" if flag else "no" for flag in (status.present, model.default))
        size = decimal(model.size_bytes)
        table.add_row(model.name, there, default, model.kind, size, model.licence)
    return table


def _document(status: ModelStatus) -> dict[str, Any]:
    model = dataclasses.asdict(status.model)
    facts = {name: model[name] for name in ("name", "kind", "description", "licence", "default")}
    size = status.model.size_bytes
    return {**facts, "id": status.model.id, "size_bytes": size, "folder": str(status.folder), "present": status.present}
