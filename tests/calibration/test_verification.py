"""Candidates as real files, held against the float model on real photos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import Detector
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.canonical import canonical
from edge_sdk.calibration.dataset import CalibrationSet
from edge_sdk.calibration.engines.base import named
from edge_sdk.calibration.groups import make_groups
from edge_sdk.calibration.observe import collect
from edge_sdk.calibration.outcome import Timed
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.ranges import choose
from edge_sdk.calibration.verification import Build, Verification
from edge_sdk.datasets import Dataset
from edge_sdk.errors import UsageError

pytestmark = pytest.mark.slow
pytest.importorskip("pycocotools")


@dataclass
class Clock:
    """A timer that says what it is told, and counts."""

    method: str = "recorded"
    on: str = "a test"
    settings: Mapping[str, Any] = field(default_factory=dict)
    asked: list[set[str]] = field(default_factory=list)

    def time(self, files: Mapping[str, Path], *, reference: str) -> Mapping[str, Timed]:
        assert reference in files
        self.asked.append(set(files))
        return {name: Timed(10.0, 1.0, 0.99, 1.01, "recorded") for name in files}

    def layers(self, file: Path) -> Sequence[Any]:
        return ()


@dataclass
class Stage:
    detector: Detector
    photos: CalibrationSet
    problem: Problem

    @property
    def builds(self) -> list[Build]:
        return [
            Build("float", "float", None), Build("optimized float", "high", self.problem.off),
            Build("uniform int8", "low", self.problem.on),
        ]  # fmt: skip

    def verification(self, folder: Path, **options: Any) -> Verification:
        return Verification(
            self.problem, self.detector, self.photos, cache=Cache(folder / "cache"), folder=folder / "files", **options
        )


@pytest.fixture(scope="module")
def stage(shared: Path, yolox: Path) -> Iterator[Stage]:
    with Detector(yolox, backend="onnxruntime", threads=1) as detector:
        files = sorted((shared / "data/coco_calib/images").iterdir())[:14]
        with CalibrationSet.open([str(one) for one in files], detector, count=4) as photos:
            feeds = list(photos.feeds(photos.calibration))
            made = canonical(yolox, feeds=feeds[:1])
            engine = named("onnxruntime")
            groups = make_groups(made.graph, engine.rules)
            free = [group for group in groups if len(group.precisions) > 1]
            parts = [frozenset(group.nodes) for group in free]
            wanted = [
                name for part in [frozenset().union(*parts), *parts] for name in engine.quantized(made.graph, part)[0]
            ]
            tensors = list(dict.fromkeys(wanted))
            ranges = choose(collect(made.model, feeds, tensors=tensors, threads=1), "uint8").limits()
            yield Stage(
                detector, photos,
                Problem(made.graph, made.sha256, engine, "x86", "generic-x86_64", groups, ranges),
            )  # fmt: skip


def test_files_are_built_evaluated_read_back_and_timed_and_a_second_run_costs_nothing(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    samples = stage.photos.acceptance
    told: list[tuple[int, int]] = []
    found = stage.verification(tmp_path)(
        stage.builds, samples, timer=clock, progress=lambda done, of: told.append((done, of))
    )
    given, high, low = found.candidates
    assert (given.kind, high.kind, low.kind) == ("float", "high", "low")
    assert not found.failed
    assert given.accuracy
    assert high.accuracy
    assert low.accuracy
    assert given.accuracy.drop == 0
    assert given.accuracy.damage == pytest.approx(0, abs=1e-12)
    assert high.accuracy.damage < 1e-3
    assert 0.1 < low.accuracy.damage <= 1
    assert low.accuracy.low < low.accuracy.drop < low.accuracy.high
    assert low.accuracy.photos == len(samples)
    assert low.low_macs > 0.9
    assert low.misplaced == ()
    assert low.size_bytes < high.size_bytes
    assert found.files["uniform int8"].name == f"{low.sha256[:32]}.onnx"
    assert low.latency
    assert clock.asked == [{"float", "optimized float", "uniform int8"}]
    assert told[-1] == (7, 7)

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("a second run must not run the model")

    monkeypatch.setattr("edge_sdk.calibration.verification._run", forbidden)
    monkeypatch.setattr(Problem, "lower", forbidden)
    again = stage.verification(tmp_path)(stage.builds, samples, timer=clock)
    assert again == found
    assert len(clock.asked) == 1


def test_with_workers_the_figures_are_the_same(stage: Stage, tmp_path: Path) -> None:
    samples = stage.photos.acceptance[:3]
    alone = stage.verification(tmp_path / "a")(stage.builds, samples)
    with ThreadPoolExecutor(2) as pool:
        together = stage.verification(tmp_path / "b", executor=pool)(stage.builds, samples)
    assert alone.candidates == together.candidates


def test_a_candidate_that_cannot_run_is_reported_and_the_others_go_on(stage: Stage, tmp_path: Path) -> None:
    """Its plan lacks a range."""
    broken = replace(stage.problem, ranges={})
    found = Verification(
        broken, stage.detector, stage.photos, cache=Cache(tmp_path / "cache"), folder=tmp_path / "files"
    )([Build("float", "float", None), Build("uniform int8", "low", broken.on)], stage.photos.acceptance[:2])
    assert [one.name for one in found.candidates] == ["float"]
    assert set(found.failed) == {"uniform int8"}


def test_a_metric_of_values_a_photo_has_an_interval_and_one_number_has_none(stage: Stage, tmp_path: Path) -> None:
    def boxes(detector: Detector, truth: Dataset) -> list[float]:
        from edge_sdk.sources.files import read_photo

        return [float(len(detector(read_photo(photo.path)))) for photo in truth.photos]

    def total(detector: Detector, truth: Dataset) -> float:
        return float(sum(boxes(detector, truth)))

    samples = stage.photos.acceptance[:4]
    each = stage.verification(tmp_path, metric=boxes)(stage.builds, samples)
    whole = stage.verification(tmp_path, metric=total)(stage.builds, samples)
    low, one = each.candidates[2].accuracy, whole.candidates[2].accuracy
    assert low
    assert one
    assert one.drop == pytest.approx(4 * low.drop)
    assert low.low < low.high
    assert one.low == one.high == one.drop
    assert not each.notes
    assert "no interval" in whole.notes[0]


def test_a_metric_that_throws_or_gives_nonsense_is_named(stage: Stage, tmp_path: Path) -> None:
    def recall_of_mine(detector: Detector, truth: Dataset) -> float:
        raise KeyError("cat")

    def holes(detector: Detector, truth: Dataset) -> list[float]:
        return [np.nan for _ in truth.photos]

    samples = stage.photos.acceptance[:2]
    with pytest.raises(UsageError, match="metric recall_of_mine failed on the float model: KeyError: 'cat'"):
        stage.verification(tmp_path, metric=recall_of_mine)(stage.builds, samples)
    with pytest.raises(UsageError, match=r"metric holes gave nan for \S+ on the float model"):
        stage.verification(tmp_path, metric=holes)(stage.builds, samples)
    with pytest.raises(UsageError, match="gave 3 values for 2 photos"):
        stage.verification(tmp_path, metric=lambda *_: [1.0, 2.0, 3.0])(stage.builds, samples)
    with pytest.raises(UsageError, match="one name"):
        stage.verification(tmp_path)([*stage.builds, *stage.builds], samples)
    with pytest.raises(UsageError, match="optimized float"):
        stage.verification(tmp_path)(stage.builds[:1], samples, timer=Clock())
