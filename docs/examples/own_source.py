"""A source of your own: one region of another source, in full detail. own_source.py [VIDEO] [MODEL]."""

import sys
from dataclasses import replace

import edge_sdk
from edge_sdk.sources.base import Source, open_source


class Region:
    """A source that shows only a part of another."""

    def __init__(self, whole: Source, left: int, top: int, width: int, height: int) -> None:
        self.name, self.live, self.fps, self.total = whole.name, whole.live, whole.fps, whole.total
        self._whole = whole
        self._rows, self._columns = slice(top, top + height), slice(left, left + width)

    def read(self) -> edge_sdk.Frame | None:
        frame = self._whole.read()
        return frame and replace(frame, image=frame.image[self._rows, self._columns])

    def close(self) -> None:
        self._whole.close()


video = sys.argv[1] if len(sys.argv) > 1 else "street.mp4"
model = sys.argv[2] if len(sys.argv) > 2 else None


def open_region() -> Region:
    return Region(open_source(video), left=200, top=0, width=416, height=416)


with edge_sdk.Camera(open_region, model) as camera:  # a function, so that it can be opened again after a loss
    for result in camera.detect():
        print(result.frame.id, result.detections)
