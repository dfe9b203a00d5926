"""The photos that a plan is made from: opened, looked through, chosen, and given to three sides that share nothing.

Ranges are taken from the calibration side, precisions are searched on the search side, and the acceptance side decides,
once. Near-duplicates are left out, and pictures of one scene or clip are on one side.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array
from edge_sdk.calibration import photos as pictures
from edge_sdk.calibration.diversity import Pick, choose, descriptions, features, reason
from edge_sdk.calibration.domain import Chosen, SetReport, describe, warnings_of
from edge_sdk.calibration.inputs import Inputs
from edge_sdk.calibration.photos import Found, Progress
from edge_sdk.calibration.split import SIDES, Side, Sizes, random_part, sizes, split, split_stretches
from edge_sdk.calibration.survey import Survey, look_through_source
from edge_sdk.calibration.teacher import Teacher
from edge_sdk.datasets import Dataset, LabelledPhoto
from edge_sdk.detector import Detector
from edge_sdk.errors import SinkError, UsageError, one_line
from edge_sdk.sources.files import read_photo


@dataclass(frozen=True)
class Sample:
    """A picture of the set.

    Args:
        path: The photo, or the clip that it is a frame of.
        index: Number of the frame, from 0; None for a photo.
        sha256: Of a photo's file; of a frame's shape and pixels.
        group: Number of its scene or clip, all of which is on one side.
    """

    path: Path
    index: int | None
    sha256: str
    group: int


class CalibrationSet:
    """Pictures for calibration, search and acceptance; `open` makes one.

    A context manager: frames of a clip lie in a temporary folder where no other is named, which goes on closing. Used
    by one thread at a time.

    Attributes:
        calibration: What ranges are taken from; the first few are a varied choice of so few too.
        search: What probes and candidates are scored on while searching; ordered likewise, so that ``search[:16]`` is
            a good subset to probe with.
        acceptance: What decides, drawn by chance.
        report: What became of the source's pictures.
        digest: Hash of the pictures on each side, of the labels and of how the model is fed: the same set again gives
            the same plan.
    """

    @classmethod
    def open(
        cls,
        source: str | Path | Sequence[str | Path],
        detector: Detector,
        *,
        count: int = 64,
        seed: int = 0,
        folder: Path | None = None,
        memory_mib: float = 256,
        progress: Progress | None = None,
    ) -> CalibrationSet:
        """Looks through a source, chooses, and runs the float model once on what was chosen.

        Args:
            source: A folder of photos or clips, a photo, a glob, a video, labelled data (COCO, YOLO, VOC), or several.
            detector: The float model; it stays open for as long as the set is used.
            count: Pictures for calibration; search and acceptance get of the others, see `split.sizes`.
            seed: Of what is drawn by chance.
            folder: Keeps frames and the float model's detections for the next run.
            memory_mib: For prepared inputs that are kept.
            progress: Called with (what is being done, how much of it is done, of how many).

        Raises:
            UsageError: `count` is below 1, or the source is a stream.
            SourceError: There is no such file or folder, or no photo in it.
            DatasetError: The labels are broken, or fewer than 3 pictures that differ can be read.
            SinkError: `folder` cannot be written.
        """
        if count < 1:
            raise UsageError(f"count must be 1 or more, not {count}")
        tell = progress or (lambda what, done, total: None)
        found = pictures.find(source)
        survey = look_through_source(found, detector.card, tell)
        name = _source_name(source)
        pictures.need_some(len(survey.kept), survey.left_out, name, len(SIDES))
        sides, reasons, cut = _choose(survey, count, seed)
        own = None
        if folder is None and found.clips:
            own = _temporary_folder()
        chosen = cls(detector, found, sides, folder or (Path(own.name) if own else None), memory_mib)
        try:
            chosen._own = own
            chosen._store_frames(tell)
            chosen._teacher = Teacher(detector, None if folder is None else folder / "teacher")
            chosen.teacher(progress=partial(tell, "run the float model"))
            chosen._usable_labels(found.labels)
            chosen.digest = chosen._digest()
            chosen.report = chosen._report(name, survey, reasons, cut=cut)
        except BaseException:
            chosen.close()
            raise
        return chosen

    def __init__(
        self,
        detector: Detector,
        found: Found,
        sides: Mapping[Side, tuple[Sample, ...]],
        folder: Path | None,
        memory_mib: float,
    ) -> None:
        self.calibration = sides["calibration"]
        self.search = sides["search"]
        self.acceptance = sides["acceptance"]
        self.report: SetReport
        self.digest: str
        self._detector = detector
        self._found = found
        self._frames = None if folder is None else folder / "frames"
        self._own: tempfile.TemporaryDirectory[str] | None = None
        self._inputs: Inputs[Sample] = Inputs(detector, self.file, memory_mib)
        self._teacher: Teacher
        self._labels: Mapping[Path, LabelledPhoto] | None = None
        self._label_warning: str | None = None

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All three sides."""
        return (*self.calibration, *self.search, *self.acceptance)

    def file(self, sample: Sample) -> Path:
        """A photo file that holds the picture: itself, or a stored frame."""
        if sample.index is None or self._frames is None:
            return sample.path
        return pictures.frame_file(self._frames, sample.sha256)

    def picture(self, sample: Sample) -> NDArray[np.uint8]:
        """The picture, uint8 [h, w, 3] BGR, as the detector takes it.

        Raises:
            BadFrameError: It can no longer be read.
        """
        return read_photo(self.file(sample))

    def feeds(self, samples: Iterable[Sample]) -> Iterator[dict[str, Array]]:
        """The model's inputs by name for each picture, in turn, made by `Detector.prepare`; the arrays are read only.

        Raises:
            BadFrameError: A picture can no longer be read.
        """
        return self._inputs.each(samples)

    def teacher(
        self, samples: Iterable[Sample] | None = None, *, progress: Callable[[int, int], None] | None = None
    ) -> Teacher:
        """The float model's own detections, of these pictures at least; all of the set's are known after `open`."""
        wanted = self.samples if samples is None else tuple(samples)
        self._teacher.learn([(one.sha256, partial(self.picture, one)) for one in wanted], progress=progress)
        return self._teacher

    def labels(self, samples: Iterable[Sample]) -> Dataset | None:
        """These pictures' own labels, or None where there are none that the model's classes can be held against.

        Raises:
            UsageError: A sample is not of this set.
        """
        if self._labels is None or self._found.labels is None:
            return None
        labels, wanted = self._labels, tuple(samples)
        if strange := [one for one in wanted if one.path not in labels]:
            raise UsageError(f"{strange[0].path}: not a photo of this set")
        layout, classes = self._found.labels.layout, self._found.labels.classes
        return Dataset(layout, classes, tuple(labels[one.path] for one in wanted))

    def truth(self, samples: Iterable[Sample]) -> Dataset:
        """What accuracy is measured against: the labels, or the float model's own detections where there are none."""
        wanted = tuple(samples)
        labels = self.labels(wanted)
        if labels is not None:
            return labels
        return self.teacher(wanted).dataset([(self.file(one), one.sha256) for one in wanted])

    def digest_of(self, samples: Iterable[Sample]) -> str:
        """Hash of some pictures, in whatever order, and of how the model is fed: what a cached figure is of."""
        return _hash({"card": _feeding(self._detector), "pictures": sorted(one.sha256 for one in samples)})

    def close(self) -> None:
        """Frees the memory and removes a temporary folder; may be called twice."""
        self._inputs.clear()
        if self._own is not None:
            self._own.cleanup()

    def __enter__(self) -> CalibrationSet:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- what `open` does in turn ---

    def _store_frames(self, tell: Progress) -> None:
        wanted: dict[Path, dict[int, str]] = {}
        for one in self.samples:
            if one.index is not None:
                wanted.setdefault(one.path, {})[one.index] = one.sha256
        if not wanted or self._frames is None:
            return
        try:
            self._frames.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{self._frames}: cannot be made: {error.strerror or one_line(error)}") from error
        for number, (clip, frames) in enumerate(wanted.items(), 1):
            pictures.store_frames(clip, frames, self._frames)
            tell("store frames", number, len(wanted))

    def _usable_labels(self, labels: Dataset | None) -> None:
        """Keeps the labels that the model can be held against, or says why there are none."""
        if labels is None:
            return
        names = {name.strip().lower() for name in self._detector.class_names}
        shared = {number for number, name in enumerate(labels.classes) if name.strip().lower() in names}
        by_path = {photo.path: photo for photo in labels.photos}
        mine = {one.path: by_path[one.path] for one in self.samples}
        judged = [by_path[one.path] for one in (*self.search, *self.acceptance)]
        if not shared:
            self._label_warning = (
                f"the labels' classes ({', '.join(labels.classes[:5])}) and the model's "
                f"({', '.join(self._detector.class_names[:5])}) have no name in common: the float model's own "
                "detections stand in for the labels"
            )
        elif not any(shared.intersection(photo.class_id.tolist()) for photo in judged):
            self._label_warning = (
                "no photo for search and acceptance has a labelled object that the model knows: the float model's own "
                "detections stand in for the labels"
            )
        else:
            self._labels = mine

    def _digest(self) -> str:
        facts: dict[str, Any] = {"schema": 1, "card": _feeding(self._detector), "labels": None}
        for side in SIDES:
            facts[side] = sorted(one.sha256 for one in getattr(self, side))
        if self._labels is not None and self._found.labels is not None:
            boxes = sorted((one.sha256, _boxes_hash(self._labels[one.path])) for one in self.samples)
            facts["labels"] = [list(self._found.labels.classes), boxes]
        return _hash(facts)

    def _report(self, name: str, survey: Survey, reasons: Mapping[tuple[Path, int | None], str], *, cut: bool
    ) -> SetReport:  # fmt: skip
        looks = {(look.path, look.index): look for look in survey.looks}
        domain = describe(
            [looks[one.path, one.index] for one in self.samples],
            [self._teacher.detections(one.sha256) for one in self.samples],
            self._detector.class_names,
            self.labels(self.samples),
        )
        warnings = warnings_of(
            domain,
            self._detector.card,
            calibration=len(self.calibration),
            acceptance=len(self.acceptance),
            usable=len(survey.kept),
            groups=len(set(survey.groups)),
            largest=max(Counter(survey.groups).values()),
            broken=sum(one.count for one in survey.left_out if one.cause == "broken"),
            cut=cut,
        )
        if self._label_warning is not None:
            warnings.append(self._label_warning)
        chosen = [
            Chosen(self._found.shown(one.path), one.index, side, one.group, reasons[one.path, one.index])
            for side in SIDES
            for one in getattr(self, side)
        ]
        bad_photos = sum(one.count for one in survey.left_out if one.cause in ("broken", "absurd", "duplicate"))
        return SetReport(
            source=name,
            layout=self._found.layout,
            found=len(self._found.photos) + survey.frames,
            looked_at=len(survey.looks) + bad_photos,
            usable=len(survey.kept),
            groups=len(set(survey.groups)),
            labels="teacher" if self._labels is None else "labels",
            chosen=tuple(chosen),
            left_out=tuple(survey.left_out),
            domain=domain,
            warnings=tuple(warnings),
            digest=self.digest,
        )


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="edge-sdk-frames-")
    except OSError as error:
        raise SinkError(f"{tempfile.gettempdir()}: no folder for frames can be made: {one_line(error)}") from error


def _source_name(source: str | Path | Sequence[str | Path]) -> str:
    if isinstance(source, (str, Path)):
        return str(source)
    return str(source[0]) + (f" and {len(source) - 1} more" if len(source) > 1 else "")


def _hash(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _feeding(detector: Detector) -> dict[str, Any]:
    """All that decides which numbers a picture becomes."""
    card = {key: value for key, value in asdict(detector.card).items() if key not in ("classes", "licence")}
    inputs = [[one.name, list(one.shape), str(one.dtype), one.quantization] for one in detector.session.inputs]
    return {"card": card, "inputs": inputs}


def _boxes_hash(photo: LabelledPhoto) -> str:
    digest = hashlib.sha256()
    for array in (photo.boxes_xyxy, photo.class_id, photo.crowd, photo.area):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


# --- choosing ------------------------------------------------------------------------------------


def _choose(
    survey: Survey, count: int, seed: int
) -> tuple[dict[Side, tuple[Sample, ...]], dict[tuple[Path, int | None], str], bool]:
    """The three sides, a reason for each picture, and whether a scene or clip had to be cut in stretches."""
    looks = [survey.looks[one] for one in survey.kept]
    wanted = sizes(len(looks), count)
    grouped, cut = survey.groups, len(set(survey.groups)) < len(SIDES)
    if cut:
        grouped, pools = split_stretches(grouped, count, seed)
    else:
        pools = split(grouped, wanted, seed)
    points, words = features(looks), descriptions(looks)
    reasons: dict[tuple[Path, int | None], str] = {}

    def sample(one: int, why: str) -> Sample:
        look = looks[one]
        reasons[look.path, look.index] = why
        return Sample(look.path, look.index, look.sha256, grouped[one])

    sides: dict[Side, tuple[Sample, ...]] = {}
    for side in ("calibration", "search"):
        pool, size = pools[side], _size_of(wanted, side)
        picks = choose(points[pool], size)
        sides[side] = tuple(
            sample(pool[one.number], _reason(one, words[pool[one.number]], pool, size)) for one in picks
        )
    drawn = random_part(pools["acceptance"], wanted.acceptance, seed)
    sides["acceptance"] = tuple(sample(one, f"drawn by chance to decide: {words[one]}") for one in drawn)
    return sides, reasons, cut


def _size_of(wanted: Sizes, side: Side) -> int:
    size: int = getattr(wanted, side)
    return size


def _reason(pick: Pick, description: str, pool: Sequence[int], size: int) -> str:
    if len(pool) <= size:
        return f"one of all {len(pool)} that this side has: {description}"
    return reason(pick, description)
