"""What is read from the archive at the end of a .tflite file, and what a hostile one cannot do."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.backends.tflite_metadata import read_metadata

from .tiny import with_archive

# What Ultralytics' exporter writes into a .tflite: a Python literal, under this name.
ULTRALYTICS = (
    "{'description': 'Ultralytics YOLO11n model', 'date': '2026-03-01T10:00:00+00:00', 'stride': 32, "
    "'task': 'detect', 'imgsz': [640, 640], 'names': {0: 'person', 1: 'bicycle'}, 'license': 'AGPL-3.0'}"
)
MODEL = b"\x1c\x00\x00\x00TFL3" + bytes(200)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(MODEL)
    return path


def test_the_literal_that_ultralytics_writes(model: Path) -> None:
    found = read_metadata(with_archive(model, {"temp_meta.txt": ULTRALYTICS}))
    assert found["task"] == "detect"
    assert json.loads(found["names"]) == {"0": "person", "1": "bicycle"}
    assert json.loads(found["imgsz"]) == [640, 640]


def test_json(model: Path) -> None:
    found = read_metadata(with_archive(model, {"metadata.json": '{"edge_sdk.card": {"head": "yolox"}, "n": 3}'}))
    assert found == {"edge_sdk.card": '{"head": "yolox"}', "n": "3"}


def test_a_list_of_labels(model: Path) -> None:
    assert read_metadata(with_archive(model, {"labelmap.txt": "???\nperson\r\n\n bicycle \n"})) == {
        "names": '["???", "person", "bicycle"]'
    }


@pytest.mark.parametrize("order", [1, -1])
def test_names_in_an_object_count_more_than_a_list(model: Path, order: int) -> None:
    members = [("labels.txt", "cat\ndog"), ("metadata.json", '{"names": ["bird"]}')][::order]
    assert read_metadata(with_archive(model, dict(members))) == {"names": '["bird"]'}


def test_of_two_lists_the_first_counts(model: Path) -> None:
    assert read_metadata(with_archive(model, {"a.txt": "cat", "b.txt": "dog"})) == {"names": '["cat"]'}


def test_no_archive_is_no_metadata(model: Path) -> None:
    assert read_metadata(model) == {}


def test_an_absent_file_is_no_metadata(tmp_path: Path) -> None:
    assert read_metadata(tmp_path / "absent.tflite") == {}


@pytest.mark.parametrize("text", ["[1, 2]", "7", "import os", "{'a': __import__('os')}", "{unclosed", "", "\x00\xff"])
def test_what_is_no_object_is_left_out(model: Path, text: str) -> None:
    assert read_metadata(with_archive(model, {"meta.txt": text})) == {}


class TestAHostileArchive:
    def test_does_not_fill_the_memory(self, model: Path) -> None:
        bombs = {f"{i}/labels.txt": b"0" * (64 << 20) for i in range(2)}
        with_archive(model, bombs)
        assert model.stat().st_size < 1 << 20
        tracemalloc.start()
        try:
            assert read_metadata(model) == {}
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()

    def test_that_understates_a_size_is_damaged(self, model: Path) -> None:
        with_archive(model, {"labels.txt": b"0" * (64 << 20)})
        whole = model.read_bytes()
        real, claimed = (64 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little")
        assert whole.count(real) == 2  # in the entry and in the directory
        model.write_bytes(whole.replace(real, claimed))
        tracemalloc.start()
        try:
            assert read_metadata(model) == {}
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()

    def test_with_endless_members_is_read_in_part(self, model: Path) -> None:
        with_archive(model, {f"{i:04}.json": json.dumps({str(i): i}) for i in range(500)})
        assert len(read_metadata(model)) < 500

    def test_cannot_write_anywhere(self, model: Path, tmp_path: Path) -> None:
        with_archive(model, {"../../escaped.txt": "cat", "/absolute.json": '{"a": "b"}'})
        before = sorted(tmp_path.rglob("*"))
        assert read_metadata(model) == {"names": '["cat"]', "a": "b"}
        assert sorted(tmp_path.rglob("*")) == before

    def test_of_another_compression_is_left_out(self, model: Path) -> None:
        assert read_metadata(with_archive(model, {"a.json": '{"a": "b"}'}, zipfile.ZIP_LZMA)) == {}

    @pytest.mark.parametrize("text", ["1+" * 200_000 + "1", "-" * 400_000 + "1", "[" * 400_000, "{" * 400_000])
    def test_cannot_end_the_process_by_deep_nesting(self, model: Path, text: str) -> None:
        """In a process of its own: Python 3.10's parser overflows the stack on the first of these."""
        with_archive(model, {"meta.txt": text})
        code = "import sys; from pathlib import Path; from edge_sdk.backends.tflite_metadata import read_metadata; "
        code += "print(read_metadata(Path(sys.argv[1])))"
        done = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "{}\n")

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_with_any_bytes_changed_gives_texts_or_nothing(self, tmp_path: Path, data: st.DataObject) -> None:
        path = tmp_path / "mutated.tflite"
        path.write_bytes(MODEL)
        archive = bytearray(with_archive(path, {"meta.txt": ULTRALYTICS, "labels.txt": "cat\ndog"}).read_bytes())
        for _ in range(data.draw(st.integers(1, 6))):
            archive[data.draw(st.integers(len(MODEL), len(archive) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(archive[: data.draw(st.integers(len(MODEL), len(archive)))])
        found = read_metadata(path)
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in found.items())
