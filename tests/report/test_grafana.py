"""The Grafana dashboard: it asks only for what the SDK serves, and its panels lie side by side.

Whether the queries give values is for ``tools/check_grafana.py``, which asks a real Prometheus.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_sdk.conditions.base import Conditions, Memory, PowerMode
from edge_sdk.measure.exporter import PowerCollector, exposition
from edge_sdk.measure.running import PowerStats
from edge_sdk.measure.watch import SensorNow, Snapshot
from edge_sdk.pipeline.books import SinkStats, Stats
from edge_sdk.report import grafana
from edge_sdk.result import Reading
from edge_sdk.sinks.metrics import MetricsCollector, text

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
BUILT_IN = {"__rate_interval", "__range"}  # Grafana's own variables

WATTS = Reading("VDD_IN", 7.5, "w", "sensor_total", 0)
BOARD = Snapshot(
    at_ns=0,
    seconds=1.0,
    total=WATTS,
    sensors=(SensorNow("ina3221", (WATTS,), (True,), 1.0),),
    conditions=Conditions(
        at_ns=0,
        temperatures=(Reading("cpu", 50.0, "c", None, 0),),
        clocks=(Reading("cpu0", 1500.0, "mhz", None, 0),),
        loads=(Reading("cpu", 50.0, "percent", None, 0),),
        memory=Memory(8000.0, 4000.0, 0.0),
        throttling=("gpu-throttle-alert",),
        power_mode=PowerMode("25W", 1),
    ),
    energy_j=7.5,
    energy_method="sensor_total",
    mean_w=7.5,
    min_w=7.5,
    peak_w=7.5,
    measured_s=1.0,
)
LOOP = Stats(
    captured=10,
    processed=8,
    dropped={"stale": 2},
    in_flight=0,
    percentiles={"infer_ms": {"p50": 1.0, "p90": 2.0, "p99": 3.0, "max": 4.0}},
    sinks={"jsonl": SinkStats(1, 0, 0, 0)},
    energy=PowerStats(1.0, 7.5, 7.5, "sensor_total", None, 10, 0.0, latest=WATTS),
)


@pytest.fixture(scope="module")
def dashboard() -> Any:
    return json.loads(grafana.text())


@pytest.fixture(scope="module")
def served() -> dict[str, set[str]]:
    """Every metric that the SDK serves, with its labels."""
    board, _ = exposition(PowerCollector(lambda: BOARD, "jetson-orin-nano"))
    loop, _ = text(MetricsCollector(lambda: LOOP, "door", lambda: {"in": 1}))
    found: dict[str, set[str]] = {}
    for body in (board, loop):
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def targets(dashboard: Any) -> Iterator[tuple[Any, Any]]:
    for panel in dashboard["panels"]:
        yield from ((panel, target) for target in panel.get("targets", ()))


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Metrics of a query, each with the labels that it is asked by."""
    found = re.findall(r"(\w+)\{([^}]*)\}", expression)
    return [(name, set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", labels))) for name, labels in found]


def queries(dashboard: Any) -> list[str]:
    variables = [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    return [target["expr"] for _, target in targets(dashboard)] + variables


def test_every_query_asks_for_what_is_served_by_labels_that_it_has(dashboard, served) -> None:
    wrong = []
    for expression in queries(dashboard):
        names = set(re.findall(r"\bedge_sdk_\w+", expression))
        assert names, expression
        wrong += [name for name in names if name not in served]
        for name, labels in selectors(expression):
            wrong += [f"{name}{{{label}}}" for label in labels - served[name] - {"instance"}]
    assert wrong == []


def test_every_legend_names_labels_that_are_there(dashboard, served) -> None:
    for panel, target in targets(dashboard):
        labels = set.union(*(served[name] for name, _ in selectors(target["expr"]))) | {"instance"}
        asked = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert asked <= labels, panel["title"]
        assert target["legendFormat"], panel["title"]


def test_every_metric_of_the_board_is_shown(dashboard, served) -> None:
    shown = {name for _, target in targets(dashboard) for name, _ in selectors(target["expr"])}
    assert {name for name in served if name.startswith("edge_sdk_board_")} - shown == {"edge_sdk_board_info"}


def test_every_panel_of_boards_and_loops_is_asked_for_the_chosen_ones(dashboard) -> None:
    for panel, target in targets(dashboard):
        for name, labels in selectors(target["expr"]):
            wanted = {"instance"} if name.startswith("edge_sdk_board_") else {"instance", "camera"}
            assert wanted <= labels, panel["title"]


def test_variables_are_defined_and_used(dashboard) -> None:
    defined = {one["name"] for one in dashboard["templating"]["list"]}
    used = {name for query in queries(dashboard) for name in re.findall(r"\$(\w+)", query)}
    assert used - BUILT_IN == defined - {"datasource"}


def test_the_data_source_is_a_variable_everywhere(dashboard) -> None:
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    assert dashboard["templating"]["list"][0]["query"] == "prometheus"
    places = [one for one in dashboard["panels"] if one["type"] != "row"]
    places += [target for _, target in targets(dashboard)]
    places += [one for one in dashboard["templating"]["list"] if one["type"] == "query"]
    assert len(places) > 40
    assert [one for one in places if one["datasource"] != DATASOURCE] == []


def test_ids_are_unique_and_queries_of_a_panel_have_names_of_their_own(dashboard) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in dashboard["panels"]:
        names = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(names)) == len(names)


def test_no_panel_lies_on_another_or_beyond_the_edge(dashboard) -> None:
    spots = [(panel["gridPos"], panel["title"]) for panel in dashboard["panels"]]
    for spot, title in spots:
        assert spot["x"] >= 0 < spot["w"], title
        assert spot["x"] + spot["w"] <= 24, title
    for (one, title), (other, other_title) in combinations(spots, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, f"{title}, {other_title}"


def test_every_figure_has_a_unit_or_words(dashboard) -> None:
    bare = [
        panel["title"]
        for panel in dashboard["panels"]
        if panel["type"] != "row"
        and not {"unit"} & set(panel["fieldConfig"]["defaults"])
        and not panel["fieldConfig"]["defaults"]["mappings"]
    ]
    assert bare == ["Power mode"]  # it shows a name


def test_it_is_what_grafana_imports(dashboard) -> None:
    assert dashboard["id"] is None
    assert dashboard["uid"] == "edge-sdk-boards"
    assert dashboard["schemaVersion"] == 42  # the classic format's last one: @grafana/schema 12.2.0 to 13.2.3
    assert "elements" not in dashboard  # by which Grafana 13 tells its new format
    assert "__inputs" not in dashboard  # by which the data source would be asked for once, and be fixed then
    assert dashboard["title"] == "Edge SDK: boards and loops"
