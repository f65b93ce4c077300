"""``python -m careca.models list|pull|verify [NAME...]``: models without the client, as in a service's image."""

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
    """Runs one command. Answers 0 where all went well, 1 where a model is missing, wrong or cannot be had."""
    options = _parse(arguments)
    store = ModelStore(options.root or ModelStoreSettings().models_dir)
    try:
        {"list": _list, "pull": _pull, "verify": _verify}[options.command](store, options.names)
    except CarecaError as error:
        return _complain(error.message)
    except OSError as error:
        return _complain(f"The folder of the models cannot be used: {error}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m careca.models", description="The models that Careca uses.")
    parser.add_argument("command", choices=("list", "pull", "verify"), help="what to do")
    parser.add_argument("names", nargs="*", metavar="NAME", help="models; by default those that Careca uses by default")
    parser.add_argument("--root", type=Path, help="folder of the models; by default what CARECA_MODELS_DIR says")
    return parser.parse_args(arguments)


def _list(store: ModelStore, names: Sequence[str]) -> None:
    for status in store.list():
        model = status.model
        if not names or model.name in names:
            there = "there" if status.present else "not there"
            size = f"{model.size_bytes / 1e6:.0f} MB"
            _say(f"{model.name:<18} {there:<10} {size:>7}  {model.licence:<11} {model.description}")


def _pull(store: ModelStore, names: Sequence[str]) -> None:
    said = ""

    def report(progress: PullProgress) -> None:
        nonlocal said
        percent = progress.done_bytes * 10 // progress.total_bytes * 10 if progress.total_bytes else None
        line = f"{progress.model}: {progress.step}" + (f" {percent} %" if percent is not None else "")
        if line != said:
            _say(line)
            said = line

    store.pull(*names, on_progress=report)


def _verify(store: ModelStore, names: Sequence[str]) -> None:
    for name in names or [name for name, model in store.catalogue.items() if model.default]:
        _say(f"{name}: {store.verify(name)} is right")


def _complain(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
