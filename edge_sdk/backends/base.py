"""What an engine must be able to do, and the list of those that the SDK has.

One file an engine in this folder; a module is a backend by having ``BACKEND``. Its engine is
imported inside the methods only, so that looking through the list imports none.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import BackendError, UsageError
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
    """What the engine made of some nodes; None where the engine does not say."""

    nodes: tuple[str, ...]  # names in the model file; several when fused
    unit: str  # "cpu", "gpu", "htp", "dla0"
    precision: Precision | None
    time_ms: float | None


class Session(Protocol):
    """A model open on one engine: a context manager, used by one thread at a time."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]  # what the model file says of itself
    active: str  # what really runs: "CPUExecutionProvider, 2 threads"

    def new_feeds(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Array]:
        """Input arrays to fill, zeroed, in memory the engine likes.

        Args:
            shapes: Shapes by input name, where the model leaves axes open; else such axes are 1.
        """
        ...

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Outputs by name, quantized ones as real float32; valid until the next run.

        Raises:
            BackendError: The engine failed; the message is its own.
        """
        ...

    def layers(self) -> Sequence[Layer]:
        """Read back from the engine; never during a timed run."""
        ...

    def close(self) -> None:
        """Free everything; may be called twice."""
        ...

    def __enter__(self) -> Session: ...

    def __exit__(self, *exc: object) -> None: ...


class Backend(Protocol):
    """An engine that may be on this machine; its module imports the engine only in these methods."""

    name: str
    suffixes: tuple[str, ...]
    part_option: str  # the option that "name:part" sets: "onnxruntime:CUDAExecutionProvider"

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
            BackendError: The file cannot be opened, or what was asked for did not become active; the
                message names what did.
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
    name, _, part = spec.partition(":")
    known = backends()
    if name not in known:
        raise UsageError(f"there is no backend {name!r}; there are auto, {', '.join(sorted(known))}")
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
