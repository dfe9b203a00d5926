"""How far a long run is: its stages, the time that each took, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from edge_sdk.errors import EdgeSdkError

# Shares of the wall time of a run, as seen with YOLOX-nano and PicoDet-S; only to tell the time left before a stage
# has begun.
SHARES: Mapping[str, float] = {
    "photos": 0.05,
    "model": 0.03,
    "ranges": 0.10,
    "methods": 0.06,
    "weights": 0.06,
    "latency": 0.15,
    "sensitivity": 0.30,
    "search": 0.05,
    "verification": 0.12,
    "once more": 0.06,
    "energy": 0.0,  # only where it is asked for; how long it takes is the sensor's affair
    "report": 0.02,
}


@dataclass(frozen=True)
class Step:
    """Where a run is.

    Args:
        stage: One of `SHARES`.
        what: What is being done, in words.
        done, total: Of it; total 0 where it cannot be counted.
        fraction: Of the whole run, 0..1.
        left_s: Until the end of the run, in seconds; None before it can be told.
    """

    stage: str
    what: str
    done: int
    total: int
    fraction: float
    left_s: float | None


Progress = Callable[[Step], None]


class Stages:
    """Tells where a run is, and when its time is over.

    Args:
        progress: Called at each step.
        budget_s: Seconds after which `over` is true; None for no limit.
    """

    def __init__(self, progress: Progress | None = None, budget_s: float | None = None) -> None:
        self._progress = progress
        self._began = time.monotonic()
        self._ends = None if budget_s is None else self._began + budget_s
        self._stage = next(iter(SHARES))
        self._before = 0.0  # share of the stages that are over
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, what: str = "") -> Iterator[Callable[[int, int], None]]:
        """A stage of the run; yields what tells how far it is: (done, total)."""
        self._stage = name
        self._before = sum(SHARES[one] for one in self.seconds)
        began = time.monotonic()
        self.tell(what or name, 0, 0)
        try:
            yield lambda done, total: self.tell(what or name, done, total)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def tell(self, what: str, done: int, total: int) -> None:
        """Tells what is being done in the stage that is on."""
        if self._progress is None:
            return
        part = done / total if total else 0.0
        fraction = min(1.0, self._before + SHARES[self._stage] * part)
        spent = time.monotonic() - self._began
        left = spent * (1 - fraction) / fraction if fraction > 0.02 else None
        self._progress(Step(self._stage, what, done, total, fraction, left))

    def over(self, share: float = 1.0) -> bool:
        """Whether the time budget, or that share of it, is spent.

        Args:
            share: 0..1, of the whole budget.
        """
        if self._ends is None:
            return False
        return time.monotonic() >= self._began + share * (self._ends - self._began)

    @property
    def limited(self) -> bool:
        """Whether there is a time budget."""
        return self._ends is not None


class TimeOverError(EdgeSdkError, TimeoutError):
    """The time budget was spent before there was anything to hand over."""
