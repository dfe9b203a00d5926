"""ONNX Runtime, with any execution provider by name, plug-in providers too."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.backends.base import Array, Layer, TensorSpec
from edge_sdk.errors import BackendError, ModelError, UsageError, extra_hint, one_line
from edge_sdk.targets import Precision, Target

_CPU = "CPUExecutionProvider"

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}

# Units that layers name, by execution provider.
_UNITS = {
    _CPU: "cpu",
    "CUDAExecutionProvider": "gpu",
    "TensorrtExecutionProvider": "gpu",
    "QNNExecutionProvider": "htp",
    "XnnpackExecutionProvider": "cpu",
}


class OnnxRuntimeSession:
    """An ``onnxruntime.InferenceSession`` behind the session protocol."""

    def __init__(self, session: Any, active: str, reopen: Any) -> None:
        self._session = session
        self._reopen = reopen  # makes a session like this one with profiling on
        self.active = active
        self.inputs = tuple(_spec(value) for value in session.get_inputs())
        self.outputs = tuple(_spec(value) for value in session.get_outputs())
        self.metadata: Mapping[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        self._names = [spec.name for spec in self.outputs]

    def new_feeds(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Array]:
        stated = shapes or {}
        return {
            spec.name: np.zeros(stated.get(spec.name) or tuple(max(1, axis) for axis in spec.shape), spec.dtype)
            for spec in self.inputs
        }

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        if self._session is None:
            raise BackendError("onnxruntime: the session is closed")
        try:
            outputs = self._session.run(self._names, feeds)
        except Exception as error:
            raise BackendError(f"onnxruntime: inference failed: {one_line(error)}") from error
        return dict(zip(self._names, outputs, strict=True))

    def layers(self) -> Sequence[Layer]:
        """Runs a profiled session of the same settings three times on zeros; times are the medians."""
        return _profiled_layers(self._reopen, self.new_feeds())

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> OnnxRuntimeSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class OnnxRuntimeBackend:
    """Opens .onnx files.

    Options:
        provider: An execution provider by name; the default is the CPU's.
        provider_library: Path of a plug-in provider's shared library, registered under that name.
        spinning: ``1`` lets idle threads spin (lower latency on an idle machine, a full core burned).

    Any other option goes to the provider, and is refused with the CPU's, which has none.
    """

    name = "onnxruntime"
    part_option = "provider"
    suffixes: tuple[str, ...] = (".onnx", ".ort")

    def missing(self) -> str | None:
        if importlib.util.find_spec("onnxruntime") is None:
            return f"onnxruntime is not installed: {extra_hint('onnxruntime')}"
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
        provider = wanted.pop("provider", _CPU)
        library = wanted.pop("provider_library", None)
        spinning = wanted.pop("spinning", "0")
        if spinning not in ("0", "1"):
            raise UsageError(f"onnxruntime: spinning is '0' or '1', not {spinning!r}")
        if provider == _CPU and wanted:
            raise UsageError(f"onnxruntime: {_CPU} has no option {sorted(wanted)[0]!r}")
        count = threads if threads is not None else _cores()

        def session_options() -> Any:
            settings = ort.SessionOptions()
            settings.log_severity_level = 3
            settings.intra_op_num_threads = count
            settings.inter_op_num_threads = 1
            settings.add_session_config_entry("session.intra_op.allow_spinning", spinning)
            if provider != _CPU:
                # Without this a provider that fails to load leaves the model on the CPU, exit code 0.
                settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            return settings

        def make(settings: Any) -> Any:
            return _create(ort, model, settings, provider, library, wanted)

        session = make(session_options())
        _check_active(session, provider)
        active = f"{provider}, {count} thread{'s' if count != 1 else ''}" if provider == _CPU else provider

        def profiled(folder: Path) -> Any:
            settings = session_options()
            settings.enable_profiling = True
            settings.profile_file_prefix = str(folder / "layers")
            return make(settings)

        return OnnxRuntimeSession(session, active, profiled)


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            f"onnxruntime cannot be imported ({one_line(error)}): {extra_hint('onnxruntime')}"
        ) from error
    # Errors reach the caller as exceptions; the engine's own log would repeat them on standard error.
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def _create(ort: Any, model: Path, settings: Any, provider: str, library: str | None, options: dict[str, str]) -> Any:
    if library is not None:
        _register(ort, provider, library)
    plugin = [device for device in _devices(ort) if device.ep_name == provider and provider != _CPU]
    builtin = ort.get_available_providers()
    if not plugin and provider not in builtin:
        offered = list(dict.fromkeys([*builtin, *(device.ep_name for device in _devices(ort))]))
        raise BackendError(
            f"onnxruntime: {provider} is not in this build, which has {', '.join(offered)}; "
            "install the build that has it, or give its plug-in with provider_library"
        )
    try:
        if plugin and provider not in builtin:
            settings.add_provider_for_devices(plugin[:1], options)
            return ort.InferenceSession(str(model), sess_options=settings)
        return ort.InferenceSession(str(model), sess_options=settings, providers=[provider], provider_options=[options])
    except Exception as error:
        if provider != _CPU:
            raise BackendError(f"onnxruntime: {provider} did not become active: {one_line(error)}") from error
        raise _open_error(model, error) from error


def _open_error(model: Path, error: Exception) -> BackendError | ModelError:
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", one_line(error))
    text = text.replace(str(model), model.name)
    if "protobuf" in text.lower() or "INVALID_PROTOBUF" in str(error):
        return ModelError(f"{model}: not a valid ONNX file (truncated, or another format): {_file_looks_like(model)}")
    return BackendError(f"{model}: onnxruntime cannot open it: {text}")


def _file_looks_like(model: Path) -> str:
    """What the first bytes of a file say, to help with a wrong suffix."""
    with model.open("rb") as file:
        head = file.read(512)
    if not head:
        return "it is empty"
    if head[4:8] == b"TFL3":
        return "it is a TFLite file; rename it to .tflite"
    if head[:2] == b"PK":
        return "it is a zip archive (a PyTorch checkpoint, perhaps); export it to ONNX first"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the real file with 'git lfs pull'"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "it is a text file"
    return f"{model.stat().st_size} bytes; fetch or export it again"


def _register(ort: Any, provider: str, library: str) -> None:
    if any(device.ep_name == provider for device in _devices(ort)):
        return  # registered before in this process
    if not hasattr(ort, "register_execution_provider_library"):
        raise BackendError(f"onnxruntime {ort.__version__} takes no plug-in providers; they came with 1.23")
    try:
        ort.register_execution_provider_library(provider, library)
    except Exception as error:
        raise BackendError(f"onnxruntime: cannot load {library} as {provider}: {one_line(error)}") from error


def _devices(ort: Any) -> list[Any]:
    return list(ort.get_ep_devices()) if hasattr(ort, "get_ep_devices") else []


def _check_active(session: Any, provider: str) -> None:
    active = session.get_providers()
    if provider not in active or (provider != _CPU and active[0] != provider):
        raise BackendError(f"onnxruntime: {provider} was asked for, {', '.join(active) or 'nothing'} became active")


def _cores() -> int:
    """Cores this process may use; two hardware threads of one core count twice, as the runtime counts them."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _spec(value: Any) -> TensorSpec:
    dtype = _DTYPES.get(value.type)
    if dtype is None:
        raise BackendError(f"onnxruntime: tensor {value.name!r} has the type {value.type}, which is not a number")
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in value.shape or ())
    return TensorSpec(value.name, shape, np.dtype(dtype))


def _profiled_layers(reopen: Any, feeds: Mapping[str, Array]) -> list[Layer]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="edge-sdk-") as folder:
        session = reopen(Path(folder))
        for _ in range(4):  # the first warms up and is left out
            session.run(None, dict(feeds))
        return parse_profile(Path(session.end_profiling()).read_text(encoding="utf-8"))


def parse_profile(text: str) -> list[Layer]:
    """Layers from ONNX Runtime's chrome-trace profile, in the order they ran.

    Args:
        text: The JSON that ``end_profiling`` wrote; the first run in it is left out as warm-up.
    """
    kernels: dict[str, list[float]] = {}
    about: dict[str, tuple[str, Precision | None]] = {}
    for event in json.loads(text):
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        node = event["name"].removesuffix("_kernel_time")
        kernels.setdefault(node, []).append(event["dur"] / 1000)
        args = event.get("args", {})
        about[node] = (_UNITS.get(args.get("provider", ""), args.get("provider", "cpu")), _precision(args))
    return [
        Layer((node,), about[node][0], about[node][1], float(np.median(times[1:] or times)))
        for node, times in kernels.items()
    ]


def _precision(args: Mapping[str, Any]) -> Precision | None:
    """The precision a kernel computed in, from its operator and the types it was given."""
    types = [next(iter(entry)) for entry in args.get("input_type_shape", []) if entry]
    operator = args.get("op_name", "")
    if operator.startswith("QLinear") or operator in ("MatMulInteger", "ConvInteger"):
        return "int8"
    names: dict[str, Precision] = {
        "float": "fp32",
        "float16": "fp16",
        "bfloat16": "bf16",
        "uint8": "int8",
        "int8": "int8",
    }
    return names.get(types[0]) if types else None


BACKEND = OnnxRuntimeBackend()
