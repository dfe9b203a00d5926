"""The files of a report, its words and its tables."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from edge_sdk.calibration import report_words as say
from edge_sdk.calibration.outcome import Drop
from edge_sdk.calibration.report import Example, parse, read, record, summary, write_csv, write_report
from edge_sdk.errors import SinkError

from ..report.outcomes import CASES, Case, make_outcome  # noqa: TID252  there is no package of tests to name
from .scenes import scene
from .test_report_pictures import found


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_report_is_four_files_and_a_page_below_six_megabytes(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed")
    boxes = found((0.9, 10, 0))
    examples = [Example(f"{seed}.jpg", scene(seed, (480, 640)), boxes, boxes) for seed in range(6)]
    files = write_report(make_outcome(), tmp_path / "out", examples, ["person"])
    names = ["candidates.csv", "groups.csv", "report.html", "report.json"]
    assert sorted(path.name for path in files) == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert (tmp_path / "out" / "report.html").stat().st_size < 6 << 20
    assert read(tmp_path / "out" / "report.json").pick == make_outcome().pick


def test_tables_hold_every_group_and_candidate_in_full(tmp_path: Path) -> None:
    outcome = make_outcome()
    groups, candidates = (rows(path) for path in write_csv(outcome, tmp_path))
    assert [row["group"] for row in groups] == [row.group.name for row in outcome.groups]
    assert [float(row["damage_alone"] or "nan") for row in groups] == pytest.approx(
        [math.nan if row.alone is None else row.alone for row in outcome.groups], nan_ok=True
    )
    fixed = groups[16]
    assert (fixed["precisions"], fixed["damage_alone"], fixed["swap_ratio"]) == ("fp32", "", "")
    assert fixed["reason"] == "the engine has no INT8 kernel of Resize"
    picked = next(row for row in candidates if row["picked"] == "1")
    assert (picked["candidate"], picked["method"], picked["ratio"]) == ("hybrid 2", "measured", "0.912")
    assert float(picked["drop_low"]) == pytest.approx(-0.0041)


def test_no_name_is_a_formula_and_what_is_no_number_is_empty(tmp_path: Path) -> None:
    groups, _ = (rows(path) for path in write_csv(make_outcome("weird"), tmp_path))
    assert groups[1]["group"].startswith("'=cmd|")
    _, candidates = (rows(path) for path in write_csv(make_outcome("custom_metric"), tmp_path))
    assert {row["drop_low"] for row in candidates} == {""}
    made = make_outcome()
    names = tuple(replace(one, name=f"{first}1+1") for one, first in zip(made.candidates, "=+-@\t", strict=False))
    _, candidates = (rows(path) for path in write_csv(replace(made, candidates=names), tmp_path))
    assert all(row["candidate"].startswith("'") or row["candidate"].startswith(" ") for row in candidates)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be made"):
        write_csv(make_outcome(), tmp_path / "file" / "out")


@pytest.mark.parametrize("case", CASES)
def test_a_terminal_gets_the_answer_and_no_control_characters(case: Case) -> None:
    said = summary(make_outcome(case))
    assert said.startswith(say.headline(make_outcome(case)))
    assert "\x1b" not in said
    assert said.count("picked") == 1
    assert len(said.splitlines()) < 40
    assert summary(parse(_json(case))) == said


def test_an_estimate_is_marked_in_a_terminal_too() -> None:
    said = summary(make_outcome("estimated"))
    assert "0.912 (0.901 to 0.924) ESTIMATED" in said
    assert "of the optimized float's time (0.901 to 0.924, ESTIMATED)" in said


def test_what_r2_means_is_said() -> None:
    assert "is predicted well" in say.r2_line(make_outcome(r2=0.9))
    assert "trust what was measured" in say.r2_line(make_outcome(r2=0.6))
    assert "hardly better than their mean" in say.r2_line(make_outcome(r2=0.1))
    assert say.r2_line(make_outcome(r2=math.nan)) == say.r2_line(make_outcome(r2=None))


def test_the_next_swaps_are_ranked_by_gain_over_loss() -> None:
    made = make_outcome()
    rows = [replace(row, swap=None) for row in made.groups]
    rows[0] = replace(rows[0], swap=(-0.010, 0.004))
    rows[1] = replace(rows[1], swap=(-0.008, 0.001))
    rows[2] = replace(rows[2], swap=(0.002, -0.003))
    rows[3] = replace(rows[3], swap=(0.010, -0.004))
    rows[4] = replace(rows[4], swap=(math.nan, -1.0))
    rows[6] = replace(rows[6], swap=(0.010, 0.004))
    faster, better = say.next_swaps(replace(made, groups=tuple(rows)))
    assert faster == [rows[1], rows[0]]
    assert better == [rows[2], rows[3]]


def test_agreement_leaves_references_and_estimates_out() -> None:
    found = say.agreement(make_outcome())
    assert (len(found.ratios), found.inside, found.drops, found.kept) == (6, 6, 6, True)
    assert say.agreement(make_outcome("estimated")).ratios == ()
    assert say.agreement(make_outcome("custom_metric")).drops == 0
    assert say.agreement_lines(make_outcome("bare")) == []


def test_differences_are_printed_to_what_they_can_tell() -> None:
    assert [say.signed(value) for value in (0.00412, -0.012, 0.00003, -0.00003, 0.0)] == [
        "+0.0041", "-0.0120", "0", "0", "0",
    ]  # fmt: skip
    assert (say.amount(12.5), say.amount(None), say.amount(math.nan)) == ("12.50", "-", "-")


def _json(case: Case) -> str:
    return json.dumps(record(make_outcome(case)))


def test_a_drop_of_almost_nothing_keeps_its_interval() -> None:
    assert say.drop(Drop(0.3942, -0.00001, -0.0122, 0.0121, 0.06, 39)) == "0 (-0.0122 to 0.0121)"
