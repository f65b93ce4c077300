"""The report as Markdown. Pure: values in, text out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields

from bench.common.tables import NOTHING, count, mebibytes, milliseconds, minutes, rate, seconds, section, table
from bench.system.results import (
    FirstAndSecond,
    Footprint,
    Machine,
    Memory,
    Overhead,
    Quality,
    QualityRow,
    Repeat,
    Repeats,
    Report,
    Run,
    ServiceMemory,
    Speed,
    Starts,
    TurnRates,
    Upload,
    WordRates,
)
from bench.system.targets import targets

STAGES = ("decode", "transcribe", "diarize", "merge")


def render(report: Report) -> str:
    """What it ran on, the figures to reach, then each part that has run."""
    parts = (
        _machines(report),
        _targets(report),
        "" if report.quality is None else _quality(report.quality),
        "" if report.speed is None else _speed(report.speed),
        "" if report.memory is None else _memory(report.memory),
        "" if report.start is None else _start(report.start),
    )
    return "\n\n".join(part for part in parts if part)


def _machines(report: Report) -> str:
    """A line for each part, then for each machine and set of models that they ran on: mostly one."""
    runs = {each.name: part.run for each in fields(report) if (part := getattr(report, each.name)) is not None}
    lines = [_run_line(name, run) for name, run in runs.items()]
    for machine, models in dict.fromkeys((_machine(run.machine), run.models) for run in runs.values()):
        lines += [f"- {machine}", f"- models: {', '.join(f'`{model}`' for model in models)}"]
    return "\n".join(lines)


def _run_line(name: str, run: Run) -> str:
    quick = "; **a quick run, which shows that the benchmark works and nothing else**" if run.quick else ""
    where = f"revision {run.revision}" if run.revision else "no revision"
    return f"- {name}: {run.finished}, {where}, {minutes(run.wall_seconds)} of wall time{quick}"


def _machine(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    memory = f"{machine.memory_bytes / 2**30:.0f} GiB"
    return f"{machine.cpu}, {machine.cores} cores, {memory}, {machine.gpu or 'no GPU'}; {machine.system}; {versions}"


def _targets(report: Report) -> str:
    rows = [(each.figure, each.limit, each.measured, "yes" if each.reached else "NO") for each in targets(report)]
    return section("Figures to reach", table(("figure", "at most", "measured", "reached"), rows)) if rows else ""


def _quality(quality: Quality) -> str:
    words = ("substituted", "deleted", "inserted")
    turns = ("DER", "missed", "false alarm", "confusion", "right counts")
    talk = ("conversations", "files", "audio", *turns, "cpWER", *words)
    read = ("read speech", "files", "audio", "WER", *words, "right languages")
    tables = [table(talk, map(_conversation_row, quality.conversations))] if quality.conversations else []
    tables += [table(read, map(_read_row, quality.read_speech))] if quality.read_speech else []
    rtf = table(("RTF", *STAGES, "whole"), map(_rtf_row, (*quality.conversations, *quality.read_speech)))
    return section("Quality", *tables, rtf)


def _conversation_row(row: QualityRow) -> Sequence[str]:
    return (*_set_cells(row), *_turn_cells(row.turns), *_word_cells(row.utterances))


def _read_row(row: QualityRow) -> Sequence[str]:
    return (*_set_cells(row), *_word_cells(row.text), count(row.right_languages, row.recordings))


def _set_cells(row: QualityRow) -> Sequence[str]:
    return row.name, str(row.recordings), minutes(row.audio_seconds)


def _turn_cells(turns: TurnRates | None) -> Sequence[str]:
    if turns is None:
        return (NOTHING,) * 5
    rates = (turns.der, turns.missed, turns.false_alarm, turns.confusion)
    return (*map(rate, rates), count(turns.right_speaker_counts, turns.recordings))


def _word_cells(words: WordRates | None) -> Sequence[str]:
    if words is None:
        return (NOTHING,) * 4
    return tuple(map(rate, (words.error_rate, words.substitutions, words.deletions, words.insertions)))


def _rtf_row(row: QualityRow) -> Sequence[str]:
    return row.name, *_rtf_cells(row.stage_seconds, row.whole_seconds, row.audio_seconds)


def _rtf_cells(stages: Mapping[str, float], whole: float, audio: float) -> Sequence[str]:
    spent = (stages.get(stage) for stage in STAGES)
    return (*(rate(None if each is None else each / audio) for each in spent), rate(whole / audio))


def _speed(speed: Speed) -> str:
    stages = [row for each in speed.recordings for row in _stage_rows(each)]
    return section(
        "Speed",
        table(("request", "whole", *STAGES, "bytes sent", "from caches"), stages),
        table(("RTF of the first request", *STAGES, "whole"), map(_first_rtf_row, speed.recordings)),
        _overhead(speed.overhead),
        _repeats(speed.repeats),
    )


def _stage_rows(both: FirstAndSecond) -> Iterator[Sequence[str]]:
    for name, request in (("first", both.first), ("second", both.second)):
        spent = (request.stage_seconds.get(stage) for stage in STAGES)
        yield (
            f"{minutes(both.audio_seconds)}, {name}",
            seconds(request.seconds),
            *map(seconds, spent),
            f"{request.uploaded_bytes:,}",
            ", ".join(request.cached_stages) or NOTHING,
        )


def _first_rtf_row(both: FirstAndSecond) -> Sequence[str]:
    first = both.first
    return minutes(both.audio_seconds), *_rtf_cells(first.stage_seconds, first.seconds, both.audio_seconds)


def _overhead(overhead: Overhead) -> str:
    head = ("pair", "direct", "its transcription", "its diarization", "gateway path", "its decoding", "overhead")
    rows = (
        (
            str(number),
            seconds(pair.direct_seconds),
            seconds(pair.direct_transcribe_seconds),
            seconds(pair.direct_diarize_seconds),
            seconds(pair.gateway.seconds),
            seconds(pair.gateway.stage_seconds.get("decode")),
            f"{pair.overhead:+.1%}",
        )
        for number, pair in enumerate(overhead.pairs, 1)
    )
    text = (
        f"Gateway path against both engines called directly, {minutes(overhead.audio_seconds)} of audio:"
        f" median {overhead.median:+.1%}, from {overhead.lowest:+.1%} to {overhead.highest:+.1%}."
    )
    return f"{text}\n\n{table(head, rows)}"


def _repeats(repeats: Repeats) -> str:
    name = f"{minutes(repeats.audio_seconds)}, known already (file of {mebibytes(repeats.file_bytes)})"
    head = (name, "requests", "median", "fastest", "slowest", "of it hashing", "median without", "reading the answer")
    rows = (
        _repeat_row("by the client that asked before", repeats.same_client),
        _repeat_row("each by a new client", repeats.new_client),
    )
    sent = f"Bytes of the recording sent: {repeats.uploaded_bytes}. Model stages computed: {repeats.computed_stages}."
    return f"{table(head, rows)}\n\n{sent}"


def _repeat_row(name: str, requests: Sequence[Repeat]) -> Sequence[str]:
    whole = [each.seconds for each in requests]
    columns = (
        statistics.median(whole),
        min(whole),
        max(whole),
        statistics.median(each.hashing_seconds for each in requests),
        statistics.median(each.seconds - each.hashing_seconds for each in requests),
        statistics.median(each.reading_seconds for each in requests),
    )
    return name, str(len(requests)), *map(milliseconds, columns)


def _memory(memory: Footprint) -> str:
    moments = (
        "at start",
        "after the first task",
        f"after {memory.same_tasks} tasks",
        f"after {memory.different_tasks} different ones more",
        "peak",
        "after ReleaseMemory",
        "after the next task",
    )
    held = [each for service in memory.services for each in _moments(service)]
    gpu = any(each.gpu_reserved for each in held)
    tables = [_memory_table("RSS / USS in MiB", moments, memory.services, _ram_cell)]
    tables += [_memory_table("GPU allocated / reserved in MiB", moments, memory.services, _gpu_cell)] if gpu else []
    children = ", ".join(f"{each.service} {mebibytes(each.children_peak_rss)}" for each in memory.services)
    return section(
        "Memory",
        *tables,
        f"Peak RSS of the processes they started: {children}.",
        _upload(memory.upload),
    )


def _memory_table(
    name: str, moments: Sequence[str], services: Sequence[ServiceMemory], cell: Callable[[Memory], str]
) -> str:
    return table((name, *moments), ((each.service, *map(cell, _moments(each))) for each in services))


def _moments(service: ServiceMemory) -> Sequence[Memory]:
    return (
        service.at_start,
        service.after_first,
        service.after_same,
        service.after_different,
        service.peak,
        service.after_release,
        service.after_reload,
    )


def _ram_cell(memory: Memory) -> str:
    return f"{memory.rss / 2**20:.0f} / {memory.uss / 2**20:.0f}"


def _gpu_cell(memory: Memory) -> str:
    return f"{memory.gpu_allocated / 2**20:.0f} / {memory.gpu_reserved / 2**20:.0f}"


def _upload(upload: Upload) -> str:
    return (
        f"While {upload.file_bytes / 2**30:g} GiB were uploaded in {seconds(upload.seconds)} ({upload.outcome}), the"
        f" gateway's RSS rose from {mebibytes(upload.before_rss)} to at most {mebibytes(upload.peak_rss)}."
    )


def _start(starts: Starts) -> str:
    rows = (
        (
            each.service,
            str(len(each.seconds)),
            *map(seconds, (each.median, min(each.seconds), max(each.seconds))),
            f"{each.load_average:.1f}",
        )
        for each in starts.services
    )
    return section("Start", table(("ready after", "starts", "median", "fastest", "slowest", "load average"), rows))
