"""Several profiles side by side: figures, ratios with their intervals, what makes them incomparable, and the front."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_sdk.measure.record import Energy, Figure, Profile
from edge_sdk.report import words

_Z = 1.96
PERCENTILES = ("p50", "p90", "p99")


@dataclass(frozen=True)
class Cell:
    """One run's figure, and how it relates to the first run's.

    Args:
        value: None where the run has none.
        low, high: Of the 95 % interval; None where none is known.
        ratio: To the first run's; None for the first itself, and where a ratio would mean nothing.
        ratio_low, ratio_high: Of its 95 % interval.
        reason: Why there is no value.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Row:
    """One figure of all runs; `unit` is of the values."""

    name: str
    unit: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side.

    Args:
        labels: One a run, no two alike.
        rows: The figures.
        not_comparable: Why the energies must not be compared: their ratios are left out.
        differences: In what else than the model the runs differ: a ratio holds the effect of that too.
        front: The runs (by place) than which none is better in both p50 latency and gross energy; empty where energies
            are not comparable or there are none.
    """

    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    not_comparable: tuple[str, ...]
    differences: tuple[str, ...]
    front: tuple[int, ...]

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def compare(profiles: Sequence[Profile]) -> Comparison:
    """Puts runs side by side; the first is what the others are compared with."""
    apart = not_comparable(profiles)
    rows = [_percentile_row(profiles, name) for name in PERCENTILES]
    rows += [
        _row("net energy", "mJ", [_of_energy(one, lambda energy: energy.net_mj) for one in profiles], not apart),
        _row("gross energy", "mJ", [_of_energy(one, lambda energy: energy.gross_mj) for one in profiles], not apart),
        _row("idle power", "W", [_of_energy(one, lambda energy: energy.idle_w) for one in profiles], not apart),
        _row("power at work", "W", [_of_energy(one, lambda energy: energy.work_w) for one in profiles], not apart),
    ]
    points = [(_p50(one), None if one.energy is None else _value(one.energy.gross_mj)) for one in profiles]
    return Comparison(
        labels=labels(profiles),
        rows=tuple(rows),
        not_comparable=apart,
        differences=differences(profiles),
        front=() if apart else front(points),
    )


def labels(profiles: Sequence[Profile]) -> tuple[str, ...]:
    """A name for each run, of what tells them apart: model, engine, threads, board, power mode, and else a number."""
    aspects = [
        [words.model_of(one) for one in profiles],
        [words.value_of(one.model, "backend") or words.engine_of(one) for one in profiles],
        [words.value_of(one.model, "active") or "" for one in profiles],
        [f"{threads} threads" if (threads := words.value_of(one.model, "threads")) else "" for one in profiles],
        [words.value_of(one.device, "label", "target") or "" for one in profiles],
        [words.value_of(one.device, "power_mode") or "" for one in profiles],
    ]
    chosen: list[list[str]] = []
    names = [""] * len(profiles)
    for aspect in aspects:
        tried = [*chosen, aspect]
        longer = [", ".join(filter(None, parts)) for parts in zip(*tried, strict=True)]
        if len(set(longer)) > len(set(names)):
            chosen, names = tried, longer
        if len(set(names)) == len(names):
            break
    if not chosen:
        names = aspects[0]
    seen: dict[str, int] = {}
    unlike = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unlike.append(f"{name} ({seen[name]})" if names.count(name) > 1 else name)
    # A name that looks like the number of another one.
    return tuple(unlike) if len(set(unlike)) == len(unlike) else tuple(f"{i + 1}: {n}" for i, n in enumerate(names))


def not_comparable(profiles: Sequence[Profile]) -> tuple[str, ...]:
    """Why energies of these runs must not be compared: their watts are not of the same thing."""
    energies = [one.energy for one in profiles if one.energy is not None]
    return tuple(
        f"{what}: {_against(values)}"
        for what, values in (
            ("the watts came about differently", [energy.method for energy in energies]),
            ("the watts cover different parts", [_said(energy.covers) for energy in energies]),
            ("the watts lack different parts", [_said(energy.missing) for energy in energies]),
        )
        if len(set(values)) > 1
    )


def differences(profiles: Sequence[Profile]) -> tuple[str, ...]:
    """In what the runs differ beside the model, so that a ratio holds the effect of that too."""
    aspects: Mapping[str, Callable[[Profile], str]] = {
        "board": lambda one: words.value_of(one.device, "target", "label") or "not known",
        "power mode": lambda one: words.value_of(one.device, "power_mode") or "not known",
        "governor": lambda one: words.value_of(one.device, "governors") or "not known",
        "clocks held": lambda one: words.value_of(one.device, "clocks_pinned") or "not known",
        "threads": lambda one: words.value_of(one.model, "threads") or "not known",
        "power sensor": lambda one: (
            words.listed(sorted({words.plain(t.sensor) for t in one.channels if t.in_total})) or "none"
        ),
        "picture": lambda one: words.value_of(one.model, "image") or "not known",
    }
    found = []
    for what, of in aspects.items():
        values = [of(one) for one in profiles]
        if len(set(values)) > 1:
            found.append(f"{what}: {_against(values)}")
    return tuple(found)


def front(points: Sequence[tuple[float | None, float | None]]) -> tuple[int, ...]:
    """The points (by place, by rising first figure) than which none is better in one figure and no worse in the other.

    Args:
        points: Two figures each, less being better; one that lacks a figure is on no front.
    """
    known = [
        (first, second, place)
        for place, (first, second) in enumerate(points)
        if first is not None and second is not None
    ]
    best = math.inf
    found = []
    for _, second, place in sorted(known):
        if second < best:
            best = second
            found.append(place)
        elif found and (points[place]) == points[found[-1]]:  # neither is better than its twin
            found.append(place)
    return tuple(found)


def ratio(value: Figure, to: Figure) -> Figure | None:
    """value / to with its 95 % interval, for two figures that were measured independently.

    The method of variance estimates recovery for a ratio (Donner and Zou, Stat. Methods Med. Res. 21, 2012, 347), which
    for symmetric intervals is Fieller's theorem.

    Returns:
        None where the divisor's interval reaches 0 or a figure is not above 0: the ratio would have no bounds.
    """
    a, b = value.value, to.value
    if not (a > 0 and to.low > 0 and value.low <= a <= value.high and to.low <= b <= to.high):
        return None

    def bound(own: float, other: float, sign: int) -> float | None:
        """Root of the quadratic that says: the difference a - r b is at its own limit 0."""
        divisor = other * (2 * b - other)
        inside = (a * b) ** 2 - own * (2 * a - own) * divisor
        return (a * b + sign * math.sqrt(inside)) / divisor if divisor > 0 and inside >= 0 else None

    low, high = bound(value.low, to.high, -1), bound(value.high, to.low, +1)
    return None if low is None or high is None else Figure(a / b, low, high)


def percentile(times: Sequence[float], percent: float) -> tuple[float, float] | None:
    """The 95 % interval of a percentile, by order statistics with the binomial's normal approximation.

    Hahn and Meeker, Statistical Intervals (1991), chapter 5.2. It takes the times as independent, and so holds nothing
    of the change from run to run.

    Returns:
        None where there are too few times for one.
    """
    many, part = len(times), percent / 100
    if not many:
        return None
    spread = _Z * math.sqrt(many * part * (1 - part))
    low, high = math.floor(many * part - spread), math.ceil(many * part + spread) + 1  # places, from 1
    if low < 1 or high > many:
        return None
    ordered = np.sort(np.asarray(times, np.float64))
    return float(ordered[low - 1]), float(ordered[high - 1])


def _percentile_row(profiles: Sequence[Profile], name: str) -> Row:
    found: list[Cell | Figure] = []
    for one in profiles:
        value = one.latency.percentiles_ms.get(name)
        interval = percentile(one.latency.times_ms, float(name[1:]))
        if value is None:
            found.append(Cell(None, reason="the profile does not have it"))
        elif interval is None or not interval[0] <= value <= interval[1]:
            found.append(Cell(value))
        else:
            found.append(Figure(value, *interval))
    return _row(f"latency {name}", "ms", found, True)


def _row(name: str, unit: str, found: Sequence[Cell | Figure], comparable: bool) -> Row:
    first = found[0]
    cells = []
    for place, one in enumerate(found):
        if isinstance(one, Cell) and one.value is None:
            cells.append(one)
            continue
        low, high = (one.low, one.high) if isinstance(one, Figure) else (None, None)
        plain = None
        bounds = None
        if place and comparable and first.value is not None and one.value is not None and first.value > 0:
            plain = one.value / first.value
            bounds = ratio(one, first) if isinstance(one, Figure) and isinstance(first, Figure) else None
        cells.append(
            Cell(
                one.value,
                low,
                high,
                plain,
                None if bounds is None else bounds.low,
                None if bounds is None else bounds.high,
            )
        )
    return Row(name, unit, tuple(cells))


def _of_energy(profile: Profile, of: Callable[[Energy], Figure | None]) -> Cell | Figure:
    energy = profile.energy
    if energy is None:
        return Cell(None, reason="no power was measured")
    found = of(energy)
    if found is not None:
        return found
    if energy.rejected:
        return Cell(None, reason="rejected")
    return Cell(None, reason=words.plain(energy.net_refused) if energy.net_refused is not None else "not measured")


def _p50(profile: Profile) -> float | None:
    return profile.latency.percentiles_ms.get("p50")


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _said(text: str | None) -> str:
    return "nothing said" if text is None else words.plain(text)


def _against(values: Sequence[str]) -> str:
    """ "15W vs 25W": those that occur, in their order."""
    return " vs ".join(dict.fromkeys(values))
