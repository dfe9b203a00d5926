"""Loads: of processors between two reads, of GPUs by the files of several drivers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.conditions.load import Loads, busy_of_total, percent, thousandths, ticks
from edge_sdk.sensors.base import Absent

MakeTree = Callable[[Mapping[str, Any]], Path]


def stat(*counts: int) -> str:
    return f"cpu  {' '.join(map(str, counts))}\ncpu0 1 2 3 4\nintr 12 0\n"


def values(loads: Loads) -> dict[str, float | str | None]:
    return {one.name: one.reason if one.value is None else one.value for one in loads.read(0)}


def test_processors_are_counted_between_two_reads(make_tree: MakeTree) -> None:
    root = make_tree({"proc/stat": stat(100, 0, 50, 800, 50, 0, 0, 0, 70, 0)})
    loads = Loads(root)
    assert values(loads) == {"cpu": "it is counted between two reads, and this is the first"}
    # 60 + 15 busy, 25 idle, of which 5 wait for a disk; what guests got is in user already.
    (root / "proc/stat").write_text(stat(160, 0, 65, 820, 55, 0, 0, 0, 130, 0))
    assert values(loads) == {"cpu": 75.0}
    assert values(loads) == {"cpu": "no time has passed since the last read"}


def test_a_counter_that_runs_backwards_gives_no_more_than_all(make_tree: MakeTree) -> None:
    root = make_tree({"proc/stat": stat(100, 0, 0, 900, 50)})
    loads = Loads(root)
    loads.read(0)
    (root / "proc/stat").write_text(stat(200, 0, 0, 900, 20))
    assert values(loads) == {"cpu": 100.0}


def test_processors_that_cannot_be_read_say_so_and_come_back(make_tree: MakeTree) -> None:
    root = make_tree({"proc/stat": stat(1, 0, 0, 1)})
    loads = Loads(root)
    loads.read(0)
    (root / "proc/stat").write_text("nonsense")
    assert values(loads) == {"cpu": "/proc/stat cannot be read"}
    (root / "proc/stat").write_text(stat(1, 0, 0, 1))
    assert values(loads) == {"cpu": "it is counted between two reads, and this is the first"}


@pytest.mark.parametrize(("path", "text", "load"), [
    ("sys/devices/gpu.0/load", "345", 34.5),
    ("sys/devices/platform/gpu.0/load", "0", 0.0),
    ("sys/devices/platform/bus@0/17000000.gpu/load", "1000", 100.0),
    ("sys/class/devfreq/17000000.gpu/device/load", "999", 99.9),
    ("sys/devices/platform/gpu.0/load", "1001", "no load: 100.1 %"),
    ("sys/class/kgsl/kgsl-3d0/gpu_busy_percentage", "12 %", 12.0),
    ("sys/class/kgsl/kgsl-3d0/gpubusy", " 250000 1000000", 25.0),
    ("sys/class/kgsl/kgsl-3d0/gpubusy", "      0       0", 0.0),
    ("sys/class/kgsl/kgsl-3d0/gpubusy", "2 1", "no load: 2 of 1"),
    ("sys/class/drm/card0/device/gpu_busy_percent", "7", 7.0),
    ("sys/devices/platform/gpu.0/load", {"errno": "EAGAIN"}, "load: power-gated or busy (EAGAIN)"),
])  # fmt: skip
def test_a_gpus_load_is_found_where_its_driver_puts_it(
    make_tree: MakeTree, path: str, text: str, load: float | str
) -> None:
    root = make_tree({"proc/stat": stat(1, 0, 0, 1), path: text})
    assert values(Loads(root))["gpu"] == load


def test_a_gpu_that_comes_later_is_found_when_it_is_looked_for(make_tree: MakeTree) -> None:
    root = make_tree({"proc/stat": stat(1, 0, 0, 1)})
    loads = Loads(root)
    assert "gpu" not in values(loads)
    file = root / "sys/devices/platform/gpu.0/load"
    file.parent.mkdir(parents=True)
    file.write_text("500\n")
    loads.find(root)
    assert values(loads)["gpu"] == 50.0


@given(st.text() | st.text(alphabet="cpu 0123456789\n-%"))
def test_no_text_breaks_a_load(text: str) -> None:
    for parse in (thousandths, percent, busy_of_total):
        value = parse(text)
        assert isinstance(value, Absent) or 0 <= value <= 100
    counted = ticks(text)
    assert counted is None or 0 <= counted[0] <= counted[1]


@given(st.lists(st.integers(0, 10**12), min_size=4, max_size=10))
def test_busy_and_idle_are_all_there_is(counts: list[int]) -> None:
    counted = ticks(stat(*counts))
    assert counted is not None
    busy, whole = counted
    assert whole == sum(counts[:8])
    assert busy == whole - counts[3] - (counts[4] if len(counts) > 4 else 0)
