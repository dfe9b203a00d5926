"""What the tables say about real boards: sources for every number, totals that count nothing twice."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import targets
from edge_sdk.targets import Target, families, load, load_all, names, parse

TARGETS = sorted(load_all().values(), key=lambda target: target.name)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "boards.md"

# Every board of the reference sheet, parts A and E, by the name it has here.
WANTED = """
jetson-nano jetson-tx2 jetson-tx2-nx jetson-xavier-nx jetson-agx-xavier jetson-orin-nano jetson-orin-nano-4gb
jetson-orin-nx jetson-agx-orin jetson-agx-thor jetson-t4000
raspberry-pi-zero-2-w raspberry-pi-3b raspberry-pi-3b-plus raspberry-pi-3a-plus raspberry-pi-4b raspberry-pi-400
raspberry-pi-cm4 raspberry-pi-5 raspberry-pi-500 raspberry-pi-cm5
qcs6490-rb3gen2 rubik-pi-3 radxa-dragon-q6a particle-tachyon qrb5165-rb5 qcs9075-iq9 qcs8275-iq8 arduino-uno-q
arduino-ventuno-q snapdragon-x-elite snapdragon-x-plus snapdragon-x2-elite
generic-x86_64 generic-aarch64
""".split()  # noqa: SIM905


def total(name: str) -> set[str]:
    """The rails whose sum is the board."""
    return {rail.name for rail in load(name).rails if rail.in_total}


def backends_of(target: Target) -> str:
    """The backends with their precisions, as the page has them."""
    return "; ".join(f"{backend}: {' '.join(target.precisions[backend])}" for backend in target.backends)


def total_of(target: Target) -> str:
    """The rails of the total, as the page has them."""
    if not target.rails:
        return "none"
    summed = [rail.name for rail in target.rails if rail.in_total]
    if len(summed) > 6:
        return f"{target.rails[0].driver}: sum of {len(summed)}"
    return f"{target.rails[0].driver}: {' + '.join(summed)}" if summed else "no total"


def row_of(target: Target) -> str:
    """A target's line on docs/boards.md."""
    memory = "varies" if target.memory_mib is None else f"{target.memory_mib} MiB"
    cells = (f"`{target.name}`", target.label, target.kind, memory, backends_of(target), total_of(target))
    return f"| {' | '.join(cells)} |"


class TestEveryTable:
    def test_every_board_of_the_reference_sheet_has_one(self) -> None:
        assert set(WANTED) <= set(names())

    @pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
    def test_every_number_has_a_source(self, target: Target) -> None:
        sources = [rate.source for rate in target.rates] + [fact.source for fact in target.facts.values()]
        assert all(len(source.text) > 10 for source in sources)

    @pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
    def test_its_facts_do_not_contradict_its_precisions(self, target: Target) -> None:
        if target.fact("cpu_fp16_arithmetic") is False:
            assert not any("fp16" in levels for levels in target.precisions.values())
        if target.fact("hexagon") == "v68":
            assert not target.supports("qnn", "fp16")
        if "qnn" in target.backends:
            assert target.fact("hexagon") is not None
            assert target.supports("qnn", "int8")
            assert target.supports("qnn", "a16w8")
        assert all("fp32" in levels for backend, levels in target.precisions.items() if backend != "qnn")

    @pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
    def test_its_rails_have_names_of_their_own(self, target: Target) -> None:
        assert len({rail.name for rail in target.rails}) == len(target.rails)

    def test_a_table_of_a_chip_or_a_family_promises_no_rails_of_a_board(self) -> None:
        with_rails = {target.name for target in TARGETS if target.kind in ("soc", "family") and target.rails}
        assert with_rails == {"snapdragon-x-elite", "snapdragon-x-plus"}  # a laptop's chip is the target

    def test_what_only_memory_vouches_for_is_marked(self) -> None:
        doubtful = {
            (target.name, name)
            for target in TARGETS
            for name, fact in target.facts.items()
            if not fact.source.confirmed and name in ("hexagon", "memory_mib", "compute_capability", "cpu")
        }
        assert doubtful == {("snapdragon-x2-elite", "hexagon")}
        assert not load("jetson-agx-orin-32gb").rates[0].source.confirmed

    @pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
    def test_it_can_be_copied_sent_to_a_process_and_written_as_json(self, target: Target) -> None:
        assert copy.deepcopy(target) == target
        assert pickle.loads(pickle.dumps(target)) == target  # noqa: S301
        assert hash(copy.deepcopy(target)) == hash(target)
        assert json.loads(json.dumps(dataclasses.asdict(target)))["name"] == target.name

    @pytest.mark.parametrize("family", families())
    def test_every_source_is_used(self, family: str) -> None:
        text = (Path(targets.__file__).parent / family / "boards.toml").read_text(encoding="utf-8")
        listed = set(re.findall(r"^(\w+) = \{ text = ", text, flags=re.MULTILINE))
        assert listed == set(re.findall(r'source = "(\w+)"', text))


class TestPrecisions:
    def test_a_jetson_nano_and_a_tx2_gain_nothing_from_int8_on_the_gpu(self) -> None:
        assert load("jetson-nano").precisions["tensorrt"] == ("fp16", "fp32")
        assert load("jetson-tx2").precisions["tensorrt"] == ("fp16", "fp32")

    def test_xavier_and_later_have_int8_and_only_thor_has_fp8(self) -> None:
        with_fp8 = {target.soc for target in TARGETS if target.supports("tensorrt", "fp8")}
        assert with_fp8 == {"nvidia,tegra264"}
        assert load("jetson-xavier-nx").supports("tensorrt", "int8")
        assert not load("jetson-xavier-nx").supports("tensorrt", "bf16")

    def test_a_pi_5_has_fp16_and_a_pi_4_has_not(self) -> None:
        assert load("raspberry-pi-5").precisions["onnxruntime"] == ("int8", "fp16", "fp32")
        assert load("raspberry-pi-4b").precisions["onnxruntime"] == ("int8", "fp32")

    def test_hexagon_v68_has_integers_only_and_v73_has_fp16(self) -> None:
        assert load("qcs6490-rb3gen2").precisions["qnn"] == ("int8", "a16w8")
        assert load("qcs9075-iq9").supports("qnn", "fp16")

    def test_boards_without_an_htp_do_not_offer_qnn(self) -> None:
        assert "qnn" not in load("qrb5165-rb5").backends
        assert "qnn" not in load("arduino-uno-q").backends


class TestRates:
    def test_sparse_and_dense_are_told_apart(self) -> None:
        rates = {(rate.value, rate.sparse) for rate in load("jetson-orin-nano").rates if rate.unit == "TOPS"}
        assert {(67.0, True), (33.0, False)} <= rates

    def test_fp4_tflops_are_not_int8_tops(self) -> None:
        thor = {(rate.value, rate.unit, rate.precision) for rate in load("jetson-agx-thor").rates}
        assert thor == {(2070.0, "TFLOPS", "fp4"), (1035.0, "TFLOPS", "fp8")}

    def test_a_pi_has_none(self) -> None:
        assert load("raspberry-pi-5").rates == ()

    def test_the_small_orin_nano_does_not_take_over_the_big_ones_numbers(self) -> None:
        small = load("jetson-orin-nano-4gb")
        assert (small.memory_mib, small.rates, small.fact("memory_bandwidth_gb_s")) == (4096, (), None)


class TestTotals:
    def test_a_board_with_an_input_rail_counts_that_alone(self) -> None:
        assert total("jetson-nano") == {"POM_5V_IN"}
        for name in ("jetson-tx2", "jetson-xavier-nx", "jetson-orin-nano", "jetson-orin-nx-8gb"):
            assert total(name) == {"VDD_IN"}

    def test_agx_orin_has_no_input_rail_and_does_not_count_vddq_twice(self) -> None:
        assert total("jetson-agx-orin-64gb") == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"}

    def test_agx_xavier_counts_all_six(self) -> None:
        assert total("jetson-agx-xavier") == {"GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"}

    def test_thor_counts_the_input_on_its_carrier_and_a_bare_module_has_no_total(self) -> None:
        assert total("jetson-agx-thor") == {"VIN"}
        assert load("jetson-agx-thor").rails[0].driver == "ina238"
        assert total("jetson-t5000") == set()

    def test_pi_5_cm5_and_500_sum_the_pmic(self, fixtures_dir: Path) -> None:
        reading = (fixtures_dir / "rpi" / "pmic_read_adc_pi5_load.txt").read_text(encoding="utf-8")
        measured = {line.split("_A ")[0].strip() for line in reading.splitlines() if "_A " in line}
        for name in ("raspberry-pi-5", "raspberry-pi-cm5", "raspberry-pi-500"):
            assert total(name) == measured

    def test_older_pis_have_the_published_line_of_their_own_or_nothing(self, fixtures_dir: Path) -> None:
        lines = json.loads((fixtures_dir / "rpi" / "cpu_power_linear_models.json").read_text(encoding="utf-8"))
        used = {
            "raspberry-pi-4b": "raspberry_pi_4b_1.2_64",
            "raspberry-pi-400": "raspberry_pi_400_64",
            "raspberry-pi-3b": "raspberry_pi_3b_1.2",
            "raspberry-pi-3b-plus": "raspberry_pi_3b_plus_1.3",
        }
        modelled = {
            target.name: target.rails[0].address
            for target in TARGETS
            if target.rails and target.rails[0].driver == "cpu_model"
        }
        assert modelled == {name: f"{lines[key][0]}*u+{lines[key][1]}" for name, key in used.items()}
        for name in ("raspberry-pi-zero-2-w", "raspberry-pi-3a-plus", "raspberry-pi-cm4", "raspberry-pi-cm4s"):
            assert load(name).rails == ()

    @pytest.mark.parametrize(
        ("capture", "name"),
        [
            ("agx_orin_jp6", "jetson-agx-orin"),
            ("orin_nano_super_jp6", "jetson-orin-nano"),
            ("agx_thor", "jetson-agx-thor"),
            ("agx_orin_channel_disabled", "jetson-agx-orin"),
        ],
    )
    def test_the_rails_of_a_board_are_those_of_its_capture(
        self, captures: Mapping[str, Any], capture: str, name: str
    ) -> None:
        labels = {text.strip() for path, text in captures[capture].items() if path.endswith("_label")}
        unused = {"NC", "sum of shunt voltages"}
        assert labels - unused <= {rail.name for rail in load(name).rails}

    def test_the_ventuno_measures_its_supply_and_the_rb3_nothing(self) -> None:
        assert [(rail.driver, rail.in_total) for rail in load("arduino-ventuno-q").rails] == [("ina232", True)]
        assert load("qcs6490-rb3gen2").rails == ()


class TestThePackage:
    def test_it_imports_nothing_of_ours_but_errors(self) -> None:
        code = (
            "import sys, edge_sdk.targets as t; t.identify();"
            "ours = {m for m in sys.modules if m.startswith('edge_sdk.') and not m.startswith('edge_sdk.targets')};"
            "assert ours == {'edge_sdk.errors'}, ours; assert 'numpy' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_the_page_has_the_line_of_every_target(self) -> None:
        page = PAGE.read_text(encoding="utf-8").splitlines()
        assert [row_of(target) for target in TARGETS if row_of(target) not in page] == []

    def test_the_example_on_the_page_is_a_board(self) -> None:
        package = Path(targets.__file__).parent
        texts = {family: (package / family / "boards.toml").read_text(encoding="utf-8") for family in families()}
        example = PAGE.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
        kit = parse(texts | {"acme": example})["acme-vision-kit"]
        assert kit.precisions == load("snapdragon-qcm6490").precisions
        assert kit.memory_mib == 6144
