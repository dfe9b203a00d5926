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
from edge_sdk.errors import BadFrameError, SourceError, SourceNotFoundError, UsageError
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
        self._running = False
        self._owns_detector = not isinstance(model, Detector)
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
        """Yields a result for each processed frame, until the source ends.

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
            if bound is not None and bound <= 0:
                raise UsageError(f"{name} must be above 0, not {bound}")
        if not self._finalizer.alive:
            raise UsageError("the camera is closed; make another")
        if self._running:
            raise UsageError("the camera is already detecting; several cameras may share one detector")
        return self._results(frames, seconds)

    def _results(self, frames: int | None, seconds: float | None) -> Iterator[Result]:
        self._running = True
        end = None if seconds is None else time.monotonic() + seconds
        count = 0
        reading = self._live_frames() if self.source.live else self._every_frame()
        try:
            for frame in reading:
                yield self._process(frame)
                count += 1
                if (frames is not None and count >= frames) or (end is not None and time.monotonic() >= end):
                    return
        finally:
            reading.close()
            self._running = False
            if not self._entered:
                self.close()

    def _process(self, frame: Frame) -> Result:
        detector = self.detector
        began = time.monotonic_ns()
        try:
            with detector.lock:
                prepared = detector.prepare(frame.image, detector.own)
                ready = time.monotonic_ns()
                outputs = detector.infer(prepared)
                inferred = time.monotonic_ns()
                detections = detector.decode(outputs, prepared)
        except BaseException:
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

    def _read(self) -> Frame | None:
        """The next frame that can be read, the others counted and reported."""
        while True:
            try:
                frame = self.source.read()
            except BadFrameError as error:
                self._books.captured()
                self._books.dropped("decode_error")
                log.warning("%s", error)
                continue
            if frame is not None:
                self._books.captured()
            return frame

    def _every_frame(self) -> Generator[Frame]:
        while (frame := self._read()) is not None:
            yield frame

    def _live_frames(self) -> Generator[Frame]:
        mailbox: Mailbox[Frame] = Mailbox()
        stop = threading.Event()

        def capture() -> None:
            try:
                while not stop.is_set() and (frame := self._read()) is not None:
                    mailbox.put(frame)
                mailbox.close()
            except BaseException as error:  # noqa: BLE001  it is raised in the loop that reads the mailbox
                mailbox.close(error)

        thread = threading.Thread(target=capture, name="edge-sdk-capture", daemon=True)
        thread.start()
        overwritten = 0
        try:
            while True:
                try:
                    frame = mailbox.take(self._timeout_s)
                except TimeoutError:
                    raise SourceError(
                        f"{self.source.name}: no frame for {self._timeout_s:g} s; check the cable or the network"
                    ) from None
                self._books.dropped("overwritten", mailbox.overwritten - overwritten)
                overwritten = mailbox.overwritten
                if frame is None:
                    return
                yield frame
        finally:
            stop.set()
            thread.join(_JOIN_S)
            self._books.dropped("overwritten", mailbox.overwritten - overwritten)
            self._books.dropped("shutdown", int(mailbox.abandon()))

    def close(self) -> None:
        """Frees the camera, and the detector unless it was given; may be called twice."""
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
    return open_source(source, request) if isinstance(source, (str, int, Path)) else source
