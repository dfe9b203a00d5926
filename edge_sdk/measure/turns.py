"""Several models timed in turns in one process: the ratio of their latencies, which a busy machine leaves standing.

A machine drifts (clocks, heat) and is shared (other processes). So each round is a few passes, a pass gives every model
a block of a few runs, and a model is compared with the reference of the same round alone. A round's figure is the ratio
of the two quickest runs: what others take away only ever adds time. The order of the blocks is a Williams design (E. J.
Williams, "Experimental designs balanced for the estimation of residual effects of treatments", Aust. J. Sci. Res. A 2,
1949): in a cycle of passes each model stands in each place, and behind each other model, equally often.

Where a model runs in the calling thread alone and waits for nobody, as engines do with one thread, the thread's own CPU
time is counted, which leaves out the time that others ran on its core; else the wall clock. The kernel tells both:
the process's CPU time beside the thread's, and the thread's voluntary context switches (getrusage(2)).
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array, Session
from edge_sdk.errors import UsageError

Clock = Literal["wall", "thread"]
"""wall: time that passed; thread: CPU time of the calling thread."""

Progress = Callable[[float], None]  # part that is over, 0..1

# By a bootstrap, the interval of the median of 9 holds it 96 times in 100; of 7, for whole ranks are coarse, 87 times.
ROUNDS = 9
PASSES = 3
BLOCK = 3
_WARM_UP_RUNS = 3
_RESAMPLES = 2000
_ALONE = 1.05  # the process's CPU time over the thread's, at most, where no other thread works for the model

_Tick = Callable[[], int]


def _waits() -> int:
    """How often this thread has waited for something; -1 where the system does not tell."""
    try:
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    except (ImportError, AttributeError):
        return -1


@dataclass(frozen=True)
class Turn:
    """One model's part.

    Args:
        times_ms: Of every run, in order, by the clock of the comparison.
        ms: Their median.
        wall_ms: Median by the wall clock.
        ratio: Median over rounds of its quickest run over the reference's quickest of the same round.
        low, high: 95 % interval of `ratio`: percentile bootstrap over rounds (B. Efron, "Bootstrap methods: another
            look at the jackknife", Ann. Statist. 7, 1979). Both are 1 for the reference.
    """

    times_ms: tuple[float, ...]
    ms: float
    wall_ms: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Turns:
    """A comparison.

    Args:
        reference: Name of the model that the others are compared with.
        rounds: In which each model is compared with the reference.
        passes: Of a round; each model has a block in each.
        block: Runs of a block.
        clock: That was used.
        models: By name, in the order that they were given.
    """

    reference: str
    rounds: int
    passes: int
    block: int
    clock: Clock
    models: Mapping[str, Turn]


def measure_in_turns(
    sessions: Mapping[str, Session],
    *,
    reference: str,
    feeds: Mapping[str, Mapping[str, Array]] | None = None,
    seconds: float = 0.0,
    rounds: int = ROUNDS,
    passes: int = PASSES,
    block: int = BLOCK,
    clock: Clock | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Turns:
    """Times open sessions in turns, in this thread.

    Args:
        sessions: By name.
        reference: One of the names.
        feeds: Inputs by session and name; left out, noise from 0 to 1, and zeros for inputs of whole numbers.
        seconds: For each session, on average: rounds go on until so much has passed.
        rounds: At least so many, however long they take; 5 or more. The interval's use grows with them.
        passes: Of a round, 1 or more: the busier the machine, the more it takes for every model to have a quiet moment.
        block: Runs of a block, 1 or more. The first finds another model's data in the caches; the quickest counts.
        clock: None chooses: the thread's CPU time, if all sessions work in the calling thread alone and wait for
            nothing.
        seed: Of the order, the resampling and the noise.
        progress: Told how far it is.

    Raises:
        UsageError: There is no session of the reference's name, or a number is too small.
        BackendError: A session failed.
    """
    given = {name: (feeds or {}).get(name) or noise(session, seed) for name, session in sessions.items()}
    # A session knows the arrays that it made itself and binds them, so that a run allocates nothing.
    runs = {name: _runner(session, given[name]) for name, session in sessions.items()}
    return run_in_turns(
        runs, reference=reference, seconds=seconds, rounds=rounds, passes=passes, block=block, clock=clock, seed=seed,
        progress=progress,
    )  # fmt: skip


def run_in_turns(
    runs: Mapping[str, Callable[[], object]],
    *,
    reference: str,
    seconds: float = 0.0,
    rounds: int = ROUNDS,
    passes: int = PASSES,
    block: int = BLOCK,
    clock: Clock | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    ticks: tuple[_Tick, _Tick, _Tick, _Tick] = (
        time.perf_counter_ns,
        time.thread_time_ns,
        time.process_time_ns,
        _waits,
    ),
) -> Turns:
    """Times any calls in turns; see `measure_in_turns`.

    Args:
        runs: Calls by name.
        ticks: Nanoseconds that passed, of the thread's CPU time and of the process's; how often the thread has waited.
    """
    if reference not in runs:
        raise UsageError(f"there is no {reference!r} to compare with; there are {', '.join(runs)}")
    if rounds < 5 or passes < 1 or block < 1 or seconds < 0:
        raise UsageError(
            f"at least 5 rounds of 1 pass with 1 run, not {rounds} of {passes} with {block} for {seconds} s"
        )
    names = list(runs)
    wall, thread, process, waits = ticks
    for name in names:
        for _ in range(_WARM_UP_RUNS):
            runs[name]()
    kept = {name: (array("q"), array("q"), array("q"), array("q")) for name in names}
    order = Order(len(names), seed)
    began, done = wall(), 0
    budget_ns = seconds * 1e9 * len(names)
    while done < rounds or wall() - began < budget_ns:
        for place in (place for number in range(passes) for place in order.of(done * passes + number)):
            run = runs[names[place]]
            walls, threads, processes, waited = kept[names[place]]
            for _ in range(block):
                before, of_process, of_thread, at = waits(), process(), thread(), wall()
                run()
                walls.append(wall() - at)
                threads.append(thread() - of_thread)
                processes.append(process() - of_process)
                waited.append(waits() - before if before >= 0 else 1)
        done += 1
        if progress is not None:
            over = (wall() - began) / budget_ns if budget_ns else 1.0
            progress(min(1.0, done / rounds, over))
    times = {
        name: tuple(np.frombuffer(one, np.int64).reshape(done, passes * block) for one in kept[name]) for name in names
    }
    used = clock if clock is not None else _fitting_clock(list(times.values()))
    which = 0 if used == "wall" else 1
    base = times[reference][which].min(axis=1)
    models = {}
    for name in names:
        chosen = times[name][which]
        ratio, low, high = paired_ratio(chosen.min(axis=1), base, seed=seed)
        all_ms = chosen.ravel() / 1e6
        wall_ms = float(np.median(times[name][0])) / 1e6
        models[name] = Turn(tuple(all_ms.tolist()), float(np.median(all_ms)), wall_ms, ratio, low, high)
    return Turns(reference, done, passes, block, used, models)


def paired_ratio(ours: NDArray[Any], base: NDArray[Any], *, seed: int = 0) -> tuple[float, float, float]:
    """Median of the rounds' ratios, and its 95 % interval by a percentile bootstrap over rounds.

    Args:
        ours: [rounds], a time a round.
        base: [rounds], the reference's.
        seed: Of the resampling.
    """
    ratios = np.asarray(ours, np.float64) / np.maximum(np.asarray(base, np.float64), 1.0)
    drawn = np.random.default_rng(seed).integers(0, len(ratios), (_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


class Order:
    """In which order each pass has its blocks: a Williams design whose labels and rows are shuffled by a seed.

    Args:
        count: Of models.
        seed: Of the shuffling.
    """

    def __init__(self, count: int, seed: int) -> None:
        steps = [0]
        for step in range(1, count):
            steps.append(count - step // 2 if step % 2 == 0 else (step + 1) // 2)
        rows = [[(start + step) % count for step in steps] for start in range(count)]
        if count % 2:  # an odd number is balanced by the rows and their mirror images
            rows += [row[::-1] for row in rows]
        drawn = np.random.default_rng(seed)
        labels = drawn.permutation(count)
        self._rows = [[int(labels[place]) for place in rows[row]] for row in drawn.permutation(len(rows))]

    @property
    def cycle(self) -> int:
        """After so many passes it begins again."""
        return len(self._rows)

    def of(self, number: int) -> Sequence[int]:
        """Places of the models in this pass."""
        return self._rows[number % len(self._rows)]


def noise(session: Session, seed: int = 0) -> dict[str, Array]:
    """Inputs for a session: float ones from 0 to 1, so that no kernel meets denormal numbers; zeros for the others."""
    drawn = np.random.default_rng(seed)
    feeds = session.new_feeds()
    for spec in session.inputs:
        if spec.dtype.kind == "f":
            feeds[spec.name][...] = drawn.random(feeds[spec.name].shape).astype(spec.dtype)
    return feeds


def _runner(session: Session, feeds: Mapping[str, Array]) -> Callable[[], object]:
    return lambda: session.run(feeds)


def _fitting_clock(times: Sequence[tuple[NDArray[np.int64], ...]]) -> Clock:
    """The thread's, where each model at its best worked in the calling thread alone and waited for nobody."""
    for _, threads, processes, waited in times:
        if (processes / np.maximum(threads, 1)).min() > _ALONE or waited.min() > 0:
            return "wall"
    return "thread"
