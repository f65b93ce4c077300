"""The note of what a recording decodes to, as the store and the gateways that share recordings keep it: JSON.

Notes of earlier versions, which were lists, knew neither tracks nor notices; they count as none, and the recording is
decoded again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from careca.types import Digest, Notice


@dataclass(frozen=True, slots=True)
class DecodedRecord:
    """What a recording decodes to."""

    audio: tuple[Digest, ...]
    """One, or one for each channel or track where each is a speaker's own."""
    notices: tuple[Notice, ...] = ()
    """What the decoder noticed."""

    def pack(self) -> bytes:
        """The note's bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, content: bytes) -> DecodedRecord | None:
        """The note, ``None`` where this is none."""
        try:
            fields = json.loads(content)
            audio = tuple(Digest(**each) for each in fields["audio"])
            notices = tuple(Notice(**each) for each in fields["notices"])
        except (ValueError, TypeError, KeyError):
            return None
        return cls(audio, notices) if audio else None
