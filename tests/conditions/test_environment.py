"""The facts beside a measurement."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.conditions.environment import cpu_name, environment, l4t, load, os_name, processors
from edge_sdk.shell import NoShell
from edge_sdk.testing.fake_shell import FakeShell

MakeTree = Callable[[Mapping[str, Any]], Path]


@pytest.mark.parametrize(
    ("name", "release"), [("nv_tegra_release_r36_4_7.txt", "36.4.7"), ("nv_tegra_release_r39.txt", "39.2.1")]
)
def test_captured_releases_of_jetson_linux_are_read(fixtures_dir: Path, name: str, release: str) -> None:
    assert l4t((fixtures_dir / "jetson" / name).read_text()) == release


@pytest.mark.parametrize("text", ["", "# R36", "# R36 (release), REVISION: x,", "R36 (release), REVISION: 4.7,"])
def test_what_is_no_release_is_none(text: str) -> None:
    assert l4t(text) is None


def test_an_orin_is_described_by_its_files_and_tools(
    captures: Mapping[str, Any], fixtures_dir: Path, make_tree: MakeTree
) -> None:
    jetson = fixtures_dir / "jetson"
    policy = "sys/devices/system/cpu/cpufreq/policy0"
    gpu = "sys/class/devfreq/17000000.gpu"
    root = make_tree({
        **captures["orin_nano_super_jp6"],
        "etc/nv_tegra_release": (jetson / "nv_tegra_release_r36_4_7.txt").read_text(),
        "etc/nvpmodel.conf": (jetson / "nvpmodel_conf_modes_orin_nano_super.txt").read_text(),
        "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nNAME="Ubuntu"\n',
        "proc/sys/kernel/osrelease": "5.15.148-tegra\n",
        "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n\n" * 6,
        "proc/loadavg": "0.42 0.30 0.20 1/512 4242\n",
        "proc/meminfo": "MemTotal: 7802492 kB\nMemAvailable: 5120000 kB\n",
        "sys/devices/system/cpu/online": "0-5\n",
        f"{policy}/scaling_governor": "schedutil\n",
        f"{policy}/scaling_min_freq": "1344000\n",
        f"{policy}/scaling_max_freq": "1344000\n",
        "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
        "sys/class/hwmon/hwmon3/oc3_event_cnt": "37\n",
    })  # fmt: skip
    shell = FakeShell({
        "nvpmodel -q": (jetson / "nvpmodel_q_orin_nano_super.txt").read_text(),
        "jetson_clocks --show": (jetson / "jetson_clocks_show_orin_nano_super.txt").read_text(),
    })  # fmt: skip
    facts = environment(root, shell)
    assert facts == {
        "kernel": "5.15.148-tegra",
        "os": "Ubuntu 22.04.5 LTS",
        "l4t": "36.4.7",
        "jetpack": "6.2.1",
        "cpu": "6x Cortex-A78AE",
        "cpus": 6,
        "memory_mib": 7620,
        "power_mode": "25W",
        "nvpmodel_id": 1,
        "governors": "cpu0 schedutil, 17000000.gpu nvhost_podgov",
        "clocks_pinned": False,
        "emc_mhz": 665.6,
        "current_spikes": 37,
        "load_1min": 0.42,
    }
    (root / gpu / "min_freq").write_text("918000000\n")
    assert environment(root, FakeShell({}))["clocks_pinned"] is True


@pytest.mark.parametrize("name", ["agx_orin_jp6", "agx_thor", "rpi5", "x1e_linux_laptop", "x86_rapl", "jetson_jp4_iio"])
def test_what_a_captured_tree_does_not_tell_is_none_and_json_takes_it(
    captured_board: Callable[[str], Path], name: str
) -> None:
    facts = environment(captured_board(name), NoShell())
    assert facts["kernel"] is None
    assert facts["power_mode"] is None
    assert json.loads(json.dumps(facts)) == facts


def test_this_machine_is_described_without_an_error() -> None:
    facts = environment()
    assert isinstance(facts["kernel"], str)
    assert isinstance(facts["cpus"], int)
    assert facts["cpus"] >= 1
    assert all(value is None or isinstance(value, (str, int, float)) for value in facts.values())


def test_a_tree_of_nonsense_gives_nothing(make_tree: MakeTree) -> None:
    nonsense = b"\xff\x00<>=:%" * 3000
    paths = ["etc/os-release", "etc/nv_tegra_release", "etc/nvpmodel.conf", "proc/cpuinfo", "proc/loadavg",
             "proc/meminfo", "sys/devices/system/cpu/online", "var/lib/nvpmodel/status"]  # fmt: skip
    facts = environment(make_tree(dict.fromkeys(paths, nonsense)), NoShell())
    assert set(facts.values()) == {None}


@pytest.mark.parametrize(("text", "name"), [
    ("model name\t: AMD Ryzen 7 5800X\nmodel name\t: AMD Ryzen 7 5800X\n", "AMD Ryzen 7 5800X"),
    ("CPU implementer\t: 0x41\nCPU part\t: 0xd0b\n" * 4 + "Model\t: Raspberry Pi 5", "4x Cortex-A76"),
    ("CPU implementer : 0x41\nCPU part : 0xd05\n" * 4 + "CPU implementer : 0x41\nCPU part : 0xd41\n",
     "4x Cortex-A55 + 1x Cortex-A78"),
    ("CPU implementer : 0x51\nCPU part : 0x999\n", "1x part 0x999 of 0x51"),
    ("model name : ARMv8 Processor rev 1\nCPU implementer : 0x4e\nCPU part : 0x004\n", "1x Carmel"),
    ("CPU part : 0xd0b\n", None), ("", None), ("model name\t: \n", None),
])  # fmt: skip
def test_a_processor_is_named_by_its_name_or_its_cores(text: str, name: str | None) -> None:
    assert cpu_name(text) == name


@pytest.mark.parametrize(("text", "count"), [
    ("0-5\n", 6), ("0", 1), ("0-3,6", 5), ("0-1,4-5,7", 5), ("", None), ("x", None), ("0-", None), ("5-0", 0),
])  # fmt: skip
def test_processors_that_are_on_are_counted(text: str, count: int | None) -> None:
    assert processors(text) == count


@pytest.mark.parametrize(("text", "name"), [
    ('NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n', "Debian GNU/Linux 12 (bookworm)"),
    ("PRETTY_NAME=Alpine\n", "Alpine"), ("PRETTY_NAME=\n", None), ("", None),
])  # fmt: skip
def test_the_system_is_named_for_people(text: str, name: str | None) -> None:
    assert os_name(text) == name


@given(st.text() | st.text(alphabet='# R36(release), REVISION: 4.7PRETTY_NAME="\ncpu0x41-,'))
def test_no_text_breaks_a_parser(text: str) -> None:
    for parse in (l4t, os_name, cpu_name):
        found = parse(text)
        assert found is None or (found and found.isprintable())
    assert (processors(text) or 0) >= 0
    assert (load(text) or 0) >= 0
