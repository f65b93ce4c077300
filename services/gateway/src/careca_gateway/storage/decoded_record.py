"""The record of what a recording decodes to, as stores keep it: JSON.

Records of earlier versions were lists without tracks and notices. They are ignored, and the recording is decoded again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from careca.types import Digest, Notice


@dataclass(frozen=True, slots=True)
class DecodedRecord:
    """What an audio selection of a recording decodes to."""

    audio: tuple[Digest, ...]
    """One, or one for each channel or track if each has its own speaker."""
    notices: tuple[Notice, ...] = ()
    """The decoder's notices."""

    def to_json(self) -> bytes:
        """Returns the record as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> DecodedRecord | None:
        """Returns the record, or ``None`` if ``content`` is not a record of this version."""
        try:
            fields = json.loads(content)
            audio = tuple(Digest(**each) for each in fields["audio"])
            notices = tuple(Notice(**each) for each in fields["notices"])
        except (ValueError, TypeError, KeyError):
            return None
        return cls(audio, notices) if audio else None
