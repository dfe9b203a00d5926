"""Annotated pictures, into a video file, a photo or a folder of photos."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2

from edge_sdk.errors import SinkError
from edge_sdk.files import replacing
from edge_sdk.result import Result
from edge_sdk.sinks.draw import draw

# Four-character codes that OpenCV's own FFmpeg can write on every platform.
_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
_PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class VideoSink:
    """Writes an annotated video; it appears under its name when it is whole.

    Args:
        path: Ends in .mp4, .avi or .mkv.
        class_names: Names by class id.
        fps: Frames a second of the file.
        live: Frames have gaps where some were dropped: each is shown until the next, so that the clip plays at the
            speed of life. Otherwise every frame is one frame of the clip.
    """

    def __init__(self, path: Path, class_names: Sequence[str], fps: float, *, live: bool = False) -> None:
        if path.suffix.lower() not in _CODECS:
            raise SinkError(f"{path}: a video ends in {', '.join(_CODECS)}")
        self._path = path
        self._names = class_names
        self._fps = fps
        self._live = live
        self._began_ns = 0
        self._written = 0
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(replacing(path))
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def put(self, result: Result) -> None:
        image = draw(result.frame.image.copy(), result.detections, self._names)
        height, width = image.shape[:2]
        if self._writer is None:
            self._began_ns = result.frame.captured_ns
            self._size = (width, height)
            codec = cv2.VideoWriter.fourcc(*_CODECS[self._path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._temporary), codec, self._fps, self._size)
            if not self._writer.isOpened():
                raise SinkError(f"{self._path}: this OpenCV cannot write such a video; try .avi")
        if (width, height) != self._size:
            image = cv2.resize(image, self._size)  # a video has one size; photos in a folder have many
        due = (
            int((result.frame.captured_ns - self._began_ns) / 1e9 * self._fps) + 1 if self._live else self._written + 1
        )
        for _ in range(due - self._written):
            self._writer.write(image)
        self._written = max(self._written, due)

    def close(self) -> None:
        if self._writer is None:
            self._abandon()
            return
        self._writer.release()
        self._writer = None
        self._stack.close()

    def _abandon(self) -> None:
        """Leaves nothing behind: not a single frame came."""
        error = SinkError(f"{self._path}: not written, no frame came")
        self._stack.__exit__(SinkError, error, None)

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class PhotoSink:
    """Writes annotated photos: one file, or one a frame into a folder."""

    def __init__(self, path: Path, class_names: Sequence[str]) -> None:
        self._path = path
        self._names = class_names
        self._folder = path.suffix.lower() not in _PHOTOS
        if self._folder:
            path.mkdir(parents=True, exist_ok=True)

    def put(self, result: Result) -> None:
        image = draw(result.frame.image.copy(), result.detections, self._names)
        path = self._path
        if self._folder:
            stem = Path(result.frame.source).stem if Path(result.frame.source).suffix.lower() in _PHOTOS else "frame"
            path = path / f"{stem}_{result.frame.id:06d}.jpg"
        with replacing(path) as temporary:
            if not cv2.imwrite(str(temporary), image):
                raise SinkError(f"{path}: OpenCV could not write it")

    def close(self) -> None:
        """Every photo is already whole."""

    def __enter__(self) -> PhotoSink:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def picture_sink(
    path: Path, class_names: Sequence[str], fps: float | None, *, live: bool = False
) -> VideoSink | PhotoSink:
    """The sink for a path: a video for .mp4, .avi and .mkv, one photo for .jpg and its like, else a folder of photos.

    Raises:
        SinkError: The folder is not there, or cannot be written.
    """
    if path.suffix.lower() in _CODECS:
        return VideoSink(path, class_names, fps or 10.0, live=live)  # photos become a slide show at 10 a second
    return PhotoSink(path, class_names)
