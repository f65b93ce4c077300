"""What tests of all kinds share: a real Redis, a real S3 endpoint."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog.dev
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from careca.auth.caller import Role
from careca.resources.memory import freeze_objects
from careca.resources.processors import disable_openmp_spinning
from careca_gateway import admin
from support.hangs import pytest_runtest_protocol  # noqa: F401 - pytest finds it here
from support.redis_server import RedisServer
from support.s3_server import S3Server
from support.tokens import Tokens
from support.waiting import HANG_SECONDS

TESTS = Path(__file__).parent

# How long an example takes is no matter of tests: a busy machine may take any time for it.
hypothesis.settings.register_profile("any time", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any time")

# As in services. A traceback with local variables, which is the default, takes seconds.
structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback

disable_openmp_spinning()  # as the services do: tests run models in this process, perhaps beside a running stack


@pytest.fixture(scope="module", autouse=True)
def _collections_are_quick() -> None:
    """As in a service. Each task collects garbage, which takes longer than the rest of most tests if it scans all."""
    freeze_objects()


class _Together(LoadScopeScheduling):  # type: ignore[misc]
    """The tests of a file run in one process, and those of a folder with a conftest.py, so that they share fixtures.

    The groups of pytest-xdist 3.8 have no effect with pytest 9.2, which takes no other node id.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        shares = (TESTS.parent / file.parent / "conftest.py").is_file() and file.parent.name != TESTS.name
        return str(file.parent if shares else file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """Replaces pytest-xdist's ``loadfile``."""
    return _Together(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def _services_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine statistics take longer than operators wait for them."""
    monkeypatch.setattr(admin, "STATS_SECONDS", HANG_SECONDS)


@pytest.fixture(scope="session")
def _redis_process() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def redis_server(_redis_process: RedisServer) -> RedisServer:
    """Runs and is empty, whatever the test before did to it."""
    _redis_process.resume()
    _redis_process.start()
    with _redis_process.client() as client:
        client.flushall()
    return _redis_process


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture(scope="session")
def _s3_process() -> Iterator[S3Server]:
    server = S3Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3_server(_s3_process: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Runs, with an empty bucket, and the environment says where."""
    _s3_process.reset()
    for name, value in _s3_process.environment.items():
        monkeypatch.setenv(name, value)
    return _s3_process


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """Two users and an administrator."""
    tokens = Tokens(tmp_path / "tokens.toml")
    for name in ("ana", "bo"):
        tokens.add(name)
    tokens.add("ops", Role.ADMIN)
    return tokens
