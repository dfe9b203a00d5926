"""A video file: every frame, in order, as fast as it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_sdk.errors import SourceError
from edge_sdk.result import Frame
from edge_sdk.sources.base import FoundCamera, Request
from edge_sdk.sources.capture import CaptureSource, fourcc_text, frame_count, open_ffmpeg
from edge_sdk.sources.files import missing_file

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".mjpeg", ".mjpg"}
    | {".h264", ".264", ".h265", ".265", ".hevc", ".flv", ".wmv", ".3gp", ".ogv", ".gif"}
)


class VideoKind:
    """A video file: any file that is no photo."""

    name = "video"
    example = "a video file (clip.mp4)"
    rank = 90

    def claims(self, spec: str) -> bool:
        """What ends like a video, and any other file that is there."""
        if "://" in spec:
            return False
        return Path(spec).suffix.lower() in VIDEO_SUFFIXES or Path(spec).is_file()

    def open(self, spec: str, request: Request) -> VideoSource:
        """Opens the file and decodes its first frame."""
        path = Path(spec)
        if not path.exists():
            raise missing_file(path)
        if not path.is_file():
            raise SourceError(f"{path}: not a regular file, so not a video")
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
        # An absolute path: FFmpeg would take "a:b.mp4" for the protocol "a".
        capture = open_ffmpeg(str(path.absolute()))
        if not capture.isOpened():
            capture.release()
            raise SourceError(
                f"{path}: no video that FFmpeg can read (damaged, cut off while it was recorded, or no video); "
                f"look at it with: ffprobe {path}"
            )
        codec = fourcc_text(capture)
        source = VideoSource(capture, name=spec, total=frame_count(capture))
        try:
            source.prime()
        except SourceError as error:
            source.close()
            raise SourceError(
                f"{path}: no frame can be decoded (codec {codec}); convert it: ffmpeg -i {path} -c:v libx264 out.mp4"
            ) from error
        return source

    def find(self, root: Path) -> Sequence[FoundCamera]:
        """No cameras are files."""
        return ()


class VideoSource(CaptureSource):
    """The frames of a file, turned as its container asks; one that was cut off is said in the log."""

    def __init__(self, capture: Any, *, name: str, total: int | None) -> None:
        super().__init__(capture, name=name, live=False, total=total)

    def _ended(self, frames: int) -> Frame | None:
        if frames == 0:
            raise SourceError(f"{self.name}: no frame can be decoded")
        return self._file_ended(frames)


KIND = VideoKind()
