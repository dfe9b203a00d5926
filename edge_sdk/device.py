"""The machine this runs on: which board it is, what it can run, and whether a model fits it."""

from __future__ import annotations

import os
import platform
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from edge_sdk.targets import Identity, here


def system_root() -> Path:
    """Root of /proc and /sys: ``EDGE_SDK_ROOT`` where it is set (a captured tree), else ``/``."""
    return Path(os.environ.get("EDGE_SDK_ROOT") or "/")


def this_device() -> Identity:
    """Which board this is, with the evidence; ``EDGE_SDK_TARGET`` acts as another for planning.

    Raises:
        TargetError: ``EDGE_SDK_TARGET`` names no board, or ``EDGE_SDK_ROOT`` is no folder.
    """
    return _here(os.environ.get("EDGE_SDK_ROOT"), os.environ.get("EDGE_SDK_TARGET"))


@cache
def _here(_root: str | None, _target: str | None) -> Identity:
    return here()


def facts() -> dict[str, Any]:
    """What ``edge-sdk devices --json`` prints: the board, versions, backends, cameras and what its power sensors read.

    Raises:
        TargetError: As `this_device` raises it.
    """
    from edge_sdk import __version__
    from edge_sdk.backends.base import backends
    from edge_sdk.sources.base import find_cameras

    identity = this_device()
    target = identity.target
    return {
        "edge_sdk": __version__,
        "python": platform.python_version(),
        "machine": f"{sys.platform} {platform.machine()}",
        "target": {
            "name": target.name,
            "label": target.label,
            "family": target.family,
            "confidence": identity.confidence,
            "evidence": list(identity.evidence),
            "model": identity.model,
            "carrier": identity.carrier,
            "memory_mib": identity.memory_mib,
            "precisions": {backend: list(values) for backend, values in target.precisions.items()},
            "power_modes": list(target.power_modes),
        },
        "backends": [
            {
                "name": backend.name,
                "version": backend.version(),
                "missing": backend.missing(),
                "opens": list(backend.suffixes),
            }
            for backend in backends().values()
        ],
        "cameras": [{"spec": camera.spec, "label": camera.label} for camera in find_cameras(system_root())],
        # What the board's table says can be read, and what is read.
        "power_rails": [
            {"name": rail.name, "driver": rail.driver, "address": rail.address, "in_total": rail.in_total}
            for rail in target.rails
        ],
        "power": power(),
    }


def power(sensor: str | None = None) -> dict[str, Any]:
    """This machine's power sensors, opened and read; takes up to a second.

    Args:
        sensor: One that gives the total instead; see `edge_sdk.sensors.power.open_power`.

    Returns:
        ``total`` and ``sensors`` with their channels: value in watts, or null, method, and the reason of what is
        missing; ``covers``; ``meters``: how sensors can be named.

    Raises:
        TargetError: As `this_device` raises it.
        SensorError, UsageError: Of a sensor that was named.
    """
    from edge_sdk.result import Reading
    from edge_sdk.sensors.base import TOTAL, drivers
    from edge_sdk.sensors.gauge import Gauge
    from edge_sdk.sensors.power import open_power

    def shown(reading: Reading) -> dict[str, Any]:
        value = None if reading.value is None else round(reading.value, 3)
        return {"name": reading.name, "value_w": value, "method": reading.method, "reason": reading.reason}

    with open_power(sensor) as power:
        gauges = [Gauge(one) for one in power.sensors]
        reads = [gauge.read() for gauge in gauges]
        if power.reason is None and any(one.value is None for read in reads for one in read.channels):
            # A counter, or a load, is a power from the second read on.
            time.sleep(min(1.0, max(0.2, *(one.refresh_s for one in power.sensors))))
            reads = [gauge.read() for gauge in gauges]
        totals = [read.total for one, read in zip(power.sensors, reads, strict=True) if one is power.main]
        total = Reading(TOTAL, None, "w", None, 0, power.reason) if power.reason or not totals else totals[0]
        return {
            "total": shown(total),
            "covers": power.covers,
            "sensors": [
                {
                    "name": one.name,
                    "refresh_s": one.refresh_s,
                    "channels": [
                        {**shown(reading), "in_total": channel.in_total}
                        for channel, reading in zip(one.channels, read.channels, strict=True)
                    ],
                }
                for one, read in zip(power.sensors, reads, strict=True)
            ],
            "meters": [driver.usage for driver in drivers().values()],
        }


def fits(model: str) -> dict[str, Any]:
    """Whether a model fits this machine: runtime, precision and memory. The model is opened and run once.

    Args:
        model: A file or the name of a zoo model.

    Returns:
        ``fits`` (False where a reason is final), ``reasons``, and the figures behind them.

    Raises:
        ModelNotFoundError: No such file or zoo model.
        ModelError, BackendError: It cannot be opened here.
    """
    import numpy as np

    from edge_sdk.detector import Detector

    identity = this_device()
    before = resident_mib()
    with Detector(model) as detector:
        detector(np.zeros((720, 1280, 3), np.uint8))
        used = resident_mib() - before
        found = sorted({layer.precision for layer in detector.session.layers() if layer.precision is not None})
        native = {backend: list(values) for backend, values in identity.target.precisions.items()}
        report: dict[str, Any] = {
            "model": detector.path.name,
            "backend": detector.backend,
            "active": detector.session.active,
            "why": detector.why,
            "head": detector.head.name,
            "file_mib": round(detector.path.stat().st_size / 2**20, 2),
            "resident_mib": round(used, 1),
            "memory_mib": identity.memory_mib or identity.target.memory_mib,
            "layer_precisions": found,
            "native_precisions": native,
        }
    reasons = []
    for backend, precisions in native.items():
        foreign = [precision for precision in found if precision not in precisions]
        if foreign:
            reasons.append(
                f"{', '.join(foreign)} is not native to {backend} on {identity.target.name} "
                f"({', '.join(precisions)} is): there it is refused, converted or slow"
            )
    memory = report["memory_mib"]
    tight = memory is not None and used > memory / 2
    if tight:
        reasons.append(f"it takes {used:.0f} MiB of the machine's {memory} MiB")
    if identity.confidence == "override":
        reasons.append(f"judged by {identity.target.name}'s table; it ran on this machine, not on that board")
    report["fits"] = not tight
    report["reasons"] = reasons
    return report


def resident_mib() -> float:
    """Memory that this process holds in RAM, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20
