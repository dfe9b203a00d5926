"""GStreamer pipelines through the pipe reader: real ones, of videotestsrc."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_sdk.errors import SourceError
from edge_sdk.sources.base import Request, open_source
from edge_sdk.sources.gst import Geometry, fraction, last_error, parse_caps, shown

pytestmark = pytest.mark.usefixtures("leaves_nothing")

needs_gstreamer = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None,
    reason="no gst-launch-1.0: apt install gstreamer1.0-tools gstreamer1.0-plugins-base",
)


@needs_gstreamer
def test_every_frame_of_a_pipeline_arrives_and_it_ends():
    source = open_source("gst:videotestsrc num-buffers=20 ! video/x-raw,width=320,height=240,framerate=15/1")
    assert (source.live, source.fps, source.total) == (True, 15.0, None)
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    assert [frame.id for frame in frames] == list(range(20))
    assert {frame.image.shape for frame in frames} == {(240, 320, 3)}


@needs_gstreamer
@pytest.mark.parametrize("width", [320, 321, 322, 323])
def test_rows_that_gstreamer_pads_come_out_straight(width):
    source = open_source(f"gst:videotestsrc pattern=smpte num-buffers=2 ! video/x-raw,width={width},height=240")
    image = source.read().image
    source.close()
    assert image.shape == (240, width, 3)
    assert image.flags.c_contiguous
    bars = image[:150].astype(int)
    assert np.abs(bars - bars[0]).max() <= 8  # colour bars: every row like the first
    assert image[10, 5].min() > 150  # grey on the left,
    blue, green, red = image[10, width - 8].astype(int)
    assert blue > 150 > max(green, red)  # blue on the right: the channels are B, G, R


@needs_gstreamer
@pytest.mark.parametrize("width", [320, 321])
def test_frames_come_in_buffers_that_are_free(width):
    source = open_source(f"gst:videotestsrc pattern=ball num-buffers=40 ! video/x-raw,width={width},height=240")
    held = [source.read().image for _ in range(3)]
    kept = [image.copy() for image in held]
    others = {source.read().image.ctypes.data for _ in range(30)}
    assert len(others) == 1
    assert not any(image.ctypes.data in others for image in held)
    assert all(np.array_equal(image, copy) for image, copy in zip(held, kept, strict=True))
    assert not np.array_equal(held[0], held[2])
    source.close()


@needs_gstreamer
def test_the_size_and_rate_that_were_asked_for_are_given():
    source = open_source("gst:videotestsrc is-live=true", Request(width=200, height=100, fps=10))
    assert source.fps == 10.0
    assert source.read().image.shape == (100, 200, 3)
    source.close()


@needs_gstreamer
def test_closing_ends_a_blocked_read_and_the_child():
    source = open_source("gst:videotestsrc is-live=true ! video/x-raw,framerate=1/2", Request(timeout_s=30))
    source.read()
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(source.read()))
    thread.start()
    time.sleep(0.2)
    started = time.monotonic()
    source.close()
    source.close()
    thread.join(5)
    assert time.monotonic() - started < 2
    assert outcome == [None]
    assert source.read() is None


@needs_gstreamer
def test_closing_a_pipeline_that_nobody_reads_is_quick():
    source = open_source("gst:videotestsrc ! video/x-raw,width=1920,height=1080")
    time.sleep(0.3)
    started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 1


@needs_gstreamer
def test_a_pipeline_that_gives_nothing_fails_in_time():
    started = time.monotonic()
    with pytest.raises(SourceError, match="no frame within 1 s"):
        open_source(
            "gst:videotestsrc is-live=true ! video/x-raw,framerate=1/60 ! valve drop=true", Request(timeout_s=1)
        )
    assert time.monotonic() - started < 4


@needs_gstreamer
def test_a_pipeline_that_hangs_is_killed_and_its_read_ends_first():
    source = open_source("gst:videotestsrc is-live=true ! video/x-raw,framerate=25/1", Request(timeout_s=30))
    child = int(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()[-1])
    os.kill(child, signal.SIGSTOP)
    ended, reading = [], threading.Event()

    def read_on():
        while source.read() is not None:
            reading.set()
        ended.append(time.monotonic())

    thread = threading.Thread(target=read_on)
    thread.start()
    reading.wait(5)
    time.sleep(0.5)  # what the pipe still held is read
    started = time.monotonic()
    source.close()
    took_s = time.monotonic() - started
    thread.join(5)
    assert took_s < 4  # it has a second to release its camera
    assert ended[0] - started < 1.5


@needs_gstreamer
def test_the_opening_of_a_pipeline_can_be_cancelled():
    cancelled = threading.Event()
    timer = threading.Timer(0.3, cancelled.set)
    timer.start()
    started = time.monotonic()
    with pytest.raises(SourceError, match="the opening was cancelled"):
        open_source("gst:videotestsrc is-live=true ! valve drop=true", Request(timeout_s=60, cancelled=cancelled))
    assert time.monotonic() - started < 5
    timer.join()


@needs_gstreamer
@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("gst:nosuchelement", 'no element "nosuchelement"'),
        ("gst:v4l2src device=/dev/video77", "Cannot identify device '/dev/video77'"),
        ("gst:filesrc location=/nowhere.mp4 ! decodebin", "Resource not found"),
        ("gst:", "needs an element"),
        ("gst:'", "quotes come in pairs"),
    ],
)
def test_gstreamers_own_reason_is_in_the_error(spec, reason):
    with pytest.raises(SourceError) as caught:
        open_source(spec)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_gstreamer
def test_no_shell_ever_sees_a_pipeline(tmp_path):
    with pytest.raises(SourceError):
        open_source(f"gst:videotestsrc num-buffers=1 ; touch {tmp_path}/owned", Request(timeout_s=2))
    with pytest.raises(SourceError):
        open_source(f"gst:$(touch {tmp_path}/owned)", Request(timeout_s=2))
    assert not (tmp_path / "owned").exists()


def test_without_gstreamer_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match=r"gst-launch-1\.0 is not installed; sudo apt install gstreamer1.0-tools"):
        open_source("gst:videotestsrc")


def test_caps_are_read_in_any_order_and_the_last_ones_hold():
    line = "/GstPipeline:pipeline0/GstFdSink:fdsink0.GstPad:sink: caps = video/x-raw, "
    live = line + "width=(int)320, height=(int)240, framerate=(fraction)30000/1001, format=(string)BGR"
    still = line + "format=(string)BGR, width=(int)321, height=(int)200, framerate=(fraction)0/1"
    assert parse_caps("Setting pipeline to PLAYING ...\n") is None
    assert parse_caps(live) == Geometry(320, 240, 30000 / 1001)
    assert parse_caps(f"{live}\n{still}\n") == Geometry(321, 200, None)
    assert [Geometry(width, 1, None).stride for width in (320, 321, 322)] == [960, 964, 968]


def test_rates_are_written_as_gstreamer_does():
    assert [fraction(fps) for fps in (30, 29.97, 59.94, 12.5, 0.5)] == [
        "30/1",
        "30000/1001",
        "60000/1001",
        "25/2",
        "1/2",
    ]


def test_the_line_that_tells_is_found():
    argus = "Error generated. gstnvarguscamerasrc.cpp, execute:751 No cameras available"
    assert last_error(f"GST_ARGUS: Creating output stream\n{argus}\nFreeing pipeline ...\n") == argus
    assert last_error("") == "it ended without a word"


def test_passwords_of_a_pipeline_are_hidden():
    text = shown("gst:rtspsrc location=rtsp://anna:s3cret@host/x?key=s3cret user-pw=s3cret ! decodebin")
    assert text == "gst:rtspsrc location=rtsp://***@host/x?key=*** user-pw=*** ! decodebin"
    assert shown("x user-pw='my s3cret' token=\"a b\"c ! y") == "x user-pw=*** token=*** ! y"


@needs_gstreamer
def test_a_photo_through_a_pipeline_is_the_photo(photos, tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), cv2.imread(str(photos[0])))
    source = open_source(f"gst:filesrc location={tmp_path}/photo.png ! pngdec")
    assert np.array_equal(source.read().image, cv2.imread(str(Path(tmp_path / "photo.png"))))
    assert source.read() is None
    source.close()
