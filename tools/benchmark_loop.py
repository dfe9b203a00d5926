"""What the SDK adds to the bare engine, beside a plain loop, in one process.

    python tools/benchmark_loop.py path/to/yolox_nano.onnx --photo street.jpg

Prints, as ratios taken in turns within this process (the machine's speed drifts, so absolute figures of two runs do
not compare):

- R: bare ``session.run`` on a prepared input, 1280x720 frames, one thread;
- the SDK's sequential ``detector(image)``;
- a plain loop of the kind people write (resize, astype, transpose, run, NumPy decode, cv2 NMSBoxes);
- decode and NMS of a [1, 84, 8400] output with 100 true boxes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from edge_sdk.backends.base import TensorSpec
from edge_sdk.detector import Detector
from edge_sdk.models.heads.base import heads
from edge_sdk.models.preprocess import fit
from edge_sdk.sources.files import read_photo

TURNS = 12
PER_TURN = 25


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


def plain_loop(session: onnxruntime.InferenceSession, image: np.ndarray) -> Callable[[], object]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="yolox_nano.onnx")
    parser.add_argument("--photo", type=Path, help="a photo with objects in it, made 1280x720; left out: blurred noise")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    image = cv2.GaussianBlur(image, (31, 31), 0)
    if arguments.photo is not None:
        image = cv2.resize(read_photo(arguments.photo), (1280, 720))

    with Detector(arguments.model, backend="onnxruntime", threads=arguments.threads) as detector:
        boxes = len(detector(image))
        prepared = detector.prepare(image, detector.new_prepared())
        session = detector.session._session  # the very same session, for the bare run and the plain loop
        feeds = prepared.feeds
        loop = in_turns(
            {
                "bare": lambda: session.run(None, feeds),
                "sdk": lambda: detector(image),
                "plain": plain_loop(session, image),
            },
            arguments.turns,
            PER_TURN,
        )

    head = heads()["yolov8"]
    card = head.recognise(
        [TensorSpec("images", (1, 3, 640, 640), np.dtype(np.float32))],
        [TensorSpec("output0", (1, 84, 8400), np.dtype(np.float32))],
        {},
    )
    assert card is not None
    geometry, _ = fit((720, 1280), card)
    decode = {}
    for each in (1, 5):
        outputs = {"output0": yolov8_output(100, each)}
        name = f"100 boxes, {each} cell{'s' * (each > 1)} each"
        found = head.decode(outputs, card, geometry, confidence=0.25, iou=0.7, multi_label=False)
        assert len(found) == 100, len(found)
        decode |= in_turns(
            {
                name: lambda outputs=outputs: head.decode(
                    outputs, card, geometry, confidence=0.25, iou=0.7, multi_label=False
                )
            },
            arguments.turns,
            PER_TURN,
        )
    bare = loop["bare"]["p50"]
    ratios = {name: figures["p50"] / bare for name, figures in loop.items()}
    if arguments.json:
        print(json.dumps({"loop_ms": loop, "ratio_to_bare": ratios, "decode_ms": decode}, indent=2))
        return
    print(f"{arguments.model.name}, {arguments.threads} thread(s), 1280x720 with {boxes} boxes, medians in turns")
    for name, title in (("bare", "bare session.run (R)"), ("sdk", "Edge SDK detector(image)"), ("plain", "plain loop")):
        p50 = loop[name]["p50"]
        print(f"  {title:<26} p50 {p50:7.2f} ms   {ratios[name]:.3f} R   R {p50 - bare:+.2f} ms")
    print("decode and NMS of [1, 84, 8400]")
    for name, figures in decode.items():
        print(
            f"  {name:<26} p50 {figures['p50']:7.3f} ms   p90 {figures['p90']:.3f} ms   {figures['p50'] / bare:.3f} R"
        )


if __name__ == "__main__":
    main()
