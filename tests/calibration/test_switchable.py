"""A model whose groups are switched to INT8 numerics and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.calibration.fake_quant import activation_quantizer
from edge_sdk.calibration.switchable import Switch, SwitchableModel
from edge_sdk.errors import ModelError, UsageError

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

ACTIVATIONS = ("image", "a", "a_silu", "b", "b_silu", "sum", "left", "right", "both", "y")
WEIGHTS = ("wa", "wb", "wl", "wr")


def net(opset: int = 13, nodes=None, **changes) -> onnx.ModelProto:
    """A residual block and two branches that are joined; two outputs, one of which is read on inside."""
    rng = np.random.default_rng(3)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name)

    made = nodes or [
        helper.make_node("Conv", ["image", "wa", "ba"], ["a"], pads=[1] * 4),
        helper.make_node("Sigmoid", ["a"], ["a_gate"]),
        helper.make_node("Mul", ["a", "a_gate"], ["a_silu"]),
        helper.make_node("Conv", ["a_silu", "wb", "bb"], ["b"], pads=[1] * 4, group=8),
        helper.make_node("Sigmoid", ["b"], ["b_gate"]),
        helper.make_node("Mul", ["b", "b_gate"], ["b_silu"]),
        helper.make_node("Add", ["a_silu", "b_silu"], ["sum"]),
        helper.make_node("Conv", ["sum", "wl", "bl"], ["left"]),
        helper.make_node("Conv", ["b_silu", "wr"], ["right"]),
        helper.make_node("Concat", ["left", "right"], ["both"], axis=1),
        helper.make_node("Relu", ["both"], ["y"]),
    ]
    graph = helper.make_graph(
        made,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in changes.get("outputs", ("y", "sum"))],
        [
            weights("wa", 8, 3, 3, 3), weights("ba", 8), weights("wb", 8, 1, 3, 3), weights("bb", 8),
            weights("wl", 4, 8, 1, 1), weights("bl", 4), weights("wr", 4, 8, 1, 1),
        ],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def photo(seed: int = 0) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(seed).normal(0, 1, (1, 3, 16, 16)).astype(np.float32)}


def session(model: onnx.ModelProto, *, fuse: bool = False):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if not fuse:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def every_tensor(model: onnx.ModelProto, feeds) -> dict[str, np.ndarray]:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    known = {value.name for value in copy.graph.output}
    names = [name for node in model.graph.node for name in node.output]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    one = session(copy)
    return {**feeds, **dict(zip([v.name for v in one.get_outputs()], one.run(None, feeds), strict=True))}


def ranges_of(model: onnx.ModelProto) -> dict[str, tuple[float, float]]:
    found = every_tensor(model, photo())
    return {name: (float(found[name].min()), float(found[name].max())) for name in ACTIVATIONS if name in found}


SWITCHES = tuple(Switch(name, (name,)) for name in ACTIVATIONS) + tuple(Switch(name, (), (name,)) for name in WEIGHTS)
MODEL = net()
RANGES = ranges_of(MODEL)


def switchable(**options) -> SwitchableModel:
    return SwitchableModel(MODEL, SWITCHES, RANGES, **options)


def mask_of(*names: str) -> np.ndarray:
    return np.array([switch.name in names for switch in SWITCHES])


# --- a reference by hand: every tensor rounded in NumPy where its switch is on -----------------------


def rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    scale = np.float32((max(high, 0) - min(low, 0)) / 255)
    zero = np.rint(-min(low, 0) / scale)
    return ((np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale).astype(np.float32)


def rounded_weights(values: np.ndarray, levels: int = 127) -> tuple[np.ndarray, np.ndarray]:
    scale = np.abs(values).max(axis=(1, 2, 3), keepdims=True) / levels
    return (np.rint(values / scale) * scale).astype(np.float32), scale.ravel()


def by_hand(feeds, on: set[str]) -> dict[str, np.ndarray]:
    """Node by node in single-node sessions, rounding between them."""
    values = dict(feeds)
    if "image" in on:
        values["image"] = rounded(values["image"], *RANGES["image"])
    arrays = {value.name: numpy_helper.to_array(value) for value in MODEL.graph.initializer}
    for node in MODEL.graph.node:
        own = {name: arrays[name] for name in node.input if name in arrays}
        if node.op_type == "Conv" and node.input[1] in on:
            own[node.input[1]], scale = rounded_weights(own[node.input[1]])
            if len(node.input) > 2 and node.input[0] in on:
                low, high = RANGES[node.input[0]]
                step = scale * (max(high, 0) - min(low, 0)) / 255
                own[node.input[2]] = (np.rint(own[node.input[2]] / step) * step).astype(np.float32)
        graph = helper.make_graph(
            [node],
            "one",
            [
                helper.make_tensor_value_info(n, TensorProto.FLOAT, values[n].shape)
                for n in dict.fromkeys(node.input)
                if n not in own
            ],
            [helper.make_empty_tensor_value_info(node.output[0])],
            [numpy_helper.from_array(array, name) for name, array in own.items()],
        )
        one = session(helper.make_model(graph, opset_imports=MODEL.opset_import, ir_version=8))
        (result,) = one.run(None, {name: values[name] for name in node.input if name not in own})
        values[node.output[0]] = rounded(result, *RANGES[node.output[0]]) if node.output[0] in on else result
    return values


@pytest.mark.parametrize("sections", [1, 3, 20])
def test_all_off_is_the_float_model_bit_by_bit(sections):
    wanted = session(MODEL).run(None, photo())
    with switchable(sections=sections) as model:
        found = model.run(photo(), model.off)
    assert list(found) == ["y", "sum"]
    assert all(np.array_equal(a, b) for a, b in zip(found.values(), wanted, strict=True))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(on=st.sets(st.sampled_from([switch.name for switch in SWITCHES])), sections=st.integers(1, 12))
def test_any_mask_gives_what_rounding_by_hand_gives(on, sections):
    wanted = by_hand(photo(), on)
    with switchable(sections=sections) as model:
        found = model.run(photo(), mask_of(*on))
    for name, step in (("y", (RANGES["y"][1]) / 255), ("sum", (RANGES["sum"][1] - RANGES["sum"][0]) / 255)):
        away = np.abs(found[name] - wanted[name])
        assert away.max() <= 2.5 * step  # a sum in another order may fall on the other side of an edge
        assert (away > 1e-4).mean() < 0.02


def test_switched_values_lie_on_the_grid_of_their_range():
    with switchable() as model:
        found = model.run(photo(), mask_of("y"))["y"]
    quantizer = activation_quantizer(*RANGES["y"])
    assert np.allclose(found / quantizer.scale, np.rint(found / quantizer.scale), atol=1e-3)
    assert len(np.unique(found)) > 20


def test_halves_are_rounded_to_even():
    graph = net(nodes=[helper.make_node("Identity", ["image"], ["y"])], outputs=("y",))
    steps = np.array([0.5, 1.5, 2.5, 3.5, 254.5, 300.0, -1.0, 7.0], np.float32)
    feeds = {"image": np.resize(steps, (1, 3, 16, 16)).astype(np.float32)}
    with SwitchableModel(graph, [Switch("y", ("y",))], {"y": (0.0, 255.0)}) as model:
        found = model.run(feeds, model.on)["y"].ravel()[:8]
    assert found.tolist() == [0.0, 2.0, 2.0, 4.0, 254.0, 255.0, 0.0, 7.0]


@pytest.mark.parametrize("levels", [127, 64])
def test_it_computes_what_the_engines_integer_kernels_compute(levels):
    """Of an integer model with 7-bit weights; with 8 bits, machines without VNNI saturate, and its Q and DQ are run."""
    names = ("image", "a", "b", "left")
    nodes = [
        helper.make_node("Conv", ["image", "wa", "ba"], ["a"], pads=[1] * 4),
        helper.make_node("Conv", ["a", "wb", "bb"], ["b"], pads=[1] * 4, group=8),
        helper.make_node("Conv", ["b", "wl", "bl"], ["left"]),
    ]
    model = net(nodes=nodes, outputs=("left",))
    found = every_tensor(model, photo())
    ranges = {name: (float(found[name].min()), float(found[name].max())) for name in names}

    # The same by hand as an integer model: stored weights and biases, Q and DQ around every Conv.
    quantizers = {name: activation_quantizer(*ranges[name]) for name in names}
    arrays = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    lowered, constants = [], []

    def constant(name: str, array: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(array, name))
        return name

    def pair(source: str, name: str) -> None:
        scale = constant(f"{name}_s", np.float32(quantizers[name].scale))
        zero = constant(f"{name}_z", np.uint8(quantizers[name].zero_point))
        lowered.append(helper.make_node("QuantizeLinear", [source, scale, zero], [f"{name}_q"]))
        lowered.append(helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_dq"]))

    pair("image", "image")
    for node in nodes:
        data, weight, bias = node.input
        _, scale = rounded_weights(arrays[weight], levels)
        stored = np.rint(arrays[weight] / scale.reshape(-1, 1, 1, 1)).astype(np.int8)
        step = (scale * quantizers[data].scale).astype(np.float32)
        for name, array, steps in ((weight, stored, scale.astype(np.float32)), (bias, None, step)):
            whole = np.rint(arrays[bias] / step).astype(np.int32) if array is None else array
            parts = [constant(f"{name}_i", whole), constant(f"{name}_is", steps)]
            parts.append(constant(f"{name}_iz", np.zeros(len(steps), whole.dtype)))
            lowered.append(helper.make_node("DequantizeLinear", parts, [f"{name}_f"], axis=0))
        changed = helper.make_node("Conv", [f"{data}_dq", f"{weight}_f", f"{bias}_f"], [f"{node.output[0]}_raw"])
        changed.attribute.extend(node.attribute)
        lowered.append(changed)
        pair(f"{node.output[0]}_raw", node.output[0])
    graph = helper.make_graph(
        lowered, "integer", model.graph.input, [helper.make_empty_tensor_value_info("left_dq")], constants
    )
    integer = helper.make_model(graph, opset_imports=model.opset_import, ir_version=8)
    wanted = session(integer, fuse=levels == 64).run(None, photo())[0]

    switches = [Switch(name, (name,)) for name in names] + [Switch("weights", (), ("wa", "wb", "wl"))]
    with SwitchableModel(model, switches, ranges, sections=2, weight_levels=levels) as probe:
        switched = probe.run(photo(), probe.on)["left"]
    away = np.abs(switched - wanted) / quantizers["left"].scale
    assert away.max() < 1.5
    assert (away > 0.5).mean() < 0.05
    plain = np.abs(session(model).run(None, photo())[0] - wanted) / quantizers["left"].scale
    assert (plain > 0.5).mean() > 0.2  # the comparison can fail: the float model is further away


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(masks=st.lists(st.sets(st.sampled_from([switch.name for switch in SWITCHES])), min_size=1, max_size=4))
def test_what_was_kept_changes_no_probe(masks):
    feeds = [photo(1), photo(2)]
    with switchable(sections=6) as model, switchable(sections=6, workers=2, keep_mib=0) as fresh:
        model.load(feeds)
        fresh.load(feeds)
        model.keep(model.off)
        model.keep(model.on)
        for on in masks:
            mask = mask_of(*on)
            for one, other in zip(model.probe(mask), fresh.probe(mask), strict=True):
                assert all(np.array_equal(one[name], other[name]) for name in model.outputs)
            model.keep(mask)
        assert fresh.kept_mib == 0


def test_a_probe_runs_only_the_sections_after_the_switch():
    with switchable(sections=12) as model:
        assert len(model.sections) >= 4
        model.load([photo()])
        model.keep(model.off)
        counts = {}
        for name in ("image", "y", "left"):
            before = model.section_runs
            model.probe(mask_of(name))
            counts[name] = model.section_runs - before
        before = model.section_runs
        model.probe(model.off)
        assert model.section_runs == before
    assert counts["image"] == len(model.sections)
    assert counts["y"] == 1
    assert counts["y"] < counts["left"] < counts["image"]


def test_where_there_is_no_room_the_smallest_outputs_are_kept():
    with switchable(sections=12) as whole:
        whole.load([photo()] * 200)
        whole.keep(whole.off)
        size = whole.kept_mib
    assert size > 4
    with switchable(sections=12, keep_mib=int(size / 2)) as model:
        model.load([photo()] * 200)
        model.keep(model.off)
        assert 0 < model.kept_mib <= size / 2
        first = model.probe(mask_of("left"))[0]
    with switchable() as plain:
        assert np.array_equal(first["y"], plain.run(photo(), mask_of("left"))["y"])


def test_other_ranges_for_a_probe_are_those_of_a_model_made_with_them():
    narrow = {**RANGES, "a_silu": (-0.1, 0.5)}
    with switchable() as model, SwitchableModel(MODEL, SWITCHES, narrow) as other:
        model.load([photo()])
        model.keep(model.on)
        found = model.probe(model.on, {"a_silu": (-0.1, 0.5)})[0]["y"]
        assert np.array_equal(found, other.run(photo(), other.on)["y"])
        assert not np.array_equal(found, model.probe(model.on)[0]["y"])


def test_rounded_weights_may_be_given():
    zeros = {"wl": np.zeros((4, 8, 1, 1), np.float32)}
    with SwitchableModel(MODEL, SWITCHES, RANGES, weights=zeros) as model:
        found = model.run(photo(), mask_of("wl"))["y"]
    assert np.ptp(found[:, :4], axis=(2, 3)).max() == 0  # the bias alone
    with pytest.raises(UsageError, match=r"'wl' must be float32 \[4, 8, 1, 1\]"):
        SwitchableModel(MODEL, SWITCHES, RANGES, weights={"wl": np.zeros(3, np.float32)})


def test_a_tensor_in_two_switches_is_on_where_either_is():
    switches = [Switch("one", ("a", "b")), Switch("two", ("b", "y"), ("wa",)), Switch("three", (), ("wa",))]
    with SwitchableModel(MODEL, switches, RANGES) as model, switchable() as single:
        found = model.run(photo(), np.array([True, False, True]))
        wanted = single.run(photo(), mask_of("a", "b", "wa"))
    assert np.array_equal(found["y"], wanted["y"])


def test_a_subgraph_sees_the_switched_tensor():
    inner = helper.make_graph(
        [helper.make_node("Relu", ["a"], ["r"])], "then", [], [helper.make_tensor_value_info("r", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["a"], ["n"])], "else", [], [helper.make_tensor_value_info("n", 1, None)]
    )
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("Conv", ["image", "wa"], ["a"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=other),
    ]
    model = net(nodes=nodes, outputs=("y",))
    with SwitchableModel(model, [Switch("a", ("a",))], {"a": (-1.0, 1.0)}, sections=3) as probe:
        assert probe.run(photo(), probe.off)["y"].max() > 1
        found = probe.run(photo(), probe.on)["y"]
    assert 0.98 < found.max() <= 1.01


def test_rows_of_a_dynamic_batch_pass():
    model = net()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    with SwitchableModel(model, SWITCHES, RANGES, sections=4) as probe:
        found = probe.run({"image": np.repeat(photo()["image"], 3, axis=0)}, probe.off)["y"]
    assert found.shape[0] == 3


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        (Switch("g", ("nothing",)), "switch 'g': the model has no activation 'nothing'"),
        (Switch("g", ("a_gate",)), "there is no range of 'a_gate'"),
        (Switch("g", (), ("w",)), "no float32 initializer 'w'"),
    ],
)
def test_a_switch_of_what_there_is_not_is_refused(switch, message):
    with pytest.raises(UsageError, match=message):
        SwitchableModel(MODEL, [switch], RANGES)


@pytest.mark.parametrize("low_high", [(1.0, -1.0), (float("nan"), 1.0), (0.0, float("inf")), (-3e38, 3e38)])
def test_a_range_that_is_none_is_refused(low_high):
    with pytest.raises(UsageError, match=r"range|too wide"):
        SwitchableModel(MODEL, [Switch("a", ("a",))], {"a": low_high})


def test_a_tensor_that_is_always_zero_stays_so():
    assert activation_quantizer(0.0, 0.0).scale == 1.0
    with SwitchableModel(MODEL, [Switch("y", ("y",))], {"y": (0.0, 0.0)}) as model:
        assert model.run({"image": np.zeros((1, 3, 16, 16), np.float32)}, model.on)["y"].min() >= 0


def test_wrong_masks_photos_and_counts_are_refused():
    with switchable() as model:
        with pytest.raises(UsageError, match="no photos are loaded"):
            model.probe(model.off)
        with pytest.raises(UsageError, match="'image' is missing"):
            model.run({}, model.off)
        with pytest.raises(UsageError, match="lacks the input 'image'"):
            model.load([{}])
        with pytest.raises(UsageError, match=r"a mask is bool \[14\], not float64 \[3\]"):
            model.run(photo(), np.zeros(3))
        model.load([photo()])
        with pytest.raises(UsageError, match="no switch has the activation 'a_gate'"):
            model.probe(model.on, {"a_gate": (0.0, 1.0)})
    with pytest.raises(UsageError, match="sections must be 1 or more"):
        switchable(sections=0)


def _out_of_order() -> onnx.ModelProto:
    model = net()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _without_weights() -> onnx.ModelProto:
    model = net()
    del model.graph.initializer[0]
    return model


def _weights_elsewhere() -> onnx.ModelProto:
    model = net()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_out_of_order(), "which no node before it makes"),
        (_without_weights(), "reads 'wa', which no node"),
        (_weights_elsewhere(), "'wa' lies in another file"),
        (net(opset=9), "opset 9 has no QuantizeLinear"),
        (net(outputs=("nowhere",)), "output 'nowhere' is made by no node"),
    ],
)
def test_a_model_that_cannot_be_switched_is_refused(model, message):
    with pytest.raises(ModelError, match=message):
        SwitchableModel(model, [], {})


def test_yolox_off_is_float_and_a_probe_is_the_whole_graphs(shared: Path):
    model = onnx.load(shared / "models/yolox_nano/yolox_nano.onnx")
    names = [node.output[0] for node in model.graph.node if node.op_type in ("Conv", "Mul", "Add", "Concat")]
    feeds = {"images": np.random.default_rng(0).uniform(0, 255, (1, 3, 416, 416)).astype(np.float32)}
    found = every_tensor(model, feeds)
    ranges = {name: (float(found[name].min()), float(found[name].max())) for name in names}
    switches = [Switch(name, (name,)) for name in names]
    with SwitchableModel(model, switches, ranges) as probe, SwitchableModel(model, switches, ranges, sections=1) as one:
        probe.load([feeds])
        float_run = probe.keep(probe.off)[0]["output"]
        assert np.array_equal(float_run, session(model).run(None, feeds)[0])
        for number in (0, 120, len(names) - 1):
            mask = probe.off
            mask[number] = True
            assert np.allclose(probe.probe(mask)[0]["output"], one.run(feeds, mask)["output"], atol=1e-3)
            assert not np.array_equal(probe.probe(mask)[0]["output"], float_run)


def test_a_corrected_bias_is_there_where_its_weights_are_on_and_nowhere_else():
    bias = np.full(8, 3, np.float32)
    arrays = {value.name: numpy_helper.to_array(value) for value in MODEL.graph.initializer}
    corrected = onnx.ModelProto.FromString(MODEL.SerializeToString())
    for value in corrected.graph.initializer:
        if value.name == "ba":
            value.CopyFrom(numpy_helper.from_array(bias, "ba"))
    with switchable(weights={"ba": bias, "wa": arrays["wa"]}) as model:
        off, on = model.run(photo(), model.off), model.run(photo(), mask_of("wa"))
    for found, same in ((off, MODEL), (on, corrected)):
        wanted = session(same).run(None, photo())
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(found.values(), wanted, strict=True))


def test_weights_that_the_model_has_not_are_refused():
    with pytest.raises(UsageError, match="no float32 initializer 'nothing'"):
        switchable(weights={"nothing": np.zeros(3, np.float32)})
