"""Servers that answer, refuse, hang and lie: what can be told of them in time, and without credentials."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from urllib.parse import urlsplit

import pytest

from edge_sdk.errors import SourceError, SourceNotFoundError
from edge_sdk.sources.base import Request
from edge_sdk.sources.reach import answers, ask_http, ask_rtsp, reach

pytestmark = pytest.mark.usefixtures("leaves_nothing")

MARGIN_S = 1.5  # for a machine that is busy


class Server(threading.Thread):
    """Answers each connection with the same words, and keeps what it was asked. None says nothing at all."""

    def __init__(self, words, tls=None):
        super().__init__()
        self.words = words
        self.asked = []
        self._tls = tls
        self._over = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.05)
        self.port = self._listening.getsockname()[1]
        self.start()

    def run(self):
        with self._listening:
            while not self._over.is_set():
                try:
                    connection = self._listening.accept()[0]
                except TimeoutError:
                    continue
                connection.settimeout(5)
                try:
                    connection = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
                    self.asked.append(connection.recv(4096))
                    if self.words is None:
                        self._over.wait(10)
                    else:
                        connection.sendall(self.words)
                except OSError:
                    pass
                connection.close()

    def close(self):
        self._over.set()
        self.join()


@pytest.fixture
def serve():
    servers = []

    def start(words, tls=None):
        servers.append(Server(words, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that nobody vouches for, as cameras have."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl for a certificate: apt install openssl")
    folder = tmp_path_factory.mktemp("certificate")
    key, chain = str(folder / "key.pem"), str(folder / "chain.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=camera"]
    subprocess.run([*command, "-keyout", key, "-out", chain], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        ("rtsp", b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"),
        ("rtsp", b"RTSP/1.0 401 Unauthorized\r\n\r\n"),
        ("RTSP", b"RTSP/1.0 454 Session Not Found\r\n\r\n"),
        ("http", b"HTTP/1.0 200 OK\r\n\r\n"),
        ("http", b"HTTP/1.1 405 Method Not Allowed\r\n\r\n"),
    ],
)
def test_a_server_that_says_anything_in_its_protocol_is_there(serve, scheme, words):
    assert answers(urlsplit(f"{scheme}://127.0.0.1:{serve(words).port}/live"), 2)


@pytest.mark.parametrize(
    ("scheme", "words"), [("rtsp", b""), ("rtsp", b"HTTP/1.0 400 Bad Request\r\n\r\n"), ("http", b"\x00" * 64)]
)
def test_a_server_that_hangs_up_or_talks_something_else_is_not(serve, scheme, words):
    assert not answers(urlsplit(f"{scheme}://127.0.0.1:{serve(words).port}/live"), 2)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_takes_connections_and_says_nothing_is_not_there(serve, scheme):
    began = time.monotonic()
    assert not answers(urlsplit(f"{scheme}://127.0.0.1:{serve(None).port}/live"), 0.5)
    assert time.monotonic() - began < 0.5 + MARGIN_S


@pytest.mark.parametrize(
    ("scheme", "words"), [("rtsps", b"RTSP/1.0 200 OK\r\n\r\n"), ("https", b"HTTP/1.0 404 x\r\n\r\n")]
)
def test_a_server_with_a_certificate_of_its_own_making_is_there(serve, certificate, scheme, words):
    assert answers(urlsplit(f"{scheme}://127.0.0.1:{serve(words, certificate).port}/live"), 3)
    assert not answers(urlsplit(f"{scheme}://127.0.0.1:{serve(words).port}/live"), 3)  # it has no TLS


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_nothing_secret_is_sent_to_see_whether_a_server_is_there(serve, scheme):
    server = serve(b"")
    answers(urlsplit(f"{scheme}://anna:s3cret@127.0.0.1:{server.port}/user=anna_password=s3cret?key=s3cret"), 2)
    assert server.asked
    assert b"s3cret" not in server.asked[0]
    assert b"anna" not in server.asked[0]


def test_a_port_where_nobody_listens_is_not_there():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert not answers(urlsplit(f"rtsp://127.0.0.1:{port}/"), 2)
    assert not answers(urlsplit("rtsp://camera.invalid/"), 0.5)


def test_what_a_server_says_is_read_from_its_first_line(serve):
    rtsp = serve(b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n")
    assert ask_rtsp(urlsplit(f"rtsp://127.0.0.1:{rtsp.port}/live?a=1"), 2) == "404 Not Found"
    assert rtsp.asked[0].startswith(b"DESCRIBE rtsp://127.0.0.1:%d/live?a=1 RTSP/1.0\r\n" % rtsp.port)
    page = serve(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>")
    assert ask_http(urlsplit(f"http://anna:s3cret@127.0.0.1:{page.port}/a?b=1"), 2) == "200 OK, text/html"
    assert page.asked[0].startswith(b"GET /a?b=1 HTTP/1.1\r\n")
    assert b"Authorization: Basic YW5uYTpzM2NyZXQ=" in page.asked[0]


def test_credentials_go_to_no_server_whose_certificate_nobody_vouches_for(serve, certificate):
    server = serve(b"HTTP/1.0 200 OK\r\n\r\n", certificate)
    with pytest.raises(ssl.SSLError):
        ask_http(urlsplit(f"https://anna:s3cret@127.0.0.1:{server.port}/"), 2)
    assert server.asked in ([], [b""])


@pytest.fixture
def swallowing():
    """The port of a listener whose queue is full: it answers no further connection."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        time.sleep(0.2)
        yield full.getsockname()[1]
        for one in waiting:
            one.close()


def test_an_address_that_swallows_packets_fails_in_time(swallowing):
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"no answer from 127\.0\.0\.1 port"):
        reach(urlsplit(f"rtsp://127.0.0.1:{swallowing}/"), "camera", began + 1, Request())
    assert time.monotonic() - began < 1 + MARGIN_S
    assert not answers(urlsplit(f"rtsp://127.0.0.1:{swallowing}/"), 0.5)


def test_reaching_for_an_address_can_be_cancelled(swallowing):
    cancelled = threading.Event()
    timer = threading.Timer(0.3, cancelled.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(SourceError, match="camera: the opening was cancelled"):
        reach(urlsplit(f"rtsp://127.0.0.1:{swallowing}/"), "camera", began + 60, Request(cancelled=cancelled))
    assert time.monotonic() - began < 0.3 + MARGIN_S
    timer.join()


def test_every_address_of_a_host_that_answers_is_given(serve):
    server = serve(b"")
    found = reach(urlsplit(f"rtsp://localhost:{server.port}/"), "camera", time.monotonic() + 5, Request())
    assert ("127.0.0.1", server.port) in [address[:2] for address in found]


def test_a_resolver_that_hangs_is_asked_by_one_thread_however_often_somebody_looks(monkeypatch):
    asked, let_go = [], threading.Event()

    def hang(host, port, **_):
        asked.append(host)
        let_go.wait(20)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    url = urlsplit("rtsp://camera.example/live")
    began = time.monotonic()
    assert [answers(url, 0.2) for _ in range(3)] == [False] * 3
    with pytest.raises(SourceError, match=r"the name camera\.example was not resolved in time"):
        reach(url, "camera", time.monotonic() + 0.2, Request())
    assert time.monotonic() - began < 0.8 + MARGIN_S
    assert asked == ["camera.example"]
    let_go.set()
    while any(thread.name == "edge-sdk-resolver" for thread in threading.enumerate()):
        time.sleep(0.01)
    with pytest.raises(SourceNotFoundError, match=r"no host camera\.example: Name or service not known"):
        reach(url, "camera", time.monotonic() + 5, Request())
