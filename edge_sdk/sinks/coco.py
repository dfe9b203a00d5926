"""Detections as COCO results: what pycocotools and labelling tools read."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from edge_sdk.errors import SinkError, one_line
from edge_sdk.files import replacing
from edge_sdk.result import Result
from edge_sdk.sinks.base import Sink
from edge_sdk.sinks.coco_ids import Ids, Labels, find_labels, folder_of, is_photo
from edge_sdk.sinks.journal import Journal

log = logging.getLogger("edge_sdk")

_JSON = json.JSONEncoder(allow_nan=False)  # made once: json.dumps with an option makes one a call
_RESERVE_BYTES = 4 << 20  # left free on the disk, so that what was written can be ended


class CocoSink(Sink):
    """Writes a JSON list of ``{image_id, category_id, bbox: [left, top, width, height], score}``.

    `pycocotools.coco.COCO.loadRes` reads it. Beside ``found.json`` stands ``found.images.json``, which says what the
    ids are: ``images`` (id, file_name, width, height; of a video also source and frame) and ``categories`` (id, name).
    It is a COCO file by itself, without annotations. Every photo that was read is there, also those without boxes.

    One rule gives the ids. Where the photos have COCO labels (see `find_labels`), photos and classes that these name
    have the ids that they have there, matched by file name and class name. All others count on after the largest of
    those, and from 1 where there are no labels, photos in the order of reading.

    With a journal a run over photos may be interrupted and continued: `close` then leaves what is finished in the
    journal, and `finish`, called when the run has come to its end, makes the files of it. Without one, `close` does.

    Args:
        path: The file; it appears when it is whole.
        class_names: Names by class id.
        source: What is read, as the camera takes it: where labels are looked for, and what file names are relative to.
        labels: A COCO label file elsewhere.
        journal: Of this run, for `path`.

    Raises:
        SinkError: The path cannot be written, or is the label file.
        DatasetError: The label file is broken.
    """

    wants_image = True  # for its size alone
    complete = True

    def __init__(
        self,
        path: Path,
        class_names: Sequence[str],
        *,
        source: str | Path | None = None,
        labels: Path | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.name = f"coco:{path}"
        self._path = path
        self._companion = path.with_name(f"{path.stem}.images.json")
        if labels is None and source is not None:
            labels = find_labels(source)
        for output in (path, self._companion):
            if output.is_dir():
                raise SinkError(f"{output}: cannot be written: it is a folder")
            if labels is not None and output.exists() and output.samefile(labels):
                raise SinkError(f"{output}: is where ids are read from, and would be lost; write to another name")
        folder = None if source is None else folder_of(source)
        self._ids = Ids(class_names, folder, None if labels is None else Labels.read(labels))
        self._journal = journal
        self._files: _Files | None = None if journal else _Files(path, self._companion, self._ids)
        self._failed = 0

    def put(self, result: Result) -> None:
        source, number = result.frame.source, result.frame.id
        try:
            if self._journal is not None:
                if not is_photo(source):
                    raise SinkError(f"{source}: only runs over photos are continued; leave the journal out")
                self._journal.add(number, Path(source), _record(result))
            elif self._files is not None:
                self._files.add(number, source, _record(result))
            else:
                raise SinkError(f"{self._path}: is closed")
        except SinkError:
            self._failed += 1
            raise

    def close(self) -> None:
        """Puts the files in place; with a journal, leaves that to `finish` or to the next run. May be called twice.

        Raises:
            SinkError: They cannot be written.
        """
        if self._journal is not None:
            self._journal.close()
        files, self._files = self._files, None
        if files is not None:
            files.close()

    def finish(self) -> None:
        """Ends a run that has read all it was to read: puts the files in place, and takes the journal away.

        May be called after `close`, and twice.

        Raises:
            SinkError: They cannot be written, or a result could not be; the journal is kept for another try.
        """
        self.close()
        journal = self._journal
        if journal is None:
            return
        if self._failed:
            raise SinkError(
                f"{self._path}: {self._failed} results could not be written; the others are kept in {journal.path}, "
                "from which the same command goes on"
            )
        with _Files(self._path, self._companion, self._ids) as files:
            for number, photo, record in journal.records():
                files.add(number, str(photo), record)
        journal.remove()
        self._journal = None

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None:
            self.finish()
        else:
            self.close()


class _Files:
    """The results and their companion, written row by row; both appear when they are whole."""

    def __init__(self, path: Path, companion: Path, ids: Ids) -> None:
        self._path = path
        self._ids = ids
        self._images = self._boxes = self._strangers = 0
        with ExitStack() as stack, _as_sink_errors(path):
            # The results come first and so appear last: where they are, their companion is too.
            self._temporary = stack.enter_context(replacing(path))
            self._results: IO[str] = stack.enter_context(self._temporary.open("w", encoding="utf-8"))
            listed = stack.enter_context(replacing(companion))
            self._listed: IO[str] = stack.enter_context(listed.open("w", encoding="utf-8"))
            self._results.write("[")
            info = {"description": f"What the ids in {path.name} are"}
            self._listed.write(f'{{"info": {json.dumps(info)},\n"images": [')
            self._stack = stack.pop_all()

    def add(self, number: int, source: str, record: dict[str, Any]) -> None:
        """Writes what was found in one picture."""
        system = os.statvfs(self._temporary)
        if system.f_bavail * system.f_frsize < _RESERVE_BYTES:
            raise SinkError(f"{self._path}: the disk is full; what was written until now is kept")
        image, known = self._ids.image(number, source)
        size = {"width": record["width"], "height": record["height"]}
        boxes = [
            {"image_id": image["id"], "category_id": self._ids.category(class_id), "bbox": bbox, "score": score}
            for class_id, *bbox, score in record["boxes"]
        ]
        with _as_sink_errors(self._path):
            rows, listed = _rows(boxes, self._boxes), _rows([{**image, **size}], self._images)
            self._results.write(rows)
            self._listed.write(listed)
        self._boxes += len(boxes)
        self._images += 1
        self._strangers += not known

    def close(self) -> None:
        """Ends both and puts them under their names."""
        with _as_sink_errors(self._path), self._stack:
            self._results.write("\n]\n")
            categories = ",\n".join(json.dumps(one) for one in self._ids.categories())
            self._listed.write(f'\n],\n"annotations": [],\n"categories": [\n{categories}\n]}}\n')
        if self._ids.labels and self._strangers:
            log.warning(
                "%s: %d of %d pictures are not in %s and have new ids; COCO.loadRes of that file refuses them, of the "
                "companion file it does not",
                self._path, self._strangers, self._images, self._ids.labels.path,
            )  # fmt: skip

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *exc: Any) -> None:
        if exc[0] is None:
            self.close()
        else:
            self._stack.__exit__(*exc)


def _record(result: Result) -> dict[str, Any]:
    """A result as the journal keeps it: size, and of each box the class id, left, top, width, height and score."""
    height, width = result.frame.image.shape[:2]
    boxes = [
        [one.class_id, *(round(value, 2) for value in _xywh(one.xyxy)), round(one.confidence, 6)]
        for one in result.detections
    ]
    return {"width": width, "height": height, "boxes": boxes}


def _xywh(xyxy: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = xyxy
    return left, top, right - left, bottom - top


def _rows(values: Sequence[dict[str, Any]], before: int) -> str:
    """Further entries of a JSON list, a line each, after so many."""
    text = "".join(",\n" + _JSON.encode(value) for value in values)
    return text if before else text[1:]


@contextmanager
def _as_sink_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except SinkError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a number is infinite or none
        raise SinkError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or one_line(error)}") from error
