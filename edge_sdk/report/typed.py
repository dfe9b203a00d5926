"""JSON that anybody may have written, read as the dataclass that it should be.

What a key must hold is read off the dataclass's type hints, so that reader and record cannot part.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union

from edge_sdk.errors import one_line
from edge_sdk.report import words

Kind = TypeVar("Kind")

_MOST = 1e15  # what is larger is no figure of a report, and sums of it are infinite
_SHOWN = 60  # characters of a wrong value in a message


class FormError(ValueError):
    """A file does not hold what it should; who reads it says it with an error of the SDK."""


def bytes_of(path: Path, most: int, what: str) -> bytes:
    """A file's bytes.

    Args:
        path: Of the file.
        most: Bytes that it may have.
        what: That it should be, "profile".

    Raises:
        FormError: It is not there, cannot be read, or is larger; the message does not name it.
    """
    try:
        if not path.is_file():
            raise FormError("is no file" if path.exists() else "no such file")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise FormError(f"cannot be read: {error.strerror or one_line(error)}") from error
    if len(data) > most:
        raise FormError(f"larger than the {most // 2**20} MB that a {what} may have")
    return data


def table_of(data: bytes | str, schema: str, what: str) -> dict[str, Any]:
    """The object that a JSON text holds.

    Args:
        data: The text.
        schema: What its key "schema" must be.
        what: That it should be, "profile".

    Raises:
        FormError: It is no JSON, no object, or of another schema.
    """
    try:
        value = json.loads(data, parse_constant=_no_constant)
    except RecursionError as error:
        raise FormError(f"is no {what}: nested too deeply") from error
    except ValueError as error:  # JSON's own, text that is no UTF-8, a number of too many digits
        raise FormError(f"is no JSON: {one_line(error)[:200]}") from error
    if not isinstance(value, dict) or not isinstance(value.get("schema"), str):
        raise FormError(f"is no {what}: it has no key 'schema'")
    if value["schema"] != schema:
        shown = words.shortened(words.plain(value["schema"]), _SHOWN)
        raise FormError(f"is of schema {shown}; this version of edge-sdk reads {schema}")
    return value


def made(kind: type[Kind], value: Mapping[str, Any], what: str) -> Kind:
    """A dataclass out of an object of JSON.

    Raises:
        FormError: A key is missing, not known, or holds something else; the message names it.
    """
    try:
        found: Kind = _read(kind, value, "")
    except RecursionError as error:
        raise FormError(f"is no {what}: nested too deeply") from error
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _read(hint: Any, value: Any, at: str) -> Any:  # noqa: PLR0911  one a kind of hint
    """A value of JSON as what a type hint says."""
    if is_dataclass(hint):
        return _dataclass(hint, value, at)
    if hint is Any:
        return _anything(value, at)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (own,) = (one for one in inner if one is not type(None))
        return _read(own, value, at)
    if origin is Literal:
        return value if isinstance(value, str) and value in inner else _wrong(at, f"one of {', '.join(inner)}", value)
    if origin in (tuple, Sequence):
        if not isinstance(value, list):
            _wrong(at, "a list", value)
        if origin is tuple and inner[-1] is not Ellipsis:
            if len(value) != len(inner):
                raise FormError(f"{at} must be a list of {len(inner)}, not of {len(value)}")
            pairs = enumerate(zip(inner, value, strict=True))
            return tuple(_read(own, one, f"{at}[{place}]") for place, (own, one) in pairs)
        if inner[0] is float:  # by far the longest lists
            return tuple(_number(one, at, place) for place, one in enumerate(value))
        return tuple(_read(inner[0], one, f"{at}[{place}]") for place, one in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, dict):
            _wrong(at, "an object", value)
        return {key: _read(inner[1], one, _below(at, key)) for key, one in value.items()}
    return _plain(hint, value, at)


def _dataclass(kind: Any, value: Any, at: str) -> Any:
    if not isinstance(value, dict):
        _wrong(at or "the file", "an object", value)
    known = {one.name: one for one in fields(kind)}
    for key in value:
        if key not in known:
            raise FormError(f"unknown key {_below(at, key)}; a later version of edge-sdk may have written it")
    for name, one in known.items():
        if name not in value and one.default is MISSING and one.default_factory is MISSING:
            raise FormError(f"no key {_below(at, name)}")
    hints = _hints(kind)
    return kind(**{key: _read(hints[key], one, _below(at, key)) for key, one in value.items()})


def _plain(hint: Any, value: Any, at: str) -> Any:
    if hint is float:
        return _number(value, at)
    wanted = {int: "a whole number", bool: "true or false", str: "a text"}[hint]
    if type(value) is not hint or (hint is int and abs(value) > _MOST):
        _wrong(at, wanted, value)
    return value


def _number(value: Any, at: str, place: int | None = None) -> float:
    at = at if place is None else f"{at}[{place}]"
    if type(value) not in (int, float):
        _wrong(at, "a number", value)
    if not abs(value) <= _MOST:
        _wrong(at, "a finite number, of a size that occurs", value)
    return float(value)


def _anything(value: Any, at: str) -> Any:
    """What JSON can hold; its numbers are finite."""
    if isinstance(value, dict):
        return {key: _anything(one, _below(at, key)) for key, one in value.items()}
    if isinstance(value, list):
        return [_anything(one, f"{at}[{place}]") for place, one in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        _wrong(at, "a finite number", value)
    return value


def _below(at: str, key: str) -> str:
    shown = words.shortened(words.plain(key), _SHOWN)
    return f"{at}.{shown}" if at else shown


def _wrong(at: str, wanted: str, value: Any) -> NoReturn:
    shown = (
        "null"
        if value is None
        else "a list"
        if isinstance(value, list)
        else "an object"
        if isinstance(value, dict)
        else None
    )
    if shown is None:
        shown = words.shortened(words.plain(json.dumps(value)), _SHOWN)
    raise FormError(f"{at} must be {wanted}, not {shown}")
