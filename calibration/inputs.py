"""A model's inputs, made of pictures by the same code that makes them at run time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array
from edge_sdk.sources.files import read_photo


class Prepares(Protocol):
    """What `edge_sdk.Detector` has of this: input arrays of its own, and a picture prepared into them."""

    def new_prepared(self) -> Any:
        """Input arrays, as `feeds`."""
        ...

    def prepare(self, image: NDArray[np.uint8], into: Any) -> Any:
        """Fills them from a uint8 [h, w, 3] BGR picture."""
        ...


Key = TypeVar("Key")


class Inputs(Generic[Key]):
    """Feeds by picture, some of them kept in memory. Used by one thread at a time.

    Those asked for most often are kept, counted from the first time: a probe's few pictures come hundreds of times,
    those that ranges are taken from once or twice. Where all come in turn and not all fit, some always stay, which a
    rule that drops the oldest would not do.

    Args:
        detector: Of the model, whose card says how a picture is fed.
        file_of: Where a picture lies.
        memory_mib: At most so much is kept; 0 keeps nothing.
    """

    def __init__(self, detector: Prepares, file_of: Callable[[Key], Path], memory_mib: float = 256) -> None:
        self._detector = detector
        self._file_of = file_of
        self._prepared = detector.new_prepared()
        self._room = int(memory_mib * (1 << 20))
        self._kept: dict[Key, dict[str, Array]] = {}
        self._bytes = 0
        self._asked: Counter[Key] = Counter()

    @property
    def kept_bytes(self) -> int:
        """Memory that is used by what is kept."""
        return self._bytes

    def each(self, keys: Iterable[Key]) -> Iterator[dict[str, Array]]:
        """The inputs for each picture by name, read only, as the canonical form of the model takes them.

        That is as the model itself takes them, but for 16-bit floats, which it holds as 32-bit ones.

        Raises:
            BadFrameError: A picture can no longer be read.
        """
        for key in keys:
            self._asked[key] += 1
            feeds = self._kept.get(key)
            if feeds is None:
                feeds = self._read(key)
                self._keep(key, feeds)
            yield dict(feeds)

    def clear(self) -> None:
        """Frees what is kept."""
        self._kept.clear()
        self._bytes = 0

    def _read(self, key: Key) -> dict[str, Array]:
        prepared = self._detector.prepare(read_photo(self._file_of(key)), self._prepared)
        feeds = {
            name: np.array(array, np.float32 if array.dtype == np.float16 else array.dtype)
            for name, array in prepared.feeds.items()
        }
        for array in feeds.values():
            array.flags.writeable = False
        return feeds

    def _keep(self, key: Key, feeds: dict[str, Array]) -> None:
        size = _size(feeds)
        while self._bytes + size > self._room and self._kept:
            least = min(self._kept, key=lambda one: self._asked[one])
            if self._asked[least] >= self._asked[key]:
                return
            self._bytes -= _size(self._kept.pop(least))
        if self._bytes + size <= self._room:
            self._kept[key] = feeds
            self._bytes += size


def _size(feeds: Mapping[str, Array]) -> int:
    return sum(array.nbytes for array in feeds.values())
