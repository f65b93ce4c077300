"""What the benchmark stores and writes into the documentation."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.common import tables
from bench.system import results
from bench.system.report import render
from bench.system.results import (
    FirstAndSecond,
    Footprint,
    Machine,
    Memory,
    Overhead,
    OverheadPair,
    Quality,
    QualityRow,
    Repeat,
    Repeats,
    Report,
    Request,
    Run,
    ServiceMemory,
    ServiceStart,
    Speed,
    Starts,
    TurnRates,
    Upload,
    WordRates,
)
from bench.system.targets import targets

MIB = 2**20
MACHINE = Machine("A CPU", 2, 24 * 2**30, "", "Linux", {"python": "3.11"})
RUN = Run("2030-01-01T00:00:00+00:00", 60.0, False, "abc", ("whisper@1",), MACHINE)
CONVERSATION = QualityRow(
    name="phone",
    recordings=3,
    audio_seconds=600.0,
    whole_seconds=60.0,
    stage_seconds={"decode": 1.0, "transcribe": 50.0, "diarize": 55.0, "merge": 0.1},
    turns=TurnRates(500.0, 0.111, 0.05, 0.04, 0.021, 3, 2),
    utterances=WordRates(1000, 0.222, 0.1, 0.1, 0.022),
    text=None,
    right_languages=3,
)
QUALITY = Quality(RUN, (CONVERSATION,), (), (CONVERSATION,))
FIRST = Request(40.0, 1_000, {"decode": 1.0, "transcribe": 38.0, "diarize": 39.0, "merge": 0.2}, ())
SECOND = Request(0.02, 0, {"decode": 0.0}, ("transcribe", "diarize"))
SPEED = Speed(
    run=RUN,
    recordings=(FirstAndSecond(300.0, 1_000, FIRST, SECOND),),
    overhead=Overhead(300.0, (OverheadPair(39.0, 37.0, 39.0, FIRST),), 0.026, 0.026, 0.026),
    repeats=Repeats(3600.0, 60 * MIB, (Repeat(0.05, 0.0, 0.02),), (Repeat(0.09, 0.05, 0.02),), 0, 0),
)


def memory(mib: int) -> Memory:
    return Memory(rss=mib * MIB, uss=mib * MIB)


def service(name: str, *, first: int, same: int, peak: int, released: int) -> ServiceMemory:
    return ServiceMemory(
        service=name,
        at_start=memory(100),
        after_first=memory(first),
        after_same=memory(same),
        after_different=memory(same),
        peak=memory(peak),
        after_release=memory(released),
        after_reload=memory(first),
        children_peak_rss=0,
    )


FOOTPRINT = Footprint(
    run=RUN,
    same_tasks=20,
    different_tasks=20,
    services=(
        service("gateway", first=100, same=100, peak=110, released=100),
        service("diarizer", first=500, same=520, peak=900, released=450),
    ),
    upload=Upload(2 * 2**30, 2 * 2**30, 9.0, 100 * MIB, 120 * MIB, "RECORDING_TOO_LONG"),
)
STARTS = Starts(RUN, (ServiceStart("transcriber", (1.0, 1.9, 1.2), 0.5), ServiceStart("diarizer", (1.5,), 0.5)))
REPORT = Report(QUALITY, SPEED, FOOTPRINT, STARTS)


def test_what_is_stored_is_read_back_the_same(tmp_path: Path) -> None:
    results.write(REPORT, tmp_path / "deep" / "latest.json")

    assert results.read(tmp_path / "deep" / "latest.json") == REPORT


def test_a_part_measured_anew_leaves_the_other_parts_alone() -> None:
    renewed = replace(QUALITY, conversations=())

    assert REPORT.with_part(renewed) == Report(renewed, SPEED, FOOTPRINT, STARTS)


def test_all_figures_within_their_limits_are_reached() -> None:
    assert len(targets(REPORT)) == 10
    assert [each.figure for each in targets(REPORT) if not each.reached] == []


def test_each_figure_beyond_its_limit_is_told() -> None:
    report = Report(
        speed=replace(
            SPEED,
            overhead=replace(SPEED.overhead, median=0.051),
            repeats=replace(SPEED.repeats, same_client=(Repeat(0.051, 0.0, 0.02),)),
        ),
        memory=replace(
            FOOTPRINT,
            services=(service("diarizer", first=500, same=526, peak=900, released=451),),
            upload=replace(FOOTPRINT.upload, peak_rss=164 * MIB),
        ),
        start=Starts(RUN, (ServiceStart("diarizer", (1.4, 1.6, 1.51), 0.5),)),
    )

    assert not any(each.reached for each in targets(report))


def test_an_answer_for_which_audio_was_sent_does_not_reach_its_figure() -> None:
    report = Report(speed=replace(SPEED, repeats=replace(SPEED.repeats, uploaded_bytes=1)))

    assert [each.reached for each in targets(report)] == [True, False]


def test_every_row_of_every_table_has_as_many_cells_as_its_head() -> None:
    lines = render(REPORT).splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("| ---")]

    assert heads
    for head in heads:
        for line in lines[head:]:
            if not line.startswith("|"):
                break
            assert line.count("|") == lines[head - 1].count("|")


def test_rates_are_written_with_what_they_are_of() -> None:
    text = render(Report(quality=QUALITY))

    assert "| phone | 3 | 10 min | 0.111 | 0.050 | 0.040 | 0.021 | 2 of 3 | 0.222 | 0.100 | 0.100 | 0.022 |" in text
    assert "| phone | 0.002 | 0.083 | 0.092 | 0.000 | 0.100 |" in text


def test_gpu_memory_is_shown_where_there_is_some() -> None:
    with_gpu = replace(FOOTPRINT.services[1], peak=Memory(MIB, MIB, gpu_allocated=2 * MIB, gpu_reserved=3 * MIB))

    assert "GPU allocated" not in render(Report(memory=FOOTPRINT))
    assert "| 2 / 3 |" in render(Report(memory=replace(FOOTPRINT, services=(with_gpu,))))


def test_a_quick_run_says_that_it_proves_nothing() -> None:
    assert "quick run" in render(Report(quality=replace(QUALITY, run=replace(RUN, quick=True))))
    assert "quick run" not in render(REPORT)


def test_the_table_replaces_what_was_between_the_markers() -> None:
    document = "# Title\n\n<!-- bench:begin -->\nold\n<!-- bench:end -->\n\nafter\n"

    assert tables.splice(document, "new\n") == "# Title\n\n<!-- bench:begin -->\n\nnew\n\n<!-- bench:end -->\n\nafter\n"


def test_a_document_without_markers_is_left_alone() -> None:
    with pytest.raises(ValueError, match="bench:begin"):
        tables.splice("# Title\n", "new")
