"""Tokens on the command line: creating them, and using them with a real gateway behind TLS."""

from __future__ import annotations

import asyncio
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner, Result

from careca.auth.caller import CallerLimits
from careca.auth.tokens import TokenFile, hash_token
from careca_client.cli.app import build_app
from careca_client.cli.errors import ExitCode
from support.certificates import issue
from support.media import tone, wav
from support.stack import Stack


def careca(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(build_app(), [str(part) for part in arguments], env=environment)


def new_token(path: Path, name: str, *options: str) -> str:
    result = careca("tokens", "new", name, "--file", path, *options)
    assert result.exit_code == ExitCode.OK
    return result.stdout.strip()


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


def test_a_token_is_shown_once_and_its_hash_is_kept_for_this_user_alone(tokens_file: Path) -> None:
    ana = new_token(tokens_file, "ana", "--requests-per-second", "5", "--jobs", "10", "--live-sessions", "2")
    ops = new_token(tokens_file, "ops", "--role", "admin")

    text = tokens_file.read_text()
    assert stat.S_IMODE(tokens_file.stat().st_mode) == 0o600
    assert hash_token(ana) in text
    assert ana not in text
    callers = [TokenFile(tokens_file).caller({"authorization": f"Bearer {token}"}) for token in (ana, ops)]
    assert [(caller.name, caller.is_admin) for caller in callers] == [("ana", False), ("ops", True)]
    assert callers[0].limits == CallerLimits(requests_per_second=5, jobs=10, live_sessions=2)


def test_without_a_file_the_entry_goes_to_stderr_and_the_token_to_stdout(tokens_file: Path) -> None:
    result = careca("tokens", "new", "ana")

    token = result.stdout.strip()
    tokens_file.write_text(result.stderr)
    assert TokenFile(tokens_file).caller({"authorization": f"Bearer {token}"}).name == "ana"


@pytest.mark.parametrize(
    "arguments", [("a b",), ("ana", "--jobs", "0"), ("ana", "--requests-per-second", "-1"), ("ana", "--role", "root")]
)
def test_an_entry_that_a_gateway_would_refuse_is_not_written(arguments: tuple[str, ...], tokens_file: Path) -> None:
    result = careca("tokens", "new", *arguments, "--file", tokens_file)

    assert result.exit_code in (ExitCode.USAGE, ExitCode.REFUSED)
    assert not tokens_file.exists()


def test_a_file_that_a_gateway_would_refuse_is_not_changed(tokens_file: Path) -> None:
    tokens_file.write_text("[[token]")

    result = careca("tokens", "new", "ana", "--file", tokens_file)

    assert result.exit_code == ExitCode.FAILED
    assert "not valid TOML" in result.stderr
    assert tokens_file.read_text() == "[[token]"


@pytest.fixture
def gateway(tmp_path: Path, redis_url: str, tokens_file: Path) -> Iterator[Stack]:
    """A gateway behind TLS, in its own event loop, with the tokens of ana and ops."""
    files = issue(tmp_path / "tls", trustme.CA())
    for name, role in (("ana", "user"), ("ops", "admin")):
        (tmp_path / f"{name}.token").write_text(new_token(tokens_file, name, "--role", role) + "\n")
    settings = {"tokens_file": tokens_file, "tls_cert_file": files.certificate, "tls_key_file": files.key}
    stack = Stack(tmp_path, redis_url, gateway_settings=settings, jobs=True)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(stack.__aenter__(), loop).result()
    yield stack
    asyncio.run_coroutine_threadsafe(stack.__aexit__(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_token_comes_from_a_file_or_a_variable_and_operators_see_statistics(gateway: Stack, tmp_path: Path) -> None:
    there = {"CARECA_GATEWAY": gateway.target, "CARECA_CA_FILE": str(tmp_path / "tls" / "server-ca.pem")}
    recording = tmp_path / "call.wav"
    recording.write_bytes(wav(tone(2.0)))
    ops = (tmp_path / "ops.token").read_text().strip()

    transcribed = careca("--token-file", tmp_path / "ana.token", "transcribe", recording, **there)
    submitted = careca("--token-file", tmp_path / "ana.token", "submit", "--wait", recording, **there)
    listed = careca("jobs", "list", **there, CARECA_TOKEN_FILE=str(tmp_path / "ana.token"))
    stats = careca("stats", **there, CARECA_TOKEN=ops)
    cleared = careca("clear-cache", "--yes", **there, CARECA_TOKEN=ops)

    assert [result.exit_code for result in (transcribed, submitted, listed, stats, cleared)] == [ExitCode.OK] * 5
    assert "call.wav" in listed.stdout


def test_a_missing_or_insufficient_token_is_reported_with_what_to_do(gateway: Stack, tmp_path: Path) -> None:
    there = {"CARECA_GATEWAY": gateway.target, "CARECA_CA_FILE": str(tmp_path / "tls" / "server-ca.pem")}

    unknown = careca("stats", **there)
    user = careca("--token-file", tmp_path / "ana.token", "stats", **there)
    health = careca("health", **there)

    assert (unknown.exit_code, user.exit_code, health.exit_code) == (ExitCode.REFUSED, ExitCode.REFUSED, ExitCode.OK)
    assert "--token-file" in unknown.stderr
    assert "admin" in user.stderr


def test_a_gateway_whose_certificate_is_not_trusted_cannot_be_reached(gateway: Stack, tmp_path: Path) -> None:
    result = careca("--tls", "health", CARECA_GATEWAY=gateway.target)

    assert result.exit_code == ExitCode.FAILED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--token-file", "nowhere", "stats"), "nowhere"),
        (("--ca-file", "nowhere", "stats"), "nowhere"),
        (("--cert-file", __file__, "stats"), "its key"),
        (("--ca-file", __file__, "stats"), "PEM"),
    ],
)
def test_files_that_cannot_be_used_are_named(arguments: tuple[str, ...], message: str) -> None:
    result = careca(*arguments)

    assert result.exit_code in (ExitCode.USAGE, ExitCode.REFUSED, ExitCode.FAILED)
    assert message in result.stderr.replace("\n", "")
