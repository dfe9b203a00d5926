"""One thread that runs the engine, so that the next picture is prepared and the last one decoded meanwhile."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edge_sdk.backends.base import Array
from edge_sdk.detector import Detector, Prepared
from edge_sdk.result import Frame

_WEIGHT = 0.1  # of the latest run in the typical time


@dataclass
class Job:
    """A frame on its way through the detector. Times are `time.monotonic_ns`."""

    frame: Frame
    prepared: Prepared
    began_ns: int
    ready_ns: int
    infer_ns: int = 0
    inferred_ns: int = 0
    outputs: Mapping[str, Array] = field(default_factory=dict)
    error: Exception | None = None


class Engine:
    """Infers one job after the other.

    One job may wait while another is run, so that the engine never waits for Python.

    Args:
        detector: Its lock is held during each run, so that several may share it.
        wake: Called, from the engine's thread, when a job is done.
    """

    def __init__(self, detector: Detector, wake: Callable[[], None]) -> None:
        self._detector = detector
        self._wake = wake
        self._changed = threading.Condition()
        self._next: Job | None = None
        self._running: Job | None = None
        self._done: deque[Job] = deque()
        self._stop = False
        self.typical_s = 0.0  # of one run
        self._thread = threading.Thread(target=self._run, name="edge-sdk-engine", daemon=True)

    def start(self) -> None:
        """Begins; `close` ends it."""
        self._thread.start()

    def offer(self, job: Job) -> Job | None:
        """Has this job run, now or next; returns the one that waited in its place."""
        with self._changed:
            if self._running is None:
                self._running = job
                self._changed.notify_all()
                return None
            replaced, self._next = self._next, job
            return replaced

    @property
    def waiting(self) -> bool:
        """Whether a job waits while another is run."""
        return self._next is not None

    @property
    def busy(self) -> bool:
        """Whether a job is run."""
        return self._running is not None

    @property
    def done(self) -> bool:
        """Whether there is something to `collect`."""
        return bool(self._done)

    def left_s(self, part: float) -> float:
        """Seconds until this part of the present run's typical time is over; 0 where it is, or nothing is run."""
        running = self._running
        if running is None:
            return 0.0
        if not running.infer_ns:  # about to begin
            return part * self.typical_s
        return max(0.0, part * self.typical_s - (time.monotonic_ns() - running.infer_ns) / 1e9)

    def wait(self, timeout_s: float) -> None:
        """Waits until there is something to collect, or nothing is run, or the time is up."""
        if timeout_s > 0:
            with self._changed:
                self._changed.wait_for(lambda: self._done or not self.busy, timeout_s)

    def collect(self) -> Job | None:
        """The oldest job that is done, waited for; None where there is none and nothing runs."""
        with self._changed:
            self._changed.wait_for(lambda: self._done or not self.busy)
            return self._done.popleft() if self._done else None

    def close(self) -> list[Job]:
        """Ends after the present run; returns the jobs that nobody collected, oldest first."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        left = [*self._done, *(job for job in (self._running, self._next) if job is not None)]
        self._done.clear()
        self._running = self._next = None
        return left

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._running is None and not self._stop:
                    self._changed.wait()
                if self._stop or self._running is None:
                    return
                job = self._running
            self._infer(job)
            with self._changed:
                self._done.append(job)
                self._running, self._next = self._next, None
                self._changed.notify_all()
            self._wake()

    def _infer(self, job: Job) -> None:
        try:
            with self._detector.lock:
                job.infer_ns = time.monotonic_ns()
                job.outputs = self._detector.infer(job.prepared)
        except Exception as error:  # noqa: BLE001  whoever collects the job looks at it
            job.error = error
        job.inferred_ns = time.monotonic_ns()
        took_s = (job.inferred_ns - job.infer_ns) / 1e9
        self.typical_s += (took_s - self.typical_s) * (_WEIGHT if self.typical_s else 1.0)
