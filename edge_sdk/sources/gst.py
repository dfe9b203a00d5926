"""Any GStreamer source, read through a pipe: ``gst:videotestsrc``. CSI cameras use it too.

pip's OpenCV is built without GStreamer, so the program gst-launch-1.0 runs the pipeline and hands whole frames over.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import SourceError, one_line
from edge_sdk.result import Frame
from edge_sdk.sources.base import FoundCamera, Request, without_credentials
from edge_sdk.sources.capture import CaptureSource
from edge_sdk.sources.slots import Slots

PROGRAM = "gst-launch-1.0"
INSTALL = "sudo apt install gstreamer1.0-tools gstreamer1.0-plugins-base"
SLICE_S = 0.1  # how often a wait for a frame looks whether it should end
END_S = 1.0  # a pipeline may take this long to end by itself; cameras release their sensor in it
ROW_ALIGNMENT = 4  # bytes: GStreamer pads the rows of raw video to it (gst-plugins-base, "Raw video formats")

_CAPS = re.compile(r"GstFdSink:\S+\.GstPad:sink: caps = (video/x-raw.*)")
_FIELD = re.compile(r"\b(width|height|framerate)=\((?:int|fraction)\)(\d+)(?:/(\d+))?")


@dataclass(frozen=True)
class Geometry:
    """What the pipeline says it sends; fps is None where the rate varies."""

    width: int
    height: int
    fps: float | None

    @property
    def stride(self) -> int:
        """Bytes of one row of BGR, padding included."""
        return -(-self.width * 3 // ROW_ALIGNMENT) * ROW_ALIGNMENT


class GstKind:
    """A GStreamer pipeline up to where its pictures are wanted."""

    name = "gst"
    example = "gst:ELEMENT (gst:videotestsrc)"
    rank = 25

    def claims(self, spec: str) -> bool:
        """By its prefix."""
        return spec.startswith("gst:")

    def open(self, spec: str, request: Request) -> GstSource:
        """Starts the pipeline and reads its first frame."""
        try:
            elements = shlex.split(spec.removeprefix("gst:"))
        except ValueError as error:
            raise SourceError(f"{shown(spec)}: {one_line(error)}; quotes come in pairs") from error
        if not elements:
            raise SourceError("gst: needs an element: gst:videotestsrc")
        return open_pipeline([*elements, "!", *to_bgr(request)], shown(spec), request)

    def find(self, root: Path) -> Sequence[FoundCamera]:
        """Pipelines are named, never found."""
        return ()


class GstSource(CaptureSource):
    """The frames of a pipeline. It counts as live: what is not read in time the pipeline may drop."""

    def __init__(self, capture: PipeCapture, *, name: str) -> None:
        super().__init__(capture, name=name, live=True)
        self._pipe = capture

    def _retrieve(self) -> tuple[bool, Any]:
        return self._pipe.retrieve()

    def _interrupt(self) -> None:
        self._pipe.stop()

    def _ended(self, frames: int) -> Frame | None:
        problem = self._pipe.problem()
        if problem is None and frames:
            return None
        raise SourceError(f"{self.name}: {problem or 'the pipeline ended without a frame'}")


class PipeCapture:
    """A running gst-launch-1.0 with the face of `cv2.VideoCapture`.

    Args:
        elements: The pipeline's words; its last element gives video/x-raw in BGR.
        timeout_s: How long a frame may take.
    """

    def __init__(self, elements: Sequence[str], timeout_s: float) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise SourceError(f"{PROGRAM} is not installed; {INSTALL}")
        self._timeout_s = timeout_s
        self._geometry: Geometry | None = None
        self._image: NDArray[np.uint8] | None = None
        self._slots = Slots()
        self._padded: NDArray[np.uint8] | None = None  # a frame whose rows end in padding, before it is cut off
        self._late = False
        self._changed = False
        self._stopping = threading.Event()
        self._ending = threading.Lock()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self._log_read = 0
        self._pipe, sending = os.pipe()
        # A pipe of its own, since camera elements write to standard output (nvarguscamerasrc does); a session of its
        # own, so that Ctrl-C reaches us alone and we end it in order.
        command = [program, "-v", *elements, "!", "fdsink", f"fd={sending}", "sync=false"]
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=[sending],
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._pipe)
            self._log.close()
            raise SourceError(f"{PROGRAM} does not start: {one_line(error)}; {INSTALL}") from error
        finally:
            os.close(sending)
        os.set_blocking(self._pipe, False)

    def grab(self) -> bool:
        """Reads one whole frame; False at the end, after an error or when none comes in time."""
        deadline = time.monotonic() + self._timeout_s
        if not self._wait_readable(deadline):
            return False
        geometry = self._negotiated(deadline)
        if geometry is None or self._changed:
            return False
        row = geometry.width * 3
        image = self._slots.take((geometry.height, geometry.width, 3))
        if geometry.stride == row:
            whole = self._fill(image, deadline)
        else:
            if self._padded is None:
                self._padded = np.empty((geometry.height, geometry.stride), np.uint8)
            whole = self._fill(self._padded, deadline)
            image.reshape(geometry.height, row)[:] = self._padded[:, :row]
        self._image = image if whole else None
        return whole

    def _fill(self, buffer: NDArray[np.uint8], deadline: float) -> bool:
        """Reads as many bytes as the buffer has; whether they came in time."""
        view, filled = memoryview(buffer.data).cast("B"), 0
        while filled < buffer.nbytes:
            if not self._wait_readable(deadline):
                return False
            count = os.readv(self._pipe, [view[filled:]])
            if count == 0:
                return False
            filled += count
        return True

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """The frame that was grabbed."""
        image, self._image = self._image, None
        return image is not None, image

    def get(self, prop: int) -> float:
        """The announced rate; 0 for everything else, and before the first frame."""
        known = prop == cv2.CAP_PROP_FPS and self._geometry is not None
        return (self._geometry.fps or 0.0) if known and self._geometry is not None else 0.0

    def problem(self) -> str | None:
        """Why no frame came; None for a pipeline that ended in order."""
        if self._late:
            return f"no frame within {self._timeout_s:g} s; check the camera and its cable"
        if self._changed:
            return "the pipeline changed the size of its pictures; fix it with video/x-raw,width=...,height=..."
        with suppress(subprocess.TimeoutExpired):
            if self._child.wait(END_S) == 0:
                return None
        return f"GStreamer: {last_error(self._text())}"

    def stop(self) -> None:
        """Ends the pipeline, by force when it does not end by itself; a blocked grab returns False."""
        self._stopping.set()
        with self._ending:
            for ending in (signal.SIGINT, signal.SIGKILL):  # SIGINT lets gst-launch stop its elements in order
                deadline = time.monotonic() + END_S
                with suppress(ProcessLookupError):
                    self._child.send_signal(ending)
                while self._child.poll() is None and time.monotonic() < deadline:
                    self._drain()  # a full pipe would hold the pipeline in its last write

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            if os.read(self._pipe, 1 << 20):
                return
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(END_S / 100)

    def release(self) -> None:
        """Ends the pipeline and closes the pipe."""
        self.stop()
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
            self._log.close()

    def _wait_readable(self, deadline: float) -> bool:
        waiting = select.poll()
        waiting.register(self._pipe, select.POLLIN)
        while not self._stopping.is_set():
            if waiting.poll(SLICE_S * 1000):
                return True
            if time.monotonic() > deadline:
                self._late = True
                return False
        return False

    def _negotiated(self, deadline: float) -> Geometry | None:
        """What the pipeline said last about its frames; it says so a little after it sends the first."""
        while not self._stopping.is_set():
            size = os.fstat(self._log.fileno()).st_size
            if size != self._log_read:
                self._log_read = size
                geometry = parse_caps(self._text())
                self._changed = self._geometry is not None and geometry != self._geometry
                self._geometry = self._geometry or geometry
            if self._geometry is not None:
                return self._geometry
            if self._child.poll() is not None and os.fstat(self._log.fileno()).st_size == self._log_read:
                return None
            if time.monotonic() > deadline:
                self._late = True
                return None
            self._stopping.wait(SLICE_S / 10)
        return None

    def _text(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")


def open_pipeline(elements: Sequence[str], name: str, request: Request) -> GstSource:
    """Starts a pipeline that ends in BGR and reads its first frame.

    Raises:
        SourceError: It does not start, or gives no frame in time; with GStreamer's own reason.
    """
    try:
        capture = PipeCapture(elements, request.timeout_s)
    except SourceError as error:
        raise SourceError(f"{name}: {error}") from error
    source = GstSource(capture, name=name)
    try:
        source.prime(request)
    except SourceError:
        source.close()
        raise
    return source


def to_bgr(request: Request) -> list[str]:
    """The end of every pipeline: BGR, at the size and rate that were asked for."""
    caps = "video/x-raw,format=BGR"
    elements = ["videoconvert"]
    if request.width is not None or request.height is not None:
        elements += ["!", "videoscale"]
        caps += f",width={request.width}" if request.width is not None else ""
        caps += f",height={request.height}" if request.height is not None else ""
    if request.fps is not None:
        elements += ["!", "videorate", "drop-only=true"]
        caps += f",framerate={fraction(request.fps)}"
    return [*elements, "!", caps]


def fraction(fps: float) -> str:
    """A rate as GStreamer writes it: 29.97 is "30000/1001"."""
    exact = Fraction(fps).limit_denominator(1)
    if abs(float(exact) - fps) > 1e-3:
        exact = Fraction(round(fps * 1001 / 1000) * 1000, 1001)
    if abs(float(exact) - fps) > 1e-2:
        exact = Fraction(fps).limit_denominator(1000)
    return f"{exact.numerator}/{exact.denominator}"


def parse_caps(text: str) -> Geometry | None:
    """Reads the last caps of the sink out of what ``gst-launch-1.0 -v`` writes."""
    said = _CAPS.findall(text)
    if not said:
        return None
    fields = {name: (int(over), int(under or 1)) for name, over, under in _FIELD.findall(said[-1])}
    if "width" not in fields or "height" not in fields:
        return None
    over, under = fields.get("framerate", (0, 1))
    return Geometry(fields["width"][0], fields["height"][0], over / under if over and under else None)


def last_error(text: str) -> str:
    """The line of gst-launch's output that says what went wrong, without addresses' credentials."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for pattern in (r"erroneous pipeline: (.*)", r"^ERROR: from element [^:]*:\S*: (.*)", r"^ERROR: (.*)"):
        for line in lines:
            if found := re.search(pattern, line):
                return shown(found.group(1))
    telling = [line for line in lines if re.search(r"error|no cameras|fail", line, re.IGNORECASE)]
    return shown((telling or lines or ["it ended without a word"])[-1])


def shown(text: str) -> str:
    """A pipeline as it may be logged: no credentials in its addresses and no passwords in its properties."""
    hidden = re.sub(r"((?:user-pw|user-id|password|passphrase|token)=)(\"[^\"]*\"|'[^']*'|\S)+", r"\1***", text)
    return " ".join(without_credentials(word) for word in hidden.split())


def has_element(name: str) -> bool:
    """Whether GStreamer has this element."""
    program = shutil.which("gst-inspect-1.0")
    if program is None:
        return False
    done: Any = subprocess.run([program, "--exists", name], check=False, capture_output=True)
    return bool(done.returncode == 0)


KIND = GstKind()
