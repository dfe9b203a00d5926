"""From frames to results: prepare, infer and decode, in turn or overlapped."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping

from edge_sdk.detections import Detections
from edge_sdk.detector import Detector, Prepared
from edge_sdk.errors import UsageError
from edge_sdk.pipeline.books import Books
from edge_sdk.pipeline.engine import Engine, Job
from edge_sdk.pipeline.failures import Failures
from edge_sdk.pipeline.supervisor import Supervisor
from edge_sdk.result import Frame, Reading, Result, Timing

# One is run, one waits to be run next, one is filled or decoded.
_BUFFERS = 3
# The next picture is prepared when this part of an inference is over: early enough to be ready when it ends, late
# enough to be fresh. A newer one that comes after takes its place.
_JUST_IN_TIME = 0.75
# Callers who take longer than this many inferences between two results get each made when they ask for it.
_SLOW_CALLER = 2.0

After = Callable[[Frame, Detections], "tuple[Detections, Mapping[str, int]]"]


class Loop:
    """Makes results of the frames that a supervisor delivers.

    Args:
        detector: Open.
        supervisor: Started.
        books: Counts results and what gave none.
        newest: Only the newest frame is worked on.
        fresh: Of those, a result that waited too long for its caller is dropped as stale.
        overlap: The engine runs in a thread of its own while the next picture is prepared and the last one decoded.
        after: What is done with decoded detections: tracking, counting.
        power: Gives the newest power, at once.
        stopped: Whether the run is to end.
    """

    def __init__(
        self,
        detector: Detector,
        supervisor: Supervisor,
        books: Books,
        *,
        newest: bool,
        fresh: bool,
        overlap: bool,
        after: After,
        power: Callable[[], Reading | None] = lambda: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._detector = detector
        self._supervisor = supervisor
        self._books = books
        self._newest = newest
        self._fresh = newest and fresh
        self._overlap = overlap
        self._after = after
        self._power = power
        self._failures = Failures()
        self._end_s: float | None = None
        self._caller_s = 0.0  # what the caller did with the last result
        self._fault: Exception | None = None  # of the source; raised when what it gave before is done
        self._stopped = stopped

    def results(self, frames: int | None, seconds: float | None) -> Generator[Result, None, None]:
        """The results, until the source ends, the bounds are reached or the supervisor is closed.

        Raises:
            SourceError: The source failed for good.
            Exception: What the detector raises again and again.
        """
        self._end_s = None if seconds is None else time.monotonic() + seconds
        for count, result in enumerate(self._overlapped(frames) if self._overlap else self._in_turn(), 1):
            given = time.monotonic()
            yield result
            now = time.monotonic()
            self._caller_s = now - given
            if self._stopped() or count == frames or (self._end_s is not None and now >= self._end_s):
                return
        if not self._supervisor.closed and not self._stopped():
            self._failures.at_end()

    # --- in turn --------------------------------------------------------------------------------

    def _in_turn(self) -> Generator[Result, None, None]:
        prepared = self._detector.new_prepared()
        while (frame := self._take()) is not None:
            job = self._prepare(frame, prepared)
            if job is None:
                continue
            try:
                with self._detector.lock:
                    job.infer_ns = time.monotonic_ns()
                    job.outputs = self._detector.infer(prepared)
                job.inferred_ns = time.monotonic_ns()
            except Exception as error:  # noqa: BLE001  counted; the same one again and again is raised
                job.error = error
            result = self._result(job)
            if result is not None:
                yield result

    # --- overlapped -----------------------------------------------------------------------------

    def _overlapped(self, frames: int | None) -> Generator[Result, None, None]:
        spare = [self._detector.new_prepared() for _ in range(_BUFFERS)]
        left = frames if frames is not None else -1  # results that are still wanted; never 0 without a bound
        engine = Engine(self._detector, self._supervisor.mailbox.wake)
        stale = False
        try:
            engine.start()
            while True:
                left = self._feed(engine, spare, left)
                job = engine.collect()
                if job is None:
                    if self._fault is not None:
                        raise self._fault
                    return
                # Never two in a row: where preparing takes longer than the engine, every result has waited.
                stale = not stale and self._fresh and (engine.done or self._waited_too_long(job, engine))
                if stale:
                    self._books.dropped("stale")
                    spare.append(job.prepared)
                    left += left >= 0
                    continue
                if not engine.busy and not self._for_slow_caller(engine):
                    left = self._feed(engine, spare, left, wait=False)
                result = self._result(job)
                spare.append(job.prepared)
                if result is None:
                    left += left >= 0
                else:
                    yield result
        finally:
            self._give_back(engine.close())

    def _feed(self, engine: Engine, spare: list[Prepared], left: int, *, wait: bool = True) -> int:
        """Has the engine's next job ready; how many results are still wanted after it.

        Of a live source the job that waits is made anew of each newer frame, until the engine takes it.
        """
        while spare and not engine.done and (self._newest or not engine.waiting) and (left or engine.waiting):
            if self._newest and wait and engine.busy:
                if self._for_slow_caller(engine):
                    break
                engine.wait(engine.left_s(_JUST_IN_TIME))
            try:
                frame = self._take(unless=lambda: engine.done or not wait)
            except Exception as error:  # noqa: BLE001  raised when the engine's jobs have given their results
                self._fault = error
                break
            if frame is None:
                break
            job = self._prepare(frame, spare[-1])
            if job is None:
                continue
            spare.pop()
            replaced = engine.offer(job)
            if replaced is None:
                left -= left > 0
            else:
                self._books.dropped("overwritten")
                spare.append(replaced.prepared)
            if not wait:
                break
        return left

    def _for_slow_caller(self, engine: Engine) -> bool:
        """Whether a result that is made ahead would only grow old."""
        return self._fresh and self._caller_s > _SLOW_CALLER * engine.typical_s > 0

    def _waited_too_long(self, job: Job, engine: Engine) -> bool:
        """Whether a result of the newest frame could have been had since this one was ready."""
        waited_s = (time.monotonic_ns() - job.inferred_ns) / 1e9
        return waited_s > engine.typical_s and len(self._supervisor.mailbox) > 0

    def _give_back(self, jobs: list[Job]) -> None:
        if self._newest or self._supervisor.closed:
            self._books.dropped("shutdown", len(jobs))
        else:  # the next run goes on with them
            self._supervisor.mailbox.put_back(job.frame for job in jobs)

    # --- both -----------------------------------------------------------------------------------

    def _take(self, unless: Callable[[], bool] | None = None) -> Frame | None:
        """The next frame; None at the end of the source or of the time, or when `unless` holds."""
        left_s = None if self._end_s is None else self._end_s - time.monotonic()
        if self._stopped() or (left_s is not None and left_s <= 0):
            return None
        try:
            frame = self._supervisor.mailbox.take(
                left_s, unless=lambda: self._stopped() or (unless is not None and unless())
            )
        except TimeoutError:
            return None
        if frame is not None and self._supervisor.closed:
            self._books.dropped("shutdown")
            return None
        return frame

    def _prepare(self, frame: Frame, prepared: Prepared) -> Job | None:
        began = time.monotonic_ns()
        try:
            self._detector.prepare(frame.image, prepared)
        except UsageError:  # no picture: whoever made the source has a mistake to mend
            self._books.dropped("inference_error")
            raise
        except Exception as error:  # noqa: BLE001  as above
            self._failed(error, frame)
            return None
        return Job(frame, prepared, began, time.monotonic_ns())

    def _result(self, job: Job) -> Result | None:
        """The result of a job that was run; None where it failed or the camera was closed meanwhile."""
        if self._supervisor.closed:
            self._books.dropped("shutdown")
            return None
        if job.error is not None:
            self._failed(job.error, job.frame)
            return None
        decode_ns = time.monotonic_ns()
        try:
            detections, counts = self._after(job.frame, self._detector.decode(job.outputs, job.prepared))
        except UsageError:  # a zone beside the picture, say: no other frame will do better
            self._books.dropped("inference_error")
            raise
        except Exception as error:  # noqa: BLE001  as above
            self._failed(error, job.frame)
            return None
        done_ns = time.monotonic_ns()
        preprocess_ms = (job.ready_ns - job.began_ns) / 1e6
        infer_ms = (job.inferred_ns - job.infer_ns) / 1e6
        decode_ms = (done_ns - decode_ns) / 1e6
        total_ms = (done_ns - job.frame.captured_ns) / 1e6
        wait_ms = total_ms - preprocess_ms - infer_ms - decode_ms
        timing = Timing(wait_ms, preprocess_ms, infer_ms, decode_ms, total_ms)
        self._failures.success()
        self._books.processed(timing)
        return Result(job.frame, detections, timing, self._power(), counts)

    def _failed(self, error: Exception, frame: Frame) -> None:
        if self._supervisor.closed:  # with its detector, perhaps
            self._books.dropped("shutdown")
            return
        self._books.dropped("inference_error")
        self._failures.add(error, f"{frame.source}: frame {frame.id}")
