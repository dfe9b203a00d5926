"""What a worker does for a probe."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("scipy")

from edge_sdk.calibration.graph import model_bytes
from edge_sdk.calibration.probe_worker import Bench, Job, Reader, packed, unpacked, work
from edge_sdk.calibration.score import FLOOR, Judge
from edge_sdk.calibration.switchable import SwitchableModel
from edge_sdk.errors import ModelError
from tests.calibration.probed import make_scene, spots


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"))


def job_of(scene, **changes) -> Job:
    problem = scene.problem
    fields = {
        "digest": "one", "model": model_bytes(problem.model), "switches": problem.switches, "ranges": problem.ranges,
        "weights": problem.weights, "feeds": tuple(scene.feeds), "reader": Reader(scene.detector),
        "geometries": tuple(scene.geometries), **changes,
    }  # fmt: skip
    return Job(**fields)


def test_a_reader_that_was_sent_decodes_as_its_detector_does(scene):
    prepared = scene.detector.prepare(spots(0), scene.detector.new_prepared())
    outputs = {name: array.copy() for name, array in scene.detector.infer(prepared).items()}
    reader = pickle.loads(pickle.dumps(Reader(scene.detector)))  # noqa: S301
    mine, theirs = scene.detector.decode(outputs, prepared), reader.decode(outputs, prepared)
    assert len(mine) > 0
    assert np.array_equal(mine.xyxy, theirs.xyxy)
    assert np.array_equal(mine.confidence, theirs.confidence)
    assert np.array_equal(mine.class_id, theirs.class_id)


def test_a_reader_keeps_to_the_classes_that_were_asked_for(scene):
    scene.detector.classes = ["green"]
    try:
        reader = Reader(scene.detector)
    finally:
        scene.detector.classes = None
    prepared = scene.detector.prepare(spots(0), scene.detector.new_prepared())
    assert set(reader.decode(scene.detector.infer(prepared), prepared).class_id.tolist()) == {1}


def test_an_answer_is_the_judgement_of_the_switched_model(scene):
    problem, mask = scene.problem, scene.problem.on
    model = SwitchableModel(problem.model, problem.switches, problem.ranges, weights=problem.weights)
    model.load(scene.feeds)
    prepared = [scene.detector.prepare(spots(seed), scene.detector.new_prepared()) for seed in range(len(scene.feeds))]
    judged = Judge(scene.detector, prepared, model.probe(model.off))(model.probe(mask))
    answer = Bench(job_of(scene)).answer(mask, problem.off, detections=False)
    assert answer.damage == judged.damage > 0
    assert answer.noise == float(judged.noise.mean()) > 0
    assert not answer.blind
    assert answer.found is None


def test_an_answer_does_not_depend_on_what_was_probed_before(scene):
    problem = scene.problem
    first, second = problem.off, problem.on
    first[2], second[3] = True, False
    fresh = Bench(job_of(scene)).answer(first, problem.off, detections=False)
    bench = Bench(job_of(scene))
    for mask, base in ((second, problem.on), (problem.on, problem.off), (second, second)):
        bench.answer(mask, base, detections=False)
    assert bench.answer(first, problem.on, detections=False) == fresh


def test_detections_come_back_where_they_are_wanted_and_survive_a_file(scene):
    answer = Bench(job_of(scene)).answer(scene.problem.off, scene.problem.off, detections=True)
    assert answer.damage == pytest.approx(0, abs=1e-12)
    assert answer.found is not None
    assert len(answer.found) == len(scene.feeds)
    assert all((one.confidence >= FLOOR).all() for one in answer.found)
    for one, again in zip(answer.found, unpacked(packed(answer.found)), strict=True):
        assert np.array_equal(one.xyxy, again.xyxy)
        assert np.array_equal(one.class_id, again.class_id)


def test_without_a_reader_the_outputs_alone_are_compared(scene):
    answer = Bench(job_of(scene, reader=None, geometries=())).answer(
        scene.problem.on, scene.problem.off, detections=True
    )
    assert answer.blind
    assert answer.noise > 0
    assert answer.found is None


def test_a_worker_says_that_it_lacks_a_job_and_then_holds_it(scene):
    off = scene.problem.off.tobytes()
    assert work("never sent", off, off, False) is None
    assert work("one", off, off, False, job_of(scene)) is not None
    assert work("one", off, off, False) is not None
    assert work("another", off, off, False, job_of(scene, digest="another")) is not None
    assert work("one", off, off, False) is None  # only the newest is held


def test_a_model_that_is_none_is_refused(scene):
    with pytest.raises(ModelError, match="cannot be read"):
        Bench(job_of(scene, model=b"\xff\xff\xff"))
