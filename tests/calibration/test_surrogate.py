"""The damage of any mask from those that were probed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from edge_sdk.calibration.probing import Probe
from edge_sdk.calibration.surrogate import Surrogate, fit
from edge_sdk.errors import UsageError

GROUPS = 20


def true_damage(masks: np.ndarray, powers: np.ndarray, pair: float = 0.0, exponent: float = 2.0) -> np.ndarray:
    """Powers of errors add up; groups 0 and 1 together do more."""
    loss = masks @ powers + pair * (masks[:, 0] & masks[:, 1])
    return 1 - np.exp(-(np.maximum(loss, 0) ** (1 / exponent)))


def powers_of(seed: int) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(-8, 1.5, GROUPS))


def probes_of(masks: np.ndarray, damages: np.ndarray, kind: str = "random") -> list[Probe]:
    return [Probe(tuple(mask), float(damage), 0.0, kind) for mask, damage in zip(masks.tolist(), damages, strict=True)]


def drawn(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((count, GROUPS)) < 0.5


def design(seed: int = 0, count: int = 60) -> np.ndarray:
    """Each group alone, some pairs, and masks by chance."""
    pairs = np.zeros((6, GROUPS), np.bool_)
    for row, (first, second) in enumerate([(0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3)]):
        pairs[row, [first, second]] = True
    return np.concatenate([np.eye(GROUPS, dtype=np.bool_), pairs, drawn(count, seed)])


def made(seed: int = 0, pair: float = 0.0, exponent: float = 2.0, noise: float = 0.0) -> tuple[Surrogate, np.ndarray]:
    """A model fitted to made-up probes, and the powers that they were made from."""
    powers, masks = powers_of(seed), design(seed)
    damages = true_damage(masks, powers, pair, exponent)
    damages = damages * np.exp(np.random.default_rng(seed + 99).normal(0, noise, len(damages)))
    return fit(probes_of(masks, np.minimum(damages, 1))), powers


def test_masks_that_were_not_probed_are_predicted():
    model, powers = made(noise=0.03)
    masks = drawn(200, seed=77)
    truth = true_damage(masks, powers)
    assert np.median(np.abs(model.damages(masks) / truth - 1)) < 0.05
    assert np.corrcoef(model.damages(masks), truth)[0, 1] > 0.98
    assert model.power in (1.75, 2.0, 2.25)
    assert model.probes == GROUPS + 6 + 60


@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.5])
def test_the_exponent_is_found_in_the_probes(exponent):
    model, _ = made(exponent=exponent)
    assert model.power == exponent


def test_the_cross_validated_r2_tells_how_well_other_masks_are_predicted():
    model, powers = made(noise=0.05)
    masks = drawn(400, seed=5)
    truth, guess = true_damage(masks, powers), model.damages(masks)
    r2 = 1 - np.square(truth - guess).sum() / np.square(truth - truth.mean()).sum()
    assert model.r2 == pytest.approx(r2, abs=0.15)
    assert 0 < model.error < 0.15


def test_probes_that_follow_no_rule_have_no_r2_to_show():
    masks = design()
    damages = np.random.default_rng(1).uniform(0.05, 0.3, len(masks))
    assert fit(probes_of(masks, damages)).r2 < 0.3


def test_near_duplicates_do_not_make_a_model_look_better():
    masks = drawn(24, seed=4)
    damages = np.random.default_rng(2).uniform(0.05, 0.3, len(masks))  # nothing to be learnt
    copies = np.concatenate([masks, masks])
    copies[24:, 3] ^= True
    probes = probes_of(copies, np.concatenate([damages, damages]))
    assert fit(probes).r2 < 0.3


def test_a_pair_that_does_more_together_is_seen():
    pair = 0.02
    model, powers = made(pair=pair)
    assert model.pairs[0, 1] == pytest.approx(pair, rel=0.3)
    masks = drawn(100, seed=9)
    assert np.median(np.abs(model.damages(masks) / true_damage(masks, powers, pair) - 1)) < 0.05


def test_a_pair_that_does_less_together_has_a_negative_weight():
    powers = powers_of(0)
    powers[:2] = 0.02
    masks = design()
    model = fit(probes_of(masks, true_damage(masks, powers, pair=-0.02)))
    assert model.pairs[0, 1] < -0.005


def test_pairs_are_left_out_where_they_help_nothing():
    model, _ = made(noise=0.05)
    assert model.pairs == {}


def test_the_loss_orders_masks_as_the_damage_does_and_is_what_the_solver_is_given():
    model, _ = made(pair=0.02)
    masks = drawn(50, seed=3)
    assert np.array_equal(np.argsort(model.losses(masks)), np.argsort(model.damages(masks)))
    for mask in masks[:5]:
        by_hand = mask @ model.linear + sum(
            weight for (first, second), weight in model.pairs.items() if mask[first] and mask[second]
        )
        assert model.loss(mask) == pytest.approx(by_hand, rel=1e-12)
        assert model.damage(mask) == pytest.approx(float(model.damages(mask[None])[0]), rel=1e-12)
    assert model.loss(np.zeros(GROUPS, np.bool_)) == 0
    assert model.damage(np.zeros(GROUPS, np.bool_)) == 0


@settings(max_examples=30)
@given(st.floats(1e-4, 0.9), st.sampled_from([1.0, 1.5, 2.0, 2.5]))
def test_the_limit_of_a_damage_is_its_loss(damage, power):
    model = Surrogate(np.array([1.0]), {}, math.nan, 1, power)
    inside = Surrogate(np.array([model.limit(damage)]), {}, math.nan, 1, power)
    assert inside.damage([True]) == pytest.approx(damage, rel=1e-9)


@settings(max_examples=15)
@given(st.integers(0, 50))
def test_no_group_is_predicted_to_mend_anything(seed):
    model, _ = made(seed=seed, noise=0.2)
    assert (model.linear >= 0).all()
    assert np.isfinite(model.linear).all()


def test_the_order_of_probes_changes_nothing():
    powers, masks = powers_of(0), design()
    probes = probes_of(masks, true_damage(masks, powers))
    once, again = fit(probes), fit(probes[::-1])
    assert np.array_equal(once.linear, again.linear)
    assert (once.r2, once.pairs, once.power) == (again.r2, again.pairs, again.power)


def test_later_probes_correct_the_model_where_they_are():
    powers, masks = powers_of(0), design(count=15)
    probes = probes_of(masks, true_damage(masks, powers))
    # The masks that a solver asks for, in which something happens that no other mask shows.
    asked = np.concatenate([np.ones((12, 14), np.bool_), drawn(12, seed=8)[:, :6]], axis=1)
    truth = true_damage(asked, powers) * 1.5
    before, after = fit(probes), fit(probes, probes_of(asked, truth, "front"))
    assert after.probes == len(probes) + len(asked)
    assert np.abs(after.damages(asked) / truth - 1).mean() < 0.5 * np.abs(before.damages(asked) / truth - 1).mean()


def test_a_metric_that_passes_1_is_fitted_on_its_own_scale():
    masks, powers = design(), powers_of(0)
    damages = 40 * np.sqrt(masks @ powers)
    assert damages.max() > 1
    model = fit(probes_of(masks, damages))
    assert np.median(np.abs(model.damages(masks) / damages - 1)) < 0.1
    assert model.scale == 2 * damages.max()


def test_damages_that_a_metric_puts_below_0_count_as_none():
    masks = design()
    damages = true_damage(masks, powers_of(0))
    damages[3] = -0.01
    assert fit(probes_of(masks, damages)).linear[3] >= 0


def test_few_probes_make_a_model_without_a_claim():
    masks = np.eye(4, dtype=np.bool_)
    model = fit(probes_of(masks, np.array([0.1, 0.2, 0.05, 0.0])))
    assert math.isnan(model.r2)
    assert model.damage([True, False, False, False]) == pytest.approx(0.1, rel=0.05)
    assert model.damage([True, True, False, False]) == pytest.approx(math.hypot(0.1, 0.2), rel=0.1)


def test_probes_that_do_nothing_predict_nothing():
    masks = design()
    model = fit(probes_of(masks, np.zeros(len(masks))))
    assert model.damages(masks).max() < 1e-6


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(UsageError, match="needs probes"):
        fit([])
    with pytest.raises(UsageError, match="not all off"):
        fit([Probe((False, False), 0.0, 0.0, "whole")])
    with pytest.raises(UsageError, match="several problems"):
        fit([Probe((True,), 0.1, 0.0, ""), Probe((True, False), 0.1, 0.0, "")])
