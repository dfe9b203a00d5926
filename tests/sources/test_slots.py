"""Slots: nothing that somebody holds is ever given out again, and a steady stream allocates nothing."""

from __future__ import annotations

import gc
import threading
from collections import deque

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.detections import Detections
from edge_sdk.result import Frame, Result, Timing
from edge_sdk.sources.slots import MOST, Slots

SHAPE = (6, 8, 3)


class Attribute:
    """Holds a picture as an object's attribute."""

    def __init__(self, image):
        self.image = image


def in_a_frame(image):
    return Frame(image, 0, "camera", 0)


def in_a_result(image):
    return Result(in_a_frame(image), Detections.empty(), Timing(0, 0, 0, 0, 0))


def in_a_cycle(image):
    held = [image]
    held.append(held)
    return held


# How a picture is held, and how its holder looks at a pixel of it again.
HOLDERS = {
    "itself": (lambda image: image, lambda held: held[2, 1, 0]),
    "rows": (lambda image: image[2:4], lambda held: held[0, 1, 0]),
    "a view of a view": (lambda image: image[1:5][1:, 1:].T, lambda held: held[0, 0, 0]),
    "other dtype": (lambda image: image.view(np.int8), lambda held: held.view(np.uint8)[2, 1, 0]),
    "flat": (lambda image: image.reshape(-1), lambda held: held[0]),
    "memoryview": (lambda image: memoryview(image)[2:3], lambda held: np.asarray(held)[0, 1, 0]),
    "from a buffer": (lambda image: np.frombuffer(image, np.uint8), lambda held: held[5]),
    "frame": (in_a_frame, lambda held: held.image[2, 1, 0]),
    "result": (in_a_result, lambda held: held.frame.image[2, 1, 0]),
    "attribute": (Attribute, lambda held: held.image[2, 1, 0]),
    "cycle": (in_a_cycle, lambda held: held[0][2, 1, 0]),
    "closure": (lambda image: lambda: image[2, 1, 0], lambda held: held()),
    "iterator": (lambda image: iter(image.flat), lambda held: held.base[2, 1, 0]),
    "field": (lambda image: np.lib.stride_tricks.as_strided(image, (1,), (1,)), lambda held: held[0]),
}

steps = st.lists(
    st.tuples(st.sampled_from(sorted(HOLDERS)), st.integers(0, 15), st.sampled_from([SHAPE, SHAPE, SHAPE, (6, 9, 3)])),
    max_size=60,
)


@given(steps, st.integers(1, 5))
def test_what_is_held_in_whatever_way_is_never_written_over(sequence, most):
    slots, held = Slots(most), {}
    for number, (how, drop, shape) in enumerate(sequence):
        value = number % 251
        image = slots.take(shape)
        assert (image.shape, image.dtype, image.flags.c_contiguous) == (shape, np.uint8, True)
        image[:] = value
        held[number] = (how, HOLDERS[how][0](image), value)
        del image
        held.pop(drop, None)  # somebody lets go of an old one
        for kept_how, kept, kept_value in held.values():
            assert HOLDERS[kept_how][1](kept) == kept_value
    assert slots.allocated <= len(sequence)


@pytest.mark.parametrize("how", sorted(HOLDERS))
def test_each_way_to_hold_a_picture_counts_and_is_over_when_it_is_let_go(how):
    slots = Slots()
    held = HOLDERS[how][0](slots.take(SHAPE))
    slots.take(SHAPE)
    assert slots.allocated == 2
    slots.take(SHAPE)
    assert slots.allocated == 2  # the second is free again
    del held
    gc.collect()
    one, two = slots.take(SHAPE), slots.take(SHAPE)
    assert slots.allocated == 2
    assert not np.shares_memory(one, two)


def test_pictures_that_are_passed_on_and_forgotten_need_few_buffers():
    slots, queue = Slots(), deque(maxlen=MOST - 2)
    for _ in range(500):
        queue.append(slots.take(SHAPE))
    assert slots.allocated == MOST - 1


def test_who_keeps_pictures_for_good_does_not_use_the_pool_up():
    slots = Slots()
    kept = [slots.take(SHAPE) for _ in range(3 * MOST)]
    before = slots.allocated
    for _ in range(100):
        slots.take(SHAPE)
    assert slots.allocated == before + 1
    assert len({image.ctypes.data for image in kept}) == 3 * MOST


def test_another_size_or_type_is_made_anew():
    slots = Slots()
    assert slots.take(SHAPE).shape == SHAPE
    assert slots.take((2, 3, 3)).shape == (2, 3, 3)
    assert slots.take((2, 3, 3), np.float32).dtype == np.float32
    assert slots.allocated == 3


def test_what_a_holder_does_to_his_array_is_his_own_affair():
    slots = Slots()
    image = slots.take(SHAPE)
    image.flags.writeable = False
    image.shape = (8, 6, 3)
    del image
    again = slots.take(SHAPE)
    assert again.flags.writeable
    assert again.shape == SHAPE
    assert slots.allocated == 1


def test_opencv_writes_into_a_slot_and_holds_no_reference_to_it():
    slots = Slots()
    slot = slots.take((30, 40, 3))
    scaled = cv2.resize(np.full((60, 80, 3), 7, np.uint8), (40, 30), dst=slot)
    assert np.shares_memory(scaled, slot)
    assert int(slot.min()) == 7
    del scaled, slot
    slots.take((30, 40, 3))
    assert slots.allocated == 1


def test_a_picture_in_another_thread_is_held_until_that_thread_lets_go():
    slots, taken, let_go = Slots(), threading.Event(), threading.Event()

    def hold(images):
        image = images.pop()
        taken.set()
        let_go.wait(10)
        assert int(image[0, 0, 0]) == 9

    image = slots.take(SHAPE)
    image[:] = 9
    thread = threading.Thread(target=hold, args=([image],))
    thread.start()
    taken.wait(10)
    del image
    slots.take(SHAPE)[:] = 1
    assert slots.allocated == 2
    let_go.set()
    thread.join()
