"""Plans: written, read back, edited by hand, and held against what an engine runs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import edge_sdk
from edge_sdk.backends.base import Layer
from edge_sdk.errors import PlanError
from edge_sdk.plan import SCHEMA, Choice, Plan
from edge_sdk.targets import Precision

SCHEMA_FILE = Path(edge_sdk.plan.__file__).with_name("plan.schema.json")

PLAN = Plan(
    schema=SCHEMA,
    prepared_sha256="ab" * 32,
    target="raspberry-pi-5",
    choices=(Choice("stem", ("Conv_0", "Mul_1"), "fp16", True), Choice("body", ("Conv_2",), "int8")),
    ranges={"images": (0.0, 255.0)},
    provenance={"onnx": "1.18"},
)

names = st.text(min_size=1, max_size=8)
plans = st.builds(
    lambda groups, precisions, ranges: Plan(
        SCHEMA,
        "00",
        "generic-x86_64",
        tuple(
            Choice(g, (f"node of {g}",), p, i % 2 == 0)
            for i, (g, p) in enumerate(zip(groups, precisions, strict=False))
        ),
        {name: (min(pair), max(pair)) for name, pair in ranges.items()},
        {},
    ),
    st.lists(names, unique=True, max_size=6),
    st.lists(st.sampled_from(get_args(Precision)), min_size=6, max_size=6),
    st.dictionaries(names, st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=5),
)


@given(plans)
def test_what_is_saved_is_what_is_loaded(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    plan.save(path)
    assert Plan.load(path) == plan
    assert [file.name for file in path.parent.iterdir()] == ["plan.json"]


# --- the schema -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    text = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(text)
    return jsonschema.Draft202012Validator(text)


@given(plan=plans)
def test_what_is_saved_is_as_the_schema_says(tmp_path_factory: pytest.TempPathFactory, schema: Any, plan: Plan) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    plan.save(path)
    schema.validate(json.loads(path.read_text(encoding="utf-8")))


def test_the_schema_is_of_this_version_and_knows_every_precision(schema: Any) -> None:
    assert schema.schema["properties"]["schema"]["const"] == SCHEMA
    assert schema.schema["$id"] == f"urn:edge-sdk:plan:{SCHEMA}"
    choice = schema.schema["$defs"]["choice"]
    assert sorted(choice["properties"]["precision"]["enum"]) == sorted(get_args(Precision))
    assert sorted(choice["required"]) == sorted(field.name for field in fields(Choice))
    assert sorted(schema.schema["required"]) == sorted(field.name for field in fields(Plan))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("target"),
        lambda t: t.update(colour="red"),
        lambda t: t.update(schema=99),
        lambda t: t.update(schema="1"),
        lambda t: t.update(target=None),
        lambda t: t["choices"][0].update(precision="int3"),
        lambda t: t["choices"][0].update(pinned="yes"),
        lambda t: t["choices"][0].update(nodes="Conv_0"),
        lambda t: t["choices"][0].update(nodes=[1]),
        lambda t: t["choices"][0].pop("pinned"),
        lambda t: t["ranges"].update(images=[1]),
        lambda t: t["ranges"].update(images=[1, "2"]),
        lambda t: t["ranges"].update(images=[True, 2]),
        lambda t: t["provenance"].update(onnx=1),
        lambda t: t.update(choices={}),
    ],
)
def test_the_schema_refuses_what_is_refused_when_it_is_read(tmp_path: Path, schema: Any, change) -> None:
    table = json.loads(json.dumps(asdict(PLAN)))
    assert schema.is_valid(table)
    change(table)
    assert not schema.is_valid(table)
    (tmp_path / "plan.json").write_text(json.dumps(table))
    with pytest.raises(PlanError):
        Plan.load(tmp_path / "plan.json")


# --- edits ----------------------------------------------------------------------------------------


@given(plan=plans, data=st.data())
def test_an_edit_in_python_is_the_edit_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, plan: Plan, data: st.DataObject
) -> None:
    assume(plan.choices)
    place = data.draw(st.integers(0, len(plan.choices) - 1))
    precision = data.draw(st.sampled_from(get_args(Precision)))
    table = json.loads(json.dumps(asdict(plan)))
    table["choices"][place] |= {"precision": precision, "pinned": True}
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    path.write_text(json.dumps(table))
    edited = plan.with_choice(plan.choices[place].group, precision)
    assert edited == Plan.load(path)
    assert edited.pins[plan.choices[place].group] == precision
    assert edited.with_choice(plan.choices[place].group, precision, pinned=False).pins.keys() == plan.pins.keys() - {
        plan.choices[place].group
    }


def test_pins_are_what_is_pinned() -> None:
    assert PLAN.pins == {"stem": "fp16"}
    assert PLAN.with_choice("body", "fp32").pins == {"stem": "fp16", "body": "fp32"}


def test_a_group_that_is_not_there_is_named_with_those_near_it() -> None:
    with pytest.raises(PlanError, match=r"no group 'steam'; did you mean stem\?"):
        PLAN.with_choice("steam", "int8")
    with pytest.raises(PlanError, match=r"no group 'xyz'; it has 2 groups"):
        PLAN.with_choice("xyz", "int8")
    with pytest.raises(PlanError, match="precision 'int3' is none of"):
        PLAN.with_choice("stem", "int3")  # type: ignore[arg-type]


@given(plan=plans)
def test_the_hash_is_of_the_content_and_not_of_its_layout(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    backwards = dict(reversed(list(asdict(plan).items())))
    path.write_text(json.dumps(backwards, indent=7))
    assert Plan.load(path).sha256 == plan.sha256
    for choice in plan.choices:
        other: Precision = "fp32" if choice.precision == "int8" else "int8"
        assert plan.with_choice(choice.group, other, pinned=choice.pinned).sha256 != plan.sha256


def test_a_choice_edited_by_hand_is_read(tmp_path: Path) -> None:
    table = json.loads(json.dumps(asdict(PLAN)))
    table["choices"][1] |= {"precision": "fp32", "pinned": True}
    (tmp_path / "plan.json").write_text(json.dumps(table))
    assert Plan.load(tmp_path / "plan.json").choices[1] == Choice("body", ("Conv_2",), "fp32", True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("target"), "missing key 'target'"),
        (lambda t: t.update(colour="red"), "unknown key 'colour'"),
        (lambda t: t.update(schema=99), "plan schema 99 is not 1"),
        (lambda t: t["choices"][0].update(precision="int3"), "precision 'int3' is none of"),
        (lambda t: t["choices"][0].update(pinned="yes"), "pinned must be a bool"),
        (lambda t: t["choices"][0].update(nodes="Conv_0"), "nodes must be a list"),
        (lambda t: t["choices"][1].update(group="stem"), "group 'stem' stands in the plan twice"),
        (lambda t: t["choices"][1].update(nodes=["Conv_0"]), "node 'Conv_0' is in the groups 'stem' and 'body'"),
        (lambda t: t["ranges"].update(images=[1]), "must be two numbers"),
        (lambda t: t["ranges"].update(images=[2, 1]), "2.0 to 1.0 is no range"),
        (lambda t: t["ranges"].update(images=[0, math.nan]), "is no range"),
        (lambda t: t["ranges"].update(images=[0, 10**400]), "a number is too large"),
        (lambda t: t["provenance"].update(onnx=1), "provenance must hold texts"),
    ],
)
def test_a_broken_plan_is_refused_with_the_place(tmp_path: Path, change, says: str) -> None:
    table = json.loads(json.dumps(asdict(PLAN)))
    change(table)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(table))
    with pytest.raises(PlanError, match=says) as caught:
        Plan.load(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("text", ["", "[]", "not json", "[" * 100_000, '"plan"'])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(PlanError):
        Plan.load(tmp_path / "plan.json")


def test_a_missing_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"none\.json"):
        Plan.load(tmp_path / "none.json")


def test_layers_that_run_otherwise_are_named_and_silent_ones_are_not_judged() -> None:
    layers = [
        Layer(("Conv_0", "Mul_1"), "cpu", "fp16", 0.1),
        Layer(("Conv_2",), "cpu", "fp32", 0.1),
        Layer(("Conv_2",), "cpu", None, 0.1),
        Layer(("Reorder",), "cpu", "fp32", 0.1),
    ]
    assert PLAN.differences(layers) == ("Conv_2: planned int8, runs in fp32",)


def test_a_fused_layer_across_two_precisions_is_a_difference() -> None:
    assert PLAN.differences([Layer(("Mul_1", "Conv_2"), "gpu", "int8", None)]) == (
        "Mul_1, Conv_2: planned fp16 and int8, runs in int8",
    )
