"""A plan as a Q/DQ model: what ONNX Runtime makes of it is what the plan says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.backends.base import Layer
from edge_sdk.errors import ModelError, PlanError, UsageError
from edge_sdk.plan import Plan

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
from onnx import numpy_helper  # noqa: E402

from edge_sdk.calibration.engines import base, integers  # noqa: E402
from edge_sdk.calibration.engines.onnxruntime import ENGINE, this_cpu  # noqa: E402
from edge_sdk.calibration.engines.onnxruntime_lower import (  # noqa: E402
    PLAN_KEY,
    ranged_tensors,
)
from edge_sdk.calibration.engines.onnxruntime_read import in_names_of  # noqa: E402
from edge_sdk.calibration.engines.onnxruntime_rules import settled  # noqa: E402
from edge_sdk.calibration.graph import Graph  # noqa: E402
from edge_sdk.calibration.groups import choices, make_groups  # noqa: E402
from edge_sdk.calibration.switchable import Switch, SwitchableModel  # noqa: E402

from .nets import CHANNELS, SIDE, Net, random_net  # noqa: E402

AS_WRITTEN = ort.GraphOptimizationLevel.ORT_DISABLE_ALL


def session(model: onnx.ModelProto, level: Any = None, **entries: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if level is not None:
        options.graph_optimization_level = level
    for key, value in entries.items():
        options.add_session_config_entry(f"session.{key}", value)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, x: np.ndarray, level: Any = None, **entries: str) -> list[np.ndarray]:
    return session(model, level, **entries).run(None, {"x": x})


def photos(count: int = 4, side: int = SIDE) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.normal(0, 1, (1, CHANNELS, side, side)).astype(np.float32) for _ in range(count)]


def ranges(model: onnx.ModelProto, inputs: Sequence[np.ndarray] = ()) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of every float tensor."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name not in known]
    wide.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in made)
    runner = session(wide, AS_WRITTEN)
    names = [one.name for one in runner.get_outputs()]
    found: dict[str, tuple[float, float]] = {}
    for x in inputs or photos():
        for name, values in [("x", x), *zip(names, runner.run(None, {"x": x}), strict=True)]:
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = (min(low, float(values.min())), max(high, float(values.max())))
    return found


def plan(model: onnx.ModelProto, integer: Sequence[str] | None = None, **changes: Any) -> Plan:
    """All in INT8 that can be, or just these groups (and what the engine runs in INT8 with them)."""
    graph = Graph(model)
    groups = make_groups(graph, ENGINE.rules)
    free = {group.name for group in groups if group.reason is None}
    wanted = settled(graph, groups, free if integer is None else free & set(integer))
    made = choices(groups, "fp32", but=dict.fromkeys(sorted(wanted), "int8"))
    fields = {"ranges": ranges(model), "choices": made} | changes
    return Plan(1, "0", "generic-x86_64", fields["choices"], fields["ranges"], {})


def read(folder: Path, lowered: onnx.ModelProto, model: onnx.ModelProto) -> Sequence[Layer]:
    file = folder / "lowered.onnx"
    onnx.save(lowered, file)
    return ENGINE.read_back(file, model)


def decibels(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    noise = sum(float(((a - b) ** 2).sum()) for a, b in zip(wanted, found, strict=True))
    return 10 * np.log10(sum(float((a**2).sum()) for a in wanted) / max(noise, 1e-30))


def kinds(model: onnx.ModelProto, folder: Path) -> list[str]:
    """Operators of the graph that the engine runs."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


class TestALoweredModel:
    @given(st.integers(0, 10_000))
    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_gives_about_the_outputs_of_the_float_model(self, seed: int) -> None:
        model = random_net(seed, blocks=4)
        lowered = ENGINE.lower(model, plan(model), cpu="x86")
        onnx.checker.check_model(lowered, full_check=True)
        x = photos(1)[0]
        assert decibels(run(model, x), run(lowered, x)) > 15

    def test_gives_about_the_outputs_of_the_engines_own_quantizer(self, tmp_path: Path) -> None:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        net = Net()
        x = net.gated(net.conv("x", 8, 16, 3))
        x = net.op("Relu", net.conv(net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4), 16, 16, 3))
        x = net.gated(net.conv(x, 16, 16, 3, group=16))
        model = net.model(net.conv(x, 16, 8))
        onnx.save(model, tmp_path / "float.onnx")

        class Photos(CalibrationDataReader):
            rest = iter(photos())

            def get_next(self) -> dict[str, np.ndarray] | None:
                return next(({"x": x} for x in self.rest), None)

        quantize_static(
            tmp_path / "float.onnx",
            tmp_path / "theirs.onnx",
            Photos(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        x = photos(1)[0]
        wanted = run(model, x)
        ours = decibels(wanted, run(ENGINE.lower(model, plan(model), cpu="x86-vnni"), x, AS_WRITTEN))
        theirs = decibels(wanted, run(onnx.load(tmp_path / "theirs.onnx"), x, AS_WRITTEN))
        assert ours > theirs - 1
        assert theirs > 20

    def test_in_float_is_the_model_that_was_given(self) -> None:
        model = random_net(3)
        lowered = ENGINE.lower(model, plan(model, []), cpu="x86")
        assert list(lowered.graph.node) == list(model.graph.node)
        assert list(lowered.graph.initializer) == list(model.graph.initializer)

    def test_keeps_inputs_outputs_and_metadata_and_names_its_plan(self) -> None:
        model = random_net(5)
        onnx.helper.set_model_props(model, {"names": "cat,dog"})
        given_ = plan(model)
        lowered = ENGINE.lower(model, given_, cpu="x86")
        assert list(lowered.graph.input) == list(model.graph.input)
        assert list(lowered.graph.output) == list(model.graph.output)
        assert {one.key: one.value for one in lowered.metadata_props} == {
            "names": "cat,dog",
            PLAN_KEY: given_.sha256,
        }

    def test_is_the_same_bytes_each_time(self) -> None:
        model = random_net(8)
        made = [ENGINE.lower(model, plan(model), cpu="x86").SerializeToString(deterministic=True) for _ in range(2)]
        assert made[0] == made[1]

    def test_needs_the_ranges_that_it_says(self) -> None:
        model = random_net(11)
        graph, given_ = Graph(model), plan(model)
        integer = {node for choice in given_.choices for node in choice.nodes if choice.precision == "int8"}
        needed = ranged_tensors(graph, integer)
        enough = {name: given_.ranges[name] for name in needed}
        whole = ENGINE.lower(model, given_, cpu="x86")
        assert ENGINE.lower(model, given_, cpu="x86", ranges=enough).graph == whole.graph
        lacking = {name: pair for name, pair in enough.items() if name != needed[-1]}
        with pytest.raises(PlanError, match=f"no range for the tensor '{needed[-1]}'"):
            ENGINE.lower(model, given_, cpu="x86", ranges=lacking)

    def test_stores_its_weights_in_a_quarter_of_the_bytes(self) -> None:
        net = Net()
        model = net.model(net.conv(net.op("Relu", net.conv("x", 8, 256, 3)), 256, 8, 3))
        assert ENGINE.lower(model, plan(model), cpu="x86").ByteSize() < 0.4 * model.ByteSize()

    def test_survives_names_that_are_taken(self) -> None:
        net = Net()
        x = net.conv("x", 8, 8, name="x/int8")
        net.nodes[-1].output[0] = "x/int8/stored"
        model = net.model(net.conv("x/int8/stored", 8, 8, name="x/int8/QuantizeLinear"))
        x = photos(1)[0]
        assert decibels(run(model, x), run(ENGINE.lower(model, plan(model), cpu="x86"), x)) > 25

    def test_may_share_weights_between_layers_with_inputs_of_different_scale(self) -> None:
        net = Net()
        x = net.conv("x", 8, 8, name="a", weights="shared")
        net.op("Conv", net.op("Mul", x, net.constant(np.float32(30)), name="large"), "shared", "constant_0", name="b")
        model = net.model("b:0")
        x = photos(1)[0]
        assert decibels(run(model, x), run(ENGINE.lower(model, plan(model), cpu="x86"), x)) > 25

    def test_holds_a_large_bias_over_tiny_weights(self) -> None:
        net = Net()
        values = net.rng.normal(0, 1, (8, 8, 1, 1)).astype(np.float32)
        values[3] = 1e-12
        values[4] = 0
        a = net.conv("x", 8, 8, name="a", values=values)
        net.constants[0].CopyFrom(numpy_helper.from_array(np.full(8, 5, np.float32), "constant_0"))  # its bias
        model = net.model(a)
        x = photos(1)[0]
        found = run(ENGINE.lower(model, plan(model), cpu="x86"), x)[0]
        assert np.abs(found[:, 3:5] - 5).max() < 0.1

    @pytest.mark.parametrize(("alpha", "beta"), [(1 / 6, 0.5), (0.2, 0.5), (1.0, 0.0), (0.5, -0.25)])
    @pytest.mark.parametrize("cpu", ["x86", "arm"])
    def test_computes_a_hard_sigmoid_to_half_a_step(self, alpha: float, beta: float, cpu: str) -> None:
        net = Net()
        x = net.op("HardSigmoid", net.conv("x", 8, 8, name="a"), name="h", alpha=alpha, beta=beta)
        model = net.model(net.conv(x, 8, 8, name="b"), x, "a:0")
        lowered = ENGINE.lower(model, plan(model), cpu=cpu)
        _, gate, read = run(lowered, photos(1)[0], AS_WRITTEN)
        assert np.abs(gate - np.clip(alpha * read + beta, 0, 1)).max() <= 0.5 / 255 + 1e-5

    def test_is_refused_for_an_opset_without_scales_for_each_channel(self) -> None:
        net = Net(opset=12)
        model = net.model(net.conv("x", 8, 8, name="a"))
        with pytest.raises(ModelError, match="opset 12"):
            ENGINE.lower(model, plan(model), cpu="x86")

    def test_is_refused_for_a_plan_that_parts_a_group(self) -> None:
        net = Net()
        model = net.model(net.conv(net.op("Relu", net.conv("x", 8, 8, name="a"), name="r"), 8, 8, name="b"))
        parted = plan(model)
        one = type(parted.choices[0])
        parts = (one("a", ("a",), "fp32"), one("r", ("r",), "int8"), one("b", ("b",), "int8"))
        with pytest.raises(PlanError, match="switches together"):
            ENGINE.lower(model, plan(model, choices=parts), cpu="x86")

    def test_is_refused_for_a_precision_that_the_engine_lacks(self) -> None:
        net = Net()
        model = net.model(net.conv("x", 8, 8, name="a"))
        half = (type(plan(model).choices[0])("a", ("a",), "fp16"),)
        with pytest.raises(PlanError, match="cannot run in fp16: the engine runs int8 or fp32"):
            ENGINE.lower(model, plan(model, choices=half), cpu="x86")

    def test_is_refused_for_a_cpu_that_there_is_not(self) -> None:
        model = random_net(0)
        with pytest.raises(UsageError, match="no cpu 'riscv'"):
            ENGINE.lower(model, plan(model), cpu="riscv")


class TestWhatTheEngineRuns:
    @given(st.integers(0, 10_000), st.randoms(use_true_random=False))
    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_is_what_any_plan_says(self, tmp_path: Path, seed: int, chooser) -> None:
        model = random_net(seed)
        groups = make_groups(Graph(model), ENGINE.rules)
        wanted = plan(model, [group.name for group in groups if chooser.random() < 0.6])
        lowered = ENGINE.lower(model, wanted, cpu="x86")
        assert wanted.differences(read(tmp_path, lowered, model)) == ()

    def test_is_told_layer_by_layer_where_it_is_otherwise(self, tmp_path: Path) -> None:
        net = Net()
        x = net.gated(net.conv("x", 8, 8, name="a"), name="act")
        model = net.model(net.conv(x, 8, 8, name="b"))
        lowered = ENGINE.lower(model, plan(model, ["b"]), cpu="x86")
        lines = plan(model, ["a"]).differences(read(tmp_path, lowered, model))
        assert "a: planned int8, runs in fp32" in lines
        assert "act/gate, act: planned int8, runs in fp32" in lines
        assert "b: planned fp32, runs in int8" in lines

    def test_in_int8_is_8_bit_kernels_from_end_to_end(self, tmp_path: Path) -> None:
        net = Net()
        x = net.gated(net.conv("x", 8, 8, 3))
        x = net.gated(net.conv(x, 8, 8, 3, group=8), "HardSigmoid")
        x = net.op("MaxPool", net.op("Relu", net.conv(x, 8, 8)), kernel_shape=[3, 3], pads=[1] * 4)
        x = net.op("Add", net.op("LeakyRelu", net.conv(x, 8, 8), alpha=0.1), x)
        x = net.op("Concat", x, net.op("Resize", x, "", net.constant(np.float32([1, 1, 1, 1])), mode="nearest"), axis=1)
        model = net.model(net.conv(x, 16, 8))
        made = kinds(ENGINE.lower(model, plan(model), cpu="x86"), tmp_path)
        assert made.count("QuantizeLinear") == made.count("DequantizeLinear") == 1
        assert not {"Conv", "FusedConv", "Sigmoid", "HardSigmoid", "QuickGelu", "Mul", "Add", "Concat", "Relu"} & set(
            made
        )

    @pytest.mark.parametrize(("kind", "kernel"), [("MatMul", "QLinearMatMul"), ("Gemm", "QGemm"), ("turned", "QGemm")])
    def test_multiplies_by_matrices_in_int8(self, kind: str, kernel: str, tmp_path: Path) -> None:
        net = Net()
        flat = net.op("Flatten", "x", axis=2 if kind == "MatMul" else 1)
        if kind == "MatMul":
            flat = net.op(
                "Squeeze", net.op("Unsqueeze", flat, net.constant(np.asarray([0]))), net.constant(np.asarray([0]))
            )
        rows = 64 if kind == "MatMul" else 512
        weights = net.rng.normal(0, 0.1, (rows, 16)).astype(np.float32) * np.linspace(0.01, 1, 16, dtype=np.float32)
        bias = [] if kind == "MatMul" else [net.constant(np.ones(16, np.float32))]
        if kind == "turned":
            y = net.op("Gemm", flat, net.constant(np.ascontiguousarray(weights.T)), *bias, transB=1, name="m")
        else:
            y = net.op(kind, flat, net.constant(weights), *bias, name="m")
        model = net.model(y)
        wanted = plan(model)
        lowered = ENGINE.lower(model, wanted, cpu="x86")
        assert kernel in kinds(lowered, tmp_path)
        assert wanted.differences(read(tmp_path, lowered, model)) == ()
        x = photos(1)[0]
        assert decibels(run(model, x), run(lowered, x)) > 30

    def test_may_have_lengths_that_only_a_run_tells(self, tmp_path: Path) -> None:
        net = Net()
        x = net.op("MaxPool", net.op("Relu", net.conv("x", 8, 8, name="a")), kernel_shape=[2, 2], strides=[2, 2])
        model = net.model(net.conv(net.gated(net.conv(x, 8, 8, name="b")), 8, 8, name="c"))
        for value in (*model.graph.input, *model.graph.output):
            for axis, name in ((2, "h"), (3, "w")):
                value.type.tensor_type.shape.dim[axis].dim_param = name
        del model.graph.value_info[:]
        for integer in (None, ["b", "c"], ["a"]):
            wanted = plan(model, integer)
            lowered = ENGINE.lower(model, wanted, cpu="x86")
            assert wanted.differences(read(tmp_path, lowered, model)) == ()
            x = photos(1, side=12)[0]
            assert decibels(run(model, x), run(lowered, x)) > 20

    def test_leaves_what_a_subgraph_reads_under_its_name(self, tmp_path: Path) -> None:
        net = Net()
        a = net.op("Relu", net.conv("x", 8, 8, name="a"), name="r")
        info = onnx.helper.make_tensor_value_info
        branches = [
            onnx.helper.make_graph(
                [onnx.helper.make_node(kind, ["a:0"], [f"{kind}_out"], name=kind)],
                kind,
                [],
                [info(f"{kind}_out", onnx.TensorProto.FLOAT, [1, 8, 8, 8])],
            )
            for kind in ("Tanh", "Abs")
        ]
        always = net.constant(np.asarray(True))
        chosen = net.op("If", net.op("Not", net.op("Not", always)), then_branch=branches[0], else_branch=branches[1])
        model = net.model(net.conv(net.op("Add", chosen, a, name="sum"), 8, 8, name="b"))
        lowered = ENGINE.lower(model, plan(model), cpu="x86")
        x = photos(1)[0]
        assert decibels(run(model, x), run(lowered, x)) > 25
        reasons = {group.nodes[0]: group.reason for group in make_groups(Graph(model), ENGINE.rules)}
        assert "If runs graphs of its own" in reasons.values()

    def test_in_float_keeps_its_fusions_beside_int8(self, tmp_path: Path) -> None:
        net = Net()
        x = net.gated(net.conv("x", 8, 8, name="q"), name="qa")
        x = net.gated(net.conv(x, 8, 8, name="silu"), name="sa")
        x = net.gated(net.conv(x, 8, 8, name="swish"), "HardSigmoid", name="ha")
        model = net.model(net.conv(x, 8, 8, name="end"))
        made = kinds(ENGINE.lower(model, plan(model, ["q", "end"]), cpu="x86"), tmp_path)
        assert made.count("QuickGelu") == 1
        assert not {"Sigmoid", "HardSigmoid", "Mul"} & set(made)

    @pytest.mark.parametrize("activation", [None, "Relu"])
    def test_leaves_a_float_convolution_between_two_in_int8_as_it_is(self, activation: str | None, tmp_path) -> None:
        # The engine rounds the weights of a float convolution between DQ and Q by itself, with one scale for all.
        net = Net()
        x = net.conv(net.conv("x", 8, 8, name="before"), 8, 8, name="middle")
        x = net.op("Relu", x, name="act") if activation else x
        model = net.model(net.conv(x, 8, 8, name="after"))
        wanted = plan(model, ["before", "after"])
        lowered = ENGINE.lower(model, wanted, cpu="x86")
        assert wanted.differences(read(tmp_path, lowered, model)) == ()
        assert kinds(lowered, tmp_path).count("QLinearConv") == 2

    def test_leaves_a_float_max_pool_before_int8_in_its_fast_layout(self, tmp_path: Path) -> None:
        net = Net()
        x = net.op("Relu", net.conv("x", 8, 8, 3, name="a"), name="r")
        x = net.op("MaxPool", x, name="pool", kernel_shape=[3, 3], pads=[1] * 4)
        model = net.model(net.conv(x, 8, 8, name="b"))
        wanted = plan(model, ["b"])
        layers = read(tmp_path, ENGINE.lower(model, wanted, cpu="x86"), model)
        assert [layer.precision for layer in layers if layer.nodes == ("pool",)] == ["fp32"]
        assert wanted.differences(layers) == ()

    def test_needs_a_plan_that_knows_what_it_takes_along(self) -> None:
        net = Net()
        left, right = net.conv("x", 8, 8, name="l"), net.conv("x", 8, 8, name="r")
        both = net.op("Concat", left, right, name="both", axis=1)
        model = net.model(net.conv(both, 16, 8, name="b"), net.conv(both, 16, 8, name="c"))
        groups = make_groups(Graph(model), ENGINE.rules)
        apart = choices(groups, "int8", but={"both": "fp32"})
        with pytest.raises(PlanError, match="both: the engine runs it in int8"):
            ENGINE.lower(model, plan(model, choices=apart), cpu="x86")
        assert settled(Graph(model), groups, {"l", "r", "b", "c"}) == {"l", "r", "b", "c", "both"}

    def test_is_named_after_the_nodes_of_the_model(self) -> None:
        net = Net()
        model = net.model(net.conv(net.gated(net.conv("x", 8, 8, name="a"), name="act"), 8, 8, name="b"))
        layers = [
            Layer((name,), "cpu", precision, 1.0)
            for name, precision in (
                ("a:0_nchwc", "fp32"),
                ("act/QuickGeluFusion/", "fp32"),
                ("b_token_12", "int8"),
                ("ReorderInput_token_3", "fp32"),
            )
        ]
        found = in_names_of(Graph(model), layers)
        assert [layer.nodes for layer in found] == [("a",), ("act/gate", "act"), ("b",), ("ReorderInput_token_3",)]
        assert [layer.precision for layer in found] == ["fp32", "fp32", "int8", None]


class TestACpu:
    def test_without_vnni_gets_weights_whose_sums_fit(self) -> None:
        # Two neighbouring products are added in 16 bits there: all weights and all values as large as can be.
        net = Net()
        values = np.full((8, 8, 3, 3), 0.7, np.float32)
        values[1] *= -1
        model = net.model(net.conv("x", 8, 8, 3, name="a", values=values))
        x = np.full((1, CHANNELS, SIDE, SIDE), 10, np.float32)
        lowered = ENGINE.lower(model, plan(model, ranges=ranges(model, [x])), cpu="x86")
        assert decibels(run(lowered, x, AS_WRITTEN), run(lowered, x)) > 45

    @given(st.integers(0, 10_000))
    @settings(max_examples=25)
    def test_without_vnni_never_overflows(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shape = (int(rng.integers(1, 6)), int(rng.integers(1, 9)), *[int(rng.integers(1, 4))] * 2)
        weights = (rng.normal(0, 1, shape) ** 3).astype(np.float32)
        made = integers.quantize_weights(weights, 0, 0.1, pairs=True)
        rows = np.moveaxis(made.stored, 1, -1).reshape(len(weights), -1).astype(int)
        rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)
        assert 255 * np.maximum(rows, 0).sum(axis=2).max() <= 32767
        assert 255 * np.minimum(rows, 0).sum(axis=2).min() >= -32768
        along = made.scales.reshape(-1, 1, 1, 1)
        assert np.abs(made.stored * along - weights).max() <= 0.5001 * along.max()

    def test_with_arms_instructions_gets_signed_activations(self) -> None:
        model = random_net(21)
        lowered = ENGINE.lower(model, plan(model), cpu="arm")
        types = {
            numpy_helper.to_array(one).dtype
            for one in lowered.graph.initializer
            if one.name.endswith("/zero_point") and not one.dims
        }
        assert types == {np.dtype(np.int8)}
        x = photos(1)[0]
        wanted = run(model, x)
        assert decibels(wanted, run(lowered, x, AS_WRITTEN)) > 15
        # What the engine does on Arm, as far as x86 can show it.
        assert decibels(wanted, run(lowered, x, qdqisint8allowed="1")) > 15

    @pytest.mark.parametrize(
        ("machine", "flags", "cpu"),
        [
            ("aarch64", None, "arm"),
            ("arm64", None, "arm"),
            ("x86_64", "fpu avx2 avx512_vnni", "x86-vnni"),
            ("x86_64", "fpu avx2 avx_vnni", "x86-vnni"),
            ("x86_64", "fpu avx2 avx512f", "x86"),
            ("AMD64", None, "x86"),
        ],
    )
    def test_is_known_by_its_instructions(self, machine: str, flags: str | None, cpu: str, tmp_path: Path) -> None:
        if flags is not None:
            (tmp_path / "proc").mkdir()
            (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n", encoding="utf-8")
        assert this_cpu(machine, tmp_path) == cpu


class TestWhatAGroupRounds:
    def test_is_what_goes_in_what_comes_out_and_its_weights(self) -> None:
        net = Net()
        x = net.op("Relu", net.conv("x", 8, 8, name="a", weights="wa"), name="r")
        x = net.op("MaxPool", x, name="pool", kernel_shape=[3, 3], pads=[1] * 4)
        graph = Graph(net.model(net.gated(net.conv(x, 8, 8, name="b", weights="wb"), name="act")))
        assert ENGINE.quantized(graph, {"a", "r", "pool"}) == (("x", "r:0"), ("wa",))
        assert ENGINE.quantized(graph, {"b", "act/gate", "act"}) == (("pool:0", "b:0", "act/gate:0", "act:0"), ("wb",))
        both = {"a", "r", "pool", "b", "act/gate", "act"}
        assert ENGINE.quantized(graph, both) == (("x", "r:0", "b:0", "act/gate:0", "act:0"), ("wa", "wb"))


class TestTheListOfEngines:
    def test_has_this_one(self) -> None:
        assert base.named("onnxruntime") is ENGINE

    def test_says_what_there_is_when_asked_for_another(self) -> None:
        with pytest.raises(UsageError, match="no plan can be lowered to 'nothing'"):
            base.named("nothing")


class TestARealDetector:
    @pytest.mark.slow
    @pytest.mark.parametrize("file", ["yolox_nano/yolox_nano.onnx", "picodet_s/picodet_s_320_coco.onnx"])
    @pytest.mark.parametrize("share", [1.0, 0.5])
    def test_runs_as_planned(self, shared: Path, tmp_path: Path, file: str, share: float) -> None:
        from edge_sdk.calibration.canonical import canonical

        model = canonical(shared / "models" / file).model
        graph = Graph(model)
        groups = make_groups(graph, ENGINE.rules)
        rng = np.random.default_rng(1)
        wanted = settled(graph, groups, {group.name for group in groups if rng.random() < share and not group.reason})
        tensors: Mapping[str, tuple[float, float]] = dict.fromkeys([*graph.shapes, *graph.inputs], (-3.0, 9.0))
        made = choices(groups, "fp32", but=dict.fromkeys(sorted(wanted), "int8"))
        planned = Plan(1, "0", "generic-x86_64", made, tensors, {})
        layers = read(tmp_path, ENGINE.lower(model, planned, cpu="x86"), model)
        assert planned.differences(layers) == ()
        seen = {node for layer in layers for node in layer.nodes}
        integer = {node for choice in made for node in choice.nodes if choice.precision == "int8"}
        assert {graph.node(name).op_type for name in integer - seen} <= {"Relu", "Clip"}


class TestRoundedWeights:
    @given(st.integers(0, 10_000), st.sampled_from(["x86", "x86-vnni", "arm"]))
    @settings(max_examples=15)
    def test_are_those_that_the_lowered_file_stores(self, seed: int, cpu: str) -> None:
        model = random_net(seed)
        one = plan(model)
        nodes = {node for choice in one.choices if choice.precision == "int8" for node in choice.nodes}
        found = ENGINE.rounded(Graph(model), nodes, one.ranges, cpu=cpu)
        stored = {
            value.name: numpy_helper.to_array(value) for value in ENGINE.lower(model, one, cpu=cpu).graph.initializer
        }
        wanted = [node for node in model.graph.node if node.name in nodes and node.op_type == "Conv"]
        assert set(found) == {node.input[1] for node in wanted}
        for node in wanted:
            base = f"{node.name}/{node.input[1]}/int8"
            real = stored[f"{base}/stored"] * stored[f"{base}/scale"].reshape(-1, 1, 1, 1)
            assert np.array_equal(found[node.input[1]], real)

    def test_give_the_same_file_when_they_stand_in_the_model(self) -> None:
        model = random_net(5)
        one = plan(model)
        nodes = {node for choice in one.choices if choice.precision == "int8" for node in choice.nodes}
        found = ENGINE.rounded(Graph(model), nodes, one.ranges, cpu="x86")
        mended = onnx.ModelProto.FromString(model.SerializeToString())
        for value in mended.graph.initializer:
            if value.name in found:
                value.CopyFrom(numpy_helper.from_array(found[value.name], value.name))
        before, after = (run(ENGINE.lower(each, one, cpu="x86"), photos(1)[0]) for each in (model, mended))
        assert decibels(before, after) > 60

    def test_of_an_unknown_cpu_are_refused(self) -> None:
        with pytest.raises(UsageError, match="there is no cpu 'z80'"):
            ENGINE.rounded(Graph(random_net(0)), set(), {}, cpu="z80")

    @pytest.mark.parametrize("seed", [3, 7, 12])
    def test_bring_a_probe_nearer_to_the_lowered_file(self, seed: int) -> None:
        net = Net(seed)
        x = net.op("Relu", net.conv("x", 8, 32, 3))
        x = net.op("Relu", net.conv(x, 32, 32))
        model = net.model(net.conv(x, 32, 8, 3))
        one = plan(model)
        nodes = {node for choice in one.choices if choice.precision == "int8" for node in choice.nodes}
        switch = Switch("all", *ENGINE.quantized(Graph(model), nodes))
        file = run(ENGINE.lower(model, one, cpu="x86"), photos(1)[0])
        found = {}
        for weights in (None, ENGINE.rounded(Graph(model), nodes, one.ranges, cpu="x86")):
            with SwitchableModel(model, [switch], one.ranges, weights=weights) as probe:
                outputs = probe.run({"x": photos(1)[0]}, probe.on)
            found[weights is not None] = decibels(file, list(outputs.values()))
        assert found[True] > found[False] + 2
        assert found[True] > 40
