"""The table of a model: a row for each file, as text, as Markdown and as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """What is known of one way to quantize.

    Args:
        name: Short, unique in the table.
        title: For people.
        map: mAP50-95 on the evaluation photos, 0..1.
        drop: The float model's `map` less this one, with its 95 % interval, paired over photos: (drop, low, high).
        ratio: Latency against the optimized float, measured in turns, with its 95 % interval: (ratio, low, high).
        ms: Median of its inference.
        seconds: Wall time of making it; None where nothing was planned.
        cpu_s: CPU time of it, where it is known.
        size_bytes: Of the file.
        note: Why something is missing, or what else is to be said.
    """

    name: str
    title: str
    map: float | None = None
    drop: tuple[float, float, float] | None = None
    ratio: tuple[float, float, float] | None = None
    ms: float | None = None
    seconds: float | None = None
    cpu_s: float | None = None
    size_bytes: int | None = None
    note: str = ""


HEADINGS = ("method", "mAP50-95", "drop (95 %)", "latency ratio (95 %)", "ms", "planning s", "CPU s", "MB", "note")


def cells(row: Row) -> tuple[str, ...]:
    """A row as it is shown: one text for each of `HEADINGS`."""
    return (
        row.title,
        "" if row.map is None else f"{row.map:.4f}",
        "" if row.drop is None else "{:+.4f} ({:+.4f} to {:+.4f})".format(*row.drop),
        "" if row.ratio is None else "{:.3f} ({:.3f} to {:.3f})".format(*row.ratio),
        "" if row.ms is None else f"{row.ms:.2f}",
        "" if row.seconds is None else f"{row.seconds:.0f}",
        "" if row.cpu_s is None else f"{row.cpu_s:.0f}",
        "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f}",
        row.note,
    )


def text(rows: Sequence[Row]) -> str:
    """The table with aligned columns."""
    lines = [HEADINGS, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain values, for JSON."""
    return [asdict(row) for row in rows]
