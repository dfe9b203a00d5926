"""Execution providers of ONNX Runtime: which there are, plug-ins among them, and why one does not load."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import io
import re
from pathlib import Path
from typing import Any

from edge_sdk.errors import BackendError, one_line

CPU = "CPUExecutionProvider"

# Python packages that carry a plug-in provider and give its path by ``get_library_path()``, as ONNX Runtime's
# packaging guidance asks (https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries/packaging.html).
_PACKAGES = {"QNNExecutionProvider": "onnxruntime_qnn"}

# Libraries of providers that come inside a build. ONNX Runtime loads them late, and goes on without one that fails.
_LIBRARIES = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}

# The best hardware of a provider that sees several.
_DEVICE_ORDER = ("NPU", "GPU", "CPU")

_MAX_REASON = 400  # characters of the engine's own words; some of its errors list every node

_registered: dict[str, str] = {}  # library by provider; a process registers a provider once


def find(ort: Any, provider: str, library: str | None) -> list[Any] | None:
    """The device that a plug-in provider runs on, registered where it was not yet.

    Args:
        ort: The onnxruntime module.
        provider: An execution provider by name.
        library: Path of its plug-in, or the Python package that carries it; None is a known package, where installed.

    Returns:
        One device, or None for a provider that is built in.

    Raises:
        BackendError: There is no such provider here; the message names those that there are.
    """
    # A plug-in that is registered is listed among the available ones too, but can only be had by its device.
    if library is None and provider not in _registered and provider in ort.get_available_providers():
        _preload(ort, provider)
        return None
    path = _library_path(provider, library)
    if path is not None:
        _register(ort, provider, path)
    found = [device for device in _devices(ort) if device.ep_name == provider]
    if found:
        return sorted(found, key=lambda device: _DEVICE_ORDER.index(device_type(device)))[:1]
    if provider in _registered:
        others = sorted({device.ep_name for device in _devices(ort)} - {CPU})
        raise BackendError(
            f"onnxruntime: {provider} is registered ({_registered[provider]}), but sees no device that it can run on "
            f"here; devices there are for {', '.join([CPU, *others])}"
        )
    offered = dict.fromkeys([*ort.get_available_providers(), *(device.ep_name for device in _devices(ort))])
    package = _PACKAGES.get(provider)
    mend = f"pip install {package.replace('_', '-')}, or " if package else "install the build that has it, or "
    raise BackendError(
        f"onnxruntime: {provider} is not in this build, which has {', '.join(offered)}; "
        f"{mend}give its plug-in with provider_library"
    )


def device_type(device: Any) -> str:
    """``NPU``, ``GPU`` or ``CPU``."""
    return str(device.device.type).rpartition(".")[2]


def load_failure(ort: Any, provider: str) -> str | None:
    """Why the library of a provider that is in this build does not load, or None: it does, or it has none."""
    name = _LIBRARIES.get(provider)
    path = Path(ort.__file__).parent / "capi" / name if name else None
    if path is None or not path.is_file():
        return None
    try:
        ctypes.CDLL(str(path.with_name("libonnxruntime_providers_shared.so")), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(path))
    except OSError as error:
        return one_line(error)
    return None


def reason_of(error: Exception) -> str:
    """The engine's words without its codes and source lines."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", one_line(error))
    text = re.sub(r"^\S+\.(?:cc|h):\d+ [^()]*\([^()]*\)(?: const)? ", "", text)
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}..."


def _preload(ort: Any, provider: str) -> None:
    """CUDA and cuDNN out of NVIDIA's Python packages, where the system has none; a no-op where there are no such."""
    if provider in _LIBRARIES and hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            ort.preload_dlls()


def _library_path(provider: str, library: str | None) -> str | None:
    if library is not None and (Path(library).suffix or Path(library).name != library):
        return str(Path(library).resolve())
    package = library or _PACKAGES.get(provider)
    if package is None or importlib.util.find_spec(package) is None:
        if library is not None:
            raise BackendError(f"onnxruntime: provider_library {library!r} is neither a file nor an installed package")
        return None
    try:
        return str(importlib.import_module(package).get_library_path())
    except (ImportError, AttributeError, OSError) as error:
        raise BackendError(f"onnxruntime: {package} does not give its provider's library: {one_line(error)}") from error


def _register(ort: Any, provider: str, path: str) -> None:
    before = _registered.get(provider)
    if before is not None:
        if before != path:
            raise BackendError(
                f"onnxruntime: {provider} was registered from {before} in this process; start another for {path}"
            )
        return
    if not hasattr(ort, "register_execution_provider_library"):
        raise BackendError(f"onnxruntime {ort.__version__} takes no plug-in providers; they came with 1.23")
    if not Path(path).is_file():
        raise BackendError(f"onnxruntime: cannot load {path} as {provider}: no such file")
    try:
        ort.register_execution_provider_library(provider, path)
    except Exception as error:
        raise BackendError(f"onnxruntime: cannot load {path} as {provider}: {reason_of(error)}") from error
    _registered[provider] = path


def _devices(ort: Any) -> list[Any]:
    return list(ort.get_ep_devices()) if hasattr(ort, "get_ep_devices") else []
