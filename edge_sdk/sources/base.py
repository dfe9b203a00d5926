"""What a source of pictures must be able to do, and how a source is named.

One file a kind in this folder; a module is a kind by having ``KIND``. Anything a kind needs beyond
OpenCV is imported when it opens.
"""

from __future__ import annotations

import importlib
import logging
import math
import pkgutil
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from edge_sdk.errors import SourceError, SourceNotFoundError, UsageError, one_line
from edge_sdk.result import Frame

_log = logging.getLogger("edge_sdk")


@dataclass(frozen=True)
class Request:
    """What the caller would like of a camera; a file takes no notice. None is the camera's default.

    Args:
        width: In pixels.
        height: In pixels.
        fps: Frames a second.
        timeout_s: To open, and to wait for one frame of a live source.
        root: Of /dev and /sys, for captured trees.
        cancelled: Makes an opening that is under way give up soon, with a SourceError, when it is set.

    Raises:
        UsageError: A size, the rate or the time limit is not above 0.
    """

    width: int | None = None
    height: int | None = None
    fps: float | None = None
    timeout_s: float = 5.0
    root: Path = field(default_factory=lambda: Path("/"))
    cancelled: threading.Event | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("width", "height", "fps", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} must be above 0, not {value}")

    def check_wanted(self, name: str) -> None:
        """Raises SourceError when the opening was cancelled.

        Args:
            name: Of the source, for the message.
        """
        if self.cancelled is not None and self.cancelled.is_set():
            raise SourceError(f"{name}: the opening was cancelled")


@dataclass(frozen=True)
class FoundCamera:
    """A camera that is attached to this machine.

    Args:
        spec: What `Camera(...)` takes: ``/dev/video0``, ``csi:0``.
        label: What it is called.
    """

    spec: str
    label: str


class Source(Protocol):
    """An open source of pictures, read by one thread at a time; close it from any.

    Attributes:
        name: What it is called, credentials removed.
        live: Frames come whether they are read or not: freshness beats completeness.
        fps: Nominal frames a second; None where the source has no rate.
        total: Frames in all, where that is known.
    """

    name: str
    live: bool
    fps: float | None
    total: int | None

    def read(self) -> Frame | None:
        """The next frame, or None at the end.

        Raises:
            BadFrameError: This one could not be decoded; read again for the next.
            SourceError: Nothing more will come.
        """
        ...

    def close(self) -> None:
        """Free the device; may be called twice. A blocked `read` in another thread returns None soon."""
        ...


class Kind(Protocol):
    """One kind of source, open or not.

    One of which it can be told cheaply whether a source that was lost is there again also has
    ``present(spec: str, request: Request) -> bool | None``; see `is_back`.

    Attributes:
        name: What it is called.
        example: How such a source is named, for help and errors.
        rank: Kinds are asked in this order; the plain file comes last.
    """

    name: str
    example: str
    rank: int

    def claims(self, spec: str) -> bool:
        """Whether this is how such a source is named. Looks at the text and the file system only."""
        ...

    def open(self, spec: str, request: Request) -> Source:
        """Opens it, and fails at once rather than at the first read.

        Raises:
            SourceNotFoundError: It is not there.
            SourceError: It cannot be opened; the message says how to mend that.
        """
        ...

    def find(self, root: Path) -> Sequence[FoundCamera]:
        """The cameras of this kind that are attached."""
        ...


@cache
def kinds() -> Mapping[str, Kind]:
    """Every kind of source, in the order they are asked."""
    package = importlib.import_module("edge_sdk.sources")
    found: list[Kind] = []
    for module in pkgutil.iter_modules(package.__path__):
        kind = getattr(importlib.import_module(f"edge_sdk.sources.{module.name}"), "KIND", None)
        if kind is not None:
            found.append(kind)
    return {kind.name: kind for kind in sorted(found, key=lambda kind: kind.rank)}


def find_cameras(root: Path = Path("/")) -> list[FoundCamera]:
    """Every attached camera, the ones that a board is built with (CSI) first."""
    return [camera for kind in kinds().values() for camera in kind.find(root)]


def open_source(spec: str | int | Path, request: Request | None = None) -> Source:
    """Opens what `spec` names.

    Args:
        spec: A camera's index or path (``0``, ``/dev/video0``), ``csi:0``, a URL (``rtsp://``, ``http://``), a
            photo, a video, a folder, a glob (``"photos/*.jpg"``) or ``demo``.
        request: Size, rate and time limits.

    Raises:
        UsageError: The name is empty.
        SourceNotFoundError: It is not there.
        SourceError: No kind of source is named like this, or it cannot be opened.
    """
    text = str(spec)
    examples = ", ".join(kind.example for kind in kinds().values())
    if not text.strip():  # such as a variable that is not set: not the folder that we happen to be in
        raise UsageError(f"the source's name is empty; there are {examples}")
    try:
        chosen = next((kind for kind in kinds().values() if kind.claims(text)), None)
        exists = chosen is not None or Path(text).exists()
    except OSError as error:  # longer than any file's name, say
        raise SourceNotFoundError(f"{without_credentials(text)[:200]}: no such source: {error.strerror}") from error
    if chosen is not None:
        return chosen.open(text, request or Request())
    if not exists:
        raise SourceNotFoundError(f"{without_credentials(text)}: no such file, folder or camera; there are {examples}")
    raise SourceError(f"{without_credentials(text)}: not something to take pictures from; there are {examples}")


def is_back(spec: str | int | Path, request: Request | None = None) -> bool | None:
    """Whether a source that was lost seems to be there again: a look of half a second at most, not an opening.

    It waits for nothing that a server may never say, sends no credentials and never raises. A server may be there
    while its stream is not, so that the opening still fails; a change from False to True is what tells something.

    Args:
        spec: As `open_source` takes it.
        request: As it takes it too.

    Returns:
        None where that cannot be told without opening it.
    """
    text, request = str(spec), request or Request()
    try:
        chosen = next((kind for kind in kinds().values() if kind.claims(text)), None)
        present: Callable[[str, Request], bool | None] | None = getattr(chosen, "present", None)
        return None if present is None else present(text, request)
    except Exception as error:  # noqa: BLE001  whoever waits for a source goes on waiting
        _log.debug("%s: cannot be looked for: %s", without_credentials(text), one_line(error))
        return None


def without_credentials(url: str) -> str:
    """The URL as it may be logged, drawn and stored: user, password and query values replaced.

    After a colon everything up to the last ``@`` goes: people write passwords with ``/``, ``?`` and ``#`` in them, at
    which a URL's host would end.
    """
    text = re.sub(r"(?<=://)(?:.*:.*|[^/?#]*)@", "***@", url, flags=re.DOTALL)
    return re.sub(r"([?&][^=&#]+)=[^&#]*", r"\1=***", text) if "://" in text else text
