"""Addresses to serve, and a server's thread."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="uvicorn is not installed")
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SinkError, UsageError
from edge_sdk.sinks.http_server import Connections, Server, is_loopback, listen, split_address


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:8080", "::1", 8080),
        ("localhost:0", "localhost", 0),
        ("raspberrypi.local:65535", "raspberrypi.local", 65535),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)


@pytest.mark.parametrize(
    "address",
    [
        "", "8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:-1", "127.0.0.1:65536", "::1:8080",
        "[127.0.0.1]:8080", "[]:8080", "http://127.0.0.1:8080", "127.0.0.1:8080/", "127.0.0.1:٣", "127.0.0.1:1²",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_one_that_is(address: str) -> None:
    with pytest.raises(UsageError, match=r"no address to serve; it looks like 127\.0\.0\.1:8080 or \[::1\]:8080"):
        split_address(address)


@given(text=st.text(max_size=30) | st.from_regex(r"[\[\]:./0-9a-z%]{0,20}:[0-9]{0,6}", fullmatch=True))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        host, port = split_address(text)
    except UsageError:
        return
    assert text == (f"[{host}]:{text.rpartition(':')[2]}" if ":" in host else f"{host}:{text.rpartition(':')[2]}")
    assert host
    assert 0 <= port <= 65535


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost.", "cam.localhost", "127.0.0.1", "127.8.9.1", "::1"]
)
def test_names_and_addresses_that_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "example.org", "localhost.example.org", "notlocalhost", "0.0.0.0", "::", "10.0.0.1", "2130706433"]
)
def test_names_and_addresses_that_may_be_another(host: str) -> None:
    assert not is_loopback(host)


def test_a_port_that_is_in_use_is_named() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(
            SinkError, match=rf"^http://127\.0\.0\.1:{port}: cannot be served: Address already in use; nam"
        ):
            listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(SinkError, match=r"http://192\.0\.2\.1:8080: .*; this machine has no such address"):
        listen("192.0.2.1", 8080)


def test_a_host_that_nobody_knows_is_named() -> None:
    with pytest.raises(SinkError, match=r"http://no-such-host\.invalid:8080: cannot be served: .*; check the address"):
        listen("no-such-host.invalid", 8080)


def test_a_name_of_this_machine_is_served_over_ipv4_which_every_client_speaks() -> None:
    with listen("localhost", 0) as listener:
        assert listener.family == socket.AF_INET


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_server_that_is_closed_at_once_or_twice_leaves_nothing() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        server = Server(nothing, listen("127.0.0.1", 0), Connections(4))
        server.close()
        server.close()
        server.call(lambda: None)  # nobody is there to be called
    assert not [thread for thread in threading.enumerate() if thread.name == "edge-sdk-http"]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return client.recv(100)


def wait_for_the_end_of(client: socket.socket) -> None:
    with suppress(ConnectionResetError):
        assert client.recv(1) == b""


def test_who_connects_and_says_nothing_is_hung_up_on_and_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connections, "patience_s", 4.0)
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    server = Server(nothing, listener, Connections(4))
    silent = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(4)]
    try:
        silent[0].sendall(b"GET / HT")  # begins, and goes no further
        with socket.create_connection(("127.0.0.1", port), timeout=20) as fifth:
            wait_for_the_end_of(fifth)
        silent[3].setblocking(False)
        with pytest.raises(BlockingIOError):  # the others still have their time
            silent[3].recv(1)
        silent[3].settimeout(20)
        for client in silent:
            wait_for_the_end_of(client)
        end_s = time.monotonic() + 20
        answer = b""
        while not answer.startswith(b"HTTP/1.1 204") and time.monotonic() < end_s:
            answer = ask(port)
        assert answer.startswith(b"HTTP/1.1 204")
    finally:
        for client in silent:
            client.close()
        server.close()
