"""What is asked of the planner, checked before any work."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, get_args

from edge_sdk.calibration.groups import Group
from edge_sdk.errors import PlanError, UsageError
from edge_sdk.targets import Precision

DEFAULT_DROP = 0.005


@dataclass(frozen=True)
class Request:
    """Budgets, bounds and the user's own callables.

    Args:
        max_map_drop: Of mAP50-95 against the float model, 0..1; `DEFAULT_DROP` where nothing at all is asked.
        max_latency_ms: Of one inference.
        max_latency_ratio: Against the optimized float model.
        max_size_mib: Of the file.
        max_energy_mj: Of one inference, idle power included, as this machine's power sensor has it.
        count: Photos for ranges.
        seed: Of all that is drawn by chance.
        threads: Inside one inference, when latency is measured.
        time_budget_s: After which the best so far is taken.
        pins: Precision by group; a name, or a pattern such as ``head*``, of groups or of nodes.
        forbid: Precisions that a group must not have, as ``pattern -> precision``.
        metric: The user's own accuracy of a built file; see `edge_sdk.calibration.verification.Metric`.
        probe_metric: The user's own damage of a probe's detections; see `edge_sdk.calibration.probing.Metric`.
        range_method: The user's own, which competes with the built-in ones; see `edge_sdk.calibration.ranges.choose`.
        sensitivity: The user's own damage of each group: given the `Problem`, gives a number from 0 by group name.

    Raises:
        UsageError: A budget that is none.
    """

    max_map_drop: float | None = None
    max_latency_ms: float | None = None
    max_latency_ratio: float | None = None
    max_size_mib: float | None = None
    max_energy_mj: float | None = None
    count: int = 64
    seed: int = 0
    threads: int = 1
    time_budget_s: float | None = None
    pins: Mapping[str, Precision] = field(default_factory=dict)
    forbid: Mapping[str, Precision] = field(default_factory=dict)
    metric: Callable[..., Any] | None = None
    probe_metric: Callable[..., float] | None = None
    range_method: Callable[..., Any] | None = None
    sensitivity: Callable[..., Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        for name in ("max_latency_ms", "max_latency_ratio", "max_size_mib", "max_energy_mj", "time_budget_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be above 0, not {value}")
        if self.max_map_drop is not None and not 0 <= self.max_map_drop < 1:
            raise UsageError(f"max_map_drop must be 0 or more and below 1, not {self.max_map_drop}")
        for name in ("count", "threads"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be 1 or more, not {getattr(self, name)}")
        known = get_args(Precision)
        for pattern, precision in [*self.pins.items(), *self.forbid.items()]:
            if precision not in known:
                raise UsageError(f"{pattern}={precision}: there is no such precision; there are {', '.join(known)}")

    @property
    def budgets(self) -> dict[str, float]:
        """What was asked for, by name."""
        names = ("max_map_drop", "max_latency_ms", "max_latency_ratio", "max_size_mib", "max_energy_mj")
        found = {name: float(value) for name in names if (value := getattr(self, name)) is not None}
        return found or {"max_map_drop": DEFAULT_DROP}

    def settled_pins(self, groups: Sequence[Group]) -> dict[str, Precision]:
        """The precision of each group that is not to be searched.

        Args:
            groups: Of the model.

        Raises:
            PlanError: A pattern fits no group, two contradict each other, or a group may not run so.
        """
        pins: dict[str, Precision] = {}
        for pattern, precision in self.pins.items():
            for group in _fitting(groups, pattern, "pin"):
                if pins.setdefault(group.name, precision) != precision:
                    raise PlanError(f"group {group.name!r} is pinned to {pins[group.name]} and to {precision}")
        for pattern, precision in self.forbid.items():
            for group in _fitting(groups, pattern, "forbid"):
                left = [one for one in group.precisions if one != precision]
                if not left:
                    raise PlanError(f"group {group.name!r} can run in {precision} alone, which is forbidden")
                if pins.get(group.name) == precision:
                    raise PlanError(f"group {group.name!r} is pinned to {precision}, which is forbidden")
                if len(left) == 1 and len(group.precisions) > 1:
                    pins[group.name] = left[0]
        return pins


def _fitting(groups: Sequence[Group], pattern: str, what: str) -> list[Group]:
    found = [
        group for group in groups if any(fnmatchcase(name, pattern) for name in (group.name, *group.nodes))
    ]  # fmt: skip
    if not found:
        near = [group.name for group in groups if pattern.strip("*").lower() in group.name.lower()][:3]
        hint = f"; near to it: {', '.join(near)}" if near else ""
        raise PlanError(f"there is no group or node {pattern!r} to {what}{hint}")
    return found
