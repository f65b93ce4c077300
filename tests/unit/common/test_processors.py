"""The number of processors that a process may use."""

import os

import pytest

from careca.resources.processors import usable_processors


@pytest.fixture
def eight_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.fixture
def cpu_max(tmp_path):
    return tmp_path / "cpu.max"


def test_without_a_limit_all_processors_of_the_affinity_are_used(eight_processors, cpu_max):
    assert usable_processors(cpu_max) == 8

    cpu_max.write_text("max 100000\n")
    assert usable_processors(cpu_max) == 8


@pytest.mark.parametrize(("limit", "processors"), [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1)])
def test_a_container_uses_its_share(eight_processors, cpu_max, limit, processors):
    cpu_max.write_text(limit)

    assert usable_processors(cpu_max) == processors


def test_a_share_larger_than_the_machine_adds_no_processors(eight_processors, cpu_max):
    cpu_max.write_text("6400000 100000")

    assert usable_processors(cpu_max) == 8
