"""Whether two models say the same: both run on the same feeds, each output compared."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_sdk.calibration.graph import model_bytes
from edge_sdk.errors import MissingDependencyError, ModelError, UsageError, extra_hint, one_line

Array = NDArray[Any]
Feeds = Mapping[str, Array]

# Largest deviation of an output, as a share of that output's largest value, that counts as float rounding. Folding and
# fusing reorder sums of thousands of float32 terms; on seven real detectors that stayed below 5e-5.
ROUNDING = 1e-4
# The same for a model stored in 16 bits, whose own arithmetic rounds at 2^-11 in each layer: four real detectors
# stayed below 1.1e-3.
HALF_ROUNDING = 1e-2

# A difference below this counts as rounding whatever the output's largest value is: the engine's sigmoid comes out up
# to 1.5e-7 apart in its different kernels (YuNet's scores on noise, all below 5e-5).
_FLOOR = 1e-6

# A detector takes tenths of a second. A loop in a hostile model may take for ever.
_LIMIT_S = 120.0


@dataclass(frozen=True)
class OutputDifference:
    """How far one output of two models is apart, over all feeds.

    Args:
        output: Its name.
        max_abs: Largest difference of two elements.
        max_rel: The same as a share of the output's largest value in the first model.
        snr_db: Signal to noise: 10 log10 of the sum of squares of the first over that of the differences; infinite
            where there is no difference.
    """

    output: str
    max_abs: float
    max_rel: float
    snr_db: float


@dataclass(frozen=True)
class Difference:
    """How far two models are apart: one row for each output, in the model's order."""

    outputs: tuple[OutputDifference, ...]

    @property
    def worst(self) -> OutputDifference:
        """The row with the largest share."""
        return max(self.outputs, key=lambda row: row.max_rel)


class Runner:
    """A model open in ONNX Runtime on one thread, so that its sums are added in one order each time.

    Args:
        model: Any that `model_bytes` can write.
        optimized: Whether the engine optimizes as it does in use.

    Raises:
        ModelError: The engine cannot open it.
    """

    def __init__(self, model: onnx.ModelProto, *, optimized: bool = True) -> None:
        ort = runtime()
        settings = session_settings(ort)
        if not optimized:
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = opened(model, settings)
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """Outputs by name.

        Raises:
            ModelError: The run failed, or took longer than two minutes.
        """
        options = runtime().RunOptions()
        options.log_severity_level = 4

        def stop() -> None:
            options.terminate = True

        timer = threading.Timer(_LIMIT_S, stop)
        timer.start()
        try:
            return dict(zip(self.outputs, self._session.run(list(self.outputs), dict(feeds), options), strict=True))
        except Exception as error:
            if options.terminate:
                raise ModelError(f"the model was still running after {_LIMIT_S:.0f} s") from error
            raise ModelError(f"ONNX Runtime cannot run the model: {one_line(error)[:300]}") from error
        finally:
            timer.cancel()


def check_same(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    feeds: Feeds | Sequence[Feeds],
    *,
    rounding: float = ROUNDING,
) -> Difference:
    """Runs the first model as its file says and the second as the engine runs it in use, and compares the outputs.

    Args:
        before: What it should be; run without any optimization, so that an engine's own slip shows too.
        after: May lack outputs that `before` has, and no other way round.
        feeds: Inputs by name, once or several times.
        rounding: Largest accepted difference as a share of an output's largest value; 1e-6 is always accepted. Outputs
            of whole numbers and truth values must be equal.

    Raises:
        ModelError: An output differs by more, in shape, in type or in where it is not a number; the first that does is
            named. Or the engine cannot run one of the two.
        UsageError: There are no feeds.
    """
    all_feeds = [feeds] if isinstance(feeds, Mapping) else list(feeds)
    if not all_feeds:
        raise UsageError("check_same needs feeds to run on")
    first, second = Runner(before, optimized=False), Runner(after)
    missing = [name for name in second.outputs if name not in first.outputs]
    if missing:
        raise ModelError(f"the output {missing[0]!r} is new")
    sums = {name: np.zeros(4) for name in second.outputs}  # largest difference, largest value, squares of both
    for one in all_feeds:
        wanted, found = first(one), second(one)
        for name in second.outputs:
            _compare(name, wanted[name], found[name], sums[name])
            worst, largest = sums[name][:2]
            if worst > max(rounding * largest, _FLOOR):
                raise ModelError(
                    f"the output {name!r} is not the same: it differs by up to {worst:.3g}, "
                    f"where its largest value is {largest:.3g}"
                )
    return Difference(tuple(_row(name, sums[name]) for name in second.outputs))


def _compare(name: str, wanted: Array, found: Array, sums: Array) -> None:
    if not isinstance(wanted, np.ndarray) or not isinstance(found, np.ndarray):
        raise ModelError(f"the output {name!r} is no tensor")
    if wanted.shape != found.shape:
        raise ModelError(f"the output {name!r} is not the same: {list(found.shape)} for {list(wanted.shape)}")
    if not np.issubdtype(wanted.dtype, np.floating):
        if wanted.dtype != found.dtype or not np.array_equal(wanted, found):
            raise ModelError(f"the output {name!r} is not the same: it holds other whole numbers")
        return
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    strange = ~np.isfinite(a)
    if not np.array_equal(a[strange], b[strange], equal_nan=True) or not np.isfinite(b[~strange]).all():
        raise ModelError(f"the output {name!r} is not the same: infinite or no number in other places")
    a, b = a[~strange], b[~strange]
    if a.size:
        sums[:2] = np.maximum(sums[:2], [np.abs(a - b).max(), np.abs(a).max()])
        sums[2:] += [np.square(a).sum(), np.square(a - b).sum()]


def _row(name: str, sums: Array) -> OutputDifference:
    worst, largest, signal, noise = (float(value) for value in sums)
    snr_db = 10 * float(np.log10(signal / noise)) if noise and signal else float("inf")
    return OutputDifference(name, worst, worst / largest if largest else 0.0, snr_db)


def runtime() -> Any:
    """ONNX Runtime's module, made quiet: its errors reach the caller, and its log would repeat them on standard error.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"onnxruntime is not installed: {extra_hint('onnxruntime')}") from error
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def session_settings(ort: Any) -> Any:
    """Session options of one quiet thread."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    settings.inter_op_num_threads = 1
    return settings


def opened(model: onnx.ModelProto, settings: Any) -> Any:
    """An inference session on the CPU.

    Raises:
        ModelError: The engine cannot open the model.
    """
    data = model_bytes(model)
    try:
        return runtime().InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"ONNX Runtime cannot open the model: {one_line(error)[:300]}") from error
