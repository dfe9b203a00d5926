"""The mailbox of a Raspberry Pi's firmware: what ``vcgencmd`` asks, without a process for each question.

A message is 32-bit words in the machine's order: its size, a code, then one tag, "get gencmd result", with the size of
its value, a length, an error number and the text, and an end tag. The answer overwrites the question. Source: the
firmware's "Mailbox property interface", the kernel's drivers/char/broadcom/vcio.c and raspberrypi/utils' vcgencmd.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

from edge_sdk.errors import SensorError
from edge_sdk.sensors.sysfs import why

Ioctl = Callable[[int, int, bytearray], int]
"""As `fcntl.ioctl` with a buffer that the answer is written into: descriptor, request, buffer."""

# The first carries this tag alone. It is there since 2026, and the other is then for root only: raspberrypi/linux#7351.
DEVICES = ("dev/vcio_gencmd", "dev/vcio")
REQUEST = 3 << 30 | struct.calcsize("P") << 16 | 100 << 8  # _IOWR(100, 0, char *): 0xC0086400 on a 64-bit system
GET_GENCMD_RESULT = 0x00030080
SUCCESS = 0x80000000
# The firmware's longest text. In the 1024 bytes of older vcgencmds a PMIC's 1014 just fit, and a longer text is refused
# whole: raspberrypi/utils#187.
TEXT_BYTES = 4096

_HEADER = struct.Struct("=6I")  # size, code, tag, size of the value, length of the answer, error
_BYTES = _HEADER.size + TEXT_BYTES + 4  # and the end tag
_REFUSAL = re.compile(r'error=\d{1,9}\s+error_msg="([^"\n]{0,200})"')


class Mailbox:
    """An open mailbox; a context manager, used by one thread at a time.

    Args:
        root: Of /dev.
        ioctl: Carries a message; None is the system's.

    Raises:
        SensorError: There is none, or no permission to open it.
    """

    def __init__(self, root: Path = Path("/"), ioctl: Ioctl | None = None) -> None:
        self._ioctl = _system_ioctl if ioctl is None else ioctl
        self._descriptor = _open(root)

    def gencmd(self, command: str) -> str:
        """What the firmware says to a command, as ``vcgencmd`` prints it: ``throttled=0x0`` to "get_throttled".

        An answer may be a refusal, which `refusal` finds. Other threads run while the firmware thinks.

        Raises:
            SensorError: It could not be asked, or gave no answer.
        """
        message = pack(command)
        try:
            self._ioctl(self._descriptor, REQUEST, message)
        except OSError as error:
            raise SensorError(f"the firmware's mailbox: {why(error)}") from error
        return unpack(message, command)

    def close(self) -> None:
        """Closes it; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Mailbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def pack(command: str) -> bytearray:
    """The message that asks a command.

    Raises:
        SensorError: It is too long, or no ASCII text.
    """
    raw = command.encode("ascii", "replace")
    if not command.isascii() or b"\0" in raw or len(raw) >= TEXT_BYTES:
        raise SensorError(f"no command for the firmware: {command[:40]!r}")
    message = bytearray(_BYTES)
    _HEADER.pack_into(message, 0, _BYTES, 0, GET_GENCMD_RESULT, TEXT_BYTES, 0, 0)
    message[_HEADER.size : _HEADER.size + len(raw)] = raw
    return message


def unpack(message: bytes | bytearray, command: str) -> str:
    """The text of the answer to a command, without the NUL and the blanks at its end.

    Raises:
        SensorError: It is no answer, or an error number without a text.
    """
    if len(message) < _HEADER.size:
        raise SensorError(f"the firmware's answer is cut off: {len(message)} bytes")
    _, code, _, _, length, error = _HEADER.unpack_from(message)
    if code != SUCCESS:
        raise SensorError(f"the firmware did not understand {command}: code {code:#x}")
    raw, _, _ = bytes(message[_HEADER.size :]).partition(b"\0")
    text = raw.decode("ascii", "replace").rstrip()
    if not length & SUCCESS and text == command:  # a tag that it does not know comes back as it was
        raise SensorError("this firmware answers no commands in its mailbox")
    if error != 0 and refusal(text) is None:
        raise SensorError(f"the firmware answered {command} with error {error}")
    return text


def refusal(text: str) -> str | None:
    """Why the firmware refused a command, in its words ("Command not registered"); None where it did not.

    ``vcgencmd`` prints the same, and its exit status is 0 on some boards: look at the text.
    """
    found = _REFUSAL.search(text[:TEXT_BYTES])
    return None if found is None else found[1]


def _open(root: Path) -> int:
    refused: OSError | None = None
    for device in DEVICES:
        try:
            return os.open(root / device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENOENT and refused is None:
                refused = error
    if refused is None:
        raise SensorError("the firmware has no mailbox here: there is no /dev/vcio")
    if refused.errno in (errno.EACCES, errno.EPERM):
        hint = "sudo usermod -aG video $USER, then log in again"
        raise SensorError(f"no permission to open the firmware's mailbox, /dev/vcio: {hint}") from refused
    raise SensorError(f"the firmware's mailbox, /dev/vcio: {why(refused)}") from refused


def _system_ioctl(descriptor: int, request: int, message: bytearray) -> int:
    import fcntl

    return int(fcntl.ioctl(descriptor, request, message))
