"""Which text of Whisper is kept, what is read again, and the order of the segments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.types import SAMPLE_RATE, Segment, Word
from careca_transcriber.reading import Reading, ReadInOrder, judge, put_in_order
from careca_transcriber.speech import FRAME_SAMPLES, Activity, Span


def everywhere(seconds=60.0):
    """Speech in every frame."""
    frames = round(seconds * SAMPLE_RATE / FRAME_SAMPLES)
    return Activity(np.full(frames, 0.9, np.float32), np.full(frames, -20, np.float32), threshold=0.3)


def silence_after(second, seconds=60.0):
    heard = everywhere(seconds)
    heard.speech[round(second * SAMPLE_RATE / FRAME_SAMPLES) :] = 0.0
    return heard


def span(start, end):
    return Span(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))


def segment(start, text, step=0.5, probability=0.9):
    """One word every half second."""
    words = [Word(word, start + i * step, start + (i + 1) * step, probability) for i, word in enumerate(text.split())]
    return Segment(start, start + len(words) * step, text, tuple(words))


def reading(clip, *segments, log_probability=-0.3, no_speech_probability=0.1):
    return Reading(clip, segments, log_probability, no_speech_probability)


def texts(segments):
    return [segment.text for segment in segments]


def test_what_was_read_to_the_end_is_kept_as_it_is():
    said = segment(0.5, "one two three four"), segment(3.0, "five six seven eight")

    judged = judge(reading(span(0, 5.5), *said), everywhere())

    assert judged.segments == said
    assert judged.unread is None


def test_speech_after_the_last_word_is_read_again():
    judged = judge(reading(span(10, 20), segment(10.5, "only the first words")), everywhere())

    assert texts(judged.segments) == ["only the first words"]
    assert judged.unread == span(12.5, 20)


def test_silence_after_the_last_word_is_not_read_again():
    judged = judge(reading(span(10, 20), segment(10.5, "only the first words")), silence_after(13))

    assert judged.unread is None


def test_a_clip_whose_last_word_is_near_its_start_is_not_read_again():
    assert judge(reading(span(0, 20), segment(0, "hm")), everywhere()).unread is None
    assert judge(reading(span(0, 20)), everywhere()).unread is None


def test_a_clip_with_improbable_speech_and_words_is_dropped():
    said = segment(0, "thank you very much")
    doubts = {"no_speech_probability": 0.7, "log_probability": -1.1}

    assert judge(reading(span(0, 2), said, **doubts), everywhere()).segments == ()
    assert judge(reading(span(0, 2), said, **{**doubts, "log_probability": -0.5}), everywhere()).segments == (said,)
    assert judge(reading(span(0, 2), said, **{**doubts, "no_speech_probability": 0.2}), everywhere()).segments == (
        said,
    )


@pytest.mark.parametrize("text", [".", "...", "♪", "- -", "_"])
def test_text_without_a_letter_or_digit_is_dropped(text):
    assert judge(reading(span(0, 2), segment(0, text)), everywhere()).segments == ()


@pytest.mark.parametrize("text", ["7", "no", "ни", "あ", "ครับ"])
def test_a_single_word_in_any_script_is_kept(text):
    assert texts(judge(reading(span(0, 2), segment(0, text)), everywhere()).segments) == [text]


def test_words_without_speech_around_them_are_dropped():
    said, invented = segment(0.5, "this was said"), segment(8, "thanks for watching")

    assert judge(reading(span(0, 12), said, invented), silence_after(3)).segments == (said,)


def test_words_with_a_low_probability_are_dropped():
    doubtful, invented = segment(0.5, "yep", probability=0.2), segment(2, "you", probability=0.04)

    assert judge(reading(span(0, 3), doubtful, invented), everywhere()).segments == (doubtful,)


def test_text_is_dropped_from_a_long_repetition_on_and_that_part_is_read_again():
    looping = segment(1.0, "so I said " + "I'm sorry, " * 40, step=0.2)

    judged = judge(reading(span(0, 12), looping), everywhere())

    assert texts(judged.segments) == ["so I said"]
    assert judged.segments[0].end == pytest.approx(1.6)
    assert judged.unread == span(1.6, 12)


def test_text_in_a_language_without_spaces_gets_none():
    characters = ["今", "日", "は", *["は", "い", "、"] * 60]
    words = tuple(Word(character, i * 0.1, (i + 1) * 0.1, 0.9) for i, character in enumerate(characters))

    judged = judge(reading(span(0, 20), Segment(0, 18.3, "".join(characters), words)), everywhere())

    assert texts(judged.segments) == ["今日は"]


def test_a_clip_with_only_repetition_is_dropped():
    judged = judge(reading(span(0, 12), segment(0, "beep " * 80, step=0.1)), everywhere())

    assert judged.segments == ()
    assert judged.unread is None


def test_words_that_begin_where_the_clip_ends_are_dropped():
    said = segment(0.5, "one two three"), segment(9.5, "four five six")

    assert texts(judge(reading(span(0, 10), *said), everywhere()).segments) == ["one two three", "four"]


def test_a_few_repetitions_are_kept():
    said = segment(0, "no no no no I really really really do not want that")

    assert judge(reading(span(0, 7), said), everywhere()).segments == (said,)


def read_in_order(clips, read, *, batch_size, kind_of=lambda _: None):
    """Reads all batches. Returns the final segments and the sample reached after each of them."""
    order, told = ReadInOrder(clips, everywhere(), kind_of, batch_size), []
    while batch := order.next_batch():
        told.append(order.add(read(batch[0])))
    return told


def test_segments_are_in_order_although_the_rest_of_a_clip_is_read_later():
    clips = [span(0, 10), span(10, 20), span(20, 30)]
    found = {
        clips[0]: segment(0.5, "a b c d"),
        clips[1]: segment(10, " ".join("abcdefghijklmnopqrs")),
        clips[2]: segment(20, " ".join("abcdefghijklmnopqrs")),
        span(2.5, 10): segment(3, " ".join("abcdefghijklmn")),
    }
    batches = []

    def read(batch):
        batches.append(list(batch))
        return [reading(clip, found[clip]) for clip in batch]

    told = read_in_order(clips, read, batch_size=2)

    assert batches == [[clips[0], clips[1]], [span(2.5, 10), clips[2]]]
    starts = [segment.start for segments, _ in told for segment in segments]
    assert starts == [0.5, 3, 10, 20]
    assert [len(segments) for segments, _ in told] == [1, 3]
    assert [reached / SAMPLE_RATE for _, reached in told] == [2.5, 30]


def test_a_batch_has_clips_of_one_kind_and_segments_stay_in_order():
    clips = [span(n, n + 1) for n in range(12)]
    batches = []

    def read(batch):
        batches.append([clip.start // SAMPLE_RATE for clip in batch])
        return [reading(clip, segment(clip.start / SAMPLE_RATE, "a b")) for clip in batch]

    told = read_in_order(clips, read, batch_size=2, kind_of=lambda clip: clip.start // SAMPLE_RATE % 3)

    assert batches == [[0, 3], [1, 4], [2, 5], [6, 9], [7, 10], [8, 11]]
    starts = [[segment.start for segment in certain] for certain, _ in told]
    assert starts == [[0], [1], [2, 3, 4, 5], [6], [7], [8, 9, 10, 11]]


def test_clips_that_are_far_ahead_are_not_read_early():
    clips = [span(0, 1), *(span(n, n + 2) for n in range(2, 40, 2)), span(50, 51)]
    batches = []

    def read(batch):
        batches.append(list(batch))
        return [reading(clip) for clip in batch]

    read_in_order(clips, read, batch_size=2, kind_of=len)

    assert batches[0] == [clips[0]]


def test_reading_ends_even_if_every_rest_has_an_unread_rest():
    def read(batch):
        return [reading(clip, segment(clip.start / SAMPLE_RATE, "a b", step=0.6)) for clip in batch]

    told = read_in_order([span(0, 30)], read, batch_size=8)

    assert 20 <= len(told) <= 30
    assert told[-1][1] == 30 * SAMPLE_RATE


def test_without_clips_nothing_is_read():
    assert read_in_order([], lambda _: pytest.fail("nothing to read"), batch_size=8) == []


times = st.floats(-5, 40, allow_nan=False)


@given(st.lists(st.lists(st.one_of(st.none(), st.tuples(times, times)), max_size=6), max_size=5))
def test_times_are_in_order_do_not_overlap_and_stay_within_the_clip(spans):
    segments = [
        Segment(0, 30, "text", tuple(Word("w", *(pair or (None, None)), 0.5) for pair in words)) for words in spans
    ]

    ordered = put_in_order(segments, 2.0, 30.0)

    words = [word for segment in ordered for word in segment.words]
    assert [word.text for word in words] == [word.text for segment in segments for word in segment.words]
    assert [word.start is None for word in words] == [pair is None for pairs in spans for pair in pairs]
    edges = [edge for word in words if word.start is not None for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert all(2.0 <= edge <= 30.0 for edge in edges)
    assert all(segment.start <= segment.end for segment in ordered)


def test_a_segment_reaches_from_its_first_word_to_its_last():
    said = Segment(0.0, 9.0, "a b", (Word("a", 1.0, 1.5), Word("b", 1.4, 2.0)))

    (ordered,) = put_in_order([said], 0.0, 30.0)

    assert ordered == Segment(1.0, 2.0, "a b", (Word("a", 1.0, 1.4), Word("b", 1.4, 2.0)))
