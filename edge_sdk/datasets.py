"""Labelled photos in the layouts that people have: COCO, YOLO and VOC."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import BadFrameError, DatasetError, one_line
from edge_sdk.sources.files import PHOTO_SUFFIXES, read_photo

_MAX_XML_BYTES = 1 << 22  # a VOC label file is a few kilobytes


@dataclass(frozen=True, eq=False)
class LabelledPhoto:
    """One photo and what is in it.

    Args:
        path: The photo.
        boxes_xyxy: float32 [n, 4] in pixels.
        class_id: int32 [n], index into the dataset's `classes`.
        crowd: bool [n]; a detection inside such a box counts neither for nor against.
        area: float32 [n] in square pixels; of the object's outline where the labels have it, else of its box.
    """

    path: Path
    boxes_xyxy: NDArray[np.float32]
    class_id: NDArray[np.int32]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Labelled photos and the names of their classes."""

    layout: str
    classes: tuple[str, ...]
    photos: tuple[LabelledPhoto, ...]


def load(folder: Path) -> Dataset:
    """Reads a folder of labelled photos.

    Three layouts are told apart by what lies there:

    - COCO: ``images/`` and ``instances.json`` (or ``annotations/instances*.json``, or ``annotations.json``).
    - YOLO: ``images/`` and ``labels/`` with a text file a photo, and ``data.yaml``, ``classes.txt`` or ``labels.txt``
      with the names.
    - VOC: ``JPEGImages/`` and ``Annotations/`` with an XML file a photo.

    Raises:
        DatasetError: The folder is not there, has none of these layouts, or its labels are broken.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such data folder")
    coco = next((path for path in _coco_candidates(folder) if path.is_file()), None)
    if coco is not None:
        dataset = _load_coco(folder, coco)
    elif (folder / "labels").is_dir() and (folder / "images").is_dir():
        dataset = _load_yolo(folder)
    elif (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir():
        dataset = _load_voc(folder)
    else:
        raise DatasetError(
            f"{folder}: no labels found; there must be images/ with instances.json (COCO), images/ with labels/ (YOLO), "
            "or JPEGImages/ with Annotations/ (VOC)"
        )
    if not dataset.photos:
        raise DatasetError(f"{folder}: the {dataset.layout} labels name no photo")
    return dataset


def _coco_candidates(folder: Path) -> list[Path]:
    named = [folder / "instances.json", folder / "annotations.json"]
    return [*named, *sorted((folder / "annotations").glob("instances*.json"))]


def _load_coco(folder: Path, labels: Path) -> Dataset:
    try:
        table = json.loads(labels.read_text(encoding="utf-8"))
        names = {int(c["id"]): str(c["name"]) for c in table["categories"]}
        order = sorted(names)
        by_image: dict[int, list[Mapping[str, Any]]] = {}
        for box in table["annotations"]:
            by_image.setdefault(int(box["image_id"]), []).append(box)
        photos = []
        for image in table["images"]:
            boxes = by_image.get(int(image["id"]), [])
            photos.append(
                LabelledPhoto(
                    path=_inside(folder / "images", str(image["file_name"])),
                    boxes_xyxy=_corners([box["bbox"] for box in boxes]),
                    class_id=np.array([order.index(int(box["category_id"])) for box in boxes], np.int32),
                    crowd=np.array([bool(box.get("iscrowd", 0)) for box in boxes], np.bool_),
                    area=np.array([box.get("area", box["bbox"][2] * box["bbox"][3]) for box in boxes], np.float32),
                )
            )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DatasetError(f"{labels}: broken COCO labels: {type(error).__name__} {one_line(error)}") from error
    return Dataset("COCO", tuple(names[i] for i in order), tuple(photos))


def _corners(boxes_xywh: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    boxes = np.array(boxes_xywh, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _inside(folder: Path, name: str) -> Path:
    """A photo named by a label file, which comes from outside and must not point elsewhere."""
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"photo {name!r} lies outside {folder}")
    return path


def _load_yolo(folder: Path) -> Dataset:
    names = _yolo_names(folder)
    photos = []
    for path in sorted(p for p in (folder / "images").rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES):
        label = (folder / "labels" / path.relative_to(folder / "images")).with_suffix(".txt")
        rows: list[list[float]] = []
        if label.is_file():
            for number, line in enumerate(label.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if not line.strip():
                    continue
                try:
                    row = [float(word) for word in line.split()]
                    if len(row) != 5 or not 0 <= int(row[0]) < len(names):
                        raise ValueError("want: class cx cy w h, class below the number of names")
                except ValueError as error:
                    raise DatasetError(f"{label}:{number}: broken YOLO label: {one_line(error)}") from error
                rows.append(row)
        try:
            height, width = read_photo(path).shape[:2]
        except BadFrameError:
            height, width, rows = 1, 1, []  # whoever reads the photos will report it
        table = np.array(rows, np.float32).reshape(-1, 5)
        centre, size = table[:, 1:3] * (width, height), table[:, 3:5] * (width, height)
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
        photos.append(
            LabelledPhoto(
                path,
                boxes,
                table[:, 0].astype(np.int32),
                np.zeros(len(table), np.bool_),
                size.prod(axis=1).astype(np.float32),
            )
        )
    return Dataset("YOLO", names, tuple(photos))


def _yolo_names(folder: Path) -> tuple[str, ...]:
    for name in ("classes.txt", "labels.txt"):
        if (folder / name).is_file():
            return tuple(
                line.strip() for line in (folder / name).read_text(encoding="utf-8").splitlines() if line.strip()
            )
    for name in ("data.yaml", "data.yml"):
        if (folder / name).is_file():
            return _yaml_names(folder / name)
    raise DatasetError(f"{folder}: YOLO labels need the class names in classes.txt or data.yaml")


def _yaml_names(path: Path) -> tuple[str, ...]:
    """The ``names`` of a YOLO data.yaml.

    The three forms that exporters write are read here, so that a device needs no YAML package: ``names: [a, b]``, a
    block of ``- a`` lines and a block of ``0: a`` lines.
    """
    names: list[str] = []
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if not line.startswith("names:"):
            continue
        rest = line.removeprefix("names:").split("#")[0].strip()
        if rest.startswith("["):
            while not rest.endswith("]"):
                rest += next(lines, "]").split("#")[0].strip()
            return tuple(word.strip().strip("'\"") for word in rest.strip("[]").split(",") if word.strip())
        for entry in lines:
            if entry.strip() and not entry.startswith((" ", "-", "\t")):
                break
            text = entry.split("#")[0].strip()
            if text:
                names.append(text.removeprefix("-").split(":", 1)[-1].strip().strip("'\""))
    if not names:
        raise DatasetError(f"{path}: there is no list of class names under 'names:'")
    return tuple(names)


def _load_voc(folder: Path) -> Dataset:
    found: list[tuple[Path, list[tuple[str, list[float], bool]]]] = []
    for label in sorted((folder / "Annotations").glob("*.xml")):
        raw = label.read_bytes()
        if len(raw) > _MAX_XML_BYTES or b"<!ENTITY" in raw or b"<!DOCTYPE" in raw:
            raise DatasetError(f"{label}: too long or with entities: not a VOC label")
        try:
            tree = ET.fromstring(raw)  # noqa: S314  entities are refused above
            boxes = []
            for thing in tree.iter("object"):
                box = thing.find("bndbox")
                if box is None:
                    raise ValueError("an object has no bndbox")
                corners = [float(box.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax")]
                # VOC counts pixels from 1 and includes the last one.
                corners = [corners[0] - 1, corners[1] - 1, corners[2], corners[3]]
                boxes.append(
                    (thing.findtext("name", "").strip(), corners, thing.findtext("difficult", "0").strip() == "1")
                )
            photo = _inside(folder / "JPEGImages", tree.findtext("filename", f"{label.stem}.jpg").strip())
        except (ET.ParseError, ValueError) as error:
            raise DatasetError(f"{label}: broken VOC label: {one_line(error)}") from error
        found.append((photo, boxes))
    names = tuple(sorted({name for _, boxes in found for name, _, _ in boxes}))
    photos = []
    for path, boxes in found:
        xyxy = np.array([box for _, box, _ in boxes], np.float32).reshape(-1, 4)
        photos.append(
            LabelledPhoto(
                path,
                xyxy,
                np.array([names.index(name) for name, _, _ in boxes], np.int32),
                # VOC's own evaluation ignores difficult objects, as COCO's ignores crowds.
                np.array([difficult for _, _, difficult in boxes], np.bool_),
                (xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1).astype(np.float32),
            )
        )
    return Dataset("VOC", names, tuple(photos))
