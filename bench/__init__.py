"""Measurements of Careca. `make help` lists the commands; each package has one entry, its ``__main__``.

Run from the repository: ``.venv/bin/python -m bench.robustness --help``.
"""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
"""The folder of the whole project."""

# Folders of scripts and of helpers for tests; they are no packages that could be installed.
sys.path += [str(REPOSITORY / "deploy" / "local"), str(REPOSITORY / "tests")]
