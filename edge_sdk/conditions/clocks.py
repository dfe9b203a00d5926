"""Clocks and governors: cpufreq's of processors, devfreq's of the GPU.

`scaling_cur_freq` is what the governor asked for on many Arm boards, and stays so while the firmware throttles
(github.com/raspberrypi/linux/issues/2986; a Thor at 242 MHz that says 2601: forums.developer.nvidia.com/t/361188).
`cpuinfo_cur_freq` is what the hardware runs at; only root may read it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.conditions.probe import Probe, no_number, plain, whole
from edge_sdk.result import Reading
from edge_sdk.sensors import sysfs
from edge_sdk.sensors.base import Absent, Value

_HIGHEST_MHZ = 20_000
_GPU = re.compile(r"gpu|gm20b|gp10b|gv11b|ga10b|gb10b|kgsl|mali|v3d", re.IGNORECASE)
_MOST_QUICK = 8  # a PC has a policy for every thread, and old kernels take 10 ms for each clock
_ASKED = "asked for, not measured: only root may read the measured clock"


def megahertz(per_mhz: int) -> Callable[[str], Value]:
    """Reads a clock given in so many units a megahertz: 1000 for kHz, 1000000 for Hz."""

    def means(text: str) -> Value:
        raw = whole(text)
        if raw is None:
            return no_number(text)
        value = raw / per_mhz
        return value if 0 <= value <= _HIGHEST_MHZ else Absent(f"no clock: {value:g} MHz")

    return means


@dataclass(frozen=True)
class _Domain:
    """What shares a clock: its name, clock and governor, and the limits that the governor keeps to."""

    name: str
    clock: Probe
    folder: Path
    governor: str
    limits: tuple[str, str]
    kind: str


class Clocks:
    """The clocks of a machine, found once.

    Args:
        root: Of /sys.
    """

    def __init__(self, root: Path) -> None:
        self._all = (*_processors(root), *_gpus(root))
        first = {domain.kind: domain for domain in reversed(self._all)}
        few = len(self._all) <= _MOST_QUICK
        self._some = self._all if few else tuple(domain for domain in self._all if first[domain.kind] is domain)

    def read(self, at_ns: int, full: bool = True) -> tuple[Reading, ...]:
        """In MHz. Not `full`: of many processors only one of each kind."""
        return tuple(domain.clock.read(at_ns) for domain in self._chosen(full))

    def governors(self, full: bool = True) -> tuple[tuple[str, str], ...]:
        """By name: ("cpu0", "schedutil"). Not `full`: as of `read`."""
        read = ((domain.name, sysfs.text_or_none(domain.folder / domain.governor)) for domain in self._chosen(full))
        return tuple((name, plain(governor, "?")) for name, governor in read if governor is not None)

    def pinned(self) -> bool | None:
        """Whether every clock is held, its lowest limit being its highest, as `jetson_clocks` does; None: unknown."""
        limits = [tuple(sysfs.number_or_none(domain.folder / end) for end in domain.limits) for domain in self._all]
        known = [(low, high) for low, high in limits if low is not None and high is not None]
        return all(low == high for low, high in known) if known else None

    def _chosen(self, full: bool) -> tuple[_Domain, ...]:
        return self._all if full else self._some


def _processors(root: Path) -> list[_Domain]:
    found = []
    for folder in sysfs.in_order(root / "sys/devices/system/cpu/cpufreq", "policy*"):
        name = f"cpu{folder.name.removeprefix('policy')}"
        measured = folder / "cpuinfo_cur_freq"
        if os.access(measured, os.R_OK):
            clock = Probe(name, measured, "mhz", megahertz(1000))
        else:
            note = _ASKED if measured.exists() else None
            clock = Probe(name, folder / "scaling_cur_freq", "mhz", megahertz(1000), note)
        kind = sysfs.text_or_none(folder / "cpuinfo_max_freq") or "?"
        found.append(_Domain(name, clock, folder, "scaling_governor", ("scaling_min_freq", "scaling_max_freq"), kind))
    return found


def _gpus(root: Path) -> list[_Domain]:
    limits = ("min_freq", "max_freq")
    found = []
    for folder in sysfs.in_order(root / "sys/class/devfreq", "*"):
        if _GPU.search(folder.name):
            clock = Probe(plain(folder.name, "gpu"), folder / "cur_freq", "mhz", megahertz(1_000_000))
            found.append(_Domain(clock.name, clock, folder, "governor", limits, clock.name))
    if not found:
        for folder in sysfs.in_order(root / "sys/class/kgsl", "kgsl-3d*"):
            clock = Probe(plain(folder.name, "gpu"), folder / "gpuclk", "mhz", megahertz(1_000_000))
            found.append(_Domain(clock.name, clock, folder / "devfreq", "governor", limits, clock.name))
    return found
