"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from edge_sdk.errors import SinkError
from edge_sdk.files import replacing


def test_the_file_appears_under_its_name_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    with replacing(path) as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".json")
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_what_was_there_before(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.json"
    path.write_text("before")

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_there_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("before")
    with path.open() as reader, replacing(path) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
        assert reader.read() == "before"
    assert path.read_text() == "after"


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        with replacing(tmp_path / "out.txt") as temporary:
            temporary.write_text("x")
        assert os.umask(mask) == mask  # untouched meanwhile
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o666 & ~mask


def test_two_writers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # its block ended last


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "out.txt"
    with pytest.raises(SinkError) as caught, replacing(path):
        pass
    assert str(path) in str(caught.value)
    assert "cannot be written" in str(caught.value)


def test_a_folder_under_the_name_is_refused_before_any_work(tmp_path: Path) -> None:
    reached = []
    with pytest.raises(SinkError, match="it is a folder"), replacing(tmp_path):
        reached.append(True)
    assert reached == []


def test_a_temporary_file_that_is_taken_away_is_an_error_of_the_sink(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot be written"), replacing(tmp_path / "out.txt") as temporary:
        temporary.unlink()
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_that_a_disk_takes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")
    with replacing(path) as temporary:
        temporary.write_text("x")
    assert path.read_text() == "x"


def test_a_disk_that_is_full_is_told_with_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "report.json"

    with pytest.raises(SinkError, match=r"report\.json: cannot be written: No space left on device"), replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert list(tmp_path.iterdir()) == []


def test_an_error_that_is_not_the_disks_keeps_its_words(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="other"), replacing(tmp_path / "report.json"):
        (tmp_path / "other").read_text()
