"""An open `cv2.VideoCapture` as a source: what videos, V4L2 cameras and streams have in common."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import cv2

from edge_sdk.errors import BadFrameError, SourceError, one_line
from edge_sdk.result import Frame
from edge_sdk.sources.base import Request
from edge_sdk.sources.slots import Slots
from edge_sdk.sources.watch import watching

STALE_NS = 100_000_000  # a live source's first frame, read while opening, is not delivered when it is older than this
FIRST_FRAMES = 10  # that may be damaged before a source counts as broken
LET_GO_S = 1.0  # a read that does not return so long after it was interrupted is left behind
SLICE_S = 0.05  # how often an opening looks whether it should end
ATTEMPTS = 8  # grabs after one that failed, before a file counts as ended
WHOLE = 0.9  # a video that ends before this part of its announced frames was cut off; small errors are common
FASTEST_FPS = 1000.0  # above this a container's rate is its time base (90000 in some), not a frame rate

_log = logging.getLogger("edge_sdk")


class CaptureSource:
    """Reads frames from an open capture; a kind says how it waits, how it is woken and what its end means.

    Pictures are decoded into a few buffers in turn: see `Slots`.

    Args:
        capture: An open `cv2.VideoCapture`, or anything with its `grab`, `retrieve`, `get` and `release`.
        name: What the frames say they come from, credentials removed.
        live: Whether frames come whether they are read or not.
        total: Frames in all, where that is known.
    """

    def __init__(self, capture: Any, *, name: str, live: bool, total: int | None = None) -> None:
        self.name = name
        self.live = live
        self.total = total
        self.fps = nominal_fps(capture)
        self._capture = capture
        self._reading = threading.Lock()  # held during a read: a capture must not be released under one
        self._closing = threading.Event()
        self._released = False
        self._next_id = 0
        self._first: Frame | None = None
        self._slots = Slots()
        self._shape: tuple[int, ...] | None = None  # of the last picture
        self._over = False

    def read(self) -> Frame | None:
        """The next frame, or None at the end and once closed."""
        with self._reading:
            first, self._first = self._first, None
            if first is not None and not (self.live and time.monotonic_ns() - first.captured_ns > STALE_NS):
                return first
            try:
                return self._grab()
            finally:
                if self._closing.is_set():
                    self._free()

    def prime(self, request: Request | None = None, deadline: float = math.inf) -> None:
        """Reads the first frame now, so that opening fails rather than the first read.

        A camera's first frames are often damaged; a few are passed over.

        Args:
            request: May be cancelled.
            deadline: `time.monotonic` at which a blocked grab is interrupted.

        Raises:
            SourceError: There is no frame, or the request was cancelled.
        """
        request = request or Request()
        cancelled = request.cancelled

        def look() -> bool:
            if cancelled is not None and cancelled.is_set():
                self._closing.set()
            elif time.monotonic() < deadline:
                return False
            self._interrupt()
            return True

        unwatched = cancelled is None and deadline == math.inf
        with nullcontext() if unwatched else watching(look, SLICE_S), self._reading:
            self._read_first()
            self.fps = nominal_fps(self._capture)
        request.check_wanted(self.name)

    def _read_first(self) -> None:
        for attempt in range(FIRST_FRAMES):
            try:
                self._first = self._grab()
                return
            except BadFrameError as error:
                if attempt + 1 == FIRST_FRAMES:
                    raise SourceError(f"{self.name}: none of {FIRST_FRAMES} frames could be decoded") from error

    def close(self) -> None:
        """Frees the capture; a blocked `read` in another thread is interrupted, and returns None first.

        One that a driver does not let go is left behind with a warning, and frees the capture when it returns.
        """
        self._closing.set()
        self._interrupt()
        if not self._reading.acquire(timeout=LET_GO_S):
            _log.warning(
                "%s: a read has not returned within %g s; the device stays open until it does", self.name, LET_GO_S
            )
            return
        try:
            self._free()
        finally:
            self._reading.release()

    def _free(self) -> None:
        self._first = None
        if not self._released:
            self._released = True
            self._capture.release()

    def _grab(self) -> Frame | None:
        if self._closing.is_set() or self._over or not self._wait():
            return None
        try:
            grabbed = self._capture.grab()
        except cv2.error as error:  # OpenCV's backends assert what a driver promises
            raise SourceError(f"{self.name}: reading failed: {error_text(error)}; open it again") from error
        if not grabbed:
            return None if self._closing.is_set() else self._ended(self._next_id)
        return self._take()

    def _take(self) -> Frame:
        """The frame that was just grabbed."""
        captured_ns = time.monotonic_ns()
        frame_id, self._next_id = self._next_id, self._next_id + 1
        try:
            done, image = self._retrieve()
        except cv2.error:  # OpenCV asserts what a damaged header says, such as a size beyond its limit
            done, image = False, None
        if not done or image is None or image.size == 0:
            raise BadFrameError(f"{self.name}: frame {frame_id} could not be decoded; it was skipped")
        if image.ndim == 2 or image.shape[2] == 1:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        return Frame(image, frame_id, self.name, captured_ns)

    def _retrieve(self) -> tuple[bool, Any]:
        """Whether the frame that was grabbed is a picture, and that picture.

        OpenCV writes into the buffer that it is given where the size fits; else, as with the first picture, after a
        change of size and for a clip that it turns, it makes an array of its own.
        """
        done, image = self._capture.retrieve(None if self._shape is None else self._slots.take(self._shape))
        if done and image is not None:
            self._shape = image.shape
        return done, image

    def _wait(self) -> bool:
        """Waits until a grab will not block, where that can be known; False once closed."""
        return True

    def _interrupt(self) -> None:
        """Makes a blocked grab return."""

    def _ended(self, frames: int) -> Frame | None:
        """No frame came: returns None for an end, raises SourceError for a loss."""
        return None

    def _file_ended(self, frames: int) -> Frame | None:
        """The first frame after a damaged part of a file; None where none comes, for good, and said when that is early.

        After a damaged part OpenCV goes on when it is asked again, and a cut-off file still has decoded frames.
        """
        if not self._over and any(self._capture.grab() for _ in range(ATTEMPTS)):
            return self._take()
        if self.total is not None and frames < WHOLE * self.total and not self._over:
            _log.warning("%s: ends after %d of %d announced frames; the file is cut off", self.name, frames, self.total)
        self._over = True
        return None


def error_text(error: BaseException) -> str:
    """What OpenCV's error says, without the place in its source."""
    return getattr(error, "err", None) or one_line(error)


def nominal_fps(capture: Any) -> float | None:
    """The announced frame rate, where it can be one."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if math.isfinite(fps) and 0 < fps <= FASTEST_FPS else None


def frame_count(capture: Any) -> int | None:
    """The announced number of frames; a stream announces zero or a negative number."""
    count = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return int(count) if math.isfinite(count) and 0 < count < 2**53 else None


def fourcc_text(capture: Any) -> str:
    """The codec or pixel format as its four letters: "MJPG", "h264"."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    text = "".join(chr((code >> shift) & 0xFF) for shift in (0, 8, 16, 24)).strip("\0 ")
    return text if text.isprintable() and text else "unknown"


class _Shared:
    """A process-wide setting that several threads may hold at once when they want the same value."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holders = 0
        self._value: Any = None
        self._before: Any = None

    @contextmanager
    def held(self, value: Any) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._holders == 0 or self._value == value)
            if self._holders == 0:
                self._value, self._before = value, self._apply(value)
            self._holders += 1
        try:
            yield
        finally:
            with self._changed:
                self._holders -= 1
                if self._holders == 0:
                    self._restore(self._before)
                    self._changed.notify_all()

    def _apply(self, value: Any) -> Any:
        """Sets the value and returns what to restore."""
        raise NotImplementedError

    def _restore(self, before: Any) -> None:
        raise NotImplementedError


class _LogLevel(_Shared):
    """OpenCV's log level: at the top in 4.x, in `cv2.utils.logging` since 4.6."""

    def _apply(self, value: Any) -> Any:
        module = self._module()
        before = module.getLogLevel()
        module.setLogLevel(value)
        return before

    def _restore(self, before: Any) -> None:
        self._module().setLogLevel(before)

    @staticmethod
    def _module() -> Any:
        return getattr(getattr(cv2, "utils", None), "logging", cv2)


class _Environment(_Shared):
    """Variables for as long as captures are being opened. What the user has set stays."""

    def _apply(self, value: Any) -> Any:
        added = {name: text for name, text in value.items() if name not in os.environ}
        os.environ.update(added)
        return added

    def _restore(self, before: Any) -> None:
        for name in before:
            os.environ.pop(name, None)


_LOG_LEVEL = _LogLevel()
_ENVIRONMENT = _Environment()
_SILENT = 0  # cv::utils::logging::LOG_LEVEL_SILENT
_AV_LOG_QUIET = "-8"  # libavutil/log.h


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keeps OpenCV's own lines off standard error for a while: our errors say the same in one line."""
    with _LOG_LEVEL.held(_SILENT):
        yield


def open_ffmpeg(
    path: str,
    *,
    options: str | None = None,
    open_timeout_s: float | None = None,
    read_timeout_s: float | None = None,
    environment: ExitStack | None = None,
) -> Any:
    """Opens a file or URL with FFmpeg; ask `isOpened`.

    OpenCV takes FFmpeg's options and log level from the environment only, so they stand there while it opens, and
    whoever opens something else with other options waits. So does a word against a lock of its own, with which one
    server that does not answer would keep all others from being opened (opencv#20114).
    FFmpeg's messages, which show addresses, are kept off standard error unless ``OPENCV_FFMPEG_LOGLEVEL`` is set;
    OpenCV reads that one once in a process.

    Args:
        path: A file's path or a URL.
        options: For FFmpeg, as ``key;value|key;value``; a value of ``OPENCV_FFMPEG_CAPTURE_OPTIONS`` that the user
            has set is kept instead.
        open_timeout_s: After which opening fails; OpenCV's default is 30 seconds.
        read_timeout_s: After which a grab fails; the same.
        environment: Is given what the environment needs to be restored; whoever closes it sooner than the opening is
            over, since FFmpeg has begun to work, keeps others waiting no longer.
    """
    parameters: list[int] = []
    if open_timeout_s is not None:
        parameters += [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, max(1, int(open_timeout_s * 1000))]
    if read_timeout_s is not None:
        parameters += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, max(1, int(read_timeout_s * 1000))]
    variables = {"OPENCV_FFMPEG_LOGLEVEL": _AV_LOG_QUIET, "OPENCV_FFMPEG_IS_THREAD_SAFE": "1"}
    if options is not None:
        variables["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = options
    with ExitStack() as own, quiet_opencv():
        (own if environment is None else environment).enter_context(_ENVIRONMENT.held(variables))
        return cv2.VideoCapture(path, cv2.CAP_FFMPEG, parameters)
