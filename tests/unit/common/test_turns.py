"""Labels and exclusive turns."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from careca.turns import exclusive_turns, renamed, speaker_names
from careca.types import Turn


def test_the_turn_that_started_last_is_kept_and_the_earlier_one_continues_after_it() -> None:
    turns = (Turn(0, 3, "A"), Turn(2, 5, "B"), Turn(6, 9, "A"), Turn(7, 8, "B"))

    assert exclusive_turns(turns) == (
        Turn(0, 2, "A"),
        Turn(2, 5, "B"),
        Turn(6, 7, "A"),
        Turn(7, 8, "B"),
        Turn(8, 9, "A"),
    )


def test_of_two_turns_that_start_together_the_one_that_ends_first_comes_first() -> None:
    assert exclusive_turns((Turn(1, 2, "A"), Turn(1, 3, "B"))) == (Turn(1, 2, "A"), Turn(2, 3, "B"))


times = st.floats(0, 50).map(lambda seconds: round(seconds, 2))
turn_lists = st.lists(
    st.builds(
        lambda start, length, speaker: Turn(start, start + length, speaker), times, times, st.sampled_from("ABC")
    ),
    max_size=20,
).map(lambda turns: [turn for turn in turns if turn.start < turn.end])


@given(turn_lists)
def test_exclusive_turns_never_overlap_and_cover_all_speech(turns: list[Turn]) -> None:
    exclusive = exclusive_turns(turns)

    assert all(one.end <= following.start for one, following in pairwise(exclusive))
    assert all(
        any(turn.speaker == part.speaker and turn.start <= part.start and part.end <= turn.end for turn in turns)
        for part in exclusive
    )
    for moment in {time for turn in turns for time in (turn.start, (turn.start + turn.end) / 2)}:
        spoken_in = any(turn.start <= moment < turn.end for turn in turns)
        assert spoken_in == any(part.start <= moment < part.end for part in exclusive)


@given(turn_lists)
def test_labels_follow_the_first_speech_for_any_order_of_turns(turns: list[Turn]) -> None:
    named = renamed(turns, speaker_names(turns))

    assert [turn.start for turn in named] == sorted(turn.start for turn in turns)
    first_heard = list(dict.fromkeys(turn.speaker for turn in named))
    assert first_heard == [f"SPEAKER_{number:02d}" for number in range(len(first_heard))]
    assert named == renamed(turns[::-1], speaker_names(turns[::-1]))
