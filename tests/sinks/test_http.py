"""The HTTP sink, asked by real clients."""

from __future__ import annotations

import http.client
import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from edge_sdk import Detections, Result
from edge_sdk.errors import SinkError, UsageError
from edge_sdk.pipeline.books import SinkStats, Stats
from edge_sdk.result import Event
from edge_sdk.sinks.http import HttpSink, stats_record
from edge_sdk.sinks.http_server import Connections
from edge_sdk.sinks.jsonl import as_record
from edge_sdk.sources.base import Request, open_source

NAMES = ("person", "car")
TOKEN = "0123456789abcdefXYZ"  # noqa: S105  of the tests alone
RUN = Stats(
    captured=12,
    processed=10,
    dropped={"overwritten": 2},
    in_flight=0,
    percentiles={"total_ms": {"p50": 25.0, "p90": 30.0, "p99": 41.5, "max": 250.0}},
    state="streaming",
    sinks={"jsonl:out.jsonl": SinkStats(10, 0, 0, 0)},
)
PATHS = ("/", "/stream.mjpg", "/snapshot.jpg", "/result.json", "/stats.json", "/metrics")
MakeResult = Callable[..., Result]
WAIT_S = 20


def grey(value: int, side: int = 64) -> NDArray[np.uint8]:
    return np.full((side, side, 3), value, np.uint8)


def shade(jpeg: bytes) -> int:
    """The grey value of a picture that is all of one."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (64, 64, 3)
    return int(np.median(image))


def one_car() -> Detections:
    return Detections(np.array([[8, 30, 50, 60]], np.float32), np.array([0.9], np.float32), np.array([1], np.int32))


def sink_on_loopback(address: str = "127.0.0.1:0", **more) -> HttpSink:
    return HttpSink(address, NAMES, **{"stats": lambda: RUN, **more})


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with sink_on_loopback() as made:
        yield made


@dataclass(frozen=True)
class Answer:
    """What a server says, whole."""

    status: int
    headers: Message
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


def connect(sink: HttpSink) -> http.client.HTTPConnection:
    url = urlsplit(sink.url)
    return http.client.HTTPConnection(url.hostname or "", url.port, timeout=WAIT_S)


def get(sink: HttpSink, path: str, method: str = "GET", headers: Mapping[str, str | bytes] | None = None) -> Answer:
    with closing(connect(sink)) as connection:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())


def figures(sink: HttpSink) -> dict[str, int]:
    return get(sink, "/stats.json").json()["http"]


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, "it did not come about"
        time.sleep(0.02)


def read_part(response: http.client.HTTPResponse) -> bytes:
    """The next picture, read strictly: boundary, the headers, as many bytes as they say, and a line's end."""
    assert response.readline() == b"--edge-sdk-picture\r\n"
    assert response.readline() == b"Content-Type: image/jpeg\r\n"
    length = re.fullmatch(rb"Content-Length: (\d+)\r\n", response.readline())
    assert length is not None
    assert response.readline() == b"\r\n"
    jpeg = response.read(int(length.group(1)))
    assert response.readline() == b"\r\n"
    return jpeg


@contextmanager
def watching(sink: HttpSink, query: str = "") -> Iterator[http.client.HTTPResponse]:
    with closing(connect(sink)) as connection:
        connection.request("GET", f"/stream.mjpg{query}")
        with closing(connection.getresponse()) as response:
            yield response


@contextmanager
def hanging(
    sink: HttpSink, request: bytes = b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n"
) -> Iterator[socket.socket]:
    """A client that asks, and never reads."""
    url = urlsplit(sink.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(WAIT_S)
        client.connect((url.hostname, url.port))
        client.sendall(request)
        yield client


# The newest result


def test_before_the_first_result_there_is_a_clear_answer(sink: HttpSink) -> None:
    for path in ("/snapshot.jpg", "/result.json"):
        answer = get(sink, path)
        assert answer.status == 404
        assert answer.json() == {"error": "no result yet", "state": "streaming"}


def test_the_newest_result_is_the_record_that_a_jsonl_file_would_have(sink: HttpSink, make_result: MakeResult) -> None:
    sink.put(make_result(grey(10), id=1))
    newest = replace(make_result(grey(20), one_car(), id=2), counts=MappingProxyType({"door in": 3}))
    sink.put(newest)
    answer = get(sink, "/result.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == as_record(newest, NAMES)
    assert answer.json()["counts"] == {"door in": 3}


def test_the_snapshot_is_the_newest_picture_with_its_boxes_and_the_camera_keeps_its_own(
    sink: HttpSink, make_result: MakeResult
) -> None:
    image = grey(200)
    sink.put(make_result(grey(10)))
    sink.put(make_result(image, one_car()))
    answer = get(sink, "/snapshot.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    shown = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert np.median(shown) == pytest.approx(200, abs=2)
    assert np.abs(shown[45, 8].astype(int) - 200).max() > 60  # the box's left side
    assert (image == 200).all()


def test_a_photo_comes_through_as_it_is(sink: HttpSink, make_result: MakeResult, bear: Path) -> None:
    photo = cv2.imread(str(bear))
    sink.put(make_result(photo))
    shown = cv2.imdecode(np.frombuffer(get(sink, "/snapshot.jpg").content, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == photo.shape
    assert np.abs(shown.astype(int) - photo).mean() < 8  # of 255, in fine fur


def test_a_result_without_a_picture_is_an_error_of_the_sink(sink: HttpSink, make_result: MakeResult) -> None:
    with pytest.raises(SinkError, match="a picture of 0x0 cannot be shown"):
        sink.put(make_result(grey(0)).without_image())


# The stream


def test_the_stream_shows_each_picture_as_it_comes(sink: HttpSink, make_result: MakeResult) -> None:
    sink.put(make_result(grey(40)))
    with watching(sink) as stream:
        assert stream.status == 200
        assert stream.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=edge-sdk-picture"
        assert shade(read_part(stream)) == pytest.approx(40, abs=2)
        for value in (80, 120, 250):
            sink.put(make_result(grey(value)))
            assert shade(read_part(stream)) == pytest.approx(value, abs=2)


def test_who_watches_before_the_first_result_waits_for_it(sink: HttpSink, make_result: MakeResult) -> None:
    with watching(sink) as stream:
        until(lambda: figures(sink)["watching"] == 1)
        sink.put(make_result(grey(90)))
        assert shade(read_part(stream)) == pytest.approx(90, abs=2)


def test_nothing_is_encoded_while_nobody_looks(sink: HttpSink, make_result: MakeResult) -> None:
    for number in range(50):
        sink.put(make_result(grey(number)))
    get(sink, "/result.json")
    get(sink, "/stream.mjpg", "HEAD")
    assert figures(sink) == {"newest": 0, "watching": 0, "most": 8, "pictures": 0}
    for _ in range(3):
        assert shade(get(sink, "/snapshot.jpg").content) == pytest.approx(49, abs=2)
    assert figures(sink)["pictures"] == 1


def test_a_picture_is_encoded_once_however_many_watch(sink: HttpSink, make_result: MakeResult) -> None:
    with ExitStack() as stack:
        streams = [stack.enter_context(watching(sink)) for _ in range(5)]
        until(lambda: figures(sink)["watching"] == 5)
        for value in (50, 100, 150, 200):
            sink.put(make_result(grey(value)))
            for stream in streams:
                assert shade(read_part(stream)) == pytest.approx(value, abs=2)
        assert shade(get(sink, "/snapshot.jpg").content) == pytest.approx(200, abs=2)
        assert figures(sink)["pictures"] == 4
    until(lambda: figures(sink)["watching"] == 0)
    for value in range(30):
        sink.put(make_result(grey(value)))
    assert figures(sink)["pictures"] == 4  # they have gone


def test_the_stream_has_no_more_pictures_a_second_than_were_asked_for(make_result: MakeResult) -> None:
    with sink_on_loopback(max_fps=4) as sink, watching(sink) as stream:
        until(lambda: figures(sink)["watching"] == 1)
        began_s, ending = time.monotonic(), threading.Event()

        def feed() -> None:
            while not ending.wait(0.01):
                sink.put(make_result(grey(100)))

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            for _ in range(9):
                read_part(stream)
            took_s = time.monotonic() - began_s
        finally:
            ending.set()
            feeder.join()
        assert took_s > 1.7  # nine pictures have eight intervals of 0.25 s between them, but for one that may be late
        assert figures(sink)["pictures"] <= 12


def noise(seed: int) -> NDArray[np.uint8]:
    """A picture that no codec makes small; its first pixels tell which it is."""
    image = np.random.default_rng(seed).integers(0, 255, (720, 1280, 3), np.uint8)
    image[:64, :64] = seed
    return image


def test_a_client_that_never_reads_holds_up_nobody(make_result: MakeResult) -> None:
    pictures = [noise(seed) for seed in range(0, 250, 25)]
    with sink_on_loopback(max_fps=1000) as sink, hanging(sink), hanging(sink), watching(sink) as stream:
        until(lambda: figures(sink)["watching"] == 3)
        slowest_s = 0.0
        for image in pictures * 3:  # 30 pictures of 1 MB: far more than sockets hold
            began_s = time.monotonic()
            sink.put(make_result(image))
            slowest_s = max(slowest_s, time.monotonic() - began_s)
            shown = cv2.imdecode(np.frombuffer(read_part(stream), np.uint8), cv2.IMREAD_COLOR)
            assert np.median(shown[:64, :64]) == pytest.approx(image[0, 0, 0], abs=3)
        assert slowest_s < 1
        assert figures(sink)["pictures"] == 30


def test_a_client_that_reads_late_sees_now_and_not_what_was(make_result: MakeResult) -> None:
    with sink_on_loopback(max_fps=1000) as sink, hanging(sink) as late, watching(sink) as stream:
        until(lambda: figures(sink)["watching"] == 2)
        for number in range(40):
            sink.put(make_result(noise(number * 6)))
            read_part(stream)
        reader = late.makefile("rb")
        seen = []
        while not seen or seen[-1] != 39:
            line = reader.readline()
            if line.startswith(b"Content-Length:"):
                rest = reader.readline()
                assert rest == b"\r\n"
                seen.append(round(first_pixels(reader, int(line.split()[1])) / 6))
        assert len(seen) < 8  # of 40
        assert seen == sorted(seen)


def first_pixels(reader, length: int) -> float:
    """The value in a picture's corner; the picture comes in HTTP's chunks, of which this undoes as much as it needs."""
    data = reader.read(length)
    data = re.sub(rb"\r\n[0-9a-f]{1,6}\r\n", b"", data)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return float(np.median(image[:64, :64]))


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system's sockets hold what they like")
def test_pictures_do_not_grow_old_in_the_system_on_their_way_to_a_client_that_does_not_read(
    make_result: MakeResult,
) -> None:
    image = noise(1)[:240, :320].copy()  # 50 KB: sockets would hold dozens
    with sink_on_loopback(max_fps=1000) as sink, hanging(sink):
        until(lambda: figures(sink)["watching"] == 1)
        for _ in range(200):
            sink.put(make_result(image))
            time.sleep(0.005)
        assert 1 <= figures(sink)["pictures"] < 20


def test_a_client_that_takes_nothing_for_long_loses_its_place(
    make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connections, "patience_s", 1.0)
    with sink_on_loopback(max_fps=1000, max_clients=1) as sink, hanging(sink):
        until(lambda: figures(sink)["watching"] == 1)
        assert get(sink, "/stream.mjpg").status == 503
        end_s = time.monotonic() + WAIT_S
        while figures(sink)["watching"] and time.monotonic() < end_s:
            sink.put(make_result(noise(1)))
            time.sleep(0.02)
        with watching(sink) as stream:
            assert stream.status == 200
            read_part(stream)


def test_who_watches_a_still_camera_is_not_hung_up_on(make_result: MakeResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connections, "patience_s", 0.3)
    with sink_on_loopback() as sink, watching(sink) as stream:
        sink.put(make_result(grey(50)))
        read_part(stream)
        time.sleep(1.0)  # more than three times the patience
        sink.put(make_result(grey(60)))
        assert shade(read_part(stream)) == pytest.approx(60, abs=2)


def test_a_client_is_who_is_connected_whatever_it_says(sink: HttpSink) -> None:
    request = b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
    with hanging(sink, request), hanging(sink, request):
        until(lambda: figures(sink)["watching"] == 2)
    until(lambda: figures(sink)["watching"] == 0)


def test_so_many_may_watch_and_when_one_goes_there_is_room(make_result: MakeResult) -> None:
    with sink_on_loopback(max_clients=2) as sink, ExitStack() as stack:
        sink.put(make_result(grey(50)))
        stack.enter_context(watching(sink))
        with watching(sink):
            until(lambda: figures(sink)["watching"] == 2)
            full = get(sink, "/stream.mjpg")
            assert full.status == 503
            assert full.json() == {"error": "2 watch already; come back later"}
            assert full.headers["retry-after"] == "5"
            assert get(sink, "/snapshot.jpg").status == 200
        until(lambda: figures(sink)["watching"] == 1)
        assert shade(read_part(stack.enter_context(watching(sink)))) == pytest.approx(50, abs=2)


@contextmanager
def fed(sink: HttpSink, results: Callable[[int], Result]) -> Iterator[None]:
    ending = threading.Event()

    def feed() -> None:
        number = 0
        while not ending.wait(0.03):
            sink.put(results(number))
            number += 1

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


@pytest.mark.parametrize("token", [None, TOKEN])
def test_opencv_reads_the_stream(make_result: MakeResult, token: str | None) -> None:
    with sink_on_loopback(token=token) as sink, fed(sink, lambda number: make_result(grey(number % 250))):
        capture = cv2.VideoCapture(sink.url + "/stream.mjpg" + (f"?token={token}" if token else ""), cv2.CAP_FFMPEG)
        try:
            assert capture.isOpened()
            values = []
            for _ in range(5):
                read, image = capture.read()
                assert read
                values.append(int(np.median(image)))
        finally:
            capture.release()
        assert image.shape == (64, 64, 3)
        assert values == sorted(set(values))


def test_our_own_source_reads_the_stream(sink: HttpSink, make_result: MakeResult) -> None:
    with fed(sink, lambda number: make_result(grey(number % 250))):
        source = open_source(sink.url + "/stream.mjpg", Request(timeout_s=WAIT_S))
        try:
            frames = [source.read() for _ in range(5)]
        finally:
            source.close()
    assert [frame.image.shape for frame in frames if frame is not None] == [(64, 64, 3)] * 5


# Figures


def test_the_accounting_has_every_figure_and_every_cause(make_result: MakeResult) -> None:
    with sink_on_loopback(camera="rtsp://admin:hunter2@10.0.0.5/live") as sink:
        record = get(sink, "/stats.json").json()
    assert record.pop("camera") == "rtsp://***@10.0.0.5/live"
    assert record.pop("http") == {"newest": None, "watching": 0, "most": 8, "pictures": 0}
    assert record == json.loads(json.dumps(stats_record(RUN)))
    assert record["dropped"] == {
        "overwritten": 2, "stale": 0, "decode_error": 0, "inference_error": 0, "shutdown": 0,
    }  # fmt: skip
    assert record["percentiles"]["total_ms"]["p99"] == 41.5
    assert record["sinks"]["jsonl:out.jsonl"] == {
        "written": 10, "dropped": 0, "failed": 0, "waiting": 0, "error": None,
    }  # fmt: skip


def test_the_reason_of_a_state_is_told_while_it_lasts() -> None:
    states = ["reconnecting"]
    with sink_on_loopback(stats=lambda: replace(RUN, state=states[0])) as sink:
        sink.event(Event("reconnecting", "stalled", 1, "no frame for 5 s"))
        assert get(sink, "/stats.json").json()["reason"] == "no frame for 5 s"
        states[0] = "streaming"
        assert get(sink, "/stats.json").json()["reason"] == ""


def test_the_metrics_are_prometheus_text_and_count_zones(make_result: MakeResult) -> None:
    with sink_on_loopback(camera="door") as sink:
        sink.put(replace(make_result(grey(1)), counts=MappingProxyType({"in": 7})))
        answer = get(sink, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }
    assert samples["edge_sdk_frames_captured_total", ("camera", "door")] == 12
    assert samples["edge_sdk_zone_count", ("camera", "door"), ("counter", "in")] == 7
    assert samples["edge_sdk_camera_state", ("camera", "door"), ("state", "streaming")] == 1


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize(
    ("state", "status"),
    [("streaming", 200), ("starting", 503), ("stalled", 503), ("reconnecting", 503), ("stopped", 503), ("failed", 503)],
)
def test_a_watchdog_is_told_whether_the_camera_streams_and_needs_no_token(
    state: str, status: int, token: str | None
) -> None:
    with sink_on_loopback(stats=lambda: replace(RUN, state=state), token=token) as sink:
        answer = get(sink, "/healthz")
        assert (answer.status, answer.json()) == (status, {"state": state})


def test_figures_that_cannot_be_had_are_an_answer_and_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Stats:
        raise RuntimeError("the books have burned")

    with sink_on_loopback(stats=broken) as sink:
        answer = get(sink, "/stats.json")
        assert answer.status == 500
        assert "see the log" in answer.json()["error"]
        assert get(sink, "/").status == 200
    assert "the books have burned" in caplog.text


# Who may ask


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Cookie": f"token={TOKEN}"},
    ],
)
def test_without_the_token_nothing_is_told(make_result: MakeResult, headers: dict[str, str | bytes]) -> None:
    with sink_on_loopback(token=TOKEN, camera="secret door") as sink:
        sink.put(make_result(grey(5)))
        for path in (*PATHS, "/nothing"):
            for query in ("", "?token=", "?token=wrong", f"?TOKEN={TOKEN}", "?token=%ff%c3"):
                answer = get(sink, path + query, headers=headers)
                assert answer.status == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                assert b"secret door" not in answer.content
                assert TOKEN.encode() not in answer.content


def test_the_token_opens_everything_in_the_header_or_in_the_url(make_result: MakeResult) -> None:
    with sink_on_loopback(token=TOKEN) as sink:
        sink.put(make_result(grey(5)))
        for path in ("/", "/snapshot.jpg", "/result.json", "/stats.json", "/metrics"):
            assert get(sink, path, headers={"Authorization": f"Bearer {TOKEN}"}).status == 200
            assert get(sink, path, headers={"Authorization": f"bearer  {TOKEN}"}).status == 200
            assert get(sink, f"{path}?at=1&token={TOKEN}").status == 200
        with watching(sink, f"?token={TOKEN}") as stream:
            assert shade(read_part(stream)) == pytest.approx(5, abs=2)


def test_a_person_without_the_token_is_asked_for_it() -> None:
    with sink_on_loopback(token=TOKEN) as sink:
        answer = get(sink, "/")
    assert answer.headers["content-type"].startswith("text/html")
    assert '<input name="token" type="password"' in answer.content.decode()
    assert "script-src 'none'" in answer.headers["content-security-policy"]


def test_the_token_is_in_no_log_at_any_level(make_result: MakeResult, caplog: pytest.LogCaptureFixture) -> None:
    root = logging.getLogger()
    level = root.level
    with caplog.at_level(1):
        root.setLevel(1)  # at this uvicorn would log whole requests
        try:
            with sink_on_loopback(token=TOKEN) as sink:
                sink.put(make_result(grey(5)))
                get(sink, f"/snapshot.jpg?token={TOKEN}")
                get(sink, "/result.json", headers={"Authorization": f"Bearer {TOKEN}"})
                get(sink, f"/nothing?token={TOKEN}")
                assert TOKEN not in f"{sink.url} {sink.name} {sink!r}"
        finally:
            root.setLevel(level)
    assert [record for record in caplog.records if record.name.startswith("uvicorn")]  # its log was looked at
    assert TOKEN not in caplog.text
    assert "/snapshot.jpg" not in caplog.text


@pytest.mark.parametrize("token", ["short", "", "has blanks in it, many", "hünter2-hünter2-hünter2"])
def test_a_poor_token_is_refused_before_anything_is_served(token: str) -> None:
    with pytest.raises(UsageError, match="a token has"):
        sink_on_loopback(token=token)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_beyond_this_machine_a_token_is_needed(address: str) -> None:
    with pytest.raises(UsageError, match=r"a token is needed: --http .+:0 --http-token TOKEN, of 16") as caught:
        sink_on_loopback(address)
    assert address in str(caught.value)
    assert not server_threads()


def test_with_a_token_every_network_is_served_and_the_url_has_an_address_that_is_one() -> None:
    with sink_on_loopback("0.0.0.0:0", token=TOKEN) as sink:
        assert "0.0.0.0" not in sink.url
        answer = get(sink, f"/stats.json?token={TOKEN}", headers={"Host": "cam.example.org"})
        assert answer.status == 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:9000", "LOCALHOST", "cam.localhost", "[::1]:8080", "127.9.9.9"]
)
def test_under_a_name_of_this_machine_anything_may_be_asked(sink: HttpSink, host: str) -> None:
    assert get(sink, "/stats.json", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.5:8080",
        "user@127.0.0.1", "[::1", "2130706433", "0.0.0.0",
    ],
)  # fmt: skip
def test_under_another_name_nothing_is_told_so_that_no_web_site_reads_along(sink: HttpSink, host: str) -> None:
    for path in (*PATHS, "/healthz", "/nothing"):
        answer = get(sink, path, headers={"Host": host})
        assert answer.status == 421
        assert "localhost" in answer.json()["error"]


def test_a_program_of_old_that_names_no_host_is_answered(sink: HttpSink) -> None:
    with hanging(sink, b"GET /healthz HTTP/1.0\r\n\r\n") as client:
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("token", [None, TOKEN])
def test_every_answer_keeps_browsers_careful(make_result: MakeResult, token: str | None) -> None:
    with sink_on_loopback(token=token) as sink:
        sink.put(make_result(grey(5)))
        answers = [get(sink, path, "HEAD" if path == "/stream.mjpg" else "GET") for path in (*PATHS, "/no", "/healthz")]
        answers.append(get(sink, "/", "POST"))
        answers.append(get(sink, "/", headers={"Host": "evil.example"}))
        if token:
            answers += [get(sink, f"{path}?token={token}") for path in ("/", "/snapshot.jpg", "/no")]
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers.get("cross-origin-resource-policy") == (None if token else "same-site")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_only_get_and_head_are_answered(sink: HttpSink, method: str) -> None:
    for path in (*PATHS, "/healthz"):
        answer = get(sink, path, method)
        assert answer.status == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_head_is_get_without_the_body(sink: HttpSink, make_result: MakeResult) -> None:
    sink.put(make_result(grey(5)))
    for path in ("/", "/snapshot.jpg", "/result.json", "/healthz"):
        whole, head = get(sink, path), get(sink, path, "HEAD")
        assert head.content == b""
        assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.content))


def test_a_path_that_is_not_there_says_what_is(sink: HttpSink) -> None:
    answer = get(sink, "/stats.json/")
    assert answer.status == 404
    assert all(path in answer.json()["error"] for path in PATHS)


# Where it is served


def test_ipv6_is_served() -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    with sink_on_loopback("[::1]:0") as sink:
        assert re.fullmatch(r"http://\[::1\]:\d+", sink.url)
        assert get(sink, "/healthz").status == 200


def test_a_port_in_use_is_told_at_once_and_free_again_after(sink: HttpSink) -> None:
    address = sink.url.removeprefix("http://")
    with pytest.raises(SinkError, match=f"^{sink.url}: cannot be served: Address already in use; name another port"):
        sink_on_loopback(address)
    get(sink, "/healthz")
    sink.close()
    with sink_on_loopback(address) as again:
        assert again.url == sink.url == again.name
        assert get(again, "/healthz").status == 200


@pytest.mark.parametrize(
    "wrong", [{"quality": 0}, {"quality": 101}, {"max_fps": 0}, {"max_fps": float("nan")}, {"max_clients": 0}]
)
def test_an_option_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} makes no sense"):
        sink_on_loopback(**wrong)


# The end


def server_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "edge-sdk-http"]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_closing_ends_the_stream_in_order_and_leaves_nothing(make_result: MakeResult) -> None:
    before = descriptors()
    sink = sink_on_loopback()
    sink.put(make_result(grey(5)))
    with watching(sink) as stream:
        read_part(stream)
        sink.close()
        assert stream.readline() == b"--edge-sdk-picture\r\n"
        assert stream.read() == b""  # whole, else this is an IncompleteRead
    assert not server_threads()
    assert descriptors() == before


def test_closing_waits_for_no_client(make_result: MakeResult) -> None:
    before = descriptors()
    sink = sink_on_loopback(max_fps=1000)
    with ExitStack() as stack:
        for request in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"):
            stack.enter_context(hanging(sink, request))
        for _ in range(3):
            stack.enter_context(hanging(sink))
        stream = stack.enter_context(watching(sink))
        until(lambda: figures(sink)["watching"] == 4)
        for number in range(20):  # until nothing more goes into those that hang
            sink.put(make_result(noise(number)))
            read_part(stream)
        began_s = time.monotonic()
        sink.close()
        assert time.monotonic() - began_s < 3
        assert not server_threads()
    assert descriptors() == before


def test_a_closed_sink_takes_no_result_and_may_be_closed_again(make_result: MakeResult) -> None:
    with sink_on_loopback() as sink:
        pass
    sink.close()
    with pytest.raises(SinkError, match="is closed"):
        sink.put(make_result(grey(5)))
    with pytest.raises(ConnectionRefusedError):
        get(sink, "/healthz")


def test_the_newest_picture_alone_is_held_and_none_after_the_end(make_result: MakeResult) -> None:
    pictures = [grey(value) for value in range(5)]
    counts = [sys.getrefcount(picture) for picture in pictures]
    with sink_on_loopback() as sink:
        for index in range(5):
            sink.put(make_result(pictures[index]))
        get(sink, "/snapshot.jpg")
        until(lambda: [sys.getrefcount(picture) for picture in pictures][:4] == counts[:4])
        assert sys.getrefcount(pictures[4]) > counts[4]
    assert [sys.getrefcount(picture) for picture in pictures] == counts


# The process around it


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "prometheus_client"])
def test_without_a_library_the_extra_is_named(module: str) -> None:
    ran = run_python(
        f"import sys; sys.modules['{module}'] = None\n"
        "from edge_sdk.sinks.http import HttpSink\n"
        "HttpSink('127.0.0.1:0', (), stats=lambda: None)\n"
    )
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("edge_sdk.errors.MissingDependencyError: ")
    assert last.endswith("not installed: pip install 'edge-sdk[http]'")


def test_the_module_loads_no_server_until_one_is_made() -> None:
    ran = run_python("import sys, edge_sdk.sinks.http; print(sorted(sys.modules))")
    assert ran.returncode == 0, ran.stderr
    assert not re.search(r"'(starlette|uvicorn|h11|anyio|prometheus_client)'", ran.stdout)


def test_what_is_no_http_disturbs_no_terminal_and_other_servers_keep_their_logs() -> None:
    ran = run_python(
        "import logging, socket\n"
        "access = logging.getLogger('uvicorn.access'); theirs = logging.StreamHandler(); access.addHandler(theirs)\n"
        "from edge_sdk.sinks.http import HttpSink\n"
        "sink = HttpSink('127.0.0.1:0', (), stats=lambda: None)\n"
        "port = int(sink.url.rsplit(':', 1)[1])\n"
        "no_host, good = b'GET / HTTP/1.1\\r\\n\\r\\n', b'GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'\n"
        "for said in (b'\\x16\\x03\\x01\\x02\\n\\r\\n', no_host, good):\n"
        "    with socket.create_connection(('127.0.0.1', port)) as client:\n"
        "        client.sendall(said)\n"
        "        while client.recv(65536): pass\n"
        "sink.close()\n"
        "assert access.handlers == [theirs] and access.propagate, access\n"
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
