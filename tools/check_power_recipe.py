"""How well the power recipe finds the truth: seeded runs on simulated boards whose true energy is known.

    python tools/check_power_recipe.py            # 100 runs on each board, time simulated; some minutes
    python tools/check_power_recipe.py --runs 20

Whoever measures reads the boards' files alone. Loads are drawn anew for each run: 2 to 30 W idle, 0.5 to 20 W more at
work, inferences of 2 to 120 ms, and more or less unrest.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import numpy as np

from edge_sdk.conditions.reader import ConditionsReader
from edge_sdk.measure.recipe import Run, run
from edge_sdk.measure.record import Energy
from edge_sdk.measure.verdict import judge
from edge_sdk.sensors.power import open_power
from edge_sdk.testing.fake_shell import FakeShell
from edge_sdk.testing.simulated_board import Kind, Load, SimulatedBoard, SimulatedClock

BOARDS: tuple[Kind, ...] = ("jetson-orin-nano", "jetson-agx-thor", "generic-x86_64")


def some_load(seed: int) -> Load:
    """A load by chance, from a small board to a large one."""
    chance = random.Random(seed)  # noqa: S311  to be had again
    idle_w = 10 ** chance.uniform(np.log10(2), np.log10(30))
    return Load(
        idle_w=idle_w,
        work_w=idle_w * chance.uniform(0.25, 1.0),
        latency_s=10 ** chance.uniform(np.log10(0.002), np.log10(0.12)),
        duty=chance.uniform(0.3, 1.0),
        jitter=chance.uniform(0, 0.1),
        wander_w=idle_w * chance.uniform(0, 0.01),
        noise_w=idle_w * chance.uniform(0, 0.01),
    )


def one_run(kind: Kind, seed: int) -> tuple[Energy, float, float]:
    """What the recipe says, and the true gross and net energy per inference in mJ."""
    with tempfile.TemporaryDirectory() as folder:
        root, clock, shell = Path(folder), SimulatedClock(), FakeShell({})
        with (
            SimulatedBoard(root, clock, kind, some_load(seed), seed) as board,
            open_power(target=board.target, root=root, shell=shell) as power,
        ):
            found = run(board.infer, power, ConditionsReader(root, shell).read, clock=clock)
            return judge(found), *_truth(board, found)


def _truth(board: SimulatedBoard, found: Run) -> tuple[float, float]:
    work = [one for one in found.stretches if one.kind == "work"]
    count = sum(one.inferences for one in work)
    gross = 1000 * sum(board.energy_j(one.start_ns, one.end_ns) for one in work) / count
    return gross, gross - 1000 * sum(board.idle_energy_j(one.start_ns, one.end_ns) for one in work) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="seeds on each board")
    runs = parser.parse_args().runs
    print(f"{runs} seeded runs on each board; goals: held by 90 of 100 intervals, gross within 2 %")
    for kind in BOARDS:
        held = {"gross": 0, "net": 0}
        errors: dict[str, list[float]] = {"gross": [], "net": []}
        widths: list[float] = []
        without = 0
        for seed in range(runs):
            energy, gross, net = one_run(kind, seed)
            if energy.gross_mj is None or energy.net_mj is None:
                without += 1
                continue
            for name, figure, truth in (("gross", energy.gross_mj, gross), ("net", energy.net_mj, net)):
                held[name] += figure.low <= truth <= figure.high
                errors[name].append(abs(figure.value / truth - 1))
            widths.append((energy.net_mj.high - energy.net_mj.low) / 2 / energy.net_mj.value)
        print(f"{kind}: {runs - without} figures, {without} runs without one")
        for name, count in held.items():
            worst, median = max(errors[name]), float(np.median(errors[name]))
            print(
                f"  {name:<6} interval holds the truth in {count} of {runs - without}; "
                f"off by {median:.2%} in the median, {worst:.2%} at worst"
            )
        print(f"  half width of the net interval: {float(np.median(widths)):.1%} in the median")


if __name__ == "__main__":
    main()
