"""What the planner found, in words: for the page and the terminal alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_sdk.calibration.outcome import Candidate, Drop, GroupRow, Outcome, Timed
from edge_sdk.measure.record import Figure
from edge_sdk.report import words

ESTIMATED = "ESTIMATED"
"""Beside every latency that was not measured on the machine in question."""

MEDIAN_ERROR, WORST_ERROR = 0.05, 0.10
"""Errors of a predicted latency ratio that the planner promises: in the median, and at worst."""

_LITTLE_DROP = 2e-4  # of mAP: less is no difference to rank a swap by
_LITTLE_RATIO = 1e-3  # of latency, likewise
_SWAPS = 6
_FAIR_R2, _GOOD_R2 = 0.5, 0.8
_NAME = 60
_DECIMALS = 4  # of a ratio or an accuracy: more is noise


@dataclass(frozen=True)
class Agreement:
    """How far predictions were from what was measured.

    Args:
        ratios: Relative error of each candidate's latency ratio, 0.03 for 3 %; empty where none has both.
        inside: Candidates whose predicted drop lies within the measured interval.
        drops: Candidates that have both.
    """

    ratios: tuple[float, ...]
    inside: int
    drops: int

    @property
    def kept(self) -> bool:
        """Whether the latency is within the promise, and each drop within its interval."""
        return self.inside == self.drops and (
            not self.ratios or (statistics.median(self.ratios) <= MEDIAN_ERROR and max(self.ratios) <= WORST_ERROR)
        )


def low_name(outcome: Outcome) -> str:
    """The cheap precision: "INT8"."""
    return next((row.group.precisions[0] for row in outcome.groups if len(row.group.precisions) > 1), "int8").upper()


def in_low(outcome: Outcome) -> int:
    """How many groups the pick runs in the cheap precision."""
    return sum(outcome.picked.mask or ())


def estimated(timed: Timed) -> str:
    """ " ESTIMATED" where it is."""
    return f" {ESTIMATED}" if timed.method == "estimated" else ""


def predicted_by(outcome: Outcome) -> str:
    """The cost model's method: "measured", "recorded", "estimated" or "unknown"."""
    return str(outcome.cost.get("method", "unknown"))


def ratio(timed: Timed) -> str:
    """ "0.912 (0.901 to 0.924)", and whether it is estimated."""
    return f"{_figure(timed.ratio, timed.low, timed.high)}{estimated(timed)}"


def drop(accuracy: Drop) -> str:
    """ "0.0014 (-0.0041 to 0.0069)"; without an interval where it has none."""
    if interval(accuracy) is None or accuracy.low == accuracy.high:
        return amount(accuracy.drop)
    return _figure(accuracy.drop, accuracy.low, accuracy.high)


def score(accuracy: Drop) -> str:
    """ "0.2975"."""
    return words.number(accuracy.map, 4)


def interval(one: Timed | Drop) -> tuple[float, float] | None:
    """Its interval; None where it has none."""
    return (one.low, one.high) if math.isfinite(one.low) and math.isfinite(one.high) else None


def headline(outcome: Outcome) -> str:
    """The answer in a sentence, with its figures and their intervals."""
    one = outcome.picked
    low = low_name(outcome)
    what = {
        "float": "The file as it was given",
        "high": f"The optimized float, with {low} in no group",
    }.get(one.kind, f"{low} in {in_low(outcome)} of {words.count(len(outcome.groups), 'group')}")
    parts = ["not timed" if one.latency is None else _time_line(one.latency, one)]
    parts.append("not scored" if one.accuracy is None else _accuracy_line(outcome, one.accuracy))
    return f"{what}: {', '.join(parts)}."


def score_basis(outcome: Outcome) -> str:
    """What accuracy is held against."""
    against = {"teacher": "the float model's own detections", "labels": "the labels"}
    return against.get(str(outcome.photos.get("labels")), "labels, or the float model's own detections")


def agreement(outcome: Outcome) -> Agreement:
    """Predictions against what was measured, over the candidates that have both but for the references."""
    judged = [one for one in outcome.candidates if one.kind not in ("float", "high")]
    ratios = tuple(
        abs(one.predicted_ratio / one.latency.ratio - 1)
        for one in judged
        if one.predicted_ratio is not None and one.latency is not None and one.latency.method != "estimated"
    )
    drops = [
        (one.predicted_drop, one.accuracy.low, one.accuracy.high)
        for one in judged
        if one.predicted_drop is not None and one.accuracy is not None and interval(one.accuracy) is not None
    ]
    return Agreement(ratios, sum(low <= value <= high for value, low, high in drops), len(drops))


def agreement_lines(outcome: Outcome) -> list[str]:
    """The same in sentences; empty where there is nothing to compare."""
    found = agreement(outcome)
    lines = []
    if found.ratios:
        middle, most = 100 * statistics.median(found.ratios), 100 * max(found.ratios)
        lines.append(
            f"Latency of {words.count(len(found.ratios), 'candidate')}: the predicted ratio is off by {middle:.1f} % "
            f"in the median and {most:.1f} % at worst; {100 * MEDIAN_ERROR:.0f} % and {100 * WORST_ERROR:.0f} % are "
            "promised."
        )
    if found.drops:
        lines.append(
            f"Accuracy: the predicted drop lies within the measured interval in {found.inside} of {found.drops}."
        )
    return lines


def r2_line(outcome: Outcome) -> str:
    """What the damage model's R2 says, for people."""
    if outcome.r2 is None or not math.isfinite(outcome.r2):
        return "No damage model was fitted: combinations of groups were not predicted but measured, or not tried."
    shown = f"R2 {outcome.r2:.2f}, cross-validated over {words.count(outcome.probes, 'probed mask')}: "
    if outcome.r2 >= _GOOD_R2:
        return f"{shown}damage of combinations that the model had not seen is predicted well."
    if outcome.r2 >= _FAIR_R2:
        return f"{shown}predictions of unseen combinations show the direction; trust what was measured over them."
    return (
        f"{shown}predictions of unseen combinations are hardly better than their mean. The front is then a list of "
        "guesses, and only candidates that were built and scored count; more search photos or probes may mend it."
    )


def next_swaps(outcome: Outcome) -> tuple[list[GroupRow], list[GroupRow]]:
    """Groups that would be turned over next: (most time for least accuracy, most accuracy for least time).

    Ranked by gain over loss; a loss below what a prediction can tell counts as that much.
    """
    faster, better = [], []
    for row in outcome.groups:
        if row.swap is None or not all(map(math.isfinite, row.swap)):
            continue
        time, accuracy = row.swap
        if time < 0:
            faster.append((time / max(accuracy, _LITTLE_DROP), row.group.name, row))
        if accuracy < 0:
            better.append((accuracy / max(time, _LITTLE_RATIO), row.group.name, row))
    return [row for *_, row in sorted(faster)[:_SWAPS]], [row for *_, row in sorted(better)[:_SWAPS]]


def swap_line(row: GroupRow, outcome: Outcome) -> str:
    """ "dark2.8/conv to INT8: latency ratio -0.0061, drop +0.0004"."""
    return f"{short(row.group.name)} to {other(row)}: {swap_text(row, outcome)}"


def swap_text(row: GroupRow, outcome: Outcome) -> str:
    """ "latency ratio -0.0061, drop +0.0004", and whether the first is estimated."""
    assert row.swap is not None  # noqa: S101  who asks has seen it
    mark = f" {ESTIMATED}" if predicted_by(outcome) == "estimated" else ""
    return f"latency ratio {signed(row.swap[0])}{mark}, drop {signed(row.swap[1])}"


def other(row: GroupRow) -> str:
    """The precision that a group would be swapped to."""
    return next((one for one in row.group.precisions if one != row.precision), row.precision).upper()


def amount(value: float | None) -> str:
    """A difference: "0.0041", "-0.0120"; what is below a half of 0.0001 is "0"."""
    if value is None or not math.isfinite(value):
        return words.NONE
    if abs(value) >= 1:
        return words.number(value, 4)
    return f"{value:.{_DECIMALS}f}" if round(value, _DECIMALS) else "0"


def signed(value: float) -> str:
    """The same with its sign: "+0.0041"."""
    shown = amount(value)
    return f"+{shown}" if round(value, _DECIMALS) > 0 else shown


def short(name: str) -> str:
    """A name that fits a line."""
    return words.shortened(words.plain(name), _NAME)


def warnings(outcome: Outcome) -> list[str]:
    """What stands against the answer, or makes it less sure."""
    lines = []
    if predicted_by(outcome) == "estimated" or any(
        one.latency is not None and one.latency.method == "estimated" for one in outcome.candidates
    ):
        lines.append(f"latencies marked {ESTIMATED} come from a table or a model of the machine: nothing ran on it")
    if outcome.picked.misplaced:
        many = words.count(len(outcome.picked.misplaced), "layer")
        lines.append(f"{many} of the pick {'does' if len(outcome.picked.misplaced) == 1 else 'do'} not run as planned")
    found = outcome.photos.get("warnings")
    lines += [one for one in found if isinstance(one, str)] if isinstance(found, Sequence) else []
    return lines


def budgets(outcome: Outcome) -> Mapping[str, str]:
    """What was asked for: "max map drop" -> "0.005"."""
    return {words.key(name): f"{value:g}" for name, value in outcome.budgets.items()}


def _time_line(timed: Timed, one: Candidate) -> str:
    if one.kind == "high":
        return f"{words.number(timed.ms)} ms{estimated(timed)}"
    value, _, ends = _figure(timed.ratio, timed.low, timed.high).partition(" ")
    noted = ", ".join(filter(None, (ends.strip("()"), estimated(timed).strip())))
    return f"{value} of the optimized float's time{noted and f' ({noted})'}"


def _accuracy_line(outcome: Outcome, accuracy: Drop) -> str:
    photos = words.count(accuracy.photos, "photo")
    before = words.number(accuracy.map + accuracy.drop, 4)
    return f"{outcome.metric} {score(accuracy)} against {before}, drop {drop(accuracy)} on {photos}"


def _figure(value: float, low: float, high: float) -> str:
    if not (math.isfinite(low) and math.isfinite(high)) or low == high:
        return words.number(round(value, _DECIMALS))
    shown = words.figure(Figure(*(round(one, _DECIMALS) for one in (value, low, high))))
    # A value of 0 would be printed without decimals, and its interval too.
    return shown if round(value, _DECIMALS) else f"0 ({amount(low)} to {amount(high)})"
