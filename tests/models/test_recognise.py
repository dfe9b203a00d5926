"""Which head reads a model, and what settles it, through real files and the engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edge_sdk
from edge_sdk.backends.base import TensorSpec, backends
from edge_sdk.errors import AmbiguousLayoutError, ModelError, ModelNotFoundError, UnknownLayoutError, UsageError
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import heads
from edge_sdk.models.labels import COCO_80, VOC_20
from edge_sdk.models.metadata import CARD_KEY
from edge_sdk.models.recognise import describe

WriteOnnx = Callable[..., Path]

YOLOX = {"output": (1, 3549, 85)}
YOLOV8 = {"output0": (1, 84, 3549)}
TWO_LAYOUTS = {"output": (1, 3549, 25)}  # YOLOX with 20 classes, or a transposed YOLOv8 with 21
NOBODYS = {"heat": (1, 7, 11, 13)}


def opened(model: Path, **how: object) -> tuple[str, ModelCard]:
    """The head and card that a detector settles on; skips where no engine for the file is installed."""
    fitting = [one for one in backends().values() if model.suffix in one.suffixes]
    if all(one.missing() is not None for one in fitting):
        pytest.skip(f"no engine for '{model.suffix}' files is installed")
    with edge_sdk.Detector(model, threads=1, **how) as detector:
        return detector.head.name, detector.card


def names(count: int) -> list[str]:
    return [f"thing {i}" for i in range(count)]


@pytest.mark.parametrize(("file", "head", "input_hw"), [
    ("yolox_nano/yolox_nano.onnx", "yolox", (416, 416)),
    ("yolox_nano/yolox_nano_float16_quantize.tflite", "yolox", (416, 416)),
    ("yolox_nano/yolox_nano_dynamic_range_quantize.tflite", "yolox", (416, 416)),
    ("yolox_nano/yolox_nano_int8_quantize.tflite", "yolox", (416, 416)),
    ("yolox_nano/yolox_nano_only_int8_quantize.tflite", "yolox", (416, 416)),
    ("picodet_s/picodet_s_320_coco.onnx", "picodet", (320, 320)),
    ("nanodet_m/nanodet_m.onnx", "nanodet", (416, 416)),
    ("fastestdet/FastestDet.onnx", "fastestdet", (352, 352)),
    ("ssd_mobilenet_v1_quant/detect.tflite", "ssd", (300, 300)),
    ("ultraface/version-RFB-320.onnx", "ultraface", (240, 320)),
    ("ultraface/version-RFB-640.onnx", "ultraface", (480, 640)),
    ("ultraface/version-slim-320.onnx", "ultraface", (240, 320)),
    ("ultraface/version-RFB-320_without_postprocessing.tflite", "ultraface_raw", (240, 320)),
    ("yunet/yunet_n_320_320.onnx", "yunet", (320, 320)),
    ("yunet/yunet_n_640_640.onnx", "yunet", (640, 640)),
    ("yunet/yunet_s_320_320.onnx", "yunet", (320, 320)),
    ("yunet/yunet_n_dynamic.onnx", "yunet", (640, 640)),
])  # fmt: skip
def test_real_models_are_recognised_without_a_word(
    shared: Path, file: str, head: str, input_hw: tuple[int, int]
) -> None:
    name, card = opened(shared / "models" / file)
    assert (name, card.head, card.input_hw) == (head, head, input_hw)


@pytest.mark.parametrize("file", ["vww_96_float.tflite", "vww_96_int8.tflite"])
def test_a_classifier_is_no_detector_and_the_message_helps(shared: Path, file: str) -> None:
    with pytest.raises(UnknownLayoutError) as caught:
        opened(shared / "models/vww_96" / file)
    message = str(caught.value)
    assert message.startswith(f"{file}: no head recognises the inputs ")
    assert "96, 96, 3]" in message
    assert ", 2]" in message
    assert "--head" in message
    assert all(name in message for name in heads())
    assert f"{Path(file).stem}.toml" in message
    assert "\n" not in message


def test_every_real_model_is_in_this_file(shared: Path) -> None:
    known = Path(__file__).read_text()
    files = [p for kind in ("*.onnx", "*.tflite") for p in (shared / "models").rglob(kind)]
    assert len(files) > 10
    assert [p.name for p in files if p.name not in known] == []


def test_the_shape_alone_tells_a_published_layout(write_onnx: WriteOnnx) -> None:
    name, card = opened(write_onnx("model.onnx", YOLOX))
    assert (name, card.classes, card.colour, card.resize) == ("yolox", COCO_80, "bgr", "letterbox_corner")
    name, card = opened(write_onnx("model.onnx", YOLOV8))
    assert (name, card.classes, card.colour, card.resize) == ("yolov8", COCO_80, "rgb", "letterbox_centre")


def test_metadata_goes_over_recognition(write_onnx: WriteOnnx) -> None:
    told = {"names": str(dict(enumerate(names(80)))), "task": "detect", "license": "MIT"}
    name, card = opened(write_onnx("model.onnx", YOLOV8, metadata=told))
    assert (name, card.classes, card.licence) == ("yolov8", tuple(names(80)), "MIT")
    assert card.std == (255.0, 255.0, 255.0)  # nobody said otherwise


def test_a_sidecar_goes_over_metadata_field_by_field(write_onnx: WriteOnnx) -> None:
    told = {CARD_KEY: json.dumps({"classes": names(80), "pad": 3, "licence": "MIT"})}
    model = write_onnx("model.onnx", YOLOV8, metadata=told)
    model.with_suffix(".toml").write_text('pad = 9\nresize = "stretch"\n')
    _, card = opened(model)
    assert (card.pad, card.resize) == (9, "stretch")
    assert (card.classes, card.licence) == (tuple(names(80)), "MIT")


def test_a_card_elsewhere_takes_the_place_of_the_sidecar(write_onnx: WriteOnnx, tmp_path: Path) -> None:
    model = write_onnx("model.onnx", YOLOV8)
    model.with_suffix(".toml").write_text("pad = 9\n")
    other = tmp_path / "other.toml"
    other.write_text('licence = "MIT"\n')
    for path in (other, str(other)):
        _, card = opened(model, card=path)
        assert (card.pad, card.licence) == (114, "MIT")


def test_a_card_that_is_not_there_is_an_error(write_onnx: WriteOnnx, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"gone\.toml: no such model card"):
        opened(write_onnx("model.onnx", YOLOV8), card=tmp_path / "gone.toml")


def test_a_whole_card_is_taken_as_it_is(write_onnx: WriteOnnx) -> None:
    mine = ModelCard(head="yolox", input_hw=(416, 416), classes=tuple(names(80)), colour="rgb", std=(2.0, 2.0, 2.0))
    assert opened(write_onnx("model.onnx", YOLOX), card=mine) == ("yolox", mine)


def test_a_whole_card_of_too_few_names_is_refused(write_onnx: WriteOnnx) -> None:
    mine = ModelCard(head="yolox", input_hw=(416, 416), classes=("thing",))
    with pytest.raises(ModelError, match=r"names 1 classes, but the model's outputs hold 80"):
        opened(write_onnx("model.onnx", YOLOX), card=mine)


@pytest.mark.parametrize("place", ["sidecar", "metadata"])
def test_a_wrong_number_of_names_says_both_numbers_and_where_they_stand(write_onnx: WriteOnnx, place: str) -> None:
    told = {"names": str(names(79))} if place == "metadata" else {}
    model = write_onnx("model.onnx", YOLOX, metadata=told)
    if place == "sidecar":
        model.with_suffix(".toml").write_text(f"classes = {names(79)}")
    with pytest.raises(ModelError, match="names 79 classes, but the model's outputs hold 80") as caught:
        opened(model)
    assert str(caught.value).startswith(str(model.with_suffix(".toml")) if place == "sidecar" else "model.onnx's meta")


@pytest.mark.parametrize("task", ["segment", "pose"])
def test_a_model_for_another_task_is_refused(write_onnx: WriteOnnx, task: str) -> None:
    with pytest.raises(ModelError, match=f"'{task}'; Edge SDK runs detectors"):
        opened(write_onnx("model.onnx", YOLOV8, metadata={"task": task}))


def test_two_layouts_that_fit_are_both_listed_with_the_flag(write_onnx: WriteOnnx) -> None:
    with pytest.raises(AmbiguousLayoutError) as caught:
        opened(write_onnx("model.onnx", TWO_LAYOUTS))
    message = str(caught.value)
    assert "yolox (20 classes)" in message
    assert "yolov8 (21 classes)" in message
    assert "--head NAME" in message
    assert "[1, 3549, 25]" in message


@pytest.mark.parametrize(("head", "count"), [("yolox", 20), ("yolov8", 21)])
def test_the_flag_settles_two_layouts(write_onnx: WriteOnnx, head: str, count: int) -> None:
    name, card = opened(write_onnx("model.onnx", TWO_LAYOUTS), head=head)
    assert (name, len(card.classes)) == (head, count)


@pytest.mark.parametrize(("head", "count"), [("yolox", 20), ("yolov8", 21)])
def test_the_number_of_names_settles_two_layouts(write_onnx: WriteOnnx, head: str, count: int) -> None:
    model = write_onnx("model.onnx", TWO_LAYOUTS, metadata={"names": str(dict(enumerate(names(count))))})
    assert opened(model)[0] == head
    model.with_suffix(".toml").write_text(f"classes = {names(41 - count)}")  # the sidecar has the last word
    assert opened(model)[0] != head


def test_a_number_of_names_that_fits_neither_settles_nothing(write_onnx: WriteOnnx) -> None:
    model = write_onnx("model.onnx", TWO_LAYOUTS, metadata={"names": str(names(5))})
    with pytest.raises(AmbiguousLayoutError):
        opened(model)


def test_a_sidecars_head_settles_two_layouts(write_onnx: WriteOnnx) -> None:
    model = write_onnx("model.onnx", TWO_LAYOUTS)
    model.with_suffix(".toml").write_text('head = "yolox"')
    assert opened(model) == ("yolox", opened(model, head="yolox")[1])
    assert opened(model)[1].classes == VOC_20
    assert opened(model, head="yolov8")[0] == "yolov8"  # the caller goes over what is written


def test_a_head_that_there_is_not_lists_those_that_there_are(write_onnx: WriteOnnx) -> None:
    with pytest.raises(UsageError, match="there is no head 'yolo99'") as caught:
        opened(write_onnx("model.onnx", YOLOX), head="yolo99")
    assert all(name in str(caught.value) for name in heads())


def test_a_head_that_only_the_sidecar_names_is_the_sidecars_fault(write_onnx: WriteOnnx) -> None:
    model = write_onnx("model.onnx", YOLOX)
    model.with_suffix(".toml").write_text('head = "yolo99"')
    with pytest.raises(ModelError, match=r"model\.toml: there is no head 'yolo99'"):
        opened(model)


def test_an_unknown_layout_says_what_it_saw_and_what_would_help(write_onnx: WriteOnnx) -> None:
    with pytest.raises(UnknownLayoutError) as caught:
        opened(write_onnx("model.onnx", NOBODYS))
    message = str(caught.value)
    assert "images float32 [1, 3, 416, 416]" in message
    assert "heat float32 [1, 7, 11, 13]" in message
    assert "--head" in message
    assert "model.toml" in message


def test_a_head_that_does_not_fit_says_so(write_onnx: WriteOnnx) -> None:
    with pytest.raises(UnknownLayoutError, match=r"head 'yolox' .* does not read"):
        opened(write_onnx("model.onnx", NOBODYS), head="yolox")


def test_a_card_written_by_hand_is_believed_where_no_shape_tells(write_onnx: WriteOnnx) -> None:
    model = write_onnx("model.onnx", {"output": (1, 99, 7)})
    model.with_suffix(".toml").write_text('classes = ["a", "b"]\ninput_hw = [416, 416]\n')
    with pytest.raises(UnknownLayoutError):
        opened(model)
    name, card = opened(model, head="yolox")
    assert (name, card.head, card.classes) == ("yolox", "yolox", ("a", "b"))


def test_a_card_of_another_size_than_the_input_is_refused(write_onnx: WriteOnnx) -> None:
    model = write_onnx("model.onnx", YOLOV8, metadata={"imgsz": "[640, 640]"})
    with pytest.raises(ModelError, match=r"input 'images' is \[1, 3, 416, 416\], but the model card says \[1, 3, 640"):
        opened(model)


def test_an_open_input_takes_the_size_that_the_metadata_states(write_onnx: WriteOnnx) -> None:
    open_axes = ("batch", 3, "height", "width")
    model = write_onnx("model.onnx", {"output0": (1, 84, -3549)}, picture=open_axes, metadata={"imgsz": "[416, 416]"})
    with edge_sdk.Detector(model, threads=1) as detector:
        assert detector.card.input_hw == (416, 416)
        assert len(detector(np.zeros((20, 30, 3), np.uint8))) == 0


def test_specs_are_described_on_one_line() -> None:
    specs = [TensorSpec(f"t{i}", (1, -1, i), np.dtype(np.float32)) for i in range(8)]
    assert describe(specs[:2]) == "t0 float32 [1, ?, 0], t1 float32 [1, ?, 1]"
    assert describe(specs).endswith("t5 float32 [1, ?, 5] and 2 more")
