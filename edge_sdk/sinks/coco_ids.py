"""Which ids pictures and classes have in COCO results."""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from edge_sdk.errors import DatasetError, one_line
from edge_sdk.models.labels import name_of
from edge_sdk.sources.files import KIND, PHOTO_SUFFIXES

log = logging.getLogger("edge_sdk")


@dataclass(frozen=True)
class Labels:
    """The ids that a set of labelled photos has given.

    Args:
        path: The label file.
        images: Ids by file name.
        categories: Ids by class name in lower case.
    """

    path: Path
    images: dict[str, int]
    categories: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> Labels:
        """Reads a COCO label file.

        Raises:
            DatasetError: It cannot be read, or is none.
        """
        try:
            table = json.loads(path.read_text(encoding="utf-8-sig"))
            # Some exporters list a name twice, first as the group of the others: the last is the one they label with.
            categories = {_folded(str(one["name"])): int(one["id"]) for one in table["categories"]}
            images = {str(one["file_name"]): int(one["id"]) for one in table["images"]}
        except KeyError as error:
            raise DatasetError(f"{path}: broken COCO labels: there is no {error}") from error
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise DatasetError(f"{path}: broken COCO labels: {one_line(error)}") from error
        return cls(path, images, categories)


def find_labels(source: str | Path) -> Path | None:
    """The COCO label file of the photos that are read, or None.

    It lies beside the photos or beside the folder ``images`` that they lie in: ``instances.json``,
    ``annotations.json`` or ``annotations/instances*.json``. Of several of the last it is the one that is named like
    the photos' folder, as COCO's own: ``annotations/instances_val2017.json`` for ``val2017``.

    Args:
        source: A photo, a folder or a pattern; anything else has none.
    """
    folder = folder_of(source)
    if folder is None:
        return None
    for home in (folder, *list(folder.parents)[:2]):
        named = home / "annotations" / f"instances_{folder.name}.json"
        if named.is_file():
            return named
        if home != folder and folder.relative_to(home).parts[0] != "images":
            continue
        for name in ("instances.json", "annotations.json"):
            if (home / name).is_file():
                return home / name
        several = sorted((home / "annotations").glob("instances*.json"))
        if len(several) == 1:
            return several[0]
        if several:
            log.warning("%s: several label files, none named after %s; ids are new ones", several[0].parent, folder)
    return None


class Ids:
    """One rule for pictures and for classes: what the labels name has their id, the rest counts on from the largest.

    Without labels the largest is 0: ids count from 1, in the order of reading and in the order of the classes.
    """

    def __init__(self, names: Sequence[str], folder: Path | None, labels: Labels | None) -> None:
        self.labels = labels
        self._names = names
        self._folder = None if folder is None else f"{str(folder).rstrip('/')}/"
        self._images = labels.images if labels else {}
        self._categories = labels.categories if labels else {}
        self._last_image = max((0, *self._images.values()))
        self._last_category = max((0, *self._categories.values()))
        self._ids: dict[int, int] = {}  # of classes
        self._used: dict[int, str] = {}  # names of those ids
        for class_id in range(len(names)):
            self.category(class_id)
        if labels and not self._categories.keys() & {_folded(name) for name in names}:
            log.warning("%s: names no class of the model's; all have new ids", labels.path)

    def category(self, class_id: int) -> int:
        """The id of a class."""
        if class_id not in self._ids:
            name = name_of(self._names, class_id) or f"class {class_id}"
            category = self._categories.get(_folded(name), self._last_category + 1 + class_id)
            self._ids[class_id] = category
            self._used.setdefault(category, name)
        return self._ids[class_id]

    def categories(self) -> list[dict[str, Any]]:
        """All classes of the model, by id."""
        return [{"id": category, "name": name} for category, name in sorted(self._used.items())]

    def image(self, number: int, source: str) -> tuple[dict[str, Any], bool]:
        """Id and file name of a picture, and whether the labels name it."""
        new = self._last_image + 1 + number
        if not is_photo(source):  # named like the photos that PhotoSink makes of a video
            return {"id": new, "file_name": f"frame_{number:06d}.jpg", "source": source, "frame": number}, False
        path = os.path.abspath(source)  # noqa: PTH100  links stay: labels name photos as they are listed
        # Labels name a photo by its path in some folder: the longest end of the whole path that they know is it.
        parts = path.split("/") if self._images else []
        for start in range(1, len(parts)):
            name = "/".join(parts[start:])
            if name in self._images:
                return {"id": self._images[name], "file_name": name}, True
        inside = self._folder is not None and path.startswith(self._folder)
        return {"id": new, "file_name": path[len(self._folder or "") :] if inside else source}, False


def is_photo(source: str) -> bool:
    """Whether a frame's source is the path of a photo, not the name of a video, camera or stream."""
    return "://" not in source and Path(source).suffix.lower() in PHOTO_SUFFIXES


def folder_of(source: str | Path) -> Path | None:
    """The folder that photos are read from; of a pattern, what stands before its first sign. Else None."""
    if not KIND.claims(str(source)):
        return None
    path = Path(os.path.abspath(source))  # noqa: PTH100  links stay, as for the photos themselves
    if not path.exists():
        return Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
    return path if path.is_dir() else path.parent


def _folded(name: str) -> str:
    return name.strip().lower()
