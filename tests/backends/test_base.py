"""What all backends share: the registry, the choice, feeds, and what a wrong file looks like."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import targets
from edge_sdk.backends import base
from edge_sdk.errors import BackendError, ModelError, ModelNotFoundError, UsageError

BOARD = targets.load("generic-x86_64")


class TestTheRegistry:
    def test_has_every_module_with_a_backend_under_its_name(self) -> None:
        assert {"onnxruntime", "tflite"} <= set(base.backends())
        assert all(backend.name == name for name, backend in base.backends().items())

    def test_imports_no_engine(self) -> None:
        code = (
            "import sys; from edge_sdk.backends.base import backends; backends(); "
            "print(*{'onnxruntime', 'ai_edge_litert', 'tflite_runtime'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ""

    def test_a_name_may_carry_a_part(self) -> None:
        backend, options = base.named("onnxruntime:CUDAExecutionProvider")
        assert (backend.name, options) == ("onnxruntime", {"provider": "CUDAExecutionProvider"})
        assert base.named("tflite:/opt/a:b.so")[1] == {"delegate": "/opt/a:b.so"}
        assert base.named("tflite")[1] == {}

    def test_a_name_that_there_is_not_is_refused_with_those_there_are(self) -> None:
        with pytest.raises(UsageError, match="no backend 'ncnn'; there are auto, onnxruntime, tflite"):
            base.named("ncnn")

    def test_a_colon_with_nothing_after_it_is_refused(self) -> None:
        with pytest.raises(UsageError, match="ends with a colon: name the provider after it"):
            base.named("onnxruntime:")


class TestTheChoice:
    def test_goes_by_suffix_and_says_why(self) -> None:
        backend, why = base.choose(Path("a.ONNX"), BOARD)
        assert backend.name == "onnxruntime"
        assert BOARD.name in why

    def test_names_the_suffixes_there_are(self) -> None:
        with pytest.raises(BackendError, match=r"no backend opens '.pt' files \(there are .*\.onnx.*\.tflite"):
            base.choose(Path("a.pt"), BOARD)

    def test_says_what_each_backend_lacks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(base.backends()["tflite"]), "missing", lambda self: "not here: pip install it")
        with pytest.raises(BackendError, match=r"a\.tflite: no usable backend .* tflite: not here: pip install it"):
            base.choose(Path("a.tflite"), BOARD)

    def test_keeps_the_boards_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(base.backends()["tflite"]), "suffixes", (".tflite", ".onnx"))
        for order in (("tflite", "onnxruntime"), ("onnxruntime", "tflite")):
            assert base.choose(Path("a.onnx"), replace(BOARD, backends=order))[0].name == order[0]


class TestFeeds:
    IMAGE = base.TensorSpec("image", (-1, 3, -1, 8), np.dtype(np.uint8))
    SIZE = base.TensorSpec("size", (2,), np.dtype(np.float32))

    def test_are_zeros_with_open_axes_of_one(self) -> None:
        feeds = base.zeroed_feeds([self.IMAGE, self.SIZE])
        assert {name: (a.shape, a.dtype, a.any()) for name, a in feeds.items()} == {
            "image": ((1, 3, 1, 8), np.uint8, False),
            "size": ((2,), np.float32, False),
        }

    def test_take_a_stated_shape_for_open_axes(self) -> None:
        assert base.zeroed_feeds([self.IMAGE], {"image": (4, 3, 16, 8)})["image"].shape == (4, 3, 16, 8)

    @pytest.mark.parametrize("shape", [(1, 3, 16, 9), (1, 3, 16), (1, 3, 0, 8), ()])
    def test_refuse_a_shape_that_the_model_has_not(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(UsageError, match=r"input 'image' is \[\?, 3, \?, 8\], not \["):
            base.zeroed_feeds([self.IMAGE], {"image": shape})

    def test_refuse_an_input_that_there_is_not(self) -> None:
        with pytest.raises(UsageError, match="no input 'images'; there are image, size"):
            base.zeroed_feeds([self.IMAGE, self.SIZE], {"images": (1, 3, 1, 8)})

    def test_are_a_dict_that_equals_itself_alone(self) -> None:
        inputs = [base.TensorSpec("x", (1, -1), np.dtype(np.float32))]
        one, other = base.zeroed_feeds(inputs, {"x": (1, 3)}), base.zeroed_feeds(inputs, {"x": (1, 3)})
        assert isinstance(one, dict)
        assert one["x"].shape == (1, 3)
        assert one == one  # noqa: PLR0124
        assert one != other
        kept = weakref.WeakKeyDictionary({one: 1, other: 2})
        assert (kept[one], kept[other]) == (1, 2)
        one["x"] = np.ones((1, 3), np.float32)
        assert kept[one] == 1
        del other
        gc.collect()
        assert len(kept) == 1


class TestCores:
    def test_are_those_the_process_may_use(self) -> None:
        mine = os.sched_getaffinity(0)
        assert base.cores() == len(mine)
        try:
            os.sched_setaffinity(0, {min(mine)})
            assert base.cores() == 1
        finally:
            os.sched_setaffinity(0, mine)

    def test_are_counted_in_words(self) -> None:
        assert (base.count_of(1, "thread"), base.count_of(2, "thread")) == ("1 thread", "2 threads")


class TestAWrongFile:
    @pytest.mark.parametrize(
        ("head", "said"),
        [
            (b"", "it is empty"),
            (b"hello\n", "it is a text file"),
            (b"PK\x03\x04\x00\x00\x00\x00", "zip archive"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            (b"\x1c\x00\x00\x00TFL3\x14\x00", "it looks like a .tflite file; give it that suffix"),
            (b"\x1c\x00\x00\x00ORTM\x14\x00", "it looks like a .ort file; give it that suffix"),
            (b"\x08\x06\x12\x07pytorch", "truncated or damaged"),
            (b"\x00\xff\xfe\x80", "truncated or damaged"),
        ],
    )
    def test_is_told_by_its_first_bytes(self, head: bytes, said: str) -> None:
        assert said in base.looks_like(head, ".onnx")

    def test_real_onnx_files_are_known_by_their_first_bytes(self, shared: Path) -> None:
        models = sorted((shared / "models").rglob("*.onnx"))
        assert models
        for model in models:
            assert base.looks_like(base.first_bytes(model), ".tflite") == (
                "it looks like a .onnx file; give it that suffix"
            ), model.name

    def test_that_is_absent_is_not_found(self, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFoundError, match=r"a\.onnx: no such model file"):
            base.first_bytes(tmp_path / "a.onnx")

    def test_that_is_a_folder_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="cannot be read: Is a directory"):
            base.first_bytes(tmp_path)
