"""The main job on a real recording with the real stack: who said what, and when; a second time from the caches."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from careca.types import ClearScope, ModelServiceStats, NoticeCode, OutputFormat, Stage, StageState
from careca_client import Client, KnownSpeaker, TranscriptionResult
from local_stack import LocalStack
from support.waiting import HANG_SECONDS

MODEL_STAGES = {Stage.TRANSCRIBE, Stage.DIARIZE}

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def first(stack: LocalStack, recording: Path) -> TranscriptionResult:
    """The first answer, computed."""
    with Client(stack.gateway_target) as client:
        client.clear_cache(ClearScope.ALL)
        return client.transcribe(recording, skip_cache=True, formats=list(OutputFormat))


def speakers_of(result: TranscriptionResult, text: str) -> list[str | None]:
    """The speaker of each utterance's word that contains ``text``."""
    return [word.speaker for each in result.utterances for word in each.words if text in word.text]


def cached_stages(result: TranscriptionResult) -> set[Stage]:
    return {report.stage for report in result.stages if report.cached and report.stage in MODEL_STAGES}


def stats_of(client: Client, stage: Stage) -> ModelServiceStats:
    found = next(each.stats for each in client.stats().stages if each.stage is stage)
    assert found is not None
    return found


def resident(pid: int) -> int:
    """Resident bytes of a service and the processes that it has."""
    service = psutil.Process(pid)
    return sum(process.memory_info().rss for process in (service, *service.children(recursive=True)))


def test_both_speakers_are_found(first: TranscriptionResult) -> None:
    assert {utterance.speaker for utterance in first.utterances} == {"SPEAKER_00", "SPEAKER_01"}
    assert {turn.speaker for turn in first.turns} == {"SPEAKER_00", "SPEAKER_01"}
    assert not first.partial


def test_the_words_that_tell_the_speakers_apart_have_the_right_speaker(first: TranscriptionResult) -> None:
    new_jersey, texas = speakers_of(first, "Jersey"), speakers_of(first, "Texas")

    assert len(new_jersey) == 3
    assert len(texas) == 1
    assert len(set(new_jersey)) == 1
    assert new_jersey[0] != texas[0]
    assert speakers_of(first, "Yankee") == texas


def test_words_are_in_order_and_within_the_recording(first: TranscriptionResult) -> None:
    words = [word for utterance in first.utterances for word in utterance.words]

    assert len(words) > 60
    assert all(word.start is not None and word.end is not None for word in words)
    assert all(0 <= word.start <= word.end <= first.duration for word in words)  # type: ignore[operator]
    assert [word.start for word in words] == sorted(word.start for word in words)  # type: ignore[type-var]


def test_each_candidate_number_of_speakers_is_returned_with_its_score(first: TranscriptionResult) -> None:
    scores = {each.speaker_count: each.silhouette_score for each in first.candidates}

    assert {2, 3, 4, 5, 6} <= set(scores)
    assert scores[1] is None
    assert scores[2] is not None
    assert scores[2] > 0.3


def test_every_stage_reports_what_it_did(first: TranscriptionResult) -> None:
    assert [report.stage for report in first.stages] == list(Stage)
    assert {report.state for report in first.stages if report.stage is not Stage.DECODE} == {StageState.SUCCEEDED}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (OutputFormat.TXT, "SPEAKER_00"),
        (OutputFormat.SRT, " --> "),
        (OutputFormat.VTT, "<v SPEAKER_01>"),
        (OutputFormat.TSV, "start\tend\tspeaker\ttext"),
        (OutputFormat.RTTM, "SPEAKER sample 1 "),
        (OutputFormat.STM, "sample 1 SPEAKER_0"),
    ],
)
def test_the_result_comes_in_every_format(first: TranscriptionResult, form: OutputFormat, expected: str) -> None:
    assert expected in first.formats[form]


def test_the_json_format_holds_everything(first: TranscriptionResult) -> None:
    document = json.loads(first.formats[OutputFormat.JSON])

    assert len(document["utterances"]) == len(first.utterances)
    assert document["utterances"][0]["words"]


def test_a_second_request_is_answered_from_the_caches_without_sending_the_recording(
    client: Client, first: TranscriptionResult, recording: Path
) -> None:
    second = client.transcribe(recording)

    assert cached_stages(second) == MODEL_STAGES
    assert second.uploaded_bytes == 0
    assert second.utterances == first.utterances


def test_a_speaker_who_is_known_by_the_voice_of_an_earlier_answer_is_called_by_name(
    client: Client, first: TranscriptionResult, recording: Path
) -> None:
    diane = next(each for each in first.speakers if each.label == speakers_of(first, "Jersey")[0])
    assert diane.voice is not None

    answer = client.transcribe(recording, known_speakers=[KnownSpeaker("Diane", diane.voice)])

    assert cached_stages(answer) == MODEL_STAGES
    assert [(each.label, each.name) for each in answer.speakers if each.name] == [(diane.label, "Diane")]
    assert speakers_of(answer, "Jersey") == ["Diane"] * 3
    assert speakers_of(answer, "Texas") != ["Diane"]


def test_a_voice_that_the_command_saves_is_recognised(stack: LocalStack, recording: Path, tmp_path: Path) -> None:
    """The saved voice is that of both callers together, as one speaker was asked for: it is alike to one of them."""
    careca = [sys.executable, "-m", "careca_client"]
    gateway = ["--gateway", stack.gateway_target]
    saving = [*careca, "voice", str(recording), "--output", str(tmp_path / "caller.json"), *gateway]
    subprocess.run(saving, check=True, capture_output=True, timeout=HANG_SECONDS)
    known = ["--known-speaker", f"Caller={tmp_path / 'caller.json'}"]

    done = subprocess.run(
        [*careca, "transcribe", str(recording), *known, "--format", "json", *gateway],
        check=True,
        capture_output=True,
        timeout=HANG_SECONDS,
    )

    assert [each["name"] for each in json.loads(done.stdout)["speakers"]].count("Caller") == 1


def test_a_person_of_one_job_is_saved_recognised_and_found(
    client: Client, stack: LocalStack, first: TranscriptionResult, recording: Path
) -> None:
    diane = next(each.label for each in first.speakers if each.label == speakers_of(first, "Jersey")[0])
    job = run_careca(stack, "submit", recording, "--wait").stdout.strip()

    saved = run_careca(stack, "voices", "save", "Diane", "--job", job, "--speaker", diane)
    answer = client.transcribe(recording, use_saved_voices=True)
    found = run_careca(stack, "jobs", "list", "--search", "CHICAGO jérsey", "--json")
    deleted = run_careca(stack, "voices", "delete", "Diane")

    assert saved.returncode == deleted.returncode == 0, saved.stderr + deleted.stderr
    assert cached_stages(answer) == MODEL_STAGES
    assert [(each.label, each.name) for each in answer.speakers if each.name] == [(diane, "Diane")]
    assert job in [each["id"] for each in json.loads(found.stdout)]
    assert client.voices() == ()


def test_another_number_of_speakers_does_not_transcribe_again(
    client: Client, first: TranscriptionResult, recording: Path
) -> None:
    answer = client.transcribe(recording, speaker_count=3)

    assert cached_stages(answer) == {Stage.TRANSCRIBE}
    assert len({turn.speaker for turn in answer.turns}) == 3


def test_without_caches_and_models_the_next_request_loads_and_computes_again(
    client: Client, stack: LocalStack, first: TranscriptionResult, recording: Path
) -> None:
    client.transcribe(recording)
    before = {service: resident(stack.pids[service]) for service in ("transcriber", "diarizer")}

    cleared = client.clear_cache(ClearScope.ALL)
    client.release_memory()

    assert all(each.cleared.removed_entries >= 1 for each in cleared)
    assert all(resident(stack.pids[service]) < held / 2 for service, held in before.items())
    assert not any(stats_of(client, stage).models_loaded for stage in MODEL_STAGES)
    again = client.transcribe(recording)
    assert cached_stages(again) == set()
    assert all(stats_of(client, stage).models_loaded for stage in MODEL_STAGES)
    assert again.utterances == first.utterances


def test_a_stopped_redis_costs_the_cache_but_not_the_answer(
    client: Client, stack: LocalStack, first: TranscriptionResult, recording: Path
) -> None:
    redis = psutil.Process(stack.pids["redis"])

    redis.suspend()
    try:
        answer = client.transcribe(recording)
    finally:
        redis.resume()

    assert cached_stages(answer) == set()
    assert answer.utterances == first.utterances


def test_statistics_count_what_the_caches_did(client: Client, first: TranscriptionResult, recording: Path) -> None:
    client.transcribe(recording)
    before = stats_of(client, Stage.DIARIZE).cache

    client.transcribe(recording)

    after = stats_of(client, Stage.DIARIZE).cache
    assert after.hits == before.hits + 1
    assert after.entries >= 1
    assert after.size_bytes > 0
    assert (after.max_entries, after.ttl_seconds) == (100, 24 * 3600)


def test_the_command_line_writes_subtitles(stack: LocalStack, recording: Path, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("careca")), "transcribe", str(recording), "--format", "srt"]

    done = subprocess.run(
        [*command, "--gateway", stack.gateway_target, "--output-dir", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "Texas" in (tmp_path / "sample.srt").read_text()


def run_careca(stack: LocalStack, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "careca_client", *map(str, arguments), "--gateway", stack.gateway_target],
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )


def test_the_command_line_tells_on_stderr_that_fewer_speakers_were_found_than_asked_for(
    stack: LocalStack, first: TranscriptionResult, recording: Path
) -> None:
    done = run_careca(stack, "transcribe", recording, "--speakers", "50", "-f", "json")

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (notice,) = (each for each in document["notices"] if each["code"] == NoticeCode.FEWER_SPEAKERS_THAN_ASKED)
    assert notice["message"].startswith(f"50 speakers were asked for, but {len(document['speakers'])} could be found")
    assert f"careca: {recording}: notice FEWER_SPEAKERS_THAN_ASKED: {notice['message']}" in done.stderr.splitlines()


def test_the_call_as_it_is_has_nothing_that_a_person_should_know(first: TranscriptionResult) -> None:
    assert first.notices == ()


def test_who_waits_for_a_job_is_told_too_and_its_result_keeps_the_notice(stack: LocalStack, recording: Path) -> None:
    waited = run_careca(stack, "submit", recording, "--wait", "--min-speakers", "40")
    job = waited.stdout.strip()
    fetched = run_careca(stack, "result", job, "-f", "stm")

    assert waited.returncode == fetched.returncode == 0, waited.stderr + fetched.stderr
    told = "notice FEWER_SPEAKERS_THAN_ASKED: at least 40 speakers were asked for"
    assert f"careca: {recording}: {told}" in waited.stderr
    assert f"careca: {job}: {told}" in fetched.stderr
    assert fetched.stdout.startswith(f";; {told}")


def test_a_language_is_the_same_however_it_is_written(
    stack: LocalStack, client: Client, first: TranscriptionResult, recording: Path
) -> None:
    by_code = client.transcribe(recording, language="en")

    done = run_careca(stack, "transcribe", recording, "--language", "inglês", "-f", "json")
    again = client.transcribe(recording, language="en-GB")

    assert cached_stages(again) == MODEL_STAGES
    assert again.utterances == by_code.utterances
    assert "transcribe from the cache" in done.stderr


@pytest.mark.parametrize("service", ["gateway", "transcriber", "diarizer"])
def test_every_service_exports_what_it_holds(stack: LocalStack, first: TranscriptionResult, service: str) -> None:
    port = getattr(stack.ports, f"{service}_metrics")

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=HANG_SECONDS) as answer:
        metrics = answer.read().decode()

    rss = next(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("careca_memory_rss_bytes"))
    assert rss == pytest.approx(resident(stack.pids[service]), rel=0.3)
