"""TFLite: the delegate that is asked for takes part, or an error in one line says what became active."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import targets
from edge_sdk.backends.base import cores
from edge_sdk.backends.tflite import BACKEND, TfliteSession
from edge_sdk.errors import BackendError, ModelError, ModelNotFoundError, UsageError

from .tiny import tflite_add, with_archive

if BACKEND.missing() is not None:
    pytest.skip(str(BACKEND.missing()), allow_module_level=True)

BOARD = targets.load("generic-x86_64")

# An external delegate in the smallest form: it loads, takes its options, and claims no operator.
IDLE_DELEGATE = """
#include <stdlib.h>
#include <string.h>
typedef struct Delegate {
  void *data; int (*prepare)(void *, struct Delegate *); void *copies[3]; long flags; void *opaque;
} Delegate;
static int prepare(void *context, Delegate *delegate) { return 0; }
Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  for (size_t i = 0; i < count; i++)
    if (!strcmp(keys[i], "fail")) { report(values[i]); return 0; }
  Delegate *made = calloc(1, sizeof(Delegate));
  made->prepare = prepare;
  return made;
}
void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
"""


def opened(model: Path, *, threads: int | None = 1, **options: str) -> TfliteSession:
    return BACKEND.open(model, BOARD, threads=threads, options=options)


def refused(model: Path, kind: type[Exception], **options: str) -> str:
    with pytest.raises(kind) as caught:
        opened(model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tflite_add(tmp_path / "tiny.tflite")


@pytest.fixture
def int8_model(shared: Path) -> Path:
    return shared / "models" / "vww_96" / "vww_96_int8.tflite"


@pytest.fixture(scope="session")
def idle_delegate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a delegate with")
    folder = tmp_path_factory.mktemp("delegate")
    source, library = folder / "idle.c", folder / "libidle.so"
    source.write_text(IDLE_DELEGATE, encoding="utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


class TestASession:
    def test_runs_the_model(self, tiny: Path) -> None:
        with opened(tiny) as session:
            feeds = session.new_feeds()
            feeds["x"][...] = [[1, 2, 3, 4]]
            assert session.run(feeds)["y"].tolist() == [[2, 4, 6, 8]]

    def test_a_quantized_input_says_how_and_a_quantized_output_is_real(self, int8_model: Path) -> None:
        with opened(int8_model) as session:
            (image,), (output,) = session.inputs, session.outputs
            assert image.dtype == np.int8
            assert image.quantization == (pytest.approx(1 / 255), -128)
            assert (output.dtype, output.quantization) == (np.float32, None)
            values = session.run(session.new_feeds())[output.name]
        assert values.sum() == pytest.approx(1, abs=0.01)  # a softmax of two classes
        assert (values >= 0).all()

    def test_an_input_that_is_left_out_is_not_the_last_one_again(self, tiny: Path) -> None:
        with opened(tiny) as session:
            session.run(session.new_feeds())
            with pytest.raises(BackendError, match="the inputs are x, not none"):
                session.run({})

    def test_an_open_axis_may_change_from_run_to_run(self, tmp_path: Path) -> None:
        with opened(tflite_add(tmp_path / "open.tflite", open_axis=True)) as session:
            assert session.inputs[0].shape == (-1, 4)
            for length in (1, 5, 2, 1):
                feeds = session.new_feeds({"x": (length, 4)})
                feeds["x"][...] = 3
                assert (session.run(feeds)["y"] == np.full((length, 4), 6)).all()

    def test_after_a_shape_that_does_not_fit_the_next_run_is_right(self, tmp_path: Path) -> None:
        with opened(tflite_add(tmp_path / "open.tflite", open_axis=True)) as session:
            session.run(session.new_feeds({"x": (5, 4)}))
            with pytest.raises(BackendError, match=r"'x' has the shape \[-1, 4\], not \[5, 3\]"):
                session.run({"x": np.zeros((5, 3), np.float32)})
            assert session.run(session.new_feeds({"x": (5, 4)}))["y"].shape == (5, 4)

    def test_writes_to_the_same_arrays_for_the_same_feeds_and_to_others_for_others(self, int8_model: Path) -> None:
        with opened(int8_model) as session:
            name = session.outputs[0].name
            one, other = session.new_feeds(), session.new_feeds()
            other["input_1_int8"][...] = np.random.default_rng(0).integers(-128, 128, (1, 96, 96, 3))
            first = session.run(one)[name]
            values = first.copy()
            second = session.run(other)[name]
            assert not np.array_equal(first, second)
            assert np.array_equal(first, values)
            assert session.run(one)[name] is first
            assert session.run(dict(one))[name] is not first  # a mapping of the caller's own gets new arrays

    def test_forgets_the_outputs_of_feeds_that_are_gone(self, tiny: Path) -> None:
        with opened(tiny) as session:
            feeds = session.new_feeds()
            kept = weakref.ref(session.run(feeds)["y"])
            assert kept() is not None
            del feeds
            gc.collect()
            assert kept() is None

    def test_has_the_metadata_of_the_archive(self, tiny: Path) -> None:
        with opened(with_archive(tiny, {"labels.txt": "cat\ndog"})) as session:
            assert session.metadata == {"names": '["cat", "dog"]'}

    def test_has_as_many_threads_as_the_process_has_cores_unless_told(self, tiny: Path) -> None:
        with opened(tiny, threads=None) as mine, opened(tiny, threads=3) as told:
            assert f", {cores()} thread" in mine.active
            assert ", 3 threads (" in told.active


class TestLayers:
    def test_are_every_operator_of_the_file_whoever_runs_it(self, int8_model: Path) -> None:
        with opened(int8_model) as default, opened(int8_model, delegate="none") as plain:
            assert [layer.nodes for layer in default.layers()] == [layer.nodes for layer in plain.layers()]
            assert {layer.precision for layer in default.layers()} == {"int8"}
            assert {(layer.unit, layer.time_ms) for layer in default.layers()} == {("cpu", None)}

    def test_of_a_float_model_are_fp32(self, shared: Path) -> None:
        with opened(shared / "models/vww_96/vww_96_float.tflite") as session:
            assert {layer.precision for layer in session.layers()} == {"fp32"}

    def test_with_8_bit_weights_alone_have_no_precision_of_their_own(self, shared: Path) -> None:
        with opened(shared / "models/yolox_nano/yolox_nano_dynamic_range_quantize.tflite") as session:
            precisions = [layer.precision for layer in session.layers()]
        assert precisions.count(None) > 50
        assert "int8" not in precisions

    def test_conversions_have_none(self, shared: Path) -> None:
        with opened(shared / "models/yolox_nano/yolox_nano_float16_quantize.tflite") as session:
            precisions = [layer.precision for layer in session.layers()]
        assert precisions.count(None) == 226  # the file's DEQUANTIZE of its float16 weights
        assert set(precisions) == {None, "fp32"}


class TestADelegate:
    def test_left_out_is_what_the_runtime_applies_and_active_says_so(self, int8_model: Path) -> None:
        with opened(int8_model) as session:
            assert session.active.startswith("XNNPACK 29 of 31 operators, built-in kernels the rest, 1 thread (")

    def test_xnnpack_of_a_whole_model_needs_no_count(self, shared: Path) -> None:
        with opened(shared / "models/vww_96/vww_96_float.tflite", delegate="xnnpack") as session:
            assert session.active.startswith("XNNPACK, 1 thread (")

    def test_none_runs_the_built_in_kernels_alike(self, int8_model: Path) -> None:
        with opened(int8_model) as default, opened(int8_model, delegate="none") as plain:
            assert plain.active.startswith("built-in kernels, 1 thread (")
            feeds = plain.new_feeds()
            feeds["input_1_int8"][...] = np.random.default_rng(0).integers(-128, 128, (1, 96, 96, 3))
            for one, other in zip(default.run(feeds).values(), plain.run(feeds).values(), strict=True):
                assert np.allclose(one, other, atol=2 / 256)

    def test_xnnpack_that_takes_nothing_is_refused(self, tmp_path: Path) -> None:
        model = tflite_add(tmp_path / "integers.tflite", integers=True)
        text = refused(model, BackendError, delegate="xnnpack")
        assert "the delegate 'xnnpack' was asked for, but took no part" in text
        assert "active became built-in kernels" in text
        with opened(model) as session:  # not asked for, so no error
            assert session.active.startswith("built-in kernels")

    def test_library_that_is_not_there_is_refused_with_what_there_may_be(self, tiny: Path) -> None:
        text = refused(tiny, BackendError, delegate="/opt/none/libdelegate.so")
        assert "cannot open shared object file" in text
        assert "the delegate is 'xnnpack', 'none' or the path" in text

    def test_name_with_a_slip_is_refused(self, tiny: Path) -> None:
        assert "'xnpack' cannot be loaded" in refused(tiny, BackendError, delegate="xnpack")

    def test_library_that_is_no_delegate_is_refused_quietly(
        self, tiny: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        text = refused(tiny, BackendError, delegate="libc.so.6")
        assert "libc.so.6 is no external delegate: it has no function tflite_plugin_create_delegate" in text
        assert capfd.readouterr().err == ""

    def test_that_is_empty_is_refused(self, tiny: Path) -> None:
        assert "the delegate is 'xnnpack'" in refused(tiny, UsageError, delegate="")

    def test_that_fails_says_why(self, tiny: Path, idle_delegate: Path) -> None:
        text = refused(tiny, BackendError, delegate=str(idle_delegate), fail="no chip is plugged in")
        assert "did not become active" in text
        assert "no chip is plugged in" in text

    def test_that_takes_nothing_is_refused_though_xnnpack_takes_all(self, tiny: Path, idle_delegate: Path) -> None:
        text = refused(tiny, BackendError, delegate=str(idle_delegate))
        assert "was asked for, but took no part of the model; active became XNNPACK" in text

    @pytest.mark.parametrize("delegate", [None, "none", "xnnpack"])
    def test_options_are_for_external_ones(self, tiny: Path, delegate: str | None) -> None:
        options = {"library_path": "a"} | ({"delegate": delegate} if delegate else {})
        assert "no option 'library_path'" in refused(tiny, UsageError, **options)


class TestAWrongFile:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "it is empty"),
            (b"this is a text\n" * 50, "it is a text file"),
            (b"\x08\x07\x12\x07pytorch\x1a\x03\xff", "it looks like a .onnx file; give it that suffix"),
        ],
    )
    def test_is_told_for_what_it_is(self, tmp_path: Path, content: bytes, said: str) -> None:
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        assert said in refused(path, ModelError)

    def test_that_is_absent_is_not_found(self, tmp_path: Path) -> None:
        assert "no such model file" in refused(tmp_path / "absent.tflite", ModelNotFoundError)

    def test_that_is_a_folder_is_no_model(self, tmp_path: Path) -> None:
        assert "cannot be read" in refused(tmp_path, ModelError)


class TestBrokenFiles:
    """Opened and run in processes of their own: a crash of the engine is then a test that fails."""

    CODE = """
import sys
from pathlib import Path
from edge_sdk import targets
from edge_sdk.backends.base import backends
from edge_sdk.errors import BackendError, ModelError
board = targets.load("generic-x86_64")
for path in map(Path, sys.argv[1:]):
    print(path.name, end=" ", flush=True)
    backend = next(one for one in backends().values() if path.suffix in one.suffixes)
    try:
        with backend.open(path, board, threads=1, options={}) as session:
            session.run(session.new_feeds())
            session.layers()
        print("ran", flush=True)
    except (ModelError, BackendError) as error:
        print("refused" if "\\n" not in str(error) else "said more than a line", flush=True)
    except Exception as error:
        print("raised", type(error).__name__, error, flush=True)
"""

    def verdicts(self, files: list[Path]) -> list[str]:
        words = [sys.executable, "-X", "faulthandler", "-c", self.CODE, *map(str, files)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        assert done.returncode == 0, f"ended with {done.returncode} at {lines[-1]}: {done.stderr[-500:]}"
        return [line.split(" ", 1)[1] for line in lines]

    def test_cut_short_at_any_length_are_refused(self, shared: Path, tmp_path: Path) -> None:
        whole = (shared / "models" / "vww_96" / "vww_96_float.tflite").read_bytes()
        lengths = {8, 9, 12, 16, 20, 33, 100, 500, 1000, *range(5000, len(whole), len(whole) // 40)}
        lengths |= {len(whole) - left for left in (1, 4, 16, 100, 1000)}
        files = [tmp_path / f"{length}.tflite" for length in sorted(lengths)]
        for file in files:
            file.write_bytes(whole[: int(file.stem)])
        assert set(self.verdicts(files)) == {"refused"}

    @pytest.mark.parametrize(
        ("model", "seed"),
        [("vww_96/vww_96_float.tflite", 1), ("vww_96/vww_96_int8.tflite", 2), ("yunet/yunet_n_320_320.onnx", 3)],
    )
    def test_with_bytes_changed_run_or_are_refused(self, shared: Path, tmp_path: Path, model: str, seed: int) -> None:
        path = shared / "models" / model
        whole = path.read_bytes()
        rng = np.random.default_rng(seed)
        # Where zeros are many lies the structure, elsewhere the weights.
        structure = [i for i in range(0, len(whole), 64) if whole[i : i + 64].count(0) > 20]
        places = structure or list(range(0, len(whole), 64))
        files = []
        for number in range(60):
            changed = bytearray(whole)
            for _ in range(int(rng.choice([1, 2, 8]))):
                place = min(int(rng.choice(places)) + int(rng.integers(64)), len(whole) - 1)
                changed[place] = int(rng.choice([0, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))
            files.append(tmp_path / f"{number}{path.suffix}")
            files[-1].write_bytes(changed)
        found = self.verdicts(files)
        assert set(found) <= {"ran", "refused"}
        assert found.count("refused") > 5  # else nothing was broken


def test_the_runtimes_notice_of_xnnpack_stays_on_standard_error(tiny: Path) -> None:
    """One line, once a process, from inside the engine, which has no switch for it; standard output stays clean."""
    code = (
        "import sys; from pathlib import Path; from edge_sdk import targets; "
        "from edge_sdk.backends.tflite import BACKEND; "
        "BACKEND.open(Path(sys.argv[1]), targets.load('generic-x86_64'), threads=1, options={}).close()"
    )
    words = [sys.executable, "-c", code, str(tiny)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) <= 1


def test_a_session_that_is_closed_during_a_run_finishes_it(tiny: Path) -> None:
    """As by another thread, which does not wait."""
    session = opened(tiny)
    feeds = session.new_feeds()

    class Closing:
        def __init__(self, interpreter: object) -> None:
            self.interpreter = interpreter

        def invoke(self) -> None:
            session.close()
            self.interpreter.invoke()

        def __getattr__(self, name: str) -> object:
            return getattr(self.interpreter, name)

    session._interpreter = Closing(session._interpreter)
    assert session.run(feeds)
    with pytest.raises(BackendError, match="the session is closed"):
        session.run(feeds)
