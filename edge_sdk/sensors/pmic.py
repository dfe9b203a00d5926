"""The power chip of a Raspberry Pi 5, 500 or Compute Module 5: volts and amps of twelve rails behind its converters.

The firmware reads it, and is asked through its mailbox, or with ``vcgencmd pmic_read_adc`` where that cannot be
opened. What is on the 5 V rail it does not see: the sum is a part of the board's power.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_sdk.errors import SensorError, ShellError, UsageError, one_line
from edge_sdk.sensors import sysfs
from edge_sdk.sensors.base import TOTAL, Absent, Channel, Value, Wanted, plausible
from edge_sdk.sensors.mailbox import TEXT_BYTES, Ioctl, Mailbox, refusal
from edge_sdk.sensors.pmic_fit import PUBLISHED, Fit, chosen
from edge_sdk.shell import Shell
from edge_sdk.targets import Rail

COMMAND = "pmic_read_adc"
# A read takes the firmware 23 ms, by mailbox or by process, and the time loads the board: ml-energy/zeus#274.
REFRESH_S = 0.1
MISSING = "the 5 V rail (USB, HATs, NVMe, fan) and conversion losses are not measured"

_ALIASES = {"0V8_SYS": "0V8_SW"}  # what older firmware calls it
_MOST_W = 100.0  # of a rail; the board's own supply gives 27
_TIMEOUT_S = 5.0
# Its number ends in its unit: a line that is cut off has none, and perhaps not all of its digits.
_LINE = re.compile(
    r"^[ \t]*(\w{1,32})_([AV])[ \t]+(?:current|volt)\(\d{1,4}\)="
    r"([-+]?(?:\d{1,9}(?:\.\d{0,18})?|(?i:nan|inf)))([AV])[ \t\r]*$",
    re.MULTILINE | re.ASCII,
)


def parse(text: str) -> Mapping[str, tuple[float, float]]:
    """Amps and volts of each rail that has both, by name; either may be nan, as the firmware may say.

    Raises:
        SensorError: The firmware does not know the command, or there is no rail in what it said.
    """
    text = text[: 4 * TEXT_BYTES]
    said = refusal(text)
    if said is not None:
        raise SensorError(
            f'no sensor: the firmware refuses {COMMAND} ("{said}"); '
            "only a Raspberry Pi 5, 500 or Compute Module 5 measures its rails"
        )
    found: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for name, kind, number, unit in _LINE.findall(text):
        if kind == unit:
            found[kind][_ALIASES.get(name, name)] = float(number)
    rails = {name: (amps, found["V"][name]) for name, amps in found["A"].items() if name in found["V"]}
    if not rails:
        raise SensorError(f"no rail in what the firmware says to {COMMAND}: {' '.join(text[:200].split())[:60]!r}")
    return rails


class PmicSensor:
    """The rails, each in W, and where a fit is wanted the board's power made of them; see `edge_sdk.sensors.base`.

    Args:
        ask: Gives the firmware's answer; raises SensorError.
        close: Closes what `ask` uses.
        rails: Which, in their order; none: all that the first answer has, and all in the total.
        fit: Makes the total of their sum; None: the sum is the total.

    Raises:
        SensorError: As `parse` raises it.
    """

    name = "pmic"
    refresh_s = REFRESH_S

    def __init__(
        self, ask: Callable[[], str], close: Callable[[], None], rails: Sequence[Rail], fit: Fit | None
    ) -> None:
        self._ask = ask
        self._close = close
        self._fit = fit
        first = parse(ask())
        self._rails = tuple(rails) or tuple(Rail(name, "pmic", name, in_total=True) for name in first)
        self.channels = tuple(
            Channel(rail.name, "power", "sensor_partial", rail.in_total and fit is None, missing=MISSING)
            for rail in self._rails
        )
        if fit is not None:
            board = Channel(TOTAL, "power", "fit", True, missing=fit.missing, uncertainty=fit.uncertainty)
            self.channels += (board,)

    def read(self) -> Sequence[Value]:
        """One value a channel."""
        try:
            found = parse(self._ask())
        except SensorError as error:
            return [Absent(one_line(error))] * len(self.channels)
        values = [_power(found, rail) for rail in self._rails]
        return values if self._fit is None else [*values, self._board(self._fit, values)]

    def close(self) -> None:
        """Frees everything; may be called twice."""
        self._close()

    def _board(self, fit: Fit, values: Sequence[Value]) -> Value:
        summed = [(rail, value) for rail, value in zip(self._rails, values, strict=True) if rail.in_total]
        lacking = [f"{rail.name} ({value.reason})" for rail, value in summed if isinstance(value, Absent)]
        if lacking:
            return Absent(f"no sum to fit without {', '.join(lacking)}")
        return plausible(fit.power_w(sum(value for _, value in summed if not isinstance(value, Absent))))


_USB_HUB = "09"  # of bDeviceClass; the root hubs are hubs too


class PmicDriver:
    """See `edge_sdk.sensors.base.Driver`.

    The option ``fit`` makes the total the whole board's: "published", "slope,intercept" or a file; see `chosen`.

    Args:
        ioctl: Of the mailbox; None is the system's.
    """

    name = "pmic"
    usage = "pmic  the power chip of a Raspberry Pi 5, 500 or CM5"

    def __init__(self, ioctl: Ioctl | None = None) -> None:
        self._ioctl = ioctl

    def open(self, wanted: Wanted) -> PmicSensor:
        """As `Driver.open`."""
        wanted.check_options("fit")
        if wanted.address:
            raise UsageError(f"pmic:{wanted.address}: a board has one PMIC; name it pmic")
        option = wanted.options.get("fit")
        fit = None if option is None else chosen(option)
        attached = _attached(wanted.root) if fit == PUBLISHED else []
        if attached:
            raise SensorError(
                f"fit=published does not hold here: {', '.join(attached)} draw from the 5 V rail; calibrate with a "
                "meter, edge-sdk fit-power, or take the devices off"
            )
        ask, close = self._asking(wanted.root, wanted.shell)
        try:
            return PmicSensor(ask, close, wanted.rails, fit)
        except BaseException:
            close()
            raise

    def _asking(self, root: Path, shell: Shell) -> tuple[Callable[[], str], Callable[[], None]]:
        """How the firmware is asked here, and what closes that."""
        mailbox: Mailbox | None = None
        try:
            mailbox = Mailbox(root, self._ioctl)
            mailbox.gencmd(COMMAND)
        except SensorError as error:
            if mailbox is not None:
                mailbox.close()
            without = one_line(error)
            return lambda: _by_vcgencmd(shell, without), lambda: None
        opened = mailbox
        return lambda: opened.gencmd(COMMAND), opened.close


def _attached(root: Path) -> list[str]:
    """USB devices that are no hubs, and NVMe disks: what the published line was measured without."""
    found = []
    for device in sysfs.in_order(root / "sys/bus/usb/devices", "*"):
        kind = sysfs.text_or_none(device / "bDeviceClass")
        if kind is not None and kind != _USB_HUB:
            found.append(sysfs.text_or_none(device / "product") or f"USB device {device.name}")
    return found + [disk.name for disk in sysfs.in_order(root / "sys/class/nvme", "nvme*")]


DRIVER = PmicDriver()


def _by_vcgencmd(shell: Shell, without: str) -> str:
    try:
        return shell.run(["vcgencmd", COMMAND], timeout_s=_TIMEOUT_S)
    except ShellError as error:
        if refusal(str(error)) is not None:  # its exit status says nothing; what it printed does
            return str(error)
        raise SensorError(f"the PMIC cannot be read: {one_line(error)}; {without}") from error


def _power(found: Mapping[str, tuple[float, float]], rail: Rail) -> Value:
    both = found.get(_ALIASES.get(rail.address, rail.address))
    if both is None:
        return Absent("the PMIC gave no current and voltage of it")
    for value, unit in zip(both, ("A", "V"), strict=True):
        checked = plausible(value)
        if isinstance(checked, Absent):
            return Absent(f"{checked.reason} {unit}")
    power_w = both[0] * both[1]
    return power_w if power_w <= _MOST_W else Absent(f"absurd: {power_w:.0f} W")
