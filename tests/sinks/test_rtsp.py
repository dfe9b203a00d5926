"""Streams to a real RTSP server, which records them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_sdk import Detections, Result
from edge_sdk.errors import SinkError, UsageError
from edge_sdk.sinks import rtsp
from edge_sdk.sinks.rtsp import RtspSink

NAMES = ("bear",)
BOX = Detections(np.array([[100, 80, 500, 600]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
MakeResult = Callable[..., Result]

RECORDER = """
import sys, gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
recording, port, users = sys.argv[1:]
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
factory.set_latency(0)
factory.set_launch("( rtph264depay name=depay0 ! h264parse ! matroskamux streamable=true ! filesink buffer-mode=2 "
                   "location=%s )" % recording)
if users:
    auth, token, allowed = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken(), GstRtspServer.RTSPPermissions()
    token.set_string("media.factory.role", "camera")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(*users.split(":")), token)
    for right in ("access", "construct"):
        allowed.add_permission_for_role("camera", "media.factory." + right, True)
    factory.set_permissions(allowed)
    server.set_auth(auth)
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


class Recorder:
    """A real RTSP server that takes a stream at /camera and writes it into a file."""

    def __init__(self, recording: Path, port: int = 0, users: str = "") -> None:
        self.recording = recording
        try:
            self._process = subprocess.Popen(
                ["/usr/bin/python3", "-c", RECORDER, str(recording), str(port), users],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        except OSError:
            pytest.skip("no RTSP server: there is no /usr/bin/python3")
        assert self._process.stdout is not None
        answer = self._process.stdout.readline().strip()
        if not answer:
            self.kill()
            pytest.skip("no RTSP server: apt install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good")
        self.port = int(answer)
        self.url = f"rtsp://127.0.0.1:{self.port}/camera"

    def frames(self) -> list[np.ndarray]:
        """The recorded pictures so far."""
        if not self.recording.exists():
            return []
        video = cv2.VideoCapture(str(self.recording))
        frames = []
        while True:
            there, frame = video.read()
            if not there:
                video.release()
                return frames
            frames.append(frame)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Callable[..., Recorder]]:
    """``record()`` -> a server; ``record(port=8554)`` one at this port."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg: apt install ffmpeg")
    running: list[Recorder] = []

    def start(**options: Any) -> Recorder:
        running.append(Recorder(tmp_path / f"recording{len(running)}.mkv", **options))
        return running[-1]

    yield start
    for one in running:
        one.kill()


@pytest.fixture(autouse=True)
def nothing_is_left(record: Callable[..., Recorder]) -> Iterator[None]:
    """Fails a test after which a descriptor or thread is left, or a child process other than its servers."""
    descriptors, threads = held(), threading.active_count()
    yield
    until(lambda: "ffmpeg" not in children())
    assert held() <= descriptors + children().count("python3")
    assert threading.active_count() <= threads


def held() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> list[str]:
    """The programs that this process has started, zombies too."""
    ids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [re.sub(r"^\d+ \((.*)\) .*", r"\1", Path(f"/proc/{one}/stat").read_text()).strip() for one in ids]


def until(condition: Callable[[], object], patience_s: float = 30.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def grey(level: int, height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def live(sink: RtspSink, results: Callable[[float], Result], enough: Callable[[], object]) -> list[str]:
    """A camera, which goes on whatever the sink says, until there is enough; what the sink said."""
    errors, began = [], time.monotonic()
    while not enough():
        assert time.monotonic() - began < 60, errors
        try:
            sink.put(results(time.monotonic() - began))
        except SinkError as error:
            errors.append(str(error))
        time.sleep(0.03)
    return errors


def test_the_server_gets_the_pictures_with_their_boxes(
    record: Callable[..., Recorder], bear: Path, make_result: MakeResult
) -> None:
    server, image = record(), cv2.imread(str(bear))
    untouched = image.copy()
    with RtspSink(server.url, NAMES, 25, bitrate_kbps=8000) as sink:
        assert live(sink, lambda at_s: make_result(image, BOX, at_s=at_s), lambda: len(server.frames()) > 20) == []
    last = server.frames()[-1]
    assert last.shape == image.shape
    assert np.abs(last.astype(int) - image).mean() < 15
    orange = np.abs(last.astype(int) - (0, 159, 230)).sum(axis=2) < 150
    assert orange[80:600, 98:104].any(axis=1).mean() > 0.9
    assert orange[80:600, 497:503].any(axis=1).mean() > 0.9
    assert (image == untouched).all()


def test_the_stream_has_the_speed_of_life(record: Callable[..., Recorder], make_result: MakeResult) -> None:
    server, given = record(), []
    with RtspSink(server.url, NAMES, 10) as sink:
        # Two in one picture's time: one is shown. Then a gap: the one before it is repeated.
        for number, at_s in enumerate((0.01, 0.02, 0.11, 0.51, 0.61)):
            sink.put(make_result(grey(40 * number), at_s=at_s))
            given.append(sink._written)
        assert given == [1, 1, 2, 6, 7]
        # After a longer one the clock goes on from there, without a burst of old pictures.
        sink.put(make_result(grey(9), at_s=100.61))
        assert sink._written == 7 + 20
        sink.put(make_result(grey(9), at_s=100.71))
        assert sink._written == 7 + 21
        until(lambda: len(server.frames()) >= 7)
    levels = [round(float(frame.mean()), -1) for frame in server.frames()[:7]]
    assert levels == [0, 80, 80, 80, 80, 120, 160]


def test_a_server_that_was_killed_gets_the_stream_again_when_it_is_back(
    record: Callable[..., Recorder], make_result: MakeResult
) -> None:
    server = record()

    def result(at_s: float) -> Result:
        return make_result(grey(100), at_s=at_s)

    with RtspSink(server.url.replace("//", "//bob:hush@"), NAMES, 25) as sink:
        assert live(sink, result, lambda: len(server.frames()) > 20) == []
        server.kill()
        errors = live(sink, result, lambda: "refused" in sink._trouble)
        again = record(port=server.port)
        errors += live(sink, result, lambda: len(again.frames()) > 20)
    assert re.match(r"rtsp://\*\*\*@127\.0\.0\.1:\d+/camera: .*(roken pipe|reset).*; it is tried again", errors[0])
    assert "hush" not in "".join(errors)


def test_the_pauses_grow_and_a_steady_stream_makes_them_short_again(
    record: Callable[..., Recorder], make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = record()
    server.kill()
    now = [1000.0]
    monkeypatch.setattr(rtsp.time, "monotonic", lambda: now[0])
    sink = RtspSink(server.url, NAMES, 25)

    def pause(lasted_s: float = 0.0) -> float:
        """How long after it failed it is not tried again; it had lasted so long."""
        sink._started_s = now[0] - lasted_s
        with pytest.raises(SinkError):
            sink._fail("gone")
        return sink._again_s - now[0]

    assert [pause() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert [pause(60), pause()] == [1, 2]
    now[0] += 1.9
    with pytest.raises(SinkError, match="gone; it is tried again"):
        sink.put(make_result(grey(0)))
    assert "ffmpeg" not in children()
    now[0] += 0.2
    monkeypatch.undo()
    sink._again_s = 0.0
    with pytest.raises(SinkError, match="refused"):  # it was started, and the first picture was not counted as sent
        sink.put(make_result(grey(0)))
    sink.close()


def test_passwords_are_sent_and_a_wrong_one_is_told_without_showing_it(
    record: Callable[..., Recorder], make_result: MakeResult
) -> None:
    server = record(users="bob:s3 c@t")

    def result(at_s: float) -> Result:
        return make_result(grey(100), at_s=at_s)

    with RtspSink(server.url.replace("//", "//bob:wrong@"), NAMES, 25) as sink:
        (error, *_) = live(sink, result, lambda: sink._trouble)
    assert re.match(r"rtsp://\*\*\*@127.*401 Unauthorized", error)
    assert "wrong" not in error
    assert "bob" not in sink.name
    with RtspSink(server.url.replace("//", "//bob:s3%20c%40t@"), NAMES, 25) as sink:
        assert live(sink, result, lambda: len(server.frames()) > 5) == []


def test_an_ffmpeg_that_hangs_costs_a_time_limit_and_is_killed(
    record: Callable[..., Recorder], make_result: MakeResult
) -> None:
    server = record()
    sink = RtspSink(server.url, NAMES, 25)
    sink.put(make_result(grey(100, 1080, 1920)))
    assert sink._ffmpeg is not None
    os.kill(sink._ffmpeg.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(SinkError, match="takes nothing for 3 s"):
        sink.put(make_result(grey(100, 1080, 1920), at_s=0.04))
    assert time.monotonic() - began < 20
    assert "ffmpeg" not in children()
    sink.close()


def test_closing_does_not_wait_for_an_ffmpeg_that_hangs(
    record: Callable[..., Recorder], make_result: MakeResult
) -> None:
    server = record()
    sink = RtspSink(server.url, NAMES, 25)
    sink.put(make_result(grey(100)))
    assert sink._ffmpeg is not None
    os.kill(sink._ffmpeg.pid, signal.SIGSTOP)
    began = time.monotonic()
    sink.close()
    assert time.monotonic() - began < 5
    sink.close()
    with pytest.raises(SinkError, match="is closed"):
        sink.put(make_result(grey(100)))


def test_pictures_of_odd_and_other_sizes_fit_into_the_stream(
    record: Callable[..., Recorder], make_result: MakeResult
) -> None:
    server = record()
    with RtspSink(server.url, NAMES, 10) as sink:
        with pytest.raises(SinkError, match="1x1 is too small"):
            sink.put(make_result(grey(0, 1, 1)))
        sink.put(make_result(grey(50, 121, 161)))
        sink.put(make_result(grey(150, 300, 40), at_s=0.11))
        live(sink, lambda at_s: make_result(grey(50, 121, 161), at_s=0.21 + at_s), lambda: len(server.frames()) > 5)
    frames = server.frames()
    assert {frame.shape for frame in frames} == {(120, 160, 3)}
    assert frames[1][:, :60].mean() < 25  # the tall one, on black
    assert frames[1][:, 76:84].mean() == pytest.approx(150, abs=25)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/x", "rtsp://", "127.0.0.1:8554/x", "rtsp://bob:a/b@127.0.0.1:8554/x", "rtsp://h:0/x"],
)
def test_what_is_no_address_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(UsageError, match="it looks like rtsp://host:8554/camera") as caught:
        RtspSink(url, NAMES, 25)
    assert "a/b" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"fps": 0}, "fps must be above 0"),
        ({"fps": float("inf")}, "fps must be above 0"),
        ({"fps": 25, "bitrate_kbps": 0}, "bitrate_kbps must be above 0"),
        ({"fps": 25, "encoder": "mpeg2"}, "there is no encoder 'mpeg2'; there are libx264"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        RtspSink("rtsp://127.0.0.1/x", NAMES, **options)


def test_without_ffmpeg_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SinkError, match=r"ffmpeg is not installed.*sudo apt install ffmpeg"):
        RtspSink("rtsp://127.0.0.1/x", NAMES, 25)


def test_an_ffmpeg_without_the_encoder_says_which_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho ' V....D h264_v4l2m2m  V4L2 mem2mem H.264 encoder'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SinkError, match="has no encoder libx264; it has h264_v4l2m2m"):
        RtspSink("rtsp://127.0.0.1/x", NAMES, 25)
    program.write_text("#!/bin/sh\necho ' V....D mpeg4'\n")
    with pytest.raises(SinkError, match=r"has no H\.264 encoder; Debian's and Ubuntu's have"):
        RtspSink("rtsp://127.0.0.1/x", NAMES, 25)
    program.unlink()
    program.mkdir()
    assert RtspSink("rtsp://127.0.0.1/x", NAMES, 25, encoder="h264_v4l2m2m")._encoder == "h264_v4l2m2m"  # the next one


def test_an_encoder_that_this_machine_has_no_hardware_for_is_an_error_of_each_result(
    record: Callable[..., Recorder], make_result: MakeResult
) -> None:
    """Asked for by name, it never becomes another."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA card")
    server = record()
    try:
        sink = RtspSink(server.url, NAMES, 25, encoder="h264_nvenc")
    except SinkError as error:
        pytest.skip(str(error))
    with sink, pytest.raises(SinkError, match="it is tried again"):
        sink.put(make_result(grey(100)))
