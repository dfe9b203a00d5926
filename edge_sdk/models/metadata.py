"""What a model file says of itself, as fields of a model card.

Two vocabularies are read: the SDK's own (one key, ``edge_sdk.card``, a JSON object of card fields)
and the one Ultralytics' exporters write (``names``, ``imgsz``, ``task``). The values come from
outside: they are parsed as literals, never run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edge_sdk.errors import ModelError, one_line
from edge_sdk.literals import parse_literal
from edge_sdk.models.card import checked_fields

CARD_KEY = "edge_sdk.card"

_MAX_TEXT = 1 << 20


def card_fields(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The card fields that the metadata states; empty where it states none.

    Raises:
        ModelError: The SDK's own key holds no valid card, or the model is for another task than detection.
    """
    own = metadata.get(CARD_KEY)
    if own is not None:
        try:
            table = json.loads(own[:_MAX_TEXT])
        except (ValueError, RecursionError) as error:
            raise ModelError(f"metadata {CARD_KEY!r} is not JSON: {one_line(error)}") from error
        if not isinstance(table, dict):
            raise ModelError(f"metadata {CARD_KEY!r} must be a JSON object")
        return checked_fields(table, f"metadata {CARD_KEY!r}")
    return _ultralytics(metadata)


def _ultralytics(metadata: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    task = metadata.get("task")
    if task is not None and task != "detect":
        raise ModelError(f"the model's metadata says it is for the task {task!r}; Edge SDK runs detectors ('detect')")
    names = parse_literal(metadata.get("names"))
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names, key=int)] if _is_numbered(names) else None
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        fields["classes"] = tuple(names)
    size = parse_literal(metadata.get("imgsz"))
    if type(size) is int:
        size = (size, size)
    if isinstance(size, (list, tuple)) and len(size) == 2 and all(type(v) is int and 0 < v <= 16384 for v in size):
        fields["input_hw"] = tuple(size)
    licence = metadata.get("license")
    if licence:
        fields["licence"] = licence[:200]
    return fields


def _is_numbered(names: Mapping[Any, Any]) -> bool:
    return sorted(str(key) for key in names) == sorted(str(i) for i in range(len(names)))
