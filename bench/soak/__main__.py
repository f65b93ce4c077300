"""A week of work and disturbances in an hour, and whether anything grows or is lost: ``make soak``.

.venv/bin/python -m bench.soak                             # an hour; writes docs/benchmarks.md
.venv/bin/python -m bench.soak --minutes 5 --no-document   # finds what is lost, but is too short for what grows

Gateways, web services, transcribers, diarizers and both Redis are real processes with TLS and tokens; the model
services have engines that only take time. Callers do everything at once, at the edge of capacity, while services and
Redis are restarted, certificates and tokens are replaced, clocks step and the disk fills. Ends with status 1 where
anything is answered, lost, logged or kept that must not be.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import psutil

from bench import REPOSITORY
from bench.common.harness import announce
from bench.common.report import Report
from bench.common.tables import seconds, splice, table
from bench.fuzz.services import WORK
from bench.load.arrivals import percentile
from bench.soak.disturbances import CLOCK, DISK, PERIODS, Disturbances
from bench.soak.levels import ENOUGH_SECONDS, WARM_UP_SECONDS, Growth, Levels, files_in
from bench.soak.logs import Logs
from bench.soak.stack import SoakStack, small_disk
from bench.soak.work import TASKS, Work
from local_stack import StackError

DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
MARK = "soak"

LOADS = (0.6, 0.9, 1.1, 1.4)
"""Offered work as a part of the capacity. Each part of the run has one of these, in an order that chance determines."""

PART_SECONDS = 60.0

REST_SECONDS = 120.0
"""How long the stack gets to come to rest after the last answer."""

FAULTS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does."""

    minutes: float
    seed: int = 1
    replicas: int = 2
    task_seconds: float = 2.0
    """What each task takes at either model service."""
    logs: Path | None = None
    """The folder that keeps the logs of the services."""
    settings: dict[str, str] = field(default_factory=dict)
    """Settings of the services that replace those of ``SoakStack``."""


@dataclass
class Findings:
    """What was seen."""

    work: Work
    disturbances: Disturbances
    logs: Logs
    notes: list[str]
    """What could not be done on this machine."""
    growths: list[Growth] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """What is there although nobody works any more."""
    wrong_ends: list[str] = field(default_factory=list)
    """Processes that did not end in order."""
    wall_seconds: float = 0.0

    @property
    def faults(self) -> list[str]:
        """Everything that must not be."""
        growing = [
            f"{each.whose}: {each.what} grow from {each.first:.1f} to {each.last:.1f}"
            for each in self.growths
            if not each.flat
        ]
        found = (self.work.faults, self.disturbances.faults, self.logs.faults, growing, self.left, self.wrong_ends)
        return [fault for faults in found for fault in faults]


def main() -> int:
    """Runs and writes; 1 where anything is not as it must be, or if the run was interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long work comes (default: 60)")
    parser.add_argument("--replicas", type=int, default=2, help="processes of each service (default: 2)")
    parser.add_argument("--task-seconds", type=float, default=2.0, help="what each task of a model service takes")
    parser.add_argument("--seed", type=int, default=1, help="chooses work, disturbances and their moments")
    parser.add_argument("--logs", type=Path, help="a folder that keeps the logs of the services")
    parser.add_argument("--no-document", action="store_true", help="do not write docs/benchmarks.md")
    arguments = parser.parse_args()
    if arguments.logs and any(arguments.logs.glob("*.log")):
        parser.error(f"{arguments.logs} has logs of another run: choose another folder")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        findings = soak(
            Plan(arguments.minutes, arguments.seed, arguments.replicas, arguments.task_seconds, arguments.logs)
        )
    except KeyboardInterrupt:
        announce("interrupted; everything was ended and removed")
        return 1
    except StackError as error:
        announce(f"cannot start: {error}")
        return 1
    command = f"python -m bench.soak --minutes {arguments.minutes:g} --seed {arguments.seed}"
    text = as_text(findings, command)
    print(text)
    for fault in findings.faults[:FAULTS_SHOWN]:
        announce(fault)
    if not arguments.no_document:
        DOCUMENT.write_text(splice(DOCUMENT.read_text(encoding="utf-8"), text, mark=MARK), encoding="utf-8")
    return 1 if findings.faults else 0


def soak(plan: Plan) -> Findings:
    """Runs everything, and removes everything again. Raises ``StackError`` if the stack cannot be started."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="careca-soak-") as name:
        root = Path(name)
        with small_disk(root / "disk") as mounted:
            settings = {"CARECA_TIMED_SECONDS": str(plan.task_seconds), **plan.settings}
            stack = SoakStack(
                root / "stack",
                environment=settings,
                replicas=plan.replicas,
                timed_seconds=plan.task_seconds,
                disk=root / "disk",
                announce=announce,
            )
            if plan.logs:
                plan.logs.mkdir(parents=True, exist_ok=True)
                (stack.root / "logs").symlink_to(plan.logs.resolve(), target_is_directory=True)
            causes = set(PERIODS)
            notes = []
            if not mounted:
                causes.remove(DISK)
                notes.append("The disk was not filled: this user cannot mount one. The store is small by its settings.")
            if stack.clocks is None:
                causes.remove(CLOCK)
                notes.append("Clocks did not step: there is no C compiler here.")
            with stack:
                findings = asyncio.run(_soak(stack, plan, sorted(causes), notes, root))
            findings.logs.read()
            findings.wrong_ends = [
                f"{name} ended with status {code} in the end" for name, code in stack.exit_codes.items() if code > 0
            ]
    findings.wall_seconds = time.monotonic() - began
    return findings


async def _soak(stack: SoakStack, plan: Plan, causes: Sequence[str], notes: list[str], folder: Path) -> Findings:
    chance = random.Random(plan.seed)
    disturbances = Disturbances(stack, chance, causes)
    logs = Logs(stack.root / "logs", disturbances)
    levels = Levels(stack)
    work = Work(stack, disturbances, folder, plan.seed)
    findings = Findings(work, disturbances, logs, notes)
    parts = max(1, round(60 * plan.minutes / PART_SECONDS))
    part_seconds = 60 * plan.minutes / parts
    capacity = plan.replicas / plan.task_seconds
    # Each of them as often in any few minutes: levels that rise with the load do not grow then.
    loads = [load for _ in range(0, parts, len(LOADS)) for load in chance.sample(LOADS, len(LOADS))]
    rates = [load * capacity / TASKS for load in loads[:parts]]
    at_rest = await asyncio.to_thread(_children, stack)
    began = time.monotonic()
    watching = [
        asyncio.create_task(watch)
        for watch in (levels.sample_repeatedly(), logs.read_repeatedly(), _tell(findings, began))
    ]
    try:
        async with work, asyncio.TaskGroup() as tasks:
            tasks.create_task(disturbances.run(60 * plan.minutes))
            tasks.create_task(work.run(rates, part_seconds))
        ended = time.monotonic()
        if ended - began - WARM_UP_SECONDS >= ENOUGH_SECONDS:
            findings.growths = list(levels.growths(began + WARM_UP_SECONDS, ended))
        else:
            notes.append(
                f"Growth was not judged: that takes {(WARM_UP_SECONDS + ENOUGH_SECONDS) / 60:.0f} minutes or more."
            )
        findings.left = await _left_over(stack, at_rest)
    finally:
        for task in watching:
            task.cancel()
        failed = [
            each for each in await asyncio.gather(*watching, return_exceptions=True) if isinstance(each, Exception)
        ]
    if failed:
        raise failed[0]
    return findings


async def _tell(findings: Findings, began: float) -> None:
    """Tells every minute how far the run is."""
    told = 0
    while True:
        await asyncio.sleep(PART_SECONDS)
        tallies = findings.work.tallies.values()
        announce(
            f"{(time.monotonic() - began) / 60:.0f} min: {sum(each.asked for each in tallies)} pieces of work, "
            f"{sum(each.done for each in tallies)} done, {sum(each.errors.total() for each in tallies)} refused; "
            f"{len(findings.faults)} faults"
        )
        for fault in findings.faults[told : told + FAULTS_SHOWN]:
            announce(f"  {fault[:1200]}")
        told = len(findings.faults)


async def _left_over(stack: SoakStack, children: dict[str, int]) -> list[str]:
    """What is still there once the stack had time to come to rest."""
    deadline = time.monotonic() + REST_SECONDS
    while True:
        left = await asyncio.to_thread(
            lambda: [*_unfinished(stack), *_more_children(stack, children), *_files_left(stack)]
        )
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(2.0)


def _unfinished(stack: SoakStack) -> list[str]:
    found = [(name, WORK.findall(stack.metrics(name))) for name in stack.services]
    return [f"{name} still says {gauge} {value}" for name, gauges in found for gauge, value in gauges if float(value)]


def _children(stack: SoakStack) -> dict[str, int]:
    """How many child processes each part has."""
    return {name: len(psutil.Process(pid).children(recursive=True)) for name, pid in stack.pids.items()}


def _more_children(stack: SoakStack, before: dict[str, int]) -> list[str]:
    now = _children(stack)
    return [
        f"{name} has {now[name] - count} more child processes" for name, count in before.items() if now[name] > count
    ]


def _files_left(stack: SoakStack) -> list[str]:
    """Temporary files, drafts and unfinished uploads."""
    folders = [stack.disk / "tmp", stack.disk / "uploads", *stack.disk.glob("store/*/drafts")]
    files = [path for folder in folders for path in files_in(folder) if path.suffix != ".lock"]
    return [f"left over: {path.relative_to(stack.disk)}" for path in files]


def as_text(findings: Findings, command: str) -> str:
    """What was seen, as Markdown."""
    tallies = findings.work.tallies
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{len(os.sched_getaffinity(0))} cores with {memory:.0f} GiB of memory, {platform.system()}"
    wall = (
        f"Measured {datetime.now(UTC):%Y-%m-%d} with `{command}`, in {findings.wall_seconds / 60:.0f} minutes, "
        f"on {machine} {platform.machine()}. Other work used the same machine."
    )
    report = Report()
    _report(report, findings)
    kinds = [
        [
            kind.replace("_", " "),
            str(tally.asked),
            str(tally.done),
            ", ".join(f"{count} {reason}" for reason, count in tally.errors.most_common()) or "-",
            *(seconds(percentile(tally.seconds, part)) for part in (0.5, 0.99)),
        ]
        for kind, tally in tallies.items()
    ]
    disturbances = [[cause, str(count)] for cause, count in findings.disturbances.counts.items()]
    events = [
        [event, service, str(count)]
        for (service, event), count in sorted(findings.logs.expected.items(), key=_by_event)
    ]
    growths = [
        [each.whose, each.what, *(f"{value:.1f}" for value in (each.first, each.last, each.certain, each.allowed))]
        for each in findings.growths
    ]
    tables = [
        table(["", "limit", "measured", "met"], report.rows),
        table(["work", "asked", "done", "expected errors", "p50", "p99"], kinds),
        table(["disturbance", "times"], disturbances),
        table(["expected warnings and errors in logs", "service", "times"], events),
    ]
    if growths:
        tables.append(table(["", "", "after the warm-up", "at the end", "certain growth", "allowed"], growths))
    return "\n\n".join([wall, *findings.notes, *tables])


def _report(report: Report, findings: Findings) -> None:
    """Adds the limits."""
    asked = sum(each.asked for each in findings.work.tallies.values())
    none = [
        (
            f"answers that must not be, of {asked:,} pieces of work, {findings.work.accepted_jobs:,} jobs among them",
            findings.work.faults,
        ),
        ("unexpected lines in logs", findings.logs.faults),
        ("disturbances with the wrong outcome", findings.disturbances.faults),
        ("files, child processes and work that are left in the end", findings.left),
        ("processes that did not end in order", findings.wrong_ends),
    ]
    for what, faults in none:
        report.limit(what, "0", str(len(faults)), met=not faults)
    if findings.growths:
        growing = [each for each in findings.growths if not each.flat]
        what = f"levels that grow, of {len(findings.growths)}"
        report.limit(what, "0", str(len(growing)), met=not growing)


def _by_event(item: tuple[tuple[str, str], int]) -> tuple[str, str]:
    (service, event), _ = item
    return event, service


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
