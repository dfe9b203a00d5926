"""Repairs of a whole net: each kept where it helps, and written where the plan wants the low precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import numpy_helper  # noqa: E402

from edge_sdk.calibration.cache import Cache  # noqa: E402
from edge_sdk.calibration.engines.onnxruntime import ENGINE  # noqa: E402
from edge_sdk.calibration.graph import Graph, sha256_of  # noqa: E402
from edge_sdk.calibration.observe import collect  # noqa: E402
from edge_sdk.calibration.repairs import (  # noqa: E402
    Given,
    Mended,
    Repair,
    collect_moments,
    mend,
    mended_once,
    plain,
    prepared,
    repairs,
    weights_alone,
    with_arrays,
)
from edge_sdk.calibration.same import Runner  # noqa: E402
from edge_sdk.calibration.score import noise_to_signal  # noqa: E402
from edge_sdk.errors import UsageError  # noqa: E402

from ..engines.nets import CHANNELS, SIDE, Net  # noqa: E402, TID252  there is no package of tests to name


def photos(count: int, seed: int) -> list[dict[str, Any]]:
    """Pictures whose channels go together, as real ones do."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(1).normal(0, 1, (CHANNELS, 3))
    return [
        {"x": (np.einsum("cm,mhw->chw", mix, rng.normal(0, 1, (3, SIDE, SIDE))) + 1)[None].astype(np.float32)}
        for _ in range(count)
    ]


def net() -> Graph:
    made = Net(4)
    x = made.gated(made.conv("x", 8, 16, 3, name="stem", weights="stem.w"))
    x = made.gated(made.conv(x, 16, 16, 3, group=16, name="depth"))
    x = made.op("Relu", made.conv(x, 16, 24, name="point"))
    return Graph(made.model(made.conv(x, 24, 6, name="head")))


GRAPH = net()
NODES = frozenset(node.name for node in GRAPH.nodes)
SEEN, OTHERS = photos(6, 2), photos(12, 3)
RANGES = {name: (one.histogram.low, one.histogram.high) for name, one in collect(GRAPH.model, SEEN).tensors.items()}
TEACHER = [Runner(GRAPH.model)(one) for one in OTHERS]
WEIGHTS = ENGINE.quantized(GRAPH, NODES)[1]


def given() -> Given:
    first = Given(GRAPH, ENGINE, "x86", NODES, RANGES, collect_moments(GRAPH, NODES, SEEN), {})
    return first.changed(plain(GRAPH, first))


def losses(found: Sequence[Any]) -> NDArray[np.float64]:
    return noise_to_signal(TEACHER, found)


JUDGE = weights_alone(GRAPH, WEIGHTS, OTHERS, losses)


def test_every_repair_has_a_name_and_words_of_its_own() -> None:
    assert [one.name for one in repairs()] == ["weight rounding", "bias correction"]
    assert all(one.words for one in repairs())


class TestARepairedNet:
    def test_has_less_noise_on_photos_that_it_was_not_made_from(self) -> None:
        mended = mend(given(), JUDGE)
        assert mended.trials[0].kept
        assert JUDGE(mended.arrays).mean() < 0.5 * JUDGE(given().arrays).mean()

    def test_is_what_the_engine_stores(self) -> None:
        mended = mend(given(), JUDGE)
        found = ENGINE.rounded(Graph(with_arrays(GRAPH.model, mended.arrays)), NODES, RANGES, cpu="x86")
        assert all(np.allclose(found[name], mended.arrays[name], rtol=3e-7, atol=0) for name in found)
        floats = ENGINE.rounded(GRAPH, NODES, RANGES, cpu="x86")
        assert any(not np.allclose(found[name], floats[name], rtol=1e-3) for name in found)

    def test_is_the_same_every_time(self) -> None:
        one, other = mend(given(), JUDGE), mend(given(), JUDGE)
        assert one.trials == other.trials
        assert one.to_bytes() == other.to_bytes()


class TestBiasCorrection:
    def test_gives_every_layer_its_mean_output_back(self) -> None:
        start = given()
        rough = {name: (np.round(array * 8) / 8).astype(np.float32) for name, array in start.arrays.items()}
        repair = next(one for one in repairs() if one.name == "bias correction")
        biases = repair.mend(start.changed(rough))
        for name, bias in (("stem.w", "constant_0"),):
            assert GRAPH.node("stem").input[1:] == [name, bias]
            means = []
            for arrays in ({}, {name: rough[name]}, {name: rough[name], bias: biases[bias]}):
                first = onnx.utils.Extractor(with_arrays(GRAPH.model, arrays)).extract_model(
                    ["x"], [GRAPH.node("stem").output[0]]
                )
                run = Runner(first)
                means.append(np.mean([next(iter(run(one).values())).mean(axis=(0, 2, 3)) for one in SEEN], axis=0))
            assert np.abs(means[1] - means[0]).max() > 0.01
            assert np.abs(means[2] - means[0]).max() < 1e-4

    def test_leaves_a_bias_that_two_layers_share(self) -> None:
        made = Net(4)
        shared = made.constant(np.zeros(8, np.float32), "shared")
        values = made.rng.normal(0, 1, (2, 8, 8, 1, 1)).astype(np.float32)
        x = made.op("Conv", "x", made.constant(values[0], "a.w"), shared, name="a")
        graph = Graph(made.model(made.op("Conv", x, made.constant(values[1], "b.w"), shared, name="b")))
        ranges = dict.fromkeys(("x", x, graph.outputs[0]), (-9.0, 9.0))
        one = Given(graph, ENGINE, "x86", frozenset("ab"), ranges, collect_moments(graph, "ab", SEEN), {})
        assert all(not repair.mend(one.changed(plain(graph, one))) for repair in repairs())


class TestATrial:
    def test_that_chance_explains_is_left_out(self) -> None:
        rng = np.random.default_rng(0)
        same = Repair("same", "nothing that helps", 1, lambda given: dict(list(given.arrays.items())[:1]))
        mended = mend(given(), lambda arrays: rng.normal(1, 0.1, 20), only=[same])
        assert not mended.trials[0].kept
        assert mended.repaired == frozenset()
        assert "left out" in mended.trials[0].line

    def test_that_makes_it_worse_leaves_the_weights_as_they_were(self) -> None:
        worse = Repair("worse", "zeros", 1, lambda given: {name: a * 0 for name, a in given.arrays.items()})
        mended = mend(given(), JUDGE, only=[worse])
        assert mended.trials[0].high < 0
        assert all(np.array_equal(mended.arrays[name], array) for name, array in given().arrays.items())

    def test_of_nothing_says_so(self) -> None:
        mended = mend(given(), JUDGE, only=[Repair("idle", "", 1, lambda given: {})])
        assert mended.trials[0].line == "idle: nothing to mend"


class TestAPreparedModel:
    def test_has_mended_weights_in_the_low_precision_and_float_ones_elsewhere(self) -> None:
        arrays = mend(given(), JUDGE).arrays
        made = prepared(GRAPH, {"stem", "point"}, arrays)
        held = {one.name: numpy_helper.to_array(one) for one in made.graph.initializer}
        for node in GRAPH.nodes:
            if node.op_type == "Conv":
                low = node.name in ("stem", "point")
                before = GRAPH.constant(node.input[1])
                assert np.array_equal(held[node.input[1]], arrays[node.input[1]] if low else before)

    def test_with_nothing_in_the_low_precision_is_the_float_model(self) -> None:
        assert sha256_of(prepared(GRAPH, set(), given().arrays)) == sha256_of(GRAPH.model)


class TestACachedRepair:
    def test_is_made_once(self, tmp_path: Path) -> None:
        asked: list[int] = []

        def seen() -> Sequence[dict[str, Any]]:
            asked.append(1)
            return SEEN

        first, second = (
            mended_once(GRAPH, ENGINE, "x86", NODES, RANGES, seen, JUDGE, Cache(tmp_path), {"photos": "a"})
            for _ in range(2)
        )
        assert len(asked) == 1
        assert first.trials == second.trials
        assert first.repaired == second.repaired
        assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)

    def test_that_is_damaged_is_no_mended_weights(self) -> None:
        with pytest.raises(UsageError, match="no mended weights"):
            Mended.from_bytes(b"nothing")


def test_a_layer_whose_inputs_are_no_numbers_is_left_as_it_is() -> None:
    start = given()
    broken = {name: replace(one, second=one.second * np.nan) for name, one in start.moments.items()}
    assert all(not repair.mend(replace(start, moments=broken)) for repair in repairs())
