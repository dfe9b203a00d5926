"""What a watch sees as plain values: a JSON object, or a row of a CSV file that survives a crash."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_sdk.errors import SinkError, UsageError, one_line
from edge_sdk.measure.watch import Snapshot
from edge_sdk.result import Reading

_MOST_HEADER_BYTES = 1 << 20
_UNITS = {"w": "power_w", "c": "temperature_c", "mhz": "clock_mhz", "percent": "load_percent"}

Cell = str | float | int | None


def as_record(snapshot: Snapshot, *, board: str, covers: str | None = None, time_s: float) -> dict[str, Any]:
    """One moment as ``edge-sdk monitor --json`` prints it. What has no value is null, and its reason stands beside it.

    Keys: ``time_utc`` (ISO 8601), ``seconds`` since the start, ``board`` (its target's name), ``total`` (power_w,
    method, reason, covers), ``energy_j``, ``energy_method``, ``mean_w``, ``min_w``, ``peak_w``, ``measured_s``,
    ``gaps``, ``sensors`` (name, read_ms, channels: name, power_w, method, in_total, reason), ``temperatures`` (name,
    temperature_c, reason), ``clocks`` (name, clock_mhz, reason), ``loads`` (name, load_percent, reason), ``memory``
    (total_mib, available_mib, swap_used_mib), ``throttling`` (causes now; null where the board does not tell),
    ``throttled`` (causes since the start), ``throttled_since_boot``, ``power_mode`` (name, number),
    ``power_mode_reason``, ``governors``, ``conditions_reason``.

    Args:
        snapshot: The moment.
        board: Name of the target.
        covers: What the total contains, in words.
        time_s: Seconds since 1970, as `time.time`.
    """
    now = snapshot.conditions
    return {
        "time_utc": _utc(time_s),
        "seconds": round(snapshot.seconds, 3),
        "board": board,
        "total": {**_reading(snapshot.total), "covers": covers},
        "energy_j": _rounded(snapshot.energy_j),
        "energy_method": snapshot.energy_method,
        "mean_w": _rounded(snapshot.mean_w),
        "min_w": _rounded(snapshot.min_w),
        "peak_w": _rounded(snapshot.peak_w),
        "measured_s": round(snapshot.measured_s, 3),
        "gaps": snapshot.gaps,
        "sensors": [
            {
                "name": sensor.name,
                "read_ms": _rounded(sensor.read_ms),
                "channels": [
                    {"name": reading.name, **_reading(reading), "in_total": in_total}
                    for reading, in_total in zip(sensor.readings, sensor.in_total, strict=True)
                ],
            }
            for sensor in snapshot.sensors
        ],
        "temperatures": [{"name": one.name, **_reading(one)} for one in now.temperatures],
        "clocks": [{"name": one.name, **_reading(one)} for one in now.clocks],
        "loads": [{"name": one.name, **_reading(one)} for one in now.loads],
        "memory": None if now.memory is None else asdict(now.memory),
        "throttling": None if now.throttling is None else list(now.throttling),
        "throttled": list(snapshot.throttled),
        "throttled_since_boot": list(now.throttled_since_boot),
        "power_mode": None if now.power_mode is None else asdict(now.power_mode),
        "power_mode_reason": now.power_mode_reason,
        "governors": dict(now.governors),
        "conditions_reason": snapshot.conditions_reason,
    }


class CsvLog:
    """Appends a row for each moment to a CSV file; each is written whole and at once, so a crash loses at most one.

    The columns are those that the first moment has, and stay: a file that was begun with others is refused, and half a
    row at its end, which a crash left, is cut off. An empty cell is a value that was not there; ``throttling`` is
    "none" where the board says that nothing throttles.

    Args:
        path: The file; begun with a header where it is new.

    Raises:
        SinkError: It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: list[str] | None = None
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise _cannot(path, error) from error

    def write(self, snapshot: Snapshot, *, time_s: float) -> None:
        """Appends a row.

        Args:
            snapshot: The moment.
            time_s: Seconds since 1970, as `time.time`.

        Raises:
            SinkError: The disk is full, say.
            UsageError: The file is something else than a log of the same board and sensors.
        """
        cells = _cells(snapshot, time_s)
        try:
            if self._columns is None:
                self._begin(list(cells))
                self._columns = list(cells)
            self._append([cells.get(name) for name in self._columns])
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            raise _cannot(self._path, error) from error

    def close(self) -> None:
        """Closes the file; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> CsvLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _begin(self, columns: list[str]) -> None:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):  # a pipe: there is nothing to go on with
            self._append(columns)
            return
        header = _row(columns)
        found = os.pread(self._descriptor, min(len(header), _MOST_HEADER_BYTES), 0)
        if not header.startswith(found):
            raise UsageError(f"{self._path}: has other columns than this board and its sensors; name another file")
        if found != header:  # new, or its header was cut off
            os.ftruncate(self._descriptor, 0)
            self._append(columns)
            return
        size = os.fstat(self._descriptor).st_size
        whole = size - len(_after_last_line(self._descriptor, size))
        if whole < size:
            os.ftruncate(self._descriptor, whole)

    def _append(self, cells: Sequence[Cell]) -> None:
        row = _row(cells)
        if os.write(self._descriptor, row) != len(row):
            raise SinkError(f"{self._path}: cannot be written: the disk is full")


def _cells(snapshot: Snapshot, time_s: float) -> dict[str, Cell]:
    now = snapshot.conditions
    cells: dict[str, Cell] = {
        "time_utc": _utc(time_s),
        "seconds": round(snapshot.seconds, 3),
        "power_w": _rounded(snapshot.total.value),
        "method": snapshot.total.method,
        "reason": snapshot.total.reason,
        "energy_j": _rounded(snapshot.energy_j),
        "energy_method": snapshot.energy_method,
        "measured_s": round(snapshot.measured_s, 3),
        "gaps": snapshot.gaps,
        "throttling": None if now.throttling is None else "; ".join(now.throttling) or "none",
        "power_mode": None if now.power_mode is None else now.power_mode.name,
        "memory_total_mib": None if now.memory is None else _rounded(now.memory.total_mib),
        "memory_available_mib": None if now.memory is None else _rounded(now.memory.available_mib),
        "swap_used_mib": None if now.memory is None else _rounded(now.memory.swap_used_mib),
    }
    named = [(f"{sensor.name}/{one.name}", one) for sensor in snapshot.sensors for one in sensor.readings]
    named += [(one.name, one) for one in (*now.temperatures, *now.clocks, *now.loads)]
    labels = unique([f"{label}_{_UNITS[one.unit]}" for label, one in named])
    cells.update({label: _rounded(one.value) for label, (_, one) in zip(labels, named, strict=True)})
    return cells


def unique(names: Iterable[str]) -> list[str]:
    """The names, where one comes again with a number after it: two zones of a board may be called the same."""
    found: dict[str, None] = {}
    for name in names:
        label, count = name, 1
        while label in found:
            count += 1
            label = f"{name} #{count}"
        found[label] = None
    return list(found)


def _reading(reading: Reading) -> dict[str, Any]:
    method = {"method": reading.method} if reading.unit == "w" else {}
    return {_UNITS[reading.unit]: _rounded(reading.value), **method, "reason": reading.reason}


def _rounded(value: float | None) -> float | None:
    """To a thousandth: mW, mJ, m°C; sensors have no more."""
    return None if value is None else round(value, 3)


def _utc(time_s: float) -> str:
    moment = datetime.fromtimestamp(time_s, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _row(cells: Sequence[Cell]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue().encode("utf-8", "backslashreplace")


def _after_last_line(descriptor: int, size: int) -> bytes:
    """What stands after the last end of a line."""
    step, tail = 1 << 16, b""
    while size > 0 and b"\n" not in tail:
        start = max(0, size - step)
        tail = os.pread(descriptor, size - start, start) + tail
        size = start
    return tail.rpartition(b"\n")[2]


def _cannot(path: Path, error: OSError) -> SinkError:
    return SinkError(f"{path}: cannot be written: {error.strerror or one_line(error)}")
