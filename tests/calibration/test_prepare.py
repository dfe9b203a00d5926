"""From a model file and photos to what is solved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import Detector, targets
from edge_sdk.errors import ModelError, UsageError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")

from onnx import helper, numpy_helper  # noqa: E402

from edge_sdk.calibration.cache import Cache  # noqa: E402
from edge_sdk.calibration.dataset import CalibrationSet  # noqa: E402
from edge_sdk.calibration.engines.base import named  # noqa: E402
from edge_sdk.calibration.prepare import (  # noqa: E402
    Prepared,
    engine_for,
    find_ranges,
    judge_of,
    mended_weights,
    prepare,
    provenance_of,
    ranged,
    tuned_ranges,
)
from edge_sdk.calibration.ranges import Ranges  # noqa: E402
from edge_sdk.calibration.request import Request  # noqa: E402
from tests.models.tiny_yolox import build, write_photos  # noqa: E402

ENGINE = named("onnxruntime")
WANTED = Request(count=6)


@dataclass(frozen=True)
class Table:
    """A detector with its photos."""

    detector: Detector
    photos: CalibrationSet
    cache: Cache

    def prepare(self) -> Prepared:
        return prepare(self.detector, self.photos, ENGINE)

    def ranges(self, prepared: Prepared, request: Request = WANTED) -> tuple[Ranges, Prepared]:
        return find_ranges(prepared, ENGINE, self.photos, self.cache, request, "uint8", lambda *_: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepare")
    write_photos(folder / "photos", range(15))
    return folder


def open_table(folder: Path, model: Any, name: str) -> Iterator[Table]:
    onnx.save(model, folder / f"{name}.onnx")
    with (
        Detector(folder / f"{name}.onnx", backend="onnxruntime", threads=1) as detector,
        CalibrationSet.open(folder / "photos", detector, count=6) as photos,
    ):
        yield Table(detector, photos, Cache(folder / "cache"))


@pytest.fixture(scope="module")
def table(folder: Path) -> Iterator[Table]:
    yield from open_table(folder, build(), "tiny")


def with_a_constant_branch(model: Any) -> Any:
    """The stem's Relu gets the sum of its input and a convolution of a constant picture."""
    relu = next(node for node in model.graph.node if node.name == "stem/Relu")
    side = np.ones((1, 8, 32, 32), np.float32)
    weights = np.full((8, 8, 1, 1), 1e-4, np.float32)
    model.graph.initializer.extend([
        numpy_helper.from_array(side, "side"), numpy_helper.from_array(weights, "side.weight"),
    ])  # fmt: skip
    at = list(model.graph.node).index(relu)
    model.graph.node.insert(at, helper.make_node("Conv", ["side", "side.weight"], ["side:0"], name="side/Conv"))
    model.graph.node.insert(at + 1, helper.make_node("Add", [relu.input[0], "side:0"], ["sum:0"], name="sum"))
    relu.input[0] = "sum:0"
    onnx.checker.check_model(model)
    return model


def einsums(model: Any) -> Any:
    """Every convolution becomes a mean over the picture's patches and an Einsum, which no engine has in 8 bits."""
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Conv":
            nodes.append(node)
            continue
        strides = next(list(one.ints) for one in node.attribute if one.name == "strides")
        weights = next(one for one in model.graph.initializer if one.name == node.input[1])
        array = numpy_helper.to_array(weights).sum(axis=(2, 3))
        weights.CopyFrom(numpy_helper.from_array(array, weights.name))
        name = node.name
        pooled = helper.make_node(
            "MaxPool", [node.input[0]], [f"{name}/pooled"], name=f"{name}/pool", kernel_shape=strides, strides=strides
        )
        mixed = helper.make_node(
            "Einsum", [f"{name}/pooled", weights.name], list(node.output), name=name, equation="nchw,dc->ndhw"
        )
        nodes += [pooled, mixed]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


# --- the engine ---------------------------------------------------------------------------------------------


def test_a_board_gets_the_first_engine_that_plans_are_lowered_to() -> None:
    assert engine_for(targets.load("generic-x86_64")).name == "onnxruntime"
    assert engine_for(targets.load("raspberry-pi-5")).name == "onnxruntime"


def test_a_board_without_such_an_engine_is_told_what_it_runs() -> None:
    board = replace(targets.load("generic-x86_64"), name="odd", backends=("qnn", "snpe"))
    with pytest.raises(UsageError, match=r"no plan can be made for odd: it runs qnn and snpe.*lowered to onnxruntime"):
        engine_for(board)


# --- the model ----------------------------------------------------------------------------------------------


def test_a_model_is_grouped_and_what_stays_in_float_is_noted(table: Table) -> None:
    prepared = table.prepare()
    free = [group.name for group in prepared.groups if len(group.precisions) > 1]
    assert len(free) == 8
    assert {"stem", "stage1", "head2.pred"} <= set(free)
    assert any("groups stay in fp32: it comes after the last weights" in note for note in prepared.notes)
    assert prepared.sha256 == table.prepare().sha256


def test_a_model_with_nothing_to_quantize_is_refused_with_the_reason(folder: Path) -> None:
    for detector_table in open_table(folder, einsums(build()), "einsums"):
        with pytest.raises(ModelError, match=r"einsums\.onnx: nothing in this model can be quantized for onnxruntime"):
            detector_table.prepare()


# --- ranges -------------------------------------------------------------------------------------------------


def test_every_tensor_that_may_be_quantized_has_a_range(table: Table) -> None:
    ranges, prepared = table.ranges(table.prepare())
    free = [group for group in prepared.groups if len(group.precisions) > 1]
    assert set(ranges) == set(ranged(prepared.graph, ENGINE, free))
    assert all(one.low <= 0 <= one.high and one.low < one.high for one in ranges.values())


def test_a_part_that_no_photo_reaches_has_no_say(folder: Path) -> None:
    """A convolution of a constant: what it makes is a constant too, and takes no choice from the others."""
    for one in open_table(folder, with_a_constant_branch(build()), "constant"):
        ranges, prepared = one.ranges(one.prepare())
        free = [group for group in prepared.groups if len(group.precisions) > 1]
        assert {"stage1", "stage2", "head2.pred"} <= {group.name for group in free}
        wanted = ranged(prepared.graph, ENGINE, free)
        assert set(wanted) <= set(ranges)
        assert "side:0" not in ranges


def test_groups_whose_tensor_has_no_range_lose_their_choice_and_say_why(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_sdk.calibration import prepare as module

    prepared = table.prepare()
    real = module.choose

    def partly(*given: Any, **options: Any) -> Ranges:
        found = real(*given, **options)
        bad = next(name for name in found if "stage4" in name)
        return replace(
            found, by_tensor={name: one for name, one in found.items() if name != bad}, without={bad: "it holds a NaN"}
        )

    monkeypatch.setattr(module, "choose", partly)
    _, changed = table.ranges(prepared)
    before = {group.name for group in prepared.groups if len(group.precisions) > 1}
    after = {group.name for group in changed.groups if len(group.precisions) > 1}
    assert "stage4" in before - after
    assert after
    assert any("'stage4'" in note and "it holds a NaN" in note for note in changed.notes)
    monkeypatch.setattr(
        module,
        "choose",
        lambda *a, **o: replace(real(*a, **o), by_tensor={}, without=dict.fromkeys(real(*a, **o), "NaN")),
    )
    with pytest.raises(ModelError, match="no group can be quantized: NaN"):
        table.ranges(prepared)


# --- what is tried on it ------------------------------------------------------------------------------------


def test_methods_and_repairs_are_tried_once_and_found_again(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    ranges, prepared = table.ranges(table.prepare())

    def everything() -> tuple[Any, ...]:
        found, lines = tuned_ranges(
            prepared, ENGINE, ranges, table.detector, table.photos, table.cache, workers=1, progress=lambda *_: None
        )
        mended = mended_weights(
            prepared, ENGINE, "x86", found.limits(), table.detector, table.photos, table.cache
        )  # fmt: skip
        return found.limits(), lines, {name: array.tolist() for name, array in mended.arrays.items()}, mended.repaired

    first = everything()
    monkeypatch.setattr("edge_sdk.calibration.prepare.SwitchableModel", _never)
    assert everything() == first
    assert first[1]


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("this was known already")


def test_photos_are_judged_by_the_float_models_own_outputs(table: Table) -> None:
    from edge_sdk.calibration.switchable import SwitchableModel

    prepared = table.prepare()
    samples = table.photos.search[:3]
    losses = judge_of(prepared, table.detector, table.photos, samples)
    with SwitchableModel(prepared.graph.model, (), {}, sections=1) as model:
        model.load(list(table.photos.feeds(samples)))
        exact = model.probe(model.off)
    assert losses(exact).tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    broken = [{name: np.zeros_like(array) for name, array in one.items()} for one in exact]
    assert losses(broken).min() > 0.1


def test_what_it_was_made_from_is_said_without_a_clock(table: Table) -> None:
    found = provenance_of(table.detector, table.photos, ENGINE, WANTED)
    assert found == provenance_of(table.detector, table.photos, ENGINE, WANTED)
    assert found["photos_digest"] == table.photos.digest
    assert found["model"] == "tiny.onnx"
    assert len(found["model_sha256"]) == 64
    assert all(isinstance(value, str) for value in found.values())
    assert not any(str(table.detector.path.parent) in value for value in found.values())
