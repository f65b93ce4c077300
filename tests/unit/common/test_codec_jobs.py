"""Conversion of jobs to messages and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca import codec
from careca.errors import InvalidRequest
from careca.types import (
    Digest,
    Job,
    JobAttempt,
    JobPriority,
    JobStage,
    JobState,
    JobWebhook,
    Stage,
    StageState,
    WebhookState,
)
from careca.v1 import jobs_pb2

moments = st.integers(0, 2**31 * 1000).map(lambda milliseconds: milliseconds / 1000)
fractions = st.floats(0, 1)
counts = st.integers(0, 2**31 - 1)
stages = st.builds(
    JobStage,
    st.sampled_from(Stage),
    st.sampled_from(StageState),
    fractions,
    st.integers(0, 10**6).map(lambda milliseconds: milliseconds / 1000),
    st.booleans(),
    counts,
    st.text(),
    st.text(),
)
attempts = st.builds(JobAttempt, counts, st.text(), moments, st.none() | moments, st.text(), st.text())
jobs = st.builds(
    Job,
    id=st.text(),
    state=st.sampled_from(JobState),
    recording=st.just(Digest("0123456789abcdef" * 4, 32_000)),
    display_name=st.text(),
    submitter=st.text(),
    priority=st.sampled_from(JobPriority),
    request_id=st.text(),
    create_unix=moments,
    start_unix=st.none() | moments,
    end_unix=st.none() | moments,
    stages=st.lists(stages, max_size=4).map(tuple),
    attempts=st.lists(attempts, max_size=3).map(tuple),
    partial=st.booleans(),
    error_reason=st.text(),
    error_message=st.text(),
    webhook=st.none() | st.builds(JobWebhook, st.text(), st.sampled_from(WebhookState), counts, st.text()),
)


@given(jobs)
def test_a_job_comes_back_as_it_was(job):
    message = jobs_pb2.Job.FromString(codec.encode_job(job).SerializeToString())

    assert codec.decode_job(message) == job


@pytest.mark.parametrize("state", JobState)
def test_every_job_state_comes_back_as_it_was(state):
    assert codec.decode_job_state(codec.encode_job_state(state), "states[0]") is state


@pytest.mark.parametrize("number", [0, 6, 99])
def test_an_unspecified_or_unknown_job_state_is_refused_by_field(number):
    with pytest.raises(InvalidRequest) as refused:
        codec.decode_job_state(number, "states[2]")

    assert refused.value.field == "states[2]"


def test_an_unspecified_priority_is_batch():
    assert codec.decode_job_priority(jobs_pb2.JOB_PRIORITY_UNSPECIFIED, "priority") is JobPriority.BATCH


@pytest.mark.parametrize("priority", JobPriority)
def test_a_priority_comes_back_as_it_was(priority):
    assert codec.decode_job_priority(codec.encode_job_priority(priority), "priority") is priority


def test_an_unknown_priority_is_refused_by_field():
    with pytest.raises(InvalidRequest) as refused:
        codec.decode_job_priority(3, "priority")

    assert refused.value.field == "priority"
