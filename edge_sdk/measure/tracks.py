"""Samples and conditions as courses over time, for plots and tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_sdk.conditions.base import Conditions
from edge_sdk.measure.record import ChannelTrack, ConditionTrack
from edge_sdk.measure.trace import Trace
from edge_sdk.result import Reading


def channel_tracks(traces: Sequence[Trace], began_ns: int) -> tuple[ChannelTrack, ...]:
    """Every channel in watts.

    An energy is its differences over time, each at the later of its two samples; one that falls was reset, and has no
    power there.

    Args:
        traces: Of all sensors.
        began_ns: Monotonic; what times are counted from.
    """
    tracks = []
    for trace in traces:
        seconds = (trace.at_ns - began_ns) / 1e9
        for column, channel in enumerate(trace.channels):
            at_s, watts = seconds, trace.values[:, column]
            if channel.quantity == "energy":
                at_s, watts = seconds[1:], np.diff(watts) / np.diff(seconds)
                watts = np.where(watts < 0, np.nan, watts)
            tracks.append(
                ChannelTrack(
                    trace.sensor,
                    channel.name,
                    channel.in_total,
                    channel.method,
                    tuple(round(float(at), 4) for at in at_s),
                    tuple(round(float(watt), 4) if np.isfinite(watt) else None for watt in watts),
                    trace.absent.get(channel.name),
                )
            )
    return tuple(tracks)


def condition_tracks(looks: Sequence[Conditions], began_ns: int) -> tuple[ConditionTrack, ...]:
    """Every temperature, clock and load that was seen at any time; None where it had no value."""
    looks = sorted(looks, key=lambda look: look.at_ns)
    rows = [
        {(reading.unit, reading.name): reading for reading in (*look.temperatures, *look.clocks, *look.loads)}
        for look in looks
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    at_s = tuple(round((look.at_ns - began_ns) / 1e9, 3) for look in looks)
    return tuple(_track(unit, name, at_s, [row.get((unit, name)) for row in rows]) for unit, name in names)


def _track(unit: str, name: str, at_s: tuple[float, ...], readings: Sequence[Reading | None]) -> ConditionTrack:
    reasons = [one.reason for one in readings if one is not None and one.value is None]
    values = tuple(None if one is None or one.value is None else round(one.value, 3) for one in readings)
    return ConditionTrack(name, unit, at_s, values, reasons[-1] if reasons else None)  # type: ignore[arg-type]
