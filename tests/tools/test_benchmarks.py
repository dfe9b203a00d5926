"""The benchmarks of the live loop run, say what they measured, and fail where a goal is missed."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
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


@pytest.mark.parametrize("name", ["benchmark_live.py", "benchmark_recovery.py", "benchmark_power.py"])
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


@pytest.fixture
def power_tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))  # it takes parts of benchmark_live
    return loaded("benchmark_power")


def test_a_paired_ratio_is_found_through_drift_and_its_interval_holds_it(power_tool: ModuleType) -> None:
    drift = itertools.count(1)

    def block(with_it: bool) -> list[float]:
        number = next(drift)
        return [(1.01 if with_it else 1.0) * (1 + 0.2 * math.sin(number / 20)), 3.0]

    (ratio, low, high), still = power_tool.paired(block, 60)
    assert low < 1.01 < high
    assert ratio == pytest.approx(1.01, abs=0.005)
    assert still == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("freedom", "quantile"), [(10, 2.2281), (39, 2.0227), (59, 2.0010), (1000, 1.9623)])
def test_the_interval_is_students(power_tool: ModuleType, freedom: int, quantile: float) -> None:
    """The quantiles are from the usual tables."""
    assert power_tool.student(freedom) == pytest.approx(quantile, abs=0.002)


@pytest.mark.slow
def test_sampling_is_cheap(shared: Path, tmp_path: Path) -> None:
    done = run("benchmark_power.py", "cost", "--shared", shared, "--json", tmp_path / "figures.json")
    figures = {one["what"]: one for one in json.loads((tmp_path / "figures.json").read_text())}
    assert len(figures) == 6, done.stdout
    assert figures["beside a camera, of one core"]["met"], done.stdout


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
