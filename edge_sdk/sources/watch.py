"""Looking after something that blocks, from another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watching(look: Callable[[], bool], every_s: float) -> Iterator[None]:
    """Calls `look` every so often while the block runs, until it says that it is done.

    Args:
        look: Called in a thread of its own, never after the block.
        every_s: Between two calls.
    """
    over = threading.Event()

    def run() -> None:
        while not over.wait(every_s) and not look():
            pass

    thread = threading.Thread(target=run, name="edge-sdk-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
