"""The recording of a board is the board again to the SDK, and tells nothing of which one it was, or whose."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.errors import ShellError
from edge_sdk.sensors import sysfs
from edge_sdk.sensors.gauge import Gauge
from edge_sdk.sensors.power import open_power
from edge_sdk.shell import NoShell
from edge_sdk.targets import identify
from edge_sdk.testing.fake_shell import FakeShell

TOOL = Path(__file__).resolve().parents[2] / "tools/record_device.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_device", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["record_device"] = module
    spec.loader.exec_module(module)
    return module


def written(files: Mapping[str, Any], root: Path) -> Path:
    """Texts only: those that fail are left out."""
    for name, content in files.items():
        if isinstance(content, str):
            (root / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (root / name.lstrip("/")).write_text(content)
    return root


def watts(root: Path) -> tuple[str, float | None]:
    """The board under a root, and its total power."""
    target = identify(root).target
    with open_power(target=target, root=root, shell=NoShell()) as power:
        return target.name, None if power.main is None else Gauge(power.main).read().total.value


# ---- the recording is the board


@pytest.mark.parametrize(
    ("name", "target", "total_w"),
    [
        ("agx_orin_jp6", "jetson-agx-orin-64gb", 12.008 * 0.280 + 12.008 * 0.040 + 4.968 * 0.980),
        ("orin_nano_super_jp6", "jetson-orin-nano", 4.984 * 0.960),
        ("agx_thor", "jetson-agx-thor", 28.222),
        ("jetson_jp4_iio", None, None),
        ("rpi5", "raspberry-pi-5", None),
        ("x1e_linux_laptop", None, None),
        ("ventuno_q_ina232", None, 8.795),
        ("x86_rapl", "generic-x86_64", None),
        ("agx_orin_channel_disabled", None, None),
    ],
)
def test_a_recorded_board_is_the_same_board_with_the_same_power(
    tool: ModuleType,
    captured_board: Callable[[str], Path],
    make_tree: Callable[[Mapping[str, Any]], Path],
    name: str,
    target: str | None,
    total_w: float | None,
) -> None:
    root = captured_board(name)
    named, tree = tool.record(root, NoShell(), name=name)
    again = make_tree(tree["files"])
    assert named == name
    assert watts(again) == watts(root)
    assert identify(again).confidence == identify(root).confidence
    assert tree["identified"] == f"{identify(root).target.name} ({identify(root).confidence})"
    if target is not None:
        assert watts(again)[0] == target
    if total_w is not None:
        assert watts(again)[1] == pytest.approx(total_w, abs=0.01)


@pytest.mark.parametrize("name", ["agx_orin_jp6", "orin_nano_super_jp6", "agx_thor", "rpi5", "x86_rapl"])
def test_everything_that_was_captured_is_recorded_word_for_word(
    tool: ModuleType, captured_board: Callable[[str], Path], captures: Mapping[str, Any], name: str
) -> None:
    _, tree = tool.record(captured_board(name), NoShell())
    for path, content in captures[name].items():
        wanted = content if isinstance(content, str) else {"errno": content["errno"]}
        if not path.endswith("_alarm") or "rpi_volt" in captures[name].get(f"{path.rpartition('/')[0]}/name", ""):
            assert tree["files"][path] == wanted
    assert tree["scrubbed"] == {}


def test_a_chip_keeps_the_path_of_its_device_and_that_of_its_class(tool: ModuleType, tmp_path: Path) -> None:
    device = "sys/devices/platform/c240000.i2c/i2c-1/1-0040/hwmon/hwmon3"
    files = {"name": "ina3221\n", "in1_label": "VDD_IN\n", "in1_input": "5000\n", "curr1_input": "1000\n"}
    written({f"{device}/{name}": text for name, text in files.items()}, tmp_path)
    (tmp_path / "sys/class/hwmon").mkdir(parents=True)
    (tmp_path / "sys/class/hwmon/hwmon3").symlink_to(Path("../../..") / device)
    _, tree = tool.record(tmp_path, NoShell())
    assert tree["links"] == {"/sys/class/hwmon/hwmon3": f"/{device}"}
    assert tree["files"] == {
        f"/{place}/{name}": text for place in (device, "sys/class/hwmon/hwmon3") for name, text in files.items()
    }


def test_with_its_links_made_again_the_chip_has_its_address_again(tool: ModuleType, tmp_path: Path) -> None:
    device = "sys/devices/platform/c240000.i2c/i2c-1/1-0040/hwmon/hwmon3"
    written({f"{device}/name": "ina3221\n"}, tmp_path / "board")
    (tmp_path / "board/sys/class/hwmon").mkdir(parents=True)
    (tmp_path / "board/sys/class/hwmon/hwmon3").symlink_to(Path("../../..") / device)
    _, tree = tool.record(tmp_path / "board", NoShell())
    linked = tuple(f"{link}/" for link in tree["links"])
    again = written({name: text for name, text in tree["files"].items() if not name.startswith(linked)}, tmp_path / "2")
    for link, real in tree["links"].items():
        (again / link[1:]).parent.mkdir(parents=True, exist_ok=True)
        (again / link[1:]).symlink_to(again / real[1:])
    [chip] = sysfs.hwmon(again, "ina3221")
    assert sysfs.i2c_device(chip, again) == "1-0040"


def test_the_recorded_commands_are_a_shell_that_says_the_same(
    tool: ModuleType,
    captured_board: Callable[[str], Path],
    make_tree: Callable[[Mapping[str, Any]], Path],
    fixtures_dir: Path,
) -> None:
    said = (fixtures_dir / "rpi/pmic_read_adc_pi5_load.txt").read_text()
    shell = FakeShell({"vcgencmd pmic_read_adc": said, "vcgencmd": "0\n"})
    _, tree = tool.record(captured_board("rpi5"), shell)
    again = make_tree(tree["files"])
    with open_power(target=identify(again).target, root=again, shell=FakeShell(tree["commands"])) as power:
        assert power.main is not None
        assert Gauge(power.main).read().total.value == pytest.approx(5.92, abs=0.01)


def test_what_is_read_by_nobody_else_is_not_recorded(tool: ModuleType, tmp_path: Path) -> None:
    files = {
        "sys/class/hwmon/hwmon0/name": "ina238\n",
        "sys/class/hwmon/hwmon0/power1_input": "1\n",
        "sys/class/hwmon/hwmon0/power1_max_alarm": "0\n",  # some chips clear it when it is read
        "sys/class/power_supply/BAT0/serial_number": "none\n",
        "sys/devices/soc0/serial_number": "none\n",
        "proc/device-tree/chosen/bootargs": "root=/dev/x\n",
        "etc/shadow": "x",
    }
    _, tree = tool.record(written(files, tmp_path), NoShell())
    assert list(tree["files"]) == ["/sys/class/hwmon/hwmon0/name", "/sys/class/hwmon/hwmon0/power1_input"]


def test_files_that_fail_are_recorded_so_and_the_rest_goes_on(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    written({f"{zone}/type": "gpu-thermal\n", f"{zone}/temp": "1\n"}, tmp_path)
    os.mkfifo(tmp_path / zone / "mode")
    keep = os.open(tmp_path / zone / "mode", os.O_RDWR | os.O_NONBLOCK)
    opened = os.open

    def forbidding(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if str(path).endswith("/temp"):
            raise PermissionError(errno.EACCES, "no")
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(tool.os, "open", forbidding)
    try:
        _, tree = tool.record(tmp_path, NoShell())
    finally:
        os.close(keep)
    assert tree["files"] == {
        f"/{zone}/mode": {"errno": "EAGAIN"},
        f"/{zone}/temp": {"errno": "EACCES"},
        f"/{zone}/type": "gpu-thermal\n",
    }


def test_a_file_is_recorded_to_four_kibibytes_and_no_binary_one(tool: ModuleType, tmp_path: Path) -> None:
    files = {"etc/os-release": "x" * 100_000, "proc/loadavg": "0.1 0.2 0.3 1/99 4711\n"}
    written(files, tmp_path)
    (tmp_path / "proc/meminfo").write_bytes(bytes(range(128, 256)) * 30)
    _, tree = tool.record(tmp_path, NoShell())
    assert len(tree["files"]["/etc/os-release"]) == 4096
    assert set(tree["files"]) == {"/etc/os-release", "/proc/loadavg"}


def test_of_the_processors_the_first_is_whole_and_of_the_modes_only_their_names(
    tool: ModuleType, tmp_path: Path
) -> None:
    one = "processor\t: {}\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\n"
    footer = "Revision\t: c04170\nSerial\t\t: 10000000abcdef01\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
    written(
        {
            "proc/cpuinfo": "".join(one.format(number) for number in range(4)) + footer,
            "etc/nvpmodel.conf": "# made by x\n< PARAM TYPE=FILE NAME=CPU >\n< POWER_MODEL ID=0 NAME=15W >\nCPU 1\n"
            "< PM_CONFIG DEFAULT=1 >\n",
        },
        tmp_path,
    )
    _, tree = tool.record(tmp_path, NoShell())
    cpuinfo = tree["files"]["/proc/cpuinfo"]
    assert [cpuinfo.count(word) for word in ("processor", "CPU part", "BogoMIPS", "Serial")] == [4, 4, 1, 0]
    assert cpuinfo.endswith("Revision\t: c04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n")
    assert tree["files"]["/etc/nvpmodel.conf"] == "< POWER_MODEL ID=0 NAME=15W >\n< PM_CONFIG DEFAULT=1 >\n"


def test_what_the_vendors_tools_say_is_recorded(tool: ModuleType, tmp_path: Path) -> None:
    shell = FakeShell(
        {
            "nvpmodel -q": "NV Power Mode: 25W\n1\n",
            "vcgencmd measure_temp": ShellError("vcgencmd: Can't open device file: /dev/vcio (10.0.0.7)"),
            "sh": "VDD_IN 3462mW/3522mW\n",
            "jetson_clocks --show": "SOC family:tegra234\n",
            "dpkg-query": ShellError("dpkg-query: no packages found"),
        }
    )
    scrub = tool.Scrubber()
    assert tool.run_commands(shell, scrub, is_root=False) == {
        "nvpmodel -q": "NV Power Mode: 25W\n1\n",
        "vcgencmd measure_temp": {"error": "vcgencmd: Can't open device file: /dev/vcio (<ip1>)"},
        "tegrastats --interval 500": "VDD_IN 3462mW/3522mW\n",
    }
    assert "jetson_clocks --show" in tool.run_commands(shell, scrub, is_root=True)
    assert not any(word in line for line in shell.commands for word in ("otp", "set_", "--fan", "nvpmodel -m"))


def test_power_files_are_sampled_for_their_changes(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = "sys/class/hwmon/hwmon0"
    written({f"{chip}/name": "ina238\n", f"{chip}/power1_input": "100\n", f"{chip}/temp1_input": "1\n"}, tmp_path)
    values = iter(range(100, 10_000, 50))

    def change(seconds: float) -> None:
        (tmp_path / chip / "power1_input").write_text(f"{next(values)}\n")

    monkeypatch.setattr(tool.time, "sleep", change)
    monkeypatch.setattr(tool, "MOST_CHANGES", 5)
    _, tree = tool.record(tmp_path, NoShell(), seconds=0.05)
    changes = tree["samples"]["changes"]
    assert [value for _, value in changes[f"/{chip}/power1_input"]] == [100, 150, 200, 250, 300]
    assert list(changes) == [f"/{chip}/power1_input"]
    assert tree["samples"]["rounds"] >= 5


# ---- nobody's serial number


SERIAL = st.text(st.sampled_from("0123456789ABCDEFabcdefGHXYZ-_"), min_size=6, max_size=24).filter(
    lambda text: (
        any(char.isdigit() for char in text) and len(set(text.lower()) - set("0-_x")) > 1 and text[0] not in "-_"
    )
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.dictionaries(
        st.sampled_from(
            [
                "proc/device-tree/serial-number",
                "sys/devices/soc0/serial_number",
                "etc/machine-id",
                "sys/class/dmi/id/product_serial",
                "sys/class/dmi/id/board_asset_tag",
                "sys/class/nvme/nvme0/serial",
                "sys/class/block/mmcblk0/device/cid",
                "sys/class/net/eth0/address",
                "sys/bus/usb/devices/1-1.4/serial",
                "sys/class/power_supply/BAT0/serial_number",
            ]
        ),
        SERIAL,
        min_size=1,
    ),
    cpu=SERIAL,
    around=st.sampled_from(["{}", "x-{}-y", "id={};", "\t{}\n", "{}{}", "12{}34"]),
)
def test_no_serial_number_that_is_anywhere_in_the_machine_survives(
    tool: ModuleType, places: dict[str, str], cpu: str, around: str
) -> None:
    serials = [*places.values(), cpu]
    files = {name: f"{serial}\0" if "device-tree" in name else f"{serial}\n" for name, serial in places.items()}
    files["proc/cpuinfo"] = f"processor\t: 0\nSerial\t\t: {cpu}\nModel\t\t: Board {cpu.upper()}\n"
    for number, serial in enumerate(serials):
        text = around.format(serial, serial.lower())
        files |= {
            f"sys/class/hwmon/hwmon{number}/name": f"chip {text}",
            f"sys/class/hwmon/hwmon{number}/in1_label": text.upper(),
            f"sys/class/power_supply/hid-{serial}-battery/status": "Discharging\n",
            "proc/device-tree/model": f"Board {text}",
            "etc/os-release": "A" * (4090 - number) + serial,  # across the end of what is recorded
        }
    shell = FakeShell({"nvpmodel -q": " ".join(serials), "vcgencmd": ShellError(f"no {serials[0]}")})
    with tempfile.TemporaryDirectory() as folder:
        name, tree = tool.record(written(files, Path(folder)), shell, name=f"board {cpu}", seconds=0.001)
    said = json.dumps({name: tree}, ensure_ascii=False).lower()
    for serial in serials:
        assert serial.lower() not in said
    assert tree["scrubbed"]["serial"] >= len(set(serials))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("eth0 00:1f:20:aa:bb:cc, 00-1F-20-AA-BB-CC", "eth0 <mac1>, <mac2>"),
        ("hid-dc_2c_26_00_11_22-battery", "hid-<mac1>-battery"),
        ("at 192.168.1.20:8080 and 192.168.1.20", "at <ip1>:8080 and <ip1>"),
        ("fe80::1ff:fe23:4567:890a%eth0", "<ip1>%eth0"),
        ("2001:db8:0:0:0:ff00:42:8329", "<ip1>"),
        ("uuid 6c1d2e60-1234-4abc-9def-0123456789ab", "uuid <uuid1>"),
        ("wwid eui.0025385b71b0a1f2", "wwid eui.<id1>"),
        ("0x1f3a2b4c5d6e7f80", "<id1>"),
        ("on kitchen-pi: kitchen-PI.", "on <name1>: <name1>."),
    ],
)
def test_what_looks_like_an_address_or_an_id_is_replaced(tool: ModuleType, text: str, wanted: str) -> None:
    assert tool.Scrubber(names=["kitchen-pi"])(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0",
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, DATE: Thu Sep 18 22:54:44 UTC 2025",
        "11-20-2026 12:34:56 RAM 1/7620MB (lfb 1x512kB) VDD_IN 3462mW/3522mW GR3D_FREQ 12%@[1300,1300]",
        "18446744073709551615",
        "c240000.i2c/i2c-1/1-0040 bus@0/17000000.gpu 0000:01:00.0 1-1.4:1.0 0003:046D:C52B.0001",
        "     3V7_WL_SW_A current(0)=0.05855580A",
        "usb:v046DpC52Bd1211dc00dsc00dp00ic03isc01ip01in00",
        "5.15.148-tegra 6.12.20+rpt-rpi-2712 39.2.1-20260806224157",
    ],
)
def test_what_tells_the_board_stays(tool: ModuleType, text: str) -> None:
    assert tool.Scrubber(["1421221234567", "None", "00:04:4b:aa:bb:cc"], ["jetson", "pi"])(text) == text


def test_a_serial_number_is_found_however_it_is_written(tool: ModuleType) -> None:
    scrub = tool.Scrubber(["10000000ABCDEF01", "0x0012345678", "b8:27:eb:12:34:56"])
    assert (
        scrub("10000000abcdef01 12345678 b827eb123456 B8-27-EB-12-34-56") == "<serial1> <serial2> <serial3> <serial4>"
    )
    assert scrub.replaced == {"serial": 4}


def test_a_host_that_is_called_as_its_board_leaves_the_board_its_name(
    tool: ModuleType, captured_board: Callable[[str], Path]
) -> None:
    root = captured_board("orin_nano_super_jp6")
    written({"etc/hostname": "engineering\n", "etc/passwd": "super:x:1000:1000::/home/super:/bin/sh\n"}, root)
    _, tree = tool.record(root, FakeShell({"nvpmodel -q": "by super on engineering\n"}))
    assert tree["files"]["/proc/device-tree/model"].startswith("NVIDIA Jetson Orin Nano Engineering Reference")
    assert tree["commands"]["nvpmodel -q"] == "by <name1> on <name2>\n"


@given(st.lists(SERIAL, min_size=1, max_size=5), st.lists(st.text(max_size=20), min_size=6, max_size=6))
def test_no_serial_number_survives_in_any_text(tool: ModuleType, serials: list[str], between: list[str]) -> None:
    text = "".join(f"{part}{serial.swapcase()}" for part, serial in zip(between, serials, strict=False))
    scrubbed = tool.Scrubber(serials)(text).lower()
    assert not any(serial.lower() in scrubbed for serial in serials)


# ---- the program


def test_the_program_writes_a_capture_as_the_tests_use_it_and_says_what_is_in_it(
    tool: ModuleType, captured_board: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "board.json"
    assert tool.main(["--root", str(captured_board("orin_nano_super_jp6")), "--out", str(out), "--name", "mine"]) == 0
    tree = json.loads(out.read_text())["mine"]
    assert {"provenance", "files"} <= set(tree)
    assert tree["files"]["/sys/class/thermal/thermal_zone2/temp"] == {"errno": "EAGAIN"}
    said = capsys.readouterr().out
    assert "identified as jetson-orin-nano (exact)" in said
    assert "1 of them failing: /sys/class/thermal/thermal_zone2/temp (EAGAIN)" in said
    assert f"written to {out}" in said
    assert "Read it through" in said
    assert "this version reads 4.785 W (sensor_total)" in said


def test_a_folder_that_cannot_be_written_is_said(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["--root", str(tmp_path), "--out", str(tmp_path / "none/board.json")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_time_that_means_nothing_is_refused(tool: ModuleType) -> None:
    with pytest.raises(SystemExit) as caught:
        tool.main(["--seconds", "-1"])
    assert caught.value.code == 2


def test_this_machine_is_recorded_without_its_name(tool: ModuleType, tmp_path: Path) -> None:
    assert tool.main(["--out", str(tmp_path / "here.json")]) == 0
    [tree] = json.loads((tmp_path / "here.json").read_text()).values()
    assert "/proc/meminfo" in tree["files"]
    machine = Path("/etc/machine-id")
    if machine.exists() and machine.read_text().strip():
        assert machine.read_text().strip() not in (tmp_path / "here.json").read_text()
