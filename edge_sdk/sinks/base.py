"""What takes results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from edge_sdk.result import Event, Result

S = TypeVar("S", bound="Sink")


class Sink(ABC):
    """Takes each result of a run; a context manager.

    Given to `Camera.detect`, a sink lives behind a queue of its own in a thread of its own: `put`, `event` and `close`
    are called from that one thread, and may take their time. Results that find the queue full push the oldest out.

    Attributes:
        name: What it is called in the accounting and in messages, credentials removed.
        wants_image: Whether `put` looks at ``result.frame.image``. A sink that does not is given an empty picture, so
            that its queue holds no camera buffers.
        complete: Of a source that is read without loss, every result is waited for; a sink over a network, which
            shows what is now, is better off without.
        is_output: Whether it writes to the program's own output: the run ends when whoever read that has gone.
        interruptible: Whether `close` may be called from any thread, and ends what `put` waits for.
    """

    name: str = "sink"
    wants_image: bool = False
    complete: bool = False
    interruptible: bool = False
    is_output: bool = False

    @abstractmethod
    def put(self, result: Result) -> None:
        """Takes one result. The frame's image belongs to the camera: it may be read, never written.

        Raises:
            SinkError: This one could not be written; the next may be.
        """

    def event(self, event: Event) -> None:  # noqa: B027  most sinks have no use for it
        """Takes a change of the camera's state."""

    @abstractmethod
    def close(self) -> None:
        """Finishes what is written; may be called twice.

        Raises:
            SinkError: It could not be finished.
        """

    def __enter__(self: S) -> S:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
