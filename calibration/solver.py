"""The best masks for every budget: least damage within a latency, over the whole front, as a mixed-integer program.

Minimises ``sum a_i z_i + sum b_ij z_i z_j`` over binary z (1: the group is in the low precision), subject to a latency
that counts what each group gains and what the tensors between precisions cost. Products and boundaries are linear in
variables of their own, which need no branching: with z whole, their bounds leave one value. HiGHS solves it, through
SciPy. A search ends by a number of nodes and never by the clock, so a slow machine finds the same masks as a fast one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.switchable import Mask
from edge_sdk.errors import MissingDependencyError, PlanError, UsageError, extra_hint

Floats = NDArray[np.float64]

NODES = 200  # of a search tree, per point; most points need a few
# Left unproven: this share of the loss and of `_FLOOR` of all losses together. A model of the damage is less exact, and
# proving the last half per cent takes most of the time.
_GAP = 5e-3
_FLOOR = 0.02
# What a whole range of latency weighs beside the whole range of loss: of masks that are equally good the fastest is
# taken, and a mask is never preferred for it that is worse by more than this share.
_TIME_WEIGHT = 1e-4
_SLACK = 1e-6  # of the range of latency: HiGHS takes a constraint as met within this


class DamageModel(Protocol):
    """What masks are predicted to cost: ``linear @ z + sum pairs[i, j] z_i z_j``."""

    @property
    def linear(self) -> Floats:
        """float64 [n], of any sign."""

    @property
    def pairs(self) -> Mapping[tuple[int, int], float]:
        """Of two positions each, of any sign."""


class Boundary(Protocol):
    """A tensor that groups share, and what it costs to change its precision.

    Once to the low precision if its maker is in the high one and any reader in the low one, and once to the high one if
    it is the other way round. None is what is always in the high precision.
    """

    @property
    def tensor(self) -> str:
        """Its name."""

    @property
    def producer(self) -> int | None:
        """Position of the group that makes it."""

    @property
    def consumers(self) -> tuple[int | None, ...]:
        """Positions of the groups that read it."""

    @property
    def to_low_ms(self) -> float:
        """Of a conversion to the low precision."""

    @property
    def to_high_ms(self) -> float:
        """Of a conversion to the high precision."""


class CostModel(Protocol):
    """What masks are predicted to take, in milliseconds."""

    @property
    def high_ms(self) -> float:
        """With every group in the high precision."""

    @property
    def saved_ms(self) -> Floats:
        """float64 [n]: saved by each group in the low precision, boundaries left out; below 0 where it costs."""

    @property
    def boundaries(self) -> Sequence[Boundary]:
        """Between groups, and to what has no choice."""


@dataclass(frozen=True, eq=False)
class Linear:
    """A budget that adds up over groups: a file's size, the energy of an inference.

    Args:
        name: For messages, with its unit: "size (bytes)".
        values: float64 [n]: what each group in the low precision adds; below 0 where it saves.
        constant: With every group in the high precision.
        limit: At most this.
    """

    name: str
    values: Floats
    constant: float
    limit: float


@dataclass(frozen=True, eq=False)
class Solution:
    """A mask and what is predicted of it.

    Args:
        mask: bool [n]; not settled.
        loss: By the damage model.
        ms: By the cost model.
        bound: No mask within the same latency has a loss below this; it is `loss` less a hair where the search was
            finished.
    """

    mask: Mask
    loss: float
    ms: float
    bound: float


def priced(mask: Mask, damage: DamageModel, costs: CostModel) -> tuple[float, float]:
    """Loss and latency in ms of a mask, settled or not.

    Raises:
        UsageError: The mask, the damage and the costs are not of as many groups.
    """
    count = _count(damage, costs)
    if mask.shape != (count,):
        raise UsageError(f"a mask of {list(mask.shape)} for {count} groups")
    on = mask.tolist()
    loss = float(np.asarray(damage.linear) @ mask)
    loss += sum(value for (i, j), value in damage.pairs.items() if on[i] and on[j])
    ms = float(costs.high_ms) - float(np.asarray(costs.saved_ms) @ mask)
    for one in costs.boundaries:
        maker = one.producer is not None and on[one.producer]
        readers = {reader is not None and on[reader] for reader in one.consumers}
        if not maker and True in readers:
            ms += one.to_low_ms
        if maker and False in readers:
            ms += one.to_high_ms
    return float(loss), float(ms)


def front(
    damage: DamageModel,
    costs: CostModel,
    *,
    fixed: Mapping[int, bool] | None = None,
    points: int = 15,
    budgets: Sequence[Linear] = (),
    nodes: int = NODES,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Solution, ...]:
    """Masks that nothing beats in both loss and latency, from the fastest to the least damaged.

    Both ends first, then always between the two neighbours that leave the most room, seen in latency and in the square
    root of the loss: small losses are where a choice is made.

    Args:
        damage: To be minimised.
        costs: Latency.
        fixed: Positions that are pinned, and whether to the low precision.
        points: To solve for; what comes back may be fewer, since two solves may give the same mask.
        budgets: That every mask meets.
        nodes: Of a search tree, at most; a search that ends there gives the best it found, and its `bound`.
        progress: Called with (solved, to be solved).

    Raises:
        PlanError: No mask meets the budgets; the message has the nearest value that can be met.
        UsageError: The inputs are not of as many groups, or a figure is not finite.
        MissingDependencyError: SciPy is not installed.
    """
    if points < 2:
        raise UsageError(f"points must be 2 or more, not {points}")
    tell = progress or (lambda done, total: None)
    program = _Program(damage, costs, fixed or {}, budgets, nodes)
    fastest = program.fastest()
    tell(1, points)
    least = program.least_loss(None)
    tell(2, points)
    found = [fastest, least]
    # Boxes between neighbours, in which points may lie that are faster than `high` and better than `low`.
    boxes = [(fastest.ms, least.ms, fastest.loss, least.loss)]
    for done in range(2, points):
        boxes = [box for box in boxes if _room(box, program) > 0]
        if not boxes:
            break
        box = max(boxes, key=lambda box: (_room(box, program), -box[0]))
        boxes.remove(box)
        start_ms, end_ms, worst, best = box
        middle = (start_ms + end_ms) / 2
        one = program.least_loss(middle)
        found.append(one)
        boxes += [(start_ms, one.ms, worst, one.loss), (middle, end_ms, one.loss, best)]
        tell(done + 1, points)
    tell(points, points)
    return _not_dominated(found)


def within(
    damage: DamageModel,
    costs: CostModel,
    *,
    max_ms: float | None = None,
    max_loss: float | None = None,
    fixed: Mapping[int, bool] | None = None,
    budgets: Sequence[Linear] = (),
    nodes: int = NODES,
) -> Solution:
    """The best mask of one budget: the least loss within a latency, or else the fastest within a loss.

    Args:
        damage: To be minimised, or held below `max_loss`.
        costs: Latency, to be held below `max_ms`, or minimised.
        max_ms: With it the loss is minimised.
        max_loss: Alone, the latency is minimised; with `max_ms`, the loss found must be within it.
        fixed, budgets, nodes: As in `front`.

    Raises:
        PlanError: No mask meets the budgets; the message has the nearest value that can be met.
        UsageError: Neither is given, the inputs are not of as many groups, or a figure is not finite.
        MissingDependencyError: SciPy is not installed.
    """
    if max_ms is None and max_loss is None:
        raise UsageError("within needs max_ms, max_loss or both")
    program = _Program(damage, costs, fixed or {}, budgets, nodes)
    if max_ms is None and max_loss is not None:
        least = program.least_loss(None)
        if least.loss > max_loss + _SLACK * program.loss_scale:
            raise PlanError(f"no mask has a predicted loss of at most {max_loss:.5g}: the least is {least.loss:.5g}")
        return program.fastest(max(max_loss, least.loss))
    max_ms = float(max_ms or 0.0)
    fastest = program.fastest()
    if fastest.ms > max_ms + _SLACK * program.time_scale:
        raise PlanError(f"no mask is predicted to take at most {max_ms:.5g} ms: the fastest takes {fastest.ms:.5g} ms")
    found = program.least_loss(max(max_ms, fastest.ms))
    if max_loss is not None and found.loss > max_loss + _SLACK * program.loss_scale:
        raise PlanError(
            f"no mask within {max_ms:.5g} ms has a predicted loss of at most {max_loss:.5g}: "
            f"the least is {found.loss:.5g}"
        )
    return found


class _Program:
    """The mixed-integer program: variables are z [n], a product each pair, then two conversions each boundary."""

    def __init__(
        self, damage: DamageModel, costs: CostModel, fixed: Mapping[int, bool], budgets: Sequence[Linear], nodes: int
    ) -> None:
        self._solve, self._constraint, self._bounds, self._sparse = _scipy()
        self.damage, self.costs, self._nodes = damage, costs, nodes
        self.count = _count(damage, costs)
        self._rows: list[dict[int, float]] = []
        self._highs: list[float] = []
        pairs = [(pair, float(value)) for pair, value in sorted(damage.pairs.items()) if value]
        self._size = self.count + len(pairs) + 2 * len(costs.boundaries) + 1  # the last is always 1
        self._loss = np.zeros(self._size)
        self._time = np.zeros(self._size)
        self._loss[: self.count] = damage.linear
        self._time[: self.count] = -np.asarray(costs.saved_ms)
        for place, ((i, j), value) in enumerate(pairs, self.count):
            self._loss[place] = value
            if value > 0:  # at least the product
                self._at_most({i: 1, j: 1, place: -1}, 1)
            else:
                self._at_most({place: 1, i: -1}, 0)
                self._at_most({place: 1, j: -1}, 0)
        for place, one in enumerate(costs.boundaries):
            first = self.count + len(pairs) + 2 * place
            self._conversion(first, one.to_low_ms, one.producer, one.consumers, to_low=True)
            self._conversion(first + 1, one.to_high_ms, one.producer, one.consumers, to_low=False)
        self._lower, self._upper = np.zeros(self._size), np.ones(self._size)
        self._lower[-1] = 1
        for position, low in fixed.items():
            if not 0 <= position < self.count:
                raise UsageError(f"there is no group {position} to pin; there are {self.count}")
            self._lower[position] = self._upper[position] = float(low)
        # Both are brought to about 1, as HiGHS's tolerances are absolute.
        self.loss_scale = float(np.abs(self._loss).sum()) or 1.0
        self.time_scale = float(np.abs(self._time).sum()) or 1.0
        self._add_budgets(budgets)

    def fastest(self, max_loss: float | None = None) -> Solution:
        """The least latency, and of the masks that have it the least loss."""
        limits = [] if max_loss is None else [(self._loss / self.loss_scale, max_loss / self.loss_scale)]
        mask, _ = self._run(self._time / self.time_scale + _TIME_WEIGHT * self._loss / self.loss_scale, limits)
        loss, ms = priced(mask, self.damage, self.costs)
        return Solution(mask, loss, ms, loss)

    def least_loss(self, max_ms: float | None) -> Solution:
        """The least loss within a latency, or of all, and of the masks that have it the fastest."""
        limits = []
        if max_ms is not None:
            limits.append((self._time / self.time_scale, (max_ms - self.costs.high_ms) / self.time_scale))
        weighted = self._loss / self.loss_scale + _TIME_WEIGHT * self._time / self.time_scale
        mask, bound = self._run(weighted, limits)
        loss, ms = priced(mask, self.damage, self.costs)
        # The bound is of the sum of both: what the latency adds to it is at most its weight.
        return Solution(mask, loss, ms, min(loss, (bound - _TIME_WEIGHT) * self.loss_scale))

    def _run(self, objective: Floats, limits: Sequence[tuple[Floats, float]]) -> tuple[Mask, float]:
        if self.count == 0:
            return np.zeros(0, np.bool_), 0.0
        rows = [self._matrix, *(self._sparse.csr_array(row.reshape(1, -1)) for row, _ in limits)]
        highs = np.array([*self._highs, *(high for _, high in limits)])
        whole = np.zeros(self._size)
        whole[: self.count] = 1
        objective = objective.copy()
        objective[-1] = _FLOOR  # what the gap is a share of, where the loss itself is near 0
        result = self._solve(
            objective,
            integrality=whole,
            bounds=self._bounds(self._lower, self._upper),
            constraints=self._constraint(self._sparse.vstack(rows), -np.inf, highs) if len(highs) else None,
            options={"node_limit": self._nodes, "mip_rel_gap": _GAP},
        )
        if result.x is None:
            if result.status == 2:
                raise _InfeasibleError
            raise PlanError(f"the solver found no mask in {self._nodes} nodes: {result.message}")
        bound = result.mip_dual_bound
        return np.asarray(result.x[: self.count] > 0.5, np.bool_), -np.inf if bound is None else float(bound) - _FLOOR

    def _add_budgets(self, budgets: Sequence[Linear]) -> None:
        wanted = []
        for one in budgets:
            values = np.asarray(one.values, np.float64)
            if values.shape != (self.count,) or not np.isfinite([*values, one.constant, one.limit]).all():
                raise UsageError(f"the budget {one.name} must have a finite value for each of {self.count} groups")
            row = np.zeros(self._size)
            scale = float(np.abs(values).sum()) or 1.0
            row[: self.count] = values / scale
            wanted.append((row, (one.limit - one.constant) / scale, scale))
        self._matrix = self._table()
        for (row, high, scale), one in zip(wanted, budgets, strict=True):
            lows = np.where(row[: self.count] < 0, self._upper[: self.count], self._lower[: self.count])
            least = float(row[: self.count] @ lows)
            if least > high + _SLACK:
                reached = one.constant + least * scale
                raise PlanError(f"no plan meets the budget {one.name} of {one.limit:.6g}: the least is {reached:.6g}")
        for row, high, _ in wanted:
            self._rows.append({int(at): float(row[at]) for at in np.flatnonzero(row)})
            self._highs.append(high)
        self._matrix = self._table()
        if len(wanted) > 1:
            try:
                self._run(np.zeros(self._size), ())
            except _InfeasibleError:
                names = " and ".join(f"{one.name} of {one.limit:.6g}" for one in budgets)
                raise PlanError(f"each budget can be met, but not {names} together") from None

    def _table(self) -> Any:
        places = [(row, column, value) for row, one in enumerate(self._rows) for column, value in one.items()]
        rows, columns, values = zip(*places, strict=True) if places else ((), (), ())
        return self._sparse.csr_array((values, (rows, columns)), shape=(len(self._rows), self._size), dtype=np.float64)

    def _at_most(self, row: Mapping[int, float], high: float) -> None:
        self._rows.append(dict(row))
        self._highs.append(high)

    def _conversion(
        self, place: int, ms: float, producer: int | None, consumers: Sequence[int | None], *, to_low: bool
    ) -> None:
        """A variable that is 1 where the maker is on one side and any reader on the other, and else 0."""
        self._time[place] = ms
        if ms == 0 or (producer is None and not to_low):
            self._time[place] = 0.0  # what is always in the high precision is never converted to it
            return
        readers = sorted({one for one in consumers if one is not None and one != producer})
        always = None in consumers and not to_low  # a reader that is always in the high precision
        sign = 1.0 if to_low else -1.0
        if ms > 0:
            for reader in readers:
                row = {reader: sign, place: -1.0}
                if producer is not None:
                    row[producer] = -sign
                self._at_most(row, 0)
            if always and producer is not None:
                self._at_most({producer: 1, place: -1}, 0)
            return
        # A gain, which the solver would take where there is no conversion.
        if producer is not None:  # the maker is on the other side
            self._at_most({place: 1, producer: sign}, 1 if to_low else 0)
        if not always:  # and so is one reader at least
            self._at_most({place: 1, **dict.fromkeys(readers, -sign)}, 0 if to_low else len(readers))


class _InfeasibleError(Exception):
    """No mask meets the constraints."""


def _room(box: tuple[float, float, float, float], program: _Program) -> float:
    start_ms, end_ms, worst, best = box
    width = (end_ms - start_ms) / program.time_scale
    height = np.sqrt(max(0.0, worst - best) / program.loss_scale)
    return float(width * height) if width > 4 * _SLACK and height > 1e-4 else 0.0


def _not_dominated(found: Sequence[Solution]) -> tuple[Solution, ...]:
    kept: list[Solution] = []
    for one in sorted(found, key=lambda one: (one.ms, one.loss)):
        if not kept or one.loss < kept[-1].loss:
            kept.append(one)
    return tuple(kept)


def _count(damage: DamageModel, costs: CostModel) -> int:
    linear, gain = np.asarray(damage.linear, np.float64), np.asarray(costs.saved_ms, np.float64)
    count = len(linear)
    if linear.shape != (count,) or gain.shape != (count,):
        raise UsageError(f"damage of {list(linear.shape)} groups and costs of {list(gain.shape)}")
    figures = [*linear, *gain, costs.high_ms, *damage.pairs.values()]
    figures += [ms for one in costs.boundaries for ms in (one.to_low_ms, one.to_high_ms)]
    if not np.isfinite(figures).all():
        raise UsageError("a figure of the damage or the costs is not finite")
    places = [place for pair in damage.pairs for place in pair]
    for one in costs.boundaries:
        places += [place for place in (one.producer, *one.consumers) if place is not None]
    if wrong := [place for place in places if not 0 <= place < count]:
        raise UsageError(f"there is no group {wrong[0]}; there are {count}")
    return count


def _scipy() -> tuple[Any, Any, Any, Any]:
    try:
        from scipy import sparse
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ImportError as error:
        raise MissingDependencyError(f"SciPy is not installed: {extra_hint('calibrate')}") from error
    return milp, LinearConstraint, Bounds, sparse
