"""One watch for each caller and job, shared by all streams of the caller that show the job's state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager

from careca.errors import CarecaError, InternalError, NotFound
from careca.telemetry.logs import get_logger
from careca.types import Job
from careca_client import AsyncClient

_log = get_logger(__name__)


class Subscription:
    """The latest states of several jobs. A slow reader gets the latest state only, so little is kept for it."""

    def __init__(self) -> None:
        self._changed: dict[str, Job | None] = {}
        self._error: CarecaError | None = None
        self._event = asyncio.Event()

    def put(self, job_id: str, job: Job | None) -> None:
        """The job has changed; ``None`` if it does not exist any more."""
        self._changed[job_id] = job
        self._event.set()

    def fail(self, error: CarecaError) -> None:
        """A job cannot be watched any more."""
        self._error = error
        self._event.set()

    async def changes(self) -> dict[str, Job | None]:
        """Waits for changes and returns them by job id, oldest first. Raises the error that ended a watch."""
        await self._event.wait()
        changed, self._changed = self._changed, {}
        if self._error is None:
            self._event.clear()
        elif not changed:
            raise self._error
        return changed


class JobWatches:
    """All shared watches. A watch ends with its last subscription, or when its job ends."""

    def __init__(self) -> None:
        self._watches: dict[tuple[str, str], _Watch] = {}

    def __len__(self) -> int:
        return len(self._watches)

    @contextmanager
    def subscribe(self, caller: str, client: AsyncClient, job_ids: Iterable[str]) -> Iterator[Subscription]:
        """Watches the jobs as long as the context lasts.

        Args:
            caller: who subscribes. Callers with different names share nothing: each may see other jobs.
            client: calls the gateway as this caller.
            job_ids: the jobs. One that does not exist is reported as ``None``.
        """
        subscription = Subscription()
        joined: dict[tuple[str, str], _Watch] = {}
        for job_id in job_ids:
            key = caller, job_id
            if (watch := self._watches.get(key)) is None or watch.has_ended:
                watch = self._watches[key] = _Watch(client, job_id)
            joined[key] = watch
            watch.add(subscription)
        try:
            yield subscription
        finally:
            for key, watch in joined.items():
                if watch.remove(subscription) and self._watches.get(key) is watch:
                    del self._watches[key]


class _Watch:
    def __init__(self, client: AsyncClient, job_id: str) -> None:
        self._job_id = job_id
        self._client = client
        self._subscriptions: set[Subscription] = set()
        self._latest: Job | None = None
        self._task = asyncio.create_task(self._run(), name=f"watch job {job_id}")

    @property
    def has_ended(self) -> bool:
        return self._task.done()

    def add(self, subscription: Subscription) -> None:
        self._subscriptions.add(subscription)
        if self._latest:
            subscription.put(self._job_id, self._latest)

    def remove(self, subscription: Subscription) -> bool:
        """Returns whether nobody is left. The watch has then ended."""
        self._subscriptions.discard(subscription)
        if not self._subscriptions:
            self._task.cancel()
        return not self._subscriptions

    async def _run(self) -> None:
        try:
            async with aclosing(self._client.watch(self._job_id)) as updates:
                async for update in updates:
                    if isinstance(update, Job):
                        self._latest = update
                        self._tell(lambda subscription: subscription.put(self._job_id, self._latest))
        except NotFound:
            self._tell(lambda subscription: subscription.put(self._job_id, None))
        except CarecaError as error:
            failure = error
            self._tell(lambda subscription: subscription.fail(failure))
        except Exception:  # noqa: BLE001 - whatever it is, nobody may wait any longer
            _log.exception("a watch of a job failed unexpectedly", job_id=self._job_id)
            bug = InternalError("the job cannot be watched: the service's log has the details")
            self._tell(lambda subscription: subscription.fail(bug))

    def _tell(self, tell: Callable[[Subscription], None]) -> None:
        for subscription in self._subscriptions:
            tell(subscription)
