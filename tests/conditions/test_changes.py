"""Why a run is worth nothing: what changed while it was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_sdk.conditions.base import NOT_READ, Conditions, PowerMode
from edge_sdk.conditions.changes import why_not_steady

BEFORE = Conditions(
    at_ns=0, throttling=(), power_mode=PowerMode("25W", 1), governors=(("cpu0", "schedutil"), ("cpu4", "schedutil"))
)
HEAT = "let it cool down, cool it better, or choose a lower power mode"


def test_what_stays_the_same_is_steady() -> None:
    assert why_not_steady(BEFORE, replace(BEFORE, at_ns=1)) == ()
    assert why_not_steady(Conditions(0), Conditions(1)) == ()


def test_another_power_mode_is_told_by_name() -> None:
    after = replace(BEFORE, power_mode=PowerMode("15W", 0))
    assert why_not_steady(BEFORE, after) == (
        "the power mode changed from 25W to 15W; set it, and leave it alone while measuring",
    )


def test_the_same_name_with_another_number_is_the_same_mode() -> None:
    assert why_not_steady(BEFORE, replace(BEFORE, power_mode=PowerMode("25W", None))) == ()


def test_a_mode_that_one_read_does_not_know_is_no_change() -> None:
    quick = replace(BEFORE, power_mode=None, power_mode_reason=NOT_READ)
    assert why_not_steady(BEFORE, quick) == ()
    assert why_not_steady(quick, BEFORE) == ()


def test_another_governor_is_told_with_what_it_governs() -> None:
    after = replace(BEFORE, governors=(("cpu0", "schedutil"), ("cpu4", "performance"), ("gpu", "x")))
    assert why_not_steady(BEFORE, after) == ("the governor changed: cpu4 from schedutil to performance",)


def test_governors_that_a_quick_read_leaves_out_are_no_change() -> None:
    assert why_not_steady(BEFORE, replace(BEFORE, governors=(("cpu0", "schedutil"),))) == ()


@pytest.mark.parametrize(("cause", "advice"), [
    ("gpu-throttle-alert", HEAT),
    ("soft temperature limit", HEAT),
    ("under-voltage", "its supply or cable is too weak"),
    ("over-current", "choose a lower power mode or a stronger supply"),
])  # fmt: skip
def test_throttling_is_told_with_what_to_do(cause: str, advice: str) -> None:
    hot = replace(BEFORE, throttling=(cause,))
    assert why_not_steady(hot, BEFORE) == (f"throttled before it began: {cause}; {advice}",)
    assert why_not_steady(BEFORE, hot) == (f"throttled at the end: {cause}; {advice}",)
    assert len(why_not_steady(hot, hot)) == 2


def test_what_happened_between_two_reads_is_told_by_its_flag_or_count() -> None:
    before = replace(BEFORE, throttled_since_boot=("throttled", "package-0-throttle (7x)"))
    assert why_not_steady(before, before) == ()
    after = replace(before, throttled_since_boot=("throttled", "under-voltage", "package-0-throttle (9x)"))
    assert why_not_steady(before, after) == (
        f"throttled meanwhile: under-voltage, package-0-throttle (9x); its supply or cable is too weak; {HEAT}",
    )


def test_what_throttles_at_the_end_is_not_told_twice() -> None:
    after = replace(
        BEFORE,
        throttling=("under-voltage", "package-0-throttle"),
        throttled_since_boot=("under-voltage", "package-0-throttle (1x)"),
    )
    (reason,) = why_not_steady(BEFORE, after)
    assert reason.startswith("throttled at the end: under-voltage, package-0-throttle; ")


def test_a_quick_read_does_not_know_what_was_before_it() -> None:
    quick = replace(BEFORE, power_mode=None, power_mode_reason=NOT_READ)
    full = replace(BEFORE, throttled_since_boot=("under-voltage",))
    assert why_not_steady(quick, full) == ()
    assert len(why_not_steady(quick, replace(quick, throttled_since_boot=("package-0-throttle (1x)",)))) == 1
