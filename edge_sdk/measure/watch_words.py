"""What a watch sees, in words: a line for each moment, and one for the end."""

from __future__ import annotations

from edge_sdk.measure.watch import Snapshot
from edge_sdk.result import Method, Reading

METHODS: dict[Method, str] = {
    "counter": "from an energy counter",
    "sensor_total": "measured",
    "sensor_partial": "measured in part",
    "fit": "fitted to measured values",
    "estimate": "estimated, not measured",
    "external": "measured by an external meter",
}
"""How a power came about, in a few words."""


def line_of(snapshot: Snapshot, before: Snapshot | None = None) -> str:
    """One moment in a line, for pipes.

    Args:
        snapshot: The moment.
        before: The one that the line before was about: a reason is told when it is new.
    """
    now, total = snapshot.conditions, snapshot.total
    if total.value is not None:
        parts = [f"{watts(total.value)} W ({total.method})"]
    else:
        known = before is not None and before.total.reason == total.reason
        parts = ["no watts" if known else f"no watts: {total.reason}"]
    if snapshot.energy_j is not None:
        parts.append(joules(snapshot.energy_j))
    parts += [f"{one.name} {value_of(one)}" for one in now.loads if one.value is not None]
    warm = [one for one in now.temperatures if one.value is not None]
    if warm:
        hottest = max(warm, key=lambda one: one.value or 0.0)
        parts.append(f"hottest {hottest.name} {hottest.value:.1f} C")
    if now.power_mode is not None:
        parts.append(now.power_mode.name)
    if now.throttling is not None:
        parts.append(f"THROTTLED: {', '.join(now.throttling)}" if now.throttling else "not throttled")
    return f"{duration(snapshot.seconds)}  {'  '.join(parts)}"


def summary_of(snapshot: Snapshot) -> str:
    """What came out in the end, in a line."""
    now = snapshot
    if now.energy_j is None or now.mean_w is None or now.min_w is None or now.peak_w is None:
        energy = f"no energy: {now.total.reason or 'there was too little time'}"
    else:
        energy = f"{joules(now.energy_j)}, mean {watts(now.mean_w)} W, "
        energy += f"from {watts(now.min_w)} to {watts(now.peak_w)} W ({now.energy_method})"
        if now.gaps:
            energy += f", {gaps_of(now.gaps)}: a value for {duration(now.measured_s)} of it"
    if now.throttled:
        return f"{duration(now.seconds)}: {energy}; throttled: {', '.join(now.throttled)}"
    told = "; not throttled" if now.conditions.throttling is not None else ""
    return f"{duration(now.seconds)}: {energy}{told}"


def watts(value: float) -> str:
    """A power to the hundredth: what sensors resolve; from 100 W on to the tenth."""
    return f"{value:.2f}" if value < 100 else f"{value:.1f}"


def joules(value: float) -> str:
    """An energy in J, from 3.6 kJ on in Wh."""
    return f"{value:.1f} J" if value < 3600 else f"{value / 3600:.2f} Wh"


def method_words(method: Method | None) -> str:
    """How a power came about, in words, and as ``--json`` calls it."""
    return "" if method is None else f"{METHODS[method]} ({method})"


def value_of(reading: Reading, degree: str = "C") -> str:
    """A temperature, clock or load with its unit; "-" where there is no value."""
    if reading.value is None:
        return "-"
    if reading.unit == "mhz":
        return f"{reading.value:.0f} MHz"
    return f"{reading.value:.0f} %" if reading.unit == "percent" else f"{reading.value:.1f} {degree}"


def gaps_of(count: int) -> str:
    """How many gaps there were."""
    return "no gap" if count == 0 else f"{count} gap{'s' if count > 1 else ''}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: 0:02:13."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
