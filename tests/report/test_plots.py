"""Figures as Plotly takes them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.report import drawing, plots
from edge_sdk.report.drawing import TONES, painted
from edge_sdk.report.plots import Band, Bar, Line, Mark, Panel, Plot, Point

from .profiles import HOSTILE

SAFE = "&lt;/script&gt;&lt;script&gt;"


def valid(plot: Plot) -> Plot:
    """Plotly's own package finds no fault with the figure, and it is JSON."""
    go = pytest.importorskip("plotly.graph_objects", reason="plotly is not installed")
    json.dumps(plot.figure, allow_nan=False)
    for scheme in ("light", "dark"):
        figure = painted(plot.figure, scheme)
        go.Figure({"data": figure["data"], "layout": {**figure["layout"], **figure.get("narrow", {})}})
        assert not [text for text in strings(figure) if text.startswith("@")]
    return plot


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for one in inner:
        yield from strings(one)


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_drawn_can_be_seen_on_its_ground(scheme: str) -> None:
    tones = TONES[scheme]
    for name, least in (("ink", 7.0), ("soft", 4.5), *((str(index), 3.0) for index in range(1, 8))):
        assert contrast(tones[name], tones["ground"]) >= least, name


def test_both_schemes_have_the_same_tones() -> None:
    assert set(TONES["light"]) == set(TONES["dark"])


@pytest.mark.parametrize("matrix", [
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),  # protanopia
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),  # deuteranopia
])  # fmt: skip
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_tones_differ_for_who_is_colour_blind(scheme: str, matrix: Any) -> None:
    """Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB; distances in it."""

    def seen(colour: str) -> Any:
        return np.array(matrix) @ np.array([(int(colour[at : at + 2], 16) / 255) ** 2.2 for at in (1, 3, 5)])

    first = [seen(TONES[scheme][str(index)]) for index in range(1, 5)]
    for place, one in enumerate(first):
        for other in first[place + 1 :]:
            assert np.linalg.norm(one - other) > 0.08


def test_power_over_time_has_its_lines_windows_and_peaks() -> None:
    x = [i / 50 for i in range(30_000)]
    y: list[float | None] = [3.5] * 30_000
    y[12_345] = 14.8
    y[200] = None
    lines = [Line("VDD_IN (sensor_total)", x, y, main=True), Line("VDD_SOC (sensor_partial)", x, [1.0] * 30_000)]
    bands = [Band("idle", 3, 13, "idle"), Band("work", 13.5, 23.5, "work 1"), Band("idle", 26, 36, "idle")]
    plot = valid(plots.over_time([Panel("W", lines)], bands, end=600.0, label="Power", caption="Shaded."))
    total, rail = plot.figure["data"]
    assert max(one for one in total["y"] if one is not None) == 14.8
    assert None in total["y"]
    assert total["line"]["width"] > rail["line"]["width"]
    assert total["line"]["dash"] != rail["line"]["dash"]
    assert plot.caption == "Shaded. Drawn of 30,000 samples: the lowest and the highest of every 0.60 s."
    shapes = plot.figure["layout"]["shapes"]
    assert [shape["label"]["text"] for shape in shapes] == ["idle", "work 1", "idle"]
    assert [shape["showlegend"] for shape in shapes] == [True, True, False]
    assert plot.figure["layout"]["yaxis"]["range"][0] == 0


def test_tracks_lie_one_above_the_other_and_share_time() -> None:
    panels = [
        Panel("°C", [Line("cpu", [0, 1], [45, 46]), Line("gpu", [0, 1], [44, 47])]),
        Panel("MHz", [Line("gpu", [0, 1], [306, 918])]),
        Panel("%", [Line("gpu", [0, 1], [5, 90])]),
    ]
    plot = valid(plots.over_time(panels, [Band("throttle", 0.2, 0.4, "gpu-throttle-alert")], end=1.0, label="Tracks"))
    layout = plot.figure["layout"]
    domains = [layout[f"yaxis{suffix}"]["domain"] for suffix in ("", "2", "3")]
    assert domains[0][0] > domains[1][1] > domains[1][0] > domains[2][1] > domains[2][0] == 0
    assert layout["xaxis"]["anchor"] == "y3"
    assert len({one["name"] for one in plot.figure["data"]}) == 4
    assert layout["shapes"][0]["name"] == "throttled"


def test_outliers_are_counted_and_not_drawn() -> None:
    values = [20 + 0.001 * i for i in range(1000)] + [250.0, 260.0]
    plot = valid(plots.histogram(values, [Mark("p50", 20.5)], unit="ms", label="Latency"))
    bars = plot.figure["data"][0]
    assert sum(bars["y"]) == 1000
    assert plot.caption == "Not drawn: 2 values above 21.0 ms, up to 260 ms."
    assert plot.figure["layout"]["annotations"][0]["text"] == "p50 20.5 ms"


@pytest.mark.parametrize("values", [[], [5.0], [5.0] * 50, [0.0, 0.0], [1.0, math.nextafter(1.0, 2)], [1e-300, 1e15]])
def test_odd_values_are_drawn_too(values: list[float]) -> None:
    marks = [Mark("p50", values[0])] if values else []
    plot = valid(plots.histogram(values, marks, unit="ms", label="Latency"))
    assert sum(plot.figure["data"][0]["y"]) <= len(values)
    valid(plots.cdf({"a": values}, marks, unit="ms", label="Latency"))


@given(st.lists(st.floats(0, 1e15), max_size=50))
@settings(max_examples=60)
def test_any_latencies_are_drawn(values: list[float]) -> None:
    for plot in (plots.histogram(values, [], unit="ms", label=""), plots.cdf({"a": values}, [], unit="ms", label="")):
        json.dumps(plot.figure, allow_nan=False)


def test_a_distribution_ends_at_the_largest_value_and_keeps_the_tail() -> None:
    values = list(np.random.default_rng(1).gamma(2, 1, 20_000))
    line = valid(plots.cdf({"a": values}, [], unit="ms", label="")).figure["data"][0]
    assert len(line["x"]) < 800
    assert (line["x"][-1], line["y"][-1]) == (pytest.approx(max(values), rel=1e-5), 100.0)
    assert line["y"] == sorted(line["y"])
    ordered = sorted(values)
    for place in range(-100, 0):
        assert float(f"{ordered[place]:.6g}") in line["x"]


def test_marks_that_lie_side_by_side_are_written_at_other_heights() -> None:
    marks = [Mark("p99", 25.0), Mark("p50", 23.5), Mark("p90", 23.6)]
    notes = plots.histogram([23.0, 24.0], marks, unit="ms", label="").figure["layout"]["annotations"]
    assert [note["text"].split()[0] for note in notes] == ["p50", "p90", "p99"]
    assert len({note["yshift"] for note in notes}) == 3


def test_bars_have_whiskers_hatching_and_places_of_their_own() -> None:
    measures = {"net": [Bar(44, 42, 46), Bar(None)], "gross": [Bar(236, 233, 240), Bar(100)]}
    plot = valid(plots.bars(["run", "run"], measures, unit="mJ", label="Energy"))
    net, gross = plot.figure["data"]
    assert net["y"] == [0, 1]
    assert net["x"] == [44, None]
    assert (net["error_x"]["array"][0], net["error_x"]["arrayminus"][0]) == (2.0, 2.0)
    assert gross["error_x"]["array"] == [4.0, 0.0]
    assert net["marker"]["pattern"]["shape"] != gross["marker"]["pattern"]["shape"]


def test_the_front_is_a_line_and_the_rest_have_another_symbol() -> None:
    points = [Point("a", 1, 5, None, (4, 6)), Point("b", 2, 3), Point("c", 3, 4)]
    plot = valid(plots.scatter(points, (0, 1), x_title="ms", y_title="mJ", label="Front"))
    on, off = plot.figure["data"]
    assert (on["x"], off["x"]) == ([1, 2], [3])
    assert "lines" in on["mode"]
    assert "lines" not in off["mode"]
    assert on["marker"]["symbol"] != off["marker"]["symbol"]
    assert (on["error_y"]["visible"], off["error_y"]["visible"]) == (True, False)
    many = [Point(f"p{i}", i, 50 - i) for i in range(50)]
    crowd = valid(plots.scatter(many, range(50), x_title="", y_title="", label="")).figure["data"][0]
    assert "text" not in crowd["mode"].split("+")


def test_shares_are_named_with_their_values() -> None:
    plot = valid(plots.shares({"preprocess": 2.0, "infer": 6.0}, unit="ms", label="Stages"))
    assert [bar["name"] for bar in plot.figure["data"]] == ["preprocess: 2.00 ms (25%)", "infer: 6.00 ms (75%)"]
    valid(plots.shares({"nothing": 0.0}, unit="ms", label=""))


def test_names_are_names_and_neither_tags_nor_tones() -> None:
    line = Line(HOSTILE, [0, 1], [1, 2])
    made = [
        plots.over_time([Panel("W", [line])], [Band("idle", 0, 1, HOSTILE)], end=1, label=""),
        plots.over_time([Panel("W", [line]), Panel("%", [line])], [], end=1, label=""),
        plots.cdf({HOSTILE: [1.0, 2.0], "@1": [3.0]}, [Mark(HOSTILE, 1.0)], unit="ms", label=""),
        plots.bars([HOSTILE, "@ink"], {HOSTILE: [Bar(1), Bar(2)]}, unit="mJ", label=""),
        plots.scatter([Point(HOSTILE, 1, 1)], (0,), x_title=HOSTILE, y_title="", label=""),
        plots.shares({HOSTILE: 1.0}, unit="ms", label=""),
    ]
    for plot in made:
        texts = list(strings(painted(plot.figure, "dark")))
        assert not [text for text in texts if "<script" in text or "</b" in text or "\x1b" in text]
        assert [text for text in texts if SAFE[:12] in text]
    assert made[2].figure["data"][1]["name"] == "@1"
    assert painted(made[2].figure, "dark")["data"][1]["name"] == "@1"


def test_a_long_name_is_shortened_and_wrapped() -> None:
    name = "a_model_with_a_name_that_is_longer_than_any_plot_bears.onnx"
    assert len(drawing.safe(name)) == 42
    assert drawing.safe(name).endswith("bears.onnx")
    assert drawing.wrapped(name).count("<br>") == 1
    assert drawing.wrapped("short") == "short"
