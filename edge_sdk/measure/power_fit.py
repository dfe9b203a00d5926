"""Measures what a fit of a board's own power to an external meter's is made of: both, at several loads."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from edge_sdk.backends.base import cores
from edge_sdk.errors import SensorError
from edge_sdk.measure.clock import Clock, SystemClock
from edge_sdk.measure.energy import Integral, integrate
from edge_sdk.measure.sampler import Sampler
from edge_sdk.sensors.base import Sensor

LEAST_SECONDS = 10.0
SETTLE_S = 5.0
_BLOCK = bytes(1 << 20)  # hashed again and again: OpenSSL lets other threads run meanwhile


@dataclass(frozen=True)
class Point:
    """Mean powers over the same stretch.

    Args:
        busy: Cores that were kept busy.
        board_w: What the board's own sensor says.
        meter_w: What the meter before it says.
    """

    busy: int
    board_w: float
    meter_w: float


def levels(count: int | None = None) -> tuple[int, ...]:
    """Numbers of busy cores from none to all: five at most."""
    count = cores() if count is None else count
    return tuple(dict.fromkeys(round(count * part / 4) for part in range(5)))


def measure_points(
    board: Sensor,
    meter: Sensor,
    *,
    seconds: float = 30.0,
    busy: Sequence[int] | None = None,
    settle_s: float = SETTLE_S,
    clock: Clock | None = None,
    told: Callable[[int, int], None] | None = None,
) -> tuple[Point, ...]:
    """Both powers at each load.

    Args:
        board: Open; gives the board's total.
        meter: Open; external.
        seconds: At each load, after it has settled.
        busy: How many cores are busy at each; None is from none to all.
        settle_s: Before each.
        clock: None is this machine's.
        told: Called before each load with its place, from 1, and how many there are.

    Raises:
        SensorError: One of the two gave too little at some load.
    """
    clock = SystemClock() if clock is None else clock
    loads = levels() if busy is None else tuple(busy)
    points = []
    with Sampler((board, meter), clock=clock) as sampler:
        for place, count in enumerate(loads, 1):
            if told is not None:
                told(place, len(loads))
            with keep_busy(count):
                clock.sleep(settle_s)
                start = clock.now_ns()
                clock.sleep(seconds)
                end = clock.now_ns()
            clock.sleep(2 * max(board.refresh_s, meter.refresh_s))  # so that both have a value after the end
            own, other = (integrate(trace, start, end) for trace in sampler.traces())
            points.append(Point(count, _mean_w(board, own), _mean_w(meter, other)))
    return tuple(points)


def _mean_w(sensor: Sensor, found: Integral) -> float:
    if found.mean_w is None:
        raise SensorError(f"{sensor.name}: {found.reason}")
    return found.mean_w


@contextmanager
def keep_busy(count: int) -> Iterator[None]:
    """Keeps this many cores busy while the block runs."""
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            hashlib.sha256(_BLOCK)

    threads = [threading.Thread(target=work, name="edge-sdk-load", daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
