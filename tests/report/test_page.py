"""The page kit: one file that asks nobody for anything and runs nothing but its own."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import MissingDependencyError, SinkError, UsageError
from edge_sdk.report import plots
from edge_sdk.report.page import Column, Page, Shown, Tile
from edge_sdk.report.plots import Line, Panel

from .profiles import HOSTILE

PLOT = plots.over_time([Panel("W", [Line("VDD_IN", [0, 1], [3, 4])])], [], end=1, label="Power of VDD_IN over time")
VOID = {"meta", "link", "img", "br"}


class Outline(HTMLParser):
    """The elements of a page, that they are closed, and what scripts and texts it has."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def full(text: str) -> Page:
    """A page of everything that there is, with one text everywhere."""
    page = Page(text, text)
    page.notice("ok", text, [text])
    for number in range(5):
        page.section(f"{text} {number}")
        page.text(text)
    page.notice("rejected", text, word=text)
    page.tiles([Tile(text, text, text, text)])
    page.table([text, Column(text, numeric=True)], [[text, 1.5], [text, Shown(text, 2.0, text)], [text, None]], text)
    page.facts((text, {text: text}))
    page.picture(png(), text, text)
    page.pictures((png(), text, text), (png(), text, ""))
    return page


def png() -> bytes:
    return cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()


def policy(html: str) -> str:
    return str(next(one["content"] for one in Outline(html).attributes("meta") if "http-equiv" in one))


def test_what_something_calls_itself_is_shown_and_never_run() -> None:
    page = full(HOSTILE)
    outline = Outline(page.html())
    assert len(outline.scripts) == 2  # the tones and the page's own
    assert all("alert" not in script for _, script in outline.scripts)
    assert "b" not in {tag for tag, _ in outline.elements}
    texts = "".join(outline.texts)
    assert texts.count("</script><script>alert(1)</script><b>") >= 15
    assert "\x1b" not in texts
    assert "\u202e" not in texts


@given(st.text(min_size=1))
@settings(max_examples=30)
def test_any_text_is_only_ever_text(text: str) -> None:
    page, plain = Outline(full(text).html()), Outline(full("x").html())
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]


def test_a_hostile_name_in_a_plot_stays_in_its_data() -> None:
    page = Page("Report")
    page.plot(plots.over_time([Panel("W", [Line(HOSTILE, [0, 1], [3, 4])])], [], end=1, label=HOSTILE))
    outline = Outline(page.html())
    data = [script for attributes, script in outline.scripts if attributes.get("id") == "plot-1"]
    assert "<" not in data[0]
    assert json.loads(data[0])["data"][0]["y"] == [3.0, 4.0]
    assert len(outline.scripts) == 4


def test_only_the_scripts_that_the_policy_names_run() -> None:
    page = Page("Report")
    page.plot(PLOT)
    html = page.html()
    scripts = [script for attributes, script in Outline(html).scripts if attributes.get("type") != "application/json"]
    assert len(scripts) == 2
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    said = policy(html)
    assert re.findall(r"'sha256-([^']+)'", said) == hashes
    assert said.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in said.partition("style-src")[0]
    assert "unsafe-eval" not in said


def test_the_page_asks_nobody_for_anything() -> None:
    page = full("x")
    page.plot(PLOT)
    for tag, attributes in Outline(page.html()).elements:
        for name in ("src", "href", "srcset", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    own = "".join(Path(sys.modules["edge_sdk.report.page"].__file__ or "").with_name(n).read_text() for n in
                  ("page.css", "page.js"))  # fmt: skip
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest|innerHTML", own)


def test_plotlys_button_that_sends_data_away_is_not_there() -> None:
    script = Path(sys.modules["edge_sdk.report.page"].__file__ or "").with_name("page.js").read_text()
    assert "showSendToCloud: false" in script
    assert "modeBarButtons:" in script


def test_a_page_without_plots_carries_no_plotly() -> None:
    assert len(Page("Report").html()) < 20_000


def test_plots_want_plotly_and_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from edge_sdk.report import page as module

    module._plotly.cache_clear()
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    page = Page("Report")
    page.plot(PLOT)
    with pytest.raises(MissingDependencyError, match=r"plotly is not installed.*edge-sdk\[report\]"):
        page.save(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_what_the_eye_sees_the_reader_of_a_screen_is_told() -> None:
    page = full("a")
    page.plot(PLOT, PLOT)
    outline = Outline(page.html())
    drawings = [one for one in outline.attributes("div") if "data-plot" in one]
    assert [(one["role"], one["aria-label"]) for one in drawings] == [("img", "Power of VDD_IN over time")] * 2
    assert outline.attributes("img")[0]["alt"] == "a"
    assert outline.attributes("html") == [{"lang": "en"}]
    assert [tag for tag, _ in outline.elements if tag in ("h1", "h2")] == ["h1", *["h2"] * 5]
    regions = [one for one in outline.attributes("div") if one.get("role") == "region"]
    assert all(one["tabindex"] == "0" and one["aria-label"] for one in regions)
    assert outline.attributes("th")[0]["scope"] == "col"
    assert outline.texts.count("OK.") == 1
    assert "Warning." not in outline.texts
    ids = [str(attributes["id"]) for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(one["href"])[1:] for one in outline.attributes("a")} == {"s1", "s2", "s3", "s4", "s5"}


def test_numbers_are_aligned_and_sorted_as_numbers() -> None:
    page = Page("Report")
    rows = [["a", 1234, 0.5], ["b", None, Shown("2.0 (1 to 3)", 2.0, "x 4")], ["c", "refused", float("nan")]]
    page.table(["run", Column("queries", numeric=True), Column("mJ", numeric=True)], rows, "Figures")
    outline = Outline(page.html())
    cells = outline.attributes("td")
    assert [one.get("data-sort") for one in cells] == ["1234", "0.5", None, "2.0", None, None]
    assert {one["class"] for one in cells} == {"number"}
    assert {"1,234", "0.500", "-", "2.0 (1 to 3)", "x 4", "refused"} <= set(outline.texts)
    assert "data-sortable" in outline.attributes("table")[0]


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(UsageError, match="a row of 1 cells in a table of 2 columns"):
        Page("Report").table(["a", "b"], [["x"]], "Figures")


def test_pictures_lie_side_by_side_where_there_is_room() -> None:
    page = Page("a")
    page.pictures((png(), "before", "left"), (png(), "after", ""))
    outline = Outline(page.html())
    assert [one["alt"] for one in outline.attributes("img")] == ["before", "after"]
    assert {"class": "row pictures"} in outline.attributes("div")
    with pytest.raises(UsageError, match="PNG, JPEG, GIF or WebP"):
        page.pictures((png(), "a", ""), (b"<svg/>", "b", ""))


def test_pictures_are_held_in_the_page_and_svg_is_refused() -> None:
    page = Page("Report")
    for extension in (".png", ".jpg", ".webp"):
        page.picture(cv2.imencode(extension, np.zeros((4, 4, 3), np.uint8))[1].tobytes(), "a photo")
    sources = [str(one["src"]).partition(";")[0] for one in Outline(page.html()).attributes("img")]
    assert sources == ["data:image/png", "data:image/jpeg", "data:image/webp"]
    for data in (b"<svg onload='alert(1)'>", b"", b"RIFF1234WAVE"):
        with pytest.raises(UsageError, match="PNG, JPEG, GIF or WebP"):
            page.picture(data, "none")


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")
    page = Page("größe 大きさ")
    page.save(path)
    assert "größe 大きさ" in path.read_text(encoding="utf-8")
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(SinkError, match="cannot be written"):
        page.save(tmp_path / "no" / "report.html")
