"""Annotated video, published to an RTSP server such as MediaMTX through the user's ffmpeg."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import Literal, NoReturn
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import SinkError, UsageError, one_line
from edge_sdk.result import Result
from edge_sdk.sinks.base import Sink
from edge_sdk.sinks.draw import draw
from edge_sdk.sinks.process import FedProcess
from edge_sdk.sinks.video import letterboxed
from edge_sdk.sources.base import without_credentials

PROGRAM = "ffmpeg"
INSTALL = "sudo apt install ffmpeg"
Encoder = Literal["libx264", "h264_v4l2m2m", "h264_nvenc"]
# What makes each encoder keep no pictures back. B-frames would, and browsers that get the stream by WebRTC refuse them.
ENCODERS: dict[str, tuple[str, ...]] = {
    "libx264": ("-preset", "ultrafast", "-tune", "zerolatency"),
    "h264_v4l2m2m": ("-bf", "0"),  # the Raspberry Pi 4's and older; the Pi 5 has none
    "h264_nvenc": ("-preset", "p1", "-tune", "ull", "-bf", "0"),
}
_PICTURE_S = 3.0  # an ffmpeg that takes a picture for longer is stuck: the server takes nothing, or does not answer
_REFUSED_S = 0.5  # in which a server near by refuses the stream: then the first picture is not counted as sent
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0  # before it is started again
_STEADY_S = 10.0  # a stream that lasted for so long is a success: the next pause is the first again
_KEYFRAME_S = 2.0  # who starts to watch waits for one
_TELLING_LINES = 8  # of ffmpeg's, at its end
_CAUSE = re.compile(
    r"failed|refused|denied|broken pipe|reset|timed out|no route|unreachable|unknown|unable", re.IGNORECASE
)
_LONGEST_REPEAT_S = 2.0  # after a longer gap the clock goes on from there: a minute at once would be old for a minute


class RtspSink(Sink):
    """Publishes each picture with its boxes as H.264, at a constant rate and the speed of life.

    Between results the last picture is repeated, and of several within one picture's time the first is shown. When
    ffmpeg ends, because the server has gone, say, it is started again after 1 to 30 s; until then `put` raises.

    The address is an argument of ffmpeg: other users of this machine can see it, with its password, in the list of
    processes. Give the camera a user of its own on the server. With ``rtsps`` the stream is encrypted, but ffmpeg does
    not check whose certificate the server has.

    Args:
        url: Where the server takes streams: ``rtsp://user:password@host:8554/camera``.
        class_names: Names by class id.
        fps: Pictures a second of the stream.
        bitrate_kbps: Of the stream, in kilobits a second.
        encoder: ``libx264`` works everywhere; the two others use a Raspberry Pi 4's or an NVIDIA card's own encoder.

    Raises:
        SinkError: ffmpeg is not installed, or has no such encoder.
        UsageError: `fps` or `bitrate_kbps` is not above 0, `url` is none, or there is no such encoder.
    """

    wants_image = True

    def __init__(
        self,
        url: str,
        class_names: Sequence[str],
        fps: float,
        *,
        bitrate_kbps: int = 2000,
        encoder: Encoder = "libx264",
    ) -> None:
        self.name = without_credentials(url)
        if not _is_address(url):
            raise UsageError(
                f"{self.name}: no address of an RTSP server; it looks like rtsp://host:8554/camera, with %2F, %3F, %23 "
                "and %40 for the signs /, ?, # and @ of a password"
            )
        if not 0 < fps < math.inf:
            raise UsageError(f"fps must be above 0, not {fps}")
        if bitrate_kbps <= 0:
            raise UsageError(f"bitrate_kbps must be above 0, not {bitrate_kbps}")
        if encoder not in ENCODERS:
            raise UsageError(f"there is no encoder {encoder!r}; there are {', '.join(ENCODERS)}")
        self._program = _program(encoder)
        self._url = url
        self._names = class_names
        self._fps = fps
        self._bitrate_kbps = bitrate_kbps
        self._encoder = encoder
        self._closed = False
        self._ffmpeg: FedProcess | None = None
        self._size = (0, 0)
        self._shown: NDArray[np.uint8] | None = None
        self._began_ns = 0
        self._written = 0
        self._started_s = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._again_s = -math.inf  # not to be started before
        self._trouble = ""

    def put(self, result: Result) -> None:
        if self._closed:
            raise SinkError(f"{self.name}: is closed")
        if self._ffmpeg is not None and self._ffmpeg.ended() is not None:
            self._fail(_reason(self._ffmpeg.said(), self._url))
        if self._ffmpeg is None and time.monotonic() < self._again_s:
            raise SinkError(self._trouble)
        image = draw(result.frame.image.copy(), result.detections, self._names)
        ffmpeg = self._ffmpeg or self._start(image, result.frame.captured_ns)
        width, height = self._size
        if image.shape[1] - image.shape[1] % 2 != width or image.shape[0] - image.shape[0] % 2 != height:
            image = letterboxed(image, self._size)  # one stream has one size
        image = np.ascontiguousarray(image[:height, :width])
        for picture in self._due(image, result.frame.captured_ns):
            self._write(ffmpeg, picture)

    def _due(self, image: NDArray[np.uint8], captured_ns: int) -> list[NDArray[np.uint8]]:
        """The pictures that the stream lacks until this moment: the last one, repeated, and this one; or none."""
        due = int((captured_ns - self._began_ns) / 1e9 * self._fps) + 1
        lacking = due - self._written
        most = max(1, round(_LONGEST_REPEAT_S * self._fps))
        if lacking > most:
            self._began_ns += round((lacking - most) / self._fps * 1e9)
            lacking = most
        before = image if self._shown is None else self._shown
        self._shown = image
        return [before] * (lacking - 1) + [image] if lacking > 0 else []

    def _write(self, ffmpeg: FedProcess, image: NDArray[np.uint8]) -> None:
        try:
            ffmpeg.write(image.data, _PICTURE_S)
        except TimeoutError:
            self._fail(f"the server or its network takes nothing for {_PICTURE_S:g} s")
        except BrokenPipeError:
            self._fail(_reason(ffmpeg.said(), self._url))
        if self._written == 0 and ffmpeg.ends_within(_REFUSED_S):
            self._fail(_reason(ffmpeg.said(), self._url))
        self._written += 1

    def _start(self, image: NDArray[np.uint8], captured_ns: int) -> FedProcess:
        height, width = image.shape[:2]
        self._size = (width - width % 2, height - height % 2)  # H.264 halves the colours: sides are even
        if 0 in self._size:
            raise SinkError(f"{self.name}: a picture of {width}x{height} is too small for a video")
        self._began_ns, self._written, self._shown = captured_ns, 0, None
        self._started_s = time.monotonic()
        try:
            self._ffmpeg = FedProcess(self._command())
        except OSError as error:
            self._fail(f"{PROGRAM} does not start: {error.strerror or one_line(error)}")
        return self._ffmpeg

    def _command(self) -> list[str]:
        rate = f"{self._bitrate_kbps}k"
        return [
            self._program, "-hide_banner", "-loglevel", "error",
            "-f", "rawvideo", "-pixel_format", "bgr24", "-video_size", f"{self._size[0]}x{self._size[1]}",
            "-framerate", f"{self._fps:g}", "-i", "pipe:0",
            "-c:v", self._encoder, *ENCODERS[self._encoder], "-pix_fmt", "yuv420p",
            "-b:v", rate, "-maxrate", rate, "-bufsize", rate,
            "-g", str(max(1, round(_KEYFRAME_S * self._fps))),
            "-f", "rtsp", "-rtsp_transport", "tcp", self._url,
        ]  # fmt: skip

    def _fail(self, reason: str) -> NoReturn:
        """Puts ffmpeg away, sets when it is started again, and raises."""
        lasted_s = time.monotonic() - self._started_s
        if self._ffmpeg is not None:
            self._ffmpeg.stop()
            self._ffmpeg = None
        if lasted_s > _STEADY_S:
            self._pause_s = _FIRST_PAUSE_S
        self._again_s = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._trouble = f"{self.name}: {reason}; it is tried again"
        raise SinkError(self._trouble)

    def close(self) -> None:
        """Ends the stream, within about a second; may be called twice."""
        self._closed = True
        self._shown = None
        if self._ffmpeg is not None:
            self._ffmpeg.stop()
            self._ffmpeg = None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("rtsp", "rtsps") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _program(encoder: str) -> str:
    """The ffmpeg of this machine, which has this encoder.

    Raises:
        SinkError: There is none.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise SinkError(f"{PROGRAM} is not installed, which streams over RTSP need; {INSTALL}")
    try:
        asked = subprocess.run(
            [program, "-hide_banner", "-loglevel", "error", "-encoders"],
            check=False, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SinkError(f"{program} cannot be run: {one_line(error)}") from error
    if encoder not in asked.stdout.split():
        others = [name for name in ENCODERS if name in asked.stdout.split()]
        raise SinkError(
            f"{program} has no encoder {encoder}; it has {', '.join(others)}"
            if others
            else f"{program} has no H.264 encoder; Debian's and Ubuntu's have: {INSTALL}"
        )
    return program


def _reason(said: Sequence[str], url: str) -> str:
    """What ffmpeg wrote about its end: the first of its last lines that names a cause, without credentials.

    What follows that line says in other words, and newer versions in more of them, that it then gave up.
    """
    lines = [line.strip() for line in said if line.strip()][-_TELLING_LINES:]
    line = next((line for line in lines if _CAUSE.search(line)), lines[-1] if lines else f"{PROGRAM} ended silently")
    line = re.sub(r"^\[[^\]]* @ \w+\] ", "", line).replace(url, without_credentials(url))  # "[tcp @ 0x55...] "
    return " ".join(without_credentials(word) for word in line.split())
