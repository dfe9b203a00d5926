"""One slot between a capture thread and its reader: the newest frame wins."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Hands over the newest item once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Leaves an item; whether it took the place of an unread one."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
            return replaced

    def take(self, timeout_s: float | None = None) -> T | None:
        """The newest item, waited for; None when the sender has closed and nothing is left.

        Raises:
            TimeoutError: Nothing came in time.
            BaseException: What the sender closed with.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while self._item is None and not self._closed:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._changed.wait(left)
            if self._item is not None:
                item, self._item = self._item, None
                return item
            if self._error is not None:
                raise self._error
            return None

    def close(self, error: BaseException | None = None) -> None:
        """Says that nothing more comes, and why; may be called twice."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()

    def abandon(self) -> bool:
        """Throws away what is left unread; whether there was anything."""
        with self._changed:
            left, self._item = self._item is not None, None
            return left
