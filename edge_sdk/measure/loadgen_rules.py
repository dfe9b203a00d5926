"""How MLPerf Inference LoadGen counts a single stream: its percentiles, its stop rule, its early stopping estimate.

The rules are read from the public sources of LoadGen (github.com/mlcommons/inference, folder loadgen: results.cc,
issue_query_controller.cc, early_stopping.cc, test_settings.h); `tools/compare_loadgen.py` holds them against the
library itself. Times may be of any unit: what goes in comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from edge_sdk.errors import UsageError

# min_duration_ms 10000 and min_query_count 100, the defaults of test_settings.h: a run goes on until both hold.
MIN_SECONDS = 10.0
MIN_QUERIES = 100

# What single-stream is judged by: its 90th percentile (single_stream_target_latency_percentile).
REPORTED = "p90"

# Those that LoadGen's summary lists.
PERCENTILES: Mapping[str, float] = MappingProxyType(
    {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p97": 0.97, "p99": 0.99, "p99.9": 0.999}
)

# Those that it estimates by early stopping: the single-stream figure, and the one that multi-stream is inferred from.
EARLY_STOPPING: Mapping[str, float] = MappingProxyType({"p90": 0.90, "p99": 0.99})
CONFIDENCE = 0.99

Number = TypeVar("Number", int, float)


def percentile(latencies: Sequence[Number], fraction: float) -> Number:
    """The observed latency at index floor(n * fraction) of the n sorted ones; nothing is interpolated.

    Args:
        latencies: In any order and unit.
        fraction: 0.9 is the 90th percentile.

    Raises:
        UsageError: There are no latencies, or `fraction` is not from 0 to below 1.
    """
    return _at(sorted(latencies), _checked(fraction))


def percentiles(latencies: Sequence[float]) -> dict[str, float]:
    """`PERCENTILES` with "min", "max" and "mean"; empty of no latencies."""
    if not len(latencies):
        return {}
    ordered = sorted(float(value) for value in latencies)
    figures = {name: _at(ordered, fraction) for name, fraction in PERCENTILES.items()}
    return {**figures, "min": ordered[0], "max": ordered[-1], "mean": math.fsum(ordered) / len(ordered)}


def enough(queries: int, last_issued_s: float, seconds: float = MIN_SECONDS, min_queries: int = MIN_QUERIES) -> bool:
    """Whether a single-stream run may end when its latest query is complete.

    Args:
        queries: That were issued.
        last_issued_s: When the latest was issued, after the first was. LoadGen counts the duration up to this moment,
            not up to its completion: the query that is under way when the time is up is not the last.
        seconds: The least duration.
        min_queries: The least number.
    """
    return queries >= min_queries and last_issued_s >= seconds


def early_stopping_percentile(
    latencies: Sequence[Number], fraction: float, *, confidence: float = CONFIDENCE
) -> Number | None:
    """A percentile that the run was long enough to vouch for: an upper bound, and what MLPerf reports since v2.0.

    Of n queries whose true percentile were the t-th highest latency or above, t or fewer would be above it with the
    probability P(X <= t), X binomial of n and 1 - `fraction`. The estimate is the t-th highest latency, for the largest
    t whose P is below 1 - `confidence`. LoadGen finds the same t by asking for each how many queries it wants (its
    tolerance is 0).

    Args:
        latencies: In any order and unit.
        fraction: 0.9 is the 90th percentile.
        confidence: That the true percentile is no higher.

    Returns:
        An observed latency; None of fewer queries than `early_stopping_queries`.

    Raises:
        UsageError: `fraction` or `confidence` is not between 0 and 1.
    """
    rank = early_stopping_rank(len(latencies), fraction, confidence=confidence)
    return None if rank is None else sorted(latencies)[len(latencies) - rank]


def early_stopping_rank(queries: int, fraction: float, *, confidence: float = CONFIDENCE) -> int | None:
    """Which latency of a run is its early stopping estimate: 1 the highest, 2 the next; None where there is none.

    Raises:
        UsageError: `fraction` or `confidence` is not between 0 and 1.
    """
    _checked_inside("fraction", fraction)
    allowed = 1 - _checked_inside("confidence", confidence)
    # P(X <= t), a term at a time; in logarithms, because 0.9 ** queries is below what a float holds.
    odds = math.log1p(-fraction) - math.log(fraction)
    logarithm = queries * math.log(fraction)
    total = math.exp(logarithm)
    rank = None
    for t in range(1, queries + 1):
        logarithm += math.log((queries - t + 1) / t) + odds
        total += math.exp(logarithm)
        if total >= allowed:
            break
        rank = t
    return rank


def early_stopping_queries(fraction: float, *, confidence: float = CONFIDENCE) -> int:
    """The least number of queries that has an early stopping estimate: 64 for the 90th percentile, 662 for the 99th.

    Raises:
        UsageError: `fraction` or `confidence` is not between 0 and 1.
    """
    _checked_inside("fraction", fraction)
    few = most = 1
    while early_stopping_rank(most, fraction, confidence=confidence) is None:
        few, most = most + 1, most * 2
    return _least(few, most, lambda count: early_stopping_rank(count, fraction, confidence=confidence) is not None)


def _least(low: int, high: int, holds: Callable[[int], bool]) -> int:
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _at(ordered: Sequence[Number], fraction: float) -> Number:
    if not ordered:
        raise UsageError("there are no latencies to take a percentile of")
    return ordered[int(len(ordered) * fraction)]


def _checked(fraction: float) -> float:
    if not 0 <= fraction < 1:
        raise UsageError(f"a percentile's fraction must be from 0 to below 1, not {fraction}")
    return fraction


def _checked_inside(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise UsageError(f"{name} must be between 0 and 1, not {value}")
    return value
