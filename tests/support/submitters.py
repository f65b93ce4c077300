"""A plain gRPC client for jobs, and functions that pause the model services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from careca import codec
from careca.rpc.statuses import responses_of, translated_errors
from careca.types import (
    Digest,
    Job,
    JobPriority,
    JobState,
    OutputFormat,
    RecordingForm,
    RecordingInfo,
    Result,
    SavedVoice,
    Segment,
    Waveform,
)
from careca.v1 import jobs_pb2, recordings_pb2, voices_pb2
from support.fakes import FakeDiarizerEngine, FakeTranscriberEngine, digest_of
from support.media import tone, wav
from support.stack import Caller, Config, Stack
from support.waiting import HANG_SECONDS, until

RECORDING = wav(tone(2.0))
ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Submitter:
    """A plain gRPC client for jobs, without Careca's client library."""

    def __init__(self, caller: Caller, name: str = "") -> None:
        self.jobs = caller.jobs
        self.recordings = caller.recordings
        self.voices = caller.voices
        self.terms: dict[str, Any] = {"timeout": HANG_SECONDS}
        if name:
            self.terms["metadata"] = (("x-careca-submitter", name),)

    async def upload(self, data: bytes, *, digest: Digest | None = None) -> str:
        """Offers ``data`` and sends it if it is needed. Returns the answer."""
        needed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def requests() -> AsyncIterator[jobs_pb2.UploadRecordingRequest]:
            recording = codec.encode_digest(digest or digest_of(data))
            yield jobs_pb2.UploadRecordingRequest(config=jobs_pb2.UploadRecordingRequest.Config(recording=recording))
            if await needed:
                for first in range(0, len(data), 10_000):
                    yield jobs_pb2.UploadRecordingRequest(recording_chunk=data[first : first + 10_000])

        answers = []
        async for response in responses_of(self.jobs.UploadRecording(requests(), **self.terms)):
            answers.append(str(response.WhichOneof("message")))
            needed.set_result(response.HasField("recording_needed"))
        (answer,) = answers
        return answer

    async def submit(
        self,
        data: bytes = RECORDING,
        *,
        request_id: str = "",
        webhook_url: str = "",
        priority: JobPriority = JobPriority.BATCH,
        **config: Any,
    ) -> Job:
        """Submits a job for ``data``, which is uploaded first."""
        await self.upload(data)
        request = jobs_pb2.SubmitJobRequest(
            request_id=request_id,
            config=Config(recording=codec.encode_digest(digest_of(data)), **config),
            priority=codec.encode_job_priority(priority),
            webhook_url=webhook_url,
        )
        with translated_errors():
            return codec.decode_job((await self.jobs.SubmitJob(request, **self.terms)).job)

    async def get(self, job: Job) -> Job:
        with translated_errors():
            return codec.decode_job((await self.jobs.GetJob(jobs_pb2.GetJobRequest(job_id=job.id), **self.terms)).job)

    async def list(self, **query: Any) -> tuple[list[Job], str]:
        with translated_errors():
            page = await self.jobs.ListJobs(jobs_pb2.ListJobsRequest(**query), **self.terms)
        return [codec.decode_job(job) for job in page.jobs], page.next_page_token

    async def watch(self, job: Job, cursor: str = "") -> list[tuple[str, Job | Segment]]:
        """Returns all events up to the end, with their cursors."""
        return [told async for told in self.watching(job, cursor)]

    async def watching(self, job: Job, cursor: str = "") -> AsyncIterator[tuple[str, Job | Segment]]:
        with translated_errors():
            request = jobs_pb2.WatchJobRequest(job_id=job.id, cursor=cursor)
            async for response in self.jobs.WatchJob(request, **self.terms):
                if response.HasField("job"):
                    yield response.cursor, codec.decode_job(response.job)
                else:
                    yield response.cursor, codec.decode_segment(response.segment)

    async def ended(self, job: Job) -> Job:
        """Returns the job after it has ended."""
        last = (await self.watch(job))[-1][1]
        assert isinstance(last, Job)
        assert last.state in ENDED
        return last

    async def result(self, job: Job, *formats: OutputFormat) -> Result:
        request = jobs_pb2.GetJobResultRequest(job_id=job.id, formats=[codec.encode_format(each) for each in formats])
        with translated_errors():
            return codec.decode_result((await self.jobs.GetJobResult(request, **self.terms)).result)

    async def read(
        self, job: Job, form: RecordingForm, *, offset: int = 0, length: int = 0
    ) -> tuple[RecordingInfo, bytes]:
        """Returns the info and the bytes of a part of the job's recording."""
        request = recordings_pb2.ReadRecordingRequest(
            job_id=job.id, form=codec.encode_recording_form(form), offset=offset, length=length
        )
        responses = [each async for each in responses_of(self.recordings.ReadRecording(request, **self.terms))]
        assert [each.WhichOneof("message") for each in responses[1:]] == ["chunk"] * (len(responses) - 1)
        info = codec.decode_recording_info(responses[0].info)
        return info, b"".join(each.chunk for each in responses[1:])

    async def waveform(self, job: Job, **fields: Any) -> Waveform:
        request = recordings_pb2.GetWaveformRequest(job_id=job.id, **fields)
        with translated_errors():
            return codec.decode_waveform(await self.recordings.GetWaveform(request, **self.terms))

    async def cancel(self, job: Job) -> Job:
        with translated_errors():
            response = await self.jobs.CancelJob(jobs_pb2.CancelJobRequest(job_id=job.id), **self.terms)
        return codec.decode_job(response.job)

    async def retry(self, job: Job) -> Job:
        with translated_errors():
            response = await self.jobs.RetryJob(jobs_pb2.RetryJobRequest(job_id=job.id), **self.terms)
        return codec.decode_job(response.job)

    async def delete(self, job: Job) -> None:
        with translated_errors():
            await self.jobs.DeleteJob(jobs_pb2.DeleteJobRequest(job_id=job.id), **self.terms)

    async def clear(self) -> jobs_pb2.ClearJobsResponse:
        with translated_errors():
            response: jobs_pb2.ClearJobsResponse = await self.jobs.ClearJobs(jobs_pb2.ClearJobsRequest(), **self.terms)
        return response

    async def save_voice(self, name: str, **source: Any) -> SavedVoice:
        request = voices_pb2.SaveVoiceRequest(name=name, **source)
        with translated_errors():
            return codec.decode_saved_voice((await self.voices.SaveVoice(request, **self.terms)).voice)

    async def save_speaker(self, name: str, job: Job, speaker: str = "SPEAKER_00") -> SavedVoice:
        return await self.save_voice(name, job_speaker=voices_pb2.JobSpeaker(job_id=job.id, speaker_label=speaker))

    async def list_voices(self) -> list[SavedVoice]:
        with translated_errors():
            response = await self.voices.ListVoices(voices_pb2.ListVoicesRequest(), **self.terms)
        return [codec.decode_saved_voice(voice) for voice in response.voices]

    async def delete_voice(self, name: str) -> None:
        with translated_errors():
            await self.voices.DeleteVoice(voices_pb2.DeleteVoiceRequest(name=name), **self.terms)


@asynccontextmanager
async def submitting(stack: Stack, name: str = "") -> AsyncIterator[Submitter]:
    async with stack.caller() as caller:
        yield Submitter(caller, name)


def engines(stack: Stack) -> tuple[FakeTranscriberEngine, FakeDiarizerEngine]:
    transcriber, diarizer = stack.transcriber.engine, stack.diarizer.engine
    assert isinstance(transcriber, FakeTranscriberEngine)
    assert isinstance(diarizer, FakeDiarizerEngine)
    return transcriber, diarizer


def pause_models(stack: Stack) -> None:
    for engine in engines(stack):
        engine.may_go_on.clear()


def resume_models(stack: Stack) -> None:
    for engine in engines(stack):
        engine.may_go_on.set()


async def both_compute(stack: Stack) -> None:
    await until(lambda: all(engine.running for engine in engines(stack)))


async def until_running(submitter: Submitter, job: Job) -> Job:
    async for _, told in submitter.watching(job):
        if isinstance(told, Job) and told.state is JobState.RUNNING:
            return told
    raise AssertionError("the job ended before it ran")
