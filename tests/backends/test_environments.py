"""The older engines, in environments of their own; needs the network and some minutes the first time.

    pytest -m slow tests/backends/test_environments.py

The environments are kept in ``EDGE_SDK_TEST_ENVIRONMENTS``, where that is set, and are not made twice.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_environments.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_environments", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["tflite-runtime-py310", "tflite-runtime-py311", "ort-py310-lowest"])
def test_an_older_engine_finds_the_same_boxes(
    tool: ModuleType, shared: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    environment = next(one for one in tool.ENVIRONMENTS if one.name == name)
    if tool.find_interpreter(environment.python, {}) is None:
        pytest.skip(f"there is no Python {environment.python} here")
    kept = os.environ.get("EDGE_SDK_TEST_ENVIRONMENTS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("environments")
    row = tool.check(environment, folder, shared, {})
    assert row["python"].startswith(environment.python)
    assert row["layers"] > 50
    assert len(row["boxes"]) == 2
    assert row["difference_px"] <= tool.TOLERANCE_PX


class TestTheComparison:
    PERSON = (0, 0.9, 10.0, 10.0, 50.0, 90.0)
    OTHER = (0, 0.8, 200.0, 10.0, 250.0, 90.0)

    def test_is_the_greatest_difference_of_a_side(self, tool: ModuleType) -> None:
        moved = (0, 0.9, 10.0, 10.25, 50.0, 89.5)
        assert tool.greatest_difference([moved], [self.PERSON]) == 0.5

    def test_takes_the_nearest_box_of_the_class_whatever_the_order(self, tool: ModuleType) -> None:
        assert tool.greatest_difference([self.OTHER, self.PERSON], [self.PERSON, self.OTHER]) == 0

    def test_of_other_classes_or_numbers_is_infinite(self, tool: ModuleType) -> None:
        assert tool.greatest_difference([self.PERSON], [self.PERSON, self.OTHER]) == float("inf")
        assert tool.greatest_difference([(1, *self.PERSON[1:])], [self.PERSON]) == float("inf")

    def test_of_nothing_with_nothing_is_none(self, tool: ModuleType) -> None:
        assert tool.greatest_difference([], []) == 0


def test_an_interpreter_may_be_named(tool: ModuleType) -> None:
    assert tool.find_interpreter("3.10", {"3.10": "/opt/python"}) == Path("/opt/python")


def test_a_program_that_fails_is_told_by_its_last_line(tool: ModuleType) -> None:
    with pytest.raises(RuntimeError, match=r"^no wheel$"):
        tool.run([sys.executable, "-c", "import sys; sys.exit('no wheel')"])
