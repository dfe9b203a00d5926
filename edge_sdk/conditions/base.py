"""The conditions under which something was measured, as values."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.result import Reading

NOT_READ = "not read"
"""Why a quick read has no power mode."""


@dataclass(frozen=True)
class Memory:
    """Main memory, in MiB; on boards with one memory for all it is the GPU's too."""

    total_mib: float
    available_mib: float
    swap_used_mib: float


@dataclass(frozen=True)
class PowerMode:
    """A board's power mode. Numbers mean other things on other boards and releases: compare names."""

    name: str
    number: int | None


@dataclass(frozen=True)
class Conditions:
    """What was found at one time.

    Args:
        at_ns: `time.monotonic_ns`.
        temperatures: In Celsius; one that is gated has no value and a reason.
        clocks: In MHz, measured, not wished for.
        loads: In percent: "cpu", "gpu" where the board tells it.
        memory: None where it cannot be read.
        throttling: What throttles now, by cause ("gpu-throttle-alert", "under-voltage"); empty where nothing does; None
            where the board has nothing that tells.
        throttled_since_boot: What throttled at some time since boot, where the board keeps it.
        power_mode: None where there is none, or `power_mode_reason` says why it cannot be read.
        power_mode_reason: See there.
        governors: Of processors and GPU, by name: {"cpu0": "schedutil"}.
    """

    at_ns: int
    temperatures: tuple[Reading, ...] = ()
    clocks: tuple[Reading, ...] = ()
    loads: tuple[Reading, ...] = ()
    memory: Memory | None = None
    throttling: tuple[str, ...] | None = None
    throttled_since_boot: tuple[str, ...] = ()
    power_mode: PowerMode | None = None
    power_mode_reason: str | None = None
    governors: tuple[tuple[str, str], ...] = ()
