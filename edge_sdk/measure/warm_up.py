"""When a detector is warm: the rule by which its latency is called steady.

Engines allocate, choose kernels and fill caches in their first runs, and processors raise their clocks. How long that
takes differs by a factor of a thousand between machines, so it is watched rather than assumed.

The rule: detections are gathered into windows of at least `MIN_RUNS` detections and of at least half a second (a
twentieth of the timed run, where that is less). Latency is steady when a window's median is within 5 % of the median of
the one before. The warm-up's length is the number of detections, the very first included, before the first that is no
more than a quarter slower than that steady level and begins `MIN_RUNS` in a row whose median is within 5 % of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MIN_RUNS = 5
TOLERANCE = 0.05
SLOW = 1.25
WINDOW_S = 0.5
MAX_RUNS = 100_000  # in a window, whatever the clock says


@dataclass(frozen=True)
class WarmUp:
    """What warming up showed.

    Args:
        runs: How many detections it took until latency was steady, the very first included; None where it was not.
        seconds: How long they took together; None where it was not steady.
        spent_runs, spent_s: What the warm-up took in all, the judging included.
    """

    runs: int | None
    seconds: float | None
    spent_runs: int
    spent_s: float


def warm_up(
    detect: Callable[[], float],
    first_s: float,
    *,
    window_s: float = WINDOW_S,
    limit_s: float = 10.0,
    told: Callable[[float], None] | None = None,
) -> WarmUp:
    """Detects until latency is steady, or the limit is over.

    Args:
        detect: Does one detection and returns its seconds.
        first_s: What the very first one took, which is done already.
        window_s: Least length of a window.
        limit_s: When to give up. Two windows are filled at least, so that a slow model is judged as well.
        told: Called after each detection with the part of the limit that is over, 0..1.
    """
    times = [first_s]
    spent_s = 0.0
    before: float | None = None
    full = 0
    while full < 2 or spent_s < limit_s:
        window: list[float] = []
        full_at_s = spent_s + window_s
        while len(window) < MIN_RUNS or (spent_s < full_at_s and len(window) < MAX_RUNS):
            window.append(detect())
            spent_s += window[-1]
            if told is not None:
                told(min(1.0, spent_s / limit_s) if limit_s > 0 else 1.0)
        times += window
        full += 1
        level = statistics.median(window)
        if before is not None and _near(level, before):
            runs = length(times, level)
            return WarmUp(runs, sum(times[:runs]), len(times), first_s + spent_s)
        before = level
    return WarmUp(None, None, len(times), first_s + spent_s)


def length(times: Sequence[float], level: float) -> int:
    """How many of the `times` come before latency is at `level`, by the rule above.

    Where it never is, all but the last `MIN_RUNS`.
    """
    last = max(0, len(times) - MIN_RUNS)
    for start in range(last):
        if times[start] <= SLOW * level and _near(statistics.median(times[start : start + MIN_RUNS]), level):
            return start
    return last


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * other
