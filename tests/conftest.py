"""What every test may ask for."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# No deadline: machines that run tests are busy, and a slow example is no wrong one.
settings.register_profile("edge-sdk", deadline=None)
settings.load_profile("edge-sdk")

# Real models, photos, clips and device captures lie beside the checkout; they are never part of it.
SHARED = Path(os.environ.get("EDGE_SDK_TEST_DATA", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real test data; a test that asks for it is skipped where it is absent."""
    if not (SHARED / "models").is_dir():
        pytest.skip(f"no test data: there is no folder {SHARED.name}/ beside the checkout (set EDGE_SDK_TEST_DATA)")
    return SHARED


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the cache of whoever runs it."""
    for name in ("EDGE_SDK_TARGET", "EDGE_SDK_MODELS", "EDGE_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGE_SDK_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def yolox(shared: Path) -> Path:
    """A real detector: YOLOX-nano, COCO's eighty classes."""
    return shared / "models/yolox_nano/yolox_nano.onnx"


@pytest.fixture(scope="session")
def bear(shared: Path) -> Path:
    """A real photo of one bear."""
    return shared / "data/coco_eval/images/000000000285.jpg"


@pytest.fixture(scope="session")
def highway(shared: Path) -> Path:
    """A real clip: 38 frames of 1280x720 at 25 a second, two cars in each."""
    return shared / "data/videos/highway_cars_test_video.mp4"


MakeTree = Callable[[Mapping[str, Any]], Path]


@pytest.fixture(scope="session")
def fixtures_dir(shared: Path) -> Path:
    """The captures of real boards, which are shared beside the repository and are no part of it."""
    return shared / "fixtures"


@pytest.fixture(scope="session")
def captures(fixtures_dir: Path) -> Mapping[str, Any]:
    """The captured trees by name, each {path: text or {"errno": name}}."""
    trees = json.loads((fixtures_dir / "sysfs_trees.json").read_text(encoding="utf-8"))
    return {name: tree["files"] for name, tree in trees.items()}


@pytest.fixture
def make_tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeTree]:
    """Writes {path: text, bytes or {"errno": name}} under a new root.

    A file that fails with EAGAIN is a pipe that nobody writes to: reading it without waiting does fail so. One that
    fails otherwise is a folder: reading it raises OSError for every user, root included.
    """
    pipes: list[int] = []

    def make(files: Mapping[str, Any]) -> Path:
        root = tmp_path_factory.mktemp("tree")
        for path, content in files.items():
            file = root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            if not isinstance(content, Mapping):
                file.write_bytes(content.encode() if isinstance(content, str) else content)
            elif content["errno"] == "EAGAIN":
                os.mkfifo(file)
                pipes.append(os.open(file, os.O_RDWR | os.O_NONBLOCK))
            else:
                file.mkdir()
        return root

    yield make
    for pipe in pipes:
        os.close(pipe)


@pytest.fixture
def captured_board(captures: Mapping[str, Any], make_tree: MakeTree) -> Callable[[str], Path]:
    """The root of a captured board's tree, by its name in sysfs_trees.json."""
    return lambda name: make_tree(captures[name])


@pytest.fixture
def jetson(captured_board: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine is a captured Jetson Orin Nano, whose power stands at 4.785 W; its root."""
    root = captured_board("orin_nano_super_jp6")
    monkeypatch.setenv("EDGE_SDK_ROOT", str(root))
    monkeypatch.setenv("EDGE_SDK_TARGET", "jetson-orin-nano")
    return root


@pytest.fixture
def no_sensor(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine is an x86-64 computer whose processor has no energy counter; its root."""
    root = tmp_path_factory.mktemp("bare")
    monkeypatch.setenv("EDGE_SDK_ROOT", str(root))
    monkeypatch.setenv("EDGE_SDK_TARGET", "generic-x86_64")
    return root


class Webcam:
    """A webcam without hardware, for processes that are started with `popen`; it is plugged in from the beginning.

    Attributes:
        root: What `Request(root=...)` and EDGE_SDK_ROOT take; the camera's name is 0 or /dev/video0.
    """

    def __init__(self, library: Path, folder: Path) -> None:
        self.root = folder / "webcam"
        self._node = self.root / "dev/video0"
        self._node.parent.mkdir(parents=True)
        self._picture = folder / "webcam.jpg"
        self._stall = folder / "webcam-stalls"
        paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        self._environment = {
            "LD_PRELOAD": str(library),
            "PYTHONPATH": paths,
            "CAMERA_JPEG": str(self._picture),
            "CAMERA_STALL": str(self._stall),
        }
        self.plug()

    def plug(self, photo: Path | None = None) -> None:
        """Plugs it in; with another picture, a JPEG of any size, where one is given."""
        if photo is not None:
            new = self._picture.with_suffix(".new")
            shutil.copy(photo, new)
            new.replace(self._picture)
        if not self._node.is_symlink():
            self._node.symlink_to("/dev/null")

    def unplug(self) -> None:
        """Takes it away, node and all; what is open is lost."""
        self._node.unlink()

    def stall(self) -> None:
        """Gives no frame from now on."""
        self._stall.touch()

    def resume(self) -> None:
        """Gives frames again."""
        self._stall.unlink()

    def popen(self, *command: str, **settings: str) -> subprocess.Popen[str]:
        """Starts a process that sees the camera; settings are further variables of its environment."""
        return subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **self._environment, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="session")
def webcam_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The emulated webcam, compiled; OpenCV's own Video4Linux code runs on it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the emulated webcam: apt install gcc libc6-dev")
    library = tmp_path_factory.mktemp("emulator") / "emulator.so"
    code = Path(__file__).with_name("sources") / "v4l2_emulator.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(code), "-ldl"], check=True, timeout=60)
    return library


@pytest.fixture
def webcam(webcam_library: Path, tmp_path: Path, bear: Path) -> Webcam:
    """An emulated webcam that shows a bear, which tests unplug, plug in and stall."""
    camera = Webcam(webcam_library, tmp_path)
    camera.plug(bear)
    return camera


RTSP_PYTHON = "/usr/bin/python3"  # the system's own, which sees Debian's gi
RTSP_HINT = "apt install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
RTSP_SCRIPT = """
import sys, gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
port, width, height, fps = sys.argv[1:]
if not all(Gst.ElementFactory.find(name) for name in ("videotestsrc", "x264enc", "rtph264pay")):
    sys.exit(1)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_shared(True)
factory.set_launch(
    f"( videotestsrc is-live=true ! video/x-raw,width={width},height={height},framerate={fps}/1 "
    f"! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={fps} ! rtph264pay name=pay0 config-interval=1 )"
)
server.get_mount_points().add_factory("/live", factory)
if not server.attach(None):
    sys.exit(2)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


class RtspServer:
    """A real RTSP server with a live picture, in a process of its own.

    Args:
        width, height: In pixels.
        fps: Frames a second; a key frame comes once a second.

    Attributes:
        url: Of the stream; the same after a new start.
    """

    def __init__(self, width: int = 640, height: int = 480, fps: int = 25) -> None:
        self._fps = fps
        self._port = "0"
        self._process: subprocess.Popen[str] | None = None
        self.start(width, height)
        self.url = f"rtsp://127.0.0.1:{self._port}/live"

    def start(self, width: int, height: int) -> None:
        """Starts it, after `kill` at the port that it had."""
        process = subprocess.Popen(
            [RTSP_PYTHON, "-c", RTSP_SCRIPT, self._port, str(width), str(height), str(self._fps)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._process = process
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            self.kill()
            if self._port != "0":
                raise RuntimeError(f"the RTSP server did not start again at port {self._port}")
            pytest.skip(f"no RTSP server: {RTSP_HINT}")
        self._port = port

    def kill(self) -> None:
        """Ends it at once, as a crash or a lost power supply does; may be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def stall(self) -> None:
        """Stops it: connections stay and are taken, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Goes on after `stall`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@pytest.fixture
def rtsp_server() -> Iterator[Callable[..., RtspServer]]:
    """Starts a `RtspServer` with what it is called with; ended after the test."""
    if not Path(RTSP_PYTHON).exists():
        pytest.skip(f"no RTSP server: there is no {RTSP_PYTHON}")
    servers: list[RtspServer] = []

    def start(**size: Any) -> RtspServer:
        servers.append(RtspServer(**size))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
