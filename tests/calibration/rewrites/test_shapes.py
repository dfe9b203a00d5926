"""Focus, max-pools, resizes and splits."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_sdk.calibration.canonical import canonical
from edge_sdk.calibration.rewrites import focus, pool_cascade, resize, rewrite, split_convolution

from .applying import applied
from .small import Small, operators


def phase(net: Small, x: str, row: int, column: int) -> str:
    for axis, start in ((2, row), (3, column)):
        x = net.add("Slice", x, *(net.constant([v], np.int64) for v in (start, 1 << 40, axis, 2)))
    return x


class TestFocus:
    @pytest.mark.parametrize("order", list(permutations([(0, 0), (1, 0), (0, 1), (1, 1)]))[::5])
    @pytest.mark.parametrize("side", [1, 3])
    def test_becomes_one_convolution_whatever_the_order_of_phases(self, order, side: int) -> None:
        net = Small()
        stacked = net.add("Concat", *(phase(net, "x", *place) for place in order), axis=1)
        after = applied(focus.REWRITE, net, net.conv(stacked, 12, 5, side), (1, 5, 4, 4))
        assert operators(after.graph) == ["Conv"]
        assert after.graph.shape(after.graph.nodes[0].input[1]) == (5, 3, 2 * side, 2 * side)

    def test_with_a_phase_twice_stays(self) -> None:
        net = Small()
        places = [(0, 0), (1, 0), (0, 1), (0, 0)]
        stacked = net.add("Concat", *(phase(net, "x", *place) for place in places), axis=1)
        assert applied(focus.REWRITE, net, net.conv(stacked, 12, 5), (1, 5, 4, 4)).applied == ()

    def test_of_a_picture_with_an_odd_side_stays(self) -> None:
        net = Small()
        stacked = net.add("Concat", *(phase(net, "x", row, 0) for row in (0, 1)), axis=1)
        y = net.conv(stacked, 6, 5)
        assert applied(focus.REWRITE, net, y, (1, 5, 4, 5), {"x": (1, 3, 8, 9)}).applied == ()


class TestMaxPools:
    def test_of_growing_windows_follow_each_other_bit_for_bit(self) -> None:
        net = Small()
        pools = [
            net.add("MaxPool", "x", kernel_shape=[side] * 2, pads=[side // 2] * 4, strides=[1, 1])
            for side in (5, 13, 9)
        ]
        y = net.add("Concat", "x", *pools, axis=1)
        after = applied(pool_cascade.REWRITE, net, y, (1, 12, 16, 16), {"x": (1, 3, 16, 16)})
        assert after.difference.worst.max_abs == 0
        assert [after.graph.producer(node.input[0]) is None for node in after.graph.nodes[:3]] == [True, False, False]

    @pytest.mark.parametrize("change", [{"strides": [2, 2]}, {"kernel_shape": [4, 4], "pads": [1, 1, 2, 2]}])
    def test_of_other_kinds_stay(self, change: dict[str, list[int]]) -> None:
        net = Small()
        pools = [
            net.add(
                "MaxPool", "x", **{"kernel_shape": [side] * 2, "pads": [side // 2] * 4, "strides": [1, 1], **change}
            )
            for side in (5, 9)
        ]
        before = canonical(net.model(dict.fromkeys(pools, (None,) * 4)))
        assert rewrite(before, only=[pool_cascade.REWRITE]).applied == ()


FRAMES = (
    "half_pixel",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
    "asymmetric",
    "align_corners",
    "tf_half_pixel_for_nn",
)
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


class TestResize:
    @pytest.mark.parametrize("factor", [2, 3, 4])
    def test_to_the_nearest_is_the_same_in_every_form_that_it_changes(self, factor: int) -> None:
        changed = 0
        for frame in FRAMES:
            for rounding in ROUNDINGS:
                net = Small()
                scales = net.constant([1, 1, factor, factor])
                form = {"coordinate_transformation_mode": frame, "nearest_mode": rounding}
                opset = 19 if frame == "half_pixel_symmetric" else 17
                y = net.add("Resize", "x", "", scales, mode="nearest", **form)
                before = canonical(net.model({y: (1, 3, 8 * factor, 8 * factor)}, opset=opset))
                after = rewrite(before, only=[resize.REWRITE])
                assert after.refused == (), (frame, rounding)
                assert after.difference.worst.max_abs == 0
                changed += len(after.applied)
        assert changed >= 7

    def test_by_sizes_takes_scales(self) -> None:
        net = Small()
        y = net.add("Resize", "x", "", "", net.constant([1, 3, 16, 16], np.int64), mode="linear")
        node = applied(resize.REWRITE, net, y, (1, 3, 16, 16)).graph.nodes[0]
        assert len(node.input) == 3

    def test_to_half_between_pixel_centres_is_a_mean(self) -> None:
        net = Small()
        half = net.constant([1, 1, 0.5, 0.5])
        y = net.add("Resize", "x", "", half, mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
        assert operators(applied(resize.REWRITE, net, y, (1, 3, 4, 4)).graph) == ["AveragePool"]

    @pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
    def test_by_a_broken_factor_stays(self, mode: str) -> None:
        net = Small()
        y = net.add("Resize", "x", "", net.constant([1, 1, 1.5, 1.5]), mode=mode)
        assert applied(resize.REWRITE, net, y, (1, 3, 12, 12)).applied == ()


class TestASplitConvolution:
    @pytest.mark.parametrize("activation", ["none", "Relu", "silu"])
    def test_is_one_for_each_part(self, activation: str) -> None:
        net = Small()
        x = net.conv("x", 3, 24)
        if activation == "Relu":
            x = net.add("Relu", x)
        elif activation == "silu":
            x = net.add("Mul", x, net.add("Sigmoid", x))
        left, right = net.add("Split", x, net.constant([8, 16], np.int64), outputs=2, axis=1)
        y = net.add("Concat", left, net.conv(right, 16, 8), axis=1)
        after = applied(split_convolution.REWRITE, net, y, (1, 16, 8, 8))
        assert "Split" not in operators(after.graph)
        assert operators(after.graph).count("Conv") == 3
        assert after.graph.producer(left) is not None

    @pytest.mark.parametrize(("sizes", "reader"), [([4, 20], "Conv"), ([8, 16], "Relu")])
    def test_of_odd_parts_or_before_a_head_stays(self, sizes: list[int], reader: str) -> None:
        net = Small()
        left, right = net.add("Split", net.conv("x", 3, 24), net.constant(sizes, np.int64), outputs=2, axis=1)
        y = net.conv(right, sizes[1], sizes[0]) if reader == "Conv" else net.add("Relu", left)
        z = net.add("Add", left, y)
        assert applied(split_convolution.REWRITE, net, z, (1, sizes[0], 8, 8)).applied == ()

    def test_whose_whole_somebody_reads_stays(self) -> None:
        net = Small()
        x = net.conv("x", 3, 16)
        left, right = net.add("Split", x, net.constant([8, 8], np.int64), outputs=2, axis=1)
        y = net.add("Concat", x, left, net.conv(right, 8, 8), axis=1)
        assert applied(split_convolution.REWRITE, net, y, (1, 32, 8, 8)).applied == ()
