"""Constants folded into weights, and channels filled up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_sdk.calibration.rewrites import fill_channels, fold_constants

from .applying import applied
from .small import Small, operators


def values(net: Small, kind: str, channels: int) -> Any:
    shape = {"one": (), "one in a list": (1,), "channels": (channels, 1, 1), "all axes": (1, channels, 1, 1)}[kind]
    return net.constant(net.random.uniform(0.5, 2, shape))


KINDS = st.sampled_from(["one", "one in a list", "channels", "all axes"])
STEPS = st.lists(st.tuples(st.sampled_from(["Add", "Sub", "Mul", "Div", "Neg"]), KINDS, st.booleans()), max_size=4)


def walked(net: Small, x: str, steps: list[tuple[str, str, bool]], channels: int) -> str:
    for operator, kind, first in steps:
        if operator == "Neg":
            x = net.add("Neg", x)
            continue
        constant = values(net, kind, channels)
        # A constant over a tensor is no linear step.
        x = net.add(operator, *((constant, x) if first and operator != "Div" else (x, constant)))
    return x


class TestConstants:
    @given(STEPS, st.sampled_from([1, 2, 4]), st.booleans())
    @settings(max_examples=40)
    def test_after_a_convolution_all_go_into_it(self, steps, group: int, biased: bool) -> None:
        net = Small()
        weights = [net.weights(8, 4 // group, 3, 3)] + ([net.constant(np.ones(8))] if biased else [])
        y = net.add("Sigmoid", walked(net, net.add("Conv", "x", *weights, group=group), steps, 8))
        after = applied(fold_constants.REWRITE, net, y, (1, 8, 6, 6), {"x": (1, 4, 8, 8)})
        assert operators(after.graph) == ["Conv", "Sigmoid"]

    @given(STEPS, st.sampled_from([1, 2, 4]))
    @settings(max_examples=40)
    def test_before_a_convolution_without_padding_all_go_into_it(self, steps, group: int) -> None:
        net = Small()
        y = net.add("Conv", walked(net, "x", steps, 4), net.weights(8, 4 // group, 3, 3), group=group)
        after = applied(fold_constants.REWRITE, net, y, (1, 8, 6, 6), {"x": (1, 4, 8, 8)})
        assert operators(after.graph) == ["Conv"]

    def test_that_shift_before_a_padded_convolution_stay(self) -> None:
        net = Small()
        y = net.conv(net.add("Mul", net.add("Sub", "x", net.constant(127)), net.constant(1 / 128)), 3, 4)
        assert operators(applied(fold_constants.REWRITE, net, y, (1, 4, 8, 8)).graph) == ["Conv", "Sub"]

    def test_with_a_value_for_each_place_stay(self) -> None:
        net = Small()
        y = net.add("Mul", net.conv("x", 3, 4), net.constant(np.full((1, 1, 8, 8), 2)))
        assert applied(fold_constants.REWRITE, net, y, (1, 4, 8, 8)).applied == ()

    def test_behind_a_tensor_that_somebody_reads_stay(self) -> None:
        net = Small()
        x = net.conv("x", 3, 4)
        y = net.add("Add", net.add("Div", x, net.constant(2)), x)
        assert applied(fold_constants.REWRITE, net, y, (1, 4, 8, 8)).applied == ()


class TestChannels:
    @pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "HardSwish"])
    def test_that_are_no_multiple_of_four_are_filled_up(self, activation: str) -> None:
        net = Small()
        x = net.add(activation, net.conv("x", 3, 58, 1))
        x = net.add("Add", x, net.add(activation, net.conv(x, 58, 58, 3, group=58)))
        after = applied(fill_channels.REWRITE, net, net.conv(x, 58, 4, 1), (1, 4, 8, 8))
        assert after.difference.worst.max_rel < 1e-5
        wide = [node for node in after.graph.nodes if node.op_type == "Conv"]
        assert [after.graph.shape(node.output[0])[1] for node in wide] == [64, 64, 4]

    @pytest.mark.parametrize("count", [60, 10])
    def test_that_fit_or_are_few_stay(self, count: int) -> None:
        net = Small()
        x = net.conv(net.conv("x", 3, count, 1), count, count, 3, group=count)
        assert applied(fill_channels.REWRITE, net, net.conv(x, count, 4, 1), (1, 4, 8, 8)).applied == ()

    def test_that_something_else_sees_stay(self) -> None:
        net = Small()
        x = net.conv("x", 3, 58, 1)
        y = net.add("Concat", net.conv(x, 58, 58, 3, group=58), x, axis=1)
        assert applied(fill_channels.REWRITE, net, y, (1, 116, 8, 8)).applied == ()
