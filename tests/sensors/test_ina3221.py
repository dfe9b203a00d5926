"""The INA3221 under both of its drivers, on captured boards and on trees that go wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk import targets
from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors.base import Absent, Value, Wanted, total
from edge_sdk.sensors.ina3221 import DRIVER, REFRESH_S, Ina3221Sensor, assign, labels_of
from edge_sdk.targets import Rail

MakeTree = Callable[[Mapping[str, Any]], Path]
HWMON = "/sys/class/hwmon/hwmon1"
IN = Rail("VDD_IN", "ina3221", "1-0040/VDD_IN", in_total=True)
SOC = Rail("VDD_SOC", "ina3221", "1-0040/VDD_SOC", in_total=False)


def chip(folder: str = HWMON, **channels: tuple[str, str | None, str | None]) -> dict[str, Any]:
    """The files of a chip: (label, mV, mA) of in1, in2 and in3, and None for a file that is not there."""
    files: dict[str, Any] = {f"{folder}/name": "ina3221\n"}
    for name, (label, volts, amps) in channels.items():
        index = name[-1]
        files[f"{folder}/in{index}_label"] = f"{label}\n"
        files |= {f"{folder}/in{index}_input": volts} if volts is not None else {}
        files |= {f"{folder}/curr{index}_input": amps} if amps is not None else {}
    return files


def opened(root: Path, *rails: Rail) -> Ina3221Sensor:
    return DRIVER.open(Wanted(rails or (IN, SOC), root=root))


def by_name(sensor: Ina3221Sensor) -> dict[str, Value]:
    return dict(zip((channel.name for channel in sensor.channels), sensor.read(), strict=True))


def rails_of(name: str) -> tuple[Rail, ...]:
    return tuple(rail for rail in targets.load(name).rails if rail.driver == "ina3221")


class TestCapturedBoards:
    def test_watts_are_volts_times_amps_of_each_channel(self, captured_board: Callable[[str], Path]) -> None:
        sensor = opened(captured_board("orin_nano_super_jp6"), *rails_of("jetson-orin-nano"))
        assert by_name(sensor) == {
            "VDD_IN": pytest.approx(4.984 * 0.960),
            "VDD_CPU_GPU_CV": pytest.approx(4.976 * 0.120),
            "VDD_SOC": pytest.approx(4.976 * 0.304),
        }
        sensor.close()

    def test_two_chips_are_one_sensor_that_knows_both_addresses(self, captured_board: Callable[[str], Path]) -> None:
        sensor = opened(captured_board("agx_orin_jp6"), *rails_of("jetson-agx-orin"))
        assert sensor.name == "ina3221 1-0040, 1-0041"
        assert [channel.name for channel in sensor.channels] == [
            "VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO",
        ]  # fmt: skip
        assert total(sensor.channels, sensor.read(), 0).value == pytest.approx(3.36224 + 0.48032 + 4.86864)
        sensor.close()

    def test_nobody_reads_the_sum_of_shunt_voltages_or_what_is_not_connected(
        self, captured_board: Callable[[str], Path]
    ) -> None:
        sensor = opened(captured_board("agx_orin_jp6"), *rails_of("jetson-agx-orin"))
        assert not {"NC", "sum of shunt voltages"} & set(by_name(sensor))
        assert {path.name for path in opened_paths()} == {
            f"{kind}{n}_input" for kind in ("in", "curr") for n in (1, 2, 3)
        }
        sensor.close()

    def test_a_disabled_channel_has_no_value_and_says_so(self, captured_board: Callable[[str], Path]) -> None:
        sensor = opened(captured_board("agx_orin_channel_disabled"), *rails_of("jetson-agx-orin"))
        value = by_name(sensor)["VIN_SYS_5V0"]
        assert isinstance(value, Absent)
        assert value.reason == "disabled: in3_label is there, in3_input is not"
        reading = total(sensor.channels, sensor.read(), 0)
        assert reading.method == "sensor_partial"
        assert reading.value == pytest.approx(2.63088 + 0.37568)
        assert reading.reason is not None
        assert reading.reason.startswith("without VIN_SYS_5V0 (disabled")
        sensor.close()

    def test_jetpack_4_gives_power_itself(self, captured_board: Callable[[str], Path]) -> None:
        sensor = opened(captured_board("jetson_jp4_iio"), *rails_of("jetson-tx2"))
        assert sensor.name == "ina3221 0-0041"
        assert by_name(sensor)["VDD_IN"] == 4.321
        missing = by_name(sensor)["VDD_SYS_CPU"]
        assert missing == Absent("no channel of this name; there are VDD_IN")
        sensor.close()

    def test_closing_leaves_no_descriptor(self, captured_board: Callable[[str], Path]) -> None:
        root = captured_board("agx_orin_jp6")
        before = len(opened_paths())
        sensor = opened(root, *rails_of("jetson-agx-orin"))
        during = len(opened_paths())
        for _ in range(3):
            sensor.read()
        assert (during - before, len(opened_paths())) == (8, during)
        sensor.close()
        sensor.close()
        assert len(opened_paths()) == before


def opened_paths() -> list[Path]:
    """What this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(link.readlink())
        except OSError:
            continue  # the listing itself
    return [path for path in found if "/sys/" in str(path)]


class TestJetpack4:
    FOLDER = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"

    def test_a_nano_has_its_total_there(self, make_tree: MakeTree) -> None:
        names = ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")
        files = {f"{self.FOLDER}/rail_name_{k}": f"{name}\n" for k, name in enumerate(names)}
        files |= {f"{self.FOLDER}/in_power{k}_input": f"{mw}\n" for k, mw in enumerate((1750, 0, 366))}
        sensor = opened(make_tree(files), *rails_of("jetson-nano"))
        assert list(by_name(sensor).values()) == [1.75, 0.0, 0.366]
        assert total(sensor.channels, sensor.read(), 0).value == 1.75
        sensor.close()

    def test_without_a_power_file_it_is_volts_times_amps(self, make_tree: MakeTree) -> None:
        files = {"rail_name_0": "VDD_IN", "in_voltage0_input": "5000", "in_current0_input": "864"}
        sensor = opened(make_tree({f"{self.FOLDER}/{name}": text for name, text in files.items()}))
        assert by_name(sensor)["VDD_IN"] == pytest.approx(4.32)
        sensor.close()

    @pytest.mark.parametrize("label", ["NC", "(null)", "", "NC_2"])
    def test_a_channel_that_is_not_connected_is_left_out(self, make_tree: MakeTree, label: str) -> None:
        files = {"rail_name_0": "VDD_IN", "in_power0_input": "1", "rail_name_1": label, "in_power1_input": "9999"}
        sensor = opened(make_tree({f"{self.FOLDER}/{name}": text for name, text in files.items()}), IN)
        assert [channel.name for channel in sensor.channels] == ["VDD_IN"]
        sensor.close()

    def test_a_power_beyond_the_chip_is_none(self, make_tree: MakeTree) -> None:
        files = {"rail_name_0": "VDD_IN", "in_power0_input": "1000000000", "rail_name_1": "X", "in_power1_input": "1"}
        sensor = opened(make_tree({f"{self.FOLDER}/{name}": text for name, text in files.items()}))
        assert by_name(sensor)["VDD_IN"] == Absent("1000000000 mW is out of the chip's range")
        sensor.close()

    def test_release_names_of_a_tx2_are_the_rails_of_its_table(self, make_tree: MakeTree) -> None:
        names = {"0-0040": ("VDD_GPU", "VDD_SOC", "VDD_WIFI"), "0-0041": ("VDD_IN", "VDD_CPU", "VDD_DDR")}
        files = {}
        for place, (device, labels) in enumerate(names.items()):
            for k, label in enumerate(labels):
                folder = f"/sys/bus/i2c/drivers/ina3221x/{device}/iio:device{place}"
                files |= {f"{folder}/rail_name_{k}": label, f"{folder}/in_power{k}_input": str(1000 * (3 * place + k))}
        sensor = opened(make_tree(files), *rails_of("jetson-tx2"))
        assert by_name(sensor) == {
            "VDD_IN": 3.0, "VDD_SYS_CPU": 4.0, "VDD_SYS_GPU": 0.0, "VDD_SYS_SOC": 1.0, "VDD_SYS_DDR": 5.0,
            "VDD_4V0_WIFI": 2.0,
        }  # fmt: skip
        assert [channel.name for channel in sensor.channels if channel.in_total] == ["VDD_IN"]
        sensor.close()


class TestValues:
    @pytest.mark.parametrize(
        ("volts", "amps", "reason"),
        [
            ("19650", "-20", "negative: -0.393"),
            ("5000", "1000000000", "1000000000 mA is out of the chip's range of 163801 mA"),
            ("999999", "100", "999999 mV is out of the chip's range of 0 to 26000 mV"),
            ("-8", "100", "-8 mV is out of the chip's range of 0 to 26000 mV"),
            ("", "100", "in1_input: no number in it: ''"),
            ("nan", "100", "in1_input: no number in it: 'nan'"),
            (None, "100", "in1_input: gone (ENOENT)"),
            ("5000", None, "curr1_input: gone (ENOENT)"),
            ("5000", {"errno": "EIO"}, "curr1_input: Is a directory (EISDIR)"),
            ({"errno": "EAGAIN"}, "100", "in1_input: power-gated or busy (EAGAIN)"),
        ],
    )
    def test_what_can_be_no_power_is_none_and_says_why(
        self, make_tree: MakeTree, volts: Any, amps: Any, reason: str
    ) -> None:
        sensor = opened(make_tree(chip(in1=("VDD_IN", volts, amps), in2=("VDD_SOC", "4976", "304"))))
        assert by_name(sensor) == {"VDD_IN": Absent(reason), "VDD_SOC": pytest.approx(1.512704)}
        sensor.close()

    def test_the_range_of_current_is_that_of_the_shunt(self, make_tree: MakeTree) -> None:
        files = chip(in1=("VDD_IN", "5000", "40000"), in2=("VDD_SOC", "5000", "1"))
        sensor = opened(make_tree(files | {f"{HWMON}/shunt1_resistor": "5000"}))
        assert by_name(sensor)["VDD_IN"] == Absent("40000 mA is out of the chip's range of 32761 mA")
        sensor.close()

    def test_a_value_that_goes_comes_back(self, make_tree: MakeTree) -> None:
        root = make_tree(chip(in1=("VDD_IN", "5000", "1000"), in2=("VDD_SOC", "5000", "1")))
        sensor = opened(root)
        current = root / HWMON.lstrip("/") / "curr1_input"
        current.write_text("")
        assert isinstance(by_name(sensor)["VDD_IN"], Absent)
        current.write_text("2000")
        assert by_name(sensor)["VDD_IN"] == 10.0
        sensor.close()

    @settings(max_examples=40)
    @given(
        content=st.lists(st.one_of(st.binary(max_size=40), st.integers().map(lambda n: str(n).encode())), min_size=6)
    )
    def test_any_bytes_in_its_files_are_a_power_or_a_reason(
        self, tmp_path_factory: pytest.TempPathFactory, content: list[bytes]
    ) -> None:
        root = tmp_path_factory.mktemp("any")
        folder = root / HWMON.lstrip("/")
        folder.mkdir(parents=True)
        (folder / "name").write_text("ina3221")
        names = ("in1_label", "in1_input", "curr1_input", "shunt1_resistor", "update_interval", "in2_label")
        for name, raw in zip(names, content, strict=False):
            (folder / name).write_bytes(raw)
        try:
            sensor = opened(root)
        except SensorError:
            return
        assert 0 < sensor.refresh_s <= 60
        assert all(isinstance(value, Absent) or 0 <= value <= 26 * 163_801 * 1000 for value in sensor.read())
        sensor.close()


class TestStepsAndRefresh:
    @pytest.mark.parametrize(("shunt", "step"), [("2000", 0.39300), ("5000", 0.15720), ("0", None), ("x", None)])
    def test_one_step_is_40_uv_over_the_shunt_at_the_voltage_that_is_there(
        self, make_tree: MakeTree, shunt: str, step: float | None
    ) -> None:
        files = chip(in1=("VDD_IN", "19650", "100")) | {f"{HWMON}/shunt1_resistor": shunt}
        sensor = opened(make_tree(files))
        assert sensor.channels[0].step == (None if step is None else pytest.approx(step))
        sensor.close()

    def test_without_the_shunt_no_step_is_known(self, captured_board: Callable[[str], Path]) -> None:
        sensor = opened(captured_board("agx_thor"), *rails_of("jetson-agx-thor"))
        assert {channel.step for channel in sensor.channels} == {None}
        sensor.close()

    def test_the_driver_tells_the_refresh_and_else_it_is_that_of_an_orin_nano(self, make_tree: MakeTree) -> None:
        files = chip(in1=("VDD_IN", "5000", "100"))
        told, silent = opened(make_tree(files | {f"{HWMON}/update_interval": "20\n"})), opened(make_tree(files))
        assert (told.refresh_s, silent.refresh_s) == (0.02, REFRESH_S)
        assert pytest.approx(1 / 77) == REFRESH_S
        told.close()
        silent.close()

    def test_the_slowest_chip_of_the_total_sets_it(self, make_tree: MakeTree) -> None:
        other = "/sys/class/hwmon/hwmon2"
        files = chip(in1=("VDD_IN", "5000", "100")) | {f"{HWMON}/update_interval": "20"}
        files |= chip(other, in1=("VDD_SOC", "5000", "1")) | {f"{other}/update_interval": "500"}
        sensor = opened(make_tree(files))
        assert sensor.refresh_s == 0.02
        sensor.close()
        both = opened(make_tree(files), IN, Rail("VDD_SOC", "ina3221", "VDD_SOC", in_total=True))
        assert both.refresh_s == 0.5
        both.close()


class TestRails:
    def test_a_rail_that_is_not_there_stays_and_names_what_is(self, make_tree: MakeTree) -> None:
        sensor = opened(make_tree(chip(in1=("VDD_SOC", "5000", "100"), in2=("VDD_OTHER", "5000", "1"))))
        assert by_name(sensor)["VDD_IN"] == Absent("no channel of this name; there are VDD_SOC, VDD_OTHER")
        reading = total(sensor.channels, sensor.read(), 0)
        assert (reading.value, reading.method) == (None, None)
        sensor.close()

    def test_a_channel_that_the_table_lacks_is_read_and_never_in_the_total(self, make_tree: MakeTree) -> None:
        files = chip(in1=("VDD_IN", "5000", "1000"), in2=("USER_RAIL", "5000", "100"))
        sensor = opened(make_tree(files), IN)
        assert [(channel.name, channel.in_total) for channel in sensor.channels] == [
            ("VDD_IN", True), ("USER_RAIL", False),
        ]  # fmt: skip
        assert total(sensor.channels, sensor.read(), 0).value == 5.0
        sensor.close()

    def test_a_chip_whose_channels_have_no_labels_is_read_by_number(self, make_tree: MakeTree) -> None:
        other = "/sys/class/hwmon/hwmon2"
        files = chip(in1=("VDD_IN", "5000", "1000")) | {f"{other}/name": "ina3221"}
        files |= {f"{other}/in2_input": "3300", f"{other}/curr2_input": "100"}
        sensor = opened(make_tree(files), IN)
        assert by_name(sensor) == {"VDD_IN": 5.0, "channel 2": pytest.approx(0.33)}
        sensor.close()

    def test_channels_of_one_name_stay_apart(self, make_tree: MakeTree) -> None:
        bus = "/sys/devices/i2c-1"
        files = {}
        for number, device in enumerate(("1-0040", "1-0041")):
            files |= chip(f"{bus}/{device}/hwmon/hwmon{number}", in1=("VDD_IN", "5000", str(1000 + number)))
        sensor = opened(make_tree(files), IN)
        assert by_name(sensor) == {"VDD_IN": 5.0, "VDD_IN (1-0041)": pytest.approx(5.005)}
        sensor.close()


class TestAssign:
    def test_the_chips_address_decides_between_equal_labels(self) -> None:
        assert assign([IN], [("1-0041", "VDD_IN"), ("1-0040", "VDD_IN")]) == [1]

    def test_a_chip_at_another_address_is_not_it(self) -> None:
        assert assign([IN], [("1-0045", "VDD_IN")]) == ["VDD_IN is on 1-0045, not on 1-0040"]

    def test_the_number_of_the_bus_may_differ(self) -> None:
        assert assign([IN], [("7-0040", "VDD_IN")]) == [0]
        assert assign([IN], [("7-0040", "VDD_IN"), ("1-0040", "VDD_IN")]) == [1]

    def test_two_that_fit_alike_are_none(self) -> None:
        assert assign([IN], [("7-0040", "VDD_IN"), ("8-0040", "VDD_IN")]) == [
            "several channels are called VDD_IN: on 7-0040, 8-0040"
        ]

    def test_a_tree_that_does_not_tell_addresses_matches_by_label(self) -> None:
        assert assign([IN, SOC], [(None, "VDD_SOC"), (None, "vdd_in")]) == [1, 0]

    def test_a_label_alone_is_on_any_chip(self) -> None:
        assert assign([Rail("X", "ina3221", "VDD_IN", in_total=True)], [("3-0042", "VDD_IN")]) == [0]

    def test_no_channel_is_two_rails(self) -> None:
        rails = [Rail("A", "ina3221", "A|B", in_total=True), Rail("B", "ina3221", "B", in_total=True)]
        assert assign(rails, [(None, "B")]) == [0, "no channel of this name; there are B"]

    def test_the_first_name_of_a_rail_goes_before_the_others(self) -> None:
        rail = Rail("VDD_SYS_CPU", "ina3221", "0-0041/VDD_SYS_CPU|VDD_CPU", in_total=False)
        assert labels_of(rail) == ("VDD_SYS_CPU", "VDD_CPU")
        assert assign([rail], [(None, "VDD_CPU"), (None, "VDD_SYS_CPU")]) == [1]
        assert labels_of(Rail("VIN", "ina238", "*", in_total=True)) == ("VIN",)

    @given(
        rails=st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["", "1-0040/", "1-0041/"])), max_size=5),
        found=st.lists(st.tuples(st.sampled_from([None, "1-0040", "2-0041"]), st.text(max_size=3)), max_size=5),
    )
    def test_every_rail_has_a_channel_of_its_own_or_a_reason(
        self, rails: Sequence[tuple[str, str]], found: Sequence[tuple[str | None, str]]
    ) -> None:
        table = [Rail(name, "ina3221", f"{place}{name}", in_total=True) for name, place in rails]
        given_ = assign(table, found)
        indices = [one for one in given_ if isinstance(one, int)]
        assert len(given_) == len(table)
        assert len(set(indices)) == len(indices)
        assert all(one for one in given_ if isinstance(one, str))


class TestOpening:
    def test_without_a_chip_it_says_how_to_mend_that(self, tmp_path: Path) -> None:
        with pytest.raises(SensorError, match="no INA3221 here: its kernel driver is not loaded, or a container hides"):
            opened(tmp_path)

    def test_a_chip_that_gives_nothing_is_an_error_and_leaves_nothing_open(self, make_tree: MakeTree) -> None:
        root = make_tree(chip(in1=("VDD_IN", "", ""), in2=("VDD_SOC", "5000", {"errno": "EIO"})))
        before = len(opened_paths())
        with pytest.raises(SensorError, match=r"ina3221 gives nothing: in1_input: no number in it: ''; curr2_input"):
            opened(root)
        assert len(opened_paths()) == before

    def test_nobody_names_it(self, tmp_path: Path) -> None:
        for wanted in (Wanted(root=tmp_path), Wanted((IN,), "1-0040", tmp_path)):
            with pytest.raises(UsageError, match="by a board's table of rails and cannot be named"):
                DRIVER.open(wanted)

    def test_it_has_no_options(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no such sensor option: fit"):
            DRIVER.open(Wanted((IN,), root=tmp_path, options={"fit": "published"}))
