"""What the planner found, for a terminal."""

from __future__ import annotations

from edge_sdk.calibration import report_words as say
from edge_sdk.calibration.outcome import Outcome
from edge_sdk.report import words


def summary(outcome: Outcome) -> str:
    """All that a terminal needs, some twenty lines."""
    energy = any(one.energy_mj is not None for one in outcome.candidates)
    rows = [("candidate", "latency ratio", f"drop of {outcome.metric}", "MiB", *["mJ"] * energy, "")]
    rows += [
        (
            say.short(one.name), "-" if one.latency is None else say.ratio(one.latency),
            "-" if one.accuracy is None else say.drop(one.accuracy), f"{one.size_bytes / 2**20:.2f}",
            *["-" if one.energy_mj is None else f"{one.energy_mj:.4g}"] * energy,
            "picked" if one.name == outcome.pick.name else "",
        )
        for one in outcome.candidates
    ]  # fmt: skip
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines = [say.headline(outcome), *outcome.pick.why, "", *table, "", *say.agreement_lines(outcome)]
    lines += [f"warning: {one}" for one in say.warnings(outcome)]
    return "\n".join(words.plain(line) for line in lines).rstrip()
