"""The connection over which FFmpeg opens a stream: found among this process's own, so that it can be hung up."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from edge_sdk.errors import SourceError
from edge_sdk.sources.base import Request
from edge_sdk.sources.reach import MARK_MS, SLICE_S, Address
from edge_sdk.sources.watch import watching

LOOK_S = 0.01  # between two looks for the connection

_TURNS = threading.Condition()
_BUSY: set[Address] = set()  # servers to which a connection of FFmpeg is being looked for


class Line:
    """Finds the connections of the one opening that runs in its block.

    FFmpeg does not hand its descriptors through OpenCV, and only the end of its connection ends a blocked opening or
    read at once. It is the one that appears to the server's addresses meanwhile. So that nobody takes another's for
    his own, openings at one server take turns: over RTSP until the connection is there, some milliseconds, so that
    the streams of one recorder open side by side; over HTTP, where a password or a redirect makes a second
    connection, until the stream is open.

    Args:
        addresses: The server's.
        name: Of the source, for messages.
        request: Its time limit is that of waiting for the turn too. When it is cancelled the line hangs up.
        single: Whether FFmpeg makes one connection and keeps it.
        connected: Called, perhaps from another thread, when there is a connection, and so FFmpeg is at work.

    Attributes:
        waited_s: For the turn.
    """

    def __init__(
        self,
        addresses: Collection[Address],
        name: str,
        request: Request,
        *,
        single: bool,
        connected: Callable[[], object],
    ) -> None:
        self.waited_s = 0.0
        self._addresses = frozenset(address[:2] for address in addresses)
        self._name = name
        self._request = request
        self._single = single
        self._connected = connected
        self._has_turn = False
        self._before: frozenset[int] = frozenset()
        self._mine: dict[int, socket.socket] = {}
        self._watch = ExitStack()

    def __enter__(self) -> Line:
        self._wait_for_turn()
        try:
            others = connections_to(self._addresses)
            self._before = frozenset(others)
            _close(others.values())
            self._watch.enter_context(watching(self._look, LOOK_S))
        except BaseException:
            self._give_turn()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._watch.close()
        if self._has_turn:
            self._claim()
            self._give_turn()
        if exc[0] is not None:
            self.close()

    def take(self) -> list[socket.socket]:
        """The connections, after the block; whoever takes them closes them."""
        taken, self._mine = list(self._mine.values()), {}
        return taken

    def close(self) -> None:
        """Lets go of connections that nobody took."""
        _close(self.take())

    def _wait_for_turn(self) -> None:
        began = time.monotonic()
        with _TURNS:
            while not _BUSY.isdisjoint(self._addresses):
                _TURNS.wait(SLICE_S)
                self._request.check_wanted(self._name)
                self.waited_s = time.monotonic() - began
                if self.waited_s > self._request.timeout_s:
                    raise SourceError(
                        f"{self._name}: another stream of this server is still being opened after {self.waited_s:.0f} s"
                    )
            _BUSY.update(self._addresses)
            self._has_turn = True

    def _give_turn(self) -> None:
        with _TURNS:
            _BUSY.difference_update(self._addresses)
            self._has_turn = False
            _TURNS.notify_all()

    def _look(self) -> bool:
        if self._has_turn:
            self._claim()
            if self._mine:
                self._connected()
                if self._single:
                    self._give_turn()
        cancelled = self._request.cancelled
        if cancelled is not None and cancelled.is_set():
            hang_up(self._mine.values())
        return not self._has_turn and cancelled is None

    def _claim(self) -> None:
        there = connections_to(self._addresses, but=[connection.fileno() for connection in self._mine.values()])
        _close([self._mine.pop(inode) for inode in set(self._mine) - set(there)])  # FFmpeg has closed it
        known = self._before | set(self._mine)
        _close([connection for inode, connection in there.items() if inode in known])
        self._mine |= {inode: connection for inode, connection in there.items() if inode not in known}


def hang_up(connections: Iterable[socket.socket]) -> None:
    """Ends connections for everybody who has a descriptor of them: a blocked read fails at once."""
    for connection in connections:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def connections_to(addresses: Collection[Address], but: Collection[int] = ()) -> dict[int, socket.socket]:
    """This process's own connections, by inode, which no other ever has; duplicates, which the caller closes.

    Args:
        addresses: (host, port) of the other end.
        but: Descriptors to pass over.
    """
    found: dict[int, socket.socket] = {}
    for link in Path("/proc/self/fd").iterdir():
        descriptor = int(link.name)
        with suppress(OSError):  # it was closed meanwhile
            if descriptor in but or not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            connection = _duplicate(descriptor)
            inode = os.fstat(connection.fileno()).st_ino
            if inode in found or not _leads_to(connection, addresses):
                connection.close()
            else:
                found[inode] = connection
    return found


def _duplicate(descriptor: int) -> socket.socket:
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:  # another file has its number now
        os.close(copy)
        raise


def _leads_to(connection: socket.socket, addresses: Collection[Address]) -> bool:
    try:
        return (
            connection.getpeername()[:2] in addresses
            and connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) != MARK_MS
        )
    except OSError:
        return False


def _close(connections: Iterable[socket.socket]) -> None:
    for connection in connections:
        connection.close()
