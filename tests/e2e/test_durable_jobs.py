"""Jobs with the real stack: the answer of a call, kept, and given although the gateway was killed at work."""

import signal
from pathlib import Path

import pytest

from careca.types import Job, JobState, OutputFormat, Segment, Stage, StageState
from careca_client import Client
from local_stack import LocalStack

pytestmark = pytest.mark.models


def said(result: object) -> list[tuple[str | None, str]]:
    return [(each.speaker, each.text) for each in result.utterances]  # type: ignore[attr-defined]


def test_a_job_has_the_result_that_a_call_has(client: Client, recording: Path) -> None:
    answered = client.transcribe(recording)

    job = client.submit(recording)
    told = list(client.watch(job.id))

    assert isinstance(told[-1], Job)
    assert (told[-1].state, told[-1].partial) == (JobState.SUCCEEDED, False)
    result = client.job_result(job.id, formats=[OutputFormat.SRT, OutputFormat.RTTM])
    assert said(result) == said(answered)
    assert "-->" in result.formats[OutputFormat.SRT]
    assert result.formats[OutputFormat.RTTM].startswith("SPEAKER ")


def test_a_gateway_that_is_killed_at_work_loses_nothing(stack: LocalStack, recording: Path) -> None:
    with Client(stack.gateway_target, retries=20) as client:
        answered = client.transcribe(recording)
        job = client.submit(recording, skip_cache=True)
        for event in client.watch(job.id):
            if isinstance(event, Job) and any(
                stage.stage is Stage.DIARIZE and stage.state is StageState.RUNNING for stage in event.stages
            ):
                break

        stack.end_part("gateway", signal.SIGKILL)
        gateway = next(part for part in stack.parts() if part.name == "gateway")
        stack.start_part(gateway)
        stack.wait_until_ready(gateway)

        *segments, last = (event for event in client.watch(job.id) if isinstance(event, Segment | Job))
        assert isinstance(last, Job)
        assert last.state is JobState.SUCCEEDED
        assert [attempt.outcome for attempt in last.attempts] == ["WORKER_LOST", "SUCCEEDED"]
        starts = [segment.start for segment in segments if isinstance(segment, Segment)]
        assert starts == sorted(set(starts))
        assert said(client.job_result(job.id)) == said(answered)
