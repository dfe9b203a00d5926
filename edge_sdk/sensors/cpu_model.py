"""The power of a board that measures none, as a published line over its processors' load: an estimate, not a sensor.

The line was fitted on somebody's board with nothing attached, under processor load alone. It knows nothing of the GPU,
the camera, USB devices or the clock, and stands in boards.toml with its source.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors import sysfs
from edge_sdk.sensors.base import Absent, Channel, Value, Wanted, plausible
from edge_sdk.targets import Rail

REFRESH_S = 0.2  # /proc/stat counts hundredths of a second: 20 of each processor, so steps of 1.25 % on four
# The published lines of one board, a Pi 4B rev. 1.2 under a 64-bit and a 32-bit system, differ by a sixth at full load.
UNCERTAINTY = 0.2
MISSING = (
    "modelled from CPU load alone by a line that was fitted on another board; "
    "not measured: GPU, camera, USB devices, HATs and clock speed do not count"
)

_LINE = re.compile(r"(\d{1,3}(?:\.\d{1,20})?)\*u\+(\d{1,3}(?:\.\d{1,20})?)")
_TICKS = re.compile(r"[0-9]{1,20}")
_BUSY_AND_IDLE = 8  # user nice system idle iowait irq softirq steal; guests are in user and nice already


class Ticks(NamedTuple):
    """Time of all processors together since boot, in ticks.

    Args:
        busy: In which one did something; waiting for a disk is doing nothing.
        total: Busy or idle.
        processors: How many there are.
    """

    busy: int
    total: int
    processors: int


def parse(text: str) -> Ticks:
    """The ticks in the beginning of /proc/stat.

    Raises:
        SensorError: There are none in it. Source of the fields: proc_stat(5).
    """
    lines = text.splitlines()
    fields = lines[0].split() if lines else []
    if not fields or fields[0] != "cpu":
        raise SensorError("stat: no processor times in it")
    times = fields[1 : 1 + _BUSY_AND_IDLE]
    if len(times) < _BUSY_AND_IDLE or not all(_TICKS.fullmatch(time) for time in times):
        raise SensorError("stat: no number where a processor's time should be")
    ticks = [int(time) for time in times]
    processors = sum(re.match(r"cpu\d", line) is not None for line in lines[1:])
    return Ticks(sum(ticks) - ticks[3] - ticks[4], sum(ticks), max(1, processors))


def line(address: str) -> tuple[float, float]:
    """Slope and intercept in W of "4.534*u+2.286", where u is the load from 0 to 1.

    Raises:
        UsageError: It is no such line.
    """
    found = _LINE.fullmatch(address.replace(" ", ""))
    if found is None:
        raise UsageError(f"cpu_model:{address}: no line; write it as 4.534*u+2.286, in W, where u is the load, 0 to 1")
    return float(found[1]), float(found[2])


class CpuModel:
    """The line over the load since the last read that was at least `REFRESH_S` before.

    Args:
        rail: Its address is the line.
        root: Of /proc.

    Raises:
        SensorError: /proc/stat cannot be read.
        UsageError: The address is no line.
    """

    name = "cpu_model"
    refresh_s = REFRESH_S

    def __init__(self, rail: Rail, root: Path) -> None:
        self._slope, self._intercept = line(rail.address)
        self._stat = sysfs.SysFile(root / "proc/stat")
        try:
            self._before = parse(self._stat.text())
        except BaseException:
            self._stat.close()
            raise
        self._latest: Value = Absent(f"no load yet: it is known {REFRESH_S:g} s after opening")
        self._least = REFRESH_S * os.sysconf("SC_CLK_TCK") * self._before.processors
        self.channels = (
            Channel(rail.name, "power", "estimate", rail.in_total, missing=MISSING, uncertainty=UNCERTAINTY),
        )

    def read(self) -> Sequence[Value]:
        """One value; a read that comes too soon gives the last one again."""
        try:
            now = parse(self._stat.text())
        except SensorError as error:
            return [Absent(str(error))]
        passed = now.total - self._before.total
        if passed < 0:
            self._before, self._latest = now, Absent("the processors' times went backwards")
        elif passed >= self._least:
            load = min(1.0, max(0.0, (now.busy - self._before.busy) / passed))
            self._before, self._latest = now, plausible(self._slope * load + self._intercept)
        return [self._latest]

    def close(self) -> None:
        """Frees everything; may be called twice."""
        self._stat.close()


class CpuModelDriver:
    """See `edge_sdk.sensors.base.Driver`."""

    name = "cpu_model"
    usage = "cpu_model:A*u+B  an estimate in W from the CPU's load u, 0 to 1"

    def open(self, wanted: Wanted) -> CpuModel:
        """As `Driver.open`."""
        wanted.check_options()
        rails = wanted.rails or (Rail("model", "cpu_model", wanted.address, in_total=True),)
        if len(rails) > 1:
            raise UsageError("cpu_model: a board has one line")
        return CpuModel(rails[0], wanted.root)


DRIVER = CpuModelDriver()
