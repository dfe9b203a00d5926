"""Video files: every frame in order, and honest about one that is cut off."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import threading
import time
import tracemalloc

import cv2
import numpy as np
import pytest

from edge_sdk.errors import BadFrameError, SourceError, SourceNotFoundError
from edge_sdk.sources.base import open_source
from edge_sdk.sources.capture import CaptureSource, open_ffmpeg

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def read_all(source):
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    return frames


def test_a_clip_gives_every_frame_once_and_in_order(cars):
    source = open_source(cars)
    assert (source.live, source.fps, source.total, source.name) == (False, 25.0, 38, str(cars))
    frames = read_all(source)
    source.close()
    assert [frame.id for frame in frames] == list(range(38))
    assert {frame.image.shape for frame in frames} == {(720, 1280, 3)}
    assert all(one.captured_ns <= two.captured_ns for one, two in itertools.pairwise(frames))
    assert not np.array_equal(frames[0].image, frames[-1].image)


def test_the_frames_are_what_opencv_reads(cars):
    plain = cv2.VideoCapture(str(cars))
    source = open_source(cars)
    for _ in range(5):
        assert np.array_equal(source.read().image, plain.read()[1])
    plain.release()
    source.close()


def test_an_image_stays_what_it_was_when_the_next_is_read(cars):
    source = open_source(cars)
    first = source.read().image
    kept = first.copy()
    source.read()
    assert np.array_equal(first, kept)
    source.close()


def test_frames_are_decoded_into_buffers_that_are_free(cars):
    source = open_source(cars)
    held = [source.read().image for _ in range(3)]
    kept = [image.copy() for image in held]
    first = {source.read().image.ctypes.data for _ in range(30)}
    assert len(first) == 1  # nobody keeps these: they all take turns in one
    assert not any(image.ctypes.data in first for image in held)
    assert all(np.array_equal(image, copy) for image, copy in zip(held, kept, strict=True))
    source.close()


def test_opencv_decodes_in_place(cars):
    capture = open_ffmpeg(str(cars))
    buffer = np.zeros((720, 1280, 3), np.uint8)
    capture.grab()
    done, image = capture.retrieve(buffer)
    capture.release()
    assert done
    assert np.shares_memory(image, buffer)
    assert buffer.any()


def test_reading_a_file_allocates_no_pictures(cars):
    source = open_source(cars)
    for _ in range(3):
        source.read()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(30):
            source.read()
        allocated = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    source.close()
    assert allocated < 64 * 1024


def test_closing_early_and_twice_is_fine(cars):
    source = open_source(cars)
    source.read()
    source.close()
    source.close()
    assert source.read() is None


def test_closing_from_another_thread_ends_the_reading(people):
    source = open_source(people)
    read = []
    thread = threading.Thread(target=lambda: read.extend(read_all(source)))
    thread.start()
    source.close()
    thread.join(2)
    assert not thread.is_alive()
    assert len(read) < 1394


def test_a_turned_clip_is_turned_upright(cars, tmp_path):
    data = bytearray(cars.read_bytes())
    at = data.rindex(b"tkhd") + 44  # the matrix of the picture's track header, version 0: ISO/IEC 14496-12
    data[at : at + 36] = b"".join(
        value.to_bytes(4, "big", signed=True) for value in (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    )
    (tmp_path / "turned.mp4").write_bytes(data)
    source = open_source(tmp_path / "turned.mp4")
    first, second = source.read().image, source.read().image
    assert first.shape == second.shape == (1280, 720, 3)
    assert not np.shares_memory(first, second)
    source.close()


def test_a_clip_that_was_cut_off_gives_what_it_has_and_says_so(people, tmp_path, caplog):
    data = people.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 8])
    source = open_source(tmp_path / "cut.mp4")
    with caplog.at_level(logging.WARNING, "edge_sdk"):
        frames = read_all(source)
        assert source.read() is None
    source.close()
    assert 50 < len(frames) < 400
    assert caplog.messages == [
        f"{tmp_path}/cut.mp4: ends after {len(frames)} of 1394 announced frames; the file is cut off"
    ]


def test_a_whole_clip_is_not_called_cut_off(cars, caplog):
    source = open_source(cars)
    read_all(source)
    source.close()
    assert caplog.messages == []


def test_a_clip_without_its_index_does_not_open(people, tmp_path):
    data = people.read_bytes()
    (tmp_path / "noindex.mp4").write_bytes(data[:20] + data[400_000:])
    (tmp_path / "text.mp4").write_text("no video " * 1000)
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("noindex.mp4", "text.mp4", "empty.mp4"):
        with pytest.raises(SourceError, match=f"{name}: no video that FFmpeg can read") as caught:
            open_source(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_clip_that_is_not_there_says_what_is(cars, tmp_path):
    with pytest.raises(SourceNotFoundError, match=r"clip\.mp4: no such file; check the name"):
        open_source(tmp_path / "clip.mp4")
    shutil.copy(cars, tmp_path / "clip.mov")
    with pytest.raises(FileNotFoundError, match=r"there is clip\.mov"):
        open_source(tmp_path / "clip.mp4")


def test_a_pipe_or_folder_with_a_videos_name_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SourceError, match="not a regular file"):
        open_source(tmp_path / "pipe.mp4")


def test_a_name_that_looks_like_a_protocol_is_a_file(cars, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(cars, tmp_path / "concat:a.mp4")
    source = open_source("concat:a.mp4")
    assert source.read() is not None
    source.close()


def test_a_file_without_a_known_ending_is_tried_as_a_video(cars, tmp_path):
    shutil.copy(cars, tmp_path / "recording")
    source = open_source(tmp_path / "recording")
    assert source.total == 38
    source.close()


def test_opening_leaves_the_environment_as_it_was(cars, monkeypatch):
    before = dict(os.environ)
    open_ffmpeg(str(cars), options="threads;1").release()
    assert dict(os.environ) == before
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "threads;2")
    open_ffmpeg(str(cars), options="threads;1").release()
    assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == "threads;2"


def test_captures_opened_at_once_do_not_take_each_others_options(cars):
    seen: list[bool] = []

    def open_many(options: str | None) -> None:
        for _ in range(5):
            capture = open_ffmpeg(str(cars), options=options)
            seen.append(capture.isOpened())
            capture.release()

    threads = [threading.Thread(target=open_many, args=(options,)) for options in (None, "threads;1", "threads;2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 15
    assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ


class Smeared:
    """A capture of which one picture cannot be decoded, and that gives grey ones."""

    def __init__(self) -> None:
        self.count = 0
        self.released = 0

    def grab(self):
        self.count += 1
        return self.count <= 3

    def retrieve(self, image=None):
        return (False, None) if self.count == 2 else (True, np.full((4, 6), self.count, np.uint8))

    def get(self, prop):
        return float("nan")

    def release(self):
        self.released += 1


def test_a_frame_that_cannot_be_decoded_is_counted_and_passed_over():
    capture = Smeared()
    source = CaptureSource(capture, name="camera", live=False)
    assert source.fps is None
    assert source.read().image.shape == (4, 6, 3)
    with pytest.raises(BadFrameError, match="camera: frame 1 could not be decoded"):
        source.read()
    assert source.read().id == 2
    assert source.read() is None
    source.close()
    source.close()
    assert capture.released == 1


class Changing:
    """A capture whose pictures change their size, and that writes in place where it can, as OpenCV's do."""

    def __init__(self, sizes) -> None:
        self.sizes = list(sizes)
        self.given = []

    def grab(self):
        return bool(self.sizes)

    def retrieve(self, image=None):
        shape = (*self.sizes.pop(0), 3)
        self.given.append(None if image is None else image.shape)
        if image is None or image.shape != shape:
            image = np.empty(shape, np.uint8)
        image[:] = len(self.sizes)
        return True, image

    def get(self, prop):
        return 30.0

    def release(self):
        pass


def test_a_source_follows_when_its_pictures_change_their_size():
    capture = Changing([(4, 6), (4, 6), (8, 8), (8, 8), (4, 6), (4, 6)])
    source = CaptureSource(capture, name="camera", live=True)
    images = [source.read().image for _ in range(6)]
    assert [image.shape[:2] for image in images] == [(4, 6), (4, 6), (8, 8), (8, 8), (4, 6), (4, 6)]
    assert [int(image[0, 0, 0]) for image in images] == [5, 4, 3, 2, 1, 0]
    assert capture.given == [None, (4, 6, 3), (4, 6, 3), (8, 8, 3), (8, 8, 3), (4, 6, 3)]


class Stuck(Changing):
    """A capture whose driver does not let go of a grab until it is told to."""

    def __init__(self) -> None:
        super().__init__([(4, 6)])
        self.let_go = threading.Event()
        self.grabbing = threading.Event()
        self.released = 0

    def grab(self):
        self.grabbing.set()
        self.let_go.wait(20)
        return True

    def release(self):
        self.released += 1


def test_closing_does_not_wait_long_for_a_driver_and_the_read_frees_it_later(caplog):
    capture = Stuck()
    source = CaptureSource(capture, name="camera", live=True)
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(source.read()))
    thread.start()
    capture.grabbing.wait(5)
    started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 3
    assert caplog.messages == ["camera: a read has not returned within 1 s; the device stays open until it does"]
    assert capture.released == 0
    capture.let_go.set()
    thread.join(5)
    assert capture.released == 1
    assert source.read() is None
