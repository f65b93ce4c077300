"""A process that answers lines of JSON."""

import sys
from pathlib import Path

import pytest

from bench.common.answering import AnsweringProcess

UPPERCASE = """
import json, os, sys
for line in sys.stdin:
    request = json.loads(line)
    if request.get("word") == "die":
        sys.exit(3)
    print(json.dumps({key: value.upper() for key, value in request.items()} | {"pid": os.getpid()}), flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "uppercase.py"
    path.write_text(UPPERCASE)
    return path


def test_each_request_has_its_answer_from_one_process(program: Path) -> None:
    with AnsweringProcess([sys.executable, program]) as process:
        answers = [process.ask({"word": word}) for word in ("one", "two")]

    assert [each["word"] for each in answers] == ["ONE", "TWO"]
    assert len({each["pid"] for each in answers}) == 1


def test_leaving_ends_the_process(program: Path) -> None:
    with AnsweringProcess([sys.executable, program]) as process:
        pid = process.ask({})["pid"]
        assert Path(f"/proc/{pid}").exists()

    assert not Path(f"/proc/{pid}").exists()


def test_a_process_that_ends_instead_of_answering_is_an_error_that_names_it(program: Path) -> None:
    with (
        AnsweringProcess([sys.executable, program]) as process,
        pytest.raises(RuntimeError, match=r"uppercase\.py ended"),
    ):
        process.ask({"word": "die"})


def test_a_process_that_never_gets_ready_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit(3)")

    with pytest.raises((RuntimeError, BrokenPipeError)), AnsweringProcess([sys.executable, tmp_path / "broken.py"]):
        pytest.fail("it was never ready")
