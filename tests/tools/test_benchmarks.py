"""The benchmarks of the live loop run, say what they measured, and fail where a goal is missed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOOLS / name, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize("name", ["benchmark_live.py", "benchmark_recovery.py"])
def test_an_unknown_section_is_refused_with_those_that_there_are(name: str) -> None:
    done = run(name, "nonsense")
    assert done.returncode == 2
    assert "there is no section nonsense; there are " in done.stderr


def test_a_line_tells_whether_its_goal_is_met(capsys: pytest.CaptureFixture[str]) -> None:
    live = loaded("benchmark_live")
    assert live.line("period", 1.04, 1.05, "R")["met"]
    assert not live.line("period", 1.06, 1.05, "R", "seen on a busy day")["met"]
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[0] == "ok"
    assert second.split()[0] == "NOT"
    assert "seen on a busy day" in second


@pytest.mark.slow
def test_what_does_not_depend_on_the_machines_speed_meets_its_goals(shared: Path, tmp_path: Path) -> None:
    done = run("benchmark_live.py", "steady", "--shared", shared, "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [one["met"] for one in figures] == [True] * len(figures)
    assert len(figures) >= 3


@pytest.mark.slow
def test_a_minute_of_freshness_accounts_for_every_frame(shared: Path, tmp_path: Path) -> None:
    run("benchmark_live.py", "fresh", "--minutes", 1, "--shared", shared, "--json", tmp_path / "figures.json")
    figures = {one["what"].split(": ")[1]: one["value"] for one in json.loads((tmp_path / "figures.json").read_text())}
    assert figures["frames seen twice"] == 0
    assert figures["frames unaccounted for"] == 0
