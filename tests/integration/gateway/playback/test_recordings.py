"""Reading and drawing the recordings of jobs: a real gateway, its decoder and Redis; scripted engines."""

from __future__ import annotations

import asyncio
import io
import os
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from careca.errors import InvalidRequest, NotFound, PreconditionFailed
from careca.rpc.statuses import responses_of, translated_errors
from careca.types import Job, JobState, RecordingForm, RecordingInfo
from careca.v1 import gateway_pb2, recordings_pb2
from careca_gateway.playback import service as service_module
from careca_gateway.playback.waveform import BUCKET_SAMPLES, compute_waveform
from careca_gateway.storage.stored_bytes import StoredBytes
from support.fakes import digest_of
from support.media import recording, tone, wav
from support.redis_server import RedisServer
from support.s3_server import BUCKET
from support.stack import Stack
from support.submitters import RECORDING, Submitter, both_compute, pause_models, resume_models, submitting
from support.waiting import until

ORIGINAL, PLAYABLE = RecordingForm.ORIGINAL, RecordingForm.PLAYABLE

MP3 = recording("mp3", "libmp3lame", 3.0)
STEREO = wav(tone(2.0, channels=2, hertz=(440, 880)))
LONG = wav(np.random.default_rng(7).integers(-20_000, 20_000, (40 * 16_000, 1)).astype(np.int16))
"""More than one chunk."""


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    async with Stack(tmp_path, redis_server.url, jobs=True) as stack:
        yield stack


@pytest.fixture
async def ana(stack: Stack) -> AsyncIterator[Submitter]:
    async with submitting(stack, "ana") as submitter:
        yield submitter


async def done(submitter: Submitter, data: bytes, **config: Any) -> Job:
    job = await submitter.ended(await submitter.submit(data, **config))
    assert job.state is JobState.SUCCEEDED
    return job


def samples_of(data: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


async def test_the_original_is_what_was_uploaded(ana: Submitter) -> None:
    info, data = await ana.read(await done(ana, MP3, display_name="call.exe"), ORIGINAL)

    assert data == MP3
    assert info == RecordingInfo(len(MP3), "audio/mpeg", True, "call.exe", digest_of(MP3).sha256)


async def test_the_playable_form_is_a_wav_file_of_the_decoded_audio(stack: Stack, ana: Submitter) -> None:
    info, data = await ana.read(await done(ana, MP3, display_name="call.mp3"), PLAYABLE)

    (audio,) = (stack.store / "audio").iterdir()
    assert samples_of(data).tobytes() == audio.read_bytes()
    assert (info.size_bytes, info.content_type, info.browser_plays) == (len(data), "audio/wav", True)
    assert (info.display_name, len(info.entity_tag)) == ("call.mp3", 64)


@pytest.mark.parametrize("form", [ORIGINAL, PLAYABLE])
async def test_every_range_has_the_bytes_of_the_whole(ana: Submitter, form: RecordingForm) -> None:
    job = await done(ana, LONG)
    whole, data = await ana.read(job, form)
    size = len(data)
    assert size == whole.size_bytes > 1 << 20

    ranges = [(0, 1), (0, 44), (43, 3), (45, 1), (1 << 20, 0), (7, (1 << 20) + 1), (size - 1, 0), (5, size)]
    for offset, length in ranges:
        info, part = await ana.read(job, form, offset=offset, length=length)
        assert part == data[offset : offset + length if length else size], (offset, length)
        assert info == whole


async def test_chunks_have_at_most_a_mebibyte(ana: Submitter) -> None:
    job = await done(ana, LONG)
    request = recordings_pb2.ReadRecordingRequest(job_id=job.id, form=recordings_pb2.RECORDING_FORM_ORIGINAL)

    responses = [each async for each in responses_of(ana.recordings.ReadRecording(request, **ana.terms))]

    assert [len(each.chunk) for each in responses[1:]] == [1 << 20, len(LONG) - (1 << 20)]


async def test_separate_channels_are_mixed_to_be_played_and_drawn_apart(stack: Stack, ana: Submitter) -> None:
    job = await done(ana, STEREO, channel_mode=gateway_pb2.CHANNEL_MODE_SEPARATE)
    channels = [np.frombuffer(path.read_bytes(), "<i2") for path in (stack.store / "audio").iterdir()]
    assert len(channels) == 2

    _, data = await ana.read(job, PLAYABLE)
    waveform = await ana.waveform(job)

    assert np.array_equal(samples_of(data), np.clip(np.sum(channels, axis=0, dtype=int), -32768, 32767))
    highest = [[int(part.max()) >> 8 for part in np.split(channel, 100)] for channel in channels]
    assert sorted([list(peaks.maxima) for peaks in waveform.channels]) == sorted(highest)


async def test_a_waveform_has_the_peaks_of_the_decoded_audio(ana: Submitter) -> None:
    loud, quiet = tone(1.0), tone(1.0) // 4
    job = await done(ana, wav(np.concatenate((quiet, loud))))

    waveform = await ana.waveform(job)
    part = await ana.waveform(job, start_offset=Duration(nanos=990_000_000), end_offset=Duration(seconds=9))
    few = await ana.waveform(job, max_buckets=2)

    assert (waveform.bucket_seconds, waveform.start, waveform.audio_seconds) == (0.02, 0.0, 2.0)
    (peaks,) = waveform.channels
    low, high = np.frombuffer(peaks.minima, np.int8), np.frombuffer(peaks.maxima, np.int8)
    assert (len(low), len(high)) == (100, 100)
    assert np.all(high[:50] == 3000 >> 8)
    assert np.all(high[51:] == 12_000 >> 8)
    assert np.all(low[51:] == -12_000 >> 8)
    assert (part.start, part.bucket_seconds) == (0.98, 0.02)
    assert part.channels[0].maxima == peaks.maxima[49:]
    assert (few.bucket_seconds, few.channels[0].maxima) == (1.0, bytes([max(high[:50]), max(high[50:])]))


async def test_a_waveform_is_computed_once_and_removed_with_its_audio(
    stack: Stack, ana: Submitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, computed = await done(ana, RECORDING), []

    async def counted(audio: StoredBytes) -> bytes:
        computed.append(audio.digest)
        return await compute_waveform(audio)

    monkeypatch.setattr(service_module, "compute_waveform", counted)
    first, *others = await asyncio.gather(*(ana.waveform(job) for _ in range(5)))
    again = await ana.waveform(job)

    assert all(each == first for each in (*others, again))
    assert len(computed) == 1
    (stored,) = (stack.store / "waveforms").iterdir()
    assert stored.stat().st_size == 2 * (2 * 16_000 // BUCKET_SAMPLES)

    await stack.stop_gateway()
    for path in (stack.store / "audio").iterdir():
        os.utime(path, (0, 0))
    await stack.start_gateway()  # which sweeps the store
    await until(lambda: not any((stack.store / "audio").iterdir()))
    await until(lambda: not any((stack.store / "waveforms").iterdir()))


async def test_audio_that_was_removed_is_decoded_again(stack: Stack, ana: Submitter) -> None:
    job = await done(ana, MP3)
    _, before = await ana.read(job, PLAYABLE)
    for path in (stack.store / "audio").iterdir():
        path.unlink()

    (_, after), waveform = await asyncio.gather(ana.read(job, PLAYABLE), ana.waveform(job))

    assert after == before
    assert waveform.channels


async def test_a_recording_that_is_gone_is_not_found(stack: Stack, ana: Submitter) -> None:
    job = await done(ana, MP3)
    for folder in ("recordings", "audio"):
        for path in (stack.store / folder).iterdir():
            path.unlink()

    for call in (ana.read(job, ORIGINAL), ana.read(job, PLAYABLE), ana.waveform(job)):
        with pytest.raises(NotFound) as missing:
            await call
        assert missing.value.reason == "RECORDING_GONE"


async def test_audio_that_is_kept_without_its_recording_can_be_played(stack: Stack, ana: Submitter) -> None:
    job = await done(ana, MP3)
    for path in (stack.store / "recordings").iterdir():
        path.unlink()

    assert (await ana.read(job, PLAYABLE))[1]
    with pytest.raises(NotFound) as missing:
        await ana.read(job, ORIGINAL)
    assert missing.value.reason == "RECORDING_GONE"


async def test_a_recording_is_read_while_its_job_works_and_before_it_is_decoded(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with (
        Stack(tmp_path, "", jobs=True, jobs_redis_url=redis_server.url, gateway_settings={"job_slots": 1}) as stack,
        submitting(stack, "ana") as ana,
    ):
        pause_models(stack)
        running = await ana.submit(RECORDING)
        await both_compute(stack)
        queued = await ana.submit(MP3)

        assert (await ana.read(queued, ORIGINAL))[1] == MP3
        for call in (ana.read(queued, PLAYABLE), ana.waveform(queued)):
            with pytest.raises(PreconditionFailed) as early:
                await call
            assert early.value.reason == "NOT_DECODED"
        assert (await ana.read(running, PLAYABLE))[1] == RECORDING

        resume_models(stack)
        await ana.ended(queued)
        assert (await ana.read(queued, PLAYABLE))[1]


async def test_only_those_who_see_the_job_can_read_its_recording(stack: Stack, ana: Submitter) -> None:
    job = await done(ana, MP3)

    async with submitting(stack, "bob") as bob:
        for call in (bob.read(job, ORIGINAL), bob.read(job, PLAYABLE), bob.waveform(job), bob.get(job)):
            with pytest.raises(NotFound) as missing:
                await call
            assert missing.value.reason == "JOB_NOT_FOUND"


async def test_a_job_of_another_submitter_looks_like_a_removed_job(stack: Stack, ana: Submitter) -> None:
    async def answers(submitter: Submitter) -> list[tuple[str, str, dict[str, str]]]:
        errors = []
        for call in (submitter.read(job, ORIGINAL), submitter.waveform(job), submitter.get(job)):
            with pytest.raises(NotFound) as missing:
                await call
            errors.append((missing.value.reason, missing.value.message, missing.value.metadata))
        return errors

    job = await done(ana, MP3)
    async with submitting(stack, "bob") as bob:
        hidden = await answers(bob)
    await ana.delete(job)

    assert await answers(ana) == hidden


READ: dict[str, tuple[dict[str, Any], str, str]] = {
    "no form": ({"form": 0}, "form", "INVALID_REQUEST"),
    "unknown form": ({"form": 9}, "form", "INVALID_REQUEST"),
    "offset before the start": ({"offset": -1}, "offset", "INVALID_REQUEST"),
    "negative length": ({"length": -1}, "length", "INVALID_REQUEST"),
    "offset at the end": ({"offset": len(MP3)}, "offset", "RANGE_NOT_SATISFIABLE"),
    "offset far after the end": ({"offset": 2**63 - 1}, "offset", "RANGE_NOT_SATISFIABLE"),
}


@pytest.mark.parametrize(("fields", "field", "reason"), READ.values(), ids=READ)
async def test_every_wrong_field_of_a_read_is_refused(
    ana: Submitter, fields: dict[str, Any], field: str, reason: str
) -> None:
    job = await done(ana, MP3)
    request = recordings_pb2.ReadRecordingRequest(**{"job_id": job.id, "form": 1} | fields)

    with pytest.raises(InvalidRequest) as refused:
        [_ async for _ in responses_of(ana.recordings.ReadRecording(request, **ana.terms))]

    assert (refused.value.field, refused.value.reason) == (field, reason)
    if reason == "RANGE_NOT_SATISFIABLE":
        assert refused.value.metadata["size_bytes"] == str(len(MP3))


WAVEFORM: dict[str, tuple[dict[str, Any], str, str]] = {
    "start before the start": ({"start_offset": Duration(nanos=-1)}, "start_offset", "INVALID_REQUEST"),
    "start after the end": ({"start_offset": Duration(seconds=4)}, "start_offset", "RANGE_NOT_SATISFIABLE"),
    "end at the start": (
        {"start_offset": Duration(seconds=1), "end_offset": Duration(seconds=1)},
        "end_offset",
        "INVALID_REQUEST",
    ),
    "end at zero": ({"end_offset": Duration()}, "end_offset", "INVALID_REQUEST"),
    "negative buckets": ({"max_buckets": -1}, "max_buckets", "INVALID_REQUEST"),
}


@pytest.mark.parametrize(("fields", "field", "reason"), WAVEFORM.values(), ids=WAVEFORM)
async def test_every_wrong_field_of_a_waveform_is_refused(
    ana: Submitter, fields: dict[str, Any], field: str, reason: str
) -> None:
    job = await done(ana, MP3)

    with pytest.raises(InvalidRequest) as refused:
        await ana.waveform(job, **fields)

    assert (refused.value.field, refused.value.reason) == (field, reason)


@pytest.mark.parametrize("job_id", ["", "x", "0" * 65, "../../etc/passwd"])
async def test_ids_of_no_job_are_not_found(ana: Submitter, job_id: str) -> None:
    read = recordings_pb2.ReadRecordingRequest(job_id=job_id, form=recordings_pb2.RECORDING_FORM_ORIGINAL)

    with pytest.raises(NotFound):
        [_ async for _ in responses_of(ana.recordings.ReadRecording(read, **ana.terms))]
    with pytest.raises(NotFound), translated_errors():
        await ana.recordings.GetWaveform(recordings_pb2.GetWaveformRequest(job_id=job_id), **ana.terms)


async def test_a_gateway_without_jobs_says_so(tmp_path: Path) -> None:
    async with Stack(tmp_path, "") as stack, submitting(stack) as anyone:
        read = recordings_pb2.ReadRecordingRequest(job_id="1", form=recordings_pb2.RECORDING_FORM_ORIGINAL)
        with pytest.raises(PreconditionFailed) as off:
            [_ async for _ in responses_of(anyone.recordings.ReadRecording(read, **anyone.terms))]
        assert off.value.reason == "JOBS_OFF"
        with pytest.raises(PreconditionFailed), translated_errors():
            await anyone.recordings.GetWaveform(recordings_pb2.GetWaveformRequest(job_id="1"), **anyone.terms)


@pytest.mark.parametrize("kind", ["file", "s3"])
async def test_another_gateway_reads_what_is_shared_without_fetching_it(
    kind: str, tmp_path: Path, redis_server: RedisServer, request: pytest.FixtureRequest
) -> None:
    url = (tmp_path / "shared").as_uri()
    if kind == "s3":
        request.getfixturevalue("s3_server")
        url = f"s3://{BUCKET}/careca"
    common: dict[str, Any] = {"redis_url": "", "jobs": True, "jobs_redis_url": redis_server.url}
    shared = {"store_url": url, "store_allow_http": True}
    async with (
        Stack(tmp_path / "one", gateway_settings=shared, **common) as one,
        submitting(one, "ana") as first,
    ):
        job = await done(first, LONG)
        pictures = await first.waveform(job)
        async with Stack(tmp_path / "two", gateway_settings=shared, **common) as two, submitting(two, "ana") as second:
            assert (await second.read(job, ORIGINAL))[1] == LONG
            assert (await second.read(job, PLAYABLE, offset=1 << 20))[1] == LONG[1 << 20 :]
            assert await second.waveform(job) == pictures
            assert [path for path in two.store.rglob("*") if path.is_file() and path.name != "owner.lock"] == []
