"""The job queue in a Redis that all gateways share. ``jobs.lua`` makes every change atomically; this class calls it."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from itertools import chain
from typing import Any

from careca.codec import decode_segment
from careca.errors import CarecaError, InternalError, InvalidRequest, Overloaded, PreconditionFailed
from careca.types import Job, JobPriority, JobStage, JobState
from careca.v1 import audio_pb2
from careca_gateway.jobs.queue.error_records import decode_error
from careca_gateway.jobs.queue.liveness import LivenessTracker
from careca_gateway.jobs.queue.notifications import Notifications
from careca_gateway.jobs.queue.port import (
    DueWebhook,
    JobEvent,
    JobQueue,
    Lease,
    Limits,
    NewRevision,
    Outcome,
    Query,
    QueueStats,
    StoredRevision,
    StoredTranscript,
    Submission,
    Update,
    job_not_found,
)
from careca_gateway.jobs.queue.records import (
    id_range,
    read_job,
    read_lease,
    read_revision,
    write_about,
    write_error,
    write_number,
    write_revision,
    write_segments,
    write_stages,
    write_update,
)
from careca_gateway.jobs.queue.redis_script import PREFIX, JobScript

_POLL_SECONDS = 1.0
"""How often to check while waiting for a notification, which may get lost."""

_SEGMENT_BATCH = 200
_REMOVE_BATCH = 200
_EXIST_BATCH = 1000
_RETRY_AFTER_SECONDS = 30.0


class RedisJobQueue(JobQueue):
    """Jobs in a Redis that evicts nothing."""

    def __init__(
        self, redis_url: str, *, timeout_seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Does not connect yet.

        Args:
            redis_url: the URL for redis-py.
            timeout_seconds: the timeout of each operation. A Redis that writes everything to disk may be slow.
            clock: a monotonic clock, in seconds, that measures how long a lease has not been renewed.
        """
        self._script = JobScript(
            redis_url, timeout_seconds=timeout_seconds, package="careca_gateway.jobs.queue", name="jobs.lua"
        )
        self._notifications = Notifications(self._script.client, f"{PREFIX}:news")
        self._leases = LivenessTracker(clock)
        self._failures = 0

    async def open(self) -> None:
        """Starts to receive notifications."""
        self._notifications.start()

    async def close(self) -> None:
        """Closes all connections."""
        await self._notifications.aclose()
        await self._script.aclose()

    async def submit(self, submission: Submission, limits: Limits) -> Job:
        """Submits a job."""
        return (await self.submit_and_take(submission, limits, ""))[0]

    async def submit_and_take(self, submission: Submission, limits: Limits, worker: str) -> tuple[Job, Lease | None]:
        """Submits a job. If it is new, also takes the next interactive job for ``worker``."""
        outcome, *details = await self._script.run(
            "submit",
            secrets.token_hex(4),
            write_about(submission),
            submission.spec,
            write_stages(submission.stages),
            limits.queued,
            limits.queued_per_submitter,
            submission.caller,
            worker,
        )
        if outcome == b"reused":
            raise PreconditionFailed(
                f"The request id {submission.request_id!r} was used for another job: choose a new one.",
                reason="REQUEST_ID_REUSED",
                metadata={"request_id": submission.request_id},
            )
        return _queued(outcome, details[0], limits), read_lease(details[1]) if len(details) > 1 else None

    async def get(self, job_id: str) -> Job:
        """Returns the job."""
        return read_job(_found(await self._script.run("get", job_id), job_id))

    async def result_key(self, job_id: str) -> str:
        """Returns the key of the job's stored result, empty if there is none."""
        key: bytes = _found(await self._script.run("result_key", job_id), job_id)[0]
        return key.decode()

    async def spec(self, job_id: str) -> bytes:
        """Returns the job's configuration as it was submitted."""
        spec: bytes = _found(await self._script.run("spec", job_id), job_id)[0]
        return spec

    async def transcript(self, job_id: str) -> StoredTranscript:
        """Returns what is stored of the job's transcript."""
        result_key, revisions = _found(await self._script.run("revisions", job_id), job_id)
        return StoredTranscript(result_key.decode(), tuple(map(read_revision, revisions)))

    async def add_revision(
        self, job_id: str, result_key: str, base: int, revision: NewRevision, *, most: int
    ) -> tuple[StoredRevision, Sequence[StoredRevision]] | None:
        """Adds a revision after the newest one. Returns it and the removed ones, ``None`` if ``base`` is not newest."""
        record = write_revision(revision)
        added, *removed = _found(await self._script.run("add_revision", job_id, result_key, base, record, most), job_id)
        return (read_revision(added), tuple(map(read_revision, removed))) if added else None

    async def error(self, job_id: str) -> CarecaError:
        """Returns the error of a job that failed."""
        content, reason, message = _found(await self._script.run("error", job_id), job_id)
        # Errors of the script itself, and of older gateways, have no details.
        return decode_error(content) if content else InternalError(message.decode(), reason=reason.decode() or None)

    async def list(self, query: Query) -> Sequence[Job]:
        """Returns at most ``query.limit`` jobs, newest first."""
        states = query.states or frozenset(JobState)
        records = await self._script.run("list", query.submitter or "", *id_range(query), query.limit, *states)
        return [read_job(record) for record in records]

    async def take(self, worker: str, *, interactive_only: bool = False) -> Lease | None:
        """Leases the next job to ``worker``."""
        reply = await self._script.run("take", worker, int(interactive_only))
        return read_lease(reply) if reply else None

    async def wait_for_work(self, timeout_seconds: float, *, interactive_only: bool = False) -> None:
        """Returns when there may be a job to take, at the latest after ``timeout_seconds``."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds
        with self._notifications.subscribe("q") as wakeup:
            while (left := end - loop.time()) > 0:
                wakeup.clear()
                if await self._script.run("waits", int(interactive_only)):
                    return
                await wakeup.wait_for(min(left, _POLL_SECONDS))

    async def renew(self, updates: Sequence[Update]) -> frozenset[str]:
        """Renews leases and reports progress. Returns the ids of jobs whose lease is lost."""
        return _texts(await self._script.run("renew", *chain.from_iterable(map(write_update, updates))))

    async def finish(self, lease: Lease, outcome: Outcome) -> bool:
        """Ends the job. Returns false if the lease is lost."""
        return bool(
            await self._script.run(
                "finish",
                lease.job.id,
                lease.fence,
                outcome.state,
                write_stages(outcome.stages),
                outcome.result_key,
                int(outcome.partial),
                *write_error(outcome.error),
                write_number(outcome.reported_segments),
                *write_segments(outcome.segments),
            )
        )

    async def hand_back(self, lease: Lease, *, stages: Sequence[JobStage], reason: str, message: str = "") -> bool:
        """Queues the job again, at its old position. Returns false if the lease is lost."""
        record = write_stages(stages)
        return bool(await self._script.run("hand_back", lease.job.id, lease.fence, record, reason, message))

    async def reclaim(self, silence_seconds: float, max_attempts: int) -> Sequence[Job]:
        """Queues jobs again, at their old position, if their leases were not renewed for ``silence_seconds``."""
        requested_at = self._leases.now()
        names_and_leases = await self._script.run("leases")
        if self._failures != self._script.failures:
            # If this process could not reach Redis, the workers may not have been able to either.
            self._failures = self._script.failures
            self._leases.reset()
        leases = dict(_pairs(names_and_leases))
        message = f"The job was started {max_attempts} times, and each time its gateway was lost."
        reclaimed = []
        for job_id in self._leases.unchanged(leases, requested_at, silence_seconds):
            record = await self._script.run(
                "reclaim", job_id, leases[job_id], max_attempts, "TOO_MANY_ATTEMPTS", message
            )
            if record:
                reclaimed.append(read_job(record))
        return reclaimed

    async def cancel(self, job_id: str, *, caller: str = "", error: CarecaError | None = None) -> Job:
        """Ends the job as ``CANCELLED``, or as ``FAILED`` with ``error``, unless it has ended or has another caller."""
        return read_job(_found(await self._script.run("cancel", job_id, caller, *write_error(error)), job_id))

    async def retry(self, job_id: str, stages: Sequence[JobStage], limits: Limits, *, caller: str = "") -> Job:
        """Queues a job that has ended again, as the last one of its submitter."""
        reply = await self._script.run(
            "retry", job_id, write_stages(stages), limits.queued, limits.queued_per_submitter, caller
        )
        outcome, *details = _found(reply, job_id)
        if outcome == b"corrected":
            raise PreconditionFailed(
                f"The transcript of job {job_id} was corrected, and a retry would lose the corrections: submit the "
                "recording again as a new job.",
                reason="TRANSCRIPT_CORRECTED",
                metadata={"job_id": job_id},
            )
        if outcome == b"whole":
            raise PreconditionFailed(
                f"There is nothing to retry: job {job_id} has not ended, or has succeeded completely.",
                reason="NOTHING_TO_RETRY",
                metadata={"job_id": job_id},
            )
        return _queued(outcome, details[0], limits)

    async def delete(self, job_id: str) -> None:
        """Removes the job. Cancels it first if it has not ended."""
        _found(await self._script.run("delete", job_id), job_id)

    async def clear(self, submitter: str | None) -> Sequence[str]:
        """Removes a bounded number of jobs that have ended. Returns their ids."""
        return [name.decode() for name in await self._script.run("clear", submitter or "", _REMOVE_BATCH)]

    async def expire(self, older_than_seconds: float) -> Sequence[str]:
        """Removes a bounded number of jobs that ended that long ago. Returns their ids."""
        age = round(older_than_seconds * 1000)
        return [name.decode() for name in await self._script.run("expire", age, _REMOVE_BATCH)]

    async def watch(self, job_id: str, cursor: str = "") -> AsyncGenerator[JobEvent, None]:
        """Yields the job as it is, and then its events. A cursor is the number of the last segment."""
        if not re.fullmatch(r"[0-9]{0,15}", cursor):
            raise InvalidRequest("The cursor is not one that this service returned.", field="cursor")
        yielded, last = None, int(cursor or 0)
        with self._notifications.subscribe(job_id) as wakeup:
            while True:
                wakeup.clear()
                record, entries = _found(await self._script.run("watch", job_id, last, _SEGMENT_BATCH), job_id)
                job = read_job(record)
                if yielded is None:
                    yielded = job
                    yield JobEvent(str(last), job)
                for number, (_, segment) in entries:
                    last = int(number.partition(b"-")[0])
                    yield JobEvent(str(last), decode_segment(audio_pb2.Segment.FromString(segment)))
                if len(entries) == _SEGMENT_BATCH:
                    continue
                if job != yielded or (entries and job.state.ended):  # the last event must be the job
                    yielded = job
                    yield JobEvent(str(last), job)
                if yielded.state.ended:
                    return
                await wakeup.wait_for(_POLL_SECONDS)

    async def exist(self, job_ids: Collection[str]) -> frozenset[str]:
        """Returns the ids of jobs that exist."""
        names, found = tuple(job_ids), frozenset[str]()
        for start in range(0, len(names), _EXIST_BATCH):
            found |= _texts(await self._script.run("exist", *names[start : start + _EXIST_BATCH]))
        return found

    async def recordings_in_use(self) -> frozenset[str]:
        """Returns the SHA-256 of the recordings of all jobs that have not ended."""
        return _texts(await self._script.run("recordings"))

    async def due_webhooks(self, limit: int, lease_seconds: float) -> Sequence[DueWebhook]:
        """Returns webhooks that must be called now."""
        records = await self._script.run("due_webhooks", limit, round(lease_seconds * 1000))
        return [DueWebhook(job, job.webhook) for job in map(read_job, records) if job.webhook]

    async def webhook_delivered(self, job: Job) -> None:
        """Records that the webhook was called."""
        await self._script.run("webhook_attempted", job.id, _end_of(job), "delivered", "", "")

    async def webhook_failed(self, job: Job, error_message: str, retry_after_seconds: float | None) -> None:
        """Records that calling the webhook failed."""
        state, delay = ("failed", "") if retry_after_seconds is None else ("pending", round(retry_after_seconds * 1000))
        await self._script.run("webhook_attempted", job.id, _end_of(job), state, error_message, delay)

    async def stats(self) -> QueueStats:
        """Returns the current state."""
        states, priorities, oldest, webhooks = await self._script.run("stats")
        return QueueStats(
            by_state={JobState(name): count for name, count in _pairs(states)},
            waiting={JobPriority(name): count for name, count in _pairs(priorities)},
            oldest_waiting_seconds=oldest / 1000,
            pending_webhooks=webhooks,
        )


def _queued(outcome: bytes, details: Any, limits: Limits) -> Job:
    """Returns the queued job. Raises ``Overloaded`` if the reply says that too many jobs wait."""
    if outcome != b"full":
        return read_job(details)
    whose = "You have" if details == b"submitter" else "There are"
    most = limits.queued_per_submitter if details == b"submitter" else limits.queued
    raise Overloaded(
        f"{whose} {most} jobs waiting already, and no more may wait at a time.",
        reason="TOO_MANY_JOBS",
        retry_after_seconds=_RETRY_AFTER_SECONDS,
    )


def _found(reply: Any, job_id: str) -> Any:
    """Returns the reply. Raises ``NotFound`` if it is empty."""
    if not reply:
        raise job_not_found(job_id)
    return reply


def _end_of(job: Job) -> int:
    """Returns when the job ended, in milliseconds as Redis has it. It identifies this end of the job."""
    return round((job.end_unix or 0.0) * 1000)


def _pairs(names_and_values: Sequence[Any]) -> Iterable[tuple[str, Any]]:
    """Returns the pairs of a list with names and values in turn."""
    return ((name.decode(), value) for name, value in zip(names_and_values[::2], names_and_values[1::2], strict=True))


def _texts(values: Iterable[bytes]) -> frozenset[str]:
    return frozenset(value.decode() for value in values)
