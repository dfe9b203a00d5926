"""The energy counters of x86 processors, Intel's and AMD's, in /sys/class/powercap.

Domains lie one in another: psys (the platform) holds packages, a package holds core and uncore. What is added up is of
one level. Source: the kernel's Documentation/power/powercap/powercap.rst and drivers/powercap/intel_rapl_common.c.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from edge_sdk.errors import SensorError, UsageError, one_line
from edge_sdk.sensors import sysfs
from edge_sdk.sensors.base import Absent, Channel, Value, Wanted

REFRESH_S = 0.001  # the counters advance about every millisecond: Intel SDM, vol. 3B, on RAPL
STILL_S = (
    2.0  # a package that draws power moves its counter each millisecond; some virtual machines show one that stands
)
PACKAGES = "package-*"
MISSING = "the processor package alone, not the machine"
PERMIT = (
    "the processor's energy counters are there, but only root may read them (since CVE-2020-8694): run "
    "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj, which lasts until the next boot, or put the line "
    'SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj" '
    "into /etc/udev/rules.d/99-rapl.rules"
)
NONE = (
    "no energy counter: there is no intel-rapl in /sys/class/powercap "
    "(a virtual machine, a container that hides it, or a processor without RAPL)"
)

# intel-rapl-mmio beside it is a second door to the same counters.
_ZONE = re.compile(r"intel-rapl((?::\d{1,4}){1,4})", re.ASCII)
_COUNTS = 2**32 - 1  # the range is as many units of the processor's register
_DIE = re.compile(r"(package-\d+)-die-\d+")


@dataclass(frozen=True)
class Domain:
    """What one counter counts.

    Args:
        path: Its place in the hierarchy: (0, 1) of intel-rapl:0:1, which lies in (0,).
        name: "package-0", "core", "psys".
        label: With the package that it lies in: "package-0/core".
        folder: Where it is.
    """

    path: tuple[int, ...]
    name: str
    label: str
    folder: Path

    def holds(self, other: Domain) -> bool:
        """Whether the other's energy may be in this one's."""
        inside = len(self.path) < len(other.path) and other.path[: len(self.path)] == self.path
        return inside or (self.name == "psys" and other != self)


def domains(root: Path) -> list[Domain]:
    """Every domain, a package before what lies in it."""
    zones = {}
    for folder in (root / "sys/class/powercap").glob("intel-rapl:*"):
        found = _ZONE.fullmatch(folder.name)
        if found is not None:
            zones[tuple(int(number) for number in found[1][1:].split(":"))] = folder
    names = {path: sysfs.text_or_none(folder / "name") or folder.name for path, folder in zones.items()}
    return [
        Domain(path, names[path], "/".join(names[up] for up in _line_of(path) if up in names), zones[path])
        for path in sorted(zones)
    ]


class Unrolled:
    """Energy since the first read of a counter that begins anew at its range.

    Between two reads it may wrap once: at 100 W a range of 262 kJ lasts 44 minutes. More wraps cannot be seen.

    Args:
        range_uj: Where it wraps, in uJ; None where that is not known.
    """

    def __init__(self, range_uj: int | None) -> None:
        self._range_uj = range_uj
        self._last: int | None = None
        self._sum_uj = 0
        self._lost = False

    def joules(self, counter_uj: int) -> Value:
        """The energy up to now, in J; never falls."""
        if self._lost:
            return Absent("the counter fell and its range is not known: open it anew")
        if counter_uj < 0:
            return Absent(f"negative: {counter_uj}")
        if self._range_uj is not None and counter_uj > self._range_uj:
            return Absent(f"above the counter's own range: {counter_uj}")
        step = 0 if self._last is None else counter_uj - self._last
        if step < 0:
            if self._range_uj is None:
                self._lost = True
                return self.joules(counter_uj)
            step += self._range_uj
        self._last = counter_uj
        self._sum_uj += step
        return self._sum_uj / 1e6


class _Counter:
    """One open counter."""

    def __init__(self, domain: Domain, now_s: Callable[[], float]) -> None:
        self._file = sysfs.SysFile(domain.folder / "energy_uj")
        self._never_still = domain.name == "psys" or domain.name.startswith("package")
        self._now_s = now_s
        self._moved: tuple[int, float] | None = None
        range_uj = sysfs.number_or_none(domain.folder / "max_energy_range_uj")
        range_uj = range_uj if range_uj is not None and range_uj > 0 else None
        self._unrolled = Unrolled(range_uj)
        self.step = None if range_uj is None else range_uj / _COUNTS / 1e6  # J

    def raw(self) -> int:
        return self._file.number()

    def read(self) -> Value:
        try:
            raw = self.raw()
        except SensorError as error:
            return Absent(one_line(error))
        energy, now_s = self._unrolled.joules(raw), self._now_s()
        if self._moved is None or self._moved[0] != raw:
            self._moved = (raw, now_s)
        still_s = now_s - self._moved[1]
        if self._never_still and still_s >= STILL_S and not isinstance(energy, Absent):
            return Absent(f"stale: the counter has stood still for {still_s:.0f} s")
        return energy

    def close(self) -> None:
        self._file.close()


class RaplSensor:
    """Every domain's energy since opening, in J.

    Args:
        found: The domains.
        counted: Those whose sum is the total.
        now_s: Monotonic time.

    Raises:
        SensorError: None of those that count can be read; says how to permit it.
    """

    name = "rapl"
    refresh_s = REFRESH_S

    def __init__(
        self, found: Sequence[Domain], counted: Sequence[Domain], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._counters: list[_Counter | Absent] = []
        forbidden = False
        try:
            for domain in found:
                try:
                    self._counters.append(_Counter(domain, now_s))
                except SensorError as error:
                    forbidden |= isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EACCES
                    self._counters.append(Absent(one_line(error)))
            pairs = list(zip(found, self._counters, strict=True))
            first = self.read()  # from here on energy counts
            needed = [value for domain, value in zip(found, first, strict=True) if domain in counted] or first
            reasons = [value.reason for value in needed if isinstance(value, Absent)]
            if len(reasons) == len(needed):
                raise SensorError(PERMIT if forbidden else f"no energy counter can be read: {reasons[0]}")
            self._mirrors = _mirrors([(domain, one) for domain, one in pairs if domain in counted])
            self.channels = tuple(self._channel(domain, one, domain in counted) for domain, one in pairs)
        except BaseException:
            self.close()
            raise

    def read(self) -> Sequence[Value]:
        """One value a channel, in J."""
        return [one if isinstance(one, Absent) else one.read() for one in self._counters]

    def close(self) -> None:
        """Frees everything; may be called twice."""
        for one in self._counters:
            if not isinstance(one, Absent):
                one.close()

    def _channel(self, domain: Domain, counter: _Counter | Absent, counts: bool) -> Channel:
        mirrored = self._mirrors.get(domain)
        missing = _missing(domain) if mirrored is None else f"the same counter as {mirrored}"
        step = None if isinstance(counter, Absent) else counter.step
        return Channel(domain.label, "energy", "counter", counts and mirrored is None, step, missing)


class RaplDriver:
    """See `edge_sdk.sensors.base.Driver`.

    Args:
        now_s: Monotonic time, by which a counter that stands still is known.
    """

    name = "rapl"
    usage = "rapl[:DOMAIN]  an x86 processor's energy counter; rapl:psys is the platform's, where there is one"

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s

    def open(self, wanted: Wanted) -> RaplSensor:
        """As `Driver.open`."""
        wanted.check_options()
        found = domains(wanted.root)
        if not found:
            raise SensorError(NONE)
        if wanted.rails:
            patterns = [rail.address for rail in wanted.rails if rail.in_total]
        else:
            patterns = [wanted.address or PACKAGES]
        counted = [domain for domain in found if any(_is(domain, pattern) for pattern in patterns)]
        if patterns and not counted:
            there = ", ".join(domain.label for domain in found)
            raise SensorError(f"no energy domain {' or '.join(patterns)}; there are {there}")
        for outer in counted:
            for inner in counted:
                if outer.holds(inner):
                    raise UsageError(f"rapl:{' '.join(patterns)}: {outer.label} holds {inner.label}; name one level")
        return RaplSensor(found, counted, self._now_s)


DRIVER = RaplDriver()


def _line_of(path: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [path[:length] for length in range(1, len(path) + 1)]


def _is(domain: Domain, pattern: str) -> bool:
    return fnmatchcase(domain.name, pattern) or domain.label == pattern


def _missing(domain: Domain) -> str | None:
    if domain.name == "psys":
        return "what the machine's maker did not lead through the platform's counter"
    return MISSING if domain.name.startswith("package") else f"{domain.name} alone, not the machine"


def _mirrors(counted: Sequence[tuple[Domain, _Counter | Absent]]) -> dict[Domain, str]:
    """Dies that show the counter of their whole package once more, with the die that is counted for them.

    AMD's Threadripper and EPYC of the first two Zens do so; adding them up would double the power
    (mlco2/codecarbon#1274). A counter that lies between two reads of another one is the other one.
    """
    found: dict[Domain, str] = {}
    for index, (domain, counter) in enumerate(counted):
        for other, theirs in counted[:index]:
            package = _DIE.fullmatch(domain.name)
            same = package is not None and other.name.startswith(f"{package[1]}-die-") and other not in found
            if same and isinstance(counter, _Counter) and isinstance(theirs, _Counter):
                try:
                    before, between, after = theirs.raw(), counter.raw(), theirs.raw()
                except SensorError:
                    continue
                if 0 < before <= between <= after:
                    found[domain] = other.label
                    break
    return found
