"""Fresh processes: what they print, what becomes of it, and how they fail."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import BackendError, UsageError
from edge_sdk.measure import cold_start as cold
from edge_sdk.measure.cold_start import STAGES, cold_start, parse_child, summary


def printed(**changes: object) -> str:
    told = {"began": 30_000_000, "import": 200_000_000, "open": 100_000_000, "first": 50_000_000, **changes}
    return "edge-sdk cold start " + json.dumps(told)


def test_what_a_process_printed_is_read_in_milliseconds() -> None:
    assert parse_child(printed(), 10_000_000) == {"python": 20.0, "import": 200.0, "open": 100.0, "first": 50.0}


def test_what_an_engine_prints_besides_is_passed_over() -> None:
    output = f"INFO: Created TensorFlow Lite XNNPACK delegate\n{printed()}\nbye\n"
    assert parse_child(output, 0)["open"] == 100.0


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "ended without printing its times"),
        ("hello\n" * 1000, "ended without printing its times"),
        ("edge-sdk cold start {", "printed no times but 'edge-sdk cold start {'"),
        ("edge-sdk cold start []", "printed no times"),
        (printed(open="soon"), "printed no times"),
        (printed(open=None), "printed no times"),
    ],
)
def test_a_process_that_printed_no_times_is_an_error(output: str, reason: str) -> None:
    with pytest.raises(BackendError, match="cold start: ") as caught:
        parse_child(output, 0)
    assert reason in str(caught.value)


@given(st.text(), st.booleans())
def test_any_output_gives_times_or_its_documented_error(text: str, marked: bool) -> None:
    try:
        found = parse_child("edge-sdk cold start " * marked + text, 0)
    except BackendError:
        return
    assert set(found) == set(STAGES)


def test_the_whole_is_the_sum_of_a_process_stages() -> None:
    starts = [{"python": 10.0, "import": 100.0 + n, "open": 50.0, "first": 20.0 - n} for n in range(5)]
    starts[2]["open"] = 500.0
    found = summary(starts)
    assert found.times_ms == (180.0, 180.0, 630.0, 180.0, 180.0)
    assert found.process_ms == {"p50": 180.0, "p90": 630.0, "min": 180.0, "max": 630.0}
    assert found.stages_ms["first"] == {"p50": 18.0, "p90": 20.0, "min": 16.0, "max": 20.0}
    assert (found.runs, found.page_cache) == (5, "warm")


def test_real_processes_are_started_one_more_than_counts(shared: Path, tmp_path: Path, monkeypatch) -> None:
    # What lies in the folder that it is started in is not imported.
    (tmp_path / "calibration.py").write_text("raise SystemExit('the wrong module')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    parts: list[float] = []
    began = time.monotonic()
    found = cold_start(
        shared / "models/ultraface/version-slim-320.onnx",
        image=shared / "data/coco_eval/images/000000000285.jpg",
        backend="onnxruntime",
        threads=1,
        runs=1,
        progress=parts.append,
    )
    took_ms = (time.monotonic() - began) * 1000
    assert parts == [0.5, 1.0]
    assert found.runs == len(found.times_ms) == 1
    assert all(found.stages_ms[stage]["min"] > 0 for stage in STAGES)
    assert found.process_ms["max"] == pytest.approx(sum(found.stages_ms[stage]["p50"] for stage in STAGES))
    assert found.process_ms["max"] < took_ms


def test_a_process_that_cannot_open_the_model_says_why(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"cold start: the process failed: .*missing\.onnx"):
        cold_start(tmp_path / "missing.onnx", runs=1)


def test_a_process_that_hangs_is_ended(monkeypatch) -> None:
    monkeypatch.setattr(cold, "_CHILD", "import time; time.sleep(60)")
    with pytest.raises(BackendError, match=r"no detection within 0\.5 s"):
        cold_start("model.onnx", runs=1, timeout_s=0.5)


def test_a_process_that_dies_in_silence_is_told_of(monkeypatch) -> None:
    monkeypatch.setattr(cold, "_CHILD", "import os; os._exit(3)")
    with pytest.raises(BackendError, match="ended with status 3 and said nothing"):
        cold_start("model.onnx", runs=1)


def test_no_process_is_refused() -> None:
    with pytest.raises(UsageError, match="runs must be 1 or more, not 0"):
        cold_start("model.onnx", runs=0)
