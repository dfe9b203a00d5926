"""Gives every input of a model one shape, from the caller's where the model leaves axes open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from edge_sdk.errors import ModelError, UsageError

_Axes = tuple["int | str", ...]  # lengths, symbols, or empty where nothing is known


def fix_shapes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """Makes a model's inputs static, in place; shapes of other tensors that depended on them are left to inference.

    Args:
        model: Without initializers among its inputs.
        shapes: Of inputs that leave axes open. A symbol that stands in several inputs has one length in all of them. A
            first axis that alone is open is the batch, and 1 where nothing else is said.

    Returns:
        What was assumed, for people.

    Raises:
        ModelError: An axis stays open, or an input states no shape at all.
        UsageError: `shapes` names no input or contradicts the model.
    """
    open_axes = {value.name: _axes(value) for value in model.graph.input}
    for name in shapes:
        if name not in open_axes:
            raise UsageError(f"the model has no input {name!r}; it has {', '.join(open_axes)}")
    bound: dict[str, int] = {}
    for name, wanted in shapes.items():
        _bind(name, open_axes[name], tuple(wanted), bound)
    notes = []
    for value in model.graph.input:
        axes = open_axes[value.name]
        if all(isinstance(axis, int) for axis in axes):
            continue
        lengths = [axis if isinstance(axis, int) else bound.get(axis) for axis in axes]
        if value.name in shapes:
            lengths = list(shapes[value.name])
        if len(lengths) > 1 and lengths[0] is None and None not in lengths[1:]:
            lengths[0] = 1
            notes.append(f"the batch axis of {value.name!r} was open and is 1 now")
        if None in lengths:
            raise ModelError(
                f"the input {value.name!r} is {_text(axes)}, and a plan is for one shape: state it, as in "
                f"shapes={{{value.name!r}: (1, 3, 640, 640)}}, or export the model with it"
            )
        if any(not isinstance(axis, int) for axis in axes[1:]):
            notes.append(f"the input {value.name!r} was {_text(axes)}; the plan is for {lengths} alone")
        for axis, length in zip(value.type.tensor_type.shape.dim, lengths, strict=True):
            axis.dim_value = int(length or 0)
    if any(not isinstance(axis, int) for axes in open_axes.values() for axis in axes):
        _forget_inner_shapes(model)
    return tuple(notes)


def _axes(value: onnx.ValueInfoProto) -> _Axes:
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        raise ModelError(f"the input {value.name!r} states no shape; export the model with one")
    return tuple(
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else axis.dim_param
        for axis in value.type.tensor_type.shape.dim
    )


def _bind(name: str, axes: _Axes, wanted: tuple[int, ...], bound: dict[str, int]) -> None:
    said = f"the input {name!r} is {_text(axes)}, not {list(wanted)}"
    if len(axes) != len(wanted) or any(type(length) is not int or length < 1 for length in wanted):
        raise UsageError(said)
    for axis, length in zip(axes, wanted, strict=True):
        if isinstance(axis, int) and axis != length:
            raise UsageError(f"{said}: its shape is fixed")
        if isinstance(axis, str) and axis and bound.setdefault(axis, length) != length:
            raise UsageError(f"{said}: {axis!r} is {bound[axis]} elsewhere")


def _forget_inner_shapes(model: onnx.ModelProto) -> None:
    del model.graph.value_info[:]
    for value in model.graph.output:
        for axis in value.type.tensor_type.shape.dim:
            if not axis.HasField("dim_value"):
                axis.ClearField("value")


def _text(axes: _Axes) -> str:
    return f"[{', '.join(str(axis) or '?' for axis in axes)}]"
