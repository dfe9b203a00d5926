"""Joules out of samples: the trapezoid over one window, with its edges interpolated and its gaps judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.measure.trace import Trace
from edge_sdk.result import Method

# A gap is longer than this many of the usual intervals, and than this many seconds: shorter ones are the scheduler's,
# and the trapezoid bridges them.
GAP_INTERVALS = 5
GAP_S = 0.5


@dataclass(frozen=True)
class Integral:
    """The energy of one window.

    Args:
        energy_j: None where there is too little to integrate; `reason` says what.
        mean_w: `energy_j` over the window's length.
        samples: In the window, with a value.
        updates: Of these, those whose value differs from the one before.
        longest_gap_s: Between two samples with a value, or to the window's edges.
        reason: Why there is no energy.
        method: Of the sum; "sensor_partial" where a channel of the total gave nothing in this window.
        missing: What it lacks, in words.
        quantisation_w: Standard uncertainty of the mean power that the sensor's steps cause.
        without: Names of the channels of the total that gave nothing in this window.
    """

    energy_j: float | None
    mean_w: float | None
    samples: int
    updates: int
    longest_gap_s: float
    reason: str | None
    method: Method | None
    missing: str | None
    quantisation_w: float = 0.0
    without: tuple[str, ...] = ()


def integrate(trace: Trace, start_ns: int, end_ns: int) -> Integral:
    """The energy of the total from `start_ns` to `end_ns`.

    Power is integrated by the trapezoid between samples; at the window's edges it is interpolated between the samples
    on both sides, and where there is none on the far side the nearest one holds. Of an energy counter the two edges are
    interpolated and subtracted; one that falls was reset, and gives no energy. A sample in which a channel of the total
    has no value counts as missing; a channel that has none in the whole window is left out, and the method becomes
    "sensor_partial".

    Args:
        trace: Samples from before the window to after it.
        start_ns: Monotonic.
        end_ns: Later than `start_ns`.
    """
    seconds = (end_ns - start_ns) / 1e9
    near = trace.between(start_ns - _margin_ns(trace), end_ns + _margin_ns(trace))
    columns, without = _columns(near, start_ns, end_ns)
    lacking = [f"{name} ({near.absent.get(name, 'no sample')})" for name in without]
    if not columns:
        reason = ", ".join(lacking) or "no channel of this sensor is the board's total"
        return Integral(None, None, 0, 0, seconds, reason, None, None, without=without)
    summed: NDArray[np.float64] = near.values[:, columns].sum(axis=1)
    good = np.isfinite(summed)
    at_s, values = (near.at_ns[good] - start_ns) / 1e9, summed[good]
    inside = (at_s >= 0) & (at_s <= seconds)
    count = int(inside.sum())
    updates = int((np.diff(values[inside]) != 0).sum())
    longest = _longest_gap(at_s, seconds)
    channels = [trace.channels[column] for column in columns]
    missing = "; ".join(
        ([f"without {', '.join(lacking)}"] if lacking else [])
        + list(dict.fromkeys(channel.missing for channel in channels if channel.missing is not None))
    )
    method: Method = "sensor_partial" if lacking else channels[0].method
    allowed = allowed_gap_s(trace)
    reset = _reset(near.values[good], at_s, columns, seconds) if trace.is_energy else None
    why_none: str | None = None
    if count < 2:
        why_none = f"{count} samples in {seconds:.3g} s"
    elif longest > allowed:
        why_none = f"a gap of {longest:.2f} s in the samples, where at most {allowed:.2f} s are allowed"
        why_none += "".join(f"; {one.name}: {near.absent[one.name]}" for one in channels if one.name in near.absent)
    elif reset is not None:
        why_none = f"the energy counter of {trace.channels[reset].name} was reset"
    if why_none is not None:
        return Integral(None, None, count, updates, longest, why_none, method, missing or None, without=without)
    if trace.is_energy:
        energy = float(np.interp(seconds, at_s, values) - np.interp(0.0, at_s, values))
    else:
        edges = np.concatenate(([0.0], at_s[inside], [seconds]))
        power = np.interp(edges, at_s, values)
        energy = float(((power[1:] + power[:-1]) / 2 * np.diff(edges)).sum())
    quantisation = _quantisation(trace, near.values[good][inside], columns, seconds)
    return Integral(
        energy, energy / seconds, count, updates, longest, None, method, missing or None, quantisation, without
    )


def allowed_gap_s(trace: Trace) -> float:
    """The longest time between two values that is bridged."""
    return max(GAP_INTERVALS * _interval_s(trace), GAP_S)


def _interval_s(trace: Trace) -> float:
    """The usual time between two new values: that between samples, or the sensor's own where it is longer."""
    between = float(np.median(np.diff(trace.at_ns))) / 1e9 if len(trace.at_ns) > 1 else 0.0
    return max(between, trace.refresh_s)


def _margin_ns(trace: Trace) -> int:
    """How far outside of a window samples are looked for that its edges are interpolated with."""
    return int(allowed_gap_s(trace) * 1e9)


def _columns(near: Trace, start_ns: int, end_ns: int) -> tuple[list[int], tuple[str, ...]]:
    """The channels of the total that gave a value in the window, and the names of those that gave none."""
    window = near.between(start_ns, end_ns)
    present: list[int] = []
    without: list[str] = []
    for column, channel in enumerate(near.channels):
        if not channel.in_total:
            continue
        if np.isfinite(window.values[:, column]).any():
            present.append(column)
        else:
            without.append(channel.name)
    return present, tuple(without)


def _longest_gap(at_s: NDArray[np.float64], seconds: float) -> float:
    """Between two neighbours that the window touches, or from an edge to the only neighbour that it has."""
    before, after = at_s[at_s < 0], at_s[at_s > seconds]
    within = at_s[(at_s >= 0) & (at_s <= seconds)]
    marks = np.concatenate((before[-1:] if len(before) else [0.0], within, after[:1] if len(after) else [seconds]))
    return float(np.diff(marks).max()) if len(marks) > 1 else seconds


def _reset(
    values: NDArray[np.float64], at_s: NDArray[np.float64], columns: Sequence[int], seconds: float
) -> int | None:
    """A counter that falls between two samples which the window touches; None where none does."""
    touched = (at_s[1:] >= 0) & (at_s[:-1] <= seconds)
    return next((column for column in columns if bool(((np.diff(values[:, column]) < 0) & touched).any())), None)


def _quantisation(trace: Trace, values: NDArray[np.float64], columns: Sequence[int], seconds: float) -> float:
    """Standard uncertainty of the window's mean power from the channels' steps, in W.

    A value that stands still between two steps may be up to half a step off for good: step / sqrt(12). Noise that
    crosses steps averages that out: with Gaussian noise of sigma, the bias of a mean falls with
    exp(-2 * (pi * sigma / step)**2) (B. Widrow, I. Kollar, Quantization Noise, 2008: the first harmonic of the
    characteristic function). Taken together they are a little too wide in between, never too narrow.
    """
    variance = 0.0
    for column in columns:
        step = trace.channels[column].step
        if step is None or step <= 0:
            continue
        if trace.is_energy:
            variance += 2 * (step / seconds) ** 2 / 12  # one step at each edge
            continue
        noise = max(0.0, float(np.var(values[:, column])) - step**2 / 12)
        variance += (step / np.sqrt(12) * np.exp(-2 * np.pi**2 * noise / step**2)) ** 2
    return float(np.sqrt(variance))
