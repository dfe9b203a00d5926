"""What the planner found as JSON: written whole, and read as what it is, text that anybody may have written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.calibration.outcome import Candidate, Outcome
from edge_sdk.errors import PlanError
from edge_sdk.files import replacing
from edge_sdk.report import typed

SCHEMA = "edge-sdk/calibration/1"
"""Version of the form."""

SCHEMA_FILE = Path(__file__).with_name("calibration.schema.json")
"""JSON Schema (draft 2020-12) of what `record` gives."""

MOST_BYTES = 100 * 2**20
"""What a file may have: a model of a hundred groups and as many photos has some 0.3 MB."""

_WHAT = "record of a calibration"
_BOUNDS = ("low", "high")


def record(outcome: Outcome) -> dict[str, Any]:
    """Plain values for JSON, of `SCHEMA_FILE`; what is no number is null."""
    found: dict[str, Any] = _plain({"schema": SCHEMA, **asdict(outcome)})
    return found


def write(outcome: Outcome, path: Path) -> None:
    """Writes `record` as JSON, whole or not at all; the same bytes for the same outcome.

    Raises:
        SinkError: It cannot be written.
    """
    text = json.dumps(record(outcome), allow_nan=False, indent=1)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def read(path: Path) -> Outcome:
    """Reads what `write` wrote.

    Raises:
        PlanError: It cannot be read, is too large, or is no record of a version that this one reads; says which key is
            wrong.
    """
    try:
        return parse(typed.bytes_of(path, MOST_BYTES, _WHAT))
    except (typed.FormError, PlanError) as error:
        raise PlanError(f"{path}: {error}") from error


def parse(data: bytes | str) -> Outcome:
    """An outcome out of its JSON.

    Raises:
        PlanError: As of `read`.
    """
    try:
        table = typed.table_of(data, SCHEMA, _WHAT)
        del table["schema"]
        unknown = _without_bounds(table)
        outcome = typed.made(Outcome, table, _WHAT)
    except typed.FormError as error:
        raise PlanError(str(error)) from error
    candidates = tuple(_unbounded(one) if place in unknown else one for place, one in enumerate(outcome.candidates))
    outcome = replace(outcome, candidates=candidates)
    _check(outcome)
    return outcome


def _plain(value: Any) -> Any:
    """What JSON has a word for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _without_bounds(table: Mapping[str, Any]) -> set[int]:
    """Candidates whose accuracy has no interval, by place; zeros stand in for it until they are read."""
    found = set()
    candidates = table.get("candidates")
    for place, one in enumerate(candidates if isinstance(candidates, list) else ()):
        accuracy = one.get("accuracy") if isinstance(one, dict) else None
        if isinstance(accuracy, dict) and all(name in accuracy and accuracy[name] is None for name in _BOUNDS):
            accuracy.update(dict.fromkeys(_BOUNDS, 0.0))
            found.add(place)
    return found


def _unbounded(one: Candidate) -> Candidate:
    assert one.accuracy is not None  # noqa: S101  `_without_bounds` saw it
    return replace(one, accuracy=replace(one.accuracy, low=math.nan, high=math.nan))


def _check(outcome: Outcome) -> None:
    """What the types do not say."""
    names = [one.name for one in outcome.candidates]
    _once(names, "candidates")
    if outcome.pick.name not in names:
        raise PlanError(f"pick.name: there is no candidate {outcome.pick.name!r}")
    _once([row.group.name for row in outcome.groups], "groups")
    free = sum(len(row.group.precisions) > 1 for row in outcome.groups)
    for place, row in enumerate(outcome.groups):
        if not row.group.precisions:
            raise PlanError(f"groups[{place}].group.precisions: there is none")
        if row.macs < 0:
            raise PlanError(f"groups[{place}].macs: below 0")
    for place, one in enumerate(outcome.candidates):
        at = f"candidates[{place}]"
        if one.mask is not None and len(one.mask) != free:
            raise PlanError(f"{at}.mask: {len(one.mask)} positions for {free} groups that have the choice")
        if one.latency is not None and not one.latency.low <= one.latency.high:
            raise PlanError(f"{at}.latency: low is above high")
        if one.latency is not None and not (one.latency.ms > 0 and one.latency.ratio > 0):
            raise PlanError(f"{at}.latency: a time is not above 0")
        if one.accuracy is not None and one.accuracy.low > one.accuracy.high:  # false for NaN
            raise PlanError(f"{at}.accuracy: low is above high")


def _once(names: list[str], at: str) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise PlanError(f"{at}: {name!r} stands there twice")
        seen.add(name)
