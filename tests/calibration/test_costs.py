"""The cost model: what is paid and when, and that it finds a machine's hidden costs through noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.backends.base import Layer
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.costs import (
    Boundary,
    Build,
    Costs,
    boundaries_of,
    crossings,
    design,
    features,
    measure_costs,
    refit,
    save_build,
)
from edge_sdk.calibration.engines.base import named
from edge_sdk.calibration.graph import Graph, sha256_of
from edge_sdk.calibration.groups import make_groups
from edge_sdk.calibration.outcome import Timed
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.solver import priced
from edge_sdk.calibration.surrogate import Surrogate
from edge_sdk.calibration.switchable import Mask
from edge_sdk.calibration.timing import sha256_of_file
from edge_sdk.errors import BackendError, UsageError

BLOCKS = 12
NO_DAMAGE = Surrogate(np.zeros(6), {}, 0.0, 0)


def network(blocks: int = BLOCKS) -> onnx.ModelProto:
    """Convolutions in a row, each with a ReLU, every third added to the one before; a Softmax at the end."""
    drawn = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for number in range(blocks):
        side = 1 if number % 2 else 3
        kernel = drawn.normal(0, 0.2, (8, 8, side, side)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{number}"))
        pads = [side // 2] * 4
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], name=f"conv{number}", pads=pads))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"], name=f"relu{number}"))
        if number % 3 == 2:
            nodes.append(helper.make_node("Add", [f"r{number}", last], [f"a{number}"], name=f"add{number}"))
        last = nodes[-1].output[0]
    nodes.append(helper.make_node("Softmax", [last], ["y"], name="softmax", axis=1))
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 8, 8]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def problem_of(model: onnx.ModelProto, pinned: Mapping[str, str] | None = None) -> Problem:
    engine = named("onnxruntime")
    graph = Graph(model)
    groups = make_groups(graph, engine.rules)
    tensors = {tensor for group in groups for tensor in engine.quantized(graph, frozenset(group.nodes))[0]}
    return Problem(
        graph, sha256_of(model), engine, "x86", "generic-x86_64", groups, dict.fromkeys(tensors, (-3.0, 3.0)),
        pinned=dict(pinned or {}),  # type: ignore[arg-type]
    )  # fmt: skip


class HiddenCosts:
    """A simulated machine: a timer with costs of its own, noise, and a profile that is not quite right.

    Args:
        problem: Whose files it is given.
        seed: Of its costs and its noise.
        noise: Standard deviation of a measured ratio, relative.
        fails_after: It breaks down after so many calls; None never.
    """

    method = "measured"
    on = "a simulated machine"
    settings: Mapping[str, object] = {}

    def __init__(self, problem: Problem, seed: int, *, noise: float = 0.007, fails_after: int | None = None) -> None:
        self._problem = problem
        drawn = np.random.default_rng(seed)
        self._drawn = np.random.default_rng(seed + 1)
        self._noise, self.left = noise, fails_after
        count = len(problem.free)
        self.boundaries = boundaries_of(problem.graph, problem.free)
        self.group_high = drawn.uniform(0.1, 1.0, count)
        self.group_low = self.group_high * drawn.uniform(0.5, 1.6, count)
        self.to_low = drawn.uniform(0.02, 0.3, len(self.boundaries))
        self.to_high = drawn.uniform(0.02, 0.3, len(self.boundaries))
        self.rest = 1.0
        self.asked: list[str] = []

    def true_ms(self, mask: Mask) -> float:
        there, back = crossings(self.boundaries, mask)
        groups = np.where(mask, self.group_low, self.group_high).sum()
        return float(self.rest + groups + self.to_low[there].sum() + self.to_high[back].sum())

    def true_ratio(self, mask: Mask) -> float:
        return self.true_ms(mask) / self.true_ms(np.zeros_like(mask))

    def time(self, files: Mapping[str, Path], *, reference: str) -> Mapping[str, Timed]:
        self._count("time")
        found = {}
        for name, file in files.items():
            mask = self._mask_of(file)
            ratio = self.true_ratio(mask) * self._drawn.lognormal(0, self._noise) if name != reference else 1.0
            wide = 0.0 if name == reference else 2 * self._noise
            found[name] = Timed(
                ratio * self.true_ms(np.zeros_like(mask)), ratio, ratio - wide, ratio + wide, "measured"
            )
        return found

    def layers(self, file: Path) -> Sequence[Layer]:
        self._count("layers")
        return list(self._kernels(self._mask_of(file)))

    def _kernels(self, mask: Mask) -> Iterator[Layer]:
        def kernel(name: str, ms: float) -> Layer:
            # Each kernel's clock adds its part, and the machine is busier than when files are timed.
            return Layer((name,), "cpu", None, 1.3 * ms * self._drawn.lognormal(0, 0.1) + 0.01)

        there, back = crossings(self.boundaries, mask)
        for boundary, low, high, to_low, to_high in zip(
            self.boundaries, there, back, self.to_low, self.to_high, strict=True
        ):
            if low:
                yield kernel("ReorderOutput_token_1", 0.4 * to_low)
                yield kernel(f"{boundary.tensor}/int8/QuantizeLinear", 0.6 * to_low)
                yield kernel("softmax", 0.0)
            if high:
                yield kernel(f"{boundary.tensor}/DequantizeLinear", to_high)
                yield kernel("softmax", 0.0)
        for group, on, low_ms, high_ms in zip(self._problem.free, mask, self.group_low, self.group_high, strict=True):
            for name in group.nodes:
                yield kernel(name, (low_ms if on else high_ms) / len(group.nodes))
        yield kernel("softmax", self.rest)

    def _mask_of(self, file: Path) -> Mask:
        made = {name for node in onnx.load(file).graph.node for name in node.output}
        return np.array(
            [any(f"{name}/w{name[4:]}/int8" in made for name in group.nodes) for group in self._problem.free], np.bool_
        )

    def _count(self, what: str) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise BackendError("the board is gone")
        self.asked.append(what)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return problem_of(network())


# --- what is paid -------------------------------------------------------------------------------------------


def test_boundaries_are_the_tensors_that_groups_share_with_others(problem: Problem) -> None:
    found = {one.tensor: one for one in boundaries_of(problem.graph, problem.free)}
    place = {node: number for number, group in enumerate(problem.free) for node in group.nodes}
    assert found["x"].producer is None
    assert found["x"].consumers[0] == place["conv0"]
    assert found["r0"] == Boundary("r0", place["conv0"], (place["conv1"],))
    assert found[f"r{BLOCKS - 1}"].consumers == (None,), "what comes after the last weights has no choice"
    assert "c0" not in found, "its ReLU is in the same group"


def test_a_conversion_is_paid_once_however_many_read_it() -> None:
    one = (Boundary("t", 0, (1, 2, None), 1.0, 10.0),)
    paid = {
        text: tuple(bool(way[0]) for way in crossings(one, np.array([letter == "L" for letter in text])))
        for text in ("HHH", "HLH", "HLL", "LLL", "LHH")
    }
    assert paid == {
        "HHH": (False, False), "HLH": (True, False), "HLL": (True, False), "LLL": (False, True), "LHH": (False, True),
    }  # fmt: skip
    costs = Costs(20.0, np.zeros(3), one, "measured", "x")
    assert costs.ms(np.array([False, True, True])) == 21.0
    assert costs.ratio(np.array([True, True, True])) == 1.5


@given(st.lists(st.booleans(), min_size=6, max_size=6), st.integers(0, 50))
def test_milliseconds_are_the_sum_of_what_is_paid(mask: list[bool], seed: int) -> None:
    drawn = np.random.default_rng(seed)
    edges = tuple(
        Boundary(f"t{number}", *_maker_and_readers(drawn), *drawn.uniform(0, 1, 2).tolist()) for number in range(5)
    )
    costs = Costs(10.0, drawn.normal(0, 1, 6), edges, "measured", "x")
    wanted = 10.0 + sum(gain for gain, low in zip(costs.gain_ms, mask, strict=True) if low)
    for edge in edges:
        made = edge.producer is not None and mask[edge.producer]
        read = [one is not None and mask[one] for one in edge.consumers]
        wanted += edge.to_low_ms if not made and any(read) else 0.0
        wanted += edge.to_high_ms if made and not all(read) else 0.0
    assert costs.ms(np.array(mask)) == pytest.approx(wanted)
    assert priced(np.array(mask), NO_DAMAGE, costs)[1] == pytest.approx(wanted)  # a solver sees the same times
    assert features(edges, np.array(mask)).shape == (6 + 2 * len(edges),)


def _maker_and_readers(drawn: np.random.Generator) -> tuple[int | None, tuple[int | None, ...]]:
    one, *others = drawn.permutation(6)[:3].tolist()
    return (None if drawn.random() < 0.3 else one), (*sorted(others), *([None] if drawn.random() < 0.3 else []))


# --- the design ---------------------------------------------------------------------------------------------


def test_the_design_begins_with_the_uniform_ones_and_is_settled_and_repeats_for_a_seed(problem: Problem) -> None:
    masks = design(problem, 14, 3)
    assert [tuple(mask) for mask in masks] == [tuple(mask) for mask in design(problem, 14, 3)]
    assert not masks[0].any()
    assert masks[1].all()
    assert len({tuple(mask) for mask in masks}) == 14
    assert all((problem.settle(mask) == mask).all() for mask in masks)
    assert (design(problem, 14, 4)[5] != masks[5]).any()


def test_a_model_with_few_masks_has_few_builds_and_pins_hold() -> None:
    small = problem_of(network(2))
    assert len(design(small, 14, 0)) <= 4
    pinned = problem_of(network(), {problem_of(network()).free[2].name: "fp32"})
    assert not any(mask[2] for mask in design(pinned, 10, 0))


# --- the fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_ratios_of_builds_that_were_not_in_the_fit_are_within_the_goal(
    problem: Problem, tmp_path: Path, seed: int
) -> None:
    timer = HiddenCosts(problem, seed)
    costs = measure_costs(problem, timer, Cache(tmp_path / "cache"), folder=tmp_path, seed=seed)
    strangers = [mask for mask in design(problem, 40, seed + 100)[2:] if not _in(mask, costs.builds)]
    errors = np.abs([costs.ratio(mask) / timer.true_ratio(mask) - 1 for mask in strangers])
    assert len(errors) > 20
    assert np.median(errors) < 0.05
    assert errors.max() < 0.10
    assert costs.error is not None
    assert costs.error[0] < 0.05
    assert (costs.method, costs.on) == ("measured", "a simulated machine")
    assert all(one.to_low_ms >= 0 and one.to_high_ms >= 0 for one in costs.boundaries)


def _in(mask: Mask, builds: Sequence[Build]) -> bool:
    return any(build.mask == tuple(mask.tolist()) for build in builds)


def test_new_builds_make_the_model_better_there(problem: Problem, tmp_path: Path) -> None:
    timer = HiddenCosts(problem, 7, noise=0.002)
    costs = measure_costs(problem, timer, Cache(tmp_path / "cache"), folder=tmp_path, seed=0, builds=4)
    masks = [mask for mask in design(problem, 16, 50)[2:] if not _in(mask, costs.builds)]
    new = [Build(tuple(mask.tolist()), _exactly(timer.true_ratio(mask))) for mask in masks[:6]]
    better = refit(costs, new)

    def error(model: Costs, among: Sequence[Mask]) -> float:
        return float(np.mean([abs(model.ratio(mask) / timer.true_ratio(mask) - 1) for mask in among]))

    assert error(better, masks[:6]) < error(costs, masks[:6])
    assert len(better.builds) == len(costs.builds) + 6
    again = refit(better, new)
    assert len(again.builds) == len(better.builds), "a mask that was timed again takes its own place"
    assert again.gain_ms == pytest.approx(better.gain_ms)
    assert refit(costs, []) is costs


def _exactly(ratio: float) -> Timed:
    return Timed(10 * ratio, ratio, ratio, ratio, "measured")


# --- what is kept -------------------------------------------------------------------------------------------


def test_a_run_that_breaks_down_anywhere_goes_on_from_what_was_measured(problem: Problem, tmp_path: Path) -> None:
    whole = HiddenCosts(problem, 1)
    measure_costs(problem, whole, Cache(tmp_path / "whole"), folder=tmp_path / "w", builds=6)
    cache, asked, broke = Cache(tmp_path / "cache"), [], 0
    for _ in range(len(whole.asked) + 1):
        timer = HiddenCosts(problem, 1, fails_after=2)
        try:
            costs = measure_costs(problem, timer, cache, folder=tmp_path / "f", builds=6)
        except BackendError:
            broke += 1
        else:
            break
        finally:
            asked += timer.asked
    assert broke >= 2
    assert asked == whole.asked, "nothing was measured twice"
    silent = HiddenCosts(problem, 1, fails_after=0)
    again = measure_costs(problem, silent, cache, folder=tmp_path / "f", builds=6)
    assert again.gain_ms.tolist() == costs.gain_ms.tolist()
    assert again.boundaries == costs.boundaries
    assert silent.asked == []


def test_the_same_mask_is_the_same_file(problem: Problem, tmp_path: Path) -> None:
    mask = design(problem, 5, 0)[4]
    files = [save_build(problem, mask, Cache(tmp_path / name), tmp_path / name / "files") for name in ("a", "b")]
    assert sha256_of_file(files[0]) == sha256_of_file(files[1])
    assert files[0].name == files[1].name


def test_stopping_early_leaves_the_uniform_files_at_least(problem: Problem, tmp_path: Path) -> None:
    told: list[float] = []
    costs = measure_costs(
        problem,
        HiddenCosts(problem, 0),
        Cache(tmp_path / "c"),
        folder=tmp_path,
        stop=lambda: True,
        progress=told.append,
    )
    assert len(costs.builds) == 2
    assert told == sorted(told)
    assert told[-1] == 1.0
    with pytest.raises(UsageError, match="two uniform files"):
        measure_costs(problem, HiddenCosts(problem, 0), Cache(tmp_path / "c"), folder=tmp_path, builds=1)
