"""The commands for jobs against a real gRPC server that keeps jobs in memory."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import Result

from careca.errors import InternalError, Overloaded
from careca.types import Job, JobPriority, JobStage, JobState, Notice, NoticeCode, Stage, StageState
from careca_client.cli.commands.jobs import parse_since
from careca_client.cli.errors import ExitCode
from support.clients import NOWHERE
from support.command_line import CARECA, Careca, read_until, recording
from support.scripted_gateway import GatewayFixture
from support.waiting import HANG_SECONDS


@pytest.fixture
def job(careca: Careca, call: Path) -> str:
    """The id of a job that has been submitted."""
    return str(careca("submit", call).stdout.strip())


def one_line(result: Result) -> str:
    (line,) = result.stderr.splitlines()
    assert line.startswith("careca: ")
    return str(line)


def test_submitting_prints_the_ids_in_the_order_of_the_recordings(
    careca: Careca, gateway: GatewayFixture, tmp_path: Path
) -> None:
    calls = [recording(tmp_path / f"{number}.wav") for number in range(6)]

    result = careca("submit", *calls)

    assert result.exit_code == ExitCode.OK
    names = [gateway.jobs.records[job_id].job.display_name for job_id in result.stdout.splitlines()]
    assert names == [call.name for call in calls]
    assert {path.read_bytes() for path in calls} == set(gateway.script.recordings.values())


def test_submitting_shows_uploads_and_states_on_stderr(careca: Careca, call: Path) -> None:
    result = careca("submit", call)

    job_id = result.stdout.strip()
    assert f"careca: {call}: uploading {call.stat().st_size} bytes" in result.stderr
    assert f"careca: {call}: {job_id} is queued" in result.stderr
    assert careca("submit", "--quiet", call).stderr == ""


def test_the_options_of_transcribe_and_a_jobs_own_reach_the_gateway(
    careca: Careca, gateway: GatewayFixture, call: Path, tmp_path: Path
) -> None:
    ana = recording(tmp_path / "ana.wav")
    options = "--language en --translate --prompt Careca --hotword New --beam-size 3 --max-speakers 4 --skip-cache"
    jobs_own = "--priority interactive --webhook https://example.org/done"

    result = careca("submit", call, *options.split(), *jobs_own.split(), "--known-speaker", f"Ana={ana}")

    assert result.exit_code == ExitCode.OK
    record = gateway.jobs.records[result.stdout.strip()]
    config = record.request.config
    assert (config.transcription.language_code, config.transcription.translate) == ("en", True)
    assert (config.transcription.initial_prompt, list(config.transcription.hotwords)) == ("Careca", ["New"])
    assert (config.transcription.beam_size, config.diarization.max_speaker_count) == (3, 4)
    assert config.cache_control.skip_cache
    assert [known.name for known in config.known_speakers] == ["Ana"]
    assert record.job.priority is JobPriority.INTERACTIVE
    assert record.request.webhook_url == "https://example.org/done"


NOTICES = (
    Notice(NoticeCode.FEWER_SPEAKERS_THAN_ASKED, "50 speakers were asked for, but 2 could be found"),
    Notice(NoticeCode.SPEECH_WITHOUT_WORDS, "speech of 2.5 s is heard", 61.0, 63.5),
)
NOTICE_LINES = [
    "notice FEWER_SPEAKERS_THAN_ASKED: 50 speakers were asked for, but 2 could be found",
    "notice SPEECH_WITHOUT_WORDS [00:01:01.000 - 00:01:03.500]: speech of 2.5 s is heard",
]


def notices_in(result: Result, subject: str | Path) -> list[str]:
    """Returns the notices about ``subject`` on stderr."""
    lines = [line.removeprefix(f"careca: {subject}: ") for line in result.stderr.splitlines()]
    return [line for line in lines if line.startswith("notice")]


def test_waiting_for_jobs_shows_the_notices_of_their_results(
    careca: Careca, gateway: GatewayFixture, call: Path
) -> None:
    gateway.jobs.script.notices = NOTICES

    waited = careca("submit", call, "--wait")
    job = waited.stdout.strip()
    watched = careca("jobs", "watch", job)

    assert waited.exit_code == watched.exit_code == ExitCode.OK
    assert (waited.stdout, watched.stdout) == (f"{job}\n", "")
    assert notices_in(waited, call) == notices_in(watched, job) == NOTICE_LINES
    assert careca("jobs", "watch", job, "--quiet").stderr == ""


def test_a_result_comes_with_its_notices_on_stderr(careca: Careca, gateway: GatewayFixture, job: str) -> None:
    gateway.jobs.script.notices = NOTICES

    result = careca("result", job, "--format", "txt")

    assert result.stdout == "txt of call.wav\n"
    assert notices_in(result, job) == NOTICE_LINES


def test_a_job_that_is_shown_has_the_notices_of_its_result(careca: Careca, gateway: GatewayFixture, job: str) -> None:
    gateway.jobs.script.notices = NOTICES

    table, document = careca("jobs", "show", job), json.loads(careca("jobs", "show", job, "--json").stdout)

    assert "SPEECH_WITHOUT_WORDS" in table.stdout
    assert "00:01:01.000" in table.stdout
    assert [notice["code"] for notice in document["notices"]] == [notice.code for notice in NOTICES]
    assert document["notices"][1]["start"] == 61.0


def test_a_job_is_watched_and_shown_even_if_its_result_is_no_longer_kept(
    careca: Careca, gateway: GatewayFixture, job: str
) -> None:
    gateway.jobs.script.results_kept = False

    watched, shown = careca("jobs", "watch", job), careca("jobs", "show", job, "--json")

    assert watched.exit_code == shown.exit_code == ExitCode.OK
    assert f"careca: {job}: its notices cannot be shown: the job's result is not kept any more" in watched.stderr
    assert f"careca: {job}: the job's result is not kept any more" in shown.stderr
    assert json.loads(shown.stdout)["notices"] is None


def test_a_folder_stands_for_the_recordings_in_it(careca: Careca, gateway: GatewayFixture, tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    for name in ("b.wav", "a.MP3", "deep/er/c.mkv", "notes.txt", "deep/.hidden.wav", ".trash/d.wav", "e"):
        recording(folder / name)

    result = careca("submit", folder, folder / "b.wav", folder / "e")

    names = [gateway.jobs.records[job_id].job.display_name for job_id in result.stdout.splitlines()]
    assert names == ["a.MP3", "b.wav", "c.mkv", "e"]
    assert result.exit_code == ExitCode.OK


def test_a_folder_without_recordings_is_refused(careca: Careca, gateway: GatewayFixture, tmp_path: Path) -> None:
    recording(tmp_path / "notes.txt")

    result = careca("submit", tmp_path)

    assert result.exit_code == ExitCode.REFUSED
    assert f"there is no recording in {tmp_path}" in one_line(result)
    assert gateway.jobs.script.submissions == []


def test_submitting_the_same_again_creates_a_job_only_with_again(
    careca: Careca, gateway: GatewayFixture, tmp_path: Path
) -> None:
    for name in ("a.wav", "b.wav"):
        recording(tmp_path / "calls" / name)

    first, again = careca("submit", tmp_path / "calls"), careca("submit", tmp_path / "calls")
    other = careca("submit", tmp_path / "calls", "--language", "en")
    anew = careca("submit", tmp_path / "calls", "--again")

    assert first.stdout == again.stdout
    assert "is succeeded" in again.stderr
    ids = [job_id for result in (first, other, anew) for job_id in result.stdout.splitlines()]
    assert len(set(ids)) == len(ids) == len(gateway.jobs.records) == 6
    assert len(gateway.script.uploads) == 2


def test_the_standard_input_is_submitted_too(careca: Careca, gateway: GatewayFixture) -> None:
    result = careca("submit", "-", stdin=b"RIFF from a pipe")

    assert gateway.jobs.records[result.stdout.strip()].job.display_name == "stdin"
    assert list(gateway.script.recordings.values()) == [b"RIFF from a pipe"]


def test_the_others_are_submitted_if_one_recording_cannot_be(
    careca: Careca, gateway: GatewayFixture, tmp_path: Path
) -> None:
    good = [recording(tmp_path / "a.wav"), recording(tmp_path / "c.wav")]

    result = careca("submit", "--quiet", good[0], tmp_path / "b.wav", good[1])

    assert result.exit_code == ExitCode.REFUSED
    assert len(result.stdout.splitlines()) == 2
    assert one_line(result).startswith(f"careca: {tmp_path}/b.wav: there is no {tmp_path}/b.wav")


def test_a_full_queue_says_when_to_try_again(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    gateway.script.failures = [Overloaded("too many jobs wait", retry_after_seconds=9.0, reason="TOO_MANY_JOBS")]

    result = careca("submit", call)

    assert result.exit_code == ExitCode.OVERLOADED
    assert "too many jobs wait; try again in 9 s" in one_line(result)


def test_jobs_as_json_have_their_files(careca: Careca, tmp_path: Path) -> None:
    calls = [recording(tmp_path / "a.wav"), recording(tmp_path / "b.wav")]

    submitted = json.loads(careca("submit", "--json", *calls).stdout)
    waited = json.loads(careca("submit", "--json", "--wait", *calls).stdout)

    assert [entry["file"] for entry in submitted] == [str(call) for call in calls]
    assert [entry["state"] for entry in submitted] == ["queued", "queued"]
    assert [entry["id"] for entry in waited] == [entry["id"] for entry in submitted]
    assert [entry["state"] for entry in waited] == ["succeeded", "succeeded"]


def test_waiting_shows_the_jobs_until_they_have_ended(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    gateway.jobs.script.at_once = False
    results: list[Result] = []
    waiting = threading.Thread(target=lambda: results.append(careca("submit", "--wait", call)))
    waiting.start()
    (job_id,) = gateway.jobs.wait_for_jobs(1)
    assert gateway.jobs.wait_for_watches(1)
    gateway.jobs.work(job_id)
    waiting.join(HANG_SECONDS)

    (result,) = results
    assert result.exit_code == ExitCode.OK
    assert result.stdout == f"{job_id}\n"
    said = [line.removeprefix(f"careca: {call}: ") for line in result.stderr.splitlines()]
    assert f"{job_id} waits for a gateway" in said
    assert "merge 100 %" in said
    assert said[-1] == f"done; `careca result {job_id}` prints it"


@pytest.mark.parametrize(
    ("error", "failed_stage", "code", "message"),
    [
        (None, Stage.DIARIZE, ExitCode.PARTIAL, "diarize failed: the device has too little memory"),
        (("NO_AUDIO", "there is no audio in it"), None, ExitCode.REFUSED, "the job failed: there is no audio in it"),
        (("OUT_OF_MEMORY", "too long for this device"), None, ExitCode.FAILED, "the job failed: too long"),
        (("UNAVAILABLE", "no model service"), None, ExitCode.UNAVAILABLE, "the job failed: no model service"),
        (("DEADLINE_EXCEEDED", ""), None, ExitCode.OVERLOADED, "the job failed: DEADLINE_EXCEEDED"),
    ],
)
def test_the_exit_code_of_waiting_watching_and_the_result_is_that_of_the_job(
    careca: Careca,
    gateway: GatewayFixture,
    call: Path,
    error: tuple[str, str] | None,
    failed_stage: Stage | None,
    code: ExitCode,
    message: str,
) -> None:
    gateway.jobs.script.error, gateway.jobs.script.failed_stage = error, failed_stage

    waited = careca("submit", "--wait", call)
    job_id = waited.stdout.strip()
    watched = careca("jobs", "watch", job_id)
    asked = careca("result", job_id)

    for result in (waited, watched, asked):
        assert result.exit_code == code
        assert message in result.stderr
    for result in (waited, watched):
        assert f"`careca jobs retry {job_id}`" in result.stderr


def test_jobs_are_listed_newest_first(careca: Careca, gateway: GatewayFixture, tmp_path: Path) -> None:
    names = ("a.wav", "b.wav", "c.wav")
    ids = [careca("submit", recording(tmp_path / name)).stdout.strip() for name in names]

    table, document = careca("jobs", "list"), json.loads(careca("jobs", "list", "--json").stdout)

    rows = table.stdout.splitlines()[2:]
    assert [row.split()[0] for row in rows] == ids[::-1]
    assert [row.split()[2] for row in rows] == list(names[::-1])
    assert [entry["id"] for entry in document] == ids[::-1]
    assert len(careca("jobs", "list", "--limit", "2").stdout.splitlines()) == 4


def test_jobs_are_listed_by_state_time_and_submitter(careca: Careca, gateway: GatewayFixture, tmp_path: Path) -> None:
    old = careca("submit", recording(tmp_path / "old.wav")).stdout.strip()
    record = gateway.jobs.records[old]
    record.job = replace(record.job, create_unix=time.time() - 7_200)
    gateway.jobs.script.at_once = False
    new = careca("submit", recording(tmp_path / "new.wav")).stdout.strip()
    hers = careca("submit", recording(tmp_path / "hers.wav"), submitter="ana").stdout.strip()

    def listed(*options: str, submitter: str = "") -> list[str]:
        result = careca("jobs", "list", "--json", *options, submitter=submitter)
        return [entry["id"] for entry in json.loads(result.stdout)]

    assert listed() == [new, old]
    assert listed("--since", "1h") == [new]
    assert listed("--since", "1d") == [new, old]
    assert listed("--since", "2020-01-31") == [new, old]
    assert listed("--state", "queued", "--state", "running") == [new]
    assert listed("--state", "failed") == []
    assert listed(submitter="ana") == listed("--submitter", "ana") == [hers]


def test_a_search_reaches_the_gateway(careca: Careca, gateway: GatewayFixture) -> None:
    for options in ((), ("--search", "budget 2026")):
        assert careca("jobs", "list", *options).exit_code == ExitCode.OK

    assert [request.query for request in gateway.jobs.script.listings] == ["", "budget 2026"]


@pytest.mark.parametrize("text", ["yesterday", "24", "h", "-1h", "24 h", ""])
def test_an_invalid_time_is_refused(careca: Careca, gateway: GatewayFixture, text: str) -> None:
    assert careca("jobs", "list", f"--since={text}").exit_code == ExitCode.USAGE
    assert gateway.jobs.script.listings == []
    with pytest.raises(typer.BadParameter):
        parse_since(text)


def test_one_job_is_shown_with_its_stages_and_attempts(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    gateway.jobs.script.failed_stage = Stage.DIARIZE
    job_id = careca("submit", call, "--webhook", "https://example.org/done").stdout.strip()

    shown, document = careca("jobs", "show", job_id), json.loads(careca("jobs", "show", job_id, "--json").stdout)

    for part in (job_id, "succeeded (partial)", "call.wav", "anonymous", "gateway-1", "too little memory"):
        assert part in shown.stdout
    assert "https://example.org/done (pending, sent 0 times)" in shown.stdout
    assert document["id"] == job_id
    assert [stage["stage"] for stage in document["stages"]] == list(Stage)
    assert document["attempts"][0]["outcome"] == "SUCCEEDED"


def test_watching_several_jobs_ends_with_the_last_of_them_and_the_worst_code(
    careca: Careca, gateway: GatewayFixture, tmp_path: Path
) -> None:
    good = careca("submit", recording(tmp_path / "a.wav")).stdout.strip()
    gateway.jobs.script.error = ("NO_AUDIO", "there is no audio in it")
    bad = careca("submit", recording(tmp_path / "b.wav")).stdout.strip()

    result = careca("jobs", "watch", good, bad, "nothing")

    assert result.exit_code == ExitCode.REFUSED
    assert result.stdout == ""
    assert f"careca: {good}: done" in result.stderr
    assert f"careca: {bad}: the job failed: there is no audio in it" in result.stderr
    assert "careca: nothing: there is no job nothing" in result.stderr


def test_segments_are_printed_when_asked_for(careca: Careca, tmp_path: Path) -> None:
    ids = [careca("submit", recording(tmp_path / name)).stdout.strip() for name in ("a.wav", "b.wav")]

    one, both = careca("jobs", "watch", "--segments", ids[0]), careca("jobs", "watch", "--segments", *ids)

    said = ["[00:00:00.000 - 00:00:01.000] Hello.", "[00:00:01.000 - 00:00:02.500] Olá, você!"]
    assert one.stdout.splitlines() == said
    assert sorted(both.stdout.splitlines()) == [f"{job_id}: {line}" for job_id in ids for line in said]


def test_a_broken_watch_continues_and_says_so(careca: Careca, gateway: GatewayFixture, job: str) -> None:
    gateway.jobs.script.break_watches_after = [2, 1, 1]

    result = careca("jobs", "watch", "--segments", job)

    assert result.exit_code == ExitCode.OK
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr.count("trying again") == 3


def test_jobs_are_cancelled_retried_and_deleted(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    gateway.jobs.script.at_once = False
    job_id = careca("submit", call).stdout.strip()

    cancelled, asked = careca("jobs", "cancel", job_id), careca("result", job_id)
    retried, waiting = careca("jobs", "retry", job_id), careca("result", job_id)
    deleted, gone = careca("jobs", "delete", job_id), careca("result", job_id)

    assert (cancelled.exit_code, cancelled.stdout) == (ExitCode.OK, f"{job_id} cancelled\n")
    assert asked.exit_code == ExitCode.FAILED
    assert f"the job was cancelled; `careca jobs retry {job_id}` queues it again" in one_line(asked)
    assert (retried.exit_code, retried.stdout) == (ExitCode.OK, f"{job_id} queued\n")
    assert waiting.exit_code == ExitCode.OVERLOADED
    assert f"the job is queued: wait for it with `careca jobs watch {job_id}`" in one_line(waiting)
    assert (deleted.exit_code, deleted.stdout) == (ExitCode.OK, f"{job_id} deleted\n")
    assert gone.exit_code == ExitCode.REFUSED
    assert f"there is no job {job_id}" in one_line(gone)


@pytest.mark.parametrize("command", ["cancel", "retry", "delete"])
def test_the_others_are_changed_if_one_job_cannot_be(
    careca: Careca, gateway: GatewayFixture, call: Path, command: str
) -> None:
    gateway.jobs.script.error = ("INTERNAL", "internal error")
    job_id = careca("submit", call).stdout.strip()

    result = careca("jobs", command, "nothing", job_id)

    assert result.exit_code == ExitCode.REFUSED
    assert one_line(result) == "careca: nothing: there is no job nothing"
    assert result.stdout.startswith(f"{job_id} ")


def test_a_job_that_succeeded_cannot_be_retried(careca: Careca, job: str) -> None:
    result = careca("jobs", "retry", job)

    assert result.exit_code == ExitCode.FAILED
    assert "nothing of it failed" in one_line(result)


def test_clearing_removes_the_jobs_that_have_ended(
    careca: Careca, gateway: GatewayFixture, job: str, tmp_path: Path
) -> None:
    asked = careca("jobs", "clear", stdin=b"y\n")
    assert (asked.exit_code, list(gateway.jobs.records)) == (ExitCode.USAGE, [job])
    assert "--yes" in asked.stderr

    cleared = careca("jobs", "clear", "--yes")
    careca("submit", recording(tmp_path / "other.wav"))
    document = json.loads(careca("jobs", "clear", "--yes", "--json").stdout)

    assert cleared.stdout.startswith("1 jobs removed\n")
    assert "unloaded" in cleared.stdout
    assert document["removed_jobs"] == 1
    assert [entry["stage"] for entry in document["memory"]["stages"]] == ["diarize"]
    assert gateway.jobs.records == {}


def test_in_a_terminal_clearing_jobs_is_confirmed_first(gateway: GatewayFixture, job: str) -> None:
    for answer, left in ((b"n\n", 1), (b"y\n", 0)):
        controller, terminal = pty.openpty()
        with subprocess.Popen(
            [*CARECA, "jobs", "clear", "--gateway", gateway.target],
            stdin=terminal,
            stderr=terminal,
            stdout=subprocess.DEVNULL,
        ) as process:
            os.close(terminal)
            os.write(controller, answer)
            assert process.wait(HANG_SECONDS) == ExitCode.OK
        os.close(controller)
        assert len(gateway.jobs.records) == left


def test_a_result_is_printed_as_transcribe_prints_it(careca: Careca, job: str) -> None:
    people, text = careca("result", job), careca("result", job, "--format", "txt")

    assert people.stdout.splitlines() == [
        "[00:00:00.000 - 00:00:01.000] SPEAKER_00: Hello.",
        "[00:00:01.000 - 00:00:02.500] SPEAKER_01: Olá, você!",
    ]
    assert (text.exit_code, text.stdout, text.stderr) == (ExitCode.OK, "txt of call.wav\n", "")


@pytest.mark.parametrize(
    ("options", "written"),
    [
        (["-o", "out.srt"], {"out.srt": "srt of call.wav\n"}),
        (["-o", "out.JSON"], {"out.JSON": "json of call.wav\n"}),
        (["-o", "notes"], {"notes": "txt of call.wav\n"}),
        (["-f", "vtt", "-o", "out.srt"], {"out.srt": "vtt of call.wav\n"}),
        (["-o", "new/"], {"new/call.txt": "txt of call.wav\n"}),
        (["-f", "srt", "-o", "there"], {"there/call.srt": "srt of call.wav\n"}),
        (
            ["-f", "srt", "-f", "json", "-o", "both"],
            {"both/call.srt": "srt of call.wav\n", "both/call.json": "json of call.wav\n"},
        ),
    ],
    ids=" ".join,
)
def test_a_result_goes_to_a_file_or_into_a_folder(
    careca: Careca,
    job: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    written: dict[str, str],
) -> None:
    work = tmp_path / "work"
    (work / "there").mkdir(parents=True)
    monkeypatch.chdir(work)

    result = careca("result", job, *options)

    assert (result.exit_code, result.stdout) == (ExitCode.OK, "")
    found = {str(path.relative_to(work)): path.read_text() for path in work.rglob("*") if path.is_file()}
    assert found == written


def test_a_recordings_name_never_escapes_the_folder(
    careca: Careca, gateway: GatewayFixture, job: str, tmp_path: Path
) -> None:
    record = gateway.jobs.records[job]
    for name in ("../../evil.wav", "/etc/passwd", "..", ""):
        record.job = replace(record.job, display_name=name)
        assert careca("result", job, "-f", "txt", "-o", f"{tmp_path}/in/out/", "--overwrite").exit_code == ExitCode.OK

    made = {path.name for path in (tmp_path / "in" / "out").iterdir()}
    assert made == {"evil.txt", "passwd.txt", "recording.txt", f"{job}.txt"}
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["out"]


def test_an_existing_result_is_replaced_only_with_overwrite(careca: Careca, job: str, tmp_path: Path) -> None:
    target = tmp_path / "mine.txt"
    target.write_text("mine")

    refused, replaced = careca("result", job, "-o", target), careca("result", job, "-o", target, "--overwrite")

    assert refused.exit_code == ExitCode.REFUSED
    assert "--overwrite" in one_line(refused)
    assert replaced.exit_code == ExitCode.OK
    assert target.read_text() == "txt of call.wav\n"


def test_a_partial_result_is_delivered_and_says_what_is_missing(
    careca: Careca, gateway: GatewayFixture, call: Path
) -> None:
    gateway.jobs.script.failed_stage = Stage.DIARIZE
    job_id = careca("submit", call).stdout.strip()

    result = careca("result", job_id, "-f", "txt")

    assert result.exit_code == ExitCode.PARTIAL
    assert result.stdout == "txt of call.wav\n"
    assert "diarize failed: the device has too little memory; the rest is delivered without it" in one_line(result)


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit"],
        ["submit", "a.wav", "--priority", "urgent"],
        ["submit", "a.wav", "--speakers", "2", "--max-speakers", "3"],
        ["submit", "a.wav", "--format", "srt"],
        ["submit", "-", "-"],
        ["jobs", "list", "--state", "lost"],
        ["jobs", "list", "--limit", "0"],
        ["jobs", "watch"],
        ["jobs", "cancel"],
        ["jobs", "nonsense"],
        ["result"],
        ["result", "job-1", "-f", "srt", "-f", "vtt"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_refused_without_a_call(
    careca: Careca, gateway: GatewayFixture, arguments: Sequence[str]
) -> None:
    result = careca(*arguments)

    assert result.exit_code == ExitCode.USAGE
    assert result.stdout == ""
    assert gateway.jobs.script.submitters == []


ALL = [
    ["submit", __file__],
    ["jobs", "list"],
    ["jobs", "show", "job-000001"],
    ["jobs", "watch", "job-000001"],
    ["jobs", "cancel", "job-000001"],
    ["jobs", "retry", "job-000001"],
    ["jobs", "delete", "job-000001"],
    ["jobs", "clear", "--yes"],
    ["result", "job-000001"],
]


@pytest.mark.parametrize("arguments", ALL, ids=lambda words: " ".join(words[:2]))
def test_a_gateway_that_cannot_be_reached_is_named(careca: Careca, arguments: Sequence[str]) -> None:
    result = careca(*arguments, "--gateway", NOWHERE)

    assert result.exit_code == ExitCode.UNAVAILABLE
    assert f"(gateway {NOWHERE}: is it running?" in result.stderr.splitlines()[-1]
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", ALL, ids=lambda words: " ".join(words[:2]))
def test_an_error_is_one_line_and_debug_shows_the_traceback(
    careca: Careca, gateway: GatewayFixture, arguments: Sequence[str]
) -> None:
    for debug in (False, True):
        gateway.script.failures = [InternalError("internal error, request 7")]
        result = careca(*arguments, *(["--debug"] if debug else []))

        assert result.exit_code == ExitCode.FAILED
        assert "internal error, request 7" in result.stderr.splitlines()[-1]
        assert ("Traceback" in result.stderr) is debug


@pytest.mark.parametrize("arguments", ALL, ids=lambda words: " ".join(words[:2]))
def test_every_command_sends_the_submitter(careca: Careca, gateway: GatewayFixture, arguments: Sequence[str]) -> None:
    refused = careca(*arguments, "--submitter", "Ana B")
    assert gateway.jobs.script.submitters == []
    careca(*arguments, submitter="ana")

    assert refused.exit_code == ExitCode.REFUSED
    assert set(gateway.jobs.script.submitters) == {"ana"}


def test_transcribing_sends_the_submitter(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    careca("transcribe", call, submitter="ana")
    careca("voice", call, "--submitter", "bob")

    assert gateway.script.submitters == ["ana", "bob"]


def test_an_interrupted_wait_has_printed_the_id_and_the_job_continues(gateway: GatewayFixture, call: Path) -> None:
    gateway.jobs.script.at_once = False
    command = [*CARECA, "submit", "--wait", str(call), "--gateway", gateway.target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        while "waits for a gateway" not in process.stderr.readline():
            assert process.poll() is None

        process.send_signal(signal.SIGINT)

        assert process.wait(HANG_SECONDS) == ExitCode.INTERRUPTED
        assert process.stderr.read() == "careca: interrupted\n"
        assert process.stdout.read() == "job-000001\n"
    assert gateway.jobs.script.watch_ended.wait(HANG_SECONDS)
    assert gateway.jobs.records["job-000001"].job.state is JobState.QUEUED


def test_in_a_terminal_a_job_has_bars_and_stdout_has_the_id_only(gateway: GatewayFixture, call: Path) -> None:
    gateway.jobs.script.at_once = False
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*CARECA, "submit", "--wait", str(call), "--gateway", gateway.target],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(terminal)
        (job_id,) = gateway.jobs.wait_for_jobs(1)
        gateway.jobs.begin(job_id)
        shown = read_until(controller, b"call.wav  decode")
        gateway.jobs.finish(job_id)
        shown += read_until(controller, None)
        assert process.stdout is not None
        assert process.stdout.read() == f"{job_id}\n".encode()
    os.close(controller)

    assert process.returncode == ExitCode.OK
    assert b"\x1b[" in shown
    assert b"is being worked on" in shown
    assert f"`careca result {job_id}`".encode() in shown


def test_a_list_shows_what_is_being_worked_on(careca: Careca, gateway: GatewayFixture, call: Path) -> None:
    gateway.jobs.script.at_once = False
    job_id = careca("submit", call).stdout.strip()
    record = gateway.jobs.records[job_id]
    record.job = running(record.job)

    assert "running (transcribe 25%, diarize 50%)" in careca("jobs", "list").stdout


def running(job: Job) -> Job:
    stages = (JobStage(Stage.TRANSCRIBE, StageState.RUNNING, 0.25), JobStage(Stage.DIARIZE, StageState.RUNNING, 0.5))
    return replace(job, state=JobState.RUNNING, stages=stages)


@pytest.mark.parametrize("command", sorted({" ".join(words[: 1 + (words[0] == "jobs")]) for words in ALL}))
def test_every_command_has_a_help_page_with_examples_and_codes(careca: Careca, command: str) -> None:
    page = careca(*command.split(), "--help")

    assert page.exit_code == ExitCode.OK
    examples, _, codes = page.stdout.partition("Examples:")[2].partition("Exit codes:")
    assert f"careca {command}" in examples
    assert all(f"  {code.value} " in codes for code in ExitCode)
