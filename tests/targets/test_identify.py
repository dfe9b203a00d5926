"""Every board whose strings or files were captured is named, and nothing is named that was not seen."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.errors import TargetError
from edge_sdk.targets import here, identify, load, names

MakeTree = Callable[[Mapping[str, Any]], Path]
MakeBoard = Callable[..., Path]

# The board of each identity in device_identity.json, in the order of the file.
JETSONS = {
    "jetson_nano": "jetson-nano",
    "jetson_tx2": "jetson-tx2",
    "jetson_tx2_nx": "jetson-tx2-nx",
    "agx_xavier": "jetson-agx-xavier",
    "xavier_nx": "jetson-xavier-nx",
    "agx_orin": "jetson-agx-orin",
    "orin_nx_16": "jetson-orin-nx-16gb",
    "orin_nano_8": "jetson-orin-nano",
    "agx_thor": "jetson-agx-thor",
}
PIS = {
    "Raspberry Pi Zero 2 W Rev 1.0": "raspberry-pi-zero-2-w",
    "Raspberry Pi 3 Model B Plus Rev 1.3": "raspberry-pi-3b-plus",
    "Raspberry Pi 4 Model B Rev 1.2": "raspberry-pi-4b",
    "Raspberry Pi Compute Module 4 Rev 1.0": "raspberry-pi-cm4",
    "Raspberry Pi 400 Rev 1.0": "raspberry-pi-400",
    "Raspberry Pi 5 Model B Rev 1.0": "raspberry-pi-5",
    "Raspberry Pi Compute Module 5 Rev 1.0": "raspberry-pi-cm5",
    "Raspberry Pi 500": "raspberry-pi-500",
}
QUALCOMMS = {
    "Qualcomm Technologies, Inc. Robotics RB3gen2": "qcs6490-rb3gen2",
    "Thundercomm RUBIK Pi 3": "rubik-pi-3",
    "Radxa Dragon Q6A": "radxa-dragon-q6a",
    "Particle Tachyon": "particle-tachyon",
    "Qualcomm Technologies, Inc. Robotics RB5": "qrb5165-rb5",
    "(Lemans EVK / IQ-9)": "qcs9075-iq9",
    "(Monaco EVK / IQ-8)": "qcs8275-iq8",
    "Arduino UnoQ": "arduino-uno-q",
    "Arduino VENTUNOQ": "arduino-ventuno-q",
}
CAPTURES = {
    "agx_orin_jp6": ("jetson-agx-orin-64gb", "exact"),
    "orin_nano_super_jp6": ("jetson-orin-nano", "exact"),
    "agx_thor": ("jetson-agx-thor", "exact"),
    "rpi5": ("raspberry-pi-5", "exact"),
    "ventuno_q_ina232": ("arduino-ventuno-q", "exact"),
    # no device tree: the family or the architecture, and no more
    "agx_orin_channel_disabled": ("jetson-unknown", "family"),
    "jetson_jp4_iio": ("jetson-unknown", "family"),
    "x1e_linux_laptop": ("snapdragon-unknown", "family"),
    "x86_rapl": ("generic-x86_64", "generic"),
}


def models(identity: Mapping[str, Any]) -> list[str]:
    """The alternative model strings of an identity, without the remarks in brackets behind them."""
    return [text.split(" (JP")[0] for text in identity["model"].split(" | ")]


class TestTheIdentities:
    def test_every_jetson_is_named(self, identities: Mapping[str, Any], make_board: MakeBoard) -> None:
        assert {entry["board"] for entry in identities["jetson"]} == set(JETSONS)
        for entry in identities["jetson"]:
            for model in models(entry):
                found = identify(make_board(tuple(entry["compat"]), model))
                assert (found.target.name, found.confidence) == (JETSONS[entry["board"]], "exact")

    def test_every_pi_is_named(self, identities: Mapping[str, Any], make_board: MakeBoard) -> None:
        assert {entry["model"] for entry in identities["rpi"]} == set(PIS)
        for entry in identities["rpi"]:
            found = identify(make_board(tuple(entry["compat"]), entry["model"]))
            assert (found.target.name, found.confidence) == (PIS[entry["model"]], "exact")

    def test_every_qualcomm_board_is_named(self, identities: Mapping[str, Any], make_board: MakeBoard) -> None:
        assert {entry["model"] for entry in identities["qualcomm"]} == set(QUALCOMMS)
        for entry in identities["qualcomm"]:
            found = identify(make_board(tuple(entry["compat"]), entry["model"]))
            assert (found.target.name, found.confidence) == (QUALCOMMS[entry["model"]], "exact")

    def test_each_alternative_string_alone_names_the_board_or_what_it_extends(
        self, identities: Mapping[str, Any], make_board: MakeBoard
    ) -> None:
        wanted = [(entry, JETSONS[entry["board"]]) for entry in identities["jetson"]]
        wanted += [(entry, PIS[entry["model"]]) for entry in identities["rpi"]]
        wanted += [(entry, QUALCOMMS[entry["model"]]) for entry in identities["qualcomm"]]
        for entry, name in wanted:
            for compatible in entry["compat"]:
                found = identify(make_board((compatible,)))
                related = load(name).is_a(found.target.name) or found.target.is_a(name)
                assert related, f"{compatible} is {found.target.name}, not {name}"
                assert found.confidence in ("exact", "module", "soc")
            for model in models(entry):
                if not model.startswith("("):
                    found = identify(make_board(model=model))
                    assert load(name).is_a(found.target.name), f"{model} is {found.target.name}, not {name}"

    def test_every_soc_id_of_a_qualcomm_board_names_its_chip(
        self, identities: Mapping[str, Any], make_tree: MakeTree
    ) -> None:
        for entry in identities["qualcomm"]:
            for soc_id in entry["soc_ids"]:
                soc0 = {"family": "Snapdragon\n", "machine": "NULL\n", "soc_id": f"{soc_id}\n"}
                found = identify(make_tree({f"/sys/devices/soc0/{key}": text for key, text in soc0.items()}))
                assert load(QUALCOMMS[entry["model"]]).is_a(found.target.name)
                assert found.confidence == "soc"

    def test_the_captured_hexagon_versions_are_those_of_the_tables(self, identities: Mapping[str, Any]) -> None:
        for entry in identities["qualcomm"]:
            if entry.get("htp"):
                target = load(QUALCOMMS[entry["model"]])
                assert target.fact("hexagon") == entry["htp"]
                assert target.supports("qnn", "fp16") is entry["htp_fp16"]

    def test_windows_names_a_snapdragon_by_its_processor(
        self, identities: Mapping[str, Any], make_tree: MakeTree
    ) -> None:
        named = [identify(make_tree({}), cpu_name=name).target.name for name in identities["windows_cpu_names"]]
        assert named == ["snapdragon-x-elite", "snapdragon-x-elite", "snapdragon-x-plus"]


class TestTheCapturedTrees:
    def test_each_is_named_as_far_as_its_evidence_goes(self, captures: Mapping[str, Any], make_tree: MakeTree) -> None:
        assert set(captures) == set(CAPTURES)
        for name, files in captures.items():
            found = identify(make_tree(files))
            assert (found.target.name, found.confidence) == CAPTURES[name], name
            assert found.evidence

    def test_rails_alone_name_no_board_but_say_which_have_them(
        self, captures: Mapping[str, Any], make_tree: MakeTree
    ) -> None:
        found = identify(make_tree(captures["agx_orin_channel_disabled"]))
        assert "VDD_GPU_SOC" in found.evidence[0]
        assert "jetson-agx-orin" in found.evidence[0]
        assert found.target.rails == ()

    def test_the_driver_of_jetpack_4_is_told_with_its_rails(
        self, captures: Mapping[str, Any], make_tree: MakeTree
    ) -> None:
        found = identify(make_tree(captures["jetson_jp4_iio"]))
        assert "ina3221x" in found.evidence[0]
        assert "VDD_IN" in found.evidence[0]

    def test_a_battery_of_qualcomm_makes_no_x_elite(self, captures: Mapping[str, Any], make_tree: MakeTree) -> None:
        found = identify(make_tree(captures["x1e_linux_laptop"]))
        assert "qcom-battmgr-bat" in found.evidence[0]
        assert "qnn" not in found.target.backends

    def test_the_super_suffix_and_the_carrier_are_understood(
        self, captures: Mapping[str, Any], make_tree: MakeTree
    ) -> None:
        found = identify(make_tree(captures["orin_nano_super_jp6"]))
        assert found.carrier == "p3768-0000"
        assert found.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"


class TestThirdPartyCarriersAndUnknownBoards:
    @pytest.mark.parametrize(
        ("compatible", "name", "carrier"),
        [
            (("seeed,j401+p3767-0000", "nvidia,tegra234"), "jetson-orin-nx-16gb", "unknown (j401)"),
            (("nvidia,p3767-0003", "nvidia,tegra234"), "jetson-orin-nano", "unknown"),
            (("acme,box+p3701-0004-v2", "nvidia,tegra234"), "jetson-agx-orin-32gb", "unknown (box)"),
            (("acme,box+p3834-0008", "nvidia,tegra264"), "jetson-t5000", "unknown (box)"),
        ],
    )
    def test_a_module_is_known_on_any_carrier(
        self, make_board: MakeBoard, compatible: tuple[str, ...], name: str, carrier: str
    ) -> None:
        found = identify(make_board(compatible, "NVIDIA Jetson Orin Nano Developer Kit"))
        assert (found.target.name, found.confidence, found.carrier) == (name, "module", carrier)

    @pytest.mark.parametrize(
        ("compatible", "name"),
        [
            ("nvidia,p3768-0000+p3767-0000-super", "jetson-orin-nx-16gb"),
            ("nvidia,p3768-0000+p3767-0001-super", "jetson-orin-nx-8gb"),
            ("nvidia,p3768-0000+p3767-0002", "jetson-orin-nx"),
            ("nvidia,p3509-0000+p3767-0003", "jetson-orin-nano"),
            ("nvidia,p3768-0000+p3767-0004", "jetson-orin-nano-4gb"),
            ("nvidia,p3737-0000+p3701-0005", "jetson-agx-orin-64gb"),
            ("nvidia,p3737-0000+p3701-0008", "jetson-agx-orin-industrial"),
            ("nvidia,p3509-0000-a00+p3668-0000-a01", "jetson-xavier-nx"),
            ("nvidia,p3449-0000+p3668-0003", "jetson-xavier-nx-16gb"),
            ("nvidia,p3971-0050+p3834-0005", "jetson-agx-thor"),
            ("nvidia,p4071-0000+p3834-0000", "jetson-t4000"),
            ("oe4t,p3768-0000+p3767-0005+tegrademo", "jetson-orin-nano"),
        ],
    )
    def test_every_module_of_the_reference_sheet_is_named(
        self, make_board: MakeBoard, compatible: str, name: str
    ) -> None:
        found = identify(make_board((compatible,)))
        assert (found.target.name, found.confidence) == (name, "exact")

    @pytest.mark.parametrize(
        ("compatible", "name", "confidence"),
        [
            (("acme,jetbox", "nvidia,tegra234"), "jetson-tegra234", "soc"),
            (("acme,jetbox", "nvidia,tegra999"), "jetson-unknown", "family"),
            (("nvidia,p9999-0000+p9998-0000",), "jetson-unknown", "family"),
            (("acme,pi-clone", "brcm,bcm2712"), "raspberry-pi-bcm2712", "soc"),
            (("raspberrypi,6-model-b", "brcm,bcm2713"), "raspberry-pi-unknown", "family"),
            (("acme,camera", "qcom,qcm6490"), "snapdragon-qcm6490", "soc"),
            (("lenovo,yoga-slim7x", "qcom,x1e80100"), "snapdragon-x-elite", "soc"),
            (("acme,phone", "qcom,sm9999"), "snapdragon-unknown", "family"),
            (("radxa,rock-5b", "rockchip,rk3588"), "generic-unknown", "generic"),
            (("nvidia,cardhu", "nvidia,tegra30"), "generic-unknown", "generic"),
        ],
    )
    def test_an_unknown_board_is_its_chip_or_its_family(
        self, make_board: MakeBoard, compatible: tuple[str, ...], name: str, confidence: str
    ) -> None:
        found = identify(make_board(compatible, "Acme Box"))
        assert (found.target.name, found.confidence) == (name, confidence)
        assert any(compatible[-1] in line for line in found.evidence)

    def test_a_known_chip_under_an_unknown_board_keeps_its_precisions_and_promises_no_rails(
        self, make_board: MakeBoard
    ) -> None:
        target = identify(make_board(("acme,camera", "qcom,qcm6490"))).target
        assert target.precisions["qnn"] == ("int8", "a16w8")
        assert identify(make_board(("acme,jetbox", "nvidia,tegra234"))).target.rails == ()

    def test_the_model_string_never_outweighs_the_module(self, make_board: MakeBoard) -> None:
        found = identify(
            make_board(("nvidia,p3768-0000+p3767-0000",), "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit")
        )
        assert found.target.name == "jetson-orin-nx-16gb"
        assert any("Orin Nano Engineering" in line for line in found.evidence)

    def test_a_model_string_does_not_name_the_module_on_an_unknown_carrier(self, make_board: MakeBoard) -> None:
        found = identify(make_board(("acme,jetbox", "nvidia,tegra234"), "NVIDIA Jetson Orin Nano Developer Kit"))
        assert (found.target.name, found.confidence) == ("jetson-tegra234", "soc")

    def test_more_memory_than_the_module_has_leaves_only_the_chip(self, make_board: MakeBoard) -> None:
        compatible = ("nvidia,p3768-0000+p3767-0005-super", "nvidia,tegra234")
        fits = identify(make_board(compatible, proc__meminfo="MemTotal:        7803456 kB\n"))
        assert (fits.target.name, fits.memory_mib) == ("jetson-orin-nano", 7620)
        too_much = identify(make_board(compatible, proc__meminfo="MemTotal:       16103456 kB\n"))
        assert (too_much.target.name, too_much.confidence) == ("jetson-tegra234", "soc")
        assert "more than any NVIDIA Jetson Orin Nano 8 GB has" in too_much.evidence[0]


class TestLongestMatch:
    def test_3_model_b_plus_is_not_3_model_b(self, make_board: MakeBoard) -> None:
        assert identify(make_board(model="Raspberry Pi 3 Model B Plus Rev 1.3")).target.name == "raspberry-pi-3b-plus"
        assert identify(make_board(model="Raspberry Pi 3 Model B Rev 1.2")).target.name == "raspberry-pi-3b"

    def test_a_word_that_goes_on_is_another_board(self, make_board: MakeBoard) -> None:
        assert identify(make_board(model="Raspberry Pi 4000")).target.name == "raspberry-pi-unknown"

    def test_the_board_outweighs_a_longer_string_of_the_chip(self, make_board: MakeBoard) -> None:
        found = identify(make_board(("brcm,bcm2712d0", "raspberrypi,500")))
        assert found.target.name == "raspberry-pi-500"

    def test_a_compatible_string_outweighs_a_longer_model_string(self, make_board: MakeBoard) -> None:
        found = identify(make_board(("raspberrypi,500", "brcm,bcm2712"), "Raspberry Pi 5 Model B Rev 1.1"))
        assert found.target.name == "raspberry-pi-500"

    def test_among_equal_chips_the_first_string_is_the_more_specific(self, make_board: MakeBoard) -> None:
        found = identify(make_board(("microsoft,denali-lcd", "qcom,x1p64100", "qcom,x1e80100")))
        assert found.target.name == "snapdragon-x-plus"


class TestOtherEvidence:
    def test_soc0_of_another_vendor_is_not_qualcomm(self, make_tree: MakeTree) -> None:
        soc0 = {"family": "Freescale i.MX\n", "machine": "FSL i.MX8MP EVK\n", "soc_id": "498\n"}
        found = identify(make_tree({f"/sys/devices/soc0/{key}": text for key, text in soc0.items()}))
        assert found.target.name == "generic-unknown"

    def test_soc0_says_what_an_unnamed_qualcomm_board_is(self, make_tree: MakeTree) -> None:
        soc0 = {"family": "Snapdragon\n", "machine": "QCS6490\n", "soc_id": "99999\n"}
        found = identify(make_tree({f"/sys/devices/soc0/{key}": text for key, text in soc0.items()}))
        assert (found.target.name, found.confidence) == ("snapdragon-qcm6490", "soc")

    def test_the_device_tree_under_sys_is_read_where_proc_has_none(self, make_tree: MakeTree) -> None:
        root = make_tree({"/sys/firmware/devicetree/base/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0"})
        assert identify(root).target.name == "raspberry-pi-4b"

    @pytest.mark.parametrize(
        ("revision", "name", "confidence"),
        [
            ("d04171", "raspberry-pi-5", "exact"),
            ("c041a0", "raspberry-pi-cm5", "exact"),
            ("a03140", "raspberry-pi-cm4", "exact"),
            ("902120", "raspberry-pi-zero-2-w", "exact"),
            ("000e", "raspberry-pi-unknown", "family"),
        ],
    )
    def test_the_revision_code_names_a_pi_without_a_device_tree(
        self, make_tree: MakeTree, revision: str, name: str, confidence: str
    ) -> None:
        found = identify(
            make_tree({"/proc/cpuinfo": f"Revision\t: {revision}\nModel\t\t: Raspberry Pi of some kind\n"})
        )
        assert (found.target.name, found.confidence) == (name, confidence)

    def test_a_revision_code_without_the_word_raspberry_is_nothing(self, make_tree: MakeTree) -> None:
        assert identify(make_tree({"/proc/cpuinfo": "Revision\t: d04170\n"})).target.name == "generic-unknown"

    @pytest.mark.parametrize("release", ["nv_tegra_release_r36_4_7.txt", "nv_tegra_release_r39.txt"])
    def test_the_release_file_makes_a_jetson(self, make_tree: MakeTree, fixtures_dir: Path, release: str) -> None:
        text = (fixtures_dir / "jetson" / release).read_text(encoding="utf-8")
        found = identify(make_tree({"/etc/nv_tegra_release": text}))
        assert (found.target.name, found.confidence) == ("jetson-unknown", "family")
        assert "L4T 3" in found.evidence[0]

    @pytest.mark.parametrize(
        ("node", "name"),
        [
            ("gpu-gpc-0", "jetson-tegra264"),
            ("17000000.gpu", "jetson-tegra234"),
            ("17000000.gv11b", "jetson-tegra194"),
            ("17000000.gp10b", "jetson-tegra186"),
            ("57000000.gpu", "jetson-tegra210"),
        ],
    )
    def test_the_node_of_the_gpu_names_the_chip(self, make_tree: MakeTree, node: str, name: str) -> None:
        found = identify(make_tree({f"/sys/class/devfreq/{node}/cur_freq": "306000000\n"}))
        assert (found.target.name, found.confidence) == (name, "soc")

    def test_one_label_on_an_ina3221_is_nobodys(self, make_tree: MakeTree) -> None:
        hwmon = {"/sys/class/hwmon/hwmon0/name": "ina3221\n", "/sys/class/hwmon/hwmon0/in1_label": "VDD_IN\n"}
        assert identify(make_tree(hwmon)).target.name == "generic-unknown"

    @pytest.mark.parametrize(
        ("cpuinfo", "name"),
        [
            ("flags\t\t: fpu vme de pse lm constant_tsc\n", "generic-x86_64"),
            ("flags\t\t: fpu vme de pse\n", "generic-unknown"),
            ("CPU implementer\t: 0x41\nCPU architecture: 8\n", "generic-aarch64"),
            ("CPU architecture: 7\n", "generic-unknown"),
        ],
    )
    def test_cpuinfo_gives_a_captured_tree_its_architecture(self, make_tree: MakeTree, cpuinfo: str, name: str) -> None:
        assert identify(make_tree({"/proc/cpuinfo": cpuinfo})).target.name == name


class TestThisMachine:
    def test_it_is_named_without_an_error(self) -> None:
        found = identify()
        assert found.target.name in names()
        assert found.evidence

    def test_its_architecture_is_not_given_to_a_captured_tree(self, make_tree: MakeTree) -> None:
        found = identify(make_tree({}))
        assert (found.target.name, found.confidence, found.memory_mib) == ("generic-unknown", "generic", None)


class TestOverride:
    def test_the_environment_names_a_target(self, make_board: MakeBoard) -> None:
        root = make_board(("raspberrypi,5-model-b", "brcm,bcm2712"))
        found = here({"EDGE_SDK_TARGET": "jetson-orin-nano", "EDGE_SDK_ROOT": str(root)})
        assert (found.target.name, found.confidence) == ("jetson-orin-nano", "override")
        assert found.evidence[:2] == (
            "asked to act as jetson-orin-nano",
            "the machine itself is raspberry-pi-5 (exact)",
        )

    def test_the_memory_of_this_machine_is_not_the_other_targets(self) -> None:
        assert identify(override="raspberry-pi-zero-2-w").memory_mib is None

    def test_the_environment_names_a_captured_tree(self, make_board: MakeBoard) -> None:
        root = make_board(("raspberrypi,5-model-b", "brcm,bcm2712"))
        assert here({"EDGE_SDK_ROOT": str(root)}).target.name == "raspberry-pi-5"

    def test_empty_variables_count_for_nothing(self) -> None:
        assert here({"EDGE_SDK_TARGET": "", "EDGE_SDK_ROOT": ""}).confidence != "override"

    def test_a_wrong_name_is_an_error_that_has_the_right_one_and_the_variable(self) -> None:
        with pytest.raises(TargetError, match=r"raspberry-pi-5.*EDGE_SDK_TARGET=raspbery-pi-5"):
            here({"EDGE_SDK_TARGET": "raspbery-pi-5"})

    def test_a_root_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(TargetError, match="is no folder"):
            identify(tmp_path / "nowhere")


class TestHostileTrees:
    def test_a_file_that_cannot_be_read_counts_as_missing(self, make_tree: MakeTree) -> None:
        gated = {"errno": "EAGAIN"}
        root = make_tree({"/proc/device-tree/compatible": gated, "/proc/meminfo": gated, "/proc/cpuinfo": gated})
        assert identify(root).target.name == "generic-unknown"

    def test_a_pipe_in_the_place_of_a_file_does_not_block(self, make_tree: MakeTree) -> None:
        root = make_tree({"/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"})
        os.mkfifo(root / "proc/device-tree/compatible")
        assert identify(root).target.name == "raspberry-pi-5"

    def test_a_circle_of_links_counts_as_missing(self, make_tree: MakeTree) -> None:
        root = make_tree({"/proc/version": ""})
        (root / "proc/device-tree").symlink_to("device-tree")
        assert identify(root).target.name == "generic-unknown"

    def test_a_link_out_of_a_captured_tree_is_not_followed(self, make_tree: MakeTree, tmp_path: Path) -> None:
        (tmp_path / "compatible").write_bytes(b"raspberrypi,5-model-b\0")
        root = make_tree({"/sys/firmware/devicetree/base/compatible": "raspberrypi,4-model-b\0"})
        (root / "proc").mkdir()
        (root / "proc/device-tree").symlink_to(tmp_path)
        assert identify(root).target.name == "raspberry-pi-4b"

    def test_an_endless_file_is_read_to_a_limit(self, make_tree: MakeTree) -> None:
        compatible = b"raspberrypi,5-model-b\0" + b"x" * 5_000_000
        found = identify(make_tree({"/proc/device-tree/compatible": compatible}))
        assert found.target.name == "raspberry-pi-5"
        assert max(map(len, found.evidence)) <= 500

    def test_control_characters_never_reach_the_evidence(self, make_tree: MakeTree) -> None:
        root = make_tree({"/proc/device-tree/model": b"Jetson \x1b[2J\n\xff\xfe evil\0"})
        found = identify(root)
        assert found.target.name == "jetson-unknown"
        assert all(line.isprintable() for line in found.evidence)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(compatible=st.binary(max_size=300), model=st.binary(max_size=300), other=st.binary(max_size=300))
    def test_no_bytes_make_it_raise(self, make_tree: MakeTree, compatible: bytes, model: bytes, other: bytes) -> None:
        files = ("/proc/cpuinfo", "/proc/meminfo", "/etc/nv_tegra_release", "/sys/devices/soc0/soc_id")
        tree = {"/proc/device-tree/compatible": compatible, "/proc/device-tree/model": model}
        found = identify(make_tree(tree | dict.fromkeys(files, other) | {"/sys/devices/soc0/family": "Snapdragon"}))
        assert found.target.name in names()
        assert all(line.isprintable() for line in found.evidence)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        entries=st.lists(
            st.one_of(
                st.sampled_from(
                    ["nvidia,tegra234", "nvidia,p3767-0005", "nvidia,+p3701-0004+", "qcom,", "brcm,bcm2712"]
                ),
                st.text(max_size=40),
            ),
            max_size=8,
        )
    )
    def test_no_mixture_of_strings_makes_it_raise(self, make_tree: MakeTree, entries: list[str]) -> None:
        compatible = "\0".join(entries).encode("utf-8", "surrogatepass")
        assert identify(make_tree({"/proc/device-tree/compatible": compatible})).target.name in names()

    @given(name=st.text(max_size=80))
    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_no_processor_name_makes_it_raise(self, tmp_path: Path, name: str) -> None:
        assert identify(tmp_path, cpu_name=name).target.name in names()
