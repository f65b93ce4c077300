"""What is kept of a session, so that any gateway can continue it when a call, a gateway or a machine is gone.

Events, voices and the newest audio are in the jobs' Redis (``live.lua``). Older audio is in the object storage that the
gateways share, in parts of about a minute. The gateway that works on a session also has all of its audio in a temporary
file, from which it makes the recording.

One gateway at a time works on a session: the one that opened it last. The one before it learns that when it writes.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from careca.errors import CarecaError, NotFound, PreconditionFailed, Unavailable
from careca.telemetry.logs import get_logger
from careca.v1 import diarizer_pb2, live_pb2
from careca_gateway.jobs.queue.redis_script import JobScript
from careca_gateway.storage.files import StoreFiles
from careca_gateway.storage.object_storage import ObjectStorage
from careca_gateway.storage.upload import write_all

_PART_BYTES = 2 * 1024 * 1024
"""Audio that Redis holds before it goes to the object storage: 65 s of 16 kHz PCM."""

_READ_BYTES = 1024 * 1024

_RETRY_SECONDS = 0.3
_PATIENCE_SECONDS = 10.0
"""How long a write is tried again if Redis does not answer: a restart takes less."""

_PARALLEL_PARTS = 4

_ADOPTED = "SESSION_ADOPTED"

_DONE_SECONDS = 3_600
"""How long after the end a caller can get the events that were not received."""

_ID_BYTES = 12
_ID = re.compile(rf"[0-9a-f]{{{2 * _ID_BYTES}}}")

Config = live_pb2.LiveServiceTranscribeRequest.Config
Response = live_pb2.LiveServiceTranscribeResponse

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A session as Redis has it."""

    fence: int
    """How often it has been opened. Only the last opener can write."""
    submitter: str
    config: Config
    audio_bytes: int
    stored_bytes: int
    settled_until: float
    """Seconds of audio that need not be read again."""
    sealed: bool
    """Whether no more audio comes."""
    parts: Sequence[str]
    """The names of the stored parts."""
    audio: Sequence[bytes]
    """The audio after the stored parts."""
    events: Sequence[Response]
    voices: Sequence[diarizer_pb2.VoicePiece]


class Journal:
    """What is kept of one session. ``Journals`` opens it.

    Methods that write raise ``PreconditionFailed`` (SESSION_TAKEN_OVER) if a call has opened the session again, and
    ``Unavailable`` if another gateway has, because this one seemed to be gone, or if Redis does not answer for some
    seconds; ``Overloaded`` if Redis or the disk is full. Then nothing was written: the same or something else can be
    written in its place. There is one write to each list at a time.
    """

    def __init__(self, session_id: str, opened: _Opened, *, script: JobScript, storage: ObjectStorage) -> None:
        self.session_id = session_id
        self.submitter = opened.submitter
        self.config = opened.config
        self.events = opened.events
        """The events when it was opened."""
        self.voices = opened.voices
        """The pieces of speech when it was opened."""
        self.audio_bytes = opened.audio_bytes
        """The size of the audio."""
        self.settled_until = opened.settled_until
        """Seconds of audio that need not be read again by the next opener. Kept with the next beat."""
        self.sealed = opened.sealed
        """Whether no more audio comes."""
        self.on_lost: Callable[[CarecaError], None] = lambda _: None
        """Is called if a beat finds that the session was opened again."""
        self._fence = opened.fence
        self._script = script
        self._storage = storage
        self._positions = {"events": len(opened.events), "voices": len(opened.voices)}
        self._numbers = Counter[str]()
        """How many writes there were to each list."""
        self._parts = len(opened.parts)
        self._stored_bytes = self._tried_bytes = opened.stored_bytes
        self._files = ExitStack()

    def restore_audio(self, opened: _Opened, files: StoreFiles) -> None:
        """Writes the audio to a temporary file, unless the session has ended. Blocks.

        Raises ``Unavailable``, and ``Overloaded`` if the disk is full.
        """
        self._path = self._files.enter_context(files.draft())
        self._file = self._files.enter_context(self._path.open("ab", buffering=0))
        if any(event.HasField("ended") for event in opened.events):
            return
        with ThreadPoolExecutor(_PARALLEL_PARTS) as threads:
            for part in threads.map(lambda name: self._storage.get(_folder(self.session_id) + name), opened.parts):
                self._write(part)
        for data in opened.audio:
            self._write(data)
        size = self._path.stat().st_size
        if size != self.audio_bytes:
            _log.error("audio is missing", session_id=self.session_id, found=size, expected=self.audio_bytes)
            self.audio_bytes = size

    async def append_audio(self, data: bytes) -> None:
        """Appends audio."""
        try:
            await asyncio.to_thread(self._write, data)
            await self._write_to("audio", "append_audio", self.audio_bytes, data)
        except BaseException:
            self._file.truncate(self.audio_bytes)
            raise
        self.audio_bytes += len(data)
        if self.audio_bytes - self._tried_bytes >= _PART_BYTES:
            self._tried_bytes = self.audio_bytes
            await self._store_part()

    async def append_event(self, event: Response) -> None:
        """Appends an event."""
        await self._append("events", event.SerializeToString())

    async def append_voice(self, piece: diarizer_pb2.VoicePiece) -> None:
        """Appends a piece of speech."""
        await self._append("voices", piece.SerializeToString())

    async def beat(self) -> None:
        """Says that this gateway works on the session."""
        await self._run("beat", round(self.settled_until * 1000))

    async def seal(self) -> None:
        """Says that no more audio comes."""
        await self._run("seal")
        self.sealed = True

    @property
    def path(self) -> Path:
        """The temporary file with the audio."""
        return self._path

    def audio(self) -> Iterator[bytes]:
        """Yields the audio from its start. Blocks."""
        with self._path.open("rb") as file:
            while data := file.read(_READ_BYTES):
                yield data

    async def done(self) -> None:
        """Removes what is not needed after the last event. The events are kept for an hour."""
        await asyncio.to_thread(self._storage.delete_prefix, _folder(self.session_id))
        await self._run("done", _DONE_SECONDS)

    def close(self) -> None:
        """Removes the temporary file. What is kept stays."""
        self._files.close()

    async def _append(self, name: str, entry: bytes) -> None:
        await self._write_to(name, "append", name, self._positions[name] + 1, entry)
        self._positions[name] += 1

    async def _write_to(self, name: str, operation: str, *arguments: bytes | str | int) -> None:
        """Writes to a list with the next number, so that a write whose reply was lost is not done twice."""
        self._numbers[name] += 1
        await self._run(operation, self._numbers[name], *arguments)

    async def _store_part(self) -> None:
        """Moves the audio from Redis to the object storage. A failure is logged: it is tried again with more audio."""
        try:
            part = await asyncio.to_thread(self._read_from, self._stored_bytes)
            # With the fence: a gateway that had the session before may still be writing.
            name = f"{self._parts:06}-{self._fence}"
            await asyncio.to_thread(self._storage.put, _folder(self.session_id) + name, part)
            await self._write_to("audio", "audio_stored", name, self._stored_bytes + len(part))
        except CarecaError as error:
            if is_lost(error):
                raise
            _log.warning("live audio was not stored", session_id=self.session_id, error=error.message)
        else:
            self._parts += 1
            self._stored_bytes += len(part)

    async def _run(self, operation: str, *arguments: bytes | str | int) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE_SECONDS
        while True:
            try:
                written = await self._script.run(operation, self.session_id, self._fence, *arguments)
            except Unavailable:
                if loop.time() > end:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                break
        if written != 1:
            raise taken_over(self.session_id) if written == 0 else _adopted(self.session_id)

    def _write(self, data: bytes) -> None:
        write_all(self._file, data)

    def _read_from(self, offset: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read()


class Journals:
    """The journals of all gateways.

    Args:
        redis_url: the jobs' Redis.
        timeout_seconds: the timeout of each of its operations.
        storage: what the gateways share.
        files: gives temporary files.
    """

    def __init__(self, redis_url: str, *, timeout_seconds: float, storage: ObjectStorage, files: StoreFiles) -> None:
        """Does not connect yet."""
        self._script = JobScript(
            redis_url, timeout_seconds=timeout_seconds, package="careca_gateway.live", name="live.lua"
        )
        self._storage = storage
        self._files = files
        self._opened: set[Journal] = set()

    @property
    def failures(self) -> int:
        """How often Redis could not be reached."""
        return self._script.failures

    async def create(self, config: Config, submitter: str) -> Journal:
        """Creates a session. Raises ``Unavailable`` and ``Overloaded``."""
        session_id = secrets.token_hex(_ID_BYTES)
        await self._script.run("create", session_id, config.SerializeToString(), submitter)
        return await self.open(session_id, submitter)

    async def open(self, session_id: str, submitter: str) -> Journal:
        """Opens a session for a call, so that nobody who opened it before can write to it.

        Raises ``NotFound`` (SESSION_NOT_FOUND) if there is none with this id, or it has another submitter;
        ``Unavailable`` and ``Overloaded``.
        """
        return await self._open(session_id, submitter, b"")

    async def adopt(self, session_id: str, state: bytes) -> Journal:
        """Opens a session whose gateway is gone. Raises ``NotFound`` if its state is not ``state`` anymore."""
        return await self._open(session_id, "", state)

    async def _open(self, session_id: str, submitter: str, expected: bytes) -> Journal:
        reply = await self._script.run("open", session_id, submitter, expected) if _ID.fullmatch(session_id) else None
        if not reply:
            raise session_not_found(session_id)
        opened = _read_opened(reply)
        journal = Journal(session_id, opened, script=self._script, storage=self._storage)
        self._opened.add(journal)  # it is kept alive from now on: reading the audio may take long
        try:
            await asyncio.to_thread(journal.restore_audio, opened, self._files)
        except BaseException:
            await self.release(journal)
            raise
        return journal

    async def release(self, journal: Journal) -> None:
        """Closes a journal. What is kept of the session stays."""
        self._opened.discard(journal)
        await asyncio.to_thread(journal.close)

    async def beat(self) -> None:
        """Says that this gateway works on all sessions that it has opened. Those that it has lost learn of it."""
        journals = list(self._opened)
        for journal, error in zip(
            journals, await asyncio.gather(*(each.beat() for each in journals), return_exceptions=True), strict=True
        ):
            if isinstance(error, CarecaError) and is_lost(error):
                journal.on_lost(error)
            elif isinstance(error, CarecaError):
                _log.warning("a live session has no beat", session_id=journal.session_id, reason=error.reason)
            elif error is not None:
                raise error

    async def states(self) -> Mapping[str, bytes]:
        """Returns the ids of all sessions that are not done, each with a value that changes while it is worked on.

        Raises ``Unavailable`` and ``Overloaded``, also if gateways cannot write their beats.
        """
        reply: list[bytes] = await self._script.run("states")
        return {session_id.decode(): state for session_id, state in zip(reply[::2], reply[1::2], strict=True)}

    async def close(self) -> None:
        """Closes all connections."""
        await self._script.aclose()


def session_not_found(session_id: str) -> NotFound:
    """Returns the error for a session that does not exist, or that the caller may not see."""
    shown = session_id[: 2 * _ID_BYTES]  # a longer one is no id, and would not fit into a status
    return NotFound(f"there is no live session {shown!r}", reason="SESSION_NOT_FOUND", metadata={"session_id": shown})


def taken_over(session_id: str) -> PreconditionFailed:
    """Returns the error for a session that goes on in a newer call, which may be at another gateway."""
    return PreconditionFailed(
        "a newer call continues this session", reason="SESSION_TAKEN_OVER", metadata={"session_id": session_id}
    )


def _adopted(session_id: str) -> Unavailable:
    """Returns the error for a session that goes on at another gateway: the caller must continue it."""
    return Unavailable(
        "another gateway works on this session: continue it",
        reason=_ADOPTED,
        metadata={"session_id": session_id},
        retry_after_seconds=0.5,
    )


def is_lost(error: CarecaError | None) -> bool:
    """Returns whether ``error`` says that the session was opened again."""
    return error is not None and error.reason in ("SESSION_TAKEN_OVER", _ADOPTED)


def _read_opened(reply: Sequence[Any]) -> _Opened:
    fence, submitter, config, audio_bytes, stored_bytes, settled, sealed, parts, audio, events, voices = reply
    return _Opened(
        fence,
        submitter.decode(),
        Config.FromString(config),
        audio_bytes,
        stored_bytes,
        settled / 1000,
        sealed == 1,
        [name.decode() for name in parts],
        audio,
        [Response.FromString(event) for event in events],
        [diarizer_pb2.VoicePiece.FromString(voice) for voice in voices],
    )


def _folder(session_id: str) -> str:
    return f"live/{session_id}/"
