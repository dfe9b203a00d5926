"""The guard on ten pairs of model and budget: never worse than a simple answer, and one of them where that is best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")
pytest.importorskip("pycocotools")

from edge_sdk.calibration.outcome import Candidate, Drop, Outcome, Timed
from edge_sdk.calibration.request import Request

from ..models.tiny_yolox import write, write_photos  # noqa: TID252  there is no package of tests to name
from .stand_in import StandIn, run

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Pair:
    """A model's seed, budgets, and what its convolutions take in INT8, of 1 in float."""

    seed: int
    budgets: Mapping[str, float]
    timer: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.seed} {dict(self.budgets)} {dict(self.timer)}"


SLOW_INT8 = {"low_ms": 1.2}
DEAR_BORDERS = {"convert_ms": 0.3}
PAIRS = [
    Pair(0, {}),
    Pair(0, {"max_map_drop": 0.05}),
    Pair(0, {"max_latency_ratio": 0.9}),
    Pair(0, {"max_latency_ratio": 0.7}),
    Pair(0, {"max_map_drop": 0.02}, DEAR_BORDERS),
    Pair(1, {}),
    Pair(1, {"max_map_drop": 0.5}),
    Pair(1, {"max_latency_ratio": 0.75, "max_map_drop": 0.1}),
    Pair(2, {"max_latency_ratio": 0.8}),
    Pair(2, {}, SLOW_INT8),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guard")
    write_photos(folder / "photos", range(24))
    for seed in range(3):
        write(folder / f"tiny{seed}.onnx", seed=seed)
    return folder


_FOUND: dict[str, Outcome] = {}


def outcome(pair: Pair, folder: Path) -> Outcome:
    """Each pair is run once, all of them with one cache."""
    if str(pair) not in _FOUND:
        wanted = Request(count=8, **pair.budgets)  # type: ignore[arg-type]
        _FOUND[str(pair)] = run(
            folder / f"tiny{pair.seed}.onnx", folder / "photos", folder, wanted, timer=StandIn(**pair.timer), out=None
        )  # type: ignore[arg-type]
    return _FOUND[str(pair)]


def figures(one: Candidate) -> tuple[Timed, Drop]:
    assert one.latency
    assert one.accuracy
    return one.latency, one.accuracy


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_simple_answer_never_beats_the_pick(pair: Pair, folder: Path) -> None:
    found = outcome(pair, folder)
    time, drop = figures(found.picked)
    for name in ("float", "optimized float", "uniform int8", "int8, head in fp32"):
        try:
            other_time, other_drop = figures(found.candidate(name))
        except StopIteration:
            continue  # the same file as an earlier one
        as_fast = other_time.ratio <= time.ratio
        assert not (as_fast and other_drop.high < drop.low), f"{name} is as fast and surely better"


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_nothing_that_was_built_is_surely_faster_and_no_worse_than_the_pick(pair: Pair, folder: Path) -> None:
    found = outcome(pair, folder)
    time, drop = figures(found.picked)
    for one in found.candidates:
        other_time, other_drop = figures(one)
        faster = other_time.high < time.low
        assert not (faster and other_drop.drop <= drop.drop and other_drop.damage <= drop.damage), one.name


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_pick_meets_what_was_asked_or_says_that_nothing_does(pair: Pair, folder: Path) -> None:
    found = outcome(pair, folder)
    time, drop = figures(found.picked)
    assert found.pick.met
    assert time.ratio <= pair.budgets.get("max_latency_ratio", 9.0)
    wanted = pair.budgets.get("max_map_drop", 0.005 if not pair.budgets else 1.0)
    assert drop.low <= wanted, "worse than asked for, beyond the interval"
    if not {"max_map_drop"} & set(pair.budgets) and pair.budgets:
        within = [one for one in found.candidates if figures(one)[0].ratio <= pair.budgets["max_latency_ratio"]]
        assert drop.low <= min(figures(one)[1].high for one in within)


def test_where_int8_is_slower_float_is_the_answer_and_that_is_said(folder: Path) -> None:
    found = outcome(PAIRS[-1], folder)
    assert found.picked.kind in ("float", "high")
    assert any("slower than float here" in line for line in found.pick.why)


def test_where_all_is_allowed_the_uniform_one_is_the_answer_and_that_is_said(folder: Path) -> None:
    found = outcome(PAIRS[6], folder)
    assert found.picked.kind == "low"
    assert found.pick.why[0].startswith("uniform int8 is the ")


def test_somewhere_a_hybrid_is_the_answer(folder: Path) -> None:
    """Faster than any simple answer within the same drop."""
    kinds: list[Any] = [outcome(pair, folder).picked.kind for pair in PAIRS]
    assert "hybrid" in kinds
