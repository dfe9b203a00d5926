"""A walk through a board's power modes."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from edge_sdk.conditions.base import PowerMode
from edge_sdk.errors import PowerModeError, RebootNeededError, UsageError
from edge_sdk.measure.power_modes import front, walk
from edge_sdk.sensors.base import Absent


@dataclass
class Modes:
    """Three modes, of which one refuses."""

    now: str = "15W"
    broken: dict[str, Exception] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    why_none: str | None = None

    def current(self):
        return PowerMode(self.now, None)

    def available(self):
        return tuple(PowerMode(name, number) for number, name in enumerate(("15W", "25W", "MAXN")))

    def set(self, name):
        if name in self.broken:
            raise self.broken[name]
        self.changes.append(name)
        self.now = name


def profile(ms, mj):
    energy = None if mj is None else SimpleNamespace(gross_mj=SimpleNamespace(value=mj))
    return SimpleNamespace(latency=SimpleNamespace(percentiles_ms={"p50": ms}), energy=energy)


def test_every_mode_is_measured_while_it_is_in_force_and_the_board_is_put_back():
    modes = Modes()
    seen = []

    found = walk(modes, (), lambda name: seen.append((name, modes.now)) or profile(1, 1))

    assert seen == [("15W", "15W"), ("25W", "25W"), ("MAXN", "MAXN")]
    assert list(found) == ["15W", "25W", "MAXN"]
    assert modes.now == "15W"


def test_modes_kept_from_an_interrupted_walk_are_not_measured_again():
    modes = Modes()
    kept = profile(1, 1)

    found = walk(modes, ("25W", "MAXN"), lambda _: profile(2, 2), {"25W": kept})

    assert found["25W"] is kept
    assert modes.changes == ["MAXN", "15W"]


def test_a_mode_that_needs_a_reboot_is_left_out_with_a_warning(caplog):
    modes = Modes(broken={"25W": RebootNeededError("25W needs a reboot")})

    found = walk(modes, (), lambda _: profile(1, 1))

    assert list(found) == ["15W", "MAXN"]
    assert "25W needs a reboot; it is left out" in caplog.text
    assert modes.now == "15W"


def test_a_mode_that_cannot_be_set_ends_the_walk_and_the_board_is_put_back():
    modes = Modes(broken={"MAXN": PowerModeError("MAXN: needs root")})

    with pytest.raises(PowerModeError, match="MAXN: needs root"):
        walk(modes, (), lambda _: profile(1, 1))

    assert modes.now == "15W"


def test_a_measurement_that_fails_leaves_the_board_as_it_was():
    modes = Modes()

    def fail(name):
        if name == "25W":
            raise RuntimeError("the engine failed")
        return profile(1, 1)

    with pytest.raises(RuntimeError):
        walk(modes, (), fail)

    assert modes.now == "15W"


def test_an_interruption_right_after_a_mode_was_set_leaves_the_board_as_it_was():
    """Ctrl-C reaches the vendor's tool as well: it may have done its work by then."""

    class Interrupted(Modes):
        def set(self, name):
            first = not self.changes
            super().set(name)
            if first:
                raise SystemExit(130)

    modes = Interrupted()

    with pytest.raises(SystemExit):
        walk(modes, (), lambda _: profile(1, 1))

    assert modes.changes == ["25W", "15W"]


def test_where_the_mode_cannot_be_told_nothing_is_changed():
    modes = Modes()
    modes.current = lambda: Absent("nvpmodel -q: permission denied")

    with pytest.raises(PowerModeError, match=r"nothing was changed, .* permission denied"):
        walk(modes, (), lambda _: profile(1, 1))

    assert modes.changes == []


def test_an_unknown_mode_is_refused_before_anything_is_changed():
    modes = Modes()

    with pytest.raises(UsageError, match="no such power mode: 40W; there are 15W, 25W, MAXN"):
        walk(modes, ("25W", "40W"), lambda _: profile(1, 1))

    assert modes.changes == []


def test_a_board_without_modes_is_refused():
    modes = Modes()
    modes.available = lambda: ()
    modes.why_none = "a Raspberry Pi has none"

    with pytest.raises(UsageError, match="no power modes to walk through: a Raspberry Pi has none"):
        walk(modes, (), lambda _: profile(1, 1))


class TestFront:
    def test_modes_that_another_beats_in_both_are_not_on_it(self):
        modes = {"15W": profile(30, 200), "25W": profile(20, 180), "MAXN": profile(15, 260)}

        assert front(modes) == ("25W", "MAXN")

    def test_equal_modes_are_both_on_it(self):
        assert front({"a": profile(1, 1), "b": profile(1, 1)}) == ("a", "b")

    def test_modes_without_an_energy_are_left_out(self):
        assert front({"a": profile(1, None), "b": profile(2, 2)}) == ("b",)
