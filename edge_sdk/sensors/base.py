"""What a power sensor must be able to do, and how one is found.

One file a chip, interface or meter in this folder; a module is one by having ``DRIVER``. Anything beyond the standard
library is imported when it opens.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.result import Method, Reading
from edge_sdk.shell import NoShell, Shell
from edge_sdk.targets import Rail

TOTAL = "board"
"""Name of the reading that is the total."""


@dataclass(frozen=True)
class Channel:
    """One thing that a sensor gives.

    Args:
        name: As the board calls it: "VDD_IN", "package-0".
        quantity: "power": watts over the sensor's last interval. "energy": joules since some moment, never falling.
        method: What a figure made of this channel alone may be called.
        in_total: Whether the sensor's total is the sum over this one.
        step: The least that its value can change by, in W or J, where that is known: the quantisation.
        missing: What is known to be missing from it, in words; None where nothing is.
        uncertainty: Half of the 95 % interval of its scale, as a part of 1, where somebody states it: 0.1 is 10 %.
    """

    name: str
    quantity: Literal["power", "energy"]
    method: Method
    in_total: bool
    step: float | None = None
    missing: str | None = None
    uncertainty: float = 0.0


@dataclass(frozen=True)
class Absent:
    """In place of a value that a channel does not give now."""

    reason: str


Value = float | Absent


class Sensor(Protocol):
    """An open sensor: its descriptors stay open; used by one thread at a time.

    Attributes:
        name: For people: "ina3221 1-0040".
        channels: What one read gives. All that are in the total have the same quantity.
        refresh_s: The time between two new values, as far as it is known; faster reads give the same value again.
    """

    name: str
    channels: tuple[Channel, ...]
    refresh_s: float

    def read(self) -> Sequence[Value]:
        """One value a channel, in their order. Never raises for a value that is not there: that is `Absent`."""
        ...

    def close(self) -> None:
        """Frees everything; may be called twice."""
        ...


@dataclass(frozen=True)
class Wanted:
    """What to open.

    Args:
        rails: Of the driver, from the board's table; none where a user named the sensor.
        address: What stands after the colon where a user named it: "192.168.1.20" of ``shelly:192.168.1.20``.
        root: Of /proc, /sys and /dev, for captured trees.
        shell: Runs the vendor's tools.
        options: Such as ``{"fit": "published"}``; a driver refuses those that it does not know.
    """

    rails: tuple[Rail, ...] = ()
    address: str = ""
    root: Path = Path("/")
    shell: Shell = field(default_factory=NoShell)
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def check_options(self, *known: str) -> None:
        """Raises UsageError for an option that is none of these."""
        for key in self.options:
            if key not in known:
                raise UsageError(
                    f"no such sensor option: {key}; there {'is' if len(known) == 1 else 'are'} {_listed(known)}"
                )


class Driver(Protocol):
    """Opens one kind of sensor.

    Attributes:
        name: What a rail's ``driver`` in boards.toml and the user call it: "ina3221", "shelly".
        usage: How a user names it, and what it is, in a line: "shelly:HOST  a Shelly plug or meter".
    """

    name: str
    usage: str

    def open(self, wanted: Wanted) -> Sensor:
        """Opens it and reads it once.

        Raises:
            SensorError: It is not there or gives nothing; says how to mend that where it is known.
            UsageError: The address or an option means nothing.
        """
        ...


@cache
def drivers() -> Mapping[str, Driver]:
    """Every driver in this folder, by name."""
    found: dict[str, Driver] = {}
    package = importlib.import_module("edge_sdk.sensors")
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        for one in _drivers_of(info.name):
            found[one.name] = one
    return MappingProxyType(found)


@cache
def driver_of(name: str) -> Driver | None:
    """The driver of this name; None where there is none.

    Imports the module of the same name alone, where there is one: all of them take a board a good part of a second,
    which a camera that begins has not.
    """
    if name.isidentifier() and importlib.util.find_spec(f"edge_sdk.sensors.{name}") is not None:
        for one in _drivers_of(name):
            if one.name == name:
                return one
    return drivers().get(name)


def _drivers_of(module_name: str) -> tuple[Driver, ...]:
    module = importlib.import_module(f"edge_sdk.sensors.{module_name}")
    return (*getattr(module, "DRIVERS", ()), *((module.DRIVER,) if hasattr(module, "DRIVER") else ()))


def measured(in_total: bool) -> Method:
    """What a rail's own sensor may call its figure: a rail that is no part of the total is a part of the board."""
    return "sensor_total" if in_total else "sensor_partial"


def plausible(value: float) -> Value:
    """The value, or why it is none: a power or an energy is a finite number and not negative."""
    if not math.isfinite(value):
        return Absent(f"not a number: {value}")
    if value < 0:
        return Absent(f"negative: {value:.3f}")
    return value


def total(channels: Sequence[Channel], values: Sequence[Value], at_ns: int) -> Reading:
    """The sum over the channels that are in the total, in watts.

    It is "sensor_partial", with what is missing named, where some of them give nothing; null where none does.

    Args:
        channels: Of one sensor.
        values: One a channel, in watts also where the channel is an energy: the caller has divided its differences.
        at_ns: `time.monotonic_ns`.
    """
    parts = [(channel, value) for channel, value in zip(channels, values, strict=True) if channel.in_total]
    present = [(channel, value) for channel, value in parts if not isinstance(value, Absent)]
    absent: dict[str, list[str]] = {}  # channels by reason: a chip that cannot be read takes all of its rails along
    for channel, value in parts:
        if isinstance(value, Absent):
            absent.setdefault(value.reason, []).append(channel.name)
    lacking = [f"{', '.join(names)} ({reason})" for reason, names in absent.items()]
    if not present:
        reason = ", ".join(lacking) or "no channel of this sensor is the board's total"
        return Reading(TOTAL, None, "w", None, at_ns, reason)
    method: Method = "sensor_partial" if lacking else present[0][0].method
    missing = list(dict.fromkeys(channel.missing for channel, _ in present if channel.missing is not None))
    reasons = ([f"without {', '.join(lacking)}"] if lacking else []) + missing
    return Reading(TOTAL, sum(value for _, value in present), "w", method, at_ns, "; ".join(reasons) or None)


def missing_driver(name: str) -> SensorError:
    """What to raise where a board's table, or a user, names a driver that is not here."""
    return SensorError(f"{name}: no such sensor; there are {_listed(tuple(drivers()))}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "none"
