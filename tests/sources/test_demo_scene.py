"""The demo scene: the same on every machine, with a person in every frame."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

from edge_sdk.errors import MissingDependencyError, SourceError, UsageError
from edge_sdk.sources.base import Request, open_source
from edge_sdk.sources.demo import Scene, sample_photo
from edge_sdk.sources.files import read_photo

pytestmark = pytest.mark.usefixtures("leaves_nothing")
pytest.importorskip("matplotlib", reason="the demo's photo is in matplotlib: pip install 'edge-sdk[demo]'")


@pytest.fixture(scope="module")
def scene():
    return Scene(read_photo(sample_photo()), 640, 360)


def test_the_demo_is_a_live_camera_in_real_time():
    source = open_source("demo")
    assert (source.live, source.fps, source.total, source.name) == (True, 30.0, None, "demo")
    started = time.monotonic()
    frames = [source.read() for _ in range(16)]
    assert 0.4 < time.monotonic() - started < 2
    assert {frame.image.shape for frame in frames} == {(720, 1280, 3)}
    source.close()
    assert source.read() is None


def test_frames_that_are_not_read_in_time_are_gone_and_counted():
    source = open_source("demo", Request(width=320, height=180, fps=50))
    first = source.read().id
    time.sleep(0.3)
    second = source.read().id
    source.close()
    assert 10 <= second - first <= 40


def test_the_fast_demo_gives_every_frame():
    source = open_source("demo:fast", Request(width=320, height=180))
    assert not source.live
    assert [source.read().id for _ in range(40)] == list(range(40))
    source.close()


def test_a_frame_depends_on_its_number_alone(scene):
    again = Scene(read_photo(sample_photo()), 640, 360)
    assert np.array_equal(scene.frame(77), again.frame(77))
    assert not np.array_equal(scene.frame(77), scene.frame(78))
    assert scene.frame(0).shape == (360, 640, 3)


def test_a_frame_is_drawn_into_the_array_that_is_given(scene):
    given = np.zeros((360, 640, 3), np.uint8)
    assert scene.frame(77, out=given) is given
    assert np.array_equal(given, scene.frame(77))


def test_the_demo_draws_in_buffers_that_are_free():
    source = open_source("demo:fast", Request(width=320, height=180))
    held = source.read().image
    kept = held.copy()
    assert len({source.read().image.ctypes.data for _ in range(30)}) == 1
    assert np.array_equal(held, kept)
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


def test_something_of_the_photo_is_sharp_in_every_frame(scene):
    for frame_id in range(0, 1800, 60):
        image = scene.frame(frame_id).astype(int)
        assert np.abs(np.diff(image, axis=1)).max() > 60  # the backdrop alone has no edges


def test_closing_ends_a_wait():
    source = open_source("demo", Request(width=64, height=64, fps=0.1))
    source.read()
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(source.read()))
    thread.start()
    source.close()
    thread.join(2)
    assert outcome == [None]


def test_a_pace_or_size_that_makes_no_sense_is_refused():
    with pytest.raises(SourceError, match="there is demo, in real time, and demo:fast"):
        open_source("demo:slow")
    with pytest.raises(UsageError, match="64 to 4096 pixels"):
        open_source("demo", Request(width=10, height=10))


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edge-sdk\[demo\]'"):
        open_source("demo")


def test_the_photo_is_found_without_importing_matplotlib():
    code = (
        "import sys\nfrom edge_sdk.sources.demo import sample_photo\n"
        "print(sample_photo().name, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "grace_hopper.jpg False\n"
