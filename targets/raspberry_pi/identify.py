"""What names a Raspberry Pi: the board string for its name, the chip for what it computes.

Where the device tree is missing, /proc/cpuinfo has the revision code, whose bits 4 to 11 are the type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge_sdk.targets.evidence import Clues, Finding, Tree, by_compatible, by_model
from edge_sdk.targets.target import Target

UNKNOWN = "raspberry-pi-unknown"
_NEW_STYLE = 1 << 23
_CPUINFO = "/proc/cpuinfo"


def find(clues: Clues, shelf: tuple[Target, ...]) -> Iterator[Finding]:
    """Everything here that points to a Raspberry Pi."""
    yield from by_compatible(clues, shelf)
    yield from by_model(clues, shelf)
    for entry in clues.compatible:
        if entry.startswith("raspberrypi,"):
            yield Finding(UNKNOWN, "family", len(entry), f"{clues.compatible_file} has {entry!r}")
    if clues.model is not None and clues.model.startswith("Raspberry Pi"):
        yield Finding(UNKNOWN, "family", 0, f"{clues.model_file} is {clues.model!r}")
    yield from _by_cpuinfo(clues.tree, shelf)


def _by_cpuinfo(tree: Tree, shelf: tuple[Target, ...]) -> Iterator[Finding]:
    lines = tree.lines(_CPUINFO)
    if not any(re.match(r"Model\s*:\s*Raspberry Pi", line) for line in lines):
        return  # other vendors put numbers of their own into Revision
    yield Finding(UNKNOWN, "family", 0, f"{_CPUINFO} has a model that begins with 'Raspberry Pi'")
    for line in lines:
        found = re.fullmatch(r"Revision\s*:\s*([0-9a-fA-F]{1,8})", line)
        code = int(found[1], 16) if found else 0
        if not code & _NEW_STYLE:
            continue
        kind = code >> 4 & 0xFF
        for target in shelf:
            if kind in target.match.revision_types:
                evidence = f"{_CPUINFO} has revision {code:x}, type {kind:#04x}: {target.label}"
                yield Finding(target.name, "exact", 0, evidence)
