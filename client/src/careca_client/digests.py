"""What one client remembers of the files that it has hashed, so that asking about a long recording again is quick."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from careca.types import Digest
from careca_client.recording import Identity, Recording

MAX_FILES = 256
"""Files remembered; those not asked about for longest are forgotten first."""

SETTLED_SECONDS = 2.0
"""Age that a file's last change must have for its digest to be remembered.

Time stamps are coarse: what is written right after a younger file was hashed may leave them as they were.
"""


class DigestMemory:
    """Digests of files by device, inode, size and both times of change. May be used by several threads."""

    def __init__(self, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._digests: OrderedDict[Identity, Digest] = OrderedDict()
        self._lock = threading.Lock()

    def hash(self, recording: Recording) -> Iterator[int]:
        """As ``Recording.hash``, but at an end at once for a file that has not changed since it was last hashed."""
        identity = recording.identity()
        if identity is not None and (digest := self._recall(identity)) is not None:
            recording.digest = digest
            return
        settled = identity is not None and self._now_ns() - identity.changed_ns > SETTLED_SECONDS * 1e9
        yield from recording.hash()
        if identity is not None and settled and recording.identity() == identity:
            self._remember(identity, recording.digest)

    def _recall(self, identity: Identity) -> Digest | None:
        with self._lock:
            if identity in self._digests:
                self._digests.move_to_end(identity)
            return self._digests.get(identity)

    def _remember(self, identity: Identity, digest: Digest) -> None:
        with self._lock:
            self._digests[identity] = digest
            if len(self._digests) > MAX_FILES:
                self._digests.popitem(last=False)
