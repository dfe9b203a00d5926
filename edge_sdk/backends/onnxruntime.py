"""ONNX Runtime, with any execution provider by name, plug-in providers too."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from edge_sdk.backends import onnxruntime_providers as providers
from edge_sdk.backends.base import (
    Array,
    Feeds,
    Layer,
    TensorSpec,
    cores,
    count_of,
    first_bytes,
    looks_like,
    zeroed_feeds,
)
from edge_sdk.backends.onnxruntime_profile import parse_profile
from edge_sdk.backends.onnxruntime_providers import CPU, reason_of
from edge_sdk.errors import BackendError, EdgeSdkError, ModelError, UsageError, extra_hint, one_line
from edge_sdk.targets import Target

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(uint32)": np.uint32,
    "tensor(int32)": np.int32,
    "tensor(uint64)": np.uint64,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}

# A profiled session runs so often for `layers`; the first run warms up and is left out.
_PROFILED_RUNS = 4

# Opening again to see what would have run is cheap, except where it builds an engine for minutes.
_SLOW_TO_OPEN = ("TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")

# Opens the model again: strictly or with the CPU for the rest, and with a profile in a folder or without.
_Open = Callable[[bool, "Path | None"], Any]


class OnnxRuntimeSession:
    """An ``onnxruntime.InferenceSession`` behind the session protocol.

    Where no axis is open, each feeds has output arrays of its own, which the engine writes to.
    """

    def __init__(self, session: Any, active: str, reopen: Callable[[Path], Any], units: Mapping[str, str]) -> None:
        self._session = session
        self._reopen = reopen  # makes a session like this one with profiling on
        self._units = units
        self.active = active
        self.inputs = tuple(_spec(value) for value in session.get_inputs())
        self.outputs = tuple(_spec(value) for value in session.get_outputs())
        self.metadata: Mapping[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        self._names = [spec.name for spec in self.outputs]
        self._open_inputs = [spec.name for spec in self.inputs if -1 in spec.shape]
        self._last_shapes: dict[str, tuple[int, ...]] = {}
        self._fixed = not any(-1 in spec.shape for spec in self.inputs + self.outputs)
        self._bound: WeakKeyDictionary[Feeds, _Bound] = WeakKeyDictionary()

    def new_feeds(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Array]:
        return zeroed_feeds(self.inputs, shapes)

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        session = self._session  # kept while it runs, should another thread close this
        if session is None:
            raise BackendError("onnxruntime: the session is closed")
        bound = self._bound.get(feeds) if isinstance(feeds, Feeds) else None
        if bound is not None and bound.run(session, feeds):
            return dict(bound.outputs)
        try:
            outputs = dict(zip(self._names, session.run(self._names, feeds), strict=True))
        except Exception as error:
            raise BackendError(f"onnxruntime: inference failed: {reason_of(error)}") from error
        if self._open_inputs:
            self._last_shapes = {name: feeds[name].shape for name in self._open_inputs}
        if bound is not None:
            self._fixed = False  # it runs unbound alone: the shapes that the file states do not hold
            self._bound.clear()
        elif self._fixed and isinstance(feeds, Feeds) and self._session is session:
            self._bind(session, feeds, outputs)
        return outputs

    def _bind(self, session: Any, feeds: Feeds, outputs: Mapping[str, Array]) -> None:
        """Gives feeds that have been run once arrays for their outputs, if those came out as the file states."""
        if any((outputs[one.name].shape, outputs[one.name].dtype) != (one.shape, one.dtype) for one in self.outputs):
            return
        try:
            self._bound[feeds] = _Bound(session, feeds, self.outputs)
        except Exception:  # noqa: BLE001  a provider that binds nothing runs all the same
            self._fixed = False

    def layers(self) -> Sequence[Layer]:
        """Opens the model once more with profiling and runs it on zeros; times are medians of three runs.

        Axes that the model leaves open have the lengths of the last run, or 1 before any.
        """
        if self._session is None:
            raise BackendError("onnxruntime: the session is closed")
        feeds = self.new_feeds(self._last_shapes)
        try:
            with tempfile.TemporaryDirectory(prefix="edge-sdk-") as folder:
                session = self._reopen(Path(folder))
                for _ in range(_PROFILED_RUNS):
                    session.run(None, feeds)
                text = Path(session.end_profiling()).read_text(encoding="utf-8")
                return _with_compiled_nodes(parse_profile(text, self._units), _assigned(session))
        except EdgeSdkError:
            raise
        except Exception as error:
            raise BackendError(f"onnxruntime: the profiled run failed: {reason_of(error)}") from error

    def close(self) -> None:
        self._bound.clear()  # feeds may live longer, and a binding is part of its session
        self._session = None

    def __enter__(self) -> OnnxRuntimeSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Bound:
    """The arrays that runs with one feeds write to, bound to the engine, so that no run allocates any.

    Args:
        session: The ``onnxruntime.InferenceSession``.
        inputs: Names of the feeds' arrays.
        outputs: Without an open axis.
    """

    def __init__(self, session: Any, inputs: Iterable[str], outputs: Sequence[TensorSpec]) -> None:
        self._inputs = frozenset(inputs)
        self.outputs: Mapping[str, Array] = {spec.name: np.empty(spec.shape, spec.dtype) for spec in outputs}
        self._binding = session.io_binding()
        for name, array in self.outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self, session: Any, feeds: Mapping[str, Array]) -> bool:
        """False where it failed; what was wrong is known by running without a binding."""
        if feeds.keys() != self._inputs:
            return False
        try:
            # Each time: an array may have been replaced, and another provider's device gets its copy here.
            for name, array in feeds.items():
                self._binding.bind_cpu_input(name, array)
            session.run_with_iobinding(self._binding)
        except Exception:  # noqa: BLE001  the engine's errors have no common class
            return False
        return True


class OnnxRuntimeBackend:
    """Opens .onnx and .ort files.

    Options:
        provider: An execution provider by name; the default is the CPU's. The whole model must run on it.
        provider_library: A plug-in provider's shared library, or the Python package that carries it. Left out, the
            packages that are known are looked for (``onnxruntime_qnn``).
        partial: ``1`` lets the CPU run the nodes that the provider does not take; `Session.active` counts them.
        spinning: ``1`` lets idle threads spin (a little less latency on an idle machine, whole cores burned).

    Any other option goes to the provider, and is refused with the CPU's, which has none.
    """

    name = "onnxruntime"
    part_option = "provider"
    suffixes: tuple[str, ...] = (".onnx", ".ort")

    def missing(self) -> str | None:
        try:
            _import()
        except BackendError as error:
            return str(error)
        return None

    def version(self) -> str | None:
        if self.missing():
            return None
        ort = _import()
        return f"{ort.__version__} ({', '.join(ort.get_available_providers())})"

    def open(
        self, model: Path, target: Target, *, threads: int | None, options: Mapping[str, str]
    ) -> OnnxRuntimeSession:
        ort = _import()
        wanted = dict(options)
        provider = wanted.pop("provider", CPU)
        library = wanted.pop("provider_library", None)
        spinning, partial = (_flag(wanted, name) for name in ("spinning", "partial"))
        if provider == CPU and (wanted or library is not None or partial):
            stray = min(wanted) if wanted else "partial" if library is None else "provider_library"
            raise UsageError(f"onnxruntime: {CPU} has no option {stray!r}; it goes with another provider")
        head = first_bytes(model)
        devices = None if provider == CPU else providers.find(ort, provider, library)
        count = threads if threads is not None else cores()

        def open_again(strict: bool, profile_in: Path | None) -> Any:
            settings = _settings(ort, count, spinning=spinning, strict=strict and provider != CPU)
            if profile_in is not None:
                settings.enable_profiling = True
                settings.profile_file_prefix = str(profile_in / "layers")
            # Its Python layer would else print on standard output and go on with the CPU.
            if devices is not None:
                settings.add_provider_for_devices(devices, wanted)
                return ort.InferenceSession(str(model), sess_options=settings, enable_fallback=0)
            return ort.InferenceSession(
                str(model), sess_options=settings, providers=[provider], provider_options=[wanted], enable_fallback=0
            )

        try:
            session = open_again(not partial, None)
            if session.get_providers()[0] != provider:
                raise _inactive(ort, provider, session.get_providers())
            active = _active(session, provider, devices, count)
            units = {provider: wanted["backend_type"]} if "backend_type" in wanted else {}
            return OnnxRuntimeSession(session, active, lambda folder: open_again(not partial, folder), units)
        except EdgeSdkError:
            raise
        except Exception as error:
            raise _open_error(ort, model, head, provider, wanted, error, open_again) from error


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        if error.name == "onnxruntime":
            raise BackendError(f"onnxruntime is not installed: {extra_hint('onnxruntime')}") from error
        raise BackendError(
            f"onnxruntime cannot be imported ({one_line(error)}): {extra_hint('onnxruntime')}"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise BackendError(
            "onnxruntime is damaged, as when one of two builds is uninstalled: "
            "pip uninstall onnxruntime onnxruntime-gpu, then install one of them"
        )
    # Errors reach the caller as exceptions; the engine's own log would repeat them on standard error.
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def _flag(options: dict[str, str], name: str) -> bool:
    value = options.pop(name, "0")
    if value not in ("0", "1"):
        raise UsageError(f"onnxruntime: {name} is '0' or '1', not {value!r}")
    return value == "1"


def _settings(ort: Any, count: int, *, spinning: bool, strict: bool) -> Any:
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = count
    settings.inter_op_num_threads = 1
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")  # ignored where it is not known
    if strict:
        # Without this a provider that fails to load leaves the model on the CPU, exit code 0.
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return settings


def _assigned(session: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Execution providers and the nodes that each took, by group; empty where this version does not say."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return []
    return [
        (group.ep_name, tuple(node.name for node in group.get_nodes()))
        for group in session.get_provider_graph_assignment_info()
    ]


def _active(session: Any, provider: str, devices: list[Any] | None, count: int) -> str:
    """What really runs: ``CPUExecutionProvider, 2 threads``, ``QNNExecutionProvider on NPU (Qualcomm), 367 nodes``."""
    if provider == CPU:
        return f"{CPU}, {count_of(count, 'thread')}"
    name = provider
    if devices:
        name += f" on {providers.device_type(devices[0])} ({devices[0].device.vendor})"
    groups = _assigned(session)
    if not groups:
        return name
    taken = sum(len(nodes) for owner, nodes in groups if owner == provider)
    total = sum(len(nodes) for _, nodes in groups)
    if not taken:
        raise BackendError(
            f"onnxruntime: {provider} was asked for, but took none of the {count_of(total, 'node')}: "
            f"{', '.join(sorted({owner for owner, _ in groups}))} became active"
        )
    if taken == total:
        return f"{name}, {count_of(total, 'node')}"
    return f"{name}, {taken} of {count_of(total, 'node')}, the rest on {CPU}, {count_of(count, 'thread')}"


def _with_compiled_nodes(layers: list[Layer], groups: list[tuple[str, tuple[str, ...]]]) -> list[Layer]:
    """The layers, with the names of the model's nodes in the one kernel that a provider compiled from them."""
    taken = [(owner, nodes) for owner, nodes in groups if owner != CPU]
    kernels = [layer for layer in layers if any(layer.nodes[0].startswith(owner) for owner, _ in taken)]
    if len(taken) != 1 or len(kernels) != 1:
        return layers
    named = replace(kernels[0], nodes=taken[0][1])
    return [named if layer is kernels[0] else layer for layer in layers]


def _inactive(ort: Any, provider: str, instead: Sequence[str]) -> BackendError:
    why = providers.load_failure(ort, provider)
    return BackendError(
        f"onnxruntime: {provider} was asked for, {', '.join(instead) or 'nothing'} became active"
        + (f": {why}" if why else "")
    )


def _open_error(
    ort: Any, model: Path, head: bytes, provider: str, options: Mapping[str, str], error: Exception, open_again: _Open
) -> EdgeSdkError:
    if _is_broken_file(error):
        return ModelError(f"{model}: not a valid {model.suffix[1:].upper()} file: {looks_like(head, model.suffix)}")
    reason = reason_of(error).replace(str(model), model.name)
    if provider == CPU:
        return BackendError(f"{model}: onnxruntime cannot open it: {reason}")
    why = providers.load_failure(ort, provider)
    parts = [f"{model.name}: {provider} did not become active for the whole model: {why or reason}"]
    parts.append(_what_instead(open_again, provider))
    refused = provider == "QNNExecutionProvider" and "not selected by that EP" in reason
    if refused and options.get("backend_type", "htp") == "htp" and not _is_quantized(model):
        parts.append(
            "the model is float, which Hexagon before v73 refuses ('The SocModel doesn't support FP16', in QNN's "
            "words): quantize it to A8W8 or A16W8, or name a later SoC with soc_model"
        )
    return BackendError("; ".join(parts))


def _is_broken_file(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, UnicodeDecodeError) or any(
        mark in text
        for mark in ("protobuf", "PROTOBUF", "Protobuf", "ORT model verification failed", "Only ORT format")
    )


def _what_instead(open_again: _Open, provider: str) -> str:
    """What would have been active without the strict rule, which is what made opening fail."""
    if provider in _SLOW_TO_OPEN:
        return f"{CPU} would have run the rest"
    try:
        session = open_again(False, None)
    except Exception as error:  # noqa: BLE001 - the engine's errors have no common class; this one is only told about
        return f"nothing became active instead ({type(error).__name__})"
    if provider not in session.get_providers():
        return f"{', '.join(session.get_providers())} became active instead"
    groups = _assigned(session)
    left = [node for owner, nodes in groups if owner != provider for node in nodes]
    if not left:
        return f"{CPU} would have run the rest"
    total = sum(len(nodes) for _, nodes in groups)
    some = ", ".join(left[:4]) + (", ..." if len(left) > 4 else "")
    mend = "" if len(left) == total else "; the option partial=1 allows that"
    return f"{CPU} would have run {len(left)} of {count_of(total, 'node')} ({some}){mend}"


def _is_quantized(model: Path) -> bool:
    return b"DequantizeLinear" in model.read_bytes()


def _spec(value: Any) -> TensorSpec:
    dtype = _DTYPES.get(value.type)
    if dtype is None:
        raise BackendError(f"onnxruntime: {value.name!r} has the type {value.type}; only arrays of numbers can be run")
    shape = tuple(axis if isinstance(axis, int) and axis >= 0 else -1 for axis in value.shape or ())
    return TensorSpec(value.name, shape, np.dtype(dtype))


BACKEND = OnnxRuntimeBackend()
