"""Whisper's workers use the processors."""

import pytest

from careca_transcriber.whisper_engine import divide_processors


@pytest.mark.parametrize(
    ("processors", "workers", "threads"),
    [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 4, 1), (5, 2, 2), (6, 3, 2), (8, 4, 2), (16, 4, 4), (64, 4, 16)],
)
def test_at_most_four_workers_divide_the_processors(processors, workers, threads):
    assert divide_processors(processors) == (workers, threads)


def test_at_least_two_thirds_of_the_processors_are_used():
    assert all(
        3 * workers * threads >= 2 * processors
        for processors in range(1, 200)
        for workers, threads in [divide_processors(processors)]
    )
