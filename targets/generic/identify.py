"""What names an ordinary computer: its processor's architecture, and no more than that."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge_sdk.targets.evidence import Clues, Finding
from edge_sdk.targets.target import Target

X86_64, AARCH64 = "generic-x86_64", "generic-aarch64"
_MACHINES = {"x86_64": X86_64, "amd64": X86_64, "aarch64": AARCH64, "arm64": AARCH64}
_POWERCAP = "/sys/class/powercap"


def find(clues: Clues, shelf: tuple[Target, ...]) -> Iterator[Finding]:
    """The architecture: asked of this machine, or read from a captured tree."""
    del shelf  # the tables here have no match strings: an architecture is not a string in a file
    machine = (clues.machine or "").lower()
    if machine in _MACHINES:
        yield Finding(_MACHINES[machine], "generic", len(machine), f"the processor's architecture is {machine}")
    if clues.machine is not None:
        return
    cpuinfo = clues.tree.lines("/proc/cpuinfo")
    if any(re.match(r"flags\s*:(.* )?lm( |$)", line) for line in cpuinfo):
        yield Finding(X86_64, "generic", 2, "/proc/cpuinfo has the flag lm: a 64-bit x86 processor")
    if any(re.fullmatch(r"CPU architecture\s*:\s*(8|AArch64)", line) for line in cpuinfo):
        yield Finding(AARCH64, "generic", 1, "/proc/cpuinfo has CPU architecture 8: a 64-bit Arm processor")
    domains = [name for name in clues.tree.names(_POWERCAP) if name.startswith("intel-rapl:")]
    if domains:
        evidence = f"{_POWERCAP} has {domains[0]}: RAPL, a counter of x86 processors"
        yield Finding(X86_64, "generic", 1, evidence)
