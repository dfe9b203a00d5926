"""The report of a calibration: one page, one JSON file and two tables, out of what the planner found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_sdk.calibration.outcome import Outcome
from edge_sdk.calibration.report_page import calibration_page
from edge_sdk.calibration.report_pictures import Example, telling
from edge_sdk.calibration.report_record import parse, read, record, write
from edge_sdk.calibration.report_tables import write_csv
from edge_sdk.calibration.report_text import summary

__all__ = [
    "Example", "calibration_page", "parse", "read", "record", "summary", "telling", "write", "write_csv",
    "write_report",
]  # fmt: skip


def write_report(
    outcome: Outcome, folder: Path, examples: Sequence[Example] = (), classes: Sequence[str] = ()
) -> tuple[Path, ...]:
    """Writes ``report.json``, ``groups.csv``, ``candidates.csv`` and ``report.html``, each whole or not at all.

    The page comes last: where Plotly is missing, the others are there.

    Args:
        outcome: What the planner found.
        folder: Made where it is not there.
        examples: Photos with boxes before and after, few: the page holds them; see `telling`.
        classes: Names by class id.

    Returns:
        The files.

    Raises:
        SinkError: They cannot be written.
        MissingDependencyError: Plotly is not installed, which draws the page's plots.
    """
    tables = write_csv(outcome, folder)
    written = (folder / "report.json", *tables, folder / "report.html")
    write(outcome, written[0])
    calibration_page(outcome, examples, classes).save(written[-1])
    return written
