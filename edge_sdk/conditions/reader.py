"""Reads what a board does now: everything that is known of its conditions, in one value."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.conditions import memory, thermal
from edge_sdk.conditions.base import NOT_READ, Conditions, PowerMode
from edge_sdk.conditions.clocks import Clocks
from edge_sdk.conditions.load import Loads
from edge_sdk.conditions.power_mode import PowerModes
from edge_sdk.conditions.probe import is_gone
from edge_sdk.conditions.throttling import Watch
from edge_sdk.device import system_root
from edge_sdk.measure.clock import Clock, SystemClock
from edge_sdk.sensors.base import Absent
from edge_sdk.shell import Shell, shell_for

_LOOK_AGAIN_NS = 30_000_000_000
_LOOK_AGAIN_FOR_LOST_NS = 2_000_000_000


class ConditionsReader:
    """Reads conditions again and again; used by one thread at a time. It holds no file open between two reads.

    What there is to read is looked for at once, every half minute, and after something went.

    Args:
        root: Of /proc, /sys and /etc, for captured trees; None is ``EDGE_SDK_ROOT`` or this machine's.
        shell: Runs the vendor's tools; None is this machine's, or nobody in a captured tree.
        clock: What `at_ns` is of; None is this machine's.
    """

    def __init__(self, root: Path | None = None, shell: Shell | None = None, *, clock: Clock | None = None) -> None:
        self._root = system_root() if root is None else root
        self._shell = shell_for(self._root) if shell is None else shell
        self._throttling = Watch(self._root)
        self._loads = Loads(self._root)
        self._temperatures = thermal.temperatures(self._root)
        self._clocks = Clocks(self._root)
        self._modes = PowerModes(self._root, self._shell)
        self._clock = SystemClock() if clock is None else clock
        self._looked_ns = self._clock.now_ns()
        self._lost = False

    def read(self, full: bool = True) -> Conditions:
        """What is found now. It raises for no fault of the board.

        Args:
            full: False leaves out what starts a process (the power mode, `vcgencmd`) and, of more than 8 processors,
                those that are alike: for once a second during a measurement. Then `power_mode` is None and
                `power_mode_reason` is "not read".
        """
        now = self._clock.now_ns()
        self._look_again(now)
        temperatures = tuple(probe.read(now) for probe in self._temperatures)
        clocks = self._clocks.read(now, full)
        loads = self._loads.read(now)
        self._lost = any(is_gone(reading) for reading in (*temperatures, *clocks, *loads))
        throttling = self._throttling.read(self._shell if full else None)
        mode = self._modes.current() if full else Absent(NOT_READ)
        return Conditions(
            at_ns=now,
            temperatures=temperatures,
            clocks=clocks,
            loads=loads,
            memory=memory.read(self._root),
            throttling=throttling.now,
            throttled_since_boot=throttling.since_boot,
            power_mode=mode if isinstance(mode, PowerMode) else None,
            power_mode_reason=mode.reason if isinstance(mode, Absent) else None,
            governors=self._clocks.governors(full),
        )

    def close(self) -> None:
        """Ends it; may be called twice. There is nothing to free now."""

    def __enter__(self) -> ConditionsReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _look_again(self, now: int) -> None:
        if now - self._looked_ns < (_LOOK_AGAIN_FOR_LOST_NS if self._lost else _LOOK_AGAIN_NS):
            return
        self._temperatures = thermal.temperatures(self._root)
        self._clocks = Clocks(self._root)
        self._loads.find(self._root)
        self._throttling.find(self._root)
        self._looked_ns = now
