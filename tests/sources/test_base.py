"""How a source is named and asked for."""

from __future__ import annotations

import math
import threading

import pytest

from edge_sdk.errors import SourceError, SourceNotFoundError, UsageError
from edge_sdk.sources.base import Request, is_back, open_source


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"height": -1}, {"fps": 0.0}, {"fps": math.nan}, {"fps": math.inf}, {"timeout_s": 0}]
)
def test_what_no_camera_can_do_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be above 0"):
        Request(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", ["", " "])
def test_an_empty_name_is_not_the_folder_we_are_in(spec: str) -> None:
    with pytest.raises(UsageError, match="the source's name is empty; there are demo"):
        open_source(spec)


@pytest.mark.parametrize("spec", ["a" * 5000, "a" * 5000 + ".jpg", "a/" * 3000])
def test_a_name_that_no_file_can_have_is_not_found(spec: str) -> None:
    with pytest.raises(SourceNotFoundError, match="no such") as caught:
        open_source(spec)
    assert len(str(caught.value)) < 400


def test_what_is_no_source_lists_those_there_are(tmp_path) -> None:
    with pytest.raises(SourceNotFoundError, match="no such file, folder or camera; there are demo"):
        open_source("nowhere")
    with pytest.raises(SourceError, match="not something to take pictures from"):
        open_source("/dev/null")


def test_of_most_sources_it_cannot_be_told_whether_they_are_back(tmp_path) -> None:
    for spec in ("demo", "csi:0", "gst:videotestsrc", "clip.mp4", tmp_path, "no such thing"):
        assert is_back(spec) is None


@pytest.mark.parametrize("spec", ["", "a" * 5000, "rtsp://", "http://[", "rtsp://host:99999/", "rtsp://a b/", "\0"])
def test_looking_for_nonsense_raises_nothing(spec: str) -> None:
    assert is_back(spec) in (None, False)


def test_a_request_that_nobody_cancelled_is_wanted() -> None:
    cancelled = threading.Event()
    request = Request(cancelled=cancelled)
    request.check_wanted("camera")
    cancelled.set()
    with pytest.raises(SourceError, match="camera: the opening was cancelled"):
        request.check_wanted("camera")
