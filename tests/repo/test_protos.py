"""The protos are the manual: every field is documented, and every rpc says which statuses it answers with."""

from pathlib import Path

import pytest

PROTOS = sorted((Path(__file__).parents[2] / "protos" / "careca" / "v1").glob("*.proto"))


def declarations(text: str, *, starts: tuple[str, ...] = (), contains: str = "") -> list[tuple[str, list[str]]]:
    """Each line that declares something, with the comment lines directly above it."""
    found, comment = [], []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("//"):
            comment.append(line)
            continue
        if (starts and line.startswith(starts)) or (contains and contains in line):
            found.append((line, comment))
        comment = []
    return found


def text_of(name: str) -> str:
    return next(path for path in PROTOS if path.stem == name).read_text()


def test_the_protos_are_found() -> None:
    assert {path.stem for path in PROTOS} == {
        "admin",
        "audio",
        "diarizer",
        "gateway",
        "jobs",
        "live",
        "recordings",
        "transcriber",
        "transcripts",
        "voices",
    }


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.stem)
def test_every_field_and_enum_value_is_documented(path: Path) -> None:
    fields = [found for found in declarations(path.read_text(), contains=" = ") if "syntax" not in found[0]]

    assert fields
    assert [line for line, comment in fields if not comment] == []


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.stem)
def test_every_rpc_lists_the_statuses_that_it_answers_with(path: Path) -> None:
    for line, comment in declarations(path.read_text(), starts=("rpc ",)):
        assert any("Errors:" in each for each in comment), line


@pytest.mark.parametrize("service", ["transcriber", "diarizer", "admin"])
def test_every_service_shows_statistics_clears_its_cache_and_releases_memory(service: str) -> None:
    rpcs = {line.split("(")[0] for line, _ in declarations(text_of(service), starts=("rpc ",))}

    assert {"rpc Stats", "rpc ClearCache", "rpc ReleaseMemory"} <= rpcs


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ("transcriber", "TranscriberServiceTranscribeRequest"),
        ("diarizer", "DiarizeRequest"),
        ("gateway", "TranscribeRequest"),
        ("jobs", "UploadRecordingRequest"),
    ],
)
def test_stream_messages_state_the_rules_of_the_stream(service: str, message: str) -> None:
    comments = dict(declarations(text_of(service), starts=("message ",)))

    assert "The first carries config" in " ".join(comments[f"message {message} {{"])
