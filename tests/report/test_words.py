"""Figures and findings in words."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.measure.record import Figure
from edge_sdk.report import words
from edge_sdk.result import Method

from .profiles import HOSTILE, make_profile
from .strategies import profiles


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"), (0.0123, "0.0123"), (1.5, "1.50"), (12.345, "12.3"), (123.4, "123"), (1234.5, "1,234"),
        (-0.0000001, "0.000000"), (-3.14159, "-3.14"), (1e15, "1.00e+15"), (None, "-"), (float("nan"), "-"),
        (float("inf"), "-"),
    ],
)  # fmt: skip
def test_a_number_has_three_digits(value: float | None, shown: str) -> None:
    assert words.number(value) == shown


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Figure(61.234, 59.81, 62.66), "61.2 mJ (59.8 to 62.7)"),
        (Figure(3.5, 3.48, 3.52), "3.500 mJ (3.480 to 3.520)"),
        (Figure(23.52613, 23.49881, 23.54822), "23.53 mJ (23.50 to 23.55)"),
        (Figure(1234.5, 1200, 1270), "1,234 mJ (1,200 to 1,270)"),
        (Figure(5.0, 5.0, 5.0), "5.00 mJ (5.00 to 5.00)"),
        (None, "-"),
    ],
)
def test_the_interval_says_how_many_digits_a_figure_has(figure: Figure | None, shown: str) -> None:
    assert words.figure(figure, "mJ") == shown


def test_every_method_has_its_words() -> None:
    assert set(words.METHODS) == set(get_args(Method))


@given(st.text())
def test_nothing_that_steers_a_terminal_or_turns_text_gets_through(text: str) -> None:
    shown = words.plain(text + HOSTILE)
    assert not any(ord(one) < 32 or 0x7F <= ord(one) < 0xA0 or 0x202A <= ord(one) <= 0x202E for one in shown)
    shown.encode()
    assert words.plain("größe 大きさ 🦊") == "größe 大きさ 🦊"


@given(st.text(max_size=80), st.integers(1, 60))
def test_a_shortened_text_keeps_both_ends(text: str, most: int) -> None:
    short = words.shortened(text, most)
    assert len(short) <= most
    if len(text) <= most:
        assert short == text
    elif most > 2:
        assert (short[0], short[-1], "…" in short) == (text[0], text[-1], True)


def test_a_run_that_stands_says_so() -> None:
    found = words.verdict(make_profile())
    assert (found.kind, found.details) == ("ok", ())
    assert found.line == "The run stands: 3 repeats, none of them disturbed."


def test_a_rejected_run_says_why_and_gives_no_energy() -> None:
    profile = make_profile("rejected")
    found = words.verdict(profile)
    assert found.kind == "rejected"
    assert found.details[0] == "the board throttled: gpu-throttle-alert"
    assert profile.energy is not None
    assert words.energy_line(profile.energy) == "no energy: the run is rejected"


def test_a_run_without_a_sensor_says_that_it_is_latency_only() -> None:
    found = words.verdict(make_profile("no_sensor"))
    assert (found.kind, found.line) == ("warning", "Latency only: no power was measured.")
    assert "has no sensor of its own" in found.details[0]


def test_an_estimate_is_no_measurement_and_says_so() -> None:
    found = words.verdict(make_profile("estimate"))
    assert found.kind == "warning"
    assert found.details[0] == "no net energy: 4.1 mJ is below twice its noise of 3.2 mJ"
    assert "modelled, not measured" in found.details[1]


@pytest.mark.parametrize("method", ["counter", "sensor_total", "external"])
def test_a_measurement_of_the_whole_has_no_reserve(method: Method) -> None:
    profile = make_profile()
    assert profile.energy is not None
    assert words.verdict(replace(profile, energy=replace(profile.energy, method=method))).kind == "ok"


@given(profiles)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_there_are_words_for_any_profile(profile) -> None:
    assert words.verdict(profile).line
    lines = [words.model_of(profile), words.board_of(profile), words.engine_of(profile), words.latency_line(profile)]
    assert all(line and "\n" not in line for line in lines)
