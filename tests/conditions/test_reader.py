"""Everything at once: of captured boards, of this machine, and while files change under it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.conditions.base import NOT_READ, Conditions, PowerMode
from edge_sdk.conditions.changes import why_not_steady
from edge_sdk.conditions.reader import ConditionsReader
from edge_sdk.measure.clock import Repeating, SystemClock
from edge_sdk.result import Reading
from edge_sdk.shell import NoShell
from edge_sdk.testing.fake_shell import FakeShell

MakeTree = Callable[[Mapping[str, Any]], Path]
Board = Callable[[str], Path]


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now_ns(self) -> int:
        return int(self.seconds * 1e9)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def every(self, period_s: float, tick: Callable[[], None]) -> Repeating:
        return SystemClock().every(period_s, tick)


def values(readings: tuple[Reading, ...]) -> dict[str, float | None]:
    return {reading.name: reading.value for reading in readings}


def test_an_orin_is_read_as_it_was_captured(captured_board: Board, fixtures_dir: Path) -> None:
    root = captured_board("orin_nano_super_jp6")
    shell = FakeShell({"nvpmodel -q": (fixtures_dir / "jetson/nvpmodel_q_orin_nano_super.txt").read_text()})
    clock = Clock()
    found = ConditionsReader(root, shell, clock=clock).read()
    assert found.at_ns == clock.now_ns()
    assert values(found.temperatures) == {"cpu-thermal": 51.187, "gpu-thermal": 50.218, "cv0-thermal": None}
    assert values(found.clocks) == {"17000000.gpu": 306.0}
    assert found.governors == (("17000000.gpu", "nvhost_podgov"),)
    assert (found.power_mode, found.power_mode_reason) == (PowerMode("25W", 1), None)
    assert found.throttling is None
    assert found.memory is None


def test_a_thor_throttles_nothing_and_its_gated_gpu_has_a_reason(captured_board: Board) -> None:
    found = ConditionsReader(captured_board("agx_thor"), NoShell()).read()
    assert found.throttling == ()
    assert [reading.reason for reading in found.temperatures if reading.value is None] == [
        "temp: power-gated or busy (EAGAIN)"
    ]
    assert found.power_mode is None
    assert found.power_mode_reason == "nvpmodel: not run, because this is a captured tree"


@pytest.mark.parametrize("name", [
    "agx_orin_jp6", "agx_orin_channel_disabled", "jetson_jp4_iio", "rpi5", "x1e_linux_laptop", "ventuno_q_ina232",
    "x86_rapl",
])  # fmt: skip
def test_every_captured_board_is_read_without_an_error(captured_board: Board, name: str) -> None:
    found = ConditionsReader(captured_board(name)).read()
    for reading in (*found.temperatures, *found.clocks, *found.loads):
        assert (reading.value is None) <= bool(reading.reason)
    assert (found.power_mode is None) == bool(found.power_mode_reason)


def test_this_machine_is_read_without_an_error() -> None:
    with ConditionsReader() as reader:
        first, second = reader.read(), reader.read(full=False)
    assert second.at_ns > first.at_ns
    assert first.memory is not None
    assert first.memory.total_mib > 0
    assert [load.name for load in first.loads][:1] == ["cpu"]
    assert second.power_mode_reason == NOT_READ


def test_a_quick_read_starts_no_process_and_says_what_it_left_out(captured_board: Board) -> None:
    for name in ("orin_nano_super_jp6", "rpi5", "x86_rapl"):
        shell = FakeShell({"vcgencmd": "throttled=0x50005\n", "nvpmodel": "NV Power Mode: 25W\n1\n"})
        reader = ConditionsReader(captured_board(name), shell)
        found = reader.read(full=False)
        assert shell.commands == []
        assert (found.power_mode, found.power_mode_reason) == (None, NOT_READ)


def test_a_full_read_of_a_raspberry_pi_has_the_flags_of_its_firmware(captured_board: Board) -> None:
    shell = FakeShell({"vcgencmd get_throttled": "throttled=0x50000\n"})
    reader = ConditionsReader(captured_board("rpi5"), shell)
    before = reader.read()
    assert (before.throttling, before.throttled_since_boot) == ((), ("under-voltage", "throttled"))
    assert why_not_steady(before, reader.read(full=False)) == ()
    shell.answers["vcgencmd get_throttled"] = "throttled=0xd0000\n"
    (reason,) = why_not_steady(before, reader.read())
    assert reason.startswith("throttled meanwhile: soft temperature limit; let it cool down")


def test_a_zone_that_goes_is_told_and_one_that_comes_is_found(captured_board: Board) -> None:
    root, clock = captured_board("agx_thor"), Clock()
    reader = ConditionsReader(root, NoShell(), clock=clock)
    zones = root / "sys/class/thermal"
    # The numbers move: what was zone 4 is zone 9 now.
    (zones / "thermal_zone4").rename(zones / "thermal_zone9")
    gone = {reading.name: reading.reason for reading in reader.read().temperatures}
    assert gone["tj-thermal"] == "temp: gone (ENOENT)"
    clock.seconds += 1.9  # not at every read
    assert values(reader.read().temperatures)["tj-thermal"] is None
    clock.seconds += 0.2
    assert values(reader.read().temperatures)["tj-thermal"] == 55.1


def test_what_is_new_is_found_within_half_a_minute(captured_board: Board) -> None:
    root, clock = captured_board("orin_nano_super_jp6"), Clock()
    reader = ConditionsReader(root, NoShell(), clock=clock)
    reader.read()
    device = root / "sys/class/thermal/cooling_device0"
    device.mkdir(parents=True)
    (device / "type").write_text("cpu-throttle-alert\n")
    (device / "cur_state").write_text("1\n")
    clock.seconds += 29
    assert reader.read().throttling is None
    clock.seconds += 2
    assert reader.read().throttling == ("cpu-throttle-alert",)


def watch_opening(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened from now on."""
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr("os.open", lambda path, *flags: opened.append(str(path)) or real(path, *flags))
    return opened


def test_a_link_that_leads_nowhere_is_not_looked_for_at_every_read(
    captured_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, clock = captured_board("agx_thor"), Clock()
    temp = root / "sys/class/thermal/thermal_zone0/temp"
    temp.unlink()
    temp.symlink_to("nowhere")
    reader = ConditionsReader(root, NoShell(), clock=clock)
    opened = watch_opening(monkeypatch)
    for _ in range(20):
        clock.seconds += 0.5
        reader.read(full=False)
    assert 1 <= opened.count(str(temp.with_name("type"))) <= 5


def test_a_gated_zone_is_read_once_and_not_again(captured_board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    root = captured_board("orin_nano_super_jp6")
    reader = ConditionsReader(root, NoShell())
    opened = watch_opening(monkeypatch)
    reader.read(full=False)
    assert opened.count(str(root / "sys/class/thermal/thermal_zone2/temp")) == 1


def test_reading_leaves_no_descriptor_behind(captured_board: Board) -> None:
    reader = ConditionsReader(captured_board("orin_nano_super_jp6"), NoShell())
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        reader.read()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def files_of(tree: Mapping[str, Any]) -> Iterator[str]:
    yield from (path for path, content in tree.items() if isinstance(content, str))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_file_of_a_board_can_break_it(data: st.DataObject, captures: Mapping[str, Any], make_tree: MakeTree) -> None:
    tree = {**captures["rpi5"], **captures["agx_thor"], **captures["orin_nano_super_jp6"],
            "proc/stat": "cpu 1 2 3 4\n", "proc/meminfo": "MemTotal: 2 kB\nMemAvailable: 1 kB\n",
            "sys/devices/platform/gpu.0/load": "5", "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n"}  # fmt: skip
    broken = st.binary(max_size=60) | st.sampled_from([b"", b"\0", b"9" * 5000, b"-1", b"nan", {"errno": "EIO"}])
    for path in data.draw(st.lists(st.sampled_from(sorted(files_of(tree))), max_size=8, unique=True)):
        tree[path] = data.draw(broken)
    shell = FakeShell({"vcgencmd": data.draw(st.text(max_size=40)), "nvpmodel": data.draw(st.text(max_size=40))})
    reader = ConditionsReader(make_tree(tree), shell)
    for full in (True, False, True):
        found = reader.read(full)
        assert isinstance(found, Conditions)
        for reading in (*found.temperatures, *found.clocks, *found.loads):
            assert reading.value is not None or reading.reason
