"""ONNX Runtime: what is asked for is what runs, or an error in one line says what would have."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_sdk import targets
from edge_sdk.backends.base import cores
from edge_sdk.backends.onnxruntime import BACKEND, OnnxRuntimeSession
from edge_sdk.backends.onnxruntime_providers import load_failure
from edge_sdk.detector import Detector
from edge_sdk.errors import BackendError, ModelError, ModelNotFoundError, UsageError

from .tiny import onnx_add, onnx_first_of, onnx_kinds, onnx_string

ort = pytest.importorskip("onnxruntime")

BOARD = targets.load("generic-x86_64")
PHOTO = "data/coco_eval/images/000000008532.jpg"

# QNN's own numbers of an SoC with Hexagon v75, and of the QCS6490 with v68.
V75 = {"backend_type": "htp", "soc_model": "69"}
V68 = {"backend_type": "htp", "soc_model": "35"}


def opened(model: Path, *, threads: int | None = 1, **options: str) -> OnnxRuntimeSession:
    return BACKEND.open(model, BOARD, threads=threads, options=options)


def refused(model: Path, kind: type[Exception], **options: str) -> str:
    with pytest.raises(kind) as caught:
        opened(model, **options)
    assert "\n" not in str(caught.value)
    assert "[ONNXRuntimeError]" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return onnx_add(tmp_path / "tiny.onnx")


class TestASession:
    def test_runs_the_model(self, tiny: Path) -> None:
        with opened(tiny) as session:
            feeds = session.new_feeds()
            feeds["x"][...] = [[1, 2, 3, 4]]
            assert session.run(feeds)["y"].tolist() == [[2, 3, 4, 5]]

    def test_has_the_metadata_of_the_file(self, tmp_path: Path) -> None:
        with opened(onnx_add(tmp_path / "m.onnx", metadata={"names": "{0: 'bird'}", "task": "detect"})) as session:
            assert session.metadata == {"names": "{0: 'bird'}", "task": "detect"}

    def test_open_axes_are_minus_one_and_may_change_from_run_to_run(self, tmp_path: Path) -> None:
        with opened(onnx_add(tmp_path / "m.onnx", ("n", 4))) as session:
            assert session.inputs[0].shape == (-1, 4)
            assert session.new_feeds()["x"].shape == (1, 4)
            for length in (3, 1, 7):
                assert session.run(session.new_feeds({"x": (length, 4)}))["y"].shape == (length, 4)

    def test_has_as_many_threads_as_the_process_has_cores_unless_told(self, tiny: Path) -> None:
        with opened(tiny, threads=None) as mine, opened(tiny, threads=3) as told:
            assert f"CPUExecutionProvider, {cores()} thread" in mine.active
            assert told.active == "CPUExecutionProvider, 3 threads"

    def test_of_a_real_model_runs_on_the_threads_it_says(self, shared: Path) -> None:
        def running() -> int:
            return len(list(Path("/proc/self/task").iterdir()))

        before = running()
        with opened(shared / "models/yolox_nano/yolox_nano.onnx", threads=3):
            assert running() == before + 2  # and the caller's
        assert running() == before

    def test_layers_profile_a_session_of_its_own(self, tiny: Path) -> None:
        with opened(tiny) as session:
            (layer,) = session.layers()
            assert (layer.nodes, layer.unit, layer.precision) == (("add",), "cpu", "fp32")
            assert layer.time_ms is not None

    def test_a_failing_profile_is_a_backend_error(self, tmp_path: Path) -> None:
        model = onnx_add(tmp_path / "gone.onnx")
        with opened(model) as session:
            model.unlink()
            with pytest.raises(BackendError, match="the profiled run failed"):
                session.layers()

    def test_profiles_leave_no_file(self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        with opened(tiny) as session:
            session.layers()
        assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]

    def test_a_model_of_texts_is_refused(self, tmp_path: Path) -> None:
        assert "only arrays of numbers" in refused(onnx_string(tmp_path / "text.onnx"), BackendError)


class TestOutputs:
    def test_of_feeds_stay_while_others_are_run_and_are_written_to_again_by_their_own(self, tiny: Path) -> None:
        with opened(tiny) as session:
            turns = [session.new_feeds() for _ in range(3)]
            for number, feeds in enumerate(turns):
                feeds["x"][...] = number
            for _ in range(3):
                outputs = [session.run(feeds)["y"] for feeds in turns]
                assert [array[0, 0] for array in outputs] == [1, 2, 3]
            again = [session.run(feeds)["y"] for feeds in turns]
            assert all(one is other for one, other in zip(outputs, again, strict=True))

    def test_of_every_kind_are_the_same_run_after_run(self, tmp_path: Path) -> None:
        with opened(onnx_kinds(tmp_path / "kinds.onnx")) as session:
            feeds = session.new_feeds()
            for turn in range(4):
                x = np.arange(6, dtype=np.float32).reshape(2, 3) - turn
                feeds["x"][...], feeds["y"][...] = x, x == 0
                found = session.run(feeds)
                assert [array.dtype for array in found.values()] == [spec.dtype for spec in session.outputs]
                for name, want in {
                    "half": x, "above": x > 0, "whole": x, "same": x, "turned": x != 0, "fixed": [1, 2, 3],
                }.items():  # fmt: skip
                    assert np.array_equal(found[name], want), (turn, name)
                feeds["x"][...] = 77
                assert np.array_equal(found["same"], x)  # the input itself, but no view of it

    def test_with_an_open_axis_are_as_long_as_they_come_out(self, tmp_path: Path) -> None:
        with opened(onnx_first_of(tmp_path / "first.onnx", ("m",))) as session:
            feeds = session.new_feeds()
            for length in (3, 1, 7, 7, 0, 10):
                feeds["n"][0] = length
                assert session.run(feeds)["y"].tolist() == list(range(length))

    def test_of_another_shape_than_the_file_states_are_taken_as_they_come(self, tmp_path: Path) -> None:
        with opened(onnx_first_of(tmp_path / "first.onnx", (3,))) as session:
            feeds = session.new_feeds()
            for length in (3, 3, 5, 5, 3, 2):
                feeds["n"][0] = length
                assert session.run(feeds)["y"].tolist() == list(range(length)), length

    def test_follow_an_array_that_was_replaced_whatever_its_layout(self, tiny: Path) -> None:
        with opened(tiny) as session:
            feeds = session.new_feeds()
            for _ in range(2):
                session.run(feeds)
            wide = np.arange(8, dtype=np.float32).reshape(1, 8)
            feeds["x"] = wide[:, ::2]
            for step in range(3):
                wide += 1
                assert session.run(feeds)["y"].tolist() == [[2 + step, 4 + step, 6 + step, 8 + step]]

    def test_after_feeds_that_fail_are_right_again(self, tiny: Path) -> None:
        with opened(tiny) as session:
            feeds = session.new_feeds()
            for _ in range(2):
                session.run(feeds)
            good = feeds["x"]
            for bad in (np.zeros((1, 5), np.float32), np.zeros((1, 4), np.float64), np.zeros(4, np.float32)):
                feeds["x"] = bad
                with pytest.raises(BackendError, match="inference failed"):
                    session.run(feeds)
            del feeds["x"]
            with pytest.raises(BackendError, match="inference failed"):
                session.run(feeds)
            feeds["x"] = good
            assert session.run(feeds)["y"].tolist() == [[1, 1, 1, 1]]

    def test_allocate_nothing_run_after_run(self, shared: Path) -> None:
        with opened(shared / "models/yunet/yunet_n_320_320.onnx") as session:
            feeds = session.new_feeds()
            places = [{name: array.ctypes.data for name, array in session.run(feeds).items()} for _ in range(4)]
            assert places[1] == places[2] == places[3]

    def test_are_forgotten_with_their_feeds(self, tiny: Path) -> None:
        with opened(tiny) as session:
            feeds = session.new_feeds()
            kept = [weakref.ref(array) for _ in range(2) for array in session.run(feeds).values()]
            assert len(session._bound) == 1
            del feeds
            gc.collect()
            assert len(session._bound) == 0
            assert [ref() for ref in kept] == [None, None]

    def test_and_feeds_may_outlive_the_session(self, tiny: Path) -> None:
        session = opened(tiny)
        feeds = session.new_feeds()
        for _ in range(2):
            outputs = session.run(feeds)
        session.close()
        del session
        gc.collect()
        assert outputs["y"].tolist() == [[1, 1, 1, 1]]
        with opened(tiny) as other:
            assert other.run(feeds)["y"].tolist() == [[1, 1, 1, 1]]

    def test_while_the_engine_runs_other_threads_go_on(self, yolox: Path) -> None:
        """Else nothing could be prepared or decoded meanwhile."""
        with opened(yolox) as session:
            feeds = session.new_feeds()
            for _ in range(2):
                session.run(feeds)
            ticks, done = [0], threading.Event()

            def tick() -> None:
                while not done.wait(0.001):
                    ticks[0] += 1

            thread = threading.Thread(target=tick)
            thread.start()
            try:
                before = ticks[0]
                began = time.monotonic()
                for _ in range(5):
                    session.run(feeds)
                took, seen = time.monotonic() - began, ticks[0] - before
            finally:
                done.set()
                thread.join()
            assert seen > 10, f"{seen} in {took:.2f} s"


class TestIdleThreads:
    # Five bursts with pauses between them: threads that spin burn the first milliseconds of each pause.
    CODE = """
import sys, time
from pathlib import Path
from edge_sdk import targets
from edge_sdk.backends.onnxruntime import BACKEND
options = {"spinning": sys.argv[2]} if sys.argv[2] else {}
with BACKEND.open(Path(sys.argv[1]), targets.load("generic-x86_64"), threads=2, options=options) as session:
    feeds = session.new_feeds()
    session.run(feeds)
    idle = 0.0
    for _ in range(8):
        session.run(feeds)
        before = time.process_time()
        time.sleep(0.1)
        idle += time.process_time() - before
print(idle)
"""

    def idle_cpu(self, model: Path, spinning: str) -> float:
        words = [sys.executable, "-c", self.CODE, str(model), spinning]
        return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    def test_burn_nothing_between_runs_unless_asked_to(self, shared: Path) -> None:
        model = shared / "models" / "yolox_nano" / "yolox_nano.onnx"
        quiet, spinning = self.idle_cpu(model, ""), self.idle_cpu(model, "1")
        assert quiet < 0.05  # of 0.8 s; 0.001 seen
        assert spinning > 5 * quiet  # 0.24 seen

    def test_spinning_is_a_yes_or_no(self, tiny: Path) -> None:
        assert refused(tiny, UsageError, spinning="on") == "onnxruntime: spinning is '0' or '1', not 'on'"


class TestAProvider:
    @pytest.mark.parametrize("name", ["CUDAExecutionProvider", "TensorrtExecutionProvider", "cuda"])
    def test_that_this_build_has_not_is_an_error_that_names_those_it_has(self, tiny: Path, name: str) -> None:
        if name in ort.get_available_providers():
            pytest.skip(f"this build has {name}")
        text = refused(tiny, BackendError, provider=name)
        assert f"{name} is not in this build, which has" in text
        assert "CPUExecutionProvider" in text

    def test_that_is_missing_names_the_package_that_brings_it(self, tiny: Path) -> None:
        if "QNNExecutionProvider" in ort.get_available_providers():
            pytest.skip("it is here")
        assert "pip install onnxruntime-qnn" in refused(tiny, BackendError, provider="QNNExecutionProvider")

    def test_by_the_detectors_face_too(self, shared: Path) -> None:
        with pytest.raises(BackendError, match="NoSuchExecutionProvider is not in this build"):
            Detector(shared / "models/yolox_nano/yolox_nano.onnx", backend="onnxruntime:NoSuchExecutionProvider")

    def test_that_takes_no_node_is_refused(self, tiny: Path) -> None:
        """Azure's provider is in every build and takes no such operator: the plainest silent fall-back."""
        if "AzureExecutionProvider" not in ort.get_available_providers():
            pytest.skip("this build has no AzureExecutionProvider")
        text = refused(tiny, BackendError, provider="AzureExecutionProvider")
        assert "tiny.onnx: AzureExecutionProvider did not become active for the whole model" in text
        assert "CPUExecutionProvider would have run" in text

    def test_that_takes_no_node_is_refused_even_where_the_cpu_may_help(self, tiny: Path) -> None:
        if "AzureExecutionProvider" not in ort.get_available_providers():
            pytest.skip("this build has no AzureExecutionProvider")
        if not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
            pytest.skip("this version does not say which nodes a provider took")
        text = refused(tiny, BackendError, provider="AzureExecutionProvider", partial="1")
        assert text.endswith("took none of the 1 node: CPUExecutionProvider became active")

    def test_whose_library_does_not_load_is_refused_with_the_reason(
        self, tiny: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """As with onnxruntime-gpu on a machine without CUDA: the engine itself goes on with the CPU."""
        name = "CUDAExecutionProvider"
        if name not in ort.get_available_providers() or load_failure(ort, name) is None:
            pytest.skip("this build has no CUDAExecutionProvider, or its library loads")
        text = refused(tiny, BackendError, provider=name)
        assert "libcu" in text
        assert "cannot open shared object file" in text
        assert "CPUExecutionProvider became active instead" in text
        assert "libcu" in refused(tiny, BackendError, provider=name, partial="1")
        assert "TensorrtExecutionProvider did not become active" in refused(
            tiny, BackendError, provider="TensorrtExecutionProvider"
        )
        assert capfd.readouterr() == ("", "")

    def test_failures_print_nothing(self, tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
        for name in ("AzureExecutionProvider", "CUDAExecutionProvider"):
            refused(tiny, BackendError, provider=name)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        "options", [{"device_id": "0"}, {"provider_library": "a.so"}, {"partial": "1"}], ids=lambda o: next(iter(o))
    )
    def test_the_cpus_takes_no_options(self, tiny: Path, options: dict[str, str]) -> None:
        assert f"CPUExecutionProvider has no option {next(iter(options))!r}" in refused(tiny, UsageError, **options)


class TestAPlugIn:
    def test_library_that_is_not_there_is_refused(self, tiny: Path, tmp_path: Path) -> None:
        text = refused(tiny, BackendError, provider="MyExecutionProvider", provider_library=str(tmp_path / "no.so"))
        assert "as MyExecutionProvider: no such file" in text

    def test_library_that_is_no_plug_in_is_refused(self, tiny: Path, tmp_path: Path) -> None:
        if not hasattr(ort, "register_execution_provider_library"):
            pytest.skip("this version takes no plug-ins")
        library = tmp_path / "no.so"
        library.write_bytes(b"not a library")
        text = refused(tiny, BackendError, provider="MyExecutionProvider", provider_library=str(library))
        assert "cannot load" in text
        assert "MyExecutionProvider" in text

    def test_package_that_is_not_there_is_refused(self, tiny: Path) -> None:
        text = refused(tiny, BackendError, provider="MyExecutionProvider", provider_library="no_such_package")
        assert text == "onnxruntime: provider_library 'no_such_package' is neither a file nor an installed package"

    def test_package_that_gives_no_library_is_refused(self, tiny: Path) -> None:
        text = refused(tiny, BackendError, provider="MyExecutionProvider", provider_library="json")
        assert text.startswith("onnxruntime: json does not give its provider's library:")


class TestAWrongFile:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "not a valid ONNX file: it is empty"),
            (b"this is a text\n" * 50, "not a valid ONNX file: it is a text file"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
            (b"PK\x03\x04" + bytes(range(256)), "it is a zip archive"),
        ],
    )
    def test_is_told_for_what_it_is(self, tmp_path: Path, content: bytes, said: str) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        text = refused(path, ModelError)
        assert said in text
        assert str(path) in text

    def test_tflite_under_the_name_of_onnx(self, shared: Path, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        shutil.copyfile(shared / "models" / "vww_96" / "vww_96_float.tflite", path)
        assert "it looks like a .tflite file; give it that suffix" in refused(path, ModelError)

    def test_cut_short_at_any_length_is_refused(self, shared: Path, tmp_path: Path) -> None:
        whole = (shared / "models" / "yolox_nano" / "yolox_nano.onnx").read_bytes()
        path = tmp_path / "cut.onnx"
        lengths = {1, 2, 3, 5, 8, 13, 100, 1000, *range(5000, len(whole), len(whole) // 12)}
        lengths |= {len(whole) - left for left in (1, 2, 10, 100, 1000)}
        for length in sorted(lengths):
            path.write_bytes(whole[:length])
            assert "not a valid ONNX file: it is truncated or damaged" in refused(path, ModelError), length

    def test_ort_format_cut_short_is_refused(self, tiny: Path, tmp_path: Path) -> None:
        settings = ort.SessionOptions()
        settings.optimized_model_filepath = str(tmp_path / "whole.ort")
        settings.add_session_config_entry("session.save_model_format", "ORT")
        ort.InferenceSession(str(tiny), settings, providers=["CPUExecutionProvider"])
        whole = (tmp_path / "whole.ort").read_bytes()
        with opened(tmp_path / "whole.ort") as session:
            assert session.outputs[0].name == "y"
        path = tmp_path / "cut.ort"
        for length in range(0, len(whole) - 8, 37):
            path.write_bytes(whole[:length])
            refused(path, (ModelError, BackendError))  # type: ignore[arg-type]

    def test_that_is_absent_is_not_found(self, tmp_path: Path) -> None:
        assert "no such model file" in refused(tmp_path / "absent.onnx", ModelNotFoundError)

    def test_whose_weights_lie_in_a_file_that_is_absent(self, tmp_path: Path) -> None:
        onnx = pytest.importorskip("onnx")
        model = onnx.load(onnx_add(tmp_path / "tiny.onnx"))
        onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
        (tmp_path / "weights.bin").unlink()
        assert "weights.bin" in refused(tmp_path / "a.onnx", BackendError)


@pytest.mark.slow
class TestQnnOnItsEmulator:
    """Run where onnxruntime-qnn is installed: the x86 wheel emulates the HTP (numbers, not time)."""

    @pytest.fixture(autouse=True)
    def _plug_in(self) -> None:
        pytest.importorskip("onnxruntime_qnn", reason="onnxruntime-qnn is not installed")

    @pytest.fixture
    def model(self, shared: Path) -> Path:
        return shared / "models" / "yolox_nano" / "yolox_nano.onnx"

    def test_runs_the_whole_model_and_finds_what_the_cpu_finds(self, model: Path, shared: Path) -> None:
        picture: Any = cv2.imread(str(shared / PHOTO))
        with Detector(model, backend="onnxruntime:QNNExecutionProvider", options=V75) as htp:
            assert "QNNExecutionProvider on " in htp.session.active
            assert htp.session.active.endswith(" nodes")
            assert " of " not in htp.session.active
            found = htp(picture)
            (layer,) = htp.session.layers()
        assert (layer.unit, layer.precision) == ("htp", None)
        assert len(layer.nodes) > 300
        with Detector(model, threads=1) as cpu:
            expected = cpu(picture)
        assert found.class_id.tolist() == expected.class_id.tolist()
        assert np.abs(found.xyxy - expected.xyxy).max() < 5  # FP16 on the HTP

    def test_opens_again_and_for_another_soc_in_one_process(self, model: Path) -> None:
        for soc in ("69", "43", "69"):
            with opened(model, provider="QNNExecutionProvider", backend_type="htp", soc_model=soc) as session:
                assert session.active.startswith("QNNExecutionProvider")

    def test_a_float_model_is_refused_by_hexagon_v68_with_the_mend(self, model: Path) -> None:
        text = refused(model, BackendError, provider="QNNExecutionProvider", **V68)
        assert "yolox_nano.onnx: QNNExecutionProvider did not become active for the whole model" in text
        assert "nothing became active instead" in text
        assert "The SocModel doesn't support FP16" in text
        assert "A8W8 or A16W8" in text

    def test_a_backend_that_the_wheel_has_not_names_the_cpu(self, model: Path) -> None:
        text = refused(model, BackendError, provider="QNNExecutionProvider", backend_type="cpu")
        assert "CPUExecutionProvider would have run 367 of 367 nodes" in text

    def test_a_library_of_the_same_provider_elsewhere_is_refused(self, model: Path, tmp_path: Path) -> None:
        opened(model, provider="QNNExecutionProvider", **V75).close()
        other = str(tmp_path / "other.so")
        text = refused(model, BackendError, provider="QNNExecutionProvider", provider_library=other, **V75)
        assert "was registered from" in text
