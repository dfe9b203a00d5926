"""A file of /sys that holds one value, and what the text in it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_sdk.errors import SensorError
from edge_sdk.result import Reading
from edge_sdk.sensors import sysfs
from edge_sdk.sensors.base import Absent, Value

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_MOST_LETTERS = 64
_GONE = "gone ("  # as `sysfs.why` says it


@dataclass(frozen=True)
class Probe:
    """One value of a board, and where it stands.

    Args:
        name: Of the reading.
        path: The file.
        unit: What `means` gives.
        means: From the file's text to a value; pure, and raises for no text.
        note: Why the value is not all that it looks like; None where it is.
    """

    name: str
    path: Path
    unit: Literal["c", "mhz", "percent"]
    means: Callable[[str], Value]
    note: str | None = None

    def read(self, at_ns: int) -> Reading:
        """The value now, or none with the reason. One read, never a second try: a gated zone stays gated."""
        try:
            value = self.means(sysfs.text(self.path))
        except SensorError as error:
            value = Absent(str(error))
        if isinstance(value, Absent):
            return Reading(self.name, None, self.unit, None, at_ns, value.reason)
        return Reading(self.name, value, self.unit, None, at_ns, self.note)


def is_gone(reading: Reading) -> bool:
    """Whether its file is not there any more: what is there must be looked for again."""
    return reading.value is None and reading.reason is not None and _GONE in reading.reason


def whole(text: str) -> int | None:
    """The whole number that a text is, of at most 18 digits; None where it is none."""
    text = text.strip()
    return int(text) if _WHOLE.fullmatch(text) else None


def no_number(text: str) -> Absent:
    """Says that a text is no number, with its beginning."""
    return Absent(f"no number in it: {text[:40]!r}")


def plain(text: str | None, otherwise: str) -> str:
    """A name out of a file, printable and short; another where there is none."""
    return "".join(letter for letter in text or "" if letter.isprintable())[:_MOST_LETTERS].strip() or otherwise


def distinct(names: Iterable[str]) -> list[str]:
    """The names, with "-2", "-3" after those that were there before."""
    seen: set[str] = set()
    told = []
    for name in names:
        one, count = name, 1
        while one in seen:
            count += 1
            one = f"{name}-{count}"
        seen.add(one)
        told.append(one)
    return told
