"""One self-contained HTML page out of tables, figures, notices, pictures and plots.

It asks nobody for anything: a content security policy forbids every request, and lets no script run but the page's own,
which it names by their hashes. All text is escaped, so that what a file or a device calls itself is only ever shown.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from edge_sdk.errors import MissingDependencyError, UsageError, extra_hint
from edge_sdk.files import replacing
from edge_sdk.report import words
from edge_sdk.report.drawing import TONES
from edge_sdk.report.plots import Plot
from edge_sdk.report.words import Kind

_HERE = Path(__file__).parent
_KINDS: Mapping[Kind, str] = {"ok": "OK.", "warning": "Warning.", "rejected": "Rejected.", "note": "Note."}
_PICTURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
_ONE_LINE = 32  # characters of a line below a figure that do not wrap
_LONG = 16  # rows from which on a table scrolls
_CONTENTS_FROM = 4  # sections from which on a list of them helps


@dataclass(frozen=True)
class Column:
    """A column of a table; a numeric one is aligned to the right and sorted by number."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Shown:
    """A cell whose text is not what it is sorted by: "61.2 (59.8 to 62.6)", sorted by 61.2; `below` is a line below."""

    text: str
    sort: float | str | None = None
    below: str = ""


Cell = Shown | str | int | float | None


@dataclass(frozen=True)
class Tile:
    """A figure that is shown large: "p50", "23.4", "ms", and a line below it."""

    label: str
    value: str
    unit: str = ""
    detail: str = ""


@dataclass
class _Section:
    title: str
    blocks: list[str] = field(default_factory=list)


class Page:
    """An HTML page that is built from the top down.

    What is added goes into the section that was begun last; before the first one, to the head of the page.

    Args:
        title: Of the page.
        subtitle: A line below it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._sections = [_Section("")]
        self._plots: list[Plot] = []

    def section(self, title: str) -> None:
        """Begins a section."""
        self._sections.append(_Section(title))

    def text(self, *paragraphs: str) -> None:
        """Adds paragraphs."""
        for paragraph in paragraphs:
            self._add(f"<p>{_escaped(paragraph)}</p>")

    def notice(self, kind: Kind, text: str, lines: Sequence[str] = (), *, word: str | None = None) -> None:
        """Adds a box that stands out; its kind is also said in a word.

        Args:
            kind: "ok", "warning", "rejected" or "note".
            text: A sentence.
            lines: Listed below it.
            word: In place of the kind's own: "OK.", "Warning.", "Rejected.", "Note.".
        """
        items = "".join(f"<li>{_escaped(line)}</li>" for line in lines)
        below = f"<ul>{items}</ul>" if items else ""
        said = _escaped(_KINDS[kind] if word is None else word)
        self._add(f'<div class="notice {kind}" role="note"><strong>{said}</strong>{_escaped(text)}{below}</div>')

    def tiles(self, tiles: Sequence[Tile]) -> None:
        """Adds figures that are shown large, side by side."""
        shown = "".join(
            f'<div><dt>{_escaped(one.label)}</dt><dd class="value">{_escaped(one.value)}'
            + (f"<small>{_escaped(one.unit)}</small>" if one.unit else "")
            + "</dd>"
            + (f'<dd class="detail">{_escaped(one.detail)}</dd>' if one.detail else "")
            + "</div>"
            for one in tiles
        )
        self._add(f'<dl class="tiles">{shown}</dl>')

    def table(
        self, columns: Sequence[Column | str], rows: Sequence[Sequence[Cell]], caption: str, *, sortable: bool = True
    ) -> None:
        """Adds a table; a click on a column's title sorts by it. The first column names the row.

        Args:
            columns: A plain title is one of text.
            rows: Cells by column; numbers are printed to three significant digits, None is a dash.
            caption: What the table shows.
            sortable: Whether a click sorts.

        Raises:
            UsageError: A row has not one cell a column.
        """
        self._add(_table([one if isinstance(one, Column) else Column(one) for one in columns], rows, caption, sortable))

    def facts(self, *tables: tuple[str, Mapping[str, str]]) -> None:
        """Adds (caption, what -> text) tables of two columns, side by side where there is room."""
        made = "".join(
            f'<figure class="table"><figcaption>{_escaped(caption)}</figcaption><div class="scroll">'
            f'<table class="facts" aria-label="{_escaped(caption)}"><tbody>'
            + "".join(
                f'<tr><th scope="row">{_escaped(key)}</th><td class="text">{_escaped(value)}</td></tr>'
                for key, value in facts.items()
            )
            + "</tbody></table></div></figure>"
            for caption, facts in tables
            if facts
        )
        self._add(f'<div class="row">{made}</div>')

    def picture(self, data: bytes, alt: str, caption: str = "") -> None:
        """Adds a PNG, JPEG, GIF or WebP picture, which the page then holds.

        Args:
            data: The file's bytes.
            alt: What it shows, for those who do not see it.
            caption: Below it.

        Raises:
            UsageError: It is none of these formats.
        """
        self._add(_picture(data, alt, caption))

    def pictures(self, *pictures: tuple[bytes, str, str]) -> None:
        """Adds pictures, each as (data, alt, caption) of `picture`, side by side where there is room.

        Raises:
            UsageError: As of `picture`.
        """
        self._add(f'<div class="row pictures">{"".join(_picture(*one) for one in pictures)}</div>')

    def plot(self, *plots: Plot) -> None:
        """Adds plots, side by side where there is room."""
        made = []
        for one in plots:
            self._plots.append(one)
            below = f"<figcaption>{_escaped(one.caption)}</figcaption>" if one.caption else ""
            made.append(
                f'<figure class="plot"><div class="drawing" role="img" aria-label="{_escaped(one.label)}" '
                f'data-plot="plot-{len(self._plots)}" style="min-height:{one.height}px"></div>{below}</figure>'
            )
        self._add("".join(made) if len(made) == 1 else f'<div class="row">{"".join(made)}</div>')

    def html(self) -> str:
        """The page.

        Raises:
            MissingDependencyError: It has plots, and Plotly is not installed.
        """
        scripts = [_plotly()] if self._plots else []
        scripts.append(_file("page.js"))
        hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
        policy = (
            f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
            "base-uri 'none'; form-action 'none'"
        )
        data = [("tones", TONES)] + [(f"plot-{place}", plot.figure) for place, plot in enumerate(self._plots, 1)]
        return "\n".join((
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">',
            f"<title>{_escaped(self.title)}</title>\n<style>\n{_file('page.css')}</style>\n</head>\n<body>",
            self._head(),
            "<main>",
            *(
                f'<section id="s{place}"><h2>{_escaped(one.title)}</h2>\n' + "\n".join(one.blocks) + "\n</section>"
                for place, one in enumerate(self._sections)
                if place
            ),
            "</main>",
            *(f'<script type="application/json" id="{name}">{_json(value)}</script>' for name, value in data),
            *(f"<script>{script}</script>" for script in scripts),
            "</body>\n</html>\n",
        ))  # fmt: skip

    def save(self, path: Path) -> None:
        """Writes the page, whole or not at all.

        Raises:
            SinkError: It cannot be written.
            MissingDependencyError: As `html` raises it.
        """
        text = self.html()
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")

    def _add(self, block: str) -> None:
        self._sections[-1].blocks.append(block)

    def _head(self) -> str:
        below = f"<p>{_escaped(self.subtitle)}</p>" if self.subtitle else ""
        links = ""
        if len(self._sections) > _CONTENTS_FROM:
            named = enumerate(self._sections[1:], 1)
            links = "".join(f'<a href="#s{place}">{_escaped(one.title)}</a>' for place, one in named)
            links = f'<nav aria-label="Sections">{links}</nav>'
        lacking = '<noscript><p class="notice warning">The plots need JavaScript; the tables do not.</p></noscript>'
        blocks = [*self._sections[0].blocks, *([lacking] if self._plots else [])]
        return f"<header><h1>{_escaped(self.title)}</h1>{below}\n" + "\n".join(blocks) + f"{links}</header>"


def _picture(data: bytes, alt: str, caption: str) -> str:
    kind = next((kind for magic, kind in _PICTURES if data.startswith(magic)), None)
    if kind is None and data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise UsageError("a picture of a page is PNG, JPEG, GIF or WebP")
    below = f"<figcaption>{_escaped(caption)}</figcaption>" if caption else ""
    source = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return f'<figure class="picture"><img src="{source}" alt="{_escaped(alt)}">{below}</figure>'


def _table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], caption: str, sortable: bool) -> str:
    wrong = [row for row in rows if len(row) != len(columns)]
    if wrong:
        raise UsageError(f"a row of {len(wrong[0])} cells in a table of {len(columns)} columns")
    heads = "".join(
        f'<th scope="col"{_class("number" if one.numeric else "")}>{_escaped(one.title)}</th>' for one in columns
    )
    body = "\n".join(
        f"<tr>{''.join(_cell(cell, columns[place], place == 0) for place, cell in enumerate(row))}</tr>" for row in rows
    )
    named = _escaped(caption)
    mark = " data-sortable" if sortable and len(rows) > 1 else ""
    # What scrolls can be reached by keyboard.
    return (
        f'<figure class="table"><figcaption>{named}</figcaption>'
        f'<div class="scroll{" long" if len(rows) > _LONG else ""}" tabindex="0" role="region" aria-label="{named}">'
        f'<table{mark} aria-label="{named}">'
        f"<thead><tr>{heads}</tr></thead><tbody>\n{body}</tbody></table></div></figure>"
    )


def _cell(cell: Cell, column: Column, first: bool) -> str:
    shown = cell if isinstance(cell, Shown) else _shown(cell)
    sort = shown.sort
    if (isinstance(sort, float) and not math.isfinite(sort)) or (column.numeric and isinstance(sort, str)):
        sort = None
    mark = "" if sort is None else f' data-sort="{_escaped(str(sort))}"'
    name = "number" if column.numeric else "" if first else "text"
    tag, scope = ("th", ' scope="row"') if first else ("td", "")
    wraps = _class("long" if len(shown.below) > _ONE_LINE else "")
    below = f"<br><small{wraps}>{_escaped(shown.below)}</small>" if shown.below else ""
    return f"<{tag}{scope}{_class(name)}{mark}>{_escaped(shown.text)}{below}</{tag}>"


def _shown(cell: str | int | float | None) -> Shown:
    if cell is None:
        return Shown(words.NONE)
    if isinstance(cell, str):
        return Shown(cell, cell)
    return Shown(f"{cell:,}" if isinstance(cell, int) else words.number(cell), cell)


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _escaped(text: str) -> str:
    return html.escape(words.plain(text))


def _json(value: Any) -> str:
    """JSON that no HTML parser takes for the end of the script that holds it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


@cache
def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """Plotly's own script, which its Python package carries."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingDependencyError(f"plotly is not installed, which draws plots: {extra_hint('report')}") from error
    # A parser of HTML reads every line end as this one, and the hash must be of what it reads.
    return str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n")
