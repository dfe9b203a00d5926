"""What a camera is doing: its states, and which may follow which."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from edge_sdk.result import Event, State

log = logging.getLogger("edge_sdk")

# A run begins with starting; stopped and failed end it, and another may begin.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    "starting": frozenset({"streaming", "reconnecting", "stopped", "failed"}),
    "streaming": frozenset({"stalled", "reconnecting", "stopped", "failed"}),
    "stalled": frozenset({"streaming", "reconnecting", "stopped", "failed"}),
    "reconnecting": frozenset({"streaming", "stopped", "failed"}),
    "stopped": frozenset({"starting"}),
    "failed": frozenset({"starting"}),
}
REMEMBERED_EVENTS = 256


class Life:
    """Keeps the state and tells of each change, in order; may be changed from any thread.

    Args:
        name: The camera's, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.RLock()  # held while listeners are told, so that they hear of changes in order
        self._events: deque[Event] = deque(maxlen=REMEMBERED_EVENTS)
        self._listeners: list[Callable[[Event], object]] = []
        self.state: State = "stopped"
        self.reconnects = 0
        self.stalls = 0

    @property
    def events(self) -> tuple[Event, ...]:
        """The latest changes, oldest first."""
        with self._lock:
            return tuple(self._events)

    def listen(self, listener: Callable[[Event], object]) -> None:
        """Calls this at each change, in the thread that makes it. What it raises is logged and costs nothing else."""
        with self._lock:
            self._listeners.append(listener)

    def unlisten(self, listener: Callable[[Event], object]) -> None:
        """Calls it no more."""
        with self._lock:
            self._listeners.remove(listener)

    def change(self, state: State, reason: str = "") -> bool:
        """Goes to a state; whether that was legal. The same state again, and an illegal one, change nothing."""
        with self._lock:
            previous = self.state
            if state not in TRANSITIONS[previous]:
                return False
            self.state = state
            self.reconnects += previous == "reconnecting" and state == "streaming"
            self.stalls += state == "stalled"
            event = Event(state, previous, time.monotonic_ns(), reason)
            self._events.append(event)
            trouble = state in ("stalled", "reconnecting", "failed")
            log.log(
                logging.WARNING if trouble else logging.INFO, "%s: %s%s", self._name, state, reason and f": {reason}"
            )
            for listener in tuple(self._listeners):
                try:
                    listener(event)
                except Exception:
                    log.exception("%s: a listener to events failed", self._name)
            return True
