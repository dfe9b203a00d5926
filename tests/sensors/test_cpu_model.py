"""The estimate from CPU load: a published line, times from /proc/stat, and no figure where there is no load."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors.base import Absent, Sensor, Wanted, drivers
from edge_sdk.sensors.cpu_model import MISSING, CpuModelDriver, line, parse
from edge_sdk.sensors.gauge import Gauge
from edge_sdk.sensors.power import open_power
from edge_sdk.targets import load

LINE = "4.534426720546654*u+2.2856926184722672"


def stat(busy: int, idle: int, iowait: int = 0) -> str:
    """/proc/stat of four processors, in ticks of all together."""
    cores = "".join(f"cpu{core} {busy // 4} 0 0 {idle // 4} 0 0 0 0 0 0\n" for core in range(4))
    return f"cpu  {busy - busy // 3} 0 {busy // 3} {idle} {iowait} 0 0 0 7 0\n{cores}intr 123 4 5\nctxt 99\n"


class Machine:
    """A root whose processors' times a test sets, and the sensor on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root / "proc/stat"
        self.file.parent.mkdir()
        self.times = [1000, 9000, 0]
        self.file.write_text(stat(*self.times), "utf-8")

    def spend(self, busy: int, idle: int, iowait: int = 0) -> None:
        """Lets ticks pass."""
        self.times = [before + more for before, more in zip(self.times, (busy, idle, iowait), strict=True)]
        self.file.write_text(stat(*self.times), "utf-8")

    def open(self, address: str = LINE) -> Sensor:
        return drivers()["cpu_model"].open(Wanted(address=address, root=self.root))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("busy", "idle", "iowait", "power_w"),
    [(0, 400, 0, 2.2857), (400, 0, 0, 6.8201), (100, 300, 0, 3.4193), (100, 100, 200, 3.4193)],
)
def test_the_load_between_two_reads_makes_the_watts(
    machine: Machine, busy: int, idle: int, iowait: int, power_w: float
) -> None:
    sensor = machine.open()
    machine.spend(busy, idle, iowait)
    total = Gauge(sensor).read().total
    assert total.value == pytest.approx(power_w, abs=1e-4)
    assert (total.method, total.reason) == ("estimate", MISSING)


def test_it_says_that_it_is_modelled_and_not_measured(machine: Machine) -> None:
    (channel,) = machine.open().channels
    assert channel.missing is not None
    assert channel.missing.startswith("modelled from CPU load alone")
    assert "not measured" in channel.missing
    assert channel.uncertainty == 0.2


def test_before_there_was_any_load_there_is_no_figure(machine: Machine) -> None:
    sensor = machine.open()
    assert sensor.read() == [Absent("no load yet: it is known 0.2 s after opening")]
    machine.spend(79, 0)  # of the 80 ticks that four processors have in 0.2 s
    assert isinstance(sensor.read()[0], Absent)
    machine.spend(1, 0)
    assert sensor.read() == [pytest.approx(6.8201, abs=1e-4)]


def test_a_read_that_comes_too_soon_gives_the_last_value_again(machine: Machine) -> None:
    sensor = machine.open()
    machine.spend(400, 0)
    first = sensor.read()
    machine.spend(0, 40)
    assert sensor.read() == first
    machine.spend(0, 40)
    assert sensor.read() == [pytest.approx(2.2857, abs=1e-4)]


def test_times_that_go_backwards_give_no_figure_and_then_go_on(machine: Machine) -> None:
    sensor = machine.open()
    machine.times = [10, 90, 0]
    machine.spend(0, 0)
    assert sensor.read() == [Absent("the processors' times went backwards")]
    machine.spend(400, 0)
    assert sensor.read() == [pytest.approx(6.8201, abs=1e-4)]


def test_a_load_above_the_whole_is_the_whole(machine: Machine) -> None:
    sensor = machine.open()
    machine.spend(500, 0, 0)
    machine.spend(0, -50, 0)  # iowait and idle may fall a little: proc_stat(5)
    assert sensor.read() == [pytest.approx(6.8201, abs=1e-4)]


def test_a_file_that_is_emptied_gives_the_reason(machine: Machine) -> None:
    sensor = machine.open()
    machine.file.write_text("")
    assert sensor.read() == [Absent("stat: no processor times in it")]


def test_without_proc_stat_it_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="stat: gone"):
        CpuModelDriver().open(Wanted(address=LINE, root=tmp_path))


def test_closing_twice_leaves_no_descriptor(machine: Machine) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    sensor = machine.open()
    sensor.close()
    sensor.close()
    machine.file.write_text("nonsense")
    with pytest.raises(SensorError):
        machine.open()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("address", ["", "4.5", "u", "4.5*u", "-1*u+2", "1e3*u+2", "4.5*u+2;", "nan*u+1", "5*x+2"])
def test_an_address_that_is_no_line_is_refused(machine: Machine, address: str) -> None:
    with pytest.raises(UsageError, match=r"no line; write it as 4.534\*u\+2.286"):
        machine.open(address)


def test_a_line_may_have_blanks() -> None:
    assert line("4.5 * u + 2") == (4.5, 2.0)


def test_an_option_means_nothing(machine: Machine) -> None:
    with pytest.raises(UsageError, match="no such sensor option: fit"):
        CpuModelDriver().open(Wanted(address=LINE, root=machine.root, options={"fit": "published"}))


@given(st.text() | st.from_regex(r"cpu( -?\d{0,25}){0,11}\ncpu0", fullmatch=True))
def test_any_text_gives_times_or_a_sensor_error(text: str) -> None:
    with suppress(SensorError):
        ticks = parse(text)
        assert 0 <= ticks.busy <= ticks.total


def test_this_machines_own_times_are_read() -> None:
    ticks = parse(Path("/proc/stat").read_text("utf-8"))
    assert 0 < ticks.busy <= ticks.total
    assert ticks.processors >= 1


def test_each_pi_has_the_line_that_was_published_for_it(machine: Machine, fixtures_dir: Path) -> None:
    published = json.loads((fixtures_dir / "rpi/cpu_power_linear_models.json").read_text("utf-8"))
    for name, key in (
        ("raspberry-pi-4b", "raspberry_pi_4b_1.2_64"),
        ("raspberry-pi-400", "raspberry_pi_400_64"),
        ("raspberry-pi-3b", "raspberry_pi_3b_1.2"),
        ("raspberry-pi-3b-plus", "raspberry_pi_3b_plus_1.3"),
    ):
        slope, intercept = published[key]
        with open_power(target=load(name), root=machine.root) as power:
            assert power.main is not None
            machine.spend(200, 200)
            total = Gauge(power.main).read().total
        assert total.value == pytest.approx(slope / 2 + intercept)
        assert total.method == "estimate"
        assert power.reason is None
        assert power.covers == "the board with nothing attached, as its CPU load explains it"


@pytest.mark.parametrize(
    "name", ["raspberry-pi-zero-2-w", "raspberry-pi-3a-plus", "raspberry-pi-cm4", "raspberry-pi-cm4s"]
)
def test_a_pi_without_a_published_line_gives_no_watt(machine: Machine, name: str) -> None:
    with open_power(target=load(name), root=machine.root) as power:
        assert power.sensors == ()
        assert power.reason is not None
        assert "name a meter" in power.reason


def test_a_pi_5_does_not_use_its_line(captured_board: Callable[[str], Path]) -> None:
    assert {rail.driver for rail in load("raspberry-pi-5").rails} == {"pmic"}
