"""Measures what operators cost on this machine, for `calibration/cost_table.json`: run it where nothing else runs.

    python tools/measure_cost_table.py yolox_nano.onnx picodet_s_320_coco.onnx --on "AMD Zen 3" --out table.json
    python tools/measure_cost_table.py ... --check other.onnx   # also predicted against measured, on a model left out

Each model is built in both uniform precisions and in mixed ones, and profiled several times; a kernel's time is its
quickest. Each class of operators gets the non-negative ns for a multiply-accumulate, for an element and for a call that
fit its kernels best, relatively. Ranges are made up: no kernel's time depends on them. The table of the same engine and
cpu in the file is replaced, others stay.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from edge_sdk.backends.base import Layer
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.canonical import canonical
from edge_sdk.calibration.cost_table import (
    SCHEMA,
    CostTable,
    Rate,
    elements,
    estimated_costs,
    node_class,
    record_of,
    tables_from,
)
from edge_sdk.calibration.costs import boundaries_of, crossings, design, save_build
from edge_sdk.calibration.engines.base import WEIGHTED, named
from edge_sdk.calibration.engines.onnxruntime import this_cpu
from edge_sdk.calibration.groups import make_groups
from edge_sdk.calibration.kernel_times import spent
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.rewrites import rewrite
from edge_sdk.calibration.timing import LocalTimer, machine_line
from edge_sdk.device import this_device
from edge_sdk.errors import EdgeSdkError, ModelError
from edge_sdk.files import replacing

Sample = tuple[float, float, float]  # multiply-accumulates, elements, ms
Samples = dict[tuple[str, str], list[Sample]]


def problem_of(file: Path) -> Problem:
    """The model, rewritten, with made-up ranges."""
    engine = named("onnxruntime")
    rewritten = rewrite(canonical(file))
    groups = make_groups(rewritten.graph, engine.rules)
    tensors = {one for group in groups for one in engine.quantized(rewritten.graph, frozenset(group.nodes))[0]}
    ranges = dict.fromkeys(sorted(tensors), (-4.0, 4.0))
    target = this_device().target.name
    return Problem(rewritten.graph, rewritten.sha256, engine, this_cpu(), target, groups, ranges)


def profiled(timer: LocalTimer, file: Path, repeats: int) -> list[Layer]:
    """The layers of a file, each with the quickest of its times."""
    runs = [timer.layers(file) for _ in range(repeats)]
    best: dict[tuple[str, ...], float] = {}
    for layer in (layer for run in runs for layer in run):
        best[layer.nodes] = min(best.get(layer.nodes, math.inf), layer.time_ms or 0.0)
    return [dataclasses.replace(layer, time_ms=best[layer.nodes]) for layer in runs[0]]


def gather(problem: Problem, timer: LocalTimer, folder: Path, *, builds: int, repeats: int) -> tuple[Samples, Samples]:
    """Samples by class and precision, and by way across a boundary."""
    graph, operators, crossed = problem.graph, Samples(), Samples()
    edges = boundaries_of(graph, problem.free)
    places = {node.name: place for place, node in enumerate(graph.nodes)}
    tensors = {one.tensor: place for place, one in enumerate(edges)}
    for mask in design(problem, builds, 0):
        file = save_build(problem, mask, Cache(folder / "cache"), folder / "files")
        layers = problem.engine.in_names_of(graph, profiled(timer, file, repeats))
        found = spent(graph, places, tensors, np.zeros(len(graph.nodes), np.bool_), layers)
        low = problem.nodes(mask)
        times = found.group_ms.tolist()
        for place, node in enumerate(graph.nodes):
            after = node
            # A convolution that was fused with what follows has its kernel named after that: it keeps the time.
            while node.op_type in WEIGHTED and not times[place] and after.output[0] not in graph.outputs:
                after = graph.consumers(after.output[0])[0]
                times[place], times[places[after.name]] = times[places[after.name]], 0.0
                if after.op_type in WEIGHTED:
                    raise ModelError(f"{file.name}: the profile has no kernel for {node.name!r}")
        for node, ms in zip(graph.nodes, times, strict=True):
            key = (node_class(graph, node), problem.low if node.name in low else problem.high)
            operators.setdefault(key, []).append((graph.macs(node), elements(graph, node), ms))
        for way, paid in zip(("to_low", "to_high"), crossings(edges, mask), strict=True):
            for place in np.flatnonzero(paid & ~np.isnan(found.boundary_ms)).tolist():
                count = math.prod(graph.shape(edges[place].tensor) or (0,))
                crossed.setdefault(("boundary", way), []).append((0.0, count, found.boundary_ms[place]))
    return operators, crossed


def fit(samples: Sequence[Sample]) -> Rate:
    """The rate that fits samples best, large ones relative to their size; half of the mean tells large from small."""
    rows = np.array(samples, np.float64)
    ns = rows[:, 2] * 1e6
    weights = 1 / np.maximum(ns, 0.5 * ns.mean() + 1)
    x = np.column_stack([rows[:, 0], rows[:, 1], np.ones(len(rows))]) * weights[:, None]
    scale = np.maximum(np.abs(x).max(axis=0), 1e-12)
    found = nnls(x / scale, ns * weights)[0] / scale
    return Rate(*(float(f"{value:.4g}") for value in found))


def table_of(operators: Samples, crossed: Samples, on: str, engine: str, cpu: str) -> CostTable:
    """The table of all samples."""
    rates: dict[str, dict[str, Rate]] = {}
    for (name, precision), samples in sorted(operators.items()):
        rates.setdefault(name, {})[precision] = fit(samples)
    for precision in sorted({key[1] for key in operators}):
        plain = [one for (name, held), some in operators.items() if held == precision for one in some if one[0] == 0]
        rates.setdefault("other", {})[precision] = fit(plain)
    return CostTable(on, engine, cpu, rates, {way: fit(samples) for (_, way), samples in sorted(crossed.items())})


def check(problem: Problem, table: CostTable, timer: LocalTimer, folder: Path) -> None:
    """Prints predicted against measured ratios."""
    costs = estimated_costs(problem, table)
    masks = design(problem, 8, 1)
    files = {str(n): save_build(problem, m, Cache(folder / "cache"), folder / "files") for n, m in enumerate(masks)}
    timed = timer.time(files, reference="0")
    print(f"all in {problem.high}: estimated {costs.high_ms:.2f} ms, measured {timed['0'].ms:.2f}")
    errors = []
    for number, mask in enumerate(masks[1:], 1):
        errors.append(costs.ratio(mask) / timed[str(number)].ratio - 1)
        print(f"{mask.mean():4.0%} low: estimated {costs.ratio(mask):.3f}, measured {timed[str(number)].ratio:.3f}")
    print(f"relative error: median {np.median(np.abs(errors)):.1%}, worst {np.max(np.abs(errors)):.1%}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--on", required=True, help="the processor, in the words that a report shows")
    parser.add_argument("--out", type=Path, help="the file of tables; left out, it is printed")
    parser.add_argument("--check", type=Path, nargs="*", default=[], help="models to predict that are not in the fit")
    parser.add_argument("--builds", type=int, default=5, help="files of each model")
    parser.add_argument("--repeats", type=int, default=5, help="profiles of each file")
    given = parser.parse_args(arguments)
    timer = LocalTimer()
    operators, crossed = Samples(), Samples()
    try:
        with tempfile.TemporaryDirectory(prefix="edge-sdk-") as name:
            folder = Path(name)
            for file in given.models:
                problem = problem_of(file)
                found = gather(problem, timer, folder, builds=given.builds, repeats=given.repeats)
                for into, some in zip((operators, crossed), found, strict=True):
                    for key, samples in some.items():
                        into.setdefault(key, []).extend(samples)
            engine = named("onnxruntime")
            version = timer.on.split(", ")[-2].removeprefix(f"{engine.name} ")
            table = table_of(
                operators, crossed, machine_line(given.on, engine.name, version, 1), engine.name, this_cpu()
            )
            others = []
            if given.out is not None and given.out.exists():
                kept = tables_from(json.loads(given.out.read_text(encoding="utf-8")), str(given.out))
                others = [one for one in kept if (one.engine, one.cpu) != (table.engine, table.cpu)]
            text = json.dumps({"schema": SCHEMA, "tables": [record_of(one) for one in (*others, table)]}, indent=1)
            if given.out is None:
                print(text)
            else:
                with replacing(given.out) as temporary:
                    temporary.write_text(text + "\n", encoding="utf-8")
            for file in given.check:
                check(problem_of(file), table, timer, folder)
    except EdgeSdkError as error:
        print(f"measure_cost_table: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
