"""What one model loses against another on the same photos."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.detections import Detections
from edge_sdk.errors import UsageError
from edge_sdk.measure.accuracy import accuracy_of, draws, evaluate, match, resampled
from edge_sdk.measure.paired import paired, paired_values
from tests.measure.test_accuracy import Told, random_case

pytest.importorskip("pycocotools")


def worse(found: dict[int, Detections], seed: int, shift_px: float) -> dict[int, Detections]:
    """The same boxes, moved by chance."""
    rng = np.random.default_rng(seed)
    return {
        number: replace(one, xyxy=(one.xyxy + rng.normal(0, shift_px, one.xyxy.shape)).astype(np.float32))
        for number, one in found.items()
    }


def test_matching_once_and_counting_is_what_evaluate_does(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 12, 0)
    matched = match(Told(found), dataset)
    assert accuracy_of(matched) == evaluate(Told(found), dataset)
    assert matched.map() == evaluate(Told(found), dataset).map


def test_a_resample_has_the_map_that_its_photos_have(tmp_path: Path) -> None:
    """Counted the slow way: the photos of each draw, evaluated on their own."""
    dataset, found = random_case(tmp_path, 9, 1)
    weights = (draws(9, 5, 3) > 0).astype(np.float64)  # each photo once: a dataset cannot hold one twice
    fast = resampled(match(Told(found), dataset), weights)
    for row, value in zip(weights, fast, strict=True):
        kept = tuple(photo for photo, on in zip(dataset.photos, row, strict=True) if on)
        assert evaluate(Told(found), replace(dataset, photos=kept)).map == pytest.approx(value, abs=1e-12)


def test_a_model_against_itself_loses_nothing_and_is_sure_of_it(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 10, 2)
    same = paired(match(Told(found), dataset), match(Told(found), dataset))
    assert (same.drop, same.low, same.high) == (0, 0, 0)
    assert same.photos == 10


def test_a_difference_is_known_better_than_either_figure(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 30, 3)
    good, bad = match(Told(found), dataset), match(Told(worse(found, 0, 1.5)), dataset)
    lost = paired(good, bad)
    low, high = accuracy_of(good).interval
    assert lost.drop == pytest.approx(good.map() - bad.map())
    assert lost.low < lost.drop < lost.high
    assert lost.high - lost.low < high - low


def test_other_photos_or_classes_cannot_be_compared(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 6, 4)
    whole = match(Told(found), dataset)
    with pytest.raises(UsageError, match="same photos"):
        paired(whole, match(Told(found), replace(dataset, photos=dataset.photos[:5])))


def test_one_photo_says_nothing_of_others(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 1, 5)
    only = match(Told(found), dataset)
    assert (paired(only, only).low, paired(only, only).high) == (-1, 1)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=30))
def test_the_drop_of_values_is_the_difference_of_their_means(pairs: list[tuple[float, float]]) -> None:
    reference, model = zip(*pairs, strict=True)
    lost = paired_values(reference, model, resamples=50)
    assert lost.drop == pytest.approx(np.mean(reference) - np.mean(model), abs=1e-9)
    assert lost.low <= lost.drop <= lost.high


def test_values_must_be_as_many() -> None:
    with pytest.raises(UsageError, match="2 values of the reference and 1"):
        paired_values([1.0, 2.0], [1.0])
    with pytest.raises(UsageError, match="0 values"):
        paired_values([], [])


@pytest.mark.slow
def test_a_thousand_resamples_of_64_photos_take_a_moment(tmp_path: Path) -> None:
    dataset, found = random_case(tmp_path, 64, 6)
    matched = match(Told(found), dataset)
    start = time.process_time()
    paired(matched, matched)
    assert time.process_time() - start < 2
