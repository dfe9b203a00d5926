"""Which candidate is handed over, and why, in a reader's words.

Within a latency the one whose drop is surely smallest, within a drop the fastest. A simple answer that is as good and
as fast is taken instead, and none that is both faster and more accurate is ever passed over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_sdk.calibration.expected import Curve, Expected, expected, fit_curve, standard_error
from edge_sdk.calibration.outcome import Candidate, Drop, Pick, Timed
from edge_sdk.errors import UsageError

DEFAULT_DROP = 0.005

_SIMPLE = ("float", "high", "low", "head")  # the simplest first


@dataclass(frozen=True)
class _Row:
    """A candidate with all that decides."""

    one: Candidate
    timed: Timed
    drop: Drop
    expected: Expected

    @property
    def simplicity(self) -> int:
        return _SIMPLE.index(self.one.kind) if self.one.kind in _SIMPLE else len(_SIMPLE)


@dataclass(frozen=True)
class _Budgets:
    """What was asked for; None is no budget."""

    drop: float | None
    ms: float | None
    ratio: float | None
    size: float | None
    energy: float | None

    def excess(self, row: _Row) -> float:
        """By how much a candidate is over, as a share, the worst of all; 0 or less where it meets them."""
        found = [0.0]
        if self.drop is not None:
            # Within by what is expected, and not by more over as measured than the photos' own noise explains.
            over = max(row.expected.drop, row.drop.drop - standard_error(row.drop)) - self.drop
            found.append(over / max(self.drop, DEFAULT_DROP))
        pairs = [
            (row.timed.ms, self.ms),
            (row.timed.ratio, self.ratio),
            (row.one.size_bytes, self.size),
            (math.inf if row.one.energy_mj is None else row.one.energy_mj, self.energy),
        ]
        found += [value / limit - 1 for value, limit in pairs if limit is not None]
        return max(found)

    @property
    def words(self) -> str:
        parts = []
        if self.drop is not None:
            parts.append(f"a drop of at most {self.drop:.4g} mAP")
        if self.ms is not None:
            parts.append(f"at most {self.ms:.4g} ms")
        if self.ratio is not None:
            parts.append(f"at most {self.ratio:.4g} of the optimized float's time")
        if self.size is not None:
            parts.append(f"at most {self.size / 2**20:.4g} MiB")
        if self.energy is not None:
            parts.append(f"at most {self.energy:.4g} mJ")
        return " and ".join(parts)


def pick(
    candidates: Sequence[Candidate],
    *,
    max_map_drop: float | None = None,
    max_latency_ms: float | None = None,
    max_latency_ratio: float | None = None,
    max_size_bytes: float | None = None,
    max_energy_mj: float | None = None,
    metric: str = "mAP",
) -> Pick:
    """Chooses among candidates that were timed and evaluated.

    A candidate's drop is judged by `edge_sdk.calibration.expected`: few photos' own drop is mostly noise.

    Args:
        candidates: Those without latency or accuracy are left out.
        max_map_drop: Against the float model; 0.005 where no budget is given at all.
        max_latency_ms, max_latency_ratio: The ratio is to the optimized float.
        max_size_bytes: Of the file.
        max_energy_mj: Of an inference; a candidate without a reading is not within it.
        metric: What accuracy is in; with another than mAP the damage has no say.

    Raises:
        UsageError: No candidate was both timed and evaluated.
    """
    drop = max_map_drop
    note: tuple[str, ...] = ()
    limits = (max_latency_ms, max_latency_ratio, max_size_bytes, max_energy_mj)
    if drop is None and all(limit is None for limit in limits):
        drop, note = DEFAULT_DROP, (f"No budget was given: a drop of at most {DEFAULT_DROP} {metric} is allowed.",)
    budgets = _Budgets(drop, *limits)
    rows, curve = _rows(candidates, metric)
    within = [row for row in rows if budgets.excess(row) <= 0]
    if not within:
        row = min(rows, key=lambda row: (budgets.excess(row), row.simplicity, row.one.name))
        words = [f"No candidate has {budgets.words}; {row.one.name} is the nearest."]
        return Pick(row.one.name, (*words, _figures(row, metric), *note, *_remarks(rows, row, curve)), met=False)
    if drop is not None and all(limit is None for limit in (max_latency_ms, max_latency_ratio)):
        best = min(within, key=lambda row: (row.timed.ratio, row.expected.high, row.simplicity, row.one.name))
        why = f"{best.one.name} is the fastest with {budgets.words}."
    else:
        best = min(within, key=lambda row: (row.expected.high, row.timed.ratio, row.simplicity, row.one.name))
        why = f"{best.one.name} is the most accurate with {budgets.words}, judged by the worst that is likely."
    chosen = _guarded(best, within)
    if chosen is not best:
        why = (
            f"{chosen.one.name} is the answer: {best.one.name} is not better, with {_time(best.timed)} and "
            f"{_drop(best, metric)}."
        )
    return Pick(chosen.one.name, (why, _figures(chosen, metric), *note, *_remarks(rows, chosen, curve)), met=True)


def _rows(candidates: Sequence[Candidate], metric: str) -> tuple[list[_Row], Curve | None]:
    known = [one for one in candidates if one.latency is not None and one.accuracy is not None]
    if not known:
        raise UsageError("no candidate was both timed and evaluated")
    curve = None
    if metric == "mAP":
        curve = fit_curve([one.accuracy for one in known if one.accuracy is not None])
    rows = []
    for one in known:
        guess = expected(one, curve)
        if one.latency is not None and one.accuracy is not None and guess is not None:
            rows.append(_Row(one, one.latency, one.accuracy, guess))
    return rows, curve


def _guarded(best: _Row, within: Sequence[_Row]) -> _Row:
    """The simplest answer that is as good and as fast; then none that another beats: a simple one outright, or any one
    that is surely faster."""
    simple = sorted((row for row in within if row.simplicity < best.simplicity), key=lambda row: row.simplicity)
    chosen = next((row for row in simple if _as_fast(row, best) and _as_good(row, best)), best)
    while True:
        better = [
            row
            for row in within
            if _beats(row, chosen) and (row.simplicity < len(_SIMPLE) or row.timed.high < chosen.timed.low)
        ]
        if not better:
            return chosen
        chosen = min(better, key=lambda row: (row.timed.ratio, row.expected.drop, row.simplicity, row.one.name))


def _as_fast(row: _Row, other: _Row) -> bool:
    return row.timed.ratio <= other.timed.high


def _as_good(row: _Row, other: _Row) -> bool:
    return row.expected.drop <= other.expected.drop + other.expected.sd


def _beats(row: _Row, other: _Row) -> bool:
    """Faster and more accurate, by what is expected, or as measured beyond both intervals."""
    if row.timed.ratio > other.timed.ratio:
        return False
    if row.drop.high < other.drop.low:
        return True
    no_worse = row.expected.drop <= other.expected.drop and row.drop.drop <= other.drop.drop
    strictly = row.timed.ratio < other.timed.ratio or row.expected.drop < other.expected.drop
    return no_worse and strictly and not other.drop.high < row.drop.low


# --- words --------------------------------------------------------------------------------------------


def _figures(row: _Row, metric: str) -> str:
    energy = "" if row.one.energy_mj is None else f" and draws {row.one.energy_mj:.4g} mJ"
    return f"{row.one.name} takes {_time(row.timed)}{energy}, and has {_drop(row, metric)}."


def _time(timed: Timed) -> str:
    words = f"{timed.ratio:.3f} of the optimized float's time ({timed.low:.3f} to {timed.high:.3f})"
    return words + (", estimated" if timed.method == "estimated" else "")


def _drop(row: _Row, metric: str) -> str:
    if row.one.kind == "float":
        return "no drop, as it is what the others are compared with"
    found = row.drop
    words = f"a measured drop of {found.drop:.4f} {metric} ({found.low:.4f} to {found.high:.4f})"
    if abs(row.expected.drop - found.drop) >= 5e-5:
        words += f"; {row.expected.drop:.4f} is to be expected on other photos"
    return words


def _remarks(rows: Sequence[_Row], chosen: _Row, curve: Curve | None) -> tuple[str, ...]:
    words = []
    high = next((row for row in rows if row.one.kind == "high"), None)
    low = next((row for row in rows if row.one.kind == "low"), None)
    if low is not None and low.timed.low > 1:
        words.append(
            f"The low precision is slower than float here: with every layer in it, the model takes {_time(low.timed)}."
        )
    elif high is not None and chosen is high:
        words.append("No layer in the low precision is worth it here.")
    if chosen.one.kind == "hybrid" and chosen.timed.low <= 1 <= chosen.timed.high:
        words.append(f"{chosen.one.name} is not measurably faster than the optimized float.")
    noise = 1.96 * standard_error(chosen.drop)
    if chosen.one.kind != "float" and noise > DEFAULT_DROP / 2:
        words.append(
            f"{chosen.drop.photos} photos alone tell no drop below about {noise:.3f} from none"
            + ("; what is expected leans on how far the detections move." if curve is not None else ".")
        )
    return tuple(words)


def with_expected(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The same candidates, each with the drop by its damage as `predicted_drop` where it has none yet."""
    curve = fit_curve([one.accuracy for one in candidates if one.accuracy is not None])
    return tuple(
        one
        if one.accuracy is None or one.predicted_drop is not None or one.kind == "float"
        else replace(one, predicted_drop=curve.drop(one.accuracy.damage))
        for one in candidates
    )
