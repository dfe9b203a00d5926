"""What model files say of themselves."""

from __future__ import annotations

import json

import pytest

from edge_sdk.errors import ModelError
from edge_sdk.models.metadata import CARD_KEY, card_fields

# As Ultralytics' exporter writes it into an ONNX file: every value is text.
ULTRALYTICS = {
    "description": "Ultralytics YOLO model",
    "license": "AGPL-3.0 License (https://ultralytics.com/license)",
    "stride": "32",
    "task": "detect",
    "batch": "1",
    "imgsz": "[480, 640]",
    "names": "{0: 'person', 1: 'fire truck', 2: \"it's\"}",
}


def test_an_exporters_metadata_gives_names_size_and_licence() -> None:
    assert card_fields(ULTRALYTICS) == {
        "classes": ("person", "fire truck", "it's"),
        "input_hw": (480, 640),
        "licence": "AGPL-3.0 License (https://ultralytics.com/license)",
    }


def test_no_metadata_states_nothing() -> None:
    assert card_fields({}) == {}
    assert card_fields({"author": "somebody", "names": "", "imgsz": ""}) == {}


@pytest.mark.parametrize(("text", "classes"), [
    ("{0: 'a', 1: 'b'}", ("a", "b")),
    ("{1: 'b', 0: 'a'}", ("a", "b")),
    ('{"0": "a", "1": "b"}', ("a", "b")),
    ("['a', 'b']", ("a", "b")),
    ('["a", "b"]', ("a", "b")),
    ("('a', 'b')", ("a", "b")),
    ("{" + ", ".join(f"{i}: 'c{i}'" for i in reversed(range(12))) + "}", tuple(f"c{i}" for i in range(12))),
])  # fmt: skip
def test_names_come_in_the_order_of_their_ids(text: str, classes: tuple[str, ...]) -> None:
    assert card_fields({"names": text})["classes"] == classes


@pytest.mark.parametrize("text", [
    "{0: 'a', 2: 'c'}", "{1: 'a', 2: 'b'}", "{'x': 'a'}", "{0: 1, 1: 2}", "[1, 2]", "[]", "{}", "'person'", "80",
    "None", "__import__('os').system('exit 3')", "{0: print('run')}", "{[1]: 'a'}", "[" * 5000, "-" * 50000 + "1",
    "{0: 'a'", "\x00", "x" * ((1 << 20) + 1), "9" * 6000,
])  # fmt: skip
def test_names_that_cannot_be_relied_on_are_not_stated(text: str) -> None:
    assert "classes" not in card_fields({"names": text})


def test_what_metadata_says_is_never_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    card_fields({"names": "open('made', 'w')", "imgsz": "[open('made', 'w'), 1]"})
    card_fields({"names": "{0: __import__('pathlib').Path('made').touch()}"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "size"), [("[480, 640]", (480, 640)), ("(480, 640)", (480, 640)), ("640", (640, 640))]
)
def test_a_size_is_height_and_width_or_one_side(text: str, size: tuple[int, int]) -> None:
    assert card_fields({"imgsz": text}) == {"input_hw": size}


@pytest.mark.parametrize(
    "text", ["[640]", "[0, 640]", "[-1, 640]", "[640, 99999]", "[640.0, 640]", "[True, 640]", "0", "x"]
)
def test_a_size_that_is_none_is_not_stated(text: str) -> None:
    assert card_fields({"imgsz": text}) == {}


@pytest.mark.parametrize("task", ["segment", "pose", "classify", "obb", ""])
def test_a_model_for_another_task_is_refused(task: str) -> None:
    with pytest.raises(ModelError, match=f"for the task '{task}'"):
        card_fields({**ULTRALYTICS, "task": task})


def test_a_licence_of_a_book_is_cut() -> None:
    assert card_fields({"license": "x" * 100_000}) == {"licence": "x" * 200}


def test_the_own_key_states_any_field_and_stands_alone() -> None:
    own = {"head": "yolox", "classes": ["a"], "mean": [1, 2, 3], "pad": 0, "input_hw": [32, 64]}
    stated = card_fields({**ULTRALYTICS, "task": "segment", CARD_KEY: json.dumps(own)})
    assert stated == {"head": "yolox", "classes": ("a",), "mean": (1.0, 2.0, 3.0), "pad": 0, "input_hw": (32, 64)}


@pytest.mark.parametrize(("text", "complaint"), [
    ("", "is not JSON"),
    ("{'head': 'yolox'}", "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    ('{"pad": ' + "9" * 6000 + "}", "is not JSON"),
    ("[1, 2]", "must be a JSON object"),
    ('"yolox"', "must be a JSON object"),
    ('{"hed": "yolox"}', "unknown key 'hed'"),
    ('{"pad": "0"}', "pad must be a whole number"),
    ('{"classes": null}', "classes must be a list"),
])  # fmt: skip
def test_an_own_key_that_holds_no_card_is_refused_by_its_name(text: str, complaint: str) -> None:
    with pytest.raises(ModelError) as caught:
        card_fields({CARD_KEY: text})
    assert complaint in str(caught.value)
    assert CARD_KEY in str(caught.value)
