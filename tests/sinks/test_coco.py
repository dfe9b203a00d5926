"""COCO results, and runs over photos that are interrupted."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import Detections, Detector, Result
from edge_sdk.errors import DatasetError, SinkError
from edge_sdk.sinks import coco
from edge_sdk.sinks.coco import CocoSink
from edge_sdk.sinks.journal import Journal
from edge_sdk.sources.base import open_source

NAMES = ("person", "car")
MakeResult = Callable[..., Result]
IMAGE = np.zeros((48, 64, 3), np.uint8)


def two() -> Detections:
    return Detections(
        np.array([[1.004, 2, 30.5, 40], [5, 6, 7, 8]], np.float32),
        np.array([0.9123456, 0.5], np.float32),
        np.array([1, 0], np.int32),
    )


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_box_is_a_row_and_a_picture_an_entry_of_the_companion(tmp_path: Path, make_result: MakeResult) -> None:
    with CocoSink(tmp_path / "found.json", NAMES, source="/photos") as sink:
        sink.put(make_result(IMAGE, two(), id=0, source="/photos/b.jpg"))
        sink.put(make_result(IMAGE[:10], id=1, source="/photos/é/c.jpg"))
        sink.put(make_result(IMAGE, two()[1:], id=3, source="/photos/e.jpg"))
    assert read(tmp_path / "found.json") == [
        {"image_id": 1, "category_id": 2, "bbox": [1.0, 2.0, 29.5, 38.0], "score": 0.912346},
        {"image_id": 1, "category_id": 1, "bbox": [5.0, 6.0, 2.0, 2.0], "score": 0.5},
        {"image_id": 4, "category_id": 1, "bbox": [5.0, 6.0, 2.0, 2.0], "score": 0.5},
    ]
    companion = read(tmp_path / "found.images.json")
    assert companion["images"] == [
        {"id": 1, "file_name": "/photos/b.jpg", "width": 64, "height": 48},
        {"id": 2, "file_name": "/photos/é/c.jpg", "width": 64, "height": 10},
        {"id": 4, "file_name": "/photos/e.jpg", "width": 64, "height": 48},
    ]
    assert companion["categories"] == [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]
    assert companion["annotations"] == []
    assert files(tmp_path) == ["found.images.json", "found.json"]


def test_frames_of_a_video_have_their_number(tmp_path: Path, make_result: MakeResult) -> None:
    with CocoSink(tmp_path / "found.json", NAMES, source="street.mp4") as sink:
        for number in (0, 5):
            sink.put(make_result(IMAGE, two(), id=number, source="street.mp4"))
    assert {row["image_id"] for row in read(tmp_path / "found.json")} == {1, 6}
    assert read(tmp_path / "found.images.json")["images"][1] == {
        "id": 6, "file_name": "frame_000005.jpg", "source": "street.mp4", "frame": 5, "width": 64, "height": 48,
    }  # fmt: skip


def test_nothing_is_under_the_name_until_it_is_closed(tmp_path: Path, make_result: MakeResult) -> None:
    (tmp_path / "found.json").write_text("the last one")
    sink = CocoSink(tmp_path / "found.json", NAMES)
    sink.put(make_result(IMAGE, two()))
    assert (tmp_path / "found.json").read_text() == "the last one"
    sink.close()
    sink.close()
    sink.finish()
    assert len(read(tmp_path / "found.json")) == 2
    assert files(tmp_path) == ["found.images.json", "found.json"]
    with pytest.raises(SinkError, match="is closed"):
        sink.put(make_result(IMAGE, two()))


def test_a_run_without_journal_keeps_what_was_found_however_it_ends(tmp_path: Path, make_result: MakeResult) -> None:
    def record() -> None:
        with CocoSink(tmp_path / "found.json", NAMES) as sink:
            sink.put(make_result(IMAGE, two()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record()
    assert len(read(tmp_path / "found.json")) == 2


def test_no_result_makes_an_empty_list(tmp_path: Path) -> None:
    CocoSink(tmp_path / "found.json", NAMES).close()
    assert read(tmp_path / "found.json") == []
    assert read(tmp_path / "found.images.json")["images"] == []


def test_a_number_that_json_lacks_costs_its_picture_alone(tmp_path: Path, make_result: MakeResult) -> None:
    bad = Detections(np.array([[0, 0, np.inf, 1]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    with CocoSink(tmp_path / "found.json", NAMES) as sink:
        sink.put(make_result(IMAGE, two(), id=0))
        with pytest.raises(SinkError, match="not JSON compliant"):
            sink.put(make_result(IMAGE, bad, id=1))
        sink.put(make_result(IMAGE, two(), id=2))
    assert [row["image_id"] for row in read(tmp_path / "found.json")] == [1, 1, 3, 3]
    assert [image["id"] for image in read(tmp_path / "found.images.json")["images"]] == [1, 3]


def test_a_full_disk_keeps_what_was_written(
    tmp_path: Path, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = CocoSink(tmp_path / "found.json", NAMES)
    sink.put(make_result(IMAGE, two()))
    monkeypatch.setattr(coco, "_RESERVE_BYTES", 1 << 60)
    with pytest.raises(SinkError, match="the disk is full"):
        sink.put(make_result(IMAGE, two(), id=1))
    sink.close()
    assert len(read(tmp_path / "found.json")) == 2


def test_what_cannot_be_written_is_an_error_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot be written"):
        CocoSink(tmp_path / "gone/found.json", NAMES)
    (tmp_path / "found.json").mkdir()
    with pytest.raises(SinkError, match="it is a folder"):
        CocoSink(tmp_path / "found.json", NAMES)
    assert files(tmp_path) == ["found.json"]


def test_the_labels_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    path = tmp_path / "instances.json"
    path.write_text('{"images": [], "categories": []}')
    with pytest.raises(SinkError, match="is where ids are read from"):
        CocoSink(path, NAMES, source=tmp_path / "images")
    path.write_text("broken")
    with pytest.raises(DatasetError, match="broken COCO labels"):
        CocoSink(tmp_path / "found.json", NAMES, source=tmp_path / "images")
    assert files(tmp_path) == ["images", "instances.json"]


# --- with a journal ------------------------------------------------------------------------------


def photos_in(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(bytes(number))
    return [folder / f"{number}.jpg" for number in range(count)]


def test_an_interrupted_run_leaves_its_journal_and_no_file(tmp_path: Path, make_result: MakeResult) -> None:
    photos = photos_in(tmp_path / "photos", 3)
    out = tmp_path / "found.json"

    def interrupted() -> None:
        with CocoSink(out, NAMES, source=tmp_path / "photos", journal=Journal.open(out, {})) as sink:
            sink.put(make_result(IMAGE, two(), id=0, source=str(photos[0])))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files(tmp_path) == ["found.json.partial", "photos"]
    journal = Journal.open(out, {})
    source = open_source(tmp_path / "photos")
    assert source.skip(journal.done) == 1
    with CocoSink(out, NAMES, source=tmp_path / "photos", journal=journal) as sink:
        for number in (1, 2):
            sink.put(make_result(IMAGE, two(), id=number, source=str(photos[number])))
    assert [row["image_id"] for row in read(out)] == [1, 1, 2, 2, 3, 3]
    assert [one["file_name"] for one in read(tmp_path / "found.images.json")["images"]] == ["0.jpg", "1.jpg", "2.jpg"]
    assert files(tmp_path) == ["found.images.json", "found.json", "photos"]


def test_closing_leaves_the_journal_and_finishing_makes_the_file(tmp_path: Path, make_result: MakeResult) -> None:
    (photo,) = photos_in(tmp_path / "photos", 1)
    out = tmp_path / "found.json"
    sink = CocoSink(out, NAMES, journal=Journal.open(out, {}))
    sink.put(make_result(IMAGE, two(), source=str(photo)))
    sink.close()
    sink.close()
    assert files(tmp_path) == ["found.json.partial", "photos"]
    sink.finish()
    sink.finish()
    sink.close()
    assert files(tmp_path) == ["found.images.json", "found.json", "photos"]


def test_a_run_whose_results_were_not_all_written_does_not_finish(tmp_path: Path, make_result: MakeResult) -> None:
    (photo,) = photos_in(tmp_path / "photos", 1)
    out = tmp_path / "found.json"
    sink = CocoSink(out, NAMES, journal=Journal.open(out, {}))
    sink.put(make_result(IMAGE, two(), source=str(photo)))
    with pytest.raises(SinkError, match="only runs over photos are continued"):
        sink.put(make_result(IMAGE, two(), id=1, source="street.mp4"))
    with pytest.raises(SinkError, match=r"1 results could not be written; the others are kept in .*found\.json\.part"):
        sink.finish()
    assert files(tmp_path) == ["found.json.partial", "photos"]


def test_a_result_that_cannot_be_put_in_place_keeps_the_journal(tmp_path: Path, make_result: MakeResult) -> None:
    (photo,) = photos_in(tmp_path / "photos", 1)
    out = tmp_path / "found.json"
    sink = CocoSink(out, NAMES, journal=Journal.open(out, {}))
    sink.put(make_result(IMAGE, two(), source=str(photo)))
    out.mkdir()
    with pytest.raises(SinkError, match="it is a folder"):
        sink.finish()
    assert "found.json.partial" in files(tmp_path)
    out.rmdir()
    sink.finish()
    assert files(tmp_path) == ["found.images.json", "found.json", "photos"]


# --- with real photos, a real model and pycocotools -----------------------------------------------


@pytest.fixture(scope="session")
def data(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty real photos with their labels."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    shutil.copy(shared / "data/coco_eval/instances.json", folder)
    for path in sorted((shared / "data/coco_eval/images").glob("*.jpg"))[:40]:
        shutil.copy(path, folder / "images")
    return folder


DETECTS = """
import sys
from pathlib import Path
from edge_sdk import Detector, Result, Timing
from edge_sdk.sinks.coco import CocoSink
from edge_sdk.sinks.journal import Journal, run_header
from edge_sdk.sources.base import open_source
model, folder, out, inferred = sys.argv[1:]
detector, source = Detector(model, threads=1), open_source(folder)
journal = Journal.open(Path(out), run_header(detector, folder, "coco"))
source.skip(journal.done)
with CocoSink(Path(out), detector.class_names, source=folder, journal=journal) as sink, open(inferred, "a") as names:
    while (frame := source.read()) is not None:
        names.write(frame.source + "\\n")
        names.flush()
        sink.put(Result(frame, detector(frame.image), Timing(0, 0, 0, 0, 0)))
"""


def detects(yolox: Path, data: Path, out: Path, inferred: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DETECTS, *map(str, (yolox, data / "images", out, inferred))])


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_run_that_is_killed_again_and_again_ends_like_one_that_was_not(
    yolox: Path, data: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    assert detects(yolox, data, whole / "found.json", whole / "names").wait(120) == 0
    seed = time.time_ns()
    print("seed", seed)  # noqa: T201  for whoever sees this fail
    chance = np.random.default_rng(seed)
    in_flight = []
    for _ in range(4):
        process = detects(yolox, data, cut / "found.json", cut / "names")
        wanted = len(lines(cut / "names")) + int(chance.integers(1, 9))
        deadline = time.monotonic() + 120
        while len(lines(cut / "names")) < wanted:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        in_flight.append(lines(cut / "names")[-1])
        assert not (cut / "found.json").exists()
    assert detects(yolox, data, cut / "found.json", cut / "names").wait(120) == 0
    inferred = lines(cut / "names")
    assert set(inferred) == set(lines(whole / "names"))
    assert len(set(inferred)) == 40
    twice = [name for name in set(inferred) if inferred.count(name) > 1]
    assert set(twice) <= set(in_flight)
    assert len(inferred) <= 40 + len(in_flight)
    assert (cut / "found.json").read_bytes() == (whole / "found.json").read_bytes()
    assert (cut / "found.images.json").read_bytes() == (whole / "found.images.json").read_bytes()
    assert files(cut) == ["found.images.json", "found.json", "names"]


def test_pycocotools_takes_the_results_with_the_photos_own_labels(yolox: Path, data: Path, tmp_path: Path) -> None:
    pycocotools = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    assert detects(yolox, data, tmp_path / "found.json", tmp_path / "names").wait(120) == 0
    truth = pycocotools.COCO(str(data / "instances.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "bbox")
    evaluation.params.imgIds = [one["id"] for one in read(tmp_path / "found.images.json")["images"]]
    assert len(evaluation.params.imgIds) == 40
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[1] > 0.3  # mAP at IoU 0.5: ids and boxes are the labels'
    # The companion is a COCO file by itself, of the pictures that were read.
    alone = pycocotools.COCO(str(tmp_path / "found.images.json"))
    assert len(alone.loadRes(str(tmp_path / "found.json")).getAnnIds()) == len(read(tmp_path / "found.json"))


def test_photos_that_the_labels_do_not_name_have_new_ids_and_that_is_said(
    yolox: Path, data: Path, tmp_path: Path, make_result: MakeResult, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(data, tmp_path / "data")
    known = sorted((tmp_path / "data/images").iterdir())[0]
    shutil.copy(known, tmp_path / "data/images/mine.jpg")
    with Detector(yolox) as detector:
        names = detector.class_names
        source = open_source(tmp_path / "data/images")
        with CocoSink(tmp_path / "found.json", names, source=tmp_path / "data/images") as sink:
            while (frame := source.read()) is not None:
                if frame.source in (str(known), f"{known.parent}/mine.jpg"):
                    sink.put(make_result(frame.image, detector(frame.image), id=frame.id, source=frame.source))
    largest = max(one["id"] for one in read(data / "instances.json")["images"])
    ids = {one["file_name"]: one["id"] for one in read(tmp_path / "found.images.json")["images"]}
    assert ids == {known.name: int(known.stem), "mine.jpg": largest + 41}
    categories = {one["name"]: one["id"] for one in read(tmp_path / "found.images.json")["categories"]}
    assert categories == {one["name"]: one["id"] for one in read(data / "instances.json")["categories"]}
    assert "1 of 2 pictures are not in" in caplog.text


def test_a_long_run_does_not_grow(tmp_path: Path, make_result: MakeResult) -> None:
    """What a result costs in memory is its entry in the journal's index, not its boxes."""
    import tracemalloc

    photos = photos_in(tmp_path / "photos", 100)
    many = Detections(
        np.random.default_rng(0).random((100, 4), np.float32) * 40, np.full(100, 0.5, np.float32),
        np.zeros(100, np.int32),
    )  # fmt: skip
    out = tmp_path / "found.json"
    with CocoSink(out, NAMES, journal=Journal.open(out, {})) as sink:
        sink.put(make_result(IMAGE, many, id=0, source=str(photos[0])))
        tracemalloc.start()
        for number in range(1, 100):
            sink.put(make_result(IMAGE, many, id=number, source=str(photos[number])))
        grown, _ = tracemalloc.get_traced_memory()
        sink.finish()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(read(out)) == 10_000
    assert grown < 100 * 1000
    assert peak < out.stat().st_size / 2
