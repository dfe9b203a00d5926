"""Profiles in words and small tables, for the terminal."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence

from edge_sdk.measure.record import Profile, Sampling
from edge_sdk.report import words
from edge_sdk.report.compare import Comparison
from edge_sdk.report.comparison_page import cell_text, ratio_text

_NARROWEST, _WIDEST = 100, 200  # of tables, in columns; the latter where no terminal says how wide it is
_LAYERS = 5


def summary(profile: Profile) -> str:
    """A profile in some lines, the first of which says what was measured and the second what it is worth."""
    found = words.verdict(profile)
    head = [
        f"{words.model_of(profile)} on {words.board_of(profile)}, {words.engine_of(profile)}",
        f"{found.kind.upper() if found.kind == 'rejected' else found.kind}: {found.line}",
        *(f"  - {line}" for line in found.details),
    ]
    return "\n".join([*head, *_aligned(_latency(profile) + _energy(profile) + _circumstances(profile))])


def comparison(found: Comparison) -> str:
    """A table of several runs, and what keeps them from being compared."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table("figure", *(escape(label) for label in found.labels))
    for row in found.rows:
        cells = ("\n".join(filter(None, (cell_text(one), ratio_text(one).replace("×", "x")))) for one in row.cells)
        table.add_row(Text(f"{row.name}, {row.unit}"), *(Text(cell) for cell in cells))
    drawn = io.StringIO()
    columns = shutil.get_terminal_size((_WIDEST, 24)).columns
    Console(file=drawn, width=max(_NARROWEST, columns), color_system=None, highlight=False).print(table)
    lines = [line.rstrip() for line in drawn.getvalue().splitlines()]
    lines.append(f"x: ratio to {found.labels[0]}; in brackets 95 % intervals")
    if found.front:
        names = (found.labels[place] for place in found.front)
        lines.append(f"front of p50 latency and gross energy, fastest first: {'; '.join(names)}")
    lines += [f"not comparable: {line}" for line in found.not_comparable]
    lines += [f"the runs differ: {line}" for line in found.differences]
    return "\n".join(lines)


Entry = tuple[str, str]


def _latency(profile: Profile) -> list[Entry]:
    latency = profile.latency
    stages = [
        f"{words.plain(name)} {words.number(figures['p50'])}"
        for name, figures in latency.stages_ms.items()
        if "p50" in figures
    ]
    return [
        ("latency", words.latency_line(profile)),
        *([("stages", f"{', '.join(stages)} ms (p50)")] if stages else []),
        ("start", ", ".join(f"{what} {text}" for what, text in words.start_entries(profile))),
        *([("bound", bound)] if (bound := words.early_stopping_line(profile)) is not None else []),
    ]


def _energy(profile: Profile) -> list[Entry]:
    energy = profile.energy
    if energy is None:
        return []
    entries = [("energy", words.energy_line(energy))]
    watts = [
        f"{name} {words.figure(figure, 'W')}"
        for name, figure in (("idle", energy.idle_w), ("at work", energy.work_w))
        if figure is not None
    ]
    if watts:
        entries.append(("power", ", ".join(watts)))
    return [*entries, *words.provenance(energy)]


def _circumstances(profile: Profile) -> list[Entry]:
    entries = [("sampling", _sampling(one)) for one in profile.sampling]
    entries += [("throttled", line) for line in words.throttle_lines(profile)]
    entries += [
        ("absent", f"{words.plain(one.name)}: {words.plain(one.absent)}")
        for one in profile.channels
        if one.absent is not None
    ]
    timed = [one for one in profile.latency.layers if one.time_ms is not None]
    slowest = sorted(timed, key=lambda one: -(one.time_ms or 0.0))[:_LAYERS]
    entries += [
        ("slow layer", f"{words.number(one.time_ms)} ms  {words.shortened(words.plain(', '.join(one.nodes)), 80)}")
        for one in slowest
    ]
    return [*entries, *(("note", words.plain(note)) for note in profile.notes)]


def _sampling(one: Sampling) -> str:
    return (
        f"{words.plain(one.sensor)}: {words.number(one.effective_hz)} of {words.number(one.wanted_hz)} Hz, longest gap "
        f"{words.number(1e3 * one.longest_gap_s)} ms, {words.number(one.cost_percent, 2)} % of a core"
    )


def _aligned(entries: Sequence[Entry]) -> list[str]:
    """The same words before several lines are written once."""
    lines = []
    before = ""
    for name, text in entries:
        lines.append(f"  {'' if name == before else name:<11}{text}")
        before = name
    return lines
