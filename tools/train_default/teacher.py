"""YOLOX-nano as a teacher of scores, at the detector's own input size and on its own grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from gelan import STRIDES
from numpy.typing import NDArray
from torch import Tensor

from edge_sdk.models.labels import COCO_80


class Teacher:
    """Scores of a published yolox_nano.onnx for the classes that COCO has.

    Args:
        path: The file; its input size is changed to `height` x `width`.
        classes: The student's classes. `known` lists the ids of those that COCO has too.
        height, width: Of the pictures, in pixels.
        threads: Of the engine.

    Raises:
        ValueError: It is another model.
    """

    def __init__(self, path: Path, classes: Sequence[str], height: int, width: int, threads: int) -> None:
        model = onnx.load(str(path))
        for value, size in ((model.graph.input[0], (height, width)), (model.graph.output[0], None)):
            dims = value.type.tensor_type.shape.dim
            if size is None:
                dims[1].dim_param = "places"
            else:
                dims[2].dim_value, dims[3].dim_value = size
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = (
            3  # the file's own notes of its shapes are for another size, and it warns each time
        )
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._input = model.graph.input[0].name
        places = sum((height // stride) * (width // stride) for stride in STRIDES)
        found = self._session.run(None, {self._input: np.zeros((1, 3, height, width), np.float32)})[0].shape
        if found != (1, places, 5 + len(COCO_80)):
            raise ValueError(f"{path}: gives {list(found)}, and is not the published yolox_nano.onnx")
        self.known = [i for i, name in enumerate(classes) if name in COCO_80]
        self._columns = [5 + COCO_80.index(classes[i]) for i in self.known]

    def __call__(self, pictures: NDArray[np.uint8]) -> Tensor:
        """Pictures uint8 [b, h, w, 3], BGR, to scores float32 [b, n, known], objectness times class."""
        scores = []
        for picture in pictures:
            feed = np.ascontiguousarray(picture.transpose(2, 0, 1)[None]).astype(np.float32)
            rows = self._session.run(None, {self._input: feed})[0][0]
            scores.append(rows[:, self._columns] * rows[:, 4:5])
        return torch.from_numpy(np.stack(scores))
