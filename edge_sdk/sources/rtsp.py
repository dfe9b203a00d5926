"""A stream or file over the network, read by FFmpeg: rtsp, rtsps, http, https."""

from __future__ import annotations

import base64
import http.client
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from edge_sdk.errors import SourceError, SourceNotFoundError, one_line
from edge_sdk.result import Frame
from edge_sdk.sources.base import FoundCamera, Request, without_credentials
from edge_sdk.sources.capture import CaptureSource, frame_count, open_ffmpeg

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
# Over UDP a lost packet smears the picture. Without "nobuffer" the frames that FFmpeg looked at while opening stay
# before the live one for good: 28 of them, 2.8 s, at 10 fps; counting them to tell the rate is what takes the time.
RTSP_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay|fpsprobesize;0"
HTTP_OPTIONS = "fpsprobesize;0"  # no "nobuffer": a file over HTTP would lose its first frames
LEAST_S = 0.2  # what is left to a step when the time is up
Address = tuple[Any, ...]  # what the socket module calls one: (host, port) or (host, port, flow, scope)


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
        url = _split(spec, name)
        address = reach(url, name, deadline)
        is_rtsp = url.scheme.lower().startswith("rtsp")
        with _opening(address) as opening:
            before = set(_sockets_to(address))
            capture = open_ffmpeg(
                spec,
                options=RTSP_OPTIONS if is_rtsp else HTTP_OPTIONS,
                open_timeout_s=max(LEAST_S, deadline - time.monotonic()),
                read_timeout_s=request.timeout_s,
            )
            after = _sockets_to(address)
            sockets = [] if opening.mixed else [descriptor for descriptor in after if descriptor not in before]
        if not capture.isOpened():
            capture.release()
            raise _refused(url, name, deadline, request.timeout_s)
        total = None if is_rtsp else frame_count(capture)  # RTSP keeps a recording's own pace, so it is live too
        source = StreamSource(capture, name=name, total=total, timeout_s=request.timeout_s, sockets=sockets)
        out_of_time = threading.Timer(max(LEAST_S, deadline - time.monotonic()), source.hang_up)
        out_of_time.start()
        try:
            source.prime()
        except SourceError:
            source.close()
            raise
        finally:
            out_of_time.cancel()
            out_of_time.join()
        return source

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
        sockets: The capture's own connections; shutting them down ends a blocked read, which else ends at its time
            limit.
    """

    def __init__(
        self, capture: Any, *, name: str, total: int | None, timeout_s: float, sockets: Sequence[int] = ()
    ) -> None:
        super().__init__(capture, name=name, live=total is None, total=total)
        self._timeout_s = timeout_s
        self._sockets = [socket.socket(fileno=os.dup(descriptor)) for descriptor in sockets]

    def close(self) -> None:
        """Hangs up; a blocked `read` in another thread returns None first."""
        super().close()
        for connection in self._sockets:
            connection.close()
        self._sockets = []

    def hang_up(self) -> None:
        """Ends the connection, so that a blocked read fails at once."""
        self._interrupt()

    def _interrupt(self) -> None:
        for connection in self._sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _ended(self, frames: int) -> Frame | None:
        if not self.live and frames:
            return None
        if frames == 0:
            raise SourceError(f"{self.name}: connected, but no frame within {self._timeout_s:g} s; check the stream")
        raise SourceError(f"{self.name}: the stream ended or stalled for {self._timeout_s:g} s after {frames} frames")


def reach(url: SplitResult, name: str, deadline: float) -> Address:
    """Connects to a URL's server and hangs up; the address that answered.

    Raises:
        SourceNotFoundError: No such host.
        SourceError: It refuses, or does not answer before the deadline.
    """
    host, port = url.hostname or "", url.port or PORTS[url.scheme.lower()]
    reason: OSError | None = None
    for family, address in _resolve(host, port, name, deadline):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(max(LEAST_S, deadline - time.monotonic()))
            try:
                probe.connect(address)
            except OSError as error:
                reason = error
                continue
            return address
    if isinstance(reason, ConnectionRefusedError):
        raise SourceError(f"{name}: {host} refuses connections on port {port}; check the port, and that it streams")
    if isinstance(reason, TimeoutError):
        raise SourceError(f"{name}: no answer from {host} port {port} in time; check the address and the network")
    raise SourceError(f"{name}: {host} port {port} cannot be reached: {_reason(reason)}; check address and network")


def _resolve(host: str, port: int, name: str, deadline: float) -> list[tuple[socket.AddressFamily, Address]]:
    """Looks the host up in a thread of its own: a resolver without a network takes longer than anybody waits."""
    found: list[tuple[socket.AddressFamily, Address]] = []
    failed: list[OSError | UnicodeError] = []

    def look_up() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            failed.append(error)
        else:
            found.extend((family, address) for family, _, _, _, address in answers)

    thread = threading.Thread(target=look_up, name="edge-sdk-resolver", daemon=True)
    thread.start()
    thread.join(max(LEAST_S, deadline - time.monotonic()))
    if failed:
        raise SourceNotFoundError(f"{name}: no host {host}: {_reason(failed[0])}; check the name and the network")
    if thread.is_alive() or not found:
        raise SourceError(f"{name}: the name {host} was not resolved in time; check the network, or give an IP address")
    return found


def _refused(url: SplitResult, name: str, deadline: float, timeout_s: float) -> SourceError:
    """Why FFmpeg did not open what is there, as far as the server says in the time that is left."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        return SourceError(f"{name}: connected, but no picture within {timeout_s:g} s; check the path of the stream")
    ask = _ask_http if url.scheme.lower().startswith("http") else _ask_rtsp
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


def _ask_http(url: SplitResult, timeout_s: float) -> str:
    """The status and content type of a page: "404 Not Found"."""
    kind = http.client.HTTPSConnection if url.scheme.lower() == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port or PORTS[url.scheme.lower()], timeout=timeout_s)
    headers = {}
    if url.username:
        user = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    try:
        connection.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""), headers=headers)
        response = connection.getresponse()
        text = f"{response.status} {response.reason}"
        return text if response.status >= http.client.BAD_REQUEST else f"{text}, {response.getheader('Content-Type')}"
    finally:
        connection.close()


def _ask_rtsp(url: SplitResult, timeout_s: float) -> str:
    """The status of an RTSP server without credentials (RFC 2326, DESCRIBE): "401 Unauthorized"."""
    if url.scheme.lower() == "rtsps":
        return ""
    host, port = url.hostname or "", url.port or PORTS["rtsp"]
    query = f"?{url.query}" if url.query else ""
    shown = f"[{host}]" if ":" in host else host
    request = f"DESCRIBE rtsp://{shown}:{port}{url.path}{query} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        connection.sendall(request.encode())
        answer = connection.recv(512).decode("ascii", "replace")
    found = re.match(r"RTSP/\d\.\d (\d{3}[ \w]*)", answer)
    return found.group(1).strip() if found else ""


def _split(spec: str, name: str) -> SplitResult:
    if any(ord(letter) <= ord(" ") for letter in spec):
        raise SourceError(f"{name}: a URL has no blanks; write a blank as %20")
    try:
        url = urlsplit(spec)
        port = url.port
    except ValueError:  # its own words would quote a password with a "/" in it
        raise SourceError(
            f"{name}: not a URL; it looks like rtsp://host:554/path, with %2F, %3F, %23 and %40 for the signs /, ?, # "
            "and @ of a password"
        ) from None
    if not url.hostname or port == 0:
        raise SourceError(f"{name}: this URL names no host; it looks like rtsp://host:554/path")
    return url


def _reason(error: BaseException | None) -> str:
    return "no address" if error is None else getattr(error, "strerror", None) or one_line(error)


@dataclass(eq=False)
class _Opening:
    """A stream that is being opened; mixed when another to the same address is too, as with an NVR's cameras.

    Nobody can tell then whose connection is whose, and hanging up on another's would end it.
    """

    address: Address
    mixed: bool = False


_OPENINGS: list[_Opening] = []
_OPENINGS_CHANGE = threading.Lock()


@contextmanager
def _opening(address: Address) -> Iterator[_Opening]:
    mine = _Opening(address)
    with _OPENINGS_CHANGE:
        others = [one for one in _OPENINGS if one.address[:2] == address[:2]]
        for one in (mine, *others):
            one.mixed = bool(others)
        _OPENINGS.append(mine)
    try:
        yield mine
    finally:
        with _OPENINGS_CHANGE:
            _OPENINGS.remove(mine)


def _sockets_to(address: Address) -> list[int]:
    """This process's own connections to an address."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            descriptor = int(link.name)
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as connection:
                if connection.getpeername()[:2] == address[:2]:
                    found.append(descriptor)
        except OSError:
            continue
    return found


KIND = RtspKind()
