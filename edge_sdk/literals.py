"""Plain values from text that a model file carries: JSON, or the Python literal that Ultralytics' exporters write."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_MAX_TEXT = 1 << 20

_STRINGS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
# What is left of a literal without its strings. Anything else, such as an operator, a name or a call, is not parsed at
# all: long chains of operators make Python 3.10's parser overflow the stack, and the process dies.
_BARE = re.compile(r"(?:[\s0-9.,:\[\](){}]|True|False|None|e[+-]?[0-9]|[-+][0-9.])*")


def parse_literal(text: str | None) -> Any:
    """The value that a text states, or None where it states none.

    Args:
        text: At most a MiB is looked at. It comes from outside, is never run, and cannot raise.
    """
    if not text or len(text) > _MAX_TEXT:
        return None
    for parse in (json.loads, _python_literal):
        try:
            return parse(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def _python_literal(text: str) -> Any:
    if _BARE.fullmatch(_STRINGS.sub("", text)) is None:
        raise ValueError("not a literal of strings, numbers and collections")
    return ast.literal_eval(text.strip())
