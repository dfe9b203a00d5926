"""What the camera sees, over HTTP: a live page, MJPEG, JSON and Prometheus metrics."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import math
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from edge_sdk.errors import MissingDependencyError, SinkError, UsageError, extra_hint
from edge_sdk.pipeline.books import Stats
from edge_sdk.result import Event, Result
from edge_sdk.sinks.base import Sink
from edge_sdk.sinks.draw import draw
from edge_sdk.sinks.http_guard import Guard, check_token, json_answer
from edge_sdk.sinks.http_pictures import Pictures
from edge_sdk.sinks.http_server import Connections, Server, is_loopback, listen, split_address
from edge_sdk.sinks.jsonl import as_record
from edge_sdk.sinks.metrics import MetricsCollector, text
from edge_sdk.sources.base import without_credentials

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

DEFAULT_ADDRESS = "127.0.0.1:8080"
# Beside those who watch: pages that ask for figures, Prometheus, a watchdog.
_OTHER_CLIENTS = 56
_BOUNDARY = "edge-sdk-picture"
_NO_PAGE = "there is /, /stream.mjpg, /snapshot.jpg, /result.json, /stats.json, /metrics and /healthz"
_JPEG_LONGEST_SIDE = 65500  # libjpeg's limit


class HttpSink(Sink):
    """Serves the newest result to browsers and programs.

    ``/`` is a page to look at; ``/stream.mjpg`` and ``/snapshot.jpg`` are pictures with boxes; ``/result.json`` is the
    newest result as `as_record` makes it, ``/stats.json`` the accounting, ``/metrics`` the same for Prometheus;
    ``/healthz`` answers 200 while the camera streams, else 503.

    A picture is drawn and encoded when somebody asks for it, once for all who do. A slow client skips pictures.

    Args:
        address: Host and port; port 0 is any that is free, and `url` tells which.
        class_names: Names by class id.
        stats: Gives the accounting, such as ``lambda: camera.stats``; called in the server's thread.
        camera: What the page and the metrics call the camera; credentials are removed.
        token: What every path but ``/healthz`` then wants, as ``Authorization: Bearer TOKEN`` or ``?token=TOKEN``: 16
            letters, digits and - . _ ~ or more. It travels as plain text; over networks that others are on, put a
            proxy with TLS before it.
        quality: Of the JPEGs, 1 to 100.
        max_fps: Pictures a second of the stream.
        max_clients: Who may watch the stream at a time.

    Attributes:
        url: Where it is served, with the port that was found, and for ``0.0.0.0`` with an address of this machine.

    Raises:
        UsageError: The address is beyond this machine and there is no token, or an argument makes no sense.
        SinkError: The address is in use, or cannot be served.
        MissingDependencyError: Starlette, Uvicorn or prometheus-client is not installed.
    """

    wants_image = True

    def __init__(
        self,
        address: str,
        class_names: Sequence[str],
        *,
        stats: Callable[[], Stats],
        camera: str = "camera",
        token: str | None = None,
        quality: int = 80,
        max_fps: float = 15.0,
        max_clients: int = 8,
    ) -> None:
        host, port = split_address(address)
        self._address = address
        for name, value, fine in (
            ("quality", quality, 1 <= quality <= 100),
            ("max_fps", max_fps, 0 < max_fps < math.inf),
            ("max_clients", max_clients, max_clients >= 1),
        ):
            if not fine:
                raise UsageError(f"{name} makes no sense: {value}")
        _check_installed()
        self._names = class_names
        self._stats = stats
        self._token = None if token is None else check_token(token)
        self._quality = quality
        self._max_clients = max_clients
        self._event: Event | None = None
        self._closed = False
        self._newest: Result | None = None
        self._camera = without_credentials(camera)
        self._metrics = MetricsCollector(stats, camera, self._counts)
        self._pictures = Pictures(self._encode, max_fps)
        self._connections = Connections(max_clients + _OTHER_CLIENTS)
        self._page, self._page_policy = _page("http_page.html")
        self._server = self._serve(host, port)

    def _serve(self, host: str, port: int) -> Server:
        from starlette.routing import Router

        listener = listen(host, port)
        try:
            bound = listener.getsockname()
            if self._token is None and not is_loopback(bound[0]):
                raise UsageError(
                    f"{self._address} is open to the network, so a token is needed: --http {self._address} "
                    "--http-token TOKEN, of 16 characters or more; 127.0.0.1 is for this machine alone"
                )
            self.url = _url(host, bound)
            self.name = self.url
            guard = Guard(
                Router(self._routes(), redirect_slashes=False, default=json_answer(404, {"error": _NO_PAGE})),
                token=self._token,
                host=host,
                open_paths=("/healthz",),
                front=("/", *_page("http_token.html")),
            )
            return Server(guard, listener, self._connections)
        except BaseException:
            listener.close()
            raise

    def put(self, result: Result) -> None:
        """Keeps the result in place of the one before; nothing is drawn here.

        Raises:
            SinkError: It has no picture, or the sink is closed.
        """
        if self._closed:
            raise SinkError(f"{self.name}: is closed")
        height, width = result.frame.image.shape[:2]
        if not 0 < min(height, width) <= max(height, width) <= _JPEG_LONGEST_SIDE:
            raise SinkError(f"{self.name}: a picture of {width}x{height} cannot be shown")
        self._newest = result
        self._pictures.offer(result)
        if self._connections.streaming:
            self._server.call(self._pictures.wake)

    def event(self, event: Event) -> None:
        """Keeps what is said of the camera's state, for the page."""
        self._event = event

    def close(self) -> None:
        """Ends the streams and the server; may be called twice.

        Raises:
            SinkError: The server does not end.
        """
        self._closed = True
        self._server.call(self._pictures.end)
        self._server.close()
        self._newest = None

    def _counts(self) -> Mapping[str, int]:
        newest = self._newest
        return {} if newest is None else newest.counts

    def _encode(self, result: Result) -> bytes:
        image = draw(result.frame.image.copy(), result.detections, self._names)
        done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        if not done:
            raise SinkError(f"{self.name}: OpenCV could not encode a picture of {image.shape[1]}x{image.shape[0]}")
        return bytes(jpeg)

    # From here on, everything runs in the server's thread.

    def _routes(self) -> list[Route]:
        from starlette.routing import Route

        return [
            Route("/", self._get_page),
            Route("/stream.mjpg", self._get_stream),
            Route("/snapshot.jpg", self._get_snapshot),
            Route("/result.json", self._get_result),
            Route("/stats.json", self._get_stats),
            Route("/metrics", self._get_metrics),
            Route("/healthz", self._get_health),
        ]

    async def _get_page(self, request: Request) -> Response:
        return _response(self._page, "text/html; charset=utf-8", {"content-security-policy": self._page_policy})

    async def _get_stream(self, request: Request) -> Response:
        from starlette.responses import StreamingResponse

        kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        if request.method == "HEAD":
            return _response(b"", kind)
        if len(self._connections.streaming) >= self._max_clients:
            error = f"{self._max_clients} watch already; come back later"
            return _json({"error": error}, 503, {"retry-after": "5"})
        client = request.client  # None: it has gone already
        peer = ("", 0) if client is None else (client.host, client.port)
        self._connections.stream(peer)
        return StreamingResponse(self._parts(peer), media_type=kind)

    async def _parts(self, peer: tuple[str, int]) -> AsyncIterator[bytes]:
        """The stream: each picture ends with the next one's boundary, at which browsers show it."""
        boundary = f"--{_BOUNDARY}\r\n".encode()
        yield boundary
        seen = 0
        while True:
            self._connections.hurry(peer)
            yield b""  # comes back when the client has taken all before; the picture is chosen then
            self._connections.rest(peer)
            picture = await self._pictures.after(seen)
            if picture is None:
                return
            seen, jpeg = picture
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            yield head + jpeg + b"\r\n" + boundary

    async def _get_snapshot(self, request: Request) -> Response:
        jpeg = self._pictures.newest()
        return self._nothing_yet() if jpeg is None else _response(jpeg, "image/jpeg")

    async def _get_result(self, request: Request) -> Response:
        newest = self._newest
        return self._nothing_yet() if newest is None else _json(as_record(newest, self._names))

    async def _get_stats(self, request: Request) -> Response:
        stats = self._stats()
        record = {"camera": self._camera, **stats_record(stats, self._event)}
        newest = self._newest
        record["http"] = {
            "newest": None if newest is None else newest.frame.id,
            "watching": len(self._connections.streaming),
            "most": self._max_clients,
            "pictures": self._pictures.made,
        }
        return _json(record)

    async def _get_metrics(self, request: Request) -> Response:
        body, kind = text(self._metrics)
        return _response(body, kind)

    async def _get_health(self, request: Request) -> Response:
        state = self._stats().state
        return _json({"state": state}, 200 if state == "streaming" else 503)

    def _nothing_yet(self) -> Response:
        return _json({"error": "no result yet", "state": self._stats().state}, 404)


def stats_record(stats: Stats, event: Event | None = None) -> dict[str, Any]:
    """The accounting as plain values, as ``/stats.json`` has it: all causes of drops, and why the state is what it is.

    Args:
        stats: Of the run.
        event: The latest one; its reason is told if it led to the present state.
    """
    return {**stats.record(), "reason": event.reason if event is not None and event.state == stats.state else ""}


def _response(body: bytes, kind: str, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    from starlette.responses import Response

    return Response(body, status, {"content-type": kind, **(headers or {})})


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return _response((json.dumps(value) + "\n").encode(), "application/json", headers, status)


def _page(name: str) -> tuple[bytes, str]:
    """A page, and the policy that allows its own style and script and nothing else."""
    page = Path(__file__).with_name(name).read_bytes()

    def hashes(tag: str) -> str:
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), page, re.DOTALL)
        own = [f"'sha256-{base64.b64encode(hashlib.sha256(part).digest()).decode()}'" for part in parts]
        return " ".join(own) or "'none'"

    return page, (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def _url(host: str, bound: Any) -> str:
    """Where somebody finds what is bound there; for every network, the address of the one that leads out."""
    shown, port = host, bound[1]
    if ipaddress.ip_address(bound[0].partition("%")[0]).is_unspecified:
        shown = _own_address() or "127.0.0.1"
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _own_address() -> str | None:
    """The address that this machine sends from; None without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of RFC 5737, for documentation; a datagram socket sends nothing here
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _check_installed() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(f"Starlette and Uvicorn are not installed: {extra_hint('http')}") from error
