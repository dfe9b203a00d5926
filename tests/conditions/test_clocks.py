"""Clocks and governors of captured boards and of machines with many processors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.conditions.clocks import Clocks, megahertz
from edge_sdk.sensors.base import Absent

MakeTree = Callable[[Mapping[str, Any]], Path]
CPUFREQ = "sys/devices/system/cpu/cpufreq"


def policy(number: int, clock: str = "1344000", **files: str) -> dict[str, str]:
    """A processor of cpufreq."""
    given = {"scaling_cur_freq": clock, "scaling_governor": "schedutil", "cpuinfo_max_freq": "1728000", **files}
    return {f"{CPUFREQ}/policy{number}/{name}": f"{text}\n" for name, text in given.items()}


def values(clocks: Clocks, full: bool = True) -> dict[str, float | str | None]:
    readings = clocks.read(0, full)
    return {one.name: one.reason if one.value is None else one.value for one in readings}


@pytest.mark.parametrize(("name", "clocks", "governors"), [
    ("orin_nano_super_jp6", {"17000000.gpu": 306.0}, {"17000000.gpu": "nvhost_podgov"}),
    ("agx_thor", {"gpu-gpc-0": 1575.0, "gpu-nvd-0": 1692.0}, {}),
    ("rpi5", {"cpu0": 2400.0}, {"cpu0": "ondemand"}),
    ("x1e_linux_laptop", {"3d00000.gpu": 310.0}, {}),
    ("x86_rapl", {}, {}),
])  # fmt: skip
def test_captured_boards_have_their_clocks_and_governors(
    captured_board: Callable[[str], Path], name: str, clocks: dict[str, float], governors: dict[str, str]
) -> None:
    found = Clocks(captured_board(name))
    assert values(found) == clocks
    assert dict(found.governors()) == governors
    assert {reading.unit for reading in found.read(0)} <= {"mhz"}


def test_processors_are_in_the_order_of_their_numbers(make_tree: MakeTree) -> None:
    root = make_tree(policy(10, "1000000") | policy(2, "2000000") | policy(0, "3000000"))
    assert list(values(Clocks(root)).items()) == [("cpu0", 3000.0), ("cpu2", 2000.0), ("cpu10", 1000.0)]


def test_the_measured_clock_is_preferred_to_the_one_that_was_asked_for(make_tree: MakeTree) -> None:
    # A Thor whose firmware throttles: it says 2601 MHz and runs at 242.
    root = make_tree(policy(0, "2601000", cpuinfo_cur_freq="242000"))
    (reading,) = Clocks(root).read(0)
    assert (reading.value, reading.reason) == (242.0, None)


def test_a_clock_that_was_only_asked_for_says_so(make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_tree(policy(0, "2601000", cpuinfo_cur_freq="242000"))
    monkeypatch.setattr("os.access", lambda *_: False)  # tests may run as root, who may read everything
    (reading,) = Clocks(root).read(0)
    assert (reading.value, reading.reason) == (2601.0, "asked for, not measured: only root may read the measured clock")


def test_a_quick_read_of_many_processors_takes_one_of_each_kind(make_tree: MakeTree) -> None:
    files: dict[str, str] = {}
    for number in range(12):
        files |= policy(number, cpuinfo_max_freq="4800000" if number < 8 else "3600000")
    gpu = {"sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n"}
    clocks = Clocks(make_tree({**files, **gpu}))
    assert list(values(clocks, full=False)) == ["cpu0", "cpu8", "17000000.gpu"]
    assert [name for name, _ in clocks.governors(full=False)] == ["cpu0", "cpu8"]
    assert len(values(clocks)) == 13
    few = Clocks(make_tree(policy(0) | policy(4)))
    assert list(values(few, full=False)) == ["cpu0", "cpu4"]


def test_an_adreno_without_devfreq_is_read_by_its_own_driver(make_tree: MakeTree) -> None:
    kgsl = {
        "sys/class/kgsl/kgsl-3d0/gpuclk": "315000000\n",
        "sys/class/kgsl/kgsl-3d0/devfreq/governor": "msm-adreno-tz\n",
    }
    clocks = Clocks(make_tree(kgsl))
    assert values(clocks) == {"kgsl-3d0": 315.0}
    assert clocks.governors() == (("kgsl-3d0", "msm-adreno-tz"),)
    devfreq = {"sys/class/devfreq/3d00000.qcom,kgsl-3d0/cur_freq": "315000000\n"}
    assert values(Clocks(make_tree({**kgsl, **devfreq}))) == {"3d00000.qcom,kgsl-3d0": 315.0}


def test_what_is_no_gpu_is_left_out(make_tree: MakeTree) -> None:
    names = ["17000000.gv11b", "57000000.gpu", "soc:cpu-cpu-llcc-bw", "1c00000.interconnect", "fb000000.mali"]
    root = make_tree({f"sys/class/devfreq/{name}/cur_freq": "1000000\n" for name in names})
    assert set(values(Clocks(root))) == {"17000000.gv11b", "57000000.gpu", "fb000000.mali"}


def test_clocks_that_are_held_are_known_by_their_limits(make_tree: MakeTree) -> None:
    held = policy(0, scaling_min_freq="1344000", scaling_max_freq="1344000")
    free = policy(4, scaling_min_freq="729600", scaling_max_freq="1344000")
    gpu = {
        "sys/class/devfreq/17000000.gpu/min_freq": "918000000",
        "sys/class/devfreq/17000000.gpu/max_freq": "918000000",
    }
    assert Clocks(make_tree({**held, **gpu})).pinned() is True
    assert Clocks(make_tree({**held, **free, **gpu})).pinned() is False
    assert Clocks(make_tree(policy(0))).pinned() is None


@pytest.mark.parametrize(("text", "reason"), [
    ("-1000", "no clock: -1 MHz"),
    ("20001000", "no clock: 20001 MHz"),
    ("<unknown>", "no number in it: '<unknown>'"),
])  # fmt: skip
def test_what_can_be_no_clock_is_none(make_tree: MakeTree, text: str, reason: str) -> None:
    assert values(Clocks(make_tree(policy(0, text)))) == {"cpu0": reason}


@given(st.text(), st.sampled_from([1000, 1_000_000]))
def test_no_text_breaks_a_clock(text: str, per_mhz: int) -> None:
    value = megahertz(per_mhz)(text)
    assert isinstance(value, Absent) or 0 <= value <= 20_000
