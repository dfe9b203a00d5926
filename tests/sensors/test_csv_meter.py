"""A file that another program appends to: its newest whole line counts, and an old one is no value."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors import csv_meter, newest
from edge_sdk.sensors.base import Absent, Sensor, Wanted
from edge_sdk.sensors.csv_meter import DRIVER

HEADER = "time,voltage,current,power_w\n"


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "meter.csv"
    path.write_text(HEADER + "1,5.1,1.0,5.10\n")
    return path


@pytest.fixture
def opened() -> Iterator[Callable[..., Sensor]]:
    """Opens a meter; with an interval of 0.5 s, so that nothing is waited for, unless the test says otherwise."""
    sensors: list[Sensor] = []

    def open_one(path: Path | str, **options: str) -> Sensor:
        sensors.append(DRIVER.open(Wanted(address=str(path), options={"interval": "0.5", **options})))
        return sensors[-1]

    yield open_one
    for sensor in sensors:
        sensor.close()
        sensor.close()


def test_the_newest_whole_line_counts(log: Path, opened: Callable[..., Sensor]) -> None:
    sensor = opened(log)
    assert sensor.read() == (5.1,)
    append(log, "2,5.1,1.1,5.2")
    assert sensor.read() == (5.1,)  # not yet whole
    append(log, "5\n3,5.1,1.2,5.30\n4,5.1")
    assert sensor.read() == (5.3,)
    [only] = sensor.channels
    assert (only.name, only.quantity, only.method, only.in_total) == ("power", "power", "external", True)
    assert sensor.name == f"csv {log}"


def test_columns_and_units_can_be_said(log: Path, opened: Callable[..., Sensor]) -> None:
    assert opened(log, column="current", unit="mw").read() == (pytest.approx(0.001),)
    assert opened(log, column="1").read() == (5.1,)


def test_a_line_that_is_no_value_has_a_reason_until_the_next(log: Path, opened: Callable[..., Sensor]) -> None:
    sensor = opened(log)
    append(log, "2,5.1,1.1,nan\n")
    assert sensor.read() == (Absent("not a number: 'nan'"),)
    append(log, "2,5.1,1.1,-3\n")
    assert sensor.read() == (Absent("negative: -3.000"),)
    append(log, "3,5.1,1.1,5.4\n")
    assert sensor.read() == (5.4,)


def test_a_file_that_is_cut_off_and_written_anew_is_followed(log: Path, opened: Callable[..., Sensor]) -> None:
    append(log, "2,5.1,1.1,5.2\n" * 20)
    sensor = opened(log)
    log.write_text("power_w,time\n6.5,1\n")
    assert sensor.read() == (6.5,)


def test_a_file_that_is_replaced_is_followed(log: Path, opened: Callable[..., Sensor]) -> None:
    sensor = opened(log)
    append(log, "2,5.1,1.1,5.2\n")
    log.rename(log.with_suffix(".old"))
    assert sensor.read() == (5.2,)  # the old one, while there is no new one
    log.write_text("7,5.1,1.4,7.10\n")  # without a header: the old one holds
    assert sensor.read() == (7.1,)
    append(log, "8,5.1,1.4,7.20\n")
    assert sensor.read() == (7.2,)


def test_an_old_value_is_none(log: Path, opened: Callable[..., Sensor], monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = opened(log)
    later = time.monotonic() + 4.2
    for module in (newest, csv_meter):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: later, time=time.time))
    [value] = sensor.read()
    assert isinstance(value, Absent)
    assert value.reason.startswith("stale: the last line came 4 s ago")
    append(log, "2,5.1,1.1,5.5\n")
    assert sensor.read() == (5.5,)


def test_a_file_that_nobody_writes_any_more_is_not_opened(
    log: Path, opened: Callable[..., Sensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_meter, "STALE_S", 0.1)
    yesterday = time.time() - 86400
    os.utime(log, (yesterday, yesterday))
    with pytest.raises(SensorError, match=r"stale: the last line came \d+ s ago; does the meter's program run"):
        opened(log, interval="0.05")


def test_an_empty_file_is_waited_for(tmp_path: Path, opened: Callable[..., Sensor]) -> None:
    path = tmp_path / "meter.csv"
    path.touch()
    timer = threading.Timer(0.2, append, [path, "4.5\n"])
    timer.start()
    assert opened(path).read() == (4.5,)
    timer.join()


def test_how_often_lines_come_is_learnt(log: Path, opened: Callable[..., Sensor]) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.05):
            append(log, "2,5.1,1.1,5.2\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        sensor = DRIVER.open(Wanted(address=str(log)))
        assert 0.01 < sensor.refresh_s < 1.0
        sensor.close()
    finally:
        stop.set()
        writer.join()
    assert opened(log).refresh_s == 0.5


def test_of_a_long_file_the_header_and_the_end_are_read(log: Path, opened: Callable[..., Sensor]) -> None:
    append(log, "2,5.1,1.1,5.20\n" * 20_000 + "3,5.1,1.1,5.90\n")
    sensor = opened(log)
    assert sensor.read() == (5.9,)
    append(log, "2,5.1,1.1,5.20\n" * 20_000 + "3,5.1,1.1,6.10\n")
    assert sensor.read() == (6.1,)


def test_ten_megabytes_of_garbage_are_passed_over(log: Path, opened: Callable[..., Sensor]) -> None:
    sensor = opened(log)
    with log.open("ab") as file:
        file.write(b"\xff\0" * 5_000_000)
    assert sensor.read() == (5.1,)
    append(log, "\n3,5.1,1.1,5.90\n")
    assert sensor.read() == (5.9,)


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("time,voltage\n1,5\n", {}, "no column of power among 'time', 'voltage': say column="),
        ("1,2\n", {}, "several columns and no header: say column=, from 0"),
        ("mA,power\n1,2\n", {}, "say unit=w or unit=mw"),
        ("power_w\n1\n", {"column": "watts"}, "there is no column 'watts'"),
        ("power_w\n", {}, "no line yet; does the meter's program run? One that writes seldom needs interval=SECONDS"),
    ],
)
def test_a_file_that_gives_no_power_is_not_opened(
    tmp_path: Path,
    opened: Callable[..., Sensor],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    options: dict[str, str],
    reason: str,
) -> None:
    monkeypatch.setattr(csv_meter, "STALE_S", 0.05)
    path = tmp_path / "meter.csv"
    path.write_text(text)
    with pytest.raises(SensorError) as caught:
        opened(path, interval="0.05", **options)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_what_is_no_file_is_not_opened(tmp_path: Path, opened: Callable[..., Sensor]) -> None:
    with pytest.raises(SensorError, match=r"gone \(ENOENT\)"):
        opened(tmp_path / "none")
    with pytest.raises(SensorError, match="neither a file nor a pipe"):
        opened(tmp_path)
    with pytest.raises(SensorError, match="neither a file nor a pipe; a serial port is named serial:PORT"):
        opened("/dev/null")
    with pytest.raises(UsageError, match="name the file: csv:FILE"):
        opened("")
    with pytest.raises(UsageError, match="no such sensor option: colour"):
        opened(tmp_path, colour="red")


def test_a_pipe_is_read_and_its_next_writer_too(tmp_path: Path, opened: Callable[..., Sensor]) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write(text: str) -> None:
        with path.open("w") as file:  # waits for the reader
            file.write(text)

    writer = threading.Thread(target=write, args=["power_w,x\n3.5,1\n"])
    writer.start()
    sensor = opened(path)
    writer.join()
    assert sensor.read() == (3.5,)
    write("4.5,1\n")
    assert sensor.read() == (4.5,)
    assert sensor.read() == (4.5,)


def test_closing_leaves_no_descriptor(log: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    sensor = DRIVER.open(Wanted(address=str(log), options={"interval": "0.5"}))
    log.unlink()
    log.write_text(HEADER + "1,5.1,1.0,5.10\n")
    sensor.read()
    sensor.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
