"""``edge-sdk benchmark``: what it reports; the figures themselves are not tested, machines differ."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def quick(shared: Path) -> Path:
    """A small model, so that a hundred frames take no time."""
    return shared / "models/ultraface/version-slim-320.onnx"


def test_every_run_has_a_hundred_frames_and_percentiles(edge_sdk_command, quick: Path) -> None:
    report = edge_sdk_command("benchmark", quick, "--seconds", 0.1, "--fps", 500, "--layers", "--json").json
    assert [run["scenario"] for run in report["runs"]] == ["bare", "single_stream", "camera", "throughput"]
    for run in report["runs"]:
        assert run["frames"] >= 100
        ms = run["latency_ms"]
        assert 0 < ms["p50"] <= ms["p90"] <= ms["p99"] <= ms["max"]
    assert report["method"] == "measured"
    assert sum(layer["time_ms"] for layer in report["layers"]) > 0
    assert all(layer["precision"] == "fp32" for layer in report["layers"] if "Conv" in layer["nodes"][0])


def test_all_runs_every_backend_that_opens_the_file(edge_sdk_command, quick: Path) -> None:
    reports = edge_sdk_command("benchmark", quick, "--seconds", 0.1, "--fps", 500, "--all", "--json").json
    assert [report["backend"] for report in reports] == ["onnxruntime"]


def test_people_read_a_table_and_the_ratio(edge_sdk_command, quick: Path, bear: Path) -> None:
    out = edge_sdk_command("benchmark", quick, "--seconds", 0.1, "--fps", 500, "--image", bear).out
    assert "bare engine" in out
    assert "of the bare engine" in out
    assert "586x640" in out


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
