"""What is scraped is called what rules and dashboards ask for, and what the page about monitoring says is so."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import settings_table
from careca.settings import variable_name
from careca_client.cli.app import build_app
from monitoring.dashboards import DASHBOARDS
from monitoring.live.evidence import MAY_BE_EMPTY
from monitoring.prometheus_rules import rule_files
from monitoring.prometheus_tools import PACKAGE, NoPrometheusError, fetch
from support.exported import exported
from support.promql import selectors

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "k8s" / "monitoring"
SERVICES = ("gateway", "web", "transcriber", "diarizer")
PAGE = (ROOT / "docs" / "monitoring.md").read_text()
SOURCES = [*(ROOT / "services").glob("*/src/**/*.py"), *(ROOT / "client").glob("src/**/*.py")]


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def test_the_component_names_every_resource() -> None:
    component = documents("kustomization.yaml")[0]
    resources = {file.name for file in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}

    assert component["kind"] == "Component"
    assert set(component["resources"]) == resources


def test_each_service_is_scraped_under_the_name_that_rules_ask_for() -> None:
    monitors = {each["metadata"]["name"]: each["spec"] for each in documents("pod-monitors.yaml")}

    assert set(monitors) == set(SERVICES)
    for service, spec in monitors.items():
        (endpoint,) = spec["podMetricsEndpoints"]
        assert spec["selector"]["matchLabels"]["app.kubernetes.io/name"] == service
        assert endpoint["port"] == "metrics"
        assert {"targetLabel": "job", "replacement": f"careca-{service}"} in endpoint["relabelings"]


def test_rules_ask_for_no_job_that_is_not_scraped() -> None:
    jobs = {f"careca-{service}" for service in SERVICES} | {"careca-(gateway", "web", "transcriber", "diarizer)"}
    asked = {
        value
        for file in rule_files()
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        for selector in selectors(rule["expr"])
        for label, _, values in selector.matchers
        if label == "job"
        for value in values.split("|")
    }

    assert asked
    assert asked <= jobs


def test_what_may_have_no_value_on_one_machine_exists() -> None:
    groups = [group for file in rule_files() for group in yaml.safe_load(file.read_text())["groups"]]
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}

    assert set(MAY_BE_EMPTY) <= set(exported()) | recorded
    assert all(MAY_BE_EMPTY.values())


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_page_has_a_picture_of_each_dashboard(name: str) -> None:
    picture = ROOT / "docs" / "monitoring" / f"{name}.png"

    assert f"(monitoring/{name}.png)" in PAGE
    assert 10_000 < picture.stat().st_size < 150_000


def test_every_setting_that_the_page_names_exists() -> None:
    named = set(re.findall(r"CARECA_[A-Z_]+", PAGE))
    known = {variable_name(field) for each in settings_table.SERVICES.values() for field in each.model_fields}

    assert len(named) > 8
    assert named - known == set()


def test_every_panel_that_the_page_names_exists() -> None:
    titles = {panel.title for board in DASHBOARDS.values() for panel in board.panels}
    boards = {board.title.removeprefix("Careca / ") for board in DASHBOARDS.values()}
    named = re.findall(r"\*((?:Jobs and latency|Cache|Memory|One service|Web))\*, ((?:\*[^*]+\*(?: and )?)+)", PAGE)

    assert len(named) >= 10
    for board, panels in named:
        assert board in boards
        assert set(re.findall(r"\*([^*]+)\*", panels)) <= titles


def test_every_command_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`careca ([a-z-]+(?: [a-z-]+)?)", PAGE))
    root = typer.main.get_command(build_app())

    assert len(named) > 3
    for command in named:
        found: Any = root
        for word in command.split():
            found = found.commands[word]


def test_every_line_of_the_log_that_the_page_names_is_logged() -> None:
    code = "".join(path.read_text() for path in SOURCES)
    named = set(re.findall(r"(?<!\*)\*((?:[a-z]|Service)[^*\n]+)\*(?!\*)", PAGE)) - {"after", "with its data"}

    assert "task finished" in named
    assert [line for line in named if f'"{line}"' not in code] == []


def test_without_debians_tools_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoPrometheusError, match=f"{PACKAGE} is to be installed by hand"):
        fetch(tmp_path)
