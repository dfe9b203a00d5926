"""A problem: which positions a mask has, what is pinned, and the plan and file of a mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import PlanError, UsageError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_sdk.calibration.engines.base import named  # noqa: E402
from edge_sdk.calibration.graph import Graph  # noqa: E402
from edge_sdk.calibration.groups import make_groups  # noqa: E402
from edge_sdk.calibration.prepare import ranged  # noqa: E402
from edge_sdk.calibration.problem import Problem  # noqa: E402

from .engines.nets import random_net  # noqa: E402

ENGINE = named("onnxruntime")


def problem(seed: int = 0, **changes) -> Problem:
    graph = Graph(random_net(seed))
    groups = make_groups(graph, ENGINE.rules)
    tensors = ranged(graph, ENGINE, [group for group in groups if len(group.precisions) > 1])
    return Problem(graph, "00", ENGINE, "x86", "generic-x86_64", groups, dict.fromkeys(tensors, (-4.0, 4.0)), **changes)


def random_mask(one: Problem, seed: int) -> np.ndarray:
    return one.settle(np.random.default_rng(seed).random(len(one.free)) < 0.5)


class TestAMask:
    def test_has_a_position_for_each_group_that_has_the_choice(self) -> None:
        one = problem()
        assert [group.name for group in one.free] == [group.name for group in one.groups if group.reason is None]
        assert len(one.switches) == len(one.free) == len(one.off) == len(one.on)
        assert one.on.all()
        assert not one.off.any()

    @given(st.integers(0, 500), st.integers(0, 500))
    @settings(max_examples=20, deadline=None)
    def test_that_is_settled_stays_as_it_is_and_can_be_lowered(self, net: int, draw: int) -> None:
        one = problem(net)
        mask = random_mask(one, draw)
        assert (one.settle(mask) == mask).all()
        onnx.checker.check_model(one.lower(mask))

    @given(net=st.integers(0, 500), draw=st.integers(0, 500))
    @settings(max_examples=20, deadline=None)
    def test_comes_back_from_its_plan_through_a_file(self, tmp_path_factory, net: int, draw: int) -> None:
        one = problem(net)
        mask = random_mask(one, draw)
        file = tmp_path_factory.mktemp("plan") / "plan.json"
        one.plan(mask).save(file)
        assert (one.mask_of(type(one.plan(mask)).load(file)) == mask).all()

    @pytest.mark.parametrize("wrong", [np.ones(3, np.bool_), np.ones(200, np.int64)])
    def test_of_another_length_or_dtype_is_refused(self, wrong) -> None:
        with pytest.raises(UsageError, match="a mask is bool"):
            problem().settle(wrong)

    def test_counts_its_work(self) -> None:
        one = problem()
        low, every = one.macs(one.on)
        assert 0 < low <= every
        assert one.macs(one.off) == (0, every)


class TestAPlan:
    def test_has_the_ranges_of_all_that_may_be_quantized_so_that_it_may_be_edited(self) -> None:
        one = problem()
        assert one.plan(one.off).ranges == one.plan(one.on).ranges == one.ranges

    def test_says_what_it_was_made_from(self) -> None:
        plan = problem(provenance={"seed": "3"}).plan(problem().off, candidate="float")
        assert plan.provenance == {"seed": "3", "candidate": "float"}


class TestAPin:
    def test_holds_in_every_uniform_mask_and_is_marked_in_the_plan(self) -> None:
        free = problem().free
        one = problem(pinned={free[0].name: "int8", free[-1].name: "fp32"})
        assert one.fixed == {0: True, len(free) - 1: False}
        assert one.off[0]
        assert not one.on[-1]
        assert [choice.group for choice in one.plan(one.off).choices if choice.pinned] == [free[0].name, free[-1].name]

    @pytest.mark.parametrize(("group", "said"), [("nothing", "there is no group"), (None, "cannot be pinned to int8")])
    def test_that_cannot_be_is_refused(self, group, said) -> None:
        stuck = next(one.name for one in problem().groups if one.reason is not None)
        with pytest.raises(PlanError, match=said):
            problem(pinned={group or stuck: "int8"})


class TestItsDigest:
    def test_is_the_same_for_the_same_problem(self) -> None:
        assert problem().digest == problem().digest

    @pytest.mark.parametrize(
        "other",
        [
            {"cpu": "arm"},
            {"sha256": "01"},
            {"ranges": {}},
            {"weights": {"constant_0": np.zeros((8, 8, 3, 3), np.float32)}},
        ],
    )
    def test_is_another_where_anything_that_a_mask_computes_differs(self, other) -> None:
        assert replace(problem(), **other).digest != problem().digest

    def test_does_not_depend_on_what_is_pinned(self) -> None:
        """A second plan with other pins finds the first one's probes."""
        name = problem().free[0].name
        assert problem(pinned={name: "fp32"}).digest == problem().digest
