"""What takes results."""

from __future__ import annotations

from typing import Protocol

from edge_sdk.result import Result


class Sink(Protocol):
    """Takes each result of a run; a context manager."""

    def put(self, result: Result) -> None:
        """Takes one result. The frame's image is a reused buffer: keep a copy, not the array.

        Raises:
            SinkError: It could not be written.
        """
        ...

    def close(self) -> None:
        """Finishes what is written; may be called twice."""
        ...

    def __enter__(self) -> Sink: ...

    def __exit__(self, *exc: object) -> None: ...
