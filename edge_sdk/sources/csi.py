"""The camera on a board's own connector: picamera2 on Raspberry Pi, GStreamer elsewhere.

Element names and properties: NVIDIA's Accelerated GStreamer guide (nvarguscamerasrc, nvvidconv), Qualcomm's IM SDK
reference (qtiqmmfsrc), libcamera's gstlibcamerasrc.cpp (libcamerasrc), picamera2's request.py and helpers.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import SourceError, SourceNotFoundError, one_line
from edge_sdk.result import Frame
from edge_sdk.sources.base import FoundCamera, Request, Source
from edge_sdk.sources.capture import CaptureSource
from edge_sdk.sources.files import natural_key
from edge_sdk.sources.gst import fraction, has_element, open_pipeline

WIDTH, HEIGHT, FPS = 1280, 720, 30.0  # a sensor's own default is its largest picture, which no detector wants
# A stream called RGB888 lies in memory as B, G, R: libcamera names formats by significance, like DRM.
PICAMERA_BGR = "RGB888"
SLICE_S = 0.1

# A sensor's sub-device is named "imx219 10-0010": its driver, its I2C bus and address. So are lens motors and flashes.
SENSOR = re.compile(r"(?:vi-output, )?([a-z]+[0-9]+[a-z0-9_]*) ([0-9]+-[0-9a-f]{4})")
NO_SENSORS = re.compile(r"dw9|ad58|ak73|vm149|lm36|lc898|max9[62]|ds90|ub9", re.IGNORECASE)

_log = logging.getLogger("edge_sdk")

NONE_FOUND = (
    "nothing here reads a CSI camera. Raspberry Pi: sudo apt install python3-picamera2, a Debian package that pip does "
    "not bring, and a venv made with python3 -m venv --system-site-packages. Jetson (nvarguscamerasrc), Qualcomm "
    "(qtiqmmfsrc) and libcamera (libcamerasrc): GStreamer with that element, and gstreamer1.0-tools"
)


@dataclass(frozen=True)
class Shot:
    """What a CSI camera is asked for."""

    camera: str  # an index, or libcamera's name of it
    width: int
    height: int
    fps: float


def shot_of(camera: str, request: Request) -> Shot:
    """The request with the defaults of a CSI camera filled in."""
    return Shot(camera, request.width or WIDTH, request.height or HEIGHT, request.fps or FPS)


def jetson(shot: Shot) -> list[str]:
    """Jetson: the ISP through Argus; nvvidconv brings the picture out of video memory, where BGR does not exist."""
    size = f"width={shot.width},height={shot.height}"
    return [
        *("nvarguscamerasrc", f"sensor-id={shot.camera}", "!"),
        *(f"video/x-raw(memory:NVMM),format=NV12,{size},framerate={fraction(shot.fps)}", "!"),
        *("nvvidconv", "!", f"video/x-raw,format=BGRx,{size}", "!", *_out()),
    ]


def qualcomm(shot: Shot) -> list[str]:
    """Qualcomm: the camera service."""
    size = f"width={shot.width},height={shot.height}"
    return [
        *("qtiqmmfsrc", f"camera={shot.camera}", "!"),
        *(f"video/x-raw,format=NV12,{size},framerate={fraction(shot.fps)}", "!", *_out()),
    ]


def libcamera(shot: Shot) -> list[str]:
    """libcamera: its first camera, or the one with this name (`cam --list`); it has no index.

    The rate is not asked for: libcamerasrc cannot negotiate it everywhere.
    """
    chosen = [] if shot.camera == "0" else [f"camera-name={shot.camera}"]
    return ["libcamerasrc", *chosen, "!", f"video/x-raw,width={shot.width},height={shot.height}", "!", *_out()]


def _out() -> tuple[str, ...]:
    """To BGR; of frames that wait, only the newest stays."""
    leaky = ("queue", "leaky=downstream", "max-size-buffers=1", "max-size-bytes=0", "max-size-time=0")
    return (*leaky, "!", "videoconvert", "!", "video/x-raw,format=BGR")


PIPELINES: dict[str, tuple[str, Callable[[Shot], list[str]]]] = {
    "jetson": ("nvarguscamerasrc", jetson),
    "qualcomm": ("qtiqmmfsrc", qualcomm),
    "libcamera": ("libcamerasrc", libcamera),
}


def choose(element: Callable[[str], bool], module: Callable[[str], bool]) -> str | None:
    """Which reader fits what is installed; None for none. The board's own comes before libcamera's general one.

    Args:
        element: Whether GStreamer has this element.
        module: Whether Python finds this module.
    """
    if element("nvarguscamerasrc"):
        return "jetson"
    if module("picamera2"):
        return "picamera2"
    return next((name for name in ("qualcomm", "libcamera") if element(PIPELINES[name][0])), None)


class CsiKind:
    """A camera on the board's connector."""

    name = "csi"
    example = "csi:0"
    rank = 15

    def claims(self, spec: str) -> bool:
        """``csi``, ``csi:0``, ``csi://0``, or ``csi:`` and libcamera's name of a camera."""
        return spec == "csi" or spec.startswith("csi:")

    def open(self, spec: str, request: Request) -> Source:
        """Opens it with what is installed here, and says in the log with what."""
        camera = camera_of(spec)
        reader = choose(has_element, _has_module)
        if reader is None:
            raise SourceError(f"{spec}: {NONE_FOUND}")
        shot = shot_of(camera, request)
        _log.info("%s: read through %s, %dx%d at %g fps", spec, reader, shot.width, shot.height, shot.fps)
        if not camera.isdecimal() and reader != "libcamera":
            raise SourceError(f"{spec}: {reader} knows cameras by number; give csi:0")
        if reader == "picamera2":
            return open_picamera(load_picamera2(spec), spec, shot, request)
        if reader == "libcamera" and camera.isdecimal() and camera != "0":
            raise SourceError(
                f"{spec}: libcamera knows further cameras by name; give csi:NAME, as cam --list prints it"
            )
        return open_pipeline(PIPELINES[reader][1](shot), spec, request)

    def find(self, root: Path) -> Sequence[FoundCamera]:
        """The sensors that the kernel has bound, in the order of their bus; the reader's own order may be another."""
        sensors = set()
        for entry in (root / "sys/class/video4linux").glob("*/name"):
            with suppress(OSError):
                found = SENSOR.fullmatch(entry.read_text(errors="replace").strip())
                if found and not NO_SENSORS.match(found.group(1)):
                    sensors.add((found.group(2), found.group(1)))
        in_order = sorted(sensors, key=lambda sensor: natural_key(sensor[0]))
        return [FoundCamera(f"csi:{index}", name) for index, (_, name) in enumerate(in_order)]


def camera_of(spec: str) -> str:
    """The camera that a spec names: its number, or libcamera's name."""
    camera = re.sub(r"^csi:?(//)?", "", spec) or "0"
    if not re.fullmatch(r"[0-9]{1,2}|/[\w/@.:,+-]+", camera):
        raise SourceError(f"{spec}: not a CSI camera; give csi:0, or csi: and the name that cam --list prints")
    return str(int(camera)) if camera.isdecimal() else camera


def load_picamera2(spec: str) -> Any:
    """The class Picamera2.

    Raises:
        SourceError: It is there, but does not load in this environment.
    """
    try:
        return importlib.import_module("picamera2").Picamera2
    except (ImportError, ValueError, AttributeError) as error:
        # ValueError: Debian's compiled modules against a NumPy 2 that pip put into the venv ("dtype size changed").
        raise SourceError(
            f"{spec}: picamera2 is installed but does not load ({one_line(error)}); use a venv made with "
            "--system-site-packages by the system's own python3, and in it the system's NumPy (pip install 'numpy<2')"
        ) from error


def open_picamera(picamera2: Any, spec: str, shot: Shot, request: Request) -> PicameraSource:
    """Starts a Raspberry Pi camera and reads its first frame.

    Args:
        picamera2: The class Picamera2.
        spec: For the messages.
        shot: What is asked of it.
        request: How long a frame may take, and whether the camera is still wanted.
    """
    attached = picamera2.global_camera_info()
    if int(shot.camera) >= len(attached):
        there = ", ".join(f"csi:{number} ({info.get('Model', '?')})" for number, info in enumerate(attached))
        mend = f"attached: {there}" if there else "none is attached; check its cable, then rpicam-hello --list-cameras"
        raise SourceNotFoundError(f"{spec}: no such CSI camera; {mend}")
    camera = None
    try:
        camera = picamera2(int(shot.camera))
        main = {"size": (shot.width, shot.height), "format": PICAMERA_BGR}
        camera.configure(camera.create_video_configuration(main=main, controls={"FrameRate": shot.fps}))
        camera.start()
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        if camera is not None:
            camera.close()
        raise SourceError(f"{spec}: does not start: {one_line(error)}; another program may be using it") from error
    source = PicameraSource(PicameraCapture(camera, shot.fps, request.timeout_s), name=spec)
    try:
        source.prime(request)
    except SourceError:
        source.close()
        raise
    return source


class PicameraSource(CaptureSource):
    """The frames of a Raspberry Pi camera."""

    def __init__(self, capture: PicameraCapture, *, name: str) -> None:
        super().__init__(capture, name=name, live=True)
        self._camera = capture

    def _retrieve(self) -> tuple[bool, Any]:
        return self._camera.retrieve()

    def _interrupt(self) -> None:
        self._camera.stopping.set()

    def _ended(self, frames: int) -> Frame | None:
        raise SourceError(f"{self.name}: no frame after {frames} ({self._camera.problem}); check the camera's cable")


class PicameraCapture:
    """A started Picamera2 with the face of `cv2.VideoCapture`."""

    def __init__(self, camera: Any, fps: float, timeout_s: float) -> None:
        self.stopping = threading.Event()
        self.problem = ""
        self._camera = camera
        self._fps = fps
        self._timeout_s = timeout_s
        self._request: Any = None

    def grab(self) -> bool:
        """Waits for the next completed request. The wait is in slices, and one job stays asked for until it is done."""
        job = self._camera.capture_request(wait=False)
        deadline = time.monotonic() + self._timeout_s
        while not self.stopping.is_set() and time.monotonic() < deadline:
            try:
                self._request = job.get_result(timeout=SLICE_S)
            except (FutureTimeoutError, TimeoutError):
                continue
            except (CancelledError, RuntimeError, OSError) as error:
                self.problem = one_line(error)
                return False
            return True
        self.problem = f"none within {self._timeout_s:g} s"
        return False

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """A copy of the picture, which picamera2 makes in a new array; the camera gets its buffer back."""
        request, self._request = self._request, None
        try:
            return True, request.make_array("main")
        finally:
            request.release()

    def get(self, prop: int) -> float:
        """The rate that was asked for."""
        return self._fps if prop == cv2.CAP_PROP_FPS else 0.0

    def release(self) -> None:
        """Stops the camera and frees it."""
        self._camera.stop()
        self._camera.close()


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


KIND = CsiKind()
