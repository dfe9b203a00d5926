"""The screen of the monitor, and its lines: what matters is there at any size, and nothing breaks out of it."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from edge_sdk.conditions.base import Conditions
from edge_sdk.measure.watch import SensorNow, Snapshot
from edge_sdk.measure.watch_view import HISTORY, Head, View
from edge_sdk.measure.watch_words import duration, joules, line_of, summary_of, watts

from .moments import GATED, NO_SENSOR, ORIN, THROTTLED, of, w

HEAD = Head("NVIDIA Jetson Orin Nano 8 GB", "the module's input", ("http://127.0.0.1:9180/metrics",), 1.0)


def lines(
    *moments: Snapshot, width: int = 80, height: int = 24, encoding: str = "utf-8", colour: bool = False
) -> list[str]:
    """The screen after these moments, as it would be printed."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="\n")
    system = "truecolor" if colour else None
    screen = Console(
        file=file, width=width, height=height, force_terminal=True, color_system=system, legacy_windows=False
    )
    view = View(HEAD, moments[0])
    for moment in moments:
        view.show(moment)
    screen.print(view, end="")
    file.flush()
    file.buffer.seek(0)
    text = file.buffer.read().decode(encoding)  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.split("\n")]


def test_power_stands_with_its_method_and_what_it_covers() -> None:
    screen = lines(ORIN)
    assert screen[0] == "NVIDIA Jetson Orin Nano 8 GB" + " " * 40 + "25W  0:00:10"
    assert screen[1] == "Power      7.54 W  measured (sensor_total)  the module's input"


def test_rails_in_the_total_are_marked_and_one_without_a_value_has_none() -> None:
    screen = "\n".join(lines(ORIN))
    assert "+ VDD_IN         7.54 W ██" in screen
    assert "  VDD_CPU_GPU_CV 2.31 W █" in screen
    assert f"VDD_SOC, cv0-thermal: {GATED}" in screen


def test_cores_with_the_same_clock_share_a_row() -> None:
    screen = "\n".join(lines(ORIN))
    assert "cpu0-3       1510 MHz" in screen
    assert "cpu4-5        730 MHz" in screen


def test_a_clock_that_was_only_asked_for_says_so() -> None:
    asked = (of("cpu0", 2400.0, "mhz", "asked for, not measured"), of("gpu", 306.0, "mhz"))
    screen = "\n".join(lines(replace(ORIN, conditions=replace(ORIN.conditions, clocks=asked))))
    assert "Clocks, * asked for" in screen
    assert "cpu0*" in screen
    assert "gpu*" not in screen
    assert "asked for, not measured" not in screen  # it has a value


def test_throttling_is_red_and_in_words() -> None:
    assert "Throttling NOW: gpu-throttle-alert" in lines(THROTTLED)
    assert any("\x1b[1;31mNOW: gpu-throttle-alert" in line for line in lines(THROTTLED, colour=True))
    assert "Throttling none now" in lines(ORIN)
    calm = replace(ORIN, throttled=("gpu-throttle-alert",))
    assert "Throttling none now; seen: gpu-throttle-alert" in lines(calm)
    boot = replace(ORIN, conditions=replace(ORIN.conditions, throttled_since_boot=("under-voltage",)))
    assert "Throttling none now; since boot: under-voltage" in lines(boot)


def test_a_board_that_does_not_tell_of_throttling_is_not_said_to_run_free() -> None:
    assert "Throttling this board does not tell" in lines(NO_SENSOR)


def test_the_chart_is_red_while_it_throttled() -> None:
    top = next(line for line in lines(ORIN, ORIN, THROTTLED, ORIN, colour=True) if "▇" in line or "█" in line)
    assert top.count("\x1b[36m") == 2
    assert top.count("\x1b[31m") == 1


def test_without_a_sensor_it_says_why_there_are_no_watts_and_shows_the_rest() -> None:
    screen = lines(NO_SENSOR)
    assert screen[1].startswith("Power      no value")
    assert "Raspberry Pi 4 has no sensor of its own power" in " ".join(screen)
    assert any(line.startswith("cpu") and "12 %" in line for line in screen)
    assert "power mode: vcgencmd: not installed" in screen
    assert not any(line.startswith("Energy") for line in screen)


def test_a_chip_that_cannot_be_read_gives_its_reason_once_before_the_names_of_its_rails() -> None:
    reason = "vcgencmd: not installed"
    names = [f"RAIL_{number}" for number in range(12)]
    sensor = SensorNow("pmic", tuple(w(name, None, reason) for name in names), (True,) * 12, 1.0)
    total = w("board", None, f"{', '.join(names)} ({reason})")
    screen = lines(replace(NO_SENSOR, total=total, sensors=(sensor,)))
    assert screen[1] == f"Power      no value  {reason}"
    assert sum(reason in line for line in screen) == 2  # and for the power mode


def test_a_partial_total_says_what_is_missing() -> None:
    total = replace(ORIN.total, method="sensor_partial", reason="without VDD_SOC (gated)")
    assert lines(replace(ORIN, total=total))[1] == (
        "Power      7.54 W  measured in part (sensor_partial)  without VDD_SOC (gated)"
    )


def test_gaps_are_told() -> None:
    assert any(line.startswith("Energy") and "2 gaps" in line for line in lines(replace(ORIN, gaps=2)))
    assert not any("gap" in line for line in lines(ORIN))


@pytest.mark.parametrize(
    ("width", "height"), [(80, 24), (120, 40), (44, 20), (60, 15), (200, 60), (20, 5), (10, 2), (1, 1)]
)
@pytest.mark.parametrize("moment", [ORIN, THROTTLED, NO_SENSOR], ids=["orin", "throttled", "none"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_fits_any_terminal_and_any_letters(moment: Snapshot, width: int, height: int, encoding: str) -> None:
    screen = lines(*[moment] * 3, width=width, height=height, encoding=encoding)
    assert len(screen) <= height
    assert max(map(cell_len, screen)) <= width


def test_what_matters_most_is_there_in_a_small_window() -> None:
    screen = lines(THROTTLED, width=44, height=12)
    assert screen[1].startswith("Power      7.54 W")
    assert "Throttling NOW: gpu-throttle-alert" in screen
    assert any(line.startswith("+ VDD_IN") for line in screen)


def test_a_long_list_is_cut_and_says_how_much_is_left_out() -> None:
    zones = tuple(of(f"zone-{number}", 40.0, "c") for number in range(40))
    screen = lines(replace(ORIN, conditions=replace(ORIN.conditions, temperatures=zones)))
    shown = sum("zone-" in line for line in screen)
    assert 3 < shown < 40
    assert any(f"{40 - shown} more" in line for line in screen)


def test_the_chart_starts_at_zero_and_has_a_hole_where_there_was_no_value() -> None:
    low, gone = replace(ORIN, total=w("board", 3.77)), replace(ORIN, total=w("board", None, GATED))
    screen = lines(ORIN, low, gone, ORIN, height=16)
    chart = [line for line in screen if "█" in line and "VDD" not in line and "%" not in line][:2]
    assert [line[11:15] for line in chart] == ["█  █", "██ █"]
    assert chart[0].startswith("7.54 W")
    assert chart[1].startswith("4 s")


def test_columns_of_the_chart_do_not_change_as_time_goes_on() -> None:
    powers = [float(number % 7 + 1) for number in range(HISTORY + 40)]
    view = View(HEAD, ORIN)
    seen: list[str] = []
    for number, power in enumerate(powers):
        view.show(replace(ORIN, total=w("board", power)))
        if number not in range(500, 560):
            continue
        file = io.StringIO()
        Console(file=file, width=90, height=16, force_terminal=True, color_system=None).print(view, end="")
        chart = [line for line in file.getvalue().split("\n")[2:] if not line.startswith("Energy")]
        seen.append(chart[1][11:].rstrip())
    for before, after in pairwise(seen):  # one column is eight moments here
        assert after[: len(before) - 1] == before[: len(before) - 1]


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)
numbers = st.none() | st.floats(0, 1e6)


@given(
    st.lists(st.tuples(texts, numbers), max_size=30), st.lists(st.tuples(texts, numbers), max_size=30),
    st.integers(1, 140), st.integers(1, 50),
)  # fmt: skip
@settings(max_examples=50)
def test_any_names_and_values_fit(rails, zones, width: int, height: int) -> None:
    sensor = SensorNow("s", tuple(w(name, value, "why") for name, value in rails), (True,) * len(rails), None)
    warm = tuple(of(name, value, "c", "why") for name, value in zones)
    moment = replace(ORIN, sensors=(sensor,), conditions=Conditions(0, warm, warm, warm, throttling=()))
    screen = lines(moment, moment, width=width, height=height)
    assert len(screen) <= height
    assert max(map(cell_len, screen)) <= width


def test_a_line_has_what_one_would_look_for() -> None:
    assert line_of(ORIN) == (
        "0:00:10  7.54 W (sensor_total)  75.2 J  cpu 34 %  gpu 98 %  hottest cpu-thermal 51.2 C  25W  not throttled"
    )
    assert line_of(THROTTLED).endswith("THROTTLED: gpu-throttle-alert")


def test_a_line_tells_the_reason_for_no_watts_when_it_is_new() -> None:
    reason = NO_SENSOR.total.reason
    assert line_of(NO_SENSOR) == f"0:00:03  no watts: {reason}  cpu 12 %"
    assert line_of(NO_SENSOR, NO_SENSOR) == "0:00:03  no watts  cpu 12 %"
    assert f"no watts: {reason}" in line_of(NO_SENSOR, ORIN)


def test_the_end_is_told_in_a_line() -> None:
    assert summary_of(ORIN) == "0:00:10: 75.2 J, mean 7.50 W, from 7.10 to 8.00 W (sensor_total); not throttled"
    assert summary_of(THROTTLED).endswith("; throttled: gpu-throttle-alert, cpu-throttle-alert")
    assert summary_of(NO_SENSOR) == f"0:00:03: no energy: {NO_SENSOR.total.reason}"
    gaps = summary_of(replace(ORIN, gaps=1, measured_s=6.0))
    assert "1 gap: a value for 0:00:06 of it" in gaps


def test_figures_have_their_units() -> None:
    assert [watts(value) for value in (0.0123, 4.784, 99.994, 128.22)] == ["0.01", "4.78", "99.99", "128.2"]
    assert (joules(75.24), joules(3600), joules(9000)) == ("75.2 J", "1.00 Wh", "2.50 Wh")
    assert (duration(59.9), duration(3723)) == ("0:00:59", "1:02:03")
