"""The detector that the package carries, so that a first run needs no download.

One network in two files: ONNX, and TFLite with float16 weights for boards whose only engine is LiteRT. How it was
trained: ``tools/train_default``; what it is for and not for: its model card in the documentation.
"""

from __future__ import annotations

from pathlib import Path

from edge_sdk.backends import base as backends

_FOLDER = Path(__file__).parent
ONNX = _FOLDER / "gelan_nano.onnx"
TFLITE = _FOLDER / "gelan_nano.tflite"


def path(backend: str = "auto") -> Path:
    """The file that an engine opens.

    Args:
        backend: As `edge_sdk.Detector` takes it. ``auto`` is ONNX, unless LiteRT is all that is installed.

    Raises:
        UsageError: There is no such backend.
    """
    if backend != "auto":
        chosen, _ = backends.named(backend)
        return next((file for file in (ONNX, TFLITE) if file.suffix in chosen.suffixes), ONNX)
    # In this order: asking an engine whether it is there imports it.
    return next((file for file in (ONNX, TFLITE) if _is_usable(file)), ONNX)


def _is_usable(file: Path) -> bool:
    return any(file.suffix in one.suffixes and one.missing() is None for one in backends.backends().values())
