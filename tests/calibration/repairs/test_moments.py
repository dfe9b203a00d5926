"""What nodes with weights multiply, and how large it is on photos."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_sdk.calibration.engines.integers import in_order  # noqa: E402
from edge_sdk.calibration.graph import Graph  # noqa: E402
from edge_sdk.calibration.repairs import moments as module  # noqa: E402
from edge_sdk.calibration.repairs.moments import Moments, collect_moments  # noqa: E402
from edge_sdk.calibration.same import Runner  # noqa: E402
from edge_sdk.errors import UsageError  # noqa: E402

from ..engines.nets import CHANNELS, SIDE, Net  # noqa: E402, TID252  there is no package of tests to name


def photos(count: int = 3) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    return [{"x": rng.normal(1, 1, (1, CHANNELS, SIDE, SIDE)).astype(np.float32)} for _ in range(count)]


def one_conv(**attributes: Any) -> Graph:
    net = Net(2)
    weights = net.rng.normal(0, 1, attributes.pop("shape")).astype(np.float32)
    y = net.op("Conv", "x", net.constant(weights, "w"), name="conv", **attributes)
    return Graph(net.model(y))


CASES = [
    {"shape": (4, 8, 1, 1)},
    {"shape": (4, 8, 3, 3), "pads": [1, 1, 1, 1]},
    {"shape": (4, 8, 3, 2), "pads": [2, 0, 1, 1], "strides": [2, 1], "dilations": [1, 2]},
    {"shape": (8, 1, 3, 3), "group": 8, "pads": [1, 1, 1, 1], "strides": [2, 2]},
    {"shape": (4, 4, 3, 3), "group": 2},
    {"shape": (4, 8, 3, 3), "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"shape": (4, 8, 2, 2), "auto_pad": "SAME_LOWER"},
    {"shape": (4, 8, 3, 3), "auto_pad": "VALID"},
]


class TestMoments:
    @pytest.mark.parametrize("case", CASES)
    def test_give_the_mean_and_the_power_of_every_output(self, case: dict[str, Any]) -> None:
        graph = one_conv(**case)
        known = collect_moments(graph, ["conv"], photos())["conv"]
        weights = graph.constant("w")
        assert weights is not None
        blocks = known.blocks(in_order(weights.astype(np.float64), 0), case.get("group", 1))
        means = (blocks * known.mean[:, None, :]).sum(axis=2).reshape(-1)
        powers = np.einsum("bok,bkl,bol->bo", blocks, known.second, blocks).reshape(-1)
        outputs = np.stack([Runner(graph.model)(one)[graph.outputs[0]] for one in photos()]).astype(np.float64)
        assert np.allclose(means, outputs.mean(axis=(0, 1, 3, 4)), rtol=1e-4, atol=1e-4)
        assert np.allclose(powers, np.square(outputs).mean(axis=(0, 1, 3, 4)), rtol=1e-4)

    def test_of_some_positions_are_near_those_of_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        graph = one_conv(shape=(4, 8, 1, 1))
        exact = collect_moments(graph, ["conv"], photos(40))["conv"].mean
        monkeypatch.setattr(module, "POSITIONS", 20)
        near = collect_moments(graph, ["conv"], photos(40))["conv"].mean
        assert not np.array_equal(near, exact)
        assert np.allclose(near, exact, atol=0.2)

    def test_do_not_depend_on_which_other_nodes_are_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "POSITIONS", 20)
        net = Net()
        y = net.conv(net.gated(net.conv("x", 8, 8, 3, name="a")), 8, 8, name="b")
        graph = Graph(net.model(y))
        both, alone = collect_moments(graph, ["b", "a"], photos()), collect_moments(graph, ["b"], photos())
        assert np.array_equal(both["b"].second, alone["b"].second)

    def test_of_activations_that_do_not_fit_at_once_are_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        net = Net()
        graph = Graph(net.model(net.conv(net.gated(net.conv("x", 8, 8, 3, name="a")), 8, 8, name="b")))
        wanted = collect_moments(graph, ["a", "b"], photos())
        monkeypatch.setattr(module, "_MEMORY_BYTES", 1)
        found = collect_moments(graph, ["a", "b"], photos())
        assert all(np.allclose(found[name].second, wanted[name].second) for name in wanted)

    def test_of_a_matrix_product_are_those_of_its_rows(self) -> None:
        net = Net()
        flat = net.op("Flatten", "x")
        graph = Graph(net.model(net.op("Gemm", flat, net.constant(np.ones((512, 3), np.float32)), name="gemm")))
        known = collect_moments(graph, ["gemm"], photos())["gemm"]
        wanted = np.stack([one["x"].reshape(-1) for one in photos()])
        assert np.allclose(known.mean[0], wanted.mean(axis=0), atol=1e-5)
        assert np.allclose(known.second[0], wanted.T @ wanted / 3, rtol=1e-4, atol=1e-4)

    def test_need_a_photo(self) -> None:
        with pytest.raises(UsageError, match="at least one photo"):
            collect_moments(one_conv(shape=(4, 8, 1, 1)), ["conv"], [])


class TestBlocks:
    def test_of_a_wide_input_are_cut_and_come_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_WIDEST", 30)
        graph = one_conv(shape=(4, 8, 3, 3))
        known = collect_moments(graph, ["conv"], photos())["conv"]
        assert known.mean.shape == (3, 24)
        rows = np.random.default_rng(0).normal(0, 1, (4, 72))
        assert np.array_equal(known.rows(known.blocks(rows, 1), 1), rows)

    @pytest.mark.parametrize(("groups", "blocks", "size", "width"), [(1, 1, 5, 5), (2, 2, 5, 5), (2, 6, 4, 11)])
    def test_hold_every_weight_once(self, groups: int, blocks: int, size: int, width: int) -> None:
        known = Moments(np.zeros((blocks, size)), np.zeros((blocks, size, size)), width)
        rows = np.arange(1.0, 6 * width + 1).reshape(6, width)
        cut = known.blocks(rows, groups)
        assert sorted(cut[cut > 0]) == sorted(rows.reshape(-1))
        assert np.array_equal(known.rows(cut, groups), rows)
