"""``careca models``: the model weights on this machine. Calls no gateway."""

from __future__ import annotations

import dataclasses
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
from careca_client.cli.help import epilog
from careca_client.cli.options.common import AsJson, Debug
from careca_client.cli.output import terminal
from careca_client.cli.output.tables import create_table

EXIT_CODES = """\
Exit codes:

\b
  0    success
  1    a model is missing, wrong or unknown, or cannot be downloaded
  2    the command line is wrong
  130  interrupted
"""

HELP = """\
Lists, downloads and verifies the models of the services.

The variable CARECA_MODELS_DIR names their folder. The download needs no account and no token.
"""

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME", help="Models, or ORGANISATION/NAME on the Hugging Face hub. Default: the default models."
    ),
]

Folder = Annotated[
    Path | None,
    typer.Option("--models-dir", file_okay=False, help="Folder of the models. Default: CARECA_MODELS_DIR."),
]


def build_app() -> typer.Typer:
    """The command with its subcommands."""
    app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
    app.command("list", epilog=_epilog("list", "list --json"))(list_models)
    app.command("pull", epilog=_epilog("pull", "pull whisper-tiny.en", "pull Systran/faster-whisper-small"))(pull)
    app.command("verify", epilog=_epilog("verify", "verify whisper-base || careca models pull whisper-base"))(verify)
    return app


def _epilog(*arguments: str) -> str:
    return epilog(*(f"careca models {each}" for each in arguments), exit_codes=EXIT_CODES)


def list_models(*, folder: Folder = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Lists the known models.

    It shows whether a model is present. `verify` checks its files.
    """
    with reporting(debug=debug):
        found = _open_store(folder).list()
        terminal.print_document([_document(status) for status in found], _table(found), as_json=as_json)


def pull(names: Names = [], *, folder: Folder = None, debug: Debug = False) -> None:  # noqa: B006 -- typer copies it
    """Downloads models and prints their folders.

    The digest of each file is checked. Files that are present and correct are not downloaded again.
    """
    with reporting(debug=debug, failure=ExitCode.FAILED):
        store = _open_store(folder)
        console = terminal.stderr()
        if console.is_terminal:
            _pull_with_bars(store, names, console)
        else:
            store.pull(*names, on_progress=_line_printer(console))
        for name in names or store.default_names:
            typer.echo(store.path(name))


def verify(names: Names = [], *, folder: Folder = None, debug: Debug = False) -> None:  # noqa: B006 -- typer copies it
    """Verifies the digests of models on disk.

    Prints the folders of the models that are correct.
    """
    with reporting(debug=debug, failure=ExitCode.FAILED):
        store = _open_store(folder)
        verified = [_verify(store, name) for name in names or store.default_names]
        if not all(verified):
            raise typer.Exit(ExitCode.FAILED)


def _open_store(folder: Path | None) -> ModelStore:
    return ModelStore(folder or ModelStoreSettings().models_dir)


def _verify(store: ModelStore, name: str) -> bool:
    """Prints the model's folder if it is correct, else the error. Returns whether it is correct."""
    try:
        typer.echo(store.verify(name))
    except CarecaError as error:
        terminal.print_error(describe(error))
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


def _line_printer(console: Console) -> Callable[[PullProgress], None]:
    """Returns a callback that prints a line at the start of each step and at each quarter of it."""
    last = ""

    def show(at: PullProgress) -> None:
        nonlocal last
        quarter = at.done_bytes * 4 // at.total_bytes * 25 if at.total_bytes else 0
        line = terminal.line(f"{at.step} ({quarter} %)" if 0 < quarter < 100 else at.step, at.model)
        if line != last:
            console.print(line)
            last = line

    return show


def _table(found: Sequence[ModelStatus]) -> Table:
    table = create_table("model", "there", "default", "kind", "size", "licence")
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
