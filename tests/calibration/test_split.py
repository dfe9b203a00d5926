"""Three sides that share no group, for whatever groups there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.calibration.split import SIDES, random_part, sizes, split, split_stretches

GROUPS = st.lists(st.integers(0, 12), min_size=3, max_size=120)


@given(GROUPS, st.integers(1, 80), st.integers(0, 5))
def test_no_group_is_on_two_sides_and_no_picture_is_lost(groups: list[int], count: int, seed: int) -> None:
    given_to = split(groups, sizes(len(groups), count), seed)
    on = {side: {groups[one] for one in given_to[side]} for side in SIDES}
    assert on["calibration"] & on["search"] == on["calibration"] & on["acceptance"] == set()
    assert on["search"] & on["acceptance"] == set()
    assert sorted(one for side in SIDES for one in given_to[side]) == list(range(len(groups)))


@given(GROUPS, st.integers(1, 80), st.integers(0, 5))
def test_no_side_is_empty_where_there_are_three_groups(groups: list[int], count: int, seed: int) -> None:
    given_to = split([*groups, 20, 21, 22], sizes(len(groups) + 3, count), seed)
    assert all(given_to[side] for side in SIDES)


@given(st.lists(st.integers(0, 1), min_size=3, max_size=120), st.integers(1, 80), st.integers(0, 5))
def test_stretches_of_one_or_two_groups_fill_every_side(groups: list[int], count: int, seed: int) -> None:
    stretch, given_to = split_stretches(groups, count, seed)
    assert all(given_to[side] for side in SIDES)
    assert sorted(one for side in SIDES for one in given_to[side]) == list(range(len(groups)))
    on = [{stretch[one] for one in given_to[side]} for side in SIDES]
    assert sum(map(len, on)) == len(set().union(*on))


@given(st.integers(3, 200))
def test_one_clip_is_cut_into_stretches_of_neighbours(frames: int) -> None:
    stretch, _ = split_stretches([7] * frames, 64, 0)
    assert stretch == sorted(stretch)
    many = [stretch.count(one) for one in set(stretch)]
    assert max(many) - min(many) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_each_side_sees_something_of_both_of_two_clips(seed: int) -> None:
    _, given_to = split_stretches([0] * 80 + [1] * 30, 64, seed)
    assert [{one < 80 for one in given_to[side]} for side in SIDES] == [{True, False}] * 3


@given(st.integers(3, 5000), st.integers(1, 500))
def test_the_sides_sizes_fit_into_what_there_is(pictures: int, count: int) -> None:
    wanted = sizes(pictures, count)
    assert min(wanted.calibration, wanted.search, wanted.acceptance) >= 1
    assert wanted.calibration + wanted.search + wanted.acceptance <= pictures
    assert wanted.calibration <= count


@pytest.mark.parametrize(
    ("pictures", "wanted"), [(3, (1, 1, 1)), (10, (5, 2, 3)), (128, (64, 25, 39)), (2048, (64, 32, 256))]
)
def test_the_sizes_of_common_sets(pictures: int, wanted: tuple[int, int, int]) -> None:
    got = sizes(pictures, 64)
    assert (got.calibration, got.search, got.acceptance) == wanted


def test_single_photos_fill_every_side_exactly() -> None:
    given_to = split(range(128), sizes(128, 64), seed=3)
    assert {side: len(given_to[side]) for side in SIDES} == {"calibration": 64, "search": 25, "acceptance": 39}


def test_what_no_side_lacks_is_calibrations_to_choose_from() -> None:
    given_to = split(range(1000), sizes(1000, 64), seed=3)
    assert {side: len(given_to[side]) for side in SIDES} == {"calibration": 712, "search": 32, "acceptance": 256}


def test_the_seed_alone_decides() -> None:
    wanted = sizes(100, 40)
    assert split(range(100), wanted, 1) == split(range(100), wanted, 1)
    assert split(range(100), wanted, 1) != split(range(100), wanted, 2)


@given(st.lists(st.integers(), max_size=40, unique=True), st.integers(1, 50), st.integers(0, 9))
def test_a_random_part_is_a_part(pictures: list[int], count: int, seed: int) -> None:
    part = random_part(sorted(pictures), count, seed)
    assert part == sorted(set(part))
    assert set(part) <= set(pictures)
    assert len(part) == min(count, len(pictures))
