"""Groups: every node in exactly one, joined as the engine's rules say, whatever the order of the file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import PlanError
from edge_sdk.plan import Plan

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_sdk.calibration.engines.onnxruntime_rules import OnnxRuntimeRules  # noqa: E402
from edge_sdk.calibration.graph import Graph, sorted_topologically  # noqa: E402
from edge_sdk.calibration.groups import Group, choices, make_groups, violations  # noqa: E402

from .engines.nets import Net, random_net  # noqa: E402

RULES = OnnxRuntimeRules()


def groups_of(net: Net, *outputs: str) -> tuple[Group, ...]:
    return make_groups(Graph(net.model(*outputs)), RULES)


def joined(groups: tuple[Group, ...], *names: str) -> bool:
    """Whether one group holds these nodes, all of them and no other."""
    return any(set(group.nodes) == set(names) for group in groups)


def plan(groups: tuple[Group, ...], **precisions: str) -> Plan:
    return Plan(1, "0", "generic-x86_64", choices(groups, "int8", but=precisions), {}, {})


class TestAModelsGroups:
    @given(st.integers(0, 10_000))
    @settings(max_examples=25)
    def test_hold_every_node_once_under_names_of_their_own(self, seed: int) -> None:
        graph = Graph(random_net(seed))
        groups = make_groups(graph, RULES)
        held = [node for group in groups for node in group.nodes]
        assert sorted(held) == sorted(node.name for node in graph.nodes)
        assert len({group.name for group in groups}) == len(groups)

    @given(st.integers(0, 10_000), st.randoms(use_true_random=False))
    @settings(max_examples=25)
    def test_are_the_same_for_every_order_of_the_nodes(self, seed: int, shuffler) -> None:
        model = random_net(seed)
        groups = make_groups(Graph(model), RULES)
        nodes = list(model.graph.node)
        shuffler.shuffle(nodes)
        given_ = [value.name for value in (*model.graph.input, *model.graph.initializer)]
        nodes = sorted_topologically(nodes, given_)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        assert make_groups(Graph(model), RULES) == groups

    @given(st.integers(0, 10_000))
    @settings(max_examples=25)
    def test_have_a_choice_or_a_reason(self, seed: int) -> None:
        for group in make_groups(Graph(random_net(seed)), RULES):
            assert group.precisions == (("int8", "fp32") if group.reason is None else ("fp32",))


class TestWhatSwitchesTogether:
    @pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
    def test_a_convolution_and_its_gated_activation(self, gate: str) -> None:
        net = Net()
        x = net.gated(net.conv("x", 8, 8, name="a"), gate, name="act")
        groups = groups_of(net, net.conv(x, 8, 8, name="b"))
        assert joined(groups, "a", "act/gate", "act")
        assert joined(groups, "b")

    @pytest.mark.parametrize("kind", ["Relu", "LeakyRelu", "HardSigmoid"])
    def test_a_convolution_and_its_plain_activation(self, kind: str) -> None:
        net = Net()
        x = net.op(kind, net.conv("x", 8, 8, name="a"), name="act")
        assert joined(groups_of(net, net.conv(x, 8, 8, name="b")), "a", "act")

    def test_not_a_convolution_whose_output_is_read_beside_the_activation(self) -> None:
        net = Net()
        a = net.conv("x", 8, 8, name="a")
        both = net.op("Add", net.op("Relu", a, name="act"), net.conv(a, 8, 8, name="c"), name="sum")
        groups = groups_of(net, net.conv(both, 8, 8, name="b"))
        assert joined(groups, "a")
        assert joined(groups, "act", "c", "sum")

    def test_an_addition_and_the_branch_that_ends_in_it_but_not_the_trunk(self) -> None:
        net = Net()
        trunk = net.op("Relu", net.conv("x", 8, 8, name="t"), name="tr")
        branch = net.conv(net.op("Relu", net.conv(trunk, 8, 8, name="b1"), name="b1r"), 8, 8, name="b2")
        total = net.op("Add", trunk, branch, name="sum")
        groups = groups_of(net, net.conv(total, 8, 8, name="next"))
        assert joined(groups, "t", "tr")
        assert joined(groups, "b2", "sum")

    def test_what_only_moves_values_and_what_made_them(self) -> None:
        net = Net()
        x = net.op("Relu", net.conv("x", 8, 8, name="a"), name="ar")
        x = net.op("MaxPool", x, name="pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = net.op("Transpose", x, name="turn", perm=[0, 1, 3, 2])
        assert joined(groups_of(net, net.conv(x, 8, 8, name="b")), "a", "ar", "pool", "turn")

    def test_what_moves_the_input_and_the_one_layer_that_reads_it(self) -> None:
        net = Net()
        x = net.op("Transpose", "x", name="turn", perm=[0, 1, 3, 2])
        assert joined(groups_of(net, net.conv(x, 8, 8, name="a")), "turn", "a")

    def test_a_concatenation_and_its_only_reader(self) -> None:
        net = Net()
        left, right = net.conv("x", 8, 8, name="l"), net.conv("x", 8, 8, name="r")
        both = net.op("Concat", left, right, name="both", axis=1)
        groups = groups_of(net, net.conv(both, 16, 8, name="b"))
        assert joined(groups, "both", "b")

    def test_a_concatenation_that_two_read_stands_alone(self) -> None:
        net = Net()
        left, right = net.conv("x", 8, 8, name="l"), net.conv("x", 8, 8, name="r")
        both = net.op("Concat", left, right, name="both", axis=1)
        groups = groups_of(net, net.conv(both, 16, 8, name="b"), net.conv(both, 16, 8, name="c"))
        assert joined(groups, "both")


class TestWhatStaysInFloat:
    @pytest.mark.parametrize(
        ("kind", "attributes", "reason"),
        [
            ("Softmax", {"axis": 1}, "no INT8 Softmax"),
            ("Tanh", {}, "no INT8 Tanh"),
            ("GridSample", {}, "no INT8 GridSample"),
        ],
    )
    def test_an_operator_without_a_kernel_says_so(self, kind: str, attributes: dict, reason: str) -> None:
        net = Net()
        inputs = ["x", "x"] if kind == "GridSample" else ["x"]
        groups = groups_of(net, net.conv(net.op(kind, *inputs, name="odd", **attributes), 8, 8, name="a"))
        odd = next(group for group in groups if "odd" in group.nodes)
        assert odd.precisions == ("fp32",)
        assert reason in (odd.reason or "")

    def test_decoding_after_the_last_weights(self) -> None:
        net = Net()
        scores = net.op("Sigmoid", net.conv("x", 8, 8, name="scores"), name="s")
        out = net.op("Concat", net.conv("x", 8, 4, name="boxes"), scores, name="all", axis=1)
        groups = groups_of(net, net.op("Transpose", out, name="turn", perm=[0, 2, 3, 1]))
        assert joined(groups, "scores")
        for name in ("s", "all", "turn"):
            assert "after the last weights" in (next(g for g in groups if name in g.nodes).reason or "")

    def test_but_not_the_last_hidden_activation(self) -> None:
        net = Net()
        groups = groups_of(net, net.gated(net.conv("x", 8, 8, name="a"), "Sigmoid", name="act"))
        assert joined(groups, "a", "act/gate", "act")
        assert groups[0].reason is None

    def test_a_convolution_whose_weights_the_model_computes(self) -> None:
        net = Net()
        weights = net.op("Tanh", net.constant(np.ones((8, 8, 1, 1), np.float32)), name="made")
        groups = groups_of(net, net.op("Conv", "x", weights, name="a"))
        assert next(g for g in groups if "a" in g.nodes).reason == "its weights are no constants"

    def test_a_clip_that_zero_does_not_pass(self) -> None:
        net = Net()
        x = net.op("Clip", net.conv("x", 8, 8, name="a"), net.constant(np.float32(1)), name="clip")
        groups = groups_of(net, net.conv(x, 8, 8, name="b"))
        assert next(g for g in groups if "clip" in g.nodes).reason == "its lower limit is not 0"


class TestNames:
    def test_follow_the_path_that_an_exporter_gave(self) -> None:
        net = Net()
        groups = groups_of(net, net.op("Relu", net.conv("x", 8, 8, name="/backbone/dark2/conv/Conv"), name="/r/Relu"))
        assert groups[0].name == "backbone/dark2/conv"

    def test_follow_the_weights_where_nodes_are_numbered(self) -> None:
        net = Net()
        groups = groups_of(net, net.conv("x", 8, 8, name="Conv_7", weights="backbone.dark2.0.conv.weight"))
        assert groups[0].name == "backbone.dark2.0/conv"

    def test_differ_where_two_would_be_the_same(self) -> None:
        net = Net()
        x = net.conv("x", 8, 8, name="/head/Conv")
        groups = groups_of(net, net.conv(x, 8, 8, name="/head/Conv_1"))
        assert [group.name for group in groups] == ["head//head/Conv", "head//head/Conv_1"]


class TestChoices:
    @pytest.fixture
    def groups(self) -> tuple[Group, ...]:
        net = Net()
        x = net.op("Relu", net.conv("x", 8, 8, name="a"), name="ar")
        return groups_of(net, net.op("Softmax", net.conv(x, 8, 8, name="b"), name="soft", axis=1))

    def test_leave_in_float_what_has_no_choice(self, groups: tuple[Group, ...]) -> None:
        assert {one.group: one.precision for one in choices(groups, "int8")} == {
            "a": "int8",
            "b": "int8",
            "soft": "fp32",
        }

    def test_take_exceptions(self, groups: tuple[Group, ...]) -> None:
        made = choices(groups, "fp32", but={"b": "int8"})
        assert [one.group for one in made if one.precision == "int8"] == ["b"]

    def test_refuse_what_a_group_cannot_do_with_its_reason(self, groups: tuple[Group, ...]) -> None:
        with pytest.raises(PlanError, match="'soft' cannot run in int8: ONNX Runtime has no INT8 Softmax"):
            choices(groups, "fp32", but={"soft": "int8"})
        with pytest.raises(PlanError, match="no group 'c'"):
            choices(groups, "fp32", but={"c": "int8"})

    def test_made_from_groups_violate_nothing(self, groups: tuple[Group, ...]) -> None:
        assert violations(plan(groups), groups) == ()

    def test_edited_by_hand_are_told_what_is_wrong(self, groups: tuple[Group, ...]) -> None:
        halves = plan(groups, b="fp32")
        others = {"a": ("a",), "ar": ("ar",), "soft": ("soft", "gone")}
        edited = Plan(
            1,
            "0",
            "generic-x86_64",
            tuple(
                type(halves.choices[0])(name, nodes, "fp32" if name == "a" else "int8")
                for name, nodes in others.items()
            ),
            {},
            {},
        )
        lines = violations(edited, groups)
        assert "the model has no node 'gone'" in lines[0]
        assert "'a' switches together, but the plan has a in fp32 and ar in int8" in lines[1]
        assert "'soft' cannot run in int8" in lines[2]
