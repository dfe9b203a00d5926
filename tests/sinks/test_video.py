"""Annotated videos and photos."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_sdk import Detections, Result
from edge_sdk.errors import SinkError, UsageError
from edge_sdk.sinks import video
from edge_sdk.sinks.video import PhotoSink, VideoSink, picture_sink

NAMES = ("person",)
MakeResult = Callable[..., Result]


def grey(level: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def frames_of(path: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    assert video.isOpened()
    frames = []
    while True:
        there, frame = video.read()
        if not there:
            video.release()
            return frames
        frames.append(frame)


def levels_of(path: Path) -> list[int]:
    """The grey of each frame, to the nearest ten: codecs lose a little."""
    return [round(float(frame.mean()), -1) for frame in frames_of(path)]


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".MP4"])
def test_a_video_has_each_frame_at_its_rate(tmp_path: Path, make_result: MakeResult, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoSink(path, NAMES, fps=12.5) as sink:
        for number in range(5):
            sink.put(make_result(grey(40 * number + 20), id=number))
    assert levels_of(path) == [20, 60, 100, 140, 180]
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)


def test_nothing_is_under_the_name_until_it_is_closed(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "out.mp4"
    path.write_text("the last one")
    sink = VideoSink(path, NAMES, fps=10)
    sink.put(make_result(grey(100)))
    assert path.read_text() == "the last one"
    sink.close()
    assert levels_of(path) == [100]
    assert list(tmp_path.iterdir()) == [path]
    sink.close()
    assert levels_of(path) == [100]


@pytest.mark.parametrize("frames", [0, 3])
def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path, make_result: MakeResult, frames: int) -> None:
    def record() -> None:
        with VideoSink(tmp_path / "out.mp4", NAMES, fps=10) as sink:
            for _ in range(frames):
                sink.put(make_result(grey(100)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_being_asked_to_stop_keeps_what_was_recorded(
    tmp_path: Path, make_result: MakeResult, stop: type[BaseException]
) -> None:
    def record() -> None:
        with VideoSink(tmp_path / "out.mp4", NAMES, fps=10) as sink:
            sink.put(make_result(grey(100)))
            sink.put(make_result(grey(200)))
            raise stop

    with pytest.raises(stop):
        record()
    assert levels_of(tmp_path / "out.mp4") == [100, 200]
    assert len(list(tmp_path.iterdir())) == 1


def test_no_frame_makes_no_file(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", NAMES, fps=10):
        pass
    sink = VideoSink(tmp_path / "out.mp4", NAMES, fps=10)
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_closed_video_takes_no_frame(tmp_path: Path, make_result: MakeResult) -> None:
    sink = VideoSink(tmp_path / "out.mp4", NAMES, fps=10)
    sink.put(make_result(grey(100)))
    sink.close()
    with pytest.raises(SinkError, match="is closed"):
        sink.put(make_result(grey(100)))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_live_video_shows_each_frame_until_the_next(tmp_path: Path, make_result: MakeResult) -> None:
    with VideoSink(tmp_path / "out.mp4", NAMES, fps=10, live=True) as sink:
        for at_s, level in ((0.0, 20), (0.1, 60), (0.5, 100), (0.6, 140)):
            sink.put(make_result(grey(level), at_s=at_s + 0.01))
    # Three frames were dropped between 0.1 and 0.5 s: the one before them stays.
    assert levels_of(tmp_path / "out.mp4") == [20, 60, 60, 60, 60, 100, 140]


def test_a_live_video_of_more_frames_than_it_shows_keeps_its_length(tmp_path: Path, make_result: MakeResult) -> None:
    with VideoSink(tmp_path / "out.mp4", NAMES, fps=10, live=True) as sink:
        for number in range(101):
            sink.put(make_result(grey(100), at_s=number / 100))
    assert len(frames_of(tmp_path / "out.mp4")) == 11


def test_a_video_that_is_not_live_takes_every_frame_whatever_the_clock_says(
    tmp_path: Path, make_result: MakeResult
) -> None:
    with VideoSink(tmp_path / "out.mp4", NAMES, fps=10) as sink:
        for at_s in (0.0, 50.0, 0.01):
            sink.put(make_result(grey(100), at_s=at_s))
    assert len(frames_of(tmp_path / "out.mp4")) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_odd_sizes_lose_their_last_row_and_column(tmp_path: Path, make_result: MakeResult, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoSink(path, NAMES, fps=10) as sink:
        for _ in range(2):
            sink.put(make_result(grey(100, 47, 63)))
    assert [frame.shape for frame in frames_of(path)] == [(46, 62, 3)] * 2


def test_pictures_of_other_sizes_are_fitted_to_the_first(tmp_path: Path, make_result: MakeResult) -> None:
    with VideoSink(tmp_path / "out.mp4", NAMES, fps=10) as sink:
        for level, hw in ((20, (48, 64)), (100, (200, 31)), (180, (1, 1)), (60, (48, 65))):
            sink.put(make_result(grey(level, *hw)))
    frames = frames_of(tmp_path / "out.mp4")
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    middles = [frame[20:28, 30:34].mean() for frame in frames]
    assert middles == pytest.approx([20, 100, 180, 60], abs=6)
    # The tall one keeps its shape: 7 of 64 columns wide, on black.
    assert frames[1][:, :20].mean() < 10
    assert frames[1][:, 44:].mean() < 10


def test_a_picture_too_small_for_a_video_is_an_error_and_leaves_nothing(
    tmp_path: Path, make_result: MakeResult
) -> None:
    with (
        pytest.raises(SinkError, match="cannot write a video of 1x1"),
        VideoSink(tmp_path / "o.mp4", NAMES, 10) as sink,
    ):
        sink.put(make_result(grey(0, 1, 1)))
    assert list(tmp_path.iterdir()) == []


def test_the_callers_frame_is_not_drawn_on(tmp_path: Path, make_result: MakeResult) -> None:
    found = Detections(np.array([[5, 5, 50, 40]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    image = grey(100)
    with VideoSink(tmp_path / "out.avi", NAMES, fps=10) as video, PhotoSink(tmp_path / "out.png", NAMES) as photo:
        for sink in (video, photo):
            sink.put(make_result(image, found))
    assert (image == 100).all()
    assert (cv2.imread(str(tmp_path / "out.png")) != 100).any()
    assert (np.abs(frames_of(tmp_path / "out.avi")[0].astype(int) - 100) > 60).any()


@pytest.mark.parametrize("fps", [0.0, -5.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(UsageError, match="fps must be above 0"):
        VideoSink(tmp_path / "out.mp4", NAMES, fps)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"out\.mp4: cannot be written"):
        VideoSink(tmp_path / "gone/out.mp4", NAMES, 10)


FILLS_ITS_DISK = """
import resource, sys, numpy as np
from edge_sdk import Detections, Frame, Result, Timing
from edge_sdk.errors import SinkError
from edge_sdk.sinks.video import VideoSink
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # bytes of any file: stands in for a full disk
from pathlib import Path
noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
sink = VideoSink(Path(sys.argv[1]), ("person",), 10)
for number in range(20):
    sink.put(Result(Frame(noise, number, "x", 0), Detections.empty(), Timing(0, 0, 0, 0, 0)))
try:
    sink.close()
except SinkError as error:
    sys.exit(f"refused: {error}")
"""


def test_a_video_that_did_not_fit_on_the_disk_is_no_success(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILLS_ITS_DISK, str(tmp_path / "out.mp4")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "refused: " in ran.stderr
    assert "is there room on the disk" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_photos_go_into_a_folder_with_the_name_of_their_source(tmp_path: Path, make_result: MakeResult) -> None:
    folder = tmp_path / "made" / "here"
    with PhotoSink(folder, NAMES) as sink:
        sink.put(make_result(grey(10), id=0, source="/photos/cat.JPG"))
        sink.put(make_result(grey(20), id=1, source="/photos/sub/cat.tif"))
        sink.put(make_result(grey(30), id=2, source="clip.mp4"))
        sink.put(make_result(grey(40), id=1234567, source="rtsp://***@cam/stream.jpg/"))
    names = {path.name: round(float(cv2.imread(str(path)).mean()), -1) for path in folder.iterdir()}
    assert names == {
        "cat.jpg": 10, "cat_000001.jpg": 20, "frame_000002.jpg": 30, "stream.jpg": 40,
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".PNG"])
def test_one_photo_has_the_latest_frame(tmp_path: Path, make_result: MakeResult, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with PhotoSink(path, NAMES) as sink:
        for level in (50, 150):
            sink.put(make_result(grey(level)))
    assert cv2.imread(str(path)).mean() == pytest.approx(150, abs=3)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(SinkError, match="taken: no folder can be made here"):
        PhotoSink(tmp_path / "taken", NAMES)


def test_the_path_says_which_sink_it_is(tmp_path: Path, make_result: MakeResult) -> None:
    with picture_sink(tmp_path / "out.mp4", NAMES, None) as video:
        assert isinstance(video, VideoSink)
        video.put(make_result(grey(100)))
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert isinstance(picture_sink(tmp_path / "out.png", NAMES, 30.0), PhotoSink)
    assert isinstance(picture_sink(tmp_path / "run.2026", NAMES, 30.0), PhotoSink)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "run.2026"]


@pytest.mark.parametrize("name", ["out.mov", "out.webm", "out.gif", "out.tif", "OUT.MOV"])
def test_a_kind_that_is_not_written_makes_no_folder_of_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(SinkError, match=re.escape(f"'{Path(name).suffix.lower()}' is not written")):
        picture_sink(tmp_path / name, NAMES, 10.0)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SinkError, match=r"a video ends in \.mp4, \.avi, \.mkv"):
        VideoSink(tmp_path / name, NAMES, 10.0)


def test_a_disk_that_fills_up_stops_the_video_and_keeps_what_was_written(
    tmp_path: Path, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV's writer never says that a write failed, so the room is looked at before each frame."""
    sink = VideoSink(tmp_path / "out.mp4", NAMES, fps=10)
    for level in (20, 40, 60):
        sink.put(make_result(grey(level)))
    room = os.statvfs(tmp_path)
    monkeypatch.setattr(video, "_RESERVE_BYTES", room.f_bavail * room.f_frsize * 2)
    with pytest.raises(SinkError, match="the disk is full; the 3 frames until now are kept"):
        sink.put(make_result(grey(80)))
    sink.close()
    assert len(frames_of(tmp_path / "out.mp4")) == 3


@pytest.mark.parametrize("name", ["out.pdf", "out.mov", "out.h264", "model.onnx"])
def test_a_name_that_ends_like_another_kind_of_file_is_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(SinkError, match="is not written"):
        video.picture_sink(tmp_path / name, NAMES, 30)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_dot_and_a_number_is_a_folder(tmp_path: Path) -> None:
    assert isinstance(video.picture_sink(tmp_path / "run.2", NAMES, 30), PhotoSink)
