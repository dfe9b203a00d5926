"""A profile as CSV files, for spreadsheets and scripts. Columns carry their unit; an empty cell is a value that is not
there."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_sdk.errors import SinkError, one_line
from edge_sdk.files import replacing
from edge_sdk.measure.record import Profile, Window
from edge_sdk.report import words

FILES = ("samples.csv", "conditions.csv", "windows.csv", "latencies.csv")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which a spreadsheet begins a formula: owasp.org, "CSV Injection"

Cell = str | float | int | None


def write_csv(profile: Profile, folder: Path) -> tuple[Path, ...]:
    """Writes a profile's four tables into a folder, each whole or not at all; files of these names are replaced.

    - ``samples.csv``: ``at_s`` (seconds since the beginning of the run), ``window`` ("idle", "work" or empty),
      ``repeat`` (from 1), and one column a channel, ``VDD_IN_w``, in watts. A row is one read of one sensor: the
      channels of other sensors, read at other times, are empty in it.
    - ``conditions.csv``: ``at_s``, ``throttling`` (the causes then) and one column a temperature, clock or load:
      ``cpu-thermal_c``, ``gpu_mhz``, ``cpu_percent``.
    - ``windows.csv``: one row a window, columns as in `edge_sdk.measure.record.Window`; ``repeat`` from 1.
    - ``latencies.csv``: ``query`` (from 1) and ``ms``.

    Args:
        profile: What to write.
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
    tables = (_samples(profile), _conditions(profile), _windows(profile), _latencies(profile))
    for name, rows in zip(FILES, tables, strict=True):
        with replacing(folder / name) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    return tuple(folder / name for name in FILES)


def _samples(profile: Profile) -> Iterator[Sequence[Cell]]:
    channels = profile.channels
    names = [one.name for one in channels]
    titles = [f"{one.name if names.count(one.name) == 1 else f'{one.sensor} {one.name}'}_w" for one in channels]
    windows = () if profile.energy is None else profile.energy.windows
    yield ["at_s", "window", "repeat", *_titles(titles)]
    for at_s, cells in _rows([(one.sensor, one.at_s, one.power_w) for one in channels]):
        window = next((one for one in windows if one.start_s <= at_s <= one.end_s), None)
        yield [at_s, *(("", "") if window is None else (window.kind, window.repeat + 1)), *cells]


def _conditions(profile: Profile) -> Iterator[Sequence[Cell]]:
    tracks = profile.conditions
    yield ["at_s", "throttling", *_titles([f"{one.name}_{one.unit}" for one in tracks])]
    for at_s, cells in _rows([("", one.at_s, one.values) for one in tracks]):
        causes = (one.cause for one in profile.throttling if one.start_s <= at_s <= one.end_s)
        yield [at_s, harmless("; ".join(dict.fromkeys(causes))), *cells]


def _windows(profile: Profile) -> Iterator[Sequence[Cell]]:
    names = tuple(Window.__dataclass_fields__)
    yield names
    for one in () if profile.energy is None else profile.energy.windows:
        yield [one.repeat + 1 if name == "repeat" else getattr(one, name) for name in names]


def _latencies(profile: Profile) -> Iterator[Sequence[Cell]]:
    yield ["query", "ms"]
    yield from enumerate(profile.latency.times_ms, 1)


def _rows(
    tracks: Sequence[tuple[str, Sequence[float], Sequence[float | None]]],
) -> Iterator[tuple[float, list[Cell]]]:
    """(time, one cell a track) by time; tracks of one sensor that were read at one time share a row."""
    rows: dict[tuple[float, str], list[Cell]] = {}
    for column, (sensor, at_s, values) in enumerate(tracks):
        for at, value in zip(at_s, values, strict=True):
            rows.setdefault((at, sensor), [None] * len(tracks))[column] = value
    for (at, _), cells in sorted(rows.items(), key=lambda row: row[0][0]):
        yield at, cells


def _titles(names: Sequence[str]) -> list[str]:
    """Titles of columns, no two alike."""
    titles: list[str] = []
    for name in map(harmless, names):
        alike = sum(one == name or one.startswith(f"{name} (") for one in titles)
        titles.append(f"{name} ({alike + 1})" if alike else name)
    return titles


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    text = words.plain(text)
    return f"'{text}" if text.startswith(_FORMULA) else text
