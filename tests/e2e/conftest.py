"""The real stack, started once: a real Redis, real processes, real models."""

from collections.abc import Iterator
from pathlib import Path

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
    with LocalStack(tmp_path_factory.mktemp("stack"), environment=PATIENT, web=True) as running:
        yield running


@pytest.fixture
def client(stack: LocalStack) -> Iterator[Client]:
    with Client(stack.gateway_target) as connected:
        yield connected
