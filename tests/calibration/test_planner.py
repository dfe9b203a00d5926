"""The planner from end to end, on a tiny detector and with a timer that asks no clock."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_sdk import Detector
from edge_sdk.errors import PlanError, UsageError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")
pytest.importorskip("pycocotools")

from edge_sdk.calibration import planner
from edge_sdk.calibration.outcome import Outcome
from edge_sdk.calibration.probing import Prober
from edge_sdk.calibration.request import Request
from edge_sdk.calibration.stages import SHARES
from edge_sdk.datasets import Dataset
from edge_sdk.detections import Detections
from edge_sdk.plan import Plan
from edge_sdk.sources.files import read_photo
from tests.flows.stand_in import StandIn, run
from tests.models.tiny_yolox import write, write_photos

WANTED = Request(count=5, max_map_drop=0.02)


@dataclass(frozen=True)
class Ground:
    """A model, photos, and a run of both."""

    folder: Path
    model: Path
    photos: Path
    first: Outcome

    @property
    def cache(self) -> Path:
        return self.folder / "first/cache"

    @property
    def plan(self) -> bytes:
        return (self.folder / "first/out/plan.json").read_bytes()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("planner")
    model, photos = write(folder / "tiny.onnx"), write_photos(folder / "photos", range(14))
    first = run(model, photos, folder / "first", WANTED, timer=StandIn(folder / "timed"))
    return Ground(folder, model, photos, first)


def plan_in(folder: Path) -> bytes:
    return (folder / "out/plan.json").read_bytes()


# --- the same again ---------------------------------------------------------------------------------


def test_two_workers_and_another_cache_give_the_same_plan(ground: Ground, tmp_path: Path) -> None:
    other = run(ground.model, ground.photos, tmp_path, WANTED, workers=2)
    assert plan_in(tmp_path) == ground.plan
    assert other.candidates == ground.first.candidates
    assert other.front == ground.first.front
    assert other.pick == ground.first.pick


def test_a_second_run_probes_times_and_builds_nothing_again(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probers: list[Prober] = []
    close = Prober.close

    def remembered(self: Prober) -> None:
        probers.append(self)
        close(self)

    monkeypatch.setattr(Prober, "close", remembered)
    monkeypatch.setattr("edge_sdk.calibration.problem.Problem.lower", _never)
    monkeypatch.setattr("edge_sdk.calibration.verification._run", _never)
    monkeypatch.setattr("edge_sdk.calibration.policies.tuned", _never)
    again = run(ground.model, ground.photos, tmp_path, WANTED, timer=StandIn(tmp_path / "timed"), cache=ground.cache)
    assert plan_in(tmp_path) == ground.plan
    assert again.probes == ground.first.probes > 20
    assert [one.made for one in probers] == [0]
    assert not (tmp_path / "timed").exists()


def test_the_first_run_timed_and_read_each_file_once(ground: Ground) -> None:
    assert set(Counter((ground.folder / "timed").read_text().splitlines()).values()) == {1}


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("this was known already")


# --- what the plan is made from -----------------------------------------------------------------------


def test_photos_with_their_pixels_shuffled_give_another_plan(ground: Ground, tmp_path: Path) -> None:
    """The same colours in every corner of a photo, but nothing to see: a plan that stayed would not look at photos."""
    (tmp_path / "shuffled").mkdir()
    for place, path in enumerate(sorted(ground.photos.glob("*.png"))):
        draw, image = np.random.default_rng(place), cv2.imread(str(path))
        for top in range(0, 96, 48):
            for left in range(0, 128, 64):
                tile = image[top : top + 48, left : left + 64]
                tile[:] = draw.permutation(tile.reshape(-1, 3)).reshape(tile.shape)
        assert cv2.imwrite(str(tmp_path / "shuffled" / path.name), image)
    other = run(ground.model, tmp_path / "shuffled", tmp_path, WANTED)
    mine, theirs = ground.first.plan, other.plan
    assert set(mine.ranges) == set(theirs.ranges)
    changed = [name for name in mine.ranges if mine.ranges[name] != theirs.ranges[name]]
    assert len(changed) > len(mine.ranges) / 2
    assert mine.provenance["photos_digest"] != theirs.provenance["photos_digest"]
    assert mine.prepared_sha256 == theirs.prepared_sha256, "the float model is the same"
    assert other.candidate("uniform int8").accuracy != ground.first.candidate("uniform int8").accuracy


def test_where_the_photos_lie_and_what_they_are_called_does_not_matter(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "renamed").mkdir()
    for place, path in enumerate(sorted(ground.photos.glob("*.png"))):
        shutil.copy(path, tmp_path / "renamed" / f"holiday{place:02}.png")
    run(ground.model, tmp_path / "renamed", tmp_path, WANTED, cache=ground.cache)
    assert plan_in(tmp_path) == ground.plan


def test_photos_without_labels_are_judged_by_the_float_model(ground: Ground) -> None:
    assert ground.first.photos["labels"] == "teacher"
    exact = ground.first.candidate("float").accuracy
    assert exact
    assert (exact.map, exact.drop, exact.damage) == (pytest.approx(1), 0, pytest.approx(0, abs=1e-9))


# --- the candidates and the pick ------------------------------------------------------------------------


def test_the_simple_answers_are_always_there(ground: Ground) -> None:
    kinds = [one.kind for one in ground.first.candidates]
    assert kinds[:4] == ["float", "high", "low", "head"]
    assert set(kinds[4:]) == {"hybrid"}
    assert [one.name for one in ground.first.candidates[:4]] == [
        "float", "optimized float", "uniform int8", "int8, head in fp32",
    ]  # fmt: skip
    for one in ground.first.candidates:
        assert one.latency
        assert one.accuracy
        assert one.misplaced == ()


def test_the_plan_is_that_of_the_pick(ground: Ground) -> None:
    found, plan = ground.first, ground.first.plan
    free = [row.group.name for row in found.groups if len(row.group.precisions) > 1]
    picked = found.picked
    assert picked.mask
    low = {name for name, on in zip(free, picked.mask, strict=True) if on}
    assert {choice.group for choice in plan.choices if choice.precision == "int8"} == low
    assert {row.group.name for row in found.groups if row.precision == "int8"} == low
    assert Plan.load(ground.folder / "first/out/plan.json") == plan
    assert picked.low_macs > 0


def test_without_an_out_folder_nothing_is_written(ground: Ground, tmp_path: Path) -> None:
    found = run(ground.model, ground.photos, tmp_path, WANTED, out=None, cache=ground.cache)
    assert found.plan == ground.first.plan
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seconds", [0.001, 1.0])
def test_a_small_time_budget_still_gives_a_plan(seconds: float, ground: Ground, tmp_path: Path) -> None:
    found = run(ground.model, ground.photos, tmp_path, Request(count=5, max_map_drop=0.02, time_budget_s=seconds))
    assert [one.kind for one in found.candidates][:4] == ["float", "high", "low", "head"]
    assert found.plan == Plan.load(tmp_path / "out/plan.json")
    assert (tmp_path / "out/report.json").is_file()


def test_budgets_of_latency_are_met_and_said(ground: Ground, tmp_path: Path) -> None:
    wanted = Request(count=5, max_latency_ratio=0.8)
    found = run(ground.model, ground.photos, tmp_path, wanted, out=None, cache=ground.cache)
    assert found.pick.met
    assert found.picked.latency
    assert found.picked.latency.ratio <= 0.8
    assert found.budgets == {"max_latency_ratio": 0.8}
    never = Request(count=5, max_latency_ratio=0.01)
    none = run(ground.model, ground.photos, tmp_path, never, out=None, cache=ground.cache)
    assert not none.pick.met
    assert none.picked.kind == "low", "the nearest is the fastest"


def test_an_estimate_is_marked_in_every_candidate(ground: Ground, tmp_path: Path) -> None:
    found = run(ground.model, ground.photos, tmp_path, WANTED, timer=None, estimate=True, cache=ground.cache)
    assert {one.latency.method for one in found.candidates if one.latency} == {"estimated"}
    assert found.cost["method"] == "estimated"
    assert any("estimated" in line for line in found.pick.why)
    with pytest.raises(UsageError, match="either measured or estimated"):
        run(ground.model, ground.photos, tmp_path, WANTED, estimate=True, cache=ground.cache)


def test_another_board_cannot_be_timed_here(ground: Ground, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be measured on this machine"):
        run(ground.model, ground.photos, tmp_path, WANTED, timer=None, target="raspberry-pi-5", cache=ground.cache)


# --- pins -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pinned_groups_stay_so_in_every_candidate(ground: Ground, tmp_path: Path) -> None:
    wanted = Request(count=5, max_map_drop=0.02, pins={"stem": "fp32"}, forbid={"head*": "int8"})
    found = run(ground.model, ground.photos, tmp_path, wanted, cache=ground.cache, out=None)
    free = [row.group.name for row in found.groups if len(row.group.precisions) > 1]
    pinned = {name for name in free if name == "stem" or name.startswith("head")}
    assert len(pinned) == 4
    for one in found.candidates[1:]:
        assert one.mask
        assert not [name for name, on in zip(free, one.mask, strict=True) if on and name in pinned]
    assert {row.group.name for row in found.groups if row.pinned} == pinned
    assert {choice.group for choice in found.plan.choices if choice.pinned} == pinned


@pytest.mark.slow
def test_a_plan_that_was_edited_keeps_its_pins(ground: Ground, tmp_path: Path) -> None:
    edited = json.loads(ground.plan)
    group = next(one for one in edited["choices"] if one["group"] == "stage1")
    group["precision"], group["pinned"] = "fp32", True
    (tmp_path / "plan.json").write_text(json.dumps(edited))
    found = run(ground.model, ground.photos, tmp_path, WANTED, start=tmp_path / "plan.json", cache=ground.cache)
    kept = next(one for one in found.plan.choices if one.group == "stage1")
    assert (kept.precision, kept.pinned) == ("fp32", True)
    assert [one.group for one in found.plan.choices if one.pinned] == ["stage1"]


def test_a_model_whose_groups_are_all_pinned_is_measured_and_handed_over(ground: Ground, tmp_path: Path) -> None:
    for precision in ("fp32", "int8"):
        pins = dict.fromkeys(("stem", "stage*", "head?.pred"), precision)
        wanted = Request(count=5, max_map_drop=0.5, pins=pins)  # type: ignore[arg-type]
        found = run(ground.model, ground.photos, tmp_path / precision, wanted, cache=ground.cache)
        assert {choice.precision for choice in found.plan.choices if choice.pinned} == {precision}
        assert found.picked.low_macs == (1.0 if precision == "int8" else 0.0)


def test_the_float_file_is_no_answer_where_a_group_must_be_in_int8(ground: Ground, tmp_path: Path) -> None:
    """What is handed over is the pick's own file."""
    wanted = Request(count=5, max_map_drop=0.0, pins={"stem": "int8", "stage1": "int8"})
    found = run(ground.model, ground.photos, tmp_path, wanted, cache=ground.cache)
    assert found.picked.kind != "float"
    assert found.picked.sha256 != found.candidate("float").sha256


def test_a_pin_that_cannot_be_is_refused(ground: Ground, tmp_path: Path) -> None:
    wanted = Request(count=5, pins={"nowhere": "int8"})
    with pytest.raises(PlanError, match="no group or node 'nowhere'"):
        run(ground.model, ground.photos, tmp_path, wanted, cache=ground.cache)


# --- what the user brings -------------------------------------------------------------------------------


def test_a_metric_of_ones_own_decides(ground: Ground, tmp_path: Path) -> None:
    def sure(detector: Detector, truth: Dataset) -> list[float]:
        return [float(detector(read_photo(one.path)).confidence.sum()) for one in truth.photos]

    wanted = Request(count=5, max_map_drop=0.02, metric=sure)
    found = run(ground.model, ground.photos, tmp_path, wanted, cache=ground.cache)
    assert "sure" in found.metric
    exact, other = (found.candidate(name).accuracy for name in ("float", "uniform int8"))
    mine = ground.first.candidate("uniform int8").accuracy
    assert exact
    assert other
    assert mine
    assert exact.map != pytest.approx(1)
    assert other.drop != mine.drop
    assert any("sure" in line for line in found.pick.why)


def test_a_range_method_of_ones_own_competes_for_every_tensor(ground: Ground, tmp_path: Path) -> None:
    asked: list[object] = []

    def huge(histogram: Any) -> tuple[float, float]:
        asked.append(histogram)
        return 1000 * histogram.low - 1000, 1000 * histogram.high + 1000

    wanted = Request(count=5, max_map_drop=0.02, range_method=huge)
    found = run(ground.model, ground.photos, tmp_path, wanted, cache=ground.cache, out=None)
    assert len(asked) == len(found.plan.ranges)
    assert "custom" not in found.range_methods, "the widest of all loses"
    assert found.plan == ground.first.plan


def test_a_damage_of_ones_own_is_what_is_searched_by(ground: Ground, tmp_path: Path) -> None:
    def boxes_lost(probe: Sequence[Detections], teacher: Sequence[Detections]) -> float:
        return float(sum(abs(len(a) - len(b)) for a, b in zip(probe, teacher, strict=True)))

    wanted = Request(count=5, max_map_drop=0.02, probe_metric=boxes_lost)
    found = run(ground.model, ground.photos, tmp_path, wanted, cache=ground.cache, out=None)
    alone = [row.alone for row in found.groups if row.alone is not None]
    assert alone
    assert all(value == int(value) for value in alone), "boxes are counted in whole ones"
    assert alone != [row.alone for row in ground.first.groups if row.alone is not None]


def test_the_short_form_gives_the_plan_alone(ground: Ground, tmp_path: Path) -> None:
    plan = planner.calibrate(
        ground.model, ground.photos, count=5, max_map_drop=0.02, timer=StandIn(), workers=1, target="generic-x86_64",
        cache=ground.cache, out=tmp_path / "out",
    )  # fmt: skip
    assert plan == ground.first.plan
    assert plan_in(tmp_path) == ground.plan


def test_progress_goes_forward_through_every_stage(ground: Ground, tmp_path: Path) -> None:
    steps: list[Any] = []
    run(ground.model, ground.photos, tmp_path, WANTED, cache=ground.cache, progress=steps.append)
    stages = list(dict.fromkeys(step.stage for step in steps))
    assert stages == [stage for stage in SHARES if stage in stages]
    assert {"photos", "ranges", "latency", "sensitivity", "search", "verification", "report"} <= set(stages)
    assert all(0 <= step.fraction <= 1 for step in steps)
    assert steps[-1].fraction > 0.9
