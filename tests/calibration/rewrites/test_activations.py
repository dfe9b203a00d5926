"""Hard-swish and SiLU in all spellings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_sdk.calibration.graph import attribute
from edge_sdk.calibration.rewrites import hard_swish, silu

from .applying import applied
from .small import Small, operators

SHAPE = (1, 4, 8, 8)


def swapped(a: str, b: str, swap: bool) -> tuple[str, str]:
    return (b, a) if swap else (a, b)


def hard_swish_of(net: Small, x: str, clip: str, scale: str, place: str, swaps: list[bool]) -> str:
    """x * clip(x + 3, 0, 6) / 6 with the sum, the limits, the sixth and its place spelled as asked."""
    total = net.add("Add", *swapped(x, net.constant(3), swaps[0]))
    if clip == "Clip":
        cut = net.add("Clip", total, net.constant(0), net.constant(6))
    else:
        cut = net.add("Min", *swapped(net.add("Relu", total), net.constant(6), swaps[1]))

    def sixth(tensor: str) -> str:
        if scale == "Div":
            return str(net.add("Div", tensor, net.constant(6)))
        return str(net.add("Mul", *swapped(tensor, net.constant(1 / 6), swaps[2])))

    if place == "gate":
        return str(net.add("Mul", *swapped(x, sixth(cut), swaps[3])))
    if place == "x":
        return str(net.add("Mul", *swapped(sixth(x), cut, swaps[3])))
    return sixth(net.add("Mul", *swapped(x, cut, swaps[3])))


class TestHardSwish:
    @given(
        st.sampled_from(["Clip", "Min"]),
        st.sampled_from(["Div", "Mul"]),
        st.sampled_from(["gate", "x", "end"]),
        st.lists(st.booleans(), min_size=4, max_size=4),
    )
    @settings(max_examples=25)
    def test_is_known_in_every_spelling(self, clip: str, scale: str, place: str, swaps: list[bool]) -> None:
        net = Small()
        y = net.add("Relu", hard_swish_of(net, net.conv("x", 3, 4), clip, scale, place, swaps))
        after = applied(hard_swish.REWRITE, net, y, SHAPE)
        assert operators(after.graph) == ["Conv", "HardSigmoid", "Mul", "Relu"]
        gate = next(node for node in after.graph.nodes if node.op_type == "HardSigmoid")
        assert attribute(gate, "alpha") == np.float32(1 / 6)
        assert attribute(gate, "beta") == 0.5

    def test_keeps_the_names_of_its_last_node_and_of_its_result(self) -> None:
        net = Small()
        y = hard_swish_of(net, net.conv("x", 3, 4), "Clip", "Div", "end", [False] * 4)
        last = applied(hard_swish.REWRITE, net, y, SHAPE).graph.producer(y)
        assert last is not None
        assert last.name == net.nodes[-1].name

    def test_as_an_operator_becomes_the_same_two_nodes(self) -> None:
        net = Small()
        after = applied(hard_swish.REWRITE, net, net.add("HardSwish", net.conv("x", 3, 4)), SHAPE)
        assert operators(after.graph) == ["Conv", "HardSigmoid", "Mul"]

    @pytest.mark.parametrize("factor", [3.0, 6.01, 0.1667])
    def test_that_is_none_by_its_factor_stays(self, factor: float) -> None:
        net = Small()
        x = net.conv("x", 3, 4)
        cut = net.add("Clip", net.add("Add", x, net.constant(3)), net.constant(0), net.constant(6))
        y = net.add("Div", net.add("Mul", x, cut), net.constant(factor))
        assert applied(hard_swish.REWRITE, net, y, SHAPE).applied == ()

    def test_of_another_tensor_is_a_gate_and_stays_a_product(self) -> None:
        net = Small()
        x = net.conv("x", 3, 4)
        cut = net.add("Clip", net.add("Add", x, net.constant(3)), net.constant(0), net.constant(6))
        y = net.add("Mul", net.conv("x", 3, 4), net.add("Div", cut, net.constant(6)))
        assert operators(applied(hard_swish.REWRITE, net, y, SHAPE).graph) == ["Conv", "Conv", "HardSigmoid", "Mul"]

    def test_whose_inner_tensor_somebody_reads_stays(self) -> None:
        net = Small()
        x = net.conv("x", 3, 4)
        cut = net.add("Clip", net.add("Add", x, net.constant(3)), net.constant(0), net.constant(6))
        y = net.add("Add", net.add("Div", net.add("Mul", x, cut), net.constant(6)), cut)
        assert applied(hard_swish.REWRITE, net, y, SHAPE).applied == ()

    def test_that_is_as_wanted_already_stays(self) -> None:
        net = Small()
        x = net.conv("x", 3, 4)
        y = net.add("Mul", x, net.add("HardSigmoid", x, alpha=1 / 6))
        assert applied(hard_swish.REWRITE, net, y, SHAPE).applied == ()


class TestSilu:
    def test_spelled_with_an_exponential_is_known(self) -> None:
        net = Small()
        x = net.conv("x", 3, 4)
        y = net.add("Div", x, net.add("Add", net.constant(1), net.add("Exp", net.add("Neg", x))))
        assert operators(applied(silu.REWRITE, net, y, SHAPE).graph) == ["Conv", "Mul", "Sigmoid"]

    def test_a_sigmoid_spelled_so_too(self) -> None:
        net = Small()
        bottom = net.add("Add", net.add("Exp", net.add("Neg", net.conv("x", 3, 4))), net.constant(1))
        y = net.add("Div", net.constant(1), bottom)
        assert operators(applied(silu.REWRITE, net, y, SHAPE).graph) == ["Conv", "Sigmoid"]

    def test_of_another_tensor_stays_a_quotient_by_a_sum(self) -> None:
        net = Small()
        x = net.conv("x", 3, 4)
        y = net.add("Div", net.add("Relu", x), net.add("Add", net.constant(1), net.add("Exp", net.add("Neg", x))))
        assert applied(silu.REWRITE, net, y, SHAPE).applied == ()

    def test_that_fuses_already_stays(self) -> None:
        net = Small()
        x = net.conv("x", 3, 4)
        assert applied(silu.REWRITE, net, net.add("Mul", x, net.add("Sigmoid", x)), SHAPE).applied == ()
