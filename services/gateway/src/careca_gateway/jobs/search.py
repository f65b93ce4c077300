"""Pages of jobs, and the search for jobs by their names and by what was said in them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from careca.types import Job
from careca_gateway.jobs.queue.port import JobQueue, Query
from careca_gateway.jobs.texts import JobTexts, normalize

MAX_SCANNED = 200
"""The maximum number of jobs that are looked through for one page."""

_AT_ONCE = 8
"""How many texts are read at the same time."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of jobs, newest first."""

    jobs: Sequence[Job]
    next_token: str
    """The id of the job after which the next page begins; empty if this is the last page."""


class JobSearch:
    """Lists jobs.

    Args:
        queue: the jobs.
        texts: reads what was said in them.
    """

    def __init__(self, queue: JobQueue, texts: JobTexts) -> None:
        self._queue = queue
        self._texts = texts

    async def page(self, query: Query, words: Sequence[str]) -> JobPage:
        """Returns the jobs that the query selects and that have all ``words``, which are normalized.

        Looks through at most ``MAX_SCANNED`` jobs if there are words. The page then may have fewer jobs than
        ``query.limit`` although others follow. Raises ``Unavailable`` if a text cannot be read.
        """
        if not words:
            jobs = await self._queue.list(query)
            return JobPage(jobs, jobs[-1].id if len(jobs) == query.limit else "")
        scanned = await self._queue.list(replace(query, limit=MAX_SCANNED))
        found: list[Job] = []
        for start in range(0, len(scanned), _AT_ONCE):
            several = scanned[start : start + _AT_ONCE]
            matches = await asyncio.gather(*(self._matches(job, words) for job in several))
            found += [job for job, matching in zip(several, matches, strict=True) if matching]
            if len(found) >= query.limit:
                return JobPage(found[: query.limit], found[query.limit - 1].id)
        return JobPage(found, scanned[-1].id if len(scanned) == MAX_SCANNED else "")

    async def _matches(self, job: Job, words: Sequence[str]) -> bool:
        """Returns whether each word is in the job's name or in its text, which is read only if necessary."""
        name = normalize(job.display_name)
        rest = [word for word in words if word not in name]
        if not rest:
            return True
        text = await self._texts.of(job)
        return all(word in text for word in rest)


def words_of(query: str) -> tuple[str, ...]:
    """Returns the normalized words of a query."""
    return tuple(dict.fromkeys(normalize(query).split()))
