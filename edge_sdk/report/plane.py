"""Points in a plane: candidates and their front, what was predicted against what was measured, pairs of names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edge_sdk.report import drawing, words
from edge_sdk.report.plots import Plot, Point

__all__ = ["Curve", "Limit", "Point", "Series", "matrix", "plane"]

_SYMBOLS = ("circle", "square-open", "diamond", "x", "triangle-up-open", "cross", "star-open")
_LARGEST = 26  # pixels of the largest mark of a matrix
_SMALLEST = 5
_TALLEST = 900  # pixels
# Where a label may stand, the best first: Plotly's name, and the way from the point, right and up.
_SIDES = (
    ("top right", 1, 1), ("bottom right", 1, -1), ("top left", -1, 1), ("bottom left", -1, -1), ("middle right", 1, 0),
    ("middle left", -1, 0), ("top center", 0, 1), ("bottom center", 0, -1),
)  # fmt: skip
_PLOT = (280.0, 260.0)  # pixels of a plot on a narrow screen
_LETTER = (6.6, 14.0)  # pixels of a letter of a label
_FAR = 1e4


@dataclass(frozen=True)
class Series:
    """Points that are alike, with a tone and a symbol of their own.

    Args:
        name: For the legend.
        points: Named; the name is shown under the pointer.
        labelled: Names of the points that are also written beside them.
        large: Drawn larger: what the eye should find first.
    """

    name: str
    points: Sequence[Point]
    labelled: frozenset[str] = frozenset()
    large: bool = False


@dataclass(frozen=True)
class Curve:
    """A line through the plane, named in the legend; two alike in name share an entry."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dash: Literal["solid", "dot", "dash"] = "dot"


@dataclass(frozen=True)
class Limit:
    """A line across the whole plane, with its name on it: a budget."""

    name: str
    value: float
    axis: Literal["x", "y"]


def plane(
    series: Sequence[Series],
    curves: Sequence[Curve] = (),
    limits: Sequence[Limit] = (),
    *,
    x_title: str,
    y_title: str,
    label: str,
    caption: str = "",
    log_y: bool = False,
) -> Plot:
    """Points of several kinds, lines between them and limits across.

    A point or bound that is no number is left out.

    Args:
        series: Kinds of points, the first drawn lowest.
        curves: Drawn below the points.
        limits: Widen the axes where they lie outside the points.
        x_title, y_title: With units.
        label, caption: See `Plot`.
        log_y: Whether y is logarithmic; points at 0 and below are then left out.
    """
    layout = drawing.base_layout(height=440)
    data: list[dict[str, Any]] = []
    named: set[str] = set()
    for curve in curves:
        data.append({
            "type": "scatter", "mode": "lines", "name": drawing.safe(curve.name), "x": drawing.short(curve.x, 6),
            "y": drawing.short(curve.y, 6), "line": {"color": "@soft", "width": 1.5, "dash": curve.dash},
            "showlegend": curve.name not in named, "legendgroup": drawing.safe(curve.name), "hoverinfo": "skip",
        })  # fmt: skip
        named.add(curve.name)
    shown = [[point for point in one.points if _drawn(point, log_y)] for one in series]
    xs = [value for points in shown for point in points for value in (point.x, *(point.x_interval or ()))]
    ys = [value for points in shown for point in points for value in (point.y, *(point.y_interval or ()))]
    xs += [limit.value for limit in limits if limit.axis == "x"]
    ys += [limit.value for limit in limits if limit.axis == "y"]
    for name, title, values, log in (("xaxis", x_title, xs, False), ("yaxis", y_title, ys, log_y)):
        layout[name] = {**drawing.axis(title), "range": _range(values, log)}
        if log:
            layout[name] |= {"type": "log", "dtick": 1}
    sides = _label_sides(series, shown, layout["xaxis"]["range"], layout["yaxis"]["range"], log_y)
    data += [
        _points(one, points, index, sides)
        for index, (one, points) in enumerate(zip(series, shown, strict=True))
        if points
    ]
    _draw_limits(layout, limits)
    layout["showlegend"] = True
    return Plot(label, {"data": data, "layout": layout, "narrow": drawing.narrow(layout)}, caption, 440)


def matrix(
    names: Sequence[str],
    cells: Sequence[tuple[int, int, float]],
    *,
    above: str,
    below: str,
    label: str,
    caption: str = "",
    digits: int = 2,
) -> Plot:
    """A heat map of pairs: a mark for each, its area by its size, its symbol and tone by its sign.

    Args:
        names: Of rows and columns alike.
        cells: (row, column, value), each pair once; drawn below the diagonal.
        above, below: What a positive and a negative value mean, for the legend.
        label, caption: See `Plot`.
        digits: Significant digits of a value under the pointer.
    """
    most = max((abs(value) for _, _, value in cells), default=0.0) or 1.0
    data = []
    for name, tone, symbol, chosen in (
        (above, "@2", "square", [one for one in cells if one[2] > 0]),
        (below, "@1", "circle-open", [one for one in cells if one[2] < 0]),
    ):
        if not chosen:
            continue
        data.append({
            "type": "scatter", "mode": "markers", "name": drawing.safe(name),
            "x": [min(row, column) for row, column, _ in chosen], "y": [max(row, column) for row, column, _ in chosen],
            "marker": {
                "color": tone, "symbol": symbol, "opacity": 1, "line": {"color": tone, "width": 2},
                "size": [
                    round(_SMALLEST + (_LARGEST - _SMALLEST) * math.sqrt(abs(value) / most), 1)
                    for _, _, value in chosen
                ],
            },
            "text": [
                f"{drawing.safe(names[row])}<br>{drawing.safe(names[column])}<br>{words.number(value, digits)}"
                for row, column, value in chosen
            ],
            "hovertemplate": "%{text}<extra></extra>",
        })  # fmt: skip
    layout = drawing.base_layout()
    places = list(range(len(names)))
    shown = [drawing.safe(words.shortened(words.plain(name), 26)) for name in names]
    ends = [-0.6, len(names) - 0.4]
    layout["xaxis"] = {**drawing.axis(""), "tickvals": places, "ticktext": shown, "tickangle": -60, "range": ends}
    layout["yaxis"] = {**drawing.axis(""), "tickvals": places, "ticktext": shown, "range": ends[::-1]}
    layout["showlegend"] = True
    height = min(_TALLEST, 240 + 30 * len(names))
    layout["height"] = height
    # A narrow screen has no room for names on both sides: those below are numbers of the rows.
    numbers = [str(place + 1) for place in places]
    few = [f"{place + 1} {drawing.safe(words.shortened(words.plain(name), 16))}" for place, name in enumerate(names)]
    narrow = {
        **drawing.narrow(layout),
        "xaxis": {"ticktext": numbers, "tickangle": 0, "tickfont": {"size": 9, "color": "@soft"}},
        "yaxis": {"ticktext": few, "tickfont": {"size": 10, "color": "@soft"}},
    }  # fmt: skip
    return Plot(label, {"data": data, "layout": layout, "narrow": narrow}, caption, height)


def _points(series: Series, points: Sequence[Point], index: int, sides: Mapping[Point, str]) -> dict[str, Any]:
    tone = drawing.colour(index)
    labels = any(point.name in series.labelled for point in points)
    return {
        "type": "scatter", "mode": "markers+text" if labels else "markers", "name": drawing.safe(series.name),
        "x": drawing.short([one.x for one in points], 6), "y": drawing.short([one.y for one in points], 6),
        "text": [drawing.safe(one.name) if one.name in series.labelled else "" for one in points],
        "textposition": [sides.get(one, _SIDES[0][0]) for one in points],
        "textfont": {"color": "@ink", "size": 12}, "cliponaxis": False,
        "customdata": [drawing.safe(one.name) for one in points],
        "hovertemplate": "%{customdata}<br>%{x}, %{y}<extra></extra>",
        "marker": {
            "color": tone, "symbol": _SYMBOLS[index % len(_SYMBOLS)], "size": 15 if series.large else 9,
            "line": {"color": tone, "width": 2},
        },
        "error_x": drawing.whiskers([one.x for one in points], [one.x_interval for one in points], tone),
        "error_y": drawing.whiskers([one.y for one in points], [one.y_interval for one in points], tone),
    }  # fmt: skip


def _drawn(point: Point, log_y: bool) -> bool:
    return math.isfinite(point.x) and math.isfinite(point.y) and (point.y > 0 or not log_y)


def _range(values: Sequence[float], log: bool) -> list[float]:
    """An axis with room for marks and labels at both ends; of a logarithmic one the exponents."""
    if log:
        low, high = (math.log10(one) for one in (min(values, default=0.1), max(values, default=1.0)))
        if high - low < 1:  # a decade at least, or there is no tick
            low, high = (low + high - 1) / 2, (low + high + 1) / 2
    else:
        low, high = min(values, default=0.0), max(values, default=1.0)
    width = (high - low) or abs(high) * 0.1 or 1.0
    return [low - 0.07 * width, high + 0.12 * width]


def _label_sides(
    series: Sequence[Series],
    shown: Sequence[Sequence[Point]],
    x_ends: Sequence[float],
    y_ends: Sequence[float],
    log: bool,
) -> dict[Point, str]:
    """Where each label stands: where it covers least of the points, of labels before it and of what is outside.

    Those of large points choose first.

    Places are those on a narrow plot: what does not collide there does not on a wider one.
    """

    def spot(point: Point) -> tuple[float, float]:
        y = math.log10(point.y) if log else point.y
        return (
            (point.x - x_ends[0]) / (x_ends[1] - x_ends[0]) * _PLOT[0],
            (y - y_ends[0]) / (y_ends[1] - y_ends[0]) * _PLOT[1],
        )

    taken: list[tuple[float, ...]] = []
    for point in (point for points in shown for point in points):
        x, y = spot(point)
        taken.append((x - 6, y - 6, x + 6, y + 6))
        for low, high, across in ((*(point.x_interval or (0, 0)), True), (*(point.y_interval or (0, 0)), False)):
            if low < high and not log:
                ends = [spot(Point("", one, point.y) if across else Point("", point.x, one)) for one in (low, high)]
                taken.append((ends[0][0] - 1, ends[0][1] - 1, ends[1][0] + 1, ends[1][1] + 1))
    outside = [
        (-_FAR, -_FAR, 0.0, _FAR), (_PLOT[0], -_FAR, _FAR, _FAR),
        (-_FAR, -_FAR, _FAR, 0.0), (-_FAR, _PLOT[1], _FAR, _FAR),
    ]  # fmt: skip
    found: dict[Point, str] = {}
    for one, points in sorted(zip(series, shown, strict=True), key=lambda pair: not pair[0].large):
        for point in points:
            if point.name not in one.labelled:
                continue
            x, y = spot(point)
            width = _LETTER[0] * len(words.shortened(words.plain(point.name), 42))
            best = None
            for rank, (side, right, up) in enumerate(_SIDES):
                left = x + 8 if right > 0 else x - 8 - width if right < 0 else x - width / 2
                foot = y + 7 if up > 0 else y - 7 - _LETTER[1] if up < 0 else y - _LETTER[1] / 2
                box = (left, foot, left + width, foot + _LETTER[1])
                covered = sum(_overlap(box, other) for other in (*taken, *outside))
                if best is None or (covered, rank) < best[:2]:
                    best = (covered, rank, side, box)
            if best is not None:
                found[point] = best[2]
                taken.append(best[3])
    return found


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, high)


def _draw_limits(layout: dict[str, Any], limits: Sequence[Limit]) -> None:
    shapes, notes = [], []
    for limit in limits:
        across = limit.axis == "y"
        ends = {"x0": 0, "x1": 1, "y0": limit.value, "y1": limit.value} if across else {
            "x0": limit.value, "x1": limit.value, "y0": 0, "y1": 1}  # fmt: skip
        references = {"xref": "paper", "yref": "y"} if across else {"xref": "x", "yref": "paper"}
        shapes.append({
            "type": "line", **references, **ends, "line": {"color": "@ink", "width": 1.4, "dash": "longdash"},
            "layer": "below",
        })  # fmt: skip
        notes.append({
            **references, "x": 1 if across else limit.value, "y": limit.value if across else 1,
            "xanchor": "right" if across else "left", "yanchor": "bottom" if across else "top",
            "xshift": 0 if across else 4, "showarrow": False, "text": drawing.safe(limit.name),
            "font": {"size": 12, "color": "@soft"}, "bgcolor": "@ground", "opacity": 0.9,
        })  # fmt: skip
    layout["shapes"] = shapes
    layout["annotations"] = notes
