"""Keeps frames coming: reads the source, notices that it stalls or is lost, and opens it again."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_sdk.errors import BadFrameError, SourceError, UsageError, one_line
from edge_sdk.pipeline.books import Books
from edge_sdk.pipeline.life import Life
from edge_sdk.pipeline.mailbox import Mailbox
from edge_sdk.pipeline.reader import Reader
from edge_sdk.result import Frame
from edge_sdk.sources.base import Source

log = logging.getLogger("edge_sdk")

# A source counts as stalled after the longer of this and so many of its usual intervals, and as lost after twice that.
STALL_S = 1.5
STALL_INTERVALS = 4
# The watchdog is armed once so many frames came: cameras take their time over the first.
WARM_UP_FRAMES = 3
# How often the watchdog looks, and how often a source that is away is looked for while the next attempt waits.
LOOK_S = 0.25
SEARCH_S = 0.5
# Frames of a file that are decoded while others are worked on.
READ_AHEAD = 2
# After a longer pause between two runs the source is opened anew: drivers and servers keep the first frames of it.
OLD_S = 1.0
# A connection that lasted so long starts the back-off from the beginning.
STEADY_S = 10.0


@dataclass(frozen=True)
class Reconnect:
    """How a live source that was lost is opened again.

    Between two attempts there is a random time between `first_s` and a bound that doubles from `first_s` to
    `longest_s`. Where it can be told cheaply that the source is back (its node exists, its server answers), the
    attempt follows at once.

    Args:
        first_s: The shortest wait.
        longest_s: The longest wait.
        give_up_s: A source that stays away longer fails the run; None waits for ever, as a kiosk should.
        restarts: A source that is lost more often than this ...
        within_s: ... in this time fails the run too: opening it again does not help.

    Raises:
        UsageError: A time or count is not above 0, or `longest_s` is below `first_s`.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    give_up_s: float | None = None
    restarts: int = 10
    within_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("first_s", "longest_s", "give_up_s", "restarts", "within_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} must be above 0, not {value}")
        if self.longest_s < self.first_s:
            raise UsageError(f"longest_s ({self.longest_s:g}) must not be below first_s ({self.first_s:g})")

    def delay_s(self, attempt: int) -> float:
        """The wait before an attempt; the first is 0."""
        bound = min(self.longest_s, self.first_s * 2.0 ** min(attempt, 32))
        return random.uniform(self.first_s, bound)  # noqa: S311  spreads cameras that were lost together


class Supervisor:
    """Reads a source into `mailbox`, in threads of its own, through losses and returns.

    The mailbox is closed when the source ends, with the error where it failed for good.

    Args:
        source: Open; closed by `close`.
        newest: Whether a frame that nobody has taken gives way to a newer one; otherwise reading waits.
        books: Counts what was captured, overwritten or could not be read.
        life: Is told what happens.
        reopen: Opens the source again, or raises SourceError; it gives up early when the event is set. None where
            that cannot be done.
        is_back: Whether the source is there again, cheaply; None where that cannot be told.
        policy: When to try again.
        timeout_s: How long a source that cannot be opened again, or has just been opened, may give no frame.
    """

    def __init__(
        self,
        source: Source,
        books: Books,
        life: Life,
        *,
        newest: bool,
        reopen: Callable[[threading.Event], Source] | None = None,
        is_back: Callable[[], bool | None] = lambda: None,
        policy: Reconnect | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self.source = source
        self._newest = newest
        self.mailbox = self._new_mailbox()
        self._books = books
        self._life = life
        self._reopen = reopen
        self._is_back = is_back
        self._policy = policy or Reconnect()
        self._timeout_s = timeout_s
        self._closed = False
        self._closing = threading.Lock()  # between closing the source and putting another in its place
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._reader: Reader | None = None
        self._thread: threading.Thread | None = None
        self._first_id = 0  # of the present connection: ids go on where the last one's ended
        self._last_id = -1
        # Texts, because an error holds on to the source that it came from, and that to its pictures.
        self._lost: str | None = None  # why there is no source to read, until there is one again
        self._losses: deque[tuple[float, str]] = deque()
        self._attempt = 0
        self._stopped_s: float | None = None

    def start(self) -> None:
        """Begins to read, or goes on.

        Raises:
            SourceError: The read that `stop` did not wait for has still not returned.
            UsageError: It is closed.
        """
        self._life.change("starting")
        if self._thread is not None and not self._stop.is_set() and not self.mailbox.over:
            return  # a file, of which some frames are read and waiting
        if not self._join(self._timeout_s):
            raise SourceError(f"{self.source.name}: its driver has not returned from the last read; open it again")
        with self._closing:
            if self._closed:
                raise UsageError("the camera is closed; make another")
            self._stop.clear()
        self.mailbox = self._new_mailbox()
        self._thread = threading.Thread(target=self._run, name="edge-sdk-supervisor", daemon=True)
        self._thread.start()

    def _new_mailbox(self) -> Mailbox[Frame]:
        return Mailbox(1 if self._newest else READ_AHEAD, newest=self._newest)

    def stop(self, wait_s: float) -> bool:
        """Reads no more; whether every thread ended in that time. The source stays open."""
        self._stop.set()
        self._woken.set()
        if self._reader is not None:
            self._reader.stop()
        self._count_left()
        self._stopped_s = time.monotonic()
        return self._join(wait_s)

    def close(self, wait_s: float = 1.0) -> bool:
        """Closes the source and ends every thread; whether that took no longer than this. May be called twice."""
        self._stop.set()
        self._woken.set()
        with self._closing:
            self._closed = True
            source = self.source
        source.close()
        return self.stop(wait_s)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def _count_left(self) -> None:
        self._books.dropped("shutdown", len(self.mailbox.abandon()))

    def _join(self, wait_s: float) -> bool:
        deadline = time.monotonic() + wait_s
        me = threading.current_thread()  # a listener to events may close the camera
        if self._thread is not None and self._thread.ident is not None and self._thread is not me:
            self._thread.join(wait_s)
            if self._thread.is_alive():
                return False
        return self._reader is None or self._reader.join(max(0.0, deadline - time.monotonic()))

    # --- in the supervisor's thread -------------------------------------------------------------

    def _run(self) -> None:
        try:
            if self._lost is None and self._grew_old():
                self._open_anew()
            while not self._stop.is_set():
                self._lost = self._lost or self._stream()
                if self._lost is None:
                    break
                self._reconnect(self._lost)
            self.mailbox.close()
        except BaseException as error:  # noqa: BLE001  it is raised in the loop that reads the mailbox
            self._life.change("failed", one_line(error))
            self.mailbox.close(error)

    def _grew_old(self) -> bool:
        """Whether nobody has read for so long that what the driver kept is no news."""
        paused = self._stopped_s is not None and time.monotonic() - self._stopped_s > OLD_S
        return paused and self.source.live and self._reopen is not None

    def _open_anew(self) -> None:
        assert self._reopen is not None  # noqa: S101  `_grew_old` has looked
        self.source.close()
        try:
            self._replace(self._reopen(self._stop))
        except SourceError as error:
            self._lost = one_line(error)

    def _stream(self) -> str | None:
        """Reads until the source is lost, and returns why; None where it ends or nobody wants more.

        Raises:
            SourceError: It is lost and cannot be opened again.
        """
        reader = self._reader = Reader(self.source, self._deliver, self._spoilt, lambda _: self._woken.set())
        began = time.monotonic()
        reader.start()
        lost: BaseException | None = None
        while lost is None and not reader.over and not self._stop.is_set():
            self._woken.wait(LOOK_S if self.source.live else None)
            self._woken.clear()
            if self.source.live and not reader.over:
                lost = self._silence(reader)
        reader.stop()
        if self._stop.is_set():
            return None
        if time.monotonic() - began > STEADY_S:
            self._attempt = 0
        lost = lost or reader.error
        if lost is None:
            return None
        if not isinstance(lost, SourceError) or self._reopen is None or not self.source.live:
            raise lost
        return one_line(lost)

    def _silence(self, reader: Reader) -> SourceError | None:
        """The loss of a source that has been silent for too long."""
        if reader.delivering:
            return None
        silent_s = time.monotonic() - reader.last_s
        stalled_s, lost_s = math.inf, self._timeout_s
        if reader.frames >= WARM_UP_FRAMES:
            stalled_s = max(STALL_S, STALL_INTERVALS * reader.typical_s)
            lost_s = 2 * stalled_s if self._reopen else max(2 * stalled_s, self._timeout_s)
        if silent_s > stalled_s and self._life.state == "streaming":
            self._life.change("stalled", f"no frame for {silent_s:.1f} s")
        if silent_s <= lost_s:
            return None
        return SourceError(f"{self.source.name}: no frame for {silent_s:.0f} s; check the cable or the network")

    def _reconnect(self, lost: str) -> None:
        """Opens the source again, however long that takes; returns without where nobody wants more.

        Raises:
            SourceError: It stays away, or opening it again does not help; with the first cause.
        """
        assert self._reopen is not None  # noqa: S101  `_stream` has looked
        name, began = self.source.name, time.monotonic()
        self._losses.append((began, lost))
        while self._losses[0][0] < began - self._policy.within_s:
            self._losses.popleft()
        if len(self._losses) > self._policy.restarts:
            first, count = self._losses[0][1], len(self._losses)
            self._losses.clear()  # another run begins anew
            raise SourceError(
                f"{name}: lost {count} times within {self._policy.within_s:g} s and given up; first: {first}"
            ) from SourceError(first)
        self._life.change("reconnecting", lost)
        self.source.close()
        latest, away = lost, False
        give_up_s = math.inf if self._policy.give_up_s is None else began + self._policy.give_up_s
        while not self._stop.is_set():
            left_s = give_up_s - time.monotonic()
            if left_s <= 0:
                raise SourceError(
                    f"{name}: away for {time.monotonic() - began:.0f} s and given up; first: {lost}; at last: {latest}"
                ) from SourceError(lost)
            away = self._wait(min(left_s, self._policy.delay_s(self._attempt)), away)
            self._attempt += 1
            if self._stop.is_set():
                return
            try:
                self._replace(self._reopen(self._stop))
            except SourceError as error:
                latest = one_line(error)
                log.info("%s: not back yet: %s", name, latest)
            else:
                self._lost = None
                return

    def _wait(self, delay_s: float, away: bool) -> bool:
        """Waits, but no longer than until the source is back; whether it was seen to be away."""
        deadline = time.monotonic() + delay_s
        while (left_s := deadline - time.monotonic()) > 0 and not self._stop.wait(min(left_s, SEARCH_S)):
            here = self._is_back()
            if here and away:
                return False
            away = away or here is False
        return away

    def _replace(self, source: Source) -> None:
        with self._closing:
            if not self._closed:
                self.source = source
                self._first_id = self._last_id + 1
                return
        source.close()

    # --- in the reader's thread -----------------------------------------------------------------

    def _deliver(self, reader: Reader, frame: Frame) -> bool:
        self._books.captured()
        # After a stall its source was given up, or the run has ended, while a driver kept the read.
        if reader is not self._reader or reader.stopped:
            self._books.dropped("shutdown")
            return False
        if self._first_id:
            frame = replace(frame, id=frame.id + self._first_id)
        self._last_id = frame.id
        if self._life.state != "streaming":
            self._life.change("streaming")
        left = self.mailbox.put(frame)
        if left is not None:
            self._books.dropped("shutdown" if left is frame else "overwritten")
        return True

    def _spoilt(self, error: BadFrameError) -> None:
        self._books.captured()
        self._books.dropped("decode_error")
        log.warning("%s", error)
