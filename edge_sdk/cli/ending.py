"""Ctrl-C, and SIGTERM from systemd, Docker or `kill`, end a command in order: what was recorded is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Ending:
    """Which signal came, and what the first one does instead of raising."""

    number: int | None = None
    raised: bool = False  # the SystemExit of a signal was on its way, whatever became of it
    stop: Callable[[], None] | None = None


_ending = _Ending()


@contextmanager
def in_order() -> Iterator[None]:
    """Makes both signals raise SystemExit with 128 and the signal's number while the block runs.

    What is imported when one comes may catch that and fail with an error of its own: then too it is the signal that
    ended the block.
    """
    if threading.current_thread() is not threading.main_thread():  # only there may Python set handlers
        yield
        return
    _ending.number, _ending.stop, _ending.raised = None, None, False
    before = {number: signal.signal(number, _on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception:
        if _ending.raised:
            _raise_if_asked()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def gracefully(stop: Callable[[], None]) -> Iterator[None]:
    """While the block runs, the first signal calls `stop`; SystemExit follows when the block has ended by that.

    An exception that comes between any two instructions may tear what it ends, or be lost in somebody's ``except``. A
    second signal raises at once.

    Args:
        stop: Touches no lock: whoever holds it may be what the signal interrupts.
    """
    _raise_if_asked()  # the signal came while something was imported that catches everything
    _ending.stop = stop
    try:
        yield
    finally:
        _ending.stop = None
    _raise_if_asked()


def _on_signal(number: int, _: object) -> None:
    first, _ending.number = _ending.number is None, number
    if first and _ending.stop is not None:
        _ending.stop()
        return
    _ending.raised = True
    raise SystemExit(128 + number)


def _raise_if_asked() -> None:
    if _ending.number is not None:
        raise SystemExit(128 + _ending.number)
