"""The page of several profiles side by side."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.errors import UsageError
from edge_sdk.measure.record import Figure, Profile
from edge_sdk.report import compare as comparing
from edge_sdk.report import plots, words
from edge_sdk.report.compare import Cell, Comparison, Row
from edge_sdk.report.page import Column, Page, Shown
from edge_sdk.report.plots import Bar, Plot, Point

_ENERGIES = ("net energy", "gross energy")
_LATENCIES = ("latency p50", "latency p90")


def comparison_page(profiles: Sequence[Profile]) -> Page:
    """The page of several profiles, the first of which the others are compared with.

    Raises:
        UsageError: There is none.
    """
    if not profiles:
        raise UsageError("there is no profile to compare")
    found = comparing.compare(profiles)
    page = Page(
        f"{words.count(len(profiles), 'run')} compared",
        f"Ratios are to the first, {found.labels[0]}; below 1 is less than it.",
    )
    notices(page, found, profiles)
    page.section("Figures")
    page.table(
        ["figure", *(Column(label, numeric=True) for label in found.labels)],
        [[f"{row.name}, {row.unit}", *(_cell(one) for one in row.cells)] for row in found.rows],
        "Figures with their 95 % intervals; below each the ratio to the first run, with its own",
        sortable=False,
    )
    page.text(
        "The interval of a percentile is of this one run, by its order statistics: how much latency changes from run "
        "to run is not in it. The ratio of two energies takes both intervals into account, as those of runs that are "
        "independent."
    )
    _plots(page, found, profiles)
    _runs(page, found, profiles)
    return page


def notices(page: Page, found: Comparison, profiles: Sequence[Profile]) -> None:
    """What a reader must know before he compares."""
    if found.not_comparable:
        page.notice(
            "rejected", "Energies and watts of these runs: their ratios are left out.", found.not_comparable,
            word="Not comparable.",
        )  # fmt: skip
    if found.differences:
        page.notice(
            "warning", "As models alone: the runs differ in more, and a ratio holds the effect of that too.",
            found.differences, word="Not comparable.",
        )  # fmt: skip
    rejected = [
        f"{label}: {words.plain(reason)}"
        for label, one in zip(found.labels, profiles, strict=True)
        if one.energy is not None
        for reason in one.energy.rejected
    ]
    if rejected:
        page.notice("warning", "Runs that give no energy:", rejected)
    if not (found.not_comparable or found.differences or rejected):
        page.notice("ok", "Board, power mode, threads and the way of measuring are the same in all runs.")


def cell_text(cell: Cell) -> str:
    """A cell in words: "23.4 (23.1 to 23.6)", or why there is nothing."""
    if cell.value is None:
        return f"{words.NONE} ({cell.reason})"
    if cell.low is None or cell.high is None:
        return words.number(cell.value)
    return words.figure(Figure(cell.value, cell.low, cell.high))


def ratio_text(cell: Cell) -> str:
    """A cell's ratio in words: "× 0.512 (0.498 to 0.527)"; empty where there is none."""
    if cell.ratio is None:
        return ""
    if cell.ratio_low is None or cell.ratio_high is None:
        return f"× {words.number(cell.ratio)}"
    return f"× {words.figure(Figure(cell.ratio, cell.ratio_low, cell.ratio_high))}"


def _cell(cell: Cell) -> Shown:
    if cell.value is None:
        return Shown(words.NONE, None, cell.reason or "")
    return Shown(cell_text(cell), cell.value, ratio_text(cell))


def _plots(page: Page, found: Comparison, profiles: Sequence[Profile]) -> None:
    rows = {row.name: row for row in found.rows}
    page.section("Energy and latency")
    drawn = []
    if any(cell.value is not None for name in _ENERGIES for cell in rows[name].cells):
        drawn.append(_bars(found, [rows[name] for name in _ENERGIES], "mJ", "Energy per inference"))
    drawn.append(_bars(found, [rows[name] for name in _LATENCIES], "ms", "Latency"))
    page.plot(*drawn)
    points = [
        Point(label, p50.value, gross.value, _interval(p50), _interval(gross))
        for label, p50, gross in zip(found.labels, rows["latency p50"].cells, rows["gross energy"].cells, strict=True)
        if p50.value is not None and gross.value is not None
    ]
    if len(points) > 1 and not found.not_comparable:
        best = comparing.front([(one.x, one.y) for one in points])
        names = words.listed([points[place].name for place in best])
        page.plot(
            plots.scatter(
                points, best, x_title="latency p50 ms", y_title="gross energy mJ",
                front_name="no run is better in both", rest_name="another run is better in both",
                label=f"Gross energy against median latency. On the front: {names}.",
                caption=f"Left and low is better. On the front, from the fastest to the most frugal: {names}.",
            )
        )  # fmt: skip
    series = {label: one.latency.times_ms for label, one in zip(found.labels, profiles, strict=True)}
    if any(series.values()):
        page.section("Latency distributions")
        page.plot(
            plots.cdf(
                series, (), unit="ms", label=f"Cumulative distributions of latency of {words.listed(found.labels)}.",
                caption="What part of a run's queries takes no longer. A line further left is faster.",
            )
        )  # fmt: skip


def _bars(found: Comparison, rows: Sequence[Row], unit: str, title: str) -> Plot:
    said = "; ".join(
        f"{label}: " + ", ".join(f"{row.name} {cell_text(row.cells[place])} {unit}" for row in rows)
        for place, label in enumerate(found.labels)
    )
    return plots.bars(
        found.labels,
        {row.name: [Bar(one.value, one.low, one.high) for one in row.cells] for row in rows},
        unit=unit, label=f"{title} of each run. {said}.", caption=f"{title}; the whiskers are 95 % intervals.",
    )  # fmt: skip


def _runs(page: Page, found: Comparison, profiles: Sequence[Profile]) -> None:
    page.section("Runs")
    page.table(
        ["run", "model and engine", "board", "measured", "watts", "verdict"],
        [
            [
                label, Shown(words.model_of(one), words.model_of(one), words.engine_of(one)), words.board_of(one),
                words.plain(one.created), "none" if one.energy is None else words.method_line(one.energy), _said(one),
            ]
            for label, one in zip(found.labels, profiles, strict=True)
        ],
        "What was run",
    )  # fmt: skip


def _said(profile: Profile) -> str:
    found = words.verdict(profile)
    return " ".join((found.line, "; ".join(found.details)))


def _interval(cell: Cell) -> tuple[float, float] | None:
    return None if cell.low is None or cell.high is None else (cell.low, cell.high)
