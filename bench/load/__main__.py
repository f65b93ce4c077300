"""How the stack bears load, scales, and changes its replicas under load: ``make load``. Real processes.

.venv/bin/python -m bench.load                   # everything; writes docs/benchmarks.md
.venv/bin/python -m bench.load restart replicas  # some of it; writes nothing

Model services only take time, so that what is measured is everything around the models; ``real`` has the real ones.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from bench import REPOSITORY
from bench.common.harness import announce, cleanly
from bench.common.report import Part, Report, measure
from bench.common.tables import seconds, table
from bench.load import real_models as load_real
from bench.load.arrivals import (
    Ask,
    Asked,
    answered,
    arrivals,
    closed_loop,
    goodput,
    latencies,
    open_loop,
    open_loop_while,
    percentile,
)
from bench.load.callers import worst
from bench.load.stack import Load, NamedFleet, loaded

DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
MARK = "load"

SEED = 7
RUN_SECONDS = 24.0
OVERLOAD_SECONDS = 24.0
CAPACITY_SECONDS = 12.0
SETTLE_SECONDS = 4.0
"""What of a run does not count for goodput: its queues are not what they come to be."""

SHORT_SECONDS = 0.25
"""What a task takes where requests are counted rather than timed: there are more of them then."""

KINDS = ("one call", "job")


def main() -> int:
    """Measures and writes."""
    return measure(PARTS, __doc__ or "", DOCUMENT, MARK)


async def measure_scale(report: Report) -> None:
    """Throughput and latency by the number of replicas and by the load; then more load than can be borne."""
    async with loaded(workers=4) as load:
        capacity, rows = {}, []
        for workers in (4, 2, 1):
            await _keep(load, workers)
            capacity[workers] = await _capacity(load, workers)
            for fraction in (0.5, 0.8, 0.95) if workers == 2 else (0.8,):
                rows += [await _scale_row(load, kind, workers, fraction, capacity[workers]) for kind in KINDS]
        rows.sort(key=lambda row: (KINDS.index(row[0]), row[1:3]))
        for workers, least in ((2, 1.9), (4, 3.6)):
            ratio = capacity[workers] / capacity[1]
            what = f"throughput with {workers} replicas of each model service over that with one"
            report.limit(what, f"{least}", f"{ratio:.2f}", met=ratio >= least)
        report.tables.append(
            table(["", "replicas", "load", "offered", "done", "refused", "failed", "p50", "p95", "p99"], rows)
        )


async def _keep(load: Load, workers: int) -> None:
    """Ends all model services but the first so many of each kind."""
    for name in list(load.stack.pids):
        kind, _, number = name.partition("-")
        if kind in ("transcriber", "diarizer") and int(number) > workers:
            await load.end(name)


async def _capacity(load: Load, workers: int) -> float:
    """Requests in a second with so many callers that nobody's slot waits for them, and none is refused."""
    begin = time.monotonic()
    asked = await closed_loop(load.transcribe, callers=5 * workers, duration=CAPACITY_SECONDS)
    rate = len(answered(asked)) / (max(each.ended for each in asked) - begin)
    announce(f"{workers} replicas do {rate:.2f} requests a second")
    return rate


async def _scale_row(load: Load, kind: str, workers: int, fraction: float, capacity: float) -> list[str]:
    rate = fraction * capacity
    asked = await _offer(load, kind, rate, RUN_SECONDS)
    span = max(each.ended for each in asked) - min(each.at for each in asked)
    row = [kind, str(workers), f"{fraction:g}", f"{rate:.2f}/s", f"{len(answered(asked)) / span:.2f}/s"]
    return [*row, *_trouble(asked), *latencies(asked)]


async def _offer(load: Load, kind: str, rate: float, duration: float) -> list[Asked]:
    asked = await open_loop(_ask(load, kind), arrivals(rate, duration, SEED))
    announce(
        f"{kind}, {rate:.2f}/s offered: {len(asked)} asked, {_trouble(asked)} refused and failed, "
        f"{latencies(asked)} {worst([each.error for each in asked if each.error])}"
    )
    return asked


def _ask(load: Load, kind: str) -> Ask:
    return load.transcribe if kind == "one call" else load.submit


def _trouble(asked: Sequence[Asked]) -> list[str]:
    return [str(sum(each.refused for each in asked)), str(sum(each.failed for each in asked))]


async def measure_overload(report: Report) -> None:
    """More than can be done: as much gets done as ever, and the rest hears at once that it has to come back."""
    async with loaded(workers=2) as load:
        capacity = await _capacity(load, 2)
        rows = []
        for kind in KINDS:
            useful, refusals = {}, []
            for factor in (1, 2, 4):
                begin = time.monotonic()
                offering = asyncio.create_task(_offer(load, kind, factor * capacity, OVERLOAD_SECONDS))
                await asyncio.sleep(OVERLOAD_SECONDS)
                await load.cancel_jobs()
                asked = await offering
                useful[factor] = goodput(asked, begin + SETTLE_SECONDS, begin + OVERLOAD_SECONDS)
                refused = [each for each in asked if each.refused]
                refusals += refused
                waits = [each.seconds for each in refused]
                rows.append(
                    [
                        kind,
                        f"{factor}x",
                        f"{factor * capacity:.2f}/s",
                        f"{useful[factor]:.2f}/s",
                        str(len(refused)),
                        *(seconds(percentile(waits, part)) for part in (0.5, 0.99)),
                        latencies(asked)[1],
                    ]
                )
            for factor in (2, 4):
                ratio = useful[factor] / useful[1]
                report.limit(
                    f"goodput at {factor}x capacity over that at 1x, {kind}", "0.95", f"{ratio:.2f}", met=ratio >= 0.95
                )
            _report_refusals(report, kind, refusals)
        report.tables.append(
            table(["", "offered", "", "goodput", "refused", "refused after: p50", "p99", "answered: p95"], rows)
        )


def _report_refusals(report: Report, kind: str, refused: Sequence[Asked]) -> None:
    report.at_most(f"refusals arrive after (p99), {kind}", 1.0, percentile([each.seconds for each in refused], 0.99))
    told = sum(each.error is not None and bool(each.error.retry_after_seconds) for each in refused)
    what = f"refusals that say when to come back, {kind}"
    report.limit(what, "all", f"{told} of {len(refused)}", met=told == len(refused) > 0)


async def measure_restart(report: Report) -> None:
    """Stops and starts every service in turn while both kinds of requests come."""
    async with loaded(workers=2, task_seconds=SHORT_SECONDS) as load:
        names = [name for name in load.stack.pids if name.partition("-")[0] in ("gateway", "transcriber", "diarizer")]
        restarting = asyncio.create_task(_restart(load, names))
        asked = await open_loop_while(restarting, load.both, 0.4 * 2 / SHORT_SECONDS, SEED)
    _report_none_lost(report, f"rolling restart of {len(names)} processes, 2 of each service", asked)


async def _restart(load: Load, names: Sequence[str]) -> None:
    for name in names:
        await load.end(name)
        await load.start(name)
        announce(f"{name} restarted")
        await asyncio.sleep(2.0)


def _report_none_lost(report: Report, what: str, asked: Sequence[Asked]) -> None:
    lost = [each.error for each in asked if each.error]
    announce(f"{what}: {len(lost)} lost of {len(asked)}; {latencies(asked)} {worst(lost)}")
    report.limit(f"{what}: requests without a result, of {len(asked)}", "0", str(len(lost)), met=not lost)


async def measure_replicas(report: Report) -> None:
    """Replicas that come, end and hang, while requests come."""
    async with loaded(workers=3, task_seconds=SHORT_SECONDS) as load:
        rate = 0.5 * 2 / SHORT_SECONDS
        for name in ("transcriber-3", "diarizer-3"):
            await load.end(name)
        await _measure_new(
            report, load, "a listed replica that was down", rate, ready=lambda: load.start("transcriber-3")
        )
        await load.start("diarizer-3")
        await _measure_killed(report, load, rate)
        await load.start("transcriber-3")
        await _measure_hung(report, load, rate)
        await _measure_gateway_killed(report, load, rate)


async def _measure_new(
    report: Report, load: Load, what: str, rate: float, *, ready: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """What part of the tasks the third transcriber gets, once it is ``ready``."""
    names = [f"transcriber-{number}" for number in (1, 2, 3)]
    before = len(load.begun(names[2]))
    asking = asyncio.create_task(open_loop(load.transcribe, arrivals(rate, 20.0, SEED)))
    await asyncio.sleep(2.0)
    await ready()
    moment = time.monotonic()
    asked = await asking
    new = load.begun(names[2])[before:]
    first = new[0] - moment if new else None
    report.at_most(f"{what}: its first task begins after", 10.0, max(first, 0.0) if first is not None else None)
    if new:
        counts = [sum(new[0] <= begun <= new[0] + 10.0 for begun in load.begun(name)) for name in names]
        share = counts[2] / sum(counts)
        report.limit(
            f"{what}: its part of the tasks of the next 10 s, {sum(counts)}; a third is fair",
            "25%",
            f"{share:.0%}",
            met=share >= 0.25,
        )
    _report_none_lost(report, what, asked)


async def _measure_killed(report: Report, load: Load, rate: float) -> None:
    asking = asyncio.create_task(open_loop(load.both, arrivals(rate, 10.0, SEED)))
    await asyncio.sleep(3.0)
    moment = time.monotonic()
    await load.end("transcriber-3", signal.SIGKILL)
    asked = await asking
    again = [when - moment for when in load.logged("a call is repeated") if when >= moment]
    report.at_most("a killed replica is called for the last time after", 1.0, max(again, default=0.0))
    _report_none_lost(report, "a replica is killed", asked)


async def _measure_hung(report: Report, load: Load, rate: float) -> None:
    """Stops a process without ending it: whoever was sent there hears nothing, and is asked for elsewhere at last."""
    asking = asyncio.create_task(open_loop(load.both, arrivals(rate, 20.0, SEED)))
    await asyncio.sleep(3.0)
    load.stack.signal_part("transcriber-3", signal.SIGSTOP)
    moment = time.monotonic()
    asked = await asking
    load.stack.signal_part("transcriber-3", signal.SIGCONT)
    stuck = [each.at - moment for each in asked if each.at > moment - 2 and each.seconds > 4.0]
    report.at_most("a hanging replica is sent its last request after", 1.0, max([0.0, *stuck]))
    report.at_most(
        "requests that were with it are answered by another one after (longest)",
        20.0,
        max(each.seconds for each in asked),
    )
    _report_none_lost(report, f"a replica hangs, with {len(stuck)} requests", asked)


async def _measure_gateway_killed(report: Report, load: Load, rate: float) -> None:
    asking = asyncio.create_task(open_loop(load.both, arrivals(rate, 10.0, SEED)))
    await asyncio.sleep(3.0)
    await load.end("gateway-2", signal.SIGKILL)
    _report_none_lost(report, "one of two gateways is killed", await asking)


async def measure_names(report: Report) -> None:
    """A name that gets one more address, without anything else being told to the gateways."""
    if not NamedFleet.available():
        report.limit("a new address of a dns:/// name", "10 s", "not measured: needs Linux namespaces", met=False)
        return
    async with loaded(workers=3, task_seconds=SHORT_SECONDS, create=NamedFleet) as load:
        stack = load.stack
        assert isinstance(stack, NamedFleet)
        stack.name_replicas(2)
        await asyncio.sleep(5.0)

        async def name_one_more() -> None:
            stack.name_replicas(3)

        await _measure_new(
            report, load, "a new address of a dns:/// name", 0.5 * 2 / SHORT_SECONDS, ready=name_one_more
        )


async def measure_real(report: Report) -> None:
    """Real models."""
    text, failed = await load_real.measure()
    what = f"real models, {2 * load_real.CLIPS} requests of both kinds: requests without a result"
    report.limit(what, "0", str(failed), met=failed == 0)
    report.tables.append(text)


PARTS: dict[str, Part] = {
    "scale": measure_scale,
    "overload": measure_overload,
    "restart": measure_restart,
    "replicas": measure_replicas,
    "names": measure_names,
    "real": measure_real,
}

if __name__ == "__main__":
    sys.exit(cleanly(main))
