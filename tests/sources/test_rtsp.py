"""Streams: real servers on loopback, an address where nobody answers, and credentials that stay out of sight."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from edge_sdk.errors import SourceError, SourceNotFoundError
from edge_sdk.sources.base import Request, is_back, open_source, without_credentials

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


def opened_together(urls):
    together, opened = threading.Barrier(len(urls)), []

    def connect(url):
        together.wait()
        opened.append(open_source(url, Request(timeout_s=30)))

    threads = [threading.Thread(target=connect, args=(url,)) for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == len(urls)
    return opened


class Reading(threading.Thread):
    """Reads a source to its end, and keeps how that came and when."""

    def __init__(self, source):
        super().__init__()
        self.source = source
        self.ids = []
        self.end = ""
        self.ended_s = 0.0
        self.start()

    def run(self):
        try:
            while (frame := self.source.read()) is not None:
                self.ids.append(frame.id)
            self.end = None
        except SourceError as error:
            self.end = str(error)
        self.ended_s = time.monotonic()

    def wait_for_frames(self, count):
        deadline = time.monotonic() + 10
        while len(self.ids) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(self.ids) >= count


@pytest.mark.parametrize("kind", ["http", "rtsp"])
def test_streams_of_one_server_that_are_opened_at_once_do_not_hang_up_on_each_other(kind, server, photos, request):
    if kind == "http":
        url = server.stream("/video", photos[:3], fps=30)
    else:
        url = request.getfixturevalue("rtsp_server")(width=320, height=240).url
    opened = opened_together([url] * 4)
    while opened:
        opened.pop().close()
        for source in opened:
            assert [source.read() is not None for _ in range(3)] == [True] * 3


def test_streams_of_one_server_that_were_opened_at_once_can_each_be_closed_while_it_stalls(rtsp_server):
    server = rtsp_server(width=320, height=240)
    readings = [Reading(source) for source in opened_together([server.url] * 4)]
    for reading in readings:
        reading.wait_for_frames(3)
    server.stall()
    time.sleep(0.5)
    for reading in readings:
        began = time.monotonic()
        reading.source.close()
        assert time.monotonic() - began < 1
        reading.join(10)
        assert reading.end is None
        assert reading.ended_s - began < 1


def test_a_live_stream_is_read_at_its_pace_from_the_first_frame(rtsp_server):
    url, took_s = rtsp_server(width=320, height=240, fps=20).url, []
    for _ in range(3):  # a busy machine may spoil one
        source = open_source(url)
        source.read()
        began = time.monotonic()
        for _ in range(10):
            source.read()
        took_s.append(time.monotonic() - began)
        source.close()
    assert max(took_s) > 0.3  # no frames of old at once


def test_a_server_that_is_killed_is_a_loss_and_it_comes_back_with_another_size(rtsp_server):
    server = rtsp_server(width=320, height=240)
    assert is_back(server.url) is True
    source = open_source(server.url)
    reading = Reading(source)
    reading.wait_for_frames(3)
    server.kill()
    killed_s = time.monotonic()
    reading.join(10)
    assert "the stream ended or stalled" in reading.end
    assert reading.ended_s - killed_s < 3
    source.close()
    assert is_back(server.url) is False
    server.start(width=640, height=360)
    assert is_back(server.url) is True
    source = open_source(server.url)
    assert source.read().image.shape == (360, 640, 3)
    source.close()


def test_a_server_that_hangs_is_not_back_until_it_goes_on(rtsp_server):
    server = rtsp_server(width=320, height=240)
    server.stall()
    began = time.monotonic()
    assert is_back(server.url) is False  # though its kernel takes connections
    assert time.monotonic() - began < 0.5 + MARGIN_S
    server.go_on()
    assert is_back(server.url) is True


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_an_opening_can_be_cancelled_while_the_server_says_nothing(silent, scheme):
    cancelled = threading.Event()
    timer = threading.Timer(0.5, cancelled.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(SourceError, match="the opening was cancelled"):
        open_source(f"{scheme}://{silent}/live", Request(timeout_s=30, cancelled=cancelled))
    assert time.monotonic() - began < 0.5 + MARGIN_S
    timer.join()


def test_an_opening_can_be_cancelled_while_no_frame_comes(server, photos):
    cancelled = threading.Event()
    url = server.stream("/video", photos[:1], fps=10, frames=1)
    timer = threading.Timer(1, cancelled.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(SourceError, match="the opening was cancelled"):
        open_source(url, Request(timeout_s=30, cancelled=cancelled))
    assert time.monotonic() - began < 1 + MARGIN_S
    timer.join()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_says_nothing_keeps_no_other_source_from_opening(silent, scheme, cars, server):
    cancelled, outcome = threading.Event(), []

    def connect():
        try:
            open_source(f"{scheme}://{silent}/live", Request(timeout_s=30, cancelled=cancelled))
        except SourceError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=connect)
    thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    for spec in (cars, server.give("/cars.mp4", cars.read_bytes(), "video/mp4")):
        open_source(spec).close()
    assert time.monotonic() - began < 5
    assert thread.is_alive()
    cancelled.set()
    thread.join(5)
    assert "cancelled" in outcome[0]


def test_an_mjpeg_stream_whose_server_dies_is_a_loss(server, photos):
    url = server.stream("/video", photos[:5], fps=20)
    assert is_back(url) is True
    source = open_source(url)
    reading = Reading(source)
    reading.wait_for_frames(3)
    server.gone.set()  # ends the answer, and the connection with it
    reading.join(10)
    assert "the stream ended or stalled" in reading.end
    source.close()


def test_a_clip_over_http_that_is_cut_off_says_so_once(server, people, caplog):
    data = people.read_bytes()

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Type", "video/mp4")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[: len(data) // 8])

    server.pages["/people.mp4"] = answer
    source = open_source(server.url + "/people.mp4", Request(timeout_s=2))
    reading = Reading(source)
    reading.join(60)
    assert reading.end is None
    assert source.read() is None
    source.close()
    assert caplog.messages == [
        f"{server.url}/people.mp4: ends after {len(reading.ids)} of 1394 announced frames; the file is cut off"
    ]


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
