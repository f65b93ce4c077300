"""People to recognise, as a caller gives them; and voices as files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from careca import codec, types
from careca.codec.known_speakers import MAX_REFERENCE_BYTES
from careca.errors import InvalidRequest
from careca.types import Voice
from careca.v1 import gateway_pb2
from careca_client.recording import Source


@dataclass(frozen=True, slots=True)
class KnownSpeaker:
    """Somebody to recognise: by a recording of that person alone, or by the voice of a speaker in an earlier result.

    KnownSpeaker("Ana", "ana.wav")
    KnownSpeaker("Bob", earlier.speakers[1].voice)
    """

    name: str
    reference: Source | Voice
    """Half a minute of speech is enough. Recordings of all known speakers may have 8 MiB together."""


def encode_known_speakers(speakers: Iterable[KnownSpeaker]) -> list[gateway_pb2.KnownSpeaker]:
    """The messages, with what the recordings' files hold.

    Raises ``OSError`` where a file cannot be read, ``InvalidRequest`` where one is too large.
    """
    return [_encode(speaker) for speaker in speakers]


def voice_json(voice: Voice) -> str:
    """The voice as text that ``read_voice`` reads."""
    return json.dumps({"embedding_model": voice.embedding_model, "embedding": voice.embedding}) + "\n"


def read_voice(path: str | os.PathLike[str]) -> Voice:
    """The voice in a file that holds what ``voice_json`` gives, or a speaker as the JSON form of a result has them.

    Raises ``OSError`` where it cannot be read, ``InvalidRequest`` where it is no voice.
    """
    try:
        document = json.loads(Path(path).read_bytes())
        return Voice(tuple(float(value) for value in document["embedding"]), str(document["embedding_model"]))
    except (ValueError, TypeError, KeyError):
        raise InvalidRequest(
            f"{os.fspath(path)} is no voice: it must be a JSON object with embedding_model and embedding, "
            "as `careca voice` writes it"
        ) from None


def read_reference(name: str, reference: Source) -> bytes:
    """All bytes of the recording of the known speaker ``name``, from a file object those from its position on.

    Raises ``OSError`` where it cannot be read, ``InvalidRequest`` where it is too large.
    """
    if isinstance(reference, bytes | bytearray | memoryview):
        return bytes(reference)
    if isinstance(reference, str | os.PathLike):
        with Path(reference).open("rb") as file:
            return read_reference(name, file)
    data = reference.read(MAX_REFERENCE_BYTES + 1)
    if len(data) > MAX_REFERENCE_BYTES:
        raise InvalidRequest(
            f"the recording of the known speaker {name} has more than {MAX_REFERENCE_BYTES} bytes: "
            "half a minute of speech is enough",
            field="config.known_speakers",
        )
    return data


def _encode(speaker: KnownSpeaker) -> gateway_pb2.KnownSpeaker:
    reference = speaker.reference
    if not isinstance(reference, Voice):
        reference = read_reference(speaker.name, reference)
    return codec.encode_known_speaker(types.KnownSpeaker(speaker.name, reference))
