"""The plots of a calibration's page."""

from __future__ import annotations

import math

from edge_sdk.calibration import report_words as say
from edge_sdk.calibration.outcome import Candidate, GroupRow, Outcome
from edge_sdk.report import words
from edge_sdk.report.plane import Curve, Limit, Point, Series, matrix, plane
from edge_sdk.report.plots import Plot

_MOST_NAMES = 16  # groups of the heat map
_LABELLED = 5  # groups of the scatter with their names beside them
_FLOOR = 1e-4  # of the largest damage: what is smaller is drawn there


def front(outcome: Outcome) -> Plot | None:
    """All candidates with their intervals, the predicted front and the budgets; None without anything to draw."""
    simple: list[Point] = []
    hybrids: list[Point] = []
    picked: list[Point] = []
    for one in outcome.candidates:
        if one.latency is None or one.accuracy is None:
            continue
        point = Point(
            one.name, one.latency.ratio, one.accuracy.drop, say.interval(one.latency), say.interval(one.accuracy)
        )
        (picked if one.name == outcome.pick.name else hybrids if one.kind == "hybrid" else simple).append(point)
    curve = [(x, y) for x, y in outcome.front if math.isfinite(x) and math.isfinite(y)]
    if not (simple or hybrids or picked or curve):
        return None
    known = [*simple, *hybrids, *picked]
    names = frozenset(one.name for one in known)
    estimated = any(one.latency is not None and one.latency.method == "estimated" for one in outcome.candidates)
    kind = say.ESTIMATED if estimated else "measured"
    guessed = f" {say.ESTIMATED}" if say.predicted_by(outcome) == "estimated" else ""
    curves = [Curve(f"predicted front{guessed}", [x for x, _ in curve], [y for _, y in curve])] if curve else []
    # A predicted front without a point beside it would leave the axes as they are without anything.
    spread = [] if known else [Series("predicted points", [Point("predicted", x, y) for x, y in curve])]
    said = "; ".join(
        f"{one.name} {words.number(one.x)} at a drop of {words.number(one.y, 2)}" for one in known
    )  # fmt: skip
    return plane(
        [
            *spread, Series("simple answers", simple, names), Series("hybrids", hybrids, names),
            Series("the pick", picked, names, large=True),
        ],
        curves, _limits(outcome), x_title=f"latency ratio, {kind}",
        y_title=f"drop of {outcome.metric}",
        label=f"Drop of accuracy against latency of {words.count(len(known), 'candidate')}. {said}.",
        caption="Left and low is better; 1 is the time of the optimized float. The whiskers are 95 % intervals."
        + (" The dotted line is what the models predicted before anything was built." if curve else ""),
    )  # fmt: skip


def latencies(outcome: Outcome) -> Plot | None:
    """Predicted against measured latency ratios with the promised bands; None where there is none."""
    points = [
        Point(one.name, one.predicted_ratio, one.latency.ratio, None, say.interval(one.latency))
        for one in _built(outcome)
        if one.predicted_ratio is not None and one.latency is not None and one.latency.method != "estimated"
    ]
    if not points:
        return None
    low, high = _ends([value for one in points for value in (one.x, one.y, *(one.y_interval or ()))])
    ends = [low, high]
    curves = [Curve("as predicted", ends, ends, "solid")]
    for part, dash in ((say.MEDIAN_ERROR, "dash"), (say.WORST_ERROR, "dot")):
        # The error is of the prediction, in part of what was measured.
        for sign in (-1, 1):
            x = [one * (1 + sign * part) for one in ends]
            curves.append(Curve(f"{100 * part:.0f} % off", x, ends, dash))  # type: ignore[arg-type]
    said = "; ".join(f"{one.name} {words.number(one.x)}, {words.number(one.y)}" for one in points)
    return plane(
        [Series("candidates", points, frozenset(one.name for one in points))], curves,
        x_title="predicted latency ratio", y_title="measured latency ratio",
        label=f"Predicted against measured latency ratio. {said}.",
        caption="Latency. On the line the prediction was right; half of the candidates should lie within the dashed "
        "lines, all within the dotted ones.",
    )  # fmt: skip


def drops(outcome: Outcome) -> Plot | None:
    """Predicted against measured drops with their intervals; None where there is none."""
    points = [
        Point(one.name, one.predicted_drop, one.accuracy.drop, None, say.interval(one.accuracy))
        for one in _built(outcome)
        if one.predicted_drop is not None and one.accuracy is not None
    ]
    if not points:
        return None
    ends = list(_ends([value for one in points for value in (one.x, one.y, *(one.y_interval or ()))]))
    said = "; ".join(f"{one.name} {words.number(one.x, 2)}, {words.number(one.y, 2)}" for one in points)
    return plane(
        [Series("candidates", points, frozenset(one.name for one in points))],
        [Curve("as predicted", ends, ends, "solid")],
        x_title=f"predicted drop of {outcome.metric}", y_title=f"measured drop of {outcome.metric}",
        label=f"Predicted against measured drop of {outcome.metric}. {said}.",
        caption="Accuracy. Whiskers are 95 % intervals: one that crosses the line holds the prediction.",
    )  # fmt: skip


def sensitivity(outcome: Outcome) -> Plot | None:
    """Damage of each group against the time that the low precision saves; None where nothing was probed."""
    rows = [
        row for row in outcome.groups
        if row.alone is not None and row.gain_ms is not None and math.isfinite(row.alone) and math.isfinite(row.gain_ms)
    ]  # fmt: skip
    most = max((row.alone for row in rows if row.alone is not None), default=0.0)
    if most <= 0:
        return None
    low = say.low_name(outcome)
    floor = most * _FLOOR
    kinds: dict[str, list[Point]] = {f"{low} in the pick": [], "float in the pick": [], "pinned": []}
    for row in rows:
        name = "pinned" if row.pinned else f"{low} in the pick" if row.precision.upper() == low else "float in the pick"
        kinds[name].append(_spot(row, floor))
    worst = sorted(rows, key=lambda row: (-(row.alone or 0.0), row.group.name))[:_LABELLED]
    labelled = frozenset(row.group.name for row in worst)
    guessed = f", {say.ESTIMATED}" if say.predicted_by(outcome) == "estimated" else ""
    tiny = sum((row.alone or 0.0) < floor for row in rows)
    below = f" {words.count(tiny, 'group')} with less damage drawn at the foot." if tiny else ""
    return plane(
        [Series(name, points, labelled) for name, points in kinds.items()],
        limits=[Limit("no time saved", 0.0, "x")], log_y=True,
        x_title=f"ms that {low} saves{guessed}", y_title=f"damage alone in {low}",
        label=f"Damage of each of {words.count(len(rows), 'group')} alone in {low} against the time that it saves. "
        f"Most damage: {words.listed([say.short(row.group.name) for row in worst])}.",
        caption=f"Right and low: time for little damage. Left: {low} costs time there.{below}",
    )  # fmt: skip


def interactions(outcome: Outcome) -> Plot | None:
    """A heat map of the strongest pairs; None where there are fewer than two."""
    pairs = [one for one in outcome.pairs if math.isfinite(one[2]) and one[2] != 0 and one[0] != one[1]]
    strongest: list[str] = []
    for one, other, _ in pairs:
        more = [name for name in (one, other) if name not in strongest]
        if len(strongest) + len(more) <= _MOST_NAMES:
            strongest += more
    if len(pairs) < 2:
        return None
    order = {row.group.name: place for place, row in enumerate(outcome.groups)}
    names = sorted(strongest, key=lambda name: (order.get(name, len(order)), name))
    places = {name: place for place, name in enumerate(names)}
    cells: dict[tuple[int, int], float] = {}
    for one, other, value in pairs:
        if one in places and other in places:
            cells.setdefault((min(places[one], places[other]), max(places[one], places[other])), value)
    return matrix(
        names, [(row, column, value) for (row, column), value in sorted(cells.items())],
        above="more damage together than apart", below="less damage together than apart",
        label=f"Interactions of {words.count(len(names), 'group')}. The strongest: "
        + "; ".join(f"{say.short(a)} with {say.short(b)} {words.number(value, 2)}" for a, b, value in pairs[:3]) + ".",
        caption="The larger the mark, the more the damage of two groups together differs from the sum of both.",
    )  # fmt: skip


def _limits(outcome: Outcome) -> list[Limit]:
    """The budgets that have a place in the plane."""
    limits = []
    whole = next((one.latency.ms / one.latency.ratio for one in outcome.candidates if one.latency is not None), None)
    for name, value in outcome.budgets.items():
        if "drop" in name:
            limits.append(Limit(f"budget: drop {value:g}", value, "y"))
        elif "latency_ratio" in name:
            limits.append(Limit(f"budget: ratio {value:g}", value, "x"))
        elif "latency_ms" in name and whole:
            limits.append(Limit(f"budget: {value:g} ms", value / whole, "x"))
    return [one for one in limits if math.isfinite(one.value)]


def _built(outcome: Outcome) -> list[Candidate]:
    """Candidates whose prediction is one: that of the reference is its definition."""
    return [one for one in outcome.candidates if one.kind not in ("float", "high")]


def _spot(row: GroupRow, floor: float) -> Point:
    assert row.alone is not None and row.gain_ms is not None  # noqa: S101, PT018  the caller has left the others out
    return Point(row.group.name, row.gain_ms, max(row.alone, floor))


def _ends(values: list[float]) -> tuple[float, float]:
    finite = [one for one in values if math.isfinite(one)]
    low, high = min(finite), max(finite)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.01
    return low - margin, high + margin
