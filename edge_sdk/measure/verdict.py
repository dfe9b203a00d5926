"""What a run of the power recipe is worth: energy per inference with its interval, or the reasons why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.conditions.base import Conditions
from edge_sdk.conditions.changes import why_not_steady
from edge_sdk.measure.energy import Integral, integrate
from edge_sdk.measure.recipe import Run, Stretch
from edge_sdk.measure.record import Energy, Figure, Throttle, Window
from edge_sdk.result import Method

MOST_IDLE_DRIFT = 0.05
LEAST_SIGNAL = 2.0  # net energy over its standard uncertainty

# The 97.5 % quantile of Student's t for 1 to 30 degrees of freedom, as in any table of it; from there the normal's.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL = 1.960


@dataclass(frozen=True)
class _Measured:
    stretch: Stretch
    integral: Integral

    @property
    def seconds(self) -> float:
        return (self.stretch.end_ns - self.stretch.start_ns) / 1e9

    def window(self, began_ns: int) -> Window:
        stretch, integral = self.stretch, self.integral
        return Window(
            stretch.kind, stretch.repeat, (stretch.start_ns - began_ns) / 1e9, (stretch.end_ns - began_ns) / 1e9,
            stretch.inferences, integral.energy_j, integral.mean_w, integral.samples,
            integral.updates, integral.longest_gap_s,
        )  # fmt: skip


def judge(run: Run, covers: str | None = None) -> Energy:
    """Energy per inference of a run.

    The interval of a figure is 95 %: Student's t over the repeats, with the quantisation of the sensor and the stated
    uncertainty of its scale added in squares, and the degrees of freedom after Welch and Satterthwaite (JCGM 100:2008,
    GUM, annex G). It does not hold what nobody states: the error of a shunt or of a meter.

    Args:
        run: With idle and work windows in turn.
        covers: See `Energy.covers`.
    """
    measured = [_Measured(one, integrate(run.main, one.start_ns, one.end_ns)) for one in run.stretches]
    idle = [one for one in measured if one.stretch.kind == "idle"]
    work = [one for one in measured if one.stretch.kind == "work"]
    rejected = [*_gaps(measured), *_came_and_went(work), *_stale(run, measured), *_drift(idle), *unsteady(run)]
    method, missing = _provenance(measured)
    usable = not any(one.integral.energy_j is None for one in measured)
    scale = max((channel.uncertainty for channel in run.main.channels if channel.in_total), default=0.0)
    gross = net = noise = refused = None
    if usable and not rejected:
        gross, _ = _gross(work, scale)
        net, noise = _net(idle, work, scale)
        refused = next(iter(_came_and_went(measured)), None) or _refusal(net, noise)
    return Energy(
        method=method,
        covers=covers,
        missing=missing,
        idle_w=_mean_w(idle, scale) if usable else None,
        work_w=_mean_w(work, scale) if usable else None,
        gross_mj=gross,
        net_mj=net if refused is None else None,
        net_refused=refused,
        rejected=tuple(dict.fromkeys(rejected)),
        noise_mj=noise,
        repeats=len(work),
        windows=tuple(one.window(run.began_ns) for one in measured),
    )


def unsteady(run: Run) -> list[str]:
    """Why the board was not the same board throughout: throttling, or another power mode or governor."""
    looks = [run.before, *run.conditions, run.after]
    reasons = list(why_not_steady(run.before, run.after))
    if not any("throttl" in reason for reason in reasons):
        causes = dict.fromkeys(cause for look in looks for cause in look.throttling or ())
        if causes:
            reasons.append(f"the board throttled: {', '.join(causes)}")
    return reasons


def throttle_stretches(run: Run) -> tuple[Throttle, ...]:
    """When the board throttled, by cause, in seconds since the run's beginning."""
    looks = sorted([run.before, *run.conditions, run.after], key=lambda look: look.at_ns)
    found = []
    for cause in dict.fromkeys(cause for look in looks for cause in look.throttling or ()):
        start: float | None = None
        for look in looks:
            at_s = max(0.0, (look.at_ns - run.began_ns) / 1e9)
            if cause in (look.throttling or ()):
                start = at_s if start is None else start
            elif start is not None:
                found.append(Throttle(cause, start, at_s))
                start = None
        if start is not None:
            found.append(Throttle(cause, start, max(start, (run.ended_ns - run.began_ns) / 1e9)))
    return tuple(found)


def _gaps(measured: Sequence[_Measured]) -> list[str]:
    """Windows without an energy. Only the first is described: the others seldom tell another story."""
    broken = [one for one in measured if one.integral.energy_j is None]
    if not broken:
        return []
    first = broken[0]
    more = f", and in {len(broken) - 1} more" if len(broken) > 1 else ""
    name = f"{first.stretch.kind} window {first.stretch.repeat + 1}"
    return [f"the samples do not cover {name}{more}: {first.integral.reason}"]


def _came_and_went(measured: Sequence[_Measured]) -> list[str]:
    """Windows that lack different rails of the total: their powers are of different things."""
    windows: dict[tuple[str, ...], list[str]] = {}
    for one in measured:
        windows.setdefault(one.integral.without, []).append(f"{one.stretch.kind} window {one.stretch.repeat + 1}")
    if len(windows) < 2:
        return []
    told = "; ".join(f"without {', '.join(names)} in {', '.join(where)}" for names, where in windows.items() if names)
    return [f"rails of the total came and went: {told}"]


def _stale(run: Run, measured: Sequence[_Measured]) -> list[str]:
    """A sensor that gives one value through idle and work alike is not measuring."""
    if any(one.integral.energy_j is None for one in measured):
        return []
    summed = run.main.summed()
    summed = summed[np.isfinite(summed)]
    if len(summed) and (summed == summed[0]).all():
        value = f"{summed[0]:.3f} {'J' if run.main.is_energy else 'W'}"
        return [f"the sensor gave {value} throughout: it is stale, or too coarse for this load"]
    return []


def _drift(idle: Sequence[_Measured]) -> list[str]:
    """Idle windows that differ by more than 5 %, and by more than one step of the sensor."""
    means = [one.integral.mean_w for one in idle if one.integral.mean_w is not None]
    if len(means) < 2:
        return []
    low, high = min(means), max(means)
    mean = sum(means) / len(means)
    step = math.sqrt(12) * max(one.integral.quantisation_w for one in idle)
    if high - low <= max(MOST_IDLE_DRIFT * mean, step):
        return []
    reason = (
        f"idle power drifted: {low:.3f} W in one idle window, {high:.3f} W in another, {(high - low) / mean:.1%} apart "
        f"where at most {MOST_IDLE_DRIFT:.0%} are allowed; stop what runs beside, let the board warm up, measure again"
    )
    return [reason]


def _provenance(measured: Sequence[_Measured]) -> tuple[Method, str | None]:
    """The weakest method of all windows, and what is missing from any."""
    methods = [one.integral.method for one in measured if one.integral.method is not None]
    missing = dict.fromkeys(one.integral.missing for one in measured if one.integral.missing is not None)
    method: Method = methods[0] if methods else "sensor_partial"
    if "sensor_partial" in methods:
        method = "sensor_partial"
    return method, "; ".join(missing) or None


def _gross(work: Sequence[_Measured], scale: float) -> tuple[Figure, float]:
    """All energy of each work window."""
    values = [1000 * (one.integral.energy_j or 0.0) / one.stretch.inferences for one in work]
    steps_w = max(one.integral.quantisation_w for one in work)
    return _figure(values, 1000 * steps_w * _latency_s(work), scale)


def _net(idle: Sequence[_Measured], work: Sequence[_Measured], scale: float) -> tuple[Figure, float]:
    """Each work window less the mean power of the idle windows on both sides of it.

    Neighbours share an idle window: what is off in it moves both alike, and their spread does not show it. For n
    repeats and an idle noise of variance v the mean's variance is short of that by v / (2 n); v is a half of the mean
    square of the differences between idle windows that follow each other, which a slow drift hardly moves.
    """
    values = []
    for before, one, after in zip(idle[:-1], work, idle[1:], strict=True):
        idle_w = ((before.integral.mean_w or 0.0) + (after.integral.mean_w or 0.0)) / 2
        values.append(1000 * ((one.integral.energy_j or 0.0) - idle_w * one.seconds) / one.stretch.inferences)
    steps_w = math.hypot(
        max(one.integral.quantisation_w for one in work), max(one.integral.quantisation_w for one in idle)
    )
    steps_between = np.diff([one.integral.mean_w or 0.0 for one in idle])
    shared_w = math.sqrt(float(np.mean(steps_between**2)) / 2 / (2 * len(work)))
    return _figure(values, 1000 * steps_w * _latency_s(work), scale, 1000 * shared_w * _latency_s(work))


def _latency_s(work: Sequence[_Measured]) -> float:
    return sum(one.seconds for one in work) / sum(one.stretch.inferences for one in work)


def _mean_w(measured: Sequence[_Measured], scale: float) -> Figure:
    values = [one.integral.mean_w or 0.0 for one in measured]
    return _figure(values, max(one.integral.quantisation_w for one in measured), scale)[0]


def _figure(values: Sequence[float], steps: float, scale: float, shared: float = 0.0) -> tuple[Figure, float]:
    """The mean with its 95 % interval, and its standard uncertainty.

    Args:
        values: One a repeat.
        steps: Standard uncertainty from quantisation, the same in every repeat.
        scale: Half of the 95 % interval of the sensor's scale, as a part of 1.
        shared: Standard uncertainty of the mean that repeats have in common, and their spread does not show.
    """
    mean = float(np.mean(values))
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    spread = math.hypot(spread, shared)
    systematic = math.hypot(steps, scale / _NORMAL * mean)
    combined = math.hypot(spread, systematic)
    freedom = (len(values) - 1) * (combined / spread) ** 4 if spread > 0 else math.inf
    half = student(freedom) * combined
    return Figure(mean, mean - half, mean + half), combined


def student(freedom: float) -> float:
    """The 97.5 % quantile of Student's t; of a fractional freedom, that of the whole number below (GUM G.4.1).

    Beyond the table it is the first term of its expansion about the normal quantile z: z + (z**3 + z) / (4 * freedom).
    """
    if freedom < len(_STUDENT) + 1:
        return _STUDENT[max(math.floor(freedom), 1) - 1]
    return _NORMAL + (_NORMAL**3 + _NORMAL) / (4 * freedom)


def _refusal(net: Figure, noise: float) -> str | None:
    """Why the net energy is not worth a figure."""
    if net.value >= LEAST_SIGNAL * noise and net.low > 0:
        return None
    return (
        f"the work stands out from idle by {net.value:.3f} mJ an inference, which is not twice the noise of "
        f"{noise:.3f} mJ with an interval above 0; a longer or heavier run, or a finer sensor, is needed"
    )


def conditions_at(run: Run) -> tuple[Conditions, ...]:
    """The looks of a run in their order, for tracks."""
    return tuple(sorted(run.conditions, key=lambda look: look.at_ns))
