"""What the planner found, in plain values: what a report shows and a JSON file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edge_sdk.calibration.groups import Group
from edge_sdk.plan import Plan

Kind = Literal["float", "high", "low", "head", "hybrid"]
"""float: the file as it was given; high: the rewritten model with every group in the high precision; low: every group
in the low one; head: low, but for the last layers; hybrid: chosen by the solver."""

Origin = Literal["measured", "recorded", "estimated"]


@dataclass(frozen=True)
class Timed:
    """Latency of one file.

    Args:
        ms: Median.
        ratio: To the reference in the same run; the timer says how it is taken.
        low, high: 95 % interval of `ratio`.
        method: How it is known.
    """

    ms: float
    ratio: float
    low: float
    high: float
    method: Origin


@dataclass(frozen=True)
class Drop:
    """Accuracy of one file on the acceptance photos, paired with the float model's on the same.

    Args:
        map: mAP50-95, 0..1, against the labels, or the float model's own detections where there are none. With a
            metric of the user's own, that.
        drop: The float model's `map` less this one; above 0 is worse.
        low, high: 95 % interval of `drop`, by a paired bootstrap over photos; both NaN where a metric of the user's own
            has none.
        damage: Against the float model's detections (`edge_sdk.calibration.score`), 0..1.
        photos: How many.
    """

    map: float
    drop: float
    low: float
    high: float
    damage: float
    photos: int


@dataclass(frozen=True)
class Candidate:
    """A file that was built, and what is known of it.

    Args:
        name: Unique among the candidates: "float", "optimized float", "uniform int8", "head in float", "hybrid 3".
        kind: Where it comes from.
        mask: Which groups are in the low precision, in the order of the groups that have the choice; None for the file
            as it was given.
        sha256: Of the file.
        size_bytes: Of the file.
        low_macs: Share of the multiply-accumulates in the low precision, 0..1.
        predicted_ratio: Latency against the optimized float, by the cost model; None where that has no say.
        predicted_drop: Of mAP, by the damage model; None where that has no say.
        latency: None where it was not timed.
        accuracy: None where it was not evaluated.
        misplaced: A line for each layer that does not run as planned, read back from the engine.
        energy_mj: Per inference, where a sensor was read.
        repairs: What was mended in its weights.
    """

    name: str
    kind: Kind
    mask: tuple[bool, ...] | None
    sha256: str
    size_bytes: int
    low_macs: float = 0.0
    predicted_ratio: float | None = None
    predicted_drop: float | None = None
    latency: Timed | None = None
    accuracy: Drop | None = None
    misplaced: tuple[str, ...] = ()
    energy_mj: float | None = None
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pick:
    """The candidate that was chosen.

    Args:
        name: Of the candidate.
        why: Sentences, the decisive one first: also when the simple answer is the right one, when no budget could be
            met, and when the low precision is slower than float here.
        met: Whether every budget is met.
    """

    name: str
    why: tuple[str, ...]
    met: bool


@dataclass(frozen=True)
class GroupRow:
    """What is known of one group.

    Args:
        group: With its nodes and, where it has no choice, the reason.
        precision: In the pick.
        pinned: By the user.
        macs: Multiply-accumulates.
        alone: Damage with this group alone in the low precision, 0..1; None where it was not probed.
        without: Damage that goes when this group alone leaves the low precision, from the base of the sweep; None
            where it was not probed.
        gain_ms: Time saved by the low precision, boundaries left out; below 0 where it costs.
        swap: What turning it over in the pick is predicted to do: (change of the latency ratio, change of the drop).
    """

    group: Group
    precision: str
    pinned: bool
    macs: int
    alone: float | None
    without: float | None
    gain_ms: float | None
    swap: tuple[float, float] | None


@dataclass(frozen=True)
class Outcome:
    """All that a run of the planner found.

    Args:
        model: Name of the file that was given.
        target, engine, cpu: What it was planned for.
        seed: Of all that was drawn by chance.
        plan: Of the pick.
        pick: And why.
        candidates: All that were built, the simple ones first.
        groups: A row each, in the order of the computation.
        front: Predicted (latency ratio, mAP drop) of every point of the front that the solver gave, fastest first.
        pairs: Interactions of the damage model: (group, group, coefficient), the strongest first.
        r2: Of the damage model, cross-validated; None where it was not fitted.
        probes: How many masks were scored.
        cost: Of the cost model: method, machine, error in the builds it was fitted to.
        boundary_ms: Cost of a change of precision by tensor: (to low, to high).
        photos: Report of the photos, as `SetReport.record` gives it.
        notes: What was done to the model, warnings and all, one line each.
        repairs: What was tried on the weights, and whether it was kept, one line each.
        range_methods: How many tensors have their range by which method.
        seconds: Wall time by stage; not part of anything that must repeat.
        budgets: What was asked for.
        metric: What `Drop.map` is: a name of the user's own where the metric is.
    """

    model: str
    target: str
    engine: str
    cpu: str
    seed: int
    plan: Plan
    pick: Pick
    candidates: tuple[Candidate, ...]
    groups: tuple[GroupRow, ...]
    front: tuple[tuple[float, float], ...]
    pairs: tuple[tuple[str, str, float], ...]
    r2: float | None
    probes: int
    cost: Mapping[str, Any]
    boundary_ms: Mapping[str, tuple[float, float]]
    photos: Mapping[str, Any]
    notes: tuple[str, ...]
    repairs: tuple[str, ...] = ()
    range_methods: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    budgets: Mapping[str, float] = field(default_factory=dict)
    metric: str = "mAP50-95"

    def candidate(self, name: str) -> Candidate:
        """The candidate of this name."""
        return next(one for one in self.candidates if one.name == name)

    @property
    def picked(self) -> Candidate:
        """The pick."""
        return self.candidate(self.pick.name)
