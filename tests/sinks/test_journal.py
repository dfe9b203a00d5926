"""Runs that are interrupted, and continued."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk import Detector, __version__
from edge_sdk.errors import SinkError
from edge_sdk.sinks import journal as journals
from edge_sdk.sinks.journal import Journal, run_header

HEADER: dict[str, Any] = {"model": "nano.onnx", "confidence": 0.25, "classes": None, "source": "/photos"}


def photos_at(folder: Path, count: int) -> list[Path]:
    """Files that stand for photos: a journal looks at their size and time alone."""
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes(number + 1))
        os.utime(path, ns=(0, 1_700_000_000_123_456_789 + number))
    return paths


def written(output: Path, photos: list[Path], header: dict[str, Any] | None = None) -> Path:
    """A journal in which these photos are finished, left as by a run that was killed."""
    with Journal.open(output, header or HEADER) as journal:
        for number, photo in enumerate(photos):
            journal.add(number, photo, {"boxes": [[number, "ünïcode\n"]]})
    return journal.path


def done(output: Path, photos: list[Path], header: dict[str, Any] | None = None) -> list[bool]:
    with Journal.open(output, header or HEADER) as journal:
        return [journal.done(number, photo) for number, photo in enumerate(photos)]


def test_a_restart_knows_which_photos_are_finished(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos = photos_at(tmp_path, 4)
    path = written(tmp_path / "found.json", photos[:2])
    assert path == tmp_path / "found.json.partial"
    with caplog.at_level(logging.INFO, "edge_sdk"):
        assert done(tmp_path / "found.json", photos) == [True, True, False, False]
    assert "found.json.partial: 2 photos are finished" in caplog.text


def test_a_photo_that_has_changed_or_gone_is_not_finished(tmp_path: Path) -> None:
    photos = photos_at(tmp_path, 4)
    written(tmp_path / "found.json", photos)
    photos[0].write_bytes(b"another size")
    os.utime(photos[1], ns=(0, 1))
    photos[2].unlink()
    assert done(tmp_path / "found.json", photos) == [False, False, False, True]


def test_a_photo_that_went_before_it_was_noted_is_not_finished(tmp_path: Path) -> None:
    (photo,) = photos_at(tmp_path, 1)
    with Journal.open(tmp_path / "found.json", HEADER) as journal:
        photo.unlink()
        journal.add(0, photo, "seen")
        assert list(journal.records()) == [(0, photo, "seen")]
    photos_at(tmp_path, 1)
    assert done(tmp_path / "found.json", [photo]) == [False]


def test_the_records_come_by_number_with_the_numbers_of_this_run(tmp_path: Path) -> None:
    a, b, c, d = photos_at(tmp_path, 4)
    written(tmp_path / "found.json", [a, b, c])
    os.utime(b, ns=(0, 1))
    d.rename(tmp_path / "00.jpg")
    with Journal.open(tmp_path / "found.json", HEADER) as journal:
        listing = [tmp_path / "00.jpg", a, b, c]  # one has come, one has changed
        assert [journal.done(number, photo) for number, photo in enumerate(listing)] == [False, True, False, True]
        journal.add(2, b, "again")
        journal.add(0, tmp_path / "00.jpg", "new")
        records = list(journal.records())
    assert [(number, photo.name) for number, photo, _ in records] == [
        (0, "00.jpg"), (1, "0.jpg"), (2, "1.jpg"), (3, "2.jpg"),
    ]  # fmt: skip
    assert [record for _, _, record in records] == [
        "new", {"boxes": [[0, "ünïcode\n"]]}, "again", {"boxes": [[2, "ünïcode\n"]]},
    ]  # fmt: skip


def test_finished_photos_that_the_source_no_longer_has_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = photos_at(tmp_path, 3)
    written(tmp_path / "found.json", photos)
    with Journal.open(tmp_path / "found.json", HEADER) as journal:
        assert journal.done(0, photos[2])
        assert [photo for _, photo, _ in journal.records()] == [photos[2]]
    assert "2 finished photos are no longer in the source" in caplog.text


def test_a_relative_path_and_its_absolute_one_are_one_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos_at(tmp_path, 1)
    written(Path("found.json"), [Path("0.jpg")])
    monkeypatch.chdir("/")
    assert done(tmp_path / "found.json", [tmp_path / "0.jpg"]) == [True]


@pytest.mark.parametrize("change", [{"confidence": 0.4}, {"classes": [0]}, {"source": "/others"}, {"more": 1}])
def test_another_run_begins_anew_and_keeps_the_old_journal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    photos = photos_at(tmp_path, 2)
    path = written(tmp_path / "found.json", photos)
    before = path.read_bytes()
    assert done(tmp_path / "found.json", photos, {**HEADER, **change}) == [False, False]
    assert (tmp_path / "found.json.partial.old").read_bytes() == before
    ((key, value),) = change.items()
    assert f"{key} {HEADER.get(key)}, now {value}" in caplog.text
    assert "is kept as" in caplog.text
    # Back to the first run: its journal was moved away, and the second's is kept too.
    assert done(tmp_path / "found.json", photos) == [False, False]
    assert json.loads((tmp_path / "found.json.partial.old2").read_text())[next(iter(change))] == value


def test_a_file_that_is_no_journal_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, content in enumerate((b"my notes\n", b"no line end", b'{"photo": 1}\n', b"[]\n", bytes(4096)), 1):
        (tmp_path / "found.json.partial").write_bytes(content)
        assert done(tmp_path / "found.json", []) == []
        kept = tmp_path / f"found.json.partial.old{number if number > 1 else ''}"
        assert kept.read_bytes() == content
    assert "it has no header" in caplog.text


@given(cut=st.integers(0, 10_000), rubbish=st.binary(max_size=30))
def test_whatever_byte_it_is_cut_off_at_what_stands_before_counts(cut: int, rubbish: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        photos = photos_at(Path(name), 5)
        output = Path(name) / "found.json"
        path = written(output, photos)
        whole = path.read_bytes()
        cut %= len(whole) + 1
        path.write_bytes(whole[:cut] + rubbish.replace(b"\n", b"?"))
        lines = whole[:cut].count(b"\n")  # that are whole; the first is the header
        with Journal.open(output, HEADER) as journal:
            assert [journal.done(number, photo) for number, photo in enumerate(photos)] == [
                number < lines - 1 for number in range(5)
            ]
            # And what is written after it is as good as if nothing had happened.
            for number, photo in enumerate(photos):
                if not journal.done(number, photo):
                    journal.add(number, photo, {"boxes": [[number, "ünïcode\n"]]})
            records = list(journal.records())
        assert [number for number, _, _ in records] == [0, 1, 2, 3, 4]
        assert path.read_bytes() == whole


def test_what_follows_a_broken_line_is_left_out(tmp_path: Path) -> None:
    photos = photos_at(tmp_path, 3)
    path = written(tmp_path / "found.json", photos)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b'{"photo": 5}\n', *lines[2:]]))
    assert done(tmp_path / "found.json", photos) == [True, False, False]
    assert path.read_bytes() == b"".join(lines[:2])


def test_each_line_is_there_at_once(tmp_path: Path) -> None:
    (photo,) = photos_at(tmp_path, 1)
    with Journal.open(tmp_path / "found.json", HEADER) as journal:
        journal.add(0, photo, [1, 2])
        line = journal.path.read_text().splitlines()[1]
    assert json.loads(line) == {
        "photo": str(photo), "size": 1, "mtime_ns": 1_700_000_000_123_456_789, "record": [1, 2],
    }  # fmt: skip


def test_the_medium_is_asked_at_intervals_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, asked = photos_at(tmp_path, 3), []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (asked.append(handle), fsync(handle)))
    with Journal.open(tmp_path / "found.json", HEADER) as journal:
        journal.add(0, photos[0], 0)
        assert asked == []
        monkeypatch.setattr(journals, "_SYNC_S", 0.0)
        journal.add(1, photos[1], 0)
        assert len(asked) == 1
    assert len(asked) == 2


FILLS_ITS_DISK = """
import resource, sys
from pathlib import Path
from edge_sdk.errors import SinkError
from edge_sdk.sinks.journal import Journal
journal = Journal.open(Path(sys.argv[1]), {"model": "nano.onnx"})
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))  # bytes of any file: stands in for a full disk
refused = 0
for number in range(10):
    try:
        journal.add(number, Path(sys.argv[2], f"{number}.jpg"), "x" * (100 if number == 9 else 900))
    except SinkError as error:
        assert "File too large" in str(error), error
        refused += 1
print(refused)
"""


def test_a_line_that_does_not_fit_on_the_disk_leaves_those_before_and_after_whole(tmp_path: Path) -> None:
    photos = photos_at(tmp_path, 10)
    command = [sys.executable, "-c", FILLS_ITS_DISK, str(tmp_path / "found.json"), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    refused = int(ran.stdout)
    assert 0 < refused < 9
    assert done(tmp_path / "found.json", photos, {"model": "nano.onnx"}) == [
        *[True] * (9 - refused),
        *[False] * refused,
        True,
    ]


def test_two_processes_do_not_write_one_journal(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "found.json", HEADER), pytest.raises(SinkError, match="another process is writing it"):
        Journal.open(tmp_path / "found.json", HEADER)
    Journal.open(tmp_path / "found.json", HEADER).close()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"gone/found\.json\.partial: cannot be written: No such file"):
        Journal.open(tmp_path / "gone/found.json", HEADER)


def test_a_closed_journal_takes_nothing_and_is_closed_twice(tmp_path: Path) -> None:
    (photo,) = photos_at(tmp_path, 1)
    journal = Journal.open(tmp_path / "found.json", HEADER)
    journal.close()
    journal.close()
    with pytest.raises(SinkError, match="cannot be written"):
        journal.add(0, photo, 0)


def test_no_number_that_json_lacks_gets_in(tmp_path: Path) -> None:
    (photo,) = photos_at(tmp_path, 1)
    with Journal.open(tmp_path / "found.json", HEADER) as journal:
        with pytest.raises(SinkError, match="not JSON compliant"):
            journal.add(0, photo, float("nan"))
        journal.add(0, photo, 1.5)
        assert [record for _, _, record in journal.records()] == [1.5]


def test_a_removed_journal_is_gone(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "found.json", HEADER) as journal:
        journal.remove()
        journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_header_has_all_that_results_depend_on(
    yolox: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    headers = []
    for options in ({}, {"confidence": 0.5}, {"iou": 0.3}, {"classes": ["bear"]}):
        with contextlib.closing(Detector(yolox, **options)) as detector:
            headers.append(run_header(detector, "photos/*.jpg", "coco"))
    assert json.loads(json.dumps(headers)) == headers
    plain = headers[0]
    assert plain["model"] == "yolox_nano.onnx"
    assert len(plain["model_sha256"]) == 64
    assert (plain["version"], plain["source"]) == (__version__, f"{tmp_path}/photos/*.jpg")
    assert (plain["confidence"], plain["classes"], plain["backend"]) == (0.25, None, "onnxruntime")
    differing = [{key for key in plain if plain[key] != other[key]} for other in headers]
    assert differing == [set(), {"confidence"}, {"iou"}, {"classes"}]
    with contextlib.closing(Detector(yolox)) as detector:
        assert run_header(detector, "photos/*.jpg", "coco") == plain
