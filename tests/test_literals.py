"""Literals in the metadata of hostile files."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.literals import parse_literal

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_what_python_writes_is_read_back(value: object) -> None:
    assert parse_literal(repr(value)) == value


@given(st.text())
def test_no_text_raises(text: str) -> None:
    parse_literal(text)


@pytest.mark.parametrize(
    "text", ["__import__('os').getcwd()", "names", "[x for x in (1,)]", "1 + 1 - names", "lambda: 1"]
)
def test_what_would_run_is_no_literal(text: str) -> None:
    assert parse_literal(text) is None


@pytest.mark.parametrize("piece", ["1+", "-", "~", "not ", "(", "[", "{1:", "1e+", "'", "lambda:"])
def test_endless_chains_neither_crash_nor_hang(piece: str) -> None:
    """In a process of its own: on Python 3.10 some of these overflow the parser's stack."""
    code = f"from edge_sdk.literals import parse_literal; print(parse_literal({piece!r} * 100_000 + '1'))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "None\n")


def test_a_text_beyond_a_mebibyte_is_not_looked_at() -> None:
    assert parse_literal("[" + "1," * (1 << 20) + "]") is None
