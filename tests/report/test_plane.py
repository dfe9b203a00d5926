"""Points in a plane and pairs of names, as Plotly takes them."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.report.plane import Curve, Limit, Point, Series, matrix, plane

from .profiles import HOSTILE
from .test_plots import SAFE, strings, valid

TITLES = {"x_title": "ratio", "y_title": "drop", "label": "Drop against ratio"}


def test_kinds_of_points_differ_by_tone_and_symbol_and_keep_them_where_one_is_empty() -> None:
    points = [Point("a", 0.9, 0.001, (0.88, 0.93), None)]
    full = valid(plane([Series("simple", points), Series("hybrid", points, large=True)], **TITLES)).figure["data"]
    gap = valid(plane([Series("simple", []), Series("hybrid", points, large=True)], **TITLES)).figure["data"]
    assert [one["marker"]["symbol"] for one in full] == ["circle", "square-open"]
    assert [one["marker"]["color"] for one in full] == ["@1", "@2"]
    assert gap == full[1:]
    assert full[1]["marker"]["size"] > full[0]["marker"]["size"]
    assert full[0]["error_x"]["array"] == [0.03]
    assert full[0]["error_x"]["arrayminus"] == [0.02]
    assert not full[0]["error_y"]["visible"]


def test_every_point_has_its_name_under_the_pointer_and_only_some_beside_them() -> None:
    points = [Point("a", 1, 1), Point("b", 2, 2)]
    (data,) = valid(plane([Series("groups", points, frozenset(["b"]))], **TITLES)).figure["data"]
    assert (data["customdata"], data["text"], data["mode"]) == (["a", "b"], ["", "b"], "markers+text")
    (bare,) = valid(plane([Series("groups", points)], **TITLES)).figure["data"]
    assert bare["mode"] == "markers"


def test_limits_widen_the_axes_and_are_named() -> None:
    plot = valid(
        plane(
            [Series("groups", [Point("a", 1.0, 0.0)])],
            limits=[Limit("budget: 20 ms", 0.5, "x"), Limit("budget: 0.1", 0.1, "y")], **TITLES,
        )
    )  # fmt: skip
    layout = plot.figure["layout"]
    assert layout["xaxis"]["range"][0] < 0.5
    assert layout["yaxis"]["range"][1] > 0.1
    assert [note["text"] for note in layout["annotations"]] == ["budget: 20 ms", "budget: 0.1"]
    assert [shape["x0"] for shape in layout["shapes"]] == [0.5, 0]


def test_curves_of_one_name_share_an_entry_of_the_legend() -> None:
    curves = [Curve("5 % off", [0, 1], [0, 1]), Curve("5 % off", [0, 1], [0, 1.1]), Curve("right", [0, 1], [0, 1])]
    data = valid(plane([], curves, **TITLES)).figure["data"]
    assert [one["showlegend"] for one in data] == [True, False, True]


def test_what_a_logarithm_cannot_show_is_left_out() -> None:
    points = [Point("none", 0.0, 0.0), Point("a", 1.0, 0.01), Point("b", 1.0, 0.02)]
    plot = valid(plane([Series("groups", points)], log_y=True, **TITLES))
    assert plot.figure["data"][0]["customdata"] == ["a", "b"]
    low, high = plot.figure["layout"]["yaxis"]["range"]
    assert high - low >= 1  # a decade at least, so that there is a tick


def test_labels_of_points_side_by_side_stand_at_different_sides() -> None:
    points = [Point("hybrid 2", 0.5, 0.5), Point("hybrid 3", 0.51, 0.5), Point("far", 0, 0)]
    points.append(Point("at the right edge", 1.0, 1.0))
    (data,) = plane([Series("all", points, frozenset(one.name for one in points))], **TITLES).figure["data"]
    first, second, _, last = data["textposition"]
    assert first != second
    assert "left" in last  # at the right edge a label to the right would be cut


@given(st.lists(st.tuples(st.floats(), st.floats(), st.text(max_size=5)), max_size=12), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_points_are_drawn(points: list[tuple[float, float, str]], log: bool) -> None:
    bounded = [Point(name, x, y) for x, y, name in points if not max(abs(x), abs(y)) > 1e100]
    plot = plane([Series("all", bounded, frozenset(one.name for one in bounded))], log_y=log, **TITLES)
    valid(plot)
    assert all(map(math.isfinite, plot.figure["layout"]["yaxis"]["range"]))


def test_a_matrix_shows_sign_by_symbol_and_size_by_area() -> None:
    plot = valid(
        matrix(["a", "b", "c"], [(0, 1, 4.0), (1, 2, -1.0), (2, 0, 1.0)], above="more", below="less", label="Pairs")
    )
    above, below = plot.figure["data"]
    assert (above["name"], above["marker"]["symbol"], above["x"], above["y"]) == ("more", "square", [0, 0], [1, 2])
    assert (below["name"], below["marker"]["symbol"], below["x"], below["y"]) == ("less", "circle-open", [1], [2])
    large, small = above["marker"]["size"]
    assert large > small == below["marker"]["size"][0]
    assert above["text"][0] == "a<br>b<br>4.0"
    assert plot.figure["narrow"]["xaxis"]["ticktext"] == ["1", "2", "3"]
    assert valid(matrix([], [], above="", below="", label="")).figure["data"] == []


def test_names_are_no_tags() -> None:
    point = Point(HOSTILE, 1, 1)
    for plot in (
        plane([Series(HOSTILE, [point], frozenset([HOSTILE]))], [Curve(HOSTILE, [0], [0])], [Limit(HOSTILE, 1, "x")],
              x_title=HOSTILE, y_title="", label=""),
        matrix([HOSTILE, "b"], [(0, 1, 1.0)], above=HOSTILE, below="", label=""),
    ):  # fmt: skip
        said = [text for text in strings(valid(plot).figure) if "script" in text]
        assert said
        assert all("<" not in text.replace("<br>", "").replace("<extra></extra>", "") for text in said)
        assert any(SAFE[:12] in text for text in said)
