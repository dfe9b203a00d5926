"""Trains the detector that Edge SDK carries.

    python tools/train_default train --photos people --teacher yolox_nano.onnx --out .cache/train_default

A run that was stopped goes on from its last checkpoint when the same command is given again. See config.toml for the
recipe and NOTES.md for what was tried.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

try:
    import torch
except ModuleNotFoundError as missing:
    raise SystemExit("this tool needs PyTorch: pip install '.[train]'") from missing
from export import export as write
from export import kept_of, narrowed, parameters, provenance
from failures import draw_faults, faults
from judge import judge
from look import look
from photos import TEACHERS_OWN, Photo, read
from report import curves, judged, labelled, record, sheets, table
from training import Config, Run, trained

from edge_sdk.detector import Detector
from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.sources.files import read_photo

HERE = Path(__file__).parent
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3), malloc.h


def train(arguments: argparse.Namespace) -> None:
    config = Config.read(arguments.config, dict(arguments.set))
    photos = read(arguments.photos, config.classes)
    fit = [photo for photo in photos if photo.split == "fit"]
    dev = [photo for photo in photos if photo.split == "dev" and is_new(photo)]
    torch.set_num_threads(arguments.threads)
    keep_memory()
    run = Run(config, fit, arguments.teacher, arguments.out, arguments.workers, arguments.device)
    tell(f"{len(fit)} photos to train on, {len(dev)} to watch; step {run.step} of {config.steps}")

    def watch(run: Run) -> Mapping[str, Any]:
        began = time.monotonic()
        found = look(run.average, dev, config.height, config.width)
        judged = judge(dev, found, config.classes, resamples=0)
        line = {name: round(one.ap50, 4) for name, one in judged.items()}
        tell(
            f"step {run.step} of {config.steps}, {run.trained_s / 60:.0f} min, watched in "
            f"{time.monotonic() - began:.0f} s: AP50 "
            + ", ".join(f"{name} {value:.3f}" for name, value in line.items())
        )
        return {"dev_ap50": line}

    if run.step == 0:
        watch(run)
    run(arguments.every, watch)


def export(arguments: argparse.Namespace) -> None:
    config, detector, state = trained(arguments.run_folder)
    if state["step"] < config.steps:
        tell(f"warning: the run is at step {state['step']} of {config.steps}")
    kept = kept_of(arguments.classes, config.classes)
    narrowed(detector, config.classes, kept)
    write(detector, kept, config.height, config.width, arguments.out, provenance(config, state))
    tell(f"{arguments.out}: {arguments.out.stat().st_size} bytes, {parameters(arguments.out)} parameters")


def evaluate(arguments: argparse.Namespace) -> None:
    if arguments.photos is None and arguments.eval is None:
        raise ValueError("name photos to judge by: --photos, --eval or both")
    ours = Detector(arguments.model)
    theirs = Detector(arguments.teacher) if arguments.teacher else None
    parts = {}
    texts = []
    for title, folder in (("val", arguments.photos), ("eval", arguments.eval)):
        if folder is None:
            continue
        photos = (
            [photo for photo in read(folder, ours.class_names) if photo.split == "val" and is_new(photo)]
            if title == "val"
            else labelled(folder, ours.class_names)
        )
        parts[title] = judged(ours, photos, ours.class_names, tell)
        others = judged(theirs, photos, ours.class_names, tell) if theirs else None
        if others is not None:
            parts[f"{title}, teacher"] = others
        texts.append(table(f"{folder.name}, {len(photos)} photos", parts[title], others))
    print(json.dumps(record(parts), indent=1) if arguments.json else "\n\n".join(texts))


def draw(arguments: argparse.Namespace) -> None:
    models = [Detector(model) for model in arguments.models]
    photos = sorted(path for path in arguments.photos.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not photos:
        raise ValueError(f"{arguments.photos}: no photos")
    chosen = [photos[i] for i in np.linspace(0, len(photos) - 1, arguments.count).astype(int)]
    sheets(models, chosen, arguments.clip, arguments.count, arguments.out)


def draw_failures(arguments: argparse.Namespace) -> None:
    with Detector(arguments.model) as detector:
        if arguments.name not in detector.class_names:
            raise ValueError(f"{arguments.name}: no class of the model; it has {', '.join(detector.class_names)}")
        label = detector.class_names.index(arguments.name)
        photos = labelled(arguments.eval, detector.class_names)
        found = [faults(photo, detector(read_photo(photo.path)), label) for photo in photos]
    if not any(one.count for one in found):
        raise ValueError(f"no photo of {arguments.eval} has a fault")
    found.sort(key=lambda one: -one.count)
    draw_faults(found[: arguments.count], arguments.out)


def draw_curves(arguments: argparse.Namespace) -> None:
    curves(arguments.run_folder / "log.jsonl", arguments.out)


def keep_memory() -> None:
    """Has the C library keep what is freed. Else each large tensor is new memory that the system must clear: a quarter
    of all time here."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        for parameter in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            libc.mallopt(parameter, (1 << 31) - 1)
    except (OSError, AttributeError):
        tell("another C library than glibc: its memory is left as it is")


def is_new(photo: Photo) -> bool:
    """Whether the network that the weights come from has not been trained on it either."""
    return photo.source not in TEACHERS_OWN


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _change(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: NAME=JSON is wanted, as in steps=100") from None


def _above_zero(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number from 1 is wanted")
    return int(text)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train", help="train, or go on training")
    one.set_defaults(run=train)
    one.add_argument("--photos", type=Path, required=True, help="the folder with annotations.json")
    one.add_argument("--teacher", type=Path, help="the published yolox_nano.onnx")
    one.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and the log")
    one.add_argument("--config", type=Path, default=HERE / "config.toml")
    one.add_argument("--set", type=_change, action="append", default=[], metavar="NAME=JSON", help="change the recipe")
    one.add_argument("--every", type=_above_zero, default=250, help="steps between checkpoints")
    one.add_argument("--threads", type=int, default=torch.get_num_threads())
    one.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of PyTorch")
    one.add_argument("--workers", type=int, default=1, help="processes that make batches")
    one = commands.add_parser("export", help="write a run's detector as an ONNX file")
    one.set_defaults(run=export)
    one.add_argument("--run", dest="run_folder", type=Path, required=True, help="the folder of the run")
    one.add_argument("--out", type=Path, required=True, help="the file")
    one.add_argument("--classes", help="keep these, commas between; left out: all")
    one = commands.add_parser("evaluate", help="average precision of a file, by class")
    one.set_defaults(run=evaluate)
    one.add_argument("model", type=Path)
    one.add_argument("--photos", type=Path, help="the folder with annotations.json; its val split is judged")
    one.add_argument("--eval", type=Path, help="a folder in which every object is boxed")
    one.add_argument("--teacher", type=Path, help="judge this model beside it")
    one.add_argument("--json", action="store_true")
    one = commands.add_parser("draw", help="sheets of photos and frames with what models find, side by side")
    one.set_defaults(run=draw)
    one.add_argument("models", type=Path, nargs="+")
    one.add_argument("--photos", type=Path, required=True, help="a folder of photos")
    one.add_argument("--clip", type=Path, action="append", default=[])
    one.add_argument("--count", type=_above_zero, default=24, help="photos, and frames of each clip")
    one.add_argument("--out", type=Path, required=True, help="folder of the sheets")
    one = commands.add_parser("failures", help="draw the boxes of the photos with the most faults")
    one.set_defaults(run=draw_failures)
    one.add_argument("model", type=Path)
    one.add_argument("--eval", type=Path, required=True, help="a folder in which every object is boxed")
    one.add_argument("--class", dest="name", default="person")
    one.add_argument("--count", type=_above_zero, default=8)
    one.add_argument("--out", type=Path, required=True, help="the picture, .svg or .png")
    one = commands.add_parser("curves", help="draw a run's losses and average precision")
    one.set_defaults(run=draw_curves)
    one.add_argument("--run", dest="run_folder", type=Path, required=True, help="the folder of the run")
    one.add_argument("--out", type=Path, required=True, help="the picture, .png or .svg")
    arguments = parser.parse_args(words)
    try:
        arguments.run(arguments)
    except (ValueError, OSError, EdgeSdkError) as error:
        parser.exit(2, f"{one_line(error)}\n")


if __name__ == "__main__":
    main()
