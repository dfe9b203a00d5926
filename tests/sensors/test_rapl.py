"""RAPL: counters that wrap, domains that lie in each other, and who may read them. Wrapping is simulated by files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors.base import Absent, Sensor, Wanted
from edge_sdk.sensors.gauge import Gauge
from edge_sdk.sensors.power import open_power
from edge_sdk.sensors.rapl import MISSING, RaplDriver, Unrolled, domains
from edge_sdk.targets import Rail, load

from .rights import as_nobody

RANGE_UJ = 262143328850  # of the captured tree: 2^32 - 1 units of 61 uJ
TABLE = load("generic-x86_64").rails
POWERCAP = "/sys/class/powercap"

MakeTree = Callable[[Mapping[str, Any]], Path]


def zone(place: str, name: str, energy_uj: int | str, range_uj: int | None = RANGE_UJ) -> dict[str, str]:
    """The files of a domain; "0:1" is inside "0"."""
    folder = f"{POWERCAP}/intel-rapl:{place}"
    files = {f"{folder}/name": f"{name}\n", f"{folder}/energy_uj": f"{energy_uj}\n"}
    return files if range_uj is None else files | {f"{folder}/max_energy_range_uj": f"{range_uj}\n"}


def turn(root: Path, place: str, energy_uj: int | str) -> None:
    """Sets a counter."""
    (root / f"sys/class/powercap/intel-rapl:{place}/energy_uj").write_text(f"{energy_uj}\n", "utf-8")


def open_all(root: Path, address: str = "", rails: tuple[Rail, ...] = ()) -> Sensor:
    """The sensor on a tree."""
    return RaplDriver().open(Wanted(rails, address, root))


def in_total(sensor: Sensor) -> list[str]:
    """Names of what is in the total."""
    return [channel.name for channel in sensor.channels if channel.in_total]


@pytest.fixture
def locked() -> Iterator[Path]:
    """A root whose two counters root alone may read, as on any machine since 2020."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path, text in (zone("0", "package-0", 5) | zone("0:0", "core", 3)).items():
            file = root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
            file.chmod(0o000 if file.name == "energy_uj" else 0o444)
        for path in (root, *root.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        yield root


class TestUnrolled:
    @given(
        st.integers(1, 2**63),
        st.data(),
    )
    def test_whatever_wraps_the_energy_is_the_true_one(self, range_uj: int, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, range_uj - 1))
        steps = data.draw(st.lists(st.integers(0, range_uj - 1), max_size=30))
        unrolled = Unrolled(range_uj)
        assert unrolled.joules(start) == 0.0
        true_uj, latest = 0, 0.0
        for step in steps:
            true_uj += step
            energy = unrolled.joules((start + true_uj) % range_uj)
            assert energy == true_uj / 1e6
            assert energy >= latest
            latest = energy

    @given(st.integers(1, 2**40) | st.none(), st.lists(st.integers(-(2**70), 2**70), max_size=20))
    def test_any_numbers_give_an_energy_that_does_not_fall(self, range_uj: int | None, counters: list[int]) -> None:
        unrolled = Unrolled(range_uj)
        latest = 0.0
        for counter in counters:
            energy = unrolled.joules(counter)
            if not isinstance(energy, Absent):
                assert energy >= latest
                latest = energy

    def test_a_fall_without_a_range_is_not_guessed(self) -> None:
        unrolled = Unrolled(None)
        assert [unrolled.joules(counter) for counter in (1_000_000, 3_000_000)] == [0.0, 2.0]
        lost = Absent("the counter fell and its range is not known: open it anew")
        assert [unrolled.joules(counter) for counter in (2_000_000, 4_000_000)] == [lost, lost]

    def test_a_counter_above_its_range_or_below_zero_is_none_and_changes_nothing(self) -> None:
        unrolled = Unrolled(1000)
        assert unrolled.joules(900) == 0.0
        assert unrolled.joules(1001) == Absent("above the counter's own range: 1001")
        assert unrolled.joules(-1) == Absent("negative: -1")
        assert unrolled.joules(100) == 200 / 1e6


class TestTheTotal:
    def test_the_captured_tree_counts_its_package_and_not_core_or_psys(
        self, captured_board: Callable[[str], Path]
    ) -> None:
        root = captured_board("x86_rapl")
        with open_power(target=load("generic-x86_64"), root=root) as power:
            assert power.main is not None
            assert [channel.name for channel in power.main.channels] == ["package-0", "package-0/core", "psys"]
            assert in_total(power.main) == ["package-0"]
            assert power.covers == "the processor package alone: no memory modules, disks, GPU card or supply"
            gauge = Gauge(power.main)
            assert gauge.read().total.value is None
            turn(root, "0", 17515587911 + 5_000_000)
            turn(root, "0:0", 9000000 + 900_000_000)
            turn(root, "1", 99000000 + 900_000_000)
            assert power.main.read()[0] == 5.0
            total = gauge.read().total
        assert total.value is not None
        assert total.value > 0
        assert (total.method, total.reason) == ("counter", MISSING)

    def test_every_package_is_added_and_nothing_inside_them(self, make_tree: MakeTree) -> None:
        root = make_tree(
            zone("0", "package-0", 10) | zone("0:0", "core", 5) | zone("0:1", "dram", 5)
            | zone("1", "package-1", 20) | zone("1:0", "dram", 5) | zone("2", "psys", 90)
        )  # fmt: skip
        sensor = open_all(root, rails=TABLE)
        assert in_total(sensor) == ["package-0", "package-1"]
        assert [channel.name for channel in sensor.channels][2] == "package-0/dram"
        assert {channel.quantity for channel in sensor.channels} == {"energy"}

    def test_the_mmio_door_to_the_same_counters_is_not_used(self, make_tree: MakeTree) -> None:
        mmio = {
            path.replace("intel-rapl:", "intel-rapl-mmio:"): text for path, text in zone("0", "package-0", 9).items()
        }
        root = make_tree(zone("0", "package-0", 9) | mmio | {f"{POWERCAP}/intel-rapl/enabled": "1\n"})
        assert [channel.name for channel in open_all(root).channels] == ["package-0"]

    def test_psys_is_the_total_where_a_user_names_it(self, captured_board: Callable[[str], Path]) -> None:
        with open_power("rapl:psys", target=load("generic-x86_64"), root=captured_board("x86_rapl")) as power:
            assert power.main is not None
            assert in_total(power.main) == ["psys"]
            assert [in_total(sensor) for sensor in power.sensors] == [["psys"], []]

    def test_a_domain_inside_can_be_named_alone(self, captured_board: Callable[[str], Path]) -> None:
        assert in_total(open_all(captured_board("x86_rapl"), "package-0/core")) == ["package-0/core"]

    def test_levels_are_never_added(self, captured_board: Callable[[str], Path]) -> None:
        with pytest.raises(UsageError, match=r"rapl:\*: package-0 holds package-0/core; name one level"):
            open_all(captured_board("x86_rapl"), "*")
        with pytest.raises(UsageError, match="psys holds package-0"):
            open_all(captured_board("x86_rapl"), "p*")

    def test_a_domain_that_is_not_there_is_named_with_those_that_are(
        self, captured_board: Callable[[str], Path]
    ) -> None:
        with pytest.raises(SensorError, match="no energy domain dram; there are package-0, package-0/core, psys"):
            open_all(captured_board("x86_rapl"), "dram")

    def test_dies_that_mirror_one_counter_are_counted_once(self, make_tree: MakeTree) -> None:
        root = make_tree(zone("0", "package-0-die-0", 7_000_000) | zone("1", "package-0-die-1", 7_000_000))
        sensor = open_all(root, rails=TABLE)
        assert in_total(sensor) == ["package-0-die-0"]
        assert sensor.channels[1].missing == "the same counter as package-0-die-0"

    def test_dies_and_packages_with_counters_of_their_own_are_added(self, make_tree: MakeTree) -> None:
        dies = zone("0", "package-0-die-0", 7_000_000) | zone("1", "package-0-die-1", 8_000_000)
        assert len(in_total(open_all(make_tree(dies)))) == 2
        packages = zone("0", "package-0", 7_000_000) | zone("1", "package-1", 7_000_000)
        assert len(in_total(open_all(make_tree(packages)))) == 2


class TestReading:
    def test_energy_counts_from_opening_and_goes_on_through_a_wrap(self, make_tree: MakeTree) -> None:
        root = make_tree(zone("0", "package-0", RANGE_UJ - 2_000_000))
        sensor = open_all(root, rails=TABLE)
        assert sensor.read() == [0.0]
        turn(root, "0", RANGE_UJ - 500_000)
        assert sensor.read() == [1.5]
        turn(root, "0", 3_000_000)
        assert sensor.read() == [5.0]
        turn(root, "0", 3_000_000)
        assert sensor.read() == [5.0]

    def test_the_least_step_is_the_unit_of_the_register(self, make_tree: MakeTree) -> None:
        (channel,) = open_all(make_tree(zone("0", "package-0", 1))).channels
        assert channel.step == pytest.approx(61e-6, rel=0.001)

    def test_a_package_that_stands_still_is_stale_and_a_core_may_rest(self, make_tree: MakeTree) -> None:
        now_s = 100.0
        root = make_tree(zone("0", "package-0", 0) | zone("0:0", "uncore", 0))
        sensor = RaplDriver(lambda: now_s).open(Wanted(TABLE, root=root))
        now_s += 1.9
        assert sensor.read() == [0.0, 0.0]
        now_s += 1.1
        assert sensor.read() == [Absent("stale: the counter has stood still for 3 s"), 0.0]
        turn(root, "0", 4_000_000)
        assert sensor.read() == [4.0, 0.0]

    def test_one_that_gives_nothing_from_the_beginning_does_not_open(self, make_tree: MakeTree) -> None:
        with pytest.raises(SensorError, match="no energy counter can be read: energy_uj: no number in it: 'n/a'"):
            open_all(make_tree(zone("0", "package-0", "n/a")))

    @pytest.mark.parametrize("garbage", ["", "nan", "1e9", "x" * 5000, "9" * 4000])
    def test_garbage_is_no_energy_and_loses_none(self, make_tree: MakeTree, garbage: str) -> None:
        root = make_tree(zone("0", "package-0", 1_000_000))
        sensor = open_all(root)
        turn(root, "0", garbage)
        (value,) = sensor.read()
        assert isinstance(value, Absent)
        assert value.reason.startswith("energy_uj: no number in it")
        turn(root, "0", 3_000_000)
        assert sensor.read() == [2.0]

    def test_a_range_of_nonsense_is_no_range(self, make_tree: MakeTree) -> None:
        for range_uj in (0, -5):
            root = make_tree(zone("0", "package-0", 1_000_000, range_uj))
            sensor = open_all(root)
            turn(root, "0", 2_000_000)
            assert sensor.read() == [1.0]
            assert sensor.channels[0].step is None

    def test_a_counter_that_fails_beside_one_that_works_is_named(self, make_tree: MakeTree) -> None:
        files: dict[str, Any] = zone("0", "package-0", 5) | zone("1", "package-1", 5)
        root = make_tree(files | {f"{POWERCAP}/intel-rapl:1/energy_uj": {"errno": "EAGAIN"}})
        sensor = open_all(root, rails=TABLE)
        gauge = Gauge(sensor)
        gauge.read()
        total = gauge.read().total
        assert total.method == "sensor_partial"
        assert total.reason is not None
        assert total.reason.startswith("without package-1 (energy_uj: power-gated or busy (EAGAIN))")

    def test_closing_twice_leaves_no_descriptor(self, captured_board: Callable[[str], Path]) -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        sensor = open_all(captured_board("x86_rapl"))
        sensor.close()
        sensor.close()
        assert len(list(Path("/proc/self/fd").iterdir())) == before


class TestPermission:
    def test_a_counter_for_root_only_says_how_to_permit_it(self, locked: Path) -> None:
        with as_nobody(), pytest.raises(SensorError) as refused:
            open_all(locked, rails=TABLE)
        text = str(refused.value)
        assert "only root may read them (since CVE-2020-8694)" in text
        assert "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" in text
        assert "/etc/udev/rules.d/99-rapl.rules" in text
        assert "\n" not in text

    def test_the_run_goes_on_without_it_and_says_why(self, locked: Path) -> None:
        with as_nobody(), open_power(target=load("generic-x86_64"), root=locked) as power:
            assert power.main is not None
            total = Gauge(power.main).read().total
        assert total.value is None
        assert power.reason is not None
        assert "sudo chmod a+r" in power.reason

    def test_once_permitted_it_is_read(self, locked: Path) -> None:
        (locked / "sys/class/powercap/intel-rapl:0/energy_uj").chmod(0o444)
        with as_nobody():
            sensor = open_all(locked, rails=TABLE)
            assert sensor.read() == [0.0, Absent("energy_uj: no permission to read it")]
            sensor.close()

    def test_a_virtual_machine_has_no_counter_and_no_watt(self, make_tree: MakeTree) -> None:
        root = make_tree({"/sys/class/powercap/dtpm/name": "dtpm\n"})
        with pytest.raises(SensorError, match=r"no energy counter: there is no intel-rapl .*a virtual machine"):
            open_all(root)
        with open_power(target=load("generic-x86_64"), root=root) as power:
            assert power.reason is not None
            assert power.reason.startswith("no energy counter")
            assert power.main is not None
            assert Gauge(power.main).read().total.value is None

    def test_counters_that_all_fail_otherwise_give_the_systems_reason(self, make_tree: MakeTree) -> None:
        files: dict[str, Any] = zone("0", "package-0", 5)
        root = make_tree(files)
        (root / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
        with pytest.raises(SensorError, match=r"no energy counter can be read: energy_uj: gone \(ENOENT\)"):
            open_all(root)


class TestDomains:
    def test_names_that_are_no_domains_are_passed_over(self, make_tree: MakeTree) -> None:
        odd = {f"{POWERCAP}/intel-rapl:{place}/name": "package-9\n" for place in ("x", "0:", "0:0:0:0:0", "99999")}
        found = domains(make_tree(odd | zone("0", "package-0", 1) | zone("10", "package-10", 1) | zone("2", "p", 1)))
        assert [domain.path for domain in found] == [(0,), (2,), (10,)]

    def test_a_domain_without_a_name_has_that_of_its_folder(self, make_tree: MakeTree) -> None:
        (domain,) = domains(make_tree({f"{POWERCAP}/intel-rapl:0/energy_uj": "5\n"}))
        assert domain.label == "intel-rapl:0"

    def test_an_option_means_nothing(self, captured_board: Callable[[str], Path]) -> None:
        with pytest.raises(UsageError, match="no such sensor option: fit; there are none"):
            RaplDriver().open(Wanted(root=captured_board("x86_rapl"), options={"fit": "published"}))
