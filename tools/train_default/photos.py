"""The training photos: what is boxed in each, what is not to be judged, and what a missing box means.

The labels are partial. A photo lists the classes whose every object is boxed; for another class a missing box only
means that a teacher saw nothing there, so it counts as background with `WEAK` of the weight. Regions marked ``ignore``
count for nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["fit", "dev", "val"]
WEAK = 0.3
_DEV_PERCENT = 8
_ONE_SCENE = {"classroom"}  # frames of one room: none may be watched while others are trained on


TEACHERS_OWN = ("coco128", "coco_tiny", "coco_mini")
"""Sources out of COCO train2017, on which YOLOX-nano was trained: what has its weights is not judged by them."""


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo and its labels.

    Args:
        path: The file.
        source: The collection it came from.
        split: "val" is the data set's own and is only for reporting; "dev" is cut from its train split and chooses
            recipes; "fit" is trained on.
        boxes: float32 [n, 4] xyxy in pixels, and int64 [n] of class ids.
        ignored: float32 [m, 4] regions where a class is neither object nor background, and int64 [m] of the classes.
        known: float32 [classes], the weight of a missing box: 1 where the class is labelled, else `WEAK`.
        labelled: bool [classes], whether every object of the class is boxed by hand.
    """

    path: Path
    source: str
    split: Split
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.float32]
    ignored_labels: NDArray[np.int64]
    known: NDArray[np.float32]
    labelled: NDArray[np.bool_]


def read(folder: Path, classes: Sequence[str]) -> list[Photo]:
    """The photos of a folder with ``annotations.json``, in its order.

    Args:
        folder: As its README describes: COCO's format, `split`, `labelled_classes`, `ignore` and `pseudo` added.
        classes: Which classes to keep, by name; their ids are their places here.

    Raises:
        ValueError: A class that the photos do not have.
    """
    table = json.loads((folder / "annotations.json").read_text())
    named = {category["id"]: category["name"] for category in table["categories"]}
    unknown = sorted(set(classes) - set(named.values()))
    if unknown:
        raise ValueError(f"{folder}: no class {unknown[0]!r}; there are {', '.join(sorted(named.values()))}")
    ids = {number: classes.index(name) for number, name in named.items() if name in classes}
    rows: dict[int, list[tuple[list[float], int, bool]]] = {image["id"]: [] for image in table["images"]}
    for box in table["annotations"]:
        if box["category_id"] in ids:
            x, y, width, height = box["bbox"]
            rows[box["image_id"]].append(([x, y, x + width, y + height], ids[box["category_id"]], box["ignore"]))
    photos = []
    for image in table["images"]:
        kept = [(box, label) for box, label, ignored in rows[image["id"]] if not ignored]
        ignored = [(box, label) for box, label, ignored in rows[image["id"]] if ignored]
        labelled = np.array([name in image["labelled_classes"] for name in classes])
        photos.append(
            Photo(
                path=folder / image["file_name"],
                source=image["source"],
                split=_split(image["split"], image["source"], image["file_name"]),
                boxes=np.array([box for box, _ in kept], np.float32).reshape(-1, 4),
                labels=np.array([label for _, label in kept], np.int64),
                ignored=np.array([box for box, _ in ignored], np.float32).reshape(-1, 4),
                ignored_labels=np.array([label for _, label in ignored], np.int64),
                known=np.where(labelled, 1.0, WEAK).astype(np.float32),
                labelled=labelled,
            )
        )
    return photos


def _split(split: str, source: str, name: str) -> Split:
    if split == "val":
        return "val"
    if source in _ONE_SCENE:
        return "fit"
    draw = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100
    return "dev" if draw < _DEV_PERCENT else "fit"
