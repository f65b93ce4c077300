"""``python -m careca.models list|pull|verify [NAME...]``: manages models without the client, as in images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from careca.errors import CarecaError
from careca.models.sources import PullProgress
from careca.models.store import ModelStore
from careca.settings import ModelStoreSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0 for success, 1 if a model is missing, wrong or cannot be fetched."""
    options = _parse(arguments)
    store = ModelStore(options.root or ModelStoreSettings().models_dir)
    try:
        {"list": _list, "pull": _pull, "verify": _verify}[options.command](store, options.names)
    except CarecaError as error:
        return _fail(error.message)
    except OSError as error:
        return _fail(f"The folder of the models cannot be used: {error}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m careca.models", description="Manages the models of Careca.")
    parser.add_argument("command", choices=("list", "pull", "verify"), help="the command")
    parser.add_argument("names", nargs="*", metavar="NAME", help="models; by default Careca's default models")
    parser.add_argument("--root", type=Path, help="folder of the models; by default the value of CARECA_MODELS_DIR")
    return parser.parse_args(arguments)


def _list(store: ModelStore, names: Sequence[str]) -> None:
    for status in store.list():
        model = status.model
        if not names or model.name in names:
            state = "present" if status.present else "missing"
            size = f"{model.size_bytes / 1e6:.0f} MB"
            _print(f"{model.name:<18} {state:<10} {size:>7}  {model.licence:<11} {model.description}")


def _pull(store: ModelStore, names: Sequence[str]) -> None:
    last_line = ""

    def report(progress: PullProgress) -> None:
        nonlocal last_line
        percent = progress.done_bytes * 10 // progress.total_bytes * 10 if progress.total_bytes else None
        line = f"{progress.model}: {progress.step}" + (f" {percent} %" if percent is not None else "")
        if line != last_line:
            _print(line)
            last_line = line

    store.pull(*names, on_progress=report)


def _verify(store: ModelStore, names: Sequence[str]) -> None:
    for name in names or store.default_names:
        _print(f"{name}: {store.verify(name)} is verified")


def _fail(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 1


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
