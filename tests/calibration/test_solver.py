"""The solver's masks against counting through all of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.calibration.solver import Linear, front, priced, within
from edge_sdk.errors import PlanError, UsageError

pytest.importorskip("scipy")


@dataclass(frozen=True)
class Damage:
    linear: np.ndarray
    pairs: dict[tuple[int, int], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Edge:
    tensor: str
    producer: int | None
    consumers: tuple[int | None, ...]
    to_low_ms: float
    to_high_ms: float


@dataclass(frozen=True)
class Cost:
    high_ms: float
    saved_ms: np.ndarray
    boundaries: tuple[Edge, ...] = ()


def random_case(seed: int, count: int, *, gains: bool = True) -> tuple[Damage, Cost]:
    """A chain of groups with skips, pairs of both signs, and (where `gains`) conversions that save time."""
    rng = np.random.default_rng(seed)
    linear = np.abs(rng.normal(0, 0.02, count)) - 0.002
    pairs = {}
    for _ in range(count):
        i, j = sorted(int(one) for one in rng.choice(count, 2, replace=False))
        pairs[i, j] = float(rng.normal(0, 0.01))
    edges = []
    for number in range(count + 2):
        anyone: list[int | None] = [*range(count), None]
        maker = anyone[int(rng.integers(count + 1))]
        readers = tuple(anyone[int(one)] for one in rng.integers(0, count + 1, int(rng.integers(1, 4))))
        low, high = rng.uniform(-0.1 if gains else 0, 0.4, 2)
        edges.append(Edge(f"t{number}", maker, readers, float(low), float(high)))
    return Damage(linear, pairs), Cost(10.0, rng.normal(0.4, 0.4, count), tuple(edges))


def slack(damage: Damage) -> float:
    """What the solver may leave unproven: half a per cent of the loss, with a floor."""
    return 0.006 * float(np.abs(damage.linear).sum() + sum(map(abs, damage.pairs.values())))


def all_masks(count: int) -> list[np.ndarray]:
    return [np.array(one, np.bool_) for one in itertools.product((False, True), repeat=count)]


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 7))
def test_no_mask_of_all_beats_a_point_of_the_front(seed: int, count: int) -> None:
    damage, costs = random_case(seed, count)
    every = [priced(mask, damage, costs) for mask in all_masks(count)]
    points = front(damage, costs, points=6)
    assert points
    for one in points:
        assert (one.loss, one.ms) == priced(one.mask, damage, costs)
        assert min(loss for loss, ms in every if ms <= one.ms + 1e-9) >= one.loss - slack(damage)
        assert min(loss for loss, ms in every if ms <= one.ms + 1e-9) >= one.bound - 1e-9
    assert points[0].ms == pytest.approx(min(ms for _, ms in every), abs=0.02)
    assert points[-1].loss == pytest.approx(min(loss for loss, _ in every), abs=slack(damage))
    assert [one.ms for one in points] == sorted(one.ms for one in points)
    assert [one.loss for one in points] == sorted((one.loss for one in points), reverse=True)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 7), share=st.floats(0.05, 0.95))
def test_one_budget_gives_what_counting_through_all_masks_gives(seed: int, count: int, share: float) -> None:
    damage, costs = random_case(seed, count)
    every = [priced(mask, damage, costs) for mask in all_masks(count)]
    slowest, fastest = max(ms for _, ms in every), min(ms for _, ms in every)
    max_ms = fastest + share * (slowest - fastest)
    found = within(damage, costs, max_ms=max_ms)
    assert found.ms <= max_ms + 1e-4
    assert found.loss == pytest.approx(min(loss for loss, ms in every if ms <= max_ms), abs=slack(damage))
    worst, best = max(loss for loss, _ in every), min(loss for loss, _ in every)
    max_loss = best + share * (worst - best)
    found = within(damage, costs, max_loss=max_loss)
    assert found.loss <= max_loss + 1e-5
    assert found.ms == pytest.approx(min(ms for loss, ms in every if loss <= max_loss), abs=0.1)


def test_a_tensor_is_converted_once_however_many_read_it() -> None:
    damage = Damage(np.zeros(3))
    costs = Cost(10.0, np.array([1.0, 1.0, 1.0]), (Edge("t", 0, (1, 2, None), 0.25, 0.5),))
    assert priced(np.array([False, True, True]), damage, costs) == (0.0, 10 - 2 + 0.25)
    assert priced(np.array([True, False, False]), damage, costs) == (0.0, 10 - 1 + 0.5)
    assert priced(np.array([True, True, True]), damage, costs) == (0.0, 10 - 3 + 0.5)  # None is always high
    assert priced(np.array([False, False, False]), damage, costs) == (0.0, 10.0)


def test_a_group_that_gains_less_than_its_boundaries_stays_high() -> None:
    """The cheap convolution between two expensive ones is worth it only with them."""
    damage = Damage(np.array([0.0, 0.001, 0.0]))
    edges = (Edge("a", 0, (1,), 0.3, 0.3), Edge("b", 1, (2,), 0.3, 0.3))
    costs = Cost(10.0, np.array([1.0, 0.1, 1.0]), edges)
    assert within(damage, costs, max_loss=1.0).mask.tolist() == [True, True, True]
    alone = within(damage, costs, max_loss=1.0, fixed={0: False, 2: False})
    assert alone.mask.tolist() == [False, False, False]


def test_pinned_groups_stay_where_they_are_in_every_point() -> None:
    damage, costs = random_case(3, 7)
    for one in front(damage, costs, fixed={2: True, 4: False}, points=5):
        assert one.mask[2]
        assert not one.mask[4]


def test_a_size_budget_is_met_by_every_point_and_an_impossible_one_says_what_is_possible() -> None:
    damage, costs = random_case(5, 6)
    saved = np.array([-10.0, -20, -30, -5, -1, -4])
    for one in front(damage, costs, budgets=[Linear("size (bytes)", saved, 100, 60)], points=5):
        assert 100 + saved @ one.mask <= 60 + 1e-3
    with pytest.raises(PlanError, match=r"size \(bytes\) of 20: the least is 30"):
        front(damage, costs, budgets=[Linear("size (bytes)", saved, 100, 20)])
    with pytest.raises(PlanError, match=r"the least is 60"):
        front(damage, costs, budgets=[Linear("size (bytes)", saved, 100, 50)], fixed={2: False})
    both = [Linear("size", saved, 100, 40), Linear("energy", -saved, 0, 20)]
    with pytest.raises(PlanError, match="not size of 40 and energy of 20 together"):
        front(damage, costs, budgets=both)


def test_a_latency_or_loss_out_of_reach_is_refused_with_the_nearest() -> None:
    damage = Damage(np.array([0.01, 0.02]))
    costs = Cost(10.0, np.array([1.0, 2.0]))
    with pytest.raises(PlanError, match="the fastest takes 7 ms"):
        within(damage, costs, max_ms=6)
    with pytest.raises(PlanError, match=r"the least is 0\.02"):
        within(damage, costs, max_loss=0.01, fixed={1: True})
    with pytest.raises(PlanError, match=r"the least is 0\.03"):
        within(damage, costs, max_ms=7, max_loss=0.02)
    assert within(damage, costs, max_ms=8).mask.tolist() == [False, True]


def test_a_wrong_question_is_refused() -> None:
    damage, costs = random_case(1, 4)
    with pytest.raises(UsageError, match="not finite"):
        front(Damage(np.array([0, np.nan, 0, 0])), costs)
    with pytest.raises(UsageError, match=r"of \[3\] groups"):
        front(Damage(np.zeros(3)), costs)
    with pytest.raises(UsageError, match="no group 9"):
        front(damage, costs, fixed={9: True})
    with pytest.raises(UsageError, match="max_ms, max_loss or both"):
        within(damage, costs)
    with pytest.raises(UsageError, match="points"):
        front(damage, costs, points=1)


def test_a_model_without_a_choice_has_a_front_of_one_point() -> None:
    (only,) = front(Damage(np.zeros(0)), Cost(3.0, np.zeros(0)))
    assert (only.loss, only.ms, only.mask.shape) == (0.0, 3.0, (0,))


def test_the_same_question_has_the_same_answer_and_progress_ends() -> None:
    damage, costs = random_case(11, 25, gains=False)
    told: list[tuple[int, int]] = []
    first = front(damage, costs, points=6, progress=lambda done, total: told.append((done, total)))
    second = front(damage, costs, points=6)
    assert [one.mask.tolist() for one in first] == [one.mask.tolist() for one in second]
    assert told[-1] == (6, 6)


@pytest.mark.slow
def test_a_model_of_a_hundred_and_twenty_groups_is_solved_to_half_a_per_cent() -> None:
    """As many groups, pairs and boundaries as a small detector has."""
    rng = np.random.default_rng(0)
    pairs = {(i, j): float(rng.normal(0, 0.003)) for i, j in itertools.combinations(range(12), 2)}
    edges = [
        Edge(f"t{n}", n, (n + 1, *([n + 2] if n % 3 == 0 else [])), *rng.uniform(0.005, 0.06, 2)) for n in range(117)
    ]
    damage = Damage(rng.exponential(0.004, 120) ** 1.5 * 10, pairs)
    points = front(damage, Cost(12.0, rng.normal(0.03, 0.04, 120), tuple(edges)), points=6)
    assert len(points) >= 5
    assert all(one.loss - one.bound < slack(damage) for one in points)
