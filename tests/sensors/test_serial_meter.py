"""A meter on a serial port, played by a pseudo-terminal: lines, silence, garbage, unplugged and back."""

from __future__ import annotations

import os
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_sdk.errors import MissingDependencyError, SensorError, UsageError
from edge_sdk.sensors import newest, serial_meter
from edge_sdk.sensors.base import Absent, Sensor, Wanted
from edge_sdk.sensors.serial_meter import DRIVER, serial_port

pytest.importorskip("serial")


class Port:
    """A serial port under a root, at whose other end a test writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.node = root / "dev/ttyACM0"
        self.node.parent.mkdir()
        self.plug()

    def plug(self) -> None:
        self.other_end, ours = os.openpty()
        tty.setraw(ours)
        os.set_blocking(self.other_end, False)
        self.node.symlink_to(os.ttyname(ours))
        self._ours = ours

    def unplug(self) -> None:
        self.node.unlink()
        os.close(self.other_end)
        os.close(self._ours)

    def send(self, text: str | bytes) -> None:
        with suppress(BlockingIOError):  # nobody reads it, and it is full
            os.write(self.other_end, text if isinstance(text, bytes) else text.encode())


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Port]:
    monkeypatch.setattr(serial_meter, "_AGAIN_S", 0.05)
    one = Port(tmp_path)
    yield one
    with suppress(OSError):
        one.unplug()


@pytest.fixture
def opened(port: Port) -> Iterator[Callable[..., Sensor]]:
    """Opens the meter while it sends a line again and again."""
    sensors: list[Sensor] = []

    def open_one(line: str | bytes = "5.1\n", address: str = "/dev/ttyACM0", **options: str) -> Sensor:
        stop = threading.Event()

        def send() -> None:
            while not stop.wait(0.02):
                port.send(line)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            given = {name: text for name, text in {"interval": "0.5", **options}.items() if text}
            sensors.append(DRIVER.open(Wanted(address=address, root=port.root, options=given)))
        finally:
            stop.set()
            sender.join()
        return sensors[-1]

    yield open_one
    for sensor in sensors:
        sensor.close()
        sensor.close()


def wait_for(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_the_newest_line_is_read(port: Port, opened: Callable[..., Sensor]) -> None:
    sensor = opened()
    assert sensor.read() == (5.1,)
    port.send("5.2\n5.3\n5.")
    wait_for(lambda: sensor.read() == (5.3,))
    port.send("45 W\r\n")
    wait_for(lambda: sensor.read() == (5.45,))
    [only] = sensor.channels
    assert (only.quantity, only.method, only.in_total) == ("power", "external", True)
    assert sensor.name == f"serial {port.node}"


@pytest.mark.parametrize(
    ("line", "options", "watts"),
    [
        ("V=5.11 I=1.04 P=5.32\n", {}, 5.32),
        ("1;5,11;5,32\r\n", {"column": "2"}, 5.32),
        ("> 5320 <\r", {"pattern": r"> (\d+) <", "unit": "mw"}, 5.32),
    ],
)
def test_lines_of_several_kinds_are_read(
    opened: Callable[..., Sensor], line: str, options: dict[str, str], watts: float
) -> None:
    assert opened(line, **options).read() == (pytest.approx(watts),)


def test_the_line_in_whose_middle_it_begins_is_left_out(port: Port) -> None:
    port.send(".32\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serial_meter, "STALE_S", 0.3)
        with pytest.raises(SensorError, match="no line yet at 115200 baud; another speed is named serial:PORT@BAUD"):
            DRIVER.open(Wanted(address="/dev/ttyACM0", root=port.root, options={"interval": "0.1"}))


def test_how_often_lines_come_is_learnt_where_nobody_says_it(opened: Callable[..., Sensor]) -> None:
    assert 0.005 < opened(interval="").refresh_s < 1.0


def test_garbage_is_a_reason_and_the_next_line_a_value(port: Port, opened: Callable[..., Sensor]) -> None:
    sensor = opened()
    port.send(b"\xff\xfe\n")
    wait_for(lambda: isinstance(sensor.read()[0], Absent))
    [value] = sensor.read()
    assert isinstance(value, Absent)
    assert value.reason.startswith("no number in the line")
    for _ in range(200):
        port.send(b"x" * 2000)
    port.send("\n5.6\n")
    wait_for(lambda: (port.send("5.6\n"), sensor.read() == (5.6,))[1])


def test_one_that_is_unplugged_is_gone_and_read_again_when_it_is_back(
    port: Port, opened: Callable[..., Sensor]
) -> None:
    sensor = opened()
    port.unplug()
    wait_for(lambda: isinstance(sensor.read()[0], Absent))
    [value] = sensor.read()
    assert isinstance(value, Absent)
    assert value.reason.startswith(f"gone: {port.node}")
    port.plug()
    wait_for(lambda: (port.send("6.5\n"), sensor.read() == (6.5,))[1])


def test_silence_makes_the_value_stale(opened: Callable[..., Sensor], monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = opened()
    later = time.monotonic() + 4.2
    monkeypatch.setattr(newest, "time", SimpleNamespace(monotonic=lambda: later))
    assert sensor.read() == (Absent("stale: the last line came 4 s ago"),)


def test_a_line_that_gives_no_power_is_said_at_the_opening(
    opened: Callable[..., Sensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_meter, "STALE_S", 0.3)
    with pytest.raises(SensorError, match="several columns and no header: say column=, from 0"):
        opened("1,2\n", interval="0.1")


def test_a_port_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="there is no such port"):
        DRIVER.open(Wanted(address="/dev/ttyUSB7", root=tmp_path))


def test_a_port_that_another_program_has_is_said(port: Port, opened: Callable[..., Sensor]) -> None:
    opened()
    with pytest.raises(SensorError, match="another program has it"):
        DRIVER.open(Wanted(address="/dev/ttyACM0", root=port.root))


def test_closing_leaves_no_thread_and_no_descriptor(port: Port, opened: Callable[..., Sensor]) -> None:
    threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    opened().close()
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("/dev/ttyACM0", ("/dev/ttyACM0", 115200)),
        ("/dev/serial/by-id/usb-x@1@9600", ("/dev/serial/by-id/usb-x@1", 9600)),
        ("COM3@230400", ("COM3", 230400)),
    ],
)
def test_port_and_speed_are_read(address: str, wanted: tuple[str, int]) -> None:
    assert serial_port(address) == wanted


@pytest.mark.parametrize("address", ["", "@9600", "/dev/x@fast", "/dev/x@1", "/dev/x@99999999", "/dev/x@²"])
def test_a_wrong_port_or_speed_is_a_usage_error(address: str) -> None:
    with pytest.raises(UsageError, match=r"name the port|no speed in baud"):
        serial_port(address)


def test_without_pyserial_it_is_said_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edge-sdk\[serial\]'"):
        DRIVER.open(Wanted(address="/dev/ttyACM0"))
