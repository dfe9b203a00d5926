"""Profiles as CSV."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import SinkError
from edge_sdk.measure.record import ChannelTrack, ConditionTrack, Throttle
from edge_sdk.report.table import FILES, write_csv

from .profiles import KINDS, make_profile


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def track(sensor: str, name: str, at_s: tuple[float, ...], watts: tuple[float | None, ...]) -> ChannelTrack:
    return ChannelTrack(sensor, name, True, "sensor_total", at_s, watts)


def test_samples_carry_their_unit_and_their_window(tmp_path: Path) -> None:
    profile = make_profile()
    files = write_csv(profile, tmp_path / "csv")
    assert tuple(file.name for file in files) == FILES
    assert sorted(one.name for one in (tmp_path / "csv").iterdir()) == sorted(FILES)
    found = rows(files[0])
    assert list(found[0]) == ["at_s", "window", "repeat", "VDD_IN_w", "VDD_CPU_GPU_CV_w", "VDD_SOC_w"]
    assert len(found) == len(profile.channels[0].at_s)
    assert [float(row["VDD_IN_w"]) for row in found] == list(profile.channels[0].power_w)
    windows = {(row["window"], row["repeat"]) for row in found}
    assert windows == {
        ("", ""),
        *((kind, str(n)) for kind, most in (("idle", 4), ("work", 3)) for n in range(1, most + 1)),
    }
    inside = next(row for row in found if row["window"] == "work")
    assert 13.5 <= float(inside["at_s"]) <= 23.5


def test_sensors_that_are_read_at_other_times_have_rows_of_their_own(tmp_path: Path) -> None:
    channels = (
        track("chip", "A", (0.0, 1.0), (5.0, None)), track("chip", "B", (0.0, 1.0), (1.0, 2.0)),
        track("meter", "A", (0.5, 1.0), (6.0, 7.0)),
    )  # fmt: skip
    found = rows(write_csv(make_profile(channels=channels, energy=None), tmp_path)[0])
    assert [tuple(row.values()) for row in found] == [
        ("0.0", "", "", "5.0", "1.0", ""), ("0.5", "", "", "", "", "6.0"), ("1.0", "", "", "", "2.0", ""),
        ("1.0", "", "", "", "", "7.0"),
    ]  # fmt: skip
    assert list(found[0])[3:] == ["chip A_w", "B_w", "meter A_w"]


def test_columns_of_one_name_stay_apart(tmp_path: Path) -> None:
    channels = tuple(track("chip", "A", (0.0,), (float(i),)) for i in range(3))
    found = rows(write_csv(make_profile(channels=channels), tmp_path)[0])
    assert list(found[0])[3:] == ["chip A_w", "chip A_w (2)", "chip A_w (3)"]


def test_conditions_say_what_throttled_then(tmp_path: Path) -> None:
    profile = make_profile("rejected")
    throttling = (*profile.throttling, Throttle("under-voltage", 24.0, 26.0))
    conditions = (*profile.conditions, ConditionTrack("fan", "percent", (24.5,), (None,), "gone"))
    found = rows(write_csv(replace(profile, throttling=throttling, conditions=conditions), tmp_path)[1])
    assert list(found[0])[:4] == ["at_s", "throttling", "cpu-thermal_c", "gpu-thermal_c"]
    by_time = {float(row["at_s"]): row for row in found}
    assert by_time[10.0]["throttling"] == ""
    assert by_time[21.0]["throttling"] == "gpu-throttle-alert"
    assert by_time[25.0]["throttling"] == "gpu-throttle-alert; under-voltage"
    assert by_time[24.5]["fan_percent"] == ""


def test_windows_and_latencies(tmp_path: Path) -> None:
    profile = make_profile("absent")
    *_, windows, latencies = write_csv(profile, tmp_path)
    found = rows(windows)
    assert [(row["kind"], row["repeat"]) for row in found][:3] == [("idle", "1"), ("work", "1"), ("idle", "2")]
    assert (found[2]["energy_j"], found[2]["longest_gap_s"]) == ("", "7.4")
    times = rows(latencies)
    assert [float(row["ms"]) for row in times] == list(profile.latency.times_ms)
    assert [row["query"] for row in times[:2]] == ["1", "2"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_profile_has_its_tables_and_no_formula(tmp_path: Path, kind: Any) -> None:
    for path in write_csv(make_profile(kind), tmp_path):
        with path.open(newline="", encoding="utf-8") as file:
            found = list(csv.reader(file))
        assert len({len(row) for row in found}) == 1
        assert len(set(found[0])) == len(found[0])
        assert not [cell for row in found for cell in row if cell[:1] in "=@\t\r" and cell]


def test_a_name_that_a_spreadsheet_would_run_is_a_name(tmp_path: Path) -> None:
    channels = (track("chip", "=HYPERLINK(1)", (0.0,), (1.0,)), track("chip", "-2+3", (0.0,), (1.0,)))
    found = rows(write_csv(make_profile(channels=channels), tmp_path)[0])
    assert list(found[0])[3:] == ["'=HYPERLINK(1)_w", "'-2+3_w"]


def test_files_are_replaced_and_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    write_csv(make_profile(), tmp_path)
    files = write_csv(make_profile("bare"), tmp_path)
    assert files[0].read_text() == "at_s,window,repeat\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="file: cannot be made"):
        write_csv(make_profile(), tmp_path / "file")
