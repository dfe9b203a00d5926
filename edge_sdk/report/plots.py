"""Plots as Plotly figures, in plain values: the page gives them to Plotly's script, which draws them in the browser.

No line, bar or point differs from another by its colour alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.report import drawing, words
from edge_sdk.report.decimate import decimate
from edge_sdk.report.drawing import Band, Line, Mark, Panel

__all__ = [
    "Band", "Bar", "Line", "Mark", "Panel", "Plot", "Point",
    "bars", "cdf", "histogram", "over_time", "scatter", "shares",
]  # fmt: skip

_MOST_LABELLED = 14  # points of a scatter that are labelled
_CDF_POINTS = 600


@dataclass(frozen=True)
class Plot:
    """A figure to be drawn.

    Args:
        label: What it shows, for those who do not see it.
        figure: ``data`` and ``layout`` as Plotly takes them, colours as tones; ``narrow``: what is otherwise in its
            layout on a narrow screen.
        caption: Below it.
        height: In CSS pixels.
    """

    label: str
    figure: Mapping[str, Any]
    caption: str = ""
    height: int = 340


@dataclass(frozen=True)
class Bar:
    """A bar's length and its interval; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Point:
    """A point of a scatter, with intervals where they are known."""

    name: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None


def over_time(panels: Sequence[Panel], bands: Sequence[Band], *, end: float, label: str, caption: str = "") -> Plot:
    """Lines over time, one panel above the other, with stretches shaded and named.

    Long lines are drawn by the lowest and the highest value of each of about a thousand stretches, and the caption says
    so.

    Args:
        panels: From the top down; they share the time axis and so a zoom.
        bands: In all panels.
        end: Of the time axis, in seconds; it begins at 0, or at the first point before it.
        label, caption: See `Plot`.
    """
    heights = [250 if len(panels) == 1 else 150] * len(panels)
    layout = drawing.base_layout(hovermode="x unified")
    gap = 0.09 if len(panels) > 1 else 0.0
    share = (1 - gap * (len(panels) - 1)) / max(1, len(panels))
    data: list[dict[str, Any]] = []
    several = len(panels) > 1
    coarsest: tuple[float, int] | None = None
    start = min((line.x[0] for panel in panels for line in panel.lines if len(line.x)), default=0.0)
    for place, panel in enumerate(panels):
        suffix = "" if place == 0 else str(place + 1)
        top = 1 - place * (share + gap)
        layout[f"yaxis{suffix}"] = {
            **drawing.axis(panel.unit), "domain": [max(0.0, top - share), top], "anchor": "x",
            "range": drawing.span(panel, headroom=place == 0 and bool(bands)),
        }  # fmt: skip
        for index, line in enumerate(panel.lines):
            drawn = decimate(line.x, line.y)
            if drawn.every is not None and (coarsest is None or drawn.every > coarsest[0]):
                coarsest = drawn.every, drawn.points
            data.append({
                "type": "scatter", "mode": "lines" if len(drawn.x) > 1 else "markers",
                "name": drawing.safe(f"{line.name}, {panel.unit}" if several else line.name),
                "x": drawing.short(drawn.x, 7), "y": drawing.short(drawn.y, 5), "yaxis": f"y{suffix}", "xaxis": "x",
                "line": {
                    "color": drawing.colour(index), "dash": drawing.dash(index, line.main),
                    "width": 2.4 if line.main else 1.3,
                },
                "hovertemplate": f"%{{y}} {drawing.safe(panel.unit)}",
            })  # fmt: skip
    last = "" if len(panels) < 2 else str(len(panels))
    layout["xaxis"] = {
        **drawing.axis("seconds since the beginning of the run"), "anchor": f"y{last}", "range": [min(0.0, start), end],
        "unifiedhovertitle": {"text": "at %{x} s"}, "showgrid": False,
    }  # fmt: skip
    layout["shapes"] = drawing.shaded(bands)
    layout["showlegend"] = True
    if coarsest is not None:
        every = words.number(coarsest[0], 2)
        caption = f"{caption} Drawn of {coarsest[1]:,} samples: the lowest and the highest of every {every} s.".strip()
    height = sum(heights) + 110
    layout["height"] = height
    narrow = {**drawing.narrow(layout), "xaxis": {"title": {**layout["xaxis"]["title"], "text": "seconds"}}}
    return Plot(label, {"data": data, "layout": layout, "narrow": narrow}, caption, height)


def histogram(
    values: Sequence[float],
    marks: Sequence[Mark],
    *,
    unit: str,
    label: str,
    caption: str = "",
    counted: str = "queries",
) -> Plot:
    """How often which value occurs, with values marked.

    The widest outliers would leave a single bar of all others: what lies far beyond the 99th percentile is counted in
    the caption instead of drawn.

    Args:
        values: Any number of finite ones.
        marks: Drawn as lines that are named.
        unit: Of the values.
        label, caption: See `Plot`.
        counted: What there is so many of.
    """
    every = np.asarray(values, np.float64)
    shown, end = drawing.without_outliers(every)
    counts, edges = drawing.bins(shown)
    beyond = len(every) - len(shown)
    if beyond:
        text = (
            f"{words.count(beyond, 'value')} above {words.number(end)} {unit}, up to {words.number(every.max())} {unit}"
        )
        caption = f"{caption} Not drawn: {text}.".strip()
    layout = drawing.base_layout()
    layout["xaxis"] = {**drawing.axis(unit), "range": drawing.margin(edges[0], edges[-1])}
    layout["yaxis"] = {**drawing.axis(counted), "rangemode": "tozero"}
    layout["bargap"] = 0.04
    drawing.draw_marks(layout, marks, unit, edges[-1], at="top")
    bars = {
        "type": "bar", "x": drawing.short((edges[:-1] + edges[1:]) / 2, 6), "y": counts.tolist(),
        "width": drawing.short(np.diff(edges), 6), "marker": {"color": "@1"},
        "customdata": [[words.number(low, 4), words.number(high, 4)] for low, high in itertools.pairwise(edges)],
        "hovertemplate": f"%{{customdata[0]}} to %{{customdata[1]}} {unit}: %{{y}}<extra></extra>",
    }  # fmt: skip
    return Plot(label, {"data": [bars], "layout": layout}, caption)


def cdf(
    series: Mapping[str, Sequence[float]],
    marks: Sequence[Mark],
    *,
    unit: str,
    label: str,
    caption: str = "",
    counted: str = "queries",
) -> Plot:
    """What part of the values lies below which; one line a series.

    Args:
        series: Finite values by name.
        marks: As of `histogram`; meant for one series.
        unit: Of the values.
        label, caption: See `Plot`.
        counted: What there is so many of.
    """
    layout = drawing.base_layout()
    data = []
    low, high = math.inf, -math.inf
    for index, (name, values) in enumerate(series.items()):
        if not len(values):
            continue
        ordered = np.sort(np.asarray(values, np.float64))
        low, high = min(low, ordered[0]), max(high, drawing.without_outliers(ordered)[1])
        # The tail keeps every value: that is where a p99 lives.
        many = len(ordered)
        places = np.unique(
            np.concatenate((np.linspace(0, many - 1, _CDF_POINTS).astype(int), np.arange(max(0, many - 100), many)))
        )
        data.append({
            "type": "scatter", "mode": "lines", "name": drawing.safe(name), "x": drawing.short(ordered[places], 6),
            "y": drawing.short((places + 1) / many * 100, 5),
            "line": {"color": drawing.colour(index), "dash": drawing.dash(index, False), "width": 2, "shape": "hv"},
            "hovertemplate": f"%{{y:.1f}} % up to %{{x}} {unit}" + ("<extra></extra>" if len(series) == 1 else ""),
        })  # fmt: skip
    layout["xaxis"] = {**drawing.axis(unit), "range": drawing.margin(low, high) if data else [0, 1]}
    layout["yaxis"] = {**drawing.axis(f"% of {counted}"), "range": [0, 101.5], "tickvals": [0, 25, 50, 75, 90, 99]}
    layout["showlegend"] = len(series) > 1
    drawing.draw_marks(layout, marks, unit, high, at="bottom")
    return Plot(label, {"data": data, "layout": layout, "narrow": drawing.narrow(layout)}, caption)


def bars(
    names: Sequence[str], measures: Mapping[str, Sequence[Bar]], *, unit: str, label: str, caption: str = ""
) -> Plot:
    """Bars with their intervals, for each name one of each measure.

    Args:
        names: Written beside the bars; two alike stay two.
        measures: For each, one bar a name.
        unit: Of all bars.
        label, caption: See `Plot`.
    """
    layout = drawing.base_layout()
    places = list(range(len(names)))
    data = []
    for index, (measure, values) in enumerate(measures.items()):
        intervals = [None if one.low is None or one.high is None else (one.low, one.high) for one in values]
        data.append({
            "type": "bar", "orientation": "h", "name": drawing.safe(measure), "y": places,
            "x": drawing.short([one.value for one in values], 6),
            "marker": {
                "color": drawing.colour(index), "line": {"color": drawing.colour(index), "width": 1},
                "pattern": {"shape": drawing.pattern(index), "fillmode": "replace", "size": 7, "solidity": 0.35},
            },
            "error_x": drawing.whiskers([one.value for one in values], intervals, "@ink"),
            "customdata": [drawing.safe(name) for name in names],
            "hovertemplate": f"%{{customdata}}: %{{x}} {unit}",
        })  # fmt: skip
    layout["barmode"] = "group"
    layout["bargap"] = 0.3
    layout["xaxis"] = {**drawing.axis(unit), "rangemode": "tozero"}
    layout["yaxis"] = {
        **drawing.axis(""), "tickvals": places, "ticktext": [drawing.wrapped(name) for name in names],
        "autorange": "reversed", "showgrid": False, "ticks": "",
    }  # fmt: skip
    layout["showlegend"] = True
    height = 130 + max(1, len(names)) * (18 + 22 * max(1, len(measures)))
    layout["height"] = height
    return Plot(label, {"data": data, "layout": layout, "narrow": drawing.narrow(layout)}, caption, height)


def shares(parts: Mapping[str, float], *, unit: str, label: str, caption: str = "") -> Plot:
    """One bar made of parts, each with its name and value on it or beside it.

    Args:
        parts: Name -> value, not negative.
        unit: Of the values.
        label, caption: See `Plot`.
    """
    layout = drawing.base_layout()
    whole = sum(parts.values()) or 1.0
    layout["barmode"] = "stack"
    layout["xaxis"] = {**drawing.axis(unit), "rangemode": "tozero", "showgrid": False}
    layout["yaxis"] = {**drawing.axis(""), "showticklabels": False, "showgrid": False, "ticks": ""}
    layout["showlegend"] = True
    layout["height"] = 190
    data = [
        {
            "type": "bar", "orientation": "h",
            "name": f"{drawing.safe(name)}: {words.number(value)} {unit} ({value / whole:.0%})",
            "x": drawing.short([value], 6), "y": [0], "width": [0.6],
            "marker": {
                "color": drawing.colour(index), "line": {"color": "@ground", "width": 1.5},
                "pattern": {
                    "shape": drawing.pattern(index), "fillmode": "overlay", "fgcolor": "@ground", "size": 8,
                    "solidity": 0.2,
                },
            },
            "hovertemplate": f"%{{x}} {unit}",
        }
        for index, (name, value) in enumerate(parts.items())
    ]  # fmt: skip
    return Plot(label, {"data": data, "layout": layout, "narrow": drawing.narrow(layout)}, caption, 190)


def scatter(
    points: Sequence[Point],
    front: Sequence[int],
    *,
    x_title: str,
    y_title: str,
    label: str,
    caption: str = "",
    front_name: str = "on the front",
    rest_name: str = "not on the front",
) -> Plot:
    """Points in a plane, with those on the front joined by a line.

    Args:
        points: Named.
        front: Which are on the front, by place, in the order of the line.
        x_title, y_title: With units.
        label, caption: See `Plot`.
        front_name, rest_name: For the legend.
    """
    layout = drawing.base_layout()
    inside = list(front)
    outside = [place for place in range(len(points)) if place not in set(inside)]
    data = []
    for places, name, tone, symbol, mode in (
        (inside, front_name, "@1", "circle", "lines+markers"),
        (outside, rest_name, "@2", "square-open", "markers"),
    ):
        if not places:
            continue
        chosen = [points[place] for place in places]
        labelled = len(points) <= _MOST_LABELLED or (mode != "markers" and len(places) <= _MOST_LABELLED)
        data.append({
            "type": "scatter", "mode": mode + ("+text" if labelled else ""), "name": drawing.safe(name),
            "x": drawing.short([one.x for one in chosen], 6), "y": drawing.short([one.y for one in chosen], 6),
            "text": [drawing.safe(one.name) for one in chosen],
            "textposition": ["top right" if place % 2 == 0 else "bottom right" for place in range(len(chosen))],
            "marker": {"color": tone, "symbol": symbol, "size": 10, "line": {"color": tone, "width": 2}},
            "line": {"color": tone, "width": 1.5, "dash": "dot", "shape": "hv"},
            "error_x": drawing.whiskers([one.x for one in chosen], [one.x_interval for one in chosen], tone),
            "error_y": drawing.whiskers([one.y for one in chosen], [one.y_interval for one in chosen], tone),
            "textfont": {"color": "@ink"}, "cliponaxis": False,
            "hovertemplate": "%{text}<br>%{x}, %{y}<extra></extra>",
        })  # fmt: skip
    layout["xaxis"] = {**drawing.axis(x_title), "range": drawing.room([one.x for one in points], 0.2)}
    layout["yaxis"] = {**drawing.axis(y_title), "range": drawing.room([one.y for one in points], 0.12)}
    layout["showlegend"] = True
    layout["height"] = 420
    return Plot(label, {"data": data, "layout": layout, "narrow": drawing.narrow(layout)}, caption, 420)
