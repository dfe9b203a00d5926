"""What a board is: the values that a board table is read into.

Everything here is a fact with a source. A number that nobody could name a source for is absent, and so is a
fact that differs between two boards of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "fp16", "bf16", "fp8", "int8", "a16w8"]
"""A precision that a plan may choose; a16w8 is 16-bit activations with 8-bit weights."""

RatePrecision = Literal["fp32", "fp16", "bf16", "fp8", "fp4", "int8"]
"""A precision that a vendor quotes a rate in; wider than `Precision`, because FP4 is quoted but not planned."""

Kind = Literal["board", "soc", "family", "generic"]
"""How much a table names: one board, any board with that chip, any board of the family, or any machine."""

Flash = Literal["medium", "rpiboot", "l4t_initrd_flash", "qdl"]
"""How an image gets onto a board: written to a card or disk, or by the vendor's tool of that name."""

FactValue = str | int | float | bool | tuple[float, ...]


@dataclass(frozen=True)
class Source:
    """Where a number comes from.

    Attributes:
        text: The document, file or thread, in words.
        confirmed: False where the number is from memory or from one place that nobody checked.
    """

    text: str
    confirmed: bool


@dataclass(frozen=True)
class Fact:
    """One known thing about a board, and who says so; the unit stands in its name (`memory_bandwidth_gb_s`)."""

    value: FactValue
    source: Source


@dataclass(frozen=True)
class Rate:
    """A vendor's peak rate. Two rates compare only when unit, precision and sparsity are the same.

    Attributes:
        value: Peak operations a second, in `unit`.
        unit: "TOPS" or "TFLOPS", 1e12 operations a second.
        precision: What was counted; None where the source does not say.
        sparse: True for structured (2:4) sparsity, which ordinary models do not have; None where not said.
        condition: What it needs: a power mode or clocks; None where the source names none.
        source: Who says so.
    """

    value: float
    unit: Literal["TOPS", "TFLOPS"]
    precision: RatePrecision | None
    sparse: bool | None
    condition: str | None
    source: Source


@dataclass(frozen=True)
class Rail:
    """One power channel of a board, and whether the board's total includes it.

    Attributes:
        name: The board's own name of it, such as "VDD_IN".
        driver: The chip or interface that measures it, such as "ina3221": a file in edge_sdk/sensors.
        address: Where the driver finds it. "1-0040/VDD_IN" is I2C bus and address, then label; "VDD_IN" is the
            label alone, on whatever bus; "VDD_SYS_CPU|VDD_CPU" is one channel that releases call otherwise; "*" is the
            only chip of its kind. An interface has names of its own: a rail of the PMIC, a power supply, or a powercap
            domain, where "package-*" is every package.
        in_total: Whether the board's total is the sum over this rail. A rail that another one already
            contains is never in the total.
    """

    name: str
    driver: str
    address: str
    in_total: bool


@dataclass(frozen=True)
class Match:
    """The strings by which a machine is known to be this board. No two tables share one.

    Attributes:
        compatible: Entries of /proc/device-tree/compatible, whole.
        modules: Part numbers inside such an entry: "p3767-0005" in "nvidia,p3768-0000+p3767-0005-super".
        carriers: Part numbers of carriers that the vendor sells the modules on; these name no board.
        models: Beginnings of /proc/device-tree/model, ending where a word ends.
        soc_ids: Numbers in /sys/devices/soc0/soc_id, on Qualcomm only.
        soc_names: Names in /sys/devices/soc0/machine, on Qualcomm only.
        cpu_names: Parts of the processor's name as Windows gives it.
        revision_types: Bits 4 to 11 of a Raspberry Pi's revision code.
        gpu_nodes: Names in /sys/class/devfreq that only this chip has.
    """

    compatible: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    carriers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    soc_ids: tuple[int, ...] = ()
    soc_names: tuple[str, ...] = ()
    cpu_names: tuple[str, ...] = ()
    revision_types: tuple[int, ...] = ()
    gpu_nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """What a board is, read from boards.toml; an unknown fact is absent, never guessed.

    Attributes:
        name: "jetson-orin-nano": kebab-case, unique over all families.
        family: The folder its table is in.
        label: Its name for people.
        kind: How much the table names; only a "board" is one product.
        lineage: The names it extends, nearest first: `("jetson-tegra234",)`.
        soc: The chip, or None.
        memory_mib: Nominal memory where every board of that name has the same, else None.
        precisions: Those its hardware computes, best speed first, by backend: {"tensorrt": ("int8", "fp16")}.
        backends: Names of backends, in order of preference.
        rails: Its power channels; empty where the board measures nothing or nobody knows.
        power_modes: Their names where they are known, in no order that means anything.
        kiosk: A file in edge_sdk/kiosk/boards, such as "pi_ab", or None.
        flash: How an image gets onto it, or None where that is not known.
        rates: The vendor's peak rates.
        facts: Everything else, by name; `FACTS` in fields.py lists the names.
        notes: Sentences that a person should read before relying on the above.
        match: How it is recognised.
    """

    name: str
    family: str
    label: str
    kind: Kind
    lineage: tuple[str, ...]
    soc: str | None
    memory_mib: int | None
    precisions: Mapping[str, tuple[Precision, ...]]
    backends: tuple[str, ...]
    rails: tuple[Rail, ...]
    power_modes: tuple[str, ...]
    kiosk: str | None
    flash: Flash | None
    rates: tuple[Rate, ...]
    facts: Mapping[str, Fact]
    notes: tuple[str, ...]
    match: Match

    def __hash__(self) -> int:
        return hash(self.name)

    def is_a(self, name: str) -> bool:
        """Whether this is the table of that name or extends it: an Orin Nano 4 GB is a `jetson-orin-nano`."""
        return name == self.name or name in self.lineage

    def fact(self, name: str) -> FactValue | None:
        """A fact's value, or None where it is not known."""
        found = self.facts.get(name)
        return None if found is None else found.value

    def supports(self, backend: str, precision: Precision) -> bool:
        """Whether the hardware computes this precision under this backend, as far as the table knows."""
        return precision in self.precisions.get(backend, ())
