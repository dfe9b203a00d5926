"""Moments of a watch, for tests of what shows, writes or serves them."""

from __future__ import annotations

from dataclasses import replace

from edge_sdk.conditions.base import Conditions, Memory, PowerMode
from edge_sdk.measure.watch import SensorNow, Snapshot
from edge_sdk.result import Reading


def w(name: str, value: float | None, reason: str | None = None) -> Reading:
    return Reading(name, value, "w", "sensor_total", 0, reason)


def of(name: str, value: float | None, unit, reason: str | None = None) -> Reading:
    return Reading(name, value, unit, None, 0, reason)


GATED = "power-gated or busy (EAGAIN)"

ORIN = Snapshot(
    at_ns=10_000_000_000,
    seconds=10.1,
    total=w("board", 7.5412),
    sensors=(
        SensorNow(
            "ina3221 1-0040",
            (w("VDD_IN", 7.5412), w("VDD_CPU_GPU_CV", 2.31), w("VDD_SOC", None, GATED)),
            (True, False, False),
            1.25,
        ),
    ),
    conditions=Conditions(
        at_ns=10_000_000_000,
        temperatures=(of("cpu-thermal", 51.187, "c"), of("cv0-thermal", None, "c", GATED)),
        clocks=(
            *(of(f"cpu{number}", 1510.4, "mhz") for number in range(4)),
            of("cpu4", 729.6, "mhz"),
            of("cpu5", 729.6, "mhz"),
            of("17000000.gpu", 306.0, "mhz"),
        ),
        loads=(of("cpu", 34.0, "percent"), of("gpu", 98.0, "percent")),
        memory=Memory(7619.5, 4513.2, 97.7),
        throttling=(),
        power_mode=PowerMode("25W", 1),
        governors=(("cpu0", "schedutil"),),
    ),
    energy_j=75.2,
    energy_method="sensor_total",
    mean_w=7.5,
    min_w=7.1,
    peak_w=8.0,
    measured_s=10.0,
)

THROTTLED = replace(
    ORIN,
    conditions=replace(ORIN.conditions, throttling=("gpu-throttle-alert",)),
    throttled=("gpu-throttle-alert", "cpu-throttle-alert"),
)

NO_SENSOR = Snapshot(
    at_ns=3_000_000_000,
    seconds=3.1,
    total=Reading("board", None, "w", None, 0, "Raspberry Pi 4 has no sensor of its own power; name a meter"),
    sensors=(),
    conditions=Conditions(
        at_ns=3_000_000_000,
        loads=(of("cpu", 12.5, "percent"),),
        throttling=None,
        power_mode_reason="vcgencmd: not installed",
    ),
)
