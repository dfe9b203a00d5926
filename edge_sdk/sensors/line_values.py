"""A power out of a line of text, as loggers of USB meters and meters on a serial port write it.

A line is a number, ``5.32`` or ``5.32 W``; columns, ``12:00:01,5.11,1.04,5.32``, with a header or not; or names with
values, ``V=5.11 I=1.04 P=5.32`` or JSON. What a user says with an option is taken; else only what is plainly a power.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_sdk.errors import UsageError
from edge_sdk.sensors.base import Absent, Value, plausible

LINE_OPTIONS = ("column", "unit", "pattern", "interval")
_SCALES = {"w": 1.0, "watt": 1.0, "watts": 1.0, "mw": 1e-3, "milliwatts": 1e-3, "uw": 1e-6, "µw": 1e-6, "μw": 1e-6}
_BARE = ("power", "pwr", "p")
_NO_POWER = ("factor", "apparent", "reactive", "limit")
_SMALL = ("mv", "ma", "uv", "ua", "µv", "µa", "μv", "μa")
_NUMBER = re.compile(
    r"([+-]?(?:\d{1,15}(?:[.,]\d{0,15})?|[.,]\d{1,15})(?:[eE][+-]?\d{1,3})?)\s*([A-Za-zµμ]{0,12})", re.A
)
_NO_NUMBER = re.compile(r"[+-]?(nan|inf|infinity|null|none|n/?a|-+)?", re.IGNORECASE)
_PAIR = re.compile(
    r"([A-Za-z][\w ./()\[\]-]{0,30}?)\"?[ \t]*[=:][ \t]*\"?"
    r"([+-]?[\d.][\d.]{0,30}(?:[eE][+-]?\d{1,3})?[ \t]*[A-Za-zµμ%]{0,5}|[+-]?nan|[+-]?inf|null)"
    r"(?![\w.]|,\d|[ \t]*\"?[=:])",  # the value ends here, and is not the name of the next
    re.ASCII | re.IGNORECASE,
)
SHORT_LINE = 200
_MOST_PATTERN = 200
_MOST_REPEATS = 3


@dataclass(frozen=True)
class LineOptions:
    """What the user says about a meter's lines.

    Args:
        column: A name in the header or before a value, or a number from 0.
        scale: To W, of a value without a unit; None where nobody said it.
        pattern: Has one group, the value.
        interval_s: Between two lines.
    """

    column: str | None = None
    scale: float | None = None
    pattern: re.Pattern[str] | None = None
    interval_s: float | None = None


def line_options(options: Mapping[str, str]) -> LineOptions:
    """Reads the options ``column``, ``unit``, ``pattern`` and ``interval``.

    Raises:
        UsageError: One means nothing.
    """
    unit = options.get("unit")
    if unit is not None and unit.lower() not in _SCALES:
        raise UsageError(f"unit must be w, mw or uw, not {unit!r}")
    pattern = options.get("pattern")
    if pattern is not None and "column" in options:
        raise UsageError("column and pattern exclude each other")
    column = options.get("column")
    if column is not None and not column.strip():
        raise UsageError("column must be a name or a number from 0")
    return LineOptions(
        column=column.strip() if column is not None else None,
        scale=_SCALES[unit.lower()] if unit is not None else None,
        pattern=line_pattern(pattern) if pattern is not None else None,
        interval_s=_interval(options["interval"]) if "interval" in options else None,
    )


def line_pattern(text: str) -> re.Pattern[str]:
    """A pattern that finds the value in a line, and cannot take minutes for one.

    Only single characters and classes may be repeated without limit, and three times at most: what takes exponential
    time repeats a group, and lines are short.

    Raises:
        UsageError: It is no pattern, has not one group, or could take too long.
    """
    if len(text) > _MOST_PATTERN:
        raise UsageError(f"pattern is longer than {_MOST_PATTERN} characters")
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"pattern {text!r} is no regular expression: {error}") from error
    if pattern.groups != 1:
        raise UsageError(f"pattern {text!r} must have one group, the value, and has {pattern.groups}")
    plain = re.sub(r"\\.", "x", text, flags=re.DOTALL)  # escaped characters, then classes, are one character each
    plain = re.sub(r"\[\^?\]?[^\]]*\]", "x", plain)
    if re.search(r"\)[*+{]", plain) or "\\" in plain or re.search(r"\\[1-9]|\(\?P=", text):
        raise UsageError(f"pattern {text!r}: no group may be repeated or referred to")
    if len(re.findall(r"[*+]|\{\d*,\d*\}", plain)) > _MOST_REPEATS:
        raise UsageError(f"pattern {text!r} repeats more than {_MOST_REPEATS} times")
    return pattern


class LineParser:
    """Reads one line after another; remembers the header.

    Args:
        options: As the user said.
    """

    def __init__(self, options: LineOptions) -> None:
        self._options = options
        self._names: tuple[str, ...] | None = None
        self._has_data = False

    @property
    def knows_columns(self) -> bool:
        """Whether a header or a value has been seen."""
        return self._has_data or self._names is not None

    def expect_header(self) -> None:
        """A new file begins: its first line may be a header again; without one the old one holds."""
        self._has_data = False

    def feed(self, line: str) -> Value | None:
        """The power in a line in W, or why it has none; None where the line is a header, a comment or blank."""
        line = line.strip(" \t\r\n\0\ufeff")
        if not line:
            return None
        if self._options.pattern is not None:
            return self._by_pattern(self._options.pattern, line)
        value = self._by_name(line)
        if value is None:
            cells, comma = _cells(line.lstrip("#"))
            if all(_is_text(cell) for cell in cells):
                return self._header(line, cells)
            value = None if line.startswith("#") else self._by_column(cells, comma)
        self._has_data = self._has_data or value is not None
        return value

    def _header(self, line: str, cells: Sequence[str]) -> Value | None:
        """Keeps a header; later than that, text is one only where it has as many columns."""
        if not self._has_data or (self._names is not None and len(cells) == len(self._names) > 1):
            self._names = tuple(cells)
            return None
        return None if line.startswith("#") else Absent(f"no number in the line {_shown(line)}")

    def _by_pattern(self, pattern: re.Pattern[str], line: str) -> Value:
        if len(line) > SHORT_LINE:
            return Absent(f"a line longer than {SHORT_LINE} characters, in which no pattern is looked for")
        found = pattern.search(line)
        if found is None or found[1] is None:
            return Absent(f"the pattern does not fit the line {_shown(line)}")
        return watts(found[1], self._options.scale, decimal_comma=True)

    def _by_name(self, line: str) -> Value | None:
        """The value of ``name=value``; None where the line has no such name."""
        pairs = [(name.strip(), value) for name, value in _PAIR.findall(line)]
        names = [name for name, _ in pairs]
        wanted = self._options.column
        if wanted is None and all(_power_scale(name) is None for name in names):
            return None
        if wanted is not None and wanted.lower() not in [name.lower() for name in names]:
            return None
        found = self._column(names, len(names))
        return found if isinstance(found, Absent) else self._watts(pairs[found.place][1], found.scale, comma=False)

    def _by_column(self, cells: Sequence[str], comma: bool) -> Value:
        found = self._column(self._names, len(cells))
        if isinstance(found, Absent):
            return found
        head = self._names
        if head is not None and len(head) != len(cells if cells[-1] or len(cells) <= len(head) else cells[:-1]):
            return Absent(f"the line has {len(cells)} columns, and the header {len(head)}")
        if found.place >= len(cells):
            return Absent(f"the line has {len(cells)} columns, and none {found.place}")
        return self._watts(cells[found.place], found.scale, comma=comma)

    def _column(self, names: Sequence[str] | None, count: int) -> _Column | Absent:
        wanted = self._options.column
        if wanted is None:
            if names is not None:
                return power_column(names, unit_is_known=self._options.scale is not None)
            return _Column(0, None) if count == 1 else Absent("several columns and no header: say column=, from 0")
        lowered = [name.lower() for name in names or ()]
        if wanted.lower() in lowered:
            place = lowered.index(wanted.lower())
        elif wanted.isascii() and wanted.isdigit() and len(wanted) < 4:
            place = int(wanted)
        else:
            return Absent(f"there is no column {wanted!r}; there are {_listed(names)}")
        return _Column(place, _power_scale(names[place]) if names is not None and place < len(names) else None)

    def _watts(self, text: str, scale: float | None, *, comma: bool) -> Value:
        """In W: by the unit behind the number, else as the user said, else as the header said, else W."""
        said = self._options.scale if self._options.scale is not None else (scale or None)
        return watts(text, said, decimal_comma=comma)


@dataclass(frozen=True)
class _Column:
    place: int
    scale: float | None


def power_column(names: Sequence[str], *, unit_is_known: bool = False) -> _Column | Absent:
    """Which of several names is the power, and what makes it W; or why that cannot be told.

    Args:
        names: Such as "Time", "Voltage (V)", "Power (W)".
        unit_is_known: A name without a unit, beside others in mV or mA, is no riddle.
    """
    scales = {place: scale for place, name in enumerate(names) if (scale := _power_scale(name)) is not None}
    if len(scales) != 1:
        what = "several columns of power" if scales else "no column of power"
        return Absent(f"{what} among {_listed(names)}: say column=")
    [(place, scale)] = scales.items()
    if scale == 0 and not unit_is_known and any(_words(name)[-1:] and _words(name)[-1] in _SMALL for name in names):
        return Absent(f"{names[place]!r} has no unit, and others are in mV or mA: say unit=w or unit=mw")
    return _Column(place, scale or None)


def watts(text: str, scale: float | None = None, *, decimal_comma: bool = False) -> Value:
    """A number with or without a unit, in W.

    Args:
        text: Such as "5.32", "5.32 W", "5320mW".
        scale: To W, of a number without a unit; None is W.
        decimal_comma: Whether "5,32" is a number.
    """
    text = text.strip()
    found = _NUMBER.fullmatch(text)
    if found is None or ("," in found[1] and not decimal_comma):
        return Absent(f"not a number: {_shown(text)}")
    unit = found[2].lower()
    if unit and unit not in _SCALES:
        return Absent(f"not a power: {_shown(text)}")
    if unit and scale is not None and _SCALES[unit] != scale:
        return Absent(f"the line says {found[2]}, and unit= or the header another unit")
    return plausible(float(found[1].replace(",", ".")) * (_SCALES[unit] if unit else scale or 1.0))


class Lines:
    """Puts lines together out of pieces; what is longer than a line may be is left out, and never kept.

    Args:
        most: Bytes of a line.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun = b""
        self._overlong = False

    def feed(self, piece: bytes) -> list[str]:
        """The lines that are complete now, oldest first."""
        *whole, rest = piece.replace(b"\r", b"\n").split(b"\n")
        lines = []
        for part in whole:
            self._keep(part)
            if not self._overlong and self._begun.strip():
                lines.append(self._begun.decode("utf-8", "replace"))
            self.forget()
        self._keep(rest)
        return lines

    def _keep(self, part: bytes) -> None:
        self._overlong = self._overlong or len(self._begun) + len(part) > self._most
        self._begun = b"" if self._overlong else self._begun + part

    def skip(self) -> None:
        """What comes next begins in the middle of a line, which is left out."""
        self._begun, self._overlong = b"", True

    def forget(self) -> None:
        """What comes next begins a line."""
        self._begun, self._overlong = b"", False


def _cells(line: str) -> tuple[list[str], bool]:
    """The columns of a line, and whether a comma in one is a decimal comma."""
    for delimiter in "\t;,":
        if delimiter in line:
            try:
                row = next(csv.reader([line], delimiter=delimiter), [])
            except csv.Error:
                row = line.split(delimiter)
            return [cell.strip() for cell in row], delimiter != ","
    if _NUMBER.fullmatch(line) or not any(_NUMBER.fullmatch(cell) for cell in line.split()):
        return [line], True  # "5.32 W", or text with blanks in it
    return line.split(), True


def _is_text(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is None and _NO_NUMBER.fullmatch(cell) is None and not cell[:1].isdigit()


def _power_scale(name: str) -> float | None:
    """What makes a column W; 0 where its name has no unit; None where it is no power."""
    words = _words(name)
    if not words or any(word in _NO_POWER for word in words):
        return None
    if words[-1] in _SCALES:
        return _SCALES[words[-1]]
    return 0.0 if words[-1] in _BARE else None


def _words(name: str) -> list[str]:
    return re.findall(r"[a-zµμ]+", name.lower())


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise UsageError(f"interval must be seconds above 0 and at most 3600, not {text!r}")
    return seconds


def _listed(names: Sequence[str] | None) -> str:
    return ", ".join(_shown(name) for name in list(names or ())[:12]) or "no names"


def _shown(text: str) -> str:
    return repr(text[:40].encode("ascii", "backslashreplace").decode())
