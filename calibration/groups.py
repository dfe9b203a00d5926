"""Groups: the nodes that an engine can only switch together, each node in exactly one.

The union of what an engine's rules join: an activation with its convolution, an addition with the branch it ends, what
only moves values with what made them. A group that must stay in float says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_sdk.calibration.engines.base import WEIGHTED, Rules
from edge_sdk.calibration.graph import Graph, reads
from edge_sdk.errors import PlanError
from edge_sdk.plan import Choice, Plan
from edge_sdk.targets import Precision


@dataclass(frozen=True)
class Group:
    """Nodes that switch together.

    Args:
        name: Unique among a model's groups, after its first node with weights: "backbone.dark2.0/conv".
        nodes: Names, in an order that the file's order of nodes does not change.
        precisions: What the engine may run them in, the float one last.
        reason: Why there is no choice; None where there is one.
    """

    name: str
    nodes: tuple[str, ...]
    precisions: tuple[Precision, ...]
    reason: str | None = None


def make_groups(graph: Graph, rules: Rules) -> tuple[Group, ...]:
    """The groups of a model on one engine, in the order of the computation.

    The same for every topological order of the same nodes.

    Args:
        graph: Of the prepared model.
        rules: The engine's.
    """
    refused = rules.refusals(graph)
    leader = {node.name: node.name for node in graph.nodes}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for one, other in rules.joins(graph, refused):
        leader[find(one)] = find(other)
    depth = _depth(graph)
    members: dict[str, list[str]] = {}
    for name in sorted(depth, key=lambda name: (depth[name], name)):
        members.setdefault(find(name), []).append(name)
    labels = {names[0]: _label(graph, names) for names in members.values()}
    shared = [label for label in labels.values() if list(labels.values()).count(label) > 1]
    groups = []
    for names in members.values():
        reasons = dict.fromkeys(refused[name] for name in names if name in refused)
        label = labels[names[0]]
        groups.append(
            Group(
                f"{label}/{names[0]}" if label in shared else label,
                tuple(names),
                rules.precisions[-1:] if reasons else rules.precisions,
                "; ".join(reasons) or None,
            )
        )
    return tuple(groups)


def choices(
    groups: tuple[Group, ...], precision: Precision, *, but: Mapping[str, Precision] | None = None
) -> tuple[Choice, ...]:
    """One choice for each group: a uniform plan, or that with exceptions.

    Args:
        groups: Of a model.
        precision: For each group that may have it; the others stay in float.
        but: Another precision, by group.

    Raises:
        PlanError: There is no such group, or it must not run so.
    """
    named = {group.name: group for group in groups}
    for name, wanted in (but or {}).items():
        if name not in named:
            raise PlanError(f"there is no group {name!r}")
        if wanted not in named[name].precisions:
            raise PlanError(f"group {name!r} cannot run in {wanted}: {named[name].reason or 'the engine has no such'}")
    made = []
    for group in groups:
        usual = precision if precision in group.precisions else group.precisions[-1]
        made.append(Choice(group.name, group.nodes, (but or {}).get(group.name, usual)))
    return tuple(made)


def violations(plan: Plan, groups: tuple[Group, ...]) -> tuple[str, ...]:
    """What stands against running a plan with these groups, a line each; empty where nothing does.

    A plan may have been edited by hand, or made for another engine.
    """
    wanted = {node: choice.precision for choice in plan.choices for node in choice.nodes}
    known = {node for group in groups for node in group.nodes}
    lines = [f"the model has no node {node!r}" for node in wanted if node not in known]
    for group in groups:
        asked = {node: wanted.get(node, group.precisions[-1]) for node in group.nodes}
        found = sorted(set(asked.values()))
        if len(found) > 1:
            parts = [f"{', '.join(n for n in asked if asked[n] == one)} in {one}" for one in found]
            lines.append(f"group {group.name!r} switches together, but the plan has {' and '.join(parts)}")
        elif found[0] not in group.precisions:
            why = group.reason or f"the engine runs {' or '.join(group.precisions)}"
            lines.append(f"group {group.name!r} cannot run in {found[0]}: {why}")
    return tuple(lines)


def _depth(graph: Graph) -> dict[str, int]:
    """Nodes on the longest way from an input to each node, by name: an order that the file's does not change."""
    depth: dict[str, int] = {}
    for node in graph.nodes:
        before = [maker.name for maker in map(graph.producer, reads(node)) if maker is not None]
        depth[node.name] = 1 + max((depth[name] for name in before), default=0)
    return depth


def _label(graph: Graph, names: list[str]) -> str:
    """A readable name after the group's first node with weights, or else its first."""
    nodes = [graph.node(name) for name in names]
    main = next((node for node in nodes if node.op_type in WEIGHTED), nodes[0])
    path = main.name.strip("/")
    if "/" in path:  # "/backbone/dark2/conv/Conv", as PyTorch's exporter has it
        head, last = path.rsplit("/", 1)
        return head if last.split("_")[0] == main.op_type else path
    weight = main.input[1] if main.op_type in WEIGHTED and len(main.input) > 1 else ""
    for ending in (".weight", ".kernel"):  # "backbone.dark2.0.conv.weight", of older exporters
        if weight.endswith(ending) and "." in weight.removesuffix(ending):
            head, _, last = weight.removesuffix(ending).rpartition(".")
            return f"{head}/{last}"
    return main.name
