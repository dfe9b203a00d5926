"""TFLite files, on ``ai-edge-litert`` or on ``tflite-runtime`` where that is what the board has."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from edge_sdk.backends.base import (
    Array,
    Feeds,
    Layer,
    TensorSpec,
    cores,
    count_of,
    first_bytes,
    fits,
    looks_like,
    zeroed_feeds,
)
from edge_sdk.backends.tflite_metadata import read_metadata
from edge_sdk.errors import BackendError, EdgeSdkError, ModelError, UsageError, extra_hint, one_line
from edge_sdk.targets import Precision, Target

# The same interface under its new and its old name.
_PACKAGES = ("ai_edge_litert", "tflite_runtime")

_DELEGATES = "the delegate is 'xnnpack', 'none' or the path of an external delegate's library"

# Operators that compute nothing: they carry values from one type to another.
_CONVERSIONS = ("CAST", "QUANTIZE", "DEQUANTIZE")

_PRECISIONS: dict[str, Precision] = {
    "float32": "fp32",
    "float16": "fp16",
    "int8": "int8",
    "uint8": "int8",
    "int16": "a16w8",
}


class TfliteSession:
    """A TFLite interpreter behind the session protocol; each feeds has output arrays of its own."""

    def __init__(self, interpreter: Any, graph: _Graph, active: str, metadata: Mapping[str, str]) -> None:
        self._interpreter = interpreter
        self._graph = graph
        self.active = active
        self.metadata = metadata
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        self.inputs = tuple(_spec(detail) for detail in inputs)
        stored = tuple(_spec(detail) for detail in outputs)
        # Outputs are handed out as real values, whatever they are stored as.
        self.outputs = tuple(
            spec if spec.quantization is None else replace(spec, dtype=np.dtype(np.float32), quantization=None)
            for spec in stored
        )
        self._index = {spec.name: int(detail["index"]) for spec, detail in zip(self.inputs, inputs, strict=True)}
        self._shapes = {
            spec.name: tuple(map(int, detail["shape"])) for spec, detail in zip(self.inputs, inputs, strict=True)
        }
        self._outputs = [
            (spec.name, int(detail["index"]), spec.quantization) for spec, detail in zip(stored, outputs, strict=True)
        ]
        self._written: WeakKeyDictionary[Feeds, dict[str, Array]] = WeakKeyDictionary()

    def new_feeds(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Array]:
        return zeroed_feeds(self.inputs, shapes)

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        interpreter = self._interpreter  # kept while it runs, should another thread close the session
        if interpreter is None:
            raise BackendError("tflite: the session is closed")
        if feeds.keys() != self._index.keys():
            raise BackendError(f"tflite: the inputs are {', '.join(self._index)}, not {', '.join(feeds) or 'none'}")
        try:
            self._resize(interpreter, feeds)
            for name, array in feeds.items():
                interpreter.set_tensor(self._index[name], array)
            interpreter.invoke()
            written = self._written.setdefault(feeds, {}) if isinstance(feeds, Feeds) else {}
            for name, index, stored in self._outputs:
                written[name] = _real(interpreter.tensor(index)(), stored, written.get(name))
            return dict(written)
        except EdgeSdkError:
            raise
        except Exception as error:
            raise BackendError(f"tflite: inference failed: {one_line(error)}") from error

    def _resize(self, interpreter: Any, feeds: Mapping[str, Array]) -> None:
        """Gives open axes the lengths of what is fed; the interpreter plans its memory anew where one changed."""
        changed = {name: array.shape for name, array in feeds.items() if array.shape != self._shapes[name]}
        if not changed:
            return
        for spec in self.inputs:
            if spec.name in changed and not fits(spec.shape, changed[spec.name]):
                raise BackendError(
                    f"tflite: input {spec.name!r} has the shape {list(spec.shape)}, not {list(changed[spec.name])}"
                )
        self._shapes.update(dict.fromkeys(changed, ()))  # of no use until all is planned
        for name, shape in changed.items():
            interpreter.resize_tensor_input(self._index[name], shape, strict=True)
        interpreter.allocate_tensors()
        self._shapes.update(changed)

    def layers(self) -> Sequence[Layer]:
        """The file's operators and where each runs; the Python interpreter gives no times.

        ``precision`` is that of the tensors in the file. It is None for operators on shapes, for conversions between
        types, for operators with 8-bit weights between float activations (the kernel decides what it computes in), and
        for what an external delegate took: none of them says.
        """
        if self._interpreter is None:
            raise BackendError("tflite: the session is closed")
        try:
            return self._graph.layers(self._interpreter)
        except Exception as error:
            raise BackendError(f"tflite: the operators cannot be read: {one_line(error)}") from error

    def close(self) -> None:
        self._written.clear()
        self._interpreter = None

    def __enter__(self) -> TfliteSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class TfliteBackend:
    """Opens .tflite files.

    Options:
        delegate: ``xnnpack`` (must become active), ``none`` (built-in kernels), or the path of an external delegate's
            shared library, which must take part of the model; XNNPACK may take from the rest. The default is whatever
            the runtime applies by itself. `Session.active` says which took how many operators.

    Any other option goes to the external delegate.
    """

    name = "tflite"
    part_option = "delegate"
    suffixes: tuple[str, ...] = (".tflite",)

    def missing(self) -> str | None:
        try:
            _import()
        except BackendError as error:
            return str(error)
        return None

    def version(self) -> str | None:
        from importlib.metadata import PackageNotFoundError, version

        if self.missing():
            return None
        _, package = _import()
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return package

    def open(self, model: Path, target: Target, *, threads: int | None, options: Mapping[str, str]) -> TfliteSession:
        runtime, package = _import()
        wanted = dict(options)
        delegate = wanted.pop("delegate", None)
        if delegate == "":
            raise UsageError(f"tflite: {_DELEGATES}")
        external = delegate if delegate not in (None, "xnnpack", "none") else None
        if wanted and external is None:
            raise UsageError(f"tflite: no option {min(wanted)!r}; options beside 'delegate' go to an external one")
        count = threads if threads is not None else cores()
        head = first_bytes(model)
        if head[4:8] != b"TFL3":
            raise ModelError(f"{model}: not a TFLite file: {looks_like(head, model.suffix)}")
        arguments: dict[str, Any] = {"model_path": str(model), "num_threads": count}
        if delegate == "none":
            arguments["experimental_op_resolver_type"] = runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        elif external is not None:
            arguments["experimental_delegates"] = [_load_delegate(runtime, external, wanted)]
        try:
            interpreter = runtime.Interpreter(**arguments)
            # The runtime adds XNNPACK while it allocates: what is delegated before that is the external one's.
            mine = len(_Graph.of(interpreter, external, 0).delegate_calls)
            interpreter.allocate_tensors()
            graph = _Graph.of(interpreter, external, mine)
            active = f"{graph.describe()}, {count_of(count, 'thread')} ({package})"
            session = TfliteSession(interpreter, graph, active, read_metadata(model))
        except EdgeSdkError:
            raise
        except Exception as error:
            raise _open_error(model, head, package, external, error) from error
        if (external is not None and not mine) or (delegate == "xnnpack" and not graph.delegate_calls):
            session.close()
            raise BackendError(
                f"{model}: the delegate {delegate!r} was asked for, but took no part of the model; active became "
                f"{active}"
            )
        return session


@dataclass(frozen=True)
class _Operator:
    name: str
    inputs: tuple[int, ...]  # tensors by index; -1 where an optional one is left out
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class _Graph:
    """A model's operators in the order of the file, and the calls of delegates that took some of them.

    A delegate adds an operator DELEGATE for each run of operators that it took; those stay listed.
    """

    operators: tuple[_Operator, ...]
    delegate_calls: tuple[_Operator, ...]
    external: str | None  # the external delegate's library
    external_calls: int  # how many of the calls are its; they come first

    @classmethod
    def of(cls, interpreter: Any, external: str | None, external_calls: int) -> _Graph:
        wrapper = interpreter._interpreter  # _get_ops_details asks for every tensor's details too: slow
        operators = [
            _Operator(wrapper.NodeName(i), _indices(wrapper.NodeInputs(i)), _indices(wrapper.NodeOutputs(i)))
            for i in range(wrapper.NumNodes())
        ]
        calls = tuple(operator for operator in operators if operator.name == "DELEGATE")
        own = tuple(operator for operator in operators if operator.name != "DELEGATE")
        return cls(own, calls, external, external_calls)

    @cached_property
    def owners(self) -> tuple[str | None, ...]:
        """For each operator the delegate that took it: ``XNNPACK``, the external one's name, or None."""
        writer = {tensor: i for i, operator in enumerate(self.operators) for tensor in operator.outputs}
        owners: list[str | None] = [None] * len(self.operators)
        for number, call in enumerate(self.delegate_calls):
            owner = Path(str(self.external)).name if number < self.external_calls else "XNNPACK"
            fed = set(call.inputs)
            pending = list(call.outputs)
            while pending:  # from what the call writes back to what it is fed
                i = writer.get(tensor) if (tensor := pending.pop()) not in fed else None
                if i is not None and owners[i] is None:
                    owners[i] = owner
                    pending += self.operators[i].inputs
        return tuple(owners)

    def describe(self) -> str:
        """``XNNPACK 620 of 622 operators, built-in kernels the rest``."""
        total = len(self.operators)
        taken = [name for name in dict.fromkeys(self.owners) if name is not None]
        if not taken:
            return "built-in kernels"
        shares = [(name, self.owners.count(name)) for name in taken]
        if shares == [(taken[0], total)]:
            return taken[0]
        said = ", ".join(f"{name} {count} of {total} operators" for name, count in shares)
        return said + (", built-in kernels the rest" if None in self.owners else "")

    def layers(self, interpreter: Any) -> list[Layer]:
        tensors = {int(detail["index"]): detail for detail in interpreter.get_tensor_details()}
        found = []
        for operator, owner in zip(self.operators, self.owners, strict=True):
            read = [np.dtype(tensors[i]["dtype"]).name for i in operator.inputs if i in tensors]
            written = [tensors[i] for i in operator.outputs if i in tensors]
            if not written:
                continue
            foreign = owner not in (None, "XNNPACK")
            precision = None if foreign else _precision(operator.name, read, np.dtype(written[0]["dtype"]).name)
            names = tuple(str(tensor["name"]) for tensor in written)
            found.append(Layer(names, str(owner) if foreign else "cpu", precision, None))
        return found


def _precision(operator: str, read: list[str], written: str) -> Precision | None:
    if operator in _CONVERSIONS or (written == "float32" and ("int8" in read or "uint8" in read)):
        return None  # the latter: float activations, 8-bit weights
    return _PRECISIONS.get(written)


def _indices(tensors: Any) -> tuple[int, ...]:
    return tuple(int(index) for index in tensors)


def _import() -> tuple[Any, str]:
    """The interpreter's module, and the package it comes in."""
    reasons = []
    for package in _PACKAGES:
        name = package.replace("_", "-")
        try:
            module = importlib.import_module(f"{package}.interpreter")
        except ModuleNotFoundError as error:
            if error.name == package:
                continue
            reasons.append(f"{name} cannot be imported ({one_line(error)})")
        except (ImportError, AttributeError) as error:  # AttributeError: built for another NumPy
            reasons.append(f"{name} cannot be imported ({one_line(error)})")
        else:
            if package == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
                reasons.append(f"{name} was built for NumPy 1, here is {np.__version__}: pip install 'numpy<2'")
                continue
            return module, name
    if reasons:
        raise BackendError(f"{'; '.join(reasons)}; or {extra_hint('litert')}")
    raise BackendError(f"neither ai-edge-litert nor tflite-runtime is installed: {extra_hint('litert')}")


def _load_delegate(runtime: Any, library: str, options: Mapping[str, str]) -> Any:
    # Looked at first: of a library that is no delegate the runtime makes an object that fails when it is dropped.
    try:
        opened = ctypes.CDLL(library)
    except OSError as error:
        raise BackendError(
            f"tflite: the delegate {library!r} cannot be loaded: {one_line(error)} ({_DELEGATES})"
        ) from error
    for function in ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"):
        if not hasattr(opened, function):
            raise BackendError(f"tflite: {library} is no external delegate: it has no function {function}")
    try:
        return runtime.load_delegate(library, dict(options))
    except (ValueError, OSError, RuntimeError) as error:
        raise BackendError(f"tflite: the delegate {library} did not become active: {one_line(error)}") from error


def _open_error(model: Path, head: bytes, package: str, external: str | None, error: Exception) -> EdgeSdkError:
    reason = one_line(error).replace(str(model), model.name)
    if isinstance(error, UnicodeDecodeError) or "flatbuffer" in reason.lower():
        return ModelError(f"{model}: not a valid TFLite file: {looks_like(head, model.suffix)}")
    if external is not None:
        return BackendError(f"{model}: the delegate {external!r} did not become active: {reason}")
    return BackendError(f"{model}: {package} cannot open it: {reason}")


def _real(stored: Array, quantization: tuple[float, int] | None, into: Array | None) -> Array:
    """A copy of an output as real values, in `into` where that has its shape. Of the view itself nothing is kept."""
    if into is None or into.shape != stored.shape:
        into = np.empty(stored.shape, stored.dtype if quantization is None else np.float32)
    if quantization is None:
        np.copyto(into, stored)
    else:
        scale, zero_point = quantization
        np.subtract(stored, np.float32(zero_point), out=into, dtype=np.float32)
        np.multiply(into, np.float32(scale), out=into)
    return into


def _spec(detail: Mapping[str, Any]) -> TensorSpec:
    signature = detail.get("shape_signature")
    shape = signature if signature is not None and len(signature) else detail["shape"]
    scale, zero_point = detail["quantization"]
    dtype = np.dtype(detail["dtype"])
    if dtype.kind not in "fiub":
        raise BackendError(f"tflite: {detail['name']!r} has the type {dtype}; only arrays of numbers can be run")
    quantized = scale != 0 and np.issubdtype(dtype, np.integer)
    return TensorSpec(
        str(detail["name"]),
        tuple(int(axis) for axis in shape),
        dtype,
        (float(scale), int(zero_point)) if quantized else None,
    )


BACKEND = TfliteBackend()
