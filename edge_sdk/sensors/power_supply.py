"""A battery, by the kernel's power supply class: what the whole machine draws while it discharges, screen and all.

The files are those of Documentation/ABI/testing/sysfs-class-power: power_now in uW, voltage_now in uV, current_now in
uA. Their sign means nothing, since drivers disagree on it: ``status`` says which way it flows. Chargers, and the
entries of USB-C (``ucsi-source-psy-*``), tell what was agreed on and not what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from edge_sdk.errors import SensorError, UsageError, one_line
from edge_sdk.sensors.base import Absent, Channel, Value, Wanted, plausible
from edge_sdk.sensors.sysfs import SysFile, in_order, text_or_none
from edge_sdk.targets import Rail

REFRESH_S = 1.0
"""Some once a second on Qualcomm's laptops; each read asks the firmware (drivers/power/supply/qcom_battmgr.c)."""

_FOLDER = "sys/class/power_supply"
_MOST_W = 1000.0  # no battery of what this runs on gives that


class Battery:
    """One battery, its files open; see `edge_sdk.sensors.base.Sensor`.

    Raises:
        SensorError: It is no battery, or tells neither its power nor both its voltage and its current.
    """

    refresh_s = REFRESH_S

    def __init__(self, folder: Path, rail: Rail) -> None:
        self.name = f"battery {folder.name}"
        kind = text_or_none(folder / "type")
        if kind != "Battery":
            raise SensorError(f"{folder.name}: not there" if kind is None else f"{folder.name}: {kind}, not a battery")
        self.channels = (Channel(rail.name, "power", "sensor_total", rail.in_total),)
        with ExitStack() as stack:
            self._status = _opened(folder / "status", stack)
            reasons = []
            self._ways: list[tuple[SysFile, ...]] = []
            for names in (("power_now",), ("voltage_now", "current_now")):
                try:
                    self._ways.append(tuple(_opened(folder / name, stack) for name in names))
                except SensorError as error:
                    reasons.append(one_line(error))
            if not self._ways:
                raise SensorError(f"{folder.name}: {'; '.join(reasons)}")
            self._files = stack.pop_all()

    def read(self) -> Sequence[Value]:
        """Its power in W while it discharges."""
        return [self._value()]

    def close(self) -> None:
        """Closes its files; may be called twice."""
        self._files.close()

    def _value(self) -> Value:
        try:
            status = self._status.text()
        except SensorError as error:
            return Absent(one_line(error))
        if status != "Discharging":
            shown = " ".join(status.split())[:40] or "nothing"
            return Absent(f"the battery's status is {shown}, not Discharging: unplug the charger")
        reason = ""
        for way in self._ways:
            try:
                numbers = [file.number() for file in way]
            except SensorError as error:
                reason = reason or one_line(error)
                continue
            return _watts(numbers)
        return Absent(reason)


class PowerSupplyDriver:
    """See `edge_sdk.sensors.base.Driver`."""

    name = "power_supply"
    usage = "power_supply[:NAME]  a battery, while it discharges: the whole machine with its screen"

    def open(self, wanted: Wanted) -> Battery:
        """As `Driver.open`."""
        wanted.check_options()
        folder = wanted.root / _FOLDER
        rail = wanted.rails[0] if wanted.rails else None
        name = wanted.address.strip() if rail is None else rail.address
        if name in ("", "*"):
            name = _only_battery(folder)
        elif "/" in name or name in (".", ".."):
            raise UsageError(f"power_supply:{name}: not a name in /{_FOLDER}")
        return Battery(folder / name, rail or Rail(name, self.name, name, in_total=True))


DRIVER = PowerSupplyDriver()


def _only_battery(folder: Path) -> str:
    """The name of the machine's one battery: those of mice and pens have the scope "Device"."""
    names = [
        one.name
        for one in in_order(folder, "*")
        if text_or_none(one / "type") == "Battery" and text_or_none(one / "scope") != "Device"
    ]
    if len(names) > 1:
        raise UsageError(f"several batteries: {', '.join(names)}; say which one, such as power_supply:{names[0]}")
    if not names:
        raise SensorError(f"no battery in /{_FOLDER}")
    return names[0]


def _opened(path: Path, stack: ExitStack) -> SysFile:
    file = SysFile(path)
    stack.callback(file.close)
    return file


def _watts(numbers: Sequence[int]) -> Value:
    """Of uW, or of uV and uA."""
    watts = abs(numbers[0]) / 1e6 if len(numbers) == 1 else abs(numbers[0] * numbers[1]) / 1e12
    if watts == 0:
        return Absent("0 W, which no running machine draws: the battery tells no power")
    if watts > _MOST_W:
        return Absent(f"absurd: {watts:.0f} W")
    return plausible(watts)
