"""Timers: this machine, a board behind a shell, a recorded profile; and what a cache keeps of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.backends.base import Layer
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.outcome import Timed
from edge_sdk.calibration.timing import (
    CachedTimer,
    LocalTimer,
    RecordedTimer,
    Recording,
)
from edge_sdk.calibration.timing_record import layers_from, rows_of
from edge_sdk.errors import BackendError, EdgeSdkError, ModelError, UsageError


class Said:
    """A timer that says what a file's size makes it say, and counts."""

    method = "measured"
    on = "a machine"
    settings: Mapping[str, Any] = {"rounds": 9}

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def time(self, files: Mapping[str, Path], *, reference: str) -> Mapping[str, Timed]:
        self.asked.append(tuple(files))
        base = files[reference].stat().st_size
        return {
            name: Timed(float(file.stat().st_size), file.stat().st_size / base, 0.001, 100.0, "measured")
            for name, file in files.items()
        }

    def layers(self, file: Path) -> Sequence[Layer]:
        self.asked.append((file.name,))
        return (Layer(("a", "b"), "cpu", "int8", 0.1), Layer(("c",), "cpu", None, None))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / f"{name}.onnx" for name in ("high", "low", "mixed")}
    for length, path in enumerate(made.values(), 1):
        path.write_bytes(b"x" * length)
    return made


# --- recorded -----------------------------------------------------------------------------------------------


def test_what_was_recorded_is_said_again(files: dict[str, Path], tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    recording = Recording(Said(), profile)
    measured = recording.time(files, reference="high")
    layers = recording.layers(files["low"])
    recorded = RecordedTimer(profile)
    again = recorded.time(files, reference="high")
    assert (recorded.method, recorded.on) == ("recorded", "a machine")
    assert {name: one.ratio for name, one in again.items()} == {name: one.ratio for name, one in measured.items()}
    assert {one.method for one in again.values()} == {"recorded"}
    assert recorded.layers(files["low"]) == layers


def test_a_recorded_figure_is_the_files_not_the_names(files: dict[str, Path], tmp_path: Path) -> None:
    Recording(Said(), tmp_path / "p.json").time(files, reference="high")
    moved = {"anything": files["mixed"], "base": files["high"]}
    assert RecordedTimer(tmp_path / "p.json").time(moved, reference="base")["anything"].ratio == 3.0
    files["mixed"].write_bytes(b"another file")
    with pytest.raises(BackendError, match="no figure of anything"):
        RecordedTimer(tmp_path / "p.json").time(moved, reference="base")
    with pytest.raises(BackendError, match=r"no figure of high .* against low"):
        RecordedTimer(tmp_path / "p.json").time({"high": files["high"], "low": files["low"]}, reference="low")
    with pytest.raises(BackendError, match="no layers"):
        RecordedTimer(tmp_path / "p.json").layers(files["low"])


def test_a_recording_goes_on_where_it_stopped_but_not_on_another_machine(
    files: dict[str, Path], tmp_path: Path
) -> None:
    profile = tmp_path / "p.json"
    for name in ("low", "mixed"):
        Recording(Said(), profile).time({"high": files["high"], name: files[name]}, reference="high")
    assert set(RecordedTimer(profile).time(files, reference="high")) == set(files)
    other = Said()
    other.on = "another machine"
    with pytest.raises(UsageError, match="was recorded on a machine, not on another machine"):
        Recording(other, profile)


GOOD = {"sha256": "a" * 64, "reference": "b" * 64, "ms": 1.0, "ratio": 1.0, "low": 0.9, "high": 1.1}


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "null", "{", '{"schema": 2}', "[" * 100_000,
        json.dumps({"schema": 1, "on": 5, "timed": [], "layers": {}}),
        json.dumps({"schema": 1, "on": "x", "timed": {}, "layers": {}}),
        *(
            json.dumps({"schema": 1, "on": "x", "timed": [{**GOOD, **wrong}], "layers": {}})
            for wrong in (
                {"ms": 0}, {"ms": "1"}, {"ms": True}, {"ratio": float("nan")}, {"high": float("inf")}, {"low": 2.0},
                {"sha256": "A" * 64}, {"reference": None}, {"ratio": -1},
            )
        ),
        json.dumps({"schema": 1, "on": "x", "timed": [7], "layers": {}}),
        json.dumps({"schema": 1, "on": "x", "timed": [], "layers": {"short": []}}),
        *(
            json.dumps({"schema": 1, "on": "x", "timed": [], "layers": {"a" * 64: [wrong]}})
            for wrong in (
                {}, 7, {"nodes": [], "unit": "cpu", "precision": None, "time_ms": 1},
                {"nodes": ["a"], "unit": "cpu", "precision": "int4", "time_ms": 1},
                {"nodes": ["a"], "unit": "cpu", "precision": None, "time_ms": -1},
                {"nodes": [3], "unit": "cpu", "precision": None, "time_ms": 1},
            )
        ),
    ],
)  # fmt: skip
def test_a_hostile_profile_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(ModelError, match=r"p\.json") as caught:
        RecordedTimer(tmp_path / "p.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_profile_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        RecordedTimer(tmp_path / "none.json")


def test_layers_survive_json() -> None:
    layers = Said().layers(Path("x"))
    assert layers_from(json.loads(json.dumps(rows_of(layers))), "here") == layers


# --- cached -------------------------------------------------------------------------------------------------


def test_a_cache_answers_for_files_it_knows_and_asks_for_the_rest(files: dict[str, Path], tmp_path: Path) -> None:
    said, cache = Said(), Cache(tmp_path / "cache")
    first = CachedTimer(said, cache).time({"high": files["high"], "low": files["low"]}, reference="high")
    again = CachedTimer(said, cache).time(files, reference="high")
    assert said.asked == [("high", "low"), ("high", "mixed")]
    assert again["low"] == first["low"]
    CachedTimer(said, cache).layers(files["low"])
    assert CachedTimer(said, cache).layers(files["low"]) == Said().layers(files["low"])
    assert len(said.asked) == 3


def test_a_figure_of_another_machine_or_settings_is_another_figure(files: dict[str, Path], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    for change in ({}, {"on": "another"}, {"settings": {"rounds": 5}}):
        said = Said()
        for name, value in change.items():
            setattr(said, name, value)
        CachedTimer(said, cache).time(files, reference="high")
        assert len(said.asked) == 1


def test_many_files_are_kept_part_by_part(tmp_path: Path) -> None:
    files = {str(number): tmp_path / f"{number}.onnx" for number in range(40)}
    for number, file in enumerate(files.values(), 1):
        file.write_bytes(b"x" * number)

    class Breaks(Said):
        def time(self, files: Mapping[str, Path], *, reference: str) -> Mapping[str, Timed]:
            if len(self.asked) == 2:
                raise BackendError("the board is gone")
            return super().time(files, reference=reference)

    said, cache = Breaks(), Cache(tmp_path / "cache")
    with pytest.raises(BackendError):
        CachedTimer(said, cache).time(files, reference="0")
    rest = Said()
    CachedTimer(rest, cache).time(files, reference="0")
    asked = [name for part in (*said.asked, *rest.asked) for name in part if name != "0"]
    assert sorted(asked, key=int) == list(files)[1:]


# --- this machine -------------------------------------------------------------------------------------------


def test_this_machine_times_a_real_model_and_says_what_it_is(shared: Path) -> None:
    file = shared / "models/ultraface/version-slim-320.onnx"
    timer = LocalTimer(rounds=5, passes=1, block=2)
    timed = timer.time({"a": file, "b": file}, reference="a")
    assert timed["a"].ratio == 1.0
    assert 0.5 < timed["b"].ratio < 2
    assert timed["b"].method == "measured"
    assert "onnxruntime" in timer.on
    assert timer.on.endswith("1 thread")
    assert sum(layer.time_ms or 0 for layer in timer.layers(file)) > 0


def test_a_missing_reference_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no 'b' to compare with"):
        LocalTimer().time({"a": tmp_path / "a.onnx"}, reference="b")
    with pytest.raises(EdgeSdkError, match="cannot be read"):
        LocalTimer().time({"a": tmp_path / "a.onnx"}, reference="a")
