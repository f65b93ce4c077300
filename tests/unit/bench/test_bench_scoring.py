"""The benchmark's error rates, on cases small enough to work out by hand."""

import pytest

from careca.types import Turn, Utterance

pytest.importorskip("meeteval", reason="its package needs a C compiler to install", exc_type=ImportError)

from bench.common.scoring import DiarizationErrors, WordErrors, score_text, score_turns, score_utterances


def turns(*rows: tuple[str, float, float]) -> list[Turn]:
    return [Turn(start, end, speaker) for speaker, start, end in rows]


def utterances(*rows: tuple[str | None, float, str]) -> list[Utterance]:
    return [Utterance(start, start + 1, text, speaker) for speaker, start, text in rows]


class TestDiarization:
    def test_the_names_of_speakers_do_not_matter(self) -> None:
        reference = turns(("ann", 0, 10), ("bob", 10, 20))
        hypothesis = turns(("SPEAKER_00", 0, 10), ("SPEAKER_01", 10, 20))

        assert score_turns(reference, hypothesis, 20).der == 0

    def test_each_kind_of_error_is_counted_in_seconds(self) -> None:
        reference = turns(("ann", 0, 10), ("bob", 10, 20))
        hypothesis = turns(("x", 0, 12), ("y", 12, 18), ("y", 22, 25))

        errors = score_turns(reference, hypothesis, 30)

        assert (errors.speech, errors.missed, errors.false_alarm, errors.confusion) == pytest.approx((20, 2, 3, 2))
        assert errors.der == pytest.approx(7 / 20)

    def test_overlapped_speech_is_scored_for_each_speaker(self) -> None:
        reference = turns(("ann", 0, 10), ("bob", 5, 10))

        errors = score_turns(reference, turns(("x", 0, 10)), 10)

        assert errors.speech == pytest.approx(15)
        assert errors.missed == pytest.approx(5)

    def test_no_collar_forgives_a_boundary_that_is_a_little_off(self) -> None:
        errors = score_turns(turns(("ann", 1, 2)), turns(("x", 1.1, 2)), 3)

        assert errors.missed == pytest.approx(0.1)

    def test_speech_found_after_the_last_true_turn_is_a_false_alarm(self) -> None:
        errors = score_turns(turns(("ann", 0, 1)), turns(("x", 0, 1), ("x", 8, 9)), 10)

        assert errors.false_alarm == pytest.approx(1)

    def test_turns_of_one_speaker_that_overlap_count_once(self) -> None:
        reference = turns(("ann", 0, 6), ("ann", 4, 10))

        errors = score_turns(reference, turns(("x", 0, 10)), 10)

        assert errors.speech == pytest.approx(10)
        assert errors.der == 0

    def test_a_recording_without_speech_has_no_rate_but_keeps_its_false_alarms(self) -> None:
        errors = score_turns([], turns(("x", 0, 2)), 10)

        assert errors.der is None
        assert errors.false_alarm == pytest.approx(2)

    def test_no_answer_misses_everything(self) -> None:
        errors = score_turns(turns(("ann", 0, 4)), [], 10)

        assert errors.der == 1
        assert errors.right_speaker_counts == 0

    def test_the_number_of_speakers_is_right_even_where_they_are_confused(self) -> None:
        errors = score_turns(turns(("ann", 0, 5), ("bob", 5, 10)), turns(("x", 0, 9), ("y", 9, 10)), 10)

        assert errors.right_speaker_counts == 1

    def test_a_set_is_its_total_of_errors_over_its_total_of_speech(self) -> None:
        short = score_turns(turns(("ann", 0, 1)), [], 1)
        long = score_turns(turns(("ann", 0, 99)), turns(("x", 0, 99)), 99)

        both = sum([short, long], DiarizationErrors())

        assert both.der == pytest.approx(0.01)
        assert (both.right_speaker_counts, both.recordings) == (1, 2)


class TestWords:
    def test_each_kind_of_edit_is_counted(self) -> None:
        errors = score_text("one cat sat on the mat", "two cat sat on mat now now", "en")

        assert errors.reference == 6
        assert errors.substitutions + errors.deletions + errors.insertions == 4
        assert errors.error_rate == pytest.approx(4 / 6)

    def test_spelling_of_numbers_and_contractions_is_no_error_in_english(self) -> None:
        assert score_text("I'm twenty-one, um, Mr. Brown!", "i am 21 mister brown", "en").error_rate == 0

    def test_accents_tell_words_apart_in_portuguese(self) -> None:
        assert score_text("Não, é só isto.", "não é só isto", "pt").error_rate == 0
        assert score_text("é", "e", "pt").substitutions == 1

    def test_words_where_nothing_was_said_are_insertions_without_a_rate(self) -> None:
        errors = score_text("", "thanks for watching", "en")

        assert errors.error_rate is None
        assert errors.insertions == 3

    def test_a_set_is_its_total_of_errors_over_its_total_of_words(self) -> None:
        both = score_text("yes", "", "en") + score_text("a b c d e f g h i", "a b c d e f g h i", "pt")

        assert both == WordErrors(reference=10, deletions=1)
        assert both.error_rate == pytest.approx(0.1)


class TestSpeakersWords:
    def test_the_names_of_speakers_do_not_matter(self) -> None:
        reference = utterances(("ann", 0, "hello bob"), ("bob", 1, "hello ann"))
        hypothesis = utterances(("SPEAKER_00", 0, "hello bob"), ("SPEAKER_01", 1, "hello ann"))

        assert score_utterances(reference, hypothesis, "en").error_rate == 0

    def test_a_word_given_to_the_wrong_speaker_is_an_error_twice(self) -> None:
        reference = utterances(("ann", 0, "good morning everybody"), ("bob", 1, "let us begin then"))
        hypothesis = utterances(("x", 0, "good morning"), ("y", 1, "everybody let us begin then"))

        errors = score_utterances(reference, hypothesis, "en")

        assert (errors.reference, errors.deletions, errors.insertions) == (7, 1, 1)

    def test_how_a_speakers_words_are_cut_into_utterances_does_not_matter(self) -> None:
        reference = utterances(("ann", 0, "one two"), ("bob", 1, "six"), ("ann", 2, "three four"))
        hypothesis = utterances(("x", 0, "one two three four"), ("y", 1, "six"))

        assert score_utterances(reference, hypothesis, "pt").error_rate == 0

    def test_utterances_are_read_in_order_of_time(self) -> None:
        reference = utterances(("ann", 5, "world"), ("ann", 0, "hello"))

        assert score_utterances(reference, utterances(("x", 0, "hello world")), "en").error_rate == 0

    def test_a_speaker_too_many_is_all_insertions(self) -> None:
        hypothesis = utterances(("x", 0, "hello"), ("y", 1, "who is there"))

        errors = score_utterances(utterances(("ann", 0, "hello")), hypothesis, "en")

        assert errors == WordErrors(reference=1, insertions=3)

    def test_words_of_nobody_in_particular_still_count(self) -> None:
        hypothesis = utterances((None, 0, "hello"))

        assert score_utterances(utterances(("ann", 0, "hello")), hypothesis, "en").error_rate == 0
        assert score_utterances([], hypothesis, "en").insertions == 1

    def test_no_answer_deletes_everything(self) -> None:
        assert score_utterances(utterances(("ann", 0, "hello there")), [], "en").deletions == 2
