"""Each sink behind a queue and a thread of its own: a slow or broken one costs itself results, nobody else."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence

from edge_sdk.errors import SinkError, one_line
from edge_sdk.pipeline.books import SinkStats
from edge_sdk.result import Event, Result
from edge_sdk.sinks.base import Sink

log = logging.getLogger("edge_sdk")

# Results that wait for a sink. Those with a picture each keep one of the camera's few buffers.
QUEUE, PICTURE_QUEUE = 256, 4
# A sink that takes nothing for so long hangs, and is not waited for.
PATIENCE_S = 10.0
# How often a wait for a sink looks whether the run is to end.
LOOK_S = 0.25
# What a sink is given to write what waits for it, and again to close, when whoever ended the run waits; and what a
# complete one is given to close when nobody does: a card in a small board takes seconds to flush a file.
HURRY_S, CLOSE_S = 0.6, 30.0


class Pictures:
    """Makes the pictures that sinks may see: in the frames' order, one at a time, and each once however many look.

    Args:
        change: Makes one of a result.
    """

    def __init__(self, change: Callable[[Result], Result]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._unmade: deque[weakref.ref[Picture]] = deque()  # those that every queue has dropped are not made

    def of(self, result: Result) -> Picture:
        """The picture of the next result, made when a sink first looks."""
        picture = Picture(self, result)
        with self._lock:
            self._unmade.append(weakref.ref(picture))
        return picture

    def make(self, picture: Picture) -> None:
        """Makes this one, and first those of the frames before it."""
        with self._lock:
            while not picture.made:
                earlier = self._unmade.popleft()()
                if earlier is not None:
                    earlier.make(self._change)


class Picture:
    """A result with a picture that is still to be made."""

    def __init__(self, pictures: Pictures, result: Result) -> None:
        self._pictures = pictures
        self._result: Result | None = result
        self._fault = ""
        self.made = False

    def make(self, change: Callable[[Result], Result]) -> None:
        """Makes it; what fails is remembered, and the unchanged picture shown to nobody."""
        assert self._result is not None  # noqa: S101  it is made once
        try:
            self._result = change(self._result)
        except Exception as error:  # noqa: BLE001  the sinks that look are told
            self._result, self._fault = None, f"there is no picture to show: {one_line(error)}"
        self.made = True

    def result(self) -> Result:
        """The result with the changed picture.

        Raises:
            SinkError: It could not be made.
        """
        self._pictures.make(self)
        if self._result is None:
            raise SinkError(self._fault)
        return self._result


class Outlet:
    """One sink, its queue and its thread.

    Args:
        sink: Closed by the thread when it ends.
        lossless: Whether the source is read without loss: a `complete` sink is then waited for.
        stopped: Whether the run is to end, so that nothing is waited for any more.
    """

    def __init__(self, sink: Sink, *, lossless: bool, stopped: Callable[[], bool]) -> None:
        self.sink = sink
        self.reader_gone = False
        self._stopped = stopped
        self._closing = False
        self._waits = lossless and sink.complete
        self._capacity = PICTURE_QUEUE if sink.wants_image else QUEUE
        self._changed = threading.Condition()
        self._queue: deque[Picture | Result | Event] = deque()
        self._results = 0  # of what is in the queue
        self._written = self._dropped = self._failed = 0
        self._error: str | None = None
        self._failing = False
        self._hangs = False
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=f"edge-sdk-sink {sink.name}"[:60], daemon=True)
        self._thread.start()

    @property
    def finished(self) -> bool:
        """Whether whoever looks at the sink wants no more: its window was closed, its reader has gone."""
        return self.reader_gone or bool(getattr(self.sink, "finished", False))

    def put(self, item: Picture | Result) -> None:
        """Leaves a result for the sink; waits only for one that must be complete, and not for one that hangs."""
        with self._changed:
            if self._waits and not self._hangs:
                self._wait_for_room()
            if self._results >= self._capacity:
                self._drop_oldest()
            self._queue.append(item)
            self._results += 1
            self._changed.notify_all()

    def _wait_for_room(self) -> None:
        since_s, taken = time.monotonic(), self._taken()
        while self._results >= self._capacity and not self._stopped():
            self._changed.wait(LOOK_S)
            if self._taken() != taken:
                since_s, taken = time.monotonic(), self._taken()
            elif time.monotonic() - since_s > PATIENCE_S:
                self._hangs = True
                log.warning("%s: takes nothing for %g s; it is not waited for", self.sink.name, PATIENCE_S)
                return

    def event(self, event: Event) -> None:
        """Leaves an event for the sink; events are few, and none is dropped."""
        with self._changed:
            if not self._ending:
                self._queue.append(event)
                self._changed.notify_all()

    def stats(self) -> SinkStats:
        """What became of the results."""
        with self._changed:
            return SinkStats(self._written, self._dropped, self._failed, self._results, self._error)

    def end(self) -> None:
        """Takes no more; what waits is still written."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def join(self, hurry_until_s: float, *, in_peace: bool) -> bool:
        """Waits until the sink has written what waits for it, as far as there is time for that, and is closed.

        Args:
            hurry_until_s: `time.monotonic` until which all sinks together may write; as long again they may close.
            in_peace: The source has come to its end, and nobody waits: a `complete` sink is then given the time that
                it needs, as long as it does something.

        Returns:
            Whether it is closed.
        """
        patient = in_peace and self.sink.complete
        self._thread.join(PATIENCE_S if patient else max(0.0, hurry_until_s - time.monotonic()))
        taken = -1
        while patient and self._thread.is_alive() and self._results and taken != self._taken():
            taken = self._taken()
            self._thread.join(PATIENCE_S)
        with self._changed:
            while self._results:
                self._drop_oldest()
        if self.sink.interruptible and self._thread.is_alive():
            self._close()
        # A file that is being finished is worth waiting for, also to whoever ended the run.
        finishing = self.sink.complete and (patient or self._closing)
        self._thread.join(CLOSE_S if finishing else max(0.0, hurry_until_s + HURRY_S - time.monotonic()))
        return not self._thread.is_alive()

    def _taken(self) -> int:
        return self._written + self._failed

    def _drop_oldest(self) -> None:
        for index, item in enumerate(self._queue):
            if not isinstance(item, Event):
                del self._queue[index]
                self._results -= 1
                self._dropped += 1
                return

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._ending)
                if not self._queue:
                    break
                item = self._queue.popleft()
                if not isinstance(item, Event):
                    self._results -= 1
            self._give(item)
            del item  # its picture's buffer is the camera's again
        self._close()

    def _give(self, item: Picture | Result | Event) -> None:
        is_event = isinstance(item, Event)
        fault = ""  # a text: the error itself would keep the picture alive
        try:
            if isinstance(item, Event):
                self.sink.event(item)
            else:
                self.sink.put(item.result() if isinstance(item, Picture) else item)
        except Exception as error:  # noqa: BLE001  whatever a sink raises is its own loss
            fault = one_line(error)
            self.reader_gone = self.sink.is_output and isinstance(error, BrokenPipeError)
        if is_event and not fault:
            return
        with self._changed:
            self._written += not fault
            self._failed += bool(fault) and not is_event
            self._hangs = False
            self._error = fault or self._error
            self._changed.notify_all()
        if bool(fault) != self._failing:  # once, however long it lasts
            self._failing = bool(fault)
            if fault:
                log.warning("%s: %s", self.sink.name, fault)
            else:
                log.info("%s: works again", self.sink.name)

    def _close(self) -> None:
        self._closing = True
        try:
            self.sink.close()
        except Exception as error:  # noqa: BLE001  the same
            self._error = one_line(error)
            log.warning("%s: %s", self.sink.name, one_line(error))


class Outlets:
    """The sinks of a run.

    Args:
        sinks: Closed by `close`.
        lossless: Whether the source is read without loss.
        change: Makes the picture that sinks see, such as one with blurred faces; None shows the camera's own.
        stopped: As `Outlet` takes it.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        lossless: bool,
        change: Callable[[Result], Result] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._pictures = None if change is None else Pictures(change)
        self._outlets = [Outlet(sink, lossless=lossless, stopped=stopped) for sink in sinks]

    @property
    def finished(self) -> bool:
        """Whether one of them wants the run to end.

        Raises:
            BrokenPipeError: Whoever read our output has gone.
        """
        if any(outlet.reader_gone for outlet in self._outlets):
            raise BrokenPipeError
        return any(outlet.finished for outlet in self._outlets)

    def put(self, result: Result) -> None:
        """Offers a result to every sink."""
        if not self._outlets:
            return
        picture = result if self._pictures is None else self._pictures.of(result)
        bare = result.without_image()
        for outlet in self._outlets:
            outlet.put(picture if outlet.sink.wants_image else bare)

    def event(self, event: Event) -> None:
        """Tells every sink."""
        for outlet in self._outlets:
            outlet.event(event)

    def stats(self) -> dict[str, SinkStats]:
        """By the sinks' names; a number is added to a name that occurs again."""
        named: dict[str, SinkStats] = {}
        for outlet in self._outlets:
            name, number = outlet.sink.name, 2
            while name in named:
                name, number = f"{outlet.sink.name} {number}", number + 1
            named[name] = outlet.stats()
        return named

    def close(self, *, in_peace: bool) -> None:
        """Closes every sink once it has written what waits for it; see `Outlet.join`.

        One that hangs is left behind with a warning: its thread does not keep the process.
        """
        for outlet in self._outlets:
            outlet.end()
        hurry_until_s = time.monotonic() + HURRY_S
        for outlet in self._outlets:
            if not outlet.join(hurry_until_s, in_peace=in_peace):
                log.warning("%s: does not end; it is left behind", outlet.sink.name)
