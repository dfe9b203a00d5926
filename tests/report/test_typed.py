"""JSON of anybody, read as a dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from edge_sdk.report.typed import FormError, bytes_of, made, table_of


@dataclass(frozen=True)
class Inner:
    pair: tuple[str, float]
    many: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    inner: Inner
    kind: Literal["a", "b"]
    maybe: Inner | None = None
    by_name: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def test_lists_become_tuples_and_objects_dataclasses() -> None:
    table = {
        "inner": {"pair": ["x", 1], "many": [1, 2]}, "kind": "b", "maybe": None, "by_name": {"t": [0, 1]},
        "facts": {"free": [1, {"deep": None}]},
    }  # fmt: skip
    found = made(Outer, table, "thing")
    assert found == Outer(Inner(("x", 1.0), (1, 2)), "b", None, {"t": (0.0, 1.0)}, {"free": [1, {"deep": None}]})
    assert isinstance(found.inner.pair[1], float)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"inner": {"pair": ["x"]}, "kind": "a"}, r"inner\.pair must be a list of 2, not of 1"),
        ({"inner": {"pair": [1, 1]}, "kind": "a"}, r"inner\.pair\[0\] must be a text, not 1"),
        ({"inner": {"pair": ["x", 1], "many": [True]}, "kind": "a"}, r"inner\.many\[0\] must be a whole number"),
        ({"inner": {"pair": ["x", 1]}, "kind": "c"}, "kind must be one of a, b"),
        ({"inner": {"pair": ["x", 1]}, "kind": "a", "by_name": {"t": [1]}}, r"by_name\.t must be a list of 2"),
        ({"inner": {"pair": ["x", 1]}}, "no key kind"),
        ({"inner": 1, "kind": "a"}, "inner must be an object, not 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_place(table: dict[str, Any], says: str) -> None:
    with pytest.raises(FormError, match=says):
        made(Outer, table, "thing")


def test_depth_and_size_have_an_end(tmp_path: Path) -> None:
    with pytest.raises(FormError, match="is no thing: nested too deeply"):
        table_of("[" * 100_000, "s", "thing")
    path = tmp_path / "a.json"
    path.write_bytes(b"x" * 11)
    with pytest.raises(FormError, match="that a thing may have"):
        bytes_of(path, 10, "thing")
    assert bytes_of(path, 11, "thing") == b"x" * 11
    with pytest.raises(FormError, match="is no file"):
        bytes_of(tmp_path, 10, "thing")
