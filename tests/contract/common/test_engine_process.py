"""An engine in a child process works like one in this process, and its memory is freed with the process."""

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest

from careca.errors import Cancelled, InternalError, OutOfMemory, PreconditionFailed
from careca.inference.audio import Audio, AudioSpool
from careca.inference.engine_process import EngineProcess
from careca.inference.shared_engine import CancelToken, CleanedUp
from careca.resources.memory import measure_memory
from careca.settings import ModelServiceSettings
from careca.types import DiarizationOptions, GpuMemory, Progress, Scheduling, SchedulingClass
from support import process_engines
from support.fakes import digest_of, pcm
from support.waiting import HANG_SECONDS

OPTIONS = DiarizationOptions(speaker_count=3)
AUDIO = Audio(np.arange(16_000, dtype=np.int16))

Start = Callable[[Callable[[ModelServiceSettings], object]], EngineProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    """Creates engines in child processes, and ends these after the test."""
    engines: list[EngineProcess] = []

    def make(build: Callable[[ModelServiceSettings], object]) -> EngineProcess:
        engines.append(EngineProcess(build, ModelServiceSettings(log_level="error")))
        return engines[-1]

    yield make
    for engine in engines:
        engine.unload()


def diarize(engine: EngineProcess, audio: Audio = AUDIO, cancel: CancelToken | None = None, emit=lambda _: None):
    return engine.infer(audio, OPTIONS, Scheduling(), cancel or CancelToken(), emit).result


def progress_only(emit: Callable[[Progress], None]) -> Callable[[object], None]:
    return lambda occurred: emit(occurred) if isinstance(occurred, Progress) else None


def speaker(result) -> list[str]:
    return result.turns[0].speaker.split("/")


def test_the_model_and_the_device_are_known_before_loading(start):
    engine = start(process_engines.echo)

    assert (engine.model, engine.device, engine.loaded) == ("fake@0123456789ab", "cpu", False)


def test_audio_and_options_arrive_and_events_and_the_result_come_back(start):
    engine = start(process_engines.echo)
    engine.load()
    events: list[Progress] = []

    result = diarize(engine, emit=progress_only(events.append))

    assert speaker(result)[:2] == [str(sum(range(16_000))), "3"]
    assert result.duration == 1.0
    assert [event.fraction for event in events] == [0.5, 1.0]


def test_the_work_is_done_in_another_process(start):
    engine = start(process_engines.echo)
    engine.load()

    assert int(speaker(diarize(engine))[2]) != os.getpid()


def test_spooled_audio_is_read_from_its_own_file(start):
    engine = start(process_engines.echo)
    engine.load()
    data = pcm(2.0, seed=7)

    with AudioSpool(digest_of(data)) as spool:
        spool.write(data)
        audio = spool.finish()
        assert audio.descriptor is not None
        result = diarize(engine, audio)

    assert result.duration == 2.0
    assert speaker(result)[0] == str(7 * 32_000)


def test_audio_without_samples_arrives(start):
    engine = start(process_engines.echo)
    engine.load()

    assert diarize(engine, Audio(np.zeros(0, dtype=np.int16))).duration == 0.0


def test_cancelling_ends_the_inference_and_the_next_one_works(start):
    engine = start(process_engines.slow)
    engine.load()
    cancel, begun = CancelToken(), threading.Event()
    threading.Thread(target=lambda: begun.wait() and cancel.cancel()).start()

    with pytest.raises(Cancelled):
        diarize(engine, cancel=cancel, emit=progress_only(lambda _: begun.set()))

    again = CancelToken()
    with pytest.raises(Cancelled):
        diarize(engine, cancel=again, emit=progress_only(lambda _: again.cancel()))
    assert engine.loaded


def test_an_expected_error_of_the_engine_is_passed_on_and_the_engine_stays_loaded(start):
    engine = start(process_engines.refusing)
    engine.load()

    with pytest.raises(OutOfMemory, match="too little memory") as refused:
        diarize(engine)

    assert refused.value.metadata == {"device": "cpu"}
    assert engine.loaded
    assert diarize(engine).duration == 1.0


def test_a_bug_of_the_engine_is_an_internal_error_without_its_text(start):
    engine = start(process_engines.buggy)
    engine.load()

    with pytest.raises(InternalError, match="ValueError") as failed:
        diarize(engine)

    assert "secret" not in str(failed.value)


def test_an_engine_that_cannot_be_created_reports_the_reason(start):
    with pytest.raises(PreconditionFailed, match="weights are missing"):
        start(process_engines.without_weights)


def in_thread(engine: EngineProcess, audio: Audio = AUDIO, scheduling: Scheduling | None = None, emit=lambda _: None):
    """Infers in a thread; returns the future with what the engine answers."""
    pool = ThreadPoolExecutor(1)
    return pool.submit(engine.infer, audio, OPTIONS, scheduling or Scheduling(), CancelToken(), emit)


def test_an_interactive_request_ends_before_a_batch_request_that_came_earlier(start):
    engine = start(process_engines.slow)
    engine.load()
    begun, cancel = threading.Event(), CancelToken()
    batch = Scheduling(SchedulingClass.BATCH)
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(engine.infer, AUDIO, OPTIONS, batch, cancel, progress_only(lambda _: begun.set()))
        assert begun.wait(HANG_SECONDS)

        short = diarize(engine, Audio(np.zeros(0, dtype=np.int16)))

        assert short.duration == 0.0
        assert not long.done()
        cancel.cancel()
        with pytest.raises(Cancelled):
            long.result(HANG_SECONDS)


def test_requests_that_compute_at_the_same_time_get_their_own_results_and_events(start):
    engine = start(process_engines.echo)
    engine.load()
    audios = [Audio(np.full(1600 * (number + 1), number, dtype=np.int16)) for number in range(8)]
    events: list[list[float]] = [[] for _ in audios]

    futures = [
        in_thread(engine, audio, emit=progress_only(lambda event, told=told: told.append(event.fraction)))
        for audio, told in zip(audios, events, strict=True)
    ]

    for number, future in enumerate(futures):
        assert speaker(future.result(HANG_SECONDS).result)[0] == str(1600 * (number + 1) * number)
    assert events == [[0.5, 1.0]] * 8


def test_the_death_of_the_process_fails_all_requests_in_it(start):
    engine = start(process_engines.slow)
    engine.load()
    begun = [threading.Event() for _ in range(3)]
    futures = [in_thread(engine, emit=progress_only(lambda _, event=event: event.set())) for event in begun]
    assert all(event.wait(HANG_SECONDS) for event in begun)
    (child,) = [each for each in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(each.cmdline())]

    child.kill()

    for future in futures:
        with pytest.raises(OutOfMemory, match="killed"):
            future.result(HANG_SECONDS)
    with pytest.raises(OutOfMemory):
        diarize(engine)


def test_memory_is_given_back_after_each_request_and_the_release_is_told(start):
    engine = start(process_engines.refusing)
    engine.load()
    told: list[object] = []

    with pytest.raises(OutOfMemory):
        diarize(engine, emit=told.append)
    diarize(engine, emit=told.append)

    releases = [each.memory for each in told if isinstance(each, CleanedUp)]
    assert len(releases) == 2
    assert all(release.after.rss_bytes > 0 for release in releases)


def test_an_emitter_that_fails_cancels_its_request_alone(start):
    engine = start(process_engines.slow)
    engine.load()

    def fail(_: object) -> None:
        raise RuntimeError("the loop is closed")

    with pytest.raises(RuntimeError, match="closed"):
        diarize(engine, emit=progress_only(fail))

    assert engine.loaded
    assert diarize(engine, Audio(np.zeros(0, dtype=np.int16))).duration == 0.0


def test_a_killed_process_is_reported_and_replaced_by_the_next_load(start):
    engine = start(process_engines.killed)
    engine.load()

    with pytest.raises(OutOfMemory, match="killed"):
        diarize(engine)

    assert not engine.loaded
    engine.load()
    assert engine.loaded


def test_a_process_that_dies_while_idle_is_replaced_by_the_next_load(start):
    engine = start(process_engines.echo)
    engine.load()
    os.kill(int(speaker(diarize(engine))[2]), signal.SIGKILL)
    while engine.loaded:
        time.sleep(0.01)

    engine.load()

    assert diarize(engine).duration == 1.0


def test_unloading_ends_the_process_and_releases_its_memory(start):
    engine = start(process_engines.hoarder)
    engine.load()
    process = psutil.Process(int(speaker(diarize(engine))[2]))
    before = measure_memory(engine)

    engine.unload()

    assert not process.is_running()
    assert not engine.loaded
    assert before.rss_bytes - measure_memory(engine).rss_bytes >= process_engines.HOARD_BYTES


def test_cleaning_up_and_unloading_do_nothing_if_nothing_is_loaded(start):
    engine = start(process_engines.echo)

    engine.release_gpu_cache()
    engine.unload()
    engine.unload()

    assert engine.gpu_memory() == GpuMemory()
    with pytest.raises(InternalError, match="not loaded"):
        diarize(engine)


def test_no_file_descriptor_is_left_behind_by_inferences(start):
    engine = start(process_engines.echo)
    engine.load()
    diarize(engine)
    gc.collect()  # what earlier tests left to be collected must not be counted
    before = psutil.Process().num_fds()

    for _ in range(5):
        diarize(engine)

    assert psutil.Process().num_fds() <= before
