"""Tables of jobs."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from careca.formatting import format_time, printable
from careca.types import Job, JobState, Notice, Revision, Stage, StageState
from careca_client.cli.output.tables import NONE, create_table, format_unix


def list_table(jobs: Iterable[Job]) -> Table:
    """Returns one row for each job."""
    table = create_table("job", "state", "recording", "submitted", "took")
    for job in jobs:
        table.add_row(job.id, _state(job), job.display_name, format_unix(job.create_unix), _took(job))
    return table


def job_table(job: Job) -> Table:
    """Returns one row for each fact about the job, except its stages and attempts."""
    table = create_table("", job.id)
    facts = {
        "state": _state(job),
        "error": f"{job.error_reason}: {job.error_message}" if job.error_reason else "",
        "recording": job.display_name,
        "digest": job.recording.sha256,
        "submitter": job.submitter,
        "priority": job.priority.value,
        "request id": job.request_id,
        "submitted": format_unix(job.create_unix),
        "begun": format_unix(job.start_unix),
        "ended": format_unix(job.end_unix),
        "webhook": _webhook(job),
    }
    for label, fact in facts.items():
        if fact:
            table.add_row(label, fact)
    return table


def stage_table(job: Job) -> Table:
    """Returns one row for each stage."""
    table = create_table("stage", "state", "done", "took", "tries", "error")
    for stage in job.stages:
        state = f"{stage.state} (cached)" if stage.cached else stage.state.value
        done, seconds = f"{stage.progress:.0%}", f"{stage.seconds:.1f} s"
        table.add_row(stage.stage.value, state, done, seconds, str(stage.attempts), stage.error_message or NONE)
    return table


def attempt_table(job: Job) -> Table:
    """Returns one row for each attempt of a gateway at the job."""
    table = create_table("attempt", "gateway", "began", "ended", "outcome", "error")
    for attempt in job.attempts:
        begin, end = format_unix(attempt.start_unix), format_unix(attempt.end_unix)
        outcome, error = attempt.outcome or NONE, attempt.error_message or NONE
        table.add_row(str(attempt.number), attempt.worker, begin, end, outcome, error)
    return table


def notice_table(notices: Iterable[Notice]) -> Table:
    """Returns one row for each notice."""
    table = create_table("notice", "from", "to", "what")
    for notice in notices:
        start, end = (NONE if time is None else format_time(time) for time in (notice.start, notice.end))
        table.add_row(notice.code, start, end, Text(printable(notice.message)))
    return table


def revision_table(revisions: Iterable[Revision]) -> Table:
    """Returns one row for each revision of a transcript."""
    table = create_table("revision", "saved", "by", "what")
    for revision in revisions:
        what = Text(printable(revision.summary))
        table.add_row(str(revision.number), format_unix(revision.create_unix), revision.author, what)
    return table


def _state(job: Job) -> str:
    if job.state is JobState.RUNNING:
        return f"running ({_current(job)})"
    return "succeeded (partial)" if job.partial else job.state.value


def _current(job: Job) -> str:
    """Returns the stages that are running. A running job without any is about to decode."""
    stages = [f"{stage.stage} {stage.progress:.0%}" for stage in job.stages if stage.state is StageState.RUNNING]
    return ", ".join(stages) or f"{Stage.DECODE} 0%"


def _took(job: Job) -> str:
    if job.start_unix is None or job.end_unix is None:
        return NONE
    return f"{job.end_unix - job.start_unix:.1f} s"


def _webhook(job: Job) -> str:
    if job.webhook is None:
        return ""
    error = f": {job.webhook.error_message}" if job.webhook.error_message else ""
    return f"{job.webhook.url} ({job.webhook.state}, sent {job.webhook.attempts} times{error})"
