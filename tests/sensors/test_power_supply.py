"""A battery that is the machine's power meter while it discharges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors.base import Absent, Wanted
from edge_sdk.sensors.power_supply import DRIVER, Battery
from edge_sdk.targets import load

MakeTree = Callable[[Mapping[str, Any]], Path]


def battery(name: str = "BAT0", **files: Any) -> dict[str, Any]:
    """A discharging battery's files, by their names."""
    every = {"type": "Battery\n", "status": "Discharging\n", **files}
    return {f"/sys/class/power_supply/{name}/{file}": text for file, text in every.items() if text is not None}


def named(root: Path, address: str = "") -> Battery:
    return DRIVER.open(Wanted(address=address, root=root))


def value(root: Path) -> Any:
    sensor = named(root)
    try:
        return sensor.read()[0]
    finally:
        sensor.close()


class TestPower:
    def test_a_snapdragon_laptop_reports_less_than_nothing_and_that_is_what_it_draws(
        self, captured_board: Callable[[str], Path]
    ) -> None:
        wanted = Wanted(load("snapdragon-x-elite").rails, root=captured_board("x1e_linux_laptop"))
        sensor = DRIVER.open(wanted)
        assert sensor.read() == [7.412]
        assert (sensor.name, sensor.refresh_s) == ("battery qcom-battmgr-bat", 1.0)
        assert [(one.name, one.method, one.in_total, one.missing) for one in sensor.channels] == [
            ("battery", "sensor_total", True, None)
        ]
        sensor.close()
        sensor.close()

    @pytest.mark.parametrize("sign", [1, -1])
    def test_without_a_power_it_is_volts_times_amps(self, make_tree: MakeTree, sign: int) -> None:
        root = make_tree(battery(voltage_now="11400000", current_now=str(sign * 650_000)))
        assert value(root) == pytest.approx(7.41)

    def test_a_power_that_fails_gives_way_to_volts_times_amps(self, make_tree: MakeTree) -> None:
        assert value(make_tree(battery(power_now="", voltage_now="10000000", current_now="500000"))) == 5.0

    @pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown", ""])
    def test_it_counts_only_while_it_discharges(self, make_tree: MakeTree, status: str) -> None:
        found = value(make_tree(battery(status=f"{status}\n", power_now="5000000")))
        assert found == Absent(f"the battery's status is {status or 'nothing'}, not Discharging: unplug the charger")

    def test_who_unplugs_the_charger_has_a_power_from_then_on(self, make_tree: MakeTree) -> None:
        root = make_tree(battery(status="Charging", power_now="5000000"))
        sensor = named(root)
        assert isinstance(sensor.read()[0], Absent)
        (root / "sys/class/power_supply/BAT0/status").write_text("Discharging\n")
        assert sensor.read() == [5.0]
        sensor.close()

    @pytest.mark.parametrize(
        ("files", "reason"),
        [
            ({"power_now": "0"}, "0 W, which no running machine draws: the battery tells no power"),
            ({"power_now": "99999999999"}, "absurd: 100000 W"),
            ({"power_now": "x"}, "power_now: no number in it: 'x'"),
            ({"power_now": {"errno": "EAGAIN"}}, "power_now: power-gated or busy (EAGAIN)"),
            ({"voltage_now": "1", "current_now": ""}, "current_now: no number in it: ''"),
            ({"power_now": "1", "status": {"errno": "EIO"}}, "status: Is a directory (EISDIR)"),
        ],
    )
    def test_what_can_be_no_power_is_none_and_says_why(
        self, make_tree: MakeTree, files: Mapping[str, Any], reason: str
    ) -> None:
        assert value(make_tree(battery(**files))) == Absent(reason)

    @settings(max_examples=40)
    @given(
        content=st.lists(st.one_of(st.binary(max_size=40), st.integers().map(lambda n: str(n).encode())), min_size=4)
    )
    def test_any_bytes_in_its_files_are_a_power_or_a_reason(
        self, tmp_path_factory: pytest.TempPathFactory, content: list[bytes]
    ) -> None:
        root = tmp_path_factory.mktemp("any")
        folder = root / "sys/class/power_supply/BAT0"
        folder.mkdir(parents=True)
        (folder / "type").write_text("Battery")
        for name, raw in zip(("power_now", "voltage_now", "current_now", "status"), content, strict=False):
            (folder / name).write_bytes(raw if name != "status" or len(raw) % 2 else b"Discharging")
        found = value(root)
        assert isinstance(found, Absent) or 0 < found <= 1000


class TestWhich:
    def test_the_only_battery_needs_no_name(self, make_tree: MakeTree) -> None:
        files = battery(power_now="1000000")
        files |= {"/sys/class/power_supply/AC/type": "Mains", "/sys/class/power_supply/AC/online": "0"}
        files |= battery("ucsi-source-psy-1", type="USB", power_now="60000000")
        files |= battery("hidpp_battery_0", scope="Device", power_now="1")
        sensor = named(make_tree(files))
        assert sensor.read() == [1.0]
        assert sensor.channels[0].name == "BAT0"
        sensor.close()

    def test_of_several_none_is_taken_unasked(self, make_tree: MakeTree) -> None:
        root = make_tree(battery(power_now="1000000") | battery("BAT1", power_now="2000000"))
        with pytest.raises(UsageError, match="several batteries: BAT0, BAT1; say which one, such as power_supply:BAT0"):
            named(root)
        sensor = named(root, "BAT1")
        assert sensor.read() == [2.0]
        sensor.close()

    @pytest.mark.parametrize("name", ["ucsi-source-psy-1", "AC"])
    def test_a_charger_is_no_meter(self, make_tree: MakeTree, name: str) -> None:
        root = make_tree(battery(name, type="USB", power_now="60000000", online="1"))
        with pytest.raises(SensorError, match=f"{name}: USB, not a battery"):
            named(root, name)

    def test_what_is_not_there_is_an_error(self, make_tree: MakeTree, tmp_path: Path) -> None:
        with pytest.raises(SensorError, match="no battery in /sys/class/power_supply"):
            named(tmp_path)
        with pytest.raises(SensorError, match="BAT7: not there"):
            named(make_tree(battery(power_now="1")), "BAT7")

    def test_a_battery_that_tells_no_power_is_an_error_and_leaves_nothing_open(self, make_tree: MakeTree) -> None:
        root = make_tree(battery(voltage_now="1"))
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(SensorError, match=r"BAT0: power_now: gone \(ENOENT\); current_now: gone \(ENOENT\)"):
            named(root)
        with pytest.raises(SensorError, match=r"status: gone \(ENOENT\)"):
            named(make_tree(battery(status=None, power_now="1")))
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    @pytest.mark.parametrize("name", ["../../devices", "..", "a/b"])
    def test_a_name_is_no_path(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UsageError, match="not a name in /sys/class/power_supply"):
            named(tmp_path, name)
