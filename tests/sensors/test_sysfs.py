"""Numbers out of files that may be gone, gated, empty or nonsense."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SensorError
from edge_sdk.sensors.sysfs import (
    SysFile,
    hwmon,
    i2c_device,
    in_order,
    number,
    number_or_none,
    text,
    text_or_none,
    update_interval_s,
    why,
)

MakeTree = Callable[[Mapping[str, Any]], Path]


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes | str], Path]:
    """Writes a file `value`."""

    def write(content: bytes | str) -> Path:
        path = tmp_path / "value"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


class TestNumbers:
    @pytest.mark.parametrize(
        ("content", "value"), [("4984\n", 4984), ("-392", -392), (" 7 \0", 7), ("0".ljust(24), 0), ("+5\n", 5)]
    )
    def test_a_number_is_read_with_the_blanks_around_it(
        self, file: Callable[[str], Path], content: str, value: int
    ) -> None:
        assert number(file(content)) == value
        with_descriptor = SysFile(file(content))
        assert with_descriptor.number() == value
        with_descriptor.close()

    @pytest.mark.parametrize("content", ["", "\n", "32760 ma", "nan", "1_000", "1.5", "9" * 21, "٣"])
    def test_what_is_no_number_of_a_kernel_says_what_stands_there(
        self, file: Callable[[str], Path], content: str
    ) -> None:
        with pytest.raises(SensorError, match="value: no number in it: '"):
            number(file(content))

    def test_ten_megabytes_of_digits_are_no_number_and_are_not_read_to_their_end(
        self, file: Callable[[bytes], Path]
    ) -> None:
        path = file(b"1" * 10_000_000)
        with pytest.raises(SensorError, match=r"no number in it: '1{40}'$"):
            number(path)

    @given(content=st.binary(max_size=64))
    def test_any_bytes_are_a_number_that_a_float_can_hold_or_an_error(
        self, tmp_path_factory: pytest.TempPathFactory, content: bytes
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "any"
        path.write_bytes(content)
        value = number_or_none(path)
        if value is not None:
            assert number(path) == value
            assert abs(float(value)) < 1e20
        else:
            with pytest.raises(SensorError, match=r"^any: no number in it"):
                number(path)

    def test_a_file_that_is_not_there_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(SensorError, match=r"value: gone \(ENOENT\)"):
            number(tmp_path / "value")
        assert number_or_none(tmp_path / "value") is None
        assert text_or_none(tmp_path / "value") is None

    def test_a_folder_in_place_of_a_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(SensorError, match=r"Is a directory \(EISDIR\)"):
            text(tmp_path)


class TestAFileThatStaysOpen:
    def test_gives_what_is_in_it_now(self, file: Callable[[str], Path]) -> None:
        path = file("1")
        opened = SysFile(path)
        path.write_text("Charging\n")
        assert opened.text() == "Charging"
        path.write_text("22")
        assert opened.number() == 22
        opened.close()

    def test_opens_no_second_descriptor_to_read(self, file: Callable[[str], Path]) -> None:
        opened = SysFile(file("1"))
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(5):
            opened.number()
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        opened.close()
        opened.close()
        assert len(list(Path("/proc/self/fd").iterdir())) == before - 1

    def test_has_no_value_once_it_is_closed(self, file: Callable[[str], Path]) -> None:
        opened = SysFile(file("1"))
        opened.close()
        with pytest.raises(SensorError, match="EBADF"):
            opened.number()

    def test_that_is_gated_fails_at_once_and_says_so(self, make_tree: MakeTree) -> None:
        root = make_tree({"/sys/gated": {"errno": "EAGAIN"}})
        opened = SysFile(root / "sys/gated")
        with pytest.raises(SensorError, match=r"gated: power-gated or busy \(EAGAIN\)"):
            opened.number()
        opened.close()
        with pytest.raises(SensorError, match="power-gated"):
            text(root / "sys/gated")


@pytest.mark.parametrize(
    ("number_", "words"),
    [
        (errno.EAGAIN, "power-gated or busy (EAGAIN)"),
        (errno.EACCES, "no permission to read it"),
        (errno.EPERM, "no permission to read it"),
        (errno.ENODEV, "gone (ENODEV)"),
        (errno.ENXIO, "gone (ENXIO)"),
        (errno.ENODATA, "disabled, or no data yet (ENODATA)"),
        (errno.EIO, f"{os.strerror(errno.EIO)} (EIO)"),
    ],
)
def test_the_systems_reason_is_in_words(number_: int, words: str) -> None:
    assert why(OSError(number_, "x")) == words


def test_an_error_without_a_number_has_words_too() -> None:
    assert "unknown error" in why(OSError("odd"))


def test_numbers_in_names_are_ordered_as_numbers(tmp_path: Path) -> None:
    for name in ("hwmon10", "hwmon2", "hwmon1"):
        (tmp_path / name).mkdir()
    assert [path.name for path in in_order(tmp_path, "hwmon*")] == ["hwmon1", "hwmon2", "hwmon10"]
    assert in_order(tmp_path / "nothing", "*") == []


class TestHwmon:
    def test_a_chip_is_found_by_its_name_and_not_by_its_number(self, make_tree: MakeTree) -> None:
        root = make_tree({f"/sys/class/hwmon/hwmon{n}/name": name for n, name in ((3, "ina3221\n"), (5, "ina238\n"))})
        assert [folder.name for folder in hwmon(root, "ina238")] == ["hwmon5"]
        assert [folder.name for folder in hwmon(root, "ina238", "ina3221")] == ["hwmon3", "hwmon5"]
        assert hwmon(root, "ina226") == []

    def test_a_captured_tree_may_hold_the_devices_alone(self, captured_board: Callable[[str], Path]) -> None:
        assert [folder.name for folder in hwmon(captured_board("agx_orin_jp6"), "ina3221")] == ["hwmon3", "hwmon4"]

    @pytest.mark.parametrize(
        ("content", "seconds"),
        [("13\n", 0.013), ("0", None), ("-5", None), ("99999999", None), ("fast", None), (None, None)],
    )
    def test_its_update_interval_is_in_milliseconds_where_it_makes_sense(
        self, tmp_path: Path, content: str | None, seconds: float | None
    ) -> None:
        if content is not None:
            (tmp_path / "update_interval").write_text(content)
        assert update_interval_s(tmp_path) == seconds


class TestI2cDevice:
    def test_a_folder_of_sys_devices_tells_it_by_its_path(self, captured_board: Callable[[str], Path]) -> None:
        root = captured_board("agx_orin_jp6")
        assert [i2c_device(folder, root) for folder in hwmon(root, "ina3221")] == ["1-0040", "1-0041"]

    def test_a_link_tells_it_by_where_it_leads(self, make_tree: MakeTree) -> None:
        root = make_tree({"/sys/devices/platform/c240000.i2c/i2c-1/1-0040/hwmon/hwmon3/name": "ina3221\n"})
        (root / "sys/class/hwmon").mkdir(parents=True)
        link = root / "sys/class/hwmon/hwmon3"
        link.symlink_to("../../devices/platform/c240000.i2c/i2c-1/1-0040/hwmon/hwmon3")
        assert i2c_device(link, root) == "1-0040"

    def test_a_link_to_the_device_tells_it(self, make_tree: MakeTree) -> None:
        root = make_tree({"/sys/class/hwmon/hwmon3/name": "ina3221\n", "/sys/devices/i2c-7/7-0044/name": "x"})
        (root / "sys/class/hwmon/hwmon3/device").symlink_to("../../../devices/i2c-7/7-0044")
        assert i2c_device(root / "sys/class/hwmon/hwmon3", root) == "7-0044"

    def test_plain_folders_do_not_tell_it_whatever_the_root_is_called(self, tmp_path: Path) -> None:
        root = tmp_path / "1-0040"
        folder = root / "sys/class/hwmon/hwmon3"
        folder.mkdir(parents=True)
        assert i2c_device(folder, root) is None

    def test_a_link_to_itself_tells_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "device").symlink_to("device")
        assert i2c_device(tmp_path, tmp_path) is None
