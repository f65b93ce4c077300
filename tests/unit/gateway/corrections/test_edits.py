"""Edits of a whole result: utterances, speakers, turns and the rules that refuse an edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.errors import InvalidRequest
from careca.types import (
    Channel,
    Digest,
    Edit,
    RenameSpeaker,
    ReplaceUtterances,
    Result,
    Speaker,
    Splice,
    Turn,
    Utterance,
    Word,
)
from careca_gateway.corrections.edits import apply_edits
from careca_gateway.corrections.limits import MAX_EDITS, MAX_SPEAKERS, MAX_TEXT_CHARACTERS

DIGEST = Digest("a" * 64, 1000)
ANA, BOB = "SPEAKER_00", "SPEAKER_01"


def said(start: float, text: str, speaker: str | None, seconds: float = 0.5) -> Utterance:
    """Returns an utterance whose words take ``seconds`` each."""
    texts = text.split()
    words = tuple(
        Word(each, start + at * seconds, start + (at + 1) * seconds, 0.5, speaker) for at, each in enumerate(texts)
    )
    return Utterance(start, start + len(texts) * seconds, text, speaker, words, "en")


CALL = Result(
    recording=DIGEST,
    audio=DIGEST,
    duration=10.0,
    stages=(),
    language="en",
    utterances=(
        said(0.0, "good morning to you", ANA),
        said(2.5, "hello Ana how are you", BOB),
        said(6.0, "fine thank you", ANA),
    ),
    turns=(Turn(0.0, 2.1, ANA), Turn(2.4, 5.2, BOB), Turn(5.9, 7.7, ANA)),
    exclusive_turns=(Turn(0.0, 2.1, ANA), Turn(2.4, 5.2, BOB), Turn(5.9, 7.7, ANA)),
    speakers=(Speaker(ANA, (1.0, 0.0), "voices@1"), Speaker(BOB, (0.0, 1.0), "voices@1")),
)
FIRST, SECOND, THIRD = CALL.utterances


def edited(*edits: Edit, of: Result = CALL) -> Result:
    return apply_edits(of, edits).result


def refused(*edits: Edit, of: Result = CALL) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        apply_edits(of, edits)
    return caught.value


def split(utterance: Utterance, at: int, speaker: str | None) -> tuple[Utterance, Utterance]:
    """Returns both parts of the utterance before and from word ``at``. The second one is said by ``speaker``."""
    one, other = utterance.words[:at], utterance.words[at:]
    parts = (
        replace(utterance, end=one[-1].end, text=" ".join(word.text for word in one), words=one),
        replace(utterance, start=other[0].start, text=" ".join(word.text for word in other), words=other),
    )
    return parts[0], replace(parts[1], speaker=speaker)


def test_a_speaker_is_renamed_everywhere() -> None:
    result = edited(RenameSpeaker(ANA, "Ana"), of=replace(CALL, channels=(Channel(DIGEST, ANA), Channel(DIGEST, BOB))))

    assert [utterance.speaker for utterance in result.utterances] == ["Ana", BOB, "Ana"]
    assert {word.speaker for word in result.utterances[0].words} == {"Ana"}
    assert [turn.speaker for turn in result.turns] == ["Ana", BOB, "Ana"]
    assert [turn.speaker for turn in result.exclusive_turns] == ["Ana", BOB, "Ana"]
    assert [channel.speaker for channel in result.channels] == ["Ana", BOB]
    assert result.speakers[0] == Speaker(ANA, (1.0, 0.0), "voices@1", name="Ana")


def test_a_name_is_removed_by_the_own_label() -> None:
    assert edited(RenameSpeaker(ANA, "Ana"), RenameSpeaker("Ana", ANA)) == CALL


def test_a_recognised_speaker_who_is_renamed_has_no_similarity_any_more() -> None:
    named = edited(RenameSpeaker(ANA, "Ana"))
    recognised = replace(named, speakers=(replace(named.speakers[0], similarity=0.9), named.speakers[1]))

    assert edited(RenameSpeaker("Ana", "Eva"), of=recognised).speakers[0].similarity is None


def test_two_speakers_are_merged_only_on_request() -> None:
    error = refused(RenameSpeaker(BOB, ANA))
    assert (error.reason, error.field) == ("SPEAKER_EXISTS", "edits[0].rename_speaker.new_name")

    result = edited(RenameSpeaker(BOB, ANA, merge=True))

    assert [speaker.label for speaker in result.speakers] == [ANA]
    assert {utterance.speaker for utterance in result.utterances} == {ANA}
    assert {turn.speaker for turn in (*result.turns, *result.exclusive_turns)} == {ANA}


def test_overlapping_turns_of_merged_speakers_become_one() -> None:
    talk = replace(CALL, turns=(Turn(0.0, 2.6, ANA), Turn(2.4, 5.2, BOB), Turn(5.9, 7.7, ANA)))

    assert edited(RenameSpeaker(BOB, ANA, merge=True), of=talk).turns == (Turn(0.0, 5.2, ANA), Turn(5.9, 7.7, ANA))


@pytest.mark.parametrize("name", ["", " Ana", "Ana ", "a\nb", "x" * 101, "SPEAKER_07", "SPEAKER 01", "a\u202eb"])
def test_a_name_obeys_the_rules_of_known_speakers(name: str) -> None:
    assert refused(RenameSpeaker(ANA, name)).field == "edits[0].rename_speaker.new_name"


def test_a_name_that_differs_only_in_spaces_is_refused() -> None:
    named = edited(RenameSpeaker(ANA, "Ana Lima"))

    assert "only in spaces" in refused(RenameSpeaker(BOB, "Ana_Lima"), of=named).message


def test_an_unknown_speaker_is_refused_with_the_known_ones() -> None:
    error = refused(RenameSpeaker("Eva", "Ana"))

    assert error.reason == "NO_SUCH_SPEAKER"
    assert f"{ANA}, {BOB}" in error.message


def test_a_text_is_changed_and_nothing_else() -> None:
    changed = replace(FIRST, text="good evening to you")

    result, splices, _ = apply_edits(CALL, [ReplaceUtterances(0, 1, (changed,))])

    assert [word.text for word in result.utterances[0].words] == ["good", "evening", "to", "you"]
    assert result.utterances[0].words[1].start == FIRST.words[1].start
    assert result.utterances[1:] == CALL.utterances[1:]
    assert (result.turns, result.exclusive_turns) == (CALL.turns, CALL.exclusive_turns)
    assert splices == (Splice(0, 1, (result.utterances[0],)),)


def test_white_space_of_a_text_becomes_single_spaces() -> None:
    result = edited(ReplaceUtterances(0, 1, (replace(FIRST, text=" good\tmorning\n to  you "),)))

    assert result == CALL


def test_utterances_are_removed_and_inserted_and_turns_stay_where_nobody_gets_time() -> None:
    result = edited(ReplaceUtterances(1, 1), ReplaceUtterances(2, 0, (said(8.0, "bye", ANA),)))

    assert [utterance.text for utterance in result.utterances] == ["good morning to you", "fine thank you", "bye"]
    assert result.turns == (*CALL.turns, Turn(8.0, 8.5, ANA))


def test_a_part_of_an_utterance_is_given_to_another_with_its_turns() -> None:
    result = edited(ReplaceUtterances(1, 1, split(SECOND, 2, ANA)))

    assert [(each.speaker, each.text) for each in result.utterances[1:3]] == [(BOB, "hello Ana"), (ANA, "how are you")]
    assert {word.speaker for word in result.utterances[2].words} == {ANA}
    for turns in (result.turns, result.exclusive_turns):
        assert turns == (Turn(0.0, 2.1, ANA), Turn(2.4, 3.5, BOB), Turn(3.5, 5.0, ANA), Turn(5.9, 7.7, ANA))


def test_the_rest_of_a_turn_stays_if_something_is_said_in_it() -> None:
    first, last = split(SECOND, 4, BOB)

    result = edited(ReplaceUtterances(1, 1, (replace(first, speaker=ANA), last)))

    assert Turn(4.5, 5.2, BOB) in result.turns


def test_a_long_rest_of_a_turn_stays() -> None:
    talk = replace(CALL, turns=(Turn(0.0, 2.1, ANA), Turn(1.9, 5.2, BOB), Turn(5.9, 7.7, ANA)))

    result = edited(ReplaceUtterances(1, 1, (replace(SECOND, speaker=ANA),)), of=talk)

    assert [turn for turn in result.turns if turn.speaker == BOB] == [Turn(1.9, 2.5, BOB)]


def test_people_who_talk_at_the_same_time_keep_their_turns() -> None:
    talk = replace(CALL, turns=(*CALL.turns[:1], Turn(2.0, 4.0, "SPEAKER_02"), *CALL.turns[1:]))

    result = edited(ReplaceUtterances(1, 1, (replace(SECOND, speaker=ANA),)), of=talk)

    assert Turn(2.0, 4.0, "SPEAKER_02") in result.turns
    assert BOB not in {turn.speaker for turn in result.turns}


def test_an_utterance_may_be_given_to_nobody() -> None:
    result = edited(ReplaceUtterances(1, 1, (replace(SECOND, speaker=None),)))

    assert result.utterances[1].speaker is None
    assert {turn.speaker for turn in result.turns} == {ANA}


def test_a_new_speaker_gets_the_next_label() -> None:
    result = edited(ReplaceUtterances(1, 1, (replace(SECOND, speaker="Eva"),)))

    assert result.speakers == (*CALL.speakers, Speaker("SPEAKER_02", name="Eva"))
    assert [turn.speaker for turn in result.turns] == [ANA, "Eva", ANA]


def test_an_unused_label_is_a_new_speaker_without_a_name() -> None:
    result = edited(ReplaceUtterances(1, 1, (replace(SECOND, speaker="SPEAKER_05"),)))

    assert result.speakers == (*CALL.speakers, Speaker("SPEAKER_05"))


def test_a_speaker_with_a_name_is_found_by_the_label_too() -> None:
    named = edited(RenameSpeaker(ANA, "Ana"))

    result = edited(ReplaceUtterances(1, 1, (replace(SECOND, speaker=ANA),)), RenameSpeaker(ANA, "Eva"), of=named)

    assert {utterance.speaker for utterance in result.utterances} == {"Eva"}
    assert result.speakers == (replace(CALL.speakers[0], name="Eva"), CALL.speakers[1])


@pytest.mark.parametrize("label", ["SPEAKER_5", "SPEAKER_1000", "SPEAKER_\u0665\u0665", "SPEAKER_" + "9" * 5000])
def test_a_label_of_another_form_is_refused(label: str) -> None:
    error = refused(ReplaceUtterances(1, 1, (replace(SECOND, speaker=label),)))

    assert error.reason == "NO_SUCH_SPEAKER"
    assert error.field == "edits[0].replace_utterances.utterances[0].speaker_label"


def test_there_are_not_too_many_speakers() -> None:
    speakers = tuple(Speaker(f"SPEAKER_{number:02d}") for number in range(MAX_SPEAKERS))
    crowd = replace(CALL, speakers=speakers)

    assert str(MAX_SPEAKERS) in refused(ReplaceUtterances(1, 1, (replace(SECOND, speaker="Eva"),)), of=crowd).message


def test_speakers_of_a_result_without_diarization_get_turns() -> None:
    partial = replace(
        CALL,
        utterances=tuple(replace(each, speaker=None) for each in CALL.utterances),
        turns=(),
        exclusive_turns=(),
        speakers=(),
    )

    result = edited(ReplaceUtterances(1, 1, (replace(SECOND, speaker="Bob"),)), of=partial)

    assert result.turns == result.exclusive_turns == (Turn(2.5, 5.0, "Bob"),)
    assert result.speakers == (Speaker(ANA, name="Bob"),)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        (replace(FIRST, text=" \n "), "text"),
        (replace(FIRST, text="a\0b"), "text"),
        (replace(FIRST, text="a" * (MAX_TEXT_CHARACTERS + 1)), "text"),
        (replace(FIRST, start=-0.1), "start_offset"),
        (replace(FIRST, start=2.1), "start_offset"),
        (replace(FIRST, end=10.1), "start_offset"),
        (replace(FIRST, end=1e18), "start_offset"),
        (replace(FIRST, language="klingon"), "language_code"),
        (replace(FIRST, speaker=" x"), "speaker_label"),
        (replace(FIRST, words=(Word("good", probability=1.5),)), "words[0].probability"),
        (replace(FIRST, words=(Word("good"), Word("morning", probability=nan))), "words[1].probability"),
    ],
)
def test_an_utterance_that_breaks_a_rule_is_refused(changed: Utterance, field: str) -> None:
    assert refused(ReplaceUtterances(0, 1, (changed,))).field == f"edits[0].replace_utterances.utterances[0].{field}"


def test_a_text_of_the_greatest_length_is_accepted() -> None:
    result = edited(ReplaceUtterances(0, 1, (replace(FIRST, text="a " * (MAX_TEXT_CHARACTERS // 2 - 1) + "ab"),)))

    assert len(result.utterances[0].text) == MAX_TEXT_CHARACTERS


@pytest.mark.parametrize(("index", "count"), [(-1, 1), (0, -1), (4, 0), (3, 1), (0, 4), (2**31 - 1, 2**31 - 1)])
def test_utterances_that_do_not_exist_cannot_be_replaced(index: int, count: int) -> None:
    assert refused(ReplaceUtterances(index, count)).field == "edits[0].replace_utterances.index"


@pytest.mark.parametrize("edit", [ReplaceUtterances(0, 0, (SECOND,)), ReplaceUtterances(3, 0, (FIRST,))])
def test_utterances_out_of_order_are_refused(edit: ReplaceUtterances) -> None:
    error = refused(RenameSpeaker(ANA, "Ana"), RenameSpeaker("Ana", ANA), edit)

    assert error.field == "edits[2].replace_utterances.utterances"
    assert "sorted by start" in error.message


@pytest.mark.parametrize("count", [0, MAX_EDITS + 1])
def test_the_number_of_edits_is_limited(count: int) -> None:
    assert refused(*[ReplaceUtterances(0, 0)] * count).field == "edits"


def test_later_edits_see_what_earlier_ones_made() -> None:
    result = edited(RenameSpeaker(ANA, "Ana"), ReplaceUtterances(1, 1, (replace(SECOND, speaker="Ana"),)))

    assert [turn.speaker for turn in result.turns] == ["Ana"] * 3


def test_a_summary_says_what_was_changed_in_one_line() -> None:
    first, other = (replace(each, text="other") for each in (FIRST, SECOND))
    crowd = replace(CALL, speakers=tuple(Speaker(f"SPEAKER_{number:02d}") for number in range(5)))
    renames = [RenameSpeaker(f"SPEAKER_0{number}", f"Name {number}") for number in range(5)]

    def summary(*edits: Edit, of: Result = CALL) -> str:
        return apply_edits(of, edits).summary

    assert summary(ReplaceUtterances(0, 3, (first, other, THIRD)), RenameSpeaker(ANA, "Ana")) == (
        "renamed SPEAKER_00 to Ana; 2 utterances changed"
    )
    assert summary(ReplaceUtterances(0, 1)) == "1 utterance changed"
    assert summary(*renames, of=crowd).endswith("SPEAKER_02 to Name 2; renamed 2 more speakers")
    assert summary(ReplaceUtterances(0, 3, CALL.utterances)) == "nothing changed"


texts = st.lists(st.sampled_from(["yes", "no", "well", "you", "know"]), min_size=1, max_size=6).map(" ".join)


@st.composite
def results(draw: st.DrawFn) -> Result:
    """Returns results whose turns are a little longer than the utterances."""
    utterances, start = [], 0.1
    for speaker in draw(st.lists(st.sampled_from([ANA, BOB]), min_size=1, max_size=6)):
        utterances.append(said(start, draw(texts), speaker))
        start = utterances[-1].end + draw(st.sampled_from([0.0, 0.5]))
    turns = tuple(Turn(each.start, each.end + 0.1, str(each.speaker)) for each in utterances)
    return replace(
        CALL,
        duration=start + 1,
        utterances=tuple(utterances),
        turns=turns,
        exclusive_turns=tuple(Turn(each.start, each.end, str(each.speaker)) for each in utterances),
    )


def words_in(result: Result) -> list[tuple[str, float | None, float | None]]:
    return [(word.text, word.start, word.end) for utterance in result.utterances for word in utterance.words]


@given(results(), st.data())
def test_splitting_and_joining_again_changes_nothing(result: Result, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(result.utterances) - 1))
    whole = result.utterances[index]
    at = data.draw(st.integers(0, len(whole.words)))
    parts = split(whole, at, whole.speaker) if 0 < at < len(whole.words) else (whole,)

    assert (
        edited(ReplaceUtterances(index, 1, parts), ReplaceUtterances(index, len(parts), (whole,)), of=result) == result
    )


@given(results())
def test_importing_an_unchanged_transcript_changes_nothing(result: Result) -> None:
    every: Sequence[Utterance] = result.utterances

    assert edited(ReplaceUtterances(0, len(every), tuple(every)), of=result) == result


def test_rounded_times_move_no_turn() -> None:
    rounded = tuple(
        replace(each, start=each.start - 0.0004 if each.start else 0.0, end=each.end + 0.0004)
        for each in CALL.utterances
    )

    result = edited(ReplaceUtterances(0, 3, rounded))

    assert (result.turns, result.exclusive_turns) == (CALL.turns, CALL.exclusive_turns)


@given(results(), st.sampled_from(["Eva", BOB]))
def test_renaming_loses_no_word_and_no_time(result: Result, name: str) -> None:
    renamed = edited(RenameSpeaker(ANA, name, merge=True), of=result)

    assert words_in(renamed) == words_in(result)
    assert ANA not in {word.speaker for utterance in renamed.utterances for word in utterance.words}
    assert ANA not in {turn.speaker for turn in renamed.turns}


@given(results(), st.data())
def test_turns_of_a_given_utterance_are_its_new_speakers_and_exclusive_turns_never_overlap(
    result: Result, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(result.utterances) - 1))
    speaker = data.draw(st.sampled_from([ANA, BOB, "Eva"]))
    given_away = replace(result.utterances[index], speaker=speaker)

    changed = edited(ReplaceUtterances(index, 1, (given_away,)), of=result)

    for turns in (changed.turns, changed.exclusive_turns):
        assert any(
            turn.start <= given_away.start and given_away.end <= turn.end for turn in turns if turn.speaker == speaker
        )
        assert list(turns) == sorted(turns, key=lambda turn: (turn.start, turn.end, turn.speaker))
    assert all(one.end <= other.start for one, other in pairwise(changed.exclusive_turns))


def test_names_can_be_exchanged_and_given_on_in_one_save() -> None:
    exchanged = edited(
        RenameSpeaker(ANA, "Ana"),
        RenameSpeaker(BOB, "Bob"),
        RenameSpeaker("Ana", "Eva"),
        RenameSpeaker("Bob", "Ana"),
        RenameSpeaker("Eva", "Bob"),
    )
    merged = edited(RenameSpeaker(ANA, "Ana"), RenameSpeaker(BOB, "Ana", merge=True), RenameSpeaker("Ana", "Eva"))

    assert [utterance.speaker for utterance in exchanged.utterances] == ["Bob", "Ana", "Bob"]
    assert [turn.speaker for turn in exchanged.turns] == ["Bob", "Ana", "Bob"]
    assert {utterance.speaker for utterance in merged.utterances} == {"Eva"}
    assert [(speaker.label, speaker.name) for speaker in merged.speakers] == [(ANA, "Eva")]
