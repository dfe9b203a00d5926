"""How soon a loss is noticed and a return is used, and how soon a run ends: each line with its goal.

    python tools/benchmark_recovery.py --shared ../shared

The RTSP server is Debian's gst-rtsp-server and the broker Mosquitto, both real; they are started here and listen on
loopback alone. What is not installed is said and left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmark_live import Line, broker, line

import edge_sdk
from edge_sdk.testing.fake_source import FakeDevice

GOAL_S = 2.0
BROKER_S = 30.0  # nothing cheap tells that a broker is back: the longest of its back-off
SOON_S = 60.0


def tests_own(name: str) -> Any:
    """A class from tests/conftest.py, where the servers are that tests use too."""
    path = Path(__file__).resolve().parents[1] / "tests/conftest.py"
    spec = importlib.util.spec_from_file_location("conftest", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


class Run:
    """A camera that detects in a thread of its own; at the end its books are looked at."""

    def __init__(self, camera: edge_sdk.Camera, **more: Any) -> None:
        self.camera = camera
        self.count = 0
        self.shape: tuple[int, ...] = ()
        self._thread = threading.Thread(target=self._detect, kwargs=more)
        self._thread.start()

    def _detect(self, **more: Any) -> None:
        for result in self.camera.detect(**more):
            self.shape = result.frame.image.shape
            self.count += 1

    def until(self, holds: Callable[[], bool]) -> float:
        """How long it takes until this holds."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > SOON_S:
                raise TimeoutError(f"{self.camera.state}: {self.camera.events}")
            time.sleep(0.005)
        return time.monotonic() - began

    def until_state(self, *states: str) -> float:
        return self.until(lambda: self.camera.state in states)

    def until_more(self, count: int = 1) -> float:
        before = self.count
        return self.until(lambda: self.count >= before + count)

    def unaccounted(self) -> int:
        """Ends the run; frames that are in no column of the books."""
        self.camera.close()
        self._thread.join()
        stats = self.camera.stats
        return abs(stats.in_flight) + abs(stats.processed - self.count)


def unplugged(detector: edge_sdk.Detector, shared: Path) -> Iterator[Line]:
    """A camera is unplugged in the middle of a read, and plugged in 1, 5 and 20 seconds later."""
    small, large = ([np.zeros((h, w, 3), np.uint8)] for h, w in ((480, 640), (720, 1280)))
    for away_s in (1.0, 5.0, 20.0):
        device = FakeDevice(small, fps=30)
        run = Run(edge_sdk.Camera(device, detector))
        run.until_more(5)
        device.unplug()
        yield line(f"fake camera away for {away_s:g} s: noticed", run.until_state("reconnecting"), GOAL_S, "s")
        time.sleep(away_s)
        device.plug(large)
        back_s = run.until_more()
        note = f"{run.shape[1]}x{run.shape[0]}"
        yield line(f"fake camera away for {away_s:g} s: streams again", back_s, GOAL_S, "s", note)
        yield line("  frames not in the books", run.unaccounted(), 0, "frames", f"{device.delivered} delivered")


def rtsp(detector: edge_sdk.Detector, shared: Path) -> Iterator[Line]:
    """An RTSP server is killed and restarted with another size, and stalled, for 3 and 40 seconds."""
    server = tests_own("RtspServer")(width=640, height=480)
    try:
        for away_s, size in ((3.0, (320, 240)), (40.0, (640, 480))):
            run = Run(edge_sdk.Camera(server.url, detector))
            run.until_more(10)
            server.kill()
            yield line(f"RTSP server killed for {away_s:g} s: noticed", run.until_state("reconnecting"), GOAL_S, "s")
            time.sleep(away_s)
            began = time.monotonic()
            server.start(*size)
            started_s = time.monotonic() - began
            back_s = run.until_more()
            note = f"{run.shape[1]}x{run.shape[0]}; the server took {started_s:.1f} s to start"
            yield line(f"RTSP server killed for {away_s:g} s: streams again", back_s, GOAL_S, "s", note)
            yield line("  frames not in the books", run.unaccounted(), 0, "frames")
        for away_s in (5.0, 40.0):
            run = Run(edge_sdk.Camera(server.url, detector))
            run.until_more(10)
            server.stall()
            yield line(f"RTSP server stalled for {away_s:g} s: noticed", run.until_state("stalled"), GOAL_S, "s")
            time.sleep(away_s)
            server.go_on()
            yield line(f"RTSP server stalled for {away_s:g} s: streams again", run.until_more(), GOAL_S, "s")
            yield line("  frames not in the books", run.unaccounted(), 0, "frames")
    finally:
        server.kill()


def cut_off(detector: edge_sdk.Detector, shared: Path) -> Iterator[Line]:
    """A file that ends in the middle of a frame."""
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole.avi", Path(folder) / "cut.avi"
        writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 25, (640, 480))
        for value in range(60):
            writer.write(np.full((480, 640, 3), value * 4, np.uint8))
        writer.release()
        cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
        at = [time.monotonic()]
        camera = edge_sdk.Camera(cut, detector)
        at += [time.monotonic() for _ in camera.detect()]
        ended_s = time.monotonic() - at[-1]
        yield line("cut-off file: its end is noticed", ended_s, GOAL_S, "s", f"{len(at) - 1} of 60 frames")
        stats = camera.stats
        yield line("  frames not in the books", abs(stats.in_flight), 0, "frames")


def mqtt(detector: edge_sdk.Detector, shared: Path) -> Iterator[Line]:
    """A broker goes away and comes back."""
    from edge_sdk.sinks.mqtt import MqttSink

    with tempfile.TemporaryDirectory() as folder, broker(Path(folder)) as (url, restart):
        sink = MqttSink(url, detector.class_names)
        device = FakeDevice([np.zeros((48, 64, 3), np.uint8)], fps=30)
        run = Run(edge_sdk.Camera(device, detector), sinks=[sink])

        def written() -> int:
            return run.camera.stats.sinks[sink.name].written

        run.until(lambda: run.count > 0 and written() > 10)
        for away_s in (1.0, 10.0):
            failed, rate_before = run.camera.stats.sinks[sink.name].failed, run.count
            with restart():
                run.until(lambda failed=failed: run.camera.stats.sinks[sink.name].failed > failed)
                time.sleep(away_s)
                results = run.count - rate_before
            before = written()
            back_s = run.until(lambda before=before: written() > before)
            note = f"{results} results meanwhile"
            yield line(f"broker away for {away_s:g} s: publishes again", back_s, GOAL_S, "s", note)
        yield line("  frames not in the books", run.unaccounted(), 0, "frames")


def signals(detector: edge_sdk.Detector, shared: Path) -> Iterator[Line]:
    """SIGINT and SIGTERM at any moment of `edge-sdk detect demo --save`: the clip plays, and the process is gone."""
    chance = random.Random(0)  # noqa: S311  moments, not secrets
    model = shared / "models/yolox_nano/yolox_nano.onnx"
    took, unreadable, clips = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(20):
            clip = Path(folder) / f"{number}.mp4"
            command = ["-m", "edge_sdk", "detect", "demo", "--model", str(model), "--save", str(clip), "--json"]
            process = subprocess.Popen(
                [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            time.sleep(chance.uniform(0.2, 3.0))
            process.send_signal(signal.SIGINT if number % 2 else signal.SIGTERM)
            began = time.monotonic()
            process.wait(SOON_S)
            took.append(time.monotonic() - began)
            if clip.exists():
                clips += 1
                video = cv2.VideoCapture(str(clip))
                unreadable += not video.read()[0]
                video.release()
            left = [path.name for path in Path(folder).iterdir() if path.suffix != ".mp4"]
            unreadable += len(left)
    yield line("SIGINT, SIGTERM at 20 moments: longest end", max(took), GOAL_S, "s", f"median {np.median(took):.2f} s")
    yield line("  clips that do not play, or are left half written", unreadable, 0, "clips", f"{clips} clips")


SECTIONS: dict[str, Callable[[edge_sdk.Detector, Path], Iterator[Line]]] = {
    "unplugged": unplugged,
    "rtsp": rtsp,
    "cut_off": cut_off,
    "mqtt": mqtt,
    "signals": signals,
}


@contextmanager
def left_out_if_missing(name: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:  # pytest's Skipped, which the tests' own servers raise, is no Exception
        if type(error).__name__ not in ("Skipped", "FileNotFoundError"):
            raise
        print(f"  left out {name}: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}; left out: all")
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - set(SECTIONS):
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    found: list[Line] = []
    with edge_sdk.Detector(arguments.shared / "models/yolox_nano/yolox_nano.onnx", threads=1) as detector:
        for name in arguments.sections or SECTIONS:
            print(f"{name}: {(SECTIONS[name].__doc__ or '').strip()}", flush=True)
            with left_out_if_missing(name):
                found += SECTIONS[name](detector, arguments.shared)
    missed = [one["what"] for one in found if not one["met"]]
    print(f"{len(found) - len(missed)} of {len(found)} goals met")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
