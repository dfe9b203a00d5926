"""``edge-sdk benchmark``: what it reports; the figures themselves are not tested, machines differ."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.cli import benchmark
from edge_sdk.measure.cold_start import summary


@pytest.fixture
def quick(shared: Path) -> Path:
    """A small model, so that a hundred frames take no time."""
    return shared / "models/ultraface/version-slim-320.onnx"


@pytest.fixture(scope="module")
def report(shared: Path) -> dict[str, Any]:
    """One benchmark with everything, in a process of its own, because it takes seconds."""
    model = shared / "models/ultraface/version-slim-320.onnx"
    script = """
import sys
from edge_sdk.cli import main
from edge_sdk.measure import cold_start
cold_start.RUNS = 1
main(sys.argv[1:])
"""
    words = [
        "benchmark",
        str(model),
        "--seconds",
        "0.1",
        "--fps",
        "500",
        "--threads",
        "1",
        "--layers",
        "--cold",
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True, timeout=120
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_run_has_a_hundred_frames_and_percentiles(report: dict[str, Any]) -> None:
    assert [run["scenario"] for run in report["runs"]] == ["bare", "single_stream", "camera", "throughput"]
    for run in report["runs"]:
        assert run["frames"] >= 100
        ms = run["latency_ms"]
        assert 0 < ms["min"] <= ms["p50"] <= ms["p90"] <= ms["p99"] <= ms["max"]
    assert report["method"] == "measured"


def test_layers_come_with_times_and_precisions(report: dict[str, Any]) -> None:
    assert sum(layer["time_ms"] for layer in report["layers"]) > 0
    assert all(layer["precision"] == "fp32" for layer in report["layers"] if "Conv" in layer["nodes"][0])
    assert report["layers_reason"] is None


def test_the_single_stream_is_told_from_opening_to_its_stages(report: dict[str, Any]) -> None:
    assert report["open_ms"] > 0
    assert report["first_ms"] > 0
    assert (report["warm_up"] is None) == (report["warm_up_s"] is None)
    assert list(report["stages_ms"]) == ["preprocess", "infer", "decode"]
    single = report["runs"][1]["latency_ms"]
    assert sum(stage["mean"] for stage in report["stages_ms"].values()) <= single["mean"]
    # LoadGen's estimate of so many queries is an upper bound of its percentile.
    assert report["early_stopping_ms"]["p90"] >= single["p90"]


def test_a_cold_start_is_a_fresh_processs_stages(report: dict[str, Any]) -> None:
    cold = report["cold"]
    assert list(cold["stages_ms"]) == ["python", "import", "open", "first"]
    assert cold["runs"] == len(cold["times_ms"]) == 1
    assert cold["process_ms"]["p50"] > cold["stages_ms"]["open"]["p50"] > 0
    assert cold["page_cache"] == "warm"


def test_all_runs_every_backend_that_opens_the_file(edge_sdk_command, quick: Path) -> None:
    reports = edge_sdk_command("benchmark", quick, "--seconds", 0.1, "--fps", 500, "--all", "--json").json
    assert [report["backend"] for report in reports] == ["onnxruntime"]


def test_people_read_a_table_the_ratio_and_why_there_are_no_layers(
    edge_sdk_command, quick: Path, bear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.backends.onnxruntime.OnnxRuntimeSession.layers", lambda _: [])
    out = edge_sdk_command("benchmark", quick, "--seconds", 0.1, "--fps", 500, "--image", bear, "--layers").out
    assert "bare engine" in out
    assert "of the bare engine" in out
    assert "586x640" in out
    assert "first detection" in out
    assert "preprocess" in out
    assert "MLPerf's single-stream figure, p90" in out
    assert "cold start" not in out
    assert "layers: onnxruntime does not say which layers it runs" in out


def test_models_in_turns_are_compared_and_nothing_else_is_run(edge_sdk_command, quick: Path) -> None:
    words = ("benchmark", quick, "--against", quick, "--seconds", 0.1, "--threads", 1, "--layers")
    report = edge_sdk_command(*words, "--json").json
    assert list(report) == ["device", "method", "rounds", "passes", "block", "clock", "turns"]
    for row in report["turns"]:
        assert row["low"] <= row["ratio"] <= row["high"]
        assert len(row["times_ms"]) == report["rounds"] * report["passes"] * report["block"]
        assert sum(layer["time_ms"] for layer in row["layers"]) > 0
    out = edge_sdk_command(*words).out
    assert "95 % interval" in out
    assert "CPU time of the thread" in out
    assert "slowest layers" in out
    assert "camera" not in out


@pytest.mark.parametrize("stray", [("--cold",), ("--all",), ("--head", "yolox"), ("--image", "x.jpg")])
def test_what_turns_have_no_use_for_is_refused(edge_sdk_command, quick: Path, stray: tuple[str, ...]) -> None:
    done = edge_sdk_command("benchmark", quick, "--against", quick, *stray)
    assert done.code == 2
    assert f"leave {stray[0]} out" in done.err


def test_people_read_what_a_cold_start_is_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    starts = [{"python": 20.0, "import": 200.0 + n, "open": 100.0, "first": 30.0} for n in range(5)]
    benchmark._print_cold(asdict(summary(starts)))
    assert capsys.readouterr().out == (
        "cold start to the first detection: p50 352 ms (python 20, import 202, open 100, first 30), 350 to 354 ms, "
        "5 processes, page cache warm\n"
    )


@pytest.mark.parametrize(
    ("runs", "seconds", "words"),
    [
        (None, None, "not steady within the warm-up: the machine is busy, or its clocks move"),
        (1, 0.046, "steady after 1 detection (0.05 s)"),
        (7, 0.3, "steady after 7 detections (0.30 s)"),
    ],
)
def test_people_read_how_long_it_warmed_up(runs: int | None, seconds: float | None, words: str) -> None:
    assert benchmark._warm({"warm_up": runs, "warm_up_s": seconds}) == words


def test_all_beside_one_backend_is_refused(edge_sdk_command, quick: Path) -> None:
    ran = edge_sdk_command("benchmark", quick, "--all", "--backend", "tflite")
    assert (ran.code, ran.out) == (2, "")
    assert "--all means every backend" in ran.err


def test_all_where_no_backend_opens_the_file_is_an_error_and_no_empty_report(edge_sdk_command, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"PK")
    ran = edge_sdk_command("benchmark", tmp_path / "model.pt", "--all", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert "no backend opens '.pt' files" in ran.err


def test_a_photo_that_cannot_be_read_is_not_replaced_by_noise(edge_sdk_command, quick: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("no photo")
    ran = edge_sdk_command("benchmark", quick, "--image", tmp_path / "photo.jpg")
    assert (ran.code, ran.out) == (1, "")
    assert "no photo that OpenCV can decode" in ran.err
