"""Whether a stream's server is there, and what it says: FFmpeg does not hand its reasons through OpenCV."""

from __future__ import annotations

import base64
import errno
import http.client
import os
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from edge_sdk.errors import SourceError, SourceNotFoundError, one_line
from edge_sdk.sources.base import Request

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
LEAST_S = 0.2  # what is left to a step when the time is up
SLICE_S = 0.05  # how soon a wait notices that the opening was cancelled
# The TCP_USER_TIMEOUT of every connection made here, an odd number of milliseconds: by it `Line` passes them over.
MARK_MS = 30_011

Address = tuple[Any, ...]  # what the socket module calls one: (host, port) or (host, port, flow, scope)
Found = list[tuple[socket.AddressFamily, Address]]


def split_url(spec: str, name: str) -> SplitResult:
    """The parts of a URL that names a host.

    Args:
        spec: The URL.
        name: The same without credentials, for the messages.

    Raises:
        SourceError: It is none.
    """
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


def reach(url: SplitResult, name: str, deadline: float, request: Request) -> list[Address]:
    """Connects to a URL's server and hangs up; the host's addresses, of which at least one answered.

    Raises:
        SourceNotFoundError: No such host.
        SourceError: It refuses, or does not answer before the deadline, or the request was cancelled.
    """
    host, port = host_and_port(url)
    reason: OSError | None = None
    found = _resolve(host, port, name, deadline, request)
    for family, address in found:
        try:
            _connect(family, address, name, max(deadline, time.monotonic() + LEAST_S), request).close()
        except SourceError:
            raise
        except OSError as error:
            reason = error
        else:
            return [address for _, address in found]
    if isinstance(reason, ConnectionRefusedError):
        raise SourceError(f"{name}: {host} refuses connections on port {port}; check the port, and that it streams")
    if isinstance(reason, TimeoutError):
        raise SourceError(f"{name}: no answer from {host} port {port} in time; check the address and the network")
    raise SourceError(f"{name}: {host} port {port} cannot be reached: {_reason(reason)}; check address and network")


def answers(url: SplitResult, timeout_s: float) -> bool:
    """Whether a URL's server says anything in its protocol in this time, be it that it refuses.

    That it accepts a connection tells nothing: the kernel does so for a process that hangs. It is asked about itself,
    since paths and queries of cameras hold passwords.
    """
    host, port = host_and_port(url)
    if url.scheme.lower().startswith("rtsp"):
        protocol, question = b"RTSP/", f"OPTIONS rtsp://{_shown(host)}:{port}/ RTSP/1.0\r\nCSeq: 1\r\n\r\n"
    else:
        protocol, question = b"HTTP/", f"HEAD / HTTP/1.1\r\nHost: {_shown(host)}:{port}\r\nConnection: close\r\n\r\n"
    said = b""
    try:
        with _dial(url, timeout_s, _any_certificate) as connection:  # nothing secret is sent
            connection.sendall(question.encode())
            while len(said) < len(protocol) and (more := connection.recv(64)):
                said += more
    except OSError:
        return False
    return said.startswith(protocol)


def ask_http(url: SplitResult, timeout_s: float) -> str:
    """The status and content type of a page: "404 Not Found".

    Raises:
        OSError, http.client.HTTPException: There is no answer.
    """
    host, port = host_and_port(url)
    kind = http.client.HTTPSConnection if url.scheme.lower() == "https" else http.client.HTTPConnection
    connection = kind(host, port)
    headers = {}
    if url.username:
        user = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    try:
        connection.sock = _dial(url, timeout_s, ssl.create_default_context)
        connection.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""), headers=headers)
        response = connection.getresponse()
        text = f"{response.status} {response.reason}"
        return text if response.status >= http.client.BAD_REQUEST else f"{text}, {response.getheader('Content-Type')}"
    finally:
        connection.close()


def ask_rtsp(url: SplitResult, timeout_s: float) -> str:
    """The status of an RTSP server without credentials (RFC 2326, DESCRIBE): "401 Unauthorized".

    Raises:
        OSError: There is no answer.
    """
    if url.scheme.lower() == "rtsps":
        return ""
    host, port = host_and_port(url)
    query = f"?{url.query}" if url.query else ""
    address = f"rtsp://{_shown(host)}:{port}{url.path}{query}"
    with _dial(url, timeout_s, ssl.create_default_context) as connection:
        connection.sendall(f"DESCRIBE {address} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n".encode())
        answer = connection.recv(512).decode("ascii", "replace")
    found = re.match(r"RTSP/\d\.\d (\d{3}[ \w]*)", answer)
    return found.group(1).strip() if found else ""


def host_and_port(url: SplitResult) -> tuple[str, int]:
    """Where a URL's server is."""
    return url.hostname or "", url.port or PORTS[url.scheme.lower()]


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _any_certificate() -> ssl.SSLContext:
    """Takes whoever answers for the server: cameras make their certificates themselves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _dial(url: SplitResult, timeout_s: float, context: Callable[[], ssl.SSLContext]) -> socket.socket:
    """A connection to a URL's server, in TLS where the scheme says so, with what is left of the time as its limit."""
    host, port = host_and_port(url)
    deadline, request = time.monotonic() + timeout_s, Request()
    reason: OSError = TimeoutError()
    for family, address in _resolve(host, port, host, deadline, request):
        try:
            connection = _connect(family, address, host, deadline, request)
        except OSError as error:
            reason = error
            continue
        try:
            connection.settimeout(max(LEAST_S, deadline - time.monotonic()))
            tls = url.scheme.lower().endswith("s")
            return context().wrap_socket(connection, server_hostname=host) if tls else connection
        except BaseException:
            connection.close()
            raise
    raise reason


def _connect(
    family: socket.AddressFamily, address: Address, name: str, deadline: float, request: Request
) -> socket.socket:
    """A connection to one address; OSError where there is none by the deadline, SourceError once cancelled."""
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, MARK_MS)
        connection.setblocking(False)
        error = connection.connect_ex(address)
        if error == errno.EINPROGRESS:
            waiting = select.poll()
            waiting.register(connection, select.POLLOUT)
            while not waiting.poll(SLICE_S * 1000):
                request.check_wanted(name)
                if time.monotonic() > deadline:
                    raise TimeoutError
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
    except BaseException:
        connection.close()
        raise
    return connection


class _LookUp:
    """Looks a host up in a thread of its own: a resolver without a network takes longer than anybody waits."""

    def __init__(self, host: str, port: int) -> None:
        self.found: Found = []
        self.failed: OSError | UnicodeError | None = None
        self.done = threading.Event()
        self._asked = host, port
        threading.Thread(target=self._run, name="edge-sdk-resolver", daemon=True).start()

    def _run(self) -> None:
        host, port = self._asked
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self.found = [(family, address) for family, _, _, _, address in answers]
        except (OSError, UnicodeError) as error:
            self.failed = error
        with _LOOK_UPS_CHANGE:
            del _LOOK_UPS[self._asked]
        self.done.set()


# Those under way: whoever asks for the same waits for the same thread, however often a lost camera is looked for.
_LOOK_UPS: dict[tuple[str, int], _LookUp] = {}
_LOOK_UPS_CHANGE = threading.Lock()


def _resolve(host: str, port: int, name: str, deadline: float, request: Request) -> Found:
    with _LOOK_UPS_CHANGE:
        look_up = _LOOK_UPS.get((host, port))
        if look_up is None:
            look_up = _LOOK_UPS[host, port] = _LookUp(host, port)
    deadline = max(deadline, time.monotonic() + LEAST_S)
    while not look_up.done.wait(SLICE_S) and time.monotonic() < deadline:
        request.check_wanted(name)
    if look_up.failed is not None:
        raise SourceNotFoundError(f"{name}: no host {host}: {_reason(look_up.failed)}; check the name and the network")
    if not look_up.found:
        raise SourceError(f"{name}: the name {host} was not resolved in time; check the network, or give an IP address")
    return look_up.found


def _reason(error: BaseException | None) -> str:
    return "no address" if error is None else getattr(error, "strerror", None) or one_line(error)
