"""tegrastats: captured lines of every release, any text at all, and a running program in its place."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors.base import Absent, Wanted, total
from edge_sdk.sensors.tegrastats import DRIVER, Core, Tegrastats, TegrastatsSensor, parse, values
from edge_sdk.targets import load

PIECES = """
RAM 1/2MB (lfb 1x512kB) SWAP CPU [1%@2,off] [0%] [off]@9 GR3D_FREQ 0%@[305] @[1,2 99% EMC_FREQ @4266 GPU@-256C tj@1e9C
VIN 5mW/5mW/5mW -1/-1 1/1 9999999999mW/1mW NC VDD_IN/
""".split()  # noqa: SIM905


def lines_of(path: Path) -> list[str]:
    """The lines of a capture; those with ## are its own remarks."""
    text = path.read_text(encoding="utf-8").splitlines()
    return [line for line in text if line.strip() and not line.startswith("#")]


def parsed(line: str) -> Tegrastats:
    stats = parse(line)
    assert stats is not None
    return stats


@pytest.fixture(scope="module")
def captured(fixtures_dir: Path) -> list[str]:
    """Every captured line."""
    files = sorted((fixtures_dir / "jetson").glob("tegrastats_*.txt"))
    assert len(files) == 4
    return [line for file in files for line in lines_of(file)]


def line(captured: list[str], *words: str) -> Tegrastats:
    """The one captured line that has these words."""
    found = [one for one in captured if all(word in one for word in words)]
    assert len(found) == 1, found
    return parsed(found[0])


class TestEveryRelease:
    def test_every_captured_line_is_understood(self, captured: list[str]) -> None:
        assert len(captured) >= 34
        for one in captured:
            stats = parsed(one)
            assert stats.ram_total_mib is not None
            assert stats.cpu
            assert stats.temperatures_c
            assert stats.rails_w or "3984MB" in one  # a TX1 prints none without root
            assert all(0 <= watts < 200 for watts in stats.rails_w.values())
            assert all(celsius is None or -60 < celsius < 110 for celsius in stats.temperatures_c.values())

    def test_a_tx2_in_milliwatts_without_their_unit(self, captured: list[str]) -> None:
        stats = line(captured, "4722/7844MB")
        assert stats.rails_w == {
            "VDD_IN": 14.025, "VDD_CPU": 2.209, "VDD_GPU": 6.854, "VDD_SOC": 1.371, "VDD_WIFI": 0.019, "VDD_DDR": 2.702,
        }  # fmt: skip
        assert (stats.ram_used_mib, stats.ram_total_mib) == (4722, 7844)
        assert (stats.free_blocks, stats.free_block_mib) == (1, 0.5)
        assert (stats.swap_used_mib, stats.swap_total_mib) == (149, 1024)
        assert (stats.emc_percent, stats.emc_mhz) == (2, 1866)
        assert (stats.gr3d_percent, stats.gr3d_mhz) == (12, (1300,))
        assert stats.cpu[:2] == (Core(1, 2035), Core(0, 2034))
        assert stats.temperatures_c["thermal"] == 46.4

    def test_a_nano_whose_memory_beside_ram_is_not_taken_for_it(self, captured: list[str]) -> None:
        stats = line(captured, "IRAM")
        assert (stats.ram_used_mib, stats.ram_total_mib) == (331, 3964)
        assert stats.rails_w == {"POM_5V_IN": 0.933, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.084}

    def test_a_rail_and_a_temperature_may_have_one_name(self, captured: list[str]) -> None:
        stats = line(captured, "SYS5V")
        assert (stats.rails_w["GPU"], stats.temperatures_c["GPU"]) == (1.155, 28.0)
        assert (stats.rails_w["CPU"], stats.temperatures_c["CPU"]) == (0.385, 28.0)
        assert len(stats.cpu) == 8

    def test_256_degrees_below_zero_are_no_temperature(self, captured: list[str]) -> None:
        stats = line(captured, "30536MB")
        assert [name for name, celsius in stats.temperatures_c.items() if celsius is None] == [
            "CV0", "CV1", "GPU", "CV2",
        ]  # fmt: skip
        assert stats.temperatures_c["CPU"] == 41.437

    def test_what_is_not_connected_is_no_rail_and_a_second_gpu_clock_is_one(self, captured: list[str]) -> None:
        stats = line(captured, "30536MB")
        assert stats.rails_w == {
            "VDD_GPU_SOC": 2.39, "VDD_CPU_CV": 0.796, "VIN_SYS_5V0": 3.522, "VDDQ_VDD2_1V8AO": 0.301,
        }  # fmt: skip
        assert (stats.gr3d_percent, stats.gr3d_mhz) == (12, (0, 0))

    def test_without_root_there_is_no_memory_clock(self, captured: list[str]) -> None:
        stats = line(captured, "06-18-2025")
        assert (stats.emc_percent, stats.emc_mhz) == (None, None)
        assert (stats.gr3d_percent, stats.gr3d_mhz) == (0, ())
        assert stats.rails_w["VDD_IN"] == 4.824

    def test_of_three_numbers_the_first_is_now(self, captured: list[str]) -> None:
        stats = line(captured, "13:33:03")
        assert stats.rails_w == {"VDD_IN": 3.462, "VDD_CPU_GPU_CV": 0.442, "VDD_SOC": 1.127}
        assert stats.temperatures_c["cpu"] == 45.375
        assert (stats.gr3d_percent, stats.gr3d_mhz) == (0, (305,))

    def test_two_gpu_clusters_have_two_clocks(self, captured: list[str]) -> None:
        stats = line(captured, "62817MB")
        assert (stats.gr3d_percent, stats.gr3d_mhz) == (12, (1300, 1300))
        assert (stats.free_blocks, stats.free_block_mib) == (1, 2.0)

    def test_thor_may_have_one_clock_for_all_processors_and_a_gpu_without_a_load(self, captured: list[str]) -> None:
        stats = line(captured, "20:58:23")
        assert stats.cpu == (Core(0, 2601), Core(5, 2601), None)
        assert (stats.gr3d_percent, stats.gr3d_mhz) == (None, (1574, 1574, 1574))
        assert (stats.emc_percent, stats.emc_mhz) == (None, 4266)
        assert stats.rails_w["VIN"] == 28.906  # and not the mean of 14.453

    def test_a_token_of_the_future_is_passed_over(self, captured: list[str]) -> None:
        stats = line(captured, "FUTURE_TOKEN")
        assert stats.cpu[2] is None
        assert stats.rails_w == {
            "VDD_GPU": 37.939, "VDD_CPU_SOC_MSS": 30.059, "VIN_SYS_5V0": 15.486, "VIN": 124.486,
        }  # fmt: skip

    def test_thor_without_gpu_and_memory_clocks(self, fixtures_dir: Path) -> None:
        stats = parsed(lines_of(fixtures_dir / "jetson/tegrastats_thor_r38_idle.txt")[0])
        assert (stats.gr3d_percent, stats.gr3d_mhz, stats.emc_mhz) == (None, (), None)
        assert stats.cpu[8] == Core(32, 972)

    def test_a_rail_below_zero_is_read_and_is_no_power(self) -> None:
        stats = parsed("RAM 1/2MB VDD_GPU -392mW/0mW VIN 5mW/5mW")
        assert stats.rails_w == {"VDD_GPU": -0.392, "VIN": 0.005}
        found = values(stats, load("jetson-agx-thor").rails)
        assert found[:2] == [0.005, Absent("negative: -0.392")]
        assert found[2] == Absent("tegrastats does not print it")


class TestTotals:
    @pytest.mark.parametrize(
        ("name", "words", "total_w"),
        [
            ("jetson-tx2", ("4722/7844MB",), 14.025),
            ("jetson-tx2", ("VDD_SYS_GPU",), 5.297),
            ("jetson-nano", ("POM_5V_IN",), 0.933),
            ("jetson-agx-xavier", ("SYS5V",), 1.155 + 0.385 + 2.502 + 0 + 0.192 + 2.692),
            ("jetson-agx-orin", ("30536MB",), 2.390 + 0.796 + 3.522),
            ("jetson-orin-nano", ("11-15-2024",), 12.479),
            ("jetson-orin-nano", ("13:33:05",), 3.462),
            ("jetson-agx-orin-64gb", ("62817MB",), 5.139 + 3.268 + 5.500),
            ("jetson-agx-thor", ("20:58:23",), 28.906),
            ("jetson-agx-thor", ("FUTURE_TOKEN",), 124.486),
        ],
    )
    def test_a_boards_table_makes_its_total(
        self, captured: list[str], name: str, words: tuple[str, ...], total_w: float
    ) -> None:
        rails = load(name).rails
        found = values(line(captured, *words), rails)
        assert sum(value for rail, value in zip(rails, found, strict=True) if rail.in_total) == pytest.approx(total_w)

    def test_thors_first_line_is_its_input_and_not_the_sum_of_the_modules_rails(self, fixtures_dir: Path) -> None:
        stats = parsed(lines_of(fixtures_dir / "jetson/tegrastats_thor_r38_idle.txt")[0])
        rails = load("jetson-agx-thor").rails
        found = dict(zip((rail.name for rail in rails), values(stats, rails), strict=True))
        assert found == {"VIN": 20.604, "VDD_GPU": 1.965, "VDD_CPU_SOC_MSS": 6.292, "VIN_SYS_5V0": 6.36}
        assert sum(watts for name, watts in found.items() if name != "VIN") == pytest.approx(14.617)

    def test_the_rails_of_a_tx2_have_other_names_by_release(self, captured: list[str]) -> None:
        rails = load("jetson-tx2").rails
        for words in (("4722/7844MB",), ("VDD_SYS_GPU",)):
            assert not any(isinstance(value, Absent) for value in values(line(captured, *words), rails))

    def test_a_loaded_orin_nx_reads_its_input(self, fixtures_dir: Path) -> None:
        loaded = lines_of(fixtures_dir / "jetson/tegrastats_orin_nx8_r36_trt_load_then_idle.txt")
        rails = load("jetson-orin-nx-8gb").rails
        assert [values(parsed(one), rails)[0] for one in loaded[:3]] == [13.195, 12.233, 11.852]


class TestAnyText:
    @given(text=st.text(max_size=300))
    def test_any_text_is_a_line_or_none(self, text: str) -> None:
        stats = parse(text)
        assert stats is None or isinstance(stats, Tegrastats)

    @given(
        words=st.lists(
            st.one_of(
                st.sampled_from(PIECES),
                st.text(max_size=8),
            ),
            max_size=25,
        )
    )
    def test_pieces_of_lines_in_any_order_are_a_line_or_none(self, words: list[str]) -> None:
        stats = parse(" ".join(words))
        if stats is not None:
            assert all(abs(watts) < 1e6 for watts in stats.rails_w.values())
            assert all(core is None or core.percent < 1000 for core in stats.cpu)

    @given(cut=st.integers(min_value=0, max_value=800))
    def test_a_line_that_is_cut_off_anywhere_is_a_line_or_none(self, captured: list[str], cut: int) -> None:
        for one in captured:
            parse(one[:cut])
            parse(one[cut:])

    @pytest.mark.parametrize("text", ["", "x" * 10_000_000, "RAM 1/2MB " * 1_000_000, "\0" * 100, "sudo: no tty"])
    def test_what_is_no_line_is_none(self, text: str) -> None:
        assert parse(text) is None

    def test_a_number_of_any_length_is_no_number(self) -> None:
        stats = parsed(f"RAM 1/2MB VIN {'9' * 5000}mW/1mW GPU@{'9' * 400}C CPU [{'9' * 400}%@1]")
        assert (dict(stats.rails_w), dict(stats.temperatures_c), stats.cpu) == ({}, {}, (None,))


PROGRAM = """#!/bin/sh
echo "$@" > "{folder}/arguments"
echo "Run tegrastats with sudo to see more"
n=0
while [ $n -lt {lines} ]; do
    n=$((n + 1))
    echo "RAM 1/2MB CPU [1%@729] VDD_GPU 1000mW/1mW OTHER 5mW/5mW VIN ${{n}}000mW/1mW"
    sleep 0.05
done
{then}
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Puts a tegrastats that prints so many lines and then does something first on the path, on a Jetson Thor."""

    def put(lines: int = 1000, then: str = "exit 0") -> Path:
        file = tmp_path / "tegrastats"
        file.write_text(PROGRAM.format(folder=tmp_path, lines=lines, then=then))
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("EDGE_SDK_TARGET", "jetson-agx-thor")
        return tmp_path

    threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    yield put
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


def opened(address: str = "") -> TegrastatsSensor:
    return DRIVER.open(Wanted(address=address))


class TestTheProgram:
    def test_its_newest_line_gives_the_boards_total(self, program: Callable[..., Path]) -> None:
        folder = program()
        sensor = opened("100")
        try:
            names = [(channel.name, channel.in_total) for channel in sensor.channels]
            assert names == [
                ("VIN", True), ("VDD_GPU", False), ("VDD_CPU_SOC_MSS", False), ("VIN_SYS_5V0", False), ("OTHER", False),
            ]  # fmt: skip
            first = sensor.read()
            assert first[1:] == [
                1.0, Absent("tegrastats does not print it"), Absent("tegrastats does not print it"), 0.005,
            ]  # fmt: skip
            wait_for(lambda: sensor.read()[0] != first[0])
            assert total(sensor.channels, sensor.read(), 0).method == "sensor_total"
            assert sensor.refresh_s == 0.1
            assert (folder / "arguments").read_text() == "--interval 100\n"
        finally:
            sensor.close()
        sensor.close()

    def test_one_that_dies_leaves_no_value_and_says_what_it_said(self, program: Callable[..., Path]) -> None:
        program(lines=2, then="echo 'lost the sensor bus'; exit 3")
        sensor = opened()
        try:
            wait_for(lambda: isinstance(sensor.read()[0], Absent))
            reason = "tegrastats ended (exit code 3): lost the sensor bus"
            assert set(sensor.read()) == {Absent(reason)}
        finally:
            sensor.close()

    def test_one_that_prints_no_line_before_it_ends_is_an_error(self, program: Callable[..., Path]) -> None:
        program(lines=0, then="echo 'Error: no such device'; exit 1")
        with pytest.raises(SensorError, match=r"tegrastats ended \(exit code 1\): Error: no such device"):
            opened()

    def test_one_that_prints_no_rail_is_an_error(self, program: Callable[..., Path]) -> None:
        program(lines=0, then="while true; do echo 'RAM 1/2MB CPU [1%@1]'; sleep 0.05; done")
        with pytest.raises(SensorError, match="tegrastats prints no rail here"):
            opened()

    def test_one_that_does_not_end_when_asked_is_ended(self, program: Callable[..., Path]) -> None:
        program(lines=0, then="trap '' TERM; while true; do echo 'RAM 1/2MB VIN 7mW/7mW'; sleep 0.05; done")
        sensor = opened()
        assert sensor.read()[0] == 0.007
        sensor.close()

    def test_garbage_between_lines_harms_nobody(self, program: Callable[..., Path]) -> None:
        garbage = "head -c 300000 /dev/zero | tr '\\0' x; echo; printf '\\377\\376\\n'; "
        program(lines=0, then=f"while true; do {garbage} echo 'RAM 1/2MB VIN 7mW/7mW'; sleep 0.05; done")
        sensor = opened()
        assert sensor.read()[0] == 0.007
        sensor.close()

    @pytest.mark.parametrize("address", ["5", "60001", "fast", "-100", "1e3", "²"])
    def test_an_interval_that_means_nothing_is_wrong_usage(self, address: str) -> None:
        with pytest.raises(UsageError, match="an interval is 10 to 60000 ms"):
            opened(address)

    def test_a_board_without_a_table_has_no_total(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDGE_SDK_TARGET", "jetson-unknown")
        with pytest.raises(SensorError, match="no table says which rails are the total of Jetson of an unknown kind"):
            opened()

    def test_it_is_not_run_for_a_captured_tree_or_where_it_is_not_installed(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("EDGE_SDK_TARGET", "jetson-orin-nano")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SensorError, match="not run, because this is a captured tree"):
            DRIVER.open(Wanted(root=tmp_path))
        with pytest.raises(SensorError, match="not installed; it is part of JetPack"):
            opened()
