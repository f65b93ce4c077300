"""Creates everything for saved voices."""

from __future__ import annotations

from careca_gateway.settings import GatewaySettings
from careca_gateway.voices.requests import SavedVoices
from careca_gateway.voices.service import SpeakersOf, VoiceService
from careca_gateway.voices.store import VoiceStore


class Voices:
    """Everything for saved voices. They are kept where the jobs are."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._store = (
            VoiceStore(settings.jobs_redis_url, timeout_seconds=settings.jobs_redis_timeout_seconds)
            if settings.jobs_redis_url
            else None
        )
        self.add_to = SavedVoices(self._store).add_to

    def service(self, speakers_of: SpeakersOf) -> VoiceService | None:
        """Returns the operations for submitters; ``None`` if this gateway keeps no voices."""
        return VoiceService(self._store, speakers_of) if self._store else None

    async def close(self) -> None:
        """Closes all connections."""
        if self._store:
            await self._store.close()
