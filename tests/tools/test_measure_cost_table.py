"""The tool that measures cost tables: its fit, and that what it writes is a table."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from edge_sdk.calibration.cost_table import tables_from
from tests.calibration.test_costs import network

TOOL = Path(__file__).resolve().parents[2] / "tools/measure_cost_table.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_cost_table", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure_cost_table"] = module
    spec.loader.exec_module(module)
    return module


def test_hidden_rates_are_found_again(tool: ModuleType) -> None:
    drawn = np.random.default_rng(0)
    macs, elements = 10 ** drawn.uniform(4, 8, 60), 10 ** drawn.uniform(3, 6, 60)
    ms = (0.05 * macs + 0.8 * elements + 4000) * drawn.lognormal(0, 0.02, 60) / 1e6
    rate = tool.fit(list(zip(macs, elements, ms, strict=True)))
    assert rate.mac_ns == pytest.approx(0.05, rel=0.05)
    assert rate.element_ns == pytest.approx(0.8, rel=0.1)
    assert rate.ms(1e6, 1e5) == pytest.approx((5e4 + 8e4 + 4000) / 1e6, rel=0.05)


def test_what_it_writes_is_a_table_and_takes_the_place_of_its_own_kind(tool: ModuleType, tmp_path: Path) -> None:
    onnx.save(network(4), tmp_path / "m.onnx")
    out = tmp_path / "table.json"
    words = [str(tmp_path / "m.onnx"), "--on", "a processor", "--builds", "3", "--repeats", "1", "--out", str(out)]
    for _ in range(2):
        assert tool.main(words) == 0
    (table,) = tables_from(json.loads(out.read_text()), "out")
    assert table.on.startswith("a processor, onnxruntime ")
    assert set(table.rates["dense Conv"]) == {"fp32", "int8"}
    record = json.loads(out.read_text())
    record["tables"].append({**record["tables"][0], "cpu": "another"})
    out.write_text(json.dumps(record))
    assert tool.main(words) == 0
    assert sorted(one.cpu for one in tables_from(json.loads(out.read_text()), "out"))[0] == "another"


def test_a_file_that_is_no_model_is_one_line(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.onnx").write_text("no model")
    assert tool.main([str(tmp_path / "m.onnx"), "--on", "x"]) == 1
    assert capsys.readouterr().err.startswith("measure_cost_table: ")
