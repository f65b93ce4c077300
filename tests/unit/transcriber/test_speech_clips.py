"""Speech detection and clips, with a scripted detector."""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.inference.audio import Audio
from careca.inference.engine import Batch, complete
from careca.inference.parallel import Threads
from careca.types import SAMPLE_RATE, Progress, Stage
from careca_transcriber.clips import CLIP_SAMPLES, GRID_SAMPLES, cut_clips, spread
from careca_transcriber.speech import FRAME_SAMPLES, Activity, Span, detect_activity, find_speech
from support.waiting import HANG_SECONDS

FRAMES_PER_SECOND = SAMPLE_RATE / FRAME_SAMPLES


def activity(seconds, speech=(), *, probability=0.9, level=-20.0, quiet=-60.0):
    """The activity of ``seconds`` in which the stretches ``speech`` are loud speech and the rest is quiet."""
    frames = -(-round(seconds * SAMPLE_RATE) // FRAME_SAMPLES)
    heard = Activity(np.zeros(frames, np.float32), np.full(frames, quiet, np.float32), threshold=0.3)
    for start, end in speech:
        place = slice(round(start * FRAMES_PER_SECOND), round(end * FRAMES_PER_SECOND))
        heard.speech[place], heard.level[place] = probability, level
    return heard


def seconds_of(spans):
    """Starts and ends in a row."""
    return [second for span in spans for second in span.seconds]


def about(*seconds):
    """Approximately these seconds, to one frame."""
    return pytest.approx(seconds, abs=1.01 / FRAMES_PER_SECOND)


def clips_of(heard, seconds):
    return cut_clips(find_speech(heard), heard, Span(0, round(seconds * SAMPLE_RATE)))


def work_on(samples, detect, *, threads=1):
    audio = Audio(np.asarray(samples, dtype=np.int16))
    return detect_activity(
        audio,
        detect,
        threshold=0.3,
        threads=Threads(threads),
        progress=lambda fraction: Progress(Stage.TRANSCRIBE, fraction),
    )


def hear(samples, detect, *, threads=1, progress=lambda _: None):
    return complete(work_on(samples, detect, threads=threads), lambda event: progress(event.fraction))


def loud_is_speech(samples):
    """A detector for which every frame above a level is speech."""
    return (np.abs(samples.reshape(-1, FRAME_SAMPLES)).max(axis=1) > 0.05).astype(np.float32)


def test_no_audio_has_no_frames_no_speech_and_no_clips():
    heard = hear([], loud_is_speech)

    assert len(heard.speech) == 0
    assert find_speech(heard) == []
    assert clips_of(heard, 0) == []


@pytest.mark.parametrize("samples", [1, 2, 511, 512, 513, 15_999])
def test_a_partial_frame_counts_as_a_frame(samples):
    heard = hear(np.full(samples, 9000), loud_is_speech)

    assert len(heard.speech) == len(heard.level) == -(-samples // FRAME_SAMPLES)


def test_a_long_recording_has_the_same_frames_as_without_windows():
    samples = np.zeros(150 * SAMPLE_RATE)
    samples[59 * SAMPLE_RATE : 61 * SAMPLE_RATE] = 9000
    samples[120 * SAMPLE_RATE : 121 * SAMPLE_RATE] = 9000

    heard = hear(samples, loud_is_speech, threads=2)

    assert len(heard.speech) == -(-len(samples) // FRAME_SAMPLES)
    assert seconds_of(find_speech(heard)) == about(59, 61, 120, 121)


def test_progress_increases_to_one():
    told = []

    hear(np.zeros(150 * SAMPLE_RATE), loud_is_speech, progress=told.append)

    assert told == [1 / 3, 2 / 3, 1.0]


def test_a_batch_is_a_minute_for_each_thread():
    heard_windows = []

    def detect(samples):
        heard_windows.append(len(samples))
        return loud_is_speech(samples)

    work = work_on(np.full(600 * SAMPLE_RATE, 9000), detect, threads=2)
    batch = next(work)
    assert isinstance(batch, Batch)
    assert len(batch.compute(batch.items)) == 2
    work.close()

    assert len(heard_windows) == 2


def test_the_detector_gets_amplified_quiet_audio_and_unchanged_loud_audio():
    peaks = []

    def detect(samples):
        peaks.append(float(np.abs(samples).max()))
        return np.ones(len(samples) // FRAME_SAMPLES, np.float32)

    hear(np.full(SAMPLE_RATE, 327), detect)
    hear(np.full(SAMPLE_RATE, 16384), detect)

    assert peaks == pytest.approx([0.2, 0.5], abs=0.01)


def test_stretches_without_speech_are_checked_again_separately():
    calls = []

    def deaf_until_it_starts_afresh(samples):
        calls.append(len(samples))
        speech = loud_is_speech(samples)
        if len(calls) == 1:
            speech[len(speech) // 2 :] = 0
        return speech

    heard = hear(np.full(20 * SAMPLE_RATE, 9000), deaf_until_it_starts_afresh)

    assert len(calls) == 2
    assert seconds_of(find_speech(heard)) == about(0, 20)


def test_digital_silence_is_not_checked_again():
    calls = []

    def detect(samples):
        calls.append(len(samples))
        return loud_is_speech(samples)

    hear(np.zeros(20 * SAMPLE_RATE), detect)

    assert len(calls) == 1


def test_windows_are_processed_in_several_threads():
    both = threading.Barrier(2, timeout=HANG_SECONDS)

    def detect(samples):
        both.wait()
        return loud_is_speech(samples)

    heard = hear(np.full(120 * SAMPLE_RATE, 9000), detect, threads=2)

    assert heard.speech.min() == 1.0


def test_speech_continues_in_short_pauses_and_in_frames_at_half_the_threshold():
    heard = activity(10, [(1, 2), (2.3, 3)])
    heard.speech[round(4 * FRAMES_PER_SECOND) : round(5 * FRAMES_PER_SECOND)] = 0.2
    heard.speech[round(4.5 * FRAMES_PER_SECOND)] = 0.4

    assert seconds_of(find_speech(heard)) == about(1, 3, 4, 5)


def test_frames_below_the_threshold_and_single_clicks_are_not_speech():
    heard = activity(10, [(1, 4)], probability=0.29)
    heard.speech[200:202] = 1.0

    assert find_speech(heard) == []


def test_speech_is_padded_so_that_no_word_is_cut_but_not_beyond_the_recording():
    assert seconds_of(clips_of(activity(10, [(4, 6)]), 10)) == about(3.6, 6.4)
    assert seconds_of(clips_of(activity(2, [(0, 2)]), 2)) == about(0, 2)


def test_short_pauses_stay_in_a_clip_and_long_ones_separate_clips():
    heard = activity(40, [(1, 5), (7, 9), (20, 25)])

    assert seconds_of(clips_of(heard, 40)) == about(0.6, 9.4, 19.6, 25.4)


def test_long_speech_is_cut_where_it_is_quietest():
    heard = activity(60, [(1, 24), (24.4, 40)])

    first, second = clips_of(heard, 60)

    assert first.end == second.start
    assert 24.0 <= first.end / SAMPLE_RATE <= 24.4


def test_a_voice_that_the_detector_missed_is_not_cut_as_if_it_were_a_pause():
    heard = activity(60, [(1, 40)])
    deaf = slice(round(22 * FRAMES_PER_SECOND), round(24 * FRAMES_PER_SECOND))
    pause = slice(round(27 * FRAMES_PER_SECOND), round(27.5 * FRAMES_PER_SECOND))
    heard.speech[deaf] = 0.2
    heard.speech[pause], heard.level[pause] = 0.2, -60.0

    first, _ = clips_of(heard, 60)

    assert 27.0 <= first.end / SAMPLE_RATE <= 27.5


stretches = st.lists(st.tuples(st.floats(0.1, 50), st.floats(0.2, 100)), max_size=12)


@given(stretches, st.integers(0, 2**32 - 1))
def test_clips_are_short_in_order_on_the_grid_and_cover_all_speech(gaps_and_lengths, seed):
    position, speech = 0.0, []
    for gap, length in gaps_and_lengths:
        speech.append((position + gap, position + gap + length))
        position += gap + length
    heard = activity(position + 1, speech)
    heard.level[:] += np.random.default_rng(seed).normal(0, 6, len(heard.level))
    total = round((position + 1) * SAMPLE_RATE)

    found = find_speech(heard)
    clips = cut_clips(found, heard, Span(0, total))

    assert all(0 < len(clip) <= CLIP_SAMPLES for clip in clips)
    assert all(clip.start % GRID_SAMPLES == 0 and clip.start >= 0 and clip.end <= total for clip in clips)
    assert all(before.end <= after.start for before, after in itertools.pairwise(clips))
    covered = np.zeros(total, bool)
    for clip in clips:
        covered[clip.start : clip.end] = True
    assert all(covered[span.start : span.end].all() for span in found)


def test_clips_for_language_detection_are_spread_over_the_recording_and_have_much_speech():
    speech = [(start, start + length) for start, length in ((0, 1), (10, 5), (100, 5), (120, 1), (200, 6), (220, 2))]
    heard = activity(240, speech)

    chosen = spread(clips_of(heard, 240), heard, 3)

    assert [round(clip.start / SAMPLE_RATE) for clip in chosen] == [10, 100, 200]
    assert len(spread(clips_of(heard, 240), heard, 99)) == 6
    assert spread([], heard, 3) == []


def test_seconds_of_speech_are_counted_within_bounds():
    heard = activity(10, [(2, 4)])

    assert heard.speech_seconds(0, 10) == pytest.approx(2.0, abs=0.05)
    assert heard.speech_seconds(3, 99) == pytest.approx(1.0, abs=0.05)
    assert heard.speech_seconds(-5, 1) == 0
    assert len(Span(3, 5)) == 2
