"""Known speakers, and voices as files."""

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
from careca.v1 import gateway_pb2, voices_pb2
from careca_client.recording import Source


@dataclass(frozen=True, slots=True)
class KnownSpeaker:
    """A person to recognise, by a recording of this person alone or by the voice of a speaker in an earlier result.

    KnownSpeaker("Ana", "ana.wav")
    KnownSpeaker("Bob", earlier.speakers[1].voice)
    """

    name: str
    reference: Source | Voice
    """Half a minute of speech is enough. The recordings of all known speakers have at most 8 MiB together."""


def encode_known_speakers(speakers: Iterable[KnownSpeaker]) -> list[gateway_pb2.KnownSpeaker]:
    """Returns the messages, with the contents of the recordings.

    Raises ``OSError`` if a file cannot be read, ``InvalidRequest`` if a file is too large.
    """
    return [_encode(speaker) for speaker in speakers]


def encode_save_voice(
    name: str, voice: Voice | None, job_id: str | None, speaker: str | None
) -> voices_pb2.SaveVoiceRequest:
    """Returns the request that saves a voice. Raises ``InvalidRequest`` unless there is exactly one."""
    if (voice is None) == (job_id is None) or (job_id is None) != (speaker is None):
        raise InvalidRequest("save_voice takes either voice, or job_id and speaker", field="source")
    if voice is not None:
        return voices_pb2.SaveVoiceRequest(name=name, voice=codec.encode_voice(voice))
    return voices_pb2.SaveVoiceRequest(
        name=name, job_speaker=voices_pb2.JobSpeaker(job_id=job_id or "", speaker_label=speaker or "")
    )


def voice_json(voice: Voice) -> str:
    """Returns the voice as text for ``read_voice``."""
    return json.dumps({"embedding_model": voice.embedding_model, "embedding": voice.embedding}) + "\n"


def read_voice(path: str | os.PathLike[str]) -> Voice:
    """Reads a voice from a file: the text of ``voice_json``, or one speaker of a result's JSON format.

    Raises ``OSError`` if the file cannot be read, ``InvalidRequest`` if it is not a voice.
    """
    try:
        document = json.loads(Path(path).read_bytes())
        return Voice(tuple(float(value) for value in document["embedding"]), str(document["embedding_model"]))
    except (ValueError, TypeError, KeyError, RecursionError):  # RecursionError: nested too deeply
        raise InvalidRequest(
            f"{os.fspath(path)} is not a voice: it must be a JSON object with embedding_model and embedding, "
            "as `careca voice` writes it"
        ) from None


def read_reference(name: str, reference: Source) -> bytes:
    """Returns the bytes of the recording of the known speaker ``name``. A file object is read from its position on.

    Raises ``OSError`` if it cannot be read, ``InvalidRequest`` if it is too large.
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
