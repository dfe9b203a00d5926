"""Layers out of ONNX Runtime's profile: the text of a real one, and real profiles of real models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import targets
from edge_sdk.backends.base import backends
from edge_sdk.backends.onnxruntime_profile import parse_profile

# Captured from ONNX Runtime 1.31.1, a U8S8 model, the events of one node each shortened to what a reader meets.
CAPTURED = """[
{"cat" : "Session","pid" :7,"tid" :7,"dur" :512,"ts" :3,"ph" : "X","name" :"model_loading_uri","args" : {}},
{"cat" : "Session","pid" :7,"tid" :7,"dur" :9144,"ts" :530,"ph" : "X","name" :"session_initialization","args" : {}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :91,"ts" :12,"ph" : "X","name" :"in_QuantizeLinear_kernel_time",
 "args" : {"op_name":"QuantizeLinear","provider":"CPUExecutionProvider","node_index":"0",
 "input_type_shape":[{"float":[1,3,8,8]},{"float":[]},{"uint8":[]}],"output_type_shape":[{"uint8":[1,3,8,8]}]}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :900,"ts" :112,"ph" : "X","name" :"conv_kernel_time",
 "args" : {"op_name":"QLinearConv","provider":"CPUExecutionProvider","node_index":"1",
 "input_type_shape":[{"uint8":[1,3,8,8]},{"float":[]},{"uint8":[]},{"int8":[4,3,1,1]}]}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :5,"ts" :212,"ph" : "X","name" :"shape_kernel_time",
 "args" : {"op_name":"Gather","provider":"CPUExecutionProvider","input_type_shape":[{"int64":[4]},{"int64":[]}]}},
{"cat" : "Session","pid" :7,"tid" :7,"dur" :1020,"ts" :3,"ph" : "X","name" :"model_run","args" : {}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :61,"ts" :12,"ph" : "X","name" :"in_QuantizeLinear_kernel_time",
 "args" : {"op_name":"QuantizeLinear","provider":"CPUExecutionProvider","input_type_shape":[{"float":[1,3,8,8]}]}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :100,"ts" :112,"ph" : "X","name" :"conv_kernel_time",
 "args" : {"op_name":"QLinearConv","provider":"CPUExecutionProvider","input_type_shape":[{"uint8":[1,3,8,8]}]}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :300,"ts" :112,"ph" : "X","name" :"conv_kernel_time",
 "args" : {"op_name":"QLinearConv","provider":"CPUExecutionProvider","input_type_shape":[{"uint8":[1,3,8,8]}]}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :200,"ts" :112,"ph" : "X","name" :"conv_kernel_time",
 "args" : {"op_name":"QLinearConv","provider":"CPUExecutionProvider","input_type_shape":[{"uint8":[1,3,8,8]}]}},
{"cat" : "Node","pid" :7,"tid" :7,"dur" :1,"ts" :112,"ph" : "X","name" :"conv_fence_before",
 "args" : {"op_name":"QLinearConv"}}
]"""


def profile_of(**arguments: Any) -> str:
    event = {"cat": "Node", "name": "n_kernel_time", "dur": 1000, "args": {"provider": "CPUExecutionProvider"}}
    event["args"] |= arguments  # type: ignore[operator]
    return json.dumps([event])


def test_layers_come_in_the_order_they_ran_and_other_events_are_left_out() -> None:
    assert [layer.nodes for layer in parse_profile(CAPTURED)] == [("in_QuantizeLinear",), ("conv",), ("shape",)]


def test_the_time_is_the_median_without_the_warm_up() -> None:
    quantize, conv, shape = parse_profile(CAPTURED)
    assert conv.time_ms == pytest.approx(0.2)  # of 0.1, 0.3 and 0.2; the first, 0.9, is warm-up
    assert quantize.time_ms == pytest.approx(0.061)
    assert shape.time_ms == pytest.approx(0.005)  # ran once, so that is all there is


def test_the_precision_is_what_the_kernel_computes_in() -> None:
    quantize, conv, shape = parse_profile(CAPTURED)
    assert (quantize.precision, conv.precision, shape.precision) == (None, "int8", None)


@pytest.mark.parametrize(
    ("operator", "first_input", "precision"),
    [
        ("Conv", "float", "fp32"),
        ("Conv", "float16", "fp16"),
        ("MatMul", "bfloat16", "bf16"),
        ("QLinearAdd", "uint8", "int8"),
        ("QLinearAdd", "uint16", "a16w8"),
        ("DynamicQuantizeMatMul", "float", "int8"),
        ("Cast", "float16", None),
        ("DequantizeLinear", "int8", None),
        ("Equal", "bool", None),
    ],
)
def test_types_and_operators_name_a_precision(operator: str, first_input: str, precision: str | None) -> None:
    (layer,) = parse_profile(profile_of(op_name=operator, input_type_shape=[{first_input: [1]}, {"float": [1]}]))
    assert layer.precision == precision


def test_a_node_without_inputs_has_no_precision() -> None:
    assert parse_profile(profile_of(op_name="RandomNormal", input_type_shape=[]))[0].precision is None


@pytest.mark.parametrize(
    ("provider", "unit"),
    [
        ("CUDAExecutionProvider", "gpu"),
        ("QNNExecutionProvider", "htp"),
        ("ACLExecutionProvider", "ACLExecutionProvider"),
    ],
)
def test_the_provider_names_the_unit(provider: str, unit: str) -> None:
    assert parse_profile(profile_of(provider=provider))[0].unit == unit


def test_a_unit_may_be_another_than_usual() -> None:
    profile = profile_of(provider="QNNExecutionProvider")
    assert parse_profile(profile, {"QNNExecutionProvider": "gpu"})[0].unit == "gpu"


def test_a_kernel_compiled_from_many_nodes_has_no_precision() -> None:
    profile = profile_of(
        provider="QNNExecutionProvider", op_name="QNN_1", input_type_shape=[{"float": [1, 3, 416, 416]}]
    )
    assert parse_profile(profile)[0].precision is None


def test_an_empty_profile_has_no_layers() -> None:
    assert parse_profile("[]") == []


class TestRealModels:
    def layers_of(self, model: Path) -> list[Any]:
        backend = backends()["onnxruntime"]
        with backend.open(model, targets.load("generic-x86_64"), threads=1, options={}) as session:
            return list(session.layers())

    @pytest.fixture
    def yunet(self, shared: Path) -> Path:
        return shared / "models" / "yunet" / "yunet_n_320_320.onnx"

    def quantized(self, model: Path, into: Path, activations: str) -> Path:
        quantization = pytest.importorskip("onnxruntime.quantization")
        kinds = quantization.QuantType

        class Noise(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                rng = np.random.default_rng(0)
                self.feeds = iter([{"input": rng.random((1, 3, 320, 320), np.float32) * 255} for _ in range(2)])

            def get_next(self) -> dict[str, Any] | None:
                return next(self.feeds, None)

        quantization.quantize_static(
            model,
            into,
            Noise(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=getattr(kinds, activations),
            weight_type=kinds.QInt8,
            extra_options={"UseQDQContribOps": True},
        )
        return into

    def test_a_float_model_is_all_fp32(self, yunet: Path) -> None:
        layers = self.layers_of(yunet)
        assert len(layers) > 50
        assert {layer.precision for layer in layers} == {"fp32"}
        assert all(layer.unit == "cpu" and layer.time_ms is not None for layer in layers)
        assert sum(layer.time_ms for layer in layers) > 0

    def test_a_u8s8_model_computes_in_int8(self, yunet: Path, tmp_path: Path) -> None:
        layers = self.layers_of(self.quantized(yunet, tmp_path / "u8s8.onnx", "QUInt8"))
        precisions = [layer.precision for layer in layers]
        assert precisions.count("int8") > 40
        assert precisions.count("int8") > 3 * precisions.count("fp32")

    def test_16_bit_activations_run_in_float_on_this_engine_and_the_layers_say_so(
        self, yunet: Path, tmp_path: Path
    ) -> None:
        layers = self.layers_of(self.quantized(yunet, tmp_path / "a16w8.onnx", "QUInt16"))
        convolutions = [layer for layer in layers if layer.precision == "fp32"]
        assert len(convolutions) > 40

    def test_open_axes_have_the_lengths_of_the_last_run(self, shared: Path) -> None:
        model = shared / "models" / "yunet" / "yunet_n_dynamic.onnx"
        backend = backends()["onnxruntime"]
        totals = []
        with backend.open(model, targets.load("generic-x86_64"), threads=1, options={}) as session:
            for side in (64, 640):
                session.run(session.new_feeds({session.inputs[0].name: (1, 3, side, side)}))
                totals.append(sum(layer.time_ms or 0 for layer in session.layers()))
        assert totals[1] > 5 * totals[0]  # a hundred times the pixels
