"""The job queue in Redis, shared by all gateways: ``jobs.lua`` makes each change in one piece, this speaks to it."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from itertools import chain
from typing import Any

from careca.codec import decode_segment, encode_segment
from careca.errors import CarecaError, InternalError, InvalidRequest, NotFound, Overloaded, PreconditionFailed
from careca.types import Job, JobPriority, JobStage, JobState, Segment
from careca.v1 import audio_pb2
from careca_gateway.jobs.queue.error_records import decode_error, encode_error
from careca_gateway.jobs.queue.liveness import LivenessTracker
from careca_gateway.jobs.queue.notifications import Notifications
from careca_gateway.jobs.queue.port import (
    DueWebhook,
    JobEvent,
    JobQueue,
    Lease,
    Limits,
    Outcome,
    Query,
    QueueStats,
    Submission,
    Update,
)
from careca_gateway.jobs.queue.records import read_job, span_of_ids, write_about, write_stages
from careca_gateway.jobs.queue.redis_script import PREFIX, JobScript

_POLL_SECONDS = 1.0
"""How often those who wait for news look for themselves: they may have missed them."""

_SEGMENTS_AT_ONCE = 200
_REMOVED_AT_ONCE = 200
_ASKED_AT_ONCE = 1000
_RETRY_AFTER_SECONDS = 30.0


class RedisJobQueue(JobQueue):
    """Jobs in a Redis that evicts nothing."""

    def __init__(
        self, redis_url: str, *, timeout_seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Connects to nothing yet.

        Args:
            redis_url: where Redis is, as redis-py reads it.
            timeout_seconds: most that one question to Redis may take; one that writes all to disk may be slow.
            clock: a steady clock, in seconds, which tells how long a worker has been silent.
        """
        self._script = JobScript(redis_url, timeout_seconds=timeout_seconds)
        self._news = Notifications(self._script.client, f"{PREFIX}:news")
        self._silences = LivenessTracker(clock)
        self._failures = 0

    async def open(self) -> None:
        """Begins to listen for news."""
        self._news.start()

    async def close(self) -> None:
        """Lets go of all connections."""
        await self._news.aclose()
        await self._script.aclose()

    async def submit(self, submission: Submission, limits: Limits) -> Job:
        """The new job, or the one that was submitted with this request id before."""
        return (await self.submit_and_take(submission, limits, ""))[0]

    async def submit_and_take(self, submission: Submission, limits: Limits, worker: str) -> tuple[Job, Lease | None]:
        """As ``submit``; where the job is new, also the interactive job whose turn it is, leased to ``worker``."""
        outcome, *details = await self._script.run(
            "submit",
            secrets.token_hex(4),
            write_about(submission),
            submission.spec,
            write_stages(submission.stages),
            *_numbers(limits),
            submission.caller,
            worker,
        )
        if outcome == b"reused":
            raise PreconditionFailed(
                f"The request id {submission.request_id!r} was used for another job: take a new one.",
                reason="REQUEST_ID_REUSED",
                metadata={"request_id": submission.request_id},
            )
        return _queued(outcome, details[0], limits), _lease(details[1]) if len(details) > 1 else None

    async def get(self, job_id: str) -> Job:
        """The job."""
        return _found(await self._script.run("get", job_id), job_id)

    async def result_key(self, job_id: str) -> str:
        """Where the job's result is stored, empty where it has none."""
        if not (answer := await self._script.run("result_key", job_id)):
            raise _missing(job_id)
        key: bytes = answer[0]
        return key.decode()

    async def error(self, job_id: str) -> CarecaError:
        """Why the job failed, with all its details."""
        if not (answer := await self._script.run("error", job_id)):
            raise _missing(job_id)
        written, reason, message = answer
        # What the script ends by itself, and what an older gateway ended, has no details.
        return decode_error(written) if written else InternalError(message.decode(), reason=reason.decode() or None)

    async def list(self, query: Query) -> Sequence[Job]:
        """At most ``query.limit`` jobs, newest first."""
        states = query.states or frozenset(JobState)
        records = await self._script.run("list", query.submitter or "", *span_of_ids(query), query.limit, *states)
        return [read_job(record) for record in records]

    async def take(self, worker: str, *, interactive_only: bool = False) -> Lease | None:
        """The next job, now leased to ``worker``; ``None`` where none waits."""
        answer = await self._script.run("take", worker, int(interactive_only))
        return _lease(answer) if answer else None

    async def wait_for_work(self, timeout_seconds: float, *, interactive_only: bool = False) -> None:
        """Returns when there may be something to take, at the latest after that time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds
        with self._news.flag("q") as flag:
            while (left := end - loop.time()) > 0:
                flag.lower()
                if await self._script.run("waits", int(interactive_only)):
                    return
                await flag.wait(min(left, _POLL_SECONDS))

    async def renew(self, updates: Sequence[Update]) -> frozenset[str]:
        """Keeps the leases and tells what happened. Returns the ids of jobs whose lease is lost."""
        return _texts(await self._script.run("renew", *chain.from_iterable(map(_write_update, updates))))

    async def finish(self, lease: Lease, outcome: Outcome) -> bool:
        """Ends the job. ``False`` where the lease is lost; nothing has changed then. May be repeated."""
        return bool(
            await self._script.run(
                "finish",
                lease.job.id,
                lease.fence,
                outcome.state,
                write_stages(outcome.stages),
                outcome.result_key,
                int(outcome.partial),
                *_write_error(outcome.error),
                _number(outcome.reported_segments),
                *_write(outcome.segments),
            )
        )

    async def hand_back(self, lease: Lease, *, stages: Sequence[JobStage], reason: str, message: str = "") -> bool:
        """Queues the job again, in its old place. ``False`` where the lease is lost."""
        written = write_stages(stages)
        return bool(await self._script.run("hand_back", lease.job.id, lease.fence, written, reason, message))

    async def reclaim(self, silence_seconds: float, max_attempts: int) -> Sequence[Job]:
        """Queues jobs again, in their old place, whose leases this process has not seen renewed for that time."""
        asked = self._silences.now()
        names_and_leases = await self._script.run("leases")
        if self._failures != self._script.failures:
            # Where this process could not reach Redis, the workers could perhaps not either.
            self._failures = self._script.failures
            self._silences.forget()
        leases = dict(_pairs(names_and_leases))
        message = f"Work on this job was begun {max_attempts} times, and each time the gateway was lost."
        reclaimed = []
        for job_id in self._silences.longest(leases, asked, silence_seconds):
            record = await self._script.run(
                "reclaim", job_id, leases[job_id], max_attempts, "TOO_MANY_ATTEMPTS", message
            )
            if record:
                reclaimed.append(read_job(record))
        return reclaimed

    async def cancel(self, job_id: str, *, caller: str = "", error: CarecaError | None = None) -> Job:
        """Ends the job as ``CANCELLED``, or as ``FAILED`` by ``error``, unless it has ended or has another caller."""
        return _found(await self._script.run("cancel", job_id, caller, *_write_error(error)), job_id)

    async def retry(self, job_id: str, stages: Sequence[JobStage], limits: Limits, *, caller: str = "") -> Job:
        """Queues a job again that has ended, with these stages, as its submitter's last."""
        answer = await self._script.run("retry", job_id, write_stages(stages), *_numbers(limits), caller)
        if not answer:
            raise _missing(job_id)
        outcome, *details = answer
        if outcome == b"whole":
            raise PreconditionFailed(
                f"There is nothing to try again: job {job_id} has not ended, or all of it has succeeded.",
                reason="NOTHING_TO_RETRY",
                metadata={"job_id": job_id},
            )
        return _queued(outcome, details[0], limits)

    async def delete(self, job_id: str) -> None:
        """Forgets the job, which is cancelled first if it has not ended."""
        if not await self._script.run("delete", job_id):
            raise _missing(job_id)

    async def clear(self, submitter: str | None) -> Sequence[str]:
        """Forgets jobs that have ended: the submitter's, or everybody's. A bounded number; their ids."""
        return [name.decode() for name in await self._script.run("clear", submitter or "", _REMOVED_AT_ONCE)]

    async def expire(self, older_than_seconds: float) -> Sequence[str]:
        """Forgets jobs that ended that long ago. A bounded number; their ids."""
        age = round(older_than_seconds * 1000)
        return [name.decode() for name in await self._script.run("expire", age, _REMOVED_AT_ONCE)]

    async def watch(self, job_id: str, cursor: str = "") -> AsyncGenerator[JobEvent, None]:
        """The job as it is, then what happens to it after ``cursor``, up to its end.

        A cursor is the number of the last segment told.
        """
        if not re.fullmatch(r"[0-9]{0,15}", cursor):
            raise InvalidRequest("The cursor is none that this service gave.", field="cursor")
        told, last = None, int(cursor or 0)
        with self._news.flag(job_id) as flag:
            while True:
                flag.lower()
                if not (answer := await self._script.run("watch", job_id, last, _SEGMENTS_AT_ONCE)):
                    raise _missing(job_id)
                record, entries = answer
                job = read_job(record)
                if told is None:
                    told = job
                    yield JobEvent(str(last), job)
                for number, (_, segment) in entries:
                    last = int(number.partition(b"-")[0])
                    yield JobEvent(str(last), decode_segment(audio_pb2.Segment.FromString(segment)))
                if len(entries) == _SEGMENTS_AT_ONCE:
                    continue
                if job != told or (entries and job.state.ended):  # the last that is told is the job
                    told = job
                    yield JobEvent(str(last), job)
                if told.state.ended:
                    return
                await flag.wait(_POLL_SECONDS)

    async def exist(self, job_ids: Collection[str]) -> frozenset[str]:
        """Those of the ids that name jobs."""
        names, found = tuple(job_ids), frozenset[str]()
        for start in range(0, len(names), _ASKED_AT_ONCE):
            found |= _texts(await self._script.run("exist", *names[start : start + _ASKED_AT_ONCE]))
        return found

    async def recordings_in_use(self) -> frozenset[str]:
        """SHA-256 of the recordings of all jobs that have not ended."""
        return _texts(await self._script.run("recordings"))

    async def due_webhooks(self, limit: int, lease_seconds: float) -> Sequence[DueWebhook]:
        """Webhooks to be told now. Each is given to nobody else for ``lease_seconds``."""
        jobs = [
            read_job(record) for record in await self._script.run("due_webhooks", limit, round(lease_seconds * 1000))
        ]
        return [DueWebhook(job, job.webhook) for job in jobs if job.webhook]

    async def webhook_delivered(self, job: Job) -> None:
        """The webhook was told of this end of the job."""
        await self._script.run("noted", job.id, _end_of(job), "delivered", "", "")

    async def webhook_failed(self, job: Job, error_message: str, retry_after_seconds: float | None) -> None:
        """The webhook could not be told: it is tried again after that time, or given up with ``None``."""
        if retry_after_seconds is None:
            await self._script.run("noted", job.id, _end_of(job), "failed", error_message, "")
        else:
            again = round(retry_after_seconds * 1000)
            await self._script.run("noted", job.id, _end_of(job), "pending", error_message, again)

    async def stats(self) -> QueueStats:
        """The live state."""
        states, priorities, oldest, notices = await self._script.run("stats")
        return QueueStats(
            by_state={JobState(name): count for name, count in _pairs(states)},
            waiting={JobPriority(name): count for name, count in _pairs(priorities)},
            oldest_waiting_seconds=oldest / 1000,
            pending_webhooks=notices,
        )


def _lease(answer: Any) -> Lease:
    record, spec, fence, told, left, caller = answer
    return Lease(
        job=read_job(record),
        spec=spec,
        fence=fence,
        reported_segments=int(told),
        remaining_seconds=None if left is None else left / 1000,
        caller=caller.decode(),
    )


def _queued(outcome: bytes, details: Any, limits: Limits) -> Job:
    """The job of an answer, or its refusal."""
    if outcome != b"full":
        return read_job(details)
    whose = "You have" if details == b"submitter" else "There are"
    most = limits.queued_per_submitter if details == b"submitter" else limits.queued
    raise Overloaded(
        f"{whose} {most} jobs waiting already, and no more may wait at a time.",
        reason="TOO_MANY_JOBS",
        retry_after_seconds=_RETRY_AFTER_SECONDS,
    )


def _found(record: Any, job_id: str) -> Job:
    if not record:
        raise _missing(job_id)
    return read_job(record)


def _missing(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id!r}.", metadata={"job_id": job_id})


def _numbers(limits: Limits) -> tuple[int, int]:
    return limits.queued, limits.queued_per_submitter


def _end_of(job: Job) -> int:
    """When the job ended, as Redis has it: another end is at another time."""
    return round((job.end_unix or 0.0) * 1000)


def _write_error(error: CarecaError | None) -> tuple[str, str, bytes]:
    """Its reason and its message by themselves, then all of it."""
    return (error.reason, error.message, encode_error(error)) if error else ("", "", b"")


def _write_update(update: Update) -> tuple[bytes | str | int, ...]:
    stages = b"" if update.stages is None else write_stages(update.stages)
    segments = _write(update.segments)
    return update.job_id, update.fence, stages, _number(update.reported_segments), len(segments), *segments


def _number(number: int | None) -> int | str:
    return "" if number is None else number


def _write(segments: Iterable[Segment]) -> tuple[bytes, ...]:
    return tuple(encode_segment(segment).SerializeToString() for segment in segments)


def _pairs(names_and_values: Sequence[Any]) -> Iterable[tuple[str, Any]]:
    """Of a list in which they come in turn."""
    return ((name.decode(), value) for name, value in zip(names_and_values[::2], names_and_values[1::2], strict=True))


def _texts(values: Iterable[bytes]) -> frozenset[str]:
    return frozenset(value.decode() for value in values)
