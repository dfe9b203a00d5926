"""Shapes that a model leaves open."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edge_sdk.errors import ModelError, UsageError

onnx = pytest.importorskip("onnx")

from edge_sdk.calibration.static import fix_shapes  # noqa: E402

from .rewrites.small import Small  # noqa: E402


def taking(**inputs: Sequence[int | str | None]) -> onnx.ModelProto:
    net = Small()
    for name in inputs:
        net.add("Relu", name)
    return net.model({"t0": [None] * len(next(iter(inputs.values())))}, dict(inputs))


def shapes_of(model: onnx.ModelProto) -> list[list[int]]:
    return [[axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in model.graph.input]


class TestOpenShapes:
    def test_take_the_callers(self) -> None:
        model = taking(x=(1, 3, "height", "width"))
        (note,) = fix_shapes(model, {"x": (1, 3, 320, 416)})
        assert note == "the input 'x' was [1, 3, height, width]; the plan is for [1, 3, 320, 416] alone"
        assert shapes_of(model) == [[1, 3, 320, 416]]

    def test_of_one_symbol_are_one_length_in_all_inputs(self) -> None:
        model = taking(x=("n", 3, 8, 8), y=("n", 2))
        fix_shapes(model, {"x": (4, 3, 8, 8)})
        assert shapes_of(model) == [[4, 3, 8, 8], [4, 2]]

    def test_of_the_batch_alone_are_one_and_that_is_said(self) -> None:
        model = taking(x=("batch", 3, 8, 8))
        assert fix_shapes(model, {}) == ("the batch axis of 'x' was open and is 1 now",)
        assert shapes_of(model) == [[1, 3, 8, 8]]

    @pytest.mark.parametrize("shape", [(1, 3, "height", "width"), (1, 3, None, 8), ("n",)])
    def test_that_nobody_states_are_asked_for(self, shape: Sequence[int | str | None]) -> None:
        with pytest.raises(ModelError, match=r"shapes=\{'x'"):
            fix_shapes(taking(x=shape), {})

    @pytest.mark.parametrize(
        ("shapes", "said"),
        [
            ({"y": (1,)}, "no input 'y'; it has x"),
            ({"x": (1, 3, 8)}, r"not \[1, 3, 8\]"),
            ({"x": (1, 3, 8, 9)}, "fixed"),
            ({"x": (0, 3, 8, 8)}, r"not \[0, 3"),
            ({"x": (2.0, 3, 8, 8)}, r"not \[2.0, 3"),
        ],
    )
    def test_that_contradict_the_model_are_refused(self, shapes: dict[str, tuple[int, ...]], said: str) -> None:
        with pytest.raises(UsageError, match=said):
            fix_shapes(taking(x=("n", 3, 8, 8)), shapes)

    def test_that_contradict_each_other_are_refused(self) -> None:
        with pytest.raises(UsageError, match="'n' is 4 elsewhere"):
            fix_shapes(taking(x=("n", 3), y=("n", 2)), {"x": (4, 3), "y": (5, 2)})
