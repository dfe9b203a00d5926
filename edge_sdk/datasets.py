"""Labelled photos in the layouts that people have: COCO, YOLO and VOC."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import BadFrameError, DatasetError, one_line
from edge_sdk.sources.files import PHOTO_SUFFIXES, read_photo

_MAX_XML_BYTES = 1 << 22  # a VOC label file is a few kilobytes
_SLACK = 0.01  # how far beyond 0..1 a YOLO coordinate may be: exporters round

# What indexing and converting plain values raises when they are of another kind than a label has.
_BROKEN = (KeyError, TypeError, ValueError, OverflowError, AttributeError)


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

    - COCO: ``images/`` and ``instances.json``, ``annotations.json`` or ``annotations/instances*.json``. Where there
      are several of the last, name the file itself instead of the folder.
    - YOLO: ``images/`` and ``labels/`` with a text file a photo, and ``data.yaml``, ``classes.txt`` or ``labels.txt``
      with the names, here or one folder up. Where both are split into ``train/``, ``val/``, ..., name ``images/val``.
    - VOC: ``JPEGImages/`` and ``Annotations/`` with an XML file a photo.

    Raises:
        DatasetError: The folder is not there, has none of these layouts or several splits, or its labels are broken.
    """
    if folder.is_file() and folder.suffix.lower() == ".json":
        home = next((up for up in folder.parents[:2] if (up / "images").is_dir()), folder.parent)
        dataset = _load_coco(home, folder)
    elif not folder.is_dir():
        raise DatasetError(f"{folder}: no such data folder")
    elif (coco := _coco_labels(folder)) is not None:
        dataset = _load_coco(folder, coco)
    elif (yolo := _yolo_folders(folder)) is not None:
        dataset = _load_yolo(*yolo)
    elif (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir():
        dataset = _load_voc(folder)
    else:
        raise DatasetError(
            f"{folder}: no labels found; there must be images/ with instances.json (COCO), images/ with labels/ "
            "(YOLO), or JPEGImages/ with Annotations/ (VOC)"
        )
    if not dataset.photos:
        raise DatasetError(f"{folder}: the {dataset.layout} labels name no photo")
    return dataset


def _labels_of(
    path: Path, boxes_xyxy: Sequence[Sequence[float]], class_id: Sequence[int], crowd: Sequence[bool],
    area: Sequence[float] | None = None,
) -> LabelledPhoto:  # fmt: skip
    """A photo's boxes as arrays; without `area`, each has its box's."""
    boxes = np.array(boxes_xyxy, np.float64).reshape(-1, 4)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) if area is None else area
    return LabelledPhoto(
        path,
        boxes.astype(np.float32),
        np.array(class_id, np.int32),
        np.array(crowd, np.bool_),
        np.array(areas, np.float32),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {one_line(error)}") from error


def _finite(values: Sequence[float]) -> list[float]:
    if not all(math.isfinite(value) for value in values):
        raise ValueError("a number is infinite or none")
    return list(values)


def _inside(folder: Path, name: str) -> Path:
    """A photo named by a label file, which comes from outside and must not point elsewhere."""
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"photo {name!r} does not lie in {folder}")
    return folder / name


# --- COCO ----------------------------------------------------------------------------------------


def _coco_labels(folder: Path) -> Path | None:
    for name in ("instances.json", "annotations.json"):
        if (folder / name).is_file():
            return folder / name
    several = sorted((folder / "annotations").glob("instances*.json"))
    if len(several) > 1:
        names = ", ".join(path.name for path in several)
        raise DatasetError(f"{folder}: several label files ({names}); name the one to use, such as {several[-1]}")
    return several[0] if several else None


def _load_coco(folder: Path, labels: Path) -> Dataset:
    text = _text(labels)
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{labels}: broken COCO labels: {one_line(error)}") from error
    names: dict[int, str] = {}
    for where, category in _coco_items(labels, table, "categories"):
        with where:
            names[int(category["id"])] = str(category["name"])
    # Some exporters list a name twice, once as the group of the others: it is one class.
    classes = tuple(dict.fromkeys(names[i] for i in sorted(names)))
    index = {name: number for number, name in enumerate(classes)}
    by_image: dict[int, list[tuple[list[float], int, bool, float]]] = {}
    for where, box in _coco_items(labels, table, "annotations"):
        with where:
            if int(box["category_id"]) not in names:
                raise ValueError(f"category_id {box['category_id']} is not among the categories")
            left, top, width, height = _finite([float(value) for value in box["bbox"]])
            if width < 0 or height < 0:
                raise ValueError(f"bbox {box['bbox']}: width and height are not below 0")
            (area,) = _finite([float(box.get("area", width * height))])
            corners, label = [left, top, left + width, top + height], index[names[int(box["category_id"])]]
            by_image.setdefault(int(box["image_id"]), []).append((corners, label, bool(box.get("iscrowd", 0)), area))
    photos: dict[int, LabelledPhoto] = {}
    home = folder / "images"
    prefix = "" if (home / "images").is_dir() else "images/"  # some sets name photos from the set's folder on
    for where, image in _coco_items(labels, table, "images"):
        with where:
            if (image_id := int(image["id"])) in photos:
                raise ValueError(f"id {image_id} is there twice")
            rows = by_image.get(image_id, [])
            corners_of, ids, crowds, areas = zip(*rows, strict=True) if rows else ((), (), (), ())
            path = _inside(home, str(image["file_name"]).removeprefix(prefix))
            photos[image_id] = _labels_of(path, corners_of, ids, crowds, areas)
    return Dataset("COCO", classes, tuple(photos.values()))


def _coco_items(labels: Path, table: Any, key: str) -> Iterator[tuple[_Where, Any]]:
    items = table.get(key) if isinstance(table, dict) else None
    if not isinstance(items, list):
        raise DatasetError(f"{labels}: broken COCO labels: there is no list {key!r}")
    return ((_Where(f"{labels}: broken COCO labels: {key}[{number}]"), item) for number, item in enumerate(items))


@dataclass(frozen=True)
class _Where:
    """Says of which entry an error is."""

    place: str

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError):
            raise DatasetError(f"{self.place}: there is no {error}") from error
        if isinstance(error, _BROKEN):
            raise DatasetError(f"{self.place}: {one_line(error)}") from error


# --- YOLO ----------------------------------------------------------------------------------------


def _yolo_folders(folder: Path) -> tuple[Path, Path, tuple[Path, ...]] | None:
    """Folder of the photos, folder of their labels, and where the names may lie."""
    images, labels, home = folder / "images", folder / "labels", folder
    if folder.parent.name == "images" and not images.is_dir():  # one split: images/val beside labels/val
        home = folder.parent.parent
        images, labels = folder, home / "labels" / folder.name
    if not (images.is_dir() and labels.is_dir()):
        return None
    splits = sorted(p.name for p in images.iterdir() if p.is_dir() and p.name.startswith(("train", "val", "test")))
    if len(splits) > 1:
        raise DatasetError(
            f"{folder}: images/ holds several splits ({', '.join(splits)}); name the one to use, such as "
            f"{images / splits[-1]}"
        )
    return images, labels, (home, home.parent)


def _load_yolo(images: Path, labels: Path, homes: tuple[Path, ...]) -> Dataset:
    names = _yolo_names(homes)
    photos, labelled = [], 0
    for path in sorted(p for p in images.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES):
        label = (labels / path.relative_to(images)).with_suffix(".txt")
        rows: list[list[float]] = []
        if label.is_file():
            labelled += 1
            rows = _yolo_rows(label, len(names))
        corners: list[list[float]] = []
        if rows:
            try:
                height, width = read_photo(path).shape[:2]
            except BadFrameError:
                rows = []  # whoever reads the photos will report it
            for _, x, y, w, h in rows:
                corners.append([(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height])
        photos.append(_labels_of(path, corners, [int(row[0]) for row in rows], [False] * len(rows)))
    if photos and not labelled:
        raise DatasetError(
            f"{labels}: no label file has the name of a photo in {images}, such as {photos[0].path.stem}.txt"
        )
    return Dataset("YOLO", names, tuple(photos))


def _yolo_rows(label: Path, classes: int) -> list[list[float]]:
    """Class, centre x, centre y, width and height of each line, the last four in 0..1."""
    rows = []
    for number, line in enumerate(_text(label).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = _finite([float(word) for word in line.split()])
            if len(row) != 5 or row[0] != int(row[0]) or not 0 <= row[0] < classes:
                raise ValueError(f"want: class cx cy w h, class a whole number below {classes}, the number of names")
            if not all(-_SLACK <= value <= 1 + _SLACK for value in row[1:]) or min(row[3:]) < 0:
                raise ValueError("want cx cy w h as fractions 0..1 of the photo")
        except ValueError as error:
            raise DatasetError(f"{label}:{number}: broken YOLO label: {one_line(error)}") from error
        rows.append(row)
    return rows


def _yolo_names(homes: tuple[Path, ...]) -> tuple[str, ...]:
    for home in homes:
        for name in ("classes.txt", "labels.txt"):
            if (path := home / name).is_file():
                return _listed_names(path)
        for name in ("data.yaml", "data.yml"):
            if (path := home / name).is_file():
                return _yaml_names(path)
    raise DatasetError(f"{homes[0]}: YOLO labels need the class names in classes.txt or data.yaml")


def _listed_names(path: Path) -> tuple[str, ...]:
    names = [line.strip() for line in _text(path).rstrip().splitlines()]
    if not all(names):
        raise DatasetError(f"{path}:{names.index('') + 1}: no name on this line; a line is a class")
    return tuple(names)


_QUOTED = r"""'(?P<single>(?:[^']|'')*)'|"(?P<double>(?:[^"\\]|\\.)*)\""""
_KEY = r"""['"]?(?P<key>\d+)['"]?\s*:"""
_FLOW_ENTRY = re.compile(rf"""\s*(?:{_KEY})?\s*(?:{_QUOTED}|(?P<plain>[^\s,'"\[\]{{}}][^,\[\]{{}}]*))\s*(?:,|$)""")
_BLOCK_ENTRY = re.compile(rf"""\s*(?:-|{_KEY})\s+(?:{_QUOTED}|(?P<plain>[^\s'"].*?))\s*(?:\s\#.*)?$""")
_COMMENT = re.compile(r"""(?:^|\s)#[^'"]*$""")


def _yaml_names(path: Path) -> tuple[str, ...]:
    """The ``names`` of a YOLO data.yaml.

    The forms that exporters write are read here, so that a device needs no YAML package: ``names: [a, b]``,
    ``names: {0: a, 1: b}``, a block of ``- a`` lines and a block of ``0: a`` lines.
    """
    lines = [_COMMENT.sub("", line) for line in _text(path).splitlines()]
    start = next((number for number, line in enumerate(lines) if line.startswith("names:")), None)
    if start is None:
        raise DatasetError(f"{path}: there is no list of class names under 'names:'")
    rest = lines[start].removeprefix("names:").strip()
    found: list[re.Match[str]] = []
    if rest:
        end = next((n for n in range(start, len(lines)) if lines[n].rstrip().endswith(("]", "}"))), None)
        flow = " ".join([rest, *(line.strip() for line in lines[start + 1 : (end or start) + 1])])
        if end is None or flow[0] not in "[{":
            raise DatasetError(f"{path}:{start + 1}: names must be a list [a, b] or a block of '- a' lines")
        flow, at = flow[1:-1].strip(), 0
        while at < len(flow):
            entry = _FLOW_ENTRY.match(flow, at)
            if entry is None:
                raise DatasetError(f"{path}:{start + 1}: broken list of names at {flow[at : at + 20]!r}")
            found.append(entry)
            at = entry.end()
    else:
        for number, line in enumerate(lines[start + 1 :], start + 2):
            if not line.strip():
                continue
            if not line.startswith((" ", "-", "\t")):
                break
            entry = _BLOCK_ENTRY.match(line)
            if entry is None:
                raise DatasetError(f"{path}:{number}: want '- name' or '0: name', not {line.strip()[:40]!r}")
            found.append(entry)
    keys = [int(entry["key"]) if entry["key"] else number for number, entry in enumerate(found)]
    if not found or sorted(keys) != list(range(len(found))):
        raise DatasetError(f"{path}:{start + 1}: the names under 'names:' do not count from 0 without gaps")
    named = dict(zip(keys, found, strict=True))
    return tuple(_scalar(named[key]) for key in range(len(found)))


def _scalar(entry: re.Match[str]) -> str:
    if entry["single"] is not None:
        return entry["single"].replace("''", "'")
    if entry["double"] is not None:
        return re.sub(r"\\(.)", r"\1", entry["double"])
    return entry["plain"].strip()


# --- VOC -----------------------------------------------------------------------------------------


def _load_voc(folder: Path) -> Dataset:
    found: list[tuple[Path, list[tuple[str, list[float], bool]]]] = []
    for label in sorted((folder / "Annotations").glob("*.xml")):
        tree = _voc_tree(label)
        boxes: list[tuple[str, list[float], bool]] = []
        for number, thing in enumerate(tree.iter("object"), 1):
            try:
                boxes.append(_voc_object(thing))
            except ValueError as error:
                raise DatasetError(f"{label}: broken VOC label: object {number}: {one_line(error)}") from error
        try:
            named = (tree.findtext("filename") or "").strip() or f"{label.stem}.jpg"
            found.append((_inside(folder / "JPEGImages", named), boxes))
        except ValueError as error:
            raise DatasetError(f"{label}: broken VOC label: {one_line(error)}") from error
    names = tuple(sorted({name for _, boxes in found for name, _, _ in boxes}))
    photos = [
        # VOC's own evaluation ignores difficult objects, as COCO's ignores crowds.
        _labels_of(
            path, [box for _, box, _ in boxes], [names.index(name) for name, _, _ in boxes], [d for _, _, d in boxes]
        )
        for path, boxes in found
    ]
    return Dataset("VOC", names, tuple(photos))


def _voc_tree(label: Path) -> ET.Element:
    try:
        with label.open("rb") as file:
            raw = file.read(_MAX_XML_BYTES + 1)
        # UTF-16 and UTF-32 would hide the words that are looked for; both have zero bytes.
        if len(raw) > _MAX_XML_BYTES or b"<!ENTITY" in raw or b"<!DOCTYPE" in raw or b"\0" in raw:
            raise DatasetError(f"{label}: too long, with entities or not UTF-8: not a VOC label")
        return ET.fromstring(raw)  # noqa: S314  entities are refused above
    except DatasetError:
        raise
    except (OSError, ET.ParseError, ValueError, LookupError) as error:
        raise DatasetError(f"{label}: broken VOC label: {one_line(error)}") from error


def _voc_object(thing: ET.Element) -> tuple[str, list[float], bool]:
    """Name, corners and whether it is marked as difficult."""
    name, box = (thing.findtext("name") or "").strip(), thing.find("bndbox")
    if not name or box is None:
        raise ValueError("there is no name" if not name else "there is no bndbox")
    left, top, right, bottom = _finite([float(box.findtext(key) or "") for key in ("xmin", "ymin", "xmax", "ymax")])
    if right < left or bottom < top:
        raise ValueError(f"box {left:g} {top:g} {right:g} {bottom:g} ends before it begins")
    # VOC counts pixels from 1 and includes the last one.
    return name, [left - 1, top - 1, right, bottom], (thing.findtext("difficult") or "").strip() == "1"
