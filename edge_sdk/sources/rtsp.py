"""A stream or file over the network, read by FFmpeg: rtsp, rtsps, http, https."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

from edge_sdk.errors import BadFrameError, SourceError
from edge_sdk.result import Frame
from edge_sdk.sources.base import FoundCamera, Request, without_credentials
from edge_sdk.sources.capture import CaptureSource, frame_count, nominal_fps, open_ffmpeg
from edge_sdk.sources.line import Line, hang_up
from edge_sdk.sources.reach import LEAST_S, PORTS, answers, ask_http, ask_rtsp, reach, split_url

# Over UDP a lost packet smears the picture. "fpsprobesize": else FFmpeg counts frames to tell the rate, 28 of them,
# 2.8 s at 10 fps. Not "nobuffer": it drops the frames that FFmpeg looked at to tell the codec, the key frame among
# them, and the next comes a second or more later. `StreamSource` itself passes over frames that are old.
RTSP_OPTIONS = "rtsp_transport;tcp|flags;low_delay|fpsprobesize;0"
HTTP_OPTIONS = "fpsprobesize;0"
CATCH_UP_S = 1.0  # spent at most on frames that came while the stream was being opened
WAITED = 0.25  # of the time between two frames: for one that takes longer somebody had to wait
PRESENT_S = 0.5  # in which a server answers, or is not back


class RtspKind:
    """A URL that FFmpeg reads."""

    name = "rtsp"
    example = "a URL (rtsp://camera/stream, http://camera/video.mjpg)"
    rank = 10

    def claims(self, spec: str) -> bool:
        """By its scheme."""
        return spec.split("://", 1)[0].lower() in PORTS and "://" in spec

    def open(self, spec: str, request: Request) -> StreamSource:
        """Connects, within the request's time limit, and decodes the first frame.

        A plain connection is made first: FFmpeg does not hand its reason through OpenCV.
        """
        name = without_credentials(spec)
        deadline = time.monotonic() + request.timeout_s
        url = split_url(spec, name)
        addresses = reach(url, name, deadline, request)
        is_rtsp = url.scheme.lower().startswith("rtsp")
        with (
            ExitStack() as environment,
            Line(addresses, name, request, single=is_rtsp, connected=environment.close) as line,
        ):
            deadline += line.waited_s
            capture = open_ffmpeg(
                spec,
                options=RTSP_OPTIONS if is_rtsp else HTTP_OPTIONS,
                open_timeout_s=max(LEAST_S, deadline - time.monotonic()),
                read_timeout_s=request.timeout_s,
                environment=environment,
            )
        if not capture.isOpened():
            capture.release()
            line.close()
            request.check_wanted(name)
            raise _refused(url, name, deadline, request.timeout_s)
        total = None if is_rtsp else frame_count(capture)  # RTSP keeps a recording's own pace, so it is live too
        source = StreamSource(capture, name=name, total=total, timeout_s=request.timeout_s, connections=line.take())
        try:
            source.prime(request, max(deadline, time.monotonic() + LEAST_S))
        except SourceError:
            source.close()
            raise
        return source

    def present(self, spec: str, request: Request) -> bool:
        """Whether the server answers; to that, not to a connection, since a process that hangs still takes those."""
        return answers(split_url(spec, without_credentials(spec)), min(PRESENT_S, request.timeout_s))

    def find(self, root: Path) -> Sequence[FoundCamera]:
        """Networks are not searched."""
        return ()


class StreamSource(CaptureSource):
    """Frames of a stream; what announces its number of frames is a file, read to its end and not live.

    Args:
        capture: The open capture.
        name: The URL without credentials.
        total: Frames in all; None for a live stream.
        timeout_s: How long a frame may take.
        connections: The capture's own; hanging them up ends a blocked read, which else ends at its time limit.
    """

    def __init__(
        self,
        capture: Any,
        *,
        name: str,
        total: int | None,
        timeout_s: float,
        connections: Sequence[socket.socket] = (),
    ) -> None:
        super().__init__(capture, name=name, live=total is None, total=total)
        self._timeout_s = timeout_s
        self._connections = connections

    def close(self) -> None:
        """Hangs up; a blocked `read` in another thread returns None first."""
        super().close()
        for connection in self._connections:
            connection.close()

    def _interrupt(self) -> None:
        hang_up(self._connections)

    def _read_first(self) -> None:
        super()._read_first()
        if self.live:
            self._catch_up()

    def _catch_up(self) -> None:
        """Passes over the frames that came while FFmpeg opened the stream, which it hands out without a wait.

        Two in a row that had to be waited for are a sign of having caught up; one may be that of a busy machine.
        """
        until = time.monotonic() + CATCH_UP_S
        waited_s, waits = WAITED / (nominal_fps(self._capture) or 25.0), 0
        while waits < 2 and (began := time.monotonic()) < until:
            try:
                newer = self._grab()
            except BadFrameError:
                continue
            except SourceError:  # the first was the last: a photo. Of a stream that was lost the next read says so
                return
            if newer is None:
                return
            self._first = newer
            waits = waits + 1 if newer.captured_ns / 1e9 - began > waited_s else 0

    def _ended(self, frames: int) -> Frame | None:
        if not self.live and frames:
            return self._file_ended(frames)
        if frames == 0:
            raise SourceError(f"{self.name}: connected, but no frame within {self._timeout_s:g} s; check the stream")
        raise SourceError(f"{self.name}: the stream ended or stalled for {self._timeout_s:g} s after {frames} frames")


def _refused(url: SplitResult, name: str, deadline: float, timeout_s: float) -> SourceError:
    """Why FFmpeg did not open what is there, as far as the server says in the time that is left."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        return SourceError(f"{name}: connected, but no picture within {timeout_s:g} s; check the path of the stream")
    ask = ask_http if url.scheme.lower().startswith("http") else ask_rtsp
    try:
        answer = ask(url, min(left_s, 1.0))
    except (OSError, http.client.HTTPException, ValueError):
        answer = ""
    if "401" in answer or "403" in answer:
        mend = "check user name and password" if url.username else "give them as scheme://user:password@host/path"
        return SourceError(f"{name}: the server wants a user name and password ({answer}); {mend}")
    if "404" in answer:
        return SourceError(f"{name}: the server has no such stream ({answer}); check the path")
    said = f" (it answers {answer})" if answer else ""
    return SourceError(f"{name}: the server is there, but gives no stream that FFmpeg can read{said}; check the path")


KIND = RtspKind()
