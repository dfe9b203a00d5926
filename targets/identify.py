"""Names the machine behind a /proc and /sys, and says how it knows.

Each family looks at the evidence in its own identify.py, through one function,
`find(clues, shelf) -> Iterator[Finding]`, where `shelf` is the family's tables. The finding that names most
wins, and among equals the longest match. What the evidence does not name is not named here either: an unknown
board with a known chip is that chip, and an unknown Jetson is still a Jetson.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from edge_sdk.errors import TargetError
from edge_sdk.targets.evidence import Clues, Confidence, Finding, Tree, best, gather, memory_mib
from edge_sdk.targets.tables import families, load, load_all
from edge_sdk.targets.target import Target

NOTHING = "generic-unknown"
"""The table for a machine that says nothing about itself."""


@dataclass(frozen=True)
class Identity:
    """Which board a machine is, as far as its own files say.

    Attributes:
        target: The table that describes it.
        confidence: How much the evidence names: "exact", "module", "soc", "family", "generic" or "override".
        evidence: One line for each thing that was seen: which file said what. The deciding one comes first.
        model: The machine's own model string, or None.
        carrier: The carrier board under a recognised module, "unknown" with its string if it is no known
            one; None where the question does not arise.
        memory_mib: MemTotal of this machine, which is below the nominal size; None where it is not readable, and
            with an override, because it is not the target's.
    """

    target: Target
    confidence: Confidence
    evidence: tuple[str, ...]
    model: str | None
    carrier: str | None
    memory_mib: int | None


class _Family(Protocol):
    """The module <family>/identify.py."""

    def find(self, clues: Clues, shelf: tuple[Target, ...]) -> Iterator[Finding]: ...


def identify(root: Path = Path("/"), *, cpu_name: str | None = None, override: str | None = None) -> Identity:
    """Names the machine whose /proc and /sys are under a root.

    Args:
        root: The root of /proc and /sys: "/" is this machine, any other folder a captured tree. Only for "/"
            does `platform.machine()` count, because a captured tree is another machine's.
        cpu_name: The processor's name where the caller knows it: on Windows there is no device tree, and
            `ProcessorNameString` in the registry is what names a Snapdragon.
        override: A target to act as, whatever the machine is. What the machine itself says stays in the
            evidence. `here` takes it from EDGE_SDK_TARGET.

    Returns:
        The identity. A machine that says nothing is "generic-unknown"; nothing in its files makes this raise.

    Raises:
        TargetError: `root` is no folder, `override` names no target, or an installed board table is malformed.
    """
    root = Path(root)
    if not root.is_dir():
        raise TargetError(f"{root} is no folder, so there is no /proc or /sys under it")
    asked = load(override) if override else None
    tree = Tree(root)
    clues = gather(tree, cpu_name=cpu_name, machine=platform.machine() if tree.is_this_machine else None)
    seen = _recognise(clues, memory_mib(tree))
    if asked is None:
        return seen
    evidence: tuple[str, ...] = (
        f"asked to act as {asked.name}",
        f"the machine itself is {seen.target.name} ({seen.confidence})",
    )
    evidence = (*evidence, *seen.evidence)
    return replace(seen, target=asked, confidence="override", evidence=evidence, carrier=None, memory_mib=None)


def here(environ: Mapping[str, str] | None = None) -> Identity:
    """Names this machine, or what the environment says instead.

    Args:
        environ: EDGE_SDK_TARGET names a target to act as, EDGE_SDK_ROOT a captured tree; None is `os.environ`.

    Raises:
        TargetError: One of the two variables names nothing, or an installed board table is malformed.
    """
    values = os.environ if environ is None else environ
    root, override = values.get("EDGE_SDK_ROOT", ""), values.get("EDGE_SDK_TARGET", "")
    try:
        return identify(Path(root or "/"), cpu_name=None if root else _cpu_name(), override=override or None)
    except TargetError as error:
        named = [f"{key}={values[key]}" for key in ("EDGE_SDK_ROOT", "EDGE_SDK_TARGET") if values.get(key)]
        raise TargetError(f"{error} ({', '.join(named)})" if named else str(error)) from error


def _recognise(clues: Clues, memory: int | None) -> Identity:
    """The best finding of all families, checked against the memory that is really there."""
    findings = [found for family, module in _families().items() for found in module.find(clues, _shelf(family))]
    winner = best(findings) or Finding(NOTHING, "generic", 0, "nothing here names a board, a chip or a processor")
    target = load(winner.target)
    more = (found for found in findings if found.confidence != "family" or winner.confidence in ("family", "generic"))
    evidence = [winner.evidence, *(found.evidence for found in more)]
    confidence, carrier = winner.confidence, winner.carrier
    if clues.model is not None:
        evidence.append(f"{clues.model_file} is {clues.model!r}")
    if clues.compatible:
        evidence.append(f"{clues.compatible_file} is {', '.join(clues.compatible)}"[:400])
    if memory is not None:
        evidence.append(f"/proc/meminfo has {memory} MiB")
        if target.memory_mib is not None and memory > target.memory_mib:
            evidence.insert(
                0, f"/proc/meminfo has {memory} MiB, more than any {target.label} has: only its chip is sure"
            )
            target, confidence = _chip_of(target), "soc"
    return Identity(target, confidence, tuple(dict.fromkeys(evidence)), clues.model, carrier, memory)


def _chip_of(target: Target) -> Target:
    """The table of a board's chip, or the board itself where it extends none."""
    return next((load(name) for name in target.lineage if load(name).kind == "soc"), target)


def _shelf(family: str) -> tuple[Target, ...]:
    return tuple(target for target in load_all().values() if target.family == family)


@lru_cache(maxsize=1)
def _families() -> Mapping[str, _Family]:
    """The identify modules, by family, found by being there."""
    return {name: cast("_Family", import_module(f"edge_sdk.targets.{name}.identify")) for name in families()}


def _cpu_name() -> str | None:
    """The processor's name that a family's identify module can ask this machine for, on Windows."""
    asking = (getattr(module, "cpu_name", None) for module in _families().values())
    return next((name for ask in asking if ask is not None for name in [ask()] if name), None)
