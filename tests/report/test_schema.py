"""The schema of a profile says what profiles are."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args

import pytest
from hypothesis import HealthCheck, given, settings

from edge_sdk.measure.record import SCHEMA, Profile
from edge_sdk.report.read import SCHEMA_FILE

from .profiles import KINDS, make_profile, shortened
from .strategies import profiles

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
SCHEMA_TEXT = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


def validator() -> Any:
    return jsonschema.Draft202012Validator(SCHEMA_TEXT)


def resolved(schema: Any) -> Any:
    """What a schema says, through its reference, and without the alternative null."""
    if "anyOf" in schema:
        schema = next(one for one in schema["anyOf"] if one != {"type": "null"})
    return SCHEMA_TEXT["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def may_be_null(schema: Any) -> bool:
    return {"type": "null"} in schema.get("anyOf", ()) or "null" in (schema.get("type") or ())


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA_TEXT)
    assert SCHEMA_TEXT["properties"]["schema"] == {"description": "Version of this form.", "const": SCHEMA}


@pytest.mark.parametrize("kind", KINDS)
def test_profiles_are_valid(kind: Any) -> None:
    validator().validate(json.loads(json.dumps(shortened(make_profile(kind)).record())))


@given(profiles)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_any_profile_is_valid(profile: Any) -> None:
    validator().validate(json.loads(json.dumps(profile.record())))


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (("extra",), 1), (("energy", "extra"), 1), (("energy", "windows", 0, "extra"), 1), (("schema",), "2"),
        (("energy", "method"), "guess"), (("seconds",), "1"), (("latency", "times_ms", 0), None),
        (("channels", 0, "power_w", 0), "5 W"), (("latency", "queries"), 1.5), (("conditions", 0, "unit"), "k"),
    ],
)  # fmt: skip
def test_what_is_no_profile_is_not_valid(keys: tuple[Any, ...], to: Any) -> None:
    record = json.loads(json.dumps(shortened(make_profile()).record()))
    at = record
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = to
    assert not validator().is_valid(record)


def pairs(hint: Any, schema: Any, at: str) -> Iterator[tuple[str, Any, Any]]:
    """(where, type hint, schema) of everything in a dataclass."""
    yield at, hint, schema
    args = get_args(hint)
    if typing.get_origin(hint) in (Union, type(int | None)):
        (own,) = (one for one in args if one is not type(None))
        yield from list(pairs(own, schema, at))[1:]
    elif is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        for field in fields(hint):
            inner = resolved(schema)["properties"].get(field.name, {})
            yield from pairs(hints[field.name], inner, f"{at}.{field.name}")
    elif typing.get_origin(hint) in (tuple, Sequence):
        yield from pairs(args[0], resolved(schema).get("items", {}), f"{at}[]")
    elif typing.get_origin(hint) is Mapping and args[1] is not Any:
        yield from pairs(args[1], resolved(schema).get("additionalProperties", {}), f"{at}{{}}")


PAIRS = list(pairs(Profile, SCHEMA_TEXT, "profile"))


@pytest.mark.parametrize(("at", "hint", "schema"), PAIRS, ids=[at for at, _, _ in PAIRS])
def test_schema_and_dataclasses_agree(at: str, hint: Any, schema: Any) -> None:
    args = get_args(hint)
    optional = typing.get_origin(hint) in (Union, type(int | None))
    assert may_be_null(schema) == optional, at
    own = next(one for one in args if one is not type(None)) if optional else hint
    said = resolved(schema)
    kinds = set([said["type"]] if isinstance(said.get("type"), str) else said.get("type", ())) - {"null"}
    if is_dataclass(own):
        names = [field.name for field in fields(own)]
        assert sorted(said["properties"]) == sorted(names)
        assert said["additionalProperties"] is False
        needed = [one.name for one in fields(own) if one.default is MISSING and one.default_factory is MISSING]
        assert sorted(said["required"]) == sorted({*needed, *({"schema"} & set(names))})
    elif typing.get_origin(own) is Literal:
        assert said["enum"] == list(get_args(own))
    elif typing.get_origin(own) in (tuple, Sequence):
        assert kinds == {"array"}
    elif typing.get_origin(own) is Mapping:
        assert kinds == {"object"}
    elif at != "profile.schema":
        assert kinds == {{float: "number", int: "integer", str: "string", bool: "boolean"}[own]}


def test_every_figure_says_its_unit() -> None:
    units = {"_w": "W", "_mj": "mJ", "_ms": "ms", "_s": " s", "_j": "J", "_hz": "Hz", "_percent": "%"}
    for owner in [SCHEMA_TEXT, *SCHEMA_TEXT["$defs"].values()]:
        for name, said in owner.get("properties", {}).items():
            unit = next((unit for end, unit in units.items() if name.endswith(end)), None)
            if unit is not None:
                assert unit in said["description"], name
            elif name not in ("latency", "method"):
                assert said.get("description", "").endswith("."), name
