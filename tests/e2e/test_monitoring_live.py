"""Real processes, whose models only take time, and a real Prometheus: after a small load everything has data."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from careca_client import Client
from local_stack import free_ports
from monitoring.live import evidence, load
from monitoring.live.check import check_metrics, metrics_ports
from monitoring.live.prometheus import Prometheus
from support.media import tone, wav
from support.promtool import program
from support.timed_stack import TimedStack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimedStack]:
    folder = tmp_path_factory.mktemp("timed")
    with TimedStack(folder, environment=load.settings(folder), web=True) as running:
        yield running


@pytest.fixture(scope="module")
def loaded(stack: TimedStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, float]]:
    """Prometheus after everything has happened, and when that began."""
    program("prometheus")
    folder = tmp_path_factory.mktemp("monitored")
    recordings = [folder / f"{seconds}.wav" for seconds in (1, 2, 3)]
    for seconds, path in enumerate(recordings, 1):
        path.write_bytes(wav(tone(float(seconds))))
    (port,) = free_ports(1)
    with (
        Prometheus(folder / "prometheus", port, metrics_ports(stack)) as prometheus,
        Client(stack.gateway_target) as client,
    ):
        since = time.time()
        load.run(client, stack.web_url, recordings, print)
        yield prometheus, since


def test_every_panel_and_every_recording_rule_has_something_to_show(loaded: tuple[Prometheus, float]) -> None:
    found = evidence.findings_once_seen(*loaded)

    assert len(found) > 70
    assert not any(each.wrong for each in found), evidence.report(found)


def test_only_what_cannot_be_here_is_excused(loaded: tuple[Prometheus, float]) -> None:
    excused = [each for each in evidence.findings_once_seen(*loaded) if each.excuse]

    assert len(excused) == len(evidence.MAY_BE_EMPTY)
    assert not any(each.answered for each in excused)


def test_a_panel_that_asks_for_what_is_not_there_is_found_out(loaded: tuple[Prometheus, float]) -> None:
    prometheus, _ = loaded

    assert prometheus.values("careca_no_such_metric", time.time()) == []
    assert evidence.Finding("a panel", "careca_no_such_metric", answered=False).wrong


def test_prometheus_evaluates_every_rule(loaded: tuple[Prometheus, float]) -> None:
    prometheus, _ = loaded

    assert len(prometheus.rules()) > 20
    assert evidence.sick_rules(prometheus) == []


def test_no_alert_fires_on_services_that_are_well(loaded: tuple[Prometheus, float]) -> None:
    prometheus, _ = loaded

    assert [rule["name"] for rule in prometheus.rules() if rule.get("state") == "firing"] == []


def test_promtool_has_nothing_to_say_of_what_the_services_export(stack: TimedStack) -> None:
    program("promtool")

    assert check_metrics(metrics_ports(stack)) == ""
