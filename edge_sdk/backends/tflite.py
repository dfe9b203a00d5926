"""TFLite files, on ``ai-edge-litert`` or on ``tflite-runtime`` where that is what the board has."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.backends.base import Array, Layer, TensorSpec
from edge_sdk.errors import BackendError, ModelError, UsageError, extra_hint, one_line
from edge_sdk.targets import Precision, Target

# The same interface under its new and its old name.
_PACKAGES = ("ai_edge_litert", "tflite_runtime")

_MAX_METADATA_BYTES = 1 << 20

_PRECISIONS: dict[str, Precision] = {
    "float32": "fp32",
    "float16": "fp16",
    "int8": "int8",
    "uint8": "int8",
    "int16": "a16w8",
}


class TfliteSession:
    """A TFLite interpreter behind the session protocol."""

    def __init__(self, interpreter: Any, active: str, metadata: Mapping[str, str]) -> None:
        self._interpreter = interpreter
        self.active = active
        self.metadata = metadata
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        self.inputs = tuple(_spec(detail) for detail in inputs)
        # Outputs are handed out as real values, whatever they are stored as.
        self.outputs = tuple(
            TensorSpec(spec.name, spec.shape, np.dtype(np.float32 if spec.quantization else spec.dtype))
            for spec in map(_spec, outputs)
        )
        self._input_index = {spec.name: detail["index"] for spec, detail in zip(self.inputs, inputs, strict=True)}
        self._outputs = [
            (spec.name, detail["index"], _spec(detail).quantization)
            for spec, detail in zip(self.outputs, outputs, strict=True)
        ]

    def new_feeds(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Array]:
        stated = shapes or {}
        return {
            spec.name: np.zeros(stated.get(spec.name) or tuple(max(1, axis) for axis in spec.shape), spec.dtype)
            for spec in self.inputs
        }

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        if self._interpreter is None:
            raise BackendError("tflite: the session is closed")
        try:
            for name, array in feeds.items():
                self._set(name, array)
            self._interpreter.invoke()
            return {name: self._get(index, quantization) for name, index, quantization in self._outputs}
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"tflite: inference failed: {one_line(error)}") from error

    def _set(self, name: str, array: Array) -> None:
        if name not in self._input_index:
            raise BackendError(f"tflite: there is no input {name!r}; there are {', '.join(self._input_index)}")
        self._interpreter.set_tensor(self._input_index[name], array)

    def _get(self, index: int, quantization: tuple[float, int] | None) -> Array:
        stored: Array = self._interpreter.get_tensor(index)
        if quantization is None:
            return stored
        scale, zero_point = quantization
        return np.asarray((stored.astype(np.float32) - np.float32(zero_point)) * np.float32(scale))

    def layers(self) -> Sequence[Layer]:
        """Operators with the precision of what they write; the Python interpreter gives no times."""
        return _layers(self._interpreter)

    def close(self) -> None:
        self._interpreter = None

    def __enter__(self) -> TfliteSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class TfliteBackend:
    """Opens .tflite files.

    Options:
        delegate: ``xnnpack`` (must become active), ``none`` (built-in kernels), or the path of an external delegate's
            shared library. The default is whatever the runtime applies by itself; `Session.active` says what that was.

    Any other option goes to the external delegate.
    """

    name = "tflite"
    part_option = "delegate"
    suffixes: tuple[str, ...] = (".tflite",)

    def missing(self) -> str | None:
        if _package() is None:
            return f"neither ai-edge-litert nor tflite-runtime is installed: {extra_hint('litert')}"
        return None

    def version(self) -> str | None:
        from importlib.metadata import PackageNotFoundError, version

        package = _package()
        if package is None:
            return None
        name = package.replace("_", "-")
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return name

    def open(self, model: Path, target: Target, *, threads: int | None, options: Mapping[str, str]) -> TfliteSession:
        runtime, package = _import()
        wanted = dict(options)
        delegate = wanted.pop("delegate", None)
        if wanted and delegate in (None, "xnnpack", "none"):
            raise UsageError(
                f"tflite: no option {sorted(wanted)[0]!r}; options beside 'delegate' go to an external one"
            )
        count = threads if threads is not None else len(os.sched_getaffinity(0))
        _check_file(model)
        arguments: dict[str, Any] = {"model_path": str(model), "num_threads": count}
        if delegate == "none":
            arguments["experimental_op_resolver_type"] = runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        elif delegate not in (None, "xnnpack"):
            arguments["experimental_delegates"] = [_load_delegate(runtime, str(delegate), wanted)]
        try:
            interpreter = runtime.Interpreter(**arguments)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError, SystemError) as error:
            if isinstance(error, SystemError):  # tflite-runtime was built for NumPy 1
                raise BackendError(f"{package} fails under NumPy {np.__version__}: pip install 'numpy<2'") from error
            if "flatbuffer" in str(error).lower():
                raise ModelError(f"{model}: not a valid TFLite file (truncated?); fetch or export it again") from error
            raise BackendError(f"{model}: {package} cannot open it: {one_line(error)}") from error
        delegated = _delegated(interpreter)
        if delegate not in (None, "none") and not delegated:
            raise BackendError(
                f"{model}: the delegate {delegate!r} was asked for, but took no part of the model; "
                "the built-in kernels became active"
            )
        chosen = "built-in kernels" if not delegated else "XNNPACK" if delegate in (None, "xnnpack") else str(delegate)
        active = f"{chosen}, {count} thread{'s' if count != 1 else ''} ({package})"
        return TfliteSession(interpreter, active, read_metadata(model))


def _package() -> str | None:
    return next((name for name in _PACKAGES if importlib.util.find_spec(name) is not None), None)


def _import() -> tuple[Any, str]:
    package = _package()
    if package is None:
        raise BackendError(f"neither ai-edge-litert nor tflite-runtime is installed: {extra_hint('litert')}")
    try:
        return importlib.import_module(f"{package}.interpreter"), package.replace("_", "-")
    except (ImportError, AttributeError) as error:
        raise BackendError(f"{package} cannot be imported: {one_line(error)}") from error


def _load_delegate(runtime: Any, library: str, options: Mapping[str, str]) -> Any:
    try:
        return runtime.load_delegate(library, dict(options))
    except (ValueError, OSError, RuntimeError) as error:
        raise BackendError(f"tflite: the delegate {library} did not become active: {one_line(error)}") from error


def _check_file(model: Path) -> None:
    """Refuses what is not a whole TFLite file, before the interpreter maps it."""
    with model.open("rb") as file:
        head = file.read(8)
    if head[4:8] != b"TFL3":
        raise ModelError(f"{model}: not a TFLite file (no 'TFL3' mark); give it its real suffix or export it again")


def _delegated(interpreter: Any) -> bool:
    return any(operator["op_name"] == "DELEGATE" for operator in interpreter._get_ops_details())


def _spec(detail: Mapping[str, Any]) -> TensorSpec:
    signature = detail.get("shape_signature")
    shape = signature if signature is not None and len(signature) else detail["shape"]
    scale, zero_point = detail["quantization"]
    dtype = np.dtype(detail["dtype"])
    quantized = scale != 0 and np.issubdtype(dtype, np.integer)
    return TensorSpec(
        detail["name"],
        tuple(int(axis) for axis in shape),
        dtype,
        (float(scale), int(zero_point)) if quantized else None,
    )


def _layers(interpreter: Any) -> list[Layer]:
    tensors = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    layers = []
    for operator in interpreter._get_ops_details():
        written = [tensors[index] for index in operator["outputs"] if index in tensors]
        if operator["op_name"] == "DELEGATE" or not written:
            continue
        precision = _PRECISIONS.get(np.dtype(written[0]["dtype"]).name)
        layers.append(Layer(tuple(str(tensor["name"]) for tensor in written), "cpu", precision, None))
    return layers


def read_metadata(model: Path) -> dict[str, str]:
    """What exporters append to a .tflite file as a zip archive: metadata as JSON, and label lists.

    A damaged or missing archive gives an empty mapping: the model runs without it.
    """
    found: dict[str, str] = {}
    try:
        with zipfile.ZipFile(model) as archive:
            for member in archive.infolist():
                if member.file_size > _MAX_METADATA_BYTES:
                    continue
                if member.filename.endswith((".json", "meta.txt")):
                    found.update(_as_mapping(archive.read(member).decode(errors="replace")))
                elif member.filename.endswith(".txt"):
                    lines = archive.read(member).decode(errors="replace").split("\n")
                    found.setdefault("names", json.dumps([line.strip() for line in lines if line.strip()]))
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError):
        return {}
    return found


def _as_mapping(text: str) -> dict[str, str]:
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, dict):
            return {
                str(key): item if isinstance(item, str) else json.dumps(item, default=str)
                for key, item in value.items()
            }
    return {}


BACKEND = TfliteBackend()
