"""The live sessions of a gateway: begins, continues and ends them, and makes jobs of their recordings."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress

from careca.errors import NotFound, Overloaded, PreconditionFailed
from careca.telemetry.logs import get_logger
from careca.types import Digest, JobPriority, JobState, KnownSpeaker, Scheduling, SchedulingClass, Voice
from careca.v1 import gateway_pb2, live_pb2
from careca_gateway.jobs.service import JobRequest, JobService
from careca_gateway.live.journal import Journal, open_journals
from careca_gateway.live.metrics import LiveMetrics
from careca_gateway.live.models import WindowModels
from careca_gateway.live.options import Config, decode_options, job_config
from careca_gateway.live.preparation import prepare_repeatedly
from careca_gateway.live.session import LiveLimits, LiveSession
from careca_gateway.live.speakers import SpeakerMemory
from careca_gateway.settings import GatewaySettings
from careca_gateway.storage.store import Store

Response = live_pb2.LiveServiceTranscribeResponse
AddVoices = Callable[[str, gateway_pb2.TranscribeRequest.Config], Awaitable[gateway_pb2.TranscribeRequest.Config]]

_ID_BYTES = 12
_RETRY_SECONDS = 10.0
_ENDED_SECONDS = 3_600.0
"""How long a session can be continued after its end, by a caller who has not received all events."""
_SWEEP_SECONDS = 1.0

_log = get_logger(__name__)


class LiveService:
    """All live sessions. Must be created in the event loop that it runs in.

    Args:
        settings: the limits.
        store: gets the recordings.
        jobs: transcribes them.
        models: reads and diarizes windows.
        add_voices: adds the saved voices of a submitter to a config that asks for them.
        metrics: counts.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        store: Store,
        jobs: JobService,
        models: WindowModels,
        add_voices: AddVoices,
        metrics: LiveMetrics,
    ) -> None:
        self._settings = settings
        self._store = store
        self._jobs = jobs
        self._models = models
        self._add_voices = add_voices
        self._metrics = metrics
        self._root = settings.store_dir / "live"
        self._sessions: dict[str, LiveSession] = {}
        self._without_call: dict[str, float] = {}
        """Since when sessions have no call, by ``time.monotonic``."""
        self._beginning: Counter[str] = Counter()
        """How many sessions of each submitter are being created."""
        self._preparing: dict[str, asyncio.Task[None]] = {}
        self._reopening = asyncio.Lock()
        self._sweeping: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        metrics.watch(
            sessions=lambda: len(self._running()),
            behind=lambda: max((each.behind for each in self._running()), default=0),
        )

    async def start(self) -> None:
        """Continues the sessions that the last process of this gateway left."""
        for journal in await asyncio.to_thread(open_journals, self._root):
            try:
                await self._open(journal)
            except Exception as error:  # noqa: BLE001 - one damaged session must not stop the others
                _log.error("a live session cannot be restored", session_id=journal.folder.name, exc_info=error)
                await asyncio.to_thread(journal.close)
        if self._sessions:
            _log.info("live sessions restored", sessions=len(self._sessions))
        self._sweeping = asyncio.create_task(self._sweep())

    def drain(self) -> None:
        """Ends all calls with ``Unavailable``. Their sessions are continued by the next process of this gateway."""
        self._stopping.set()

    @property
    def stopping(self) -> asyncio.Event:
        """Is set when no call may go on."""
        return self._stopping

    async def close(self) -> None:
        """Stops all work. Sessions stay on disk."""
        if self._sweeping:
            self._sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeping
        for session in self._sessions.values():
            await self._end_preparation(session)
            await session.close()

    async def begin(self, submitter: str, config: Config) -> LiveSession:
        """Returns a new session. Raises ``InvalidRequest``, and ``Overloaded`` if there are too many."""
        decode_options(config)
        with self._room(submitter):
            voices = await self._add_voices(submitter, job_config(config))
            kept = Config()
            kept.CopyFrom(config)
            del kept.known_speakers[:]
            kept.known_speakers.extend(voices.known_speakers)
            kept.use_saved_voices = voices.use_saved_voices
            session_id = secrets.token_hex(_ID_BYTES)
            journal = await asyncio.to_thread(Journal.create, self._root / session_id, kept, submitter)
            return await self._open(journal)

    async def resume(self, submitter: str, session_id: str) -> LiveSession:
        """Returns the session. Raises ``NotFound`` (SESSION_NOT_FOUND)."""
        session = self._own(submitter, session_id)
        if session.failed:
            async with self._reopening:
                session = self._own(submitter, session_id)  # another call may have opened it again
                if session.failed:
                    await session.close()
                    session = await self._open(await asyncio.to_thread(Journal, session.journal.folder))
        self._metrics.resumed()
        return session

    def attach(self, session: LiveSession, after: int) -> int:
        """Begins a call of the session that has all events up to number ``after``. Returns the number of the call.

        Raises ``InvalidRequest`` if there is no such event.
        """
        session.check_event(after)
        self._without_call.pop(session.id, None)
        return session.attach()

    def detach(self, session: LiveSession, call: int) -> None:
        """Ends a call. Without another one, the session is ended after some time."""
        if session.detach(call) and self._sessions.get(session.id) is session:
            self._without_call[session.id] = time.monotonic()

    async def result(self, session: LiveSession) -> gateway_pb2.TranscribeResult | None:
        """Waits for the job of a session that has ended, and returns its result; ``None`` if it had no audio.

        Raises ``PreconditionFailed`` (NO_RESULT) if the job failed, and what ``JobService.watch`` raises.
        """
        if not session.job_id:
            return None
        submitter = session.journal.submitter
        async with aclosing(self._jobs.watch(submitter, session.job_id, "")) as events:
            async for _ in events:
                pass
        job = await self._jobs.get(submitter, session.job_id)
        if job.state is not JobState.SUCCEEDED:
            raise PreconditionFailed(
                f"the job {job.id} of the session has no result: it is {job.state}. {job.error_message}".strip(),
                reason=job.error_reason or "NO_RESULT",
                metadata={"job_id": job.id, "state": job.state},
            )
        return await self._jobs.result(submitter, session.job_id, ())

    def _own(self, submitter: str, session_id: str) -> LiveSession:
        session = self._sessions.get(session_id)
        if session is None or session.journal.submitter != submitter:
            shown = session_id[: 2 * _ID_BYTES]  # a longer one is no id, and would not fit into a status
            raise NotFound(
                f"there is no live session {shown!r} at this gateway",
                reason="SESSION_NOT_FOUND",
                metadata={"session_id": shown},
            )
        return session

    def _running(self) -> list[LiveSession]:
        return [session for session in self._sessions.values() if session.job_id is None and not session.failed]

    @contextmanager
    def _room(self, submitter: str) -> Iterator[None]:
        """Counts a session that begins in this context. Raises ``Overloaded`` if there are too many."""
        self._check_room(submitter)
        self._beginning[submitter] += 1
        try:
            yield
        finally:
            self._beginning[submitter] -= 1
            self._beginning += Counter()  # without those that are 0

    def _check_room(self, submitter: str) -> None:
        running = Counter(session.journal.submitter for session in self._running()) + self._beginning
        if running.total() >= self._settings.max_live_sessions:
            what = f"the gateway has {running.total()} live sessions"
        elif running[submitter] >= self._settings.max_live_sessions_per_submitter:
            what = f"you have {running[submitter]} live sessions"
        else:
            return
        raise Overloaded(
            f"{what}, which is the maximum: end one, or try again later",
            reason="TOO_MANY_SESSIONS",
            retry_after_seconds=_RETRY_SECONDS,
        )

    async def _open(self, journal: Journal) -> LiveSession:
        options = decode_options(journal.config)
        scheduling = Scheduling(SchedulingClass.LIVE, journal.submitter)
        session = LiveSession(
            journal.folder.name,
            journal,
            models=self._models.scheduled(scheduling),
            speakers=SpeakerMemory(
                similarity=self._settings.known_speaker_similarity,
                options=options.diarization,
                known=_known_voices(options.known_speakers),
            ),
            limits=LiveLimits(self._settings.max_recording_bytes, self._settings.max_audio_seconds),
            finish=self._submit,
            metrics=self._metrics,
        )
        await session.start()
        self._sessions[session.id] = session
        self._without_call[session.id] = time.monotonic()
        if self._settings.live_prepare and session.job_id is None:
            scheduling = Scheduling(SchedulingClass.BATCH, journal.submitter)
            preparing = prepare_repeatedly(session, self._models.scheduled(scheduling), self._store.files)
            self._preparing[session.id] = asyncio.create_task(preparing, name=f"prepare {session.id}")
        return session

    async def _end_preparation(self, session: LiveSession) -> None:
        """Stops preparing the result. What has been computed is used."""
        if preparing := self._preparing.pop(session.id, None):
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)

    async def _submit(self, session: LiveSession) -> str:
        """Stores the recording of a session and submits its job. The same session always gives the same job."""
        if session.received_bytes < session.options.encoding.sample_bytes:
            return ""
        await self._end_preparation(session)
        journal = session.journal
        header = session.options.encoding.wav_header(session.received_bytes)
        digest = await asyncio.to_thread(_digest_of, journal, header)
        with self._store.hold(digest) as recording:
            with recording.upload() as upload:
                await asyncio.to_thread(_copy, journal, header, upload.write)
                await asyncio.to_thread(upload.finish)
            config = job_config(journal.config)
            config.recording.sha256, config.recording.size_bytes = digest.sha256, digest.size_bytes
            request = JobRequest(config, request_id=f"live-{session.id}", priority=JobPriority.INTERACTIVE)
            job = await self._jobs.submit(journal.submitter, request)
        _log.info("a live session has ended", session_id=session.id, job_id=job.id, audio_bytes=session.received_bytes)
        return job.id

    async def _sweep(self) -> None:
        """Ends sessions that have had no call for long, and forgets those that ended long ago."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            for session_id in list(self._without_call):
                try:
                    await self._sweep_session(session_id)
                except Exception as error:  # noqa: BLE001 - the others must be swept all the same
                    _log.error("a live session cannot be ended", session_id=session_id, exc_info=error)

    async def _sweep_session(self, session_id: str) -> None:
        async with self._reopening:
            since = self._without_call.get(session_id)
            if since is None:
                return
            session, seconds = self._sessions[session_id], time.monotonic() - since
            if session.job_id is not None:
                if seconds > _ENDED_SECONDS:
                    del self._sessions[session_id], self._without_call[session_id]
                    await session.close()
                    await asyncio.to_thread(session.journal.remove)
            elif seconds > self._settings.live_idle_seconds:
                if session.failed:
                    self._without_call[session_id] = time.monotonic()  # if that fails, after another while
                    await session.give_up()
                else:
                    session.end()


def _known_voices(speakers: tuple[KnownSpeaker, ...]) -> list[tuple[str, Voice]]:
    """Returns the voices that can be compared without a recording: those of recordings are for the result."""
    return [(each.name, each.reference) for each in speakers if isinstance(each.reference, Voice)]


def _digest_of(journal: Journal, header: bytes) -> Digest:
    digest = hashlib.sha256()
    size = 0

    def add(data: bytes) -> None:
        nonlocal size
        digest.update(data)
        size += len(data)

    _copy(journal, header, add)
    return Digest(digest.hexdigest(), size)


def _copy(journal: Journal, header: bytes, write: Callable[[bytes], None]) -> None:
    """Writes the recording of a session: a WAV file."""
    write(header)
    size = 0
    for data in journal.audio():
        write(data)
        size += len(data)
    if size % 2:
        write(b"\0")  # parts of a WAV file have an even size
