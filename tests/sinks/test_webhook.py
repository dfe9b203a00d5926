"""Results at a real web server that fails, hangs, lies and goes away."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_sdk
from edge_sdk import Detections, Result
from edge_sdk.errors import SinkError, UsageError
from edge_sdk.result import Event
from edge_sdk.sinks import webhook
from edge_sdk.sinks.jsonl import as_record
from edge_sdk.sinks.webhook import WebhookSink

NAMES = ("person", "bear")
IMAGE = np.zeros((0, 0, 3), np.uint8)
PATIENCE_S = 20.0
Reply = Callable[[BaseHTTPRequestHandler], None]
MakeResult = Callable[..., Result]


@pytest.fixture
def found(make_result: MakeResult) -> Result:
    """A result with one bear."""
    one = Detections(np.array([[1, 2, 3, 4]], np.float32), np.array([0.75], np.float32), np.array([1], np.int32))
    return make_result(IMAGE, one, id=3)


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)


def put_into(sink: WebhookSink, result: Result, failed: list[SinkError]) -> None:
    """What another thread does."""
    try:
        sink.put(result)
    except SinkError as error:
        failed.append(error)


def status(code: int, **headers: str) -> Reply:
    """An answer without a body."""

    def reply(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in {**headers, "Content-Length": "0"}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()

    return reply


class Server:
    """A web server on loopback that keeps what is posted, and gives the answers that were set, in turn, then 200."""

    def __init__(self, port: int = 0, *, tls: Path | None = None) -> None:
        self.replies: list[Reply] = []
        self.posts: list[tuple[str, dict[str, str], Any]] = []
        self.connections = 0
        self.gone = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                server.connections += 1
                server._open.append(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.posts.append((self.path, dict(self.headers), json.loads(body)))
                reply = server.replies.pop(0) if server.replies else status(200)
                with suppress(OSError):  # the sink hung up
                    reply(self)

            def log_message(self, *args: object) -> None:
                pass

        self._open: list[socket.socket] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = False
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls, tls.with_suffix(".key"))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self._server.server_port
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def hang_up(self) -> None:
        """Ends every connection, as a server does with those that are idle."""
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.gone.set()
        self._server.shutdown()
        self.hang_up()
        self._server.server_close()
        self._thread.join()

    def silent(self, request: BaseHTTPRequestHandler) -> None:
        """Takes the post and says nothing."""
        request.close_connection = True
        self.gone.wait(PATIENCE_S)

    def drip(self, request: BaseHTTPRequestHandler) -> None:
        """Answers for ever, a byte at a time."""
        request.close_connection = True
        request.wfile.write(b"HTTP/1.1 ")
        while not self.gone.wait(0.05):
            request.wfile.write(b"x")

    def endless(self, request: BaseHTTPRequestHandler) -> None:
        """Answers 200 with a body that never ends."""
        request.close_connection = True
        request.send_response(200)
        request.end_headers()
        while not self.gone.is_set():
            request.wfile.write(b"x" * 65536)

    def raw(self, data: bytes) -> Reply:
        """An answer that no handler would give."""

        def reply(request: BaseHTTPRequestHandler) -> None:
            request.close_connection = True
            request.wfile.write(data)

        return reply


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server."""
    running = Server()
    yield running
    running.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(webhook, "_FIRST_WAIT_S", 0.01)


# --- what is posted -------------------------------------------------------------------------------


def test_a_result_is_posted_as_the_object_that_a_line_of_json_has(server, found) -> None:
    with WebhookSink(server.url + "/bears?room=é 1#top", NAMES) as sink:
        sink.put(found)
    ((path, headers, body),) = server.posts
    assert path == "/hook/bears?room=%C3%A9%201"
    assert body == json.loads(json.dumps(as_record(found, NAMES)))
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == f"edge-sdk/{edge_sdk.__version__}"
    assert headers["Host"] == f"127.0.0.1:{server.port}"
    assert len(headers["Idempotency-Key"]) == 32
    assert "Authorization" not in headers


def test_results_without_detections_are_left_out_unless_they_are_asked_for(server, found, make_result) -> None:
    with WebhookSink(server.url, NAMES) as sink, WebhookSink(server.url, NAMES, empty=True) as every:
        sink.put(make_result(IMAGE, id=1))
        sink.put(found)
        every.put(make_result(IMAGE, id=2))
    assert [body["frame"] for _, _, body in server.posts] == [3, 2]


def test_between_two_posts_lies_the_time_that_was_asked_for(server, found) -> None:
    posted = []
    with WebhookSink(server.url, NAMES, every_s=0.4) as sink:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            before = len(server.posts)
            sink.put(found)  # those in between are no failure
            if len(server.posts) > before:
                posted.append(time.monotonic())
            time.sleep(0.005)
    assert len(server.posts) == len(posted) >= 2
    assert min(np.diff(posted)) > 0.3


def test_events_are_posted_where_they_are_asked_for(server) -> None:
    event = Event("reconnecting", "streaming", 7, "the camera is gone")
    with WebhookSink(server.url, NAMES) as sink, WebhookSink(server.url, NAMES, events=True) as every:
        sink.event(event)
        every.event(event)
    assert [body for _, _, body in server.posts] == [
        {"event": "reconnecting", "previous": "streaming", "at_ns": 7, "reason": "the camera is gone"}
    ]


def test_one_connection_serves_all_results(server, found) -> None:
    with WebhookSink(server.url, NAMES) as sink:
        for _ in range(20):
            sink.put(found)
    assert len(server.posts) == 20
    assert server.connections == 1
    assert len({headers["Idempotency-Key"] for _, headers, _ in server.posts}) == 20


def test_a_connection_that_the_server_ended_meanwhile_costs_no_attempt(server, found) -> None:
    with WebhookSink(server.url, NAMES, attempts=1) as sink:
        for number in range(5):
            sink.put(found)
            server.hang_up()
            until(lambda: webhook._has_something(sink._connection.sock), "the end of the connection")
            assert server.connections == number + 1


def test_own_headers_win_over_the_sinks_own(server, found) -> None:
    headers = {"X-Token": "s3cr3t", "user-agent": "mine", "content-type": "text/json"}
    with WebhookSink(server.url, NAMES, headers=headers) as sink:
        sink.put(found)
    sent = {name.lower(): value for name, value in server.posts[0][1].items()}
    assert (sent["x-token"], sent["user-agent"], sent["content-type"]) == ("s3cr3t", "mine", "text/json")
    assert sink.name == f"http://127.0.0.1:{server.port}"


def test_user_and_password_become_basic_authorisation_and_show_nowhere(server, found) -> None:
    server.replies = [status(401), status(302, Location="http://anna:s3cr3t@127.0.0.1/hook/login?key=s3cr3t")]
    url = server.url.replace("://", "://anna%20lee:s3cr3t%2F%C3%A9@")
    with WebhookSink(url + "/s3cr3t", NAMES) as sink:
        with pytest.raises(SinkError, match="401 Unauthorized: check user and password") as refused:
            sink.put(found)
        with pytest.raises(SinkError, match="302 Found: redirects are not followed") as moved:
            sink.put(found)
        sink.put(found)
    assert server.posts[2][1]["Authorization"] == "Basic " + base64.b64encode("anna lee:s3cr3t/é".encode()).decode()
    shown = sink.name + repr(refused.value) + repr(moved.value)
    assert "s3cr3t" not in shown
    assert "anna" not in shown


# --- what is tried again, and what is not ---------------------------------------------------------


@pytest.mark.parametrize("code", [429, 500, 502, 503, 599])
def test_what_fails_for_the_moment_is_tried_again_and_told_apart_by_its_key(server, found, quick, code) -> None:
    server.replies = [status(code), status(code)]
    with WebhookSink(server.url, NAMES) as sink:
        sink.put(found)
        assert len(server.posts) == 3
        sink.put(found)
    keys = [headers["Idempotency-Key"] for _, headers, _ in server.posts]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert all(body == server.posts[0][2] for _, _, body in server.posts)


def test_after_so_many_attempts_the_result_is_given_up_and_the_next_one_is_tried(server, found, quick) -> None:
    server.replies = [status(503)] * 3
    with WebhookSink(server.url, NAMES) as sink:
        with pytest.raises(SinkError, match=r"has not taken it in 3 attempts: it answers 503 Service Unavailable$"):
            sink.put(found)
        assert len(server.posts) == 3
        sink.put(found)
    assert len(server.posts) == 4


@pytest.mark.parametrize("code", [400, 401, 404, 409, 413, 301, 307, 304, 101])
def test_what_would_fail_again_is_not_tried_again(server, found, code) -> None:
    server.replies = [status(code)]
    with WebhookSink(server.url, NAMES) as sink:
        with pytest.raises(SinkError, match=rf"^the server 127\.0\.0\.1:{server.port} answers {code} \w+"):
            sink.put(found)
        assert len(server.posts) == 1
        sink.put(found)
    assert len(server.posts) == 2


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://other.example/hook?key=s3cr3t", "names: https://other.example/...?key=***"),
        ("/hook/", r"names: /.../"),
        ("http://[::1]:1/\x1b[31mred" + "x" * 5000, "names: http://"),
        ("", "names: none"),
    ],
)
def test_a_redirect_is_not_followed_but_said(server, found, location, shown) -> None:
    server.replies = [status(308, Location=location)]
    with WebhookSink(server.url, NAMES) as sink, pytest.raises(SinkError) as caught:
        sink.put(found)
    assert shown in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_a_server_that_asks_for_a_pause_gets_it(server, found, quick) -> None:
    server.replies = [status(429, Retry_After="1"), status(503, Retry_After=formatdate(time.time() + 3, usegmt=True))]
    began = time.monotonic()
    with WebhookSink(server.url, NAMES) as sink:
        sink.put(found)
    assert time.monotonic() - began > 1.9  # a date has whole seconds
    assert len(server.posts) == 3


@pytest.mark.parametrize(
    "asked", ["-5", "soon", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT"]
)
def test_a_pause_has_its_bounds(server, found, quick, monkeypatch, asked) -> None:
    monkeypatch.setattr(webhook, "_LONGEST_WAIT_S", 0.3)
    server.replies = [status(503, Retry_After=asked)]
    began = time.monotonic()
    with WebhookSink(server.url, NAMES) as sink:
        sink.put(found)
    assert time.monotonic() - began < 5


def test_a_server_that_goes_and_comes_back_is_used_again(found, quick) -> None:
    first = Server()
    with WebhookSink(first.url, NAMES) as sink:
        sink.put(found)
        first.close()
        with pytest.raises(SinkError, match=rf"in 3 attempts: 127\.0\.0\.1 refuses connections on port {first.port}"):
            sink.put(found)
        second = Server(first.port)
        sink.put(found)
        second.close()
    assert len(second.posts) == 1


# --- servers that hang or lie ---------------------------------------------------------------------


@pytest.mark.parametrize("way", ["silent", "drip"])
def test_a_server_that_hangs_costs_its_time_and_no_more(server, found, quick, way) -> None:
    server.replies = [getattr(server, way)] * 2
    began = time.monotonic()
    with WebhookSink(server.url, NAMES, timeout_s=0.5, attempts=2) as sink:
        with pytest.raises(SinkError, match=r"in 2 attempts: no answer within 0\.5 s"):
            sink.put(found)
        assert 0.9 < time.monotonic() - began < 6
        sink.put(found)
    assert len(server.posts) == 3


def test_an_answer_without_end_is_not_read_to_its_end(server, found) -> None:
    server.replies = [server.endless]
    with WebhookSink(server.url, NAMES) as sink:
        began = time.monotonic()
        sink.put(found)
        assert time.monotonic() - began < 4  # it is not the time limit that ends it
        sink.put(found)
    assert len(server.posts) == 2
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 " + b"x" * 100_000,
        b"\x00\xff" * 100,
    ],
)
def test_what_is_no_answer_is_tried_again(server, found, quick, answer) -> None:
    server.replies = [server.raw(answer)]
    with WebhookSink(server.url, NAMES) as sink:
        sink.put(found)
    assert len(server.posts) == 2


@pytest.mark.parametrize(
    "rest",
    [
        b"Transfer-Encoding: chunked\r\n\r\nzzzz\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        b"Content-Length: 99999999999999\r\n\r\nx",
        b"Content-Length: -5\r\n\r\nxxx",
        b"Content-Length: 1\r\n\r\nxHTTP/1.1 500 of nobody's\r\n\r\n",
    ],
)
def test_an_answer_that_lies_about_its_body_is_an_answer(server, found, rest) -> None:
    server.replies = [server.raw(b"HTTP/1.1 200 OK\r\n" + rest)] * 2
    with WebhookSink(server.url, NAMES, attempts=1, timeout_s=3) as sink:
        for _ in range(3):
            sink.put(found)
    assert len(server.posts) == 3


# --- closing --------------------------------------------------------------------------------------


def held() -> set[str]:
    """Open descriptors and running threads."""
    return {link.name for link in Path("/proc/self/fd").iterdir()} | {one.name for one in threading.enumerate()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
def test_no_thread_and_no_descriptor_is_left(found, quick) -> None:
    before = held()
    server = Server()
    for ways in ([], [status(404)], [server.endless], [server.silent] * 3, [status(503)] * 3, [server.raw(b"?")] * 3):
        server.replies = list(ways)
        with WebhookSink(server.url, NAMES, timeout_s=0.5) as sink, suppress(SinkError):
            sink.put(found)
        assert sink._connection is sink._line is None
    server.close()
    with WebhookSink(server.url, NAMES) as sink, pytest.raises(SinkError, match="refuses"):
        sink.put(found)
    until(lambda: not held() - before, "the end of threads and descriptors")


@pytest.mark.parametrize("way", ["hangs", "drips", "is down", "wants a pause"])
def test_another_thread_that_closes_ends_a_post_at_once(server, found, way) -> None:
    reply = {"hangs": server.silent, "drips": server.drip, "wants a pause": status(503, Retry_After="30")}
    server.replies = [reply.get(way, status(503))]
    sink = WebhookSink(server.url, NAMES, timeout_s=60, attempts=100)
    if way == "is down":
        sink = WebhookSink(server.url.replace(str(server.port), "1"), NAMES, timeout_s=60, attempts=100)
    failed: list[SinkError] = []

    posting = threading.Thread(target=lambda: put_into(sink, found, failed))
    posting.start()
    until(lambda: server.posts or way == "is down", "the post")
    began = time.monotonic()
    sink.close()
    posting.join(PATIENCE_S)
    assert time.monotonic() - began < 3
    assert "the sink is closed" in str(failed[0])
    assert sink._connection is sink._line is None


def test_what_connects_after_all_when_the_sink_is_closed_posts_nothing(found) -> None:
    failed: list[SinkError] = []
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        for _ in range(4):  # until the system takes no more, and lets those who come wait
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        sink = WebhookSink(f"http://127.0.0.1:{full.getsockname()[1]}/", NAMES, timeout_s=60)
        posting = threading.Thread(target=lambda: put_into(sink, found, failed))
        posting.start()
        until(sink._busy.locked, "the post")
        time.sleep(0.2)
        began = time.monotonic()
        sink.close()
        assert time.monotonic() - began < 5
        assert posting.is_alive()  # it is still waiting to be connected
        stack.close()
        full.settimeout(0.2)
        while posting.is_alive():
            with suppress(TimeoutError), full.accept()[0] as connection:
                connection.settimeout(PATIENCE_S)
                assert connection.recv(1000) == b""
    assert "the sink is closed" in str(failed[0])
    assert sink._connection is sink._line is None


def test_a_closed_sink_can_be_closed_again_and_posts_nothing(server, found) -> None:
    sink = WebhookSink(server.url, NAMES)
    sink.put(found)
    sink.close()
    sink.close()
    with pytest.raises(SinkError, match="the sink is closed"):
        sink.put(found)
    assert len(server.posts) == 1


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that no system knows; its key lies beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with: apt install openssl")
    path = tmp_path / "server.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=server"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "server.key", "-out", path),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return path


def test_over_https_the_servers_certificate_is_checked(certificate, found, monkeypatch) -> None:
    with ExitStack() as stack:
        server = Server(tls=certificate)
        stack.callback(server.close)
        with WebhookSink(server.url, NAMES) as sink, pytest.raises(SinkError, match=r"is not trusted .self.signed"):
            sink.put(found)  # once: it would be no better the second time
        assert server.posts == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with WebhookSink(server.url, NAMES) as sink:
            for number in range(5):
                sink.put(replace(found, frame=replace(found.frame, id=number)))
        assert [body["frame"] for _, _, body in server.posts] == list(range(5))
        with (
            WebhookSink(server.url.replace("127.0.0.1", "localhost"), NAMES) as sink,
            pytest.raises(SinkError, match="Hostname mismatch"),
        ):
            sink.put(found)


def test_a_handshake_that_hangs_can_be_ended(found) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system accepts for it; nobody ever speaks
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        with (
            WebhookSink(url, NAMES, timeout_s=0.5, attempts=1) as sink,
            pytest.raises(SinkError, match=r"in one attempt: no answer within 0\.5 s"),
        ):
            sink.put(found)
        sink = WebhookSink(url, NAMES, timeout_s=60)
        failed: list[SinkError] = []
        posting = threading.Thread(target=lambda: put_into(sink, found, failed))
        posting.start()
        until(lambda: sink._line, "the connection")
        sink.close()
        posting.join(PATIENCE_S)
    assert "the sink is closed" in str(failed[0])


# --- what it is built from ------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["", "host/path", "ftp://host/", "http://", "http://host:x/", "http://user:1/p@host/"])
def test_an_address_that_makes_no_sense_is_refused_with_an_example(url) -> None:
    with pytest.raises(UsageError, match="such as https://user:password@host/path"):
        WebhookSink(url, NAMES)


@pytest.mark.parametrize(
    "options",
    [
        {"every_s": -1}, {"every_s": np.nan}, {"every_s": np.inf}, {"timeout_s": 0}, {"timeout_s": np.nan},
        {"attempts": 0}, {"headers": {"a b": "c"}},
        {"headers": {"a": "s3cr3t\r\nb: c"}}, {"headers": {"a": "s3cr3t人"}},
        {"headers": {"Content-Length": "s3cr3t"}}, {"headers": {"authorization": "s3cr3t"}}, {"headers": {"": ""}},
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options) -> None:
    with pytest.raises(UsageError) as caught:
        WebhookSink("http://anna:pw@127.0.0.1/", NAMES, **options)
    assert "s3cr3t" not in str(caught.value)


def test_its_name_has_no_path_for_services_have_their_keys_there() -> None:
    with WebhookSink("https://a:b@hooks.example/services/T0/B0/s3cr3t?key=s3cr3t", NAMES) as sink:
        assert sink.name == "https://hooks.example:443"
    assert not sink.complete
    assert not sink.wants_image
