"""Annotated pictures in a window on this machine's screen."""

from __future__ import annotations

import os
import re
import select
import struct
import sys
from collections.abc import Sequence
from io import RawIOBase

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import SinkError
from edge_sdk.result import Result
from edge_sdk.sinks.base import Sink
from edge_sdk.sinks.draw import draw
from edge_sdk.sinks.process import FedProcess

INSTEAD = "--save FILE keeps what would be shown, --http shows it in a browser"
# OpenCV's Qt belongs to the first thread that calls it and hangs in every other, and it ends the process (abort) when
# the display does not answer. So the window lives in a process of its own, with the module search path of this one.
_VIEWER = "import sys; sys.path = sys.argv[2:]; from edge_sdk.sinks.window import show; show(sys.argv[1])"
_OPEN_S = 20.0  # a Raspberry Pi needs some seconds for Python, OpenCV and Qt from a cold card
_PICTURE_S = 3.0  # a viewer that takes a picture for longer is stuck
_HEADER = struct.Struct("<II")  # height and width, before each picture
_READY = "edge-sdk: the window is open"
_KEYS = (ord("q"), ord("Q"), 27)  # 27 is Esc
_IDLE_MS = 10
_LARGEST = (1280, 720)  # of the window as it opens, in pixels; it can be dragged larger


class WindowSink(Sink):
    """Shows each picture with its boxes; q, Esc and closing the window end the run.

    Args:
        class_names: Names by class id.
        title: Of the window.

    Raises:
        SinkError: There is no display, it cannot be reached, or this OpenCV has no windows.
    """

    wants_image = True

    def __init__(self, class_names: Sequence[str], title: str = "Edge SDK") -> None:
        self.name = "window"
        self._names = class_names
        self._closed = False
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise SinkError(f"no window: this session has no display (DISPLAY is not set); {INSTEAD}")
        if re.search(r"^\s*GUI:\s+NONE", cv2.getBuildInformation(), re.MULTILINE):
            raise SinkError(
                "no window: this OpenCV is built without them (opencv-python-headless); "
                f"pip install opencv-python in its place, or: {INSTEAD}"
            )
        self._viewer = FedProcess([sys.executable, "-c", _VIEWER, title, *sys.path])
        if not self._viewer.wait_for(_READY, _OPEN_S):
            self._viewer.stop()
            raise SinkError(f"no window: {_reason(self._viewer.said())}; {INSTEAD}")

    @property
    def finished(self) -> bool:
        """Whether somebody has pressed q or Esc or closed the window: the run is to end. Any thread may ask."""
        return self._viewer.ended() == 0  # at the end of its input, and when it is killed, it is another

    def put(self, result: Result) -> None:
        if self._closed:
            raise SinkError("the window is closed")
        if self.finished:
            return  # the run is about to end
        image = np.ascontiguousarray(draw(result.frame.image.copy(), result.detections, self._names))
        try:
            self._viewer.write(_HEADER.pack(*image.shape[:2]), _PICTURE_S)
            self._viewer.write(image.data, _PICTURE_S)
        except TimeoutError:
            self._viewer.stop()
            raise SinkError(f"the window has not taken a picture for {_PICTURE_S:g} s; it was closed") from None
        except BrokenPipeError:
            if not self.finished:
                raise SinkError(f"the window is gone: {_reason(self._viewer.said())}") from None

    def close(self) -> None:
        """Closes the window; may be called twice."""
        self._closed = True
        self._viewer.stop()


def _reason(said: Sequence[str]) -> str:
    """Why the viewer ended, in its own words: Qt's first complaint, else the last line."""
    lines = [line.strip() for line in said if line.strip() and line != _READY]
    complaint = next((line for line in lines if line.startswith("qt.qpa.")), None)
    return complaint or (lines[-1] if lines else "its process ended without a word")


def show(title: str) -> None:
    """The viewer's whole life: shows the pictures that come through standard input.

    Exits with 0 when somebody ends it, with 1 at the end of the input.
    """
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    cv2.waitKey(1)
    sys.stderr.write(f"{_READY}\n")
    sys.stderr.flush()
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
        opened = False
        while True:
            if _waits(pipe):
                image = _read_picture(pipe)
                if image is None:
                    sys.exit(1)
                if not opened:
                    height, width = image.shape[:2]
                    scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
                    cv2.resizeWindow(title, max(1, round(width * scale)), max(1, round(height * scale)))
                    opened = True
                cv2.imshow(title, image)
            key = cv2.waitKey(1 if _waits(pipe) else _IDLE_MS) & 0xFF
            if key in _KEYS or _is_gone(title):
                sys.exit(0)


def _is_gone(title: str) -> bool:
    """Whether somebody has closed the window."""
    try:
        visible = cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE)
        # GTK never knows (-1), but then finds a closed window no more (github.com/opencv/opencv/issues/25346).
        return bool(visible == 0 or (visible < 0 and cv2.getWindowProperty(title, cv2.WND_PROP_AUTOSIZE) < 0))
    except cv2.error:  # Qt ends with its last window
        return True


def _waits(pipe: RawIOBase) -> bool:
    """Whether there is something to read, or the input has ended."""
    return bool(select.select([pipe], [], [], 0)[0])


def _read_picture(pipe: RawIOBase) -> NDArray[np.uint8] | None:
    """The next picture; None where the input ends."""
    header = _read(pipe, _HEADER.size)
    if header is None:
        return None
    height, width = _HEADER.unpack(header)
    pixels = _read(pipe, height * width * 3)
    return None if pixels is None else np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def _read(pipe: RawIOBase, size: int) -> bytearray | None:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        count = pipe.readinto(view[filled:])
        if not count:
            return None
        filled += count
    return data
