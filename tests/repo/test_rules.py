"""The rules do what their tests say, ask for what the code exports, and each alert has a page that says what to do."""

import re
from pathlib import Path

import pytest
import yaml

from monitoring.prometheus_rules import WRAPPED, rule_files, wrapped
from support.exported import SCRAPED, exported
from support.promql import selectors, wrong
from support.promtool import promtool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "k8s" / "monitoring"
PAGE = "https://github.com/careca/careca/blob/main/docs/monitoring.md#"
RULES = [
    rule for file in rule_files() for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
NAMES = sorted({alert["alert"] for alert in ALERTS})


def expected(name: str) -> list[object]:
    """What the tests of the rules expect of an alert, once for each time that they look."""
    files = [yaml.safe_load(file.read_text()) for file in sorted((FOLDER / "tests").glob("*.yaml"))]
    looks = [look for file in files for test in file["tests"] for look in test["alert_rule_test"]]
    return [look["exp_alerts"] for look in looks if look["alertname"] == name]


def test_there_are_rules() -> None:
    assert len(NAMES) >= 15
    assert len(RECORDED) >= 5


def test_prometheus_reads_the_rules() -> None:
    assert promtool("check", "rules", *rule_files()) == ""


@pytest.mark.parametrize("file", sorted((FOLDER / "tests").glob("*.yaml")), ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_are_silent_when_they_should_be(file: Path) -> None:
    assert promtool("test", "rules", file) == ""


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_is_tested_firing_and_silent(name: str) -> None:
    looks = expected(name)

    assert any(looks), "it is never expected to fire"
    assert not all(looks), "it is never expected to be silent"


def test_a_rule_that_was_changed_fails_its_tests(tmp_path: Path) -> None:
    for part in ("rules", "tests"):
        (tmp_path / part).mkdir()
        for file in (FOLDER / part).glob("*.yaml"):
            text = file.read_text()
            (tmp_path / part / file.name).write_text(text.replace("> 3600", "> 36000") if part == "rules" else text)

    assert "CarecaQueueAgeHigh" in promtool("test", "rules", tmp_path / "tests" / "jobs.yaml")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_what_the_code_exports(rule: dict[str, str]) -> None:
    known = exported() | {name: {} for name in RECORDED}

    assert list(selectors(rule["expr"]))
    assert wrong(rule["expr"], known, SCRAPED) == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_it_is_what_is_wrong_and_where_to_read_on(alert: dict[str, dict[str, str]]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert {"summary", "description", "runbook_url"} == set(alert["annotations"])
    assert alert["annotations"]["runbook_url"] == f"{PAGE}{str(alert['alert']).lower()}"


def test_each_alert_has_a_section_on_the_page_and_no_section_is_of_an_alert_that_is_gone() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()

    assert sorted(re.findall(r"^### (Careca\w+)$", text, re.MULTILINE)) == NAMES


def test_the_operators_rules_are_the_same_rules() -> None:
    assert WRAPPED.read_text() == wrapped(), "write it again: python deploy/k8s/monitoring/prometheus_rules.py"
    specs = [each["spec"] for each in yaml.safe_load_all(WRAPPED.read_text())]
    assert specs == [yaml.safe_load(file.read_text()) for file in rule_files()]
