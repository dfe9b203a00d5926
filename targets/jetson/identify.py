"""What names a Jetson: the module's part number, the chip, and failing these what only NVIDIA's kernel has.

The model string is the last to be believed: third-party carriers keep NVIDIA's, and Orin NX modules have been
seen on images whose model says Orin Nano. Where there is a compatible string it is not used at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge_sdk.targets.evidence import Clues, Finding, Tree, by_compatible, by_model
from edge_sdk.targets.target import Target

UNKNOWN = "jetson-unknown"
_PART = re.compile(r"p\d{4}-\d{4}")
_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+),")
# Tegra chips before the Jetson Nano's, which are in tablets and in boards that no JetPack since 2018 supports.
_OLD_TEGRA = frozenset({"nvidia,tegra20", "nvidia,tegra30", "nvidia,tegra114", "nvidia,tegra124", "nvidia,tegra132"})
_HWMON_CHIPS = ("ina3221",)
_JETPACK_4_DRIVER = "/sys/bus/i2c/drivers/ina3221x"


def find(clues: Clues, shelf: tuple[Target, ...]) -> Iterator[Finding]:
    """Everything here that points to a Jetson."""
    strings = [*by_compatible(clues, shelf), *_by_module(clues, shelf)]
    named = any(found.confidence == "exact" for found in strings)
    yield from (found for found in strings if not (named and found.confidence == "module"))
    if not clues.compatible:
        for found in by_model(clues, shelf):
            evidence = f"{found.evidence}, by its model string alone, which other carriers keep"
            yield Finding(found.target, "module", found.length, evidence, "unknown")
    yield from _of_the_family(clues)
    yield from _by_kernel(clues.tree, shelf)


def _by_module(clues: Clues, shelf: tuple[Target, ...]) -> Iterator[Finding]:
    """A module's part number inside a compatible string: "nvidia,<carrier>+<module>[-super]"."""
    for entry in clues.compatible:
        parts = entry.partition(",")[2].split("+")
        for target in shelf:
            for module in target.match.modules:
                if not any(_is_part(part, module) for part in parts):
                    continue
                others = [part for part in parts if not _is_part(part, module)]
                carrier = next((c for c in target.match.carriers if any(_is_part(part, c) for part in others)), None)
                evidence = f"{clues.compatible_file} has {entry!r}: module {module} is {target.label}"
                if carrier is not None:
                    yield Finding(target.name, "exact", len(entry), f"{evidence}, carrier {carrier}", carrier)
                else:
                    unknown = f"unknown ({'+'.join(others)})" if others else "unknown"
                    yield Finding(target.name, "module", len(module), f"{evidence}, carrier {unknown}", unknown)


def _is_part(part: str, number: str) -> bool:
    """Whether a piece of a compatible string is this part, with or without a suffix such as -super or -a01."""
    return part == number or part.startswith(number + "-")


def _of_the_family(clues: Clues) -> Iterator[Finding]:
    for entry in clues.compatible:
        vendor, _, rest = entry.partition(",")
        is_chip = entry.startswith("nvidia,tegra") and entry not in _OLD_TEGRA
        if is_chip or (vendor == "nvidia" and (_PART.search(rest) or rest.startswith("jetson"))):
            yield Finding(UNKNOWN, "family", len(entry), f"{clues.compatible_file} has {entry!r}, NVIDIA's")
    if clues.model is not None and "Jetson" in clues.model:
        yield Finding(UNKNOWN, "family", 0, f"{clues.model_file} is {clues.model!r}")


def _by_kernel(tree: Tree, shelf: tuple[Target, ...]) -> Iterator[Finding]:
    """What remains where no device tree was captured: the release file, the GPU's node, the power monitors."""
    release = next(iter(tree.lines("/etc/nv_tegra_release")), "")
    found = _RELEASE.match(release)
    if found:
        evidence = f"/etc/nv_tegra_release says L4T {found[1]}.{found[2]}"
        yield Finding(UNKNOWN, "family", 0, evidence)
    nodes = {node: target for target in shelf for node in target.match.gpu_nodes}
    for name in tree.names("/sys/class/devfreq"):
        if name in nodes:
            chip = nodes[name]
            yield Finding(chip.name, "soc", len(name), f"/sys/class/devfreq/{name} is there: {chip.label}")
    if tree.names(_JETPACK_4_DRIVER):
        labels = [
            label
            for chip in tree.names(_JETPACK_4_DRIVER)
            for device in tree.names(f"{_JETPACK_4_DRIVER}/{chip}")
            for channel in range(3)
            if (label := tree.text(f"{_JETPACK_4_DRIVER}/{chip}/{device}/rail_name_{channel}"))
        ]
        evidence = f"{_JETPACK_4_DRIVER} is there, the power driver of JetPack 4 alone"
        yield Finding(UNKNOWN, "family", 0, f"{evidence}; rails: {', '.join(labels) or 'none'}")
    yield from _by_rails(tree, shelf)


def _by_rails(tree: Tree, shelf: tuple[Target, ...]) -> Iterator[Finding]:
    """Labels of an INA3221 that only Jetsons have. They name the family; which boards share them is told, not used."""
    known = {rail.name for target in shelf for rail in target.rails if rail.name.startswith(("VDD_", "POM_"))}
    for hwmon in tree.names("/sys/class/hwmon"):
        base = f"/sys/class/hwmon/{hwmon}"
        if (tree.text(f"{base}/name") or "") not in _HWMON_CHIPS:
            continue
        labels = {label for channel in (1, 2, 3) if (label := tree.text(f"{base}/in{channel}_label"))}
        named = labels & known
        if len(named) < 2:  # one label may be anybody's; two of NVIDIA's names on one chip are a Jetson's
            continue
        alike = [t.name for t in shelf if t.kind == "board" and named <= {rail.name for rail in t.rails}]
        evidence = f"{base} is an INA3221 with {', '.join(sorted(labels))}, as on {', '.join(alike)}"
        yield Finding(UNKNOWN, "family", 0, f"{evidence}: rails alone name no board")
