"""One failure costs one frame; the same one again and again ends the run."""

from __future__ import annotations

import logging

from edge_sdk.errors import one_line

log = logging.getLogger("edge_sdk")

IN_A_ROW = 10


class Failures:
    """Remembers what failed since the last success."""

    def __init__(self) -> None:
        self._first: Exception | None = None
        self._count = 0
        self._succeeded = False

    def add(self, error: Exception, frame: str) -> None:
        """A frame failed.

        Raises:
            Exception: The first of as many errors of one kind as are too many.
        """
        if self._first is None or type(error) is not type(self._first):
            self._first, self._count = error, 0
        self._count += 1
        log.warning("%s: no result: %s", frame, one_line(error))
        if self._count >= IN_A_ROW:
            raise self._first

    def success(self) -> None:
        """A frame gave its result."""
        self._first = None
        self._succeeded = True

    def at_end(self) -> None:
        """The source has ended; raises the first error where nothing else came of it."""
        if self._first is not None and not self._succeeded:
            raise self._first
