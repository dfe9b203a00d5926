"""Profiles as files: written whole, and read as what they are, text that anybody may have written.

What a key must hold is read off the dataclasses in `edge_sdk.measure.record`, so that reader and record cannot part.
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
from typing import Any, Literal, NoReturn, Union

from edge_sdk.errors import ProfileError, one_line
from edge_sdk.files import replacing
from edge_sdk.measure.record import SCHEMA, ChannelTrack, ConditionTrack, Figure, Profile, Throttle, Window
from edge_sdk.report import words

MOST_BYTES = 100 * 2**20
"""What a profile file may have: a run of 10 minutes at 50 Hz has some 5 MB."""

_MOST = 1e15  # what is larger is no figure of a profile, and sums of it are infinite
_SHOWN = 60  # characters of a wrong value in a message

SCHEMA_FILE = Path(__file__).with_name("profile.schema.json")
"""JSON Schema (draft 2020-12) of what `write_profile` writes."""


def write_profile(profile: Profile, path: Path) -> None:
    """Writes a profile as JSON, whole or not at all.

    Raises:
        SinkError: It cannot be written.
        ValueError: It holds a number that is none, which JSON has no word for.
    """
    text = json.dumps(profile.record(), allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def read_profile(path: Path) -> Profile:
    """Reads a profile that `write_profile`, or ``edge-sdk profile --json``, wrote.

    Raises:
        ProfileError: It cannot be read, is too large, or is no profile of a version that this one reads; says which key
            is wrong.
    """
    try:
        if not path.is_file():
            raise ProfileError(f"{path}: {'is no file' if path.exists() else 'no such file'}")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from error
    if len(data) > MOST_BYTES:
        raise ProfileError(f"{path}: larger than the {MOST_BYTES // 2**20} MB that a profile may have")
    try:
        return parse_profile(data)
    except ProfileError as error:
        raise ProfileError(f"{path}: {error}") from error


def parse_profile(data: bytes | str) -> Profile:
    """A profile out of its JSON.

    Raises:
        ProfileError: As of `read_profile`.
    """
    try:
        value = json.loads(data, parse_constant=_no_constant)
    except RecursionError as error:
        raise ProfileError("is no profile: nested too deeply") from error
    except ValueError as error:  # JSON's own, text that is no UTF-8, a number of too many digits
        raise ProfileError(f"is no JSON: {one_line(error)[:200]}") from error
    if not isinstance(value, dict) or not isinstance(value.get("schema"), str):
        raise ProfileError("is no profile: it has no key 'schema'")
    if value["schema"] != SCHEMA:
        shown = words.shortened(words.plain(value["schema"]), _SHOWN)
        raise ProfileError(f"is of schema {shown}; this version of edge-sdk reads {SCHEMA}")
    try:
        profile: Profile = _read(Profile, value, "")
    except RecursionError as error:
        raise ProfileError("is no profile: nested too deeply") from error
    _check(profile)
    return profile


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
            raise ProfileError(f"unknown key {_below(at, key)}; a later version of edge-sdk may have written it")
    for name, one in known.items():
        if name not in value and one.default is MISSING and one.default_factory is MISSING:
            raise ProfileError(f"no key {_below(at, name)}")
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
    raise ProfileError(f"{at} must be {wanted}, not {shown}")


def _check(profile: Profile) -> None:
    """What the types do not say."""
    for place, track in enumerate(profile.channels):
        _check_track(f"channels[{place}]", track, track.power_w, "power_w")
    for place, condition in enumerate(profile.conditions):
        _check_track(f"conditions[{place}]", condition, condition.values, "values")
    stretches: list[tuple[str, Throttle | Window]] = [
        (f"throttling[{i}]", one) for i, one in enumerate(profile.throttling)
    ]
    energy = profile.energy
    if energy is not None:
        stretches += [(f"energy.windows[{place}]", window) for place, window in enumerate(energy.windows)]
        for name in ("idle_w", "work_w", "gross_mj", "net_mj"):
            figure: Figure | None = getattr(energy, name)
            if figure is not None and not figure.low <= figure.value <= figure.high:
                raise ProfileError(f"energy.{name}: its value is not between low and high")
        if energy.rejected and (energy.gross_mj is not None or energy.net_mj is not None):
            raise ProfileError(
                "energy.rejected: a run that is rejected gives no energy per inference, and this one has some"
            )
    for at, stretch in stretches:
        if not stretch.start_s <= stretch.end_s:
            raise ProfileError(f"{at}: it ends before it starts")
    if any(one < 0 for one in profile.latency.times_ms):
        raise ProfileError("latency.times_ms: a time is negative")
    if profile.seconds < 0:
        raise ProfileError("seconds: the run has a negative length")


def _check_track(at: str, track: ChannelTrack | ConditionTrack, values: Sequence[float | None], name: str) -> None:
    if len(track.at_s) != len(values):
        raise ProfileError(f"{at}: {len(track.at_s)} times in at_s, but {len(values)} values in {name}")
    if any(later < earlier for earlier, later in zip(track.at_s, track.at_s[1:], strict=False)):
        raise ProfileError(f"{at}.at_s: the times do not rise")
