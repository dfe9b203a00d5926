"""Between a thread that makes something and one that takes it: the newest wins, or nothing is lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

# How often `take` looks at its `unless` though nobody wakes it: a signal handler must not touch a lock to do so.
LOOK_S = 0.25


class Mailbox(Generic[T]):
    """Hands each item over once, in order.

    Args:
        capacity: Items that may wait.
        newest: What is put into a full mailbox pushes the oldest out; otherwise `put` waits until there is room.
    """

    def __init__(self, capacity: int = 1, *, newest: bool = True) -> None:
        self._capacity = capacity
        self._newest = newest
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._closed = False
        self._error: BaseException | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> T | None:
        """Leaves an item; returns the one that will not be handed over.

        That is the oldest, where it had to make room, or the item itself, where the mailbox is closed.
        """
        with self._changed:
            if not self._newest:
                self._changed.wait_for(lambda: len(self._items) < self._capacity or self._closed)
            if self._closed:
                return item
            pushed_out = self._items.popleft() if len(self._items) >= self._capacity else None
            self._items.append(item)
            self._changed.notify_all()
            return pushed_out

    def put_back(self, items: Iterable[T]) -> None:
        """Leaves items that were taken but not used before all others, whatever the capacity."""
        with self._changed:
            self._items.extendleft(reversed(list(items)))
            self._changed.notify_all()

    def take(self, timeout_s: float | None = None, *, unless: Callable[[], bool] | None = None) -> T | None:
        """The next item, waited for; None when the sender has closed and nothing is left.

        Args:
            timeout_s: The longest wait.
            unless: Ends the waiting, with None, when it holds: at once where whoever makes it hold calls `wake`, else
                within a quarter of a second.

        Raises:
            TimeoutError: Nothing came in time.
            BaseException: What the sender closed with.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._items:
                if self._error is not None:
                    raise self._error
                if self._closed or (unless is not None and unless()):
                    return None
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._changed.wait(left if unless is None else LOOK_S if left is None else min(left, LOOK_S))
            self._changed.notify_all()  # whoever waits for room
            return self._items.popleft()

    def wake(self) -> None:
        """Makes `take` look again at its `unless`."""
        with self._changed:
            self._changed.notify_all()

    @property
    def over(self) -> bool:
        """Whether the sender has closed and nothing is left."""
        with self._changed:
            return self._closed and not self._items

    def close(self, error: BaseException | None = None) -> None:
        """Says that nothing more comes, and why; may be called twice. What waits can still be taken."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()

    def abandon(self) -> list[T]:
        """Closes, and returns what was left untaken."""
        with self._changed:
            self._closed = True
            left = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return left
