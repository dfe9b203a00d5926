"""A model, fed with pictures and read as detections."""

from __future__ import annotations

import difflib
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends import base as backends
from edge_sdk.backends.base import Array, Session
from edge_sdk.detections import Detections
from edge_sdk.device import this_device
from edge_sdk.errors import BackendError, ModelError, UsageError, one_line
from edge_sdk.models import default, zoo
from edge_sdk.models.card import ModelCard
from edge_sdk.models.preprocess import Geometry, Preprocessor, as_bgr, image_spec
from edge_sdk.models.recognise import describe, recognise

log = logging.getLogger("edge_sdk")


@dataclass(eq=False)
class Prepared:
    """A picture in a model's input arrays, and where it lies in them; `Detector.new_prepared` makes one.

    Reused from frame to frame, by one thread at a time: the next picture may be filled in when this one's outputs are
    no longer read. Best kept for pictures of one size, whose padding is then drawn once.

    Attributes:
        feeds: Arrays of its own, as the session is fed.
        preprocessor: With a canvas of its own.
        geometry: Of the picture; None until there was one.
    """

    feeds: dict[str, Array]
    preprocessor: Preprocessor
    geometry: Geometry | None = None


class Detector:
    """Detects objects in single pictures.

    ``detector(image)`` is `prepare`, `infer` and `decode` in a row. A pipeline with several `Prepared` in turn may
    overlap the three: `prepare` and `decode` may run in any thread, each on a `Prepared` of its own, while another one
    is in `infer`, for which the caller holds `lock`.

    Args:
        model: A file, the name of a zoo model, or None for the embedded default.
        backend: ``auto`` takes the first that fits and says so in `why`; ``onnxruntime`` and ``tflite`` name one, and
            ``onnxruntime:CUDAExecutionProvider`` or ``tflite:xnnpack`` its provider or delegate.
        confidence: Boxes scored above it are returned; 0..1.
        iou: Intersection over union 0..1 of non-maximum suppression; None is what the head's authors use.
        classes: Names or ids to return; None returns all.
        threads: Inside one inference; None is the backend's choice.
        head: Name of the head, where a model's outputs fit several.
        card: How to feed and read the model, where it does not say so itself: a card, or the path of one.
        options: The backend's own; see its class.

    Raises:
        ModelNotFoundError: No such file or zoo model.
        ModelError: The file is no model, or nothing tells how to read it; the message says what would.
        BackendError: The engine cannot open it, or something else became active than was asked for.
        UsageError: An argument that cannot mean anything.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        backend: str = "auto",
        confidence: float = 0.25,
        iou: float | None = None,
        classes: Sequence[str | int] | None = None,
        threads: int | None = None,
        head: str | None = None,
        card: ModelCard | Path | str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.confidence = confidence
        if iou is not None:
            _check_fraction("iou", iou)
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be 1 or more, not {threads}")
        self.path = find_model(model, backend)
        target = this_device().target
        part: dict[str, str] = {}
        if backend == "auto":
            chosen, self.why = backends.choose(self.path, target)
        else:
            chosen, part = backends.named(backend)
            self.why = "asked for"
            if (lack := chosen.missing()) is not None:
                raise BackendError(f"{chosen.name}: {lack}")
            for option in part.keys() & (options or {}).keys():
                raise UsageError(f"backend {backend!r} names the {option} already; leave the option {option!r} out")
        self.backend = chosen.name
        self.session: Session = chosen.open(self.path, target, threads=threads, options={**part, **(options or {})})
        try:
            self.head, self.card = recognise(self.session, self.path, head=head, card=card)
            image = image_spec(self.session.inputs)
            if image is None:
                raise ModelError(f"{self.path.name}: no input is an image: {describe(self.session.inputs)}")
            self._image = image
            if iou is not None and self.head.default_iou is None:
                raise UsageError(f"iou has no effect: head {self.head.name!r} reads boxes that need no suppression")
            self.iou = iou if iou is not None else self.head.default_iou
            self.classes = classes
            self.own = self.new_prepared()  # for those who run the three in a row, under the lock
        except BaseException:
            self.session.close()
            raise
        self.lock = threading.Lock()  # a session is used by one thread at a time, a detector by many
        log.info(
            "%s: %s on %s (%s), head %s", self.path.name, self.backend, self.session.active, self.why, self.head.name
        )

    @property
    def confidence(self) -> float:
        """Boxes scored above it are returned; may be set between calls, to 0..1."""
        return self._confidence

    @confidence.setter
    def confidence(self, value: float) -> None:
        _check_fraction("confidence", value)
        self._confidence = value

    @property
    def classes(self) -> Sequence[int] | None:
        """Ids of the classes that are returned, None for all; may be set between calls, to names or ids."""
        return self._classes

    @classes.setter
    def classes(self, wanted: Sequence[str | int] | None) -> None:
        self._classes = _class_ids(wanted, self.card)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by id."""
        return self.card.classes

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Detects in one picture.

        Args:
            image: uint8 [h, w, 3] in BGR order, as OpenCV reads it; grey [h, w] and BGRA [h, w, 4] are converted.

        Returns:
            Boxes in pixels of `image`, best first.

        Raises:
            UsageError: Not such an array.
            BackendError: The engine failed.
        """
        with self.lock:
            prepared = self.prepare(image, self.own)
            return self.decode(self.infer(prepared), prepared)

    def new_prepared(self) -> Prepared:
        """Input arrays and buffers of their own, for a pipeline that fills one while another is inferred."""
        preprocessor = Preprocessor(self.card, self._image)
        return Prepared(self.session.new_feeds({self._image.name: preprocessor.shape}), preprocessor)

    def prepare(self, image: NDArray[np.uint8], into: Prepared) -> Prepared:
        """Letterboxes a picture into input arrays. Any thread, where no other uses `into`.

        Args:
            image: As `__call__` takes it.
            into: From `new_prepared` of this detector; it is also what is returned.

        Raises:
            UsageError: The image is no such array.
        """
        into.geometry = into.preprocessor(as_bgr(image), into.feeds[self._image.name])
        for name, array in self.head.extra_feeds(into.geometry).items():
            if name in into.feeds:  # a head knows the inputs of all its layouts; this model may have fewer
                into.feeds[name] = array
        return into

    def infer(self, prepared: Prepared) -> Mapping[str, Array]:
        """Runs the engine. One thread at a time: the caller holds `lock`.

        Returns:
            Outputs by name, valid until `prepared` is inferred again.

        Raises:
            BackendError: The engine failed, or the detector is closed.
        """
        return self.session.run(prepared.feeds)

    def decode(
        self, outputs: Mapping[str, Array], prepared: Prepared, *, multi_label: bool = False, clip: bool = True
    ) -> Detections:
        """Outputs to boxes in the picture that was prepared. Any thread, while `prepared` is not used by another.

        Args:
            outputs: What `infer` returned.
            prepared: What it was given.
            multi_label: Every class above the threshold makes a box; evaluation wants that.
            clip: Cut boxes at the picture's edges and drop those outside it. Published accuracies are of boxes as the
                model writes them, so evaluation does not.
        """
        if prepared.geometry is None:
            raise UsageError("decode needs what prepare returned: nothing has been prepared yet")
        try:
            found = self.head.decode(
                outputs,
                self.card,
                prepared.geometry,
                confidence=self.confidence,
                iou=self.iou if self.iou is not None else 1.0,
                multi_label=multi_label,
            )
        except (ValueError, IndexError, KeyError) as error:
            raise ModelError(
                f"{self.path.name}: head {self.head.name!r} cannot read the outputs "
                f"{describe(self.session.outputs)}: {one_line(error)}"
            ) from error
        if clip:
            found = _cut(found, prepared.geometry.source_hw)
        if self._classes is None:
            return found
        return found[np.isin(found.class_id, self._classes)]

    def close(self) -> None:
        """Frees the engine's memory; may be called twice."""
        self.session.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Detector({self.path.name!r}, backend={self.backend!r}, active={self.session.active!r})"


def find_model(model: str | Path | None, backend: str = "auto") -> Path:
    """The file of a model; of the embedded default, the one that `backend` opens.

    Raises:
        ModelNotFoundError: There is none.
        UsageError: There is no such backend.
    """
    return default.path(backend) if model is None else zoo.resolve(model)


def _cut(found: Detections, source_hw: tuple[int, int]) -> Detections:
    """The boxes cut at the picture's edges, in place, without those outside it."""
    height, width = source_hw
    boxes = found.xyxy
    np.maximum(boxes, 0, out=boxes)
    np.minimum(boxes, np.array([width, height, width, height], np.float32), out=boxes)
    inside = boxes[:, 2:] > boxes[:, :2]
    return found if inside.all() else found[np.flatnonzero(inside.all(axis=1))]


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name} must be between 0 and 1, not {value}")


def _class_ids(classes: Sequence[str | int] | None, card: ModelCard) -> list[int] | None:
    if classes is None:
        return None
    if isinstance(classes, str):
        classes = [classes]
    ids = []
    for wanted in classes:
        if isinstance(wanted, str) and wanted in card.classes:  # a name first: some models' names are numbers
            ids.append(card.classes.index(wanted))
        elif isinstance(wanted, str) and not wanted.isdecimal():
            raise UsageError(f"the model has no class {wanted!r}; {_near(wanted, card.classes)}")
        else:
            index = int(wanted)
            if not 0 <= index < len(card.classes):
                raise UsageError(f"the model has no class {index}; its {len(card.classes)} classes count from 0")
            ids.append(index)
    return ids


def _near(wanted: str, names: Sequence[str]) -> str:
    """Which class may be meant, or some of those there are."""
    plain = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(wanted.casefold(), plain, n=3)
    if near:
        return f"did you mean {' or '.join(plain[name] for name in near)}?"
    return f"it has {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
