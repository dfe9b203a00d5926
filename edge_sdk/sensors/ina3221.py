"""The INA3221: three channels a chip, on every Jetson with structured rails, under both of its kernel drivers.

JetPack 5 and later have the kernel's hwmon driver (``ina3221``: volts and amps, no power), JetPack 4 has NVIDIA's own
for iio (``ina3221x``: power in mW). The files are described in the kernel's Documentation/hwmon/ina3221.rst and in
drivers/staging/iio/meter/ina3221.c of L4T 32.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.errors import SensorError, UsageError, one_line
from edge_sdk.sensors.base import Absent, Channel, Value, Wanted, measured, plausible
from edge_sdk.sensors.sysfs import SysFile, hwmon, i2c_device, in_order, number_or_none, text_or_none, update_interval_s
from edge_sdk.targets import Rail

CHIP = "ina3221"
REFRESH_S = 1 / 77
"""Between two values of a stock Jetson Orin Nano: three channels of 4.156 ms for the bus and 0.140 ms for the shunt.

Where the driver tells its ``update_interval`` that is used. Polling above some 50 Hz gains nothing.
"""
SHUNT_STEP_UV = 40
"""The least difference of voltage over the shunt that the chip sees: 13 bits with sign (drivers/hwmon/ina3221.c)."""

_SHUNT_END_UV = 163_800
_BUS_END_MV = 26_000
_LEAST_SHUNT_UOHM = 1_000  # where the driver does not tell it; no Jetson has less than 2 mOhm
_OLD_DRIVER = "sys/bus/i2c/drivers/ina3221x"
_LABEL_LETTERS = 40


@dataclass(frozen=True)
class Input:
    """One channel of a chip as it was found.

    Args:
        label: As the device tree calls it.
        device: The chip's I2C bus and address, "1-0040"; None where the tree does not tell.
        read: Its power in W.
        close: Closes its files.
        step_w: See `Channel.step`.
        interval_s: Between two values; None where the driver does not tell.
    """

    label: str
    device: str | None
    read: Callable[[], Value]
    close: Callable[[], None]
    step_w: float | None = None
    interval_s: float | None = None


def labels_of(rail: Rail) -> tuple[str, ...]:
    """What a rail may be called by the kernel and by tegrastats: the labels of its address, then its own name."""
    labels = rail.address.rpartition("/")[2].split("|")
    return tuple(dict.fromkeys([*(label for label in labels if label != "*"), rail.name]))


def assign(rails: Sequence[Rail], found: Sequence[tuple[str | None, str]]) -> list[int | str]:
    """Which channel is each rail of a board's table.

    A rail's label must be the channel's. Where the table has an address and the tree tells one, the chip's address must
    be the same too; the number of its bus need not be, because kernels number buses differently (that of a Xavier NX is
    1 or 7), but a chip on the very bus is preferred.

    Args:
        rails: Of the table.
        found: I2C bus and address, and label, of each channel that is there.

    Returns:
        For each rail the index of its channel, or why it has none.
    """
    taken: set[int] = set()
    return [_assigned(rail, found, taken) for rail in rails]


def _assigned(rail: Rail, found: Sequence[tuple[str | None, str]], taken: set[int]) -> int | str:
    wanted = rail.address.rpartition("/")[0]
    elsewhere = []
    for label in labels_of(rail):
        named = [index for index, (_, name) in enumerate(found) if name.upper() == label.upper() and index not in taken]
        fits = {index: _fit(wanted, found[index][0]) for index in named}
        best = [index for index in named if fits[index] == max(fits.values()) > 0]
        if len(best) > 1:
            return f"several channels are called {label}: on {', '.join(found[index][0] or '?' for index in best)}"
        if best:
            taken.add(best[0])
            return best[0]
        elsewhere += [f"{label} is on {found[index][0]}, not on {wanted}" for index in named]
    there = ", ".join(dict.fromkeys(name for _, name in found)) or "none"
    return elsewhere[0] if elsewhere else f"no channel of this name; there are {there}"


def _fit(wanted: str, device: str | None) -> int:
    """How well a chip's place fits the table's: 0 is not at all."""
    if not wanted or device == wanted:
        return 3
    if device is None:
        return 1
    return 2 if device.partition("-")[2] == wanted.partition("-")[2] else 0


def _is_unused(label: str) -> bool:
    """Whether a label says that nothing is connected: "NC", "NC_1", or what JetPack 4 prints for no name at all."""
    return "NC" in re.split(r"[^A-Z0-9]+", label.upper()) or label == "(null)"


def _power(millivolts: int, milliamps: int, most_ma: int) -> Value:
    if not 0 <= millivolts <= _BUS_END_MV:
        return Absent(f"{millivolts} mV is out of the chip's range of 0 to {_BUS_END_MV} mV")
    if abs(milliamps) > most_ma:
        return Absent(f"{milliamps} mA is out of the chip's range of {most_ma} mA")
    return plausible(millivolts * milliamps / 1e6)


def _find(root: Path, stack: ExitStack) -> list[Input]:
    """Every channel that is connected, under either driver; what is open is closed with the stack."""
    found = [one for folder in hwmon(root, CHIP) for index in (1, 2, 3) for one in _hwmon_input(folder, index, root)]
    for folder in in_order(root / _OLD_DRIVER, "*-*"):
        for device in in_order(folder, "iio:device*"):
            found += [one for index in (0, 1, 2) for one in _iio_input(device, index, root)]
    for one in found:
        stack.callback(one.close)
    return found


def _label(path: Path) -> str | None:
    label = text_or_none(path)
    return None if label is None else " ".join(label.split())[:_LABEL_LETTERS]


def _hwmon_input(folder: Path, index: int, root: Path) -> list[Input]:
    label = _label(folder / f"in{index}_label")
    if label is not None and _is_unused(label):
        return []
    device = i2c_device(folder, root)
    volts, amps = folder / f"in{index}_input", folder / f"curr{index}_input"
    if label is None and number_or_none(volts) is None:
        return []  # a channel without a name and a value is one that nobody connected
    label = label or f"channel {index}"
    if not _is_there(volts) and not _is_there(amps):
        return [_without(label, device, f"disabled: in{index}_label is there, in{index}_input is not")]
    shunt_uohm = number_or_none(folder / f"shunt{index}_resistor")
    shunt_uohm = shunt_uohm if shunt_uohm is not None and shunt_uohm > 0 else None
    most_ma = _SHUNT_END_UV * 1000 // (shunt_uohm or _LEAST_SHUNT_UOHM) + 1
    millivolts = number_or_none(volts) or 0
    step_w = SHUNT_STEP_UV / shunt_uohm * millivolts / 1000 if shunt_uohm and 0 < millivolts <= _BUS_END_MV else None
    return [
        _reading(
            label,
            device,
            (volts, amps),
            lambda values: _power(values[0], values[1], most_ma),
            step_w,
            update_interval_s(folder),
        )
    ]


def _iio_input(folder: Path, index: int, root: Path) -> list[Input]:
    label = _label(folder / f"rail_name_{index}")
    if label is None or _is_unused(label):
        return []
    device = i2c_device(folder, root)
    most_ma = _SHUNT_END_UV * 1000 // _LEAST_SHUNT_UOHM
    power = folder / f"in_power{index}_input"
    if _is_there(power):  # made by the driver of one conversion of both

        def checked(values: Sequence[int]) -> Value:
            if abs(values[0]) > _BUS_END_MV * most_ma // 1000:
                return Absent(f"{values[0]} mW is out of the chip's range")
            return plausible(values[0] / 1000)

        return [_reading(label, device, (power,), checked, None, None)]
    pair = folder / f"in_voltage{index}_input", folder / f"in_current{index}_input"
    return [_reading(label, device, pair, lambda values: _power(values[0], values[1], most_ma), None, None)]


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def _reading(
    label: str,
    device: str | None,
    paths: Sequence[Path],
    made: Callable[[Sequence[int]], Value],
    step_w: float | None,
    interval_s: float | None,
) -> Input:
    """A channel that is read from files, which stay open; without one of them, why it gives nothing."""
    files: list[SysFile] = []
    try:
        for path in paths:
            files.append(SysFile(path))
    except SensorError as error:
        for file in files:
            file.close()
        return _without(label, device, one_line(error))

    def read() -> Value:
        try:
            return made([file.number() for file in files])
        except SensorError as error:
            return Absent(one_line(error))

    def close() -> None:
        for file in files:
            file.close()

    return Input(label, device, read, close, step_w, interval_s)


def _without(label: str, device: str | None, reason: str) -> Input:
    return Input(label, device, lambda: Absent(reason), lambda: None)


class Ina3221Sensor:
    """All chips of a board, so that its total is made in one place; see `edge_sdk.sensors.base.Sensor`."""

    def __init__(self, rails: Sequence[Rail], found: Sequence[Input], files: ExitStack) -> None:
        self._files = files
        assigned = assign(rails, [(one.device, one.label) for one in found])
        inputs: list[Input] = []
        channels: list[Channel] = []
        for rail, index in zip(rails, assigned, strict=True):
            one = found[index] if isinstance(index, int) else _without(rail.name, None, index)
            inputs.append(one)
            channels.append(Channel(rail.name, "power", measured(rail.in_total), rail.in_total, one.step_w))
        names = {rail.name for rail in rails}
        for index, one in enumerate(found):
            if index not in assigned:
                name = one.label if one.label not in names else f"{one.label} ({one.device or f'input {index}'})"
                names.add(name)
                inputs.append(one)
                channels.append(Channel(name, "power", measured(False), in_total=False, step=one.step_w))
        self._inputs = inputs
        self.channels = tuple(channels)
        devices = sorted({one.device for one in found if one.device is not None})
        self.name = f"{CHIP} {', '.join(devices)}" if devices else CHIP
        summed = [one for one, channel in zip(inputs, channels, strict=True) if channel.in_total]
        self.refresh_s = max((one.interval_s or REFRESH_S for one in summed or inputs), default=REFRESH_S)

    def read(self) -> Sequence[Value]:
        """One value a channel, in W."""
        return [one.read() for one in self._inputs]

    def close(self) -> None:
        """Closes every file; may be called twice."""
        self._files.close()


class Ina3221Driver:
    """See `edge_sdk.sensors.base.Driver`."""

    name = CHIP
    usage = "ina3221  the chips on a Jetson: by its board's table alone, not by name"

    def open(self, wanted: Wanted) -> Ina3221Sensor:
        """As `Driver.open`."""
        wanted.check_options()
        if wanted.address or not wanted.rails:
            raise UsageError(f"{CHIP} is read by a board's table of rails and cannot be named; see docs/boards.md")
        with ExitStack() as stack:
            found = _find(wanted.root, stack)
            if not found:
                raise SensorError(
                    f"no {CHIP.upper()} here: its kernel driver is not loaded, or a container hides /sys/class/hwmon"
                )
            sensor = Ina3221Sensor(wanted.rails, found, stack.pop_all())
            stack.callback(sensor.close)
            values = sensor.read()
            if all(isinstance(value, Absent) for value in values):
                reasons = dict.fromkeys(value.reason for value in values if isinstance(value, Absent))
                raise SensorError(f"{sensor.name} gives nothing: {'; '.join(reasons)}")
            stack.pop_all()
        return sensor


DRIVER = Ina3221Driver()
