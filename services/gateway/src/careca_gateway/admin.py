"""Operations for operators: statistics, clearing caches, and releasing memory in all services.

A model service may have several replicas. They share one cache, and each has its own models and memory. All replicas
are called at the same time, and their answers are aggregated into one answer for each stage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from careca.errors import CarecaError, Unavailable
from careca.resources.memory import MemoryCleaner, measure_memory
from careca.types import CacheClearance, ClearScope, MemoryRelease, MemoryUsage, ModelServiceStats, Stage
from careca_gateway.backends.aggregation import aggregate_clearances, aggregate_releases
from careca_gateway.backends.model_service import ModelServiceClient, ModelServiceReplica
from careca_gateway.request import Deadline
from careca_gateway.storage.store import Store, StoreUsage

STATS_SECONDS = 5.0
"""How long to wait for the statistics of a replica. After that the replica counts as unreachable."""

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class SystemStats:
    """The current state of the gateway and of all model services."""

    services: Mapping[Stage, Mapping[str, ModelServiceStats | CarecaError]]
    """For each stage, by the address of the replica: its state, or the error if it cannot be reached."""
    memory: MemoryUsage
    store: StoreUsage


class AdminService:
    """Runs the operators' calls on the model services and on this gateway.

    Args:
        services: the replicas of each stage's model service.
        store: the recordings.
        clear_results: clears the gateway's cache of results, when the gateway releases memory.
        memory: releases the memory of this process.
    """

    def __init__(
        self,
        services: Mapping[Stage, ModelServiceClient[Any, Any]],
        *,
        store: Store,
        clear_results: Callable[[], None],
        memory: MemoryCleaner,
    ) -> None:
        self._services = services
        self._store = store
        self._clear_results = clear_results
        self._memory = memory

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that have a model service."""
        return tuple(self._services)

    async def stats(self, deadline: Deadline) -> SystemStats:
        """Returns the current state. The call succeeds also if replicas cannot be reached."""
        within = deadline.within(STATS_SECONDS)
        replicas = {stage: service.replicas() for stage, service in self._services.items()}
        services = await _call_each(replicas, lambda replica: replica.stats(within))
        memory, store = await asyncio.gather(asyncio.to_thread(measure_memory), asyncio.to_thread(self._store.usage))
        return SystemStats(services, memory, store)

    async def clear_cache(
        self, scope: ClearScope, stages: Sequence[Stage], deadline: Deadline
    ) -> dict[Stage, tuple[CacheClearance, MemoryRelease]]:
        """Clears the caches of ``stages``. The scope ``ALL`` also releases memory of these services and of the gateway.

        Raises ``Unavailable`` if not all caches could be cleared. The message names those that were cleared.
        """
        replicas = await self._available_replicas(stages)
        if scope is ClearScope.EXPIRED:  # only the shared cache is concerned, so one replica is enough
            replicas = {stage: several[:1] for stage, several in replicas.items()}
        outcomes = await _call_each(replicas, lambda replica: replica.clear_cache(scope, deadline))
        if scope is ClearScope.ALL:
            await self._release_own()
        return _aggregate(outcomes, aggregate_clearances, done="cleared")

    async def release_memory(
        self, stages: Sequence[Stage], deadline: Deadline
    ) -> tuple[dict[Stage, MemoryRelease], MemoryRelease]:
        """Releases memory of the services of ``stages`` and of the gateway.

        Raises ``Unavailable`` if a replica could not be reached. The message names those that released memory.
        """
        outcomes = await self._release_replicas(stages, deadline)
        own = await self._release_own()
        return _aggregate(outcomes, aggregate_releases, done="released"), own

    async def release_reachable(self, deadline: Deadline) -> tuple[dict[Stage, MemoryRelease], MemoryRelease]:
        """Releases memory of all services that can be reached and of the gateway."""
        outcomes = await self._release_replicas(self.stages, deadline)
        own = await self._release_own()
        released = {stage: _successes(replicas) for stage, replicas in outcomes.items()}
        return {stage: aggregate_releases(releases) for stage, releases in released.items() if releases}, own

    async def _release_replicas(self, stages: Sequence[Stage], deadline: Deadline) -> Outcomes[MemoryRelease]:
        replicas = await self._available_replicas(stages)
        return await _call_each(replicas, lambda replica: replica.release_memory(deadline))

    async def _release_own(self) -> MemoryRelease:
        self._clear_results()
        return await asyncio.to_thread(self._memory.release)

    async def _available_replicas(self, stages: Sequence[Stage]) -> dict[Stage, Sequence[ModelServiceReplica]]:
        replicas = await asyncio.gather(*(self._services[stage].available() for stage in stages))
        return dict(zip(stages, replicas, strict=True))


Outcomes = dict[Stage, dict[str, V | CarecaError]]
"""For each stage, by the address of the replica: its answer or its error."""


async def _call_each(
    replicas: Mapping[Stage, Sequence[ModelServiceReplica]], call: Callable[[ModelServiceReplica], Awaitable[V]]
) -> Outcomes[V]:
    """Calls all replicas at the same time."""

    async def call_one(replica: ModelServiceReplica) -> V | CarecaError:
        try:
            return await call(replica)
        except CarecaError as error:
            return error

    async def call_stage(several: Sequence[ModelServiceReplica]) -> dict[str, V | CarecaError]:
        outcomes = await asyncio.gather(*map(call_one, several))
        return dict(zip((replica.address for replica in several), outcomes, strict=True))

    return dict(zip(replicas, await asyncio.gather(*map(call_stage, replicas.values())), strict=True))


def _successes(outcomes: Mapping[str, V | CarecaError]) -> list[V]:
    return [outcome for outcome in outcomes.values() if not isinstance(outcome, CarecaError)]


def _aggregate(outcomes: Outcomes[V], aggregate: Callable[[Collection[V]], V], *, done: str) -> dict[Stage, V]:
    """Returns one value for each stage. Raises ``Unavailable`` if a replica failed.

    The message says what was done and what failed. If a stage has several replicas, it names each by its address.
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
        return {stage: aggregate(_successes(replicas)) for stage, replicas in outcomes.items()}
    successes = [name for name, outcome in by_name.items() if not isinstance(outcome, CarecaError)]
    raise Unavailable(f"{done}: {', '.join(successes) or 'nothing'}; {'; '.join(failures)}", retry_after_seconds=5.0)
