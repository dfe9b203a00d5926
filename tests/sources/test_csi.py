"""CSI cameras: which reader, which pipeline, which sensors. None of this has met hardware."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from concurrent.futures import Future

import numpy as np
import pytest

from edge_sdk.errors import SourceError, SourceNotFoundError
from edge_sdk.sources.base import FoundCamera, Request, find_cameras, open_source
from edge_sdk.sources.csi import (
    KIND,
    camera_of,
    choose,
    jetson,
    libcamera,
    load_picamera2,
    open_picamera,
    qualcomm,
    shot_of,
)

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_the_boards_own_reader_is_chosen():
    def choice(*installed: str) -> str | None:
        return choose(installed.__contains__, installed.__contains__)

    assert choice("nvarguscamerasrc") == "jetson"
    assert choice("picamera2", "libcamerasrc") == "picamera2"
    assert choice("qtiqmmfsrc", "libcamerasrc") == "qualcomm"
    assert choice("libcamerasrc") == "libcamera"
    assert choice() is None


def test_jetsons_pipeline_goes_through_video_memory_and_asks_for_the_size():
    assert " ".join(jetson(shot_of("1", Request(width=1920, height=1080, fps=29.97)))) == (
        "nvarguscamerasrc sensor-id=1 ! "
        "video/x-raw(memory:NVMM),format=NV12,width=1920,height=1080,framerate=30000/1001 ! "
        "nvvidconv ! video/x-raw,format=BGRx,width=1920,height=1080 ! "
        "queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0 ! "
        "videoconvert ! video/x-raw,format=BGR"
    )


def test_qualcomms_pipeline_has_the_defaults_of_a_csi_camera():
    assert " ".join(qualcomm(shot_of("0", Request()))).startswith(
        "qtiqmmfsrc camera=0 ! video/x-raw,format=NV12,width=1280,height=720,framerate=30/1 ! queue"
    )


def test_libcameras_pipeline_takes_a_name_and_no_number():
    name = "/base/soc@0/cci@5c1b000/i2c-bus@0/sensor@10"
    assert libcamera(shot_of(name, Request()))[:2] == ["libcamerasrc", f"camera-name={name}"]
    assert libcamera(shot_of("0", Request()))[:2] == ["libcamerasrc", "!"]


@pytest.mark.parametrize(
    ("spec", "camera"),
    [
        ("csi", "0"),
        ("csi:", "0"),
        ("csi:1", "1"),
        ("csi://1", "1"),
        ("csi:01", "1"),
        ("csi:/base/i2c@1/imx219@10", "/base/i2c@1/imx219@10"),
    ],
)
def test_a_camera_is_named_by_number_or_by_libcameras_name(spec, camera):
    assert KIND.claims(spec)
    assert camera_of(spec) == camera


@pytest.mark.parametrize("spec", ["csi:x", "csi:-1", "csi:0 ! filesink", "csi:/base x", "csi:100"])
def test_nothing_else_reaches_a_pipeline(spec):
    with pytest.raises(SourceError, match="not a CSI camera; give csi:0"):
        open_source(spec)


def test_without_a_reader_the_error_explains_debians_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(SourceError, match=r"python3-picamera2, a Debian package .* --system-site-packages") as caught:
        open_source("csi")
    assert "\n" not in str(caught.value)


def tree(root, names):
    for node, name in names.items():
        (root / "sys/class/video4linux" / node).mkdir(parents=True)
        (root / "sys/class/video4linux" / node / "name").write_text(name + "\n")
    return root


def test_the_sensors_of_a_raspberry_pi_are_found_and_its_lens_motor_is_not(tmp_path):
    names = {
        "v4l-subdev0": "rp1-csi2",
        "v4l-subdev2": "imx708 10-001a",
        "v4l-subdev3": "dw9807 10-000c",
        "v4l-subdev4": "imx219 4-0010",
        "video0": "rp1-cfe-csi2_ch0",
    }
    assert find_cameras(tree(tmp_path, names)) == [FoundCamera("csi:0", "imx219"), FoundCamera("csi:1", "imx708")]


def test_the_sensor_of_a_jetson_is_found_once(tmp_path):
    names = {"video0": "vi-output, imx219 9-0010", "v4l-subdev1": "imx219 9-0010", "v4l-subdev0": "nvcsi@15a00000"}
    assert find_cameras(tree(tmp_path, names)) == [FoundCamera("csi:0", "imx219")]


class Request2:
    """One completed request of the double below."""

    def __init__(self, camera, value):
        self.camera, self.value = camera, value

    def make_array(self, name):
        assert name == "main"
        return np.full((self.camera.size[1], self.camera.size[0], 3), self.value, np.uint8)

    def release(self):
        self.camera.held -= 1


class Job:
    """The part of picamera2.job.Job that is used; its Future behaves as there."""

    def __init__(self):
        self.future = Future()

    def get_result(self, timeout=None):
        return self.future.result(timeout=timeout)


class Picamera2:
    """Stands below the public source for picamera2's class: gives frames, and counts what it lent."""

    attached = ({"Model": "imx708", "Num": 0},)
    stalls = False
    busy = False
    last = None

    def __init__(self, number):
        if self.busy:
            raise RuntimeError("Camera __init__ sequence did not complete.")
        self.state, self.held, self.frames = "new", 0, 0
        type(self).last = self

    @classmethod
    def global_camera_info(cls):
        return list(cls.attached)

    def create_video_configuration(self, main, controls):
        return {"main": main, "controls": controls}

    def configure(self, configuration):
        assert configuration["main"]["format"] == "RGB888"  # B, G, R in memory
        self.size = configuration["main"]["size"]

    def start(self):
        self.state = "started"

    def stop(self):
        self.state = "stopped"

    def close(self):
        self.state = "closed"

    def capture_request(self, wait):
        assert wait is False
        job = Job()
        if not self.stalls:
            self.held += 1
            self.frames += 1
            job.future.set_result(Request2(self, self.frames))
        return job


def test_a_raspberry_pi_camera_gives_frames_and_gets_its_buffers_back():
    source = open_picamera(Picamera2, "csi", shot_of("0", Request(width=320, height=240)), Request(timeout_s=1))
    assert (source.live, source.fps, source.name) == (True, 30.0, "csi")
    frames = [source.read() for _ in range(4)]
    assert [frame.id for frame in frames] == [0, 1, 2, 3]
    assert frames[0].image.shape == (240, 320, 3)
    assert Picamera2.last.held == 0
    source.close()
    assert Picamera2.last.state == "closed"
    assert source.read() is None


def test_a_raspberry_pi_camera_that_is_not_there_is_said():
    with pytest.raises(SourceNotFoundError, match=r"csi:3: no such CSI camera; attached: csi:0 \(imx708\)"):
        open_picamera(Picamera2, "csi:3", shot_of("3", Request()), Request(timeout_s=1))
    nothing = type("Nothing", (Picamera2,), {"attached": ()})
    with pytest.raises(SourceNotFoundError, match="none is attached; check its cable"):
        open_picamera(nothing, "csi", shot_of("0", Request()), Request(timeout_s=1))


def test_a_raspberry_pi_camera_in_use_is_said():
    busy = type("Busy", (Picamera2,), {"busy": True})
    with pytest.raises(SourceError, match=r"did not complete\.; another program may be using it"):
        open_picamera(busy, "csi", shot_of("0", Request()), Request(timeout_s=1))


def test_a_raspberry_pi_camera_that_stalls_fails_in_time_and_is_closed():
    stalling = type("Stalling", (Picamera2,), {"stalls": True})
    started = time.monotonic()
    with pytest.raises(SourceError, match=r"no frame after 0 \(none within 0\.3 s\)"):
        open_picamera(stalling, "csi", shot_of("0", Request()), Request(timeout_s=0.3))
    assert time.monotonic() - started < 1
    assert stalling.last.state == "closed"


def test_the_opening_of_a_raspberry_pi_camera_can_be_cancelled():
    stalling = type("Stalling", (Picamera2,), {"stalls": True})
    cancelled = threading.Event()
    timer = threading.Timer(0.2, cancelled.set)
    timer.start()
    started = time.monotonic()
    with pytest.raises(SourceError, match="csi: the opening was cancelled"):
        open_picamera(stalling, "csi", shot_of("0", Request()), Request(timeout_s=60, cancelled=cancelled))
    assert time.monotonic() - started < 5
    assert stalling.last.state == "closed"
    timer.join()


def test_closing_ends_a_blocked_read():
    camera = type("Sleepy", (Picamera2,), {})
    source = open_picamera(camera, "csi", shot_of("0", Request()), Request(timeout_s=30))
    source.read()
    camera.stalls = True
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(source.read()))
    thread.start()
    time.sleep(0.1)
    source.close()
    thread.join(2)
    assert outcome == [None]


def test_a_picamera2_that_does_not_load_says_why(monkeypatch, tmp_path):
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SourceError, match=r"numpy\.dtype size changed.*pip install 'numpy<2'"):
        load_picamera2("csi")


@pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="no gst-launch-1.0: apt install gstreamer1.0-tools")
def test_the_end_of_every_pipeline_runs_on_a_test_picture(caplog):
    end = " ".join(qualcomm(shot_of("0", Request()))).split("! queue", 1)[1]
    start = "gst:videotestsrc is-live=true ! video/x-raw,format=NV12,width=1280,height=720,framerate=30/1 ! queue"
    with caplog.at_level(logging.INFO, "edge_sdk"):
        source = open_source(start + end)
    assert source.read().image.shape == (720, 1280, 3)
    source.close()
