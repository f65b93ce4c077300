"""The flow of a model service, with an engine that follows a script: no sockets, real threads, real temporary files."""

import asyncio
import errno
import weakref
from contextlib import aclosing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from careca import codec
from careca.errors import InternalError, InvalidRequest, OutOfMemory, Overloaded, PreconditionFailed
from careca.inference import audio, engine_loop
from careca.inference.cached_stage import AudioNeeded, CachedStage, Finished
from careca.inference.engine_thread import EngineThread
from careca.inference.metrics import ModelServiceMetrics
from careca.inference.worker import Worker
from careca.resources.memory import MemoryCleaner
from careca.settings import ModelServiceSettings
from careca.types import (
    ClearScope,
    Digest,
    MemoryRelease,
    MemoryUsage,
    Progress,
    Scheduling,
    SchedulingClass,
    Stage,
    TranscriptionOptions,
)
from careca.v1 import audio_pb2
from support.fakes import SEGMENTS, FakeCache, FakeTranscriberEngine, chunks_of, digest_of, pcm
from support.samples import sample_value
from support.waiting import Clock, happens, settle, until

AUDIO = pcm()
DIGEST = digest_of(AUDIO)
DEFAULTS = TranscriptionOptions()


class Service:
    """One model service with all its parts."""

    def __init__(self, engine=None, *, max_waiting=8, cleaner=MemoryCleaner, **settings):
        self.engine = engine or FakeTranscriberEngine()
        self.worker = Worker(max_waiting=max_waiting)
        self.shared = EngineThread(self.engine)
        self.metrics = ModelServiceMetrics(Stage.TRANSCRIBE, self.shared, self.worker)
        self.cache = FakeCache(self.metrics)
        self.memory = cleaner(self.shared, self.metrics.memory_cleaned)
        self.stage = CachedStage(
            stage=Stage.TRANSCRIBE,
            engine=self.shared,
            encode=codec.encode_transcript,
            message_type=audio_pb2.Transcript,
            cache=self.cache,
            worker=self.worker,
            memory=self.memory,
            metrics=self.metrics,
            settings=ModelServiceSettings(**settings),
        )

    def run(self, audio=AUDIO, *, options=DEFAULTS, skip_cache=False, digest=None, scheduling=None, chunks=None):
        return self.stage.run(
            digest or digest_of(audio),
            options,
            scheduling=scheduling or Scheduling(),
            skip_cache=skip_cache,
            chunks=chunks or chunks_of(audio),
        )

    async def events(self, *args, **kwargs):
        async with aclosing(self.run(*args, **kwargs)) as events:
            return [event async for event in events]

    def start(self, *args, **kwargs):
        """A call in a task of its own."""
        return asyncio.create_task(self.events(*args, **kwargs))

    async def has_begun(self):
        """Returns once an inference runs."""
        await happens(self.engine.started)

    def sample(self, name, **labels):
        return sample_value(self.metrics.registry, name, **labels)


@pytest.fixture
async def service():
    service = Service()
    yield service
    service.engine.may_go_on.set()
    await service.stage.close()


def result_of(events):
    assert isinstance(events[-1], Finished)
    return events[-1]


async def test_a_miss_asks_for_the_audio_then_streams_progress_and_segments_and_the_result(service):
    events = await service.events()

    assert events[:2] == [AudioNeeded(), Progress(Stage.TRANSCRIBE, 0.0)]
    assert [event for event in events if event in SEGMENTS] == list(SEGMENTS)
    assert not result_of(events).cached
    assert codec.decode_transcript(result_of(events).message).segments[0].text == "hello there"
    assert codec.decode_transcript(result_of(events).message).duration == 2.0


async def test_a_hit_answers_at_once_without_audio_and_without_the_engine(service):
    first = await service.events()

    second = await service.events()

    assert second == [Finished(result_of(first).message, cached=True)]
    assert service.engine.inferences == 1
    assert service.sample("careca_cache_requests_total", result="hit") == 1
    assert service.sample("careca_stage_seconds_count", stage="transcribe", cached="true") == 1


class ClockedEngine(FakeTranscriberEngine):
    """Each of its two batches takes 6.25 s of a clock that nothing else moves."""

    clock = Clock()

    def _take_step(self):
        self.clock.seconds += 6.25


async def test_the_time_that_the_cache_saves_is_the_time_of_the_device(monkeypatch):
    monkeypatch.setattr(engine_loop, "time", ClockedEngine.clock)
    service = Service(ClockedEngine())
    service.engine.may_go_on.clear()
    first = service.start()
    await service.has_begun()
    follower = service.start()
    await settle()
    service.engine.may_go_on.set()
    await asyncio.gather(first, follower)
    assert service.sample("careca_cache_saved_seconds_total") == 12.5, "what a follower did not compute itself"

    await service.events()
    await service.events()

    assert service.sample("careca_cache_saved_seconds_total") == 3 * 12.5


async def test_other_options_or_other_audio_are_another_result(service):
    await service.events()
    await service.events(options=TranscriptionOptions(beam_size=1))
    await service.events(pcm(seed=1))

    assert service.engine.inferences == 3
    assert len(service.cache.entries) == 3


async def test_skip_cache_computes_anew_and_overwrites_what_was_stored(service):
    await service.events()
    service.engine.segments = SEGMENTS[:1]

    events = await service.events(skip_cache=True)

    assert AudioNeeded() in events
    assert not result_of(events).cached
    assert service.sample("careca_cache_requests_total", result="bypass") == 1
    assert result_of(await service.events()).message == result_of(events).message


async def test_identical_calls_in_flight_compute_once_and_only_the_first_sends_audio(service):
    service.engine.may_go_on.clear()
    leader = service.start()
    await service.has_begun()
    followers = [service.start() for _ in range(20)]
    await settle()
    await until(lambda: service.worker.in_flight)
    assert (service.worker.in_flight, service.worker.waiting) == (1, 0)

    service.engine.may_go_on.set()
    result = result_of(await leader)

    assert await asyncio.gather(*followers) == [[Finished(result.message, cached=True)]] * 20
    assert service.engine.inferences == 1
    assert service.sample("careca_cache_requests_total", result="coalesced") == 20


async def test_when_the_first_of_identical_calls_fails_another_takes_over(service):
    service.engine.failures = [OutOfMemory("too much")]
    service.engine.may_go_on.clear()
    leader = service.start()
    await service.has_begun()
    followers = [service.start() for _ in range(2)]
    await settle()

    service.engine.may_go_on.set()

    with pytest.raises(OutOfMemory):
        await leader
    answers = [result_of(events) for events in await asyncio.gather(*followers)]
    assert sorted(answer.cached for answer in answers) == [False, True]
    assert service.engine.inferences == 2


async def test_when_the_first_caller_disconnects_another_takes_over(service):
    service.engine.may_go_on.clear()
    leader = service.start()
    await service.has_begun()
    follower = service.start()
    await settle()

    leader.cancel()
    service.engine.may_go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await leader
    assert not result_of(await follower).cached


async def test_a_cancelled_call_stops_the_engine_and_frees_its_slot_and_its_place(service):
    service.engine.may_go_on.clear()
    call = service.start()
    await service.has_begun()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert service.engine.cancellations == 1
    assert (service.worker.in_flight, service.worker.waiting) == (0, 0)
    assert service.cache.entries == {}
    service.engine.may_go_on.set()
    assert not result_of(await service.events()).cached


async def test_a_caller_that_stops_listening_stops_the_engine():
    service = Service(FakeTranscriberEngine(steps=10_000, step_seconds=0.001))

    async with aclosing(service.run()) as events:
        async for event in events:
            if isinstance(event, Progress) and event.fraction:
                break

    assert service.engine.cancellations == 1
    assert service.engine.running == 0
    assert (service.worker.in_flight, service.worker.waiting) == (0, 0)


@pytest.mark.parametrize(
    "sent", [AUDIO[:-2], AUDIO + b"\0\0", b"\1" + AUDIO[1:], b""], ids=["short", "long", "other", "nothing"]
)
async def test_audio_that_does_not_match_its_digest_is_refused_and_nothing_is_stored(service, sent):
    with pytest.raises(InvalidRequest) as refusal:
        await service.events(sent, digest=DIGEST)

    assert refusal.value.reason == "DIGEST_MISMATCH"
    assert service.cache.entries == {}
    assert service.engine.inferences == 0
    assert (service.worker.in_flight, service.worker.waiting) == (0, 0)


async def test_audio_with_an_odd_number_of_bytes_is_refused_before_it_is_requested(service):
    with pytest.raises(InvalidRequest) as refusal:
        await service.events(digest=Digest(DIGEST.sha256, 3))

    assert refusal.value.field == "config.audio.size_bytes"


async def test_audio_that_is_too_long_is_refused_before_it_is_requested():
    service = Service(max_audio_seconds=1.5)

    with pytest.raises(InvalidRequest) as refusal:
        await service.events()

    assert refusal.value.reason == "AUDIO_TOO_LONG"
    assert not result_of(await service.events(pcm(1.5))).cached


async def test_audio_without_samples_is_accepted(service):
    events = await service.events(b"")

    assert codec.decode_transcript(result_of(events).message).duration == 0.0


async def test_what_the_engine_raises_reaches_the_caller_and_is_not_stored(service):
    service.engine.failures = [OutOfMemory("too much"), ValueError("a bug")]

    with pytest.raises(OutOfMemory):
        await service.events()
    with pytest.raises(InternalError, match="ValueError"):
        await service.events()

    assert service.cache.entries == {}
    assert service.sample("careca_out_of_memory_total") == 1
    assert not result_of(await service.events()).cached


async def test_missing_weights_reach_the_caller(service):
    service.engine.load_failure = PreconditionFailed("no weights")

    with pytest.raises(PreconditionFailed):
        await service.events()
    with pytest.raises(PreconditionFailed):
        await service.stage.warm_up()


async def test_calls_without_a_free_place_are_refused_before_audio_is_requested():
    service = Service(max_waiting=1)
    service.engine.may_go_on.clear()
    calls = [service.start(pcm(seed=seed)) for seed in range(2)]
    await service.has_begun()

    with pytest.raises(Overloaded) as refusal:
        await service.events(pcm(seed=2))

    assert refusal.value.retry_after_seconds >= 1
    service.engine.may_go_on.set()
    await asyncio.gather(*calls)
    assert not result_of(await service.events(pcm(seed=2))).cached


async def test_a_hit_is_answered_however_many_wait():
    service = Service(max_waiting=0)
    await service.events()
    service.engine.started.clear()
    service.engine.may_go_on.clear()
    call = service.start(pcm(seed=1))
    await service.has_begun()

    assert result_of(await service.events()).cached

    service.engine.may_go_on.set()
    await call


class WatchedEngine(FakeTranscriberEngine):
    """Keeps a weak reference to a working copy of the audio, such as a model creates."""

    def infer(self, audio, options):
        samples = audio.float32()
        self.audio, self.samples = weakref.ref(audio.samples), weakref.ref(samples)
        return (yield from super().infer(audio, options))


class WatchingCleaner(MemoryCleaner):
    """Records which parts of the audio still exist at the cleanup."""

    def clean_up(self, model=None):
        engine = self._model._engine
        self.left = (engine.audio(), engine.samples())
        return super().clean_up(model)


@pytest.mark.parametrize("failures", [[], [OutOfMemory("too much")]], ids=["after success", "after failure"])
async def test_memory_is_cleaned_up_after_every_task_when_the_audio_has_been_dropped(failures):
    service = Service(WatchedEngine(failures=failures), cleaner=WatchingCleaner)

    await asyncio.gather(service.events(), return_exceptions=True)

    assert service.memory.left == (None, None)


async def test_memory_is_cleaned_up_after_a_cancelled_task():
    service = Service(WatchedEngine(), cleaner=WatchingCleaner)
    service.engine.may_go_on.clear()
    call = service.start()
    await service.has_begun()

    call.cancel()
    await asyncio.gather(call, return_exceptions=True)

    assert service.memory.left == (None, None)


@pytest.mark.parametrize("failures", [[], [OutOfMemory("too much")]], ids=["after success", "after failure"])
async def test_the_disk_space_of_the_audio_is_freed(failures, tmp_path):
    service = Service(FakeTranscriberEngine(failures=failures), spool_dir=tmp_path)
    service.engine.may_go_on.clear()
    call = service.start()
    await service.has_begun()
    assert open_files_in(tmp_path)

    service.engine.may_go_on.set()
    await asyncio.gather(call, return_exceptions=True)

    assert not open_files_in(tmp_path)
    assert not list(tmp_path.iterdir())


def full_disk(**_):
    return Path("/dev/full").open("r+b", buffering=0)


async def test_a_full_disk_is_an_error_to_try_again_after(monkeypatch, tmp_path):
    service = Service(FakeTranscriberEngine(), spool_dir=tmp_path)

    with monkeypatch.context() as full:
        full.setattr(audio.tempfile, "TemporaryFile", full_disk)
        with capture_logs() as logs, pytest.raises(Overloaded, match="disk of the service is full") as refusal:
            await service.events()

    assert (refusal.value.reason, refusal.value.retry_after_seconds) == ("DISK_FULL", 10.0)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["the disk is full"]
    assert await service.events()


async def test_a_full_disk_of_the_engine_is_the_same_error(tmp_path):
    engine = FakeTranscriberEngine(failures=[OSError(errno.ENOSPC, "No space left on device")])
    service = Service(engine, spool_dir=tmp_path)

    with capture_logs() as logs, pytest.raises(Overloaded) as refusal:
        await service.events()

    assert refusal.value.reason == "DISK_FULL"
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["the disk is full"]


def open_files_in(folder):
    """Open files of this process in ``folder``, including unlinked ones."""
    links = [descriptor.readlink() for descriptor in Path("/proc/self/fd").iterdir() if descriptor.is_symlink()]
    return [link for link in links if link.is_relative_to(folder)]


async def test_releasing_memory_waits_for_the_running_task_and_the_next_one_loads_again(service):
    await service.stage.warm_up()
    service.engine.may_go_on.clear()
    call = service.start()
    await service.has_begun()
    releasing = asyncio.create_task(service.stage.release_memory())
    await asyncio.sleep(0.02)
    assert service.engine.loaded
    assert not releasing.done()

    service.engine.may_go_on.set()
    await call

    assert (await releasing).models_unloaded
    assert not service.engine.loaded
    await service.events(pcm(seed=1))
    assert service.engine.loads == 2


async def test_tasks_that_come_while_a_release_waits_do_not_overtake_it(service):
    await service.stage.warm_up()
    service.engine.may_go_on.clear()
    first = service.start()
    await service.has_begun()
    releasing = asyncio.create_task(service.stage.release_memory())
    await settle()
    second = service.start(pcm(seed=1))
    await until(lambda: service.worker.waiting)
    await settle()
    assert service.engine.inferences == 1

    service.engine.may_go_on.set()
    await asyncio.gather(first, second)

    assert (await releasing).models_unloaded
    assert service.engine.loads == 2


async def test_tasks_compute_at_the_same_time(service):
    service.engine.may_go_on.clear()
    calls = [service.start(pcm(seed=seed)) for seed in range(3)]
    await until(lambda: service.engine.running == 3 and service.worker.in_flight == 3)

    service.engine.may_go_on.set()

    assert not any(result_of(events).cached for events in await asyncio.gather(*calls))


async def test_batches_and_waits_are_counted_by_class(service):
    await service.events(scheduling=Scheduling(SchedulingClass.BATCH, "ana"))

    assert service.sample("careca_scheduler_step_seconds_count", **{"class": "batch"}) >= 2
    assert service.sample("careca_scheduler_step_seconds_count", **{"class": "interactive"}) == 0
    assert service.sample("careca_scheduler_wait_seconds_count", **{"class": "batch"}) == 1
    assert service.sample("careca_scheduler_batch_items_sum") >= 2
    assert service.sample("careca_scheduler_shared_steps_total", **{"class": "batch"}) == 0


async def test_the_scheduling_of_a_call_does_not_change_its_result(service):
    first = await service.events(scheduling=Scheduling(SchedulingClass.BATCH, "ana"))

    assert await service.events() == [Finished(result_of(first).message, cached=True)]


async def test_what_the_engines_process_gave_back_counts_as_memory_before_the_cleanup(service):
    released = MemoryRelease(MemoryUsage(500, 0, 70, 80), MemoryUsage(100, 0, 60, 50))

    cleaned = service.memory.clean_up(released)

    assert cleaned.before.gpu_reserved_bytes - cleaned.after.gpu_reserved_bytes == 30
    assert cleaned.before.gpu_allocated_bytes - cleaned.after.gpu_allocated_bytes == 10


async def test_clearing_all_empties_the_cache_and_unloads_the_models(service):
    await service.events()

    clearance, release = await service.stage.clear_cache(ClearScope.ALL)

    assert clearance.removed_entries == 1
    assert release.models_unloaded
    assert not service.engine.loaded
    assert not result_of(await service.events()).cached


async def test_clearing_expired_entries_keeps_the_models(service):
    await service.events()

    _, release = await service.stage.clear_cache(ClearScope.EXPIRED)

    assert not release.models_unloaded
    assert service.engine.loaded
    assert release.before.rss_bytes > 0
    assert result_of(await service.events()).cached


async def test_statistics_say_what_the_service_is_doing(service):
    await service.stage.warm_up()
    service.engine.may_go_on.clear()
    may_send = asyncio.Event()

    async def late_chunks():
        await may_send.wait()
        async for chunk in chunks_of(pcm(seed=1)):
            yield chunk

    calls = [service.start(), service.start(pcm(seed=1), chunks=late_chunks())]
    await until(lambda: service.worker.in_flight and service.worker.waiting)

    stats = await service.stage.stats()

    assert (stats.in_flight, stats.waiting) == (1, 1)
    may_send.set()
    await until(lambda: service.worker.in_flight == 2)
    assert (stats.models_loaded, stats.model, stats.device) == (True, service.engine.model, "cpu")
    assert stats.cache.available
    assert stats.memory.rss_bytes > 0
    service.engine.may_go_on.set()
    await asyncio.gather(*calls)


async def test_models_are_unloaded_after_an_idle_time_and_again_after_the_next_one():
    service = Service(idle_release_seconds=0.05)
    await service.stage.start()
    assert service.engine.loaded

    await happens(service.engine.unloaded)
    await service.events()
    assert service.engine.loads == 2
    await happens(service.engine.unloaded)

    await service.stage.close()


async def test_a_task_longer_than_the_idle_time_keeps_its_models():
    service = Service(idle_release_seconds=0.02)
    await service.stage.start()
    service.engine.may_go_on.clear()
    call = service.start()
    await service.has_begun()

    await asyncio.sleep(0.1)

    assert service.engine.loaded
    service.engine.may_go_on.set()
    assert not result_of(await call).cached
    await service.stage.close()


async def test_without_an_idle_time_models_stay_loaded(service):
    await service.stage.start()
    await asyncio.sleep(0.05)

    assert service.engine.loaded


async def test_closing_closes_the_cache():
    service = Service()
    await service.stage.start()
    await service.stage.close()

    assert service.cache.closed


def task_lines(logs):
    return [line for line in logs if line["event"] == "task finished"]


async def test_each_task_writes_one_log_line(service):
    with capture_logs() as logs:
        await service.events()
        await service.events()

    computed, cached = task_lines(logs)
    assert computed["audio"] == DIGEST.sha256
    assert (computed["outcome"], computed["cache"], computed["audio_seconds"]) == ("SUCCEEDED", "miss", 2.0)
    assert computed["rss_before_bytes"] > 0
    assert computed["compute_seconds"] >= 0
    assert (cached["outcome"], cached["cache"]) == ("SUCCEEDED", "hit")
    assert "rss_before_bytes" not in cached


async def test_the_log_says_how_a_task_ended(service):
    service.engine.failures = [OutOfMemory("too much"), ValueError("a bug")]
    with capture_logs() as logs:
        for _ in range(2):
            await asyncio.gather(service.events(), return_exceptions=True)
        service.engine.started.clear()
        service.engine.may_go_on.clear()
        call = service.start()
        await service.has_begun()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    assert [line["outcome"] for line in task_lines(logs)] == ["OUT_OF_MEMORY", "INTERNAL", "CANCELLED"]


async def test_the_seconds_of_processed_audio_are_counted(service):
    await service.events()
    await service.events()

    assert service.sample("careca_audio_seconds_total", stage="transcribe") == 2.0
    assert service.sample("careca_stage_seconds_count", stage="transcribe", cached="false") == 1
