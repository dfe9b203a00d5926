"""Main memory, as /proc/meminfo tells it."""

from __future__ import annotations

import re
from pathlib import Path

from edge_sdk.conditions.base import Memory
from edge_sdk.sensors import sysfs

_LINE = re.compile(r"^(MemTotal|MemAvailable|SwapTotal|SwapFree):[ \t]*([0-9]{1,15}) kB[ \t]*$", re.MULTILINE)


def parse(text: str) -> Memory | None:
    """What /proc/meminfo says; None where it does not say how much there is and how much of it is free to use.

    "kB" in it are KiB. No lines about swap mean no swap.
    """
    kib = {name: int(value) for name, value in reversed(_LINE.findall(text))}
    total, available = kib.get("MemTotal"), kib.get("MemAvailable")
    if not total or available is None or available > total:
        return None
    swap = max(0, kib.get("SwapTotal", 0) - kib.get("SwapFree", 0))
    return Memory(total / 1024, available / 1024, swap / 1024)


def read(root: Path) -> Memory | None:
    """Memory now; None where it cannot be read."""
    text = sysfs.text_or_none(root / "proc/meminfo")
    return parse(text) if text is not None else None
