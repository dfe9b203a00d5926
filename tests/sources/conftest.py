"""Real servers on loopback, and a watch on what a source leaves behind."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PATIENCE_S = 3.0


@pytest.fixture
def photos(shared: Path) -> list[Path]:
    """Real photos."""
    return sorted((shared / "data/coco_eval/images").glob("*.jpg"))


@pytest.fixture
def cars(shared: Path) -> Path:
    """A real clip: 1280x720, 25 frames a second, 38 frames."""
    return shared / "data/videos/highway_cars_test_video.mp4"


@pytest.fixture
def people(shared: Path) -> Path:
    """A real clip: 768x432, 10 frames a second, 1394 frames."""
    return shared / "data/videos/one-by-one-person-detection.mp4"


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """Fails a test after which a descriptor, a thread or a child process is left."""
    before = _held()
    yield
    deadline = time.monotonic() + PATIENCE_S
    while (left := _held() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def _held() -> set[str]:
    descriptors = {f"fd {link.name}" for link in Path("/proc/self/fd").iterdir() if _target(link)}
    threads = {f"thread {thread.name}" for thread in threading.enumerate()}
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return descriptors | threads | {f"child {child}" for child in children}


def _target(link: Path) -> str:
    """What a descriptor is; nothing for the one that lists the others."""
    try:
        return str(link.readlink())
    except OSError:
        return ""


class Server:
    """An HTTP server in a thread: a path is answered by the function that was set for it."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        pages, self.gone = self.pages, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    pages[self.path.split("?")[0]](self)
                except KeyError:
                    self.send_error(404)
                except OSError:
                    pass  # the client hung up

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.address}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def give(self, path: str, data: bytes, kind: str) -> str:
        """A page with this content; its URL."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.send_header("Content-Type", kind)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data)

        self.pages[path] = answer
        return self.url + path

    def stream(self, path: str, photos: list[Path], fps: float, frames: int | None = None) -> str:
        """An endless MJPEG stream of photos, or one that stalls after some frames; its URL."""
        pictures = [photo.read_bytes() for photo in photos]

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            request.end_headers()
            sent = 0
            while not self.gone.wait(1 / fps):
                if frames is not None and sent >= frames:
                    continue
                picture = pictures[sent % len(pictures)]
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                request.wfile.write(head.encode() + picture + b"\r\n")
                sent += 1

        self.pages[path] = answer
        return self.url + path

    def close(self) -> None:
        self.gone.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    """A real HTTP server on loopback."""
    running = Server()
    yield running
    running.close()


RTSP_SERVER = """
import sys, gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch("( filesrc location=%s ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1 )"
                   % sys.argv[1])
server.get_mount_points().add_factory("/clip", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


@pytest.fixture(scope="session")
def rtsp_url(shared: Path) -> Iterator[str]:
    """A real RTSP server with a real clip."""
    clip = shared / "data/videos/one-by-one-person-detection.mp4"
    try:
        process = subprocess.Popen(
            ["/usr/bin/python3", "-c", RTSP_SERVER, str(clip)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        pytest.skip("no RTSP server: there is no /usr/bin/python3")
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    if not port:
        process.wait()
        process.stdout.close()
        pytest.skip("no RTSP server: apt install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good")
    yield f"rtsp://127.0.0.1:{port}/clip"
    process.terminate()
    process.wait()
    process.stdout.close()
