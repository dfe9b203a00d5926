"""What `jetson_clocks --show` prints; the only place that tells the memory's clock without the kernel's debug files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_sdk.conditions.probe import plain, whole

COMMAND = ("jetson_clocks", "--show")
"""Only root may run it; it takes some 100 ms."""

_LINE = re.compile(r"^(cpu[0-9]{1,4}:|[A-Z][A-Za-z0-9_]{1,15}) +(\S.*)$")
_PAIR = re.compile(r"([A-Za-z]+)=(\S+)")
_KILO = 1_000
_MEGA = 1_000_000


@dataclass(frozen=True)
class Clock:
    """A clock, in MHz, and the limits that it moves in.

    Args:
        name: "cpu0", "GPU", "EMC" (the memory).
        min_mhz, max_mhz, current_mhz: None where the line does not say.
        governor: None where there is none.
    """

    name: str
    min_mhz: float | None
    max_mhz: float | None
    current_mhz: float | None
    governor: str | None


def parse(text: str) -> tuple[Clock, ...]:
    """The clocks in its output, in order; every line that is no clock's is passed over."""
    clocks = []
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        name = found[1].rstrip(":")
        values = dict(_PAIR.findall(found[2]))
        # Processors' are in kHz, all others in Hz.
        low, high, current = (
            _mhz(values.get(key), _KILO if name.startswith("cpu") else _MEGA)
            for key in ("MinFreq", "MaxFreq", "CurrentFreq")
        )
        if current is not None:
            governor = values.get("Governor")
            clocks.append(Clock(name, low, high, current, plain(governor, "?") if governor else None))
    return tuple(clocks)


def _mhz(text: str | None, per_mhz: int) -> float | None:
    raw = whole(text) if text is not None else None
    return raw / per_mhz if raw is not None and raw >= 0 else None
