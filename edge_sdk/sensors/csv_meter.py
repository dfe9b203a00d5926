"""A meter whose own program writes a file: the newest whole line counts. Named pipes work too."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors.base import Absent, Channel, Sensor, Value, Wanted
from edge_sdk.sensors.line_values import LINE_OPTIONS, LineParser, Lines, line_options
from edge_sdk.sensors.newest import STALE_S, Newest
from edge_sdk.sensors.sysfs import why

LINE_BYTES = 4096
_AT_ONCE = 64 * 1024
_LOOK_S = 0.02


class _Csv:
    """The driver."""

    name = "csv"
    usage = "csv:FILE  the newest line of a file or pipe that a meter's program writes; options column, unit, interval"

    def open(self, wanted: Wanted) -> Sensor:
        """Opens it; waits up to 3 s for a fresh line, and for as many as tell how often they come.

        Raises:
            SensorError: It cannot be read, or no fresh line has a power that can be told; says which option helps.
            UsageError: No file is named, or an option means nothing.
        """
        wanted.check_options(*LINE_OPTIONS)
        if not wanted.address:
            raise UsageError("name the file: csv:FILE")
        options = line_options(wanted.options)
        sensor = CsvMeter(Path(wanted.address).expanduser(), LineParser(options), options.interval_s)
        try:
            sensor.wait()
        except BaseException:
            sensor.close()
            raise
        return sensor


DRIVER = _Csv()


class CsvMeter:
    """Follows a file while it grows, is cut off, or is replaced by a new one of its name; a `Sensor`.

    Args:
        path: Of the file.
        parser: Finds the power in a line.
        interval_s: Between two lines, where the user said it.

    Raises:
        SensorError: It cannot be opened.
    """

    channels: tuple[Channel, ...] = (Channel("power", "power", "external", in_total=True),)

    def __init__(self, path: Path, parser: LineParser, interval_s: float | None = None) -> None:
        self.name = f"csv {path}"
        self.refresh_s = interval_s or 1.0
        self._path = path
        self._parser = parser
        self._newest = Newest(interval_s)
        self._lines = Lines(LINE_BYTES)
        self._position = 0
        self._descriptor = -1
        self._descriptor = self._opened()
        self._begin()

    def read(self) -> Sequence[Value]:
        """The power in the newest whole line."""
        try:
            self._follow()
        except SensorError as error:
            self._newest.fail(str(error))
        return (self._newest.value("line"),)

    def wait(self) -> None:
        """Waits until there is a fresh value, and until it is known how often one comes; 3 s at most."""
        until = time.monotonic() + max(STALE_S, 1.5 * (self._newest.interval_s or 0.0))
        [value] = self.read()
        while time.monotonic() < until and (isinstance(value, Absent) or self._newest.interval_s is None):
            time.sleep(_LOOK_S)
            [value] = self.read()
        if isinstance(value, Absent):
            old = value.reason.startswith(("stale", "no line"))
            hint = "; does the meter's program run? One that writes seldom needs interval=SECONDS" if old else ""
            raise SensorError(f"{self._path}: {value.reason}{hint}")
        self.refresh_s = self._newest.interval_s or STALE_S

    def close(self) -> None:
        """Closes the file; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _opened(self) -> int:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise SensorError(f"{self._path}: {why(error) if isinstance(error, OSError) else error}") from error
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            os.close(descriptor)
            hint = "; a serial port is named serial:PORT" if stat.S_ISCHR(mode) else ""
            raise SensorError(f"{self._path}: neither a file nor a pipe{hint}")
        return descriptor

    def _begin(self) -> None:
        """Of a long file the header and the end are read; what was written before now is as old as the file says."""
        state = os.fstat(self._descriptor)
        if not stat.S_ISREG(state.st_mode):
            return
        if state.st_size > _AT_ONCE:
            for line in self._lines.feed(os.pread(self._descriptor, LINE_BYTES, 0))[:1]:
                self._parser.feed(line)
        self._take(self._grown(), time.monotonic() - max(0.0, time.time() - state.st_mtime))

    def _follow(self) -> None:
        self._take(self._grown(), time.monotonic())
        with suppress(OSError):  # there is none of its name, between two: the old one is read on
            there, ours = self._path.stat(), os.fstat(self._descriptor)
            if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
                new = self._opened()
                os.close(self._descriptor)
                self._descriptor, self._position = new, 0
                self._lines.forget()
                self._parser.expect_header()
                self._take(self._grown(), time.monotonic())

    def _grown(self) -> bytes:
        """What is new in the file, its last 64 KiB at most."""
        try:
            state = os.fstat(self._descriptor)
            if not stat.S_ISREG(state.st_mode):
                return os.read(self._descriptor, _AT_ONCE)
            if state.st_size < self._position:  # cut off, and written anew
                self._position = 0
                self._lines.forget()
                self._parser.expect_header()
            if state.st_size - self._position > _AT_ONCE:
                self._position = state.st_size - _AT_ONCE
                self._lines.skip()
            piece = os.pread(self._descriptor, _AT_ONCE, self._position)
        except BlockingIOError:  # a pipe in which there is nothing now
            return b""
        except OSError as error:
            raise SensorError(f"{self._path}: {why(error)}") from error
        self._position += len(piece)
        return piece

    def _take(self, piece: bytes, at_s: float) -> None:
        values = [value for line in self._lines.feed(piece) if (value := self._parser.feed(line)) is not None]
        if values:
            self._newest.put(values[-1], at_s=at_s, count=len(values))
