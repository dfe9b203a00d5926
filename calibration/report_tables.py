"""What the planner found as CSV files, for spreadsheets and scripts. Columns carry their unit; an empty cell is a value
that is not there."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_sdk.calibration.outcome import Outcome
from edge_sdk.errors import SinkError, one_line
from edge_sdk.files import replacing
from edge_sdk.report.table import harmless

FILES = ("groups.csv", "candidates.csv")

Cell = str | float | int | None


def write_csv(outcome: Outcome, folder: Path) -> tuple[Path, ...]:
    """Writes two tables into a folder, each whole or not at all; files of these names are replaced.

    - ``groups.csv``: one row a group, in the order of the computation; columns as in
      `edge_sdk.calibration.outcome.GroupRow`. ``swap_ratio`` and ``swap_drop`` are what turning it over is predicted
      to change.
    - ``candidates.csv``: one row a file that was built; columns as in `edge_sdk.calibration.outcome.Candidate`.
      ``method`` says how its latency is known; ``misplaced`` is how many layers do not run as planned.

    Args:
        outcome: What to write.
        folder: Made where it is not there.

    Returns:
        The files.

    Raises:
        SinkError: They cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder}: cannot be made: {error.strerror or one_line(error)}") from error
    for name, rows in zip(FILES, (_groups(outcome), _candidates(outcome)), strict=True):
        with replacing(folder / name) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([_cell(one) for one in row] for row in rows)
    return tuple(folder / name for name in FILES)


def _groups(outcome: Outcome) -> Iterator[Sequence[Cell]]:
    yield (
        "group", "nodes", "precisions", "precision", "pinned", "reason", "macs", "damage_alone", "damage_without",
        "gain_ms", "gain_method", "swap_ratio", "swap_drop",
    )  # fmt: skip
    method = str(outcome.cost.get("method", ""))
    for row in outcome.groups:
        yield (
            row.group.name, " ".join(row.group.nodes), " ".join(row.group.precisions), row.precision, int(row.pinned),
            row.group.reason, row.macs, row.alone, row.without, row.gain_ms, None if row.gain_ms is None else method,
            *(row.swap or (None, None)),
        )  # fmt: skip


def _candidates(outcome: Outcome) -> Iterator[Sequence[Cell]]:
    yield (
        "candidate", "kind", "picked", "predicted_ratio", "latency_ms", "ratio", "ratio_low", "ratio_high", "method",
        "predicted_drop", "metric", "score", "drop", "drop_low", "drop_high", "damage", "photos", "size_bytes",
        "low_macs", "misplaced", "energy_mj", "sha256",
    )  # fmt: skip
    for one in outcome.candidates:
        time, found = one.latency, one.accuracy
        timed = (None,) * 5 if time is None else (time.ms, time.ratio, time.low, time.high, time.method)
        scored = (
            (None,) * 6 if found is None
            else (found.map, found.drop, found.low, found.high, found.damage, found.photos)
        )  # fmt: skip
        yield (
            one.name, one.kind, int(one.name == outcome.pick.name), one.predicted_ratio, *timed, one.predicted_drop,
            outcome.metric, *scored, one.size_bytes, one.low_macs, len(one.misplaced), one.energy_mj, one.sha256,
        )  # fmt: skip


def _cell(cell: Cell) -> Cell:
    if isinstance(cell, str):
        return harmless(cell)
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
