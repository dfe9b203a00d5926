"""The float model's own detections, as labels for photos that have none and as what a quantized model must match."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.datasets import Dataset, LabelledPhoto
from edge_sdk.detections import Detections
from edge_sdk.detector import Detector
from edge_sdk.errors import EdgeSdkError, ModelError, SinkError, one_line
from edge_sdk.files import replacing

# Kept from here on, so that a score that fell by quantization is still seen on both sides; labels begin higher.
FLOOR = 0.05
LABEL_CONFIDENCE = 0.25  # what `Detector` returns unless told otherwise
MAX_BOXES = 100  # of a photo, as in COCO's rule

_FIELDS = ("xyxy", "confidence", "class_id")


class Teacher:
    """Detections of one model by a picture's hash; each picture is run once, and found again in the folder.

    Every class of a box is a detection, as evaluation has it, and boxes are not cut at the picture's edges: so the
    model scored against its own labels has a mAP of 1.

    Args:
        detector: The float model. Its `confidence` is set aside while it runs; its `classes` hold.
        folder: Where detections are kept from run to run; None keeps them in memory alone.
    """

    def __init__(self, detector: Detector, folder: Path | None = None) -> None:
        self._detector = detector
        self.classes = detector.class_names
        self.runs = 0  # inferences so far
        self.key = teacher_key(detector)
        self._folder = None if folder is None else folder / self.key[:16]
        self._found: dict[str, Detections] = {}

    def learn(
        self,
        pictures: Sequence[tuple[str, Callable[[], NDArray[np.uint8]]]],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Runs the model on the pictures that are not known yet.

        Args:
            pictures: A hash, and what reads its picture, uint8 [h, w, 3] BGR.
            progress: Called with (pictures done, pictures in all).

        Raises:
            BadFrameError: A picture cannot be read.
            BackendError: The engine failed.
            SinkError: The folder cannot be written.
        """
        wanted, self._detector.confidence = self._detector.confidence, FLOOR
        try:
            for number, (sha256, read) in enumerate(pictures, 1):
                if sha256 not in self._found:
                    self._found[sha256] = self._stored(sha256) or self._run(sha256, read())
                if progress is not None:
                    progress(number, len(pictures))
        finally:
            self._detector.confidence = wanted

    def detections(self, sha256: str, confidence: float = LABEL_CONFIDENCE) -> Detections:
        """What the model found in a picture, best first.

        Args:
            sha256: Of a picture that `learn` was given.
            confidence: At least this, 0..1; nothing below 0.05 is kept.

        Raises:
            KeyError: It was not.
        """
        found = self._found[sha256]
        return found[found.confidence >= confidence]

    def dataset(self, photos: Iterable[tuple[Path, str]], confidence: float = LABEL_CONFIDENCE) -> Dataset:
        """Detections as labels, for `edge_sdk.measure.accuracy.evaluate`.

        Args:
            photos: Where each picture lies, and its hash.
            confidence: As `detections` takes it.
        """
        return Dataset(
            "teacher", self.classes, tuple(_labelled(path, self.detections(key, confidence)) for path, key in photos)
        )

    def _run(self, sha256: str, image: NDArray[np.uint8]) -> Detections:
        detector = self._detector
        with detector.lock:
            prepared = detector.prepare(image, detector.own)
            found = detector.decode(detector.infer(prepared), prepared, multi_label=True, clip=False)
        self.runs += 1
        best = found[np.argsort(-found.confidence, kind="stable")[:MAX_BOXES]]
        # Not a view of more, and without the landmarks, which no score looks at.
        best = Detections(best.xyxy.copy(), best.confidence.copy(), best.class_id.copy())
        if not all(np.isfinite(array).all() for array in (best.xyxy, best.confidence)):
            raise ModelError(f"{detector.path.name}: the float model itself writes boxes that are no numbers")
        if self._folder is not None:
            _write(self._folder / f"{sha256}.npz", best)
        return best

    def _stored(self, sha256: str) -> Detections | None:
        """From the folder; None where it is not there, or is damaged and so made anew."""
        if self._folder is None:
            return None
        try:
            with np.load(self._folder / f"{sha256}.npz", allow_pickle=False) as arrays:
                return Detections(**{name: arrays[name] for name in _FIELDS})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, EdgeSdkError):
            return None


def teacher_key(detector: Detector) -> str:
    """A hash of all that decides what the model finds: its file, its card, the engine, and how boxes are kept."""
    facts = {
        "schema": 1,
        "model": _file_sha256(detector.path),
        "card": asdict(detector.card),
        "engine": [detector.backend, detector.session.active],
        "iou": detector.iou,
        "classes": None if detector.classes is None else [int(one) for one in detector.classes],
        "floor": FLOOR,
        "boxes": MAX_BOXES,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from error
    return digest.hexdigest()


def _write(path: Path, found: Detections) -> None:
    arrays: Mapping[str, Any] = {name: getattr(found, name) for name in _FIELDS}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
    except SinkError:
        raise
    except OSError as error:
        raise SinkError(f"{path}: cannot be written: {error.strerror or one_line(error)}") from error


def _labelled(path: Path, found: Detections) -> LabelledPhoto:
    size = found.xyxy[:, 2:] - found.xyxy[:, :2]
    return LabelledPhoto(path, found.xyxy, found.class_id, np.zeros(len(found), np.bool_), size.prod(axis=1))
