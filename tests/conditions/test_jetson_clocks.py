"""What jetson_clocks --show prints."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.conditions.jetson_clocks import Clock, parse


def test_the_clocks_of_an_orin_are_read_with_their_limits(fixtures_dir: Path) -> None:
    clocks = parse((fixtures_dir / "jetson/jetson_clocks_show_orin_nano_super.txt").read_text())
    assert [clock.name for clock in clocks] == ["cpu0", "cpu1", "cpu2", "cpu3", "cpu4", "cpu5", "GPU", "EMC"]
    assert clocks[0] == Clock("cpu0", 729.6, 1344.0, 960.0, "schedutil")
    assert clocks[5] == Clock("cpu5", 729.6, 1344.0, 1267.2, "schedutil")
    assert clocks[6] == Clock("GPU", 306.0, 918.0, 306.0, None)
    assert clocks[7] == Clock("EMC", 204.0, 3199.0, 665.6, None)


def test_a_line_of_an_older_release_is_read_and_a_broken_one_passed_over() -> None:
    text = (
        "cpu0: Online=1 Governor=schedutil MinFreq=1479000 MaxFreq=1479000 CurrentFreq=1479000 IdleStates: WFI=0\n"
        "GPU MinFreq=921600000 MaxFreq=921600000 CurrentFreq=nan\nEMC CurrentFreq=-1\n"
        "EMC CurrentFreq=1600000000 FreqOverride=1\n"
    )
    assert parse(text) == (Clock("cpu0", 1479.0, 1479.0, 1479.0, "schedutil"), Clock("EMC", None, None, 1600.0, None))


@given(st.text() | st.text(alphabet="cpu0: EMCGPUMinFreq=MaxCurrent123\n"))
def test_no_text_breaks_it(text: str) -> None:
    assert all(clock.current_mhz is not None and clock.current_mhz >= 0 for clock in parse(text))
