"""One pass of the calibration photos through a float model, with every activation watched."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.backends.base import Array, cores
from edge_sdk.calibration.activations import FORMAT, Statistics, TensorStatistics
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.histogram import GrowingHistogram, Scratch
from edge_sdk.errors import (
    DatasetError,
    MissingDependencyError,
    ModelError,
    UsageError,
    extra_hint,
    one_line,
)

if TYPE_CHECKING:
    import onnx

_FLOATS = {"tensor(float)": 4, "tensor(float16)": 2, "tensor(double)": 8}


def collect(
    model: onnx.ModelProto,
    feeds: Iterable[Mapping[str, Array]],
    *,
    tensors: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
    threads: int | None = None,
    memory_mib: int = 512,
) -> Statistics:
    """Runs each photo through the model and keeps what every range method needs.

    All watched tensors of a photo are in memory at once, if that takes no more than `memory_mib` (YOLOX-nano at 416:
    127 MB for all 369). Else they are watched in several parts, each with a session of its own: a photo is still
    decoded once, and run once for each part.

    Args:
        model: The float model, with its weights in it.
        feeds: Input arrays by name, a mapping a photo; read once, one at a time.
        tensors: Names of those to watch; else every floating-point input and activation that depends on the input.
        names: Of the photos, for messages; else they are numbered from 0.
        progress: Called with the number of photos that are done.
        threads: Inside one inference; None for all cores.
        memory_mib: For the activations of one photo.

    Raises:
        MissingDependencyError: onnx or ONNX Runtime is not installed.
        ModelError: The model cannot be opened or run, is larger than 2 GiB or has weights left in another file.
        UsageError: A tensor that the model does not have or that holds no floating-point numbers.
        DatasetError: No photo at all, or one whose input is not finite.
    """
    runtime = _runtime()
    data, watched = _exposed(model, tensors)
    model_sha256, digest = model_digest(model), hashlib.sha256()
    tallies: dict[str, _Tally] = {}
    photos: list[str] = []
    sessions: list[tuple[Any, list[str]]] | None = None
    inputs: list[str] = []
    for feed in feeds:
        done = len(photos)
        photo = names[done] if names is not None and done < len(names) else f"photo {done}"
        photos.append(photo)
        _check_and_digest(feed, photo, digest)
        if sessions is None:
            sessions, inputs = _opened(data, watched, feed, threads, memory_mib << 20, chosen=tensors is not None)
            tallies = {name: _Tally() for name in [*inputs, *(name for _, part in sessions for name in part)]}
        scratch = Scratch()
        for name, values in _values(sessions, inputs, feed, photo):
            tallies[name].add(values, photo, scratch)
        if progress is not None:
            progress(len(photos))
    if not photos:
        raise DatasetError("there is no calibration photo")
    return Statistics(
        tensors={name: tally.finished() for name, tally in tallies.items()},
        photos=tuple(photos),
        model_sha256=model_sha256,
        feeds_sha256=digest.hexdigest(),
        runtime=runtime,
    )


def collect_once(
    model: onnx.ModelProto,
    feeds: Iterable[Mapping[str, Array]],
    cache: Cache,
    feeds_digest: str,
    *,
    tensors: Sequence[str] | None = None,
    **options: Any,
) -> Statistics:
    """`collect`, unless the cache has what the same model and photos gave before; then no feed is read.

    Args:
        model, feeds, tensors: As for `collect`.
        cache: Where they are kept.
        feeds_digest: Stands for the feeds: of the photos' bytes and how they are prepared.
        options: What else `collect` takes.

    Raises:
        EdgeSdkError: As `collect`, and where the cache cannot be written. A damaged file in the cache is no error: it
            is made anew.
    """
    runtime = _runtime()
    key = cache.key(
        {
            "what": "activation statistics",
            "format": FORMAT,
            "model": model_digest(model),
            "feeds": feeds_digest,
            "tensors": None if tensors is None else list(tensors),
            "names": list(options.get("names") or ()),
            "runtime": runtime,
        }
    )
    kept = cache.get_bytes(key)
    if kept is not None:
        try:
            return Statistics.from_bytes(kept)
        except DatasetError:
            cache.forget(key)
    statistics = collect(model, feeds, tensors=tensors, **options)
    cache.put_bytes(key, statistics.to_bytes())
    return statistics


def model_digest(model: onnx.ModelProto) -> str:
    """sha256 of a model, weights and all.

    Raises:
        ModelError: It is larger than 2 GiB.
    """
    return hashlib.sha256(_serialized(model)).hexdigest()


def _runtime() -> str:
    """What runs the model.

    Raises:
        MissingDependencyError: It is not installed, or onnx is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"calibration needs onnx and onnxruntime: {extra_hint('calibrate')}") from error
    return f"onnxruntime {onnxruntime.__version__}"


# --- the model -----------------------------------------------------------------------------------


def _serialized(model: onnx.ModelProto) -> bytes:
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except Exception as error:  # protobuf's own kind, which differs between its versions
        raise ModelError(f"the model cannot be written as one file: {one_line(error)}") from error


def _exposed(model: onnx.ModelProto, tensors: Sequence[str] | None) -> tuple[onnx.ModelProto, list[str]]:
    """A copy of the model whose outputs are what is to be watched beside its inputs, and their names."""
    import onnx

    for weights in model.graph.initializer:
        if weights.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(f"initializer {weights.name!r} lies in another file: load its data first")
    _serialized(model)  # refuses what is too large before it is copied
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    moving = _moving(model.graph)
    produced = {name for node in model.graph.node for name in node.output if name}
    inputs = [value.name for value in model.graph.input]
    if tensors is None:
        wanted = [name for node in model.graph.node for name in node.output if name in moving]
    else:
        for name in tensors:
            if name not in produced and name not in inputs:
                raise UsageError(f"the model has no activation {name!r}")
        wanted = [name for name in dict.fromkeys(tensors) if name in produced]
    if not wanted:  # inputs alone: a graph has some output all the same
        return copy, _watched_inputs(model.graph, tensors)
    del copy.graph.output[:]
    known = {value.name: value for value in model.graph.output}
    for name in wanted:
        # An output by its name alone: the engine infers its type.
        copy.graph.output.append(known.get(name) or onnx.ValueInfoProto(name=name))
    return copy, [*_watched_inputs(model.graph, tensors), *wanted]


def _watched_inputs(graph: onnx.GraphProto, tensors: Sequence[str] | None) -> list[str]:
    weights = {value.name for value in graph.initializer}
    return [
        value.name for value in graph.input if value.name not in weights and (tensors is None or value.name in tensors)
    ]


def _moving(graph: onnx.GraphProto) -> set[str]:
    """Names of tensors that may differ from photo to photo."""
    weights = {value.name for value in graph.initializer}
    moving = {value.name for value in graph.input if value.name not in weights}
    for node in graph.node:
        # A subgraph may use anything from outside without saying so.
        inner = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if inner or any(name in moving for name in node.input) or node.op_type.startswith("Random"):
            moving.update(name for name in node.output if name)
    return moving


def _opened(
    model: onnx.ModelProto,
    watched: Sequence[str],
    feed: Mapping[str, Array],
    threads: int | None,
    budget: int,
    *,
    chosen: bool,
) -> tuple[list[tuple[Any, list[str]]], list[str]]:
    """Sessions with the tensors that each gives, and the inputs to watch."""
    session = _session(model, threads)
    inputs = {value.name: value for value in session.get_inputs()}
    for name in feed:
        if name not in inputs:
            raise UsageError(f"the model has no input {name!r}; it has {', '.join(inputs)}")
    types = {value.name: value.type for value in [*inputs.values(), *session.get_outputs()]}
    others = [name for name in watched if types.get(name) not in _FLOATS]
    if chosen and others:
        raise UsageError(f"tensor {others[0]!r} holds no floating-point numbers ({types.get(others[0])})")
    floats = [name for name in watched if types.get(name) in _FLOATS]
    outputs = [name for name in floats if name not in inputs]
    sizes = _sizes(model, session, feed, threads)
    parts = list(_parts(outputs, sizes, budget))
    if len(parts) <= 1:
        return [(session, part) for part in parts], [name for name in floats if name in inputs]
    del session
    sessions = []
    for part in parts:
        keep, own = set(part), type(model)()
        own.CopyFrom(model)
        kept = [value for value in model.graph.output if value.name in keep]
        del own.graph.output[:]
        own.graph.output.extend(kept)
        sessions.append((_session(own, threads), part))
    return sessions, [name for name in floats if name in inputs]


def _session(model: onnx.ModelProto, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(_serialized(model), options, providers=["CPUExecutionProvider"])
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"onnxruntime cannot open the model: {one_line(error)}") from error


def _sizes(
    model: onnx.ModelProto, session: Any, feed: Mapping[str, Array], threads: int | None
) -> Mapping[str, int]:  # fmt: skip
    """Bytes of each output, as float32; where a shape is open, as the shapes of `feed` make it."""
    sizes = _stated_sizes(session)
    if any(size is None for size in sizes.values()):
        fixed = type(model)()
        fixed.CopyFrom(model)
        for value in fixed.graph.input:
            if value.name in feed:
                axes = value.type.tensor_type.shape.dim
                for axis, length in zip(axes, feed[value.name].shape, strict=False):
                    axis.dim_value = length
        del fixed.graph.value_info[:]
        for output in fixed.graph.output:
            output.ClearField("type")
        with contextlib.suppress(ModelError):  # a graph that contradicts its feed fails when it is run on the photo
            sizes = _stated_sizes(_session(fixed, threads))
    largest = max((size for size in sizes.values() if size is not None), default=1)
    return {name: largest if size is None else size for name, size in sizes.items()}


def _stated_sizes(session: Any) -> dict[str, int | None]:
    return {
        value.name: int(np.prod(value.shape, dtype=np.int64)) * 4
        if all(isinstance(axis, int) for axis in value.shape)
        else None
        for value in session.get_outputs()
    }


def _parts(names: Sequence[str], sizes: Mapping[str, int], budget: int) -> Iterator[list[str]]:
    """Neighbours in the graph together, as many as fit the budget; at least one."""
    part: list[str] = []
    filled = 0
    for name in names:
        if part and filled + sizes[name] > budget:
            yield part
            part, filled = [], 0
        part.append(name)
        filled += sizes[name]
    if part:
        yield part


# --- the photos ----------------------------------------------------------------------------------


def _check_and_digest(feed: Mapping[str, Array], photo: str, digest: Any) -> None:
    for name in sorted(feed):
        array = feed[name]
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise DatasetError(f"{photo}: input {name!r} holds values that are not finite")
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)


def _values(
    sessions: Sequence[tuple[Any, list[str]]], inputs: Sequence[str], feed: Mapping[str, Array], photo: str
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name in inputs:
        if name in feed:
            yield name, np.ascontiguousarray(feed[name], np.float32)
    for session, part in sessions:
        try:
            values = session.run(part, dict(feed))
        except Exception as error:
            raise ModelError(f"{photo}: the model cannot be run on it: {one_line(error)}") from error
        with np.errstate(over="ignore"):  # a float64 that is too large for float32 counts as infinite
            for name, array in zip(part, values, strict=True):
                yield name, np.ascontiguousarray(array, np.float32)


@dataclass
class _Tally:
    """One tensor's statistics in the making."""

    histogram: GrowingHistogram = field(default_factory=GrowingHistogram)
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    channels: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    by_channel: bool = True
    not_finite: int = 0
    first_bad: str = ""

    def add(self, values: NDArray[np.float32], photo: str, scratch: Scratch) -> None:
        if not values.size:
            self._end(np.nan, np.nan)
            return
        channels = self._extremes(values)
        low, high = float(channels[0].min()), float(channels[1].max())
        if not np.isfinite(low) or not np.isfinite(high):
            finite = np.isfinite(values)
            self.not_finite += int(values.size - np.count_nonzero(finite))
            self.first_bad = self.first_bad or photo
            self.by_channel = False
            values = values[finite]
            if not values.size:
                self._end(np.nan, np.nan)
                return
            low, high = float(values.min()), float(values.max())
        elif self.by_channel and len(channels[0]) and values.ndim == 4:
            self._merge(channels)
        else:
            self.by_channel = False
        self._end(low, high)
        self.histogram.add(values, (low, high), scratch)

    def _end(self, low: float, high: float) -> None:
        self.lows.append(low)
        self.highs.append(high)

    @staticmethod
    def _extremes(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """By channel for [n, c, h, w], of all values for others."""
        if values.ndim != 4:
            return values.min(keepdims=True).reshape(-1), values.max(keepdims=True).reshape(-1)
        rows = values.reshape(values.shape[0], values.shape[1], -1)
        return rows.min(axis=2).min(axis=0), rows.max(axis=2).max(axis=0)

    def _merge(self, channels: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
        if self.channels is None:
            self.channels = channels
        elif len(self.channels[0]) != len(channels[0]):
            self.by_channel = False
        else:
            self.channels = np.minimum(self.channels[0], channels[0]), np.maximum(self.channels[1], channels[1])

    def finished(self) -> TensorStatistics:
        histogram = self.histogram.snapshot()
        lows, highs = self.channels if self.channels is not None and self.by_channel else (None, None)
        note = ""
        if self.not_finite:
            note = f"{self.not_finite} values are not finite, the first in {self.first_bad}"
        elif not histogram.total:
            note = "it never held a value"
        elif histogram.low == histogram.high:
            note = f"always {histogram.low:g}"
        photos = np.array(self.lows, np.float32), np.array(self.highs, np.float32)
        return TensorStatistics(histogram, *photos, lows, highs, self.not_finite, note)
