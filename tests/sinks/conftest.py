"""Results to put into sinks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk import Detections, Frame, Result, Timing

MakeResult = Callable[..., Result]


@pytest.fixture
def make_result() -> MakeResult:
    """``make_result(image, id=3, at_s=1.5)`` -> a result without detections, captured 1.5 s after the first."""

    def make(
        image: NDArray[np.uint8],
        detections: Detections | None = None,
        *,
        id: int = 0,  # noqa: A002  as Frame has it
        at_s: float = 0.0,
        source: str = "camera",
    ) -> Result:
        frame = Frame(image, id, source, 7_000_000_000 + round(at_s * 1e9))
        return Result(frame, detections or Detections.empty(), Timing(0.1, 1.23456, 20.0, 2.0, 23.5))

    return make
