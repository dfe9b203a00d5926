"""What a camera was given as its source: opened once, and how it is opened again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge_sdk.errors import SourceNotFoundError, UsageError, one_line
from edge_sdk.sources.base import FoundCamera, Request, Source, find_cameras, is_back, open_source

log = logging.getLogger("edge_sdk")

Opener = Callable[[], Source]


class Opening:
    """Opens a source by its name, by a function, or by being the first camera found.

    Args:
        source: As `Camera` takes it.
        request: What is asked of a camera.

    Raises:
        UsageError: It is none of these.
    """

    def __init__(self, source: str | int | Path | Source | Opener | None, request: Request) -> None:
        self._given = source
        self._request = request
        self._found: FoundCamera | None = None
        if (
            source is not None
            and not isinstance(source, (str, int, Path))
            and not (is_open(source) or callable(source))
        ):
            raise UsageError(f"a source is a name, a camera's index or an open source, not {type(source).__name__}")

    @property
    def again(self) -> bool:
        """Whether it can be opened again: an open source that was handed over cannot."""
        return not is_open(self._given)

    def open(self, cancelled: threading.Event | None = None) -> Source:
        """Opens it; an event that is set makes it give up early.

        Raises:
            SourceNotFoundError: It is not there.
            SourceError: It cannot be opened.
            UsageError: A size or rate is asked of what is no camera.
        """
        given, request = self._given, replace(self._request, cancelled=cancelled)
        if given is None:
            self._found = _same_or_first(self._found, request.root)
            given = self._found.spec
        if isinstance(given, (str, int, Path)):
            source = open_source(given, request)
        else:
            source = given() if callable(given) else given
        if source.total is not None and (request.width, request.height, request.fps) != (None, None, None):
            source.close()
            raise UsageError(f"width, height and fps are asked of a camera; {source.name} is none")
        return source

    def is_back(self) -> bool | None:
        """Whether what was lost is there again, cheaply; None where that cannot be told.

        A function that opens a source may tell it by a method ``present``.
        """
        given = self._given
        if callable(present := getattr(given, "present", None)):
            try:
                return bool(present())
            except Exception as error:  # noqa: BLE001  whoever waits for a source goes on waiting
                log.debug("the source cannot be looked for: %s", one_line(error))
                return None
        if given is None and self._found is not None:
            given = self._found.spec
        return is_back(str(given), self._request) if isinstance(given, (str, int, Path)) else None


def is_open(source: object) -> bool:
    """Whether this is an open source."""
    return hasattr(source, "read") and hasattr(source, "close")


def _same_or_first(before: FoundCamera | None, root: Path) -> FoundCamera:
    """The camera that was used before, also where it came back under another number; else the first one."""
    cameras = find_cameras(root)
    if before is not None:
        cameras = [one for one in cameras if one == before] or [one for one in cameras if one.label == before.label]
    if not cameras:
        raise SourceNotFoundError(
            "no camera found on this machine; attach one, or name a source: a file, a folder, an RTSP URL or 'demo'"
            if before is None
            else f"{before.spec} ({before.label}) is not attached"
        )
    if cameras[0] != before:
        log.info("camera: %s (%s)", cameras[0].spec, cameras[0].label)
    return cameras[0]
