"""Few pictures that stand for many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_sdk.calibration.diversity import choose, descriptions, features, reason
from edge_sdk.calibration.photos import Look, look_at

from .scenes import scene

POINTS = hnp.arrays(np.float32, st.tuples(st.integers(1, 25), st.just(3)), elements=st.floats(-100, 100, width=32))


def look(image: np.ndarray) -> Look:
    return look_at(image, Path("a.jpg"), None, "0" * 64)


def clusters(sizes: list[int]) -> np.ndarray:
    """Points around (100, 0), (200, 0), ...: the first so many around the first, and so on."""
    draw = np.random.default_rng(0)
    centres = [(100.0 * (number + 1), 0.0) for number, size in enumerate(sizes) for _ in range(size)]
    return (np.array(centres) + draw.normal(0, 0.5, (sum(sizes), 2))).astype(np.float32)


def test_the_first_picks_are_one_of_each_kind_the_largest_first() -> None:
    picks = choose(clusters([5, 30, 8]), 3)
    assert [np.searchsorted([5, 35], pick.number, side="right") for pick in picks[:1]] == [1]
    assert {int(np.searchsorted([5, 35], pick.number, side="right")) for pick in picks} == {0, 1, 2}
    assert sorted(pick.stands_for for pick in picks) == [5, 8, 30]


def test_the_fourth_pick_is_the_one_that_is_least_like_the_others() -> None:
    points = np.concatenate([clusters([40, 40, 40]), [[150.0, 5000.0], [150.0, 400.0]]]).astype(np.float32)
    picks = choose(points, 4)
    fourth = picks[3]
    assert fourth.extreme
    assert not any(pick.extreme for pick in picks[:3])
    chosen = points[[pick.number for pick in picks[:3]]]
    reach = np.linalg.norm(points[:, None] - chosen, axis=2).min(axis=1)
    assert fourth.number == int(np.argmax(reach))


@given(POINTS, st.integers(1, 30))
def test_each_is_chosen_once_and_all_are_stood_for(points: np.ndarray, count: int) -> None:
    picks = choose(points, count)
    assert len({pick.number for pick in picks}) == len(picks) == min(count, len(points))
    assert sum(pick.stands_for for pick in picks) == len(points)
    assert all(pick.stands_for >= 1 for pick in picks)


@given(POINTS, st.integers(1, 12))
def test_a_smaller_choice_is_the_beginning_of_a_larger_one(points: np.ndarray, count: int) -> None:
    few, more = choose(points, count), choose(points, count + 5)
    assert [pick.number for pick in few] == [pick.number for pick in more[: len(few)]]


def test_a_choice_covers_better_than_chance() -> None:
    points = features([look(scene(seed)) for seed in range(60)])

    def reach(chosen: list[int]) -> float:
        return float(np.linalg.norm(points[:, None] - points[chosen], axis=2).min(axis=1).mean())

    draw = np.random.default_rng(0)
    by_chance = [reach(draw.permutation(60)[:12].tolist()) for _ in range(20)]
    assert reach([pick.number for pick in choose(points, 12)]) < min(by_chance)


def test_features_are_finite_for_one_picture_and_for_equal_ones() -> None:
    assert features([]).shape == (0, 132)
    assert features([look(scene(1))]).shape == (1, 132)
    assert np.isfinite(features([look(scene(1))] * 3)).all()
    assert choose(features([]), 4) == []


def test_words_name_what_is_particular() -> None:
    images = [(scene(seed) // 2 + 64).astype(np.uint8) for seed in range(20)]
    dark = (scene(30) // 8).astype(np.uint8)
    words = descriptions([look(one) for one in [*images, dark]])
    assert "dark" in words[-1]
    assert "flat light" in words[-1]
    assert "usual in light, colour and detail" in words


def test_a_reason_says_how_many_a_picture_stands_for() -> None:
    picks = choose(clusters([5, 30, 8]), 5)
    texts = [reason(pick, "dark") for pick in picks]
    assert texts[3].startswith("least like those chosen before it")
    assert all(text.endswith(": dark") for text in texts)
    largest = max((pick for pick in picks if not pick.extreme), key=lambda pick: pick.stands_for)
    assert f"stands for {largest.stands_for} pictures" in reason(largest, "dark")
