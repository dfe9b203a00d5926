"""What reading power costs beside inference: each line says what was measured, the goal, and whether it was met.

    python tools/benchmark_power.py --shared ../shared                   # all
    python tools/benchmark_power.py --shared ../shared inference cost    # some

The sensors are two INA3221 of three rails each, as on a Jetson AGX Xavier, as files that nobody rewrites: what the
driver of a real one spends on its bus is not in the figures. Sampling is on and off in turns, in short blocks whose
order is drawn anew for each pair, because a machine's speed drifts; intervals are 95 % ones of Student's t over the
pairs' log ratios.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_live import PHOTO, Bench, Line, line, options, ring, run_sections

import edge_sdk
from edge_sdk.measure.running import RunningPower
from edge_sdk.measure.sampler import MAX_HZ, Sampler
from edge_sdk.sensors.power import Power, open_power
from edge_sdk.sources.files import read_photo
from edge_sdk.targets import load
from edge_sdk.testing.fake_source import FakeSource

MODEL = "models/yolox_nano/yolox_nano.onnx"
WARM_UP_S = 2.0


@contextmanager
def board(refresh_s: float | None = None) -> Iterator[Power]:
    """Open sensors of a Jetson AGX Xavier whose files stand still.

    Args:
        refresh_s: What they claim to be renewed by, to be read faster than is of use; None is their own.
    """
    labels = (("GPU", "CPU", "SOC"), ("CV", "VDDRQ", "SYS5V"))
    with tempfile.TemporaryDirectory() as folder:
        for number, rails in enumerate(labels):
            chip = Path(folder) / f"sys/class/hwmon/hwmon{number}"
            chip.mkdir(parents=True)
            (chip / "name").write_text("ina3221\n")
            for place, rail in enumerate(rails, 1):
                (chip / f"in{place}_label").write_text(f"{rail}\n")
                (chip / f"in{place}_input").write_text("19000\n")
                (chip / f"curr{place}_input").write_text("240\n")
                (chip / f"shunt{place}_resistor").write_text("5000\n")
        with open_power(target=load("jetson-agx-xavier"), root=Path(folder)) as power:
            assert power.main is not None
            if refresh_s is not None:
                power.main.refresh_s = refresh_s
            yield power


def shown(what: str, value: float, unit: str, note: str) -> Line:
    """One figure that has no goal."""
    print(f"       {what:<58} {value:9.3f} {unit:<8} {'':16} {note}", flush=True)
    return {"what": what, "value": value, "goal": None, "unit": unit, "met": True, "note": note}


def judged(what: str, value: float, goal: float | None, unit: str, note: str) -> Line:
    """One figure, and its goal where it has one."""
    return shown(what, value, unit, note) if goal is None else line(what, value, goal, unit, note)


def paired(blocks: Callable[[bool], Sequence[float]], pairs: int) -> list[tuple[float, float, float]]:
    """Mean ratio of a block with to one without, and its 95 % interval, of each of its figures.

    Args:
        blocks: Runs one, with or without, and gives its figures. Which comes first in a pair is drawn.
        pairs: How many of each.
    """
    chance = random.Random(0)  # noqa: S311  an order, no secret
    logs = []
    for _ in range(pairs):
        order = [True, False]
        chance.shuffle(order)
        found = {with_it: np.log(blocks(with_it)) for with_it in order}
        logs.append(found[True] - found[False])
    mean = np.mean(logs, axis=0)
    wide = student(pairs - 1) * np.std(logs, axis=0, ddof=1) / math.sqrt(pairs)
    return [tuple(map(float, one)) for one in np.exp([mean, mean - wide, mean + wide]).T]


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t by the expansion of Cornish and Fisher; right to 0.1 % from 10 degrees on.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    x = 1.959964
    first = (x**3 + x) / 4
    second = (5 * x**5 + 16 * x**3 + 3 * x) / 96
    third = (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384
    return x + first / freedom + second / freedom**2 + third / freedom**3


def inference(shared: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    """Time of a bare inference with sampling over that without."""
    frames = ring(read_photo(shared / PHOTO))
    cores = len(os.sched_getaffinity(0))
    for threads in dict.fromkeys((1, cores)):
        bench = Bench(shared / MODEL, frames, threads=threads)
        _times(bench.bare, WARM_UP_S)
        # The last is for curiosity: no sensor has a thousand new values a second.
        for hz, refresh_s, goal in ((MAX_HZ, None, 1.02), (1000.0, 0.001, None)):
            effective: list[float] = []
            with board(refresh_s) as power:

                def block(sampled: bool, power: Power = power, hz: float = hz, bench: Bench = bench,
                          seen: list[float] = effective) -> Sequence[float]:  # fmt: skip
                    if not sampled:
                        return _times(bench.bare, arguments.block)
                    with Sampler(power.sensors, max_hz=hz) as sampler:
                        found = _times(bench.bare, arguments.block)
                    seen.append(sampler.samplings()[0].effective_hz)
                    return found

                (ratio, low, high), (middle, *_) = paired(block, arguments.pairs)
            note = f"ratio {ratio:.4f}, 95 % of {low:.4f} to {high:.4f}, {arguments.pairs} pairs"
            note += f"; of the medians {middle:.4f}; read {np.mean(effective):.0f} times a second"
            what = f"{threads} thread{'s' * (threads > 1)}, sampling at {hz:g} Hz: upper bound"
            yield judged(what, high, goal, "ratio", note)
        bench.detector.close()


def camera(shared: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    """The rate of `Camera.detect` with power and without, turn by turn within one run."""
    frames = ring(read_photo(shared / PHOTO))
    bench = Bench(shared / MODEL, frames)
    costs: list[float] = []
    with board() as power, edge_sdk.Camera(FakeSource(itertools.cycle(frames)), bench.detector, power=power) as one:
        results = one.detect()
        running = one._watts._running  # what a run starts and stops
        assert running is not None
        _rate(results, WARM_UP_S)

        def block(with_power: bool) -> Sequence[float]:
            (running.start if with_power else running.stop)()
            rate = _rate(results, arguments.block)
            if with_power:
                costs.append(running.cost_percent)
            return [1 / rate]

        (found,) = paired(block, arguments.pairs)
        running.start()
        _rate(results, 10.0)
        steady = running.cost_percent
        results.close()  # type: ignore[attr-defined]
    loss = [100 * (1 - 1 / one) for one in found]
    note = f"95 % of {loss[1]:+.2f} to {loss[2]:+.2f} %, {arguments.pairs} pairs of {arguments.block:g} s"
    unclear = loss[2] - loss[1] > 1.0
    if unclear:
        note += "; this machine is too busy to see half a percent: the next line bounds it"
    yield judged("frame rate lost by power", loss[0], None if unclear else 0.5, "%", note)
    note = (
        f"what it can take from the loop; {np.mean(costs):.3f} % in blocks of {arguments.block:g} s, starting included"
    )
    yield line("processor time of reading power, of one core", steady, 0.5, "%", note)
    bench.detector.close()


def cost(shared: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    """Processor time of sampling, by rate, with nothing else to do."""
    for hz, goal in ((1.0, None), (10.0, None), (MAX_HZ, 2.0), (200.0, None), (1000.0, None)):
        with board(1e-4) as power, Sampler(power.sensors, max_hz=hz) as sampler:
            time.sleep(max(5.0, 5 / hz))
        (how,) = sampler.samplings()
        note = f"read {how.effective_hz:.1f} times a second, {how.read_ms * 1000:.0f} us a read of six rails"
        yield judged(f"sampling at {hz:g} Hz, of one core", how.cost_percent, goal, "%", note)
    with board() as power, RunningPower(power) as running:
        time.sleep(10.0)
        value = running.cost_percent
    yield line("beside a camera, of one core", value, 0.5, "%", f"every {running.period_s:g} s")


def _times(call: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Mean and median time of a call, over so long."""
    marks = [time.perf_counter()]
    while marks[-1] - marks[0] < seconds:
        call()
        marks.append(time.perf_counter())
    times = np.diff(marks)
    return float(times.mean()), float(np.median(times))


def _rate(results: Iterator[Any], seconds: float) -> float:
    """Results a second, over so long."""
    next(results)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        next(results)
        count += 1
    return count / (time.perf_counter() - began)


SECTIONS: dict[str, Callable[[Path, argparse.Namespace], Iterator[Line]]] = {
    "inference": inference,
    "camera": camera,
    "cost": cost,
}


def main() -> None:
    parser = options(__doc__, SECTIONS)
    parser.add_argument("--pairs", type=int, default=60, help="of blocks with and without")
    parser.add_argument("--block", type=float, default=1.0, help="seconds of a block")
    arguments = parser.parse_args()
    if arguments.pairs < 2:
        parser.error("--pairs must be 2 or more")
    run_sections(parser, arguments, SECTIONS)


if __name__ == "__main__":
    main()
