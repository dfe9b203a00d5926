"""Damages of masks: each probed once in its life, by any number of workers, with the same figures."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_sdk import __version__
from edge_sdk.backends.base import Array
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.dataset import CalibrationSet, Sample
from edge_sdk.calibration.graph import model_bytes
from edge_sdk.calibration.probe_worker import Answer, Job, Reader, packed, unpacked, work
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.score import FLOOR
from edge_sdk.calibration.switchable import Mask
from edge_sdk.calibration.workers import Workers
from edge_sdk.detections import Detections
from edge_sdk.detector import Detector
from edge_sdk.errors import (
    BackendError,
    EdgeSdkError,
    MissingDependencyError,
    UsageError,
    extra_hint,
    one_line,
)
from edge_sdk.models.preprocess import Geometry

Metric = Callable[[Sequence[Detections], Sequence[Detections]], float]
"""A probe's detections and the float model's, one each a photo, to a figure that is lower where they agree better."""

Stop = Callable[[], bool]

_AHEAD = 2  # calls under way for each worker, so that none waits for the next
_LOOK_S = 0.5  # how often `stop` is asked


@dataclass(frozen=True)
class Probe:
    """One mask and what it does to the probe photos.

    Args:
        mask: Settled.
        damage: 0 for the float model; see `Prober` for what it is of. At most 1 but for a metric of the caller's.
        noise: Mean over photos of the outputs' noise to signal.
        kind: What it was probed for.
    """

    mask: tuple[bool, ...]
    damage: float
    noise: float
    kind: str


class Prober:
    """Probes masks of one problem on a few photos.

    The damage is that of `score.damages`, the mean over photos; or the caller's metric, less its value for the float
    model's own detections. Where the float model finds too little on the photos to judge by, or nothing decodes its
    outputs, it is noise / (1 + noise), the share of the outputs' power that is noise; `notes` says so.

    A context manager; used by one thread.

    Args:
        problem: What is probed.
        feeds: The model's inputs by name, of each photo.
        detector: Of the float model, which decodes; None where nothing does.
        geometries: Of the photos; as many as feeds where there is a detector.
        cache: Keeps every probe.
        workers: Processes on this machine, or how many there are in `executor`; None is one a core. With 1 and no
            executor the work is done in this process.
        executor: Another way to run calls: a Dask client's `get_executor`, for example. Its workers need this package.
            It is not shut down.
        metric: In place of `score.damages`. It is called in this process, and what it says is not kept.
        keep_mib: Memory of each worker for what probes have in common.

    Raises:
        UsageError: No photos, or not as many geometries.
        ModelError: The model is larger than 2 GiB.
        MissingDependencyError: onnxruntime is not installed.

    Attributes:
        made: Masks that were probed, not found in the cache.
        notes: What is unusual about the figures.
    """

    def __init__(
        self,
        problem: Problem,
        feeds: Sequence[Mapping[str, Array]],
        detector: Detector | None,
        geometries: Sequence[Geometry] = (),
        *,
        cache: Cache,
        workers: int | None = None,
        executor: Executor | None = None,
        metric: Metric | None = None,
        keep_mib: int = 512,
    ) -> None:
        if not feeds or (detector is not None and len(geometries) != len(feeds)):
            raise UsageError(f"{len(feeds)} photos and {len(geometries)} geometries: at least one, and as many")
        if metric is not None and detector is None:
            raise UsageError("a metric of detections needs a detector, and nothing decodes this model's outputs")
        if workers is not None and workers < 1:
            raise UsageError(f"workers must be 1 or more, not {workers}")
        self.problem = problem
        self.made = 0
        self._cache = cache
        self._metric = metric
        self._theirs = executor
        self._own: Workers | ThreadPoolExecutor | None = None
        self._count = workers or _size(executor)
        self._known: dict[bytes, Probe] = {}
        self._notes: list[str] = []
        self._teacher: list[Detections] | None = None
        reader = None if detector is None else Reader(detector)
        self._facts = {
            "what": "probe",
            "schema": 1,
            "problem": problem.digest,
            "photos": _digest(feeds, geometries),
            "how": "outputs" if reader is None else _how(reader),
            "version": __version__,
            "runtime": _runtime(),
        }
        self.digest = Cache.key(self._facts)
        self._job = Job(
            self.digest,
            model_bytes(problem.model),
            problem.switches,
            problem.ranges,
            problem.weights,
            tuple({name: np.asarray(array) for name, array in one.items()} for one in feeds),
            reader,
            tuple(geometries) if reader is not None else (),
            keep_mib,
        )

    @classmethod
    def on(
        cls, problem: Problem, photos: CalibrationSet, samples: Iterable[Sample], detector: Detector, **options: Any
    ) -> Prober:
        """On some pictures of a set; their order has no effect on any figure.

        Args:
            problem: What is probed.
            photos: The set.
            samples: The first dozen of `photos.search`, as a rule.
            detector: Of the float model, that the set was opened with.
            **options: As for the class.
        """
        chosen = sorted(samples, key=lambda one: (one.sha256, str(one.path), one.index or 0))
        places = [detector.prepare(photos.picture(one), detector.new_prepared()).geometry for one in chosen]
        geometries = [one for one in places if one is not None]
        return cls(problem, list(photos.feeds(chosen)), detector, geometries, **options)

    @property
    def probes(self) -> tuple[Probe, ...]:
        """All that this prober has been asked for, in that order."""
        return tuple(self._known.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about the figures."""
        return tuple(self._notes)

    def probe(
        self,
        masks: Sequence[Mask],
        *,
        kind: str = "",
        base: Mask | None = None,
        progress: Callable[[int, int], None] | None = None,
        stop: Stop | None = None,
    ) -> list[Probe]:
        """Damages of masks.

        Args:
            masks: bool [n] each; settled here. One that comes twice is probed once.
            kind: What they are probed for; a mask keeps the first.
            base: A mask that they are like, but for a few groups: it makes them cheaper. None is all off.
            progress: Called with (masks done, masks in all).
            stop: Asked between probes; True ends it early.

        Returns:
            One for each mask in the order given; after a stop without those that there was no time for.

        Raises:
            UsageError: Another length or dtype of mask, or the metric failed or gave no finite number.
            BackendError: The engine failed, or a worker was lost twice.
            SinkError: The cache cannot be written.
        """
        settled = [self.problem.settle(mask) for mask in masks]
        asked = dict.fromkeys(mask.tobytes() for mask in settled)
        if self._metric is not None and self._teacher is None:
            none = np.zeros(len(self.problem.free), np.bool_)
            found = self._answers([none.tobytes()], none.tobytes(), lambda: None, None)
            if not found:
                return []
            self._teacher = found[none.tobytes()].found
        missing = sorted(key for key in asked if key not in self._known)  # neighbours have sections in common
        done = len(asked) - len(missing)

        def tell() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, len(asked))

        away = np.zeros(len(self.problem.free), np.bool_) if base is None else self.problem.settle(base)
        answers = self._answers(missing, away.tobytes(), tell, stop)
        for key in asked:  # in the order asked, whichever was first
            if key in answers:
                self._known[key] = self._probe(key, answers[key], kind)
        return [self._known[key] for key in (mask.tobytes() for mask in settled) if key in self._known]

    def close(self) -> None:
        """Ends the workers, and leaves an executor of the caller's alone; may be called twice."""
        own, self._own = self._own, None
        if isinstance(own, Workers):
            own.kill()
        elif own is not None:
            own.shutdown(cancel_futures=True)

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- one mask -----------------------------------------------------------------------------------

    def _probe(self, key: bytes, answer: Answer, kind: str) -> Probe:
        mask = tuple(np.frombuffer(key, np.bool_).tolist())
        if self._metric is not None and self._teacher is not None and answer.found is not None:
            damage = self._scored(answer.found, self._teacher) - self._scored(self._teacher, self._teacher)
        elif answer.blind:
            damage = 1.0 if math.isinf(answer.noise) else answer.noise / (1 + answer.noise)
            self._note_blind()
        else:
            damage = answer.damage
        return Probe(mask, damage, answer.noise, kind)

    def _note_blind(self) -> None:
        if not self._notes:
            why = "the float model finds next to nothing on them" if self._job.reader else "nothing decodes the outputs"
            self._notes.append(f"the probe photos are scored by the noise of the model's outputs: {why}")

    def _scored(self, found: Sequence[Detections], teacher: Sequence[Detections]) -> float:
        metric = self._metric
        name = getattr(metric, "__qualname__", type(metric).__name__)
        try:
            value = float(metric(found, teacher))  # type: ignore[misc]
        except Exception as error:
            raise UsageError(f"the metric {name} failed: {type(error).__name__}: {one_line(error)}") from error
        if not math.isfinite(value):
            raise UsageError(f"the metric {name} gave {value}, which is no finite number")
        return value

    # --- the cache ------------------------------------------------------------------------------------

    def _key(self, mask: bytes, part: str = "figures") -> str:
        packed_mask = np.packbits(np.frombuffer(mask, np.bool_)).tobytes().hex()
        return Cache.key({**self._facts, "mask": packed_mask, "groups": len(mask), "part": part})

    def _kept(self, mask: bytes) -> Answer | None:
        value = self._cache.get(self._key(mask))
        if value is None:
            return None
        found = None
        if self._metric is not None:
            data = self._cache.get_bytes(self._key(mask, "detections"))
            if data is None:
                return None
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                found = unpacked(dict(arrays))
        return Answer(float(value["damage"]), float(value["noise"]), bool(value["blind"]), found)

    def _keep(self, mask: bytes, answer: Answer) -> Answer:
        if answer.found is not None:
            file = io.BytesIO()
            np.savez_compressed(file, allow_pickle=False, **packed(answer.found))
            self._cache.put_bytes(self._key(mask, "detections"), file.getvalue())
        value = {"damage": answer.damage, "noise": answer.noise, "blind": answer.blind}
        kept = self._cache.put(self._key(mask), value)
        self.made += 1
        return Answer(float(kept["damage"]), float(kept["noise"]), bool(kept["blind"]), answer.found)

    # --- the workers ----------------------------------------------------------------------------------

    def _answers(
        self, masks: Sequence[bytes], base: bytes, tell: Callable[[], None], stop: Stop | None
    ) -> dict[bytes, Answer]:
        """Of masks, from the cache or the workers; what comes in is kept at once."""
        answers: dict[bytes, Answer] = {}
        todo: deque[bytes] = deque()
        for mask in masks:
            answer = self._kept(mask)
            if answer is None:
                todo.append(mask)
            else:
                answers[mask] = answer
                tell()
        if not todo:
            return answers
        running: dict[Future[Answer | None], bytes] = {}
        lost: Counter[bytes] = Counter()
        carried: set[bytes] = set()  # masks that take the job along
        try:
            while running or todo:
                if stop is not None and todo and stop():
                    todo.clear()
                while todo and len(running) < self._count * _AHEAD:
                    mask = todo.popleft()
                    job = self._job if mask in carried else None
                    future = self._executor().submit(work, self.digest, mask, base, self._metric is not None, job)
                    running[future] = mask
                done, _ = wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
                for future in done:
                    mask = running.pop(future)
                    answer = self._result(future, mask, lost)
                    if answer is None:
                        carried.add(mask)
                        todo.appendleft(mask)
                    else:
                        answers[mask] = self._keep(mask, answer)
                        tell()
        except BaseException:
            for future in running:
                future.cancel()
            self.close()
            raise
        return answers

    def _result(self, future: Future[Answer | None], mask: bytes, lost: Counter[bytes]) -> Answer | None:
        """An answer, or None where the mask must be asked again, with the job."""
        try:
            return future.result()
        except EdgeSdkError:
            raise
        except BrokenExecutor as error:
            lost[mask] += 1
            # Another's pool is broken for good; ours has a new process already.
            if self._theirs is not None or lost[mask] > 1:
                raise BackendError(f"a probe's worker was lost: {one_line(error)}") from error
            return None
        except Exception as error:
            raise BackendError(f"a probe failed: {type(error).__name__}: {one_line(error)}") from error

    def _executor(self) -> Executor:
        if self._theirs is not None:
            return self._theirs
        if self._own is None:
            self._own = ThreadPoolExecutor(1) if self._count == 1 else Workers(self._count)
        return self._own


def _size(executor: Executor | None) -> int:
    """How many calls run at once."""
    told = getattr(executor, "_max_workers", None)  # of the standard library's
    if isinstance(told, int):
        return told
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _digest(feeds: Sequence[Mapping[str, Array]], geometries: Sequence[Geometry]) -> str:
    digest = hashlib.sha256(repr([asdict(one) for one in geometries]).encode())
    for one in feeds:
        for name in sorted(one):
            array = np.ascontiguousarray(one[name])
            digest.update(repr((name, array.shape, array.dtype.str)).encode())
            digest.update(array.data)
    return digest.hexdigest()


def _how(reader: Reader) -> str:
    """A hash of how outputs become a damage."""
    classes = None if reader.classes is None else [int(one) for one in reader.classes]
    facts = {"card": asdict(reader.card), "head": reader.head.name, "iou": reader.iou, "classes": classes}
    return hashlib.sha256(json.dumps({**facts, "floor": FLOOR}, sort_keys=True).encode()).hexdigest()


def _runtime() -> str:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"{one_line(error)}: {extra_hint('calibrate')}") from error
    return f"onnxruntime {onnxruntime.__version__}"
