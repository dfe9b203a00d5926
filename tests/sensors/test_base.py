"""What every power sensor shares: plausible values, totals that say what they lack, drivers found by being there."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.result import Method
from edge_sdk.sensors.base import Absent, Channel, Value, Wanted, driver_of, drivers, missing_driver, plausible, total
from edge_sdk.targets import load_all


def channel(name: str, in_total: bool = True, method: Method = "sensor_total", missing: str | None = None) -> Channel:
    return Channel(name, "power", method, in_total, missing=missing)


class TestPlausible:
    @pytest.mark.parametrize("value", [0.0, 1e-9, 4.785, 1e6])
    def test_a_power_is_a_finite_number_that_is_not_negative(self, value: float) -> None:
        assert plausible(value) == value

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (math.nan, "not a number: nan"),
            (math.inf, "not a number: inf"),
            (-math.inf, "not a number: -inf"),
            (-0.392, "negative: -0.392"),
        ],
    )
    def test_what_is_none_says_why(self, value: float, reason: str) -> None:
        assert plausible(value) == Absent(reason)

    @given(st.floats())
    def test_any_float_is_itself_or_absent(self, value: float) -> None:
        found = plausible(value)
        assert isinstance(found, Absent) or (found == value >= 0 and math.isfinite(found))


class TestTotal:
    def test_is_the_sum_over_what_is_in_it_and_nothing_else(self) -> None:
        reading = total([channel("A"), channel("B"), channel("C", in_total=False)], [1.0, 2.0, 4.0], 7)
        assert (reading.name, reading.value, reading.unit, reading.at_ns) == ("board", 3.0, "w", 7)
        assert (reading.method, reading.reason) == ("sensor_total", None)

    def test_without_one_of_its_parts_it_is_partial_and_names_it(self) -> None:
        reading = total([channel("A"), channel("B")], [1.0, Absent("disabled")], 0)
        assert (reading.value, reading.method, reading.reason) == (1.0, "sensor_partial", "without B (disabled)")

    def test_a_channel_that_is_in_no_total_leaves_it_whole(self) -> None:
        reading = total([channel("A"), channel("B", in_total=False)], [1.0, Absent("disabled")], 0)
        assert (reading.value, reading.method, reading.reason) == (1.0, "sensor_total", None)

    def test_without_any_of_its_parts_there_is_none_and_both_reasons_are_told(self) -> None:
        reading = total([channel("A"), channel("B")], [Absent("gone"), Absent("gated")], 0)
        assert (reading.value, reading.method) == (None, None)
        assert reading.reason == "A (gone), B (gated)"

    def test_parts_that_lack_for_one_reason_are_named_together(self) -> None:
        reading = total([channel("A"), channel("B"), channel("C")], [Absent("gone"), 1.0, Absent("gone")], 0)
        assert reading.reason == "without A, C (gone)"

    def test_a_sensor_that_is_no_total_says_so(self) -> None:
        reading = total([channel("A", in_total=False)], [1.0], 0)
        assert (reading.value, reading.reason) == (None, "no channel of this sensor is the board's total")

    def test_what_is_known_to_be_missing_is_told_once(self) -> None:
        reading = total([channel("A", missing="the 5 V rail"), channel("B", missing="the 5 V rail")], [1.0, 2.0], 0)
        assert (reading.method, reading.reason) == ("sensor_total", "the 5 V rail")

    def test_what_lacks_stands_before_what_is_missing(self) -> None:
        channels = [channel("A", method="fit", missing="losses"), channel("B", method="fit")]
        reading = total(channels, [1.0, Absent("gone")], 0)
        assert (reading.method, reading.reason) == ("sensor_partial", "without B (gone); losses")

    @given(st.lists(st.tuples(st.booleans(), st.one_of(st.none(), st.floats(0, 1e6))), max_size=6))
    def test_a_total_never_holds_more_or_less_than_its_present_parts(
        self, parts: list[tuple[bool, float | None]]
    ) -> None:
        channels = [channel(str(index), in_total=in_total) for index, (in_total, _) in enumerate(parts)]
        values: list[Value] = [Absent("gone") if value is None else value for _, value in parts]
        reading = total(channels, values, 0)
        present = [value for in_total, value in parts if in_total and value is not None]
        assert reading.value == (sum(present) if present else None)
        lacks = any(in_total and value is None for in_total, value in parts)
        assert (reading.method == "sensor_partial") == (lacks and bool(present))
        assert (reading.reason is None) == (bool(present) and not lacks)


class TestOptions:
    def test_a_known_option_is_taken(self) -> None:
        Wanted(options={"fit": "published"}).check_options("fit", "other")

    @pytest.mark.parametrize(
        ("known", "words"),
        [((), "there are none"), (("fit",), "there is fit"), (("slope", "fit"), "there are fit, slope")],
    )
    def test_an_unknown_one_is_wrong_usage_that_lists_the_known(self, known: tuple[str, ...], words: str) -> None:
        with pytest.raises(UsageError, match=f"no such sensor option: fti; {words}$"):
            Wanted(options={"fti": "published"}).check_options(*known)

    def test_nobody_changes_the_options_of_all(self) -> None:
        with pytest.raises(TypeError):
            Wanted().options["fit"] = "x"  # type: ignore[index]


class TestDrivers:
    def test_every_one_is_there_under_its_name_with_a_line_for_users(self) -> None:
        found = drivers()
        assert {"ina3221", "ina238", "ina232", "ina2xx", "power_supply", "tegrastats"} <= set(found)
        for name, driver in found.items():
            assert driver.name == name
            assert driver.usage.startswith(name)
            assert "  " in driver.usage
            assert "\n" not in driver.usage

    def test_every_driver_that_a_board_names_is_there(self) -> None:
        named = {rail.driver for target in load_all().values() for rail in target.rails}
        assert named <= set(drivers())

    def test_one_is_found_without_the_others(self) -> None:
        assert all(driver_of(name) is driver for name, driver in drivers().items())
        assert driver_of("joulescope") is driver_of("base") is driver_of("no.module") is driver_of("") is None
        code = (
            "import sys; from edge_sdk.sensors.base import driver_of; driver_of('ina3221')\n"
            "assert not {'http.client', 'edge_sdk.sensors.shelly'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_the_list_cannot_be_changed(self) -> None:
        with pytest.raises(TypeError):
            drivers()["mine"] = None  # type: ignore[index]

    def test_one_that_is_not_there_is_an_error_that_lists_those_that_are(self) -> None:
        error = missing_driver("joulescope")
        assert isinstance(error, SensorError)
        assert str(error).startswith("joulescope: no such sensor; there are ")
        assert "ina3221" in str(error)
