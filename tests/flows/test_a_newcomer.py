"""The fourth walk: a new board is a table, a new head is a file, and neither touches anything else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edge_sdk
from edge_sdk import targets
from edge_sdk.models import heads as heads_package
from edge_sdk.models.heads import base

HEAD = """
import numpy as np
from edge_sdk.detections import Detections
from edge_sdk.models.card import ModelCard

class CornersHead:
    name = "corners"
    title = "models that write one box as 'corners'"
    default_iou = None

    def recognise(self, inputs, outputs, metadata):
        if [spec.name for spec in outputs] != ["corners"]:
            return None
        return ModelCard(head=self.name, input_hw=(32, 32), classes=("thing",), resize="stretch")

    def class_count(self, outputs):
        return 1

    def extra_feeds(self, geometry):
        return {}

    def decode(self, outputs, card, geometry, *, confidence, iou, multi_label):
        boxes = geometry.to_source(outputs["corners"].astype(np.float32))
        return Detections(boxes, np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.int32))

HEAD = CornersHead()
"""


@pytest.fixture
def corners_model(tmp_path: Path) -> Path:
    """Writes the box (8, 8, 24, 24) whatever it is shown."""
    box = onnx.numpy_helper.from_array(np.array([[8, 8, 24, 24]], np.float32), "corners_value")
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["corners"], value=box)],
        "corners",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("corners", TensorProto.FLOAT, [1, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "corners.onnx")
    return tmp_path / "corners.onnx"


@pytest.fixture
def head_folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "heads"
    folder.mkdir()
    heads_package.__path__.append(str(folder))
    base.heads.cache_clear()
    yield folder
    heads_package.__path__.remove(str(folder))
    base.heads.cache_clear()


def test_a_new_head_is_one_file(corners_model: Path, head_folder: Path) -> None:
    with pytest.raises(edge_sdk.EdgeSdkError, match="no head recognises"):
        edge_sdk.Detector(corners_model)
    (head_folder / "corners_of_a_newcomer.py").write_text(HEAD)
    base.heads.cache_clear()
    with edge_sdk.Detector(corners_model) as detector:
        (found,) = detector(np.zeros((64, 128, 3), np.uint8))
    assert found.xyxy == (32.0, 16.0, 96.0, 48.0)
    assert detector.class_names == ("thing",)


def test_a_new_board_is_a_table_that_extends_another() -> None:
    shelf = targets.parse(
        {
            "acme": """
[sources]
sheet = { text = "Acme data sheet", confirmed = true }

[boards.acme-base]
label = "Acme Base"
precisions = { tensorrt = ["int8", "fp16"] }
backends = ["tensorrt"]

[boards.acme-kit]
label = "Acme Kit"
extends = "acme-base"
facts.memory_mib = { value = 65536, source = "sheet" }
match = { compatible = ["acme,kit"] }
"""
        }
    )
    assert shelf["acme-kit"].precisions == shelf["acme-base"].precisions
    assert shelf["acme-kit"].memory_mib == 65536


def test_the_jetson_t4000_of_the_design_is_such_a_table() -> None:
    t4000 = targets.load("jetson-t4000")
    assert t4000.is_a("jetson-tegra264")
    assert t4000.memory_mib == 65536
