"""Measures the real stack: how right, how fast and how large it is. docs/benchmarks.md says what and how."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from bench import REPOSITORY
from bench.common import audio, dataset
from bench.common.dataset import Recording
from bench.common.harness import announce, cleanly, describe_run, running_stack
from bench.common.tables import splice
from bench.system import memory, quality, report, results, speed, start
from bench.system.results import Footprint, Part, Quality, Speed, Starts

DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
LATEST = REPOSITORY / "bench" / "results" / "latest.json"
QUICK = REPOSITORY / "build" / "bench-quick.json"
SAMPLE = REPOSITORY / "build" / "bench-sample.json"

WITHOUT_DATA = (
    "There is no folder of recordings with the truth about them (CARECA_DATA): the phone call that pyannote.audio's "
    "wheel brings is measured in their place. Left out: read speech (WER, languages) and all other conversations. "
    f"docs/{DOCUMENT.name} stays as it is."
)
"""What is told where only the sample is at hand."""


def main() -> int:
    """Runs the parts asked for and stores each as soon as it is done, so that a later failure loses nothing."""
    arguments = parse_arguments()
    recordings = dataset.find(arguments.data)
    sample = dataset.is_sample(recordings)
    if sample:
        announce(WITHOUT_DATA)
    path: Path = arguments.out or (QUICK if arguments.quick else SAMPLE if sample else LATEST)
    try:
        results.read(path)  # now, and not after an hour of measuring
    except ValidationError:
        announce(f"cannot measure: {path} holds results in another form; remove it, or name another file with --out")
        return 1
    for name in PARTS if arguments.part == "all" else (arguments.part,):
        announce(f"== {name}")
        part = PARTS[name](recordings, arguments.quick)
        publish(part, path, renew_document=not (arguments.quick or arguments.out or sample))
        announce(f"== {name}: {part.run.wall_seconds:.0f} s of wall time")
    return 0


def measure_quality(recordings: Sequence[Recording], quick: bool) -> Quality:
    """Every recording against its truth; with ``quick`` one of each kind."""
    started = time.perf_counter()
    chosen = dataset.spread(recordings, 6) if quick else recordings
    with running_stack() as bench:
        talk = quality.measure(bench.client, dataset.conversations(chosen), announce)
        read = quality.measure(bench.client, dataset.read_speech(chosen), announce)
        return Quality(
            run=describe_run(bench.client, started, quick=quick),
            conversations=quality.by_folder(talk),
            read_speech=quality.by_language(read),
            recordings=quality.single([*talk, *read]),
        )


def measure_speed(recordings: Sequence[Recording], quick: bool) -> Speed:
    """First and second requests, the overhead of the gateway path, and a long recording that is known."""
    started = time.perf_counter()
    plan = speed.QUICK if quick else speed.Plan()
    clips = [each.path for each in recordings]
    with running_stack() as bench:
        short, long = bench.folder / "short.flac", bench.folder / "long.flac"
        samples = audio.join(clips, plan.short_seconds)
        audio.write_flac(samples, short)
        audio.write_flac(audio.join(clips, plan.long_seconds), long)
        short_twice = speed.first_and_second(bench.client, short, announce)
        overhead = speed.overhead(bench.client, samples, bench.folder, plan.pairs, bench.environment, announce)
        long_twice = speed.first_and_second(bench.client, long, announce)
        repeats = speed.repeat(bench.client, bench.new_client, long, plan.repeats, announce)
        run = describe_run(bench.client, started, quick=quick)
        return Speed(run=run, recordings=(short_twice, long_twice), overhead=overhead, repeats=repeats)


def measure_memory(recordings: Sequence[Recording], quick: bool) -> Footprint:
    """Tasks one after the other on one stack, and a large upload to another that has done nothing before."""
    started = time.perf_counter()
    plan = memory.QUICK if quick else memory.Plan()
    same = dataset.typical(dataset.conversations(recordings)).path
    different = [each.path for each in dataset.spread(recordings, plan.tasks)]
    with running_stack() as bench:
        if dataset.is_sample(recordings):
            different = _of_many_lengths(same, plan.tasks, bench.folder)
        services = memory.run_tasks(bench.client, bench.pids, same, different, plan.tasks, announce)
    with running_stack() as bench:
        large = bench.folder / "large.wav"
        audio.write_silence(large, plan.upload_bytes, rate=plan.upload_rate)
        upload = memory.upload(bench.client, bench.pids["gateway"], large, announce)
        run = describe_run(bench.client, started, quick=quick)
    return Footprint(run=run, same_tasks=plan.tasks, different_tasks=len(different), services=services, upload=upload)


def measure_start(_: Sequence[Recording], quick: bool) -> Starts:
    """Starts of the model services, beside a stack that does nothing."""
    started = time.perf_counter()
    with running_stack() as bench:
        services = start.measure(bench.environment, start.QUICK_STARTS if quick else start.STARTS, announce)
        return Starts(run=describe_run(bench.client, started, quick=quick), services=services)


def _of_many_lengths(recording: Path, count: int, folder: Path) -> list[Path]:
    """As many different recordings, from five seconds to twenty, cut out of one."""
    paths = [folder / f"piece-{number}.flac" for number in range(count)]
    lengths = [5.0 + 15.0 * number / count for number in range(count)]
    for piece, path in zip(audio.pieces([recording], lengths), paths, strict=True):
        audio.write_flac(piece, path)
    return paths


PARTS: dict[str, Callable[[Sequence[Recording], bool], Part]] = {
    "quality": measure_quality,
    "speed": measure_speed,
    "memory": measure_memory,
    "start": measure_start,
}


def publish(part: Part, path: Path, *, renew_document: bool) -> None:
    """Stores ``part`` in ``path`` beside the other parts, prints it and, if asked to, renews the documentation."""
    whole = results.read(path).with_part(part)
    results.write(whole, path)
    if renew_document:
        DOCUMENT.write_text(splice(DOCUMENT.read_text(encoding="utf-8"), report.render(whole)), encoding="utf-8")
    print(report.render(results.Report().with_part(part)), flush=True)
    announce(f"stored in {path}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=(*PARTS, "all"), nargs="?", default="all", help="what to measure; default: all")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of folders of recordings with their truth; by default that of CARECA_DATA",
    )
    parser.add_argument("--out", type=Path, help="JSON to store the results in; the documentation is then left alone")
    parser.add_argument("--quick", action="store_true", help="short cuts: shows that it all works, proves nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(cleanly(main))
