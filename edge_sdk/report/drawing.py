"""The parts that plots are made of: tones, axes, marks, bands and names, as Plotly takes them.

Colours are names of tones ("@1", "@ink"), because only the reader's screen says whether it is light or dark; the page's
script puts the colours in. Plotly reads tags in texts, so names are escaped here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.report import words

# Okabe and Ito's palette, made to be told apart by colour-blind people (jfly.uni-koeln.de/color, 2008); its black and
# its yellow only where the ground lets them be seen, and green and orange darker on white, for contrast.
TONES: Mapping[str, Mapping[str, str]] = {
    "light": {
        "1": "#0072b2", "2": "#d55e00", "3": "#00815e", "4": "#b0578d", "5": "#a87400", "6": "#2b8fcc", "7": "#000000",
        "ink": "#15181e", "soft": "#565d69", "line": "#dfe2e8", "ground": "#ffffff",
        "idle": "rgba(110,118,130,0.13)", "work": "rgba(0,114,178,0.15)", "throttle": "rgba(213,94,0,0.28)",
    },
    "dark": {
        "1": "#56b4e9", "2": "#ff8a3d", "3": "#22c497", "4": "#dc98bd", "5": "#e69f00", "6": "#3a8fd0", "7": "#f0e442",
        "ink": "#e9ecf1", "soft": "#a3abb9", "line": "#2b323d", "ground": "#161a21",
        "idle": "rgba(160,168,180,0.14)", "work": "rgba(86,180,233,0.20)", "throttle": "rgba(255,138,61,0.32)",
    },
}  # fmt: skip
_COLOURS = 7
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_PATTERNS = ("", "/", ".", "x", "-", "|", "+")
_MOST_NAME = 42
_ONE_LINE = 22
_SAME = 1e-9  # values that differ by less, in part of themselves, are drawn as one
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif'


@dataclass(frozen=True)
class Line:
    """A line over time; None in `y` is a gap. `main` is drawn thick."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    main: bool = False


@dataclass(frozen=True)
class Panel:
    """Lines that share an axis, "W" or "°C"."""

    unit: str
    lines: Sequence[Line]
    title: str = ""


@dataclass(frozen=True)
class Band:
    """A shaded stretch with a name."""

    kind: Literal["idle", "work", "throttle"]
    start: float
    end: float
    name: str


@dataclass(frozen=True)
class Mark:
    """A value that is marked on an axis: "p50" at 23.4."""

    name: str
    value: float


def painted(figure: Any, scheme: Literal["light", "dark"], key: str = "") -> Any:
    """A figure with its tones' colours in place of their names, as the page's script does it."""
    if isinstance(figure, str):
        coloured = key.lower().endswith(("color", "colorway")) and figure.startswith("@")
        return TONES[scheme][figure[1:]] if coloured else figure
    if isinstance(figure, Mapping):
        return {name: painted(value, scheme, name) for name, value in figure.items()}
    if isinstance(figure, (list, tuple)):
        return [painted(value, scheme, key) for value in figure]
    return figure


def base_layout(**more: Any) -> dict[str, Any]:
    """What all plots have in common."""
    return {
        "height": 340,
        "autosize": True,
        "margin": {"l": 58, "r": 14, "t": 30, "b": 48},
        "paper_bgcolor": "@ground",
        "plot_bgcolor": "@ground",
        "font": {"family": _FONT, "size": 13, "color": "@ink"},
        "hoverlabel": {
            "bgcolor": "@ground", "bordercolor": "@soft", "font": {"color": "@ink", "size": 13}, "namelength": -1,
        },
        # At the foot of the drawing, which keeps room for it however many lines it takes.
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 0, "yref": "container", "yanchor": "bottom",
                   "font": {"size": 13}, "traceorder": "normal"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "@soft", "activecolor": "@1"},
        "showlegend": False,
        "uirevision": "kept",
        **more,
    }  # fmt: skip


def axis(title: str) -> dict[str, Any]:
    """An axis with its title."""
    return {
        "title": {"text": safe(title), "font": {"size": 13, "color": "@soft"}, "standoff": 8},
        "color": "@soft", "gridcolor": "@line", "linecolor": "@line", "zeroline": False, "automargin": True,
        "ticks": "outside", "ticklen": 4, "tickcolor": "@line", "tickfont": {"color": "@soft", "size": 12},
        "exponentformat": "none", "separatethousands": True,
    }  # fmt: skip


def narrow(layout: Mapping[str, Any]) -> dict[str, Any]:
    """What a narrow screen has otherwise: narrower margins."""
    return {"margin": {**layout["margin"], "l": 44, "r": 8}, "font": {**layout["font"], "size": 12}}


def shaded(bands: Sequence[Band]) -> list[dict[str, Any]]:
    """Bands as shapes, each with its name; the legend has one of each kind."""
    legend = {"idle": "idle window", "work": "work window", "throttle": "throttled"}
    shapes: list[dict[str, Any]] = []
    for place, band in enumerate(bands):
        shapes.append({
            "type": "rect", "xref": "x", "yref": "paper", "x0": band.start, "x1": band.end, "y0": 0, "y1": 1,
            "fillcolor": f"@{band.kind}", "layer": "below",
            "line": {"width": 1 if band.kind == "throttle" else 0, "color": "@2", "dash": "dot"},
            "label": {
                "text": safe(band.name), "textposition": "top center", "font": {"size": 11, "color": "@soft"},
                "padding": 2,
            },
            "name": legend[band.kind], "showlegend": all(other.kind != band.kind for other in bands[:place]),
        })  # fmt: skip
    return shapes


def draw_marks(
    layout: dict[str, Any], marks: Sequence[Mark], unit: str, end: float, *, at: Literal["top", "bottom"]
) -> None:
    """Adds lines across the plot with their names at staggered heights: p50 and p90 may lie side by side.

    Args:
        layout: Gets shapes and annotations.
        marks: What to mark.
        unit: Of their values.
        end: Of the axis: the names of marks near it are written to their left.
        at: Where the names are.
    """
    foot = at == "bottom"
    shapes, notes = [], []
    for index, mark in enumerate(sorted(marks, key=lambda one: one.value)):
        left = mark.value > end - (end - min(one.value for one in marks)) * 0.4 and index > 0
        shapes.append({
            "type": "line", "xref": "x", "yref": "paper", "x0": mark.value, "x1": mark.value, "y0": 0, "y1": 1,
            "line": {"color": "@2", "width": 1.6, "dash": _DASHES[(index + 1) % len(_DASHES)]},
        })  # fmt: skip
        notes.append({
            "xref": "x", "yref": "paper", "x": mark.value, "y": 0 if foot else 1, "yanchor": at,
            "yshift": 16 * (len(marks) - 1 - index) + 3 if foot else -16 * index,
            "xanchor": "right" if left else "left", "showarrow": False, "bgcolor": "@ground", "borderpad": 1,
            "text": f"{safe(mark.name)} {words.number(mark.value)} {safe(unit)}",
            "font": {"size": 12, "color": "@ink"}, "xshift": -3 if left else 3, "opacity": 0.9,
        })  # fmt: skip
    layout["shapes"] = shapes
    layout["annotations"] = notes


def whiskers(
    values: Sequence[float | None], intervals: Sequence[tuple[float, float] | None], tone: str
) -> dict[str, Any]:
    """Error bars from the intervals of values; nothing where there is no interval."""
    up, down = [], []
    for value, interval in zip(values, intervals, strict=True):
        known = value is not None and interval is not None
        up.append(max(0.0, interval[1] - value) if known else 0.0)  # type: ignore[index, operator]
        down.append(max(0.0, value - interval[0]) if known else 0.0)  # type: ignore[index, operator]
    return {
        "type": "data", "symmetric": False, "array": short(up, 6), "arrayminus": short(down, 6), "color": tone,
        "thickness": 1.5, "width": 5, "visible": any(up + down),
    }  # fmt: skip


def without_outliers(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The values up to 2.5 times the 99th percentile's distance from the median, and the largest of those."""
    if not len(values):
        return values, 0.0
    middle, far = np.percentile(values, [50, 99])
    limit = middle + 2.5 * max(far - middle, 0.02 * abs(middle))
    shown = values[values <= limit]
    return shown, float(shown.max())


def bins(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Counts and edges of a histogram: as many as Freedman and Diaconis say, at least 10 and at most 80."""
    if not len(values):
        return np.zeros(1, np.int64), np.array([0.0, 1.0])
    low, high = float(values.min()), float(values.max())
    if high - low <= _SAME * max(abs(low), abs(high)):
        return np.array([len(values)]), np.array(margin(low, high))
    quarter, upper = np.percentile(values, [25, 75])
    width = 2 * (upper - quarter) / len(values) ** (1 / 3)
    many = int(np.clip((high - low) / width if width > 0 else 80, 10, 80))
    counts, edges = np.histogram(values, bins=many, range=(low, high))
    return counts.astype(np.int64), edges


def margin(low: float, high: float) -> list[float]:
    """A range that is a little wider."""
    more = (high - low) * 0.02 or abs(high) * 0.05 or 1.0
    return [low - more, high + more]


def room(values: Sequence[float], part: float) -> list[float]:
    """An axis from 0, or from below the values where they lie far from it, with room for labels at its end."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    start = 0.0 if low < 0.5 * high and low >= 0 else low - 0.15 * (high - low or abs(high) or 1.0)
    return [start, high + part * (high - start or 1.0)]


def span(panel: Panel, *, headroom: bool) -> list[float]:
    """An axis that holds a panel's values: power, load and clocks from 0; with room for the names of bands above."""
    values = [one for line in panel.lines for one in line.y if one is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    if panel.unit != "°C":
        low = min(0.0, low)
    height = (high - low) or abs(high) or 1.0
    return [low - (0.06 * height if low else 0.0), high + (0.2 if headroom else 0.06) * height]


def colour(index: int) -> str:
    """The tone of the nth line or bar."""
    return f"@{index % _COLOURS + 1}"


def pattern(index: int) -> str:
    """The hatching of the nth bar; the first has none."""
    return _PATTERNS[index % len(_PATTERNS)]


def dash(index: int, main: bool) -> str:
    """The dashes of the nth line; the main one has none."""
    return "solid" if main else _DASHES[index % len(_DASHES)]


def short(values: Any, digits: int) -> list[float | None]:
    """Numbers to so many significant digits: what is drawn needs no more, and the page is smaller."""
    return [None if one is None else float(f"{float(one):.{digits}g}") for one in values]


def safe(text: str) -> str:
    """A name in a plot: tags are no tags, and it is not longer than a plot bears."""
    name = words.shortened(words.plain(text), _MOST_NAME)
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def wrapped(text: str) -> str:
    """A name on two lines where it is long."""
    name = words.shortened(words.plain(text), _MOST_NAME)
    half = len(name) // 2
    if len(name) <= _ONE_LINE:
        return safe(name)
    ends = [place for place, one in enumerate(name) if one in " _-,/"]
    at = min(ends, key=lambda place: abs(place - half), default=half) + 1
    return f"{safe(name[:at])}<br>{safe(name[at:])}"
