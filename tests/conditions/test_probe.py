"""One value of a board, read out of a file that may be anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.conditions.probe import Probe, distinct, is_gone, plain, whole
from edge_sdk.conditions.thermal import celsius

MakeTree = Callable[[Mapping[str, Any]], Path]


def test_a_value_is_read_again_each_time(make_tree: MakeTree) -> None:
    file = make_tree({"temp": "41000\n"}) / "temp"
    probe = Probe("cpu", file, "c", celsius, note="of one core")
    first = probe.read(7)
    assert (first.name, first.value, first.unit, first.method, first.at_ns) == ("cpu", 41.0, "c", None, 7)
    assert first.reason == "of one core"
    file.write_text("42500\n")
    assert probe.read(8).value == 42.5


def test_a_file_that_went_is_known_from_one_that_is_gated(make_tree: MakeTree) -> None:
    root = make_tree({"gated": {"errno": "EAGAIN"}, "broken": {"errno": "EIO"}, "garbage": "\x00\xff" * 5000})
    for name, gone, reason in [
        ("nothing", True, "nothing: gone (ENOENT)"),
        ("gated", False, "gated: power-gated or busy (EAGAIN)"),
        ("broken", False, "broken: Is a directory (EISDIR)"),
        ("garbage", False, "no number in it"),
    ]:
        reading = Probe("x", root / name, "c", celsius).read(0)
        assert reading.value is None
        assert reading.reason is not None
        assert reading.reason.startswith(reason)
        assert is_gone(reading) is gone
    assert not is_gone(Probe("x", make_tree({"t": "1000"}) / "t", "c", celsius, note="gone (ENOENT)").read(0))


@pytest.mark.parametrize(("text", "number"), [
    ("12", 12), (" -7 \n", -7), ("+3", 3), ("", None), ("1.5", None), ("0x10", None), ("1 2", None), ("nan", None),
    ("9" * 18, 10**18 - 1), ("9" * 19, None), ("1_000", None), ("١٢", None), ("²", None),
])  # fmt: skip
def test_a_whole_number_is_plain_digits_and_no_more_than_arithmetic_bears(text: str, number: int | None) -> None:
    assert whole(text) == number


@given(st.text())
def test_no_text_breaks_the_reading_of_a_number_or_a_name(text: str) -> None:
    number = whole(text)
    assert number is None or abs(number) < 10**18
    name = plain(text, "otherwise")
    assert name
    assert len(name) <= 64
    assert name.isprintable()


def test_names_that_are_there_twice_are_numbered() -> None:
    assert distinct(["acpitz", "cpu", "acpitz", "acpitz"]) == ["acpitz", "cpu", "acpitz-2", "acpitz-3"]
    assert distinct(["a", "a-2", "a"]) == ["a", "a-2", "a-3"]


@given(st.lists(st.sampled_from(["a", "a-2", "a-3", "b", "b-2"])))
def test_numbered_names_are_all_different(names: list[str]) -> None:
    told = distinct(names)
    assert len(set(told)) == len(names)
    assert all(one.startswith(name) for one, name in zip(told, names, strict=True))
