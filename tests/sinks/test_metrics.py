"""A run's accounting as Prometheus metrics."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from edge_sdk.measure.running import PowerStats
from edge_sdk.pipeline.books import DROP_CAUSES, Books, SinkStats, Stats
from edge_sdk.result import Reading, Timing
from edge_sdk.sinks.metrics import STATES, MetricsCollector, text

RUN = Stats(
    captured=120,
    processed=100,
    dropped={"overwritten": 17, "stale": 1},
    in_flight=2,
    percentiles={
        "wait_ms": {"p50": 1.0, "p90": 2.0, "p99": 3.0, "max": 4.0},
        "total_ms": {"p50": 25.0, "p90": 30.0, "p99": 41.5, "max": 250.0},
    },
    state="reconnecting",
    reconnects=3,
    stalls=4,
    sinks={
        "mqtt://***@broker/out": SinkStats(written=90, dropped=7, failed=2, waiting=1, error="gone"),
        "jsonl:out.jsonl": SinkStats(written=100, dropped=0, failed=0, waiting=0),
    },
)
NEW = Stats(captured=0, processed=0, dropped={}, in_flight=0, percentiles={})

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(stats: Stats, camera: str = "door", counts: Mapping[str, int] | None = None) -> Samples:
    """Every sample as Prometheus' own parser reads it, by name and labels other than the camera's."""
    body, kind = text(MetricsCollector(lambda: stats, camera, None if counts is None else lambda: counts))
    assert kind.startswith("text/plain; version=")
    found: Samples = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("camera") == camera
            key = (sample.name, frozenset(labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[(f"edge_sdk_{name}", frozenset(labels.items()))]


def labelled(samples: Samples, name: str, label: str) -> set[str]:
    return {dict(labels)[label] for one, labels in samples if one == f"edge_sdk_{name}"}


def test_frames_are_counted_as_the_books_count_them() -> None:
    samples = scrape(RUN)
    assert of(samples, "frames_captured_total") == 120
    assert of(samples, "frames_processed_total") == 100
    assert of(samples, "frames_in_flight") == 2
    assert of(samples, "reconnects_total") == 3
    assert of(samples, "stalls_total") == 4
    dropped = sum(of(samples, "frames_dropped_total", cause=cause) for cause in DROP_CAUSES)
    assert 100 + dropped + 2 == 120


def test_every_cause_of_a_drop_is_there_from_the_start_so_that_rate_sees_its_first_step() -> None:
    samples = scrape(NEW)
    assert labelled(samples, "frames_dropped_total", "cause") == set(DROP_CAUSES)
    assert {of(samples, "frames_dropped_total", cause=cause) for cause in DROP_CAUSES} == {0.0}
    assert (of(scrape(RUN), "frames_dropped_total", cause="overwritten")) == 17


def test_the_causes_are_those_that_the_books_name() -> None:
    said = re.search(r"by cause:(.*?)in_flight:", Stats.__doc__ or "", re.DOTALL)
    assert said is not None
    assert tuple(re.findall(r'"(\w+)"', said.group(1))) == DROP_CAUSES


def test_a_cause_that_is_not_on_the_list_is_told_too() -> None:
    samples = scrape(replace(NEW, dropped={"eaten_by_a_bear": 2}))
    assert of(samples, "frames_dropped_total", cause="eaten_by_a_bear") == 2
    assert of(samples, "frames_dropped_total", cause="stale") == 0


def test_stages_are_in_seconds_by_quantile() -> None:
    samples = scrape(RUN)
    assert of(samples, "stage_seconds", stage="total", quantile="0.5") == pytest.approx(0.025)
    assert of(samples, "stage_seconds", stage="total", quantile="0.99") == pytest.approx(0.0415)
    assert of(samples, "stage_seconds", stage="total", quantile="1") == pytest.approx(0.25)
    assert of(samples, "stage_seconds", stage="wait", quantile="0.9") == pytest.approx(0.002)
    assert not [name for name, _ in scrape(NEW) if name == "edge_sdk_stage_seconds"]  # no figure is made up


def test_the_stages_of_real_books_are_those_of_a_timing() -> None:
    books = Books()
    books.captured()
    books.processed(Timing(1.0, 2.0, 30.0, 4.0, 37.0))
    samples = scrape(books.stats())
    assert labelled(samples, "stage_seconds", "stage") == {"wait", "preprocess", "infer", "decode", "total"}
    assert labelled(samples, "stage_seconds", "quantile") == {"0.5", "0.9", "0.99", "1"}
    assert of(samples, "stage_seconds", stage="infer", quantile="0.5") == pytest.approx(0.03)


@pytest.mark.parametrize("state", STATES)
def test_exactly_one_of_the_six_states_is_one(state: str) -> None:
    samples = scrape(replace(RUN, state=state))
    values = {one: of(samples, "camera_state", state=one) for one in STATES}
    assert len(values) == 6
    assert [one for one, value in values.items() if value == 1] == [state]
    assert sum(values.values()) == 1


def test_sinks_are_told_by_outcome_with_what_waits() -> None:
    samples = scrape(RUN)
    name = "mqtt://***@broker/out"
    outcomes = [of(samples, "sink_results_total", sink=name, outcome=o) for o in ("written", "dropped", "failed")]
    assert outcomes == [90, 7, 2]
    assert of(samples, "sink_waiting", sink=name) == 1
    assert labelled(samples, "sink_waiting", "sink") == set(RUN.sinks)


def test_power_and_energy_are_there_where_they_are_known() -> None:
    latest = Reading("board", 4.9, "w", "sensor_partial", 9, "without VDD_SOC (gone)")
    energy = PowerStats(60.0, 290.0, 4.9, "sensor_total", None, 600, 2.5, latest=latest)
    samples = scrape(replace(RUN, energy=energy))
    assert of(samples, "power_watts", method="sensor_partial") == 4.9
    assert of(samples, "energy_joules_total", method="sensor_total") == 290
    assert of(samples, "power_gaps_seconds_total") == 2.5
    gone = replace(energy, energy_j=None, mean_w=None, latest=replace(latest, value=None, method=None))
    assert {name for name, _ in scrape(replace(RUN, energy=gone)) if "power" in name or "joules" in name} == {
        "edge_sdk_power_gaps_seconds_total"
    }
    assert not [name for name, _ in scrape(RUN) if "power" in name or "joules" in name]


def test_counts_of_zones_are_there_where_somebody_counts() -> None:
    samples = scrape(RUN, counts={"door in": 3, 'the "queue"': 2})
    assert of(samples, "zone_count", counter="door in") == 3
    assert of(samples, "zone_count", counter='the "queue"') == 2
    assert not [name for name, _ in scrape(RUN) if "zone" in name]


def test_a_camera_is_named_without_its_password() -> None:
    body, _ = text(MetricsCollector(lambda: RUN, "rtsp://admin:hunter2@10.0.0.5/live?key=secret"))
    assert b"hunter2" not in body
    assert b"secret" not in body
    assert b'camera="rtsp://***@10.0.0.5/live?key=***"' in body


@given(name=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_name_comes_through_as_it_is(name: str) -> None:
    stats = replace(NEW, sinks={name: SinkStats(1, 0, 0, 0)})
    assert of(scrape(stats), "sink_waiting", sink=name) == 0


def test_a_file_whose_name_is_not_utf8_breaks_no_scrape() -> None:
    name = os.fsdecode(b"jsonl:caf\xe9.jsonl")
    samples = scrape(replace(NEW, sinks={name: SinkStats(5, 0, 0, 0)}))
    assert of(samples, "sink_results_total", sink="jsonl:caf\\udce9.jsonl", outcome="written") == 5


def test_every_family_is_told_once_with_its_kind_and_help() -> None:
    body, _ = text(MetricsCollector(lambda: RUN, "door", lambda: {"in": 1}))
    lines = body.decode().splitlines()
    kinds = [line.split()[2:] for line in lines if line.startswith("# TYPE ")]
    helped = [line.split()[2] for line in lines if line.startswith("# HELP ")]
    assert len({name for name, _ in kinds}) == len(kinds) == len(helped) == 11
    assert all((kind == "counter") == name.endswith("_total") for name, kind in kinds)


def test_a_registry_reads_the_figures_anew_at_each_scrape() -> None:
    books, reads = Books(), 0

    def stats() -> Stats:
        nonlocal reads
        reads += 1
        return books.stats()

    registry = CollectorRegistry()
    registry.register(MetricsCollector(stats, "door"))
    assert reads == 0
    assert registry.get_sample_value("edge_sdk_frames_captured_total", {"camera": "door"}) == 0
    books.captured()
    assert registry.get_sample_value("edge_sdk_frames_captured_total", {"camera": "door"}) == 1


def test_without_the_library_the_extra_is_named_and_importing_is_no_error() -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from edge_sdk.sinks.metrics import MetricsCollector\n"
        "MetricsCollector(lambda: None, 'door')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    last = ran.stderr.splitlines()[-1]
    assert last == (
        "edge_sdk.errors.MissingDependencyError: prometheus-client is not installed: pip install 'edge-sdk[http]'"
    )
