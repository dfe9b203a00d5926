"""Annotated pictures, into a video file, a photo or a folder of photos."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import SinkError, UsageError, one_line
from edge_sdk.files import replacing
from edge_sdk.result import Result
from edge_sdk.sinks.base import Sink
from edge_sdk.sinks.draw import draw
from edge_sdk.sources.capture import quiet_opencv
from edge_sdk.sources.files import PHOTO_SUFFIXES

# Four-character codes that OpenCV's own FFmpeg can write on every platform.
_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
_PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# Left free on the disk: an .mp4 gets its index at the end, and is unreadable without it.
_RESERVE_BYTES = 4 << 20


class VideoSink(Sink):
    """Writes an annotated video; it appears under its name when it is whole.

    As a context manager it keeps what was recorded when the block ends or is asked to stop (Ctrl-C, SystemExit): that
    is how a recording of a camera ends. A block that fails leaves nothing. `close` always keeps.

    Args:
        path: Ends in .mp4, .avi or .mkv.
        class_names: Names by class id.
        fps: Frames a second of the file.
        live: Frames have gaps where some were dropped: each is shown until the next, so that the clip plays at the
            speed of life. Otherwise every frame is one frame of the clip.

    Raises:
        SinkError: The path cannot be written, or is no video's.
        UsageError: `fps` is not above 0.
    """

    wants_image = True
    complete = True

    def __init__(self, path: Path, class_names: Sequence[str], fps: float, *, live: bool = False) -> None:
        self.name = f"video:{path}"
        if path.suffix.lower() not in _CODECS:
            raise SinkError(f"{path}: a video ends in {', '.join(_CODECS)}")
        if not 0 < fps < math.inf:
            raise UsageError(f"fps must be above 0, not {fps}")
        self._path = path
        self._names = class_names
        self._fps = fps
        self._live = live
        self._began_ns = 0
        self._written = 0
        self._size = (0, 0)
        self._shown: NDArray[np.uint8] | None = None
        self._writer: cv2.VideoWriter | None = None
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(replacing(path))
        self._closed = False

    def put(self, result: Result) -> None:
        if self._closed:
            raise SinkError(f"{self._path}: is closed")
        image = draw(result.frame.image.copy(), result.detections, self._names)
        if self._writer is None:
            self._began_ns = result.frame.captured_ns
            self._writer = self._open(image)
        width, height = self._size
        if image.shape[1] - image.shape[1] % 2 != width or image.shape[0] - image.shape[0] % 2 != height:
            image = letterboxed(image, self._size)  # one size, of photos that have many
        image = image[:height, :width]
        self._check_room()
        if not self._live:
            self._writer.write(image)
            self._written += 1
            return
        due = int((result.frame.captured_ns - self._began_ns) / 1e9 * self._fps) + 1
        for _ in range(due - 1 - self._written):
            self._writer.write(self._shown if self._shown is not None else image)
        if due > self._written:
            self._writer.write(image)
            self._written = due
        self._shown = image

    def _check_room(self) -> None:
        """Stops while there is room to finish the file: OpenCV says nothing when a write fails."""
        system = os.statvfs(self._temporary)
        if system.f_bavail * system.f_frsize < _RESERVE_BYTES:
            raise SinkError(f"{self._path}: the disk is full; the {self._written} frames until now are kept")

    def _open(self, image: NDArray[np.uint8]) -> cv2.VideoWriter:
        height, width = image.shape[:2]
        self._size = (width - width % 2, height - height % 2)  # codecs halve the colours: sides are even
        codec = cv2.VideoWriter.fourcc(*_CODECS[self._path.suffix.lower()])
        with quiet_opencv():
            writer = cv2.VideoWriter(str(self._temporary), codec, self._fps, self._size)
        if not writer.isOpened():
            raise SinkError(
                f"{self._path}: this OpenCV cannot write a video of {width}x{height} at {self._fps:g} frames a second; "
                "try .avi"
            )
        return writer

    def close(self) -> None:
        """Puts the video under its name; where no frame came there is none. May be called twice.

        Raises:
            SinkError: It could not be written, or cannot be read back.
        """
        self._finish(keep=True)

    def _finish(self, *, keep: bool) -> None:
        if self._closed:
            return
        self._closed = True
        writer, self._writer, self._shown = self._writer, None, None
        if writer is not None:
            writer.release()
        fault = None
        if writer is None or not keep:
            fault = SinkError(f"{self._path}: not kept")
        elif not _readable(self._temporary):  # OpenCV does not say when a write fails
            fault = SinkError(f"{self._path}: what was written cannot be read back; is there room on the disk?")
        if fault is None:
            self._stack.close()
            return
        self._stack.__exit__(SinkError, fault, None)  # takes the temporary file away
        if writer is not None and keep:
            raise fault

    def __exit__(self, *exc: object) -> None:
        failed = any(isinstance(one, Exception) for one in exc)  # KeyboardInterrupt and SystemExit are none
        self._finish(keep=not failed)


def letterboxed(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture in its own shape, as large as fits, on black.

    Args:
        image: uint8 [h, w, 3].
        size: (width, height) of the whole, in pixels.
    """
    scale = min(size[0] / image.shape[1], size[1] / image.shape[0])
    width, height = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    canvas[top : top + height, left : left + width] = cv2.resize(image, (width, height))
    return canvas


def _readable(path: Path) -> bool:
    with quiet_opencv():
        video = cv2.VideoCapture(str(path))
        try:
            return bool(video.isOpened() and video.grab())
        finally:
            video.release()


class PhotoSink(Sink):
    """Writes annotated photos: one file, which shows the latest, or one a frame into a folder.

    Args:
        path: A photo, or a folder, which is made where it is not there.
        class_names: Names by class id.

    Raises:
        SinkError: The folder cannot be made.
    """

    wants_image = True
    complete = True

    def __init__(self, path: Path, class_names: Sequence[str]) -> None:
        self.name = f"photos:{path}"
        self._path = path
        self._names = class_names
        self._folder = path.suffix.lower() not in _PHOTOS
        self._taken: set[str] = set()
        if self._folder:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SinkError(f"{path}: no folder can be made here: {error.strerror or one_line(error)}") from error

    def put(self, result: Result) -> None:
        image = draw(result.frame.image.copy(), result.detections, self._names)
        path = self._path
        if self._folder:
            path = path / self._file_name(result)
        with replacing(path) as temporary:
            if not cv2.imwrite(str(temporary), image):
                raise SinkError(f"{path}: OpenCV could not write it")

    def _file_name(self, result: Result) -> str:
        """The photo's own name, or the frame's number; a name that is taken by another photo gets its number too."""
        source = Path(result.frame.source)
        stem = source.stem if source.suffix.lower() in PHOTO_SUFFIXES else f"frame_{result.frame.id:06d}"
        if stem in self._taken:
            stem = f"{stem}_{result.frame.id:06d}"
        self._taken.add(stem)
        return f"{stem}.jpg"

    def close(self) -> None:
        """Every photo is already whole."""


def picture_sink(
    path: Path, class_names: Sequence[str], fps: float | None, *, live: bool = False
) -> VideoSink | PhotoSink:
    """The sink for a path: a video for .mp4, .avi and .mkv, one photo for .jpg and its like, else a folder of photos.

    Raises:
        SinkError: The path cannot be written, or ends like a file of another kind.
    """
    suffix = path.suffix.lower()
    if suffix in _CODECS:
        return VideoSink(path, class_names, fps or 10.0, live=live)  # photos become a slide show at 10 a second
    # 'out.mov' or 'out.pdf' is meant as a file; a folder of such a name would surprise.
    if suffix not in _PHOTOS and suffix.strip(".0123456789") and not path.is_dir():
        raise SinkError(
            f"{path}: '{suffix}' is not written; a video ends in {', '.join(_CODECS)}, a photo in "
            f"{', '.join(_PHOTOS)}, and a folder gets a photo a frame"
        )
    return PhotoSink(path, class_names)
