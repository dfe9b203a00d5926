"""The SDK on 64-bit Arm, under emulation; needs the network and some minutes the first time.

    pytest -m slow tests/tools/test_check_arm64.py

What it needs is kept in ``EDGE_SDK_ARM64``, where that is set, and is not fetched twice.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_arm64.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_arm64", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_raspberry_pi_5s_processor_finds_the_same_boxes(
    tool: ModuleType, shared: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("apt-get") is None or not tool.KEYS.is_file():
        pytest.skip("this fetches Debian's packages, and there is no apt-get with Debian's keys here")
    kept = os.environ.get("EDGE_SDK_ARM64")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("arm64")
    code = tool.main([str(folder), "--data", str(shared), "--cpu", "cortex-a76", "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err + printed.out
    answer = json.loads(printed.out)

    (processor,) = answer["processors"]
    assert processor["features"] == ["asimd", "asimdhp", "asimddp"]  # half precision and dot products, no SVE
    assert processor["devices"]["machine"] == "linux aarch64"
    assert processor["devices"]["target"]["name"] == "generic-aarch64"
    assert [one["missing"] for one in processor["devices"]["backends"] if one["name"] in ("onnxruntime", "tflite")] == [
        None,
        None,
    ]
    assert [row["backend"] for row in answer["rows"]] == ["onnxruntime", "tflite"]
    for row in answer["rows"]:
        assert row["photo"]["pairs"] == 2
        assert row["photo"]["box_px"] < 1
        assert row["photo"]["score"] < 0.005
        # Nothing is resized here: the engines themselves agree to the last digits that are printed.
        assert row["fitted"]["box_px"] <= 0.05
        assert row["fitted"]["score"] <= 0.0005


class TestTheComparison:
    @pytest.fixture
    def box(self, tool: ModuleType) -> Callable[..., object]:
        return lambda class_id, confidence, *xyxy: tool.Box(class_id, confidence, xyxy)

    def test_takes_the_greatest_of_a_side_and_of_a_score(self, tool: ModuleType, box: Callable[..., object]) -> None:
        here = [box(0, 0.9, 10, 10, 50, 90), box(2, 0.5, 0, 0, 8, 8)]
        there = [box(0, 0.8999, 10, 10.25, 50, 89.5), box(2, 0.502, 0, 0, 8, 8)]
        assert tool.difference(here, there) == tool.Difference(2, 2, 2, 0.5, 0.002)

    def test_pairs_the_nearest_of_the_class_whatever_the_order(
        self, tool: ModuleType, box: Callable[..., object]
    ) -> None:
        left, right = box(0, 0.9, 10, 10, 50, 90), box(0, 0.8, 200, 10, 250, 90)
        assert tool.difference([left, right], [right, left]).box_px == 0

    def test_of_another_class_is_no_pair_and_no_agreement(self, tool: ModuleType, box: Callable[..., object]) -> None:
        found = tool.difference([box(0, 0.9, 1, 1, 5, 9)], [box(1, 0.9, 1, 1, 5, 9)])
        assert found == tool.Difference(1, 1, 0, None, None)
        assert not found.within(1, 1)

    def test_with_a_box_too_many_or_too_few_is_no_agreement(self, tool: ModuleType, box: Callable[..., object]) -> None:
        one, other = box(0, 0.9, 1, 1, 5, 9), box(0, 0.3, 100, 1, 105, 9)
        assert not tool.difference([one, other], [one]).within(1, 1)
        assert not tool.difference([one], [one, other]).within(1, 1)

    def test_agrees_up_to_its_limits(self, tool: ModuleType) -> None:
        found = tool.Difference(1, 1, 1, 0.5, 0.002)
        assert found.within(0.5, 0.002)
        assert not found.within(0.49, 0.002)
        assert not found.within(0.5, 0.0019)


class TestWhatTheCommandPrints:
    LINE = '{"source": "/a/photo.jpg", "detections": [{"xyxy": [0, 1.5, 2, 3], "confidence": 0.5, "class_id": 7}]}'

    def test_is_read_by_picture(self, tool: ModuleType) -> None:
        found = tool.boxes_by_picture(f'{self.LINE}\n{{"source": "/a/fitted.png", "detections": []}}\n')
        assert found == {"photo": [tool.Box(7, 0.5, (0, 1.5, 2, 3))], "fitted": []}

    @pytest.mark.parametrize("text", ["Segmentation fault", "{}", "[]", '{"source": "a", "detections": [1]}'])
    def test_of_another_kind_is_an_error(self, tool: ModuleType, text: str) -> None:
        with pytest.raises(tool.CheckError, match="printed something else"):
            tool.boxes_by_picture(text)


def test_a_processors_features_are_named(tool: ModuleType) -> None:
    assert tool.features(1 << 1 | 1 << 10 | 1 << 20) == ["asimd", "asimdhp", "asimddp"]
    assert tool.features(0) == []


class TestTheWheels:
    def test_are_of_the_versions_that_are_installed_here(self, tool: ModuleType) -> None:
        wanted = tool.requirements(lambda name: "1.2.3")
        assert wanted == [*(f"{name}==1.2.3" for name in tool.PINNED), "typer", "rich"]

    def test_cannot_be_named_where_an_engine_is_not_installed(self, tool: ModuleType) -> None:
        def installed(name: str) -> str:
            if name == "ai-edge-litert":
                raise PackageNotFoundError(name)
            return "1"

        with pytest.raises(tool.CheckError, match="pip install ai-edge-litert"):
            tool.requirements(installed)

    def test_are_those_that_debian_12_can_load(self, tool: ModuleType) -> None:
        assert "manylinux_2_28_aarch64" in tool.PLATFORMS
        assert "manylinux_2_36_aarch64" in tool.PLATFORMS
        assert "manylinux_2_37_aarch64" not in tool.PLATFORMS


class TestAPart:
    @pytest.fixture
    def made(self) -> list[list[str]]:
        return []

    @pytest.fixture
    def make(self, made: list[list[str]]) -> Callable[[Path, list[str]], None]:
        def make(part: Path, made_of: list[str]) -> None:
            made.append(made_of)
            (part / "file").write_text(made_of[0], encoding="utf-8")

        return make

    def test_is_made_once(
        self, tool: ModuleType, tmp_path: Path, make: Callable[[Path, list[str]], None], made: list[list[str]]
    ) -> None:
        said: list[str] = []
        for _ in range(2):
            tool._part(tmp_path / "wheels", ["numpy"], make, said.append)
        assert made == [["numpy"]]
        assert said == ["making wheels ..."]
        assert (tmp_path / "wheels/file").read_text(encoding="utf-8") == "numpy"

    def test_of_something_else_is_made_anew(
        self, tool: ModuleType, tmp_path: Path, make: Callable[[Path, list[str]], None], made: list[list[str]]
    ) -> None:
        tool._part(tmp_path / "wheels", ["numpy"], make, str)
        tool._part(tmp_path / "wheels", ["rich"], make, str)
        assert made == [["numpy"], ["rich"]]
        assert (tmp_path / "wheels/file").read_text(encoding="utf-8") == "rich"

    def test_that_was_interrupted_is_made_anew(
        self, tool: ModuleType, tmp_path: Path, make: Callable[[Path, list[str]], None]
    ) -> None:
        def interrupted(part: Path, made_of: list[str]) -> None:
            (part / "half").touch()
            raise tool.CheckError("the network has gone")

        with pytest.raises(tool.CheckError):
            tool._part(tmp_path / "wheels", ["numpy"], interrupted, str)
        assert not (tmp_path / "wheels").exists()
        tool._part(tmp_path / "wheels", ["numpy"], make, str)
        assert sorted(path.name for path in (tmp_path / "wheels").iterdir()) == ["file", tool._MADE_OF]
        assert [path.name for path in tmp_path.iterdir()] == ["wheels"]


class TestAProgram:
    def test_that_fails_is_told_by_its_last_line(self, tool: ModuleType) -> None:
        with pytest.raises(tool.CheckError, match=r"^fetching: ended with 1: no wheel$"):
            tool.run([sys.executable, "-c", "import sys; sys.exit('no wheel')"], doing="fetching")

    def test_that_crashes_is_told_by_its_signal(self, tool: ModuleType) -> None:
        crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
        with pytest.raises(tool.CheckError, match="killed by signal 11: it said nothing"):
            tool.run([sys.executable, "-c", crash])

    def test_that_is_not_there_is_named(self, tool: ModuleType) -> None:
        with pytest.raises(tool.CheckError, match="there is no no-such-program here"):
            tool.run(["no-such-program"])


def test_the_variables_of_the_one_who_runs_it_do_not_reach_the_emulated_python(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/x86")
    monkeypatch.setenv("PYTHONHOME", "/opt/python")
    monkeypatch.setenv("QEMU_CPU", "max")
    variables = tool.environment(Path("/a"), Path("/b"), PYTHONPYCACHEPREFIX="/c")
    assert variables["PYTHONPATH"] == "/a:/b"
    assert variables["PYTHONPYCACHEPREFIX"] == "/c"
    assert not variables.keys() & {"LD_LIBRARY_PATH", "PYTHONHOME", "QEMU_CPU"}


def test_a_processor_is_always_named_to_the_emulator(tool: ModuleType) -> None:
    words = tool.Emulator(Path("/kept")).words("cortex-a72", ["-c", "1"])
    assert words[0] == "/kept/qemu/qemu-aarch64"
    assert words[words.index("-cpu") + 1] == "cortex-a72"
    assert words[-3:] == ["/kept/debian/usr/bin/python3.11", "-c", "1"]


def test_the_table_says_that_it_shows_no_time(tool: ModuleType) -> None:
    devices = {
        "machine": "linux aarch64",
        "python": "3.11.2",
        "target": {"name": "generic-aarch64"},
        "backends": [
            {"name": "onnxruntime", "version": "1.31.1 (CPUExecutionProvider)", "missing": None},
            {"name": "tflite", "version": None, "missing": "no LiteRT"},
        ],
    }
    processor = {"cpu": "cortex-a72", "board": "Raspberry Pi 4", "features": ["asimd"], "devices": devices}
    apart = tool.Difference(2, 1, 0, None, None)
    near = tool.Difference(2, 2, 2, 0.49, 0.0023)
    printed = tool.table(
        [processor],
        [
            tool.Row("cortex-a72", "onnxruntime", "a.onnx", 9.8, near, near, True),
            tool.Row("cortex-a72", "onnxruntime", "b.onnx", 9.8, near, apart, False),
        ],
    ).splitlines()
    assert "| generic-aarch64, linux aarch64, Python 3.11.2 | onnxruntime 1.31.1, no tflite |" in printed[2]
    assert printed[6].endswith("| 9.8 | 2 / 2, 2 / 2 | 0.49, 0.0023 | 0.49, 0.0023 | yes |")
    assert printed[7].endswith("| 9.8 | 2 / 2, 2 / 1 | 0.49, 0.0023 | no pairs | NO |")
    assert "numbers, never time" in printed[-1]


def test_a_photo_that_is_not_there_is_said_before_anything_is_fetched(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main([str(tmp_path / "made"), "--data", str(tmp_path)]) == 1
    assert "000000008532.jpg: no such file" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
