"""Jobs: submit, list, show, cancel, retry, delete."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

import careca_client
from careca.errors import InvalidRequest
from careca.types import JobState
from careca_client import AsyncClient
from careca_web.api.models.jobs import HistoryClearance, Job, JobPage, JobRequest, JobTerms
from careca_web.api.models.options import Options, named_as_in_http
from careca_web.api.recordings import is_form, is_json, received_recording
from careca_web.api.router import api_router
from careca_web.api.schemas import body_of, form_schema, in_body, json_schema
from careca_web.metrics import WebMetrics
from careca_web.sessions.callers import CallerClient

M = TypeVar("M", bound=BaseModel)

AllSubmitters = Annotated[
    bool, Field(description="Whether to include the jobs of all submitters. Needs an administrator's token.")
]


class JobForm(Options, JobTerms):
    """The fields of a form that submits a job with its recording."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", max_length=255, description="The name to show. Default: the name of the file.")

    @field_validator("hotwords", mode="before")
    @classmethod
    def _one_hotword(cls, value: object) -> object:
        """A field that the form has once is no list."""
        return [value] if isinstance(value, str) else value

    @property
    def options(self) -> Options:
        """The options in the form."""
        return Options(**{name: getattr(self, name) for name in Options.model_fields})


class JobFilter(BaseModel):
    """Which jobs to list. Timestamps are seconds since 1970."""

    model_config = ConfigDict(extra="forbid")

    state: list[JobState] = Field(default_factory=list, description="Only jobs in one of these states.")
    created_from: float | None = Field(default=None, ge=0, le=1e11, description="Only jobs since this time.")
    created_before: float | None = Field(default=None, ge=0, le=1e11, description="Only jobs before this time.")
    query: str = Field(
        default="",
        max_length=200,
        description="Only jobs that have each of these words in their name or in what was said. A page may then have "
        "few jobs or none, and still not be the last one.",
    )
    page_size: int = Field(default=50, ge=1, le=500, description="Greatest number of jobs.")
    page_token: str = Field(default="", max_length=1000, description="next_page_token of the page before.")
    all_submitters: AllSubmitters = False


_BODY = body_of(json=json_schema(JobRequest), form=form_schema(JobForm))


def routes(metrics: WebMetrics) -> APIRouter:
    """Returns the endpoints under /jobs, except those for events and results."""
    router = api_router("/jobs", "jobs")

    @router.post("", status_code=201, openapi_extra=_BODY)
    async def submit_job(request: Request, client: CallerClient) -> Job:
        """Submits a job: as JSON with the digest of a recording, or as a form with the recording itself.

        409 with the reason RECORDING_MISSING: the gateway does not have the recording. Upload it, and submit again.
        """
        with named_as_in_http():
            if is_form(request):
                return Job.from_value(await _submit_form(request, client, metrics))
            if is_json(request):
                return Job.from_value(await _submit_json(request, client))
        raise InvalidRequest(
            "the body must be application/json with a digest, or multipart/form-data with a file",
            reason="UNSUPPORTED_MEDIA_TYPE",
        )

    @router.get("")
    async def list_jobs(client: CallerClient, wanted: Annotated[JobFilter, Query()]) -> JobPage:
        """Lists the caller's jobs in pages, newest first."""
        page = await client.jobs_page(
            states=wanted.state,
            created_from=wanted.created_from,
            created_before=wanted.created_before,
            query=wanted.query,
            page_size=wanted.page_size,
            page_token=wanted.page_token,
            all_submitters=wanted.all_submitters,
        )
        return JobPage.from_value(page)

    @router.delete("")
    async def clear_history(client: CallerClient, all_submitters: AllSubmitters = False) -> HistoryClearance:
        """Removes all jobs that have ended, with their results, and makes services give back memory."""
        return HistoryClearance.from_value(await client.clear_jobs(all_submitters=all_submitters))

    @router.get("/{job_id}")
    async def show_job(job_id: str, client: CallerClient) -> Job:
        """Returns the job as it is now."""
        return Job.from_value(await client.job(job_id))

    @router.post("/{job_id}/cancel")
    async def cancel_job(job_id: str, client: CallerClient) -> Job:
        """Cancels the job. A job that has ended stays as it is."""
        return Job.from_value(await client.cancel_job(job_id))

    @router.post("/{job_id}/retry")
    async def retry_job(job_id: str, client: CallerClient) -> Job:
        """Queues a job again that was cancelled, that failed, or in which a stage failed. Repeats only what failed."""
        return Job.from_value(await client.retry_job(job_id))

    @router.delete("/{job_id}", status_code=204)
    async def delete_job(job_id: str, client: CallerClient) -> None:
        """Removes the job and its result. Cancels the job first if it has not ended."""
        await client.delete_job(job_id)

    return router


async def _submit_json(request: Request, client: AsyncClient) -> careca_client.Job:
    try:
        job = JobRequest.model_validate_json(await request.body())
    except ValidationError as error:
        raise in_body(error) from None
    return await client.submit_digest(
        job.recording.value(),
        request_id=job.request_id,
        priority=job.priority,
        webhook_url=job.webhook_url,
        **job.options.value(job.name),
    )


async def _submit_form(request: Request, client: AsyncClient, metrics: WebMetrics) -> careca_client.Job:
    async with received_recording(request, client, metrics) as received:
        try:
            form = JobForm.model_validate(received.fields)
        except ValidationError as error:
            raise in_body(error) from None
        return await client.submit(
            received.file.file,
            request_id=form.request_id,
            priority=form.priority,
            webhook_url=form.webhook_url,
            **form.options.value(form.name or received.name),
        )
