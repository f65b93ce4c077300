"""The real stack, started once for all files of this folder: a real Redis, real processes, real models."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from careca_client import Client
from demo import sample
from local_stack import LocalStack
from support.timed_stack import PATIENT


@pytest.fixture(scope="session")
def recording() -> Path:
    """Thirty seconds of a phone call between Diane in New Jersey and Sheila in Texas."""
    return sample()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Ends cleanly, whatever the tests did to it: this is checked after the last of them."""
    with LocalStack(tmp_path_factory.mktemp("stack"), environment=PATIENT, web=True) as running:
        yield running
        processes = [psutil.Process(pid) for pid in running.pids.values()]

    parts = ("redis", "jobs_redis", "transcriber", "diarizer", "gateway", "web")
    assert running.exit_codes == dict.fromkeys(parts, 0)
    assert not any(process.is_running() for process in processes)


@pytest.fixture
def client(stack: LocalStack) -> Iterator[Client]:
    with Client(stack.gateway_target) as connected:
        yield connected
