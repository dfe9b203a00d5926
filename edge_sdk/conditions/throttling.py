"""Whether the board holds itself back: by heat, by a weak supply, or by its limit of current.

Nothing here is one interface: Jetsons and other Arm boards have cooling devices, a Raspberry Pi has its firmware's
flags, a PC counts. Sources: NVIDIA's thermal-trip-event and soctherm_oc drivers, raspberrypi-hwmon.c and the
get_throttled of raspberrypi.c in the kernel, `vcgencmd` in the documentation of Raspberry Pi.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.conditions.board import family
from edge_sdk.conditions.probe import plain
from edge_sdk.errors import ShellError
from edge_sdk.sensors import sysfs
from edge_sdk.shell import Shell

UNDER_VOLTAGE = "under-voltage"
OVER_CURRENT = "over-current"

# Bits of get_throttled; sixteen higher stands whether it has been so.
_PI_BITS = (UNDER_VOLTAGE, "frequency capped", "throttled", "soft temperature limit")
_PI_VALUE = re.compile(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})\s*")
_VCGENCMD = ("vcgencmd", "get_throttled")

# Cooling devices that slow something down; the others are fans.
_COOLING = re.compile(
    r".*-throttle-alert|.*hot-surface-alert|(thermal-)?cpufreq-.*|(thermal-)?devfreq-.*|intel_powerclamp"
)

# Counters of soctherm_oc on Orin and Thor. oc3 counts spikes that last too short for any sensor, thousands an hour on
# boards that run as fast as ever, so it is recorded and is no reason to throw a run away.
_SOCTHERM = (("oc1_event_cnt", UNDER_VOLTAGE), ("oc2_event_cnt", OVER_CURRENT))
_SPIKES = "oc3_event_cnt"


@dataclass(frozen=True)
class Throttling:
    """What holds the board back now, by cause; None where it has nothing that tells. And what did since it started."""

    now: tuple[str, ...] | None
    since_boot: tuple[str, ...] = ()


def throttled_bits(text: str) -> int | None:
    """The flags in a reply of `vcgencmd get_throttled` or in its file of /sys, which is hexadecimal without 0x.

    None where it is no such reply: the command's exit code says nothing.
    """
    found = _PI_VALUE.fullmatch(text.strip())
    return int(found[1], 16) if found else None


def pi_causes(bits: int) -> Throttling:
    """What the flags of a Raspberry Pi mean."""
    return Throttling(
        tuple(cause for bit, cause in enumerate(_PI_BITS) if bits >> bit & 1),
        tuple(cause for bit, cause in enumerate(_PI_BITS, 16) if bits >> bit & 1),
    )


class Watch:
    """Looks for throttling again and again; remembers counters from one read to the next.

    Args:
        root: Of /proc and /sys.
    """

    def __init__(self, root: Path) -> None:
        self._counted: dict[Path, int] = {}
        self.find(root)

    def find(self, root: Path) -> None:
        """Looks again for what there is; counters keep what they counted."""
        thermal = sysfs.in_order(root / "sys/class/thermal", "cooling_device*")
        cooling = [(plain(sysfs.text_or_none(device / "type"), "?"), device / "cur_state") for device in thermal]
        self._cooling = [(cause, path) for cause, path in cooling if _COOLING.fullmatch(cause)]
        supply = sysfs.hwmon(root, "rpi_volt")
        self._alarms = [chip / "in0_lcrit_alarm" for chip in supply]
        # Without that driver nobody asks the firmware, and the file says 0 for ever. It is the only one that tells of
        # heat without starting a process; the kernel logs one warning when it is first read, which is harmless.
        self._flags = sorted((root / "sys/devices/platform").glob("soc*/soc*:firmware/get_throttled")) if supply else []
        self._is_pi = family(root) == "raspberry-pi" or bool(supply)
        self._counters = [*_packages(root), *_soctherm(root)]

    def read(self, shell: Shell | None = None) -> Throttling:
        """What throttles now.

        A counter that rose since the last read throttles now. Its count is part of what happened since boot, so that
        a rise between any two reads is a difference.

        Args:
            shell: Runs `vcgencmd` on a Raspberry Pi, which takes some 10 ms; None: only what files tell.
        """
        parts = [*self._by_cooling(), *self._by_kernel(), *self._by_counters()]
        if shell is not None and self._is_pi:
            parts += _by_firmware(shell)
        told = [part.now for part in parts if part.now is not None]
        since = tuple(dict.fromkeys(cause for part in parts for cause in part.since_boot))
        return Throttling(tuple(dict.fromkeys(cause for now in told for cause in now)) if told else None, since)

    def _by_cooling(self) -> Iterator[Throttling]:
        for cause, path in self._cooling:
            state = sysfs.number_or_none(path)
            if state is not None:
                yield Throttling((cause,) if state > 0 else ())

    def _by_kernel(self) -> Iterator[Throttling]:
        for path in self._alarms:
            alarm = sysfs.number_or_none(path)
            if alarm is not None:
                yield Throttling((UNDER_VOLTAGE,) if alarm > 0 else ())
        for path in self._flags:
            bits = throttled_bits(sysfs.text_or_none(path) or "")
            if bits is not None:
                # The kernel clears its own history whenever it looks, every 2 s: what stands there is of just now.
                causes = pi_causes(bits)
                yield Throttling((*(causes.now or ()), *causes.since_boot))

    def _by_counters(self) -> Iterator[Throttling]:
        for cause, path in self._counters:
            count = sysfs.number_or_none(path)
            if count is None or count < 0:
                continue
            before = self._counted.get(path, count)
            self._counted[path] = count
            since = (f"{cause} ({count}x)",) if count else ()
            yield Throttling((cause,) if count > before else (), since)


def current_spikes(root: Path) -> int | None:
    """How often a Jetson's comparator saw a spike of current since boot (OC3); None where nothing counts them."""
    counts = [sysfs.number_or_none(chip / _SPIKES) for chip in sysfs.hwmon(root, "soctherm_oc")]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _by_firmware(shell: Shell) -> list[Throttling]:
    try:
        bits = throttled_bits(shell.run(_VCGENCMD, timeout_s=5.0))
    except ShellError:
        return []
    return [pi_causes(bits)] if bits is not None else []


def _packages(root: Path) -> Iterator[tuple[str, Path]]:
    """One counter for each processor of a PC; every thread of it has the same."""
    seen = set()
    for thread in sysfs.in_order(root / "sys/devices/system/cpu", "cpu[0-9]*"):
        counter = thread / "thermal_throttle/package_throttle_count"
        package = sysfs.number_or_none(thread / "topology/physical_package_id") or 0
        if package not in seen and counter.exists():
            seen.add(package)
            yield f"package-{package}-throttle", counter


def _soctherm(root: Path) -> Iterator[tuple[str, Path]]:
    for chip in sysfs.hwmon(root, "soctherm_oc"):
        yield from ((cause, chip / counter) for counter, cause in _SOCTHERM)
