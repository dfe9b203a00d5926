"""The promises of a backend as checks, for those who write one.

Run them all in a test of your own, with a model that the backend opens::

    import pytest
    from edge_sdk.testing.backend_conformance import BackendConformance

    suite = BackendConformance(BACKEND, Path("model.xyz"))

    @pytest.mark.parametrize("check", suite.checks(), ids=lambda check: check.__name__)
    def test_my_backend_keeps_its_promises(check):
        check()

Each check opens sessions of its own, and raises `AssertionError` with what was promised and what was found.
`BackendConformance.run` runs all and raises once, with every broken promise.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from edge_sdk import targets
from edge_sdk.backends.base import Array, Backend, Layer, Session, TensorSpec, fits
from edge_sdk.errors import BackendError, EdgeSdkError, ModelError, UsageError
from edge_sdk.targets import Precision, Target

Check = Callable[[], None]


class BackendConformance:
    """What `edge_sdk.backends.base` promises of a backend, as methods that raise where a promise is broken.

    Args:
        backend: The backend.
        model: A small model that it opens, with at least one input; it is copied and cut, never changed.
        options: Options to open it with.
        shapes: Shapes by input name, for a model with open axes that does not run with 1 in their place.
        target: The board to open it for; None is the generic x86-64 one.
    """

    def __init__(
        self,
        backend: Backend,
        model: Path | str,
        *,
        options: Mapping[str, str] | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        target: Target | None = None,
    ) -> None:
        self.backend = backend
        self.model = Path(model)
        self.options = dict(options or {})
        self.shapes = dict(shapes or {})
        self.target = target if target is not None else targets.load("generic-x86_64")

    def checks(self) -> list[Check]:
        """Every check, in the order of a session's life."""
        return [getattr(self, name) for name in vars(BackendConformance) if name.startswith("check_")]

    def run(self) -> None:
        """Runs every check.

        Raises:
            AssertionError: Promises are broken; one line each.
        """
        broken = []
        for check in self.checks():
            try:
                check()
            except AssertionError as error:
                broken.append(f"{check.__name__.removeprefix('check_')}: {error}")
            except Exception as error:  # noqa: BLE001 - a check that fails in any way is a broken promise
                broken.append(f"{check.__name__.removeprefix('check_')}: raised {type(error).__name__}: {error}")
        if broken:
            raise AssertionError("\n".join(broken))

    # --- before a session ------------------------------------------------------------------------

    def check_it_says_what_it_is(self) -> None:
        _hold(self.backend.name and ":" not in self.backend.name, f"name {self.backend.name!r} cannot stand before ':'")
        _hold(bool(self.backend.part_option), "part_option is empty")
        for suffix in self.backend.suffixes:
            _hold(suffix.startswith(".") and suffix == suffix.lower(), f"suffix {suffix!r} is not like '.onnx'")
        _hold(self.model.suffix.lower() in self.backend.suffixes, f"{self.model.name} is no file of its suffixes")

    def check_it_is_usable_here_and_has_a_version(self) -> None:
        lack = self.backend.missing()
        _hold(lack is None, f"missing() says {lack!r}: the other checks need the engine")
        _one_line(self.backend.version(), "version()")

    def check_a_file_that_is_not_there_is_a_file_not_found_error(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            error = self._refusal(Path(folder) / f"absent{self.model.suffix}", (EdgeSdkError,))
        _hold(isinstance(error, FileNotFoundError), f"{type(error).__name__} is no FileNotFoundError")

    def check_what_is_no_model_is_refused_in_one_line(self) -> None:
        whole = self.model.read_bytes()
        contents = {
            "an empty file": b"",
            "a text": b"this is no model\n" * 40,
            "its first eight bytes": whole[:8],
            "its first third": whole[: len(whole) // 3],
            "its first nine tenths": whole[: len(whole) * 9 // 10],
        }
        with tempfile.TemporaryDirectory() as folder:
            for what, content in contents.items():
                path = Path(folder) / f"broken{self.model.suffix}"
                path.write_bytes(content)
                try:
                    error = self._refusal(path, (ModelError, BackendError))
                except AssertionError as broken:
                    raise AssertionError(f"{what}: {broken}") from broken
                _hold(path.name in str(error), f"{what}: the message does not name the file: {error}")

    def check_a_part_that_there_is_not_is_refused(self) -> None:
        options = {**self.options, self.backend.part_option: "no-such-part-anywhere"}
        self._refusal(self.model, (BackendError, UsageError), options)

    # --- what a session says ---------------------------------------------------------------------

    def check_inputs_and_outputs_are_described(self) -> None:
        with self._open() as session:
            for kind, specs in (("inputs", session.inputs), ("outputs", session.outputs)):
                _hold(isinstance(specs, tuple) and len(specs) > 0, f"{kind} is not a tuple with at least one spec")
                _hold(len({spec.name for spec in specs}) == len(specs), f"{kind} have two of one name")
                for spec in specs:
                    _hold(isinstance(spec, TensorSpec), f"{kind}: {spec!r} is no TensorSpec")
                    _hold(isinstance(spec.dtype, np.dtype), f"{spec.name}: dtype {spec.dtype!r} is no numpy.dtype")
                    axes = all(type(axis) is int and (axis == -1 or axis >= 1) for axis in spec.shape)
                    _hold(axes, f"{spec.name}: shape {spec.shape!r} has an axis that is neither -1 nor 1 or more")
            _hold(all(spec.quantization is None for spec in session.outputs), "outputs are real, so not quantized")

    def check_it_says_what_is_active(self) -> None:
        with self._open() as session:
            _one_line(session.active, "active")

    def check_metadata_is_text_by_name(self) -> None:
        with self._open() as session:
            pairs = [*session.metadata, *session.metadata.values()]
            _hold(all(isinstance(text, str) for text in pairs), "metadata has something else than text")

    def check_a_number_of_threads_may_be_given(self) -> None:
        for threads in (1, 2, None):
            with self._open(threads) as session:
                session.run(self._random_feeds(session))

    # --- feeds and runs --------------------------------------------------------------------------

    def check_new_feeds_are_zeroed_arrays_that_fit(self) -> None:
        with self._open() as session:
            feeds, others = session.new_feeds(self.shapes), session.new_feeds(self.shapes)
            _hold(feeds.keys() == {spec.name for spec in session.inputs}, f"feeds are {sorted(feeds)}")
            for spec in session.inputs:
                array = feeds[spec.name]
                _hold(array.dtype == spec.dtype, f"{spec.name}: {array.dtype} instead of {spec.dtype}")
                _hold(fits(spec.shape, array.shape), f"{spec.name}: {array.shape} does not fit {spec.shape}")
                _hold(array.flags.writeable, f"{spec.name}: cannot be written to")
                _hold(not array.any(), f"{spec.name}: is not zeroed")
                _hold(not np.shares_memory(array, others[spec.name]), f"{spec.name}: two calls share their memory")

    def check_new_feeds_refuse_what_the_model_has_not(self) -> None:
        with self._open() as session:
            spec = session.inputs[0]
            wrong: list[dict[str, tuple[int, ...]]] = [{"no such input": (1,)}, {spec.name: (*spec.shape, 3)}]
            for shapes in wrong:
                _raises(partial(session.new_feeds, shapes), (UsageError,), f"new_feeds({shapes})")

    def check_outputs_are_as_described(self) -> None:
        with self._open() as session:
            outputs = session.run(self._random_feeds(session))
            _hold(list(outputs) == [spec.name for spec in session.outputs], f"outputs are {list(outputs)}")
            for spec in session.outputs:
                array = outputs[spec.name]
                _hold(array.dtype == spec.dtype, f"{spec.name}: {array.dtype} instead of {spec.dtype}")
                _hold(fits(spec.shape, array.shape), f"{spec.name}: {array.shape} does not fit {spec.shape}")

    def check_outputs_follow_from_the_inputs_alone(self) -> None:
        with self._open() as session:
            feeds = self._random_feeds(session, 1)
            kept = _copies(feeds)
            first = _copies(session.run(feeds))
            moved = [not _equal(first, session.run(other)) for other in self._different_feeds(session)[1:]]
            again = session.run(feeds)
            _hold(_equal(kept, feeds), "run wrote to what it was fed")
            _hold(_equal(first, again), "the same inputs gave other outputs")
            _hold(any(moved), "other inputs gave the same outputs")

    def check_outputs_last_until_the_next_run_with_the_same_feeds(self) -> None:
        with self._open() as session:
            turns = self._different_feeds(session)
            for _ in range(3):  # an engine may settle what it reuses in the first run or two
                found = []
                for feeds in turns:
                    outputs = session.run(feeds)
                    found.append((outputs, _copies(outputs)))
                lasted = all(_equal(outputs, copies) for outputs, copies in found)
                _hold(lasted, "a run with other feeds changed the outputs of an earlier one")

    def check_an_array_put_in_anothers_place_is_what_is_run(self) -> None:
        with self._open() as session:
            turns = self._different_feeds(session)
            expected = [_copies(session.run(feeds)) for feeds in turns]
            given = session.new_feeds(self.shapes)
            for _ in range(2):
                for feeds, copies in zip(turns, expected, strict=True):
                    given.update(feeds)
                    _hold(_equal(copies, session.run(given)), "a replaced array was not what was run")

    def check_two_sessions_do_not_disturb_each_other(self) -> None:
        with self._open() as one, self._open() as other:
            feeds = self._random_feeds(one, 1)
            expected = _copies(one.run(feeds))
            other.run(self._random_feeds(other, 2))
            _hold(_equal(expected, other.run(feeds)), "two sessions of one model differ")
            other.close()
            _hold(_equal(expected, one.run(feeds)), "closing one session changed the other")

    def check_another_thread_may_take_the_session_over(self) -> None:
        with self._open() as session:
            feeds = self._random_feeds(session)
            expected = _copies(session.run(feeds))
            found: list[bool] = []
            worker = threading.Thread(target=lambda: found.append(_equal(expected, session.run(feeds))))
            worker.start()
            worker.join()
            _hold(found == [True], "another thread got other outputs, or an error")

    def check_wrong_feeds_are_backend_errors_and_do_no_harm(self) -> None:
        with self._open() as session:
            feeds = self._random_feeds(session)
            expected = _copies(session.run(feeds))
            name = session.inputs[0].name
            array = feeds[name]
            wrong: dict[str, dict[str, Array]] = {
                "an input that is missing": {other: value for other, value in feeds.items() if other != name},
                "an input that there is not": {**feeds, "no such input": array},
                "another number of axes": {**feeds, name: array[None]},
                "another type": {**feeds, name: array.astype(np.complex64)},
            }
            if session.inputs[0].shape and session.inputs[0].shape[-1] != -1:
                wrong["another shape"] = {**feeds, name: np.concatenate([array, array], axis=-1)}
            for what, given in wrong.items():
                error = _raises(partial(session.run, given), (BackendError,), what)
                _one_line(str(error), f"the message about {what}")
                _hold(_equal(expected, session.run(feeds)), f"after {what}, the outputs are others")

    def check_layers_are_described_and_do_no_harm(self) -> None:
        with self._open() as session:
            feeds = self._random_feeds(session)
            expected = _copies(session.run(feeds))
            layers = session.layers()
            _hold(len(layers) > 0, "layers() is empty")
            for layer in layers:
                _hold(isinstance(layer, Layer) and len(layer.nodes) > 0 and bool(layer.unit), f"{layer!r} says nothing")
                known = layer.precision is None or layer.precision in get_args(Precision)
                _hold(known, f"{layer.nodes[0]}: there is no precision {layer.precision!r}")
                _hold(layer.time_ms is None or layer.time_ms >= 0, f"{layer.nodes[0]}: takes {layer.time_ms} ms")
            _hold(_equal(expected, session.run(feeds)), "after layers(), the outputs are others")

    # --- the end of a session --------------------------------------------------------------------

    def check_a_closed_session_refuses_and_may_be_closed_again(self) -> None:
        with self._open() as session:
            feeds = session.new_feeds(self.shapes)
        session.close()
        session.close()
        for what, call in (("run", partial(session.run, feeds)), ("layers", session.layers)):
            error = _raises(call, (BackendError,), f"{what} after close")
            _one_line(str(error), f"the message of {what} after close")

    def check_closing_leaves_no_thread_and_no_descriptor(self) -> None:
        if not Path("/proc/self/task").is_dir():
            return  # counted where the system says
        left: list[tuple[int, int]] = []
        for _ in range(4):
            with self._open(threads=2) as session:
                session.run(self._random_feeds(session))
                session.layers()
            del session
            gc.collect()
            left.append((_entries("/proc/self/task"), _entries("/proc/self/fd")))
        # The first time the engine may make what it holds once for the whole process.
        grew = any(last > first for first, last in zip(left[0], left[-1], strict=True))
        _hold(not grew, f"(threads, descriptors) after each of four sessions: {left}")

    def check_it_leaves_no_file_behind(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model" / self.model.name
            model.parent.mkdir()
            shutil.copyfile(self.model, model)
            temporary = Path(folder) / "tmp"
            temporary.mkdir()
            before, tempfile.tempdir = tempfile.tempdir, str(temporary)
            try:
                with self._open(model=model) as session:
                    session.run(session.new_feeds(self.shapes))
                    session.layers()
            finally:
                tempfile.tempdir = before
            left = sorted(path.name for place in (model.parent, temporary) for path in place.iterdir())
            _hold(left == [self.model.name], f"left behind: {', '.join(left)}")

    # --- what the checks share -------------------------------------------------------------------

    def _open(self, threads: int | None = 1, *, model: Path | None = None) -> Session:
        return self.backend.open(model or self.model, self.target, threads=threads, options=self.options)

    def _refusal(
        self, model: Path, kinds: tuple[type[Exception], ...], options: Mapping[str, str] | None = None
    ) -> Exception:
        chosen = self.options if options is None else options

        def attempt() -> None:
            self.backend.open(model, self.target, threads=1, options=chosen).close()

        error = _raises(attempt, kinds, f"open({model.name!r}, options={dict(chosen)})")
        _one_line(str(error), "the message")
        return error

    def _random_feeds(self, session: Session, seed: int = 0) -> dict[str, Array]:
        """Noise of each input's type: the whole range of bytes, 0..255 for float images, 0 and 1 for wide integers."""
        rng = np.random.default_rng(seed)
        feeds = session.new_feeds(self.shapes)
        for array in feeds.values():
            if array.dtype.kind == "f":
                array[...] = rng.random(array.shape) * (255 if array.ndim == 4 else 1)
            elif array.dtype.itemsize == 1 and array.dtype.kind in "iu":
                info = np.iinfo(array.dtype)
                array[...] = rng.integers(info.min, info.max, array.shape, array.dtype, endpoint=True)
            else:
                array[...] = rng.integers(0, 2, array.shape)
        return feeds

    def _different_feeds(self, session: Session) -> list[dict[str, Array]]:
        """Noise as of `_random_feeds` with seed 1, then zeros, then the same noise ever stronger.

        A classifier may be as sure of one noise as of another, so they are of several kinds.
        """
        turns = [self._random_feeds(session, 1) for _ in range(5)]
        for feeds, part in zip(turns[1:], (0.0, 0.004, 0.1, 0.5), strict=True):
            for array in feeds.values():
                array[...] = (array * part).astype(array.dtype)
        return turns


def _hold(promise: object, otherwise: str) -> None:
    if not promise:
        raise AssertionError(otherwise)


def _one_line(text: object, what: str) -> None:
    _hold(isinstance(text, str) and text.strip() and "\n" not in text, f"{what} is not one line: {text!r}")


def _raises(call: Callable[[], Any], kinds: tuple[type[Exception], ...], what: str) -> Exception:
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        call()
    except kinds as error:
        return error
    except Exception as error:
        raise AssertionError(f"{what} raised {type(error).__name__} instead of {names}: {error}") from error
    raise AssertionError(f"{what} was taken; it must raise {names}")


def _copies(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in arrays.items()}


def _equal(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return one.keys() == other.keys() and all(
        array.shape == other[name].shape and np.allclose(array, other[name], rtol=1e-4, atol=1e-4, equal_nan=True)
        for name, array in one.items()
    )


def _entries(folder: str) -> int:
    return len(os.listdir(folder))  # noqa: PTH208 - a listing of /proc, counted while it is open
