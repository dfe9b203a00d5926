"""Our count of a single stream held against LoadGen's own: its logs, and the library itself where it is installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "compare_loadgen.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_loadgen", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def loadgen() -> ModuleType:
    return pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed: pip install mlcommons-loadgen")


# Lines as mlcommons-loadgen 6.0.17 writes them.
DETAIL = """\
:::MLLOG {"key": "loadgen_version", "value": "6.0.17 @ none", "time_ms": 0.02, "metadata": {"is_error": false}}
not a log line
:::MLLOG {"key": "cut off
:::MLLOG {"key": "result_query_count", "value": 3, "time_ms": 12.0, "metadata": {"is_error": false}}
:::MLLOG {"key": "result_90.00_percentile_latency_ns", "value": 25888, "time_ms": 12.0, "metadata": {}}
"""
TRACE = """\
{"traceEvents":[
{"name":"Waiting","ph":"X","pid":1,"tid":1,"ts":183.593,"dur":0.050,"args":{}},
{"name":"Sample","cat":"default","ph":"b","pid":1,"id":0,"ts":183.613,"args":{"sample_seq":0,"query_seq":0,"sample_idx":0,"issue_start_ns":0,"complete_ns":25888}},
{"name":"Sample","cat":"default","ph":"e", "pid":1,"id":0,"ts":209.501},
{"name":"Sample","cat":"default","ph":"b","pid":1,"id":2,"ts":227.9,"args":{"sample_seq":2,"query_seq":2,"sample_idx":0,"issue_start_ns":0,"complete_ns":4238}},
{"name":"Sample","cat":"default","ph":"b","pid":1,"id":1,"ts":218.9,"args":{"sample_seq":1,"query_seq":1,"sample_idx":0,"issue_start_ns":10,"complete_ns":5811}},
{"name":"Sample","cat":"default","ph":"b","pid":1,"id":3,"ts":218.9,"args":{"sample_seq":3,"qu"""


def test_the_detail_log_is_read_and_broken_lines_are_passed_over(tool: ModuleType) -> None:
    found = tool.parse_detail(DETAIL)
    assert found["result_query_count"] == 3
    assert found["result_90.00_percentile_latency_ns"] == 25888
    assert set(found) == {"loadgen_version", "result_query_count", "result_90.00_percentile_latency_ns"}


def test_the_trace_gives_each_querys_nanoseconds_in_order_of_issue(tool: ModuleType) -> None:
    assert tool.parse_trace(TRACE) == (25888, 5801, 4238)
    assert tool.parse_trace("") == ()


def test_a_trace_that_lacks_queries_is_refused(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "mlperf_log_detail.txt").write_text(DETAIL)
    (tmp_path / "mlperf_log_trace.json").write_text("\n".join(TRACE.splitlines()[:5]))
    with pytest.raises(RuntimeError, match="counted 3 queries and traced 2"):
        tool.read_run(tmp_path)


def test_a_figure_that_differs_is_told(tool: ModuleType) -> None:
    latencies = tuple(range(1, 101))
    names = {"50.00": 51, "90.00": 91, "95.00": 96, "97.00": 98, "99.00": 100, "99.90": 100}
    log = {f"result_{name}_percentile_latency_ns": value for name, value in names.items()}
    log |= {"result_min_latency_ns": 1, "result_max_latency_ns": 100}
    log |= {"early_stopping_latency_ss": 98, "early_stopping_latency_ms": 0}
    assert tool.LoadGenRun(latencies, log).disagreements() == []
    wrong = {**log, "result_90.00_percentile_latency_ns": 90, "early_stopping_latency_ms": 100}
    assert tool.LoadGenRun(latencies, wrong).disagreements() == [
        "p90: ours 91 ns, LoadGen's 90 ns",
        "early stopping p99: ours None ns, LoadGen's 100 ns",
    ]


@pytest.mark.parametrize("queries", [1, 63, 64, 100, 101, 150, 661, 662, 999, 1000, 5000])
def test_our_percentiles_equal_those_that_loadgen_reports_of_the_same_latencies(
    tool: ModuleType, loadgen: ModuleType, tmp_path: Path, queries: int
) -> None:
    generator = np.random.default_rng(queries)

    def query() -> None:  # latencies that differ by more than the clock's steps
        for _ in range(generator.integers(200)):
            pass

    run = tool.run_loadgen(query, tmp_path, seconds=0, min_queries=queries, max_queries=queries, expected_s=1)
    assert len(run.latencies_ns) == queries
    assert len(set(run.latencies_ns)) > queries / 10
    assert run.disagreements() == []
    assert (run.reported_early()["p90"] is None) == (queries < 64)
    assert (run.reported_early()["p99"] is None) == (queries < 662)


def test_loadgen_ends_a_run_where_our_rule_ends_it(tool: ModuleType, loadgen: ModuleType, tmp_path: Path) -> None:
    from edge_sdk.measure import loadgen_rules as rules

    issued: list[float] = []

    def query() -> None:
        issued.append(time.perf_counter())
        time.sleep(0.002)

    tool.run_loadgen(query, tmp_path, seconds=0.3, min_queries=100, expected_s=0.0005)
    since = [moment - issued[0] for moment in issued]
    # Our clock is read some microseconds after LoadGen's: the last but one may lie on either side of the edge.
    assert rules.enough(len(issued), since[-1] + 0.001, 0.3)
    assert not rules.enough(len(issued) - 1, since[-2] - 0.001, 0.3)


def test_loadgen_counts_what_a_query_takes_and_its_own_hand_over(
    tool: ModuleType, loadgen: ModuleType, tmp_path: Path
) -> None:
    ours: list[int] = []

    def query() -> None:
        began = time.perf_counter_ns()
        time.sleep(0.001)
        ours.append(time.perf_counter_ns() - began)

    run = tool.run_loadgen(query, tmp_path, seconds=0, min_queries=100, max_queries=100)
    assert len(ours) == len(run.latencies_ns) == 100
    assert all(theirs >= mine >= 1_000_000 for theirs, mine in zip(run.latencies_ns, ours, strict=True))


@pytest.mark.slow
def test_a_real_detector_under_loadgen_and_our_own_runs_agree(loadgen: ModuleType, yolox: Path) -> None:
    done = subprocess.run(
        [sys.executable, TOOL, yolox, "--turns", "3", "--json"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same_latencies_agree"]
    assert [row["valid"] for row in found["turns"]] == ["VALID"] * 3
    # On the same queries LoadGen's time is ours and a hand-over; between runs a busy machine's speed drifts.
    assert 1.0 <= found["same_queries_ratio"]["p50"]["median"] < 1.05
    assert 0.5 < found["own_run_ratio"]["p50"]["median"] < 2
