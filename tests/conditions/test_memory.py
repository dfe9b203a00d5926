"""Main memory out of /proc/meminfo, right or broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.conditions import memory
from edge_sdk.conditions.base import Memory

TEXT = """MemTotal:        7802492 kB
MemFree:          215160 kB
MemAvailable:    5120000 kB
Buffers:           92436 kB
SwapTotal:       3901232 kB
SwapFree:        3888944 kB
HugePages_Total:       0
"""


def test_what_a_board_has_what_is_free_and_how_much_is_swapped() -> None:
    assert memory.parse(TEXT) == Memory(7802492 / 1024, 5000.0, 12.0)


def test_a_board_without_swap_uses_none() -> None:
    assert memory.parse(TEXT.replace("Swap", "Other")) == Memory(7802492 / 1024, 5000.0, 0.0)


@pytest.mark.parametrize("text", [
    "", "MemTotal: 1 kB", "MemAvailable: 1 kB\n", TEXT.replace("7802492", "nan"), TEXT.replace("7802492", "-1"),
    TEXT.replace("7802492", "0"), TEXT.replace("5120000", "7802493"), TEXT.replace("kB", "MB"),
    TEXT.replace("7802492", "9" * 400),
])  # fmt: skip
def test_what_tells_no_total_or_no_rest_is_nothing(text: str) -> None:
    assert memory.parse(text) is None


def test_a_line_that_is_there_twice_counts_as_it_stands_first() -> None:
    assert memory.parse(TEXT + "MemTotal: 1 kB\n") == memory.parse(TEXT)


@given(st.text() | st.text(alphabet="MemTotalAvailable: 0123456789kB\n-"))
def test_no_text_breaks_it(text: str) -> None:
    found = memory.parse(text)
    assert found is None or 0 <= found.available_mib <= found.total_mib


def test_it_is_read_from_a_tree_and_missing_without(make_tree: Callable[[Mapping[str, Any]], Path]) -> None:
    assert memory.read(make_tree({"proc/meminfo": TEXT})) == memory.parse(TEXT)
    assert memory.read(make_tree({"proc/meminfo": {"errno": "EIO"}})) is None
    assert memory.read(make_tree({"other": ""})) is None
