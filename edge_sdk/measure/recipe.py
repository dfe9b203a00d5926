"""The power recipe's run: settle, idle, work, idle again, some times over, while every sensor is sampled."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from edge_sdk.conditions.base import Conditions
from edge_sdk.errors import UsageError
from edge_sdk.measure.clock import Clock, SystemClock
from edge_sdk.measure.record import Sampling
from edge_sdk.measure.sampler import Sampler
from edge_sdk.measure.trace import Trace
from edge_sdk.sensors.power import Power

LEAST_S = 10.0
LEAST_REFRESHES = 50
LEAST_REPEATS = 3
# A sensor's value is of the time before it, and power needs a moment to follow the load. A meter that is asked now and
# then may show, when it is read, what was two of its own refreshes ago; a third is for the mean that it shows.
_LEAD_S = 0.5
_LEAD_REFRESHES = 3
_LOOK_S = 1.0  # between two looks at temperatures and throttling

Progress = Callable[[float, str], None]  # part of the run, 0..1, and what is done now
Watch = Callable[[bool], Conditions]  # True: all of them; False: those that are cheap to read


@dataclass(frozen=True)
class Recipe:
    """How long what is done.

    The defaults are the least that the figures are meant for: windows of 10 s, and of 50 of the sensor's own refreshes
    where that is longer, and three repeats, because fewer say nothing of the spread. Shorter ones can be had for a
    trial; the profile then says so.

    Args:
        settle_s: Nothing is done before each idle window: after a flat-out run a board, and NVML's average, need about
            3 s to come down.
        idle_s: An idle window, the model open.
        work_s: A work window, inferences one after another.
        repeats: Work windows; there is one more idle window.

    Raises:
        UsageError: A time is not above 0, or there are fewer than two repeats.
    """

    settle_s: float = 3.0
    idle_s: float = LEAST_S
    work_s: float = LEAST_S
    repeats: int = LEAST_REPEATS

    def __post_init__(self) -> None:
        for name in ("settle_s", "idle_s", "work_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.repeats < 2:
            raise UsageError(f"repeats must be 2 or more, or there is no spread to know the noise by: {self.repeats}")

    @property
    def shortcuts(self) -> tuple[str, ...]:
        """Where it does less than the figures are meant for, in words."""
        return tuple(
            f"{what} {value:.3g}{unit}, where the recipe wants {least:g}{unit}"
            for what, value, least, unit in (
                ("idle windows of", self.idle_s, LEAST_S, " s"),
                ("work windows of", self.work_s, LEAST_S, " s"),
                ("repeats:", self.repeats, LEAST_REPEATS, ""),
            )
            if value < least
        )

    def stretched(self, refresh_s: float) -> Recipe:
        """The same with windows of 50, and settling of 3, of a sensor's refreshes where they are shorter."""
        least, settle_s = LEAST_REFRESHES * refresh_s, max(self.settle_s, _LEAD_REFRESHES * refresh_s)
        return Recipe(settle_s, max(self.idle_s, least), max(self.work_s, least), self.repeats)

    def seconds(self, refresh_s: float) -> float:
        """About how long a run takes."""
        work = self.work_s + lead_s(refresh_s)
        return self.repeats * work + (self.repeats + 1) * (self.settle_s + self.idle_s)


@dataclass(frozen=True)
class Stretch:
    """A window as it was run.

    Args:
        kind: See `record.Window`.
        repeat: Counts from 0.
        start_ns: Monotonic; of work, when its first inference began.
        end_ns: When its last one ended.
        inferences: 0 when idle.
    """

    kind: Literal["idle", "work"]
    repeat: int
    start_ns: int
    end_ns: int
    inferences: int


@dataclass(frozen=True)
class Run:
    """Everything that a run saw.

    Args:
        began_ns, ended_ns: Monotonic.
        stretches: In order: idle, work, idle, ..., idle.
        main: The samples of the sensor that gives the total.
        traces: Of all sensors, `main` among them.
        samplings: One a trace.
        before, after: All conditions.
        conditions: The cheap ones, about once a second.
    """

    began_ns: int
    ended_ns: int
    stretches: tuple[Stretch, ...]
    main: Trace
    traces: tuple[Trace, ...]
    samplings: tuple[Sampling, ...]
    before: Conditions
    after: Conditions
    conditions: tuple[Conditions, ...]


def lead_s(refresh_s: float) -> float:
    """How long inferences run before a work window begins."""
    return max(_LEAD_S, _LEAD_REFRESHES * refresh_s)


def run(
    query: Callable[[], None],
    power: Power,
    watch: Watch,
    recipe: Recipe | None = None,
    *,
    lead_in: Callable[[], None] | None = None,
    clock: Clock | None = None,
    max_hz: float = 50.0,
    ring: Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Runs the recipe.

    Args:
        query: Does one inference; warm.
        power: Open sensors with a `main` one.
        watch: Reads the conditions; called in the sampling thread too.
        recipe: None is the default one.
        lead_in: Does the inferences before a work window begins, which count in none; None is `query`.
        clock: None is this machine's.
        max_hz: The most reads a second of one sensor.
        ring: A file that the samples are kept in as well, for when the process dies.
        progress: Told how far the run is.

    Raises:
        UsageError: `power` has no total.
    """
    main = power.main
    if main is None:
        raise UsageError("there is no total to integrate: no sensor of this machine's power is open")
    clock = SystemClock() if clock is None else clock
    recipe = (Recipe() if recipe is None else recipe).stretched(main.refresh_s)
    tell = _teller(clock, recipe.seconds(main.refresh_s), progress)
    stretches: list[Stretch] = []
    conditions: list[Conditions] = []

    def look(full: bool) -> Conditions:
        return replace(watch(full), at_ns=clock.now_ns())

    before = look(True)
    with ExitStack() as stack:
        sampler = stack.enter_context(Sampler(power.sensors, clock=clock, max_hz=max_hz, ring=ring))
        looks = clock.every(_LOOK_S, lambda: conditions.append(look(False)))
        stack.callback(looks.stop)
        began = clock.now_ns()
        for repeat in range(recipe.repeats + 1):
            _idle(clock, recipe.settle_s, partial(tell, "settling"))
            start = clock.now_ns()
            _idle(clock, recipe.idle_s, partial(tell, f"idle {repeat + 1} of {recipe.repeats + 1}"))
            stretches.append(Stretch("idle", repeat, start, clock.now_ns(), 0))
            if repeat == recipe.repeats:
                break
            working = partial(tell, f"work {repeat + 1} of {recipe.repeats}")
            _work(clock, query if lead_in is None else lead_in, lead_s(main.refresh_s), working)
            start = clock.now_ns()
            count = _work(clock, query, recipe.work_s, working)
            stretches.append(Stretch("work", repeat, start, clock.now_ns(), count))
        # One more value, so that the last window's edge lies between two.
        clock.sleep(lead_s(main.refresh_s))
        ended = clock.now_ns()
        looks.stop()
        sampler.stop()
        traces, samplings = sampler.traces(), sampler.samplings()
    after = look(True)
    return Run(
        began, ended, tuple(stretches), traces[power.sensors.index(main)], traces, samplings, before, after,
        tuple(conditions),
    )  # fmt: skip


def _idle(clock: Clock, seconds: float, tell: Callable[[], None]) -> None:
    """Waits, in pieces, so that progress moves."""
    until = clock.now_ns() + int(seconds * 1e9)
    while (left := (until - clock.now_ns()) / 1e9) > 0:
        tell()
        clock.sleep(min(left, 0.5))


def _work(clock: Clock, query: Callable[[], None], seconds: float, tell: Callable[[], None]) -> int:
    """Inferences one after another for at least this long; how many."""
    until = clock.now_ns() + int(seconds * 1e9)
    count = 0
    while clock.now_ns() < until or count == 0:
        query()
        count += 1
        tell()
    return count


def _teller(clock: Clock, seconds: float, progress: Progress | None) -> Callable[[str], None]:
    """Tells progress at most some times a second: it may draw."""
    began = last = clock.now_ns()

    def tell(doing: str) -> None:
        nonlocal last
        now = clock.now_ns()
        if progress is not None and now - last > 2e8:
            last = now
            progress(min((now - began) / 1e9 / seconds, 1.0), doing)

    return tell
