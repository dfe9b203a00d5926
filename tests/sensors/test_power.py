"""Opening a machine's power sensors: the board's own, a named one beside them, and those that are not there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import MissingDependencyError, SensorError, UsageError
from edge_sdk.sensors import power as power_module
from edge_sdk.sensors.base import Absent, Channel, Driver, Sensor, Value, Wanted, driver_of
from edge_sdk.sensors.gauge import Gauge
from edge_sdk.sensors.power import Power, open_power
from edge_sdk.shell import NoShell
from edge_sdk.targets import Rail, Target, load

MakeTree = Callable[[Mapping[str, Any]], Path]
METER = {"/sys/class/hwmon/hwmon9/name": "ina226\n", "/sys/class/hwmon/hwmon9/power1_input": "6000000\n"}


def board(*rails: Rail) -> Target:
    """An Orin Nano with other rails."""
    return dataclasses.replace(load("jetson-orin-nano"), rails=rails)


class Meter:
    """A sensor that always gives 5 W and remembers that it was closed."""

    name = "meter"
    refresh_s = 1.0

    def __init__(self, rails: Sequence[Rail]) -> None:
        self.channels = tuple(Channel(rail.name, "power", "sensor_total", rail.in_total) for rail in rails)
        self.closed = 0

    def read(self) -> Sequence[Value]:
        return [5.0] * len(self.channels)

    def close(self) -> None:
        self.closed += 1


class MeterDriver:
    """Opens a `Meter`, or raises."""

    usage = "meter  a meter"

    def __init__(self, name: str = "meter", error: Exception | None = None) -> None:
        self.name = name
        self.error = error
        self.wanted: list[Wanted] = []
        self.opened: list[Meter] = []

    def open(self, wanted: Wanted) -> Sensor:
        self.wanted.append(wanted)
        if self.error is not None:
            raise self.error
        rails = wanted.rails or (Rail("meter", self.name, wanted.address, in_total=True),)
        self.opened.append(Meter(rails))
        return self.opened[-1]


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes these the drivers that there are."""

    def only(*those: Driver) -> None:
        monkeypatch.setattr(power_module, "driver_of", {driver.name: driver for driver in those}.get)

    return only


class TestABoard:
    def test_each_driver_gets_its_own_rails_and_the_first_with_a_total_is_the_main_one(
        self, have: Callable[..., None], tmp_path: Path
    ) -> None:
        one, two = MeterDriver("one"), MeterDriver("two")
        have(one, two)
        rails = (
            Rail("A", "one", "a", in_total=False),
            Rail("B", "two", "b", in_total=True),
            Rail("C", "one", "c", in_total=False),
        )
        with open_power(target=board(*rails), root=tmp_path) as power:
            assert [wanted.rails for wanted in one.wanted + two.wanted] == [(rails[0], rails[2]), (rails[1],)]
            assert power.main is two.opened[0]
            assert power.reason is None
            assert power.covers == str(load("jetson-orin-nano").fact("power_covers"))
            assert all(isinstance(wanted.shell, NoShell) for wanted in one.wanted)
            assert {wanted.root for wanted in one.wanted} == {tmp_path}
        assert (one.opened[0].closed, two.opened[0].closed) == (1, 1)

    def test_a_driver_that_this_version_lacks_leaves_its_rails_without_a_value(self, tmp_path: Path) -> None:
        rails = (Rail("VIN", "ina999", "*", in_total=True), Rail("X", "ina999", "x", in_total=False))
        with open_power(target=board(*rails), root=tmp_path) as power:
            assert power.reason is not None
            assert power.reason.startswith("ina999: no such sensor; there are ")
            assert power.main is not None
            reads = Gauge(power.main).read()
            assert [one.name for one in reads.channels] == ["VIN", "X"]
            assert reads.total.value is None
            assert reads.total.reason == f"VIN ({power.reason})"

    @pytest.mark.parametrize("error", [SensorError("no chip"), MissingDependencyError("no chip")])
    def test_one_that_is_not_there_or_not_installed_is_no_error(
        self, have: Callable[..., None], tmp_path: Path, error: Exception
    ) -> None:
        one, two = MeterDriver("one", error), MeterDriver("two")
        have(one, two)
        rails = (Rail("A", "one", "a", in_total=False), Rail("B", "two", "b", in_total=True))
        with open_power(target=board(*rails), root=tmp_path) as power:
            assert power.reason is None  # what is missing is no part of the total
            assert power.sensors[0].read() == (Absent("no chip"),)
            assert power.main is two.opened[0]

    def test_without_rails_it_says_that_it_has_no_sensor(self, tmp_path: Path) -> None:
        with open_power(target=load("raspberry-pi-zero-2-w"), root=tmp_path) as power:
            assert (power.sensors, power.main, power.covers) == ((), None, None)
            assert power.reason == (
                "Raspberry Pi Zero 2 W has no sensor of its own power that this version knows; "
                "name a meter with --sensor"
            )

    def test_a_module_whose_rails_are_no_total_has_none(self, captured_board: Callable[[str], Path]) -> None:
        with open_power(target=load("jetson-t5000"), root=captured_board("agx_thor")) as power:
            assert power.main is None
            assert power.reason is not None
            assert "has no sensor of its own power" in power.reason
            assert [channel.name for channel in power.sensors[0].channels] == [
                "VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0",
            ]  # fmt: skip

    def test_options_go_to_the_driver_of_the_total(self, have: Callable[..., None], tmp_path: Path) -> None:
        one, two = MeterDriver("one"), MeterDriver("two")
        have(one, two)
        rails = (Rail("A", "one", "a", in_total=False), Rail("B", "two", "b", in_total=True))
        open_power(target=board(*rails), root=tmp_path, options={"fit": "published"}).close()
        assert (one.wanted[0].options, two.wanted[0].options) == ({}, {"fit": "published"})

    def test_an_option_that_means_nothing_there_is_wrong_usage_and_leaves_nothing_open(
        self, captured_board: Callable[[str], Path]
    ) -> None:
        root = captured_board("agx_thor")
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(UsageError, match="no such sensor option: fit"):
            open_power(target=load("jetson-agx-thor"), root=root, options={"fit": "published"})
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_the_machine_itself_is_asked_where_nobody_says_which(
        self, captured_board: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EDGE_SDK_ROOT", str(captured_board("agx_thor")))
        with open_power() as power:
            assert power.main is not None
            assert Gauge(power.main).read().total.value == pytest.approx(28.222)


class TestANamedSensor:
    def test_it_gives_the_total_and_the_boards_own_are_read_beside_it(
        self, captures: Mapping[str, Any], make_tree: MakeTree
    ) -> None:
        root = make_tree(captures["orin_nano_super_jp6"] | METER)
        with open_power("ina2xx", target=load("jetson-orin-nano"), root=root) as power:
            assert [sensor.name for sensor in power.sensors] == ["ina226", "ina3221"]
            assert power.main is power.sensors[0]
            reading = Gauge(power.main).read().total
            assert (reading.value, reading.method) == (6.0, "external")
            assert not any(channel.in_total for channel in power.sensors[1].channels)
            assert power.sensors[1].read()[0] == pytest.approx(4.78464)
            assert (power.reason, power.covers) == (None, None)

    def test_its_address_stands_after_the_colon_and_may_have_more(
        self, have: Callable[..., None], tmp_path: Path
    ) -> None:
        meter = MeterDriver()
        have(meter)
        open_power("meter:host:80/x", target=board(), root=tmp_path, options={"a": "b"}).close()
        assert (meter.wanted[0].address, meter.wanted[0].rails, meter.wanted[0].options) == (
            "host:80/x", (), {"a": "b"},
        )  # fmt: skip

    def test_one_that_nobody_knows_is_wrong_usage_that_lists_the_known(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"joulescope: no such sensor; there are .*ina2xx"):
            open_power("joulescope:1", target=board(), root=tmp_path)

    def test_one_that_cannot_be_opened_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(SensorError, match="no INA2xx module here"):
            open_power("ina2xx", target=board(), root=tmp_path)

    def test_it_needs_nothing_of_the_boards_own(self, have: Callable[..., None], tmp_path: Path) -> None:
        meter, broken = MeterDriver(), MeterDriver("broken", SensorError("no chip"))
        have(meter, broken)
        rails = (Rail("A", "broken", "a", in_total=True),)
        with open_power("meter", target=board(*rails), root=tmp_path) as power:
            assert power.reason is None
            assert power.main is meter.opened[0]

    def test_it_is_closed_where_one_of_the_boards_own_fails_for_good(
        self, have: Callable[..., None], tmp_path: Path
    ) -> None:
        meter, broken = MeterDriver(), MeterDriver("broken", RuntimeError("a bug"))
        have(meter, broken)
        with pytest.raises(RuntimeError, match="a bug"):
            open_power("meter", target=board(Rail("A", "broken", "a", in_total=True)), root=tmp_path)
        assert meter.opened[0].closed == 1


def test_closing_closes_every_sensor_though_one_of_them_fails() -> None:
    class Stubborn(Meter):
        def close(self) -> None:
            raise OSError("no")

    first, last = Meter(()), Meter(())
    with pytest.raises(OSError, match="no"):
        Power([first, Stubborn(()), last], None).close()
    assert (first.closed, last.closed) == (1, 1)


def test_the_real_drivers_are_what_it_opens() -> None:
    assert power_module.driver_of is driver_of
