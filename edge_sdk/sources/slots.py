"""Image buffers that are filled in turn, so that a steady stream of pictures allocates none."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

MOST = 8  # one is filled, one waits, two or three are in the detector and its results, and sinks queue a few


class Slots:
    """Gives buffers that nobody holds any more; used by one thread at a time.

    A reference count tells whether somebody does. What is given is a view, and so is every part that is cut from it;
    all of them refer to the buffer itself, for as long as they live. Its writeable flag and its shape are the view's
    own, so that whoever changes them changes them for nobody else.

    Args:
        most: Buffers that are kept for another turn. Of more, which is what somebody needs who keeps many pictures,
            the one that was given longest ago is left to its holder.

    Attributes:
        allocated: How often a buffer had to be made.
    """

    def __init__(self, most: int = MOST) -> None:
        self.allocated = 0
        self._most = most
        self._buffers: list[NDArray[Any]] = []  # the one given longest ago first

    def take(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> NDArray[Any]:
        """A C-contiguous array with anything in it. A shape or dtype other than last time's ends all the reuse of old.

        Args:
            shape: What it shall have.
            dtype: The same.
        """
        if self._buffers and (self._buffers[0].shape != shape or self._buffers[0].dtype != dtype):
            self._buffers.clear()
        free = (index for index in range(len(self._buffers)) if _references(self._buffers, index) == _WHEN_FREE)
        index = next(free, None)
        buffer: NDArray[Any]
        if index is not None:
            buffer = self._buffers.pop(index)
        else:
            self.allocated += 1
            buffer = np.empty(shape, dtype)
            if len(self._buffers) >= self._most:
                del self._buffers[0]
        self._buffers.append(buffer)
        view: NDArray[Any] = buffer.view()
        return view


def _references(buffers: list[NDArray[Any]], index: int) -> int:
    return sys.getrefcount(buffers[index])


# What a buffer has that only its list refers to. Counted, since Python's versions differ in what a call adds.
_WHEN_FREE = _references([np.empty(0, np.uint8)], 0)
