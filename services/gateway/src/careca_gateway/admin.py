"""What operators do with all of Careca: statistics, clearing caches, giving memory back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from careca.errors import CarecaError, Unavailable
from careca.memory import MemoryKeeper, measure
from careca.types import CacheClearance, ClearScope, MemoryRelease, MemoryUsage, ModelServiceStats, Stage
from careca_gateway.request import Deadline
from careca_gateway.store import Store, StoreUsage

STATS_SECONDS = 5.0
"""How long statistics wait for a service; it then counts as one that cannot be reached."""

V = TypeVar("V")


class ModelServiceAdmin(Protocol):
    """What a model service lets operators do. All methods raise ``CarecaError``."""

    async def stats(self, deadline: Deadline) -> ModelServiceStats:
        """Its live state."""

    async def clear_cache(self, scope: ClearScope, deadline: Deadline) -> tuple[CacheClearance, MemoryRelease]:
        """Clears its cache; ``ALL`` unloads its models too."""

    async def release_memory(self, deadline: Deadline) -> MemoryRelease:
        """Unloads its models."""


class Memo(Protocol):
    """Something that the gateway remembers and can do without."""

    def clear(self) -> None:
        """Forgets it."""


@dataclass(frozen=True, slots=True)
class SystemStats:
    """The live state of everything behind a gateway."""

    services: Mapping[Stage, ModelServiceStats | CarecaError]
    """Each model service's state, or why it cannot be reached."""
    memory: MemoryUsage
    store: StoreUsage


class Administration:
    """The services behind this gateway, and the gateway itself."""

    def __init__(
        self, services: Mapping[Stage, ModelServiceAdmin], *, store: Store, memo: Memo, memory: MemoryKeeper
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
        """The live state. A service that cannot be reached makes no failure of it."""
        within = deadline.within(STATS_SECONDS)
        services = await self._each(self.stages, lambda service: service.stats(within))
        memory, store = await asyncio.gather(asyncio.to_thread(measure), asyncio.to_thread(self._store.usage))
        return SystemStats(services, memory, store)

    async def clear_cache(
        self, scope: ClearScope, stages: Sequence[Stage], deadline: Deadline
    ) -> dict[Stage, tuple[CacheClearance, MemoryRelease]]:
        """Clears the caches of ``stages``; ``ALL`` gives the memory of their services and of the gateway back too.

        Raises ``Unavailable`` where not all could be cleared; the message says which were.
        """
        outcomes = await self._each(stages, lambda service: service.clear_cache(scope, deadline))
        if scope is ClearScope.ALL:
            await self._release_own()
        return _all_or_unavailable(outcomes, done="cleared")

    async def release_memory(
        self, stages: Sequence[Stage], deadline: Deadline
    ) -> tuple[dict[Stage, MemoryRelease], MemoryRelease]:
        """Has the services of ``stages`` and the gateway give memory back.

        Raises ``Unavailable`` where a service could not be reached; the message says which were.
        """
        outcomes = await self._each(stages, lambda service: service.release_memory(deadline))
        own = await self._release_own()
        return _all_or_unavailable(outcomes, done="released"), own

    async def release_what_can_be(self, deadline: Deadline) -> tuple[dict[Stage, MemoryRelease], MemoryRelease]:
        """Has all services that can be reached and the gateway give memory back."""
        outcomes = await self._each(self.stages, lambda service: service.release_memory(deadline))
        own = await self._release_own()
        return {stage: outcome for stage, outcome in outcomes.items() if isinstance(outcome, MemoryRelease)}, own

    async def _release_own(self) -> MemoryRelease:
        self._memo.clear()
        return await asyncio.to_thread(self._memory.release)

    async def _each(
        self, stages: Sequence[Stage], call: Callable[[ModelServiceAdmin], Awaitable[V]]
    ) -> dict[Stage, V | CarecaError]:
        """What ``call`` gives for the service of each of ``stages``, or how it failed; all are called at once."""

        async def attempt(stage: Stage) -> V | CarecaError:
            try:
                return await call(self._services[stage])
            except CarecaError as error:
                return error

        return dict(zip(stages, await asyncio.gather(*map(attempt, stages)), strict=True))


def _all_or_unavailable(outcomes: Mapping[Stage, V | CarecaError], *, done: str) -> dict[Stage, V]:
    """The outcomes, if all are values. Raises ``Unavailable`` with what was done and what failed otherwise."""
    values = {stage: outcome for stage, outcome in outcomes.items() if not isinstance(outcome, CarecaError)}
    if len(values) == len(outcomes):
        return values
    failures = "; ".join(
        f"{stage} failed: {outcome.message}" for stage, outcome in outcomes.items() if isinstance(outcome, CarecaError)
    )
    raise Unavailable(f"{done}: {', '.join(values) or 'nothing'}; {failures}", retry_after_seconds=5.0)
