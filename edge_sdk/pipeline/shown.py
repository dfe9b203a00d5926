"""The picture that sinks see: the camera's own, with faces hidden and zones and lines drawn where there are any."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_sdk.result import Result

if TYPE_CHECKING:
    from edge_sdk.blur import FaceBlur
    from edge_sdk.zones import Counters


def shown(blur: FaceBlur | None, counters: Counters | None) -> Callable[[Result], Result] | None:
    """What makes that picture of a result; None where it is the camera's own.

    A failure is raised: the unchanged picture must not be seen instead.
    """
    if counters is None:
        return blur

    def change(result: Result) -> Result:
        from edge_sdk.sinks.draw import draw_counters

        hidden = result if blur is None else blur(result)
        if hidden is result:  # the camera's own picture, which is never drawn in
            hidden = result.with_image(result.frame.image.copy())
        draw_counters(hidden.frame.image, counters.zones, counters.lines, result.counts)
        return hidden

    return change
