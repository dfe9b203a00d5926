"""What names a Qualcomm board or laptop: the device tree, soc0, the battery driver, or Windows' processor name.

/sys/devices/soc0 is on NXP and Renesas boards too, so its numbers count only where it says Snapdragon or the
device tree says qcom. They are the kernel's numbers; QNN's `soc_model` is another numbering.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from edge_sdk.targets.evidence import Clues, Finding, by_compatible, by_model
from edge_sdk.targets.target import Target

UNKNOWN = "snapdragon-unknown"
_SOC0 = "/sys/devices/soc0"
_POWER_SUPPLY = "/sys/class/power_supply"


def find(clues: Clues, shelf: tuple[Target, ...]) -> Iterator[Finding]:
    """Everything here that points to Qualcomm."""
    yield from by_compatible(clues, shelf)
    yield from by_model(clues, shelf)
    for entry in clues.compatible:
        if entry.startswith("qcom,"):
            yield Finding(UNKNOWN, "family", len(entry), f"{clues.compatible_file} has {entry!r}")
    yield from _by_soc0(clues, shelf)
    batteries = [name for name in clues.tree.names(_POWER_SUPPLY) if name.startswith("qcom-battmgr")]
    if batteries:
        evidence = f"{_POWER_SUPPLY} has {', '.join(batteries)}: Qualcomm's battery driver, on phones and laptops alike"
        yield Finding(UNKNOWN, "family", 0, evidence)
    yield from _by_cpu_name(clues, shelf)


def cpu_name() -> str | None:
    """The processor's name as Windows has it, or None anywhere else."""
    name: str | None = None
    if sys.platform == "win32":
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
                name = str(winreg.QueryValueEx(key, "ProcessorNameString")[0])
        except OSError:
            name = None
    return name


def _by_soc0(clues: Clues, shelf: tuple[Target, ...]) -> Iterator[Finding]:
    text = {key: clues.tree.text(f"{_SOC0}/{key}") for key in ("family", "machine", "soc_id")}
    says_so = text["family"] == "Snapdragon" or "Snapdragon" in (text["machine"] or "")
    if not says_so and not any(entry.startswith("qcom,") for entry in clues.compatible):
        return
    if says_so:
        yield Finding(UNKNOWN, "family", 0, f"{_SOC0}: family {text['family']!r}, machine {text['machine']!r}")
    number = text["soc_id"]
    known = number is not None and number.isascii() and number.isdigit() and len(number) < 10
    for target in shelf:
        if known and int(number or 0) in target.match.soc_ids:
            yield Finding(target.name, "soc", 0, f"{_SOC0}/soc_id is {number}: {target.label}")
        if text["machine"] in target.match.soc_names:
            yield Finding(target.name, "soc", 0, f"{_SOC0}/machine is {text['machine']!r}: {target.label}")


def _by_cpu_name(clues: Clues, shelf: tuple[Target, ...]) -> Iterator[Finding]:
    name = clues.cpu_name
    if name is None:
        return
    for target in shelf:
        for part in target.match.cpu_names:
            if part in name:
                yield Finding(target.name, "soc", len(part), f"the processor is called {name!r}: {target.label}")
    if "Snapdragon" in name or "Qualcomm" in name:
        yield Finding(UNKNOWN, "family", 0, f"the processor is called {name!r}")
