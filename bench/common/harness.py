"""The stack under measurement: started fresh for each part, in a folder of its own that goes with it."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import REPOSITORY
from bench.common import machine
from bench.common.dataset import DatasetError
from bench.system.results import Run
from careca_client import Client


@dataclass(frozen=True, slots=True)
class Bench:
    """A running stack: where its gateway is, a client of it, its services' process ids and environment, a folder."""

    target: str
    client: Client
    pids: Mapping[str, int]
    environment: Mapping[str, str]
    folder: Path

    def new_client(self) -> Client:
        """One more client, which knows no file yet."""
        return Client(self.target)


@contextmanager
def running_stack() -> Iterator[Bench]:
    """Starts the one-machine stack with empty caches and stops it on leaving. Raises ``local_stack.StackError``."""
    from local_stack import LocalStack

    with (
        tempfile.TemporaryDirectory(prefix="careca-bench-") as name,
        LocalStack(Path(name), announce=announce) as stack,
        Client(stack.gateway_target) as client,
    ):
        yield Bench(
            target=stack.gateway_target,
            client=client,
            pids={service: pid for service, pid in stack.pids.items() if not service.endswith("redis")},
            environment=stack.service_environment("transcriber"),
            folder=Path(name),
        )


def describe_run(client: Client, started: float, *, quick: bool) -> Run:
    """The run that began when ``time.perf_counter`` said ``started`` and ends now."""
    return Run(
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=time.perf_counter() - started,
        quick=quick,
        revision=machine.revision(REPOSITORY),
        models=tuple(each.stats.model for each in client.stats().stages if each.stats),
        machine=machine.describe(),
    )


def cleanly(main: Callable[[], int]) -> int:
    """What ``main`` returns; 1, and a line for the person who waits, where recordings are missing that it needs."""
    try:
        return main()
    except DatasetError as error:
        announce(f"cannot measure: {error}")
        return 1


def announce(text: str) -> None:
    """Tells the person who waits; what was measured goes elsewhere."""
    print(text, file=sys.stderr, flush=True)
