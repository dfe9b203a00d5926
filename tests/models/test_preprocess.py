"""Photos into tensors, against a reference that pads, resizes and normalises the slow way."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sdk.backends.base import TensorSpec
from edge_sdk.errors import ModelError, UsageError
from edge_sdk.models.card import ModelCard
from edge_sdk.models.preprocess import Geometry, Preprocessor, as_bgr, fit, image_spec

HW = (48, 64)
PHOTOS = {"wide": (50, 200), "tall": (300, 40), "tiny": (5, 7), "one pixel": (1, 1), "same": HW, "ribbon": (2, 3000),
          "thread": (3000, 1)}  # fmt: skip
RESIZES = ("letterbox_corner", "letterbox_centre", "stretch")
NORMALISATIONS = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "to one": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
STORAGES: dict[str, tuple[type, tuple[float, int] | None]] = {
    "float32": (np.float32, None),
    "float16": (np.float16, None),
    "uint8": (np.uint8, None),
    "uint8 quantized": (np.uint8, (1 / 255, 0)),
    "int8 quantized": (np.int8, (0.0187, -14)),
    "int8 of pixels": (np.int8, (1.0, -128)),
    "int16 quantized": (np.int16, (0.001, 0)),
}


def photo_of(hw: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)


def card_of(**changes: object) -> ModelCard:
    return replace(ModelCard(head="any", input_hw=HW, classes=("thing",)), **changes)


def preprocessor_of(card: ModelCard, dtype: type = np.float32, quantization: tuple[float, int] | None = None):
    picture = (3, *card.input_hw) if card.layout == "nchw" else (*card.input_hw, 3)
    return Preprocessor(card, TensorSpec("image", (1, *picture), np.dtype(dtype), quantization))


def padded_reference(photo: NDArray[np.uint8], card: ModelCard) -> NDArray[np.uint8]:
    """The photo in the model's size, BGR: resized whole, then padded with np.pad."""
    height, width = photo.shape[:2]
    input_h, input_w = card.input_hw
    if card.resize == "stretch":
        return cv2.resize(photo, (input_w, input_h), interpolation=cv2.INTER_LINEAR)
    new_h = next(h for h in range(input_h, 0, -1) if h == 1 or h * width <= input_w * height)
    new_w = next(w for w in range(input_w, 0, -1) if w == 1 or w * height <= input_h * width)
    small = photo if (new_h, new_w) == (height, width) else cv2.resize(photo, (new_w, new_h))
    below, right = input_h - new_h, input_w - new_w
    above, left = (0, 0) if card.resize == "letterbox_corner" else (below // 2, right // 2)
    sides = ((above, below - above), (left, right - left), (0, 0))
    return np.pad(small, sides, constant_values=card.pad)


def reference(photo: NDArray[np.uint8], card: ModelCard, dtype: type, quantization: tuple[float, int] | None):
    """What the model must be fed: plain passes over whole arrays, in double precision."""
    picture = padded_reference(photo, card)
    if card.colour == "rgb":
        picture = picture[..., ::-1]
    real = (picture.astype(np.float64) - np.array(card.mean)) / np.array(card.std)
    if np.issubdtype(dtype, np.integer):
        scale, zero_point = quantization or (1.0, 0)
        limits = np.iinfo(dtype)
        real = np.clip(np.rint(real / scale + zero_point), limits.min, limits.max)
    stored = real.astype(dtype)
    return stored[np.newaxis] if card.layout == "nhwc" else stored.transpose(2, 0, 1)[np.newaxis]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("resize", RESIZES)
def test_the_input_is_what_plain_passes_compute(resize: str, normalisation: str, storage: str) -> None:
    dtype, quantization = STORAGES[storage]
    mean, std = NORMALISATIONS[normalisation]
    for layout, colour, (name, hw) in itertools.product(("nchw", "nhwc"), ("rgb", "bgr"), PHOTOS.items()):
        card = card_of(layout=layout, colour=colour, resize=resize, mean=mean, std=std)
        feed = preprocessor_of(card, dtype, quantization)
        out = np.full(feed.shape, 77, dtype)
        photo = photo_of(hw)
        feed(photo, out)
        want = reference(photo, card, dtype, quantization)
        near = 1e-6 if storage == "float32" and normalisation != "none" else 0
        assert np.allclose(out, want, rtol=0, atol=near), (layout, colour, name)


@pytest.mark.parametrize("pad", [0, 114, 255])
def test_what_a_letterbox_leaves_free_has_the_padding_colour(pad: int) -> None:
    feed = preprocessor_of(card_of(pad=pad, resize="letterbox_centre", layout="nhwc"))
    out = np.empty(feed.shape, np.float32)
    feed(np.full((10, 100, 3), 50, np.uint8), out)
    assert set(np.unique(out[0, 0])) == {float(pad)}
    assert set(np.unique(out[0, -1])) == {float(pad)}
    assert set(np.unique(out[0, HW[0] // 2])) == {50.0}


def test_opencv_resizes_into_the_view_it_is_given() -> None:
    canvas = np.zeros((20, 30, 3), np.uint8)
    place = canvas[4:14, 5:25]
    returned = cv2.resize(np.full((50, 50, 3), 9, np.uint8), (20, 10), dst=place)
    assert np.shares_memory(returned, canvas)
    assert (canvas[4:14, 5:25] == 9).all()
    assert canvas.sum() == 9 * place.size


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_changing_sizes_leave_no_stale_padding_in_alternating_inputs(layout: str, resize: str, count: int) -> None:
    card = card_of(layout=layout, resize=resize, mean=(5.0, 6.0, 7.0))
    feed = preprocessor_of(card)
    inputs = [np.full(feed.shape, np.nan, np.float32) for _ in range(count)]
    sizes = [(10, 100), (10, 100), (10, 100), (100, 10), (10, 100), (100, 10), (100, 10), HW, (100, 10), (10, 100)]
    for turn, hw in enumerate(sizes):
        photo, out = photo_of(hw, turn), inputs[turn % count]
        feed(photo, out)
        want = reference(photo, card, np.float32, None)
        assert np.allclose(out, want, atol=1e-5), f"turn {turn}"


def test_an_input_array_in_the_place_of_one_that_is_gone_gets_its_padding() -> None:
    feed = preprocessor_of(card_of(resize="letterbox_corner"))
    photo = photo_of((10, 100))
    want = reference(photo, feed.card, np.float32, None)
    for _ in range(50):  # a new array often lies where one before it was, with its id
        out = np.full(feed.shape, -1, np.float32)
        feed(photo, out)
        assert np.array_equal(out, want)
        del out


def test_preprocessors_share_nothing_that_they_write_to() -> None:
    card = card_of(resize="letterbox_corner", std=(255.0, 255.0, 255.0))
    photos = {name: photo_of(hw) for name, hw in PHOTOS.items()}
    wrong: list[str] = []

    def work(name: str) -> None:
        feed = preprocessor_of(card)
        out = np.empty(feed.shape, np.float32)
        want = reference(photos[name], card, np.float32, None)
        for _ in range(100):
            feed(photos[name], out)
            if not np.allclose(out, want, rtol=0, atol=1e-6):
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in photos]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("turned", [
    lambda p: p[:, ::-1], lambda p: p[::-1], lambda p: p[..., ::-1], lambda p: p[::2, 1::3],
    lambda p: p.transpose(1, 0, 2), np.asfortranarray, lambda p: np.broadcast_to(p[:1], p.shape),
])  # fmt: skip
@pytest.mark.parametrize("hw", [(70, 90), HW])
def test_views_and_read_only_pictures_are_fed_as_they_look(turned, hw: tuple[int, int]) -> None:
    photo = turned(photo_of(hw))
    plain = np.ascontiguousarray(photo)
    photo.flags.writeable = False
    feed = preprocessor_of(card_of())
    got, want = np.empty(feed.shape, np.float32), np.empty(feed.shape, np.float32)
    feed(as_bgr(photo), got)
    feed(plain, want)
    assert np.array_equal(got, want)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_nothing_large_is_allocated_once_it_runs(layout: str, storage: str) -> None:
    dtype, quantization = STORAGES[storage]
    card = card_of(layout=layout, input_hw=(320, 320), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    feed = preprocessor_of(card, dtype, quantization)
    inputs = [np.zeros(feed.shape, dtype) for _ in range(2)]
    photo = photo_of((200, 500))
    for out in inputs:
        feed(photo, out)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for turn in range(6):
            feed(photo, inputs[turn % 2])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 128 * 1024  # NumPy casts through buffers, three of 32 KiB at most; the input has 1.2 MiB


sides = st.integers(1, 5000)


@settings(deadline=None)
@given(st.tuples(sides, sides), st.tuples(st.integers(1, 1300), st.integers(1, 1300)), st.sampled_from(RESIZES))
def test_a_photo_lies_inside_the_input_and_fills_one_of_its_sides(source_hw, input_hw, resize) -> None:
    _, (top, left, height, width) = fit(source_hw, card_of(input_hw=input_hw, resize=resize))
    assert height >= 1
    assert width >= 1
    assert 0 <= top <= top + height <= input_hw[0]
    assert 0 <= left <= left + width <= input_hw[1]
    assert height == input_hw[0] or width == input_hw[1]


@settings(deadline=None)
@given(st.tuples(sides, sides), st.tuples(st.integers(32, 1300), st.integers(32, 1300)), st.sampled_from(RESIZES))
def test_points_come_back_to_where_they_were_in_the_photo(source_hw, input_hw, resize) -> None:
    geometry, (top, left, height, width) = fit(source_hw, card_of(input_hw=input_hw, resize=resize))
    corners = np.array([left, top, left + width, top + height], np.float32)
    assert np.allclose(geometry.to_source(corners), [0, 0, source_hw[1], source_hw[0]], rtol=1e-4, atol=1e-3)
    (scale_x, scale_y), (pad_x, pad_y) = geometry.scale_xy, geometry.pad_xy
    points = np.random.default_rng(0).uniform(0, 1, (5, 3, 2)) * (source_hw[1], source_hw[0])
    in_model = (points * (scale_x, scale_y) + (pad_x, pad_y)).astype(np.float32)
    back = geometry.to_source(in_model.reshape(5, 6)).reshape(5, 3, 2)
    assert back.dtype == np.float32
    assert np.allclose(back, points, rtol=1e-3, atol=1e-3 * max(source_hw))


def test_a_marked_pixel_is_found_where_the_geometry_says() -> None:
    photo = np.zeros((400, 1000, 3), np.uint8)
    photo[100:140, 700:760] = 255
    for resize in RESIZES:
        feed = preprocessor_of(card_of(input_hw=(320, 320), resize=resize, layout="nhwc", pad=0))
        out = np.empty(feed.shape, np.float32)
        geometry = feed(photo, out)
        ys, xs = np.nonzero(out[0, :, :, 0] > 127)
        box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
        assert np.allclose(geometry.to_source(box), [700, 100, 760, 140], atol=4)


def test_points_outside_the_photo_stay_outside() -> None:
    geometry = Geometry((100, 100), (0.5, 0.5), (10.0, 0.0))
    assert geometry.to_source(np.array([[0, 0, 100, 100]], np.float32)).tolist() == [[-20, 0, 180, 200]]


def test_whole_ratios_are_not_lost_to_rounding() -> None:
    for side in range(1, 2000):
        _, place = fit((side, side), card_of(input_hw=(416, 416)))
        assert place == (0, 0, 416, 416), side


def test_colour_pictures_are_taken_as_they_are() -> None:
    photo = photo_of((4, 5))
    assert as_bgr(photo) is photo


def test_grey_pictures_become_three_equal_channels() -> None:
    grey = photo_of((4, 5))[..., 0]
    for picture in (grey, grey[..., np.newaxis], np.ascontiguousarray(grey)):
        assert np.array_equal(as_bgr(picture), np.dstack([grey, grey, grey]))


def test_transparency_is_dropped() -> None:
    photo = photo_of((4, 5))
    alpha = np.full((4, 5), 128, np.uint8)
    assert np.array_equal(as_bgr(np.dstack([photo, alpha])), photo)


@pytest.mark.parametrize(("image", "found"), [
    (np.zeros((4, 5, 3), np.float32), "float32 [4, 5, 3]"),
    (np.zeros((4, 5, 3), np.uint16), "uint16"),
    (np.zeros((0, 5, 3), np.uint8), "[0, 5, 3]"),
    (np.zeros((4, 0), np.uint8), "[4, 0]"),
    (np.zeros((4, 5, 2), np.uint8), "not 2"),
    (np.zeros((1, 3, 4, 5), np.uint8), "[1, 3, 4, 5]"),
    (np.zeros(9, np.uint8), "[9]"),
    (np.zeros((3, 4, 5), np.uint8), "not 5"),
    ([[1, 2], [3, 4]], "list"),
    (None, "None, which cv2.imread returns"),
    ("photo.jpg", "a path"),
])  # fmt: skip
def test_what_is_no_picture_is_refused_and_named(image, found: str) -> None:
    with pytest.raises(UsageError) as caught:
        as_bgr(image)
    assert found in str(caught.value)


@pytest.mark.parametrize(
    "shape", [(1, 3, 48, 65), (1, 48, 64, 3), (2, 3, 48, 64), (1, 1, 48, 64), (48, 64), (48, 64, 3)]
)
def test_an_input_that_is_not_the_cards_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="but the model card says"):
        Preprocessor(card_of(layout="nchw"), TensorSpec("image", shape, np.dtype(np.float32)))


@pytest.mark.parametrize("shape", [(-1, 3, -1, -1), (1, 3, 48, 64), (-1, 3, 48, 64)])
def test_open_axes_take_the_cards_size(shape: tuple[int, ...]) -> None:
    feed = Preprocessor(card_of(), TensorSpec("image", shape, np.dtype(np.float32)))
    assert feed.shape == (1, 3, *HW)


def test_a_model_that_takes_one_picture_gets_no_batch_axis() -> None:
    feed = Preprocessor(card_of(), TensorSpec("image", (3, -1, -1), np.dtype(np.float32)))
    out = np.empty(feed.shape, np.float32)
    photo = photo_of((70, 20))
    feed(photo, out)
    assert np.array_equal(out[np.newaxis], reference(photo, feed.card, np.float32, None))


def spec(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, shape, np.dtype(np.float32))


def test_the_picture_input_is_the_one_with_colours() -> None:
    picture, mask, sizes = spec("picture", 1, 3, -1, -1), spec("mask", 1, 1, 64, 64), spec("sizes", 1, 2)
    assert image_spec([sizes, mask, picture]) is picture
    assert image_spec([mask, spec("nhwc", 1, 64, 64, 3)]) == spec("nhwc", 1, 64, 64, 3)
    assert image_spec([mask, sizes]) is mask
    assert image_spec([sizes, spec("single", 3, 64, 64)]) == spec("single", 3, 64, 64)
    assert image_spec([sizes]) is None
    assert image_spec([]) is None
