"""The live sessions of a gateway: begins, continues and ends them, and makes jobs of their recordings."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from weakref import WeakValueDictionary

from careca.auth.caller import current_caller
from careca.cancellation import cancel_and_wait
from careca.errors import CarecaError, NotFound, Overloaded, PreconditionFailed
from careca.telemetry.logs import get_logger
from careca.types import Digest, JobPriority, JobState, KnownSpeaker, Scheduling, SchedulingClass, Voice
from careca.v1 import gateway_pb2, live_pb2
from careca_gateway.background import repeat
from careca_gateway.ingest.decoder import Decoder
from careca_gateway.jobs.queue.liveness import LivenessTracker
from careca_gateway.jobs.service import JobRequest, JobService
from careca_gateway.live.journal import Journal, Journals, is_lost, session_not_found
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

_RETRY_SECONDS = 10.0
_SWEEP_SECONDS = 1.0
_BEAT_SECONDS = 1.0
_SILENCE_SECONDS = 10.0
"""After so long without a sign of its gateway, a session is continued by another one."""

_log = get_logger(__name__)


class LiveService:
    """All live sessions. Must be created in the event loop that it runs in.

    Args:
        settings: the limits.
        store: gets the recordings.
        jobs: transcribes them.
        journals: keeps the sessions.
        models: reads and diarizes windows.
        decoder: decodes audio in containers.
        add_voices: adds the saved voices of a submitter to a config that asks for them.
        metrics: counts.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        store: Store,
        jobs: JobService,
        journals: Journals,
        models: WindowModels,
        decoder: Decoder,
        add_voices: AddVoices,
        metrics: LiveMetrics,
    ) -> None:
        self._settings = settings
        self._store = store
        self._jobs = jobs
        self._journals = journals
        self._models = models
        self._decoder = decoder
        self._add_voices = add_voices
        self._metrics = metrics
        self._sessions: dict[str, LiveSession] = {}
        self._without_call: dict[str, float] = {}
        """Since when sessions have no call, by ``time.monotonic``."""
        self._beginning: Counter[str] = Counter()
        """How many sessions of each submitter are being created."""
        self._preparing: dict[str, asyncio.Task[None]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Held while the session with this id is opened or closed here."""
        self._liveness = LivenessTracker()
        self._failures = 0
        self._background: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        metrics.watch(
            sessions=lambda: len(self._running()),
            behind=lambda: max((each.behind for each in self._running()), default=0),
        )

    async def start(self) -> None:
        """Begins to look after the sessions of this gateway, and those of gateways that are gone."""
        # Beats must not wait for anything else: without them, other gateways take the sessions.
        self._background = [
            repeat("beats of live sessions", self._journals.beat, pause_seconds=_BEAT_SECONDS),
            repeat("live sessions", self._sweep, pause_seconds=_SWEEP_SECONDS),
            repeat("abandoned live sessions", self._adopt_abandoned, pause_seconds=_SWEEP_SECONDS),
        ]

    def drain(self) -> None:
        """Ends all calls with ``Unavailable``. Another gateway, or the next process of this one, continues them."""
        self._stopping.set()

    @property
    def stopping(self) -> asyncio.Event:
        """Is set when no call may go on."""
        return self._stopping

    async def close(self) -> None:
        """Stops all work. What is kept of the sessions stays."""
        await cancel_and_wait(self._background)
        for session in list(self._sessions.values()):
            await self._close(session)
        await self._journals.close()

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
            return await self._open(await self._journals.create(kept, submitter))

    async def resume(self, submitter: str, session_id: str) -> LiveSession:
        """Returns the session, which another gateway may have begun. Raises ``NotFound`` (SESSION_NOT_FOUND)."""
        session = self._own(submitter, session_id)
        if session and session.job_id is None:
            await self._beat(session)  # another gateway may have continued it
        if session is None or session.failed:
            async with self._lock_of(session_id):
                session = self._own(submitter, session_id)  # another call may have opened it meanwhile
                if session is None:
                    if failed := self._sessions.get(session_id):
                        await self._close(failed)
                    session = await self._open(await self._journals.open(session_id, submitter))
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

    def _own(self, submitter: str, session_id: str) -> LiveSession | None:
        """Returns the session if it is open here and works. Raises ``NotFound`` if it is another submitter's."""
        session = self._sessions.get(session_id)
        if session and session.journal.submitter != submitter:
            raise session_not_found(session_id)
        return None if session is None or session.failed else session

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
        # Failed ones count too: they take the same place until they are done.
        open_sessions = (session for session in self._sessions.values() if session.job_id is None)
        running = Counter(session.journal.submitter for session in open_sessions) + self._beginning
        own = current_caller().limits.live_sessions
        if running.total() >= self._settings.max_live_sessions:
            what = f"the gateway has {running.total()} live sessions"
        elif running[submitter] >= min(self._settings.max_live_sessions_per_submitter, own or math.inf):
            what = f"you have {running[submitter]} live sessions"
        else:
            return
        raise Overloaded(
            f"{what}, which is the maximum: end one, or try again later",
            reason="TOO_MANY_SESSIONS",
            retry_after_seconds=_RETRY_SECONDS,
        )

    async def _open(self, journal: Journal) -> LiveSession:
        try:
            session = self._new_session(journal)
            journal.on_lost = session.fail
            await session.start()
        except BaseException:
            await self._journals.release(journal)
            raise
        self._sessions[session.id] = session
        self._without_call[session.id] = time.monotonic()
        if self._settings.live_prepare and session.job_id is None:
            scheduling = Scheduling(SchedulingClass.BATCH, journal.submitter)
            models = self._models.scheduled(scheduling)
            preparing = prepare_repeatedly(session, models, self._store.files, self._decoder)
            self._preparing[session.id] = asyncio.create_task(preparing, name=f"prepare {session.id}")
        return session

    def _new_session(self, journal: Journal) -> LiveSession:
        options = decode_options(journal.config)
        scheduling = Scheduling(SchedulingClass.LIVE, journal.submitter)
        return LiveSession(
            journal,
            models=self._models.scheduled(scheduling),
            speakers=SpeakerMemory(
                similarity=self._settings.known_speaker_similarity,
                options=options.diarization,
                known=_known_voices(options.known_speakers),
            ),
            limits=LiveLimits(self._settings.max_recording_bytes, self._settings.max_audio_seconds),
            decoder=self._decoder,
            finish=self._submit,
            metrics=self._metrics,
        )

    async def _close(self, session: LiveSession) -> None:
        """Stops the work on a session, and forgets it. What is kept of it stays."""
        await self._end_preparation(session)
        await session.close()
        await self._journals.release(session.journal)
        if self._sessions.get(session.id) is session:
            del self._sessions[session.id]
            self._without_call.pop(session.id, None)

    def _lock_of(self, session_id: str) -> asyncio.Lock:
        return self._locks.setdefault(session_id, asyncio.Lock())

    async def _end_preparation(self, session: LiveSession) -> None:
        """Stops preparing the result. What has been computed is used."""
        await cancel_and_wait([self._preparing.pop(session.id, None)])

    async def _submit(self, session: LiveSession) -> str:
        """Stores the recording of a session and submits its job. The same session always gives the same job."""
        encoding = session.options.encoding
        if session.received_bytes < (encoding.frame_bytes if encoding else 1):
            return ""
        await self._end_preparation(session)
        journal = session.journal
        header = encoding.wav_header(session.received_bytes) if encoding else b""
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
        """Looks after all sessions of this gateway."""
        sessions = list(self._sessions.values())
        for session, error in zip(
            sessions, await asyncio.gather(*map(self._sweep_session, sessions), return_exceptions=True), strict=True
        ):
            if isinstance(error, CarecaError):
                _log.warning(
                    "a live session cannot be looked after",
                    session_id=session.id,
                    reason=error.reason,
                    error=error.message,
                )
            elif error is not None:
                _log.error("a live session cannot be looked after", session_id=session.id, exc_info=error)

    async def _sweep_session(self, session: LiveSession) -> None:
        """Ends the session if it has had no call for long, and forgets it after its end."""
        async with self._lock_of(session.id):
            since = self._without_call.get(session.id)
            if self._sessions.get(session.id) is not session or since is None:
                return
            if session.lost:
                await self._close(session)
            elif session.job_id is not None:
                await self._done(session)
            elif time.monotonic() - since > self._settings.live_idle_seconds:
                if session.failed:
                    self._without_call[session.id] = time.monotonic()  # if that fails, after another while
                    await session.give_up()
                else:
                    session.end()

    async def _done(self, session: LiveSession) -> None:
        """Removes what is kept of a session that has ended, and forgets it."""
        try:
            await session.journal.done()
        except CarecaError as error:
            if not is_lost(error):
                raise
        await self._close(session)

    async def _beat(self, session: LiveSession) -> None:
        """Ends the work on a session if another gateway has continued it."""
        try:
            await session.journal.beat()
        except CarecaError as error:
            if not is_lost(error):
                raise
            session.fail(error)

    async def _adopt_abandoned(self) -> None:
        """Continues sessions whose gateway is gone, unless a caller has continued them elsewhere."""
        if self._stopping.is_set():
            return
        requested_at = self._liveness.now()
        try:
            states = await self._journals.states()
        except CarecaError:
            self._liveness.reset()  # other gateways may not have been able to write their beats either
            raise
        if self._failures != self._journals.failures:
            self._failures = self._journals.failures
            self._liveness.reset()
            return
        for session_id in self._liveness.unchanged(states, requested_at, _SILENCE_SECONDS):
            async with self._lock_of(session_id):
                if session_id in self._sessions or self._stopping.is_set():
                    continue
                try:
                    await self._open(await self._journals.adopt(session_id, states[session_id]))
                except NotFound:
                    continue  # a call or another gateway was faster
                except Exception as error:  # noqa: BLE001 - one damaged session must not stop the others
                    _log.error("a live session cannot be continued", session_id=session_id, exc_info=error)
                else:
                    _log.info("a live session is continued after its gateway is gone", session_id=session_id)


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
    """Writes the recording of a session: a WAV file if it has a header, else the container that was received."""
    write(header)
    size = 0
    for data in journal.audio():
        write(data)
        size += len(data)
    if header and size % 2:
        write(b"\0")  # parts of a WAV file have an even size
