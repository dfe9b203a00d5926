"""Fetching, against a server on this machine that does everything a server can do wrong."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import ChecksumError, DownloadError
from edge_sdk.models import download
from edge_sdk.models.download import Patience, fetch

DATA = hashlib.shake_256(b"the right file").digest(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
OTHER = hashlib.shake_256(b"another").digest(len(DATA))
HASTY = Patience(timeout_s=0.5, attempts=3, backoff_s=0.0, least_bytes=100_000, lock_s=10)

ROOT = Path(download.__file__).parents[2]
CHILD = """
import sys
from pathlib import Path
from edge_sdk.models.download import fetch
url, target, size, sha256 = sys.argv[1:]
print(fetch(url, Path(target), size_bytes=int(size), sha256=sha256))
"""

Step = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        steps = self.server.steps
        with contextlib.suppress(ConnectionError):  # the client may leave first
            (steps.pop(0) if len(steps) > 1 else steps[0])(self)
        self.close_connection = True

    def do_CONNECT(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        self.send_error(403)

    def start(self) -> int:
        """Where the asked part starts."""
        asked = self.headers.get("Range")
        return int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0

    def answer(self, status: int, body: bytes = b"", **headers: object) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Answers the first request by the first step, and so on; the last step answers all the rest."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.steps: list[Step] = []
        self.requests: list[tuple[str, dict[str, str]]] = []

    def play(self, *steps: Step) -> str:
        self.steps, self.requests = list(steps), []
        return f"http://127.0.0.1:{self.server_address[1]}/model.onnx"

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]

    def handle_error(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as one:
        yield one


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model.onnx"


# --- what a server may do ------------------------------------------------------------------------


def serve(data: bytes = DATA, *, ranges: bool = True, upto: int | None = None, etag: str | None = None) -> Step:
    """The whole file, or from the asked byte; `upto`: the connection is cut after so many bytes."""

    def step(handler: Handler) -> None:
        start = handler.start() if ranges else 0
        if start >= len(data):
            return handler.answer(416)
        headers: dict[str, object] = {"Content_Length": len(data) - start}
        if etag:
            headers["ETag"] = etag
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        end = len(data) if upto is None else start + upto
        return handler.answer(206 if start else 200, data[start:end], **headers)

    return step


def refuse(status: int, **headers: object) -> Step:
    return lambda handler: handler.answer(status, **headers)


def claim(length: int, body: bytes = DATA) -> Step:
    """States one length and sends another number of bytes."""
    return lambda handler: handler.answer(200, body, Content_Length=length)


def wrong_part(handler: Handler) -> None:
    handler.answer(206, DATA[:1000], Content_Range=f"bytes 0-999/{len(DATA)}")


def endless(handler: Handler) -> None:
    handler.answer(200)
    while True:
        handler.wfile.write(bytes(1 << 16))


def silent(handler: Handler) -> None:
    time.sleep(2)


def get(url: str, target: Path, **options: object) -> Path:
    settings = {"size_bytes": len(DATA), "sha256": SHA256, "patience": HASTY, **options}
    return fetch(url, target, **settings)  # type: ignore[arg-type]


def parts(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


# --- the plain case ------------------------------------------------------------------------------


def test_a_file_is_fetched_and_nothing_else_is_left(server: Server, target: Path) -> None:
    assert get(server.play(serve()), target).read_bytes() == DATA
    assert parts(target) == ["model.onnx"]
    assert target.stat().st_mode & 0o111 == 0


def test_progress_starts_at_nothing_and_ends_at_the_whole(server: Server, target: Path) -> None:
    seen: list[tuple[int, int]] = []
    get(server.play(serve()), target, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_right_file_that_is_there_is_not_fetched_again(server: Server, target: Path) -> None:
    url = server.play(serve())
    get(url, target)
    get(url, target)
    assert len(server.requests) == 1


def test_a_wrong_file_that_is_there_is_replaced(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(OTHER)
    assert get(server.play(serve()), target).read_bytes() == DATA


# --- connections that break ----------------------------------------------------------------------


def test_a_cut_connection_goes_on_where_it_stopped(server: Server, target: Path) -> None:
    url = server.play(serve(upto=1000), serve(upto=70_000), serve())
    assert get(url, target).read_bytes() == DATA
    assert server.ranges() == [None, "bytes=1000-", "bytes=71000-"]


def test_a_server_that_gives_no_parts_is_read_from_the_start(server: Server, target: Path) -> None:
    url = server.play(serve(upto=1000), serve(ranges=False))
    assert get(url, target).read_bytes() == DATA


def test_a_file_that_changed_meanwhile_is_read_from_the_start(server: Server, target: Path) -> None:
    def changed(handler: Handler) -> None:
        assert handler.headers["If-Range"] == '"old"'
        handler.answer(200, DATA, Content_Length=len(DATA), ETag='"new"')

    assert get(server.play(serve(OTHER, upto=5000, etag='"old"'), changed), target).read_bytes() == DATA


def test_a_weak_etag_does_not_vouch_for_a_part(server: Server, target: Path) -> None:
    get(server.play(serve(upto=1000, etag='W/"1"'), serve()), target)
    assert "If-Range" not in server.requests[1][1]


def test_a_connection_that_always_breaks_at_once_is_given_up(server: Server, target: Path) -> None:
    with pytest.raises(DownloadError, match=r"gave up after 3 tries at 30 of 300000 bytes.*is kept") as caught:
        get(server.play(serve(upto=10)), target)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 3
    assert parts(target) == ["model.onnx.part"]


def test_a_bad_line_may_take_more_tries_than_that_as_long_as_it_advances(server: Server, target: Path) -> None:
    patience = Patience(attempts=2, backoff_s=0, least_bytes=30_000)
    assert get(server.play(serve(upto=30_000)), target, patience=patience).read_bytes() == DATA
    assert len(server.requests) == 10


def test_a_server_that_starts_over_each_time_does_not_hold_us_for_ever(server: Server, target: Path) -> None:
    with pytest.raises(DownloadError, match="gave up"):
        get(server.play(serve(ranges=False, upto=150_000)), target)
    assert len(server.requests) == 1 + HASTY.attempts


def test_a_silent_server_is_given_up(server: Server, target: Path) -> None:
    patience = Patience(timeout_s=0.1, attempts=2, backoff_s=0)
    with pytest.raises(DownloadError, match="timed out"):
        get(server.play(silent), target, patience=patience)
    assert parts(target) == []


def test_a_server_that_trickles_is_given_up(server: Server, target: Path) -> None:
    def trickle(handler: Handler) -> None:
        handler.answer(200, Content_Length=len(DATA))
        for _ in range(40):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    patience = Patience(timeout_s=0.2, attempts=1)
    with pytest.raises(DownloadError, match=r"only \d+ bytes came in"):
        get(server.play(trickle), target, patience=patience)


def test_nobody_listening_is_said_in_a_line(target: Path) -> None:
    with running() as gone:
        url = gone.play(serve())
    with pytest.raises(DownloadError, match="refused"):
        get(url, target)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server: Server, target: Path, status: int) -> None:
    assert get(server.play(refuse(status, Retry_After=0), serve()), target).read_bytes() == DATA


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_server_that_says_no_is_believed(server: Server, target: Path, status: int) -> None:
    with pytest.raises(DownloadError, match=f"answered {status}"):
        get(server.play(refuse(status)), target)
    assert len(server.requests) == 1
    assert parts(target) == []


def test_an_answer_without_a_file_is_refused(server: Server, target: Path) -> None:
    with pytest.raises(DownloadError, match="204"):
        get(server.play(refuse(204)), target)


# --- lengths that lie ----------------------------------------------------------------------------


def test_a_length_stated_too_short_does_not_cut_the_file(server: Server, target: Path) -> None:
    assert get(server.play(claim(1000, DATA[:1000]), serve()), target).read_bytes() == DATA


def test_a_server_that_only_has_a_shorter_file_is_named_so(server: Server, target: Path) -> None:
    with pytest.raises(DownloadError, match="it spoke of 133 bytes, not 300000"):
        get(server.play(claim(133, DATA[:133])), target)
    assert not target.exists()


def test_a_length_stated_too_long_does_not_matter_when_the_bytes_are_right(server: Server, target: Path) -> None:
    assert get(server.play(claim(len(DATA) + 5000)), target).read_bytes() == DATA


@pytest.mark.parametrize("length", ["many", "9" * 5000, "-1"])
def test_a_length_that_is_no_number_does_not_matter(server: Server, target: Path, length: str) -> None:
    def nonsense(handler: Handler) -> None:
        handler.answer(200, DATA, Content_Length=length)

    assert get(server.play(nonsense), target).read_bytes() == DATA


def test_a_server_that_never_ends_fills_no_disk(server: Server, target: Path) -> None:
    most = 0

    def watch(done: int, total: int) -> None:
        nonlocal most
        most = max(most, (target.parent / "model.onnx.part").stat().st_size)

    with pytest.raises(ChecksumError):
        get(server.play(endless), target, progress=watch)
    assert most <= len(DATA)
    assert parts(target) == []


# --- bytes that are wrong ------------------------------------------------------------------------


def test_wrong_bytes_are_removed_and_never_used(server: Server, target: Path) -> None:
    with pytest.raises(ChecksumError, match=r"not the file on record.*was removed"):
        get(server.play(serve(OTHER)), target)
    assert parts(target) == []
    assert len(server.requests) == 1


def test_wrong_bytes_leave_what_was_there(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"an older file")
    with pytest.raises(ChecksumError):
        get(server.play(serve(OTHER)), target)
    assert target.read_bytes() == b"an older file"


def test_pieces_that_do_not_fit_together_are_fetched_anew_once(server: Server, target: Path) -> None:
    url = server.play(serve(OTHER, upto=5000), serve())
    assert get(url, target).read_bytes() == DATA
    assert server.ranges() == [None, "bytes=5000-", None]


def test_pieces_that_never_fit_are_given_up(server: Server, target: Path) -> None:
    with pytest.raises(ChecksumError):
        get(server.play(serve(OTHER, upto=5000), serve(OTHER)), target)
    assert server.ranges() == [None, "bytes=5000-", None]
    assert parts(target) == []


def test_a_part_from_another_place_than_asked_is_not_appended(server: Server, target: Path) -> None:
    assert get(server.play(serve(upto=5000), wrong_part, serve()), target).read_bytes() == DATA


def test_a_login_page_of_the_network_is_told_from_a_model(server: Server, target: Path) -> None:
    def page(handler: Handler) -> None:
        handler.answer(200, b"<html>Welcome to our hotel</html>", Content_Type="text/html; charset=utf-8")

    target.parent.mkdir()
    part = target.parent / "model.onnx.part"
    part.write_bytes(DATA[:5000])
    with pytest.raises(DownloadError, match="a web page came instead of the model"):
        get(server.play(page), target)
    assert part.read_bytes() == DATA[:5000]


# --- what earlier runs left ----------------------------------------------------------------------


def test_an_interrupted_run_is_continued_by_the_next(server: Server, target: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    url = server.play(serve())
    with pytest.raises(KeyboardInterrupt):
        get(url, target, progress=stop)
    kept = (target.parent / "model.onnx.part").stat().st_size
    assert kept > 100_000
    assert not target.exists()
    assert get(url, target).read_bytes() == DATA
    assert server.ranges() == [None, f"bytes={kept}-"]


def test_a_process_that_was_killed_is_continued_by_the_next(server: Server, target: Path) -> None:
    def slow(handler: Handler) -> None:
        handler.answer(200, DATA[:50_000], Content_Length=len(DATA))
        time.sleep(2)

    words = [sys.executable, "-c", CHILD, server.play(slow, serve()), str(target), str(len(DATA)), SHA256]
    part = target.parent / "model.onnx.part"
    with subprocess.Popen(words, cwd=ROOT) as child:
        while not part.exists() or part.stat().st_size < 50_000:
            time.sleep(0.01)
        child.kill()
    assert get(server.play(serve()), target).read_bytes() == DATA
    assert server.ranges() == ["bytes=50000-"]


def test_a_whole_part_needs_no_network(target: Path) -> None:
    target.parent.mkdir()
    (target.parent / "model.onnx.part").write_bytes(DATA)
    assert get("http://127.0.0.1:9/", target).read_bytes() == DATA


@pytest.mark.parametrize("left", [OTHER, DATA + b"more", OTHER[:70_000]], ids=["wrong", "too long", "wrong start"])
def test_a_part_that_is_no_part_of_it_costs_a_fresh_start(server: Server, target: Path, left: bytes) -> None:
    target.parent.mkdir()
    (target.parent / "model.onnx.part").write_bytes(left)
    assert get(server.play(serve()), target).read_bytes() == DATA
    assert server.ranges()[-1] is None


def test_an_error_of_the_caller_is_not_taken_for_the_networks(server: Server, target: Path) -> None:
    def fail(done: int, total: int) -> None:
        raise OSError("the caller's own")

    with pytest.raises(OSError, match="the caller's own"):
        get(server.play(serve()), target, progress=fail)


# --- several at once -----------------------------------------------------------------------------


def test_processes_that_want_the_same_file_fetch_it_once(server: Server, target: Path) -> None:
    def slow(handler: Handler) -> None:
        handler.answer(200, Content_Length=len(DATA))
        for start in range(0, len(DATA), 30_000):
            handler.wfile.write(DATA[start : start + 30_000])
            time.sleep(0.05)

    words = [sys.executable, "-c", CHILD, server.play(slow), str(target), str(len(DATA)), SHA256]
    children = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [child.communicate(timeout=60)[0].strip() for child in children] == [str(target)] * 3
    assert [child.returncode for child in children] == [0, 0, 0]
    assert target.read_bytes() == DATA
    assert len(server.requests) == 1
    assert parts(target) == ["model.onnx"]


def test_threads_that_want_the_same_file_all_get_it(server: Server, target: Path) -> None:
    url = server.play(serve(upto=50_000))
    patience = Patience(backoff_s=0, least_bytes=50_000)
    threads = [threading.Thread(target=get, args=(url, target), kwargs={"patience": patience}) for _ in "123"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert target.read_bytes() == DATA
    assert parts(target) == ["model.onnx"]


def test_waiting_for_another_process_has_an_end(target: Path) -> None:
    target.parent.mkdir()
    part = target.parent / "model.onnx.part"
    patience = Patience(lock_s=0.1)
    with (
        download._locked(part, 1),
        pytest.raises(DownloadError, match="another process"),
    ):
        get("http://127.0.0.1:9/", target, patience=patience)
    assert parts(target) == []


# --- redirects and proxies -----------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_and_a_part_stays_a_part(server: Server, target: Path, status: int) -> None:
    url = server.play(serve(upto=1000))
    server.play(serve(upto=1000), refuse(status, Location=url.replace("model", "there")), serve())
    assert get(url, target).read_bytes() == DATA
    assert [path for path, _ in server.requests] == ["/model.onnx", "/model.onnx", "/there.onnx"]
    assert server.ranges()[-1] == "bytes=1000-"


@pytest.mark.parametrize("elsewhere", ["file:///etc/hostname", "ftp://127.0.0.1/model.onnx"])
def test_a_redirect_off_the_web_is_not_followed(server: Server, target: Path, elsewhere: str) -> None:
    with pytest.raises(DownloadError):
        get(server.play(refuse(302, Location=elsewhere)), target)
    assert parts(target) == []


def test_redirects_in_a_circle_end(server: Server, target: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        get(server.play(refuse(302, Location="/model.onnx")), target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "/etc/hostname", "data:,x"])
def test_only_web_addresses_are_fetched(target: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="only http and https"):
        get(url, target)


def test_the_proxy_of_the_environment_is_used(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = server.play(serve()).rpartition("/")[0]
    monkeypatch.setenv("http_proxy", proxy)
    assert get("http://models.invalid/model.onnx", target).read_bytes() == DATA
    assert server.requests[0][0] == "http://models.invalid/model.onnx"


def test_https_asks_the_proxy_for_a_tunnel(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", server.play(serve()).rpartition("/")[0])
    with pytest.raises(DownloadError, match="403"):
        get("https://models.invalid/model.onnx", target)
    assert server.requests[0][0] == "models.invalid:443"


def test_hosts_that_need_no_proxy_are_asked_directly(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert get(server.play(serve()), target).read_bytes() == DATA


def test_credentials_and_tokens_of_an_address_are_not_told(server: Server, target: Path) -> None:
    url = server.play(refuse(404)).replace("http://", "http://user:secret@") + "?token=hidden"
    with pytest.raises(DownloadError) as caught:
        get(url, target)
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """A server with a certificate that nobody knows, and that certificate."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    words += [
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run(words, check=True, capture_output=True)
    with running() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield server, certificate


def test_a_certificate_that_is_not_trusted_ends_it(secure: tuple[Server, Path], target: Path) -> None:
    with pytest.raises(DownloadError, match="not trusted"):
        get(secure[0].play(serve()).replace("http:", "https:"), target)


def test_encryption_is_not_given_up_by_a_redirect(
    secure: tuple[Server, Path], server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure[1]))
    plain = server.play(serve())
    url = secure[0].play(refuse(302, Location=plain)).replace("http:", "https:")
    with pytest.raises(DownloadError, match="leads from https to http:"):
        get(url, target)
    assert server.requests == []
    secure[0].play(serve())
    assert get(url, target).read_bytes() == DATA


# --- the disk ------------------------------------------------------------------------------------


def test_a_file_that_cannot_fit_is_not_begun(server: Server, target: Path) -> None:
    with pytest.raises(DownloadError, match="no space for the model"):
        get(server.play(serve()), target, size_bytes=1 << 60)
    assert server.requests == []
    assert parts(target) == []


def test_a_disk_that_fills_up_is_named_and_gets_its_space_back(tmp_path: Path) -> None:
    part = io.FileIO(tmp_path / "part", "w+")
    part.write(b"some")
    with (
        part,
        io.FileIO("/dev/full", "w") as full,
        pytest.raises(DownloadError, match=r"no space.*EDGE_SDK_CACHE"),
        download._writable(tmp_path, part),
    ):
        download._write_all(full, b"x")
    assert (tmp_path / "part").stat().st_size == 0


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match=r"cannot be written.*set EDGE_SDK_CACHE") as caught:
        get("http://127.0.0.1:9/", tmp_path / "file" / "models" / "model.onnx")
    assert "\n" not in str(caught.value)


def test_a_part_that_is_a_link_is_not_written_through(server: Server, target: Path, tmp_path: Path) -> None:
    target.parent.mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (target.parent / "model.onnx.part").symlink_to(victim)
    with pytest.raises(DownloadError, match="cannot be written"):
        get(server.play(serve()), target)
    assert victim.read_bytes() == b"precious"


# --- whatever happens ----------------------------------------------------------------------------

ODD = st.one_of(
    st.builds(serve, st.sampled_from([DATA, OTHER]), ranges=st.booleans(), upto=st.integers(0, len(DATA))),
    st.builds(claim, st.integers(0, 2 * len(DATA)), st.sampled_from([DATA, OTHER, DATA[:1000], DATA + OTHER])),
    st.builds(refuse, st.sampled_from([206, 416, 429, 503])),
    st.just(wrong_part),
)


@pytest.fixture(scope="module")
def lasting() -> Iterator[Server]:
    with running() as one:
        yield one


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(ODD, max_size=6), last=st.one_of(st.builds(serve), ODD), left=st.binary(max_size=2000))
def test_the_final_name_only_ever_holds_the_right_file(
    lasting: Server, steps: list[Step], last: Step, left: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        (Path(folder) / "model.onnx.part").write_bytes(left)
        try:
            get(lasting.play(*steps, last), target)
        except DownloadError:
            assert not target.exists()
        else:
            assert target.read_bytes() == DATA
        for part in Path(folder).glob("*.part"):
            assert part.stat().st_size <= len(DATA)
        lasting.play(serve())
        assert get(lasting.play(serve()), target).read_bytes() == DATA  # and a good server mends it all
        assert parts(target) == ["model.onnx"]
