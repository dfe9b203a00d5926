"""What a planner finds, made up for tests: no figure in it is a measurement of anything."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from edge_sdk.calibration.groups import Group
from edge_sdk.calibration.outcome import Candidate, Drop, GroupRow, Kind, Outcome, Pick, Timed
from edge_sdk.plan import Choice, Plan

Case = Literal["normal", "weird", "custom_metric", "estimated", "one_group", "no_hybrid", "not_met", "bare"]
CASES: tuple[Case, ...] = (
    "normal", "weird", "custom_metric", "estimated", "one_group", "no_hybrid", "not_met", "bare",
)  # fmt: skip
HOSTILE = "</script><script>alert(1)</script><b>\u202egpj.\x1b[31m{%y}&amp;"

_FLOAT_MS = 28.4
_FLOAT_MAP = 0.2989
_PARTS = (
    "stem",
    "dark2",
    "dark3",
    "dark4",
    "dark5",
    "neck.lateral",
    "neck.reduce",
    "neck.fused",
    "head.cls",
    "head.reg",
)


def make_outcome(case: Case = "normal", **changes: Any) -> Outcome:
    """An outcome of one kind; `changes` replace its fields."""
    made = _normal(80) if case != "one_group" else _normal(1)
    if case == "weird":
        made = _weird(made)
    elif case == "custom_metric":
        made = replace(made, metric="counted people", candidates=tuple(map(_unbounded, made.candidates)))
    elif case == "estimated":
        made = _estimated(made)
    elif case == "no_hybrid":
        made = _no_hybrid(made)
    elif case == "not_met":
        made = _not_met(made)
    elif case == "bare":
        made = _bare(made)
    return replace(made, **changes)


def _normal(many: int) -> Outcome:
    draw = np.random.default_rng(7)
    rows = tuple(_row(draw, place, many) for place in range(many))
    free = [row for row in rows if len(row.group.precisions) > 1]
    picked = tuple(row.precision == "int8" for row in free)
    whole = sum(row.macs for row in rows)

    def macs(mask: tuple[bool, ...]) -> float:
        return sum(row.macs for row, low in zip(free, mask, strict=True) if low) / whole

    def candidate(
        name: str, kind: Kind, mask: tuple[bool, ...] | None, size: int, figures: tuple[float, ...], **more: Any
    ) -> Candidate:
        predicted, ratio, drop_predicted, drop, half, damage = figures
        return Candidate(
            name, kind, mask, f"{abs(hash(len(name) * 7919)) % 16**8:08x}" * 8, size,
            0.0 if mask is None else macs(mask), None if kind == "float" else predicted,
            None if kind == "float" else drop_predicted,
            Timed(_FLOAT_MS * ratio, ratio, ratio * 0.988, ratio * 1.013, "measured"),
            Drop(_FLOAT_MAP - drop, drop, drop - half, drop + half, damage, 39), **more,
        )  # fmt: skip

    on, off = (True,) * len(free), (False,) * len(free)
    head = tuple(not row.group.name.startswith("head") for row in free)
    candidates = [
        candidate("float", "float", None, 3_700_000, (1.07, 1.072, 0.0, 0.0, 0.0, 0.0)),
        candidate("optimized float", "high", off, 3_690_000, (1.0, 1.0, 0.0, 0.0, 0.0004, 0.0001)),
        candidate("uniform int8", "low", on, 1_080_000, (1.01, 1.031, 0.031, 0.0342, 0.009, 0.21)),
        candidate("head in float", "head", head, 1_420_000, (0.985, 1.002, 0.027, 0.0291, 0.0085, 0.19)),
    ]
    if many > 1:
        candidates += [
            candidate("hybrid 1", "hybrid", tuple(one or place % 9 == 4 for place, one in enumerate(picked)), 1_350_000,
                      (0.88, 0.893, 0.0051, 0.0072, 0.0061, 0.071)),
            candidate("hybrid 2", "hybrid", picked, 1_610_000, (0.904, 0.912, 0.0022, 0.0014, 0.0055, 0.032),
                      energy_mj=None, repairs=("neck.fused.3: bias corrected",)),
            candidate("hybrid 3", "hybrid", tuple(one and place % 5 > 0 for place, one in enumerate(picked)), 1_980_000,
                      (0.931, 0.928, 0.0009, 0.0011, 0.0042, 0.018),
                      misplaced=("head.cls.2/conv: planned int8, runs in fp32",)),
            candidate("hybrid 4", "hybrid", tuple(one and place % 2 > 0 for place, one in enumerate(picked)), 2_600_000,
                      (0.962, 0.981, 0.0003, -0.0004, 0.0031, 0.009)),
        ]  # fmt: skip
    pick = "hybrid 2" if many > 1 else "optimized float"
    why = (
        "Of the candidates within the budget it has the best lower bound of accuracy.",
        "Uniform INT8 takes 1.03 of the optimized float's time and loses .0342.",
    )
    ratios = np.linspace(0.872, 1.0, 15)
    names = [row.group.name for row in free]
    pairs = [
        (names[int(a)], names[int(b)], float(draw.normal(0.0, 0.012) * 0.93**place))
        for place, (a, b) in enumerate(draw.integers(0, len(names), (40, 2)).tolist()) if a < b
    ]  # fmt: skip
    return Outcome(
        model="yolox_nano.onnx", target="generic-x86_64", engine="onnxruntime 1.31.1",
        cpu="x86_64, AVX2 without VNNI", seed=0, plan=_plan(rows), pick=Pick(pick, why, met=True),
        candidates=tuple(candidates), groups=rows,
        front=tuple((float(one), float(0.0002 + 0.9 * (1 - one) ** 2.4 * 1.4)) for one in ratios) if many > 1 else (),
        pairs=tuple(sorted(pairs, key=lambda one: -abs(one[2]))), r2=0.87, probes=412,
        cost={"method": "measured", "machine": "x86_64, AVX2 without VNNI, 1 thread", "builds": 14,
              "median_error": 0.018, "worst_error": 0.047},
        boundary_ms={f"tensor_{place}": (0.02 + place / 900, 0.018 + place / 1000) for place in range(30)},
        photos=_photos(),
        notes=("opset raised from 11 to 17", "12 batch norms folded",
               "38 hard-swishes written as HardSigmoid * x, which the engine fuses",
               "warning: the input 'images' has a dynamic batch; planned for 1"),
        repairs=("neck.fused.3: cross-layer equalization, not kept: the proxy got worse by .0003",
                 "neck.fused.3: bias correction, kept: the proxy improved by .0011"),
        range_methods={"min-max": 61, "percentile 99.99": 44, "mse": 71, "one-sided silu": 34},
        seconds={"photos": 6.1, "prepare": 3.2, "ranges": 14.8, "sensitivity": 71.3, "costs": 28.4, "solve": 2.2,
                 "verification": 43.9},
        budgets={"max_map_drop": 0.005, "max_latency_ms": 26.5},
    )  # fmt: skip


def _row(draw: np.random.Generator, place: int, many: int) -> GroupRow:
    part = _PARTS[place * len(_PARTS) // max(many, 1)]
    name = f"{part}.{place}/conv"
    fixed = place % 17 == 16
    damage = float(np.clip(draw.lognormal(-6.2, 1.5), 1e-5, 0.4)) * (20 if place in (0, 1, 3) else 1)
    gain = float(draw.normal(0.11, 0.12))
    low = not fixed and (damage < 0.012 and gain > 0)
    pinned = place == 5
    nodes = tuple(f"{name.replace('/', '_')}_{kind}" for kind in ("Conv", "HardSigmoid", "Mul")[: 1 + place % 3])
    reason = "the engine has no INT8 kernel of Resize" if fixed else None
    group = Group(name, nodes, ("fp32",) if fixed else ("int8", "fp32"), reason)
    sign = 1 if low else -1
    return GroupRow(
        group, "int8" if low else "fp32", pinned, 0 if fixed else int(draw.integers(40_000, 9_000_000)),
        None if fixed else min(damage, 1.0), None if fixed else min(damage * float(draw.uniform(0.5, 1.4)), 1.0),
        None if fixed else gain,
        None if fixed or pinned else (sign * gain / _FLOAT_MS, -sign * damage * 0.12),
    )  # fmt: skip


def _plan(rows: tuple[GroupRow, ...]) -> Plan:
    return Plan(
        1, "3f" * 32, "generic-x86_64",
        tuple(Choice(row.group.name, row.group.nodes, row.precision, row.pinned) for row in rows),  # type: ignore[arg-type]
        {"images": (0.0, 255.0)},
        {"model": "8d" * 32, "photos": "a1" * 32, "edge_sdk": "0.6.0", "onnxruntime": "1.31.1", "onnx": "1.20.0"},
    )  # fmt: skip


def _photos() -> dict[str, Any]:
    sides = ("calibration",) * 64 + ("search",) * 16 + ("acceptance",) * 39
    return {
        "source": "photos", "layout": "COCO", "found": 128, "looked_at": 128, "usable": 121, "groups": 119,
        "labels": "labels",
        "chosen": [
            {"name": f"{place:012}.jpg", "index": None, "side": side, "group": place, "reason": "unlike the others"}
            for place, side in enumerate(sides)
        ],
        "left_out": [
            {"name": "000000000200.jpg", "cause": "duplicate", "of": "000000000003.jpg", "count": 6},
            {"name": "000000000201.jpg", "cause": "broken", "of": None, "count": 1},
        ],
        "domain": {"pictures": 119, "detections": 611, "without_detection": 7, "per_class": {"person": 301, "car": 96}},
        "warnings": [
            "39 acceptance photos cannot decide a drop of .005: the interval of a paired difference is about as wide",
        ],
        "digest": "a1" * 32,
    }  # fmt: skip


def _unbounded(one: Candidate) -> Candidate:
    if one.accuracy is None:
        return one
    return replace(one, accuracy=replace(one.accuracy, low=math.nan, high=math.nan))


def _weird(made: Outcome) -> Outcome:
    names = {made.groups[0].group.name: HOSTILE, made.groups[1].group.name: "=cmd|' /C calc'!A0" + "x" * 290}
    groups = tuple(
        replace(row, group=replace(row.group, name=names.get(row.group.name, row.group.name))) for row in made.groups
    )
    candidates = tuple(
        replace(one, name=HOSTILE, misplaced=(HOSTILE,) * 60) if one.name == "hybrid 1" else one
        for one in made.candidates
    )
    pairs = tuple((names.get(a, a), names.get(b, b), value) for a, b, value in made.pairs)
    return replace(
        made, model=HOSTILE, groups=groups, plan=_plan(groups), candidates=candidates,
        pairs=((HOSTILE, names[made.groups[1].group.name], -0.04), *pairs), notes=(HOSTILE,), r2=-0.3,
        cost={"method": "measured", HOSTILE: [HOSTILE, 1.5, None, True, {"deep": HOSTILE}]},
        photos={"labels": 5, "warnings": [HOSTILE, 7], "chosen": "none", "left_out": [None], "domain": HOSTILE},
        budgets={HOSTILE: 1.0, "max_map_drop": 0.005},
    )  # fmt: skip


def _estimated(made: Outcome) -> Outcome:
    candidates = tuple(
        replace(
            one,
            latency=None if one.latency is None else replace(one.latency, method="estimated"),
            energy_mj=None if one.kind == "float" else 55.0 + place,
        )
        for place, one in enumerate(made.candidates)
    )
    cost = {"method": "estimated", "machine": "Raspberry Pi 5 (shipped table)"}
    return replace(
        made, candidates=candidates, cost=cost, target="raspberry-pi-5", cpu="Cortex-A76, from a table", boundary_ms={}
    )


def _no_hybrid(made: Outcome) -> Outcome:
    candidates = tuple(one for one in made.candidates if one.kind != "hybrid")
    groups = tuple(replace(row, precision="fp32", swap=None) for row in made.groups)
    why = ("INT8 is slower than float on this machine: no mask that was priced is faster.",)
    return replace(
        made, candidates=candidates, groups=groups, plan=_plan(groups), front=(), pairs=(), r2=None,
        pick=Pick("optimized float", why, met=True), budgets={},
    )  # fmt: skip


def _not_met(made: Outcome) -> Outcome:
    why = ("No candidate is within both budgets: this one is the most accurate of those that are fast enough.",)
    return replace(made, pick=Pick("hybrid 1", why, met=False), budgets={"max_map_drop": 0.001, "max_latency_ms": 25.6})


def _bare(made: Outcome) -> Outcome:
    """No more than a killed run or a time budget leaves: nothing was timed, probed or scored."""
    candidates = tuple(
        replace(one, latency=None, accuracy=None, predicted_ratio=None, predicted_drop=None) for one in made.candidates
    )[:2]
    groups = tuple(
        replace(row, precision="fp32", alone=None, without=None, gain_ms=None, swap=None) for row in made.groups
    )
    return replace(
        made, candidates=candidates, groups=groups, front=(), pairs=(), r2=None, probes=0, cost={}, boundary_ms={},
        plan=_plan(groups),
        photos={}, notes=(), repairs=(), range_methods={}, seconds={}, budgets={},
        pick=Pick("optimized float", ("The time was up before anything was measured.",), met=False),
    )  # fmt: skip
