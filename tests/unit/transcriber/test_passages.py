"""Language passages: how speech is cut into pieces, and the decision from their probabilities."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.types import SAMPLE_RATE, Segment
from careca_transcriber.passages import (
    LONGEST_PIECE_SAMPLES,
    SHORTEST_PIECE_SAMPLES,
    Passage,
    Piece,
    cut_pieces,
    find_passages,
    language_at,
    main_language,
    other_pieces,
    outweighs,
    prevailing,
    unsure_pieces,
)
from careca_transcriber.speech import FRAME_SAMPLES, Activity, Span

FRAMES_PER_SECOND = SAMPLE_RATE / FRAME_SAMPLES


def heard(seconds, *speech, quiet=-60.0):
    """Loud speech in the stretches ``speech``, and quiet without speech elsewhere."""
    frames = -(-round(seconds * SAMPLE_RATE) // FRAME_SAMPLES)
    activity = Activity(np.zeros(frames, np.float32), np.full(frames, quiet, np.float32), threshold=0.3)
    for start, end in speech:
        place = slice(round(start * FRAMES_PER_SECOND), round(end * FRAMES_PER_SECOND))
        activity.speech[place], activity.level[place] = 0.9, -20.0
    return activity


def span(start, end):
    return Span(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))


def piece(start, end, language, probability=0.99, other=""):
    """A piece in ``language``; the rest of the probability is for ``other``: English, or Spanish if it is English."""
    rest = other or ("es" if language == "en" else "en")
    return Piece(span(start, end), ({language: probability, rest: 1 - probability},))


def told(passages):
    """Languages and the borders between them, in seconds."""
    return [each.language for each in passages], [round(each.span.start / SAMPLE_RATE, 1) for each in passages[1:]]


def passages_of(*pieces, seconds=60):
    return find_passages(pieces, main_language(pieces), seconds * SAMPLE_RATE)


# What is decided


def test_a_recording_in_one_language_is_one_passage():
    passages = passages_of(piece(1, 5, "en"), piece(5, 9, "en", 0.6), piece(12, 16, "en"))

    assert told(passages) == (["en"], [])
    assert passages[0].span == span(0, 60)
    assert 0.8 < passages[0].probability < 0.99


def test_a_change_of_language_lies_in_the_middle_of_the_pause():
    pieces = piece(0, 4, "en"), piece(4, 8, "en"), piece(9, 13, "pt"), piece(13, 18, "pt")

    assert told(passages_of(*pieces)) == (["en", "pt"], [8.5])


def test_a_language_that_comes_back_is_a_passage_of_its_own():
    pieces = piece(0, 5, "en"), piece(5, 10, "pt"), piece(10, 15, "en"), piece(15, 20, "es"), piece(20, 25, "pt")

    assert told(passages_of(*pieces)) == (["en", "pt", "en", "es", "pt"], [5, 10, 15, 20])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_single_piece_that_merely_sounds_like_another_language_changes_nothing(place):
    pieces = [piece(4 * n, 4 * n + 4, "en") for n in range(3)]
    pieces[place] = Piece(pieces[place].span, ({"la": 0.55, "en": 0.2, "it": 0.25},))

    assert told(passages_of(*pieces)) == (["en"], [])


def test_pieces_that_are_too_short_are_not_counted():
    pieces = piece(0, 4, "en"), piece(5, 6, "zh"), piece(7, 8.5, "zh"), piece(9, 13, "en")

    assert told(passages_of(*pieces)) == (["en"], [])
    assert passages_of(piece(0, 1.5, "en"), piece(3, 4.5, "pt")) == []


def test_doubt_within_a_passage_does_not_end_it():
    pieces = piece(0, 5, "en"), piece(5, 10, "pt"), piece(10, 15, "es", 0.5, other="pt"), piece(15, 20, "pt")

    assert told(passages_of(*pieces, seconds=20)) == (["en", "pt"], [5])


def test_of_several_ways_to_cut_the_one_that_fits_the_languages_is_used():
    mixed = Piece(span(3, 8), ({"en": 0.5, "pt": 0.5},))
    coarse = piece(0, 3, "en"), mixed, piece(8, 12, "pt")
    fine = piece(0, 5, "en"), piece(5, 8, "pt"), piece(3, 6, "en", 0.6), piece(6, 12, "pt", 0.7)

    assert told(passages_of(*coarse, *fine, seconds=12)) == (["en", "pt"], [5])


def test_sounds_without_a_clear_language_count_as_the_main_language():
    cries = [Piece(span(n, n + 5), ({"pt": 0.42, "ja": 0.4, "en": 0.001},)) for n in (5, 10, 15)]

    assert told(passages_of(piece(0, 5, "en"), *cries, piece(20, 25, "en"), piece(25, 30, "en"))) == (["en"], [])


def test_a_short_passage_needs_more_than_one_view_and_a_long_one_does_not():
    foreign = piece(4, 8, "la", 0.97)
    pieces = [piece(0, 4, "en"), foreign, piece(8, 12, "en"), *(piece(n, n + 5, "pt") for n in (12, 17, 22, 27))]

    assert unsure_pieces(pieces, "en") == [foreign]
    surer = Piece(foreign.span, (*foreign.views, {"la": 0.9, "en": 0.05}, {"la": 0.3, "en": 0.5}, {"en": 0.6}))
    assert unsure_pieces([surer if each is foreign else each for each in pieces], "en") == []
    assert told(find_passages(pieces, "en", 40 * SAMPLE_RATE)) == (["en", "la", "en", "pt"], [4, 8, 12])
    pieces[1] = surer
    assert told(find_passages(pieces, "en", 40 * SAMPLE_RATE)) == (["en", "pt"], [12])


def test_the_main_language_has_the_best_score_over_all_pieces():
    music = [Piece(span(n, n + 5), ({"km": 0.35, "ja": 0.3, "pt": 0.05},)) for n in (10, 15)]

    assert main_language([piece(0, 3, "pt"), *music]) == "pt"


def test_many_clear_pieces_outweigh_the_language_of_a_long_clip_and_doubtful_ones_do_not():
    clear = [piece(n, n + 5, "en", 0.98, other="de") for n in (0, 5, 10)]
    doubtful = [piece(n, n + 5, "en", 0.52, other="de") for n in (0, 5, 10)]
    unknown = [Piece(span(n, n + 5), ({"en": 0.3, "ja": 0.29},)) for n in (0, 5, 10)]

    assert outweighs(clear, "en", ["de", "fr"])
    assert not outweighs(doubtful, "en", ["fr", "de"])
    assert not outweighs(unknown, "en", ["de"])


def test_no_speech_has_no_passages():
    assert passages_of() == []
    assert main_language([]) == ""


languages = st.sampled_from(["en", "es", "pt", "cy"])


@st.composite
def coarse_pieces(draw):
    pieces, now = [], 0.0
    for _ in range(draw(st.integers(0, 12))):
        now += draw(st.sampled_from([0.0, 0.0, 0.7, 4.0]))
        length = draw(st.floats(0.2, 6.0))
        likely = {code: draw(st.floats(0.0, 1.0)) for code in ("en", "es", "pt", "cy")}
        total = sum(likely.values()) or 1.0
        pieces.append(Piece(span(now, now + length), ({code: each / total for code, each in likely.items()},)))
        now += length
    return pieces


@given(coarse_pieces())
def test_passages_cover_the_recording_in_order_and_neighbours_differ(pieces):
    passages = passages_of(*pieces, seconds=120)

    if passages:
        assert (passages[0].span.start, passages[-1].span.end) == (0, 120 * SAMPLE_RATE)
    for before, after in pairwise(passages):
        assert before.span.end == after.span.start
        assert before.language != after.language
    assert all(0 <= passage.probability <= 1 for passage in passages)
    assert not [piece for piece in pieces for passage in passages[1:] if within(passage.span.start, piece.span)]


def within(sample, piece):
    return piece.start + SAMPLE_RATE / 10 < sample < piece.end - SAMPLE_RATE / 10


# How speech is cut


def test_long_speech_is_cut_at_its_deepest_pauses():
    activity = heard(20, (1, 5), (5.3, 8), (8.4, 12))

    assert [each.seconds for each in cut_pieces(activity)] == [
        pytest.approx(expected, abs=0.15) for expected in ((1, 5.15), (5.15, 8.2), (8.2, 12))
    ]


def test_a_single_word_is_joined_to_its_neighbour():
    pieces = cut_pieces(heard(30, (1, 1.5), (3, 6), (7, 8), (20, 20.6)))

    assert [each.seconds for each in pieces] == [
        pytest.approx(expected, abs=0.1) for expected in ((1, 6), (7, 8), (20, 20.6))
    ]


@given(st.lists(st.tuples(st.floats(0.1, 5), st.floats(0.2, 40)), max_size=6))
def test_pieces_are_short_in_order_and_cover_all_speech(gaps_and_lengths):
    speech, now = [], 0.0
    for gap, length in gaps_and_lengths:
        speech.append((now + gap, now + gap + length))
        now = speech[-1][1]
    activity = heard(now + 1, *speech)

    pieces = cut_pieces(activity)

    assert all(0 < len(each) <= LONGEST_PIECE_SAMPLES for each in pieces)
    assert all(before.end <= after.start for before, after in pairwise(pieces))
    covered = np.zeros(len(activity.speech), bool)
    for each in pieces:
        covered[each.start // FRAME_SAMPLES : -(-each.end // FRAME_SAMPLES)] = True
    assert not (activity.speech[~covered] > 0.5).any()


def test_speech_that_is_clearly_in_the_main_language_has_no_alternative_cuts():
    activity = heard(20, (0, 20))

    assert other_pieces([piece(0, 5, "en"), piece(5, 10, "en", 0.55, other="cy")], "en", activity) == []


def test_speech_that_may_be_in_another_language_is_cut_in_all_ways_between_pauses():
    activity = heard(40, (0, 3), (3.3, 7), (7.3, 10), (20, 30))
    coarse = [piece(0, 5, "en"), piece(5, 10, "pt"), piece(20, 25, "en"), piece(25, 30, "en")]

    others = other_pieces(coarse, "en", activity)

    assert others
    assert not {each.span for each in coarse} & set(others)
    assert all(SHORTEST_PIECE_SAMPLES <= len(each) <= LONGEST_PIECE_SAMPLES for each in others)
    assert all(each.start >= 0 and each.end <= 10 * SAMPLE_RATE for each in others)
    edges = {round(edge / SAMPLE_RATE, 1) for each in others for edge in (each.start, each.end)}
    assert all(min(abs(edge - pause) for edge in edges) < 0.2 for pause in (3.15, 7.15))


# What follows from the passages


def test_a_clip_has_the_language_of_the_passage_in_which_it_starts():
    passages = [Passage(span(0, 10), "en", 0.9), Passage(span(10, 20), "pt", 0.8)]

    assert language_at(0, passages) == "en"
    assert language_at(10 * SAMPLE_RATE - 1, passages) == "en"
    assert language_at(10 * SAMPLE_RATE, passages) == "pt"
    assert language_at(30 * SAMPLE_RATE, passages) == "pt"


def test_the_prevailing_language_is_that_of_the_most_speech_and_not_of_the_longest_passages():
    passages = [Passage(span(0, 50), "en", 0.9), Passage(span(50, 60), "pt", 0.8), Passage(span(60, 70), "pt", 0.6)]
    segments = [
        Segment(1, 4, "hi", language="en"),
        Segment(50, 53, "oi", language="pt"),
        Segment(60, 62, "oi", language="pt"),
    ]

    assert prevailing(passages, segments) == ("pt", pytest.approx(0.7))
    assert prevailing(passages, []) == ("", 0.0)
