"""What stands beside a measurement so that another can be compared with it."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from edge_sdk.conditions import jetson_clocks, memory
from edge_sdk.conditions.base import PowerMode
from edge_sdk.conditions.board import family
from edge_sdk.conditions.clocks import Clocks
from edge_sdk.conditions.power_mode import PowerModes
from edge_sdk.conditions.probe import plain
from edge_sdk.conditions.throttling import current_spikes
from edge_sdk.device import system_root
from edge_sdk.errors import ShellError
from edge_sdk.sensors import sysfs
from edge_sdk.shell import LocalShell, Shell, shell_for
from edge_sdk.targets.evidence import Tree

_RELEASE = re.compile(r"# R([0-9]{1,3}) \(release\), REVISION: ([0-9]{1,3}(?:\.[0-9]{1,3})*),")
_PRETTY = re.compile(r"^PRETTY_NAME=(\"?)(.*)\1[ \t]*$", re.MULTILINE)
_FIELD = re.compile(r"^(model name|CPU implementer|CPU part)[ \t]*:[ \t]*(\S.*)$", re.MULTILINE)
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_LOAD = re.compile(r"([0-9]{1,6}\.[0-9]{2}) ")

# NVIDIA's release notes, as collected in jetson-stats' table and in public environment reports.
_JETPACK = {
    "32.6.1": "4.6", "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3", "32.7.4": "4.6.4", "32.7.5": "4.6.5",
    "32.7.6": "4.6.6", "35.1.0": "5.0.2", "35.2.1": "5.1", "35.3.1": "5.1.1", "35.4.1": "5.1.2", "35.5.0": "5.1.3",
    "35.6.0": "5.1.4", "35.6.1": "5.1.5", "35.6.2": "5.1.5", "35.6.3": "5.1.5", "35.6.4": "5.1.6", "36.3.0": "6.0",
    "36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1", "36.4.7": "6.2.1", "36.5.0": "6.2.2", "38.2.0": "7.0",
    "38.2.1": "7.0", "38.4.0": "7.1", "39.2.0": "7.2", "39.2.1": "7.2.1",
}  # fmt: skip

# Implementer and part number of Arm processors (MIDR_EL1; arch/arm64/include/asm/cputype.h of the kernel).
_CORES = {
    ("0x41", "0xd03"): "Cortex-A53", ("0x41", "0xd05"): "Cortex-A55", ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72", ("0x41", "0xd0a"): "Cortex-A75", ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0d"): "Cortex-A77", ("0x41", "0xd41"): "Cortex-A78", ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd4b"): "Cortex-A78C", ("0x41", "0xd44"): "Cortex-X1", ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1", ("0x41", "0xd83"): "Neoverse-V3AE", ("0x4e", "0x003"): "Denver 2",
    ("0x4e", "0x004"): "Carmel", ("0x51", "0x001"): "Oryon",
}  # fmt: skip


def environment(root: Path | None = None, shell: Shell | None = None) -> dict[str, str | int | float | None]:
    """The facts about a machine's system; None for what is not known.

    Args:
        root: Of /proc, /sys and /etc; None is ``EDGE_SDK_ROOT`` or this machine's.
        shell: Runs nvpmodel and, for root, jetson_clocks; None is this machine's, or nobody in a captured tree.

    Returns:
        kernel, os, l4t, jetpack, cpu, cpus (that are on), memory_mib, power_mode, nvpmodel_id, governors,
        clocks_pinned (whether every clock is held, as jetson_clocks does), emc_mhz (the memory's clock, where only root
        can tell it), current_spikes (of a Jetson since boot, see `throttling`), load_1min (before the measurement, in
        processes).
    """
    root = system_root() if root is None else root
    shell = shell_for(root) if shell is None else shell
    tree = Tree(root)
    mode = PowerModes(root, shell).current()
    clocks = Clocks(root)
    main = memory.read(root)
    release = l4t(_text(tree, "/etc/nv_tegra_release"))
    cpuinfo = _text(tree, "/proc/cpuinfo")
    emc = _emc_mhz(root, shell)
    return {
        "kernel": sysfs.text_or_none(root / "proc/sys/kernel/osrelease"),
        "os": os_name(_text(tree, "/etc/os-release")),
        "l4t": release,
        "jetpack": _JETPACK.get(release or ""),
        "cpu": cpu_name(cpuinfo),
        "cpus": processors(sysfs.text_or_none(root / "sys/devices/system/cpu/online") or "")
        or (len(re.findall(r"^processor[ \t]*:", cpuinfo, re.MULTILINE)) or None),
        "memory_mib": round(main.total_mib) if main is not None else None,
        "power_mode": mode.name if isinstance(mode, PowerMode) else None,
        "nvpmodel_id": mode.number if isinstance(mode, PowerMode) else None,
        "governors": _told(clocks.governors()),
        "clocks_pinned": clocks.pinned(),
        "emc_mhz": emc,
        "current_spikes": current_spikes(root),
        "load_1min": load(sysfs.text_or_none(root / "proc/loadavg") or ""),
    }


def l4t(text: str) -> str | None:
    """The release in /etc/nv_tegra_release, "36.4.7"; None where it is no such text."""
    found = _RELEASE.match(text)
    return f"{found[1]}.{found[2]}" if found else None


def os_name(text: str) -> str | None:
    """The system's name for people in /etc/os-release."""
    found = _PRETTY.search(text)
    return plain(found[2], "") or None if found else None


def cpu_name(text: str) -> str | None:
    """The processor by /proc/cpuinfo: a PC's by its name, an Arm board's by its cores, "4x Cortex-A78 + 4x ..."."""
    fields = _FIELD.findall(text)
    named = next((value for key, value in fields if key == "model name"), None)
    implementers = [value.strip().lower() for key, value in fields if key == "CPU implementer"]
    parts = [value.strip().lower() for key, value in fields if key == "CPU part"]
    # Arm kernels give a model name in 32-bit processes alone, and then "ARMv8 Processor rev 1".
    if parts and len(parts) == len(implementers):
        cores = Counter(zip(implementers, parts, strict=True))
        known = (
            (_CORES.get(core, f"part {plain(core[1], '?')} of {plain(core[0], '?')}"), n) for core, n in cores.items()
        )
        return " + ".join(f"{count}x {name}" for name, count in known)
    return plain(named, "") or None if named is not None else None


def processors(text: str) -> int | None:
    """How many a list such as "0-3,6" has; None where it is no list."""
    count = 0
    for part in text.strip().split(","):
        found = _RANGE.fullmatch(part)
        if found is None:
            return None
        first = int(found[1])
        count += max(0, int(found[2] or first) - first + 1)
    return count


def load(text: str) -> float | None:
    """The first figure of /proc/loadavg: processes that ran or waited for a disk, over a minute."""
    found = _LOAD.match(text)
    return float(found[1]) if found else None


def _told(governors: tuple[tuple[str, str], ...]) -> str | None:
    """One name where all have the same, else which has which."""
    if len({governor for _, governor in governors}) == 1:
        return governors[0][1]
    return ", ".join(f"{name} {governor}" for name, governor in governors) or None


def _emc_mhz(root: Path, shell: Shell) -> float | None:
    if family(root) != "jetson" or (isinstance(shell, LocalShell) and os.geteuid() != 0):
        return None
    try:
        clocks = jetson_clocks.parse(shell.run(jetson_clocks.COMMAND, timeout_s=20.0))
    except ShellError:
        return None
    return next((clock.current_mhz for clock in clocks if clock.name == "EMC"), None)


def _text(tree: Tree, path: str) -> str:
    return (tree.read(path) or b"").decode("utf-8", "replace")
