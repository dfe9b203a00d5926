"""The live loop against the bare engine: each line says what was measured, the goal, and whether it was met.

    python tools/benchmark_live.py --shared ../shared                   # all, the long ones for 10 minutes each
    python tools/benchmark_live.py --shared ../shared speed prepare     # some

R is the median of bare ``session.run`` on a prepared input, one thread, in this process and with the detector's own
session. What is compared takes turns, because a machine's speed drifts. Frames are 1280x720, twenty of them in a ring,
so that each is as cold in the cache as a camera's. `benchmark_recovery.py` has the losses and returns.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import edge_sdk
from edge_sdk.pipeline.supervisor import Reconnect
from edge_sdk.sources.files import read_photo
from edge_sdk.testing.fake_source import FakeDevice, FakeSource

TURNS, PER_TURN = 8, 40
PHOTO = "data/coco_eval/images/000000002153.jpg"  # a baseball field: four people and a bat
Line = dict[str, Any]


def line(what: str, value: float, goal: float, unit: str, note: str = "") -> Line:
    """One figure and its goal, which is the most that it may be; a note says what else was seen."""
    met = bool(value <= goal)
    print(f"  {'ok ' if met else 'NOT'}  {what:<58} {value:9.3f} {unit:<8} goal <= {goal:.3f}   {note}", flush=True)
    return {"what": what, "value": value, "goal": goal, "unit": unit, "met": met, "note": note}


def ring(photo: np.ndarray, count: int = 20) -> list[np.ndarray]:
    """Different pictures of one scene, each in memory of its own."""
    frame = cv2.resize(photo, (1280, 720))
    return [np.roll(frame, 7 * number, axis=1).copy() for number in range(count)]


class Bench:
    """A detector, its bare session on a prepared input, and frames."""

    def __init__(self, model: Path, frames: list[np.ndarray], threads: int = 1) -> None:
        self.detector = edge_sdk.Detector(model, backend="onnxruntime", threads=threads)
        self.frames = frames
        self._next = itertools.cycle(frames)
        self.session = self.detector.session._session  # the very same, as a user would call it
        prepared = self.detector.prepare(frames[0], self.detector.new_prepared())
        self.feeds = {name: array.copy() for name, array in prepared.feeds.items()}

    def bare(self) -> None:
        self.session.run(None, self.feeds)

    def detect(self) -> None:
        self.detector(next(self._next))

    def bare_s(self) -> float:
        """R of this moment, in seconds."""
        return float(np.median(times(self.bare, PER_TURN)))

    def period_s(self, source: FakeSource, results: int, sinks: tuple[Any, ...] = ()) -> float:
        """The median time between two results of a camera."""
        at = []
        for _ in edge_sdk.Camera(source, self.detector).detect(frames=results, sinks=sinks):
            at.append(time.perf_counter())
        return float(np.median(np.diff(at[3:])))


def times(call: Callable[[], object], count: int) -> list[float]:
    found = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return found


def speed(shared: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    """What the SDK adds to the engine, one picture after the other and as a camera."""
    frames = ring(read_photo(shared / PHOTO))
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "yolov8_layout.onnx"
        subprocess.run([sys.executable, Path(__file__).with_name("build_yolov8_layout.py"), built], check=True)
        models = {
            "YOLOX-nano at 416": (shared / "models/yolox_nano/yolox_nano.onnx", 0.8),
            "YOLOv8 layout at 640": (built, 1.6),
            "UltraFace RFB at 640": (shared / "models/ultraface/version-RFB-640.onnx", None),
        }
        for name, (model, most_ms) in models.items():
            bench = Bench(model, frames)
            sequential: list[float] = []
            bare: list[float] = []
            piped: dict[str, list[float]] = {"file": [], "live": []}
            for call in (bench.bare, bench.detect):
                times(call, 5)
            for _ in range(TURNS):
                bare += times(bench.bare, PER_TURN)
                sequential += times(bench.detect, PER_TURN)
                r = float(np.median(bare[-PER_TURN:]))
                piped["file"].append(bench.period_s(FakeSource(itertools.cycle(frames)), PER_TURN) / r)
                live = FakeSource(itertools.cycle(frames), fps=3 / r, live=True)
                piped["live"].append(bench.period_s(live, PER_TURN) / r)
            r_ms, p50_ms = (float(np.median(one)) * 1000 for one in (bare, sequential))
            note = f"R {r_ms:.2f} ms, detector(image) {p50_ms:.2f} ms = {p50_ms / r_ms:.3f} R"
            yield line(f"{name}: detector(image) adds", p50_ms - r_ms, most_ms if most_ms else 1.6, "ms", note)
            goal = 1.05 if r_ms >= 5 else 1 + 0.5 / r_ms
            yield line(f"{name}: period of a file", float(np.median(piped["file"])), goal, "R")
            yield line(f"{name}: period of a live source, 3 R", float(np.median(piped["live"])), goal, "R")
            bench.detector.close()


def prepare(shared: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    """Preprocessing beside the plain way, and whether the pixels are the same."""
    from edge_sdk.backends.base import TensorSpec
    from edge_sdk.models.heads.base import heads
    from edge_sdk.models.preprocess import Preprocessor

    frames = itertools.cycle(ring(read_photo(shared / PHOTO)))
    cards = {
        "YOLOX at 416": ("yolox", 416, [1, 3549, 85]),
        "YOLOv8 at 640": ("yolov8", 640, [1, 84, 8400]),
    }
    for name, (head, size, output) in cards.items():
        spec = TensorSpec("images", (1, 3, size, size), np.dtype(np.float32))
        card = heads()[head].recognise([spec], [TensorSpec("out", tuple(output), np.dtype(np.float32))], {})
        assert card is not None
        preprocessor, into = Preprocessor(card, spec), np.zeros(spec.shape, np.float32)

        def plain(image: np.ndarray, card: Any = card, size: int = size) -> np.ndarray:
            ratio = min(size / image.shape[0], size / image.shape[1])
            small = cv2.resize(image, (int(image.shape[1] * ratio), int(image.shape[0] * ratio)))
            down, right = size - small.shape[0], size - small.shape[1]
            top, left = (0, 0) if card.resize == "letterbox_corner" else (down // 2, right // 2)
            value = tuple(int(one) for one in np.broadcast_to(card.pad, 3))
            padded = cv2.copyMakeBorder(small, top, down - top, left, right - left, cv2.BORDER_CONSTANT, value=value)
            if card.colour == "rgb":
                padded = cv2.cvtColor(padded, cv2.COLOR_BGR2RGB)
            return np.ascontiguousarray((padded.astype(np.float32) / 255).transpose(2, 0, 1))[None]

        ours: list[float] = []
        theirs: list[float] = []
        differs = 0.0
        for _ in range(TURNS):
            for _ in range(PER_TURN):
                image = next(frames)
                began = time.perf_counter()
                wanted = plain(image)
                middle = time.perf_counter()
                preprocessor(next(frames), into)
                ours.append(time.perf_counter() - middle)
                theirs.append(middle - began)
            preprocessor(image, into)
            differs = max(differs, float(np.abs(into * card.std[0] / 255 - wanted).max()))
        ratio = float(np.median(ours) / np.median(theirs))
        note = f"{np.median(ours) * 1000:.3f} ms of {np.median(theirs) * 1000:.3f} ms"
        yield line(f"{name}: preprocessing beside the plain way", ratio, 0.35, "of it", note)
        yield line(f"{name}: largest difference of a pixel", differs * 255, 1.0, "/255")


def sinks(shared: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    """The rate with drawing, JSONL and MQTT on, beside the rate with them off."""
    from edge_sdk.sinks.jsonl import JsonlSink
    from edge_sdk.sinks.mqtt import MqttSink
    from edge_sdk.sinks.video import VideoSink

    frames = ring(read_photo(shared / PHOTO))
    bench = Bench(shared / "models/yolox_nano/yolox_nano.onnx", frames)
    names = bench.detector.class_names

    class Drawing(VideoSink):
        """Draws as the video sink does, and leaves the encoding to nobody: that is the codec's cost, not ours."""

        complete = False

        def put(self, result: edge_sdk.Result) -> None:
            from edge_sdk.sinks.draw import draw

            draw(result.frame.image.copy(), result.detections, names)

    with tempfile.TemporaryDirectory() as folder, broker(Path(folder)) as (url, _):
        ratios = []
        written: dict[str, Any] = {}
        for turn in range(TURNS):
            off = bench.period_s(FakeSource(itertools.cycle(frames), fps=400, live=True), 100)
            on_sinks = [
                Drawing(Path(folder) / f"{turn}.avi", names, 25.0),
                JsonlSink(Path(folder) / f"{turn}.jsonl", names),
                MqttSink(url, names),
            ]
            camera = edge_sdk.Camera(FakeSource(itertools.cycle(frames), fps=400, live=True), bench.detector)
            at = [time.perf_counter() for _ in camera.detect(frames=100, sinks=on_sinks)]
            ratios.append(off / float(np.median(np.diff(at[3:]))))
            written = {name: one.written for name, one in camera.stats.sinks.items()}
        value = float(np.median(ratios))
        shown = ", ".join(f"{name.split(':')[0]} {count}" for name, count in written.items())
        yield line(
            "period without sinks over period with them, short of 1", 1 - value, 0.05, "", f"{value:.3f}; {shown}"
        )
    bench.detector.close()


@contextmanager
def broker(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """A real Mosquitto on loopback: its URL, and a block during which it is away.

    Raises:
        FileNotFoundError: Mosquitto is not installed.
    """
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise FileNotFoundError("no broker: sudo apt install mosquitto")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([program, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        return process

    running = [start()]

    @contextmanager
    def away() -> Iterator[None]:
        running[0].kill()
        running[0].wait()
        yield
        running[0] = start()

    try:
        yield f"mqtt://127.0.0.1:{port}/benchmark", away
    finally:
        running[0].kill()
        running[0].wait()


def fresh(shared: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    """A source three times faster than the model, for a long time."""
    frames = ring(read_photo(shared / PHOTO))
    bench = Bench(shared / "models/yolox_nano/yolox_nano.onnx", frames)
    times(bench.detect, 10)
    r = bench.bare_s()
    period_ms = r * 1000 / 3
    source = FakeSource(itertools.cycle(frames), fps=1000 / period_ms, live=True)
    most = int(60 * arguments.minutes / r * 2) + 1000
    seen = np.ones((most, 4))  # age, service, second and id of each result, in memory that is there before the run
    resident = np.ones((int(12 * arguments.minutes) + 10, 2))
    count = looks = 0
    with edge_sdk.Camera(source, bench.detector) as camera:
        began = time.monotonic()
        for result in camera.detect(seconds=60 * arguments.minutes):
            now = time.monotonic() - began
            timing = result.timing
            service = timing.preprocess_ms + timing.infer_ms + timing.decode_ms
            seen[count] = timing.total_ms, service, now, result.frame.id
            count += 1
            if now >= 5 * looks:
                resident[looks] = now, _resident_mib()
                looks += 1
    stats = camera.stats
    ages, services, at, ids = seen[:count].T
    age95, service95 = (float(np.percentile(one, 95)) for one in (ages, services))
    slope = float(np.polyfit(at / 60, ages, 1)[0])
    spread = f"p50 {np.median(ages):.2f}, p99 {np.percentile(ages, 99):.2f}, max {ages.max():.1f} ms"
    what = f"{arguments.minutes:g} minutes, frame every {period_ms:.1f} ms"
    yield line(f"{what}: age p95", age95, period_ms + service95, "ms", f"service p95 {service95:.2f}; {spread}")
    yield line(f"{what}: slope of age", abs(slope), 1.0, "ms/min", f"{slope:+.4f}")
    yield line(f"{what}: frames seen twice", count - len(np.unique(ids)), 0, "frames", f"{count} results")
    unaccounted = stats.captured - stats.processed - sum(stats.dropped.values())
    dropped = ", ".join(f"{count} {cause}" for cause, count in stats.dropped.items())
    yield line(
        f"{what}: frames unaccounted for", abs(unaccounted), 0, "frames", f"{stats.captured} captured; {dropped}"
    )
    # Counted from the 30th second on: engines and allocators grow in the first ones.
    late = [mib for second, mib in resident[:looks] if second >= min(30, 20 * arguments.minutes)]
    if len(late) > 1:
        yield line(f"{what}: resident memory drifts", abs(late[-1] - late[0]), 1.0, "MiB", f"{late[0]:.1f} at first")
    bench.detector.close()


def _resident_mib() -> float:
    fields = dict(text.split(":", 1) for text in Path("/proc/self/status").read_text().splitlines() if ":" in text)
    return int(fields["VmRSS"].split()[0]) / 1024


def steady(shared: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    """What a frame allocates once everything runs, and what reconnections leave behind."""
    frames = ring(read_photo(shared / PHOTO))
    bench = Bench(shared / "models/yolox_nano/yolox_nano.onnx", frames)
    people = shared / "data/videos/one-by-one-person-detection.mp4"
    sources = {
        "live source": lambda: FakeSource(itertools.cycle(frames), fps=400, live=True),
        "video file": lambda: people,
    }
    for name, make in sources.items():
        yield line(f"{name}: largest array allocated per frame", _largest_kib(bench.detector, make()), 64, "KiB")
    held = _held()
    device = FakeDevice([np.zeros((48, 64, 3), np.uint8)], fps=1000)
    policy = Reconnect(first_s=0.001, longest_s=0.002, restarts=1_000_000)
    with edge_sdk.Camera(device, bench.detector, reconnect=policy) as camera:
        results = camera.detect()
        for number in range(1, 201):
            device.unplug()
            device.plug()
            while camera.stats.reconnects < number:
                next(results)
        results.close()  # type: ignore[attr-defined]
    time.sleep(0.5)
    gc.collect()
    yield line("200 reconnections: threads and descriptors left", _held() - held, 0, "", f"{held} before")
    bench.detector.close()


def _held() -> int:
    gc.collect()
    return threading.active_count() + len(list(Path("/proc/self/fd").iterdir()))


def _largest_kib(detector: edge_sdk.Detector, source: Any) -> float:
    """The largest single block that was allocated while 50 frames went through, in KiB.

    Python's allocator reports every block of NumPy and OpenCV arrays to tracemalloc. Its peak over a frame, above what
    was there before, bounds each block that came and went; what stays shows in the snapshot.
    """
    with edge_sdk.Camera(source, detector) as camera:
        results = camera.detect(frames=200)
        for _ in range(50):
            next(results)
        tracemalloc.start()
        try:
            for _ in range(20):  # tracing itself settles
                next(results)
            rises = []
            for _ in range(50):
                before = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
                next(results)
                rises.append(tracemalloc.get_traced_memory()[1] - before)
        finally:
            tracemalloc.stop()
            results.close()  # type: ignore[attr-defined]
    return float(np.median(rises)) / 1024


def eco(shared: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    """Processor time at 5 frames a second, beside five times that of one frame."""
    frames = ring(read_photo(shared / PHOTO))
    model = shared / "models/yolox_nano/yolox_nano.onnx"
    ratios, notes = [], []
    with edge_sdk.Camera(FakeSource(itertools.cycle(frames), fps=5, live=True), model, mode="eco") as camera:
        detector = camera.detector
        for number in range(10):
            detector(frames[number])
        results = camera.detect()
        next(results)
        for _ in range(6):
            began = time.process_time()
            for number in range(25):
                detector(frames[number % len(frames)])
            one = (time.process_time() - began) / 25
            began, wall = time.process_time(), time.monotonic()
            count = 0
            while time.monotonic() - wall < 10:
                next(results)
                count += 1
            used = (time.process_time() - began) / count
            ratios.append(used / one)
            notes.append(f"{used * 1000:.1f}/{one * 1000:.1f}")
        results.close()  # type: ignore[attr-defined]
    yield line(
        "eco at 5 fps: processor time over 5 times one frame's",
        float(np.median(ratios)),
        1.15,
        "",
        f"ms: {' '.join(notes)}",
    )


SECTIONS: dict[str, Callable[[Path, argparse.Namespace], Iterator[Line]]] = {
    "speed": speed,
    "prepare": prepare,
    "sinks": sinks,
    "steady": steady,
    "eco": eco,
    "fresh": fresh,
}


Sections = Mapping[str, Callable[[Path, argparse.Namespace], Iterator[Line]]]


def options(about: str, sections: Sections) -> argparse.ArgumentParser:
    """A parser with what every benchmark of several sections takes."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(sections)}; left out: all")
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser


def run_sections(parser: argparse.ArgumentParser, arguments: argparse.Namespace, sections: Sections) -> None:
    """Runs those that were asked for, prints their lines, and exits with 1 where a goal was missed."""
    if unknown := set(arguments.sections) - set(sections):
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(sections)}")
    cv2.setNumThreads(1)
    found: list[Line] = []
    for name in arguments.sections or sections:
        print(f"{name}: {(sections[name].__doc__ or '').strip()}  [load {os.getloadavg()[0]:.1f}]", flush=True)
        found += sections[name](arguments.shared, arguments)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    missed = [one["what"] for one in found if not one["met"]]
    print(f"{len(found) - len(missed)} of {len(found)} goals met")
    sys.exit(1 if missed else 0)


def main() -> None:
    parser = options(__doc__, SECTIONS)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the long ones run")
    run_sections(parser, parser.parse_args(), SECTIONS)


if __name__ == "__main__":
    main()
