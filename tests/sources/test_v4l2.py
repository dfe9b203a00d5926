"""V4L2 cameras: what is attached, what is not, and what a driver's answer means."""

from __future__ import annotations

import json
import logging
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import BadFrameError, SourceError, SourceNotFoundError
from edge_sdk.sources import v4l2
from edge_sdk.sources.base import FoundCamera, Request, find_cameras, is_back, open_source
from edge_sdk.sources.v4l2 import KIND, V4l2Source, configure, holders_of, node_of, parse_capability

pytestmark = pytest.mark.usefixtures("leaves_nothing")

CAPTURE, METADATA, STREAMING, M2M = 0x1, 0x0080_0000, 0x0400_0000, 0x8000
ALL_NODES = 0x8000_0000


def capability(driver: str, card: str, device: int, node: int) -> bytes:
    """What VIDIOC_QUERYCAP gives."""
    return struct.pack(
        "=16s32s32sIII12x", driver.encode(), card.encode(), b"usb-0000:01:00.0-1.2", 0x60C00, device, node
    )


@pytest.fixture
def tree(tmp_path):
    """A captured /sys and /dev: a webcam with its metadata node, and the blocks of a Raspberry Pi 5."""
    nodes = {
        "video0": ("HD Pro Webcam C920", "0"),
        "video1": ("HD Pro Webcam C920", "1"),
        "video10": ("USB 2.0 Camera", "0"),
        "video19": ("rpi-hevc-dec", "0"),
        "video20": ("pispbe-input", "0"),
        "video2": ("rp1-cfe-csi2_ch0", "0"),
    }
    for node, (label, index) in nodes.items():
        folder = tmp_path / "sys/class/video4linux" / node
        folder.mkdir(parents=True)
        (folder / "name").write_text(label + "\n")
        (folder / "index").write_text(index + "\n")
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / node).write_text("")
    return tmp_path


def test_the_cameras_of_a_tree_are_found_and_nothing_else(tree):
    assert KIND.find(tree) == [
        FoundCamera("/dev/video0", "HD Pro Webcam C920"),
        FoundCamera("/dev/video10", "USB 2.0 Camera"),
    ]
    assert find_cameras(tree) == KIND.find(tree)


def test_a_machine_without_cameras_has_none(tmp_path):
    assert KIND.find(tmp_path) == []


@pytest.mark.parametrize(
    ("spec", "node"),
    [
        ("0", "/dev/video0"),
        ("007", "/dev/video7"),
        ("v4l2:2", "/dev/video2"),
        ("v4l2:///dev/video3", "/dev/video3"),
        ("v4l2:/dev/video3", "/dev/video3"),
        ("/dev/video12", "/dev/video12"),
        ("/dev/v4l/by-id/usb-046d_HD_Pro-video-index0", "/dev/v4l/by-id/usb-046d_HD_Pro-video-index0"),
    ],
)
def test_a_camera_is_named_by_number_or_node(spec, node):
    assert KIND.claims(spec)
    assert node_of(spec) == Path(node)


@pytest.mark.parametrize("spec", ["-1", "1.5", "video0", "demo", "/dev/sda", "0.jpg", "12345"])
def test_nothing_else_is_a_camera(spec):
    assert not KIND.claims(spec)


def test_a_camera_that_is_not_there_lists_those_that_are(tree, tmp_path):
    with pytest.raises(
        SourceNotFoundError, match=r"5: no camera .*video5; attached: /dev/video0 \(HD Pro Webcam C920\)"
    ):
        open_source(5, Request(root=tree))
    with pytest.raises(FileNotFoundError, match="no USB camera is attached; plug one in, or name a board's own camera"):
        open_source("/dev/video5", Request(root=tmp_path / "bare"))


def test_a_file_in_place_of_a_device_is_refused(tree):
    with pytest.raises(SourceError, match="video0 is not a camera device"):
        open_source(0, Request(root=tree))


def test_another_device_is_no_camera(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/video0").symlink_to("/dev/null")
    with pytest.raises(SourceError, match=r"video0 \(video0, no Video4Linux driver\) gives no pictures"):
        open_source(0, Request(root=tmp_path))


@pytest.mark.skipif(os.getuid() == 0, reason="root may open everything")
def test_a_device_without_permission_says_which_group(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/video0").symlink_to("/dev/mem")
    with pytest.raises(SourceError, match="sudo usermod -aG video"):
        open_source(0, Request(root=tmp_path))


def test_a_drivers_answer_is_read():
    said = parse_capability(
        capability("uvcvideo", "HD Pro Webcam C920", CAPTURE | METADATA | STREAMING | ALL_NODES, CAPTURE | STREAMING)
    )
    assert (said.driver, said.card, said.bus) == ("uvcvideo", "HD Pro Webcam C920", "usb-0000:01:00.0-1.2")
    assert said.is_camera


@pytest.mark.parametrize(
    ("driver", "node"),
    [
        ("uvcvideo", METADATA | STREAMING),
        ("uvcvideo", CAPTURE),
        ("bcm2835-codec", M2M | STREAMING),
        ("rp1-cfe", CAPTURE | STREAMING | 0x2000_0000),
        ("unicam", CAPTURE | STREAMING),
        ("tegra-video", CAPTURE | STREAMING),
        ("v4l2 output", 0x2 | STREAMING),
    ],
)
def test_a_node_that_gives_no_pictures_by_itself_is_no_camera(driver, node):
    assert not parse_capability(capability(driver, "x", CAPTURE | STREAMING | ALL_NODES, node)).is_camera


def test_an_old_driver_speaks_for_its_whole_device():
    assert parse_capability(capability("old", "x", CAPTURE | STREAMING, 0)).is_camera


@given(st.binary(min_size=104, max_size=104))
def test_no_answer_upsets_the_reading(data):
    assert parse_capability(data).is_camera in (True, False)


class Camera:
    """Stands below the public source for a camera's capture: it does 640x480 YUYV at 30 whatever is asked."""

    def __init__(self, frames: int = 3) -> None:
        self.asked: list[int] = []
        self.frames = frames

    def set(self, prop, value):
        self.asked.append(prop)
        return True

    def get(self, prop):
        fourcc = float(cv2.VideoWriter.fourcc(*"YUYV"))
        known = {cv2.CAP_PROP_FOURCC: fourcc, cv2.CAP_PROP_FRAME_WIDTH: 640.0, cv2.CAP_PROP_FRAME_HEIGHT: 480.0}
        return known.get(prop, 30.0)

    def grab(self):
        self.frames -= 1
        return self.frames >= 0

    def retrieve(self, image=None):
        return True, np.zeros((480, 640, 3), np.uint8)

    def release(self):
        pass


def test_mjpg_is_asked_for_before_the_size_and_the_size_before_the_rate():
    camera = Camera()
    configure(camera, Request(width=1280, height=720, fps=60), "0")
    assert camera.asked == [
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
        cv2.CAP_PROP_BUFFERSIZE,
    ]


def test_what_the_camera_made_of_the_request_is_in_the_log(caplog):
    with caplog.at_level(logging.INFO, "edge_sdk"):
        configure(Camera(), Request(width=1280, height=480), "0")
    assert caplog.messages == [
        "0: YUYV 640x480 at 30 fps",
        "0: the camera does not do what was asked: format MJPG became YUYV, width 1280 became 640",
    ]


def test_a_camera_that_is_unplugged_says_so(tmp_path):
    node = tmp_path / "video0"
    node.write_text("")
    source = V4l2Source(Camera(frames=2), name="0", node=node, timeout_s=1)
    assert (source.live, source.fps) == (True, 30.0)
    assert [source.read().id, source.read().id] == [0, 1]
    with pytest.raises(SourceError, match="no more frames after 2; unplug the camera"):
        source.read()
    node.unlink()
    with pytest.raises(SourceError, match="was unplugged after 2 frames; plug it in again"):
        source.read()
    source.close()


def test_a_jpeg_with_a_damaged_size_costs_one_frame_and_not_the_camera(tmp_path):
    whole = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1]
    damaged = whole.copy()
    at = damaged.tobytes().index(b"\xff\xc0") + 5  # height and width in the frame header
    damaged[at : at + 4] = (0xEA, 0x60) * 2  # 60000 x 60000: OpenCV raises on so many pixels
    pictures = [damaged, whole]

    class Raw(Camera):
        def retrieve(self, image=None):
            return True, pictures.pop(0)

    source = V4l2Source(Raw(frames=2), name="0", node=tmp_path, timeout_s=1, raw=True)
    with pytest.raises(BadFrameError, match="frame 0 could not be decoded"):
        source.read()
    assert source.read().image.shape == (48, 64, 3)
    source.close()


def test_a_camera_that_stalls_is_an_error_in_time(tmp_path):
    reading, writing = os.pipe()  # a descriptor that never has anything to read
    source = V4l2Source(Camera(), name="0", node=tmp_path, timeout_s=0.2, descriptor=reading)
    with pytest.raises(SourceError, match=r"no frame within 0\.2 s"):
        source.read()
    source.close()
    assert source.read() is None
    os.close(reading)
    os.close(writing)


def test_who_holds_a_device_is_named(tmp_path):
    held = tmp_path / "video0"
    held.write_text("")
    code = "import sys; f = open(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(held)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        child.stdout.readline()
        assert any(f"(pid {child.pid})" in holder for holder in holders_of(held))
        child.stdin.close()
    assert holders_of(held) == []


EMULATED = """
import json, logging, os, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
from edge_sdk.sources.base import Request, open_source
from pathlib import Path
before = len(os.listdir("/proc/self/fd"))
found = {}
try:
    source = open_source(0, Request(width=1280, fps=30, root=Path(sys.argv[1])))
    try:
        frames = [source.read() for _ in range(8)]
    finally:
        source.close()
    found = {"ids": [frame.id for frame in frames], "shape": frames[0].image.shape, "fps": source.fps}
except OSError as error:
    found["error"] = str(error)
print(json.dumps({**found, "left": len(os.listdir("/proc/self/fd")) - before}))
"""


def seen(webcam, code=EMULATED, **settings):
    """What a process says that sees the emulated webcam: its last line, and its log."""
    with webcam.popen("-c", code, str(webcam.root), **settings) as process:
        out, log = process.communicate(timeout=60)
    return json.loads(out.splitlines()[-1]), log


def test_an_emulated_webcam_is_read_through_opencvs_own_code(webcam, tmp_path, bear):
    log = tmp_path / "log"
    found, said = seen(webcam, CAMERA_LOG=str(log))
    assert found == {"ids": list(range(found["ids"][0], found["ids"][0] + 8)), "fps": 30.0, "left": 0} | {
        "shape": list(cv2.imread(str(bear)).shape)
    }
    assert "0: MJPG 1280x720 at 30 fps" in said
    steps = log.read_text().splitlines()
    assert steps[steps.index("on") - 1] == "buffers 2"
    assert steps.index("format MJPG 640x480") < steps.index("format MJPG 1280x720") < steps.index("on")
    assert steps[-2:] == ["off", "buffers 0"]


def test_an_emulated_webcam_that_sends_rubbish_gives_no_frames_of_old(webcam):
    found, _ = seen(webcam, CAMERA_JPEG=__file__)
    assert found == {"error": "0: none of 10 frames could be decoded", "left": 0}


def test_an_emulated_webcam_in_use_or_without_further_frames_is_said(webcam):
    found, _ = seen(webcam, CAMERA_FRAMES="4")
    assert "0: no more frames after" in found["error"]
    assert found["left"] == 0
    found, _ = seen(webcam, CAMERA_BUSY="1")
    assert "opens but gives no frame" in found["error"]
    assert found["left"] == 0


LOST_AND_FOUND = """
import json, os, sys, threading, time
from pathlib import Path
from edge_sdk.sources.base import Request, is_back, open_source
request = Request(root=Path(sys.argv[1]), timeout_s=20)
before, said = len(os.listdir("/proc/self/fd")), {"back": []}

def read():
    try:
        while (frame := source.read()) is not None:
            said["shape"] = frame.image.shape
            if not ready.is_set():
                ready.set()
        said["end"] = None
    except OSError as error:
        said["end"] = str(error)
    said["ended_s"] = time.monotonic()

def next_word():
    word = sys.stdin.readline().strip()
    said["told_s"] = time.monotonic()
    return word

said["back"].append(is_back(0, request))
for word in ("close", "again"):
    ready = threading.Event()
    source = open_source("/dev/video0", request)
    thread = threading.Thread(target=read)
    thread.start()
    ready.wait()
    print("reading", flush=True)
    word = next_word()
    if word == "close":
        source.close()
        said["closed_s"] = time.monotonic()
    thread.join(15)
    source.close()
    said["back"].append(is_back(0, request))
    took_s = {name: said.pop(name, said["told_s"]) - said["told_s"] for name in ("closed_s", "ended_s")}
    print(json.dumps(said | took_s | {"left": len(os.listdir("/proc/self/fd")) - before}), flush=True)
    if next_word() == "enough":
        break
    said["back"] = [is_back(0, request)]
"""


@pytest.fixture
def reader(webcam):
    """A process that reads the webcam: `tell` says a word and returns the facts that it answers with."""
    process = webcam.popen("-c", LOST_AND_FOUND, str(webcam.root))

    def tell(word):
        process.stdin.write(word + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    process.tell = tell
    yield process
    process.kill()
    process.communicate()


def test_a_webcam_that_is_unplugged_while_it_is_read_is_lost_and_comes_back_with_another_picture(
    webcam, reader, bear, photos
):
    assert reader.stdout.readline() == "reading\n"
    webcam.unplug()
    found = json.loads(reader.tell("gone"))
    assert re.fullmatch(r"/dev/video0: the camera was unplugged after \d+ frames; plug it in again", found["end"])
    assert found["back"] == [True, False]
    assert (found["shape"], found["left"]) == (list(cv2.imread(str(bear)).shape), 0)
    other = next(photo for photo in photos if cv2.imread(str(photo)).shape != cv2.imread(str(bear)).shape)
    webcam.plug(other)
    assert reader.tell("again") == "reading"
    found = json.loads(reader.tell("close"))
    assert found["shape"] == list(cv2.imread(str(other)).shape)
    assert found["back"] == [True, True]
    assert (found["end"], found["left"]) == (None, 0)


def test_what_was_open_of_a_webcam_stays_lost_when_it_is_plugged_in_again_at_once(webcam, reader):
    assert reader.stdout.readline() == "reading\n"
    webcam.unplug()
    webcam.plug()
    found = json.loads(reader.tell("gone"))
    assert "no more frames after" in found["end"]
    assert found["back"] == [True, True]


def test_closing_a_webcam_that_stalls_ends_its_read_at_once(webcam, reader):
    assert reader.stdout.readline() == "reading\n"
    webcam.stall()
    time.sleep(0.3)  # until the read is one that nothing comes to
    found = json.loads(reader.tell("close"))
    assert found["end"] is None
    assert max(found["closed_s"], found["ended_s"]) < 2
    assert found["left"] == 0


def test_the_opening_of_a_webcam_that_gives_nothing_can_be_cancelled(webcam):
    webcam.stall()
    code = """
import json, sys, threading, time
from pathlib import Path
from edge_sdk.sources.base import Request, open_source
cancelled = threading.Event()
threading.Timer(0.3, cancelled.set).start()
began = time.monotonic()
try:
    open_source(0, Request(root=Path(sys.argv[1]), timeout_s=60, cancelled=cancelled))
except OSError as error:
    print(json.dumps({"error": str(error), "took_s": time.monotonic() - began}))
"""
    found, _ = seen(webcam, code)
    assert found["error"] == "0: the opening was cancelled"
    assert found["took_s"] < 5  # the first wait is one inside OpenCV, of 10 s


def test_the_opening_of_a_webcam_that_gives_nothing_ends_in_time(webcam):
    webcam.stall()
    code = """
import json, sys, time
from pathlib import Path
from edge_sdk.sources.base import Request, open_source
began = time.monotonic()
try:
    open_source(0, Request(root=Path(sys.argv[1]), timeout_s=1))
except OSError as error:
    print(json.dumps({"error": str(error), "took_s": time.monotonic() - began}))
"""
    found, _ = seen(webcam, code)
    assert "opens but gives no frame" in found["error"]
    assert 1 <= found["took_s"] < 5


def test_a_node_is_back_when_a_driver_answers_for_it(tree, tmp_path):
    assert is_back(0, Request(root=tree)) is False  # a plain file
    assert is_back("/dev/video9", Request(root=tree)) is False
    assert is_back("v4l2:nonsense", Request(root=tree)) is False
    (tree / "dev/video9").symlink_to("/dev/null")
    assert is_back(9, Request(root=tree)) is False


def test_the_numbers_of_the_requests_fit_their_structures():
    write, read, size = 1, 2, v4l2.CAPABILITY.size  # asm-generic/ioctl.h: direction, size, type, number
    assert size == 104
    assert read << 30 | size << 16 | ord("V") << 8 | 0 == v4l2.VIDIOC_QUERYCAP
    assert write << 30 | struct.calcsize("i") << 16 | ord("V") << 8 | 19 == v4l2.VIDIOC_STREAMOFF
