"""Reading numbers out of /sys and /proc: files that may be gone, gated, empty or full of nonsense at any time."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from edge_sdk.errors import SensorError

_MOST_BYTES = 4096
_GATED = "power-gated or busy (EAGAIN)"
_MOST_DIGITS = 20  # of 64 bits; more is nonsense that arithmetic cannot bear
_NUMBER = re.compile(rb"[-+]?[0-9]{1,%d}" % _MOST_DIGITS)
_I2C_DEVICE = re.compile(r"[0-9]{1,4}-[0-9a-f]{4}")


class SysFile:
    """An open file of /sys that is read again and again without being opened again."""

    def __init__(self, path: Path) -> None:
        """Opens it.

        Raises:
            SensorError: It cannot be opened; with the system's reason.
        """
        self.path = path
        self._descriptor = _open(path)

    def number(self) -> int:
        """The whole number in it now.

        Raises:
            SensorError: It cannot be read, or there is no number in it.
        """
        raw = self._read()
        digits = raw.rstrip()
        if digits.isdigit() and len(digits) <= _MOST_DIGITS:  # the short way of every sample, many times a second
            return int(digits)
        return _number(raw, self.path)

    def text(self) -> str:
        """The text in it now, stripped of blanks.

        Raises:
            SensorError: It cannot be read.
        """
        return _text(self._read())

    def _read(self) -> bytes:
        try:
            return os.pread(self._descriptor, _MOST_BYTES, 0)
        except OSError as error:
            if error.errno != errno.ESPIPE:
                raise SensorError(f"{self.path.name}: {why(error)}") from error
        try:  # a pipe, which stands for a file that fails in a captured tree
            return os.read(self._descriptor, _MOST_BYTES)
        except OSError as error:
            raise SensorError(f"{self.path.name}: {why(error)}") from error

    def close(self) -> None:
        """Closes it; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def text(path: Path) -> str:
    """A small file's text, stripped of blanks and of the NUL that device trees end with.

    Raises:
        SensorError: It cannot be read; with the system's reason.
    """
    descriptor = _open(path)
    try:
        raw = os.read(descriptor, _MOST_BYTES)
    except OSError as error:
        raise SensorError(f"{path.name}: {why(error)}") from error
    finally:
        os.close(descriptor)
    return _text(raw)


def text_or_none(path: Path) -> str | None:
    """A small file's text, or None where it cannot be read or is empty."""
    try:
        return text(path) or None
    except SensorError:
        return None


def number(path: Path) -> int:
    """The whole number in a file.

    Raises:
        SensorError: It cannot be read, or there is no number in it.
    """
    return _number(text(path).encode(), path)


def number_or_none(path: Path) -> int | None:
    """The whole number in a file, or None."""
    try:
        return number(path)
    except SensorError:
        return None


def why(error: OSError) -> str:
    """The system's reason in words that a user can act on."""
    if error.errno == errno.EAGAIN:
        return _GATED
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission to read it"
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"gone ({errno.errorcode[error.errno]})"
    if error.errno == errno.ENODATA:  # what hwmon drivers say of a channel that is switched off
        return "disabled, or no data yet (ENODATA)"
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    return f"{os.strerror(error.errno or 0)} ({name})"


def in_order(folder: Path, pattern: str) -> list[Path]:
    """What matches, with numbers in names in the order of numbers: hwmon2 before hwmon10."""

    def key(path: Path) -> tuple[str, int]:
        digits = "".join(letter for letter in path.name if letter in "0123456789")
        return path.name.rstrip("0123456789"), int(digits or 0)

    return sorted(folder.glob(pattern), key=key)


def hwmon(root: Path, *names: str) -> list[Path]:
    """The hwmon folders of chips with one of these names; their numbers change from boot to boot.

    /sys/class/hwmon holds links to the devices; a captured tree may hold the devices alone.
    """
    folders = in_order(root / "sys/class/hwmon", "hwmon*")
    if not folders and root != Path("/"):  # a machine without any is not searched from end to end
        folders = sorted((root / "sys/devices").glob("**/hwmon/hwmon*"))
    return [folder for folder in folders if text_or_none(folder / "name") in names]


def i2c_device(folder: Path, root: Path) -> str | None:
    """The I2C bus and address of a chip, as in "1-0040"; None where the tree does not tell.

    Args:
        folder: Of its hwmon or iio device: a link into /sys/devices, a folder there, or one with a link ``device``.
        root: Of /sys.
    """
    base = os.path.realpath(root)
    for path in (folder, folder / "device"):
        real = os.path.realpath(path)
        inside = Path(os.path.relpath(real, base) if real.startswith(base) else real)
        for part in reversed(inside.parts):
            if _I2C_DEVICE.fullmatch(part):
                return part
    return None


def update_interval_s(folder: Path) -> float | None:
    """The time between two values of a hwmon chip, whose file has it in ms; None where there is none."""
    interval_ms = number_or_none(folder / "update_interval")
    return interval_ms / 1000 if interval_ms is not None and 1 <= interval_ms <= 60_000 else None


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe in place of a file hangs nobody
    except OSError as error:
        raise SensorError(f"{path.name}: {why(error)}") from error


def _number(raw: bytes, path: Path) -> int:
    stripped = raw.strip(b" \t\r\n\0")
    if _NUMBER.fullmatch(stripped):
        return int(stripped)
    shown = stripped[:40].decode("ascii", "backslashreplace")
    raise SensorError(f"{path.name}: no number in it: {shown!r}")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").strip(" \t\r\n\0")
