"""The page of one profile: what it is worth, its figures, and the plots to judge them by."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.measure.record import ChannelTrack, Latency, Profile
from edge_sdk.report import plots, words
from edge_sdk.report.page import Column, Page, Shown, Tile
from edge_sdk.report.plots import Band, Line, Mark, Panel, Plot

_PANELS = (("c", "°C", "temperatures"), ("mhz", "MHz", "clocks"), ("percent", "%", "load"))
_READ = (
    (
        "Gross energy is all that the board took, as far as the sensor sees it, while it worked, over the inferences "
        "it did. Net energy is gross energy less the power at idle, model open, for the same time: what one adds."
    ),
    (
        "The figures in brackets are a 95 % interval: measured again in the same way, the figure would lie in it 19 "
        "times of 20. It holds the spread of the repeats and the sensor's resolution; it does not hold an error of the "
        "sensor's own scale that nobody has stated."
    ),
    "A percentile is the latency that so many of a hundred queries do not exceed; p99 is what the slow ones take.",
)


def profile_page(profile: Profile) -> Page:
    """The page of a profile."""
    page = Page(
        f"{words.model_of(profile)} on {words.board_of(profile)}",
        f"Run by {words.engine_of(profile)}. Measured {words.plain(profile.created) or 'at a time that nobody noted'}.",
    )
    found = words.verdict(profile)
    page.notice(found.kind, found.line, found.details)
    page.tiles(_tiles(profile))
    _power(page, profile)
    _latency(page, profile)
    _conditions(page, profile)
    _layers(page, profile.latency)
    _sampling(page, profile)
    if profile.model or profile.device:
        page.section("Model and device")
        page.facts(
            ("Model", {words.key(str(key)): words.fact(value) for key, value in profile.model.items()}),
            ("Device", {words.key(str(key)): words.fact(value) for key, value in profile.device.items()}),
        )
    page.section("How to read this")
    page.text(*_READ)
    return page


def total_line(channels: Sequence[ChannelTrack]) -> Line | None:
    """The total over time: the sum of the channels in it, None where one of them has no value; None without any."""
    inside = [one for one in channels if one.in_total]
    if not inside:
        return None
    at_s = inside[0].at_s
    if any(one.at_s != at_s for one in inside[1:]):  # not of one sensor: nothing that can be added sample by sample
        return None
    summed = tuple(
        None if any(value is None for value in values) else sum(value for value in values if value is not None)
        for values in zip(*(one.power_w for one in inside), strict=True)
    )
    name = words.plain(inside[0].name) if len(inside) == 1 else "total"
    return Line(f"{name} ({inside[0].method})", at_s, summed, main=True)


def power_plot(channels: Sequence[ChannelTrack], bands: Sequence[Band], end: float, caption: str = "") -> Plot | None:
    """Power over time: the total thick, the rails thin, each with its method; None where no channel has a value."""
    total = total_line(channels)
    lines = [] if total is None else [total]
    alone = total is not None and sum(one.in_total for one in channels) == 1
    lines += [
        Line(f"{words.plain(one.name)} ({one.method})", one.at_s, one.power_w)
        for one in channels
        if any(value is not None for value in one.power_w) and not (one.in_total and alone)
    ]
    if not any(value is not None for line in lines for value in line.y):
        return None
    end = max(end, *(line.x[-1] for line in lines if len(line.x)), 1e-3)
    label = f"Power in watts over time, {words.number(end)} s: {words.listed([line.name for line in lines])}."
    return plots.over_time([Panel("W", lines)], bands, end=end, label=label, caption=caption)


def _tiles(profile: Profile) -> list[Tile]:
    latency, energy = profile.latency, profile.energy
    tiles = [
        Tile(f"latency {name}", words.number(latency.percentiles_ms[name]), "ms", detail)
        for name, detail in (("p50", "half of the queries"), ("p90", "9 of 10 queries"), ("p99", "99 of 100 queries"))
        if name in latency.percentiles_ms
    ]
    if energy is None:
        return [*tiles, Tile("energy per inference", words.NONE, "", "no power was measured")]
    for label, figure, unit, otherwise in (
        ("net energy per inference", energy.net_mj, "mJ", "rejected" if energy.rejected else "refused, see above"),
        ("gross energy per inference", energy.gross_mj, "mJ", "rejected" if energy.rejected else "not measured"),
        ("power at idle", energy.idle_w, "W", "not measured"),
        ("power at work", energy.work_w, "W", "not measured"),
    ):
        if figure is None:
            tiles.append(Tile(label, words.NONE, "", otherwise))
        else:
            value, _, interval = words.figure(figure).partition(" ")
            tiles.append(Tile(label, value, unit, f"{interval.strip('()')}; {energy.method}"))
    return tiles


def _power(page: Page, profile: Profile) -> None:
    page.section("Power and energy")
    energy = profile.energy
    if energy is None:
        page.text(f"No power was measured: {words.plain(profile.energy_reason or 'nobody said why')}.")
    else:
        page.facts(("Where the watts come from", dict(words.provenance(energy))))
    bands = _windows(profile)
    caption = "Shaded: the idle and work windows that are integrated. Between them the board settles."
    drawn = power_plot(profile.channels, bands, profile.seconds, caption if bands else "")
    if drawn is not None:
        page.plot(drawn)
    if energy is None or not energy.windows:
        return
    names = ("from s", "to s", "inferences", "energy J", "mean W", "samples", "updates", "longest gap ms")
    page.table(
        ["window", *(Column(name, numeric=True) for name in names)],
        [
            [
                f"{window.kind} {window.repeat + 1}", Shown(f"{window.start_s:.2f}", window.start_s),
                Shown(f"{window.end_s:.2f}", window.end_s), window.inferences,
                Shown(words.number(window.energy_j, 4), window.energy_j),
                Shown(words.number(window.mean_w, 4), window.mean_w), window.samples, window.updates,
                1e3 * window.longest_gap_s,
            ]
            for window in energy.windows
        ],
        "Windows, in their order; an update is a sample whose value differs from the one before",
    )  # fmt: skip
    if energy.noise_mj is not None:
        page.text(f"The noise of the net energy is {words.number(energy.noise_mj)} mJ (standard uncertainty).")


def _windows(profile: Profile) -> list[Band]:
    if profile.energy is None:
        return []
    return [
        Band(one.kind, one.start_s, one.end_s, "idle" if one.kind == "idle" else f"work {one.repeat + 1}")
        for one in profile.energy.windows
    ]


def _latency(page: Page, profile: Profile) -> None:
    latency = profile.latency
    page.section("Latency")
    page.text(f"Single stream, one query after another: {words.latency_line(profile)}.")
    marks = [
        Mark(name, latency.percentiles_ms[name]) for name in ("p50", "p90", "p99") if name in latency.percentiles_ms
    ]
    if latency.times_ms:
        said = ", ".join(f"{mark.name} {words.number(mark.value)} ms" for mark in marks)
        page.plot(
            plots.histogram(
                latency.times_ms, marks, unit="ms", caption="How often which latency occurs.",
                label=f"Histogram of the latency of {words.count(len(latency.times_ms), 'query', 'queries')}: {said}.",
            ),
            plots.cdf(
                {"latency": latency.times_ms}, marks, unit="ms", caption="What part of the queries takes no longer.",
                label=f"Cumulative distribution of latency: {said}.",
            ),
        )  # fmt: skip
    if latency.stages_ms:
        _stages(page, latency)
    bound = words.early_stopping_line(profile)
    if bound is not None:
        page.text(f"{bound}.")
    page.facts(("Start", dict(words.start_entries(profile))))


def _stages(page: Page, latency: Latency) -> None:
    key = "mean" if all("mean" in one for one in latency.stages_ms.values()) else "p50"
    parts = {words.plain(name): figures[key] for name, figures in latency.stages_ms.items() if key in figures}
    if parts and min(parts.values()) >= 0:
        said = ", ".join(f"{name} {words.number(value)} ms" for name, value in parts.items())
        what = {"mean": "the means", "p50": "the medians, which need not add up"}[key]
        page.plot(
            plots.shares(parts, unit="ms", label=f"A detection by stage: {said}.", caption=f"By {what} of each stage.")
        )
    whole = {**latency.stages_ms, "whole detection": latency.percentiles_ms}
    names = list(dict.fromkeys(name for figures in whole.values() for name in figures))
    page.table(
        ["stage", *(Column(f"{words.plain(name)} ms", numeric=True) for name in names)],
        [[words.plain(stage), *(figures.get(name) for name in names)] for stage, figures in whole.items()],
        "Latency by stage",
        sortable=False,
    )


def _conditions(page: Page, profile: Profile) -> None:
    if not profile.conditions and not profile.throttling:
        return
    page.section("Temperature, clocks and throttling")
    if profile.throttling:
        page.notice("warning", "The board throttled itself:", words.throttle_lines(profile))
    panels = []
    for unit, shown, title in _PANELS:
        lines = [
            Line(words.plain(one.name), one.at_s, one.values)
            for one in profile.conditions
            if one.unit == unit and any(value is not None for value in one.values)
        ]
        if lines:
            panels.append(Panel(shown, lines, title))
    if panels:
        bands = [Band("throttle", one.start_s, one.end_s, one.cause) for one in profile.throttling]
        last = max(line.x[-1] for panel in panels for line in panel.lines)
        page.plot(
            plots.over_time(
                panels, bands, end=max(profile.seconds, last, 1e-3),
                label=f"{words.listed([panel.title for panel in panels])} over time; "
                f"{words.count(len(bands), 'throttled stretch', 'throttled stretches')}.",
                caption="Shaded: the board throttled itself." if bands else "",
            )
        )  # fmt: skip
    absent = [
        f"{words.plain(one.name)}: {words.plain(one.reason)}" for one in profile.conditions if one.reason is not None
    ]
    if absent:
        page.notice("note", "Not read all the time:", absent)


def _layers(page: Page, latency: Latency) -> None:
    if not latency.layers:
        if latency.layers_reason is not None:
            page.section("Layers")
            page.text(f"No times of layers: {words.plain(latency.layers_reason)}.")
        return
    page.section("Layers")
    if latency.layers_reason is not None:
        page.text(words.plain(latency.layers_reason))
    whole = sum(one.time_ms for one in latency.layers if one.time_ms is not None)
    page.table(
        ["layer", Column("ms", numeric=True), Column("%", numeric=True), "unit", "precision"],
        [
            [
                ", ".join(words.plain(node) for node in one.nodes), one.time_ms,
                None if one.time_ms is None or not whole else Shown(f"{100 * one.time_ms / whole:.1f}", one.time_ms),
                words.plain(one.unit), words.plain(one.precision) if one.precision is not None else None,
            ]
            for one in latency.layers
        ],
        f"{words.count(len(latency.layers), 'layer')} as the engine ran them, timed apart from the run above",
    )  # fmt: skip


def _sampling(page: Page, profile: Profile) -> None:
    absent = [
        f"{words.plain(one.sensor)}, {words.plain(one.name)}: {words.plain(one.absent)}"
        for one in profile.channels
        if one.absent is not None
    ]
    if not (profile.sampling or absent or profile.notes):
        return
    page.section("How it was sampled")
    if profile.sampling:
        names = (
            "wanted Hz",
            "got Hz",
            "refresh ms",
            "samples",
            "updates",
            "longest gap ms",
            "read ms",
            "cost % of a core",
        )
        page.table(
            ["sensor", *(Column(name, numeric=True) for name in names)],
            [
                [
                    words.plain(one.sensor), one.wanted_hz, one.effective_hz, 1e3 * one.refresh_s, one.samples,
                    one.updates, 1e3 * one.longest_gap_s, one.read_ms, one.cost_percent,
                ]
                for one in profile.sampling
            ],
            "Sensors; refresh is the sensor's own time between two values",
        )  # fmt: skip
    if absent:
        page.notice("note", "Channels that had no value at some time:", absent)
    if profile.notes:
        page.notice("note", "Notes of the run:", [words.plain(note) for note in profile.notes])
