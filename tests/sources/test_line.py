"""Which of a process's connections is whose: found while others come and go, and hung up alone."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from edge_sdk.errors import SourceError
from edge_sdk.sources.base import Request
from edge_sdk.sources.line import Line, connections_to, hang_up
from edge_sdk.sources.reach import MARK_MS

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.fixture
def server():
    """The address of a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()


@pytest.fixture
def connect(server):
    """Connects to it, as FFmpeg does; closed after the test."""
    made = []

    def one(mark=False):
        connection = socket.socket()
        if mark:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, MARK_MS)
        connection.connect(server)
        made.append(connection)
        return connection

    yield one
    for connection in made:
        connection.close()


def line(server, request=None, *, single=True, connected=lambda: None):
    return Line([server], "camera", request or Request(), single=single, connected=connected)


def port(connection):
    return connection.getsockname()[1]


def taken(opened):
    connections = opened.take()
    ports = [port(connection) for connection in connections]
    for connection in connections:
        connection.close()
    return ports


def test_the_connection_that_appears_is_the_lines(server, connect):
    connect()
    connected = threading.Event()
    with line(server, connected=connected.set) as opened:
        mine = connect()
        assert connected.wait(5)
        connect()  # of the next opening, which has its turn already
        time.sleep(0.1)
    assert taken(opened) == [port(mine)]


def test_a_short_look_at_the_server_is_passed_over(server, connect):
    with line(server, single=False) as opened:
        connect(mark=True)
        mine = connect()
        time.sleep(0.1)
    assert taken(opened) == [port(mine)]


def test_one_that_appears_at_the_very_end_is_found(server, connect):
    with line(server) as opened:
        mine = connect()
    assert taken(opened) == [port(mine)]


def test_a_connection_that_was_replaced_by_another_is_let_go(server, connect):
    with line(server, single=False) as opened:
        first = connect()
        time.sleep(0.1)
        first.close()
        second = connect()
        time.sleep(0.1)
    assert taken(opened) == [port(second)]


def test_a_line_that_nobody_takes_or_that_fails_leaves_nothing_open(server, connect):
    with line(server) as opened:
        connect()
    assert len(connections_of(server)) == 2  # the test's own, and the line's
    opened.close()
    assert len(connections_of(server)) == 1

    def fail():
        with line(server):
            connect()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(connections_of(server)) == 2


def connections_of(server):
    """This process's descriptors of connections to the server."""
    inodes = {f"socket:[{inode}]" for inode in _inodes(server)}
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(str(link.readlink()))
    return [link for link in links if link in inodes]


def _inodes(server):
    """Of the client's ends of connections to a port of loopback, out of the kernel's own table."""
    port = f":{server[1]:04X}"
    rows = [row.split() for row in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return [row[9] for row in rows if row[2].endswith(port)]


def test_openings_with_one_connection_take_turns_only_until_it_is_there(server, connect):
    with line(server) as first:
        one = connect()
        time.sleep(0.1)
        with line(server) as second:
            two = connect()
    assert (taken(first), taken(second)) == ([port(one)], [port(two)])


def test_openings_with_several_connections_wait_for_each_other(server, connect):
    events = []

    def other():
        with line(server, single=False) as second:
            events.append("second")
            events.append(port(connect()))
            time.sleep(0.1)
        events.append(taken(second))
        events.append(second.waited_s > 0.1)

    with line(server, single=False) as first:
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.3)
        one = connect()
        events.append("first")
    thread.join()
    assert taken(first) == [port(one)]
    assert events[:2] == ["first", "second"]
    assert events[3:] == [[events[2]], True]


def test_another_server_is_not_waited_for(server):
    elsewhere = (server[0], server[1] + 1)
    with line(server), line(elsewhere) as second:
        assert second.waited_s == 0


def test_waiting_for_a_turn_ends_in_time_and_when_it_is_cancelled(server):
    with line(server):
        with (
            pytest.raises(SourceError, match="camera: another stream of this server is still being opened"),
            line(server, Request(timeout_s=0.3)),
        ):
            pass
        cancelled = threading.Event()
        cancelled.set()
        with (
            pytest.raises(SourceError, match="camera: the opening was cancelled"),
            line(server, Request(cancelled=cancelled)),
        ):
            pass
    with line(server) as last:
        assert last.waited_s == 0


def test_a_line_that_is_cancelled_hangs_up(server, connect):
    cancelled = threading.Event()
    timer = threading.Timer(0.2, cancelled.set)
    with line(server, Request(cancelled=cancelled)) as opened:
        mine = connect()
        mine.settimeout(10)
        timer.start()
        assert mine.recv(1) == b""
    timer.join()
    opened.close()


def test_hanging_up_ends_a_blocked_read_of_that_connection_alone(server, connect):
    one, two = connect(), connect()
    found = connections_to([server])
    mine = [connection for connection in found.values() if port(connection) == port(one)]
    hang_up(mine)
    one.settimeout(5)
    assert one.recv(1) == b""
    two.settimeout(0.1)
    with pytest.raises(TimeoutError):
        two.recv(1)
    for connection in found.values():
        connection.close()
