"""Power modes: told by name, set by the number that this board gives the name, and read back."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.conditions.base import PowerMode
from edge_sdk.conditions.power_mode import (
    PowerModeError,
    PowerModes,
    RebootNeededError,
    parse_modes,
    parse_query,
    parse_status,
)
from edge_sdk.errors import ShellError, UsageError
from edge_sdk.sensors.base import Absent
from edge_sdk.shell import LocalShell, NoShell
from edge_sdk.testing.fake_shell import FakeShell

MakeTree = Callable[[Mapping[str, Any]], Path]

# As a real nvpmodel prints when it is told NO; LocalShell gives the last line of it.
REFUSED = "NVPM ERROR: optMask is 1, no request for power mode"
CONF = """# The format of a power model, which is no power model:
# < POWER_MODEL ID=id_num NAME=mode_name >
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
#< POWER_MODEL ID=9 NAME=SECRET >
< POWER_MODEL ID=3 NAME=7W >
< PM_CONFIG DEFAULT=1 >
"""


class Nvpmodel:
    """A board's nvpmodel: a `Shell` that keeps a mode, and asks before one that needs a reboot.

    Args:
        mode: The number that is set.
        asks: Numbers for which it asks; what it hears is kept in `heard`.
        refuses: What it fails with, if it does.
        deaf: Says that it is done, and does nothing.
    """

    def __init__(self, mode: int = 1, *, asks: Sequence[int] = (), refuses: str = "", deaf: bool = False) -> None:
        self.names = {mode.number: mode.name for mode in parse_modes(CONF)}
        self.mode = mode
        self.commands: list[str] = []
        self.heard: list[str] = []
        self._asks = asks
        self._refuses = refuses
        self._deaf = deaf

    def run(self, command: Sequence[str], *, timeout_s: float = 10.0, given: str = "") -> str:
        self.commands.append(" ".join(command))
        if list(command) == ["nvpmodel", "-q"]:
            return f"NVPM WARN: fan mode is not set!\nNV Power Mode: {self.names[self.mode]}\n{self.mode}\n"
        assert command[:2] == ["nvpmodel", "-m"]
        if self._refuses:
            raise ShellError(f"nvpmodel: {self._refuses}")
        if int(command[2]) in self._asks:
            self.heard.append(given)
            raise ShellError(f"nvpmodel: {REFUSED}")
        if not self._deaf:
            self.mode = int(command[2])
        return ""


@pytest.fixture
def orin(captures: Mapping[str, Any], make_tree: MakeTree) -> Path:
    return make_tree({**captures["orin_nano_super_jp6"], "etc/nvpmodel.conf": CONF})


@pytest.mark.parametrize(("name", "mode"), [
    ("nvpmodel_q_orin_nano_super.txt", PowerMode("25W", 1)),
    ("nvpmodel_q_thor.txt", PowerMode("120W", 1)),
    ("nvpmodel_q_maxn.txt", PowerMode("MAXN", 0)),
    ("jetson_clocks_show_orin_nano_super.txt", PowerMode("25W", None)),
])  # fmt: skip
def test_captured_replies_name_their_mode(fixtures_dir: Path, name: str, mode: PowerMode) -> None:
    assert parse_query((fixtures_dir / "jetson" / name).read_text()) == mode


@pytest.mark.parametrize(("text", "mode"), [
    ("NV Fan Mode:quiet\nNV Power Mode: MODE_30W_4CORE\n5\n", PowerMode("MODE_30W_4CORE", 5)),
    ("NVPM VERB: Current mode: NV Power Mode: MODE_15W_6CORE\n2\nNVPM VERB: x", PowerMode("MODE_15W_6CORE", 2)),
    ("NV Power Mode: MAXN\r\n0\r\n", PowerMode("MAXN", 0)),
    ("NV Power Mode: MAXN\nNVPM WARN: x\n0\n", PowerMode("MAXN", None)),
    ("NV Power Mode: \n0\n", None), ("NV Power Mode", None), ("", None), ("NVPM ERROR: Error opening /etc", None),
])  # fmt: skip
def test_a_mode_is_found_among_warnings(text: str, mode: PowerMode | None) -> None:
    assert parse_query(text) == mode


def test_the_modes_of_a_conf_are_those_that_are_no_comment(fixtures_dir: Path) -> None:
    captured = (fixtures_dir / "jetson/nvpmodel_conf_modes_orin_nano_super.txt").read_text()
    first = (PowerMode("15W", 0), PowerMode("25W", 1), PowerMode("MAXN_SUPER", 2))
    assert parse_modes(captured) == first
    assert parse_modes(CONF) == (*first, PowerMode("7W", 3))
    assert parse_modes(CONF + "< POWER_MODEL ID=8 NAME=15W >\n") == (*first, PowerMode("7W", 3))


@given(st.text() | st.text(alphabet="<> POWER_MODELID=NAME0123456789\nNV Power Mode:pmode"))
def test_no_text_breaks_the_parsers(text: str) -> None:
    mode = parse_query(text)
    assert mode is None or mode.name
    assert all(mode.name and mode.number is not None for mode in parse_modes(text))
    number = parse_status(text)
    assert number is None or number >= 0


def test_a_mode_is_set_by_the_number_that_this_board_gives_its_name(orin: Path) -> None:
    shell = Nvpmodel()
    modes = PowerModes(orin, shell)
    assert modes.why_none is None
    assert [mode.name for mode in modes.available()] == ["15W", "25W", "MAXN_SUPER", "7W"]
    assert modes.current() == PowerMode("25W", 1)
    assert modes.set("MAXN_SUPER") == PowerMode("MAXN_SUPER", 2)
    assert shell.commands == ["nvpmodel -q", "nvpmodel -q", "nvpmodel -m 2", "nvpmodel -q"]
    assert modes.current() == PowerMode("MAXN_SUPER", 2)


def test_the_mode_that_is_set_is_not_set_again(orin: Path) -> None:
    shell = Nvpmodel(1, asks=[1])
    assert PowerModes(orin, shell).set("25W") == PowerMode("25W", 1)
    assert shell.commands == ["nvpmodel -q"]


def test_a_mode_that_needs_a_reboot_is_refused_and_the_tool_is_told_no(orin: Path) -> None:
    shell = Nvpmodel(1, asks=[3])
    with pytest.raises(RebootNeededError) as caught:
        PowerModes(orin, shell).set("7W")
    assert str(caught.value) == (
        "power mode 7W needs a reboot, and nothing was changed: run sudo nvpmodel -m 3, answer YES, and start again "
        "when the board is back"
    )
    assert shell.heard == ["NO\n"]
    assert shell.mode == 1


# Asks as the real one does, on the standard input of the process that it is.
PROGRAM = """#!/bin/sh
state={state}
if [ "$1" = -q ]; then echo "NV Power Mode: $(sed -n 1p $state)"; sed -n 2p $state; exit 0; fi
if [ "$2" = 0 ]; then exit 0; fi
echo "NVPM WARN: Reboot required for changing to this power mode: $2"
echo "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"
read answer || {{ echo "NVPM ERROR: bad input!" >&2; exit 255; }}
if [ "$answer" = NO ]; then echo "NVPM ERROR: optMask is 1, no request for power mode" >&2; exit 255; fi
echo rebooting > $state.rebooted
"""


def test_a_real_process_that_asks_is_told_no_and_ends(
    orin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.write_text("25W\n1\n")
    program = tmp_path / "nvpmodel"
    program.write_text(PROGRAM.format(state=state))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    modes = PowerModes(orin, LocalShell())
    assert modes.current() == PowerMode("25W", 1)
    with pytest.raises(RebootNeededError, match="power mode 7W needs a reboot"):
        modes.set("7W")
    assert not (tmp_path / "state.rebooted").exists()
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(
        PowerModeError, match="25W is set all the same; it may need a reboot, which nvpmodel -m 0 asks for"
    ):
        modes.set("15W")


@pytest.mark.parametrize("said", [
    "NVPM WARN: Reboot required for changing to this power mode: 3\n",
    "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:\n",
    ShellError("nvpmodel: NVPM ERROR: bad input!"),
])  # fmt: skip
def test_a_reboot_is_known_by_whatever_the_tool_says_of_it(orin: Path, said: str | ShellError) -> None:
    shell = FakeShell({"nvpmodel -q": "NV Power Mode: 25W\n1\n", "nvpmodel -m 3": said})
    with pytest.raises(RebootNeededError, match="power mode 7W needs a reboot"):
        PowerModes(orin, shell).set("7W")


def test_a_refusal_tells_the_command_for_root(orin: Path) -> None:
    shell = Nvpmodel(refuses="NVPM ERROR: Error opening /var/lib/nvpmodel/status: Permission denied")
    with pytest.raises(PowerModeError) as caught:
        PowerModes(orin, shell).set("15W")
    assert not isinstance(caught.value, RebootNeededError)
    assert str(caught.value) == (
        "power mode 15W: nvpmodel: NVPM ERROR: Error opening /var/lib/nvpmodel/status: Permission denied; "
        "only root may set it: sudo nvpmodel -m 0"
    )


def test_a_tool_that_says_it_is_done_and_did_nothing_is_not_believed(orin: Path) -> None:
    with pytest.raises(PowerModeError, match=r"^power mode 7W: 25W is set all the same; only root may set it: sudo"):
        PowerModes(orin, Nvpmodel(deaf=True)).set("7W")


def test_a_mode_that_cannot_be_read_back_is_an_error(orin: Path) -> None:
    replies = iter(["NV Power Mode: 25W\n1\n", "garbage\n"])
    shell = FakeShell({"nvpmodel -q": lambda _: next(replies), "nvpmodel -m 3": ""})
    with pytest.raises(
        PowerModeError, match="it was set, but cannot be read back: nvpmodel -q names no mode: 'garbage'"
    ):
        PowerModes(orin, shell).set("7W")


def test_a_name_that_the_board_does_not_have_is_a_wrong_argument(orin: Path) -> None:
    shell = Nvpmodel()
    with pytest.raises(UsageError) as caught:
        PowerModes(orin, shell).set("MAXN")
    assert str(caught.value) == "no power mode 'MAXN': there are 15W, 25W, MAXN_SUPER, 7W"
    assert shell.commands == []


def test_a_container_without_nvpmodel_reads_what_nvpmodel_wrote(orin: Path) -> None:
    gone = FakeShell({})
    assert PowerModes(orin, gone).current() == Absent("nvpmodel: not installed")
    state = orin / "var/lib/nvpmodel/status"
    state.parent.mkdir(parents=True)
    state.write_text("pmode:0002\nfmode:quiet\n")
    assert PowerModes(orin, gone).current() == PowerMode("MAXN_SUPER", 2)
    state.write_text("pmode:0042\n")
    assert PowerModes(orin, gone).current() == Absent("nvpmodel: not installed")


def test_a_captured_tree_runs_no_nvpmodel_of_this_machine(captured_board: Callable[[str], Path]) -> None:
    modes = PowerModes(captured_board("agx_thor"))
    assert modes.current() == Absent("nvpmodel: not run, because this is a captured tree")
    assert modes.available() == ()
    assert modes.why_none == "/etc/nvpmodel.conf defines none, or cannot be read"
    with pytest.raises(UsageError, match=re.escape("no power mode '120W': /etc/nvpmodel.conf defines none")):
        modes.set("120W")


def test_a_raspberry_pi_has_none_and_says_so(captured_board: Callable[[str], Path]) -> None:
    modes = PowerModes(captured_board("rpi5"), NoShell())
    why = "a Raspberry Pi has no power modes, only the governor of its processors"
    assert (modes.available(), modes.why_none, modes.current()) == ((), why, Absent(why))
    with pytest.raises(UsageError, match=why):
        modes.set("performance")


def test_a_machine_without_anything_says_what_it_lacks(tmp_path: Path) -> None:
    modes = PowerModes(tmp_path, NoShell())
    assert modes.available() == ()
    assert modes.why_none is not None
    assert modes.why_none.startswith("no nvpmodel, no platform profile of the firmware and no governor of cpufreq")


PROFILE = "sys/firmware/acpi/platform_profile"


def test_a_laptops_profile_is_set_by_writing_it(make_tree: MakeTree) -> None:
    root = make_tree({PROFILE: "balanced\n", f"{PROFILE}_choices": "low-power balanced performance\n"})
    modes = PowerModes(root, NoShell())
    assert [mode.name for mode in modes.available()] == ["low-power", "balanced", "performance"]
    assert modes.current() == PowerMode("balanced", None)
    assert modes.set("low-power") == PowerMode("low-power", None)
    assert (root / PROFILE).read_text() == "low-power"


def governors(*names: str) -> dict[str, str]:
    files = {}
    for number, name in enumerate(names):
        folder = f"sys/devices/system/cpu/cpufreq/policy{number}"
        files[f"{folder}/scaling_governor"] = f"{name}\n"
        files[f"{folder}/scaling_available_governors"] = "userspace powersave performance schedutil\n"
    return files


def test_where_there_is_nothing_else_the_governors_are_the_modes(make_tree: MakeTree) -> None:
    root = make_tree(governors("schedutil", "schedutil"))
    modes = PowerModes(root, NoShell())
    assert [mode.name for mode in modes.available()] == ["powersave", "performance", "schedutil"]
    assert modes.set("performance") == PowerMode("performance", None)
    for number in (0, 1):
        assert (root / f"sys/devices/system/cpu/cpufreq/policy{number}/scaling_governor").read_text() == "performance"


def test_governors_that_differ_are_no_mode_until_one_is_set(make_tree: MakeTree) -> None:
    modes = PowerModes(make_tree(governors("schedutil", "performance")), NoShell())
    assert modes.current() == Absent("processors have different governors: schedutil, performance")
    assert modes.set("schedutil") == PowerMode("schedutil", None)


def test_without_permission_the_command_is_told(make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_tree({PROFILE: "balanced\n", f"{PROFILE}_choices": "balanced performance\n"})
    opened = os.open

    def only_reading(path: Any, flags: int, *more: Any) -> int:  # tests may run as root, who may write everything
        if flags & os.O_WRONLY:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *more)

    monkeypatch.setattr("os.open", only_reading)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(PowerModeError) as caught:
        PowerModes(root, NoShell()).set("performance")
    assert str(caught.value) == (
        f"power mode performance: no permission to set it; only root may: echo performance | sudo tee {root / PROFILE}"
    )


def test_a_profile_that_went_is_told_and_not_raised(make_tree: MakeTree) -> None:
    root = make_tree({PROFILE: "balanced\n", f"{PROFILE}_choices": "balanced performance\n"})
    modes = PowerModes(root, NoShell())
    (root / PROFILE).unlink()
    assert modes.current() == Absent("platform_profile: gone (ENOENT)")
    with pytest.raises(PowerModeError, match=r"power mode performance: gone \(ENOENT\)"):
        modes.set("performance")
