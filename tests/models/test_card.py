"""Model cards, and the sidecar files they are written in."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from edge_sdk.errors import ModelError, ModelNotFoundError
from edge_sdk.models.card import ModelCard, checked_fields, read_sidecar, sidecar_path

FULL = ModelCard(
    head="yolox",
    input_hw=(320, 416),
    classes=("person", 'a "quoted" name', "Hündin", "人"),
    layout="nhwc",
    colour="bgr",
    resize="letterbox_corner",
    mean=(1.0, 2.5, 3.0),
    std=(58.395, 57.12, 57.375),
    pad=0,
    licence="Apache-2.0",
)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def as_toml(card: ModelCard) -> str:
    """TOML's strings, numbers and lists are written as JSON writes them."""
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in asdict(card).items())


def test_a_card_comes_back_from_its_sidecar_as_it_was_written(tmp_path: Path) -> None:
    assert ModelCard(**read_sidecar(write(tmp_path / "model.toml", as_toml(FULL)))) == FULL


def test_a_sidecar_states_only_what_it_has(tmp_path: Path) -> None:
    stated = read_sidecar(write(tmp_path / "model.toml", 'classes = ["cat"]\nmean = [1, 2, 3]\n'))
    assert stated == {"classes": ("cat",), "mean": (1.0, 2.0, 3.0)}
    assert all(type(value) is float for value in stated["mean"])
    assert replace(FULL, **stated) == replace(FULL, classes=("cat",), mean=(1.0, 2.0, 3.0))


def test_an_empty_sidecar_states_nothing(tmp_path: Path) -> None:
    assert read_sidecar(write(tmp_path / "model.toml", "# to be filled in\n")) == {}


def test_the_sidecar_lies_beside_the_model() -> None:
    assert sidecar_path(Path("models/yolo.v2.onnx")) == Path("models/yolo.v2.toml")


def test_an_unknown_key_is_refused_with_the_keys_that_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "model.toml", "classess = ['cat']\n")
    with pytest.raises(ModelError, match=r"model\.toml: unknown key 'classess'") as caught:
        read_sidecar(path)
    assert all(field.name in str(caught.value) for field in fields(ModelCard))


@pytest.mark.parametrize(("line", "complaint"), [
    ("head = 5", "head must be text"),
    ("layout = true", "layout must be text"),
    ("licence = 1979-05-27", "licence must be text"),
    ("pad = 1.5", "pad must be a whole number"),
    ("pad = true", "pad must be a whole number"),
    ('pad = "114"', "pad must be a whole number"),
    ("classes = 'cat'", "classes must be a list of str"),
    ("classes = [1, 2]", "classes must be a list of str"),
    ("input_hw = [416.0, 416]", "input_hw must be a list of int"),
    ("input_hw = [true, 416]", "input_hw must be a list of int"),
    ("input_hw = 416", "input_hw must be a list of int"),
    ("input_hw = [416]", "input_hw must have 2 values, not 1"),
    ("mean = [1, 2]", "mean must have 3 values, not 2"),
    ("std = [1, 2, '3']", "std must be a list of int or float"),
    ("[mean]\nr = 1", "mean must be a list of int or float"),
])  # fmt: skip
def test_a_value_of_another_kind_is_refused_by_name(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_sidecar(write(tmp_path / "model.toml", line))
    assert complaint in str(caught.value)
    assert "model.toml" in str(caught.value)


@pytest.mark.parametrize("content", [
    b"layout = ", b"\xff\xfe\x00", b"a = 1\na = 2", b"\x00", b"pad = " + b"9" * 5000, b"mean = " + b"[" * 30000,
])  # fmt: skip
def test_what_is_no_toml_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match=r"model\.toml: not a TOML model card") as caught:
        read_sidecar(write(tmp_path / "model.toml", content))
    assert "\n" not in str(caught.value)


def test_a_sidecar_of_a_megabyte_and_one_byte_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="too long"):
        read_sidecar(write(tmp_path / "model.toml", b"#" * ((1 << 20) + 1)))


def test_an_endless_sidecar_is_not_read_to_its_end() -> None:
    with pytest.raises(ModelError, match="too long"):
        read_sidecar(Path("/dev/zero"))


def test_a_sidecar_that_is_not_there_is_a_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such model card"):
        read_sidecar(tmp_path / "model.toml")
    with pytest.raises(FileNotFoundError):
        read_sidecar(tmp_path / "model.toml")


def test_a_folder_is_no_sidecar(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_sidecar(tmp_path)


@pytest.mark.parametrize(("changes", "complaint"), [
    ({"layout": "chwn"}, "layout is 'chwn', must be one of nchw, nhwc"),
    ({"colour": "grey"}, "colour is 'grey', must be one of rgb, bgr"),
    ({"resize": "crop"}, "resize is 'crop', must be one of letterbox_corner, letterbox_centre, stretch"),
    ({"input_hw": (0, 416)}, "input_hw"),
    ({"input_hw": (416, -416)}, "input_hw"),
    ({"input_hw": (416, 16385)}, "input_hw"),
    ({"input_hw": (10**30, 1)}, "input_hw"),
    ({"input_hw": (16384, 16384)}, "more than 16777216 pixels"),
    ({"input_hw": (416, 416, 3)}, "input_hw"),
    ({"classes": ()}, "classes is empty"),
    ({"mean": (0.0, 0.0)}, "mean and std are three"),
    ({"mean": (float("nan"), 0.0, 0.0)}, "finite"),
    ({"std": (1.0, float("inf"), 1.0)}, "finite"),
    ({"std": (1.0, 0.0, 1.0)}, "none of which may be 0"),
    ({"pad": -1}, "pad is -1"),
    ({"pad": 256}, "pad is 256"),
])  # fmt: skip
def test_a_card_that_cannot_mean_anything_is_refused(changes: dict, complaint: str) -> None:
    with pytest.raises(ModelError) as caught:
        replace(FULL, **changes)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("mean", ["[nan, 0, 0]", "[inf, 0, 0]", f"[1{'0' * 400}, 0, 0]"])
def test_a_number_beyond_any_float_makes_no_card(tmp_path: Path, mean: str) -> None:
    stated = read_sidecar(write(tmp_path / "model.toml", f"mean = {mean}"))
    with pytest.raises(ModelError, match="finite"):
        replace(FULL, **stated)


def test_plain_values_are_checked_wherever_they_come_from() -> None:
    assert checked_fields({"input_hw": [3, 4], "pad": 7}, "here") == {"input_hw": (3, 4), "pad": 7}
    with pytest.raises(ModelError, match=r"^here: unknown key 'x'"):
        checked_fields({"x": 1}, "here")
