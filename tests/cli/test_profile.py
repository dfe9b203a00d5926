"""``edge-sdk profile`` and ``edge-sdk fit-power`` on simulated boards, in real time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edge_sdk
from edge_sdk.measure.clock import SystemClock
from edge_sdk.testing.simulated_board import Load, SimulatedBoard

SHORT = ("--settle", "0.1", "--idle", "0.5", "--work", "0.5", "--repeats", "2", "--backend", "onnxruntime")


@pytest.fixture
def orin(tmp_path, monkeypatch):
    """This machine looks like an Orin Nano that draws 5 W whatever it does."""
    root = tmp_path / "root"
    root.mkdir()
    with SimulatedBoard(root, SystemClock(), load=Load(idle_w=5.0, wander_w=0.0)) as board:
        monkeypatch.setenv("EDGE_SDK_ROOT", str(root))
        yield board


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine of which nothing is known."""
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setenv("EDGE_SDK_ROOT", str(root))
    return root


def test_people_read_the_figures_with_their_method_and_what_they_cover(edge_sdk_command, yolox, orin) -> None:
    ran = edge_sdk_command("profile", yolox, *SHORT)

    assert ran.code == 0
    assert "gross" in ran.out
    assert "sensor_total" in ran.out
    assert "the module's input" in ran.out
    assert "shorter than the recipe" in ran.out


def test_json_is_the_record_of_the_profile(edge_sdk_command, yolox, orin) -> None:
    found = edge_sdk_command("profile", yolox, *SHORT, "--json").json

    assert found["schema"] == "edge-sdk/profile/1"
    assert found["energy"]["method"] == "sensor_total"
    low, value, high = (found["energy"]["gross_mj"][key] for key in ("low", "value", "high"))
    assert low <= value <= high
    assert value > 0


def test_without_a_sensor_it_says_so_and_measures_latency(edge_sdk_command, yolox, nowhere) -> None:
    ran = edge_sdk_command("profile", yolox, *SHORT)

    assert ran.code == 0
    assert "no power was measured" in ran.out
    assert "has no sensor of its own power" in ran.out
    assert "p50" in ran.out


def test_a_folder_gets_the_profile_its_page_and_its_tables(edge_sdk_command, yolox, orin, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"

    ran = edge_sdk_command("profile", yolox, *SHORT, "--out", out)

    assert ran.code == 0
    assert json.loads((out / "profile.json").read_text())["schema"] == "edge-sdk/profile/1"
    assert (out / "profile.html").read_text().startswith("<!doctype html>")
    assert {file.suffix for file in (out / "profile-csv").iterdir()} == {".csv"}


def test_the_samples_are_removed_when_the_profile_stands(edge_sdk_command, yolox, orin) -> None:
    from edge_sdk.measure.profile import default_ring

    edge_sdk_command("profile", yolox, *SHORT)

    assert not default_ring().exists()


def test_samples_that_a_crash_left_are_named(edge_sdk_command, yolox, nowhere) -> None:
    from edge_sdk.measure.profile import default_ring

    left = default_ring().with_name("profile-999999999.ring")
    left.parent.mkdir(parents=True)
    left.touch()

    said = edge_sdk_command("profile", yolox, *SHORT).err

    assert str(left) in said
    assert "delete it" in said


def test_what_cannot_be_written_is_said_before_anything_is_measured(edge_sdk_command, nowhere, tmp_path) -> None:
    """The model is not there, which is said once it is opened: whatever is said instead was said before."""
    taken = tmp_path / "taken"
    taken.touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    for words, code, text in (
        (("--out", taken), 2, "it takes a folder, and a file is there"),
        (("--out", taken / "below"), 2, "it takes a folder, and a file is there"),
        (("--csv", taken), 2, "it takes a folder, and a file is there"),
        (("--html", tmp_path / "none" / "page.html"), 1, "there is no such folder"),
        (("--html", folder), 2, "it takes a file, and a folder is there"),
        (("--csv", folder, "--power-modes", "all"), 2, "writes the tables of each into --out"),
    ):
        ran = edge_sdk_command("profile", "no-such-model", *SHORT, *words)
        assert ran.code == code
        assert text in ran.err
        assert len(ran.err.strip().splitlines()) == 1


def test_figures_are_printed_though_they_cannot_be_written(edge_sdk_command, yolox, nowhere, tmp_path) -> None:
    out = tmp_path / "out"
    (out / "profile.json").mkdir(parents=True)

    ran = edge_sdk_command("profile", yolox, *SHORT, "--out", out)

    assert ran.code == 1
    assert "p50" in ran.out
    assert "it is a folder" in ran.err


def test_a_cache_that_cannot_be_written_costs_the_net_for_crashes_and_not_the_profile(
    edge_sdk_command, yolox, orin, monkeypatch, tmp_path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_SDK_CACHE", str(tmp_path / "file"))

    ran = edge_sdk_command("profile", yolox, *SHORT)

    assert ran.code == 0
    assert "samples are not kept for the case of a crash" in ran.err
    assert "sensor_total" in ran.out


def test_wrong_usage_is_told_in_a_line(edge_sdk_command, yolox, nowhere) -> None:
    for words, text in (
        (("--sensor", "nonsense"), "no such sensor"),
        (("--sensor-option", "fit"), "--sensor-option wants KEY=VALUE"),
        (("--power-modes", "all"), "no power modes to walk through"),
    ):
        ran = edge_sdk_command("profile", yolox, *SHORT, *words)
        assert ran.code == 2
        assert text in ran.err
        assert len(ran.err.strip().splitlines()) == 1


class TestPowerModes:
    """On a PC with an energy counter, whose modes are the firmware's platform profile: plain files both."""

    @pytest.fixture
    def mode(self, tmp_path, monkeypatch):
        root = tmp_path / "root"
        folder = root / "sys/firmware/acpi"
        folder.mkdir(parents=True)
        (folder / "platform_profile_choices").write_text("low-power balanced performance\n")
        (folder / "platform_profile").write_text("balanced\n")
        with SimulatedBoard(root, SystemClock(), "generic-x86_64", Load(idle_w=20.0, wander_w=0.0)):
            monkeypatch.setenv("EDGE_SDK_ROOT", str(root))
            if edge_sdk.this_device().target.name != "generic-x86_64":
                pytest.skip("the counter is an x86-64 computer's")
            yield folder / "platform_profile"

    def test_each_is_profiled_and_the_machine_is_put_back(self, edge_sdk_command, yolox, mode, tmp_path) -> None:
        out = tmp_path / "modes"

        ran = edge_sdk_command("profile", yolox, *SHORT, "--power-modes", "balanced,performance", "--out", out)

        assert ran.code == 0
        assert mode.read_text().strip() == "balanced"
        rows = [line for line in ran.out.splitlines() if "balanced" in line or "performance" in line]
        assert len(rows) >= 2
        assert (out / "power-modes.html").is_file()
        assert json.loads((out / "mode-performance.json").read_text())["device"]["power_mode"] == "performance"

    def test_an_interrupted_walk_goes_on(self, edge_sdk_command, yolox, mode, tmp_path) -> None:
        out = tmp_path / "modes"
        edge_sdk_command("profile", yolox, *SHORT, "--power-modes", "balanced", "--out", out)
        before = (out / "mode-balanced.json").read_bytes()

        ran = edge_sdk_command(
            "profile", yolox, *SHORT, "--power-modes", "balanced,performance", "--out", out, "--json"
        )

        assert "balanced: kept from an earlier run" in ran.err
        assert (out / "mode-balanced.json").read_bytes() == before
        assert list(ran.json["modes"]) == ["balanced", "performance"]
        assert ran.json["front"]

    def test_the_password_of_a_meter_is_not_kept_with_what_was_asked_for(
        self, edge_sdk_command, yolox, mode, tmp_path
    ) -> None:
        out = tmp_path / "modes"

        edge_sdk_command(
            "profile",
            yolox,
            *SHORT,
            "--sensor",
            "shelly:admin:hunter2@127.0.0.1:9",
            "--power-modes",
            "all",
            "--out",
            out,
        )

        asked = (out / "power-modes-request.json").read_text()
        assert "127.0.0.1:9" in asked
        assert "hunter2" not in asked

    def test_what_was_asked_for_otherwise_is_measured_anew(self, edge_sdk_command, yolox, mode, tmp_path) -> None:
        out = tmp_path / "modes"
        edge_sdk_command("profile", yolox, *SHORT, "--power-modes", "balanced", "--out", out)

        ran = edge_sdk_command("profile", yolox, *SHORT, "--threads", 1, "--power-modes", "balanced", "--out", out)

        assert ran.code == 0
        assert "kept from an earlier run" not in ran.err
        assert "counter" in ran.out  # the table has the method

    def test_a_mode_that_is_not_there_is_refused(self, edge_sdk_command, yolox, mode) -> None:
        ran = edge_sdk_command("profile", yolox, *SHORT, "--power-modes", "turbo")

        assert ran.code == 2
        assert "no such power mode: turbo; there are low-power, balanced, performance" in ran.err


class TestFitPower:
    def test_without_a_sensor_of_its_own_there_is_nothing_to_fit(self, edge_sdk_command, nowhere, tmp_path) -> None:
        ran = edge_sdk_command("fit-power", "--meter", "shelly:127.0.0.1:9", "--out", tmp_path / "fit.json")

        assert ran.code == 2
        assert "there is nothing to fit" in ran.err

    def test_a_board_whose_sensor_takes_no_fit_is_refused_before_anything_is_measured(
        self, edge_sdk_command, orin, tmp_path
    ) -> None:
        ran = edge_sdk_command("fit-power", "--meter", "shelly:127.0.0.1:9", "--out", tmp_path / "fit.json")

        assert ran.code == 2
        assert "ina3221 takes no fit" in ran.err

    def test_a_file_that_cannot_be_written_is_said_first(self, edge_sdk_command, nowhere, tmp_path) -> None:
        ran = edge_sdk_command("fit-power", "--meter", "shelly:127.0.0.1:9", "--out", tmp_path / "none" / "fit.json")

        assert ran.code == 1
        assert "cannot be written" in ran.err

    def test_a_meter_that_nobody_knows_is_refused(self, edge_sdk_command, nowhere, tmp_path) -> None:
        ran = edge_sdk_command("fit-power", "--meter", "nonsense:1", "--out", tmp_path / "fit.json")

        assert ran.code == 2
        assert "nonsense: no such sensor; there are" in ran.err
