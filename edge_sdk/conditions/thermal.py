"""Temperatures: the kernel's thermal zones, and hwmon where no zone is a processor's.

The number of a zone changes from release to release and from boot to boot, so a zone is known by its type. Those of
power-gated parts fail with EAGAIN or give -256000: they have no value, and are not read twice.
"""

from __future__ import annotations

import re
from pathlib import Path

from edge_sdk.conditions.probe import Probe, distinct, no_number, plain, whole
from edge_sdk.sensors import sysfs
from edge_sdk.sensors.base import Absent, Value

_OFF = -256000  # what a gated zone of a Jetson gives where it does not fail
_LOWEST_C, _HIGHEST_C = -60.0, 200.0
_PROCESSOR = re.compile(r"cpu|pkg|soc", re.IGNORECASE)
_CHIPS = ("cpu_thermal", "coretemp", "k10temp", "zenpower")


def celsius(text: str) -> Value:
    """Millidegrees as /sys gives them, in Celsius; absent where it can be no temperature."""
    raw = whole(text)
    if raw is None:
        return no_number(text)
    if raw == _OFF:
        return Absent(f"switched off (it gives {_OFF})")
    value = raw / 1000
    return value if _LOWEST_C <= value <= _HIGHEST_C else Absent(f"no temperature: {value:g} C")


def temperatures(root: Path) -> tuple[Probe, ...]:
    """What there is to read, zones in the order of their numbers; a type that is there twice is numbered."""
    zones = sysfs.in_order(root / "sys/class/thermal", "thermal_zone*")
    found = [(plain(sysfs.text_or_none(zone / "type"), zone.name), zone / "temp") for zone in zones]
    if not any(_PROCESSOR.search(name) for name, _ in found):
        for chip in sysfs.hwmon(root, *_CHIPS):
            name = plain(sysfs.text_or_none(chip / "name"), chip.name)
            label = sysfs.text_or_none(chip / "temp1_label")
            found.append((plain(f"{name} {label}", name) if label else name, chip / "temp1_input"))
    names = distinct(name for name, _ in found)
    return tuple(Probe(name, path, "c", celsius) for name, (_, path) in zip(names, found, strict=True))
