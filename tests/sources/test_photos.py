"""Photos: one, a folder, a glob."""

from __future__ import annotations

import logging
import os
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import BadFrameError, SourceError, SourceNotFoundError, UsageError
from edge_sdk.sources.base import open_source
from edge_sdk.sources.files import jpeg_is_whole, natural_key, read_photo

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def read_all(spec: str | Path) -> tuple[list[str], list[str]]:
    """The names of the frames and the errors of a whole source."""
    source = open_source(spec)
    names, errors = [], []
    while True:
        try:
            frame = source.read()
        except BadFrameError as error:
            errors.append(str(error))
            continue
        if frame is None:
            source.close()
            return names, errors
        names.append(Path(frame.source).name)


def png(width: int, height: int) -> bytes:
    """A PNG that says it has this size, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_one_photo_is_one_frame(photos):
    source = open_source(photos[0])
    assert (source.live, source.fps, source.total) == (False, None, 1)
    frame = source.read()
    assert frame.id == 0
    assert frame.source == str(photos[0])
    assert np.array_equal(frame.image, cv2.imread(str(photos[0])))
    assert source.read() is None
    source.close()
    source.close()


def test_a_folder_gives_every_photo_in_order_and_counts_them(shared, photos):
    source = open_source(shared / "data/coco_eval/images")
    assert source.total == len(photos) == 146
    frames = [source.read() for _ in range(3)]
    assert [frame.id for frame in frames] == [0, 1, 2]
    assert [frame.source for frame in frames] == [str(path) for path in photos[:3]]
    assert frames[0].captured_ns <= frames[1].captured_ns
    source.close()
    assert source.read() is None


def test_img2_comes_before_img10(photos, tmp_path):
    for name in ("img10.jpg", "img2.jpg", "IMG1.JPG"):
        shutil.copy(photos[0], tmp_path / name)
    assert read_all(tmp_path) == (["IMG1.JPG", "img2.jpg", "img10.jpg"], [])


@given(st.lists(st.text(max_size=6), max_size=6), st.randoms())
def test_natural_order_is_an_order_of_any_names(names, random):
    shuffled = random.sample(names, len(names))
    in_order = [natural_key(name) for name in sorted(names, key=natural_key)]
    assert in_order == [natural_key(name) for name in sorted(shuffled, key=natural_key)]


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=6))
def test_natural_order_counts(numbers):
    names = sorted((f"img{number}.jpg" for number in numbers), key=natural_key)
    assert names == [f"img{number}.jpg" for number in sorted(numbers)]


def test_only_photos_of_the_folder_itself_are_read(photos, tmp_path):
    shutil.copy(photos[0], tmp_path / "a.jpg")
    shutil.copy(photos[0], tmp_path / "._a.jpg")
    (tmp_path / "labels.txt").write_text("cat")
    (tmp_path / "b.jpg").mkdir()
    shutil.copy(photos[0], tmp_path / "b.jpg" / "inner.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert read_all(tmp_path) == (["a.jpg"], [])


def test_names_in_any_script_are_read(photos, tmp_path):
    shutil.copy(photos[0], tmp_path / "фото 日本 é.jpg")
    assert read_all(tmp_path)[0] == ["фото 日本 é.jpg"]
    assert read_all(tmp_path / "фото 日本 é.jpg")[0] == ["фото 日本 é.jpg"]


def test_a_glob_gives_what_it_matches(photos, tmp_path, caplog):
    (tmp_path / "deep").mkdir()
    for name in ("a1.jpg", "a2.png.jpg", "b.jpg", "deep/a3.jpg"):
        shutil.copy(photos[0], tmp_path / name)
    (tmp_path / "a.txt").write_text("no photo")
    assert read_all(f"{tmp_path}/a*.jpg")[0] == ["a1.jpg", "a2.png.jpg"]
    assert read_all(f"{tmp_path}/**/a*.jpg")[0] == ["a1.jpg", "a2.png.jpg", "a3.jpg"]
    with caplog.at_level(logging.INFO, "edge_sdk"):
        read_all(f"{tmp_path}/a*")
    assert "2 of 3 matches are photos" in caplog.text


def test_a_name_with_brackets_that_is_there_is_no_glob(photos, tmp_path):
    shutil.copy(photos[0], tmp_path / "img[1].jpg")
    assert read_all(tmp_path / "img[1].jpg")[0] == ["img[1].jpg"]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tiff", ".ppm"])
def test_the_common_formats_are_read(photos, tmp_path, suffix):
    image = cv2.imread(str(photos[0]))
    cv2.imwrite(str(tmp_path / f"photo{suffix}"), image)
    read = read_photo(tmp_path / f"photo{suffix}")
    assert read.shape == image.shape
    assert abs(read.astype(int) - image).mean() < 8


def test_grey_rgba_sixteen_bit_and_one_pixel_photos_become_bgr(photos, tmp_path):
    grey = cv2.imread(str(photos[0]), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    read = read_photo(tmp_path / "grey.png")
    assert read.shape == (*grey.shape, 3)
    assert np.array_equal(read[..., 0], grey)
    assert np.array_equal(read[..., 2], grey)
    cv2.imwrite(str(tmp_path / "rgba.png"), np.full((5, 7, 4), (10, 20, 30, 0), np.uint8))
    assert read_photo(tmp_path / "rgba.png")[0, 0].tolist() == [10, 20, 30]
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((5, 7, 3), 0x8000, np.uint16))
    assert read_photo(tmp_path / "deep.png").dtype == np.uint8
    assert read_photo(tmp_path / "deep.png")[0, 0].tolist() == [128, 128, 128]
    cv2.imwrite(str(tmp_path / "one.png"), np.full((1, 1), 9, np.uint8))
    assert read_photo(tmp_path / "one.png").tolist() == [[[9, 9, 9]]]


def test_the_rotation_in_exif_is_honoured(photos, tmp_path):
    data = photos[0].read_bytes()
    turned_right = struct.pack("<HHIHHHIHHI", 0x4949, 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + turned_right
    (tmp_path / "turned.jpg").write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    expected = cv2.rotate(cv2.imread(str(photos[0])), cv2.ROTATE_90_CLOCKWISE)
    assert np.array_equal(read_photo(tmp_path / "turned.jpg"), expected)


def test_a_damaged_photo_in_a_folder_costs_only_itself(photos, tmp_path):
    whole = photos[0].read_bytes()
    (tmp_path / "1.jpg").write_bytes(whole)
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "3.jpg").write_bytes(b"this is text")
    (tmp_path / "4.jpg").write_bytes(b"")
    (tmp_path / "5.jpg").write_bytes(whole)
    names, errors = read_all(tmp_path)
    assert names == ["1.jpg", "5.jpg"]
    assert len(errors) == 3
    assert "2.jpg: this JPEG ends early" in errors[0]
    assert "3.jpg: no photo that OpenCV can decode" in errors[1]
    assert "4.jpg: the file is empty" in errors[2]
    assert not any("\n" in error for error in errors)


def test_a_damaged_photo_takes_its_number_with_it(photos, tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"no")
    shutil.copy(photos[0], tmp_path / "2.jpg")
    source = open_source(tmp_path)
    with pytest.raises(BadFrameError):
        source.read()
    assert source.read().id == 1


def test_a_damaged_photo_named_alone_does_not_open(photos, tmp_path):
    whole = photos[0].read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"half\.jpg: this JPEG ends early") as caught:
        open_source(tmp_path / "half.jpg")
    assert not isinstance(caught.value, BadFrameError)


def test_a_photo_that_goes_away_meanwhile_is_reported(photos, tmp_path):
    shutil.copy(photos[0], tmp_path / "1.jpg")
    source = open_source(tmp_path)
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(BadFrameError, match="it is gone"):
        source.read()
    assert source.read() is None


def test_a_picture_of_absurd_size_is_refused(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(40_000, 40_000))
    with pytest.raises(
        SourceError, match=r"bomb\.png: cannot be decoded: .*OPENCV_IO_MAX_IMAGE_PIXELS|bomb\.png: no photo"
    ):
        open_source(tmp_path / "bomb.png")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(600 << 20)
    with pytest.raises(SourceError, match=r"600 MiB; a photo may have 512 MiB"):
        open_source(tmp_path / "huge.jpg")


def test_what_is_not_there_says_what_is(photos, tmp_path):
    with pytest.raises(SourceNotFoundError, match="no such file; check the name and the folder"):
        open_source(tmp_path / "photo.jpg")
    shutil.copy(photos[0], tmp_path / "Photo.jpeg")
    with pytest.raises(SourceNotFoundError, match=r"no such file; there is Photo\.jpeg"):
        open_source(tmp_path / "photo.jpg")
    with pytest.raises(SourceNotFoundError, match="and no folder"):
        open_source(tmp_path / "nowhere" / "photo.jpg")
    with pytest.raises(FileNotFoundError):
        open_source(tmp_path / "nowhere")
    with pytest.raises(SourceNotFoundError, match="nothing matches this pattern"):
        open_source(f"{tmp_path}/*.png")


def test_a_folder_without_photos_names_the_one_that_has_some(photos, tmp_path):
    with pytest.raises(SourceError, match=r"no photo in this folder \(0 entries\); photos end in \.bmp, \.jpeg"):
        open_source(tmp_path)
    (tmp_path / "images").mkdir()
    shutil.copy(photos[0], tmp_path / "images")
    with pytest.raises(SourceError, match=r"name .*/images, which has photos"):
        open_source(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(SourceError, match="none of them a photo"):
        open_source(f"{tmp_path}/*.txt")


def test_every_real_photo_is_whole_and_no_part_of_one_is(shared):
    for path in sorted((shared / "data/coco_calib/images").glob("*.jpg"))[:12]:
        data = path.read_bytes()
        assert jpeg_is_whole(data)
        assert jpeg_is_whole(data + b"padding of the camera")
        assert not any(jpeg_is_whole(data[:cut]) for cut in range(2, len(data) - 1, max(1, len(data) // 50)))


def test_a_preview_inside_a_jpeg_does_not_count_as_its_end(photos):
    data = photos[0].read_bytes()
    with_preview = data[:2] + b"\xff\xe1" + struct.pack(">H", 1002) + data[-1000:] + data[2:]
    assert jpeg_is_whole(with_preview)
    assert not jpeg_is_whole(with_preview[:-2])


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_look_for_a_jpegs_end(data):
    assert jpeg_is_whole(b"\xff\xd8" + data) in (True, False)


def test_photos_that_are_left_out_are_not_read_and_the_others_keep_their_ids(photos, tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        shutil.copy(photos[0], tmp_path / name)
    (tmp_path / "b.jpg").write_text("would not be read")
    source, asked = open_source(tmp_path), []

    def done(number, path):
        asked.append((number, path.name))
        return path.name in ("a.jpg", "b.jpg", "d.jpg")

    assert source.skip(done) == 3
    assert asked == [(0, "a.jpg"), (1, "b.jpg"), (2, "c.jpg"), (3, "d.jpg")]
    assert source.total == 4
    frame = source.read()
    assert (frame.id, Path(frame.source).name) == (2, "c.jpg")
    assert source.read() is None
    with pytest.raises(UsageError, match="before the first is read"):
        source.skip(done)
    source.close()
    assert source.read() is None


def test_a_photo_that_is_named_alone_may_be_left_out(photos):
    source = open_source(photos[0])
    assert source.skip(lambda number, path: (number, path) == (0, photos[0])) == 1
    assert source.read() is None
    source.close()
    source = open_source(photos[0])
    assert source.skip(lambda number, path: False) == 0
    assert source.read().id == 0
    source.close()
