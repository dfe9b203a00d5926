"""A meter on a serial port (USB ones included) that sends lines of text."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_sdk.errors import MissingDependencyError, SensorError, UsageError, extra_hint, one_line
from edge_sdk.sensors.base import Absent, Channel, Sensor, Value, Wanted
from edge_sdk.sensors.line_values import LINE_OPTIONS, SHORT_LINE, LineParser, Lines, line_options
from edge_sdk.sensors.newest import STALE_S, Newest

BAUD = 115200
_BAUDS = (50, 8_000_000)
_WAIT_S = 0.2
_AGAIN_S = 0.5


class _Serial:
    """The driver."""

    name = "serial"
    usage = "serial:PORT[@BAUD]  a meter that sends lines to a serial port; options pattern, column, unit, interval"

    def open(self, wanted: Wanted) -> Sensor:
        """Opens it and waits up to 3 s for a line.

        Raises:
            SensorError: The port cannot be opened, or no line on it has a power that can be told.
            UsageError: No port is named, or an option means nothing.
            MissingDependencyError: pyserial is not installed.
        """
        wanted.check_options(*LINE_OPTIONS)
        port, baud = serial_port(wanted.address)
        options = line_options(wanted.options)
        library = _library()
        if port.startswith("/"):
            port = os.fspath(wanted.root / port.lstrip("/"))
        sensor = SerialMeter(library, port, baud, LineParser(options), options.interval_s)
        try:
            sensor.wait()
        except BaseException:
            sensor.close()
            raise
        return sensor


DRIVER = _Serial()


def serial_port(address: str) -> tuple[str, int]:
    """The port and the speed of ``PORT[@BAUD]``.

    Raises:
        UsageError: There is no port, or the speed is none.
    """
    port, at, speed = address.rpartition("@")
    port, speed = (port, speed) if at else (address, str(BAUD))
    if not port or "\0" in port:
        raise UsageError("name the port: serial:/dev/ttyACM0 or serial:/dev/ttyUSB0@9600")
    if not (speed.isascii() and speed.isdigit() and len(speed) < 9 and _BAUDS[0] <= int(speed) <= _BAUDS[1]):
        raise UsageError(f"no speed in baud: {speed[:20]!r}; 115200 is usual")
    return port, int(speed)


class SerialMeter:
    """Reads a port in a thread of its own, and opens it again when it was gone; a `Sensor`.

    The first line after an opening is left out: only its end may have come.

    Args:
        library: pyserial.
        port: As the system calls it.
        baud: Its speed.
        parser: Finds the power in a line.
        interval_s: Between two lines, where the user said it.

    Raises:
        SensorError: It cannot be opened.
    """

    channels: tuple[Channel, ...] = (Channel("power", "power", "external", in_total=True),)

    def __init__(self, library: Any, port: str, baud: int, parser: LineParser, interval_s: float | None = None) -> None:
        self.name = f"serial {port}"
        self.refresh_s = interval_s or 1.0
        self._library = library
        self._place = port
        self._baud = baud
        self._parser = parser
        self._newest = Newest(interval_s)
        self._lines = Lines(SHORT_LINE)
        self._stopped = threading.Event()
        self._port = self._opened()
        self._lines.skip()
        self._thread = threading.Thread(target=self._run, name="edge-sdk-meter", daemon=True)
        self._thread.start()

    def read(self) -> Sequence[Value]:
        """The power in the newest line; returns at once."""
        return (self._newest.value("line"),)

    def wait(self) -> None:
        """Waits until there is a value, and until it is known how often one comes; 3 s at most."""
        until = time.monotonic() + max(STALE_S, 1.5 * (self._newest.interval_s or 0.0))
        while time.monotonic() < until and (isinstance(self.read()[0], Absent) or self._newest.interval_s is None):
            self._stopped.wait(0.02)
        [value] = self.read()
        if isinstance(value, Absent):
            silent = value.reason.startswith(("stale", "no line"))
            hint = f" at {self._baud} baud; another speed is named serial:PORT@BAUD" if silent else ""
            raise SensorError(f"{self._place}: {value.reason}{hint}")
        self.refresh_s = self._newest.interval_s or STALE_S

    def close(self) -> None:
        """Ends the thread and closes the port; may be called twice."""
        self._stopped.set()
        self._thread.join()
        self._shut()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                if self._port is None:
                    self._port = self._opened()
                    self._lines.skip()
                self._take()
            except SensorError:  # still gone
                self._stopped.wait(_AGAIN_S)
            except Exception as error:  # noqa: BLE001  pyserial raises what the system and it find: SerialException, OSError, TypeError
                self._newest.fail(f"gone: {self._place} ({one_line(error)[:80]})")
                self._shut()
                self._stopped.wait(_AGAIN_S)

    def _take(self) -> None:
        piece: bytes = self._port.read(max(1, min(4096, self._port.in_waiting)))
        for line in self._lines.feed(piece):
            value = self._parser.feed(line)
            if value is not None:
                self._newest.put(value)

    def _opened(self) -> Any:
        try:
            return self._library.Serial(self._place, self._baud, timeout=_WAIT_S, exclusive=True)
        except (OSError, ValueError) as error:  # SerialException is an OSError
            raise SensorError(f"{self._place}: {_why(error, self._place)}") from error

    def _shut(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            with suppress(Exception):  # it may be gone
                port.close()


def _why(error: Exception, place: str) -> str:
    number = getattr(error, "errno", None)
    if number in (2, 6, 19):
        return "there is no such port"
    if number in (1, 13) or (Path(place).exists() and not os.access(place, os.R_OK | os.W_OK)):
        return "no permission; it is usual to be in the group dialout: sudo usermod -aG dialout $USER"
    if number in (11, 16):
        return "another program has it"
    return f"cannot be opened: {one_line(error)[:80]}"


def _library() -> Any:
    try:
        return importlib.import_module("serial")
    except ImportError as error:
        raise MissingDependencyError(f"pyserial is not installed: {extra_hint('serial')}") from error
