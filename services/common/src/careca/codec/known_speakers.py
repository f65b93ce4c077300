"""Conversion of known speakers, with the limits that gateway.proto documents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from careca.errors import InvalidRequest
from careca.names import as_field, check_name, check_speaker_name
from careca.types import KnownSpeaker, Voice
from careca.v1 import gateway_pb2

MAX_KNOWN_SPEAKERS = 50
"""Largest number of known speakers in one request."""

MAX_REFERENCE_BYTES = 8 * 1024 * 1024
"""Largest total size of the recordings of all known speakers: they are sent in one message."""

MAX_EMBEDDING_VALUES = 4096
"""Largest length of an embedding; current models use 192 to 512 values."""

MAX_MODEL_CHARACTERS = 255
"""Largest length of the id of an embedding model."""


def decode_known_speakers(messages: Sequence[gateway_pb2.KnownSpeaker]) -> tuple[KnownSpeaker, ...]:
    """Returns the known speakers in ``messages``, with embeddings scaled to unit length.

    Raises ``InvalidRequest`` with the path of the wrong field.
    """
    field = "config.known_speakers"
    if len(messages) > MAX_KNOWN_SPEAKERS:
        raise InvalidRequest(
            f"{field} has {len(messages)} entries; at most {MAX_KNOWN_SPEAKERS} are accepted", field=field
        )
    size = sum(len(message.recording) for message in messages)
    if size > MAX_REFERENCE_BYTES:
        raise InvalidRequest(
            f"the recordings in {field} have {size} bytes in total; at most {MAX_REFERENCE_BYTES} are accepted: "
            "half a minute of each person is enough",
            field=field,
            metadata={"size_bytes": str(size), "max_bytes": str(MAX_REFERENCE_BYTES)},
        )
    _check_names([message.name for message in messages], field)
    return tuple(_decode(message, f"{field}[{index}]") for index, message in enumerate(messages))


def encode_known_speaker(speaker: KnownSpeaker) -> gateway_pb2.KnownSpeaker:
    """Returns the message of the known speaker."""
    message = gateway_pb2.KnownSpeaker(name=speaker.name, skip_if_incomparable=speaker.skip_if_incomparable)
    if isinstance(speaker.reference, Voice):
        message.voice.CopyFrom(encode_voice(speaker.reference))
    else:
        message.recording = speaker.reference
    return message


def encode_voice(voice: Voice) -> gateway_pb2.Voice:
    """Returns the message of the voice."""
    return gateway_pb2.Voice(embedding=voice.embedding, embedding_model=voice.embedding_model)


def decode_voice(message: gateway_pb2.Voice, field: str) -> Voice:
    """Returns the voice in ``message``, scaled to unit length. Raises ``InvalidRequest``."""
    if not 1 <= len(message.embedding_model) <= MAX_MODEL_CHARACTERS:
        raise InvalidRequest(
            f"{field}.embedding_model must be the id of the embedding's model, as in results",
            field=f"{field}.embedding_model",
        )
    check_name(message.embedding_model, MAX_MODEL_CHARACTERS, f"{field}.embedding_model")
    path = f"{field}.embedding"
    if not 1 <= len(message.embedding) <= MAX_EMBEDDING_VALUES:
        raise InvalidRequest(
            f"{path} must have from 1 to {MAX_EMBEDDING_VALUES} values, but has {len(message.embedding)}", field=path
        )
    length = math.hypot(*message.embedding)
    if not math.isfinite(length):
        raise InvalidRequest(f"{path} must have finite values only", field=path)
    if not length:
        raise InvalidRequest(f"{path} must not be all zeros", field=path)
    return Voice(tuple(value / length for value in message.embedding), message.embedding_model)


def _decode(message: gateway_pb2.KnownSpeaker, field: str) -> KnownSpeaker:
    if message.WhichOneof("reference") == "voice":
        return KnownSpeaker(message.name, decode_voice(message.voice, f"{field}.voice"), message.skip_if_incomparable)
    if not message.recording:
        raise InvalidRequest(
            f"{field} must have a voice or a recording that is not empty, to recognise {message.name}",
            field=f"{field}.recording",
        )
    return KnownSpeaker(message.name, message.recording)


def _check_names(names: Iterable[str], field: str) -> None:
    """Rejects names that are ambiguous in an output format: NIST's formats replace spaces with ``_``."""
    written: set[str] = set()
    for index, name in enumerate(names):
        path = f"{field}[{index}].name"
        check_speaker_name(name, path)
        if as_field(name) in written:
            raise InvalidRequest(
                f"{path} is {name}, like the name of another known speaker: names must differ", field=path
            )
        written.add(as_field(name))
