"""The accounting of a run: every captured frame is processed, dropped for a cause, or in flight."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.measure.running import PowerStats
from edge_sdk.result import State, Timing

# Percentiles are over the latest frames, so that a run of months needs no more memory than one of minutes.
WINDOW_FRAMES = 4096
_STAGES = tuple(field.name for field in fields(Timing))

DROP_CAUSES = ("overwritten", "stale", "decode_error", "inference_error", "shutdown")


@dataclass(frozen=True)
class SinkStats:
    """What became of the results that one sink was offered. The one that it has in hand is in none of the columns.

    Args:
        written: Taken by the sink.
        dropped: Pushed out of its full queue, or left in it at the end.
        failed: Refused by it with an error.
        waiting: In its queue.
        error: What it said last, if it failed.
    """

    written: int
    dropped: int
    failed: int
    waiting: int
    error: str | None = None


@dataclass(frozen=True)
class Stats:
    """A run in figures: captured = processed + sum of dropped + in_flight.

    Args:
        captured: Frames that came from the source, readable or not.
        processed: Those that gave a result.
        dropped: Those that gave none, by cause: "overwritten" (a newer one came before this one was taken), "stale" (a
            newer one came before this one's result was taken), "decode_error", "inference_error", "shutdown".
        in_flight: Those that are between capture and result.
        percentiles: p50, p90, p99 and max in milliseconds of each stage of `Timing`, over the latest 4096 results;
            ``total_ms`` is the age of a frame when its result is there.
        state: What the camera does.
        reconnects: How often it came back after it was lost.
        stalls: How often it gave no frame for too long.
        sinks: By name.
        energy: Of the runs so far; None where there is no power sensor.
    """

    captured: int
    processed: int
    dropped: Mapping[str, int]
    in_flight: int
    percentiles: Mapping[str, Mapping[str, float]]
    state: State = "starting"
    reconnects: int = 0
    stalls: int = 0
    sinks: Mapping[str, SinkStats] = field(default_factory=dict)
    energy: PowerStats | None = None

    def record(self) -> dict[str, Any]:
        """The figures as plain values, as ``--json`` prints them: every cause of drops is there, if only at 0.

        Milliseconds, watts, joules and seconds have three decimals.
        """
        record = asdict(self)
        return {
            **record,
            "energy": None if self.energy is None else _rounded(record["energy"]),
            "dropped": {**dict.fromkeys(DROP_CAUSES, 0), **self.dropped},
            "percentiles": {
                stage: {name: round(value, 3) for name, value in figures.items()}
                for stage, figures in self.percentiles.items()
            },
        }


class Books:
    """Counts frames; called from the capture thread and the loop. Its memory does not grow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captured = 0
        self._processed = 0
        self._dropped: Counter[str] = Counter()
        self._window = np.zeros((WINDOW_FRAMES, len(_STAGES)))  # the latest timings, written in turn

    def captured(self) -> None:
        """A frame came from the source, readable or not."""
        with self._lock:
            self._captured += 1

    def dropped(self, cause: str, count: int = 1) -> None:
        """Frames that will give no result: see `Stats`."""
        if count:
            with self._lock:
                self._dropped[cause] += count

    def processed(self, timing: Timing) -> None:
        """A frame gave its result."""
        with self._lock:
            self._window[self._processed % WINDOW_FRAMES] = [getattr(timing, stage) for stage in _STAGES]
            self._processed += 1

    def settle(self) -> None:
        """Nothing is in flight any more: a run that was cut off between two counts may have left a frame in neither."""
        self.dropped("shutdown", self.stats().in_flight)

    def stats(self) -> Stats:
        """The figures so far."""
        with self._lock:
            dropped = dict(self._dropped)
            captured, processed = self._captured, self._processed
            window = self._window[: min(processed, WINDOW_FRAMES)].copy()
        return Stats(
            captured=captured,
            processed=processed,
            dropped=dropped,
            in_flight=captured - processed - sum(dropped.values()),
            percentiles={stage: percentiles(window[:, column]) for column, stage in enumerate(_STAGES)},
        )


def _rounded(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: round(value, 3) if isinstance(value, float) else _rounded(value) if isinstance(value, Mapping) else value
        for key, value in record.items()
    }


def percentiles(values: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    """p50, p90, p99 and max; empty of no values."""
    if not len(values):
        return {}
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99), "max": float(np.max(values))}
