"""A source of pictures and a detector, run as one loop."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

from edge_sdk.detector import Detector
from edge_sdk.device import system_root
from edge_sdk.errors import BackendError, BadFrameError, SourceError, SourceNotFoundError, UsageError
from edge_sdk.models.card import ModelCard
from edge_sdk.pipeline.books import Books, Stats
from edge_sdk.pipeline.mailbox import Mailbox
from edge_sdk.result import Frame, Result, Timing
from edge_sdk.sources.base import Request, Source, find_cameras, open_source

log = logging.getLogger("edge_sdk")

_CONFIDENCE = 0.25

# A capture thread that does not end within this is stuck in its driver; it is a daemon and is left behind.
_JOIN_S = 5.0


class Camera:
    """Detects in the pictures of a source, newest first.

    Files are read to the last frame. Of a live source the newest frame is processed; those that came meanwhile are
    counted in `stats` as overwritten.

    Args:
        source: A camera's index or path, ``csi:0``, a URL, a photo, a video, a folder, a glob, ``demo``, or an open
            source, which the camera then closes; None is the first camera found.
        model: As `Detector` takes it, or a `Detector`, which several cameras may share and which stays open.
        width, height, fps: What a camera is asked for; None is its default.
        backend, confidence, iou, classes, threads, head, card, options: As `Detector` takes them.

    Raises:
        SourceNotFoundError: There is no such camera or file, or no camera at all.
        SourceError: It cannot be opened.
        ModelError, BackendError, UsageError: As `Detector` raises them; UsageError also for a detector's options
            beside an open one.
    """

    def __init__(
        self,
        source: str | int | Path | Source | None = None,
        model: str | Path | Detector | None = None,
        *,
        backend: str = "auto",
        confidence: float = _CONFIDENCE,
        iou: float | None = None,
        classes: Sequence[str | int] | None = None,
        threads: int | None = None,
        head: str | None = None,
        card: ModelCard | Path | str | None = None,
        options: Mapping[str, str] | None = None,
        width: int | None = None,
        height: int | None = None,
        fps: float | None = None,
    ) -> None:
        self._books = Books()
        self._entered = False
        self._loop = threading.Lock()  # held while somebody detects
        self._owns_detector = not isinstance(model, Detector)
        if source is not None and not isinstance(source, (str, int, Path)) and not hasattr(source, "read"):
            raise UsageError(f"a source is a name, a camera's index or an open source, not {type(source).__name__}")
        request = Request(width=width, height=height, fps=fps, root=system_root())
        self._timeout_s = request.timeout_s
        if isinstance(model, Detector):
            _refuse_detector_options(
                backend=backend != "auto", confidence=confidence != _CONFIDENCE, iou=iou is not None,
                classes=classes is not None, threads=threads is not None, head=head is not None, card=card is not None,
                options=bool(options),
            )  # fmt: skip
        # The model first: while it loads, the frames of an open camera would grow old.
        try:
            self.detector = (
                model
                if isinstance(model, Detector)
                else Detector(
                    model,
                    backend=backend,
                    confidence=confidence,
                    iou=iou,
                    classes=classes,
                    threads=threads,
                    head=head,
                    card=card,
                    options=options,
                )
            )
        except BaseException:
            if source is not None and not isinstance(source, (str, int, Path)):
                source.close()
            raise
        try:
            self.source = _open(source, request)
        except BaseException:
            if self._owns_detector:
                self.detector.close()
            raise
        # A camera that nobody closes frees its device when it is dropped.
        self._finalizer = weakref.finalize(self, self.source.close)

    @property
    def stats(self) -> Stats:
        """The accounting so far."""
        return self._books.stats()

    def detect(self, *, frames: int | None = None, seconds: float | None = None) -> Iterator[Result]:
        """Yields a result for each processed frame, until the source ends or the camera is closed.

        Outside a ``with`` the camera closes when the iterator ends or is dropped.

        Args:
            frames: Stop after this many results.
            seconds: Stop after this long.

        Raises:
            SourceError: The source failed.
            BackendError: The engine failed.
            UsageError: The camera is closed or already detecting, or a bound is not above 0.
        """
        for name, bound in (("frames", frames), ("seconds", seconds)):
            if bound is not None and not bound > 0:
                raise UsageError(f"{name} must be above 0, not {bound}")
        if self._is_closed():
            raise UsageError("the camera is closed; make another")
        if self._loop.locked():
            raise _already_detecting()
        return self._results(frames, seconds)

    def _results(self, frames: int | None, seconds: float | None) -> Iterator[Result]:
        if not self._loop.acquire(blocking=False):  # two iterators were made before either began
            raise _already_detecting()
        end = None if seconds is None else time.monotonic() + seconds
        count = 0
        reading = self._live_frames() if self.source.live else self._frames(threading.Event())
        try:
            for frame in reading:
                result = self._process(frame)
                if result is None:
                    return
                yield result
                count += 1
                if (frames is not None and count >= frames) or (end is not None and time.monotonic() >= end):
                    return
        finally:
            reading.close()
            self._loop.release()
            if not self._entered:
                self.close()

    def _process(self, frame: Frame) -> Result | None:
        """The frame's result; None when the camera was closed meanwhile, from this thread or another."""
        detector = self.detector
        began = time.monotonic_ns()
        if self._is_closed():
            self._books.dropped("shutdown")
            return None
        try:
            with detector.lock:
                prepared = detector.prepare(frame.image, detector.own)
                ready = time.monotonic_ns()
                outputs = detector.infer(prepared)
                inferred = time.monotonic_ns()
                detections = detector.decode(outputs, prepared)
        except BaseException as error:
            if isinstance(error, BackendError) and self._is_closed():  # with its detector
                self._books.dropped("shutdown")
                return None
            self._books.dropped("inference_error")
            raise
        done = time.monotonic_ns()
        timing = Timing(
            wait_ms=(began - frame.captured_ns) / 1e6,
            preprocess_ms=(ready - began) / 1e6,
            infer_ms=(inferred - ready) / 1e6,
            decode_ms=(done - inferred) / 1e6,
            total_ms=(done - frame.captured_ns) / 1e6,
        )
        self._books.processed(timing)
        return Result(frame, detections, timing)

    def _frames(self, stop: threading.Event) -> Generator[Frame]:
        """The frames that can be read, until the source ends or is to stop; the others are counted and reported."""
        while not stop.is_set():
            try:
                frame = self.source.read()
            except BadFrameError as error:
                self._books.captured()
                self._books.dropped("decode_error")
                log.warning("%s", error)
                continue
            if frame is None:
                return
            self._books.captured()
            yield frame

    def _live_frames(self) -> Generator[Frame]:
        mailbox: Mailbox[Frame] = Mailbox()
        stop = threading.Event()

        def capture() -> None:
            try:
                for frame in self._frames(stop):
                    if mailbox.put(frame):
                        self._books.dropped("overwritten")
                mailbox.close()
            except BaseException as error:  # noqa: BLE001  it is raised in the loop that reads the mailbox
                mailbox.close(error)
            if stop.is_set():  # perhaps long after: a driver may keep a read for as long as it likes
                self._books.dropped("shutdown", int(mailbox.abandon()))

        thread = threading.Thread(target=capture, name="edge-sdk-capture", daemon=True)
        thread.start()
        try:
            while True:
                try:
                    frame = mailbox.take(self._timeout_s)
                except TimeoutError:
                    raise SourceError(
                        f"{self.source.name}: no frame for {self._timeout_s:g} s; check the cable or the network"
                    ) from None
                if frame is None:
                    return
                yield frame
        finally:
            stop.set()
            thread.join(_JOIN_S)
            self._books.dropped("shutdown", int(mailbox.abandon()))

    def _is_closed(self) -> bool:
        return not self._finalizer.alive

    def close(self) -> None:
        """Frees the camera, and the detector unless it was given; may be called twice, and from any thread.

        A loop over `detect` ends after the result that it is at.
        """
        self._finalizer()
        if self._owns_detector:
            self.detector.close()

    def __enter__(self) -> Camera:
        self._entered = True
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Camera({self.source.name!r}, {self.detector!r})"


def _already_detecting() -> UsageError:
    return UsageError("the camera is already detecting; several cameras may share one detector")


def _refuse_detector_options(**given: bool) -> None:
    named = [name for name, is_given in given.items() if is_given]
    if named:
        raise UsageError(f"{', '.join(named)}: an open Detector was given, which has its own; set it there")


def _open(source: str | int | Path | Source | None, request: Request) -> Source:
    if source is None:
        found = find_cameras(request.root)
        if not found:
            raise SourceNotFoundError(
                "no camera found on this machine; attach one, or name a source: a file, a folder, an RTSP URL or 'demo'"
            )
        source = found[0].spec
        log.info("camera: %s (%s)", found[0].spec, found[0].label)
    if not isinstance(source, (str, int, Path)):
        return source
    opened = open_source(source, request)
    if opened.total is not None and (request.width, request.height, request.fps) != (None, None, None):
        opened.close()
        raise UsageError(f"width, height and fps are asked of a camera; {opened.name} is none")
    return opened
