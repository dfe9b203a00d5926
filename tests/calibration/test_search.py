"""The search: what it hands on is settled, within the budgets, and beaten by nothing that it has seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")

from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.costs import Costs, boundaries_of
from edge_sdk.calibration.probing import Probe, Prober
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.search import Searched, near, search, spread_out
from edge_sdk.calibration.sensitivity import sweep
from edge_sdk.calibration.solver import Linear
from edge_sdk.calibration.surrogate import Surrogate
from edge_sdk.calibration.switchable import Mask
from edge_sdk.errors import PlanError
from tests.calibration.probed import Scene, make_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("probes"))


def open_prober(scene: Scene, cache: Cache, problem: Problem | None = None) -> Prober:
    return Prober(problem or scene.problem, scene.feeds, scene.detector, scene.geometries, cache=cache, workers=1)


@pytest.fixture(scope="module")
def prober(scene: Scene, cache: Cache) -> Iterator[Prober]:
    with open_prober(scene, cache) as one:
        yield one


@pytest.fixture(scope="module")
def probes(scene: Scene, prober: Prober) -> tuple[Probe, ...]:
    return sweep(prober, scene.problem, draws=0).probes


def costs_of(problem: Problem) -> Costs:
    """Later groups gain more, and each change of precision costs."""
    edges = tuple(replace(one, to_low_ms=0.1, to_high_ms=0.05) for one in boundaries_of(problem.graph, problem.free))
    return Costs(10.0, -np.linspace(0.3, 0.9, len(problem.free)), edges, "measured", "x")


@pytest.fixture(scope="module")
def found(scene: Scene, prober: Prober, probes: tuple[Probe, ...]) -> Searched:
    return search(scene.problem, prober, probes, costs_of(scene.problem))


def test_every_mask_is_settled_and_its_figures_are_its_own(scene: Scene, prober: Prober, found: Searched) -> None:
    costs = costs_of(scene.problem)
    probed = {probe.mask: probe.damage for probe in prober.probes}
    assert len(found.masks) > 2
    for mask, damage, (ratio, same) in zip(found.masks, found.damages, found.front, strict=True):
        assert (scene.problem.settle(mask) == mask).all()
        assert probed[tuple(mask.tolist())] == damage == same
        assert ratio == costs.ratio(mask)


def test_no_mask_that_was_probed_beats_one_of_the_front(scene: Scene, prober: Prober, found: Searched) -> None:
    costs = costs_of(scene.problem)
    seen = [(costs.ratio(np.array(probe.mask)), probe.damage) for probe in prober.probes]
    for ratio, damage in found.front:
        assert not [one for one in seen if one[0] <= ratio and one[1] < damage]
    ratios, damages = zip(*found.front, strict=True)
    assert list(ratios) == sorted(ratios)
    assert list(damages) == sorted(damages, reverse=True)
    assert len(set(damages)) == len(damages)


def test_the_whole_of_a_small_model_holds_nothing_better(scene: Scene, prober: Prober, found: Searched) -> None:
    """Six groups have 64 masks: the front is near the true one."""
    costs, count = costs_of(scene.problem), len(scene.problem.free)
    every = [np.array([number >> place & 1 for place in range(count)], np.bool_) for number in range(1 << count)]
    true = [(costs.ratio(np.array(probe.mask)), probe.damage) for probe in prober.probe(every)]
    for ratio, damage in found.front:
        best = min(one for took, one in true if took <= ratio)
        assert damage <= 1.3 * best + 1e-3


def test_it_repeats_itself_and_probes_nothing_again(
    scene: Scene, cache: Cache, probes: tuple[Probe, ...], found: Searched
) -> None:
    with open_prober(scene, cache) as one:
        again = search(scene.problem, one, list(reversed(probes)), costs_of(scene.problem))
        assert one.made == 0
    assert again.front == found.front
    assert [mask.tolist() for mask in again.masks] == [mask.tolist() for mask in found.masks]


def test_budgets_are_met_by_every_mask_or_said_to_be_impossible(
    scene: Scene, prober: Prober, probes: tuple[Probe, ...]
) -> None:
    count = len(scene.problem.free)
    at_most_three = Linear("groups", np.ones(count), 0.0, 3.0)
    found = search(scene.problem, prober, probes, costs_of(scene.problem), budgets=[at_most_three])
    assert found.masks
    assert max(int(mask.sum()) for mask in found.masks) <= 3
    with pytest.raises(PlanError):
        search(
            scene.problem, prober, probes, costs_of(scene.problem), budgets=[Linear("none", np.ones(count), 1.0, 0.5)]
        )


def test_pinned_groups_stay_as_they_are(scene: Scene, cache: Cache) -> None:
    names = [group.name for group in scene.problem.free]
    problem = replace(scene.problem, pinned={names[0]: "fp32", names[2]: "int8"})
    with open_prober(scene, cache, problem) as one:
        found = search(problem, one, sweep(one, problem, draws=0).probes, costs_of(problem))
    assert found.masks
    assert all(mask[2] and not mask[0] for mask in found.masks)


def test_a_search_that_is_stopped_gives_what_is_known(scene: Scene, prober: Prober, probes: tuple[Probe, ...]) -> None:
    found = search(scene.problem, prober, probes, costs_of(scene.problem), stop=lambda: True)
    known = {probe.mask for probe in probes}
    assert found.masks
    assert all(tuple(mask.tolist()) in known for mask in found.masks)


def test_without_any_probe_the_simple_answer_is_left(scene: Scene, prober: Prober) -> None:
    """The time was over at once."""
    found = search(scene.problem, prober, [], costs_of(scene.problem), stop=lambda: True)
    assert [mask.tolist() for mask in found.masks] == [scene.problem.off.tolist()]
    assert found.damages == (0.0,)


# --- masks that stand for a front ----------------------------------------------------------------------------


def front_of(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Ratios that rise and damages that fall."""
    ratios, damages = zip(*points, strict=True)
    return list(zip(sorted(ratios), sorted(damages, reverse=True), strict=True))


fronts = st.lists(st.tuples(st.floats(0.3, 1.2), st.floats(0, 1)), min_size=1, max_size=20).map(front_of)


def searched_of(front: list[tuple[float, float]]) -> Searched:
    masks = tuple(np.array([number >> bit & 1 for bit in range(6)], np.bool_) for number in range(len(front)))
    return Searched(masks, tuple(one for _, one in front), Surrogate(np.zeros(6), {}, 1.0, 1), tuple(front), 1)


@given(fronts, st.integers(2, 8))
def test_masks_that_are_spread_out_are_of_the_front_in_order_with_both_ends(
    front: list[tuple[float, float]], count: int
) -> None:
    found = searched_of(front)
    places = places_of(spread_out(found, count), found)
    assert places == sorted(set(places))
    assert len(places) <= count
    assert {0, len(front) - 1} <= set(places)


def places_of(masks: Sequence[Mask], found: Searched) -> list[int]:
    return [next(at for at, one in enumerate(found.masks) if one is mask) for mask in masks]


@given(fronts, st.integers(2, 6), st.floats(0.2, 1.3))
def test_masks_near_a_latency_are_the_nearest_within_it_and_one_beyond(
    front: list[tuple[float, float]], count: int, ratio: float
) -> None:
    found = searched_of(front)
    within = [at for at, (one, _) in enumerate(front) if one <= ratio]
    beyond = [at for at, (one, _) in enumerate(front) if one > ratio]
    assert places_of(near(found, count, ratio=ratio), found) == [*within[1 - count :], *beyond[:1]]


@given(fronts, st.integers(2, 6), st.floats(0, 1))
def test_masks_near_a_damage_are_the_fastest_within_it_and_one_beyond(
    front: list[tuple[float, float]], count: int, damage: float
) -> None:
    found = searched_of(front)
    within = [at for at, (_, one) in enumerate(front) if one <= damage]
    beyond = [at for at, (_, one) in enumerate(front) if one > damage]
    assert places_of(near(found, count, damage=damage), found) == [*beyond[-1:], *within[: count - 1]]
