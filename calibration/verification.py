"""Candidates as real files: built, run on photos against the float model, read back from the engine, and timed.

Accuracy first, of several files at a time where there are workers; latency last and alone, since work beside it would
be measured too. Everything is kept in the cache by what it was made from, latency too: a second run costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.backends.base import Array
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.dataset import CalibrationSet, Sample
from edge_sdk.calibration.engines.onnxruntime import this_cpu
from edge_sdk.calibration.export import runs_here
from edge_sdk.calibration.graph import model_bytes
from edge_sdk.calibration.outcome import Candidate, Drop, Kind, Timed
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.score import FLOOR, damages
from edge_sdk.calibration.switchable import Mask
from edge_sdk.calibration.teacher import teacher_key
from edge_sdk.calibration.timing import CachedTimer, Timer
from edge_sdk.datasets import Dataset
from edge_sdk.detections import Detections
from edge_sdk.detector import Detector, Prepared
from edge_sdk.errors import BackendError, ModelError, PlanError, UsageError, one_line
from edge_sdk.files import replacing
from edge_sdk.measure.accuracy import Matched, match
from edge_sdk.measure.paired import RESAMPLES, paired, paired_values
from edge_sdk.models.card import ModelCard

REFERENCE = "optimized float"  # what latencies are compared with
Metric = Callable[[Detector, Dataset], "float | Sequence[float]"]
"""Accuracy of the user's own, higher being better. Given an open detector and the labelled photos, it returns a value
for each photo (of which the mean counts, with an interval), or one number for all (which has no interval)."""


@dataclass(frozen=True, eq=False)
class Build:
    """A candidate that is to be built.

    Args:
        name: Unique.
        kind: Where it comes from.
        mask: Settled; None for the file as it was given.
        predicted_ratio, predicted_drop: As in `Candidate`.
    """

    name: str
    kind: Kind
    mask: Mask | None
    predicted_ratio: float | None = None
    predicted_drop: float | None = None


@dataclass(frozen=True)
class Verified:
    """What became of the builds.

    Args:
        candidates: In the order of the builds; one that makes the same file as an earlier one is left out.
        files: By candidate's name.
        failed: Why a build could not be opened or run, by its name.
        notes: What a reader of the figures must know.
        run_here: By candidate's name, the file that accuracy was measured with: the same but for another processor.
    """

    candidates: tuple[Candidate, ...]
    files: Mapping[str, Path]
    failed: Mapping[str, str]
    notes: tuple[str, ...]
    run_here: Mapping[str, Path]


class Verification:
    """Builds and measures candidates of one problem on one set of photos.

    Args:
        problem: What masks are of.
        detector: Of the float model as it was given; it stays open.
        photos: With the labels, or the float model's detections.
        cache: Of all that is found.
        folder: Where files go, by their hash.
        metric: Instead of mAP.
        seed: Of the resamples.
        executor: Of processes, for accuracy of several files at a time; not used with a `metric`.
        repairs: What was mended in the prepared model's weights.
    """

    def __init__(
        self,
        problem: Problem,
        detector: Detector,
        photos: CalibrationSet,
        *,
        cache: Cache,
        folder: Path,
        metric: Metric | None = None,
        seed: int = 0,
        executor: Executor | None = None,
        repairs: tuple[str, ...] = (),
    ) -> None:
        self._problem, self._detector, self._photos, self._cache = problem, detector, photos, cache
        # Another processor's kernels are not on this one, which would compute its files in float.
        self._here = problem if runs_here(problem.cpu) else replace(problem, cpu=this_cpu())
        self._folder, self._metric, self._seed, self._executor = folder, metric, seed, executor
        self._repairs = repairs
        self._reading = _Reading(detector.card, detector.iou, detector.classes)
        self._teacher = teacher_key(detector)
        self._references: dict[str, _Seen] = {}

    def __call__(
        self,
        builds: Sequence[Build],
        samples: Sequence[Sample],
        *,
        timer: Timer | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Verified:
        """Builds and measures; a candidate that cannot be opened or run is reported, and the others go on.

        Args:
            builds: With "optimized float" among them where there is a `timer`.
            samples: What accuracy is measured on: search photos while searching, acceptance photos at the end.
            timer: Times all of them in turns; None leaves latency out.
            progress: Called with (steps done, of how many).

        Raises:
            UsageError: The metric failed, two builds have one name, or there is no reference to time.
            BackendError: The timer's machine cannot run a file that this one can.
            SinkError: `folder` or the cache cannot be written.
        """
        if len({one.name for one in builds}) != len(builds):
            raise UsageError("two candidates have one name")
        total = 2 * len(builds) + (timer is not None)
        tell = progress or (lambda done, of: None)
        files: dict[str, Path] = {}
        run_here: dict[str, Path] = {}
        failed: dict[str, str] = {}
        misplaced: dict[str, tuple[str, ...]] = {}
        for number, one in enumerate(builds, 1):
            try:
                path = self._file(one, self._problem)
                if path in files.values():
                    continue
                run_here[one.name] = self._file(one, self._here)
                misplaced[one.name] = self._misplaced(one, path)
                files[one.name] = path
            except (BackendError, ModelError, PlanError) as error:
                failed[one.name] = one_line(error)
            tell(number, total)
        truth = self._photos.truth(samples)
        drops = self._accuracies(run_here, samples, truth, failed, lambda done: tell(len(builds) + done, total))
        running = {name: path for name, path in files.items() if name not in failed}
        times = {} if timer is None else self._times(timer, running)
        tell(total, total)
        candidates = tuple(
            self._candidate(one, files[one.name], misplaced[one.name], drops[one.name], times.get(one.name))
            for one in builds
            if one.name in drops and one.name not in failed
        )
        notes = []
        if not runs_here(self._problem.cpu):
            notes.append(
                f"files for {self._problem.cpu} were not run on this machine, whose processor is another: accuracy is "
                "that of the same plans in this processor's form, and whether each layer runs as planned is not known"
            )
        if self._metric is not None and any(one.low == one.high for one in drops.values() if one.drop):
            notes.append("the metric gives one number for all photos: its drop has no interval")
        return Verified(
            candidates, {one.name: files[one.name] for one in candidates}, failed, tuple(notes),
            {one.name: run_here[one.name] for one in candidates},
        )  # fmt: skip

    # --- files ------------------------------------------------------------------------------------

    def _file(self, build: Build, problem: Problem) -> Path:
        if build.mask is None:
            return self._detector.path
        mask = build.mask
        key = Cache.key({"what": "lowered 1", "problem": problem.digest, "mask": [bool(on) for on in mask]})
        content = self._cache.get_bytes_or(key, lambda: model_bytes(problem.lower(mask)))
        path = self._folder / f"{hashlib.sha256(content).hexdigest()[:32]}.onnx"
        self._folder.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != content:
            with replacing(path) as temporary:
                temporary.write_bytes(content)
        return path

    def _misplaced(self, build: Build, path: Path) -> tuple[str, ...]:
        if build.mask is None or not runs_here(self._problem.cpu):
            return ()
        mask = build.mask
        facts = {"what": "read back 1", "problem": self._problem.digest, "mask": [bool(on) for on in mask]}

        def read() -> list[str]:
            layers = self._problem.engine.read_back(path, self._problem.model)
            return list(self._problem.plan(mask).differences(layers))

        return tuple(self._cache.get_or(Cache.key({**facts, "engine": _engine()}), read))

    def _candidate(
        self, build: Build, path: Path, misplaced: tuple[str, ...], drop: Drop, timed: Timed | None
    ) -> Candidate:
        low, every = (0, 0) if build.mask is None else self._problem.macs(build.mask)
        return Candidate(
            build.name, build.kind, None if build.mask is None else tuple(bool(on) for on in build.mask),
            _sha256(path), path.stat().st_size, low / every if every else 0.0, build.predicted_ratio,
            build.predicted_drop, timed, drop, misplaced, repairs=() if build.mask is None else self._repairs,
        )  # fmt: skip

    # --- accuracy ---------------------------------------------------------------------------------

    def _accuracies(
        self,
        files: Mapping[str, Path],
        samples: Sequence[Sample],
        truth: Dataset,
        failed: dict[str, str],
        tell: Callable[[int], None],
    ) -> dict[str, Drop]:
        digest = _digest(truth, [one.sha256 for one in samples])
        facts = {
            "what": "accuracy 1", "teacher": self._teacher, "photos": digest, "seed": self._seed,
            "resamples": RESAMPLES, "engine": _engine(), "metric": _metric_key(self._metric),
        }  # fmt: skip
        keys = {name: Cache.key({**facts, "file": _sha256(path)}) for name, path in files.items()}
        # A function's name does not say what it does: its figures are not kept.
        known = {} if self._metric is not None else {name: self._cache.get(key) for name, key in keys.items()}
        drops = {name: Drop(**value) for name, value in known.items() if value is not None}
        wanted = [name for name in files if name not in drops]
        tell(len(drops))
        if not wanted:
            return drops
        if self._metric is not None:
            return self._by_metric(self._metric, {name: files[name] for name in wanted}, truth, failed, tell)
        if digest not in self._references:
            self._references[digest] = _run(self._detector.path, self._reading, truth)
        reference = self._references[digest]
        tasks = [(files[name], self._reading, truth) for name in wanted]
        run: Callable[..., Iterable[_Seen | str]] = map if self._executor is None else self._executor.map
        results = run(_attempt, tasks)
        for name, seen in zip(wanted, results, strict=True):
            if isinstance(seen, str):
                failed[name] = seen
            else:
                lost = paired(reference.matched, seen.matched, seed=self._seed)
                damage = float(damages(reference.found, seen.found).mean())
                found = Drop(lost.value, lost.drop, lost.low, lost.high, damage, lost.photos)
                drops[name] = Drop(**self._cache.put(keys[name], asdict(found)))
            tell(len(drops) + len(failed))
        return drops

    def _by_metric(
        self,
        metric: Metric,
        files: Mapping[str, Path],
        truth: Dataset,
        failed: dict[str, str],
        tell: Callable[[int], None],
    ) -> dict[str, Drop]:
        reference = _scored(metric, self._detector, truth, "the float model")
        drops: dict[str, Drop] = {}
        for name, path in files.items():
            try:
                with self._reading.open(path) as detector:
                    values = _scored(metric, detector, truth, f"{name!r}")
            except (BackendError, ModelError) as error:
                failed[name] = one_line(error)
                continue
            if len(values) != len(reference):
                raise UsageError(f"the metric gave {len(reference)} values for the float model, {len(values)} now")
            if len(values) == 1 and len(truth.photos) > 1:
                drop = reference[0] - values[0]
                drops[name] = Drop(values[0], drop, drop, drop, 0.0, len(truth.photos))
            else:
                lost = paired_values(reference, values, seed=self._seed)
                drops[name] = Drop(lost.value, lost.drop, lost.low, lost.high, 0.0, lost.photos)
            tell(len(drops) + len(failed))
        return drops

    # --- latency ----------------------------------------------------------------------------------

    def _times(self, timer: Timer, files: Mapping[str, Path]) -> Mapping[str, Timed]:
        if REFERENCE not in files:
            raise UsageError(f"there must be a candidate {REFERENCE!r} that runs: latency is compared with it")
        kept = timer if isinstance(timer, CachedTimer) else CachedTimer(timer, self._cache)
        return kept.time(files, reference=REFERENCE)


def try_metric(metric: Metric, detector: Detector, truth: Dataset) -> None:
    """Calls the user's metric once with the float model, so that one that cannot work is known before the long stages.

    Args:
        metric: The user's.
        detector: Of the float model.
        truth: A few labelled photos.

    Raises:
        UsageError: It raised, or gave what is no number for each photo or for all; the message names it.
    """
    _scored(metric, detector, truth, "the float model")


# --- one file on the photos: plain functions, as processes run them -----------------------------------


@dataclass(frozen=True)
class _Reading:
    """How every file is read: as the float model is."""

    card: ModelCard
    iou: float | None
    classes: Sequence[int] | None

    def open(self, path: Path) -> _Watched:
        return _Watched(
            path, card=self.card, iou=self.iou, classes=self.classes, backend="onnxruntime", threads=1
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Seen:
    """What one file makes of the photos: its matches with the labels, and its detections as they are judged."""

    matched: Matched
    found: tuple[Detections, ...]


class _Watched(Detector):
    """A detector whose detections above the floor of `score` are kept beside those that are asked for."""

    def decode(
        self, outputs: Mapping[str, Array], prepared: Prepared, *, multi_label: bool = False, clip: bool = True
    ) -> Detections:
        usual, self.confidence = self.confidence, FLOOR
        try:
            found = super().decode(outputs, prepared)
        finally:
            self.confidence = usual
        self.__dict__.setdefault("seen", []).append(
            Detections(found.xyxy.copy(), found.confidence.copy(), found.class_id.copy())
        )
        return super().decode(outputs, prepared, multi_label=multi_label, clip=clip)


def _run(path: Path, reading: _Reading, truth: Dataset) -> _Seen:
    with reading.open(path) as detector:
        matched = match(detector, truth)
        return _Seen(matched, tuple(detector.__dict__["seen"]))


def _attempt(task: tuple[Path, _Reading, Dataset]) -> _Seen | str:
    try:
        return _run(*task)
    except (BackendError, ModelError) as error:
        return one_line(error)


def _scored(metric: Metric, detector: Detector, truth: Dataset, whose: str) -> list[float]:
    name = getattr(metric, "__name__", type(metric).__name__)
    try:
        values = np.asarray(metric(detector, truth), np.float64).reshape(-1)
    except Exception as error:
        raise UsageError(f"the metric {name} failed on {whose}: {type(error).__name__}: {one_line(error)}") from error
    if len(values) not in (1, len(truth.photos)):
        raise UsageError(f"the metric {name} gave {len(values)} values for {len(truth.photos)} photos")
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values))[0])
        where = f" for {truth.photos[place].path.name}" if len(values) > 1 else ""
        raise UsageError(f"the metric {name} gave {values[place]}{where} on {whose}")
    return [float(one) for one in values]


# --- keys ---------------------------------------------------------------------------------------------


def _metric_key(metric: Metric | None) -> str:
    return "mAP50-95" if metric is None else "own"


def _engine() -> str:
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(truth: Dataset, pictures: Sequence[str]) -> str:
    """Of pictures and labels, in their order: a resample draws by position."""
    digest = hashlib.sha256(repr((truth.classes, list(pictures))).encode())
    for photo in truth.photos:
        facts: Any
        for facts in (photo.boxes_xyxy, photo.class_id, photo.crowd, photo.area):
            digest.update(np.ascontiguousarray(facts).tobytes())
    return digest.hexdigest()
