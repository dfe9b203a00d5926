"""The damage of any mask from those that were probed: errors of layers add up in power, as noise does.

With y the damage and g(y) = (-log(1 - y))^p, the model is g(y) = f(z) = sum a_i z_i + sum b_ij z_i z_j. The roundings
of two layers are nearly independent, so their powers add and their amplitudes do not; scores and boxes move in
proportion to the amplitude, and the damage with them: so p is near 2. The logarithm is for damages near 1, which
saturate.

Measured on YOLOX-nano: 117 groups, 422 probes, and 79 masks as a solver asks for them that nothing was fitted to. From
the damages of single groups alone p = 2 gives R2 0.97, p = 1 gives 0.66; fitted to all probes p = 2.25 with pairs gives
0.996, with half of the errors below 3.5 %.

A solver minimises f, which orders masks as the damage does. Pairs are in it only where they help on masks left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.probing import Probe
from edge_sdk.calibration.sensitivity import Sensitivity
from edge_sdk.calibration.switchable import Mask
from edge_sdk.errors import MissingDependencyError, UsageError, extra_hint

Floats = NDArray[np.float64]

POWERS = (1.0, 1.5, 2.0, 2.25, 2.5)
_USUAL_POWER = 2.0
_STIFFNESS = (0.3, 1.0, 3.0)  # of the pull towards what single groups say, in units of a probe's weight
_FOLDS = 5
_CEILING = 0.999  # a damage of 1 says only that nothing is left
_FAINT = 1e-5  # damages below this are alike
_GAIN = 0.01  # of the error on masks left out: a pair model must be better by this share
# Masks that differ in this share of the groups, or in so many, are about the same and are left out together.
_NEAR_SHARE, _NEAR = 0.03, 2
_LEAST = 10  # masks to be left out in turn; with fewer nothing is cross-validated


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A fitted model of damage.

    Args:
        linear: float64 [n], of f; never below 0.
        pairs: Of two positions, the lower first, of f; of any sign.
        r2: Of damages of masks that were left out of the fit, 0..1 or below; NaN where there were too few.
        probes: How many it was fitted to.
        power: The exponent p.
        scale: The damage that is never reached: 1 but for a metric of the caller's.
        error: Median of the relative error of damages of masks left out; NaN where there were too few.
        scores: Of each form that was tried, by name: its mean squared relative error on masks left out.
    """

    linear: Floats
    pairs: Mapping[tuple[int, int], float]
    r2: float
    probes: int
    power: float = _USUAL_POWER
    scale: float = 1.0
    error: float = float("nan")
    scores: Mapping[str, float] = field(default_factory=dict)

    def loss(self, mask: Mask | Sequence[bool]) -> float:
        """f of a mask, bool [n]; 0 with all groups off."""
        return float(self.losses(np.asarray(mask, np.bool_)[None])[0])

    def losses(self, masks: NDArray[np.bool_]) -> Floats:
        """f of masks, bool [k, n], as float64 [k]."""
        values: Floats = masks @ self.linear
        for (first, second), weight in self.pairs.items():
            values = values + weight * (masks[:, first] & masks[:, second])
        return values

    def damage(self, mask: Mask | Sequence[bool]) -> float:
        """Predicted damage of a mask."""
        return float(self.damages(np.asarray(mask, np.bool_)[None])[0])

    def damages(self, masks: NDArray[np.bool_]) -> Floats:
        """Predicted damages of masks, bool [k, n], as float64 [k]."""
        return _damage(self.losses(masks), self.power, self.scale)

    def limit(self, damage: float) -> float:
        """The f of a damage: what a solver must stay below."""
        return float(_loss(np.array([damage], np.float64), self.power, self.scale)[0])


@dataclass(frozen=True)
class _Form:
    power: float
    stiffness: float
    pairs: bool

    @property
    def name(self) -> str:
        return f"power {self.power:g}, stiffness {self.stiffness:g}" + (", pairs" if self.pairs else "")


def fit(probed: Sensitivity | Sequence[Probe], more: Sequence[Probe] = ()) -> Surrogate:
    """Fits the model to probes, and says how well it predicts masks that it has not seen.

    The form (the exponent, pairs or none, how far it may leave what single groups say) is the one that predicts best
    masks that are left out, a fifth in turn. Left out together are all masks that differ in a few groups only; never
    left out are those of a sweep's design, which are such neighbours of "all off" or of its base. What counts is the
    relative error, so that small damages weigh as much as large ones.

    Args:
        probed: Of a sweep, or probes of any kind.
        more: Later probes, of a solver's masks for example; a mask that comes twice counts once.

    Raises:
        UsageError: No probes, masks of several lengths, or no damage at all in any.
        MissingDependencyError: SciPy is not installed.
    """
    probes = probed.probes if isinstance(probed, Sensitivity) else tuple(probed)
    unique = tuple({probe.mask: probe for probe in (*more, *probes)}.values())
    if not unique:
        raise UsageError("a damage model needs probes")
    if len({len(probe.mask) for probe in unique}) != 1:
        raise UsageError("probes of several problems cannot be fitted together")
    # In an order of their own, so that neither that of the rounds nor of the workers shows in a figure.
    unique = tuple(sorted((probe for probe in unique if any(probe.mask)), key=lambda probe: probe.mask))
    if not unique:
        raise UsageError("a damage model needs probes of masks that are not all off")
    return _Fit(unique).best()


class _Fit:
    def __init__(self, probes: Sequence[Probe]) -> None:
        self._masks = np.array([probe.mask for probe in probes], np.bool_)
        self._damages = np.maximum(np.array([probe.damage for probe in probes], np.float64), 0.0)
        top = float(self._damages.max())
        self._scale = 1.0 if top <= 1 else 2 * top
        self._pair_rows = {
            tuple(np.flatnonzero(mask).tolist()): row for row, mask in enumerate(self._masks) if mask.sum() == 2
        }
        self._pairs = list(self._pair_rows)
        self._single = self._singles()
        self._folds = _folds(self._masks)

    def best(self) -> Surrogate:
        """The form that predicts best, fitted to all."""
        count = len(self._damages)
        if self._folds is None:
            form = _Form(_USUAL_POWER, 1.0, pairs=False)
            return self._fitted(form, np.ones(count, np.bool_), float("nan"), float("nan"), {})
        scores, predicted = {}, {}
        plain = [_Form(power, stiffness, pairs=False) for power in POWERS for stiffness in _STIFFNESS]
        for form in plain:
            predicted[form] = self._predicted(form)
            scores[form] = self._score(predicted[form])
        chosen = min(plain, key=lambda form: scores[form])
        if self._pairs:
            # With pairs another exponent may be the best: without them it has to stand in for what they say.
            joined = [_Form(power, chosen.stiffness, pairs=True) for power in POWERS]
            for form in joined:
                predicted[form] = self._predicted(form)
                scores[form] = self._score(predicted[form])
            best = min(joined, key=lambda form: scores[form])
            if scores[best] < scores[chosen] * (1 - _GAIN):
                chosen = best
        left_out = self._folds >= 0
        truth, guess = self._damages[left_out], predicted[chosen][left_out]
        spread = float(np.square(truth - truth.mean()).sum())
        r2 = 1 - float(np.square(truth - guess).sum()) / spread if spread > 0 else float("nan")
        error = float(np.median(np.abs(guess - truth) / np.maximum(truth, _FAINT)))
        named = {form.name: score for form, score in scores.items()}
        return self._fitted(chosen, np.ones(count, np.bool_), r2, error, named)

    def _predicted(self, form: _Form) -> Floats:
        """Damages of the masks that are left out in turn; NaN for the others."""
        values = np.full(len(self._damages), np.nan)
        if self._folds is None:
            return values
        for fold in range(_FOLDS):
            out = self._folds == fold
            if out.any():
                model = self._fitted(form, ~out, float("nan"), float("nan"), {})
                values[out] = model.damages(self._masks[out])
        return values

    def _score(self, predicted: Floats) -> float:
        known = ~np.isnan(predicted)
        floor = 0.1 * float(np.median(self._damages)) + _FAINT
        error = np.log((predicted[known] + floor) / (self._damages[known] + floor))
        return float(np.square(error).mean())

    def _fitted(
        self, form: _Form, used: NDArray[np.bool_], r2: float, error: float, scores: Mapping[str, float]
    ) -> Surrogate:
        """Least squares with nothing below 0 in `linear`, drawn towards what single groups say."""
        masks, target = self._masks[used], _loss(self._damages[used], form.power, self._scale)
        prior = _loss(self._single, form.power, self._scale)
        many = masks.sum(axis=1) > 1
        share = target[many] / np.maximum(masks[many] @ prior, np.finfo(np.float64).tiny)
        if len(share):
            prior = prior * float(np.clip(np.median(share), 0.05, 5))
        faint = float(_loss(np.array([_FAINT]), form.power, 1.0)[0])
        # The error of f that is one of the damage in proportion to it goes with f; half of that in the exponent was
        # as good as all and is less at the mercy of the faintest.
        weight = 1 / np.sqrt(target + 0.3 * np.median(target) + faint)
        weight = weight / (float(np.median(target * weight)) + np.sqrt(faint))
        pairs = self._pairs if form.pairs else []
        products = np.array([masks[:, first] & masks[:, second] for first, second in pairs], np.float64)
        products = products.reshape(len(pairs), len(masks)).T
        middle = 0.3 * float(np.median(prior)) + faint
        own = prior + middle
        joint = np.array([self._room(pair, form.power) for pair in pairs], np.float64) + middle
        rows = np.concatenate([masks.astype(np.float64), products, -products], axis=1) * weight[:, None]
        pull = form.stiffness / np.concatenate([own, joint, joint])
        wanted = np.concatenate([prior, np.zeros(2 * len(pairs))]) * pull
        found = _nnls(np.concatenate([rows, np.diag(pull)]), np.concatenate([target * weight, wanted]))
        linear, both = found[: len(own)], found[len(own) :]
        signed = both[: len(pairs)] - both[len(pairs) :]
        weights = {
            (first, second): float(value) for (first, second), value in zip(pairs, signed, strict=True) if value != 0
        }
        return Surrogate(linear, weights, r2, int(used.sum()), form.power, self._scale, error, scores)

    def _room(self, pair: tuple[int, ...], power: float) -> float:
        """How large a weight of two groups may well be: as what their own probe shows beyond the sum of both."""
        alone = _loss(self._single[list(pair)], power, self._scale)
        both = _loss(self._damages[self._pair_rows[pair]][None], power, self._scale)
        return float(abs(both[0] - alone.sum()) + np.sqrt(alone.prod()))

    def _singles(self) -> Floats:
        """Damages of single groups; where one was not probed by itself, the median of the others."""
        singles = np.full(self._masks.shape[1], np.nan)
        for mask, damage in zip(self._masks, self._damages, strict=True):
            if mask.sum() == 1:
                singles[mask.argmax()] = damage
        known = singles[~np.isnan(singles)]
        usual = float(np.median(known)) if len(known) else float(self._damages.mean()) / np.sqrt(len(singles))
        return np.where(np.isnan(singles), usual, singles)


def _folds(masks: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    """In which fold each mask is left out, -1 for never; None where too few can be.

    Masks that are linked by steps of a few groups are in one fold. The largest such sets are a sweep's singles, pairs
    and neighbours of its base: they are what the others are predicted from, and are never left out.
    """
    count, groups = masks.shape
    near = max(_NEAR, int(groups * _NEAR_SHARE))
    as_floats = masks.astype(np.float64)
    sums = as_floats.sum(axis=1)
    distance = sums[:, None] + sums[None, :] - 2 * as_floats @ as_floats.T
    linked = distance <= near + 0.5
    part = np.arange(count)
    while True:  # each takes the least number of its neighbours, until none changes
        least = np.where(linked, part[None, :], count).min(axis=1)
        if np.array_equal(least, part):
            break
        part = least
    names, sizes = np.unique(part, return_counts=True)
    small = {name for name, size in zip(names.tolist(), sizes.tolist(), strict=True) if size <= max(1, count // 10)}
    small = {name for name in small if sums[part == name].min() > 2}
    folds = np.full(count, -1, np.int64)
    for number, name in enumerate(sorted(small)):
        folds[part == name] = number % _FOLDS
    return folds if int((folds >= 0).sum()) >= _LEAST else None


def _loss(damages: Floats, power: float, scale: float) -> Floats:
    """g of damages."""
    share = np.clip(damages / scale, 0.0, _CEILING)
    values: Floats = (-np.log1p(-share)) ** power
    return values


def _damage(losses: Floats, power: float, scale: float) -> Floats:
    """The inverse of `_loss`."""
    values: Floats = scale * -np.expm1(-(np.maximum(losses, 0.0) ** (1 / power)))
    return values


def _nnls(matrix: Floats, target: Floats) -> Floats:
    try:
        from scipy.optimize import nnls
    except ImportError as error:
        raise MissingDependencyError(f"SciPy is not installed: {extra_hint('calibrate')}") from error
    solve: Callable[..., Any] = nnls
    found: Floats = solve(matrix, target, maxiter=50 * matrix.shape[1])[0]
    return found
