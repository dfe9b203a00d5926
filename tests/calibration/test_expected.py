"""What a drop is expected to be, from few photos and the damage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.calibration.expected import expected, fit_curve
from edge_sdk.calibration.outcome import Candidate, Drop


def drop(value: float, damage: float, half: float = 0.014) -> Drop:
    return Drop(0.3, value, value - half, value + half, damage, 39)


def test_without_figures_the_usual_curve_holds_and_a_clear_drop_moves_it() -> None:
    usual = fit_curve()
    assert usual.drop(0.1) == pytest.approx(0.006)
    assert usual.damage(usual.drop(0.2)) == pytest.approx(0.2)
    steep = fit_curve([drop(0.4, 0.6, 0.02)])
    assert usual.k < steep.k
    assert steep.sd < usual.sd


def test_photos_that_show_nothing_hardly_move_the_curve() -> None:
    assert fit_curve([drop(0.02, 0.05), drop(-0.02, 0.06)]).k == pytest.approx(fit_curve().k, abs=0.1)


def test_expected_is_nearer_to_the_truth_than_the_measured_drop() -> None:
    """With the noise and the scatter that were seen on real masks."""
    rng = np.random.default_rng(0)
    measured, guessed = [], []
    for _ in range(200):
        damage = float(rng.uniform(0.03, 0.14))
        truth = 0.7 * damage**2 * float(rng.normal(1, 0.4))
        seen = drop(truth + float(rng.normal(0, 0.007)), damage)
        guess = expected(Candidate("h", "hybrid", (True,), "", 1, accuracy=seen), fit_curve([seen]))
        assert guess
        measured.append(abs(seen.drop - truth))
        guessed.append(abs(guess.drop - truth))
    assert np.mean(guessed) < 0.6 * np.mean(measured)


@given(st.floats(-0.02, 0.1), st.floats(0, 0.5), st.floats(0.001, 0.05))
def test_expected_lies_between_what_was_measured_and_the_curve(value: float, damage: float, half: float) -> None:
    seen = drop(value, damage, half)
    curve = fit_curve()
    guess = expected(Candidate("h", "hybrid", (True,), "", 1, accuracy=seen), curve)
    assert guess
    ends = sorted((value, curve.drop(damage)))
    assert ends[0] - 1e-12 <= guess.drop <= ends[1] + 1e-12
    assert guess.high > guess.drop


def test_the_reference_itself_drops_by_nothing_and_without_a_curve_the_measured_drop_counts() -> None:
    given = Candidate("float", "float", None, "", 1, accuracy=drop(0.0, 0.0, 0.0))
    found = expected(given, fit_curve())
    assert found
    assert (found.drop, found.sd) == (0.0, 0.0)
    own = expected(Candidate("h", "hybrid", (True,), "", 1, accuracy=drop(0.01, 0.3)), None)
    assert own
    assert own.drop == 0.01
    assert expected(Candidate("h", "hybrid", (True,), "", 1), None) is None


def test_against_the_float_models_own_detections_the_same_damage_is_a_larger_drop() -> None:
    assert fit_curve(taught=True).drop(0.3) > 3 * fit_curve().drop(0.3)
