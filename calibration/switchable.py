"""A float model in which groups of layers are switched to INT8 numerics and back, probe by probe.

A probe is one pass over a few photos with some groups on. The graph is cut into sections, and what a section computes
depends on the photo and on the groups that are on in it and before it. So where these are as in a run that was kept
(all off, all on), a section's outputs are taken from there: switching one group runs only what comes after it. A
section is compiled for what is on in it, with QuantizeLinear and DequantizeLinear pairs just there, in a few
milliseconds; sections that are off are the plain float ones, bit by bit.

A single graph with a run-time switch at each tensor does the same without compiling, but was measured to cost several
times as much: Where and If split the graph into pieces that the engine cannot fuse, for tensors that are off too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration import fake_quant
from edge_sdk.calibration.fake_quant import Quantizer, activation_quantizer
from edge_sdk.calibration.sections import Section, contents, cut, section_model, with_shapes
from edge_sdk.errors import BackendError, MissingDependencyError, ModelError, UsageError, extra_hint, one_line

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]
Mask = NDArray[np.bool_]

_MAX_BYTES = (2 << 30) - (1 << 20)  # protobuf's limit, with room for what is added
_COMPILED_PER_SECTION = 4


@dataclass(frozen=True)
class Switch:
    """What one position of a mask turns to INT8 together.

    Args:
        name: For messages and reports.
        activations: Tensors that are quantized; float32, made by nodes or inputs of the graph.
        weights: Initializers that are quantized, and the biases that go with them.
    """

    name: str
    activations: tuple[str, ...]
    weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Variant:
    """What is on in one section: its tensors, its weights, and the tensors from before that scale its biases."""

    quantizers: tuple[tuple[str, Quantizer], ...]
    weights: tuple[str, ...]
    before: tuple[tuple[str, Quantizer], ...]


@dataclass(frozen=True)
class _Step:
    """One section of one probe: what it computes is told by `key`."""

    section: int
    key: int
    variant: _Variant


class SwitchableModel:
    """Runs a float model with any of its groups in INT8 numerics.

    Used by one thread at a time; `workers` of its own share the photos. A tensor or weight that stands in several
    switches is on where any of them is.

    Args:
        model: In float32, with its nodes in order and its weights loaded; not changed.
        switches: The groups, in the order of the masks.
        ranges: Low and high of each activation that a switch names.
        weights: Rounded weights, by initializer, in place of plain rounding to int8 with a scale a channel; and
            corrected biases, which are in place of a layer's own where its weights are on.
        weight_levels: On each side of 0: 127, or 64 where the kernels saturate (see `fake_quant`).
        sections: To cut the graph into, at most. More of them reuse more and cost more calls.
        threads: Inside one section's run.
        workers: Photos that are run at a time.
        keep_mib: Of section outputs that `keep` may hold, in all.

    Raises:
        ModelError: The model is larger than 2 GiB, out of order, older than opset 10, or the engine refuses it.
        UsageError: A switch names a tensor or weight that there is not, or a range is missing or none.
        MissingDependencyError: onnx or onnxruntime is not installed.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        switches: Sequence[Switch],
        ranges: Mapping[str, tuple[float, float]],
        *,
        weights: Mapping[str, NDArray[np.float32]] | None = None,
        weight_levels: int = fake_quant.WEIGHT_LEVELS,
        sections: int = 8,
        threads: int = 1,
        workers: int = 1,
        keep_mib: int = 1024,
    ) -> None:
        counts = {"weight_levels": weight_levels, "sections": sections, "threads": threads, "workers": workers}
        for name, value in counts.items():
            if value < 1:
                raise UsageError(f"{name} must be 1 or more, not {value}")
        onnx, self._ort = _imports()
        if model.ByteSize() > _MAX_BYTES:
            raise ModelError("the model is larger than 2 GiB, which neither protobuf nor a probe can hold")
        fake_quant.check_model(model)
        self._model = with_shapes(model)
        graph = self._model.graph
        self._types = {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}
        self._proto = {value.name: value for value in graph.initializer}
        self._arrays = {
            value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer if value.data_type == 1
        }
        self._made = {name for node in graph.node for name in node.output}
        self.inputs = tuple(value.name for value in graph.input if value.name not in self._proto)
        self.outputs = tuple(value.name for value in graph.output)
        if passed := [name for name in self.outputs if name not in self._made]:
            raise ModelError(f"output {passed[0]!r} is made by no node")
        self.switches = tuple(switches)
        self._ranges = dict(ranges)
        self._rounded = dict(weights or {})
        self._levels = weight_levels
        self._check_switches()
        self._round_weights()
        self.sections: tuple[Section, ...] = cut(self._model, sections)
        self._maker = {name: index for index, one in enumerate(self.sections) for name in one.outputs}
        weights_on = {name for switch in self.switches for name in switch.weights}
        self._contents = [
            contents(self._model, one, self.inputs, self._quantizers, weights_on) for one in self.sections
        ]
        self._threads = threads
        self._keep_bytes = keep_mib << 20
        self._photos: tuple[dict[str, Array], ...] = ()
        self._kept: dict[int, list[dict[str, Array]]] = {}
        self._keys: dict[tuple[Any, ...], int] = {}
        self._compiled: OrderedDict[tuple[int, _Variant], Any] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self.section_runs = 0

    # --- the face ---------------------------------------------------------------------------------

    @property
    def off(self) -> Mask:
        """The mask of the float model, bool [switches]."""
        return np.zeros(len(self.switches), np.bool_)

    @property
    def on(self) -> Mask:
        """The mask with every switch on, bool [switches]."""
        return np.ones(len(self.switches), np.bool_)

    def load(self, photos: Sequence[Mapping[str, Array]]) -> None:
        """Sets the photos that probes run on, and forgets what was kept.

        Args:
            photos: The arrays of each, by input name, as the model is fed; not copied, not to be changed later.

        Raises:
            UsageError: An input is missing.
        """
        for feeds in photos:
            if missing := [name for name in self.inputs if name not in feeds]:
                raise UsageError(f"a photo lacks the input {missing[0]!r}")
        self._photos = tuple({name: feeds[name] for name in self.inputs} for feeds in photos)
        self._kept.clear()

    def keep(self, mask: Mask) -> list[dict[str, Array]]:
        """A probe whose sections' outputs are kept, as far as they fit, so that probes like it run less.

        Args:
            mask: bool [switches]; `off` and `on` are worth it before a sweep from each.

        Returns:
            As `probe` does.
        """
        return self._probe(mask, {}, keep=True)

    def forget(self) -> None:
        """Lets go of all that was kept."""
        self._kept.clear()

    @property
    def kept_mib(self) -> float:
        """Size of all that is kept."""
        return self._kept_bytes() / (1 << 20)

    def probe(self, mask: Mask, ranges: Mapping[str, tuple[float, float]] | None = None) -> list[dict[str, Array]]:
        """Runs the loaded photos with some groups on.

        Args:
            mask: bool [switches].
            ranges: Other ranges than the usual, by tensor, for this probe.

        Returns:
            The model's outputs by name, for each photo in turn; not to be written to.

        Raises:
            UsageError: Another length or dtype of mask, a range that is none, or no photos.
            BackendError: The engine failed.
        """
        return self._probe(mask, ranges or {}, keep=False)

    def run(
        self, feeds: Mapping[str, Array], mask: Mask, ranges: Mapping[str, tuple[float, float]] | None = None
    ) -> dict[str, Array]:
        """One pass over one photo that need not be loaded; nothing is reused.

        Args:
            feeds: Arrays by input name.
            mask: bool [switches].
            ranges: As for `probe`.
        """
        if missing := [name for name in self.inputs if name not in feeds]:
            raise UsageError(f"the input {missing[0]!r} is missing")
        steps = self._needed(self._steps(mask, ranges or {}), {})
        values: dict[str, Array] = {name: feeds[name] for name in self.inputs}
        for step in steps:
            values.update(self._run_section(step, values))
        return {name: values[name] for name in self.outputs}

    def close(self) -> None:
        """Frees the engine's memory and ends the workers; may be called twice."""
        if self._pool is not None:
            self._pool.shutdown()
        self._compiled.clear()
        self._kept.clear()

    def __enter__(self) -> SwitchableModel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- a probe ----------------------------------------------------------------------------------

    def _probe(self, mask: Mask, ranges: Mapping[str, tuple[float, float]], *, keep: bool) -> list[dict[str, Array]]:
        if not self._photos:
            raise UsageError("no photos are loaded: call load first")
        every = self._steps(mask, ranges)
        steps = list(every) if keep else self._needed(every, self._kept)
        source = {name: step for step in every for name in self.sections[step.section].outputs}
        wanted = {name for step in steps for name in self.sections[step.section].inputs if name in source}
        wanted |= set(self.outputs)
        for step in steps:
            self._session(step)  # compiled before workers ask for it

        def one(number: int) -> dict[str, Array]:
            values = dict(self._photos[number])
            for name in wanted:
                kept = self._kept.get(source[name].key)
                if kept is not None:
                    values[name] = kept[number][name]
            for step in steps:
                if keep and step.key in self._kept:
                    values.update(self._kept[step.key][number])
                else:
                    values.update(self._run_section(step, values))
            return values

        numbers = range(len(self._photos))
        found = list(self._pool.map(one, numbers) if self._pool is not None else map(one, numbers))
        if keep:
            self._store(every, found)
        return [{name: values[name] for name in self.outputs} for values in found]

    def _steps(self, mask: Mask, ranges: Mapping[str, tuple[float, float]]) -> list[_Step]:
        """Every section with what is on in it, and a number for all that its outputs depend on."""
        if mask.shape != (len(self.switches),) or mask.dtype != np.bool_:
            raise UsageError(f"a mask is bool [{len(self.switches)}], not {mask.dtype} {list(mask.shape)}")
        quantizers = self._quantizers
        if ranges:
            if unknown := sorted(set(ranges) - set(quantizers)):
                raise UsageError(f"no switch has the activation {unknown[0]!r}")
            quantizers = {**quantizers, **{name: activation_quantizer(*pair) for name, pair in ranges.items()}}
        on = [switch for switch, wanted in zip(self.switches, mask.tolist(), strict=True) if wanted]
        activations = {name for switch in on for name in switch.activations}
        weights = {name for switch in on for name in switch.weights}
        steps: list[_Step] = []
        for index, (section, own) in enumerate(zip(self.sections, self._contents, strict=True)):
            rounded = tuple(name for name in own.weights if name in weights)
            before = dict.fromkeys(name for weight in rounded for name in own.weights[weight])
            variant = _Variant(
                tuple((name, quantizers[name]) for name in own.activations if name in activations),
                rounded,
                tuple((name, quantizers[name]) for name in before if name in activations),
            )
            above = tuple(steps[self._maker[name]].key for name in section.inputs if name in self._maker)
            key = self._keys.setdefault((index, variant, above), len(self._keys))
            steps.append(_Step(index, key, variant))
        return steps

    def _needed(self, steps: Sequence[_Step], kept: Mapping[int, Any]) -> list[_Step]:
        """The steps without which the outputs are not known."""
        wanted = set(self.outputs)
        needed = []
        for step in reversed(steps):
            section = self.sections[step.section]
            if step.key not in kept and not wanted.isdisjoint(section.outputs):
                wanted.update(section.inputs)
                needed.append(step)
        return needed[::-1]

    def _store(self, steps: Sequence[_Step], found: Sequence[Mapping[str, Array]]) -> None:
        """Keeps the outputs of sections, smallest first, while there is room."""
        sizes = [sum(found[0][name].nbytes for name in self.sections[step.section].outputs) for step in steps]
        room = self._keep_bytes - self._kept_bytes()
        for position in sorted(range(len(steps)), key=lambda p: (sizes[p], p)):
            step = steps[position]
            if step.key in self._kept:
                continue
            room -= sizes[position] * len(found)
            if room < 0:
                break
            names = self.sections[step.section].outputs
            self._kept[step.key] = [{name: values[name] for name in names} for values in found]

    def _kept_bytes(self) -> int:
        return sum(array.nbytes for photos in self._kept.values() for one in photos for array in one.values())

    # --- sections ---------------------------------------------------------------------------------

    def _run_section(self, step: _Step, values: Mapping[str, Array]) -> dict[str, Array]:
        section = self.sections[step.section]
        session = self._session(step)
        try:
            arrays = session.run(list(section.outputs), {name: values[name] for name in section.inputs})
        except Exception as error:
            raise BackendError(f"onnxruntime: a probe failed: {one_line(error)}") from error
        with self._lock:
            self.section_runs += 1
        return dict(zip(section.outputs, arrays, strict=True))

    def _session(self, step: _Step) -> Any:
        key = (step.section, step.variant)
        with self._lock:
            if key in self._compiled:
                self._compiled.move_to_end(key)
                return self._compiled[key]
            session = self._compiled[key] = self._compile(self.sections[step.section], step.variant)
            # A probe's sections must all fit, and the float ones with them.
            while len(self._compiled) > max(_COMPILED_PER_SECTION * len(self.sections), 8):
                self._compiled.popitem(last=False)
            return session

    def _compile(self, section: Section, variant: _Variant) -> Any:
        ort = self._ort
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False  # each session has its own, and there are many
        # Else pairs become integer kernels, and float weights between them are rounded with one scale for all channels.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        quantizers = dict(variant.quantizers)
        nodes = self._model.graph.node[section.start : section.end]
        rounded = {name: self._rounded[name] for name in variant.weights}
        fed = {**dict(variant.before), **quantizers}
        changed = fake_quant.rounded_weights(nodes, self._arrays, rounded, fed, self._levels, self._biases)
        model = section_model(self._model, section, self.inputs, quantizers, changed)
        try:
            return ort.InferenceSession(
                model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:
            raise ModelError(f"onnxruntime refuses a part of the model: {one_line(error)}") from error

    # --- preparation ------------------------------------------------------------------------------

    def _check_switches(self) -> None:
        self._quantizers: dict[str, Quantizer] = {}
        for switch in self.switches:
            for name in switch.activations:
                if name not in self._made and name not in self.inputs:
                    raise UsageError(f"switch {switch.name!r}: the model has no activation {name!r}")
                if name in self._types and self._types[name].type.tensor_type.elem_type != 1:
                    raise UsageError(f"switch {switch.name!r}: {name!r} is not float32")
                if name not in self._ranges:
                    raise UsageError(f"switch {switch.name!r}: there is no range of {name!r}")
                self._quantizers[name] = activation_quantizer(*self._ranges[name])
            for name in switch.weights:
                if name not in self._arrays:
                    raise UsageError(f"switch {switch.name!r}: the model has no float32 initializer {name!r}")

    def _round_weights(self) -> None:
        axes = fake_quant.weight_axes(self._model.graph.node)
        for name, array in self._rounded.items():
            if name not in self._arrays:
                raise UsageError(f"the model has no float32 initializer {name!r} to round")
            if array.shape != self._arrays[name].shape or array.dtype != np.float32:
                raise UsageError(f"the rounded weights of {name!r} must be float32 {list(self._arrays[name].shape)}")
        switched = dict.fromkeys(name for switch in self.switches for name in switch.weights)
        self._biases = {name: array for name, array in self._rounded.items() if name not in switched}
        for name in switched:
            if name not in self._rounded:
                self._rounded[name] = fake_quant.fake_quantized_weights(
                    self._arrays[name], axes.get(name), self._levels
                )


def _imports() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"{one_line(error)}: {extra_hint('calibrate')}") from error
    return onnx, onnxruntime
