"""The dashboards keep the rules of Grafana's dashboard linter and some more, and ask for what the code exports."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.dashboards import DASHBOARDS, FOLDER, text_of
from monitoring.panel_queries import panel_queries
from support.exported import SCRAPED, exported, registries
from support.promql import selectors, wrong
from support.promtool import promtool

BOARDS = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in DASHBOARDS}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"]]
EXPRESSIONS = [(name, panel["title"], target["expr"]) for name, panel in PANELS for target in panel["targets"]]
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

SHARED = {
    *("careca_cache_entries", "careca_cache_max_entries", "careca_cache_size_bytes"),
    *("careca_jobs", "careca_jobs_waiting", "careca_jobs_oldest_waiting_seconds", "careca_webhooks_pending"),
}
"""What every replica tells of the same thing."""

boards = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
panels = pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=[f"{n}: {p['title']}" for n, p in PANELS])
expressions = pytest.mark.parametrize(
    "expr", [expr for *_, expr in EXPRESSIONS], ids=[f"{name}: {title}" for name, title, _ in EXPRESSIONS]
)


def variables(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in board["templating"]["list"]}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_files_are_what_the_code_writes(name: str) -> None:
    again = "write them again: cd deploy/k8s && python -m monitoring.dashboards"

    assert (FOLDER / f"{name}.json").read_text() == text_of(DASHBOARDS[name]), again


def test_all_files_are_installed_and_no_others() -> None:
    (maps,) = yaml.safe_load((FOLDER.parent / "kustomization.yaml").read_text())["configMapGenerator"]
    files = sorted(f"dashboards/{path.name}" for path in FOLDER.iterdir())

    assert maps["files"] == files == sorted(f"dashboards/{name}.json" for name in DASHBOARDS)
    assert maps["options"]["labels"]["grafana_dashboard"] == "1"


@boards
def test_a_dashboard_is_changed_here_and_not_in_grafana(board: dict[str, Any]) -> None:
    assert board["editable"] is False
    assert "id" not in board
    assert re.fullmatch(r"careca-[a-z]+", board["uid"])


@boards
def test_the_source_of_data_is_chosen_in_grafana(board: dict[str, Any]) -> None:
    source = variables(board)["datasource"]

    assert (source["type"], source["query"], source["label"]) == ("datasource", "prometheus", "Data source")


@boards
@pytest.mark.parametrize("name", ["namespace", "job", "pod"])
def test_what_to_look_at_is_chosen_among_what_there_is(board: dict[str, Any], name: str) -> None:
    variable = variables(board)[name]

    assert variable["type"] == "query"
    assert variable["datasource"] == DATASOURCE
    assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
    assert variable["refresh"] == 2, "what there is may have changed when another time is looked at"
    assert variable["label"] == name.title()
    assert wrong(variable["query"].replace("label_values(", "("), exported() | {"namespace": {}}, SCRAPED) == []


@panels
def test_a_panel_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]

    assert panel["title"]
    assert panel["description"].endswith(".")
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    later = [step["value"] for step in defaults["thresholds"]["steps"][1:]]
    assert later == sorted(later)


@panels
def test_a_panel_asks_the_source_that_is_chosen(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    assert panel["datasource"] == DATASOURCE
    assert all(target["datasource"] == DATASOURCE and target["legendFormat"] for target in panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@boards
def test_panels_have_numbers_and_names_and_places_of_their_own(board: dict[str, Any]) -> None:
    places: Counter[tuple[int, int]] = Counter()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        places.update((x, y) for x in columns for y in rows)

    assert set(places.values()) == {1}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len({panel["title"] for panel in board["panels"]}) == len(board["panels"])


@expressions
def test_a_query_keeps_to_what_is_chosen(expr: str) -> None:
    chosen = {("namespace", "=~", "$namespace"), ("job", "=~", "$job"), ("pod", "=~", "$pod")}
    found = list(selectors(expr))

    assert found
    assert all(chosen <= set(selector.matchers) for selector in found)


@expressions
def test_a_query_asks_for_what_the_code_exports(expr: str) -> None:
    assert wrong(expr, exported(), SCRAPED) == []


@expressions
def test_counters_are_asked_how_they_grow_and_nothing_else_is(expr: str) -> None:
    counters = {
        sample.name
        for registry in registries().values()
        for family in registry.collect()
        for sample in family.samples
        if family.type == "counter" or (family.type == "histogram" and sample.name != family.name)
    }
    for selector in selectors(expr):
        grows = selector.before.endswith(("rate(", "increase("))
        assert grows == (selector.metric in counters), selector.metric


@expressions
def test_rates_are_over_grafanas_interval_and_totals_over_what_is_looked_at(expr: str) -> None:
    for selector in selectors(expr):
        if selector.before.endswith("rate("):
            assert selector.after.startswith("[$__rate_interval]")
        elif selector.before.endswith("increase("):
            assert selector.after.startswith("[$__range]")
    assert set(re.findall(r"\[([^]]*)\]", expr)) <= {"$__rate_interval", "$__range"}


@expressions
def test_what_is_shared_is_not_added_up_and_no_ratio_is_averaged(expr: str) -> None:
    assert "avg" not in expr
    for selector in selectors(expr):
        if selector.metric in SHARED:
            assert re.search(r"\bmax\s*\($", selector.before), expr


def test_prometheus_reads_every_query(tmp_path: Path) -> None:
    queries = [query for name in DASHBOARDS for query in panel_queries(BOARDS[name])]
    rules = [{"record": f"panel:{number}", "expr": query.expr} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    assert len(rules) > 60
    assert promtool("check", "rules", "--lint=none", file) == ""
