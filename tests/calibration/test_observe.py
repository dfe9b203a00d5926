"""One pass over the photos: what is watched, what is noticed, and that nothing else shows in the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.calibration.activations import Statistics
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.observe import collect, collect_once
from edge_sdk.errors import DatasetError, ModelError, UsageError
from edge_sdk.models.card import ModelCard
from edge_sdk.models.preprocess import Preprocessor, TensorSpec
from edge_sdk.sources.files import read_photo

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

Feed = dict[str, NDArray[np.float32]]
RANDOM = np.random.default_rng(5)


def small_model(size: int | str = 8, *, extra: str = "") -> onnx.ModelProto:
    """Conv, SiLU, depthwise Conv, ReLU, and the shape of it beside; `extra` is an operator on the input."""
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["stem"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["stem"], ["gate"]),
        helper.make_node("Mul", ["stem", "gate"], ["silu"]),
        helper.make_node("Conv", ["silu", "w2"], ["deep"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["deep"], ["out"]),
        helper.make_node("Shape", ["deep"], ["shape"]),
        helper.make_node("Neg", ["w3"], ["fixed"]),
        helper.make_node("Mul", ["out", "fixed"], ["last"]),
    ]
    if extra:
        nodes.append(helper.make_node(extra, ["image"], ["extra"]))
    random = np.random.default_rng(1)
    weights = {
        "w1": random.normal(0, 0.5, (4, 3, 3, 3)),
        "w2": random.normal(0, 0.5, (4, 1, 3, 3)),
        "w3": np.ones(1),
    }
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("last", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def feeds(count: int = 4, size: int = 8) -> list[Feed]:
    random = np.random.default_rng(7)
    return [{"image": random.normal(0, 1 + i, (1, 3, size, size)).astype(np.float32)} for i in range(count)]


def alike(one: Statistics, other: Statistics) -> bool:
    return all(
        (a.histogram.exponent, a.histogram.first, a.histogram.zeros, a.histogram.low, a.histogram.high)
        == (b.histogram.exponent, b.histogram.first, b.histogram.zeros, b.histogram.low, b.histogram.high)
        and np.array_equal(a.histogram.counts, b.histogram.counts)
        and (a.channel_lows is None) == (b.channel_lows is None)
        and (a.channel_lows is None or np.array_equal(a.channel_lows, b.channel_lows))
        for a, b in zip(one.tensors.values(), other.tensors.values(), strict=True)
    )


def test_every_float_tensor_that_depends_on_the_photo_is_watched() -> None:
    statistics = collect(small_model(), feeds())
    assert list(statistics.tensors) == ["image", "stem", "gate", "silu", "deep", "out", "last"]
    assert statistics.photos == ("photo 0", "photo 1", "photo 2", "photo 3")
    assert statistics.runtime == f"onnxruntime {runtime.__version__}"


def test_the_figures_are_those_of_the_activations() -> None:
    photos = feeds()
    tensors = collect(small_model(), photos).tensors
    model = small_model()
    model.graph.output.append(helper.make_tensor_value_info("silu", TensorProto.FLOAT, None))
    model.graph.output.append(helper.make_tensor_value_info("out", TensorProto.FLOAT, None))
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    silu, out = (
        np.stack(values) for values in zip(*(session.run(["silu", "out"], one) for one in photos), strict=True)
    )
    for name, values in (("silu", silu), ("out", out)):
        seen = tensors[name]
        assert (seen.histogram.low, seen.histogram.high) == pytest.approx((values.min(), values.max()), rel=1e-5)
        assert seen.histogram.total == values.size
        assert seen.channel_lows == pytest.approx(values.min(axis=(0, 1, 3, 4)), rel=1e-4, abs=1e-6)
        assert seen.channel_highs == pytest.approx(values.max(axis=(0, 1, 3, 4)), rel=1e-4, abs=1e-6)
        assert seen.photo_highs == pytest.approx(values.max(axis=(1, 2, 3, 4)), rel=1e-4)
    assert tensors["out"].zero_fraction == pytest.approx(float((out == 0).mean()), abs=0.01)
    assert tensors["out"].one_sided
    assert not tensors["silu"].one_sided


def test_the_order_of_the_photos_changes_nothing_but_the_digest() -> None:
    photos = feeds()
    one, other = collect(small_model(), photos), collect(small_model(), photos[::-1])
    assert alike(one, other)
    assert one.feeds_sha256 != other.feeds_sha256
    assert np.array_equal(one.tensors["stem"].photo_lows, other.tensors["stem"].photo_lows[::-1])


def test_with_the_pixels_shuffled_the_figures_change() -> None:
    photos = feeds()
    shuffled = [{"image": RANDOM.permuted(one["image"].reshape(-1)).reshape(1, 3, 8, 8)} for one in photos]
    assert not alike(collect(small_model(), photos), collect(small_model(), shuffled))


@pytest.mark.parametrize("size", [8, "side"])
def test_little_memory_makes_more_parts_and_the_same_figures(size: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    real = runtime.InferenceSession

    def counting(*args: object, **options: object) -> object:
        opened.append(1)
        return real(*args, **options)

    photos = feeds(size=512)
    model = small_model(512 if size == 8 else size)
    whole = collect(model, photos)
    monkeypatch.setattr(runtime, "InferenceSession", counting)
    parts = collect(model, photos, memory_mib=9)  # two tensors of 4 MiB at a time
    assert len(opened) >= 4
    assert alike(whole, parts)


def test_photos_are_read_once_and_one_at_a_time() -> None:
    alive: list[int] = []
    told: list[int] = []

    def lazily() -> Iterator[Feed]:
        for number, feed in enumerate(feeds(5)):
            alive.append(number)
            yield feed

    collect(small_model(), lazily(), progress=lambda done: told.append(done) or alive.append(-1), memory_mib=0)
    assert told == [1, 2, 3, 4, 5]
    assert alive == [0, -1, 1, -1, 2, -1, 3, -1, 4, -1]


def test_chosen_tensors_are_watched_alone() -> None:
    assert list(collect(small_model(), feeds(), tensors=["out", "image"]).tensors) == ["image", "out"]
    assert list(collect(small_model(), feeds(), tensors=["image"]).tensors) == ["image"]


def test_photos_of_different_sizes_fit_an_open_shape() -> None:
    statistics = collect(small_model("side"), [*feeds(1, 8), *feeds(1, 16)])
    assert statistics.tensors["stem"].histogram.total == 4 * (64 + 256)


@pytest.mark.parametrize(("tensors", "message"), [
    (["nowhere"], "no activation 'nowhere'"), (["shape"], "'shape' holds no floating-point"),
])  # fmt: skip
def test_a_tensor_that_cannot_be_watched_is_named(tensors: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        collect(small_model(), feeds(), tensors=tensors)


def test_no_photo_is_a_clear_error() -> None:
    with pytest.raises(DatasetError, match="no calibration photo"):
        collect(small_model(), [])


def test_a_photo_that_is_not_finite_is_named() -> None:
    photos = feeds(3)
    photos[1]["image"][0, 0, 0, 0] = np.nan
    with pytest.raises(DatasetError, match=r"bear\.jpg: input 'image' holds values that are not finite"):
        collect(small_model(), photos, names=["cat.jpg", "bear.jpg", "dog.jpg"])


def test_a_tensor_that_is_not_finite_is_noted_with_the_photo_that_made_it_so() -> None:
    photos = feeds(3)
    photos[2]["image"][0, 0, 0, 0] = -4.0
    for one in photos[:2]:
        one["image"][:] = np.abs(one["image"])
    statistics = collect(small_model(extra="Log"), photos, names=["cat.jpg", "bear.jpg", "dog.jpg"])
    bad = statistics.tensors["extra"]
    assert bad.not_finite >= 1
    assert "not finite, the first in dog.jpg" in bad.note
    assert np.isfinite([bad.histogram.low, bad.histogram.high]).all()
    assert statistics.tensors["stem"].note == ""


@pytest.mark.parametrize(("feed", "error", "message"), [
    ({"picture": np.zeros((1, 3, 8, 8), np.float32)}, UsageError, "no input 'picture'; it has image"),
    ({"image": np.zeros((1, 3, 9, 9), np.float32)}, ModelError, "photo 0: the model cannot be run"),
    ({}, ModelError, "photo 0: the model cannot be run"),
])  # fmt: skip
def test_a_feed_that_does_not_fit_the_model_is_a_clear_error(
    feed: Mapping[str, NDArray[np.float32]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        collect(small_model(), [feed])


def test_weights_in_another_file_and_a_broken_graph_are_clear_errors() -> None:
    outside = small_model()
    outside.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="'w1' lies in another file"):
        collect(outside, feeds())
    broken = small_model()
    broken.graph.node[0].input[1] = "nowhere"
    with pytest.raises(ModelError, match="cannot open the model"):
        collect(broken, feeds())


def test_the_model_that_was_given_is_left_as_it_was() -> None:
    model = small_model()
    before = model.SerializeToString(deterministic=True)
    collect(model, feeds(), memory_mib=0)
    assert model.SerializeToString(deterministic=True) == before


def test_a_second_collection_reads_no_photo(tmp_path: Path) -> None:
    first = collect_once(small_model(), feeds(), Cache(tmp_path), "digest")

    def never() -> Iterator[Feed]:
        raise AssertionError("a photo was read")
        yield {}

    again = collect_once(small_model(), never(), Cache(tmp_path), "digest")
    assert again.to_bytes() == first.to_bytes()
    for other in (
        lambda: collect_once(small_model(), never(), Cache(tmp_path), "another"),
        lambda: collect_once(small_model(extra="Neg"), never(), Cache(tmp_path), "digest"),
        lambda: collect_once(small_model(), never(), Cache(tmp_path), "digest", tensors=["out"]),
    ):
        with pytest.raises(AssertionError, match="a photo was read"):
            other()


def test_a_damaged_file_in_the_cache_is_made_anew(tmp_path: Path) -> None:
    first = collect_once(small_model(), feeds(), Cache(tmp_path), "digest")
    (path,) = (tmp_path / "artefacts").glob("*/*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert collect_once(small_model(), feeds(), Cache(tmp_path), "digest").to_bytes() == first.to_bytes()


def test_what_is_no_statistics_under_a_sound_checksum_is_made_anew(tmp_path: Path) -> None:
    first = collect_once(small_model(), feeds(), Cache(tmp_path), "digest")
    (path,) = (tmp_path / "artefacts").glob("*/*")
    Cache(tmp_path).put_bytes(path.name, b"something else")
    assert collect_once(small_model(), feeds(), Cache(tmp_path), "digest").to_bytes() == first.to_bytes()


def test_a_real_detectors_stem_is_as_wide_as_others_measured_it(yolox: Path, shared: Path) -> None:
    """YOLOX-nano's first activation reaches from about -128 to 138 (reference sheet, 64 photos)."""
    model = onnx.load(yolox)
    card = ModelCard("yolox", (416, 416), ("x",), colour="bgr", resize="letterbox_corner")
    spec = TensorSpec("images", (1, 3, 416, 416), np.dtype(np.float32))
    prepare, photos = Preprocessor(card, spec), sorted((shared / "data/coco_calib/images").iterdir())[:4]

    def prepared() -> Iterator[Feed]:
        for path in photos:
            out = np.zeros((1, 3, 416, 416), np.float32)
            prepare(read_photo(path), out)
            yield {"images": out}

    stem = next(node.output[0] for node in model.graph.node if node.op_type == "Conv")
    statistics = collect(model, prepared(), tensors=[stem], names=[path.name for path in photos])
    seen = statistics.tensors[stem]
    assert seen.histogram.total == 4 * 16 * 208 * 208
    assert -160 < seen.histogram.low < -60
    assert 60 < seen.histogram.high < 170
    assert seen.channel_highs is not None
    assert len(seen.channel_highs) == 16
