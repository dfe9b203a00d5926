"""A board behind a shell: files get there once, and what it says is checked."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_sdk.calibration.remote_timing import RemoteTimer
from edge_sdk.calibration.timing import LocalTimer, sha256_of_file
from edge_sdk.errors import BackendError, ModelError, ShellError
from edge_sdk.shell import LocalShell


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / f"{name}.onnx" for name in ("high", "low", "mixed")}
    for length, path in enumerate(made.values(), 1):
        path.write_bytes(b"x" * length)
    return made


class Board(LocalShell):
    """This machine, standing for a board: home is a folder, and what is run is noted."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ran: list[str] = []
        self.puts = 0

    def run(self, command: Sequence[str], *, timeout_s: float = 10.0, given: str = "") -> str:
        self.ran.append(shlex.join(command))
        return super().run(["env", "-C", str(self.home), *command], timeout_s=120, given=given)

    def put(self, file: Path, path: str, *, timeout_s: float = 600.0) -> None:
        self.puts += 1
        super().put(file, str(self.home / path))


EDGE_SDK = (sys.executable, "-m", "edge_sdk")


def test_a_board_gets_each_file_once_and_its_answer_is_parsed(shared: Path, tmp_path: Path) -> None:
    board = Board(tmp_path)
    file = shared / "models/ultraface/version-slim-320.onnx"
    other = shared / "models/ultraface/version-RFB-640.onnx"  # of four times as many pixels
    timer = RemoteTimer(board, command=EDGE_SDK, seconds=0.1)
    timed = timer.time({"slim": file, "rfb": other}, reference="slim")
    assert timed["slim"].ratio == 1.0
    assert timed["rfb"].ratio > 1.5
    layers = timer.layers(file)
    assert sum(layer.time_ms or 0 for layer in layers) > 0
    assert board.puts == 2
    assert (tmp_path / ".cache/edge-sdk/timing" / f"{sha256_of_file(file)}.onnx").exists()


def test_a_board_is_named_with_its_engine(tmp_path: Path) -> None:
    timer = RemoteTimer(Board(tmp_path), command=EDGE_SDK)
    assert timer.on == LocalTimer().on or timer.on.endswith(LocalTimer().on)


class Answers(Board):
    """A board whose edge-sdk says one thing."""

    def __init__(self, home: Path, answer: str) -> None:
        super().__init__(home)
        self.answer = answer

    def run(self, command: Sequence[str], *, timeout_s: float = 10.0, given: str = "") -> str:
        return self.answer if command[0] == "edge-sdk" else super().run(command, timeout_s=timeout_s, given=given)


@pytest.mark.parametrize("answer", ["", "Segmentation fault", "[]", "{}", '{"turns": [{"path": 3}]}', '{"turns": 1}'])
def test_what_a_board_says_is_checked(answer: str, files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="the board's edge-sdk"):
        RemoteTimer(Answers(tmp_path, answer)).time(files, reference="high")
    with pytest.raises(BackendError, match="the board's edge-sdk"):
        _ = RemoteTimer(Answers(tmp_path, answer)).on


def test_figures_of_a_board_that_mean_nothing_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    path = f".cache/edge-sdk/timing/{sha256_of_file(files['high'])}.onnx"
    answer = json.dumps({"turns": [{"path": path, "ms": -1, "ratio": 1, "low": 1, "high": 1}]})
    with pytest.raises(ModelError, match="numbers above 0"):
        RemoteTimer(Answers(tmp_path, answer)).time({"high": files["high"]}, reference="high")


def test_a_board_without_the_sdk_or_the_engine_is_an_error(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ShellError, match="not installed"):
        RemoteTimer(Board(tmp_path), command=["edge-sdk-of-nobody"]).time(files, reference="high")
    facts = {
        "target": {"model": None, "label": "board"},
        "backends": [{"name": "onnxruntime", "missing": "pip install it", "version": None}],
    }
    with pytest.raises(BackendError, match="the board has no onnxruntime: pip install it"):
        _ = RemoteTimer(Answers(tmp_path, json.dumps(facts))).on


def test_the_command_in_turns_says_what_a_remote_timer_reads(shared: Path) -> None:
    file = shared / "models/ultraface/version-slim-320.onnx"
    words = [
        *EDGE_SDK, "benchmark", str(file), "--against", str(file), "--seconds", "0.1", "--threads", "1", "--json",
    ]  # fmt: skip
    report = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert [row["path"] for row in report["turns"]] == [str(file)] * 2
    assert report["turns"][0]["ratio"] == 1.0
    assert report["clock"] == "thread"
