"""How far a run is, and when its time is over."""

from __future__ import annotations

import pytest

from edge_sdk.calibration import stages
from edge_sdk.calibration.stages import SHARES, Stages, Step


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stages, "time", made)
    return made


def test_shares_are_of_one_run() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)


def test_every_step_is_further_and_the_time_left_follows_from_the_time_spent(clock: Clock) -> None:
    told: list[Step] = []
    run = Stages(told.append)
    for name in SHARES:
        with run.stage(name, f"doing {name}") as tell:
            for done in (1, 2):
                clock.now += 100 * SHARES[name] / 2
                tell(done, 2)
    fractions = [step.fraction for step in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    half = next(step for step in told if step.fraction > 0.5)
    assert half.left_s == pytest.approx(100 * (1 - half.fraction))
    assert sum(run.seconds.values()) == pytest.approx(100)


def test_a_stage_that_fails_has_its_time_too(clock: Clock) -> None:
    run = Stages()

    def fail() -> None:
        with run.stage("model"):
            clock.now += 3
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert run.seconds == {"model": pytest.approx(3)}


def test_a_budget_is_over_when_it_is_spent_and_a_share_of_it_before(clock: Clock) -> None:
    run = Stages(budget_s=10)
    assert not run.over()
    clock.now += 6
    assert run.over(0.5)
    assert not run.over()
    clock.now += 5
    assert run.over()


def test_without_a_budget_it_is_never_over(clock: Clock) -> None:
    run = Stages()
    clock.now += 1e6
    assert not run.over()
    assert not run.limited
