"""A source of pictures and a detector, run as one loop."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge_sdk.backends.base import cores
from edge_sdk.detector import Detector, find_model
from edge_sdk.device import system_root
from edge_sdk.errors import UsageError
from edge_sdk.models.card import ModelCard
from edge_sdk.pipeline.after import After
from edge_sdk.pipeline.books import Books, Stats
from edge_sdk.pipeline.life import Life
from edge_sdk.pipeline.loop import Loop
from edge_sdk.pipeline.opening import Opener, Opening, is_open
from edge_sdk.pipeline.outlets import Outlets
from edge_sdk.pipeline.shown import shown
from edge_sdk.pipeline.supervisor import Reconnect, Supervisor
from edge_sdk.pipeline.watts import Watts
from edge_sdk.result import Event, Result, State
from edge_sdk.sinks.base import Sink
from edge_sdk.sources.base import Request, Source

if TYPE_CHECKING:
    from edge_sdk.blur import FaceBlur
    from edge_sdk.sensors.power import Power
    from edge_sdk.tracking import Tracker
    from edge_sdk.zones import Line, Zone

Mode = Literal["latency", "throughput", "eco"]
Policy = Literal["auto", "newest", "every"]

_CONFIDENCE = 0.25

# How long the end of a run waits for the frame that is being read.
_LAST_FRAME_S = 0.3


class Camera:
    """Detects in the pictures of a source.

    Of a live source the newest frame is worked on; those that came meanwhile are counted in `stats` as overwritten. A
    live source that is lost is opened again. Files are read to the last frame.

    Args:
        source: A camera's index or path, ``csi:0``, a URL, a photo, a video, a folder, a glob, ``demo``, an open
            source, which the camera then closes, or a function that opens one, and again after it was lost; None is
            the first camera found.
        model: As `Detector` takes it, or a `Detector`, which several cameras may share and which stays open.
        mode: ``latency`` overlaps the stages, on all cores. ``throughput`` does too, and lets a result wait for its
            caller rather than make a fresher one; where it is named, idle threads of ONNX Runtime spin. ``eco`` does
            one thing at a time, on one core: the least work a frame. None is throughput for files and latency for live
            sources. A detector that is given open keeps its own threads.
        policy: Which frames are worked on: ``newest`` drops those that are not taken in time, ``every`` waits, as for
            files; ``auto`` is newest for live sources.
        reconnect: How a live source that was lost is opened again; False lets the run fail instead.
        track: Give boxes ids from frame to frame: True, or a `Tracker`.
        zones: Count the boxes inside each.
        lines: Count the tracks that cross each; wants `track`.
        blur_faces: Hide faces from every sink: True where the model finds faces itself, or a model that does. The
            caller's own results are not changed.
        power: What is read beside, while it detects, for the results' `power` and the energy in `stats`. True: the
            board's own sensors, where it has any. False: nothing. A name, ``DRIVER`` or ``DRIVER:ADDRESS``, such as
            ``shelly:192.168.1.20``: that sensor. Or open sensors, which stay open and are nobody else's meanwhile.
        on_event: Called at each change of `state`, in the thread that makes it.
        width, height, fps: What a camera is asked for; None is its default.
        backend, confidence, iou, classes, threads, head, card, options: As `Detector` takes them.

    Attributes:
        detector: What detects.
        ended: Whether the latest run came to the source's own end.

    Raises:
        SourceNotFoundError: There is no such camera or file, or no camera at all.
        SourceError: It cannot be opened.
        SensorError: The power sensor that was named cannot be opened.
        ModelError, BackendError, UsageError: As `Detector` raises them; UsageError also for a detector's options
            beside an open one.
    """

    def __init__(
        self,
        source: str | int | Path | Source | Opener | None = None,
        model: str | Path | Detector | None = None,
        *,
        mode: Mode | None = None,
        policy: Policy = "auto",
        reconnect: bool | Reconnect = True,
        track: bool | Tracker = False,
        zones: Sequence[Zone] = (),
        lines: Sequence[Line] = (),
        blur_faces: bool | str | Path | Detector = False,
        power: bool | str | Power = True,
        on_event: Callable[[Event], object] | None = None,
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
        if mode is not None:
            _check_choice("mode", mode, ("latency", "throughput", "eco"))
        _check_choice("policy", policy, ("auto", "newest", "every"))
        request = Request(width=width, height=height, fps=fps, root=system_root())
        opening = Opening(source, request)
        if isinstance(model, Detector):
            _refuse_detector_options(
                backend=backend != "auto", confidence=confidence != _CONFIDENCE, iou=iou is not None,
                classes=classes is not None, threads=threads is not None, head=head is not None, card=card is not None,
                options=bool(options),
            )  # fmt: skip
        self._books = Books()
        self._entered = False
        self._running = threading.Lock()  # held while somebody detects
        self._owns_detector = not isinstance(model, Detector)
        self._outlets = Outlets((), lossless=False)
        self._iterator: weakref.ref[Generator[Result, None, None]] | None = None
        self._stopped = False
        self._torn = False  # a run was cut off, perhaps between two counts
        self.ended = False
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
                    threads=1 if threads is None and mode == "eco" else threads,
                    head=head,
                    card=card,
                    options=_spinning(mode, model, backend) if options is None else options,
                )
            )
        except BaseException:
            if is_open(source):
                opening.open().close()
            raise
        self._face_detector: Detector | None = None
        self._watts = Watts()
        try:
            self._watts.open(power)
            blur = self._face_blur(blur_faces)
            opened = opening.open()
            try:
                self._after = After(track, zones, lines, fps=opened.fps, live=opened.live)
                self._shown = shown(blur, self._after.counters)
            except BaseException:
                opened.close()
                raise
        except BaseException:
            if is_open(source):
                opening.open().close()
            self._close_parts()
            raise
        self._newest = opened.live if policy == "auto" else policy == "newest"
        self._mode: Mode = mode or ("latency" if opened.live else "throughput")
        self._life = Life(opened.name)
        if on_event is not None:
            self._life.listen(on_event)
        self._supervisor = Supervisor(
            opened,
            self._books,
            self._life,
            newest=self._newest,
            reopen=opening.open if reconnect is not False and opening.again else None,
            is_back=opening.is_back,
            policy=reconnect if isinstance(reconnect, Reconnect) else None,
            timeout_s=request.timeout_s,
        )
        # A camera that nobody closes frees its device, and its sensors, when it is dropped.
        self._finalizer = weakref.finalize(self, _free, self._supervisor, self._watts)

    def _face_blur(self, wanted: bool | str | Path | Detector) -> FaceBlur | None:
        if wanted is False:
            return None
        from edge_sdk.blur import MOST_CONFIDENCE, FaceBlur

        if isinstance(wanted, (str, Path)):
            self._face_detector = Detector(wanted, confidence=MOST_CONFIDENCE)
        own = self.detector
        faces = wanted if isinstance(wanted, Detector) else self._face_detector
        return FaceBlur(own.class_names, faces, classes=own.classes, confidence=own.confidence)

    @property
    def source(self) -> Source:
        """The open source; another one after each reconnection."""
        return self._supervisor.source

    @property
    def power_reason(self) -> str | None:
        """Why results have no power; None where they have."""
        return self._watts.reason

    @property
    def state(self) -> State:
        """What the camera is doing."""
        return self._life.state

    @property
    def events(self) -> tuple[Event, ...]:
        """The latest 256 changes of `state`, oldest first."""
        return self._life.events

    @property
    def stats(self) -> Stats:
        """The accounting so far, of all runs; `sinks` is that of the latest."""
        life, books = self._life, self._books.stats()
        return replace(
            books,
            state=life.state,
            reconnects=life.reconnects,
            stalls=life.stalls,
            sinks=self._outlets.stats(),
            energy=self._watts.energy(books.processed),
        )

    def detect(
        self, *, frames: int | None = None, seconds: float | None = None, sinks: Sequence[Sink] = ()
    ) -> Iterator[Result]:
        """Yields a result for each processed frame, until the source ends or the camera is closed.

        Outside a ``with`` the camera closes when the iterator ends or is dropped.

        Args:
            frames: Stop after this many results.
            seconds: Stop after this long.
            sinks: Get each result too, each at its own pace in a thread of its own, and are closed at the end. One
                that fails costs itself results: see ``stats.sinks``.

        Raises:
            SourceError: The source failed for good; with the first cause.
            BackendError, ModelError: The engine or the head failed many times in a row.
            UsageError: The camera is closed or already detecting, or a bound is not above 0.
        """
        for name, bound in (("frames", frames), ("seconds", seconds)):
            if bound is not None and not bound > 0:
                raise UsageError(f"{name} must be above 0, not {bound}")
        if self._supervisor.closed:
            raise UsageError("the camera is closed; make another")
        if self._running.locked():
            raise _already_detecting()
        self._stopped = False
        results = self._results(frames, seconds, sinks)
        self._iterator = weakref.ref(results)
        return results

    def run(self, *, frames: int | None = None, seconds: float | None = None, sinks: Sequence[Sink] = ()) -> Stats:
        """Detects for the sinks alone, as `detect` does, and returns the accounting at the end."""
        for _ in self.detect(frames=frames, seconds=seconds, sinks=sinks):
            pass
        return self.stats

    def _results(
        self, frames: int | None, seconds: float | None, sinks: Sequence[Sink]
    ) -> Generator[Result, None, None]:
        if not self._running.acquire(blocking=False):  # two iterators were made before either began
            raise _already_detecting()
        try:
            self._outlets = Outlets(sinks, lossless=not self._newest, change=self._shown, stopped=lambda: self._stopped)
            loop = Loop(
                self.detector,
                self._supervisor,
                self._books,
                newest=self._newest,
                fresh=self._mode == "latency",
                overlap=self._mode != "eco" and cores() > 1,
                after=self._after,
                power=lambda: self._watts.latest,
                stopped=lambda: self._stopped,
            )
            yield from self._run(loop, self._outlets, frames, seconds)
        finally:
            self._running.release()
            if not self._entered:
                self.close()

    def _run(
        self, loop: Loop, outlets: Outlets, frames: int | None, seconds: float | None
    ) -> Generator[Result, None, None]:
        self._life.listen(outlets.event)
        self.ended = False
        in_peace = in_order = False
        results = loop.results(frames, seconds)
        try:
            self._watts.start()
            self._supervisor.start()
            for result in results:
                outlets.put(result)
                yield result
                if outlets.finished:
                    break
            self.ended = self._supervisor.mailbox.over and not self._supervisor.closed
            in_order = True
            in_peace = not self._stopped
        except GeneratorExit:  # between two results, where everything is counted
            in_order = True
            raise
        finally:
            results.close()
            self._watts.stop()
            if self._newest:  # files are read on where this run ended
                self._supervisor.stop(_LAST_FRAME_S)
            if not in_order:
                self._torn = True
            if self._newest or self._supervisor.closed:
                self._settle()
            self._life.change("stopped")
            self._life.unlisten(outlets.event)
            outlets.close(in_peace=in_peace)

    def _settle(self) -> None:
        """A run that was cut off, perhaps between two counts, has nothing in flight any more."""
        if self._torn:
            self._books.settle()
            self._torn = False

    def stop(self) -> None:
        """Ends the run after the result that it is at; from any thread, and from a signal handler.

        The camera stays open. Sinks are closed as at any end, but only what is being finished is waited for.
        """
        self._stopped = True

    def close(self) -> None:
        """Frees the camera, and the detector unless it was given; may be called twice, and from any thread.

        A loop over `detect` ends after the result that it is at, and sinks are closed.
        """
        self._finalizer()
        iterator = None if self._iterator is None else self._iterator()
        if iterator is not None:
            with suppress(ValueError):  # it is at work, in this thread or another, and ends by itself
                iterator.close()
        if not self._running.locked():
            self._settle()
        self._close_parts()

    def _close_parts(self) -> None:
        self._watts.close()
        if self._owns_detector:
            self.detector.close()
        if self._face_detector is not None:
            self._face_detector.close()

    def __enter__(self) -> Camera:
        self._entered = True
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Camera({self.source.name!r}, {self.detector!r}, {self.state})"


def _free(supervisor: Supervisor, watts: Watts) -> None:
    try:
        supervisor.close()
    finally:
        watts.close()


def _spinning(mode: Mode | None, model: str | Path | None, backend: str) -> Mapping[str, str] | None:
    """Where throughput is asked for, idle threads of ONNX Runtime spin: some percent faster for a busy processor."""
    if mode != "throughput" or backend not in ("onnxruntime", "auto"):
        return None
    return {"spinning": "1"} if find_model(model, backend).suffix.lower() in (".onnx", ".ort") else None


def _already_detecting() -> UsageError:
    return UsageError("the camera is already detecting; several cameras may share one detector")


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UsageError(f"{name} is {', '.join(choices)}, not {value!r}")


def _refuse_detector_options(**given: bool) -> None:
    named = [name for name, is_given in given.items() if is_given]
    if named:
        raise UsageError(f"{', '.join(named)}: an open Detector was given, which has its own; set it there")
