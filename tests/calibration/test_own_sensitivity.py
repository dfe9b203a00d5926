"""A sensitivity of the user's own: what is refused, and that the search follows it in the unit of the probes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")

from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.costs import Costs
from edge_sdk.calibration.own_sensitivity import model_of, own, search_own
from edge_sdk.calibration.probing import Prober
from edge_sdk.calibration.problem import Problem
from edge_sdk.errors import UsageError
from tests.calibration.probed import Scene, make_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = make_scene(tmp_path_factory.mktemp("scene"))
    with scene.detector:
        yield scene


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = make_scene(tmp_path_factory.mktemp("pinned"), pinned={"apart0": "fp32"})
    with scene.detector:
        yield scene


def by_depth(problem: Problem) -> dict[str, float]:
    """The first group is the worst."""
    return {group.name: 1.0 / (1 + place) for place, group in enumerate(problem.free)}


def even(problem: Problem) -> Costs:
    """Every group saves as much."""
    count = len(problem.free)
    return Costs(float(count + 1), -np.ones(count), (), 1.0, "estimated", "a test")


def search(scene: Scene, folder: Path, function: Any, unit: float = 1.0) -> Any:
    def scaled(problem: Problem) -> Mapping[str, float]:
        return {name: unit * value for name, value in function(problem).items()}

    found = own(scene.problem, scaled)
    with Prober(
        scene.problem, scene.feeds, scene.detector, scene.geometries, cache=Cache(folder / "cache"), workers=1
    ) as prober:
        return search_own(scene.problem, prober, found, even(scene.problem), points=6)


def test_the_damage_of_each_group_is_the_users_and_a_pinned_one_is_not_asked(pinned: Scene) -> None:
    problem = pinned.problem
    given = by_depth(problem)
    del given["apart0"]
    found = own(problem, lambda _: given)
    assert {group.name: value for group, value in zip(problem.free, found.alone, strict=True)} == {
        **given, "apart0": None
    }  # fmt: skip
    assert found.probes == ()
    assert "was not measured" in found.notes[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"apart0": math.nan}, r"sensitivity own_one gives nan for 'apart0': it must be 0 or more"),
        ({"apart0": math.inf}, r"gives inf for 'apart0'"),
        ({"apart0": -0.1}, r"gives -0.1 for 'apart0'"),
        ({"nowhere": 0.1}, r"sensitivity own_one names 'nowhere', and there is no such group"),
        ({"apart0": "much"}, r"sensitivity own_one failed: ValueError: could not convert"),
    ],
)
def test_what_is_no_damage_is_refused(scene: Scene, change: dict[str, Any], says: str) -> None:
    def own_one(problem: Problem) -> Mapping[str, float]:
        return {**by_depth(problem), **change}

    own_one.__qualname__ = "own_one"
    with pytest.raises(UsageError, match=says):
        own(scene.problem, own_one)


def test_a_group_that_is_left_out_is_named(scene: Scene) -> None:
    with pytest.raises(UsageError, match=r"gives no damage for the group '\w+' and \d+ more"):
        own(scene.problem, lambda _: {})


def test_one_that_raises_is_named_with_what_it_said(scene: Scene) -> None:
    class Broken:
        def __call__(self, problem: Problem) -> Mapping[str, float]:
            raise KeyError("no table\nfor this model")

    with pytest.raises(UsageError, match=r"the sensitivity Broken failed: KeyError: .*no table"):
        own(scene.problem, Broken())


def test_damages_add_up_in_power_and_their_unit_has_no_say(scene: Scene) -> None:
    count = len(scene.problem.free)
    small = model_of(own(scene.problem, by_depth))
    large = model_of(own(scene.problem, lambda problem: {k: 1e6 * v for k, v in by_depth(problem).items()}))
    assert np.allclose(small.linear, large.linear)
    assert np.allclose(small.linear, [(1 / (1 + place)) ** 2 for place in range(count)])


def test_groups_leave_the_low_precision_in_the_order_that_the_user_gave(scene: Scene, tmp_path: Path) -> None:
    found = search(scene, tmp_path, by_depth)
    masks = [mask.tolist() for mask in found.masks]
    assert len(masks) > 2
    assert all(masks)
    assert [sum(mask) for mask in masks] == sorted((sum(mask) for mask in masks), reverse=True)  # the fastest first
    settled = {tuple(scene.problem.settle(np.arange(len(mask)) >= len(mask) - sum(mask)).tolist()) for mask in masks}
    assert {tuple(mask) for mask in masks} <= settled  # the worst groups are the first ones, and leave first


def test_predictions_are_in_the_unit_of_the_probes_whatever_the_users_is(scene: Scene, tmp_path: Path) -> None:
    found, other = search(scene, tmp_path, by_depth), search(scene, tmp_path, by_depth, unit=1e5)
    assert found.damages == other.damages
    assert np.allclose(found.surrogate.linear, other.surrogate.linear)
    assert max(found.damages) <= 1
    predicted = [found.surrogate.damage(mask) for mask in found.masks]
    pairs = [(a, b) for a, b in zip(predicted, found.damages, strict=True) if any((a, b))]
    assert min(a / b for a, b in pairs) <= 1 <= max(a / b for a, b in pairs)


def test_damages_of_0_say_that_all_may_be_low(scene: Scene, tmp_path: Path) -> None:
    found = search(scene, tmp_path, lambda problem: dict.fromkeys((group.name for group in problem.free), 0.0))
    assert [mask.tolist() for mask in found.masks] == [scene.problem.on.tolist()]
