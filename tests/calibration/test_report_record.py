"""What the planner found as a file: what is written is read, and what is wrong is said."""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.calibration import report_record
from edge_sdk.calibration.outcome import Drop, Outcome
from edge_sdk.calibration.report_record import SCHEMA, SCHEMA_FILE, parse, read, record, write
from edge_sdk.errors import PlanError

from ..report.outcomes import CASES, Case, make_outcome  # noqa: TID252  there is no package of tests to name

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
SCHEMA_TEXT = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
BASE = json.dumps(record(make_outcome()))


def same(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes are alike, NaN too."""
    return json.dumps(record(one)) == json.dumps(record(other)) and type(one.candidates) is type(other.candidates)


def changed(*keys: Any, to: Any) -> str:
    """A good record's JSON with one value replaced; "drop" leaves it out."""
    made = json.loads(BASE)
    at = made
    for key in keys[:-1]:
        at = at[key]
    if to == "drop":
        del at[keys[-1]]
    else:
        at[keys[-1]] = to
    return json.dumps(made)


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_read_as_it_was(tmp_path: Path, case: Case) -> None:
    outcome = make_outcome(case)
    write(outcome, tmp_path / "report.json")
    found = read(tmp_path / "report.json")
    assert same(found, outcome)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_values_keep_their_types() -> None:
    outcome = make_outcome(cost={"method": "measured", "builds": 14})
    found = parse(json.dumps(record(outcome)))
    assert replace(found, photos=outcome.photos) == outcome  # the photos' lists come back as lists


def test_an_accuracy_without_an_interval_stays_one() -> None:
    found = parse(json.dumps(record(make_outcome("custom_metric"))))
    assert all(math.isnan(one.accuracy.low) for one in found.candidates if one.accuracy is not None)
    assert found.candidates[1].accuracy is not None
    assert found.metric == "counted people"


@pytest.mark.parametrize("case", CASES)
def test_a_record_is_of_its_schema(case: Case) -> None:
    jsonschema.Draft202012Validator(SCHEMA_TEXT).validate(json.loads(json.dumps(record(make_outcome(case)))))


def test_what_is_no_number_is_null() -> None:
    outcome = make_outcome(r2=math.nan, cost={"method": "measured", "error": np.float64("inf"), "n": np.int64(3)})
    found = record(outcome)
    assert (found["r2"], found["cost"]) == (None, {"method": "measured", "error": None, "n": 3})
    json.dumps(found, allow_nan=False)


@given(st.floats(-1e15, 1e15) | st.just(math.nan), st.text(), st.integers(0, 10**12))
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_any_figures_are_read_as_they_were(value: float, name: str, macs: int) -> None:
    made = make_outcome("one_group", photos={})
    row = replace(made.groups[0], gain_ms=value, macs=macs)
    outcome = replace(made, groups=(row,), notes=(name,), cost={name: value})
    assert same(parse(json.dumps(record(outcome), allow_nan=False)), outcome)


@pytest.mark.parametrize(
    ("keys", "to", "says"),
    [
        (("schema",), "drop", "it has no key 'schema'"),
        (("schema",), "edge-sdk/calibration/2", "is of schema edge-sdk/calibration/2; this version of edge-sdk reads"),
        (("pick", "name"), "hybrid 9", "pick.name: there is no candidate 'hybrid 9'"),
        (("pick", "met"), 1, "pick.met must be true or false, not 1"),
        (("extra",), 1, "unknown key extra; a later version"),
        (("groups", 3, "group", "nodes"), "drop", "no key groups[3].group.nodes"),
        (("groups", 3, "macs"), -1, "groups[3].macs: below 0"),
        (("groups", 3, "group", "precisions"), [], "groups[3].group.precisions: there is none"),
        (("groups", 3, "group", "precisions"), ["int3"], "groups[3].group.precisions[0] must be one of"),
        (("groups", 3, "swap"), [0.1], "groups[3].swap must be a list of 2, not of 1"),
        (("groups", 1, "group", "name"), "stem.0/conv", "groups: 'stem.0/conv' stands there twice"),
        (("candidates", 1, "name"), "float", "candidates: 'float' stands there twice"),
        (("candidates", 2, "mask"), [True], "candidates[2].mask: 1 positions for"),
        (("candidates", 2, "latency", "low"), 9.0, "candidates[2].latency: low is above high"),
        (("candidates", 2, "latency", "ms"), 0, "candidates[2].latency: a time is not above 0"),
        (("candidates", 2, "accuracy", "low"), 9.0, "candidates[2].accuracy: low is above high"),
        (("candidates", 2, "accuracy", "low"), None, "candidates[2].accuracy.low must be a number, not null"),
        (("candidates", 2, "accuracy"), [], "candidates[2].accuracy must be an object, not a list"),
        (("candidates",), {"a": 1}, "candidates must be a list, not an object"),
        (("candidates",), [None], "candidates[0] must be an object, not null"),
        (("plan", "choices", 0, "precision"), "int3", "plan.choices[0].precision must be one of"),
        (("plan", "schema"), 7, "plan schema 7 is not 1"),
        (("front",), [[1, "2"]], "front[0][1] must be a number"),
        (("r2",), 1e300, "r2 must be a finite number, of a size that occurs"),
    ],
)  # fmt: skip
def test_a_wrong_record_is_refused_by_its_key(keys: tuple[Any, ...], to: Any, says: str) -> None:
    with pytest.raises(PlanError) as raised:
        parse(changed(*keys, to=to))
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is no JSON"), (b"\xff\xfe", "is no JSON"), (b"[]", "no key 'schema'"),
        (b'{"schema": 1}', "no key 'schema'"), (b"[" * 100_000, "nested too deeply"),
        (BASE.replace("0.912", "NaN", 1).encode(), "NaN is no number"),
    ],
)  # fmt: skip
def test_what_is_no_record_at_all_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        parse(data)


def test_a_file_is_named_in_what_is_wrong_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(PlanError, match=r"report\.json: no such file"):
        read(path)
    path.write_text(BASE)
    monkeypatch.setattr(report_record, "MOST_BYTES", 1000)
    with pytest.raises(PlanError, match=r"report\.json: larger than the 0 MB that a record of a calibration may have"):
        read(path)


def test_two_writes_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write(make_outcome(), tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA_TEXT)
    assert SCHEMA_TEXT["properties"]["schema"] == {"description": "Version of this form.", "const": SCHEMA}


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (("extra",), 1), (("schema",), "2"), (("candidates", 0, "kind"), "guess"), (("candidates", 1, "mask", 0), 1),
        (("groups", 0, "macs"), 1.5), (("pairs", 0), ["a", "b"]), (("seconds", "photos"), "1"), (("front", 0, 0), None),
    ],
)  # fmt: skip
def test_what_is_no_record_is_not_of_the_schema(keys: tuple[Any, ...], to: Any) -> None:
    assert not jsonschema.Draft202012Validator(SCHEMA_TEXT).is_valid(json.loads(changed(*keys, to=to)))


def resolved(schema: Any) -> Any:
    """What a schema says, through its reference, and without the alternative null."""
    if "anyOf" in schema:
        schema = next(one for one in schema["anyOf"] if one != {"type": "null"})
    return SCHEMA_TEXT["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def may_be_null(schema: Any) -> bool:
    return {"type": "null"} in schema.get("anyOf", ()) or "null" in (schema.get("type") or ())


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
            yield from pairs(
                hints[field.name], resolved(schema)["properties"].get(field.name, {}), f"{at}.{field.name}"
            )
    elif typing.get_origin(hint) is tuple and args[-1] is Ellipsis:
        yield from pairs(args[0], resolved(schema).get("items", {}), f"{at}[]")
    elif typing.get_origin(hint) is tuple:
        for place, (one, said) in enumerate(zip(args, resolved(schema)["prefixItems"], strict=True)):
            yield from pairs(one, said, f"{at}[{place}]")
    elif typing.get_origin(hint) is Mapping and args[1] is not Any:
        yield from pairs(args[1], resolved(schema).get("additionalProperties", {}), f"{at}{{}}")


PAIRS = list(pairs(Outcome, SCHEMA_TEXT, "outcome"))
INTERVALS = ("accuracy.low", "accuracy.high")  # NaN where a metric has none


def test_schema_and_dataclasses_agree() -> None:
    assert len(PAIRS) > 80
    assert {field.name for field in fields(Drop)} >= {"low", "high"}
    for at, hint, schema in PAIRS:
        args = get_args(hint)
        optional = typing.get_origin(hint) in (Union, type(int | None))
        assert may_be_null(schema) == (optional or at.endswith(INTERVALS)), at
        own = next(one for one in args if one is not type(None)) if optional else hint
        said = resolved(schema)
        kinds = set([said["type"]] if isinstance(said.get("type"), str) else said.get("type", ())) - {"null"}
        if is_dataclass(own):
            top = {"schema"} if own is Outcome else set()
            assert set(said["properties"]) == {field.name for field in fields(own)} | top, at
            assert said["additionalProperties"] is False, at
            needed = {
                one.name for one in fields(own) if one.default is MISSING and one.default_factory is MISSING
            }  # fmt: skip
            assert set(said["required"]) == needed | top, at
            assert all(one["description"].endswith(".") for one in said["properties"].values()), at
        elif typing.get_origin(own) is Literal:
            assert said["enum"] == list(get_args(own)), at
        elif typing.get_origin(own) is tuple:
            assert kinds == {"array"}, at
        elif typing.get_origin(own) is Mapping:
            assert kinds == {"object"}, at
        else:
            assert kinds == {{float: "number", int: "integer", str: "string", bool: "boolean"}[own]}, at
