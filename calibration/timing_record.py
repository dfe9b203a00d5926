"""Figures of timed files and their layers as JSON has them: what a recorded profile, a cache and a board's answer hold.

Everything that is read is checked: such files travel.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from edge_sdk.backends.base import Layer
from edge_sdk.calibration.outcome import Origin, Timed
from edge_sdk.errors import ModelError, one_line
from edge_sdk.targets import Precision

SCHEMA = 1
"""Of a recorded profile."""

_MAX_RECORD_BYTES = 1 << 26
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_record(file: Path) -> dict[str, Any]:
    """A recorded profile, checked whole.

    Raises:
        ModelError: It is none, or damaged.
    """
    try:
        if file.stat().st_size > _MAX_RECORD_BYTES:
            raise ModelError(f"{file}: {file.stat().st_size} bytes are too many for a recorded profile")
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or one_line(error)}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: no recorded profile: {one_line(error)}") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else None
        raise ModelError(f"{file}: no recorded profile of schema {SCHEMA} (it says {found!r:.40})")
    on, timed, layers = record.get("on"), record.get("timed"), record.get("layers")
    if not isinstance(on, str) or not isinstance(timed, list) or not isinstance(layers, dict):
        raise ModelError(f"{file}: a recorded profile has on (a text), timed (a list) and layers (by sha256)")
    for row in timed:
        timed_from(row, "recorded", str(file))
        if not all(isinstance(row.get(key), str) and _SHA256.fullmatch(row[key]) for key in ("sha256", "reference")):
            raise ModelError(f"{file}: a figure belongs to no file: sha256 and reference are 64 hexadecimal digits")
    for key, rows in layers.items():
        if not _SHA256.fullmatch(key):
            raise ModelError(f"{file}: layers belong to no file: {key!r:.70} is no sha256")
        layers_from(rows, str(file))
    return {"schema": SCHEMA, "on": on, "timed": timed, "layers": layers}


def row_of(timed: Timed) -> dict[str, float]:
    """A figure as JSON has it; `timed_from` reads it."""
    return {"ms": timed.ms, "ratio": timed.ratio, "low": timed.low, "high": timed.high}


def timed_from(row: Any, method: Origin, where: str) -> Timed:
    """A figure out of JSON.

    Raises:
        ModelError: It is none: numbers above 0, in order; `where` is named.
    """
    values: list[Any] = [row.get(key) for key in ("ms", "ratio", "low", "high")] if isinstance(row, dict) else []
    if not values or not all(_is_number(value) and value > 0 for value in values):
        raise ModelError(f"{where}: a figure has ms, ratio, low and high, numbers above 0, not {row!r:.80}")
    ms, ratio, low, high = map(float, values)
    if not low <= ratio <= high:
        raise ModelError(f"{where}: the ratio {ratio:g} is not within its interval {low:g} to {high:g}")
    return Timed(ms, ratio, low, high, method)


def rows_of(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Layers as JSON has them; `layers_from` reads them."""
    return [
        {"nodes": list(one.nodes), "unit": one.unit, "precision": one.precision, "time_ms": one.time_ms}
        for one in layers
    ]


def layers_from(rows: Any, where: str) -> tuple[Layer, ...]:
    """Layers out of JSON.

    Raises:
        ModelError: They are none; `where` is named.
    """
    if not isinstance(rows, list):
        raise ModelError(f"{where}: no list of layers")
    found = []
    for row in rows:
        nodes = row.get("nodes") if isinstance(row, dict) else None
        unit, precision, ms = (
            row.get(key) if isinstance(row, dict) else None for key in ("unit", "precision", "time_ms")
        )
        named_well = isinstance(nodes, list) and nodes and all(isinstance(name, str) for name in nodes)
        timed_well = ms is None or (_is_number(ms) and ms >= 0)
        if (
            not named_well
            or not timed_well
            or not isinstance(unit, str)
            or precision not in (None, *get_args(Precision))
        ):
            raise ModelError(f"{where}: no layer: {row!r:.80}")
        found.append(Layer(tuple(nodes), unit, precision, None if ms is None else float(ms)))  # type: ignore[arg-type]
    return tuple(found)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
