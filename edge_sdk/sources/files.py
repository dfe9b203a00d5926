"""Photos: one, a folder of them in natural order, or a glob."""

from __future__ import annotations

import glob
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import BadFrameError, SourceError, SourceNotFoundError, UsageError, one_line
from edge_sdk.result import Frame
from edge_sdk.sources.base import FoundCamera, Request
from edge_sdk.sources.capture import quiet_opencv

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"})
LARGEST_FILE_MIB = 512  # a photo's file; pixels are bounded by OpenCV itself (OPENCV_IO_MAX_IMAGE_PIXELS, 2^30)

_log = logging.getLogger("edge_sdk")


class PhotosKind:
    """A photo, a folder, or a glob such as ``photos/*.jpg``."""

    name = "photos"
    example = "a photo, a folder or a glob ('photos/*.jpg')"
    rank = 50

    def claims(self, spec: str) -> bool:
        """A folder, what ends like a photo, or a pattern."""
        if "://" in spec:
            return False
        return Path(spec).is_dir() or Path(spec).suffix.lower() in PHOTO_SUFFIXES or _is_pattern(spec)

    def open(self, spec: str, request: Request) -> PhotoSource:
        """Lists the photos; a photo that is named alone is read at once."""
        path = Path(spec)
        if path.is_dir():
            return PhotoSource(spec, photos_in(path))
        if _is_pattern(spec):
            return PhotoSource(spec, photos_like(spec))
        if not path.exists():
            raise missing_file(path)
        source = PhotoSource(spec, [path])
        source.check()
        return source

    def find(self, root: Path) -> Sequence[FoundCamera]:
        """No cameras are photos."""
        return ()


class PhotoSource:
    """Photos one after the other, as BGR, with the rotation that their EXIF asks for; nothing is skipped unseen.

    Args:
        name: What was named: the photo, the folder or the pattern.
        paths: The photos, in the order they are read.
    """

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        self.name = name
        self.live = False
        self.fps: float | None = None
        self.total: int | None = len(paths)
        self._paths: Sequence[Path] = list(paths)
        self._next_id = 0
        self._left_out: frozenset[int] = frozenset()
        self._first: NDArray[np.uint8] | None = None

    def check(self) -> None:
        """Reads the first photo now.

        Raises:
            SourceError: It cannot be read.
        """
        try:
            self._first = read_photo(self._paths[0])
        except BadFrameError as error:
            raise SourceError(str(error)) from error

    def skip(self, done: Callable[[int, Path], bool]) -> int:
        """Leaves photos out, such as those that an interrupted run has finished; the others keep their ids.

        Args:
            done: Whether to leave out the photo of this id and path; asked for each, in order.

        Returns:
            How many are left out; `total` counts them.

        Raises:
            UsageError: Photos have been read already.
        """
        if self._next_id > 0:
            raise UsageError(f"{self.name}: photos are left out before the first is read")
        self._left_out = frozenset(number for number, path in enumerate(self._paths) if done(number, path))
        if 0 in self._left_out:
            self._first = None
        return len(self._left_out)

    def read(self) -> Frame | None:
        """The next photo, or None after the last; BadFrameError for one that cannot be read."""
        while self._next_id in self._left_out:
            self._next_id += 1
        if self._next_id >= len(self._paths):
            return None
        frame_id, self._next_id = self._next_id, self._next_id + 1
        path = self._paths[frame_id]
        image, self._first = self._first, None
        if image is None:
            image = read_photo(path)
        return Frame(image, frame_id, str(path), time.monotonic_ns())

    def close(self) -> None:
        """Nothing stays open between photos; ends the reading."""
        self._paths, self._first = (), None


def photos_in(folder: Path) -> list[Path]:
    """The photos that lie in a folder itself, img2 before img10; sub-folders and hidden files are left out.

    Raises:
        SourceError: There are none; the message names a sub-folder that has some.
    """
    try:
        with os.scandir(folder) as listing:
            entries = [(entry.name, entry.is_file(), entry.is_dir()) for entry in listing]
    except OSError as error:
        raise SourceError(
            f"{folder}: this folder cannot be listed: {one_line(error)}; check its permissions"
        ) from error
    names = [name for name, is_file, _ in entries if is_file and _is_photo_name(name)]
    if names:
        return [folder / name for name in sorted(names, key=natural_key)]
    within = [folder / name for name, _, is_dir in sorted(entries) if is_dir and _has_photos(folder / name)]
    mend = f"name {within[0]}, which has photos" if within else f"photos end in {', '.join(sorted(PHOTO_SUFFIXES))}"
    raise SourceError(f"{folder}: no photo in this folder ({len(entries)} entries); {mend}")


def photos_like(pattern: str) -> list[Path]:
    """The photos that a pattern matches, in natural order; ``**`` goes through sub-folders.

    Raises:
        SourceNotFoundError: Nothing matches.
        SourceError: What matches are no photos.
    """
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - patterns may be absolute
    photos = [path for path in matches if _is_photo_name(path.name) and path.is_file()]
    if not matches:
        raise SourceNotFoundError(f"{pattern}: nothing matches this pattern, seen from {Path.cwd()}; mind upper case")
    if not photos:
        raise SourceError(
            f"{pattern}: matches {len(matches)} entries, none of them a photo; photos end in "
            f"{', '.join(sorted(PHOTO_SUFFIXES))}, a video is named alone"
        )
    if len(photos) < len(matches):
        _log.info("%s: %d of %d matches are photos", pattern, len(photos), len(matches))
    return sorted(photos, key=lambda path: natural_key(str(path)))


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts numbers inside names by value: "img2" before "img10"."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), part) if index % 2 else (1, 0, part.casefold()) for index, part in enumerate(parts)]


def read_photo(path: Path) -> NDArray[np.uint8]:
    """A photo as uint8 [h, w, 3] BGR, turned as its EXIF asks; grey, RGBA and 16-bit ones are converted.

    Transparency is dropped, as OpenCV does: a transparent pixel shows the colour stored under it.

    Raises:
        BadFrameError: It is not there, is no photo, ends early or is too large. A JPEG that ends early is refused on
            purpose: some versions of OpenCV fill the missing rows with grey, in which nothing is ever detected.
    """
    try:
        if not path.is_file():
            raise BadFrameError(
                f"{path}: not a regular file, so not a photo" if path.exists() else f"{path}: it is gone"
            )
        size = path.stat().st_size
        if size == 0:
            raise BadFrameError(f"{path}: the file is empty; copy it again")
        if size > LARGEST_FILE_MIB << 20:
            raise BadFrameError(f"{path}: {size >> 20} MiB; a photo may have {LARGEST_FILE_MIB} MiB")
        data = path.read_bytes()
    except BadFrameError:
        raise
    except OSError as error:
        raise BadFrameError(f"{path}: cannot be read: {error.strerror or one_line(error)}; check it") from error
    if data.startswith(b"\xff\xd8") and not jpeg_is_whole(data):
        raise BadFrameError(f"{path}: this JPEG ends early, {size} bytes are not all of it; copy it again")
    try:
        with quiet_opencv():
            image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, MemoryError) as error:
        reason = (
            "it has more pixels than OPENCV_IO_MAX_IMAGE_PIXELS allows"
            if "pixel" in str(error).lower()
            else one_line(error)
        )
        raise BadFrameError(f"{path}: cannot be decoded: {reason}; make it smaller") from error
    if image is None or image.size == 0:
        raise BadFrameError(
            f"{path}: no photo that OpenCV can decode (damaged, or another format); save it as JPEG or PNG"
        )
    return image  # type: ignore[no-any-return]


_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_JPEG_RESTARTS = range(0xD0, 0xD8)
_JPEG_SOI, _JPEG_EOI, _JPEG_SOS, _JPEG_TEM = 0xD8, 0xD9, 0xDA, 0x01


def jpeg_is_whole(data: bytes) -> bool:
    """Whether a JPEG reaches its end marker; what lies after it, and previews inside, do not count.

    Walks the segments as ITU-T T.81, annex B, lays them out.
    """
    at = 2
    while found := _JPEG_MARKER.search(data, at):
        marker, at = found.group(1)[0], found.end()
        if marker == _JPEG_EOI:
            return True
        if marker in _JPEG_RESTARTS or marker in (_JPEG_SOI, _JPEG_TEM):
            continue  # no length follows; inside a scan the search itself steps over the entropy-coded bytes
        if at + 2 > len(data):
            return False
        at += int.from_bytes(data[at : at + 2], "big")
    return False


def missing_file(path: Path) -> SourceNotFoundError:
    """The error for a file that is not there: says what is in its place, or from where it was looked for."""
    folder = path.parent
    if not folder.is_dir():
        return SourceNotFoundError(f"{path}: no such file, and no folder {folder}, seen from {Path.cwd()}")
    wanted = path.stem.casefold()
    near = sorted(entry.name for entry in folder.iterdir() if entry.stem.casefold() == wanted)
    mend = f"there is {near[0]}" if near else f"check the name and the folder {folder.resolve()}"
    return SourceNotFoundError(f"{path}: no such file; {mend}")


def _is_photo_name(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in PHOTO_SUFFIXES


def _has_photos(folder: Path) -> bool:
    try:
        with os.scandir(folder) as listing:
            return any(_is_photo_name(entry.name) and entry.is_file() for entry in listing)
    except OSError:
        return False


def _is_pattern(spec: str) -> bool:
    return glob.has_magic(spec) and not Path(spec).exists()


KIND = PhotosKind()
