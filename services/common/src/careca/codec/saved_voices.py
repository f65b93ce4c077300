"""Conversion of saved voices."""

from __future__ import annotations

from careca.codec.scalars import decode_time, encode_time
from careca.types import SavedVoice
from careca.v1 import voices_pb2


def encode_saved_voice(voice: SavedVoice) -> voices_pb2.SavedVoice:
    """Returns the message of the saved voice."""
    return voices_pb2.SavedVoice(
        name=voice.name,
        embedding_model=voice.embedding_model,
        create_time=encode_time(voice.create_unix),
        job_id=voice.job_id,
    )


def decode_saved_voice(message: voices_pb2.SavedVoice) -> SavedVoice:
    """Returns the saved voice in ``message``."""
    return SavedVoice(message.name, message.embedding_model, decode_time(message.create_time), message.job_id)
