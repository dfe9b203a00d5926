"""What a finished file finds, beside YOLOX-nano: average precision, pictures, and the curves of its training.

The file is run by the SDK itself, as users run it. Both models are judged by the same code on the same photos.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from judge import Judged, judge
from numpy.typing import NDArray
from photos import Photo

from edge_sdk import datasets
from edge_sdk.detections import Detections
from edge_sdk.detector import Detector
from edge_sdk.files import replacing
from edge_sdk.sinks.draw import draw
from edge_sdk.sources.files import read_photo

Image = NDArray[np.uint8]
CONFIDENCE = 0.01  # the evaluation rule of the SDK: every class of a box above it counts
BOXES = 100
_TILE = 400  # pixels of a picture's longer side on a sheet
_DRAWN = 0.35


def labelled(folder: Path, classes: Sequence[str]) -> list[Photo]:
    """A folder in which every object of every class is boxed, as `photos.Photo`, with the classes in this order."""
    dataset = datasets.load(folder)
    ids = np.array([classes.index(name) if name in classes else -1 for name in dataset.classes])
    everything = np.ones(len(classes), bool)
    found = []
    for photo in dataset.photos:
        labels = ids[photo.class_id]
        kept, crowd = (labels >= 0) & ~photo.crowd, (labels >= 0) & photo.crowd
        found.append(
            Photo(
                path=photo.path,
                source=folder.name,
                split="val",
                boxes=photo.boxes_xyxy[kept],
                labels=labels[kept],
                ignored=photo.boxes_xyxy[crowd],
                ignored_labels=labels[crowd],
                known=everything.astype(np.float32),
                labelled=everything,
            )
        )
    return found


def judged(
    detector: Detector, photos: Sequence[Photo], classes: Sequence[str], tell: Callable[[str], None]
) -> Mapping[str, Judged]:
    """Runs a detector on photos and judges each of `classes` that it names."""
    ids = np.array([classes.index(name) if name in classes else -1 for name in detector.class_names])
    wanted, detector.confidence = detector.confidence, CONFIDENCE
    found = []
    for number, photo in enumerate(photos):
        if number % 100 == 0:
            tell(f"{detector.path.name}: {number} of {len(photos)} photos")
        with detector.lock:
            prepared = detector.prepare(read_photo(photo.path), detector.own)
            boxes = detector.decode(detector.infer(prepared), prepared, multi_label=True, clip=False)
        boxes = boxes[ids[boxes.class_id] >= 0]
        boxes = boxes[np.argsort(-boxes.confidence, kind="stable")[:BOXES]]
        found.append(Detections(boxes.xyxy, boxes.confidence, ids[boxes.class_id].astype(np.int32)))
    detector.confidence = wanted
    named = set(detector.class_names)
    return {name: one for name, one in judge(photos, found, classes).items() if name in named}


def table(title: str, ours: Mapping[str, Judged], theirs: Mapping[str, Judged] | None = None) -> str:
    """The figures as a Markdown table."""
    heading = "| class | AP50 | 95 % | AP50-95 | small | medium | large | photos | objects |"
    rule = "|---|---|---|---|---|---|---|---|---|"
    if theirs is not None:
        heading, rule = heading + " YOLOX-nano's AP50, AP50-95 |", rule + "---|"
    rows = [title, "", heading, rule]
    for name, one in ours.items():
        sizes = " | ".join("" if value is None else f"{value:.3f}" for value in (one.small, one.medium, one.large))
        row = f"| {name} | {one.ap50:.3f} | {one.interval[0]:.3f} to {one.interval[1]:.3f} | {one.ap:.3f} | {sizes} "
        row += f"| {one.photos} | {one.objects} |"
        if theirs is not None:
            other = theirs.get(name)
            row += f" {other.ap50:.3f}, {other.ap:.3f} |" if other else " |"
        rows.append(row)
    return "\n".join(rows)


def record(parts: Mapping[str, Mapping[str, Judged]]) -> dict[str, Any]:
    """The figures as plain values."""
    return {title: {name: asdict(one) for name, one in part.items()} for title, part in parts.items()}


def sheets(models: Sequence[Detector], photos: Sequence[Path], clips: Sequence[Path], frames: int, out: Path) -> None:
    """Draws what each model finds, side by side: one sheet of photos, one of `frames` frames for each clip."""
    out.mkdir(parents=True, exist_ok=True)
    _sheet(models, ((path.name, read_photo(path)) for path in photos), out / "photos.jpg")
    for clip in clips:
        _sheet(models, _frames(clip, frames), out / f"{clip.stem}.jpg")


def _frames(clip: Path, count: int) -> Iterator[tuple[str, Image]]:
    video = cv2.VideoCapture(str(clip))
    total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    for number in np.linspace(0, total - 1, count).astype(int):
        video.set(cv2.CAP_PROP_POS_FRAMES, int(number))
        read, frame = video.read()
        if read:
            yield f"frame {number}", frame.astype(np.uint8)
    video.release()


def _sheet(models: Sequence[Detector], pictures: Iterator[tuple[str, Image]], out: Path) -> None:
    rows = []
    for name, picture in pictures:
        scale = _TILE / max(picture.shape[:2])
        tiles = []
        for model in models:
            found = model(picture)
            kept = found[found.confidence > _DRAWN]
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
            moved = Detections(kept.xyxy * np.float32(scale), kept.confidence, kept.class_id)
            tiles.append(_padded(draw(small, moved, model.class_names)))
        row = np.hstack(tiles)
        cv2.putText(row, name, (6, _TILE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
        rows.append(row)
    half = -(-len(rows) // 2)
    columns = [np.vstack(part + [np.zeros_like(rows[0])] * (half - len(part))) for part in (rows[:half], rows[half:])]
    with replacing(out) as path:
        cv2.imwrite(str(path), np.hstack(columns), [cv2.IMWRITE_JPEG_QUALITY, 85])


def _padded(picture: Image) -> Image:
    tile = np.zeros((_TILE, _TILE, 3), np.uint8)
    tile[: picture.shape[0], : picture.shape[1]] = picture[:_TILE, :_TILE]
    return tile


def curves(log: Path, out: Path) -> None:
    """Draws losses and watched average precision over the steps."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [line["step"] for line in lines]
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in ("scores", "boxes", "sides", "teaching", "auxiliary"):
        if name in lines[0]:
            left.plot(steps, [line[name] for line in lines], label=name)
    left.set(xlabel="step", ylabel="loss", yscale="log")
    for name in ("person", "face", "dog", "cat", "car"):
        if name in lines[0]["dev_ap50"]:
            right.plot(steps, [line["dev_ap50"][name] for line in lines], label=name)
    right.set(xlabel="step", ylabel="AP50 on the photos kept to watch", ylim=(0, 1))
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    with replacing(out) as path:
        figure.savefig(path)
