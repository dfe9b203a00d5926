"""The pictures that a calibration source holds: found, looked at once, and read again when they are needed.

A source is a folder of photos or clips, one photo, a glob, a video, or labelled data in COCO's, YOLO's or VOC's layout.
No picture is kept: what stays of each is its content's hash and a `Look` of a few kilobytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk import datasets
from edge_sdk.datasets import Dataset
from edge_sdk.errors import BadFrameError, DatasetError, SinkError, SourceError, UsageError, one_line
from edge_sdk.files import replacing
from edge_sdk.models.card import ModelCard
from edge_sdk.models.preprocess import fit
from edge_sdk.result import Frame
from edge_sdk.sources.base import open_source
from edge_sdk.sources.files import PHOTO_SUFFIXES, missing_file, natural_key, photos_in, photos_like, read_photo
from edge_sdk.sources.video import VIDEO_SUFFIXES

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how many

LARGEST_LOOK = 2048  # photos that are looked at; of a larger folder an even sample, since decoding takes milliseconds
FRAMES = 256  # of a clip that are looked at, at least, where it has as many; at most twice as many
SMALLEST_PX = 16  # of a photo's side, and of what the model sees of it: less shows nothing to any detector
BLANK_LEVELS = 1.0  # standard deviation of brightness 0..255 below which a picture shows nothing

_SIDE = 128  # what a picture is reduced to before it is described
_CELLS = 4  # a side of the grid on which edges are measured

Cause = Literal["broken", "absurd", "duplicate", "near-duplicate"]


@dataclass(frozen=True)
class LeftOut:
    """A photo that takes no part, or several frames of one clip, and why.

    Args:
        name: Of the photo or clip, seen from the source.
        cause: The kind of reason.
        reason: In words, with the other photo's name where there is one.
        count: Pictures that this stands for.
    """

    name: str
    cause: Cause
    reason: str
    count: int = 1


@dataclass(frozen=True, eq=False)
class Look:
    """What is remembered of a picture that was decoded once.

    Args:
        path: The photo, or the clip that the frame is of.
        index: Number of the frame, from 0; None for a photo.
        sha256: Of a photo's file; of a frame's shape and pixels.
        hw: Height and width in pixels.
        thumb: uint8 [32, 32, 3] BGR, the picture without its shape.
        edges: float32 [4, 4, 2]; mean absolute difference of neighbouring pixels' brightness, along x and along y, in
            each cell of a grid, of the picture reduced to 128 x 128 pixels.
    """

    path: Path
    index: int | None
    sha256: str
    hw: tuple[int, int]
    thumb: NDArray[np.uint8]
    edges: NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """What a source holds.

    Args:
        layout: "photos", "video", "photos and video", "COCO", "YOLO" or "VOC".
        photos: In natural order.
        clips: In natural order.
        labels: Of the photos, or None.
        home: The folder that names are given from.
    """

    layout: str
    photos: tuple[Path, ...]
    clips: tuple[Path, ...]
    labels: Dataset | None
    home: Path

    def shown(self, path: Path) -> str:
        """A path as reports name it."""
        return path.relative_to(self.home).as_posix() if path.is_relative_to(self.home) else path.name


# --- finding -------------------------------------------------------------------------------------


def find(source: str | Path | Sequence[str | Path]) -> Found:
    """Lists what a source holds; reads labels, but no picture.

    Args:
        source: A folder, a photo, a glob, a video, labelled data as `edge_sdk.datasets.load` takes it, or several of
            these. Labels are read where one source is named.

    Raises:
        UsageError: It is a stream or names nothing.
        SourceError: It is not there, or holds neither photos nor clips.
        DatasetError: It has labels, and they are broken.
    """
    named = [source] if isinstance(source, (str, Path)) else list(source)
    if not named or not all(str(one).strip() for one in named):
        raise UsageError("the name of the photos is empty: name a folder, a video or labelled data")
    if len(named) == 1 and _is_labelled(Path(named[0])):
        labels = datasets.load(Path(named[0]))
        photos = tuple(sorted((photo.path for photo in labels.photos), key=lambda path: natural_key(str(path))))
        return Found(labels.layout, photos, (), labels, _home(photos))
    photo_paths: list[Path] = []
    clip_paths: list[Path] = []
    for one in named:
        photos_here, clips_here = _plain(str(one))
        photo_paths += photos_here
        clip_paths += clips_here
    photos, clips = tuple(dict.fromkeys(photo_paths)), tuple(dict.fromkeys(clip_paths))
    layout = "photos and video" if photos and clips else "video" if clips else "photos"
    return Found(layout, photos, clips, None, _home((*photos, *clips)))


def _plain(spec: str) -> tuple[list[Path], list[Path]]:
    """Photos and clips that one name stands for."""
    path = Path(spec)
    if "://" in spec:
        raise UsageError("calibration takes files, not a stream: record a clip or photos first and name those")
    if path.is_dir():
        try:
            entries = sorted(path.iterdir(), key=lambda entry: natural_key(entry.name))
        except OSError as error:
            raise SourceError(f"{path}: this folder cannot be listed: {one_line(error)}") from error
        clips = [entry for entry in entries if _is_clip(entry)]
        has_photos = any(entry.suffix.lower() in PHOTO_SUFFIXES for entry in entries)
        return photos_in(path) if has_photos or not clips else [], clips
    if not path.exists() and any(sign in spec for sign in "*?["):
        return photos_like(spec), []
    if not path.exists():
        raise missing_file(path)
    if path.suffix.lower() in PHOTO_SUFFIXES:
        return [path], []
    return [], [path]


def _is_clip(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _is_labelled(path: Path) -> bool:
    """Whether `datasets.load` is meant: then what is wrong with labels is an error, and no reason to go on without."""
    if not path.is_dir():
        return path.suffix.lower() == ".json"
    split = path.parent.parent / "labels" / path.name  # of images/val
    return (
        any((path / name).is_file() for name in ("instances.json", "annotations.json"))
        or any((path / "annotations").glob("instances*.json"))
        or ((path / "images").is_dir() and (path / "labels").is_dir())
        or (path.parent.name == "images" and split.is_dir())
        or ((path / "Annotations").is_dir() and (path / "JPEGImages").is_dir())
    )


def _home(paths: Sequence[Path]) -> Path:
    """The deepest folder that all lie in."""
    folders = [path.parent for path in paths]
    home = folders[0] if folders else Path()
    while not all(folder.is_relative_to(home) for folder in folders) and home != home.parent:
        home = home.parent
    return home


def even_sample(paths: Sequence[Path], most: int) -> list[Path]:
    """At most `most` of them, evenly spread: names often follow time."""
    if len(paths) <= most:
        return list(paths)
    return [paths[(2 * number + 1) * len(paths) // (2 * most)] for number in range(most)]


# --- looking -------------------------------------------------------------------------------------


def look_at(image: NDArray[np.uint8], path: Path, index: int | None, sha256: str) -> Look:
    """Describes a decoded picture, uint8 [h, w, 3] BGR."""
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32)
    across = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    down = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    cell = _SIDE // _CELLS
    edges = np.stack([across, down], axis=-1).reshape(_CELLS, cell, _CELLS, cell, 2).mean(axis=(1, 3))
    thumb = np.asarray(cv2.resize(small, (32, 32), interpolation=cv2.INTER_AREA), np.uint8)
    return Look(path, index, sha256, (image.shape[0], image.shape[1]), thumb, edges.astype(np.float32))


def look_at_photo(path: Path) -> Look:
    """Reads and describes a photo.

    Raises:
        BadFrameError: It cannot be read; see `read_photo`.
    """
    image = read_photo(path)
    try:
        return look_at(image, path, None, hashlib.sha256(path.read_bytes()).hexdigest())
    except OSError as error:
        raise BadFrameError(f"{path}: cannot be read: {one_line(error)}") from error


def absurd(look: Look, card: ModelCard) -> str | None:
    """Why a picture can show nothing to the model, or None."""
    height, width = look.hw
    seen_h, seen_w = fit(look.hw, card)[1][2:]
    if min(look.hw) < SMALLEST_PX:
        return f"{width}x{height} pixels are too small to show anything; {SMALLEST_PX} on each side are the least"
    if min(seen_h, seen_w) < min(SMALLEST_PX, *card.input_hw):
        return f"of {width}x{height} pixels the model would see {seen_w}x{seen_h}: a strip that shows nothing"
    if float(brightness(look.thumb).std()) < BLANK_LEVELS:
        return "nothing is on it: it has one brightness throughout"
    return None


def brightness(thumb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Luma 0..255 of a BGR picture, float32 [h, w]; weights of ITU-R BT.601."""
    return np.asarray(thumb @ np.array([0.114, 0.587, 0.299], np.float32), np.float32)


@dataclass(frozen=True, eq=False)
class ClipLook:
    """What was seen of a clip: evenly spread frames, the frames in all, and those that could not be decoded."""

    looks: tuple[Look, ...]
    frames: int
    damaged: int


def look_through(clip: Path, least: int = FRAMES) -> ClipLook:
    """Describes frames over the whole clip, evenly spread: `least` to twice as many, or all of a short clip.

    The length is not taken from the container, which may lie: the step doubles as the clip goes on.

    Raises:
        SourceError: No frame can be decoded.
    """
    looks: list[Look] = []
    step, frames, damaged = 1, 0, 0
    for frame in _frames(clip):
        if frame is None:
            damaged += 1
            continue
        frames = frame.id + 1
        if frame.id % step == 0:
            looks.append(look_at(frame.image, clip, frame.id, _pixels_sha256(frame.image)))
        if len(looks) > 2 * least:
            looks, step = [look for look in looks if look.index is not None and look.index % (2 * step) == 0], 2 * step
    if not looks:
        raise SourceError(f"{clip}: no frame can be decoded")
    return ClipLook(tuple(looks), frames, damaged)


def store_frames(clip: Path, wanted: Mapping[int, str], folder: Path) -> None:
    """Writes frames of a clip as PNG, which loses nothing, under their hash; those that are there already stay.

    A clip can only be read from its start, and calibration reads its pictures many times.

    Args:
        clip: The video.
        wanted: Hash by number of the frame, as `look_through` found them.
        folder: Is there already.

    Raises:
        SourceError: A frame is not the same as before, or the clip is gone.
        SinkError: The folder cannot be written.
    """
    left = {index: sha256 for index, sha256 in wanted.items() if not frame_file(folder, sha256).is_file()}
    if not left:
        return
    for frame in _frames(clip):
        if frame is None or frame.id not in left:
            continue
        sha256 = left.pop(frame.id)
        if _pixels_sha256(frame.image) != sha256:
            raise SourceError(f"{clip}: frame {frame.id} differs from what was read before; has the file changed?")
        with replacing(frame_file(folder, sha256)) as temporary:
            done, data = cv2.imencode(".png", frame.image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            if not done:
                raise SourceError(f"{clip}: frame {frame.id} cannot be written as PNG")
            _write(temporary, data.tobytes())
        if not left:
            return
    raise SourceError(f"{clip}: frame {min(left)} is gone; has the file changed?")


def frame_file(folder: Path, sha256: str) -> Path:
    """Where a stored frame lies."""
    return folder / f"{sha256}.png"


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SinkError(f"{path.parent}: a frame cannot be stored: {error.strerror or one_line(error)}") from error


def _frames(clip: Path) -> Iterator[Frame | None]:
    """Every frame of a clip, None for one that cannot be decoded."""
    source = open_source(clip)
    try:
        while True:
            try:
                frame = source.read()
            except BadFrameError:
                yield None
                continue
            if frame is None:
                return
            yield frame
    finally:
        source.close()


def _pixels_sha256(image: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def need_some(pictures: int, left_out: Iterable[LeftOut], source: str, least: int) -> None:
    """Raises DatasetError where too few pictures are left, with the first reasons."""
    if pictures >= least:
        return
    reasons = [f"{one.name}: {one.reason}" for one in left_out]
    some = "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")
    raise DatasetError(
        f"{source}: {pictures} of the {least} pictures that calibration, search and acceptance need at the least; add "
        f"photos that differ" + (f" (left out: {some})" if some else "")
    )
