"""From the sum of a Raspberry Pi 5's rails to the whole board: a published line, or one of the user's own.

The sum lacks what is on the 5 V rail and what the converters lose, about a quarter at 4 to 6 W. A line through
measured pairs of the sum and a meter before the board makes up for it, on the board it was measured on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_sdk.errors import UsageError, one_line
from edge_sdk.files import replacing

SCHEMA = "edge-sdk/pmic-fit/1"
LEAST_POINTS = 3
LEAST_SPREAD_W = 1.0
MOST_W = 100.0  # the board's own supply gives 27

_MOST_BYTES = 65536
_TWO_NUMBERS = re.compile(
    r"\s*([-+]?[\d.]{1,20}(?:[eE][-+]?\d{1,2})?)\s*,\s*([-+]?[\d.]{1,20}(?:[eE][-+]?\d{1,2})?)\s*"
)


@dataclass(frozen=True)
class Fit:
    """The board's power as a line: slope * sum of the rails + intercept_w.

    Args:
        slope: W of the board for each W of the sum; above 0.
        intercept_w: W of the board where the sum is 0.
        points: How many pairs it was fitted to; 0 where that is not known.
        rms_w: Root mean square of what the meter said less what the line says; None where that is not known.

    Raises:
        UsageError: A figure that no line of a board can have.
    """

    slope: float
    intercept_w: float
    points: int = 0
    rms_w: float | None = None

    def __post_init__(self) -> None:
        rms_w = 0.0 if self.rms_w is None else self.rms_w
        if not all(math.isfinite(value) for value in (self.slope, self.intercept_w, rms_w)):
            raise UsageError("a fit's figures must be finite numbers")
        if self.slope <= 0:
            raise UsageError(f"a fit's slope must be above 0, not {self.slope:g}")
        if self.points < 0 or rms_w < 0:
            raise UsageError("a fit's points and rms cannot be negative")

    def power_w(self, sum_w: float) -> float:
        """The board's power at a sum of its rails."""
        return self.slope * sum_w + self.intercept_w

    @property
    def uncertainty(self) -> float:
        """Of its figures, as a part of 1, where somebody states it; see `Channel.uncertainty`."""
        return 0.1 if self == PUBLISHED else 0.0

    @property
    def missing(self) -> str:
        """What a reader of its figures must know, in words."""
        if self == PUBLISHED:
            return (
                "fitted on one board with a USB-C meter (jfikar/RPi5-power); at least 10 % uncertain; "
                "not with USB or NVMe devices attached"
            )
        if not self.points or self.rms_w is None:
            return "a line that you gave; how well it fits is not known"
        return (
            f"your own calibration on {self.points} points, off by {self.rms_w:.2f} W in the root mean square; "
            "it holds for what was attached then"
        )


PUBLISHED = Fit(1.1451, 0.5879)
"""One board, a USB-C meter, means over 50 s; nobody published its points. Source: README of jfikar/RPi5-power."""


def fit_line(pairs: Iterable[tuple[float, float]]) -> Fit:
    """The line that fits best in the sense of least squares.

    Args:
        pairs: (sum of the rails, what the meter before the board shows), in W, each a mean over the same time.

    Raises:
        UsageError: Fewer than 3 pairs, sums that lie within 1 W, or something that is no power.
    """
    import numpy as np

    points = [(float(sum_w), float(meter_w)) for sum_w, meter_w in pairs]
    if not all(0 <= value <= MOST_W for point in points for value in point):
        raise UsageError(f"a calibration's powers must be from 0 to {MOST_W:g} W")
    if len(points) < LEAST_POINTS:
        raise UsageError(f"a calibration needs at least {LEAST_POINTS} points, not {len(points)}")
    sums = np.array([sum_w for sum_w, _ in points])
    meter = np.array([meter_w for _, meter_w in points])
    if np.ptp(sums) < LEAST_SPREAD_W:
        raise UsageError(
            f"the points lie within {np.ptp(sums):.2f} W of each other: "
            f"measure loads that differ by {LEAST_SPREAD_W:g} W at least, such as idle and every core busy"
        )
    (slope, intercept), *_ = np.linalg.lstsq(np.column_stack([sums, np.ones_like(sums)]), meter, rcond=None)
    if slope <= 0:
        raise UsageError("the meter shows less where the rails add up to more: is it before this board?")
    rms = float(np.sqrt(np.mean((meter - slope * sums - intercept) ** 2)))
    return Fit(float(slope), float(intercept), len(points), rms)


def save(fit: Fit, path: Path) -> None:
    """Writes a fit as JSON.

    Raises:
        SinkError: It cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"schema": SCHEMA, **asdict(fit)}, indent=2) + "\n", encoding="utf-8")


def load(path: Path) -> Fit:
    """Reads what `save` wrote.

    Raises:
        UsageError: There is no such file, or it is no fit that this version knows.
    """
    try:
        if not path.is_file():  # a pipe would have us wait
            raise UsageError(f"{path}: no such file")
        with path.open("rb") as file:
            table = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path}: cannot be read: {one_line(error)[:200]}") from error
    if not isinstance(table, dict) or table.get("schema") != SCHEMA:
        raise UsageError(f"{path}: no calibration of the Raspberry Pi 5's power ({SCHEMA})")
    points, rms_w = table.get("points"), table.get("rms_w")
    try:
        if not isinstance(points, int) or isinstance(points, bool):
            raise UsageError("points must be a whole number")
        rms_w = None if rms_w is None else _number(rms_w)
        return Fit(_number(table.get("slope")), _number(table.get("intercept_w")), points, rms_w)
    except (UsageError, OverflowError) as error:
        raise UsageError(f"{path}: {one_line(error)}") from error


def chosen(option: str) -> Fit:
    """The fit that an option names: "published", "1.15,0.6" (slope and intercept in W), or a file from `save`.

    Raises:
        UsageError: It names none.
    """
    if option == "published":
        return PUBLISHED
    numbers = _TWO_NUMBERS.fullmatch(option)
    if numbers is None:
        return load(Path(option))
    try:
        return Fit(float(numbers[1]), float(numbers[2]))
    except ValueError as error:
        raise UsageError(f"fit={option}: {one_line(error)}") from error


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise UsageError("slope, intercept_w and rms_w must be numbers")
    return float(value)
