"""Meters over HTTP: slow, lying, locked and broken ones give a reason within the time limit, and never a password."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors.base import Absent
from edge_sdk.sensors.http_meter import (
    Digest,
    DigestChallenge,
    HttpMeter,
    MeterAddress,
    _Socket,
    digest_challenge,
    json_watts,
    meter_address,
)
from edge_sdk.testing.fake_meter import FakeMeter

Behave = Callable[[socket.socket], None]


@pytest.fixture
def server() -> Iterator[Callable[[Behave], MeterAddress]]:
    """Starts a server whose every connection is left to a function; it goes on until that returns."""
    ended = threading.Event()
    listeners: list[socket.socket] = []

    def start(behave: Behave) -> MeterAddress:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def one(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.settimeout(10)
                connection.recv(65536)
                behave(connection)

        def serve() -> None:
            with suppress(OSError):
                while not ended.is_set():
                    threading.Thread(target=one, args=[listener.accept()[0]], daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        return MeterAddress("127.0.0.1", listener.getsockname()[1])

    yield start
    ended.set()
    for listener in listeners:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def answer(body: bytes, status: str = "200 OK", extra: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def asked(address: MeterAddress, timeout_s: float = 5.0, target: str = "/") -> str:
    """The reason for which there is no answer."""
    meter = HttpMeter(address, timeout_s=timeout_s)
    try:
        with pytest.raises(SensorError) as caught:
            meter.get(target)
    finally:
        meter.close()
    assert str(caught.value).startswith(address.label)
    return str(caught.value).removeprefix(f"{address.label}: ")


# ---- addresses


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("192.168.1.20", MeterAddress("192.168.1.20")),
        ("plug.local:8080/1", MeterAddress("plug.local", 8080, "1")),
        ("http://plug/0/", MeterAddress("plug", 80, "0")),
        ("[fe80::1%eth0]:81", MeterAddress("fe80::1%eth0", 81)),
        ("admin:pa:ss/w@rd?#@10.0.0.1/2", MeterAddress("10.0.0.1", 80, "2", "admin", "pa:ss/w@rd?#")),
        (":secret@plug", MeterAddress("plug", 80, "", "", "secret")),
    ],
)
def test_an_address_is_read(text: str, wanted: MeterAddress) -> None:
    assert meter_address(text, "shelly:HOST") == wanted


@pytest.mark.parametrize(
    "text",
    ["", "/1", "a b", "plug:0", "plug:70000", "plug:x", "user@plug", "https://plug", "ftp://plug", "plug\n", "ä"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"shelly:HOST|USER:PASSWORD@HOST"):
        meter_address(text, "shelly:HOST")


@pytest.mark.parametrize("text", ["a:b\r\nX: y@plug", "ä:b@plug"])
def test_a_user_or_password_that_cannot_be_sent_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="characters that cannot be sent"):
        meter_address(text, "shelly:HOST")


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_usage_error_and_no_password_is_shown(text: str) -> None:
    hidden = "kpqzxv"
    try:
        shown = str(meter_address(f"admin:{hidden}{text}", "shelly:HOST"))
    except UsageError as error:
        shown = str(error)
    assert hidden not in shown


def test_the_label_has_the_port_where_it_is_not_80() -> None:
    assert MeterAddress("plug").label == "plug"
    assert MeterAddress("::1", 8080, "", "admin", "secret").label == "[::1]:8080"


# ---- answers


def test_json_is_read_over_one_connection() -> None:
    with FakeMeter({"/status": {"power": 4.55}}) as fake:
        meter = HttpMeter(meter_address(fake.host, ""))
        assert [str(meter.get("/status")["power"]) for _ in range(3)] == ["4.55"] * 3
        meter.close()
        assert fake.connections == 1


def test_a_connection_that_the_meter_closes_each_time_is_opened_again(server: Callable[[Behave], MeterAddress]) -> None:
    connections = []

    def once(connection: socket.socket) -> None:
        connections.append(connection)
        connection.sendall(answer(b'{"power": 1}'))  # and closes, without having said so

    meter = HttpMeter(server(once), timeout_s=5)
    assert [meter.get("/") for _ in range(3)] == [{"power": 1}] * 3
    meter.close()
    assert len(connections) == 3


def test_an_answer_without_length_ends_with_its_connection(server: Callable[[Behave], MeterAddress]) -> None:
    address = server(lambda connection: connection.sendall(b'HTTP/1.0 200 OK\r\n\r\n{"power": 2}'))
    meter = HttpMeter(address, timeout_s=5)
    assert [meter.get("/") for _ in range(2)] == [{"power": 2}] * 2
    meter.close()


def test_a_meter_that_says_nothing_is_left_after_the_time_limit(server: Callable[[Behave], MeterAddress]) -> None:
    assert asked(server(lambda _: time.sleep(3)), timeout_s=0.3) == "no answer within 0.3 s"


def test_one_that_trickles_is_left_after_the_time_limit_too(server: Callable[[Behave], MeterAddress]) -> None:
    def trickle(connection: socket.socket) -> None:
        for letter in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200:
            connection.sendall(bytes([letter]))
            time.sleep(0.05)

    began = time.monotonic()
    assert asked(server(trickle), timeout_s=0.4) == "no answer within 0.4 s"
    assert time.monotonic() - began < 5  # of 11 s that it would go on


def test_ten_megabytes_are_not_read(server: Callable[[Behave], MeterAddress]) -> None:
    sent = []

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n")
        for _ in range(160):
            connection.sendall(b"[" * 65536)
            sent.append(65536)

    assert asked(server(flood)) == "the answer is longer than 64 KiB: not a meter"
    assert sum(sent) < 10485760


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "the connection broke off"),
        (b"garbage\r\n\r\n", "the answer is no HTTP"),
        (b"\0\xff" * 4000, "the answer is no HTTP"),
        (b"HTTP/1.1 999999 what\r\n\r\n", "the answer is no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500, "the answer is no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A" * 100_000, "the answer is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "the answer is no HTTP"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"pow', "the answer is no JSON"),
        (answer(b"<html>"), "the answer is no JSON"),
        (answer(b"\xff\xfe"), "the answer is no JSON"),
        (answer(b"[" * 60_000), "the answer is no JSON"),
        (answer(b'{"power": NaN}'), "the answer is no JSON"),
        (answer(b'{"power": 1e99999999999999999999}'), "the answer is no JSON"),
        (answer(b"[" + b"9" * 60_000 + b"]"), "the answer is no JSON"),
        (answer(b"{}", "404 Not Found"), "HTTP 404"),
        (answer(b"{}", "500 Oh no"), "HTTP 500"),
        (answer(b"{}", "401 No"), "the meter asks for a password; write USER:PASSWORD@HOST"),
    ],
)
def test_nonsense_is_a_reason(server: Callable[[Behave], MeterAddress], said: bytes, reason: str) -> None:
    assert asked(server(lambda connection: connection.sendall(said))) == reason


@given(st.binary(max_size=300))
def test_any_bytes_are_json_or_a_reason(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        meter = HttpMeter(MeterAddress("127.0.0.1", 9), timeout_s=5)
        connection = meter._open(time.monotonic() + 5)
        connection.sock = _Socket(ours, connection)
        with suppress(SensorError):
            meter.get("/")
        meter.close()


def test_a_redirection_is_not_followed(server: Callable[[Behave], MeterAddress]) -> None:
    with FakeMeter({"/": {"power": 1}}, locked_with="x") as other:
        moved = answer(b"", "302 Found", f"Location: http://{other.host}/\r\n")
        reason = asked(server(lambda connection: connection.sendall(moved)))
        assert reason == "the answer is a redirection (HTTP 302), which is not followed"
        assert other.requests == []


def test_where_nothing_listens_it_is_said() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = MeterAddress("127.0.0.1", free.getsockname()[1])
        assert asked(address) == "nothing answers there (connection refused)"


def test_a_host_that_is_none_is_said() -> None:
    assert asked(MeterAddress("no-such-host.invalid")) in ("no such host", "no answer within 5 s")


def test_one_that_is_back_is_read_again() -> None:
    with FakeMeter({"/": {"power": 1}}) as fake:
        meter = HttpMeter(meter_address(fake.host, ""), timeout_s=5)
        assert meter.get("/") == {"power": 1}
    with pytest.raises(SensorError, match=r"refused|broke off"):
        meter.get("/")
    with FakeMeter({"/": {"power": 2}}, port=int(fake.host.split(":")[1])):
        assert meter.get("/") == {"power": 2}
    meter.close()


def test_closing_ends_a_question_that_is_under_way(server: Callable[[Behave], MeterAddress]) -> None:
    arrived = threading.Event()

    def hang(_: socket.socket) -> None:
        arrived.set()
        time.sleep(5)

    meter = HttpMeter(server(hang), timeout_s=30)
    reasons: list[str] = []

    def ask() -> None:
        try:
            meter.get("/")
        except SensorError as error:
            reasons.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    assert arrived.wait(10)
    meter.close()
    thread.join(10)
    assert not thread.is_alive()
    assert reasons == [f"{meter.label}: the connection broke off"]
    with pytest.raises(SensorError, match="closed"):
        meter.get("/")
    meter.close()


# ---- passwords


@pytest.mark.parametrize("ask", ["digest", "basic"])
def test_a_password_is_given_to_the_meter_that_asks(ask: str) -> None:
    with FakeMeter({"/a": {"power": 1}, "/b": {"power": 2}}, locked_with='s"e\\c:ret', ask=ask) as fake:
        meter = HttpMeter(meter_address(f'admin:s"e\\c:ret@{fake.host}', ""))
        assert [meter.get(target) for target in ("/a", "/b", "/a")] == [{"power": 1}, {"power": 2}, {"power": 1}]
        meter.close()
        assert fake.requests == ["/a", "/a", "/b", "/a"]  # asked for once, then known
        assert fake.connections == 1


def test_a_new_nonce_is_answered() -> None:
    with FakeMeter({"/a": {"power": 1}}, locked_with="secret") as fake:
        meter = HttpMeter(meter_address(f":secret@{fake.host}", ""))
        meter.get("/a")
        fake.nonce = "another"
        assert meter.get("/a") == {"power": 1}
        meter.close()


@pytest.mark.parametrize("ask", ["digest", "basic"])
def test_a_wrong_password_is_refused_without_being_shown(ask: str) -> None:
    with FakeMeter({"/a": {"power": 1}}, locked_with="right", ask=ask) as fake:
        reason = asked(meter_address(f"admin:wrong@{fake.host}", ""), target="/a")
        assert reason == "the meter refuses this user and password"
        assert fake.requests == ["/a", "/a"]


def test_a_meter_that_asks_for_a_password_gets_none_that_nobody_gave() -> None:
    with FakeMeter({"/a": {}}, locked_with="right") as fake:
        reason = asked(meter_address(fake.host, ""), target="/a")
        assert reason == "the meter asks for a password; write USER:PASSWORD@HOST"
        assert fake.requests == ["/a"]


def test_no_password_is_sent_before_the_meter_asks() -> None:
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.handle_request, daemon=True).start()
        meter = HttpMeter(MeterAddress("127.0.0.1", listener.server_address[1], "", "admin", "secret"), timeout_s=5)
        assert meter.get("/") == {}
        meter.close()
    assert seen == [None]


def test_a_way_of_signing_in_that_we_do_not_have_is_named(server: Callable[[Behave], MeterAddress]) -> None:
    old = answer(b"{}", "401 No", 'WWW-Authenticate: Digest realm="x", nonce="y", qop="auth"\r\n')  # MD5
    address = server(lambda connection: connection.sendall(old))
    reason = asked(MeterAddress(address.host, address.port, "", "admin", "secret"))
    assert reason == "the meter asks for a way of signing in that is not digest SHA-256 or basic"


def test_the_digest_of_the_standard_comes_out() -> None:
    """RFC 7616 3.9.1: user Mufasa, password Circle of Life, algorithm SHA-256."""
    nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
    challenge = DigestChallenge("http-auth@example.org", nonce, "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS")
    header = Digest(challenge, "Mufasa", "Circle of Life")(
        "/dir/index.html", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    )
    assert 'response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"' in header
    assert "nc=00000001" in header


def test_the_strongest_of_several_challenges_is_taken() -> None:
    header = 'Basic realm="a", Digest realm="b", nonce="n1", qop="auth", algorithm=MD5, '
    header += 'Digest realm="c", nonce="n2", qop="auth, auth-int", algorithm=SHA-256, opaque="o"'
    assert digest_challenge(header) == DigestChallenge("c", "n2", "o")
    assert digest_challenge('Basic realm="Digest"') is None


@given(st.text(max_size=300))
def test_any_challenge_is_read_or_passed_over(header: str) -> None:
    digest_challenge(header)
    digest_challenge(f"Digest {header}")


# ---- numbers


@pytest.mark.parametrize("value", [None, True, "4.5", [], {}, -1, 10**400])
def test_what_is_no_power_is_absent(value: object) -> None:
    assert isinstance(json_watts(value), Absent)


def test_a_power_is_a_number() -> None:
    assert json_watts(4) == 4.0
    assert json_watts(0) == 0.0
