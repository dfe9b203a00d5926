"""An ASGI application served from a thread of its own, to clients that may be slow, silent or gone."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edge_sdk.errors import SinkError, UsageError, one_line

Peer = tuple[str, int]
App = Callable[[Any, Any, Any], Any]  # what ASGI calls an application

# At the end, streams get this long to finish their last picture.
_LAST_S = 0.2
_JOIN_S = 5.0
# What the kernel may hold of a connection that is not sent yet: a slow client is to see now, not what was.
_UNSENT_BYTES = 128 << 10

_MENDS = {
    errno.EADDRINUSE: "name another port, or end what has this one",
    errno.EACCES: "ports below 1024 are for root; name another",
    errno.EADDRNOTAVAIL: "this machine has no such address; 127.0.0.1 is this machine, 0.0.0.0 every network",
}


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``127.0.0.1:8080``, ``[::1]:8080`` or ``localhost:8080``; port 0 is any that is free.

    Raises:
        UsageError: It is neither.
    """
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    # More than five digits are no port, and int() takes its time over thousands.
    wanted = colon and bare and (bare == host) != (":" in bare) and port.isascii() and port.isdecimal()
    if not wanted or len(port) > 5 or int(port) > 65535 or "/" in host:
        raise UsageError(f"{address!r} is no address to serve; it looks like 127.0.0.1:8080 or [::1]:8080")
    return bare, int(port)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; a name is looked up, and its IPv4 address preferred.

    Raises:
        SinkError: The address is in use, not this machine's, or not allowed.
    """
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = min(found, key=lambda one: one[0] != socket.AF_INET)
        both = where[0] == "::" and socket.has_dualstack_ipv6()  # every network, IPv4 ones too
        listener = socket.create_server(where, family=family, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
        reason = one_line(error) if number is None else os.strerror(number)
        mend = _MENDS.get(number or 0, "check the address")
        raise SinkError(f"http://{shown}: cannot be served: {reason}; {mend}") from error
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # connections take it over from the socket that listens
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    return listener


def is_loopback(host: str) -> bool:
    """Whether a host's name or address can mean nothing but this machine."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Connections:
    """Who is connected, and for how long; used in the server's thread alone.

    A client has `patience_s` for everything, its request and the taking of the answer, unless `rest` and `hurry` say
    otherwise.

    Args:
        most: So many at a time; who comes then is hung up on.

    Attributes:
        streaming: Those that watch a stream, until they go.
    """

    patience_s = 10.0

    def __init__(self, most: int) -> None:
        self._most = most
        self._ended = False
        self._open: dict[Peer, asyncio.Transport] = {}
        self._timers: dict[Peer, asyncio.TimerHandle] = {}
        self.streaming: set[Peer] = set()

    def opened(self, transport: asyncio.Transport) -> None:
        """A client came."""
        peer = _peer(transport)
        if peer is None or self._ended or len(self._open) >= self._most:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=0)  # what is written waits until all before it has been taken
        self._open[peer] = transport
        self.hurry(peer)

    def closed(self, transport: asyncio.Transport) -> None:
        """A client went."""
        for peer in [peer for peer, one in self._open.items() if one is transport]:
            self.rest(peer)
            del self._open[peer]
            self.streaming.discard(peer)

    def hurry(self, peer: Peer) -> None:
        """Hangs up on a client `patience_s` from now."""
        self.rest(peer)
        transport = self._open.get(peer)
        if transport is not None:
            self._timers[peer] = asyncio.get_running_loop().call_later(self.patience_s, transport.abort)

    def rest(self, peer: Peer) -> None:
        """Gives a client any time."""
        timer = self._timers.pop(peer, None)
        if timer is not None:
            timer.cancel()

    def stream(self, peer: Peer) -> None:
        """Counts a client as one that watches, until it goes."""
        if peer in self._open:
            self.streaming.add(peer)

    def end(self) -> None:
        """Hangs up on everybody who is there or comes."""
        self._ended = True
        for transport in list(self._open.values()):
            transport.abort()


def _peer(transport: asyncio.Transport) -> Peer | None:
    """The client as a request's scope names it; None when it has gone already."""
    name = transport.get_extra_info("peername")
    return (str(name[0]), int(name[1])) if name else None


class Server:
    """Serves until it is closed. It takes the socket over, and listens when it is made.

    Args:
        app: The ASGI application; its requests know their client as a `Peer` of `connections`.
        listener: From `listen`.
        connections: Holds the clients.
    """

    def __init__(self, app: App, listener: socket.socket, connections: Connections) -> None:
        self._connections = connections
        self._server = _uvicorn_server(app, connections)
        self._listener = listener
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="edge-sdk-http", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._loop.close()
            raise

    def call(self, function: Callable[[], None]) -> None:
        """Has a function called in the server's thread, soon; nothing where the server has ended."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """Ends what is being sent, hangs up and waits for the thread; may be called twice.

        Raises:
            SinkError: The thread did not end.
        """
        if not self._closing:
            self._closing = True
            self.call(self._end)
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            raise SinkError("the HTTP server's thread did not end; something that it called does not return")

    def _end(self) -> None:
        self._server.should_exit = True
        self._loop.call_later(_LAST_S, self._connections.end)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._server.serve(sockets=[self._listener]))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
            self._listener.close()


def _uvicorn_server(app: App, connections: Connections) -> Any:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Connection(H11Protocol):
        """Reports a client's coming and going, and logs no request."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.access_log = False  # without `configure_logging` the setting alone does nothing

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            connections.opened(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.closed(self.transport)
            super().connection_lost(exc)

    class Config(uvicorn.Config):
        """Leaves the process's logging alone, which may be that of another server in it."""

        def configure_logging(self) -> None:
            return

        def load(self) -> None:
            super().load()
            # As it is: not in what takes a client's word for who it is, nor in what logs whole requests, with tokens,
            # where the log's level is the lowest.
            self.loaded_app = app

    logger = logging.getLogger("uvicorn")
    if not logger.hasHandlers():  # else its warnings of malformed requests go to the terminal
        logger.addHandler(logging.NullHandler())
    config = Config(
        app,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        server_header=False,
    )
    return uvicorn.Server(config)
