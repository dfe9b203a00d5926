"""Throttling, as each family of boards tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.conditions.throttling import Throttling, Watch, current_spikes, pi_causes, throttled_bits
from edge_sdk.errors import ShellError
from edge_sdk.testing.fake_shell import FakeShell

MakeTree = Callable[[Mapping[str, Any]], Path]
Board = Callable[[str], Path]
FLAGS = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"


def test_a_thor_that_is_cool_throttles_nothing_and_one_that_is_hot_does(captured_board: Board) -> None:
    root = captured_board("agx_thor")
    watch = Watch(root)
    assert watch.read() == Throttling(())
    (root / "sys/class/thermal/cooling_device1/cur_state").write_text("1\n")
    assert watch.read() == Throttling(("gpu-throttle-alert",))
    (root / "sys/class/thermal/cooling_device1/cur_state").write_text("0\n")
    assert watch.read() == Throttling(())


def test_a_board_with_nothing_that_tells_is_not_said_to_be_free_of_it(captured_board: Board, tmp_path: Path) -> None:
    assert Watch(captured_board("x1e_linux_laptop")).read() == Throttling(None)
    assert Watch(captured_board("orin_nano_super_jp6")).read() == Throttling(None)
    assert Watch(tmp_path).read(FakeShell({})) == Throttling(None)


@pytest.mark.parametrize(("kind", "throttles"), [
    ("cpu-throttle-alert", True), ("cpufreq-cpu4", True), ("thermal-cpufreq-0", True), ("thermal-devfreq-0", True),
    ("devfreq-17000000.gpu", True), ("hot-surface-alert", True), ("intel_powerclamp", True),
    ("pwm-fan", False), ("Fan", False), ("Processor", False), ("TCC Offset", False), ("", False),
])  # fmt: skip
def test_what_slows_down_throttles_and_a_fan_does_not(make_tree: MakeTree, kind: str, throttles: bool) -> None:
    device = "sys/class/thermal/cooling_device3"
    found = Watch(make_tree({f"{device}/type": f"{kind}\n", f"{device}/cur_state": "2\n"})).read()
    assert found == Throttling((kind,) if throttles else None)


def test_a_cooling_device_that_cannot_be_read_tells_nothing(make_tree: MakeTree) -> None:
    device = "sys/class/thermal/cooling_device0"
    for state in ({"errno": "EAGAIN"}, "", "nonsense", "9" * 4000):
        assert (
            Watch(make_tree({f"{device}/type": "gpu-throttle-alert", f"{device}/cur_state": state})).read().now is None
        )
    assert Watch(make_tree({f"{device}/type": "intel_powerclamp", f"{device}/cur_state": "-1\n"})).read().now == ()


def test_every_reply_of_get_throttled_means_what_raspberry_pi_says(fixtures_dir: Path) -> None:
    lines = (fixtures_dir / "rpi/get_throttled_examples.txt").read_text().splitlines()
    limit = "soft temperature limit"
    expected = {
        "throttled=0x0": Throttling(()),
        "throttled=0x1": Throttling(("under-voltage",)),
        "throttled=0x50000": Throttling((), ("under-voltage", "throttled")),
        "throttled=0x50005": Throttling(("under-voltage", "throttled"), ("under-voltage", "throttled")),
        "throttled=0x20000": Throttling((), ("frequency capped",)),
        "throttled=0xe0008": Throttling((limit,), ("frequency capped", "throttled", limit)),
        "throttled=0x80008": Throttling((limit,), (limit,)),
    }
    assert set(lines) == set(expected)
    for line in lines:
        bits = throttled_bits(line)
        assert bits is not None
        assert pi_causes(bits) == expected[line]


@pytest.mark.parametrize(("text", "bits"), [
    ("50005\n", 0x50005), ("0\n", 0), ("throttled=0x80000\n", 0x80000), ("0x1", 1),
    ("", None), ("throttled=", None), ("throttled=0x", None), ("throttled=0xg", None), ("throttled=0x123456789", None),
    ('error=1 error_msg="Command not registered"', None), ("VCHI initialization failed", None), ("-1", None),
])  # fmt: skip
def test_the_file_of_sys_is_hexadecimal_without_a_prefix_and_errors_are_no_flags(text: str, bits: int | None) -> None:
    assert throttled_bits(text) == bits


@given(st.text())
def test_no_text_breaks_the_flags(text: str) -> None:
    bits = throttled_bits(text)
    assert bits is None or pi_causes(bits).now is not None


@given(st.integers(0, 2**32 - 1))
def test_every_flag_is_told_once_and_nothing_else(bits: int) -> None:
    causes = pi_causes(bits)
    assert len(causes.now or ()) == bin(bits & 0xF).count("1")
    assert len(causes.since_boot) == bin(bits >> 16 & 0xF).count("1")


def test_a_raspberry_pi_asks_its_firmware_only_when_it_is_given_a_shell(captured_board: Board) -> None:
    root = captured_board("rpi5")
    shell = FakeShell({"vcgencmd get_throttled": "throttled=0xe0008\n"})
    watch = Watch(root)
    assert watch.read() == Throttling(())  # by rpi_volt alone
    limit = "soft temperature limit"
    assert watch.read(shell) == Throttling((limit,), ("frequency capped", "throttled", limit))
    assert shell.commands == ["vcgencmd get_throttled"]
    (root / "sys/class/hwmon/hwmon3/in0_lcrit_alarm").write_text("1\n")
    assert watch.read().now == ("under-voltage",)
    assert watch.read(shell).now == ("under-voltage", limit)


def test_no_other_board_is_asked_for_the_firmware_of_a_raspberry_pi(captured_board: Board) -> None:
    for name in ("agx_thor", "x1e_linux_laptop", "x86_rapl"):
        shell = FakeShell({"vcgencmd": "throttled=0x1\n"})
        Watch(captured_board(name)).read(shell)
        assert shell.commands == []


@pytest.mark.parametrize("answer", [
    ShellError("vcgencmd: not installed"), 'error=1 error_msg="Command not registered"\n', "", "\0" * 100_000,
])  # fmt: skip
def test_a_firmware_that_does_not_answer_leaves_what_files_tell(
    captured_board: Board, answer: str | ShellError
) -> None:
    root = captured_board("rpi5")
    assert Watch(root).read(FakeShell({"vcgencmd": answer})) == Throttling(())
    (root / "sys/class/hwmon/hwmon3/name").write_text("other\n")
    assert Watch(root).read(FakeShell({"vcgencmd": answer})) == Throttling(None)


def test_what_the_kernel_saw_since_it_looked_last_counts_as_now(
    captured_board: Board, captures: Mapping[str, Any]
) -> None:
    root = captured_board("rpi5")
    flags = root / FLAGS
    flags.parent.mkdir(parents=True)
    flags.write_text("0\n")
    watch = Watch(root)
    assert watch.read() == Throttling(())
    flags.write_text("80002\n")
    assert watch.read() == Throttling(("frequency capped", "soft temperature limit"))
    flags.write_text("rubbish\n")
    assert watch.read() == Throttling(())


def test_flags_that_no_driver_renews_are_not_believed(make_tree: MakeTree) -> None:
    compatible = {"proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0"}
    path = "sys/devices/platform/soc/soc:firmware/get_throttled"
    assert Watch(make_tree({**compatible, path: "0\n"})).read() == Throttling(None)


def pc(first: str, second: str) -> dict[str, str]:
    """Two processors with two threads each."""
    files = {}
    for thread, (package, count) in enumerate([("0", first), ("1", second), ("0", first), ("1", second)]):
        folder = f"sys/devices/system/cpu/cpu{thread}"
        files[f"{folder}/topology/physical_package_id"] = f"{package}\n"
        files[f"{folder}/thermal_throttle/package_throttle_count"] = f"{count}\n"
    return files


def test_a_counter_of_a_pc_throttles_when_it_rises(make_tree: MakeTree) -> None:
    root = make_tree(
        {**pc("0", "7"), "sys/devices/system/cpu/cpufreq/policy0/x": "", "sys/devices/system/cpu/online": "0"}
    )
    watch = Watch(root)
    assert watch.read() == Throttling((), ("package-1-throttle (7x)",))
    (root / "sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count").write_text("9\n")
    # What was counted before is remembered when the files are looked for again.
    watch.find(root)
    assert watch.read() == Throttling(("package-1-throttle",), ("package-1-throttle (9x)",))
    assert watch.read() == Throttling((), ("package-1-throttle (9x)",))


def test_a_counter_that_cannot_be_read_tells_nothing(make_tree: MakeTree) -> None:
    assert Watch(make_tree(pc("rubbish", "-1"))).read() == Throttling(None)


def test_a_jetson_counts_under_voltage_and_over_current_and_its_spikes_apart(make_tree: MakeTree) -> None:
    chip = "sys/class/hwmon/hwmon3"
    counters = {f"{chip}/name": "soctherm_oc\n", f"{chip}/oc1_event_cnt": "0\n", f"{chip}/oc2_event_cnt": "0\n"}
    root = make_tree({**counters, f"{chip}/oc3_event_cnt": "27390\n"})
    watch = Watch(root)
    assert watch.read() == Throttling(())
    (root / chip / "oc1_event_cnt").write_text("1\n")
    (root / chip / "oc2_event_cnt").write_text("15\n")
    (root / chip / "oc3_event_cnt").write_text("27400\n")
    now = watch.read()
    assert now.now == ("under-voltage", "over-current")
    assert now.since_boot == ("under-voltage (1x)", "over-current (15x)")
    assert current_spikes(root) == 27400
    assert current_spikes(make_tree(counters)) is None
