"""A plan: which layer runs in which precision. Standard library only, so that any tool can read one.

The file is JSON, described by ``plan.schema.json`` beside this module, and may be edited by hand: change a choice's
precision and set ``pinned`` to keep it so. Its ranges are those of every tensor that any group may quantize, so that a
group can be turned to a lower precision too.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from edge_sdk.errors import PlanError, one_line
from edge_sdk.files import replacing
from edge_sdk.targets import Precision

if TYPE_CHECKING:
    from edge_sdk.backends.base import Layer

SCHEMA = 1

_MAX_BYTES = 64 << 20  # a plan of a network with ten thousand layers takes a few MiB
_KEYS = {"schema", "prepared_sha256", "target", "choices", "ranges", "provenance"}
_CHOICE_KEYS = {"group", "nodes", "precision", "pinned"}


@dataclass(frozen=True)
class Choice:
    """A group of layers that switch together, and its precision.

    Args:
        group: The group's name, unique in a plan.
        nodes: Names of its nodes in the prepared model.
        precision: What they run in.
        pinned: Chosen by hand: the planner leaves it as it is.
    """

    group: str
    nodes: tuple[str, ...]
    precision: Precision
    pinned: bool = False


@dataclass(frozen=True)
class Plan:
    """Which layer runs in which precision; no weights, no engine's vocabulary.

    Args:
        schema: Version of the file's form.
        prepared_sha256: Of the prepared model that the node names are from.
        target: Name of the board that it is optimal for.
        choices: One for each group.
        ranges: Low and high real value of each tensor that is quantized, or may be after an edit, by name.
        provenance: Hashes and versions of what it was made from; no clock times, so that a run can be repeated.

    Raises:
        PlanError: Two choices claim a group or a node, or a precision or range is none.
    """

    schema: int
    prepared_sha256: str
    target: str
    choices: tuple[Choice, ...]
    ranges: Mapping[str, tuple[float, float]]
    provenance: Mapping[str, str]

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise PlanError(f"plan schema {self.schema} is not {SCHEMA}, which this version reads")
        seen: dict[str, str] = {}
        groups: set[str] = set()
        for choice in self.choices:
            known = get_args(Precision)
            if choice.precision not in known:
                raise PlanError(f"group {choice.group!r}: precision {choice.precision!r} is none of {', '.join(known)}")
            if choice.group in groups:
                raise PlanError(f"group {choice.group!r} stands in the plan twice")
            groups.add(choice.group)
            for node in choice.nodes:
                if node in seen:
                    raise PlanError(f"node {node!r} is in the groups {seen[node]!r} and {choice.group!r}")
                seen[node] = choice.group
        for tensor, (low, high) in self.ranges.items():
            if not -float("inf") < low <= high < float("inf"):  # false for NaN too
                raise PlanError(f"tensor {tensor!r}: {low} to {high} is no range")

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, in hexadecimal: the same however the file is laid out."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def pins(self) -> dict[str, Precision]:
        """Precision by group of what is pinned: what `edge_sdk.calibrate` takes as ``pins``."""
        return {choice.group: choice.precision for choice in self.choices if choice.pinned}

    def with_choice(self, group: str, precision: Precision, *, pinned: bool = True) -> Plan:
        """The plan with one group in another precision, as an edit of the file would make it.

        Whether an engine can run it so is found when it is exported.

        Args:
            group: Its name.
            precision: What its nodes are to run in.
            pinned: Whether the planner must leave it so.

        Raises:
            PlanError: There is no such group or precision.
        """
        names = [choice.group for choice in self.choices]
        if group not in names:
            near = difflib.get_close_matches(group, names, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else f"; it has {len(names)} groups"
            raise PlanError(f"the plan has no group {group!r}{hint}")
        changed = (
            replace(one, precision=precision, pinned=pinned) if one.group == group else one for one in self.choices
        )
        return replace(self, choices=tuple(changed))

    def differences(self, actual: Sequence[Layer]) -> tuple[str, ...]:
        """Holds the plan against what an engine says it runs.

        Args:
            actual: The engine's layers; one that does not state its precision is not judged.

        Returns:
            One line for each layer that runs otherwise than planned; empty where all agree.
        """
        wanted = {node: choice.precision for choice in self.choices for node in choice.nodes}
        lines = []
        for layer in actual:
            planned = {wanted[node] for node in layer.nodes if node in wanted}
            if layer.precision is not None and planned and planned != {layer.precision}:
                names = ", ".join(layer.nodes)
                lines.append(f"{names}: planned {' and '.join(sorted(planned))}, runs in {layer.precision}")
        return tuple(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the plan as JSON, whole or not at all.

        Raises:
            SinkError: The folder is not there, or cannot be written.
        """
        with replacing(Path(path)) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Reads a plan.

        Raises:
            PlanError: Not there, not JSON, or not a plan; the message names the place.
        """
        file = Path(path)
        try:
            if file.stat().st_size > _MAX_BYTES:
                raise PlanError(f"{file}: too large for a plan")
            table = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, PlanError):
                raise
            raise PlanError(f"{file}: cannot be read as a plan: {one_line(error)}") from error
        try:
            return _parse(table)
        except PlanError as error:
            raise PlanError(f"{file}: {error}") from error


def _parse(table: Any) -> Plan:
    _only(table, _KEYS, "the plan")
    if type(table["schema"]) is not int or table["schema"] != SCHEMA:
        raise PlanError(f"plan schema {table['schema']!r} is not {SCHEMA}, which this version reads")
    choices = []
    for number, row in enumerate(_of(table, "choices", list)):
        where = f"choices[{number}]"
        _only(row, _CHOICE_KEYS, where)
        nodes = _of(row, "nodes", list, where)
        if not all(isinstance(node, str) for node in nodes):
            raise PlanError(f"{where}: nodes must be a list of names")
        precision = _of(row, "precision", str, where)
        choices.append(Choice(_of(row, "group", str, where), tuple(nodes), precision, _of(row, "pinned", bool, where)))
    ranges = {}
    for tensor, pair in _of(table, "ranges", dict).items():
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(value) in (int, float) for value in pair):
            raise PlanError(f"ranges[{tensor!r}] must be two numbers, low and high")
        try:
            ranges[tensor] = (float(pair[0]), float(pair[1]))
        except OverflowError as error:
            raise PlanError(f"ranges[{tensor!r}]: a number is too large") from error
    provenance = _of(table, "provenance", dict)
    if not all(isinstance(value, str) for value in provenance.values()):
        raise PlanError("provenance must hold texts")
    return Plan(
        SCHEMA, _of(table, "prepared_sha256", str), _of(table, "target", str), tuple(choices), ranges, provenance
    )


def _only(table: Any, keys: set[str], where: str) -> None:
    if not isinstance(table, dict):
        raise PlanError(f"{where} must be an object with {', '.join(sorted(keys))}")
    for wrong in sorted(set(table) ^ keys):
        raise PlanError(f"{where}: {'unknown' if wrong in table else 'missing'} key {wrong!r}")


def _of(table: Mapping[str, Any], key: str, kind: type, where: str = "the plan") -> Any:
    if not isinstance(table[key], kind):
        raise PlanError(f"{where}: {key} must be a {kind.__name__}, not {type(table[key]).__name__}")
    return table[key]
