"""The command as a whole: help, speed of help, exit codes, pipes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk.cli import build

COMMANDS = ["benchmark", "demo", "detect", "devices", "doctor", "evaluate", "models"]


def shell(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edge_sdk", *words], capture_output=True, text=True, check=False)


def test_every_command_is_listed() -> None:
    out = shell("--help").stdout
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", [*(c for c in COMMANDS if c != "models"), "models pull", "models list"])
def test_every_command_has_an_example_in_its_help(edge_sdk_command, command: str) -> None:
    ran = edge_sdk_command(*command.split(), "--help")
    assert ran.code == 0
    assert f"edge-sdk {command.split(maxsplit=1)[0]}" in ran.out.replace("\n", " ").split("xample", 1)[1]


@pytest.mark.parametrize("command", [*(c for c in COMMANDS if c != "models"), "models list"])
def test_every_command_speaks_json(edge_sdk_command, command: str) -> None:
    assert "--json" in edge_sdk_command(*command.split(), "--help").out


def test_help_loads_neither_opencv_nor_an_engine_nor_rich() -> None:
    """What keeps help under 300 ms; `tools/benchmark_start.py` prints the time itself."""
    code = (
        "import sys; from edge_sdk.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('cv2', 'numpy', 'onnxruntime', 'ai_edge_litert', 'rich')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"


def test_the_version_is_printed() -> None:
    from edge_sdk import __version__

    assert shell("--version").stdout.strip() == f"edge-sdk {__version__}"


def test_an_unexpected_error_is_one_line_too(monkeypatch: pytest.MonkeyPatch, edge_sdk_command) -> None:
    from edge_sdk import device

    def broken() -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(device, "facts", broken)
    ran = edge_sdk_command("devices")
    assert ran.code == 1
    assert ran.err.strip() == "edge-sdk: internal error, ZeroDivisionError: of all things (--debug shows where)"


def test_a_reader_that_leaves_ends_the_command_quietly(yolox: Path, highway: Path) -> None:
    command = f"{sys.executable} -m edge_sdk detect {highway} -m {yolox} --json | head -n 1 >/dev/null"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in ran.stderr
    assert "Error" not in ran.stderr


def test_the_command_tree_builds_from_the_files_in_the_folder() -> None:
    import typer.main

    folder = Path(__import__("edge_sdk.cli").cli.__file__).parent
    files = {path.stem.replace("_", "-") for path in folder.glob("*.py")} - {"--init--", "shared", "outputs", "ending"}
    group = typer.main.get_command(build())
    assert set(group.commands) == files  # type: ignore[attr-defined]
