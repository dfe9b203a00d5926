"""Each sink behind a queue and a thread of its own: a slow or broken one costs itself results, nobody else."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from edge_sdk.errors import one_line
from edge_sdk.pipeline.books import SinkStats
from edge_sdk.result import Event, Result
from edge_sdk.sinks.base import Sink

log = logging.getLogger("edge_sdk")

# Results that wait for a sink. Those with a picture each keep one of the camera's few buffers.
QUEUE, PICTURE_QUEUE = 256, 4
# A sink that takes nothing for so long hangs, and is not waited for.
PATIENCE_S = 10.0
# What a sink is given to write what waits for it, and again to close, when whoever ended the run waits; and what a
# complete one is given to close when nobody does: a card in a small board takes seconds to flush a file.
HURRY_S, CLOSE_S = 0.6, 30.0


class Picture:
    """A result with the picture that sinks may see, made once however many look, and only when one does."""

    def __init__(self, result: Result, change: Callable[[Result], Result]) -> None:
        self._result = result
        self._change = change
        self._lock = threading.Lock()
        self._changed: Result | None = None

    def result(self) -> Result:
        """The result with the changed picture; raises what the change raised, and never shows the unchanged one."""
        with self._lock:
            if self._changed is None:
                self._changed = self._change(self._result)
            return self._changed


class Outlet:
    """One sink, its queue and its thread.

    Args:
        sink: Closed by the thread when it ends.
        lossless: Whether the source is read without loss: a `complete` sink is then waited for.
    """

    def __init__(self, sink: Sink, *, lossless: bool) -> None:
        self.sink = sink
        self.fatal: BaseException | None = None
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
        return self.fatal is not None or bool(getattr(self.sink, "finished", False))

    def put(self, item: Picture | Result) -> None:
        """Leaves a result for the sink; waits only for one that must be complete, and not for one that hangs."""
        with self._changed:
            if self._waits and not self._hangs and self._results >= self._capacity:
                before = self._taken()
                while self._results >= self._capacity and not self._ending:
                    if not self._changed.wait(PATIENCE_S) and self._taken() == before:
                        self._hangs = True
                        log.warning("%s: takes nothing for %g s; it is not waited for", self.sink.name, PATIENCE_S)
                        break
                    before = self._taken()
            if self._results >= self._capacity:
                self._drop_oldest()
            self._queue.append(item)
            self._results += 1
            self._changed.notify_all()

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
        self._thread.join(CLOSE_S if patient else max(0.0, hurry_until_s + HURRY_S - time.monotonic()))
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
        error: BaseException | None = None
        try:
            if isinstance(item, Event):
                self.sink.event(item)
            else:
                self.sink.put(item.result() if isinstance(item, Picture) else item)
        except BrokenPipeError as gone:
            self.fatal = error = gone
        except Exception as failed:  # noqa: BLE001  whatever a sink raises is its own loss
            error = failed
        if isinstance(item, Event) and error is None:
            return
        with self._changed:
            self._written += error is None
            self._failed += error is not None and not isinstance(item, Event)
            self._hangs = False
            if error is not None:
                self._error = one_line(error)
            self._changed.notify_all()
        if (error is not None) != self._failing:  # once, however long it lasts
            self._failing = error is not None
            if error is not None:
                log.warning("%s: %s", self.sink.name, one_line(error))
            else:
                log.info("%s: works again", self.sink.name)

    def _close(self) -> None:
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
    """

    def __init__(
        self, sinks: Sequence[Sink], *, lossless: bool, change: Callable[[Result], Result] | None = None
    ) -> None:
        self._change = change
        self._outlets = [Outlet(sink, lossless=lossless) for sink in sinks]

    @property
    def finished(self) -> bool:
        """Whether one of them wants the run to end; raises where that is because its reader has gone."""
        for outlet in self._outlets:
            if outlet.fatal is not None:
                raise outlet.fatal
        return any(outlet.finished for outlet in self._outlets)

    def put(self, result: Result) -> None:
        """Offers a result to every sink."""
        if not self._outlets:
            return
        picture = result if self._change is None else Picture(result, self._change)
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
