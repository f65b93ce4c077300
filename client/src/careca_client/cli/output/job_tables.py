"""Jobs as people are shown them."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from careca.formatting import format_time
from careca.types import Job, JobState, Notice, Stage, StageState
from careca_client.cli.output import tables, terminal


def list_table(jobs: Iterable[Job]) -> Table:
    """One row for each job."""
    table = tables.new("job", "state", "recording", "submitted", "took")
    for job in jobs:
        table.add_row(job.id, _state(job), job.display_name, tables.moment(job.create_unix), _took(job))
    return table


def job_table(job: Job) -> Table:
    """All of a job but its stages and attempts: one row for each fact that there is."""
    table = tables.new("", job.id)
    facts = {
        "state": _state(job),
        "error": f"{job.error_reason}: {job.error_message}" if job.error_reason else "",
        "recording": job.display_name,
        "digest": job.recording.sha256,
        "submitter": job.submitter,
        "priority": job.priority.value,
        "request id": job.request_id,
        "submitted": tables.moment(job.create_unix),
        "begun": tables.moment(job.start_unix),
        "ended": tables.moment(job.end_unix),
        "webhook": _webhook(job),
    }
    for label, fact in facts.items():
        if fact:
            table.add_row(label, fact)
    return table


def stage_table(job: Job) -> Table:
    """One row for each stage."""
    table = tables.new("stage", "state", "done", "took", "tries", "error")
    for stage in job.stages:
        state = f"{stage.state} (cached)" if stage.cached else stage.state.value
        done, seconds = f"{stage.progress:.0%}", f"{stage.seconds:.1f} s"
        table.add_row(stage.stage.value, state, done, seconds, str(stage.attempts), stage.error_message or tables.NONE)
    return table


def attempt_table(job: Job) -> Table:
    """One row for each time that a gateway worked on the job."""
    table = tables.new("attempt", "gateway", "began", "ended", "outcome", "error")
    for attempt in job.attempts:
        begin, end = tables.moment(attempt.start_unix), tables.moment(attempt.end_unix)
        outcome, error = attempt.outcome or tables.NONE, attempt.error_message or tables.NONE
        table.add_row(str(attempt.number), attempt.worker, begin, end, outcome, error)
    return table


def notice_table(notices: Iterable[Notice]) -> Table:
    """One row for each notice."""
    table = tables.new("notice", "from", "to", "what")
    for notice in notices:
        start, end = (tables.NONE if time is None else format_time(time) for time in (notice.start, notice.end))
        table.add_row(notice.code, start, end, Text(terminal.printable(notice.message)))
    return table


def _state(job: Job) -> str:
    if job.state is JobState.RUNNING:
        return f"running ({_current(job)})"
    return "succeeded (partial)" if job.partial else job.state.value


def _current(job: Job) -> str:
    """What is being worked on: each model's stage, or else the one stage that goes on."""
    stages = [f"{stage.stage} {stage.progress:.0%}" for stage in job.stages if stage.state is StageState.RUNNING]
    return ", ".join(stages) or f"{Stage.DECODE} 0%"


def _took(job: Job) -> str:
    if job.start_unix is None or job.end_unix is None:
        return tables.NONE
    return f"{job.end_unix - job.start_unix:.1f} s"


def _webhook(job: Job) -> str:
    if job.webhook is None:
        return ""
    error = f": {job.webhook.error_message}" if job.webhook.error_message else ""
    return f"{job.webhook.url} ({job.webhook.state}, sent {job.webhook.attempts} times{error})"
