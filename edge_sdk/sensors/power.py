"""The power sensors of a machine, opened: those of the board's table, or the one that a user names."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edge_sdk.device import system_root, this_device
from edge_sdk.errors import MissingDependencyError, SensorError, UsageError, one_line
from edge_sdk.sensors.base import Absent, Channel, Sensor, Value, Wanted, driver_of, measured, missing_driver
from edge_sdk.shell import Shell, shell_for
from edge_sdk.targets import Rail, Target

_log = logging.getLogger("edge_sdk")


class Power:
    """Open power sensors.

    Args:
        sensors: Those that opened; what is in the total belongs to one of them.
        reason: Why there is no total; None where there is one.
        covers: What the total contains, in words; None where nobody wrote it down.
    """

    def __init__(self, sensors: Sequence[Sensor], reason: str | None, covers: str | None = None) -> None:
        self.sensors = tuple(sensors)
        self.reason = reason
        self.covers = covers

    @property
    def main(self) -> Sensor | None:
        """The sensor that gives the total; None where there is none."""
        return next((sensor for sensor in self.sensors if any(one.in_total for one in sensor.channels)), None)

    def close(self) -> None:
        """Closes every sensor, whatever one of them says to it; may be called twice."""
        with ExitStack() as stack:
            for sensor in self.sensors:
                stack.callback(sensor.close)

    def __enter__(self) -> Power:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_power(
    sensor: str | None = None,
    *,
    options: Mapping[str, str] | None = None,
    target: Target | None = None,
    root: Path | None = None,
    shell: Shell | None = None,
) -> Power:
    """Opens the power sensors of a machine.

    Args:
        sensor: One that the user names, ``DRIVER`` or ``DRIVER:ADDRESS``, such as ``shelly:192.168.1.20``; it gives the
            total, and the board's own sensors are read beside it. None: the board's own.
        options: For the driver of the total, such as ``{"fit": "published"}``.
        target: Whose rails; None is this machine's.
        root: Of /proc, /sys and /dev; None is ``EDGE_SDK_ROOT`` or this machine's.
        shell: Runs the vendor's tools; None is this machine's, or nobody in a captured tree.

    Returns:
        Open sensors. Without any, or without a total, it says why; that is no error.

    Raises:
        UsageError: `sensor` names no driver, or an option means nothing to it, or there is nobody to take options.
        SensorError: The sensor that the user named cannot be opened.
    """
    target = this_device().target if target is None else target
    root = system_root() if root is None else root
    shell = shell_for(root) if shell is None else shell
    if options and sensor is None and not any(rail.in_total for rail in target.rails):
        raise UsageError(f"{target.label} has no sensor of its own that could take options: name one with it")
    named = None
    if sensor is not None:
        name, _, address = sensor.partition(":")
        wanted = driver_of(name)
        if wanted is None:
            raise UsageError(str(missing_driver(name)))
        named = wanted.open(Wanted(address=address, root=root, shell=shell, options=dict(options or {})))
    opened: list[Sensor] = [named] if named is not None else []
    reasons = []
    try:
        for driver in dict.fromkeys(rail.driver for rail in target.rails):
            rails = tuple(rail for rail in target.rails if rail.driver == driver)
            if named is not None:
                if driver == name and not address:
                    continue  # it is the board's own, named: reading it twice would cost twice
                rails = tuple(replace(rail, in_total=False) for rail in rails)
            own = options if named is None and any(rail.in_total for rail in rails) else None
            try:
                found = driver_of(driver)
                if found is None:
                    raise missing_driver(driver)
                opened.append(found.open(Wanted(rails, "", root, shell, dict(own or {}))))
            except (SensorError, MissingDependencyError) as error:
                _log.info("%s: %s", driver, error)
                reasons += [one_line(error)] if any(rail.in_total for rail in rails) else []
                opened.append(_Gone(driver, rails, one_line(error)))
    except BaseException:
        Power(opened, None).close()
        raise
    fitted = any(one.in_total and one.method == "fit" for sensor_ in opened for one in sensor_.channels)
    covers = target.fact("power_covers") if named is None and not fitted else None  # it tells what the rails hold
    reason = "; ".join(reasons) if reasons else None
    if named is None and not any(rail.in_total for rail in target.rails):
        reason = f"{target.label} has no sensor of its own power that this version knows; name a meter with --sensor"
    return Power(opened, reason, str(covers) if covers is not None else None)


class _Gone:
    """Rails of the board's table whose driver finds nothing here: they stay in the books, without a value."""

    def __init__(self, driver: str, rails: Sequence[Rail], reason: str) -> None:
        self.name = driver
        self.channels = tuple(Channel(rail.name, "power", measured(rail.in_total), rail.in_total) for rail in rails)
        self.refresh_s = 1.0
        self._values: tuple[Value, ...] = tuple(Absent(reason) for _ in rails)

    def read(self) -> Sequence[Value]:
        return self._values

    def close(self) -> None:
        pass
