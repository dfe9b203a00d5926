"""Moments as JSON and CSV: every key has its unit, and a crash costs no more than a row."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SinkError, UsageError
from edge_sdk.measure.watch_record import CsvLog, as_record, unique

from .moments import GATED, NO_SENSOR, ORIN, THROTTLED, of, w

NOON = 1_700_000_000.1234


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_record_has_the_total_with_method_and_reason_and_units_in_its_names() -> None:
    record = as_record(ORIN, board="jetson-orin-nano", covers="the module's input", time_s=NOON)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["time_utc"] == "2023-11-14T22:13:20.123Z"
    assert record["total"] == {
        "power_w": 7.541, "method": "sensor_total", "reason": None, "covers": "the module's input"
    }  # fmt: skip
    assert record["sensors"][0]["channels"][2] == {
        "name": "VDD_SOC", "power_w": None, "method": "sensor_total", "reason": GATED, "in_total": False
    }  # fmt: skip
    assert record["temperatures"][0] == {"name": "cpu-thermal", "temperature_c": 51.187, "reason": None}
    assert record["temperatures"][1] == {"name": "cv0-thermal", "temperature_c": None, "reason": GATED}
    assert record["clocks"][-1] == {"name": "17000000.gpu", "clock_mhz": 306.0, "reason": None}
    assert record["loads"][1] == {"name": "gpu", "load_percent": 98.0, "reason": None}
    assert record["memory"] == {"total_mib": 7619.5, "available_mib": 4513.2, "swap_used_mib": 97.7}
    assert record["power_mode"] == {"name": "25W", "number": 1}
    assert (record["energy_j"], record["mean_w"], record["peak_w"]) == (75.2, 7.5, 8.0)


def test_every_key_is_in_the_documentation() -> None:
    documented = as_record.__doc__ or ""
    assert [key for key in as_record(ORIN, board="b", time_s=0.0) if f"``{key}``" not in documented] == []


def test_throttling_is_null_where_the_board_does_not_tell_and_empty_where_nothing_does() -> None:
    assert as_record(NO_SENSOR, board="b", time_s=NOON)["throttling"] is None
    assert as_record(ORIN, board="b", time_s=NOON)["throttling"] == []
    throttled = as_record(THROTTLED, board="b", time_s=NOON)
    assert throttled["throttling"] == ["gpu-throttle-alert"]
    assert throttled["throttled"] == ["gpu-throttle-alert", "cpu-throttle-alert"]


def test_without_a_sensor_the_watts_are_null_and_the_reason_stands_beside() -> None:
    record = as_record(NO_SENSOR, board="raspberry-pi-4", time_s=NOON)
    assert record["total"]["power_w"] is None
    assert "no sensor of its own power" in record["total"]["reason"]
    assert record["energy_j"] is record["mean_w"] is record["energy_method"] is None


def test_a_row_has_a_column_for_each_rail_zone_clock_and_load(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    with CsvLog(path) as log:
        log.write(ORIN, time_s=NOON)
        log.write(THROTTLED, time_s=NOON + 1)
    first, second = rows(path)
    assert first["time_utc"] == "2023-11-14T22:13:20.123Z"
    assert (first["power_w"], first["method"], first["energy_j"]) == ("7.541", "sensor_total", "75.2")
    assert first["energy_method"] == "sensor_total"
    assert first["ina3221 1-0040/VDD_IN_power_w"] == "7.541"
    assert first["ina3221 1-0040/VDD_SOC_power_w"] == ""
    assert first["cpu-thermal_temperature_c"] == "51.187"
    assert first["cpu0_clock_mhz"] == "1510.4"
    assert first["gpu_load_percent"] == "98.0"
    assert (first["throttling"], second["throttling"]) == ("none", "gpu-throttle-alert")
    assert first["power_mode"] == "25W"


def test_each_row_is_on_the_disk_before_the_next_moment(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    log = CsvLog(path)
    for count in range(1, 4):
        log.write(ORIN, time_s=NOON)
        assert path.read_bytes().count(b"\n") == count + 1
        assert path.read_bytes().endswith(b"\n")
    log.close()
    log.close()


def test_a_second_run_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    for _ in range(2):
        with CsvLog(path) as log:
            log.write(ORIN, time_s=NOON)
    assert len(rows(path)) == 2
    assert path.read_text().count("time_utc") == 1


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_half_a_row_that_a_crash_left_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "power.csv"
    with CsvLog(path) as log:
        log.write(ORIN, time_s=NOON)
        log.write(ORIN, time_s=NOON + 1)
    path.write_bytes(path.read_bytes()[:-cut])
    with CsvLog(path) as log:
        log.write(ORIN, time_s=NOON + 2)
    assert [row["time_utc"][17:19] for row in rows(path)] == ["20", "22"]


def test_half_a_header_that_a_crash_left_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    path.write_text("time_utc,seco")
    with CsvLog(path) as log:
        log.write(ORIN, time_s=NOON)
    assert len(rows(path)) == 1


def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\nmore of them")
    with CsvLog(path) as log, pytest.raises(UsageError, match="has other columns than this board"):
        log.write(ORIN, time_s=NOON)
    assert path.read_text() == "my notes\nmore of them"


def test_what_comes_later_has_no_column_and_what_goes_leaves_an_empty_cell(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    warmer = (*ORIN.conditions.temperatures, of("new", 1.0, "c"))
    with CsvLog(path) as log:
        log.write(ORIN, time_s=NOON)
        log.write(replace(ORIN, conditions=replace(ORIN.conditions, temperatures=warmer)), time_s=NOON)
        log.write(replace(ORIN, conditions=NO_SENSOR.conditions), time_s=NOON)
    _, second, third = rows(path)
    assert "new_temperature_c" not in second
    assert None not in second
    assert third["cpu-thermal_temperature_c"] == third["throttling"] == third["memory_total_mib"] == ""


def test_two_zones_of_one_name_have_two_columns(tmp_path: Path) -> None:
    zones = (of("acpitz", 30.0, "c"), of("acpitz", 40.0, "c"))
    path = tmp_path / "power.csv"
    with CsvLog(path) as log:
        log.write(replace(ORIN, conditions=replace(ORIN.conditions, temperatures=zones)), time_s=NOON)
    (row,) = rows(path)
    assert (row["acpitz_temperature_c"], row["acpitz_temperature_c #2"]) == ("30.0", "40.0")


@given(st.lists(st.sampled_from(["a", "a #2", "a #3", "b", "a #2 #2"]), max_size=12))
def test_no_two_names_are_the_same_and_the_first_of_each_keeps_its_own(names: list[str]) -> None:
    made = unique(names)
    assert len(set(made)) == len(made) == len(names)
    assert all(one.startswith(name) for one, name in zip(made, names, strict=True))
    if names:
        assert made[0] == names[0]


def test_a_name_with_a_comma_and_a_quote_stays_one_cell(tmp_path: Path) -> None:
    sensor = replace(ORIN.sensors[0], name='the "old", meter', readings=(w("a,b", 1.0),), in_total=(True,))
    path = tmp_path / "power.csv"
    with CsvLog(path) as log:
        log.write(replace(ORIN, sensors=(sensor,)), time_s=NOON)
    assert rows(path)[0]['the "old", meter/a,b_power_w'] == "1.0"


def test_a_folder_or_a_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot be written: Is a directory"):
        CsvLog(tmp_path)
    with CsvLog(Path("/dev/full")) as log, pytest.raises(SinkError, match="No space left"):
        log.write(ORIN, time_s=NOON)
