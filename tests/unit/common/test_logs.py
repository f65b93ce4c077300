"""The format of log lines."""

import json
import logging

import pytest
import structlog
from structlog.contextvars import bound_contextvars

from careca.telemetry.logs import configure, get_logger


@pytest.fixture
def lines(capsys):
    """Returns a function that configures logs and returns a reader of the log."""

    def read():
        return capsys.readouterr().err.splitlines()

    def configured(**settings):
        configure(**{"level": "info", "log_format": "auto"} | settings)
        return read

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield configured
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_one_json_object_with_the_values_by_name_and_the_request_id(lines):
    read = lines(log_format="json")

    with bound_contextvars(request_id="caller-1"):
        get_logger("test").info("task finished", seconds=1.5)

    (line,) = map(json.loads, read())
    assert (line["event"], line["seconds"], line["level"]) == ("task finished", 1.5, "info")
    assert line["request_id"] == "caller-1"
    assert line["timestamp"].endswith("Z")


def test_log_lines_of_other_libraries_have_the_same_format(lines):
    read = lines(log_format="json")

    logging.getLogger("library").warning("took %s s", 3)

    (line,) = map(json.loads, read())
    assert (line["event"], line["level"]) == ("took 3 s", "warning")


def test_a_traceback_is_in_the_line_without_the_values_of_local_variables(lines):
    read = lines(log_format="json")

    try:
        password = "secret"
        raise ValueError(f"wrong password of {len(password)} letters")
    except ValueError:
        get_logger("test").exception("failed")

    (line,) = map(json.loads, read())
    assert "ValueError: wrong password of 6 letters" in line["exception"]
    assert "secret" not in line["exception"].replace('password = "secret"', "")


def test_lines_below_the_level_are_left_out(lines):
    read = lines(log_format="json", level="warning")

    get_logger("test").info("quiet")
    logging.getLogger("library").info("quiet")
    get_logger("test").warning("loud")

    assert [json.loads(line)["event"] for line in read()] == ["loud"]


def test_without_a_terminal_the_automatic_format_is_json_and_console_can_be_selected(lines):
    read = lines(log_format="auto")
    get_logger("test").info("automatic")
    assert json.loads(read()[0])["event"] == "automatic"

    read = lines(log_format="console")
    get_logger("test").info("for people", seconds=1.5)
    (line,) = read()
    assert "for people" in line
    assert not line.startswith("{")


def test_mistakes_of_callers_are_not_logged_as_errors_of_grpc(lines):
    read = lines(log_format="json")
    logger = logging.getLogger("grpc._cython.cygrpc")

    logger.error("Invalid encoding on %s", b"\xff")
    logger.error("ExecuteBatchError raised in core by servicer method [/a/B]")
    logger.error("Unexpected [ValueError] raised by servicer method [/a/B]")

    assert [json.loads(line)["event"][:10] for line in read()] == ["Unexpected"]


def test_a_child_process_that_is_killed_when_it_has_ended_is_not_logged(lines):
    read = lines(log_format="json")
    logger = logging.getLogger("asyncio")

    logger.warning("Unknown child process pid %d, will report returncode 255", 7)
    logger.warning("child process pid %d exit status already read:  will report returncode 255", 7)
    logger.warning("Task was destroyed but it is pending!")

    assert [json.loads(line)["event"] for line in read()] == ["Task was destroyed but it is pending!"]
