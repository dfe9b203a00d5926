"""NVIDIA's tegrastats: what a line of any release says, and its rails as a sensor for who names it.

Its second number of a rail is the mean since tegrastats began, and a third the largest since then: the first is now.
The board's own sensor files are read faster and at less cost; this is for machines that hide them.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors.base import Absent, Channel, Value, Wanted, measured, plausible
from edge_sdk.sensors.child import Child
from edge_sdk.sensors.ina3221 import labels_of
from edge_sdk.sensors.newest import Newest
from edge_sdk.targets import Rail

PROGRAM = "tegrastats"
INTERVAL_MS = 500

_LINE_LETTERS = 16_384
_FIRST_LINE_S = 5.0
_NO_TEMPERATURE_C = (-100.0, 250.0)  # -256 C is a sensor that is switched off
_MIB = {"k": 1 / 1024, "M": 1.0, "G": 1024.0}

_RAM = re.compile(r"(?<![A-Z])RAM ([0-9]{1,9})/([0-9]{1,9})([kMG])B(?: \(lfb ([0-9]{1,9})x([0-9]{1,9})([kMG])B\))?")
_SWAP = re.compile(r"(?<![A-Z])SWAP ([0-9]{1,9})/([0-9]{1,9})([kMG])B")
_CPU = re.compile(r"(?<![A-Z])CPU \[([^\]]{0,4096})\](?:@([0-9]{1,6}))?")
_CORE = re.compile(r"([0-9]{1,3})%(?:@([0-9]{1,6}))?")
_GR3D = re.compile(r"(?<![A-Z])GR3D[0-9]?_FREQ (?:([0-9]{1,3})%)?(?:@\[?([0-9, ]{1,99})\]?)?")
_EMC = re.compile(r"(?<![A-Z])EMC_FREQ (?:([0-9]{1,3})%)?(?:@([0-9]{1,6}))?")
_TEMPERATURE = re.compile(r"([A-Za-z][\w.-]{0,31})@(-?[0-9]{1,4}(?:\.[0-9]{1,6})?)C(?:/-?[0-9.]{1,12}C)*", re.ASCII)
_NAME = re.compile(r"[A-Za-z][\w.-]{0,31}", re.ASCII)
_RAIL = re.compile(r"(-?[0-9]{1,9})mW(?:/-?[0-9]{1,9}mW){0,2}|(-?[0-9]{1,9})/-?[0-9]{1,9}")  # mW stands since JetPack 5


@dataclass(frozen=True)
class Core:
    """A processor that is on: its load in percent, and its clock where the line tells it."""

    percent: int
    mhz: int | None


@dataclass(frozen=True)
class Tegrastats:
    """What one line says; None, or nothing, where it does not.

    Args:
        ram_used_mib, ram_total_mib: Memory, which is the GPU's too.
        free_blocks, free_block_mib: The largest free blocks of memory: how many, and how large one is ("lfb").
        swap_used_mib, swap_total_mib: Swap.
        cpu: The processors in order; None is one that is off.
        gr3d_percent: Load of the GPU.
        gr3d_mhz: Its clocks, one a cluster; without root it tells none.
        emc_percent, emc_mhz: Load and clock of the memory controller; only for root.
        temperatures_c: By zone; None is one that is switched off.
        rails_w: Power now, by rail, as the chip gives it: it may be below 0.
    """

    ram_used_mib: float | None = None
    ram_total_mib: float | None = None
    free_blocks: int | None = None
    free_block_mib: float | None = None
    swap_used_mib: float | None = None
    swap_total_mib: float | None = None
    cpu: tuple[Core | None, ...] = ()
    gr3d_percent: int | None = None
    gr3d_mhz: tuple[int, ...] = ()
    emc_percent: int | None = None
    emc_mhz: int | None = None
    temperatures_c: Mapping[str, float | None] = field(default_factory=lambda: MappingProxyType({}))
    rails_w: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


def parse(line: str) -> Tegrastats | None:
    """One line of any release; what it holds beside is passed over. None where it is no line of tegrastats.

    Args:
        line: Without or with its time stamp, which tells whole seconds and is not used.
    """
    if len(line) > _LINE_LETTERS:
        return None
    ram, swap, cpu, emc = (one.search(line) for one in (_RAM, _SWAP, _CPU, _EMC))
    if ram is None:
        return None
    gr3d = list(_GR3D.finditer(line))
    percents = [int(one[1]) for one in gr3d if one[1] is not None]
    temperatures = {name: _celsius(value) for name, value in _TEMPERATURE.findall(line)}
    return Tegrastats(
        ram_used_mib=int(ram[1]) * _MIB[ram[3]],
        ram_total_mib=int(ram[2]) * _MIB[ram[3]],
        free_blocks=int(ram[4]) if ram[4] is not None else None,
        free_block_mib=int(ram[5]) * _MIB[ram[6]] if ram[5] is not None else None,
        swap_used_mib=int(swap[1]) * _MIB[swap[3]] if swap is not None else None,
        swap_total_mib=int(swap[2]) * _MIB[swap[3]] if swap is not None else None,
        cpu=_cores(cpu[1], cpu[2]) if cpu is not None else (),
        gr3d_percent=max(percents, default=None),
        gr3d_mhz=tuple(int(mhz[:6]) for one in gr3d for mhz in re.findall(r"[0-9]+", one[2] or "")),
        emc_percent=int(emc[1]) if emc is not None and emc[1] is not None else None,
        emc_mhz=int(emc[2]) if emc is not None and emc[2] is not None else None,
        temperatures_c=MappingProxyType(temperatures),
        rails_w=MappingProxyType(_rails(line)),
    )


def values(stats: Tegrastats, rails: Sequence[Rail]) -> list[Value]:
    """The power of each rail of a board's table in W, by name; see `edge_sdk.sensors.ina3221.labels_of`."""
    by_name = {name.upper(): watts for name, watts in stats.rails_w.items()}
    found = []
    for rail in rails:
        watts = next((by_name[label.upper()] for label in labels_of(rail) if label.upper() in by_name), None)
        found.append(Absent(f"{PROGRAM} does not print it") if watts is None else plausible(watts))
    return found


def _celsius(text: str) -> float | None:
    celsius = float(text)
    return celsius if _NO_TEMPERATURE_C[0] < celsius < _NO_TEMPERATURE_C[1] else None


def _cores(listed: str, clock: str | None) -> tuple[Core | None, ...]:
    """Of "12%@1984,off"; Thor's idle lines have one clock behind the list: "[0%,5%,off]@2601"."""
    cores: list[Core | None] = []
    for item in listed.split(",") if listed.strip() else ():
        found = _CORE.fullmatch(item.strip())
        mhz = found[2] or clock if found is not None else None
        cores.append(Core(int(found[1]), int(mhz) if mhz is not None else None) if found is not None else None)
    return tuple(cores)


def _rails(line: str) -> dict[str, float]:
    """A name and, behind a blank, its power now / mean / largest; a rail may share its name with a temperature."""
    words = line.split()
    rails: dict[str, float] = {}
    for name, word in pairwise(words):
        found = _RAIL.fullmatch(word)
        if found is not None and name != "NC" and _NAME.fullmatch(name):
            rails.setdefault(name, int(found[1] or found[2]) / 1000)
    return rails


class TegrastatsSensor:
    """The rails that the lines of a running tegrastats have; see `edge_sdk.sensors.base.Sensor`.

    Args:
        rails: Of the board's table; those that only the first line has come behind them and are in no total.
        interval_ms: Between two lines.
        command: Of tegrastats.

    Raises:
        SensorError: It ends, or no line comes.
    """

    def __init__(self, rails: Sequence[Rail], interval_ms: int, command: Sequence[str]) -> None:
        self.name = PROGRAM
        self.refresh_s = interval_ms / 1000
        self._came = threading.Event()
        self._first: Tegrastats | None = None
        self._reason: str | None = None
        self._rails: tuple[Rail, ...] = ()
        self._newest: list[Newest] = []
        self._child = Child(command, self._line, self._end)
        try:
            first = self._first_line()
            known = {label.upper() for rail in rails for label in labels_of(rail)}
            others = (name for name in first.rails_w if name.upper() not in known)
            every = (*rails, *(Rail(name, PROGRAM, name, in_total=False) for name in others))
            if not any(isinstance(value, float) for value in values(first, every)):
                raise SensorError(f"{PROGRAM} prints no rail here; in a container or a virtual machine it has none")
        except BaseException:
            self._child.close()
            raise
        self.channels = tuple(Channel(rail.name, "power", measured(rail.in_total), rail.in_total) for rail in every)
        self._newest = [Newest(self.refresh_s) for _ in every]
        self._put(every, first)
        self._rails = every  # from here on the thread puts

    def read(self) -> Sequence[Value]:
        """The newest line's values; returns at once."""
        if self._reason is not None:
            return [Absent(self._reason)] * len(self.channels)
        return [newest.value(f"line of {PROGRAM}") for newest in self._newest]

    def close(self) -> None:
        """Ends tegrastats and the thread; may be called twice."""
        self._child.close()

    def _first_line(self) -> Tegrastats:
        self._came.wait(_FIRST_LINE_S + self.refresh_s)
        first = self._first
        if first is None:
            raise SensorError(self._reason or f"{PROGRAM} printed nothing that is a line of it in {_FIRST_LINE_S:g} s")
        return first

    def _line(self, line: str) -> None:
        stats = parse(line)
        if stats is None:
            return
        if self._first is None:
            self._first = stats
            self._came.set()
        if self._rails:
            self._put(self._rails, stats)

    def _put(self, rails: Sequence[Rail], stats: Tegrastats) -> None:
        at_s = time.monotonic()  # its own stamps are whole seconds
        for newest, value in zip(self._newest, values(stats, rails), strict=True):
            newest.put(value, at_s=at_s)

    def _end(self, reason: str) -> None:
        self._reason = reason
        self._came.set()


class TegrastatsDriver:
    """See `edge_sdk.sensors.base.Driver`."""

    name = PROGRAM
    usage = f"tegrastats[:INTERVAL_MS]  the rails that tegrastats prints, every {INTERVAL_MS} ms unless told otherwise"

    def open(self, wanted: Wanted) -> TegrastatsSensor:
        """As `Driver.open`."""
        from edge_sdk.device import this_device

        wanted.check_options()
        interval_ms = _interval_ms(wanted.address.strip())
        rails = wanted.rails
        if not rails:
            target = this_device().target
            rails = tuple(rail for rail in target.rails if rail.driver in ("ina3221", "ina238"))
            if not any(rail.in_total for rail in rails):
                raise SensorError(f"{PROGRAM}: no table says which rails are the total of {target.label}")
        if wanted.root != Path("/"):
            raise SensorError(f"{PROGRAM}: not run, because this is a captured tree")
        program = shutil.which(PROGRAM)
        if program is None:
            raise SensorError(f"{PROGRAM}: not installed; it is part of JetPack, for NVIDIA Jetson boards alone")
        return TegrastatsSensor(rails, interval_ms, [program, "--interval", str(interval_ms)])


DRIVER = TegrastatsDriver()


def _interval_ms(address: str) -> int:
    if not address:
        return INTERVAL_MS
    if not (address.isascii() and address.isdigit() and len(address) < 6 and 10 <= int(address) <= 60_000):
        raise UsageError(f"{PROGRAM}:{address}: an interval is 10 to 60000 ms")
    return int(address)
