"""The limits for recordings in the current caller's token, in addition to the gateway's own limits."""

from __future__ import annotations

from collections.abc import Sequence

from careca.auth.caller import current_caller
from careca.errors import InvalidRecording
from careca.types import SAMPLE_BYTES, SAMPLE_RATE, Digest


def check_size(recording: Digest) -> None:
    """Raises ``InvalidRecording`` (RECORDING_TOO_LARGE) if the recording has more bytes than the token allows."""
    limit = current_caller().limits.recording_bytes
    if limit is not None and recording.size_bytes > limit:
        raise InvalidRecording(
            f"the recording has {recording.size_bytes} bytes; your token allows {limit}",
            reason="RECORDING_TOO_LARGE",
            field="config.recording.size_bytes",
            metadata={"size_bytes": str(recording.size_bytes), "max_bytes": str(limit)},
        )


def check_length(audio: Sequence[Digest]) -> None:
    """Raises ``InvalidRecording`` (RECORDING_TOO_LONG) if the audio is longer than the token allows."""
    limit = current_caller().limits.recording_seconds
    seconds = max((each.size_bytes / (SAMPLE_BYTES * SAMPLE_RATE) for each in audio), default=0.0)
    if limit is not None and seconds > limit:
        raise InvalidRecording(
            f"the recording is {seconds:.0f} s long; your token allows {limit:.0f} s",
            reason="RECORDING_TOO_LONG",
            metadata={"max_audio_seconds": f"{limit:g}"},
        )
