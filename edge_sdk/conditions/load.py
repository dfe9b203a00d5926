"""How busy processors and GPU are, in percent."""

from __future__ import annotations

import re
from pathlib import Path

from edge_sdk.conditions.probe import Probe, no_number, whole
from edge_sdk.result import Reading
from edge_sdk.sensors import sysfs
from edge_sdk.sensors.base import Absent, Value

_CPU = re.compile(r"cpu ((?: *[0-9]{1,18}){4,10})(?:\n|$)")
_IDLE = (3, 4)  # idle and waiting for a disk
_COUNTED = 8  # what guests get is in user and nice already

# Where the drivers of Jetson's GPU put their load; "device" of devfreq leads to the same file on every release.
_JETSON = (
    "sys/devices/gpu.0/load",
    "sys/devices/platform/gpu.0/load",
    "sys/devices/platform/17000000.gpu/load",
    "sys/devices/platform/bus@0/17000000.gpu/load",
)


def ticks(text: str) -> tuple[int, int] | None:
    """What /proc/stat counts since boot over all processors: (busy, all) in ticks; None where it is no such text."""
    found = _CPU.match(text)
    if found is None:
        return None
    counts = [int(count) for count in found[1].split()][:_COUNTED]
    whole_time = sum(counts)
    return whole_time - sum(counts[column] for column in _IDLE if column < len(counts)), whole_time


def thousandths(text: str) -> Value:
    """Jetson's load, 0 to 1000, in percent."""
    return _percent(whole(text), 10, text)


def percent(text: str) -> Value:
    """A load that is in percent already, with or without the sign."""
    return _percent(whole(text.strip().removesuffix("%")), 1, text)


def busy_of_total(text: str) -> Value:
    """Adreno's "busy total", both of the last second or so; a total of 0 is a GPU that is off."""
    counts = [count for part in text.split() if (count := whole(part)) is not None]
    if len(counts) != 2 or len(text.split()) != 2:
        return no_number(text)
    busy, total = counts
    if total == 0:
        return 0.0
    return 100 * busy / total if 0 <= busy <= total else Absent(f"no load: {busy} of {total}")


class Loads:
    """The loads of a machine; where its GPU's stands is found once.

    Args:
        root: Of /proc and /sys.
    """

    def __init__(self, root: Path) -> None:
        self._stat = root / "proc/stat"
        self._before: tuple[int, int] | None = None
        self._gpu: Probe | None = None
        self.find(root)

    def find(self, root: Path) -> None:
        """Looks for the GPU's file again."""
        self._gpu = next((probe for probe in _gpus(root) if probe.path.exists()), None)

    def read(self, at_ns: int) -> tuple[Reading, ...]:
        """ "cpu" since the last read, over all processors, and "gpu" where the board tells it."""
        value = self._cpu()
        if isinstance(value, Absent):
            readings = [Reading("cpu", None, "percent", None, at_ns, value.reason)]
        else:
            readings = [Reading("cpu", value, "percent", None, at_ns)]
        if self._gpu is not None:
            readings.append(self._gpu.read(at_ns))
        return tuple(readings)

    def _cpu(self) -> Value:
        text = sysfs.text_or_none(self._stat)
        now = ticks(text) if text is not None else None
        before, self._before = self._before, now
        if now is None:
            return Absent("/proc/stat cannot be read")
        if before is None:
            return Absent("it is counted between two reads, and this is the first")
        busy, passed = now[0] - before[0], now[1] - before[1]
        if passed <= 0:
            return Absent("no time has passed since the last read")
        return min(max(100 * busy / passed, 0.0), 100.0)  # waiting for a disk may be counted backwards


def _percent(raw: int | None, per_percent: int, text: str) -> Value:
    if raw is None:
        return no_number(text)
    value = raw / per_percent
    return value if 0 <= value <= 100 else Absent(f"no load: {value:g} %")


def _gpus(root: Path) -> list[Probe]:
    devfreq = [folder / "device/load" for folder in sysfs.in_order(root / "sys/class/devfreq", "*gpu*")]
    found = [Probe("gpu", path, "percent", thousandths) for path in (*(root / path for path in _JETSON), *devfreq)]
    for kgsl in sysfs.in_order(root / "sys/class/kgsl", "kgsl-3d*"):
        found.append(Probe("gpu", kgsl / "gpu_busy_percentage", "percent", percent))
        found.append(Probe("gpu", kgsl / "gpubusy", "percent", busy_of_total))
    for card in sysfs.in_order(root / "sys/class/drm", "card*"):
        found.append(Probe("gpu", card / "device/gpu_busy_percent", "percent", percent))  # amdgpu
    return found
