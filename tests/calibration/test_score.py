"""How far a probe's detections are from the teacher's."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk import Detector
from edge_sdk.calibration.score import (
    FLOOR,
    Judge,
    choose_probe_photos,
    damages,
    noise_to_signal,
    paired_iou,
    snr_db,
)
from edge_sdk.detections import Detections
from edge_sdk.errors import UsageError
from edge_sdk.sources.files import read_photo

pytest.importorskip("scipy")


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """left, top, right, bottom, score, class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int32))


def damage(teacher: Detections, probe: Detections) -> float:
    return float(damages([teacher], [probe])[0])


@st.composite
def detections(draw: st.DrawFn, most: int = 12) -> Detections:
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 60), st.integers(0, 60), st.integers(1, 40), st.integers(1, 40),
                st.floats(0, 1, width=32), st.integers(0, 2),
            ),
            max_size=most,
        )
    )  # fmt: skip
    return boxes(*((x, y, x + w, y + h, score, label) for x, y, w, h, score, label in rows))


@settings(max_examples=40, deadline=None)
@given(detections())
def test_the_same_detections_are_no_damage(found):
    assert damage(found, found) == pytest.approx(0, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(detections(), detections(), st.randoms())
def test_the_order_of_boxes_changes_nothing(teacher, probe, random):
    order, other = list(range(len(teacher))), list(range(len(probe)))
    random.shuffle(order)
    random.shuffle(other)
    assert damage(teacher[order], probe[other]) == pytest.approx(damage(teacher, probe), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(detections(), detections())
def test_damage_lies_in_0_to_1_and_is_the_same_from_both_sides(teacher, probe):
    assert 0 <= damage(teacher, probe) < 1
    assert damage(teacher, probe) == pytest.approx(damage(probe, teacher), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(detections(most=4), detections(most=4))
def test_boxes_are_paired_so_that_they_agree_most(teacher, probe):
    mine, theirs = (np.clip(one.confidence.astype(float) - FLOOR, 0, None) ** 2 for one in (teacher, probe))
    ious = [paired_iou(teacher.xyxy, np.repeat(box[None], len(teacher), axis=0)) for box in probe.xyxy]
    gain = np.array(ious).reshape(len(probe), len(teacher)).T
    gain = np.clip(gain * 2 - 1, 0, 1) * np.minimum(mine[:, None], theirs)
    gain *= teacher.class_id[:, None] == probe.class_id
    wide = gain if len(teacher) <= len(probe) else gain.T
    best = max(
        sum(wide[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(wide.shape[1]), len(wide))
    )
    total = mine.sum() + theirs.sum()
    assert damage(teacher, probe) == pytest.approx((total - 2 * best) / (total + 1), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(detections().filter(len), st.lists(st.floats(0, 1), min_size=3, max_size=6))
def test_damage_grows_as_scores_fall(found, shares):
    falls = sorted(shares)
    values = [
        damage(found, Detections(found.xyxy, (found.confidence * (1 - fall)).astype(np.float32), found.class_id))
        for fall in falls
    ]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(values))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=2, max_size=6), st.floats(0.1, 1))
def test_damage_grows_as_a_box_moves_away(shifts, score):
    teacher = boxes((100, 100, 200, 180, score, 0), (0, 0, 50, 50, 0.9, 0))
    values = [
        damage(teacher, boxes((100 + shift, 100, 200 + shift, 180, score, 0), (0, 0, 50, 50, 0.9, 0)))
        for shift in sorted(shifts)
    ]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(values))


def test_small_shifts_and_small_falls_show():
    teacher = boxes((100, 100, 200, 200, 0.8, 0))
    assert 0.005 < damage(teacher, boxes((101, 100, 201, 200, 0.8, 0))) < 0.03
    assert 0.001 < damage(teacher, boxes((100, 100, 200, 200, 0.79, 0))) < 0.01


def test_another_class_is_a_lost_box_and_a_false_one():
    teacher = boxes((0, 0, 50, 50, 0.8, 0))
    assert damage(teacher, boxes((0, 0, 50, 50, 0.8, 1))) == pytest.approx(1.125 / 2.125)
    assert damage(teacher, Detections.empty()) == pytest.approx(0.5625 / 1.5625)
    assert damage(Detections.empty(), teacher) == pytest.approx(0.5625 / 1.5625)


def test_nothing_jumps_where_a_box_passes_the_floor():
    teacher = boxes((0, 0, 50, 50, 0.8, 0))
    above, below = (boxes((0, 0, 50, 50, 0.8, 0), (70, 70, 90, 90, FLOOR + d, 0)) for d in (1e-4, -1e-4))
    assert damage(teacher, below) == pytest.approx(0, abs=1e-6)
    assert damage(teacher, above) == pytest.approx(0, abs=1e-4)


def test_a_faint_false_box_in_an_empty_photo_is_a_small_damage():
    assert damage(Detections.empty(), boxes((0, 0, 9, 9, 0.1, 0))) < 0.05
    assert damage(Detections.empty(), Detections.empty()) == 0


def test_each_photo_has_its_own_damage():
    good, lost = boxes((0, 0, 50, 50, 0.8, 0)), Detections.empty()
    assert damages([good, good, lost], [good, lost, lost]).tolist() == pytest.approx([0, 0.5625 / 1.5625, 0])
    with pytest.raises(UsageError, match="2 photos of the teacher, 1 of the probe"):
        damages([good, good], [good])


def test_boxes_without_an_area_match_nothing():
    flat = boxes((5, 5, 5, 9, 0.9, 0))
    assert paired_iou(flat.xyxy, flat.xyxy).tolist() == [0.0]


def test_noise_is_in_db_of_the_outputs_power():
    rng = np.random.default_rng(0)
    teacher = [{"a": rng.normal(0, 5, (1, 400)), "b": rng.normal(0, 0.1, 300)} for _ in range(3)]
    probe = [{name: array * 1.1 for name, array in one.items()} for one in teacher]
    assert noise_to_signal(teacher, probe) == pytest.approx([0.01] * 3)
    assert snr_db(noise_to_signal(teacher, probe)) == pytest.approx(20)
    assert snr_db(noise_to_signal(teacher, teacher)) == float("inf")


def test_outputs_that_are_not_finite_are_all_noise():
    ratios = noise_to_signal(
        [{"a": np.ones(3)}, {"a": np.zeros(3)}], [{"a": np.array([1, np.nan, 1])}, {"a": np.ones(3)}]
    )
    assert ratios.tolist() == [float("inf"), 1.0]
    assert snr_db(ratios) == -float("inf")


def test_photos_with_many_and_varied_detections_are_chosen():
    person = boxes(*((0, 0, 20, 20, 0.9, 0) for _ in range(3)))
    varied = boxes((0, 0, 20, 20, 0.9, 1), (0, 0, 200, 200, 0.9, 2))
    teacher = [person, Detections.empty(), person, varied, person, Detections.empty()]
    assert 3 in choose_probe_photos(teacher, 1)
    assert 3 in choose_probe_photos(teacher, 2)
    assert not {1, 5} & set(choose_probe_photos(teacher, 4))
    assert choose_probe_photos(teacher, 99) == [0, 1, 2, 3, 4, 5]
    assert {tuple(choose_probe_photos([person] * 8, 3, seed)) for seed in range(8)} != {
        tuple(choose_probe_photos([person] * 8, 3, 0))
    }
    assert choose_probe_photos([person] * 8, 3, 5) == choose_probe_photos([person] * 8, 3, 5)
    assert choose_probe_photos([Detections.empty()] * 3, 2) == choose_probe_photos([Detections.empty()] * 3, 2)
    with pytest.raises(UsageError, match="count must be 1 or more"):
        choose_probe_photos(teacher, 0)


@settings(max_examples=40, deadline=None)
@given(st.lists(detections(), max_size=10), st.integers(1, 12), st.integers(0, 3))
def test_as_many_photos_are_chosen_as_asked_for_each_once(teacher, count, seed):
    chosen = choose_probe_photos(teacher, count, seed)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, len(teacher))


def test_a_judge_reads_outputs_as_the_detector_does(shared: Path):
    photos = [read_photo(path) for path in sorted((shared / "data/coco_calib/images").glob("*.jpg"))[:4]]
    with Detector(shared / "models/yolox_nano/yolox_nano.onnx", threads=1) as detector:
        prepared = [detector.prepare(photo, detector.new_prepared()) for photo in photos]
        outputs = [{name: array.copy() for name, array in detector.infer(one).items()} for one in prepared]
        judge = Judge(detector, prepared, outputs)
        assert detector.confidence == 0.25
        assert not judge.blind
        assert judge(outputs).damages == pytest.approx([0] * 4, abs=1e-9)
        rng = np.random.default_rng(0)
        noisy = [
            [{n: a + rng.normal(0, power, a.shape).astype(np.float32) for n, a in one.items()} for one in outputs]
            for power in (0.001, 0.01, 0.05)
        ]
        found = [judge(one) for one in noisy]
        assert 0 < found[0].damage < found[1].damage < found[2].damage < 1
        assert found[0].snr_db > found[1].snr_db > found[2].snr_db
        dark = [{name: np.zeros_like(array) for name, array in one.items()} for one in outputs]
        assert Judge(detector, prepared, dark).blind
        with pytest.raises(UsageError, match="4 photos and 3 outputs"):
            Judge(detector, prepared, outputs[:3])
