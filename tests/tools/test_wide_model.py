"""A model with room for INT8: it is a detector, its activations stay bounded, and it is the same each time."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_sdk.detector import Detector

TOOL = Path(__file__).resolve().parents[2] / "tools" / "wide_model.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wide_model", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small(tool: ModuleType) -> onnx.ModelProto:
    return tool.build("silu", side=64, width=0.125)


def test_it_is_a_detector_of_yolov8s_layout(tool, small, tmp_path) -> None:
    onnx.save(small, tmp_path / "wide.onnx")
    with Detector(tmp_path / "wide.onnx", backend="onnxruntime") as detector:
        assert detector.head.name == "yolov8"
        assert detector.card.input_hw == (64, 64)
        detector(np.zeros((48, 64, 3), np.uint8))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_others(tool, small) -> None:
    first, again, other = ([numpy_helper.to_array(one) for one in model.graph.initializer] for model in (
        small, tool.build("silu", side=64, width=0.125), tool.build("silu", side=64, width=0.125, seed=1)))  # fmt: skip
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_activations_neither_grow_nor_die(tool, activation) -> None:
    import onnxruntime

    model = tool.build(activation, side=160, width=0.0625)  # smaller, and the last levels' statistics are of few cells
    inner = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in inner)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pictures = tool.pictures(160, np.random.default_rng(9))
    outputs = [session.run(None, {"images": one[None]}) for one in pictures]
    spreads = [float(np.std([found[number] for found in outputs])) for number in range(1, len(inner) + 1)]
    assert min(spreads) > 0.2
    assert max(spreads) < 16


@pytest.mark.slow
def test_activations_differ_by_kind(tool, small) -> None:
    kinds = {node.op_type for node in small.graph.node}
    assert "Sigmoid" in kinds
    assert "Relu" not in kinds
    assert "Relu" in {node.op_type for node in tool.build("relu", side=64, width=0.125).graph.node}


@pytest.mark.parametrize(("side", "width"), [(100, 0.5), (0, 0.5), (64, 0.0)])
def test_a_size_that_cannot_be_is_refused(tool, side, width) -> None:
    with pytest.raises(ValueError, match=r"side|width"):
        tool.build("silu", side=side, width=width)


def test_snr_counts_powers(tool) -> None:
    signal = np.float32([3, 4])
    assert tool.snr_db(signal, signal) == float("inf")
    assert tool.snr_db(signal, signal + np.float32([0.03, 0.04])) == pytest.approx(40, abs=0.01)
