"""A camera of the kernel's Video4Linux: USB webcams, and whatever else is a plain /dev/video node."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import select
import stat
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from edge_sdk.errors import SourceError, SourceNotFoundError
from edge_sdk.result import Frame
from edge_sdk.sources.base import FoundCamera, Request
from edge_sdk.sources.capture import CaptureSource, fourcc_text, quiet_opencv
from edge_sdk.sources.files import natural_key

PIXEL_FORMAT = "MJPG"  # uncompressed video over USB 2 ends near 10 frames a second at 1280x720 (opencv#9540)
BUFFERS = 2  # one being filled while one is read; with one alone a camera skips every other frame
SLICE_S = 0.1  # how soon a blocked read notices that the source was closed

# <linux/videodev2.h>: ioctl _IOR('V', 0, struct v4l2_capability) and the bits of its capabilities
VIDIOC_QUERYCAP = 0x80685600
CAPABILITY = struct.Struct("=16s32s32sIII12x")
CAP_CAPTURE, CAP_CAPTURE_MPLANE = 0x0000_0001, 0x0000_1000
CAP_M2M_MPLANE, CAP_M2M = 0x0000_4000, 0x0000_8000
CAP_STREAMING, CAP_IO_MC, CAP_DEVICE_CAPS = 0x0400_0000, 0x2000_0000, 0x8000_0000
# _IOW('V', 19, int), and the types of queue that it may stop: single-planar capture, multi-planar capture
VIDIOC_STREAMOFF = 0x40045613
QUEUES = (1, 9)

# Nodes of a board's own camera and codec blocks: raw sensor data or half of a pipeline, never pictures by themselves.
# Raspberry Pi (unicam, rp1-cfe, pispbe, bcm2835-*, rpi-hevc-dec), Jetson (vi-output, tegra), Qualcomm (camss, venus).
BLOCKS = re.compile(
    r"unicam|rp1-cfe|pispbe|bcm2835|rpi-|vi-output|tegra|camss|msm_vfe|cam-req|venus|iris", re.IGNORECASE
)

_log = logging.getLogger("edge_sdk")


@dataclass(frozen=True)
class Capability:
    """What a /dev/video node says it is."""

    driver: str
    card: str
    bus: str
    bits: int

    @property
    def is_camera(self) -> bool:
        """Whether the node streams pictures by itself: no metadata, no output, no codec, no part of a pipeline."""
        takes = self.bits & (CAP_CAPTURE | CAP_CAPTURE_MPLANE) and self.bits & CAP_STREAMING
        return bool(takes) and not self.bits & (CAP_M2M | CAP_M2M_MPLANE | CAP_IO_MC) and not BLOCKS.search(self.driver)


def parse_capability(data: bytes) -> Capability:
    """Reads `struct v4l2_capability`; the bits are those of the node, not of all the nodes of its device."""
    driver, card, bus, _version, device, node = CAPABILITY.unpack(data)
    driver, card, bus = (text.split(b"\0")[0].decode(errors="replace") for text in (driver, card, bus))
    return Capability(driver, card, bus, node if device & CAP_DEVICE_CAPS else device)


def query_capability(path: Path) -> Capability | None:
    """Asks the driver what a device node is; None where the node does not open."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return parse_capability(fcntl.ioctl(descriptor, VIDIOC_QUERYCAP, bytes(CAPABILITY.size)))
    except OSError:
        return Capability("no Video4Linux driver", path.name, "", 0)
    finally:
        os.close(descriptor)


def node_of(spec: str, root: Path = Path("/")) -> Path | None:
    """The device node that a spec names; None where it names none.

    ``0``, ``v4l2:0``, ``v4l2:///dev/video0``, ``/dev/video0`` and ``/dev/v4l/by-id/...`` do.
    """
    text = re.sub(r"^v4l2:(//)?", "", spec)
    if re.fullmatch(r"[0-9]{1,3}", text):
        return root / "dev" / f"video{int(text)}"
    if re.match(r"/dev/(video|v4l/)", text):
        return root / text.lstrip("/")
    return None


class V4l2Kind:
    """A /dev/video camera."""

    name = "v4l2"
    example = "a camera (0, /dev/video0)"
    rank = 20

    def claims(self, spec: str) -> bool:
        """An index, a node, or ``v4l2:`` and one of these."""
        return spec.startswith("v4l2:") or node_of(spec) is not None

    def open(self, spec: str, request: Request) -> V4l2Source:
        """Opens the node, asks for MJPG and the wanted size and rate, and reads the first frame."""
        node = node_of(spec, request.root)
        if node is None:
            raise SourceError(f"{spec}: not a camera's index or node; give 0, v4l2:0 or /dev/video0")
        if not node.exists():
            raise SourceNotFoundError(f"{spec}: no camera {node}; {_attached(self.find(request.root))}")
        if not stat.S_ISCHR(node.stat().st_mode):
            raise SourceError(f"{spec}: {node} is not a camera device; {_attached(self.find(request.root))}")
        if not os.access(node, os.R_OK | os.W_OK):
            raise SourceError(f"{spec}: no permission for {node}; sudo usermod -aG video $USER, then log in again")
        capability = query_capability(node)
        if capability is not None and not capability.is_camera:
            others = _attached(self.find(request.root))
            raise SourceError(f"{spec}: {node} ({capability.card}, {capability.driver}) gives no pictures; {others}")
        before = set(_descriptors_of(node))
        with quiet_opencv():
            capture = cv2.VideoCapture(str(node), cv2.CAP_V4L2)
        if not capture.isOpened():
            capture.release()
            raise SourceError(f"{spec}: {node} does not open as a camera; {_why_not(node)}")
        with quiet_opencv():
            configure(capture, request, spec)
        opened = [descriptor for descriptor in _descriptors_of(node) if descriptor not in before]
        # OpenCV gives the picture before once more when it cannot decode one; so the decoding is ours.
        raw = fourcc_text(capture) == PIXEL_FORMAT and bool(capture.set(cv2.CAP_PROP_CONVERT_RGB, 0))
        source = V4l2Source(
            capture,
            name=spec,
            node=node,
            timeout_s=request.timeout_s,
            descriptor=opened[0] if opened else None,
            raw=raw,
        )
        try:
            with quiet_opencv():
                source.prime(request, time.monotonic() + request.timeout_s)
        except SourceError:
            source.close()
            raise
        return source

    def present(self, spec: str, request: Request) -> bool:
        """Whether the node is there and its driver answers as a camera's."""
        node = node_of(spec, request.root)
        capability = query_capability(node) if node is not None and node.is_char_device() else None
        return capability is not None and capability.is_camera

    def find(self, root: Path) -> Sequence[FoundCamera]:
        """The nodes that are cameras: by their driver's word, or in a captured tree by their names."""
        found = []
        folder = root / "sys/class/video4linux"
        for entry in sorted(folder.glob("video[0-9]*"), key=lambda path: natural_key(path.name)):
            label, index = _text(entry / "name"), _text(entry / "index")
            node = root / "dev" / entry.name
            capability = query_capability(node) if node.is_char_device() else None
            first = index in ("", "0")  # a webcam's further nodes are metadata
            is_camera = first if capability is None else capability.is_camera
            if is_camera and not BLOCKS.search(label):
                found.append(FoundCamera(f"/dev/{entry.name}", label or entry.name))
        return found


def configure(capture: Any, request: Request, name: str) -> None:
    """Asks for MJPG, then size, then rate, and says in the log what the camera made of it.

    The order matters: a camera's sizes and rates depend on its pixel format, and OpenCV starts the negotiation anew
    with each.
    """
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*PIXEL_FORMAT))
    asked = {"width": request.width, "height": request.height, "fps": request.fps}
    wanted = {"format": PIXEL_FORMAT} | {key: f"{value:g}" for key, value in asked.items() if value is not None}
    if request.width is not None or request.height is not None:  # OpenCV acts when it has both
        for prop, size in ((cv2.CAP_PROP_FRAME_WIDTH, request.width), (cv2.CAP_PROP_FRAME_HEIGHT, request.height)):
            capture.set(prop, capture.get(prop) if size is None else size)
    if request.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, request.fps)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, BUFFERS)
    active = {
        "format": fourcc_text(capture),
        "width": f"{capture.get(cv2.CAP_PROP_FRAME_WIDTH):g}",
        "height": f"{capture.get(cv2.CAP_PROP_FRAME_HEIGHT):g}",
        "fps": f"{capture.get(cv2.CAP_PROP_FPS):g}",
    }
    _log.info("%s: %s %sx%s at %s fps", name, active["format"], active["width"], active["height"], active["fps"])
    differs = [f"{key} {text} became {active[key]}" for key, text in wanted.items() if active[key] != text]
    if differs:
        _log.info("%s: the camera does not do what was asked: %s", name, ", ".join(differs))


class V4l2Source(CaptureSource):
    """Frames of one camera.

    Args:
        capture: The open capture.
        name: The spec.
        node: Its device node.
        timeout_s: How long a frame may take.
        descriptor: The capture's own descriptor of the node, to wait on and to end a wait inside OpenCV, which the
            first frame needs; without one such a wait takes up to 10 s.
        raw: Whether the capture gives JPEGs rather than pictures.
    """

    def __init__(
        self, capture: Any, *, name: str, node: Path, timeout_s: float, descriptor: int | None = None, raw: bool = False
    ) -> None:
        super().__init__(capture, name=name, live=True)
        self._node = node
        self._timeout_s = timeout_s
        self._descriptor = descriptor
        self._raw = raw
        self._releasing = threading.Lock()  # the descriptor may be another file's afterwards

    def _retrieve(self) -> tuple[bool, Any]:
        if not self._raw:
            return super()._retrieve()
        done, data = self._capture.retrieve()
        if not done or data is None or not data.size:
            return False, None
        with quiet_opencv():
            # A new array for each: Python's imdecode takes no buffer, in OpenCV 4 and 5.
            image = cv2.imdecode(data.reshape(-1), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        return image is not None, image

    def _wait(self) -> bool:
        if self._descriptor is None:
            return True
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        deadline = time.monotonic() + self._timeout_s
        while not self._closing.is_set():
            if waiting.poll(SLICE_S * 1000):
                return True  # a frame, or an error that the grab finds: it also starts the stream
            if time.monotonic() > deadline:
                raise SourceError(
                    f"{self.name}: no frame within {self._timeout_s:g} s; unplug the camera and try again"
                )
        return False

    def _interrupt(self) -> None:
        with self._releasing:
            if self._descriptor is None or self._released:
                return
            for queue in QUEUES:  # a stream that is stopped wakes whoever waits for it
                with suppress(OSError):
                    fcntl.ioctl(self._descriptor, VIDIOC_STREAMOFF, struct.pack("i", queue))

    def _free(self) -> None:
        with self._releasing:
            super()._free()

    def _ended(self, frames: int) -> Frame | None:
        if not self._node.exists():
            raise SourceError(f"{self.name}: the camera was unplugged after {frames} frames; plug it in again")
        if frames == 0:
            raise SourceError(f"{self.name}: {self._node} opens but gives no frame; {_why_not(self._node)}")
        raise SourceError(f"{self.name}: no more frames after {frames}; unplug the camera and plug it in again")


def _attached(cameras: Sequence[FoundCamera]) -> str:
    if not cameras:
        return "no USB camera is attached; plug one in, or name a board's own camera as csi"
    return "attached: " + ", ".join(f"{camera.spec} ({camera.label})" for camera in cameras)


def _why_not(node: Path) -> str:
    holders = holders_of(node)
    if holders:
        return f"it is in use by {', '.join(holders[:3])}; end that first"
    return "it may be in use by another user's program, or ask for less with width=640, height=480"


def holders_of(node: Path, processes: Path = Path("/proc")) -> list[str]:
    """The other processes that have a device open, as far as this user may see: "cheese (pid 812)"."""
    wanted, found = str(node.resolve()), []
    for process in sorted(processes.glob("[0-9]*"), key=lambda path: int(path.name)):
        if int(process.name) == os.getpid():
            continue
        try:
            links = [str(link.readlink()) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if wanted in links:
            found.append(f"{_text(process / 'comm') or 'a program'} (pid {process.name})")
    return found


def _descriptors_of(node: Path) -> list[int]:
    """This process's own descriptors of a node."""
    wanted, found = str(node.resolve()), []
    for link in Path("/proc/self/fd").iterdir():
        try:
            if str(link.readlink()) == wanted:
                found.append(int(link.name))
        except OSError:
            continue
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


KIND = V4l2Kind()
