"""Which vendor's tools a machine has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.conditions.board import family

MakeTree = Callable[[Mapping[str, Any]], Path]


@pytest.mark.parametrize(("name", "expected"), [
    ("agx_orin_jp6", "jetson"), ("orin_nano_super_jp6", "jetson"), ("agx_thor", "jetson"), ("rpi5", "raspberry-pi"),
    ("x1e_linux_laptop", None), ("ventuno_q_ina232", None), ("x86_rapl", None),
])  # fmt: skip
def test_captured_boards_belong_to_their_family(
    captured_board: Callable[[str], Path], name: str, expected: str | None
) -> None:
    assert family(captured_board(name)) == expected


def test_a_container_that_sees_only_one_of_the_signs_is_known_by_it(make_tree: MakeTree) -> None:
    compatible = "nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0"
    assert family(make_tree({"sys/firmware/devicetree/base/compatible": compatible})) == "jetson"
    assert family(make_tree({"etc/nv_tegra_release": "# R36 (release), REVISION: 4.7,"})) == "jetson"
    assert family(make_tree({"etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >"})) == "jetson"


def test_nothing_and_nonsense_are_no_board(make_tree: MakeTree, tmp_path: Path) -> None:
    assert family(tmp_path / "nowhere") is None
    assert family(make_tree({"proc/device-tree/compatible": b"\xff\x00\xfe" * 9000})) is None
    assert family(make_tree({"proc/device-tree/compatible": {"errno": "EIO"}})) is None
