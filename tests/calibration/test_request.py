"""What is asked of the planner: checked before any work."""

from __future__ import annotations

import math

import pytest

from edge_sdk.calibration.request import DEFAULT_DROP, Request
from edge_sdk.errors import PlanError, UsageError

pytest.importorskip("onnx")
from edge_sdk.calibration.groups import Group

GROUPS = (
    Group("stem", ("stem/Conv", "stem/Mul"), ("int8", "fp32")),
    Group("body.0", ("body.0/Conv",), ("int8", "fp32")),
    Group("body.1", ("body.1/Conv",), ("int8", "fp32")),
    Group("decode", ("Exp_3",), ("fp32",), "it comes after the last weights"),
)


class TestBudgets:
    def test_nothing_asked_is_a_small_drop(self) -> None:
        assert Request().budgets == {"max_map_drop": DEFAULT_DROP}

    def test_are_what_was_asked_and_no_more(self) -> None:
        assert Request(max_latency_ms=12, max_size_mib=4).budgets == {"max_latency_ms": 12.0, "max_size_mib": 4.0}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"max_latency_ms": 0},
            {"max_latency_ratio": -1},
            {"max_size_mib": math.nan},
            {"time_budget_s": math.inf},
            {"max_map_drop": 1.5},
            {"max_map_drop": math.nan},
            {"count": 0},
            {"threads": 0},
        ],
    )
    def test_that_are_none_are_refused_by_name(self, wrong) -> None:
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Request(**wrong)


class TestPins:
    def test_take_names_patterns_and_names_of_nodes(self) -> None:
        found = Request(pins={"body.*": "fp32", "stem/Mul": "int8"}).settled_pins(GROUPS)
        assert found == {"body.0": "fp32", "body.1": "fp32", "stem": "int8"}

    def test_a_forbidden_precision_leaves_the_other(self) -> None:
        assert Request(forbid={"stem": "int8"}).settled_pins(GROUPS) == {"stem": "fp32"}

    def test_a_precision_that_a_group_does_not_have_may_be_forbidden(self) -> None:
        assert Request(forbid={"*": "fp16"}).settled_pins(GROUPS) == {}

    @pytest.mark.parametrize(
        ("request_", "said"),
        [
            (Request(pins={"bdy": "fp32"}), "no group or node 'bdy' to pin"),
            (Request(pins={"bod": "fp32"}), "near to it: body.0, body.1"),
            (Request(pins={"body.0": "fp32", "body.*": "int8"}), "pinned to fp32 and to int8"),
            (Request(pins={"stem": "int8"}, forbid={"*m": "int8"}), "which is forbidden"),
            (Request(forbid={"decode": "fp32"}), "can run in fp32 alone"),
        ],
    )
    def test_that_cannot_be_are_refused(self, request_, said) -> None:
        with pytest.raises(PlanError, match=said):
            request_.settled_pins(GROUPS)

    def test_of_a_precision_that_there_is_not_are_refused_at_once(self) -> None:
        with pytest.raises(UsageError, match="stem=int9"):
            Request(pins={"stem": "int9"})  # type: ignore[dict-item]
