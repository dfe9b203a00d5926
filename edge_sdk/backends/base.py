"""What an engine must be able to do, and the list of those that the SDK has.

One file an engine in this folder; a module is a backend by having ``BACKEND``. Its engine is
imported inside the methods only, so that looking through the list imports none.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import BackendError, ModelError, ModelNotFoundError, UsageError, one_line
from edge_sdk.targets import Precision, Target

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model; -1 is a dynamic axis.

    ``quantization`` is (scale, zero_point) of an integer input whose real value is
    (stored - zero_point) * scale. Outputs are given as real values, so they carry none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    quantization: tuple[float, int] | None = None


@dataclass(frozen=True)
class Layer:
    """What the engine made of some nodes; None where the engine does not say.

    Args:
        nodes: Names in the model file; several when fused.
        unit: "cpu", "gpu", "htp", "dla0".
        precision: What they ran in.
        time_ms: What they took.
    """

    nodes: tuple[str, ...]
    unit: str
    precision: Precision | None
    time_ms: float | None


class Session(Protocol):
    """A model open on one engine: a context manager, used by one thread at a time.

    Attributes:
        inputs: Of the model.
        outputs: Of the model.
        metadata: What the model file says of itself.
        active: What really runs: "CPUExecutionProvider, 2 threads".
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]
    active: str

    def new_feeds(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Array]:
        """Input arrays to fill, zeroed, in memory the engine likes.

        Args:
            shapes: Shapes by input name, where the model leaves axes open; else such axes are 1.

        Raises:
            UsageError: There is no such input, or the model has another shape.
        """
        ...

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Outputs by name, quantized ones as real float32.

        They are valid until the next run with the same feeds: a pipeline with several feeds in turn may read one run's
        outputs, in another thread too, while the next one runs. Arrays that are made anew by each run will do.

        Args:
            feeds: What `new_feeds` gave, filled, where an array may have been put in another's place; or any mapping.

        Raises:
            BackendError: An input is missing, unknown or of another shape or type, the engine failed (the message is
                its own), or the session is closed. The next run is not harmed.
        """
        ...

    def layers(self) -> Sequence[Layer]:
        """Read back from the engine; never during a timed run.

        Raises:
            BackendError: The engine failed, or the session is closed.
        """
        ...

    def close(self) -> None:
        """Free everything; may be called twice."""
        ...

    def __enter__(self) -> Session: ...

    def __exit__(self, *exc: object) -> None: ...


class Backend(Protocol):
    """An engine that may be on this machine; its module imports the engine only in these methods.

    Attributes:
        name: What `--backend` takes.
        suffixes: Of the files that it opens, with the dot.
        part_option: The option that "name:part" sets: "onnxruntime:CUDAExecutionProvider".
    """

    name: str
    suffixes: tuple[str, ...]
    part_option: str

    def missing(self) -> str | None:
        """None when usable, else one line: what is missing and how to get it."""
        ...

    def version(self) -> str | None:
        """The engine's version and what it offers here, or None when it is missing."""
        ...

    def open(self, model: Path, target: Target, *, threads: int | None, options: Mapping[str, str]) -> Session:
        """Opens a model.

        Args:
            model: The model file.
            target: The board that this is.
            threads: Threads inside one inference; None is the backend's choice for this machine.
            options: The backend's own; its docstring lists them.

        Raises:
            ModelNotFoundError: There is no such file.
            ModelError: It is not a model of this kind: truncated, empty, another format.
            BackendError: The engine cannot open it, or what was asked for did not become active; the message names
                what did.
            UsageError: An option that there is not, or that does not go with another.
        """
        ...


@cache
def backends() -> Mapping[str, Backend]:
    """Every backend that the SDK has, by name, usable here or not."""
    package = importlib.import_module("edge_sdk.backends")
    found: dict[str, Backend] = {}
    for module in pkgutil.iter_modules(package.__path__):
        backend = getattr(importlib.import_module(f"edge_sdk.backends.{module.name}"), "BACKEND", None)
        if backend is not None:
            found[backend.name] = backend
    return found


def named(spec: str) -> tuple[Backend, dict[str, str]]:
    """The backend that a text names, and the options in it.

    Args:
        spec: ``onnxruntime``, or with a part after a colon: ``onnxruntime:CUDAExecutionProvider``, ``tflite:xnnpack``.

    Raises:
        UsageError: There is no such backend.
    """
    name, colon, part = spec.partition(":")
    known = backends()
    if name not in known:
        raise UsageError(f"there is no backend {name!r}; there are auto, {', '.join(sorted(known))}")
    if colon and not part:
        raise UsageError(f"{spec!r} ends with a colon: name the {known[name].part_option} after it, or leave it out")
    return known[name], {known[name].part_option: part} if part else {}


def choose(model: Path, target: Target) -> tuple[Backend, str]:
    """The first backend in the target's order that is usable here and opens this kind of file.

    Returns:
        The backend and, in a line, why it was chosen.

    Raises:
        BackendError: None is; the message says what each lacks.
    """
    known = backends()
    order = [name for name in target.backends if name in known]
    order += [name for name in sorted(known) if name not in order]
    fitting = [known[name] for name in order if model.suffix.lower() in known[name].suffixes]
    if not fitting:
        suffixes = sorted({suffix for backend in known.values() for suffix in backend.suffixes})
        raise BackendError(f"{model.name}: no backend opens '{model.suffix}' files (there are {', '.join(suffixes)})")
    reasons = []
    for backend in fitting:
        lack = backend.missing()
        if lack is None:
            return backend, f"first of {', '.join(b.name for b in fitting)} that is usable on {target.name}"
        reasons.append(f"{backend.name}: {lack}")
    raise BackendError(f"{model.name}: no usable backend on this machine; {'; '.join(reasons)}")


# --- what backends share -------------------------------------------------------------------------


def cores() -> int:
    """Cores that this process may use: the default number of threads inside one inference.

    All of them, because a camera's loop runs one inference at a time and nothing else heavy beside it. Two hardware
    threads of one core count twice; Arm boards have none such.
    """
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def count_of(number: int, thing: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def fits(shape: Sequence[int], given: Sequence[int]) -> bool:
    """Whether an array's shape is one that a spec's leaves open."""
    return len(shape) == len(given) and all(
        here == there or (here == -1 and there >= 1) for here, there in zip(shape, given, strict=True)
    )


class Feeds(dict[str, Array]):
    """Input arrays by name; equal to itself alone, so that a weak mapping can hold what a session keeps for it."""

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


def zeroed_feeds(inputs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]] | None = None) -> Feeds:
    """Zeroed arrays in ordinary memory; `Session.new_feeds` for engines that like no other.

    Raises:
        UsageError: There is no such input, or the model has another shape.
    """
    stated = dict(shapes or {})
    feeds = Feeds()
    for spec in inputs:
        shape = stated.pop(spec.name, None)
        if shape is None:
            shape = tuple(max(1, axis) for axis in spec.shape)
        elif not fits(spec.shape, shape):
            raise UsageError(f"input {spec.name!r} is {shape_text(spec.shape)}, not {shape_text(shape)}")
        feeds[spec.name] = np.zeros(shape, spec.dtype)
    if stated:
        raise UsageError(f"there is no input {min(stated)!r}; there are {', '.join(spec.name for spec in inputs)}")
    return feeds


def shape_text(shape: Sequence[int]) -> str:
    """``[1, 3, ?, ?]``: open axes as question marks."""
    return f"[{', '.join('?' if axis < 0 else str(axis) for axis in shape)}]"


def first_bytes(model: Path) -> bytes:
    """The start of a model file, up to 512 bytes.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelError: It cannot be read.
    """
    try:
        with model.open("rb") as file:
            return file.read(512)
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{model}: no such model file") from error
    except OSError as error:
        raise ModelError(f"{model}: cannot be read: {error.strerror or one_line(error)}") from error


def looks_like(head: bytes, suffix: str) -> str:
    """What the first bytes of a file say it is, for a message about a wrong or broken one.

    Args:
        head: From `first_bytes`.
        suffix: The file's; a file that starts as such files do is taken for a truncated one.
    """
    if not head:
        return "it is empty; fetch or export it again"
    if head[:2] == b"PK":
        return "it is a zip archive (a PyTorch checkpoint, perhaps); export it to ONNX or TFLite first"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the real file with 'git lfs pull'"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "it is a text file; name the model itself"
    kind = {b"TFL3": ".tflite", b"ORTM": ".ort"}.get(head[4:8])
    if kind is None and head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a", b"\x3a", b"\x42"):
        kind = ".onnx"  # ir_version, then producer_name, producer_version, graph or opset_import
    if kind is None or kind == suffix.lower():
        return "it is truncated or damaged; fetch or export it again"
    return f"it looks like a {kind} file; give it that suffix"
