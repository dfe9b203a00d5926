"""TI's one-channel power monitors under the kernel's hwmon drivers: a board's own, or an external module.

``ina2xx`` drives the INA219, 220, 226, 230, 231, 232 and 260, ``ina238`` the INA228, 237 and 238. What is here of
registers is from these drivers (drivers/hwmon/ina2xx.c and ina238.c of Linux; INA232: linux-hwmon list, 2026-06) and
from Documentation/hwmon/ina2xx.rst and ina238.rst: in1_input in mV, curr1_input in mA, power1_input in uW.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from edge_sdk.errors import SensorError, UsageError, one_line
from edge_sdk.result import Method
from edge_sdk.sensors.base import Absent, Channel, Value, Wanted, plausible
from edge_sdk.sensors.sysfs import SysFile, hwmon, i2c_device, number_or_none, text_or_none, update_interval_s
from edge_sdk.targets import Rail


@dataclass(frozen=True)
class Chip:
    """What its registers can hold.

    Args:
        shunt_step_uv, shunt_end_uv: One step and the end of the voltage over the shunt.
        bus_end_v: The end of the bus voltage.
        power_factor: One step of its power register, in V x one step of current; 0 where that is never the coarser.
        refresh_s: Between two values as the kernel's driver sets it up; ``update_interval`` goes before it.
        own_shunt_uohm: Of a shunt inside the chip.
    """

    shunt_step_uv: float
    shunt_end_uv: float
    bus_end_v: float
    power_factor: float
    refresh_s: float
    own_shunt_uohm: int | None = None


# ina2xx.c: an INA219 converts 12 bits of bus and shunt in 532 us each, without a mean; the others take the mean of 16
# conversions of 2 x 1.1 ms. ina238.c: 16 x 3 x 1.052 ms, as it measures its temperature too.
_INA219 = Chip(10, 320_000, 32.76, 20, 2 * 0.000532)
_INA226 = Chip(2.5, 81_920, 40.96, 25, 16 * 0.0022)
_INA238 = Chip(5, 163_840, 102.4, 0.2, 16 * 3 * 0.001052)
CHIPS: Mapping[str, Chip] = MappingProxyType(
    {
        "ina219": _INA219,
        "ina220": _INA219,
        "ina226": _INA226,
        "ina228": Chip(0.3125, 163_840, 102.4, 3.2, 16 * 3 * 0.001052),
        "ina230": _INA226,
        "ina231": _INA226,
        "ina232": Chip(2.5, 81_920, 52.43, 32, 16 * 0.0022),
        "ina237": _INA238,
        "ina238": _INA238,
        "ina260": Chip(2.5, 81_920, 40.96, 8, 16 * 0.0022, own_shunt_uohm=2000),
    }
)
"""By the name that its hwmon folder has."""

_LEAST_SHUNT_UOHM = 100.0  # where the driver does not tell it: a shunt for hundreds of amperes
_OPTION = "shunt_uohm"
_DEVICE = re.compile(r"([0-9]{1,4})-(?:0x)?([0-9a-fA-F]{1,4})")


class Monitor:
    """One chip, its files open.

    Args:
        folder: Its hwmon folder.
        root: Of /sys.
        true_shunt_uohm: What the shunt really is; None: what the driver believes.

    Raises:
        SensorError: It has neither a power nor both a voltage and a current; or it is to be corrected and does not say
            what shunt it believes in.
    """

    def __init__(self, folder: Path, root: Path, true_shunt_uohm: float | None = None) -> None:
        name = text_or_none(folder / "name") or "?"
        self.chip = CHIPS[name]
        self.device = i2c_device(folder, root)
        self.label = f"{name} {self.device}" if self.device else name
        believed = number_or_none(folder / "shunt_resistor")
        believed = believed if believed is not None and believed > 0 else None
        self.correction = 1.0
        self.corrected: str | None = None
        if true_shunt_uohm is not None:
            if believed is None:
                raise SensorError(
                    f"{self.label}: {_OPTION} corrects nothing here, because it has no file shunt_resistor that says "
                    "which shunt its figures are for"
                )
            self.correction = believed / true_shunt_uohm
            self.corrected = f"corrected for a shunt of {true_shunt_uohm:g} uOhm; the kernel's driver has {believed}"
        shunt_uohm = float(believed or self.chip.own_shunt_uohm or _LEAST_SHUNT_UOHM)
        self.most_w = self.chip.bus_end_v * self.chip.shunt_end_uv / shunt_uohm * self.correction * 1.01
        self._read_w = self._open(folder)
        self.step_w = self._step_w(folder, believed or self.chip.own_shunt_uohm)
        self.refresh_s = update_interval_s(folder) or self.chip.refresh_s

    def read(self) -> Value:
        """Watts now."""
        try:
            watts = self._read_w()
        except SensorError as error:
            return Absent(one_line(error))
        watts *= self.correction
        if abs(watts) > self.most_w:
            return Absent(f"{watts:.1f} W is out of the chip's range of {self.most_w:.1f} W")
        return plausible(watts)

    def close(self) -> None:
        """Closes its files; may be called twice."""
        self._files.close()

    def _open(self, folder: Path) -> Callable[[], float]:
        """Opens its files; gives what reads them, in W and before any correction."""
        with ExitStack() as stack:
            power, power_reason = _opened(folder / "power1_input", stack)
            amps, amps_reason = _opened(folder / "curr1_input", stack)
            volts, volts_reason = _opened(folder / "in1_input", stack)
            if power is not None:
                read = partial(_watts, power, amps)
            elif volts is not None and amps is not None:
                read = partial(_product, volts, amps)
            else:
                raise SensorError(f"{self.label}: {power_reason}; {amps_reason or volts_reason}")
            self._files = stack.pop_all()
        self._has_power = power is not None
        return read

    def _step_w(self, folder: Path, shunt_uohm: int | None) -> float | None:
        millivolts = number_or_none(folder / "in1_input")
        if shunt_uohm is None or millivolts is None or not 0 < millivolts <= self.chip.bus_end_v * 1000:
            return None
        amps = self.chip.shunt_step_uv / shunt_uohm
        if not self._has_power:
            return millivolts / 1000 * max(amps, 0.001) * self.correction  # curr1_input is in whole mA
        return max(millivolts / 1000, self.chip.power_factor) * amps * self.correction


class Ina2xxSensor:
    """One chip or several; see `edge_sdk.sensors.base.Sensor`. A rail without a chip is a text: why it has none."""

    def __init__(self, rails: Sequence[tuple[Rail, Monitor | str]], method: Method) -> None:
        self._monitors = [monitor for _, monitor in rails]
        there = [monitor for monitor in self._monitors if isinstance(monitor, Monitor)]
        self.name = ", ".join(monitor.label for monitor in there)
        self.refresh_s = max(monitor.refresh_s for monitor in there)
        self.channels = tuple(
            Channel(rail.name, "power", method, rail.in_total, monitor.step_w, monitor.corrected)
            if isinstance(monitor, Monitor)
            else Channel(rail.name, "power", method, rail.in_total)
            for rail, monitor in rails
        )

    def read(self) -> Sequence[Value]:
        """One value a chip, in W."""
        return [one.read() if isinstance(one, Monitor) else Absent(one) for one in self._monitors]

    def close(self) -> None:
        """Closes every file; may be called twice."""
        for one in self._monitors:
            if isinstance(one, Monitor):
                one.close()


class BoardDriver:
    """A board's own chips of one kind; see `edge_sdk.sensors.base.Driver`.

    Args:
        name: "ina238"; also the name of the hwmon folder.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.usage = f"{name}  a chip on the board: by its board's table alone; a meter of your own is ina2xx:{name}"

    def open(self, wanted: Wanted) -> Ina2xxSensor:
        """As `Driver.open`."""
        wanted.check_options()
        if wanted.address or not wanted.rails:
            raise UsageError(
                f"{self.name} is read by a board's table of rails; a meter of your own is ina2xx:{self.name}"
            )
        folders = hwmon(wanted.root, self.name)
        if not folders:
            raise SensorError(
                f"no {self.name.upper()} here: its kernel driver is not loaded, this carrier board lacks the chip, or "
                "a container hides /sys/class/hwmon"
            )
        with ExitStack() as stack:
            rails: list[tuple[Rail, Monitor | str]] = []
            for rail in wanted.rails:
                one = _of_the_board(rail, folders, wanted.root)
                if isinstance(one, Monitor):
                    stack.callback(one.close)
                rails.append((rail, one))
            sensor = _checked(rails, "sensor_total")
            stack.pop_all()
        return sensor


class MeterDriver:
    """A module that somebody put into the supply line; see `edge_sdk.sensors.base.Driver`.

    The option ``shunt_uohm`` says what its shunt really is, in micro-ohms, where the kernel's driver has another. A
    board's table may name this driver too, for any of the chips: a rail's address is then the chip or its place.
    """

    name = "ina2xx"
    usage = f"ina2xx[:CHIP or BUS-ADDR]  an external module on the I2C bus: {', '.join(CHIPS)}"

    def open(self, wanted: Wanted) -> Ina2xxSensor:
        """As `Driver.open`."""
        wanted.check_options(_OPTION)
        shunt = _shunt(wanted.options.get(_OPTION))
        with ExitStack() as stack:
            rails: list[tuple[Rail, Monitor | str]] = []
            for rail in wanted.rails:
                try:
                    monitor = Monitor(_named(rail.address.removeprefix("*"), wanted.root), wanted.root, shunt)
                except (SensorError, UsageError) as error:
                    rails.append((rail, one_line(error)))
                else:
                    stack.callback(monitor.close)
                    rails.append((rail, monitor))
            if not wanted.rails:
                monitor = Monitor(_named(wanted.address.strip(), wanted.root), wanted.root, shunt)
                stack.callback(monitor.close)
                rails.append((Rail(monitor.label, self.name, wanted.address, in_total=True), monitor))
            sensor = _checked(rails, "sensor_total" if wanted.rails else "external")
            stack.pop_all()
        return sensor


DRIVERS = (BoardDriver("ina238"), BoardDriver("ina232"), MeterDriver())


def _opened(path: Path, stack: ExitStack) -> tuple[SysFile | None, str]:
    try:
        file = SysFile(path)
    except SensorError as error:
        return None, one_line(error)
    stack.callback(file.close)
    return file, ""


def _watts(power: SysFile, amps: SysFile | None) -> float:
    """The power register knows no sign: current tells it."""
    milliamps = None if amps is None else amps.number()
    if milliamps is not None and milliamps < 0:
        raise SensorError(f"negative: {milliamps} mA; current flows the other way through its shunt")
    return power.number() / 1e6


def _product(volts: SysFile, amps: SysFile) -> float:
    return volts.number() * amps.number() / 1e6


def _checked(rails: Sequence[tuple[Rail, Monitor | str]], method: Method) -> Ina2xxSensor:
    """The sensor, read once."""
    if not any(isinstance(one, Monitor) for _, one in rails):
        raise SensorError("; ".join(str(one) for _, one in rails))
    sensor = Ina2xxSensor(rails, method)
    reasons = [value.reason for value in sensor.read() if isinstance(value, Absent)]
    if len(reasons) == len(rails):
        raise SensorError(f"{sensor.name} gives nothing: {'; '.join(dict.fromkeys(reasons))}")
    return sensor


def _of_the_board(rail: Rail, folders: Sequence[Path], root: Path) -> Monitor | str:
    wanted = rail.address.partition("/")[0]
    places = [i2c_device(folder, root) for folder in folders]
    chosen = list(folders)
    if wanted != "*":
        chosen = [folder for folder, place in zip(folders, places, strict=True) if place in (wanted, None)]
    listed = ", ".join(place or "?" for place in places)
    if len(chosen) != 1:
        return f"several chips of its kind: on {listed}" if chosen else f"on {listed}, not on {wanted}"
    try:
        return Monitor(chosen[0], root)
    except SensorError as error:
        return one_line(error)


def _named(address: str, root: Path) -> Path:
    """The folder of the module that a user means."""
    folders = hwmon(root, *CHIPS)
    there = ", ".join(f"{text_or_none(folder / 'name')} {i2c_device(folder, root) or ''}".strip() for folder in folders)
    chosen = folders
    device = _DEVICE.fullmatch(address)
    if address in CHIPS:
        chosen = hwmon(root, address)
    elif device is not None:
        wanted = f"{int(device[1])}-{int(device[2], 16):04x}"
        chosen = [folder for folder in folders if i2c_device(folder, root) == wanted]
    elif address:
        raise UsageError(f"ina2xx:{address}: neither a chip ({', '.join(CHIPS)}) nor an I2C device such as 1-0040")
    if not folders:
        raise SensorError(
            "no INA2xx module here; on an I2C bus it needs its kernel driver: "
            "echo ina226 0x40 | sudo tee /sys/bus/i2c/devices/i2c-1/new_device"
        )
    if not chosen:
        raise SensorError(f"ina2xx:{address}: it is not there; there are {there}")
    if len(chosen) > 1:
        raise UsageError(f"several chips: {there}; say which one, such as ina2xx:1-0040")
    return chosen[0]


def _shunt(option: str | None) -> float | None:
    if option is None:
        return None
    try:
        shunt_uohm = float(option)
    except ValueError:
        shunt_uohm = math.nan
    if not 1 <= shunt_uohm <= 10_000_000:
        raise UsageError(f"{_OPTION}={option}: not a resistance in micro-ohms from 1 to 10000000")
    return shunt_uohm
