"""What was found in one picture: arrays of equal length, checked once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import MissingDependencyError, UsageError, extra_hint

if TYPE_CHECKING:
    import supervision

# The id of a box that belongs to no track yet, where boxes are tracked.
NO_TRACK = -1


@dataclass(frozen=True)
class Detection:
    """One box: corners in source pixels, score 0..1, class id, and what else is known of it."""

    xyxy: tuple[float, float, float, float]
    confidence: float
    class_id: int
    track_id: int | None = None
    landmarks: tuple[tuple[float, float], ...] | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """n boxes in source pixels; behaves as a sequence of `Detection`.

    Args:
        xyxy: float32 [n, 4], left, top, right, bottom in pixels of the source picture.
        confidence: float32 [n], 0..1.
        class_id: int32 [n].
        track_id: int64 [n], -1 where no track is confirmed yet; None where nothing tracks.
        landmarks: float32 [n, k, 2] in source pixels, or None where the model has none.

    Raises:
        UsageError: A shape or dtype differs from the above.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int32]
    track_id: NDArray[np.int64] | None = None
    landmarks: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            array = getattr(self, field.name)
            optional = array is None and field.default is None
            if not isinstance(array, np.ndarray) and not optional:
                raise UsageError(f"Detections.{field.name} must be a NumPy array, not {type(array).__name__}")
        n = self.confidence.shape[0] if self.confidence.ndim else 0
        wanted: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "xyxy": ((n, 4), np.float32),
            "confidence": ((n,), np.float32),
            "class_id": ((n,), np.int32),
            "track_id": ((n,), np.int64),
        }
        for name, (shape, dtype) in wanted.items():
            array = getattr(self, name)
            if array is not None and (array.shape != shape or array.dtype != dtype):
                raise UsageError(
                    f"Detections.{name} must be {np.dtype(dtype)} {list(shape)}, not {array.dtype} {list(array.shape)}"
                )
        marks = self.landmarks
        if marks is not None and (
            marks.ndim != 3 or marks.shape[0] != n or marks.shape[2] != 2 or marks.dtype != np.float32
        ):
            raise UsageError(f"Detections.landmarks must be float32 [{n}, k, 2], not {marks.dtype} {list(marks.shape)}")

    @classmethod
    def empty(cls) -> Detections:
        """No boxes."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))

    def __len__(self) -> int:
        return len(self.confidence)

    def __iter__(self) -> Iterator[Detection]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice | NDArray[Any] | list[int]) -> Detections: ...

    def __getitem__(self, index: int | slice | NDArray[Any] | list[int]) -> Detection | Detections:
        """One `Detection` for an int; `Detections` for a slice, a boolean mask or a list of indices."""
        if not isinstance(index, (int, np.integer)):
            return self._each(lambda array: array[index])
        left, top, right, bottom = (float(value) for value in self.xyxy[index])
        return Detection(
            xyxy=(left, top, right, bottom),
            confidence=float(self.confidence[index]),
            class_id=int(self.class_id[index]),
            track_id=self._track(index),
            landmarks=None if self.landmarks is None else tuple((float(x), float(y)) for x, y in self.landmarks[index]),
        )

    def _track(self, index: int) -> int | None:
        if self.track_id is None or self.track_id[index] == NO_TRACK:
            return None
        return int(self.track_id[index])

    def __repr__(self) -> str:
        if len(self) == 0:
            return "Detections(none)"
        ids, counts = np.unique(self.class_id, return_counts=True)
        classes = ", ".join(f"class {i} x{c}" for i, c in zip(ids, counts, strict=True))
        return f"Detections({len(self)}: {classes}; best {self.confidence.max():.2f})"

    def _each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Detections:
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: None if array is None else change(array) for name, array in arrays.items()}
        return Detections(**changed)

    def copy(self) -> Detections:
        """The same detections in arrays of their own."""
        return self._each(np.copy)

    def to_supervision(self, class_names: Sequence[str] | None = None) -> supervision.Detections:
        """The same boxes for supervision's annotators and zones; landmarks go into ``data``.

        Args:
            class_names: Names by class id, such as `Detector.class_names`: they become ``data["class_name"]``, which
                supervision's label annotator writes.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        sv = _supervision()
        data: dict[str, Any] = {} if self.landmarks is None else {"landmarks": self.landmarks.copy()}
        if class_names is not None:
            from edge_sdk.models.labels import name_of

            data["class_name"] = np.array([name_of(class_names, i) or str(i) for i in self.class_id.tolist()], str)
        converted: supervision.Detections = sv.Detections(
            xyxy=self.xyxy.copy(),
            confidence=self.confidence.copy(),
            class_id=self.class_id.astype(int),
            tracker_id=None if self.track_id is None else self.track_id.astype(int),
            data=data,
        )
        return converted

    @classmethod
    def from_supervision(cls, detections: supervision.Detections) -> Detections:
        """The way back. Masks are dropped; a missing confidence becomes 1, a missing class id 0."""
        n = len(detections)
        marks = detections.data.get("landmarks")
        return cls(
            xyxy=np.asarray(detections.xyxy, np.float32).reshape(n, 4),
            confidence=np.ones(n, np.float32)
            if detections.confidence is None
            else np.asarray(detections.confidence, np.float32),
            class_id=np.zeros(n, np.int32)
            if detections.class_id is None
            else np.asarray(detections.class_id, np.int32),
            track_id=None if detections.tracker_id is None else np.asarray(detections.tracker_id, np.int64),
            landmarks=None if marks is None else np.asarray(marks, np.float32),
        )


def _supervision() -> Any:
    try:
        import supervision
    except ImportError as error:
        raise MissingDependencyError(f"supervision is not installed: {extra_hint('supervision')}") from error
    return supervision
