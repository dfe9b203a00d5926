"""A board's power modes: which there are, which is set, and setting one.

`nvpmodel` on Jetsons, the firmware's platform profile on many laptops, else the governors of cpufreq. A mode is known
by its name: its number means another mode on another board and release.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edge_sdk.conditions.base import PowerMode
from edge_sdk.conditions.board import family
from edge_sdk.conditions.probe import plain
from edge_sdk.device import system_root
from edge_sdk.errors import PowerModeError, RebootNeededError, SensorError, ShellError, UsageError
from edge_sdk.sensors import sysfs
from edge_sdk.sensors.base import Absent
from edge_sdk.shell import LocalShell, Shell, shell_for
from edge_sdk.targets.evidence import Tree

_QUERY = re.compile(r"NV Power Mode[ \t]*:[ \t]*(\S[^\r\n]*)(?:\r?\n[ \t]*([0-9]{1,6})[ \t]*(?:\r?\n|$))?")
_MODEL = re.compile(r"^<[ \t]*POWER_MODEL[ \t]+ID=([0-9]{1,6})[ \t]+NAME=([^>\r\n]{1,80})>", re.MULTILINE)
_STATUS = re.compile(r"pmode:[ \t]*([0-9]{1,6})")
# What nvpmodel says when it asks and hears NO, or nothing: only its last line comes through a shell.
_ASKS = re.compile(r"reboot|optMask|bad input", re.IGNORECASE)

_CONF = "/etc/nvpmodel.conf"
_STATE = "/var/lib/nvpmodel/status"
_PROFILE = "sys/firmware/acpi/platform_profile"
_POLICIES = "sys/devices/system/cpu/cpufreq"


def parse_query(text: str) -> PowerMode | None:
    """What `nvpmodel -q` says, among whatever warnings; None where it names no mode."""
    found = _QUERY.search(text)
    if found is None:
        return None
    name = plain(found[1], "")
    return PowerMode(name, int(found[2]) if found[2] else None) if name else None


def parse_modes(text: str) -> tuple[PowerMode, ...]:
    """The modes that an /etc/nvpmodel.conf defines, in its order."""
    modes: dict[str, PowerMode] = {}
    for number, raw in _MODEL.findall(text):
        if name := plain(raw, ""):
            modes.setdefault(name, PowerMode(name, int(number)))
    return tuple(modes.values())


def parse_status(text: str) -> int | None:
    """The number in /var/lib/nvpmodel/status, where nvpmodel keeps it; None where there is none."""
    found = _STATUS.search(text)
    return int(found[1]) if found else None


class PowerModes:
    """The power modes of a machine.

    Args:
        root: Of /proc, /sys and /etc; None is ``EDGE_SDK_ROOT`` or this machine's.
        shell: Runs nvpmodel; None is this machine's, or nobody in a captured tree.

    Attributes:
        why_none: Why `available` is empty; None where it is not.
    """

    def __init__(self, root: Path | None = None, shell: Shell | None = None) -> None:
        root = system_root() if root is None else root
        self._kind = _kind(root, shell_for(root) if shell is None else shell)
        self.why_none = None if self._kind.modes() else self._kind.why_none

    def available(self) -> tuple[PowerMode, ...]:
        """Those that can be set; empty where `why_none` says why."""
        return self._kind.modes()

    def current(self) -> PowerMode | Absent:
        """The one that is set, or why it cannot be told."""
        return self._kind.current()

    def set(self, name: str) -> PowerMode:
        """Sets a mode by its name and reads it back; does nothing where it is set already.

        Clocks take some seconds to follow.

        Raises:
            UsageError: The board has no mode of this name.
            RebootNeededError: It takes this mode only when it starts. Nothing was changed: the tool was told NO.
            PowerModeError: It could not be set, as where only root may, or another one is set afterwards.
        """
        modes = {mode.name: mode for mode in self.available()}
        if name not in modes:
            raise UsageError(f"no power mode {name!r}: {self.why_none or 'there are ' + ', '.join(modes)}")
        now = self.current()
        # nvpmodel may ask for a reboot even to set the mode that is set.
        if isinstance(now, PowerMode) and now.name == name:
            return now
        self._kind.set(modes[name])
        after = self.current()
        if isinstance(after, Absent):
            raise PowerModeError(f"power mode {name}: it was set, but cannot be read back: {after.reason}")
        if after.name != name:
            raise PowerModeError(f"power mode {name}: {after.name} is set all the same{self._kind.hint(modes[name])}")
        return after


class _Kind(Protocol):
    """One way in which boards have modes."""

    why_none: str

    def modes(self) -> tuple[PowerMode, ...]: ...
    def current(self) -> PowerMode | Absent: ...
    def set(self, mode: PowerMode) -> None: ...
    def hint(self, mode: PowerMode) -> str: ...


def _kind(root: Path, shell: Shell) -> _Kind:
    board = family(root)
    if board == "jetson":
        return _Nvpmodel(root, shell)
    if board == "raspberry-pi":
        return _Nothing("a Raspberry Pi has no power modes, only the governor of its processors")
    if (root / _PROFILE).exists():
        return _Files([root / _PROFILE], root / f"{_PROFILE}_choices", "the firmware's platform profile has no choices")
    governors = [folder / "scaling_governor" for folder in sysfs.in_order(root / _POLICIES, "policy*")]
    if governors:
        choices = governors[0].with_name("scaling_available_governors")
        return _Files(governors, choices, "cpufreq does not say which governors there are")
    return _Nothing("no nvpmodel, no platform profile of the firmware and no governor of cpufreq: nothing to choose")


class _Nvpmodel:
    why_none = f"{_CONF} defines none, or cannot be read"

    def __init__(self, root: Path, shell: Shell) -> None:
        self._tree = Tree(root)
        self._shell = shell

    def modes(self) -> tuple[PowerMode, ...]:
        return parse_modes((self._tree.read(_CONF) or b"").decode("utf-8", "replace"))

    def current(self) -> PowerMode | Absent:
        try:
            said = self._shell.run(["nvpmodel", "-q"])
        except ShellError as error:
            return self._kept() or Absent(str(error))
        return parse_query(said) or self._kept() or Absent(f"nvpmodel -q names no mode: {said.strip()[:80]!r}")

    def set(self, mode: PowerMode) -> None:
        command = ["nvpmodel", "-m", str(mode.number)]
        try:
            said = self._shell.run(command, timeout_s=60.0, given="NO\n")
        except ShellError as error:
            if _ASKS.search(str(error)):
                raise self._reboot(mode) from error
            raise PowerModeError(f"power mode {mode.name}: {error}{self.hint(mode)}") from error
        if _ASKS.search(said):
            raise self._reboot(mode)

    def hint(self, mode: PowerMode) -> str:
        if isinstance(self._shell, LocalShell) and os.geteuid() == 0:
            return f"; it may need a reboot, which nvpmodel -m {mode.number} asks for"
        return f"; only root may set it: sudo nvpmodel -m {mode.number}"

    def _reboot(self, mode: PowerMode) -> RebootNeededError:
        return RebootNeededError(
            f"power mode {mode.name} needs a reboot, and nothing was changed: run sudo nvpmodel -m {mode.number}, "
            "answer YES, and start again when the board is back"
        )

    def _kept(self) -> PowerMode | None:
        """The mode by nvpmodel's own file: what a container can see that has no nvpmodel."""
        number = parse_status((self._tree.read(_STATE) or b"").decode("utf-8", "replace"))
        return next((mode for mode in self.modes() if mode.number == number), None)


class _Files:
    """Modes that are written into files, all the same one."""

    def __init__(self, files: Sequence[Path], choices: Path, why_none: str) -> None:
        self.why_none = why_none
        self._files = files
        self._choices = choices

    def modes(self) -> tuple[PowerMode, ...]:
        names = (sysfs.text_or_none(self._choices) or "").split()
        # "userspace" leaves the clock to a program: it is no mode without one.
        return tuple(PowerMode(plain(name, "?"), None) for name in dict.fromkeys(names) if name != "userspace")

    def current(self) -> PowerMode | Absent:
        names = []
        for file in self._files:
            try:
                names.append(plain(sysfs.text(file), "?"))
            except SensorError as error:
                return Absent(str(error))
        if len(set(names)) > 1:
            return Absent(f"processors have different governors: {', '.join(dict.fromkeys(names))}")
        return PowerMode(names[0], None)

    def set(self, mode: PowerMode) -> None:
        for file in self._files:
            try:
                descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
                try:
                    os.write(descriptor, mode.name.encode())
                finally:
                    os.close(descriptor)
            except OSError as error:
                why = "no permission to set it" if isinstance(error, PermissionError) else sysfs.why(error)
                hint = self.hint(mode) if isinstance(error, PermissionError) else ""
                raise PowerModeError(f"power mode {mode.name}: {why}{hint}") from error

    def hint(self, mode: PowerMode) -> str:
        if os.geteuid() == 0:
            return ""
        files = " ".join(str(file) for file in self._files[:1]) + (" and the others" if len(self._files) > 1 else "")
        return f"; only root may: echo {mode.name} | sudo tee {files}"


class _Nothing:
    def __init__(self, why_none: str) -> None:
        self.why_none = why_none

    def modes(self) -> tuple[PowerMode, ...]:
        return ()

    def current(self) -> PowerMode | Absent:
        return Absent(self.why_none)

    def set(self, mode: PowerMode) -> None:
        raise AssertionError("there is no mode to set")

    def hint(self, mode: PowerMode) -> str:
        return ""
