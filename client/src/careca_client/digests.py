"""The digests of files that a client has hashed, so that a long recording is hashed only once."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from careca.types import Digest
from careca_client.recording import Identity, Recording

MAX_FILES = 256
"""Number of files in the cache. The least recently used are removed first."""

SETTLED_SECONDS = 2.0
"""A digest is stored only if the file's last change is older than this.

Timestamps are coarse: a write shortly after an earlier one may leave them unchanged.
"""


class DigestCache:
    """Digests of files by device, inode, size and both times of change. Safe to use from several threads."""

    def __init__(self, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._digests: OrderedDict[Identity, Digest] = OrderedDict()
        self._lock = threading.Lock()

    def hash(self, recording: Recording) -> Iterator[int]:
        """As ``Recording.hash``, but without any step if the file has not changed since it was last hashed."""
        identity = recording.identity()
        if identity is not None and (digest := self._get(identity)) is not None:
            recording.digest = digest
            return
        settled = identity is not None and self._now_ns() - identity.changed_ns > SETTLED_SECONDS * 1e9
        yield from recording.hash()
        if identity is not None and settled and recording.identity() == identity:
            self._put(identity, recording.digest)

    def _get(self, identity: Identity) -> Digest | None:
        with self._lock:
            if identity in self._digests:
                self._digests.move_to_end(identity)
            return self._digests.get(identity)

    def _put(self, identity: Identity, digest: Digest) -> None:
        with self._lock:
            self._digests[identity] = digest
            if len(self._digests) > MAX_FILES:
                self._digests.popitem(last=False)
