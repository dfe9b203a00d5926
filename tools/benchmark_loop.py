"""What the SDK adds to the bare engine, beside a plain loop, in one process.

    python tools/benchmark_loop.py path/to/yolox_nano.onnx --photo street.jpg

Prints, as ratios taken in turns within this process (the machine's speed drifts, so absolute figures of two runs do
not compare). Each call gets another 1280x720 frame of twenty, as from a camera, so that none lies in a cache:

- R: bare ``session.run`` on a prepared input, one thread;
- the SDK's ``Session.run`` on the same, and its sequential ``detector(image)``;
- for YOLOX a plain loop of the kind people write (resize, astype, transpose, run, NumPy decode, cv2 NMSBoxes);
- preprocessing, the SDK's beside the plain way, for this model and for a YOLOv8 of 640 x 640;
- decode and NMS of a [1, 84, 8400] output with 100 true boxes.

``tools/build_yolov8_layout.py`` makes a model of the latter layout.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from edge_sdk.backends.base import TensorSpec
from edge_sdk.detector import Detector
from edge_sdk.models.card import ModelCard
from edge_sdk.models.heads.base import heads
from edge_sdk.models.preprocess import Preprocessor, fit
from edge_sdk.sources.files import read_photo

TURNS = 60
PER_TURN = 5


def in_turns(calls: dict[str, Callable[[], object]], turns: int, per_turn: int) -> dict[str, dict[str, float]]:
    """p50 and p90 in milliseconds of each call, the calls taking turns so that drift hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(5):
            call()
    for _ in range(turns):
        for name, call in calls.items():
            for _ in range(per_turn):
                began = time.perf_counter()
                call()
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: {"p50": float(np.median(t)), "p90": float(np.percentile(t, 90))} for name, t in times.items()}


def ring(photo: np.ndarray) -> Iterator[np.ndarray]:
    """Twenty frames of 1280x720 in turn, the photo moved by some pixels in each."""
    return itertools.cycle([np.roll(photo, 8 * number, axis=1) for number in range(20)])


def plain_way(size: int, divide: bool) -> Callable[[np.ndarray], np.ndarray]:
    """A picture letterboxed into a square input as a tutorial writes it."""

    def prepare(image: np.ndarray) -> np.ndarray:
        ratio = min(size / image.shape[0], size / image.shape[1])
        small = cv2.resize(image, (int(image.shape[1] * ratio), int(image.shape[0] * ratio)))
        below, right = size - small.shape[0], size - small.shape[1]
        padded = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
        real = padded.astype(np.float32)
        if divide:
            real = real / 255
        return np.ascontiguousarray(real.transpose(2, 0, 1))[None]

    return prepare


def sdk_way(card: ModelCard) -> Callable[[np.ndarray], object]:
    """The same by the SDK's preprocessor."""
    preprocessor = Preprocessor(card, TensorSpec("images", (1, 3, *card.input_hw), np.dtype(np.float32)))
    out = np.zeros(preprocessor.shape, np.float32)
    return lambda image: preprocessor(image, out)


def plain_loop(session: onnxruntime.InferenceSession, frames: Iterator[np.ndarray]) -> Callable[[], object]:
    """YOLOX as a tutorial writes it: the baseline."""
    name = session.get_inputs()[0].name
    size = session.get_inputs()[0].shape[2]
    grids, strides = [], []
    for stride in (8, 16, 32):
        cells = size // stride
        x, y = np.meshgrid(np.arange(cells), np.arange(cells))
        grids.append(np.stack((x, y), 2).reshape(-1, 2))
        strides.append(np.full((cells * cells, 1), stride))
    grid, step = np.concatenate(grids), np.concatenate(strides)

    def call() -> object:
        image = next(frames)
        ratio = min(size / image.shape[0], size / image.shape[1])
        small = cv2.resize(image, (int(image.shape[1] * ratio), int(image.shape[0] * ratio)))
        padded = np.full((size, size, 3), 114, np.uint8)
        padded[: small.shape[0], : small.shape[1]] = small
        output = session.run(None, {name: padded.transpose(2, 0, 1).astype(np.float32)[None]})[0][0]
        centre = (output[:, :2] + grid) * step
        extent = np.exp(output[:, 2:4]) * step
        scores = output[:, 4:5] * output[:, 5:]
        best, which = scores.max(1), scores.argmax(1)
        keep = best > 0.25
        boxes = np.concatenate([centre - extent / 2, extent], 1)[keep] / ratio
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), best[keep].tolist(), 0.25, 0.65)
        return boxes[kept], which[keep][kept]

    return call


def yolov8_output(true_boxes: int, each: int) -> np.ndarray:
    """[1, 84, 8400] with `true_boxes` objects that `each` neighbouring cells report, and noise below the threshold."""
    generator = np.random.default_rng(0)
    output = np.zeros((1, 84, 8400), np.float32)
    output[0, 4:] = generator.uniform(0, 0.05, (80, 8400))
    output[0, :4] = generator.uniform(10, 600, (4, 8400))
    for number in range(true_boxes):
        row, column = divmod(number, 10)
        for copy in range(each):
            cell = number * each + copy
            jitter = generator.normal(0, 1, 4)
            output[0, :4, cell] = np.array([32 + 60 * column, 32 + 60 * row, 48, 48]) + jitter
            output[0, 4 + number % 80, cell] = generator.uniform(0.5, 0.95)
    return output


def yolov8_card() -> ModelCard:
    card = heads()["yolov8"].recognise(
        [TensorSpec("images", (1, 3, 640, 640), np.dtype(np.float32))],
        [TensorSpec("output0", (1, 84, 8400), np.dtype(np.float32))],
        {},
    )
    assert card is not None
    return card


def measure_loop(detector: Detector, photo: np.ndarray, turns: int) -> dict[str, dict[str, float]]:
    """Whole detections beside the bare run, on the very same session."""
    frames = ring(photo)
    prepared = detector.prepare(photo, detector.new_prepared())
    session, feeds = detector.session._session, dict(prepared.feeds)
    calls = {
        "bare": lambda: session.run(None, feeds),
        "infer": lambda: detector.infer(prepared),
        "sdk": lambda: detector(next(frames)),
    }
    if detector.head.name == "yolox":
        calls["plain"] = plain_loop(session, frames)
    return in_turns(calls, turns, PER_TURN)


def measure_preprocessing(card: ModelCard, photo: np.ndarray, turns: int) -> dict[str, dict[str, float]]:
    """The SDK's preprocessing beside the plain way."""
    frames = ring(photo)
    sdk, plain = sdk_way(card), plain_way(card.input_hw[0], card.std != (1.0, 1.0, 1.0))
    return in_turns({"sdk": lambda: sdk(next(frames)), "plain": lambda: plain(next(frames))}, turns, PER_TURN)


def measure_decode(turns: int) -> dict[str, dict[str, float]]:
    """Decode and suppression of a YOLOv8's output with 100 boxes."""
    head, card = heads()["yolov8"], yolov8_card()
    geometry, _ = fit((720, 1280), card)
    measured = {}
    for each in (1, 5):
        outputs = {"output0": yolov8_output(100, each)}
        decode = partial(head.decode, outputs, card, geometry, confidence=0.25, iou=0.7, multi_label=False)
        assert len(decode()) == 100
        measured |= in_turns({f"100 boxes, {each} cell{'s' * (each > 1)} each": decode}, turns, PER_TURN)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="an .onnx file, such as yolox_nano.onnx")
    parser.add_argument("--photo", type=Path, help="a photo with objects in it, made 1280x720; left out: blurred noise")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    photo = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    photo = cv2.GaussianBlur(photo, (31, 31), 0)
    if arguments.photo is not None:
        photo = cv2.resize(read_photo(arguments.photo), (1280, 720))

    with Detector(arguments.model, backend="onnxruntime", threads=arguments.threads) as detector:
        boxes = len(detector(photo))
        loop = measure_loop(detector, photo, arguments.turns)
        cards = {f"{detector.card.head} {detector.card.input_hw[0]}": detector.card, "yolov8 640": yolov8_card()}
        prepare = {name: measure_preprocessing(card, photo, arguments.turns) for name, card in cards.items()}
    decode = measure_decode(arguments.turns)
    bare = loop["bare"]["p50"]
    ratios = {name: figures["p50"] / bare for name, figures in loop.items()}
    if arguments.json:
        print(
            json.dumps({"loop_ms": loop, "ratio_to_bare": ratios, "prepare_ms": prepare, "decode_ms": decode}, indent=2)
        )
        return
    titles = {"bare": "bare session.run (R)", "infer": "Edge SDK Session.run", "sdk": "Edge SDK detector(image)"}
    print(f"{arguments.model.name}, {arguments.threads} thread(s), 1280x720 with {boxes} boxes, medians in turns")
    for name, figures in loop.items():
        p50 = figures["p50"]
        print(
            f"  {titles.get(name, 'plain loop'):<26} p50 {p50:7.2f} ms   {ratios[name]:.3f} R   R {p50 - bare:+.2f} ms"
        )
    print("preprocessing")
    for name, figures in prepare.items():
        sdk, plain = figures["sdk"]["p50"], figures["plain"]["p50"]
        print(f"  {name:<26} p50 {sdk:7.3f} ms   plain {plain:.3f} ms   {sdk / plain:.2f} of plain")
    print("decode and NMS of [1, 84, 8400]")
    for name, figures in decode.items():
        print(
            f"  {name:<26} p50 {figures['p50']:7.3f} ms   p90 {figures['p90']:.3f} ms   {figures['p50'] / bare:.3f} R"
        )


if __name__ == "__main__":
    main()
