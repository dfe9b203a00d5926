"""Is this machine ready? One small check each, with how to mend what is not."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_sdk.device import power, system_root, this_device
from edge_sdk.errors import OPENCV_LIBRARIES_HINT, EdgeSdkError, extra_hint, one_line

State = Literal["ok", "note", "bad"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; "note" is worth knowing, "bad" stops detection."""

    name: str
    state: State
    found: str
    mend: str | None = None


def run() -> Iterator[Check]:
    """Looks at everything, in the order in which it is needed."""
    for look in (_python, _board, _opencv, _backends, _model, _cameras, _picamera2, _power, _extras):
        yield from _guarded(look)


def _guarded(look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from look()
    except (EdgeSdkError, OSError, ImportError) as error:
        yield Check(look.__name__.strip("_"), "bad", one_line(error))


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    yield Check("python", "ok" if supported else "note", version, None if supported else "tested on 3.10 to 3.13")


def _board() -> Iterator[Check]:
    identity = this_device()
    yield Check("board", "ok", f"{identity.target.label} ({identity.target.name}), recognised: {identity.confidence}")


def _opencv() -> Iterator[Check]:
    try:
        import cv2
    except ImportError as error:
        yield Check("opencv", "bad", one_line(error), OPENCV_LIBRARIES_HINT)
        return
    gstreamer = "GStreamer:                   YES" in cv2.getBuildInformation()
    yield Check("opencv", "ok", f"{cv2.__version__}, {'with' if gstreamer else 'without'} GStreamer of its own")


def _backends() -> Iterator[Check]:
    from edge_sdk.backends.base import backends

    usable = False
    for backend in backends().values():
        lack = backend.missing()
        if lack is None:
            try:
                found = backend.version() or "installed"
            except EdgeSdkError as error:
                yield Check(backend.name, "note", one_line(error))
                continue
            usable = True
            yield Check(backend.name, "ok", found)
        else:
            yield Check(backend.name, "note", *lack.split(": ", 1))
    if not usable:
        yield Check("backends", "bad", "no engine is installed, so nothing can run", extra_hint("onnxruntime"))


def _model() -> Iterator[Check]:
    from edge_sdk.models import default

    yield Check("model", "ok", f"{default.path().name}, embedded")


def _cameras() -> Iterator[Check]:
    from edge_sdk.sources.base import find_cameras

    root = system_root()
    found = find_cameras(root)
    for camera in found:
        yield Check("camera", "ok", f"{camera.spec} ({camera.label})")
    if not found:
        yield Check("camera", "note", "none found", "attach one; files, streams and the demo scene need none")
    for node in sorted((root / "dev").glob("video*")):
        if not os.access(node, os.R_OK | os.W_OK):
            yield Check("camera", "bad", f"no permission for {node}", "sudo usermod -aG video $USER, then log in again")


def _picamera2() -> Iterator[Check]:
    if this_device().target.family != "raspberry_pi":
        return
    if importlib.util.find_spec("picamera2") is not None:
        yield Check("picamera2", "ok", "importable")
        return
    debian = Path("/usr/lib/python3/dist-packages/picamera2").is_dir()
    found = "installed for the system's Python, which this environment does not see" if debian else "not installed"
    mend = "picamera2 is a Debian package, not one of PyPI: " + (
        "" if debian else "sudo apt install python3-picamera2, and "
    )
    yield Check(
        "picamera2",
        "note",
        f"{found}; CSI cameras need it",
        f"{mend}make the environment with python3 -m venv --system-site-packages",
    )


def _power() -> Iterator[Check]:
    found = power()
    total = found["total"]
    if total["value_w"] is None:
        yield Check(
            "power",
            "note",
            f"not measured: {total['reason']}",
            "detection goes on without it; an external meter is named with --sensor, see 'edge-sdk devices'",
        )
        return
    lacks = f"; {total['reason']}" if total["reason"] else ""
    yield Check("power", "ok", f"{total['value_w']:.2f} W ({total['method']}{lacks})")


def _extras() -> Iterator[Check]:
    for module, extra, use in (
        ("pycocotools", "evaluate", "evaluate"),
        ("supervision", "supervision", "Detections.to_supervision"),
        ("matplotlib", "demo", "the demo scene's photo"),
    ):
        if importlib.util.find_spec(module) is None:
            yield Check(module, "note", f"not installed; {use} needs it", extra_hint(extra))
        else:
            yield Check(module, "ok", "installed")
