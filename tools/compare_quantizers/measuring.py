"""What is measured of the finished files: accuracy, once for each file, and latency, of all of them in turns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edge_sdk.backends import base as backends
from edge_sdk.datasets import Dataset
from edge_sdk.detector import Detector
from edge_sdk.device import this_device
from edge_sdk.files import replacing
from edge_sdk.measure.accuracy import Matched, match
from edge_sdk.measure.accuracy import _Matches as Matches
from edge_sdk.measure.turns import Turns, measure_in_turns


def scored(file: Path, like: Path, labelled: Dataset, digest: str, cache: Path) -> Matched:
    """A file's boxes held against the labels, from the cache where that was done before.

    Args:
        file: To score.
        like: The float model, which says how both are fed and read: peers lose names and metadata.
        labelled: The evaluation photos.
        digest: Of them.
        cache: Where matches are kept.
    """
    kept = cache / "scores" / f"{_sha256(file)[:24]}-{digest[:16]}.npz"
    if kept.is_file():
        return _unpacked(kept)
    with Detector(like, backend="onnxruntime") as first:
        card, head = first.card, first.head.name
    with Detector(file, backend="onnxruntime", threads=2, card=card, head=head) as detector:
        found = match(detector, labelled)
    kept.parent.mkdir(parents=True, exist_ok=True)
    _pack(found, kept)
    return found


_FIELDS = ("right", "wrong", "photo", "objects")


def _pack(found: Matched, path: Path) -> None:
    facts = [found.classes, found.photos, found.skipped, found.classes_not_in_model]
    arrays = {f"{name}/{number}": getattr(one, name) for number, one in enumerate(found.by_class) for name in _FIELDS}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, facts=np.array(json.dumps(facts)), **arrays)


def _unpacked(path: Path) -> Matched:
    with np.load(path, allow_pickle=False) as arrays:
        classes, photos, skipped, strange = (tuple(part) for part in json.loads(str(arrays["facts"])))
        by_class = tuple(Matches(*(arrays[f"{name}/{number}"] for name in _FIELDS)) for number in range(len(classes)))
    return Matched(classes, photos, skipped, strange, by_class)


def latencies(
    files: Mapping[str, Path],
    reference: str,
    feeds: Mapping[str, np.ndarray],
    *,
    rounds: int,
    progress: Callable[[float], None] | None = None,
) -> Turns:
    """Times the files in turns in this process, one thread each, on one photo.

    Args:
        files: By row.
        reference: The row that the others are held against.
        feeds: The photo as the model is fed, by the input's name.
        rounds: At least 5.
        progress: Told which part is over, 0..1.
    """
    backend, _ = backends.named("onnxruntime")
    with ExitStack() as stack:
        sessions, given = {}, {}
        for name, file in files.items():
            session = stack.enter_context(backend.open(file, this_device().target, threads=1, options={}))
            sessions[name] = session
            given[name] = session.new_feeds()
            # Some peers rename the input; the scripts take models of one input only.
            (mine,), (photo,) = given[name].values(), feeds.values()
            mine[...] = photo
        return measure_in_turns(sessions, reference=reference, feeds=given, rounds=rounds, progress=progress)


def digest_of(labelled: Dataset) -> str:
    """sha256 of labelled photos and their boxes, in hexadecimal."""
    digest = hashlib.sha256(repr(labelled.classes).encode())
    for photo in labelled.photos:
        digest.update(photo.path.read_bytes())
        for array in (photo.boxes_xyxy, photo.class_id, photo.crowd, photo.area):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
