"""Every captured board gives its right total in watts, from its table through the sensor to the reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.result import Reading
from edge_sdk.sensors.gauge import Gauge
from edge_sdk.sensors.power import Power, open_power
from edge_sdk.targets import Target, identify, load

MakeTree = Callable[[Mapping[str, Any]], Path]

# The tree, whose table where the tree does not name its board, and the sensor that gives the total.
BOARDS = [
    ("agx_thor", None, 28.222, "ina238"),
    ("agx_orin_jp6", None, 12.008 * 0.280 + 12.008 * 0.040 + 4.968 * 0.980, "ina3221 1-0040, 1-0041"),
    ("orin_nano_super_jp6", None, 4.984 * 0.960, "ina3221"),
    ("jetson_jp4_iio", "jetson-tx2", 4.321, "ina3221 0-0041"),
    ("ventuno_q_ina232", None, 8.795, "ina232"),
    ("x1e_linux_laptop", "snapdragon-x-elite", 7.412, "battery qcom-battmgr-bat"),
]


def target_of(root: Path, name: str | None) -> Target:
    return identify(root).target if name is None else load(name)


def board_reading(power: Power) -> Reading:
    assert power.main is not None
    return Gauge(power.main).read().total


@pytest.mark.parametrize(("tree", "name", "watts", "sensor"), BOARDS, ids=[board[0] for board in BOARDS])
class TestEveryBoard:
    def test_its_total_is_right(
        self, captured_board: Callable[[str], Path], tree: str, name: str | None, watts: float, sensor: str
    ) -> None:
        root = captured_board(tree)
        with open_power(target=target_of(root, name), root=root) as power:
            reading = board_reading(power)
            assert power.reason is None
            assert power.main is not None
            assert power.main.name == sensor
        assert reading.value == pytest.approx(watts, abs=0.005)
        assert (reading.name, reading.unit, reading.method, reading.reason) == ("board", "w", "sensor_total", None)

    def test_it_says_what_the_total_contains(
        self, captured_board: Callable[[str], Path], tree: str, name: str | None, watts: float, sensor: str
    ) -> None:
        root = captured_board(tree)
        with open_power(target=target_of(root, name), root=root) as power:
            assert power.covers is not None
            assert power.covers.startswith("the ")

    def test_closing_leaves_no_descriptor(
        self, captured_board: Callable[[str], Path], tree: str, name: str | None, watts: float, sensor: str
    ) -> None:
        root = captured_board(tree)
        target = target_of(root, name)
        before = len(list(Path("/proc/self/fd").iterdir()))
        open_power(target=target, root=root).close()
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_thors_total_is_its_input_and_not_the_sum_of_the_modules_rails(captured_board: Callable[[str], Path]) -> None:
    root = captured_board("agx_thor")
    with open_power(target=identify(root).target, root=root) as power:
        rails = {one.name: one.value for sensor in power.sensors for one in Gauge(sensor).read().channels}
        total = board_reading(power)
    assert rails.pop("VIN") == total.value == pytest.approx(28.222, abs=0.01)
    assert sum(value or 0 for value in rails.values()) == pytest.approx(28.117, abs=0.01)
    assert len(rails) == 3


def test_agx_orin_does_not_count_vddq_twice(captured_board: Callable[[str], Path]) -> None:
    root = captured_board("agx_orin_jp6")
    with open_power(target=identify(root).target, root=root) as power:
        assert power.main is not None
        reads = Gauge(power.main).read()
    rails = {one.name: one.value for one in reads.channels}
    assert rails["VDDQ_VDD2_1V8AO"] == pytest.approx(0.397, abs=0.01)
    assert reads.total.value == pytest.approx(8.711, abs=0.01)
    assert sum(value or 0 for value in rails.values()) == pytest.approx(9.109, abs=0.01)


def test_a_disabled_channel_makes_the_total_partial_and_is_named(captured_board: Callable[[str], Path]) -> None:
    root = captured_board("agx_orin_channel_disabled")
    with open_power(target=load("jetson-agx-orin"), root=root) as power:
        reading = board_reading(power)
    assert reading.method == "sensor_partial"
    assert reading.value == pytest.approx(18.792 * 0.140 + 18.784 * 0.020, abs=0.005)
    assert reading.reason == "without VIN_SYS_5V0 (disabled: in3_label is there, in3_input is not)"


def test_a_thor_whose_carrier_lacks_the_input_chip_has_no_total_and_says_why(
    captures: Mapping[str, Any], make_tree: MakeTree
) -> None:
    tree = {path: text for path, text in captures["agx_thor"].items() if "/hwmon5/" not in path}
    root = make_tree(tree)
    with open_power(target=identify(root).target, root=root) as power:
        reading = board_reading(power)
        assert power.reason is not None
        assert power.reason.startswith("no INA238 here")
        rails = {one.name: one.value for sensor in power.sensors for one in Gauge(sensor).read().channels}
    assert (reading.value, reading.method) == (None, None)
    assert reading.reason is not None
    assert "no INA238 here" in reading.reason
    assert rails["VDD_CPU_SOC_MSS"] == pytest.approx(11.558, abs=0.01)  # what is there is still read
    assert rails["VIN"] is None


@pytest.mark.parametrize("name", ["jetson-xavier-nx-16gb", "jetson-xavier-nx"])
@pytest.mark.parametrize("bus", ["1", "7"])
def test_a_xavier_nx_is_read_whatever_number_its_bus_has(make_tree: MakeTree, name: str, bus: str) -> None:
    # /sys/bus/i2c/drivers/ina3221/7-0040/hwmon/hwmon6 on JetPack 5: README of alumet's Jetson plug-in.
    folder = f"/sys/devices/platform/c250000.i2c/i2c-{bus}/{bus}-0040/hwmon/hwmon6"
    files = {f"{folder}/name": "ina3221\n"}
    for index, (label, volts, amps) in enumerate(
        [("VDD_IN", "4984", "960"), ("VDD_CPU_GPU_CV", "4976", "120"), ("VDD_SOC", "4976", "304")], 1
    ):
        files |= {f"{folder}/in{index}_label": label, f"{folder}/in{index}_input": volts}
        files |= {f"{folder}/curr{index}_input": amps}
    root = make_tree(files)
    with open_power(target=load(name), root=root) as power:
        assert board_reading(power).value == pytest.approx(4.785, abs=0.005)


def test_an_agx_xavier_adds_its_six_rails(make_tree: MakeTree) -> None:
    files = {}
    milliwatts = {"0040": {"GPU": 1155, "CPU": 385, "SOC": 2502}, "0041": {"CV": 0, "VDDRQ": 192, "SYS5V": 2692}}
    for place, (address, rails) in enumerate(milliwatts.items()):
        folder = f"/sys/bus/i2c/drivers/ina3221x/1-{address}/iio:device{place}"
        for index, (label, power) in enumerate(rails.items()):
            files |= {f"{folder}/rail_name_{index}": label, f"{folder}/in_power{index}_input": f"{power}\n"}
    root = make_tree(files)
    with open_power(target=load("jetson-agx-xavier"), root=root) as power:
        reading = board_reading(power)
    assert (reading.value, reading.method) == (pytest.approx(6.926), "sensor_total")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("jetson-orin-nano", "the module's input"),
        ("jetson-orin-nano-4gb", "the module's input"),
        ("jetson-agx-orin-32gb", "no rail measures the input"),
        ("jetson-agx-thor", "the whole board"),
        ("snapdragon-x-plus", "with its screen"),
    ],
)
def test_a_table_says_what_its_total_contains_and_who_extends_it_says_so_too(name: str, words: str) -> None:
    assert words in str(load(name).fact("power_covers"))


def test_a_table_without_a_total_says_nothing_of_what_it_contains() -> None:
    assert load("jetson-t5000").fact("power_covers") is None
    assert load("jetson-unknown").fact("power_covers") is None
