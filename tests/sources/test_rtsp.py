"""Streams: real servers on loopback, an address where nobody answers, and credentials that stay out of sight."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import numpy as np
import pytest

from edge_sdk.errors import SourceError, SourceNotFoundError
from edge_sdk.sources.base import Request, open_source, without_credentials
from edge_sdk.sources.rtsp import reach

pytestmark = pytest.mark.usefixtures("leaves_nothing")

LIMIT_S = 5.0
MARGIN_S = 1.5  # for a machine that is busy


@pytest.fixture
def silent():
    """The address of a server that accepts connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_an_mjpeg_stream_is_live(server, photos):
    url = server.stream("/video", photos[:5], fps=20)
    source = open_source(url, Request(timeout_s=LIMIT_S))
    assert (source.live, source.total, source.name) == (True, None, url)
    frames = [source.read() for _ in range(6)]
    source.close()
    assert [frame.id for frame in frames] == sorted({frame.id for frame in frames})
    assert all(frame.image.dtype == np.uint8 and frame.image.shape[2] == 3 for frame in frames)


def test_a_clip_over_http_is_read_to_its_end(server, cars):
    source = open_source(server.give("/cars.mp4", cars.read_bytes(), "video/mp4"))
    assert (source.live, source.total, source.fps) == (False, 38, 25.0)
    ids = []
    while (frame := source.read()) is not None:
        ids.append(frame.id)
    source.close()
    assert ids == list(range(38))


def test_a_photo_over_http_is_one_frame(server, photos):
    source = open_source(server.give("/snapshot.jpg", photos[0].read_bytes(), "image/jpeg"))
    assert source.read().image.ndim == 3
    source.close()


def test_a_stream_over_rtsp_is_live_and_keeps_its_pace(rtsp_url):
    started = time.monotonic()
    source = open_source(rtsp_url)
    assert time.monotonic() - started < LIMIT_S
    assert (source.live, source.total, source.fps) == (True, None, 10.0)
    frames = [source.read() for _ in range(12)]
    source.close()
    assert {frame.image.shape for frame in frames} == {(432, 768, 3)}
    between_s = (frames[-1].captured_ns - frames[1].captured_ns) / 1e9
    assert 0.5 < between_s < 2.5  # ten frames at ten a second: no heap of old ones is handed out first


def test_a_path_that_a_server_does_not_have_is_said(server, rtsp_url):
    with pytest.raises(SourceError, match=r"has no such stream \(404 Not Found\); check the path"):
        open_source(rtsp_url.replace("/clip", "/nothing"))
    with pytest.raises(SourceError, match=r"has no such stream \(404 Not Found\); check the path"):
        open_source(server.url + "/nothing")


def test_what_is_no_video_is_said(server):
    with pytest.raises(SourceError, match=r"no stream that FFmpeg can read .it answers 200 OK, text/html"):
        open_source(server.give("/", b"<html>log in</html>" * 100, "text/html"))


def test_a_server_that_wants_a_password_is_said_without_showing_one(server):
    server.pages["/video"] = lambda request: request.send_error(401)
    with pytest.raises(SourceError, match=r"wants a user name and password .*; give them as"):
        open_source(server.url + "/video")
    with pytest.raises(SourceError, match="check user name and password") as caught:
        open_source(f"http://anna:s3cret@{server.address}/video?key=s3cret")
    assert "s3cret" not in str(caught.value)
    assert "anna" not in str(caught.value)


def test_the_password_is_sent_and_appears_in_no_frame(server, photos):
    seen = []
    stream = server.stream("/video", photos[:2], fps=20)
    answer = server.pages["/video"]

    def guarded(request):
        seen.append(request.headers.get("Authorization"))
        if request.headers.get("Authorization"):
            answer(request)
        else:
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="camera"')
            request.end_headers()

    server.pages["/video"] = guarded
    source = open_source(stream.replace("://", "://anna:s3cret@"))
    frame = source.read()
    source.close()
    assert seen[-1].startswith("Basic ")
    assert "s3cret" not in frame.source
    assert frame.source == source.name == stream.replace("://", "://***@")


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_never_answers_fails_in_time(silent, scheme):
    started = time.monotonic()
    with pytest.raises(SourceError, match=r"no picture within 5 s|no stream that FFmpeg can read"):
        open_source(f"{scheme}://{silent}/live", Request(timeout_s=LIMIT_S))
    assert time.monotonic() - started < LIMIT_S + MARGIN_S


def test_a_stream_that_opens_and_gives_nothing_fails_in_time(server, photos):
    started = time.monotonic()
    with pytest.raises(SourceError, match=r"no picture within 2 s|no frame within 2 s|no stream"):
        open_source(server.stream("/video", photos[:1], fps=10, frames=0), Request(timeout_s=2))
    assert time.monotonic() - started < 2 + MARGIN_S


def test_a_port_where_nobody_listens_is_said_at_once():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(
        SourceError, match=rf"127\.0\.0\.1 refuses connections on port {port}; check the port"
    ) as caught:
        open_source(f"rtsp://anna:s3cret@127.0.0.1:{port}/live?token=s3cret")
    assert time.monotonic() - started < 1
    assert "s3cret" not in str(caught.value)
    assert "anna" not in str(caught.value)


def test_a_host_that_is_not_there_is_said(monkeypatch):
    with pytest.raises((SourceNotFoundError, SourceError), match=r"camera\.invalid"):
        open_source("rtsp://anna:s3cret@camera.invalid/live", Request(timeout_s=2))


def test_an_address_that_swallows_packets_fails_in_time():
    started = time.monotonic()
    with socket.socket() as full:  # a listener whose queue is full answers no further connection
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        time.sleep(0.2)
        with pytest.raises(SourceError, match=r"no answer from 127\.0\.0\.1 port"):
            reach(urlsplit(f"rtsp://127.0.0.1:{full.getsockname()[1]}/"), "camera", time.monotonic() + 1)
        for one in waiting:
            one.close()
    assert time.monotonic() - started < 1 + MARGIN_S


@pytest.mark.parametrize("url", ["rtsp://", "rtsp:///path", "http://host:99999/", "rtsp://host:0/", "rtsp://a b/"])
def test_what_is_no_url_is_refused_with_an_example(url):
    with pytest.raises(SourceError, match=r"it looks like rtsp://host:554/path|a URL has no blanks"):
        open_source(url)


@pytest.mark.parametrize("sign", ["/", "?", "#", "@", "]", "\u2100"])
def test_a_password_with_signs_in_it_is_not_shown_either(sign):
    with pytest.raises(SourceError) as caught:
        open_source(f"rtsp://anna:s3{sign}cret@127.0.0.1:9/live", Request(timeout_s=1))
    for part in ("anna", "s3", "cret"):
        assert part not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host/@user/clip.mp4", "http://host/@user/clip.mp4"),
        ("http://host:80/clip.mp4?key=1&to=2", "http://host:80/clip.mp4?key=***&to=***"),
        ("rtsp://anna@host/live", "rtsp://***@host/live"),
        ("rtsp://anna:a@b:c@host:554/live", "rtsp://***@host:554/live"),
        ("me@home.mp4", "me@home.mp4"),
    ],
)
def test_of_an_address_only_credentials_are_hidden(url, shown):
    assert without_credentials(url) == shown


def test_a_stream_that_stalls_is_an_error_not_an_end(server, photos):
    source = open_source(server.stream("/video", photos[:5], fps=20, frames=15), Request(timeout_s=2))
    started = time.monotonic()
    frames = iter(source.read, None)
    with pytest.raises(SourceError, match="the stream ended or stalled for 2 s after"):
        list(frames)
    assert time.monotonic() - started < 6
    source.close()


def test_closing_ends_a_blocked_read_at_once(server, photos):
    source = open_source(server.stream("/video", photos[:5], fps=20, frames=12), Request(timeout_s=30))
    outcome = []

    def read_on():
        while (frame := source.read()) is not None:
            outcome.append(frame.id)
        outcome.append("over")

    thread = threading.Thread(target=read_on)
    thread.start()
    time.sleep(1)
    started = time.monotonic()
    source.close()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - started < 1
    assert outcome[-1] == "over"


def test_streams_of_one_server_that_are_opened_at_once_do_not_hang_up_on_each_other(server, photos):
    url = server.stream("/video", photos[:3], fps=30)
    together, opened = threading.Barrier(4), []

    def connect():
        together.wait()
        opened.append(open_source(url, Request(timeout_s=LIMIT_S)))

    threads = [threading.Thread(target=connect) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    while opened:
        opened.pop().close()
        for source in opened:
            assert [source.read() is not None for _ in range(3)] == [True] * 3


def test_ffmpeg_prints_nothing_about_an_address(silent):
    code = (
        "from edge_sdk.sources.base import open_source, Request\n"
        "try:\n    open_source('rtsp://anna:s3cret@%s/live', Request(timeout_s=1))\n"
        "except OSError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code % silent], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "s3cret" not in done.stdout
    assert done.stdout.count("\n") == 1


def test_nothing_of_a_stream_is_logged_with_its_password(server, photos, caplog):
    with caplog.at_level(logging.DEBUG):
        source = open_source(server.stream("/video", photos[:1], fps=20).replace("://", "://anna:s3cret@"))
        source.read()
        source.close()
    assert "s3cret" not in caplog.text
