"""What README and docs tell people to type is right: settings, commands, options and names exist."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import settings_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
NAMES = ("usage", "python", "speakers", "security", "jobs", "monitoring", "benchmarks", "diarization")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PAGES = (README, CONTRIBUTING, *((ROOT / "docs" / f"{name}.md").read_text() for name in NAMES))
BLOCKS = [block for page in PAGES for block in re.findall(r"```(\w+)\n(.*?)```", page, flags=re.DOTALL)]
EXAMPLES = [block for language, block in BLOCKS if language == "python"]
GROUPS = {"jobs", "voices", "models", "tokens"}
COMMAND_NAMES = GROUPS | {
    "transcribe",
    "live",
    "submit",
    "result",
    "voice",
    "stats",
    "clear-cache",
    "release-memory",
    "health",
}
COMMANDS = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines() if line.strip()]


def test_the_table_of_settings_is_current() -> None:
    page = settings_table.PAGE.read_text()

    assert settings_table.with_table(page) == page, "run `make docs`"


def test_every_setting_has_a_sentence() -> None:
    rows = settings_table.table().splitlines()[2:]

    assert len(rows) > 20
    assert [row for row in rows if not row.rstrip(" |").endswith(".")] == []


def test_the_two_commands_stand_before_anything_else_to_type() -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_every_make_target_exists(command: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith(".venv/bin/careca ")])
def test_every_option_of_the_command_line_exists(command: str) -> None:
    words = command.partition(">")[0].split()[1:]
    first = next(at for at, word in enumerate(words) if word in COMMAND_NAMES)
    own, options_before = words[first:], [word for word in words[:first] if word.startswith("--")]
    path = own[:2] if own[0] in GROUPS else own[:1]

    usage, general = usage_of(*path), usage_of()

    assert " ".join(path) in usage
    assert [word for word in own if word.startswith("--") and word not in usage] == []
    assert [word for word in options_before if word not in general] == []


@cache
def usage_of(*path: str) -> str:
    """What --help says of a command."""
    command = [sys.executable, "-m", "careca_client", *path, "--help"]
    environment = {"COLUMNS": "200", "NO_COLOR": "1", "PATH": ""}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_python_example_compiles_and_names_what_the_library_has(example: str) -> None:
    import careca_client

    compile(example, "README.md", "exec")
    (names,) = re.findall(r"from careca_client import ([\w, ]+)", example)
    assert set(names.split(", ")) <= set(dir(careca_client))
