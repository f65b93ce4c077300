"""Reads the recordings of jobs for those who may see the jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager

from careca.cache.single_flight import SingleFlight
from careca.errors import NotFound, PreconditionFailed
from careca.types import SAMPLE_BYTES, SAMPLE_RATE, Digest, Job, Peaks, RecordingForm, RecordingInfo, Waveform
from careca_gateway.ingest.ingest import Ingest
from careca_gateway.jobs.results import errors_logged
from careca_gateway.jobs.service import JobService
from careca_gateway.playback.media_type import MediaType, sniff
from careca_gateway.playback.parts import ByteRange, Window
from careca_gateway.playback.wav import PlayableAudio
from careca_gateway.playback.waveform import BUCKET_BYTES, BUCKET_SECONDS, compute_waveform, merge_buckets
from careca_gateway.request import AudioSelection
from careca_gateway.storage.held_recording import HeldRecording
from careca_gateway.storage.store import Store
from careca_gateway.storage.stored_bytes import Read, StoredBytes

_MAX_KNOWN_TYPES = 1_000
"""How many media types are remembered: a player sends many requests for the same recording."""


class RecordingService:
    """Reads recordings and their decoded audio in parts, and draws the audio.

    All methods raise as ``JobService.get_with_request`` does, and ``NotFound`` (RECORDING_GONE) if the store no longer
    has the recording. Methods that need the decoded audio also raise ``PreconditionFailed`` (NOT_DECODED) if the job
    has not decoded it yet. If it has ended and the store has no audio, they decode it, and raise as ``Ingest.decode``
    does.

    Args:
        jobs: decides who may see a job.
        store: the recordings.
        ingest: decodes recordings.
        work_done: is called after work that took memory, so that it can be released.
    """

    def __init__(self, jobs: JobService, store: Store, ingest: Ingest, work_done: Callable[[], None]) -> None:
        self._jobs = jobs
        self._store = store
        self._ingest = ingest
        self._work_done = work_done
        self._decoding = SingleFlight()
        self._drawing = SingleFlight()
        self._known_types: dict[Digest, MediaType] = {}

    async def read(
        self, submitter: str, job_id: str, form: RecordingForm, part: ByteRange
    ) -> AsyncGenerator[RecordingInfo | bytes, None]:
        """Yields the info of the form, and then the bytes of the part in chunks.

        Raises ``InvalidRequest`` (RANGE_NOT_SATISFIABLE, PLAYABLE_TOO_LARGE).
        """
        job, request = await self._jobs.get_with_request(submitter, job_id)
        with self._store.hold(job.recording) as recording:
            if form is RecordingForm.ORIGINAL:
                info, read = await self._original(recording, job)
            else:
                info, read = await self._playable(recording, job, request.selection)
            chunks = part.chunks(info.size_bytes)
            yield info
            for offset, length in chunks:
                with _reading():
                    chunk = await asyncio.to_thread(read, offset, length)
                yield chunk

    async def waveform(self, submitter: str, job_id: str, window: Window) -> Waveform:
        """Returns the peaks in the window. Raises ``InvalidRequest`` (RANGE_NOT_SATISFIABLE)."""
        job, request = await self._jobs.get_with_request(submitter, job_id)
        with self._store.hold(job.recording) as recording:
            audio = await self._audio(recording, job, request.selection)
            samples = audio[0].digest.size_bytes // SAMPLE_BYTES
            buckets = window.buckets(samples)
            width = window.width(buckets)
            return Waveform(
                bucket_seconds=width * BUCKET_SECONDS,
                start=buckets.start * BUCKET_SECONDS,
                audio_seconds=samples / SAMPLE_RATE,
                channels=tuple([await self._peaks(each, buckets, width) for each in audio]),
            )

    async def _original(self, recording: HeldRecording, job: Job) -> tuple[RecordingInfo, Read]:
        stored = await asyncio.to_thread(recording.open_recording)
        if stored is None:
            raise _gone()
        digest = stored.digest
        media_type = self._known_types.get(digest)
        if media_type is None:
            with _reading():
                media_type = await asyncio.to_thread(sniff, stored.read, digest.size_bytes)
            while len(self._known_types) >= _MAX_KNOWN_TYPES:
                del self._known_types[next(iter(self._known_types))]
            self._known_types[digest] = media_type
        info = RecordingInfo(
            size_bytes=digest.size_bytes,
            content_type=media_type.name,
            browser_plays=media_type.browser_plays,
            display_name=job.display_name,
            entity_tag=digest.sha256,
        )
        return info, stored.read

    async def _playable(
        self, recording: HeldRecording, job: Job, selection: AudioSelection
    ) -> tuple[RecordingInfo, Read]:
        audio = PlayableAudio(await self._audio(recording, job, selection))
        info = RecordingInfo(
            size_bytes=audio.size_bytes,
            content_type="audio/wav",
            browser_plays=True,
            display_name=job.display_name,
            entity_tag=audio.entity_tag,
        )
        return info, audio.read

    async def _audio(self, recording: HeldRecording, job: Job, selection: AudioSelection) -> Sequence[StoredBytes]:
        """Returns the decoded audio, at least one."""
        if audio := await asyncio.to_thread(recording.open_audio, selection):
            return audio
        if not job.state.ended:
            raise PreconditionFailed(
                f"the job {job.id} has not decoded its recording yet: wait until its decode stage has succeeded",
                reason="NOT_DECODED",
            )
        key = f"{recording.digest.sha256}.{selection}"
        async with self._decoding.join(key) as decoded:
            if decoded is None:
                try:
                    await self._ingest.decode(recording, selection, lambda _: None)
                except PreconditionFailed as error:
                    raise (_gone() if error.reason == "RECORDING_MISSING" else error) from error
                finally:
                    self._work_done()
                self._decoding.resolve(key, b"")
        if audio := await asyncio.to_thread(recording.open_audio, selection):
            return audio
        raise _gone()

    async def _peaks(self, audio: StoredBytes, buckets: range, width: int) -> Peaks:
        offset, length = buckets.start * BUCKET_BYTES, len(buckets) * BUCKET_BYTES
        part = await asyncio.to_thread(self._store.waveform, audio.digest, offset, length)
        if part is None:
            part = (await self._draw(audio))[offset : offset + length]
        return await asyncio.to_thread(merge_buckets, part, width)

    async def _draw(self, audio: StoredBytes) -> bytes:
        """Computes the waveform of the audio and stores it. Calls at the same time share the work."""
        key = audio.digest.sha256
        async with self._drawing.join(key) as drawn:
            if drawn is not None:
                return drawn
            try:
                with _reading():
                    waveform = await compute_waveform(audio)
            finally:
                self._work_done()
            with errors_logged():
                await asyncio.to_thread(self._store.put_waveform, audio.digest, waveform)
            self._drawing.resolve(key, waveform)
            return waveform


@contextmanager
def _reading() -> Iterator[None]:
    """Raises ``NotFound`` (RECORDING_GONE) if stored bytes are removed while this context reads them."""
    try:
        yield
    except NotFound as error:
        raise _gone() from error


def _gone() -> NotFound:
    return NotFound(
        "the gateway no longer has the recording of this job: submit it again to listen to it", reason="RECORDING_GONE"
    )
