"""Adds the saved voices of a submitter to a request, so that the request contains all that it needs."""

from __future__ import annotations

from careca import codec
from careca.codec.known_speakers import MAX_KNOWN_SPEAKERS
from careca.errors import InvalidRequest, PreconditionFailed
from careca.names import as_field
from careca.types import KnownSpeaker
from careca.v1 import gateway_pb2
from careca_gateway.voices.store import VoiceStore

Config = gateway_pb2.TranscribeRequest.Config


class SavedVoices:
    """Adds saved voices to requests that ask for them.

    Args:
        store: keeps the voices; ``None`` if this gateway keeps none.
    """

    def __init__(self, store: VoiceStore | None) -> None:
        self._store = store

    async def add_to(self, submitter: str, config: Config) -> Config:
        """Returns ``config`` with the submitter's saved voices after its own known speakers.

        Returns ``config`` itself if it asks for none. Its known speakers win against saved voices with the same name.
        Raises ``PreconditionFailed`` (JOBS_OFF) if this gateway keeps no voices, ``InvalidRequest`` if there are too
        many known speakers in total, and what ``VoiceStore.list`` raises.
        """
        if not config.use_saved_voices:
            return config
        if self._store is None:
            raise voices_off()
        named = {as_field(speaker.name) for speaker in config.known_speakers}
        saved = [each for each in await self._store.list(submitter) if as_field(each.about.name) not in named]
        if len(config.known_speakers) + len(saved) > MAX_KNOWN_SPEAKERS:
            raise InvalidRequest(
                f"config.known_speakers has {len(config.known_speakers)} entries, and {len(saved)} saved voices would "
                f"be added; at most {MAX_KNOWN_SPEAKERS} are accepted: leave some out, or delete saved voices",
                field="config.known_speakers",
            )
        complete = Config()
        complete.CopyFrom(config)
        complete.known_speakers.extend(
            codec.encode_known_speaker(KnownSpeaker(each.about.name, each.voice, skip_if_incomparable=True))
            for each in saved
        )
        return complete


def voices_off() -> PreconditionFailed:
    """Returns the error of a gateway that keeps no voices."""
    return PreconditionFailed(
        "this gateway keeps no voices: give it a Redis for jobs with CARECA_JOBS_REDIS_URL", reason="JOBS_OFF"
    )
