"""A window on a real X server."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_sdk import Detections, Result
from edge_sdk.errors import SinkError
from edge_sdk.sinks.window import WindowSink

NAMES = ("bear",)
MakeResult = Callable[..., Result]
WIDTH, HEIGHT = 1024, 800  # of the screen


def until(condition: Callable[[], object], patience_s: float = 20.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real X server without a screen; its display."""
    if shutil.which("Xvfb") is None:
        pytest.skip("no X server: apt install xvfb")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp"],
        pass_fds=[writing], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writing)
    with os.fdopen(reading) as answer:
        display = f":{answer.readline().strip()}"
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    yield display
    server.terminate()
    server.wait()


@pytest.fixture
def keyboard(screen: str) -> Callable[..., str]:
    """``keyboard("key", "--window", id, "q")``: what xdotool does on that screen, and says."""
    if shutil.which("xdotool") is None:
        pytest.skip("no keys to press: apt install xdotool")

    def do(*words: str) -> str:
        command = ["xdotool", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout

    return do


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fails a test after which a descriptor, thread or child process is left."""

    def held() -> tuple[int, int, list[str]]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), children

    before = held()
    yield
    assert held() == before


def shot(path: Path) -> np.ndarray:
    """What is on the screen."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no screenshots: apt install ffmpeg")
    grab = ["ffmpeg", "-loglevel", "error", "-y", "-f", "x11grab", "-video_size", f"{WIDTH}x{HEIGHT}"]
    subprocess.run([*grab, "-i", os.environ["DISPLAY"], "-frames:v", "1", str(path)], check=True, timeout=60)
    return cv2.imread(str(path))


def close_as_a_desktop_does(window: int) -> None:
    """Sends WM_DELETE_WINDOW, as the X button of a title bar makes a window manager do."""

    class Message(ctypes.Structure):
        _fields_ = (
            ("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("sent", ctypes.c_int), ("display", ctypes.c_void_p),
            ("window", ctypes.c_ulong), ("message", ctypes.c_ulong), ("format", ctypes.c_int),
            ("data", ctypes.c_long * 5), ("rest", ctypes.c_long * 24),
        )  # fmt: skip

    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x11.XOpenDisplay(os.environ["DISPLAY"].encode()))
    protocols, delete = (x11.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    message = Message(type=33, window=window, message=protocols, format=32)  # 33: ClientMessage (X.h)
    message.data[0] = delete
    x11.XSendEvent(display, ctypes.c_ulong(window), 0, ctypes.c_long(0), ctypes.byref(message))
    x11.XCloseDisplay(display)


def test_the_picture_and_its_boxes_are_on_the_screen(
    screen: str, bear: Path, tmp_path: Path, make_result: MakeResult
) -> None:
    image = cv2.imread(str(bear))
    untouched = image.copy()
    box = Detections(np.array([[100, 80, 500, 600]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    with WindowSink(NAMES, "A bear") as sink:
        sink.put(make_result(image, box))

        def difference() -> float:
            seen = shot(tmp_path / "shot.png")[: image.shape[0], : image.shape[1]]
            return float(np.abs(seen.astype(int) - untouched).mean())

        until(lambda: difference() < 12)  # the photo; the box alone makes a little
        seen = shot(tmp_path / "shot.png")
        orange = np.abs(seen.astype(int) - (0, 159, 230)).sum(axis=2) < 60
        assert orange[80:600, 98:104].any(axis=1).mean() > 0.9
        assert orange[80:600, 497:503].any(axis=1).mean() > 0.9
        assert not sink.finished
    assert (image == untouched).all()
    assert not sink.finished
    sink.close()
    with pytest.raises(SinkError, match="the window is closed"):
        sink.put(make_result(image))


@pytest.mark.parametrize("key", ["q", "Q", "Escape"])
def test_a_key_ends_the_run(screen: str, keyboard: Callable[..., str], make_result: MakeResult, key: str) -> None:
    with WindowSink(NAMES, "Press a key") as sink:
        sink.put(make_result(np.full((200, 300, 3), 90, np.uint8)))
        window = keyboard("search", "--sync", "--name", "Press a key").split()[-1]
        keyboard("key", "--window", window, "a")
        sink.put(make_result(np.full((200, 300, 3), 90, np.uint8)))
        assert not sink.finished
        keyboard("key", "--window", window, key)
        until(lambda: sink.finished)
        sink.put(make_result(np.full((200, 300, 3), 90, np.uint8)))  # one that was on its way
    assert sink.finished


def test_closing_the_window_ends_the_run_also_between_results(
    screen: str, keyboard: Callable[..., str], make_result: MakeResult
) -> None:
    with WindowSink(NAMES, "Close me") as sink:
        sink.put(make_result(np.full((200, 300, 3), 90, np.uint8)))
        close_as_a_desktop_does(int(keyboard("search", "--sync", "--name", "Close me").split()[-1]))
        until(lambda: sink.finished)


def test_windows_of_several_threads_and_one_after_the_other_all_work(screen: str, make_result: MakeResult) -> None:
    """OpenCV's Qt would hang in the second thread that calls it."""
    shown = []

    def show(title: str) -> None:
        with WindowSink(NAMES, title) as sink:
            for _ in range(5):
                sink.put(make_result(np.full((100, 100, 3), 90, np.uint8)))
            shown.append(title)

    threads = [threading.Thread(target=show, args=(f"window {number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    show("window 2")
    assert sorted(shown) == ["window 0", "window 1", "window 2"]


def test_pictures_may_change_their_size_and_be_views(screen: str, make_result: MakeResult) -> None:
    big = np.zeros((2000, 3000, 3), np.uint8)
    with WindowSink(NAMES) as sink:
        for image in (big, big[::2, ::3], big[:1, :1], big[:7]):
            sink.put(make_result(image))
        assert not sink.finished


@pytest.mark.parametrize("variables", [{}, {"DISPLAY": ""}])
def test_without_a_display_it_says_so_and_names_what_works(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SinkError, match=r"no display \(DISPLAY is not set\); --save FILE .*, --http"):
        WindowSink(NAMES)


def test_a_display_that_does_not_answer_is_an_error_and_not_the_end_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DISPLAY", ":987")
    with pytest.raises(SinkError, match=r"no window: .*display"):
        WindowSink(NAMES)


def test_an_opencv_without_windows_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    told = re.sub(r"GUI:\s+\w+", "GUI:                           NONE", cv2.getBuildInformation())
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: told)
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(SinkError, match=r"built without them .*pip install opencv-python.*--save"):
        WindowSink(NAMES)


def test_a_screen_that_goes_away_is_an_error_of_the_sink(screen: str, make_result: MakeResult) -> None:
    with WindowSink(NAMES) as sink:
        image = np.full((200, 300, 3), 90, np.uint8)
        sink.put(make_result(image))
        os.kill(sink._viewer.pid, signal.SIGKILL)
        until(lambda: sink._viewer.ended() is not None)
        with pytest.raises(SinkError, match="the window is gone"):
            sink.put(make_result(image))
        assert not sink.finished


def test_a_window_that_hangs_is_closed_and_told(screen: str, make_result: MakeResult) -> None:
    with WindowSink(NAMES) as sink:
        os.kill(sink._viewer.pid, signal.SIGSTOP)
        image = np.zeros((1500, 1500, 3), np.uint8)  # more than the pipe holds
        with pytest.raises(SinkError, match="has not taken a picture for 3 s"):
            sink.put(make_result(image))
        with pytest.raises(SinkError, match="the window is gone"):
            sink.put(make_result(image))


SHOWS = """
import sys, numpy as np
from edge_sdk import Detections, Frame, Result, Timing
from edge_sdk.sinks.window import WindowSink
sink = WindowSink(("a",), "Orphan")
sink.put(Result(Frame(np.zeros((9, 9, 3), np.uint8), 0, "x", 0), Detections.empty(), Timing(0, 0, 0, 0, 0)))
print(sink._viewer.pid, flush=True)
sys.stdin.read()
"""


def test_the_window_goes_when_its_process_is_killed(screen: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SHOWS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        viewer = int(process.stdout.readline())
        process.kill()
    until(lambda: not Path(f"/proc/{viewer}").exists() or "\nState:\tZ" in Path(f"/proc/{viewer}/status").read_text())
