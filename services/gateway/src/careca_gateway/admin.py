"""What operators do with all of Careca: statistics, clearing caches, giving memory back.

A service may have several replicas. Their cache is one, their models and memory are each one's own: all are asked at
once, and what they answer is one answer for their stage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from careca.errors import CarecaError, Unavailable
from careca.resources.memory import MemoryCleaner, measure_memory
from careca.types import CacheClearance, ClearScope, MemoryRelease, MemoryUsage, ModelServiceStats, Stage
from careca_gateway.backends.aggregation import aggregate_clearances, aggregate_releases
from careca_gateway.request import Deadline
from careca_gateway.storage.store import Store, StoreUsage

STATS_SECONDS = 5.0
"""How long statistics wait for a service; it then counts as one that cannot be reached."""

V = TypeVar("V")


class ReplicaAdmin(Protocol):
    """What a replica of a model service lets operators do. All methods raise ``CarecaError``."""

    address: str
    """Where it is."""

    async def stats(self, deadline: Deadline) -> ModelServiceStats:
        """Its live state."""

    async def clear_cache(self, scope: ClearScope, deadline: Deadline) -> tuple[CacheClearance, MemoryRelease]:
        """Clears its cache; ``ALL`` unloads its models too."""

    async def release_memory(self, deadline: Deadline) -> MemoryRelease:
        """Unloads its models."""


class ModelServiceAdmin(Protocol):
    """All replicas of a model service."""

    def replicas(self) -> Sequence[ReplicaAdmin]:
        """All, the best to ask first, those that are away among them."""

    async def present(self) -> Sequence[ReplicaAdmin]:
        """All that are not away, the best to ask first; where all are away, all."""


class ClearableCache(Protocol):
    """Something that the gateway remembers and can do without."""

    def clear(self) -> None:
        """Forgets it."""


@dataclass(frozen=True, slots=True)
class SystemStats:
    """The live state of everything behind a gateway."""

    services: Mapping[Stage, Mapping[str, ModelServiceStats | CarecaError]]
    """By address, the state of each replica of each model service, or why it cannot be reached."""
    memory: MemoryUsage
    store: StoreUsage


class AdminService:
    """The services behind this gateway, and the gateway itself."""

    def __init__(
        self, services: Mapping[Stage, ModelServiceAdmin], *, store: Store, memo: ClearableCache, memory: MemoryCleaner
    ) -> None:
        self._services = services
        self._store = store
        self._memo = memo
        self._memory = memory

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that have a service of their own."""
        return tuple(self._services)

    async def stats(self, deadline: Deadline) -> SystemStats:
        """The live state. A replica that cannot be reached makes no failure of it."""
        within = deadline.within(STATS_SECONDS)
        replicas = {stage: service.replicas() for stage, service in self._services.items()}
        services = await _each(replicas, lambda replica: replica.stats(within))
        memory, store = await asyncio.gather(asyncio.to_thread(measure_memory), asyncio.to_thread(self._store.usage))
        return SystemStats(services, memory, store)

    async def clear_cache(
        self, scope: ClearScope, stages: Sequence[Stage], deadline: Deadline
    ) -> dict[Stage, tuple[CacheClearance, MemoryRelease]]:
        """Clears the caches of ``stages``; ``ALL`` gives the memory of their services and of the gateway back too.

        Raises ``Unavailable`` where not all could be cleared; the message says which were.
        """
        replicas = await self._present(stages)
        if scope is ClearScope.EXPIRED:  # is a matter of the cache alone
            replicas = {stage: several[:1] for stage, several in replicas.items()}
        outcomes = await _each(replicas, lambda replica: replica.clear_cache(scope, deadline))
        if scope is ClearScope.ALL:
            await self._release_own()
        return _all_or_unavailable(outcomes, aggregate_clearances, done="cleared")

    async def release_memory(
        self, stages: Sequence[Stage], deadline: Deadline
    ) -> tuple[dict[Stage, MemoryRelease], MemoryRelease]:
        """Has the services of ``stages`` and the gateway give memory back.

        Raises ``Unavailable`` where a replica could not be reached; the message says which were.
        """
        outcomes = await _each(await self._present(stages), lambda replica: replica.release_memory(deadline))
        own = await self._release_own()
        return _all_or_unavailable(outcomes, aggregate_releases, done="released"), own

    async def release_reachable(self, deadline: Deadline) -> tuple[dict[Stage, MemoryRelease], MemoryRelease]:
        """Has all services that can be reached and the gateway give memory back."""
        outcomes = await _each(await self._present(self.stages), lambda replica: replica.release_memory(deadline))
        own = await self._release_own()
        released = {stage: _values(replicas) for stage, replicas in outcomes.items()}
        return {stage: aggregate_releases(releases) for stage, releases in released.items() if releases}, own

    async def _release_own(self) -> MemoryRelease:
        self._memo.clear()
        return await asyncio.to_thread(self._memory.release)

    async def _present(self, stages: Sequence[Stage]) -> dict[Stage, Sequence[ReplicaAdmin]]:
        """The replicas of each of ``stages`` that are not away."""
        replicas = await asyncio.gather(*(self._services[stage].present() for stage in stages))
        return dict(zip(stages, replicas, strict=True))


Outcomes = dict[Stage, dict[str, V | CarecaError]]
"""What each replica of each stage gave, or how it failed, by address."""


async def _each(
    replicas: Mapping[Stage, Sequence[ReplicaAdmin]], call: Callable[[ReplicaAdmin], Awaitable[V]]
) -> Outcomes[V]:
    """What ``call`` gives for each; all are called at once."""

    async def attempt(replica: ReplicaAdmin) -> V | CarecaError:
        try:
            return await call(replica)
        except CarecaError as error:
            return error

    async def attempts(several: Sequence[ReplicaAdmin]) -> dict[str, V | CarecaError]:
        outcomes = await asyncio.gather(*map(attempt, several))
        return dict(zip((replica.address for replica in several), outcomes, strict=True))

    return dict(zip(replicas, await asyncio.gather(*map(attempts, replicas.values())), strict=True))


def _values(outcomes: Mapping[str, V | CarecaError]) -> list[V]:
    """What those gave that did not fail."""
    return [outcome for outcome in outcomes.values() if not isinstance(outcome, CarecaError)]


def _all_or_unavailable(outcomes: Outcomes[V], together: Callable[[Collection[V]], V], *, done: str) -> dict[Stage, V]:
    """One value for each stage, if none has failed. Raises ``Unavailable`` with what was done and failed otherwise.

    Where a stage has several replicas, the message names each by its address.
    """
    by_name = {
        str(stage) if len(replicas) == 1 else f"{stage} at {address}": outcome
        for stage, replicas in outcomes.items()
        for address, outcome in replicas.items()
    }
    failures = [
        f"{name} failed: {outcome.message}" for name, outcome in by_name.items() if isinstance(outcome, CarecaError)
    ]
    if not failures:
        return {stage: together(_values(replicas)) for stage, replicas in outcomes.items()}
    successes = [name for name, outcome in by_name.items() if not isinstance(outcome, CarecaError)]
    raise Unavailable(f"{done}: {', '.join(successes) or 'nothing'}; {'; '.join(failures)}", retry_after_seconds=5.0)
