"""The conformance suite holds for the SDK's backends, and catches one that breaks its promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import targets
from edge_sdk.backends.base import Layer, backends
from edge_sdk.errors import BackendError, ModelError, ModelNotFoundError
from edge_sdk.testing.backend_conformance import BackendConformance

MODELS = {
    "onnxruntime": ("onnxruntime", "yunet/yunet_n_320_320.onnx"),
    "tflite": ("tflite", "vww_96/vww_96_float.tflite"),
    "tflite, quantized": ("tflite", "vww_96/vww_96_int8.tflite"),
}
CHECKS = [check.__name__ for check in BackendConformance(backends()["tflite"], "any.tflite").checks()]


def suite(shared: Path, name: str, **options: str) -> BackendConformance:
    backend, model = MODELS[name]
    lack = backends()[backend].missing()
    if lack is not None:
        pytest.skip(lack)
    return BackendConformance(backends()[backend], shared / "models" / model, options=options)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", MODELS)
def test_the_backends_keep_their_promises(shared: Path, name: str, check: str) -> None:
    getattr(suite(shared, name), check)()


def test_built_in_kernels_keep_them_too(shared: Path) -> None:
    suite(shared, "tflite, quantized", delegate="none").run()


def test_a_model_with_open_axes_keeps_them_at_a_stated_shape(shared: Path) -> None:
    backend = backends()["onnxruntime"]
    model = shared / "models" / "yunet" / "yunet_n_dynamic.onnx"
    with backend.open(model, targets.load("generic-x86_64"), threads=1, options={}) as session:
        (image,) = session.inputs
    BackendConformance(backend, model, shapes={image.name: (1, 3, 64, 96)}).run()


class Broken:
    """A backend in front of a real one, with one thing changed."""

    def __init__(self, real: Any, change: Callable[[Any], None] | None = None, **replaced: Any) -> None:
        self._real, self._change = real, change
        self.name, self.suffixes, self.part_option = real.name, real.suffixes, real.part_option
        self.missing, self.version = real.missing, real.version
        for name, value in replaced.items():
            setattr(self, name, value)

    def open(self, model: Path, target: Any, *, threads: int | None, options: Mapping[str, str]) -> Any:
        session = self._real.open(model, target, threads=threads, options=options)
        if self._change is not None:
            self._change(session)
        return session


def forgets_to_copy(session: Any) -> None:
    kept: dict[str, Any] = {}
    run = session.run

    def cached(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        if not kept:
            kept.update(run(feeds))
        return kept

    session.run = cached


def writes_to_one_place(session: Any) -> None:
    kept: dict[str, Any] = {}
    run = session.run

    def reusing(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        for name, array in run(feeds).items():
            np.copyto(kept.setdefault(name, np.empty_like(array)), array)
        return kept

    session.run = reusing


def holds_on_to_arrays(session: Any) -> None:
    first: dict[int, Any] = {}
    run = session.run

    def stale(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        return run(first.setdefault(id(feeds), (dict(feeds), feeds))[0])

    session.run = stale


def writes_to_feeds(session: Any) -> None:
    run = session.run

    def spoiling(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        outputs = run(feeds)
        for array in feeds.values():
            array[...] = 0
        return outputs

    session.run = spoiling


def names_no_layers(session: Any) -> None:
    session.layers = list


def makes_up_a_precision(session: Any) -> None:
    session.layers = lambda: [Layer(("conv",), "cpu", "fp64", 1.0)]  # type: ignore[arg-type]


def runs_after_closing(session: Any) -> None:
    session.close = lambda: None


def shares_feeds(session: Any) -> None:
    arrays = session.new_feeds()
    session.new_feeds = lambda shapes=None: arrays


def raises_its_own_errors(session: Any) -> None:
    run = session.run

    def raw(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return run(feeds)
        except BackendError as error:
            raise error.__cause__ or ValueError("raw") from None

    session.run = raw


def says_nothing(session: Any) -> None:
    session.active = ""


def gives_doubles(session: Any) -> None:
    run = session.run
    session.run = lambda feeds: {name: array.astype(np.float64) for name, array in run(feeds).items()}


def names_numpy_kinds(session: Any) -> None:
    session.inputs = tuple(type(s)(s.name, tuple(np.int64(a) for a in s.shape), s.dtype) for s in session.inputs)


BROKEN: Sequence[tuple[Callable[[Any], None], str]] = [
    (forgets_to_copy, "outputs_follow_from_the_inputs_alone: other inputs gave the same outputs"),
    (writes_to_one_place, "a run with other feeds changed the outputs of an earlier one"),
    (holds_on_to_arrays, "a replaced array was not what was run"),
    (writes_to_feeds, "outputs_follow_from_the_inputs_alone: run wrote to what it was fed"),
    (names_no_layers, "layers_are_described_and_do_no_harm: layers() is empty"),
    (makes_up_a_precision, "there is no precision 'fp64'"),
    (runs_after_closing, "run after close was taken; it must raise BackendError"),
    (shares_feeds, "two calls share their memory"),
    (raises_its_own_errors, "wrong_feeds_are_backend_errors_and_do_no_harm"),
    (says_nothing, "it_says_what_is_active: active is not one line: ''"),
    (gives_doubles, "float64 instead of float32"),
    (names_numpy_kinds, "has an axis that is neither -1 nor 1 or more"),
]


@pytest.mark.parametrize(("change", "said"), BROKEN, ids=[change.__name__ for change, _ in BROKEN])
def test_a_session_that_breaks_a_promise_is_caught(shared: Path, change: Callable[[Any], None], said: str) -> None:
    real = suite(shared, "tflite")
    with pytest.raises(AssertionError) as caught:
        BackendConformance(Broken(real.backend, change), real.model).run()
    assert said in str(caught.value)


class FallsBack(Broken):
    """Takes any part, any file, and runs what it knows."""

    def open(self, model: Path, target: Any, *, threads: int | None, options: Mapping[str, str]) -> Any:
        return self._real.open(self.fallback, target, threads=threads, options={})


def test_a_backend_that_falls_back_in_silence_is_caught(shared: Path) -> None:
    real = suite(shared, "tflite")
    with pytest.raises(AssertionError) as caught:
        BackendConformance(FallsBack(real.backend, fallback=real.model), real.model).run()
    text = str(caught.value)
    assert "a_part_that_there_is_not_is_refused: open" in text
    assert "a_file_that_is_not_there_is_a_file_not_found_error: open" in text
    assert "what_is_no_model_is_refused_in_one_line: an empty file" in text


class Talkative(Broken):
    """Its errors are tracebacks."""

    def open(self, model: Path, target: Any, *, threads: int | None, options: Mapping[str, str]) -> Any:
        try:
            return super().open(model, target, threads=threads, options=options)
        except ModelNotFoundError:
            raise
        except ModelError as error:
            raise ModelError(f"Traceback:\n{error}") from None


def test_errors_of_many_lines_are_caught(shared: Path) -> None:
    real = suite(shared, "tflite")
    with pytest.raises(AssertionError, match="what_is_no_model_is_refused_in_one_line: an empty file: the message is"):
        BackendConformance(Talkative(real.backend), real.model).run()


def test_a_backend_whose_engine_is_missing_says_so(shared: Path) -> None:
    real = suite(shared, "tflite")
    with pytest.raises(AssertionError, match=r"missing\(\) says 'buy one': the other checks need the engine"):
        BackendConformance(Broken(real.backend, missing=lambda: "buy one"), real.model).run()
