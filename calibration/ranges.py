"""The range of each activation: what every method proposes, what error it makes on the target, and the best of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge_sdk.calibration.activations import Statistics, TensorStatistics
from edge_sdk.calibration.histogram import Histogram, merged
from edge_sdk.calibration.observe import collect, collect_once
from edge_sdk.calibration.range_methods import METHODS, SCHEMES, ErrorModel, RangeMethod, Scheme
from edge_sdk.calibration.through import ErrorThrough, Through
from edge_sdk.errors import UsageError, one_line

__all__ = ["ALL", "SLACK", "Candidate", "Range", "Ranges", "Statistics", "choose", "collect", "collect_once"]

ALL: tuple[str, ...] = tuple(METHODS)

# Of methods whose error is within 1 % of the least, the simplest is taken: its range is the wider one as a rule, and
# photos that were not seen reach further than those that were.
SLACK = 0.01

BEHIND = "behind"
"""The method of least error behind the SiLU or hard-swish that reads the tensor."""

CustomMethod = Callable[[Histogram], tuple[float, float]]
Proposer = Callable[[Histogram], "tuple[float, float] | None"]


@dataclass(frozen=True)
class Candidate:
    """What one method proposes.

    Args:
        low, high: The least and the greatest value that the scheme's grid for it can hold; zero is between them.
        error: Expected squared error, in the tensor's units squared.
    """

    low: float
    high: float
    error: float


@dataclass(frozen=True)
class Range:
    """The range of one tensor, and how it was chosen.

    Args:
        low, high: As of the chosen candidate; both 0 for a tensor that is always zero.
        method: Whose it is.
        error: Expected squared error.
        power: Mean of the tensor's squared values.
        table: Every method that applies, by name.
        note: What is unusual, in words; empty where nothing is.
    """

    low: float
    high: float
    method: str
    error: float
    power: float
    table: Mapping[str, Candidate]
    note: str = ""

    @property
    def snr_db(self) -> float:
        """Signal to quantization noise, in dB; infinite where there is no error."""
        return _db(self.power, self.error)


@dataclass(frozen=True)
class Ranges(Mapping[str, Range]):
    """The range of each tensor by name, in the model's order.

    Args:
        scheme: How the target stores them.
        by_tensor: The ranges.
        without: Tensors that have none, and why.
    """

    scheme: Scheme
    by_tensor: Mapping[str, Range]
    without: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, tensor: str) -> Range:
        return self.by_tensor[tensor]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_tensor)

    def __len__(self) -> int:
        return len(self.by_tensor)

    def limits(self) -> dict[str, tuple[float, float]]:
        """Low and high by tensor, as a plan has them."""
        return {name: (one.low, one.high) for name, one in self.by_tensor.items()}

    def with_method(self, method: str) -> Ranges:
        """The same with one method for all tensors that it applies to, for comparisons.

        Raises:
            UsageError: It applies to none.
        """
        if not any(method in one.table for one in self.by_tensor.values()):
            raise UsageError(f"no tensor has a range by {method!r}")
        chosen = {}
        for name, one in self.by_tensor.items():
            candidate = one.table.get(method)
            chosen[name] = one if candidate is None else replace(one, method=method, **vars(candidate))
        return Ranges(self.scheme, chosen, self.without)

    def rows(self) -> list[dict[str, Any]]:
        """A row a tensor and method for reports, in order: plain values, infinite dB as None."""
        return [
            {
                "tensor": name,
                "method": method,
                "chosen": method == one.method,
                "low": candidate.low,
                "high": candidate.high,
                "error": candidate.error,
                "snr_db": snr if math.isfinite(snr := _db(one.power, candidate.error)) else None,
                "note": one.note,
            }
            for name, one in self.by_tensor.items()
            for method, candidate in one.table.items()
        ]


def choose(
    statistics: Statistics,
    scheme: Scheme | str,
    *,
    methods: Sequence[str] = ALL,
    custom: Mapping[str, CustomMethod] | CustomMethod | None = None,
    together: Iterable[Sequence[str]] = (),
    tensors: Sequence[str] | None = None,
    through: Through | None = None,
) -> Ranges:
    """Chooses, for each tensor, the method whose range makes the least expected squared error on the target's grid.

    Of methods within `SLACK` of the least, the first in the order of `ALL` is taken; custom ones come last. Tensors
    with values that are not finite, or without any value, get no range: they stand in `Ranges.without`.

    Args:
        statistics: From `collect`.
        scheme: Of the target, or its name in `SCHEMES`.
        methods: Which compete; () for custom ones alone.
        custom: A method of your own: a callable that is given the histogram of a tensor and returns low and high; or
            several by name. It competes with `methods`.
        together: Groups of tensors that must share a range; it is chosen on all of their values, and `error` is over
            all of them.
        tensors: Those to choose for; None for all.
        through: What alone reads a tensor, by its name, from `through.activations`: its range is chosen by the error of
            what that makes, by a method of its own, ``behind``, among the others.

    Raises:
        UsageError: A method, scheme or tensor that there is not, a tensor in two groups, or a custom method that
            raises or gives no range; the message names it and the tensor.
    """
    if isinstance(scheme, str):
        if scheme not in SCHEMES:
            raise UsageError(f"there is no scheme {scheme!r}; there are {', '.join(SCHEMES)}")
        scheme = SCHEMES[scheme]
    proposers = _proposers(methods, custom, scheme)
    wanted = dict.fromkeys(statistics.tensors if tensors is None else tensors)
    ranges: dict[str, Range] = {}
    without: dict[str, str] = {}
    for group in _groups(wanted, together, statistics):
        bad = {name: reason for name in group if (reason := _unfit(statistics.tensors[name]))}
        for name in group:
            if bad:
                without[name] = bad.get(name) or f"it shares its range with {min(bad)}, which has none"
        if bad:
            continue
        members = [statistics.tensors[name] for name in group]
        histogram = members[0].histogram if len(members) == 1 else merged([one.histogram for one in members])
        activation = (through or {}).get(group[0]) if len(group) == 1 else None
        behind = None if activation is None else ErrorThrough(histogram, scheme, activation)
        table = _table(histogram, scheme, proposers, group[0], behind)
        method = _best(table)
        note = "; ".join(dict.fromkeys(one.note for one in members if one.note))
        chosen = Range(method=method, power=histogram.power, table=table, note=note, **vars(table[method]))
        ranges.update(dict.fromkeys(group, chosen))
    return Ranges(scheme, {name: ranges[name] for name in wanted if name in ranges}, without)


def _proposers(
    methods: Sequence[str], custom: Mapping[str, CustomMethod] | CustomMethod | None, scheme: Scheme
) -> dict[str, Proposer]:
    for name in methods:
        if name not in METHODS:
            raise UsageError(f"there is no range method {name!r}; there are {', '.join(METHODS)}")
    proposers = {name: _for_scheme(METHODS[name], scheme) for name in METHODS if name in methods}
    own = custom if isinstance(custom, Mapping) else {} if custom is None else {"custom": custom}
    for name, method in own.items():
        if name in METHODS:
            raise UsageError(f"{name!r} is the name of a built-in range method")
        proposers[name] = method
    if not proposers:
        raise UsageError("no range method: name one, or give your own")
    return proposers


def _for_scheme(method: RangeMethod, scheme: Scheme) -> Proposer:
    return lambda histogram: method(histogram, scheme)


def _groups(
    wanted: Mapping[str, None], together: Iterable[Sequence[str]], statistics: Statistics
) -> list[tuple[str, ...]]:  # fmt: skip
    """The groups, and every other tensor alone; in the order of their first member."""
    group_of: dict[str, tuple[str, ...]] = {}
    for group in together:
        for name in dict.fromkeys(group):
            if name in group_of:
                raise UsageError(f"tensor {name!r} is in two groups that share a range")
            group_of[name] = tuple(dict.fromkeys(group))
    for name in [*wanted, *group_of]:
        if name not in statistics.tensors:
            raise UsageError(f"there are no statistics of a tensor {name!r}")
    return list(dict.fromkeys(group_of.get(name, (name,)) for name in wanted))


def _unfit(tensor: TensorStatistics) -> str:
    """Why a tensor can have no range; empty where it can."""
    return tensor.note if tensor.not_finite or not tensor.histogram.total else ""


def _table(
    histogram: Histogram,
    scheme: Scheme,
    proposers: Mapping[str, Proposer],
    tensor: str,
    behind: ErrorThrough | None,
) -> dict[str, Candidate]:
    proposed: dict[str, tuple[float, float]] = {}
    if behind is not None:
        proposers = {**proposers, BEHIND: behind.best}
    for name, propose in proposers.items():
        try:
            ends = propose(histogram)
            if ends is None and name in METHODS:
                continue
            low, high = map(float, ends)  # type: ignore[arg-type]
        except Exception as error:
            raise UsageError(f"range method {name!r} failed on tensor {tensor!r}: {one_line(error)}") from error
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise UsageError(f"range method {name!r} gave {low} to {high} for tensor {tensor!r}, which is no range")
        proposed[name] = scheme.reach(low, high)
    if not proposed:
        raise UsageError(f"no range method of {', '.join(proposers)} applies to tensor {tensor!r}")
    lows, highs = np.array(list(proposed.values())).T
    errors = (ErrorModel(histogram, scheme) if behind is None else behind)(lows, highs)
    return {
        name: Candidate(*ends, float(error)) for (name, ends), error in zip(proposed.items(), errors, strict=True)
    }  # fmt: skip


def _best(table: Mapping[str, Candidate]) -> str:
    least = min(candidate.error for candidate in table.values())
    return next(name for name, candidate in table.items() if candidate.error <= least * (1 + SLACK))


def _db(power: float, error: float) -> float:
    if error <= 0:
        return math.inf
    return 10 * math.log10(power / error) if power > 0 else -math.inf
