"""TI's one-channel monitors: a board's own, and a module that a user names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors.base import Absent, Wanted, drivers, total
from edge_sdk.sensors.ina2xx import CHIPS, DRIVERS, Ina2xxSensor
from edge_sdk.targets import Rail, load

MakeTree = Callable[[Mapping[str, Any]], Path]
INA238, INA232, METER = DRIVERS
VIN = Rail("VIN", "ina238", "*", in_total=True)


def chip(name: str, folder: str = "/sys/class/hwmon/hwmon4", **files: Any) -> dict[str, Any]:
    """A chip's files, by their names."""
    return {f"{folder}/name": f"{name}\n", **{f"{folder}/{file}": text for file, text in files.items()}}


def meter(root: Path, address: str = "", **options: str) -> Ina2xxSensor:
    return METER.open(Wanted(address=address, root=root, options=options))


class TestBoards:
    def test_thors_input_is_its_power_register_in_microwatts(self, captured_board: Callable[[str], Path]) -> None:
        sensor = INA238.open(Wanted((VIN,), root=captured_board("agx_thor")))
        assert sensor.name == "ina238"
        assert sensor.read() == [28.222]
        assert [(one.name, one.method, one.in_total, one.step) for one in sensor.channels] == [
            ("VIN", "sensor_total", True, None)
        ]
        assert sensor.refresh_s == pytest.approx(0.0505, abs=1e-4)
        sensor.close()

    def test_the_ventunos_input(self, captured_board: Callable[[str], Path]) -> None:
        sensor = INA232.open(Wanted(load("arduino-ventuno-q").rails, root=captured_board("ventuno_q_ina232")))
        assert sensor.read() == [8.795]
        assert sensor.channels[0].method == "sensor_total"
        # One step of current is 2.5 uV / 2 mOhm = 1.25 mA, one of power 32 V times that.
        assert sensor.channels[0].step == pytest.approx(0.04)
        assert sensor.refresh_s == pytest.approx(0.0352)
        sensor.close()
        sensor.close()

    def test_without_a_power_file_it_is_volts_times_amps(self, make_tree: MakeTree) -> None:
        root = make_tree(chip("ina238", in1_input="20016", curr1_input="1410"))
        sensor = INA238.open(Wanted((VIN,), root=root))
        assert sensor.read() == [pytest.approx(28.22256)]
        sensor.close()

    def test_two_chips_of_a_kind_are_not_guessed_between(self, make_tree: MakeTree) -> None:
        files = chip("ina238", "/sys/devices/i2c-2/2-0044/hwmon/hwmon1", power1_input="1")
        files |= chip("ina238", "/sys/devices/i2c-7/7-0045/hwmon/hwmon2", power1_input="2000000")
        root = make_tree(files)
        with pytest.raises(SensorError, match="several chips of its kind: on 2-0044, 7-0045"):
            INA238.open(Wanted((VIN,), root=root))
        sensor = INA238.open(Wanted((Rail("VIN", "ina238", "7-0045", in_total=True),), root=root))
        assert sensor.read() == [2.0]
        assert sensor.name == "ina238 7-0045"
        sensor.close()
        with pytest.raises(SensorError, match="on 2-0044, 7-0045, not on 1-0040"):
            INA238.open(Wanted((Rail("VIN", "ina238", "1-0040", in_total=True),), root=root))

    def test_a_chip_that_is_not_there_says_how_to_mend_that(self, tmp_path: Path) -> None:
        with pytest.raises(
            SensorError, match="no INA238 here: its kernel driver is not loaded, this carrier board lacks"
        ):
            INA238.open(Wanted((VIN,), root=tmp_path))

    def test_a_table_may_name_any_chip_of_the_family(self, make_tree: MakeTree) -> None:
        root = make_tree(chip("ina226", power1_input="3000000"))
        rails = (Rail("VIN", "ina2xx", "ina226", in_total=True), Rail("USB", "ina2xx", "1-0041", in_total=False))
        sensor = METER.open(Wanted(rails, root=root))
        assert [(one.name, one.method) for one in sensor.channels] == [
            ("VIN", "sensor_total"),
            ("USB", "sensor_total"),
        ]
        assert sensor.read() == [3.0, Absent("ina2xx:1-0041: it is not there; there are ina226")]
        sensor.close()
        alone = METER.open(Wanted((Rail("VIN", "ina2xx", "*", in_total=True),), root=root))
        assert alone.read() == [3.0]
        alone.close()
        with pytest.raises(SensorError, match="neither a chip"):  # a table that is wrong is no usage of anybody's
            METER.open(Wanted((Rail("VIN", "ina2xx", "ina999", in_total=True),), root=root))

    def test_a_user_names_the_meter_and_not_the_boards_chip(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="a meter of your own is ina2xx:ina238"):
            INA238.open(Wanted(root=tmp_path))
        with pytest.raises(UsageError, match="no such sensor option: shunt_uohm"):
            INA238.open(Wanted((VIN,), root=tmp_path, options={"shunt_uohm": "5"}))


class TestMeter:
    def test_all_are_found_by_being_there(self) -> None:
        assert {"ina238", "ina232", "ina2xx"} <= set(drivers())
        assert all(name in METER.usage for name in CHIPS)

    @pytest.mark.parametrize("name", CHIPS)
    def test_the_only_module_needs_no_address(self, make_tree: MakeTree, name: str) -> None:
        sensor = meter(make_tree(chip(name, power1_input="5250000", curr1_input="1050", in1_input="5000")))
        assert sensor.read() == [5.25]
        assert [(one.name, one.method, one.in_total, one.missing) for one in sensor.channels] == [
            (name, "external", True, None)
        ]
        sensor.close()

    @pytest.mark.parametrize("address", ["ina226", "1-0044", "1-44", "1-0x44", "01-0x0044"])
    def test_one_of_several_is_named_by_chip_or_by_place(self, make_tree: MakeTree, address: str) -> None:
        files = chip("ina226", "/sys/devices/i2c-1/1-0044/hwmon/hwmon1", power1_input="3000000")
        files |= chip("ina219", "/sys/devices/i2c-1/1-0040/hwmon/hwmon2", power1_input="1")
        sensor = meter(make_tree(files), address)
        assert sensor.read() == [3.0]
        assert sensor.channels[0].name == "ina226 1-0044"
        sensor.close()

    def test_of_several_none_is_taken_unasked(self, make_tree: MakeTree) -> None:
        files = chip("ina226", "/sys/devices/i2c-1/1-0044/hwmon/hwmon1", power1_input="3000000")
        files |= chip("ina219", "/sys/devices/i2c-1/1-0040/hwmon/hwmon2", power1_input="1")
        with pytest.raises(UsageError, match="several chips: ina219 1-0040, ina226 1-0044; say which one"):
            meter(make_tree(files))

    def test_what_is_not_there_is_an_error_that_names_what_is(self, make_tree: MakeTree, tmp_path: Path) -> None:
        root = make_tree(chip("ina226", power1_input="1"))
        with pytest.raises(SensorError, match="ina2xx:1-0040: it is not there; there are ina226"):
            meter(root, "1-0040")
        with pytest.raises(SensorError, match="ina2xx:ina219: it is not there; there are ina226"):
            meter(root, "ina219")
        with pytest.raises(SensorError, match=r"no INA2xx module here; .*echo ina226 0x40 \| sudo tee"):
            meter(tmp_path)

    @pytest.mark.parametrize("address", ["ina999", "hwmon4", "1", "1-0040/x", "-"])
    def test_a_name_that_means_nothing_is_wrong_usage(self, make_tree: MakeTree, address: str) -> None:
        with pytest.raises(UsageError, match=r"neither a chip .* nor an I2C device such as 1-0040"):
            meter(make_tree(chip("ina226", power1_input="1")), address)


class TestShunt:
    def test_a_wrong_shunt_is_corrected_by_the_ratio_and_said(self, make_tree: MakeTree) -> None:
        # A UPS board read 1.35 W into a computer that drew 2.73 W: its shunt is 5 mOhm, the driver's default 10.
        files = chip("ina219", power1_input="1350000", in1_input="5000", curr1_input="270", shunt_resistor="10000")
        sensor = meter(make_tree(files), shunt_uohm="5000")
        assert sensor.read() == [pytest.approx(2.7)]
        assert sensor.channels[0].missing == "corrected for a shunt of 5000 uOhm; the kernel's driver has 10000"
        reading = total(sensor.channels, sensor.read(), 0)
        assert (reading.method, reading.reason) == ("external", sensor.channels[0].missing)
        sensor.close()

    def test_without_the_drivers_own_shunt_nothing_is_corrected(self, make_tree: MakeTree) -> None:
        with pytest.raises(
            SensorError, match="shunt_uohm corrects nothing here, because it has no file shunt_resistor"
        ):
            meter(make_tree(chip("ina260", power1_input="1")), shunt_uohm="5000")

    @pytest.mark.parametrize("option", ["0", "-5", "nan", "inf", "5m", "", "1e9"])
    def test_what_is_no_resistance_is_wrong_usage(self, make_tree: MakeTree, option: str) -> None:
        with pytest.raises(UsageError, match="not a resistance in micro-ohms"):
            meter(make_tree(chip("ina219", power1_input="1", shunt_resistor="10000")), shunt_uohm=option)

    @pytest.mark.parametrize(
        ("name", "files", "step"),
        [
            # Power register: 20 V x 10 uV / 100 mOhm; 25 V x 2.5 uV / 10 mOhm.
            ("ina219", {"shunt_resistor": "100000", "in1_input": "5000", "power1_input": "1"}, 0.002),
            ("ina226", {"shunt_resistor": "10000", "in1_input": "12000", "power1_input": "1"}, 0.00625),
            # The chip's own shunt of 2 mOhm: 10 mW.
            ("ina260", {"in1_input": "5000", "power1_input": "1"}, 0.01),
            # At 20 V a step of current, 5 uV / 10 mOhm, is more than one of the power register.
            ("ina238", {"shunt_resistor": "10000", "in1_input": "20000", "power1_input": "1"}, 0.01),
            # Current in whole mA.
            ("ina219", {"shunt_resistor": "100000", "in1_input": "5000", "curr1_input": "1"}, 0.005),
            ("ina238", {"in1_input": "20000", "power1_input": "1"}, None),
            ("ina219", {"shunt_resistor": "0", "in1_input": "5000", "power1_input": "1"}, None),
        ],
    )
    def test_one_step_is_known_where_the_shunt_is(
        self, make_tree: MakeTree, name: str, files: Mapping[str, str], step: float | None
    ) -> None:
        sensor = meter(make_tree(chip(name, **files)))
        assert sensor.channels[0].step == (None if step is None else pytest.approx(step))
        sensor.close()


class TestValues:
    def test_the_power_register_has_no_sign_so_the_current_tells_it(self, make_tree: MakeTree) -> None:
        # What an INA219 shows while its battery is charged: networkupstools/nut#2960.
        files = chip("ina219", power1_input="176000", curr1_input="-40", in1_input="4228", shunt_resistor="100000")
        with pytest.raises(SensorError, match="gives nothing: negative: -40 mA; current flows the other way"):
            meter(make_tree(files))

    @pytest.mark.parametrize(
        ("power", "reason"),
        [
            ("", "power1_input: no number in it: ''"),
            ("-1", "negative: -0.000"),
            ("99000000000", "99000.0 W is out of the chip's range of 677.8 W"),
            ({"errno": "EIO"}, "power1_input: Is a directory (EISDIR)"),
            ({"errno": "EAGAIN"}, "power1_input: power-gated or busy (EAGAIN)"),
        ],
    )
    def test_what_can_be_no_power_is_none_and_says_why(self, make_tree: MakeTree, power: Any, reason: str) -> None:
        broken = make_tree(chip("ina226", power1_input=power, shunt_resistor="5000"))
        with pytest.raises(SensorError) as error:
            meter(broken)
        assert str(error.value) == f"ina226 gives nothing: {reason}"

    def test_a_value_that_goes_comes_back(self, make_tree: MakeTree) -> None:
        root = make_tree(chip("ina226", power1_input="1000000"))
        sensor = meter(root)
        power = root / "sys/class/hwmon/hwmon4/power1_input"
        power.write_text("")
        assert sensor.read() == [Absent("power1_input: no number in it: ''")]
        power.write_text("2000000")
        assert sensor.read() == [2.0]
        sensor.close()

    def test_a_chip_without_power_or_current_is_an_error(self, make_tree: MakeTree) -> None:
        root = make_tree(chip("ina226", in1_input="5000"))
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(SensorError, match=r"ina226: power1_input: gone \(ENOENT\); curr1_input: gone"):
            meter(root)
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    @settings(max_examples=40)
    @given(
        content=st.lists(st.one_of(st.binary(max_size=40), st.integers().map(lambda n: str(n).encode())), min_size=5)
    )
    def test_any_bytes_in_its_files_are_a_power_or_a_reason(
        self, tmp_path_factory: pytest.TempPathFactory, content: list[bytes]
    ) -> None:
        root = tmp_path_factory.mktemp("any")
        folder = root / "sys/class/hwmon/hwmon0"
        folder.mkdir(parents=True)
        (folder / "name").write_text("ina226")
        names = ("power1_input", "curr1_input", "in1_input", "shunt_resistor", "update_interval")
        for name, raw in zip(names, content, strict=False):
            (folder / name).write_bytes(raw)
        try:
            sensor = meter(root)
        except SensorError:
            return
        assert all(isinstance(value, Absent) or 0 <= value < 1e12 for value in sensor.read())
        sensor.close()
