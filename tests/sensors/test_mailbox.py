"""The firmware's mailbox: the words of a message, and what becomes of answers that are none."""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SensorError
from edge_sdk.sensors.mailbox import REQUEST, Mailbox, pack, refusal, unpack

from .rights import as_nobody


class Firmware:
    """Answers messages as the firmware does, word by word; an ioctl.

    Args:
        answer: The text.
        error: The error number beside it.
        code: Of the whole message.
    """

    def __init__(self, answer: str, error: int = 0, code: int = 0x80000000) -> None:
        self.answer, self.error, self.code = answer, error, code
        self.asked: list[str] = []

    def __call__(self, descriptor: int, request: int, message: bytearray) -> int:
        words = struct.unpack_from("=6I", message)
        assert request == REQUEST
        assert words == (len(message), 0, 0x00030080, len(message) - 28, 0, 0)
        assert message[-4:] == bytes(4)  # the end tag
        os.fstat(descriptor)
        self.asked.append(bytes(message[24:]).partition(b"\0")[0].decode())
        raw = self.answer.encode() + b"\0"
        struct.pack_into("=I", message, 4, self.code)
        struct.pack_into("=2I", message, 16, 0x80000000 | len(raw), self.error)
        message[24 : 24 + len(raw)] = raw
        return 0


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the device of today's kernels and that of older ones."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/vcio").touch()
    (tmp_path / "dev/vcio_gencmd").touch()
    return tmp_path


def test_a_question_is_answered_as_vcgencmd_prints_it(root: Path) -> None:
    firmware = Firmware("throttled=0x50005\n")
    with Mailbox(root, firmware) as mailbox:
        assert mailbox.gencmd("get_throttled") == "throttled=0x50005"
        assert mailbox.gencmd("measure_clock arm") == "throttled=0x50005"
    assert firmware.asked == ["get_throttled", "measure_clock arm"]


def test_the_message_is_laid_out_as_the_firmware_wants_it() -> None:
    message = pack("get_throttled")
    assert len(message) == (4096 // 4 + 7) * 4
    assert struct.unpack_from("=6I", message) == (len(message), 0, 0x00030080, 4096, 0, 0)
    assert message[24:38] == b"get_throttled\0"
    assert not any(message[38:])


@pytest.mark.skipif(struct.calcsize("P") != 8, reason="of 64-bit systems")
def test_the_request_is_that_of_the_kernels_header() -> None:
    assert REQUEST == 0xC0086400


def test_an_answer_longer_than_a_kilobyte_is_whole(root: Path) -> None:
    long = "x" * 4000
    with Mailbox(root, Firmware(long)) as mailbox:
        assert mailbox.gencmd("get_config int") == long


@pytest.mark.parametrize("there", ["vcio", "vcio_gencmd"])
def test_one_device_is_enough(root: Path, there: str) -> None:
    for device in ("vcio", "vcio_gencmd"):
        if device != there:
            (root / "dev" / device).unlink()
    with Mailbox(root, Firmware("ok")) as mailbox:
        assert mailbox.gencmd("version") == "ok"


def test_the_restricted_device_is_preferred_because_the_other_is_roots_since_2026(root: Path) -> None:
    opened: list[str] = []

    def ioctl(descriptor: int, request: int, message: bytearray) -> int:
        opened.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        return Firmware("ok")(descriptor, request, message)

    with Mailbox(root, ioctl) as mailbox:
        mailbox.gencmd("version")
    assert opened == ["vcio_gencmd"]


def test_without_a_device_there_is_no_mailbox(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="the firmware has no mailbox here: there is no /dev/vcio"):
        Mailbox(tmp_path)


def test_without_permission_it_says_how_to_get_it() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "dev").mkdir(mode=0o755)
        (root / "dev/vcio").touch(mode=0o000)
        (root / "dev/vcio").chmod(0o000)
        with as_nobody(), pytest.raises(SensorError, match=r"no permission .*usermod -aG video \$USER, then log in"):
            Mailbox(root)


def test_a_pipe_in_place_of_the_device_hangs_nobody(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    os.mkfifo(tmp_path / "dev/vcio")
    with Mailbox(tmp_path) as mailbox, pytest.raises(SensorError, match="ENOTTY"):
        mailbox.gencmd("version")


def test_what_the_system_says_to_a_file_that_is_no_device_is_told(root: Path) -> None:
    with Mailbox(root) as mailbox, pytest.raises(SensorError, match=r"the firmware's mailbox: .*ENOTTY"):
        mailbox.gencmd("version")


def test_a_refused_message_is_an_error(root: Path) -> None:
    def ioctl(descriptor: int, request: int, message: bytearray) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    with Mailbox(root, ioctl) as mailbox, pytest.raises(SensorError, match="EINVAL"):
        mailbox.gencmd("version")


def test_a_code_that_is_not_success_is_an_error(root: Path) -> None:
    with (
        Mailbox(root, Firmware("", code=0x80000001)) as mailbox,
        pytest.raises(SensorError, match="did not understand version: code 0x80000001"),
    ):
        mailbox.gencmd("version")


def test_an_error_number_without_a_text_is_an_error(root: Path) -> None:
    with Mailbox(root, Firmware("", error=1)) as mailbox, pytest.raises(SensorError, match="version with error 1"):
        mailbox.gencmd("version")


def test_a_refusal_comes_as_the_text_that_it_is(root: Path) -> None:
    text = 'error=1 error_msg="Command not registered"'
    with Mailbox(root, Firmware(text, error=1)) as mailbox:
        assert refusal(mailbox.gencmd("pmic_read_adc")) == "Command not registered"


def test_a_firmware_without_the_tag_gives_the_question_back_which_is_no_answer(root: Path) -> None:
    def ioctl(descriptor: int, request: int, message: bytearray) -> int:
        struct.pack_into("=I", message, 4, 0x80000000)
        return 0

    with Mailbox(root, ioctl) as mailbox, pytest.raises(SensorError, match="answers no commands in its mailbox"):
        mailbox.gencmd("version")


@pytest.mark.parametrize("command", ["x" * 4096, "measure_volts\0core", "température"])
def test_a_command_that_the_firmware_cannot_read_is_not_asked(root: Path, command: str) -> None:
    firmware = Firmware("ok")
    with Mailbox(root, firmware) as mailbox, pytest.raises(SensorError, match="no command for the firmware"):
        mailbox.gencmd(command)
    assert firmware.asked == []


def test_no_refusal_is_seen_where_there_is_none() -> None:
    assert refusal("throttled=0x0") is None
    assert refusal("") is None


def test_closing_twice_leaves_no_descriptor(root: Path) -> None:
    before = descriptors()
    mailbox = Mailbox(root, Firmware("ok"))
    assert descriptors() == before + 1
    mailbox.close()
    mailbox.close()
    assert descriptors() == before


@given(st.binary(max_size=200), st.booleans())
def test_an_answer_of_any_bytes_is_a_text_or_a_sensor_error(raw: bytes, success: bool) -> None:
    if success and len(raw) >= 8:
        raw = raw[:4] + struct.pack("=I", 0x80000000) + raw[8:]
    with suppress(SensorError):
        assert "\0" not in unpack(raw, "version")
