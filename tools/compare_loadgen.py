"""Our single-stream latency beside MLPerf LoadGen's own, on the same detector.

    pip install mlcommons-loadgen
    python tools/compare_loadgen.py path/to/yolox_nano.onnx --photo street.jpg

Real LoadGen (SingleStream, PerformanceOnly, at least 10 s and 100 queries) issues whole detections. Three comparisons:

- the same latencies: LoadGen's nanoseconds of each query, read from its trace, through our rules; percentiles and early
  stopping estimates must equal those that it logged, exactly, or the exit code is 1;
- the same queries: what our clock said of the queries that LoadGen issued. LoadGen counts from issue to completion, so
  it adds the hand-over into Python and the call that reports completion: the difference is its own overhead;
- runs of ours and of LoadGen's in turns (the machine's speed drifts): the ratio of their percentiles.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_sdk.detector import Detector
from edge_sdk.measure import loadgen_rules as rules
from edge_sdk.measure.single_stream import SingleStream
from edge_sdk.sources.files import read_photo

TURNS = 3
SHOWN = ("p50", "p90", "p99")
# What LoadGen's detail log calls the percentiles: DoubleToString gives two decimals.
_LOGGED = {name: f"result_{part * 100:.2f}_percentile_latency_ns" for name, part in rules.PERCENTILES.items()}
_EARLY = {"p90": "early_stopping_latency_ss", "p99": "early_stopping_latency_ms"}
_MLLOG = ":::MLLOG "


@dataclass(frozen=True)
class LoadGenRun:
    """What LoadGen left of a run.

    Args:
        latencies_ns: Of each query, in order, from its trace.
        log: Its detail log: values by key.
    """

    latencies_ns: tuple[int, ...]
    log: Mapping[str, Any]

    def reported(self) -> dict[str, int]:
        """The percentiles, min and max that it logged, in ns."""
        found = {name: int(self.log[key]) for name, key in _LOGGED.items()}
        return {**found, "min": int(self.log["result_min_latency_ns"]), "max": int(self.log["result_max_latency_ns"])}

    def reported_early(self) -> dict[str, int | None]:
        """Its early stopping estimates, in ns; None of too few queries, for which it logs 0."""
        return {name: int(self.log[key]) or None for name, key in _EARLY.items()}

    def disagreements(self) -> list[str]:
        """A line for each figure that our rules make otherwise of the same latencies; empty where all agree."""
        ours = {name: rules.percentile(self.latencies_ns, part) for name, part in rules.PERCENTILES.items()}
        ours |= {"min": min(self.latencies_ns), "max": max(self.latencies_ns)}
        early = {n: rules.early_stopping_percentile(self.latencies_ns, p) for n, p in rules.EARLY_STOPPING.items()}
        pairs = [(name, ours[name], value) for name, value in self.reported().items()]
        pairs += [(f"early stopping {name}", early[name], value) for name, value in self.reported_early().items()]
        return [f"{name}: ours {mine} ns, LoadGen's {theirs} ns" for name, mine, theirs in pairs if mine != theirs]


def parse_detail(text: str) -> dict[str, Any]:
    """Values by key of mlperf_log_detail.txt; lines that are no log entries are passed over, the last of a key wins."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith(_MLLOG):
            try:
                entry = json.loads(line.removeprefix(_MLLOG))
            except ValueError:
                continue
            if isinstance(entry, dict) and "key" in entry:
                found[str(entry["key"])] = entry.get("value")
    return found


def parse_trace(text: str) -> tuple[int, ...]:
    """Nanoseconds of each query of mlperf_log_trace.json, in the order of their issue.

    Found line by line: a run that was cut off leaves a file that is no JSON.
    """
    found = {
        int(sequence): int(complete) - int(start)
        for sequence, start, complete in re.findall(
            r'"name":"Sample".*?"query_seq":(\d+).*?"issue_start_ns":(\d+),"complete_ns":(\d+)', text
        )
    }
    return tuple(found[sequence] for sequence in sorted(found))


def run_loadgen(
    query: Callable[[], object],
    folder: Path,
    *,
    seconds: float = rules.MIN_SECONDS,
    min_queries: int = rules.MIN_QUERIES,
    max_queries: int = 0,
    expected_s: float = 0.001,
) -> LoadGenRun:
    """Has LoadGen issue `query` in SingleStream.

    Args:
        query: Does one query; it is complete when this returns.
        folder: Where LoadGen writes its logs.
        seconds, min_queries: Until both hold.
        max_queries: 0 is no bound.
        expected_s: Of a query; LoadGen makes its queries beforehand, so more than real means too few.

    Raises:
        ImportError: mlperf_loadgen is not installed.
        RuntimeError: The trace has another number of queries than LoadGen counted, or it logged errors.
    """
    import mlperf_loadgen as loadgen

    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.SingleStream
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = round(seconds * 1000)
    settings.min_query_count = min_queries
    settings.max_query_count = max_queries
    settings.single_stream_expected_latency_ns = max(1, round(expected_s * 1e9))
    output = loadgen.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    logs = loadgen.LogSettings()
    logs.log_output = output
    logs.enable_trace = True

    def issue(samples: Any) -> None:
        for sample in samples:
            query()
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0)])

    system = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(1, 1, lambda _: None, lambda _: None)
    try:
        loadgen.StartTestWithLogSettings(system, library, settings, logs)
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
    return read_run(folder)


def read_run(folder: Path) -> LoadGenRun:
    """The logs that LoadGen wrote into a folder.

    Raises:
        RuntimeError: The trace has another number of queries than LoadGen counted.
    """
    log = parse_detail((folder / "mlperf_log_detail.txt").read_text(encoding="utf-8"))
    latencies = parse_trace((folder / "mlperf_log_trace.json").read_text(encoding="utf-8"))
    counted = log.get("result_query_count")
    if counted != len(latencies):
        raise RuntimeError(f"LoadGen counted {counted} queries and traced {len(latencies)}")
    return LoadGenRun(latencies, log)


def compare(detector: Detector, image: np.ndarray, *, turns: int, seconds: float) -> dict[str, Any]:
    """The three comparisons, as plain values; ratios are LoadGen's over ours."""
    stream = SingleStream(detector, image)
    warm = stream.warm_up(seconds)
    rows = []
    for turn in range(turns):
        ours: dict[str, float] = {}
        theirs: LoadGenRun | None = None
        same: dict[str, float] = {}
        for who in ("ours", "loadgen") if turn % 2 == 0 else ("loadgen", "ours"):
            stream.forget()
            if who == "ours":
                stream.run(seconds)
                ours = stream.latency(layers=False).percentiles_ms
                continue
            with tempfile.TemporaryDirectory(prefix="edge-sdk-") as folder:
                theirs = run_loadgen(
                    stream.query, Path(folder), seconds=seconds, expected_s=warm.spent_s / warm.spent_runs / 2
                )
            same = stream.latency(layers=False).percentiles_ms
        assert theirs is not None
        reported = {name: value / 1e6 for name, value in theirs.reported().items()}
        rows.append(
            {
                "disagreements": theirs.disagreements(),
                "valid": theirs.log["result_validity"],
                "queries": len(theirs.latencies_ns),
                "loadgen_ms": {name: reported[name] for name in SHOWN},
                "same_queries_ms": {name: same[name] for name in SHOWN},
                "own_run_ms": {name: ours[name] for name in SHOWN},
                "overhead_us": (statistics.fmean(theirs.latencies_ns) / 1e6 - same["mean"]) * 1000,
                "qps_with_overhead": theirs.log["result_qps_with_loadgen_overhead"],
                "qps_without_overhead": theirs.log["result_qps_without_loadgen_overhead"],
            }
        )
    return {
        "turns": rows,
        "same_latencies_agree": not any(row["disagreements"] for row in rows),
        "same_queries_ratio": _ratios(rows, "same_queries_ms"),
        "own_run_ratio": _ratios(rows, "own_run_ms"),
        "overhead_us": statistics.median(row["overhead_us"] for row in rows),
    }


def _ratios(rows: list[dict[str, Any]], beside: str) -> dict[str, dict[str, float]]:
    ratios = {name: sorted(row["loadgen_ms"][name] / row[beside][name] for row in rows) for name in SHOWN}
    return {n: {"median": statistics.median(r), "min": r[0], "max": r[-1]} for n, r in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a model file, such as yolox_nano.onnx")
    parser.add_argument("--photo", type=Path, help="a photo to detect in; left out: noise of 1280x720")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--seconds", type=float, default=rules.MIN_SECONDS, help="least length of each run")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        import mlperf_loadgen  # noqa: F401
    except ImportError:
        parser.exit(1, "LoadGen is not installed: pip install mlcommons-loadgen\n")
    cv2.setNumThreads(arguments.threads)
    image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    if arguments.photo is not None:
        image = read_photo(arguments.photo)
    with Detector(arguments.model, threads=arguments.threads) as detector:
        found = compare(detector, image, turns=arguments.turns, seconds=arguments.seconds)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        show(arguments, found)
    if not found["same_latencies_agree"]:
        sys.exit(1)


def show(arguments: argparse.Namespace, found: Mapping[str, Any]) -> None:
    """The comparisons for people."""
    print(f"{arguments.model.name}, {arguments.threads} thread(s), {arguments.turns} turns of {arguments.seconds:g} s")
    for row in found["turns"]:
        kinds = ("loadgen_ms", "same_queries_ms", "own_run_ms")
        figures = "   ".join(f"{name} " + " / ".join(f"{row[kind][name]:.3f}" for kind in kinds) for name in SHOWN)
        print(f"  {row['queries']:5d} queries, {row['valid']}   ms of LoadGen / same queries / own run: {figures}")
        for line in row["disagreements"]:
            print(f"  NOT the same figure of the same latencies: {line}")
    if found["same_latencies_agree"]:
        print("same latencies: percentiles and early stopping estimates equal LoadGen's to the nanosecond")
    titles = {"same_queries_ratio": "same queries", "own_run_ratio": "runs in turns"}
    for key, title in titles.items():
        ratios = ", ".join(f"{n} {r['median']:.4f} ({r['min']:.4f} to {r['max']:.4f})" for n, r in found[key].items())
        print(f"{title}: LoadGen's over ours, median and range over the turns: {ratios}")
    print(f"LoadGen's own overhead, the difference of the means over the same queries: {found['overhead_us']:.1f} us")


if __name__ == "__main__":
    main()
