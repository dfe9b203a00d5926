"""What a camera was given as its source, and how it is opened again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import SourceNotFoundError, UsageError
from edge_sdk.pipeline.opening import Opening
from edge_sdk.sources.base import FoundCamera, Request
from edge_sdk.testing.fake_source import FakeDevice, FakeSource

PICTURE = np.zeros((48, 64, 3), np.uint8)


def test_an_open_source_is_used_as_it_is_and_cannot_be_opened_again() -> None:
    source = FakeSource([PICTURE])
    opening = Opening(source, Request())
    assert opening.open() is source
    assert not opening.again
    assert opening.is_back() is None


def test_a_function_is_called_for_each_opening_and_may_tell_whether_its_camera_is_there() -> None:
    device = FakeDevice([PICTURE])
    opening = Opening(device, Request())
    assert opening.again
    opening.open().close()
    assert opening.is_back() is True
    device.unplug()
    assert opening.is_back() is False
    with pytest.raises(SourceNotFoundError, match="plug it in"):
        opening.open()
    assert Opening(lambda: FakeSource([PICTURE]), Request()).is_back() is None
    assert device.opened == 1


def test_a_name_is_opened_by_its_kind(bear: Path) -> None:
    source = Opening(bear, Request()).open()
    assert source.total == 1
    source.close()
    with pytest.raises(UsageError, match="width, height and fps are asked of a camera"):
        Opening(bear, Request(width=640)).open()


@pytest.mark.parametrize("nothing", [1.5, object(), ["a.jpg"], b"clip.mp4"])
def test_what_names_no_source_is_refused(nothing: object) -> None:
    with pytest.raises(UsageError, match="a source is a name"):
        Opening(nothing, Request())  # type: ignore[arg-type]


def test_the_first_camera_found_is_found_again_under_another_number(monkeypatch: pytest.MonkeyPatch) -> None:
    attached = [FoundCamera("/dev/video0", "C920"), FoundCamera("/dev/video2", "C270")]
    opened: list[str] = []

    def open_source(spec: object, request: Request) -> FakeSource:
        opened.append(str(spec))
        return FakeSource([PICTURE], fps=30, live=True, name=str(spec))

    monkeypatch.setattr("edge_sdk.pipeline.opening.find_cameras", lambda root: list(attached))
    monkeypatch.setattr("edge_sdk.pipeline.opening.open_source", open_source)
    opening = Opening(None, Request())
    opening.open()
    attached[:] = [FoundCamera("/dev/video2", "C270")]
    with pytest.raises(SourceNotFoundError, match=r"/dev/video0 \(C920\) is not attached"):
        opening.open()  # another camera shows another scene: it is not taken instead
    attached.append(FoundCamera("/dev/video4", "C920"))
    opening.open()
    assert opened == ["/dev/video0", "/dev/video4"]
