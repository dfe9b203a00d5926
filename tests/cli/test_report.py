"""``edge-sdk report``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_sdk.calibration import report
from edge_sdk.measure.ring import Ring
from edge_sdk.report.read import write_profile
from edge_sdk.sensors.base import Channel

from ..report.outcomes import make_outcome  # noqa: TID252  there is no package of tests to name
from ..report.profiles import make_profile  # noqa: TID252


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    write_profile(make_profile(), tmp_path / "first.json")
    return tmp_path / "first.json"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    profile = make_profile(p50_ms=12.0, work_w=5.5)
    write_profile(
        make_profile(p50_ms=12.0, work_w=5.5, model={**profile.model, "name": "int8.onnx"}), tmp_path / "b.json"
    )
    return tmp_path / "b.json"


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    report.write(make_outcome(), tmp_path / "report.json")
    return tmp_path / "report.json"


class FakeSensor:
    name = "ina3221 1-0040"
    channels = (Channel("VDD_IN", "power", "sensor_total", in_total=True),)
    refresh_s = 0.01

    def read(self) -> list[float]:
        return [4.0]

    def close(self) -> None:
        pass


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    path = tmp_path / "profile-1.ring"
    with Ring.create(path, [FakeSensor()], 10) as ring:
        for second in range(3):
            ring.append(0, second * 1_000_000_000, [4.0 + second])
    return path


def test_a_profile_is_summed_up(edge_sdk_command, saved: Path) -> None:
    ran = edge_sdk_command("report", saved)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("yolox_nano.onnx on Jetson Orin Nano, power mode 25W, CUDAExecutionProvider\nok: The run")
    assert "net 63.2 mJ (60.7 to 65.7) per inference" in ran.out


def test_page_tables_and_json(edge_sdk_command, saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed")
    html, folder = tmp_path / "report.html", tmp_path / "csv"
    ran = edge_sdk_command("report", saved, "--html", html, "--csv", folder, "--json")
    assert ran.code == 0
    assert ran.json == json.loads(saved.read_text())
    assert f"written: {html}" in ran.err
    assert f"{folder / 'samples.csv'}" in ran.err
    assert "yolox_nano.onnx on Jetson Orin Nano" in html.read_text(encoding="utf-8")
    assert (folder / "latencies.csv").read_text().startswith("query,ms\n1,")


def test_several_are_compared_with_the_first(edge_sdk_command, saved: Path, other: Path, tmp_path: Path) -> None:
    ran = edge_sdk_command("report", saved, other)
    assert (ran.code, ran.err) == (0, "")
    assert "x 0.5128" in ran.out
    assert "front of p50 latency and gross energy, fastest first: int8.onnx" in ran.out
    found = edge_sdk_command("report", saved, other, "--json").json
    assert found["labels"] == ["yolox_nano.onnx", "int8.onnx"]
    assert found["front"] == [1]
    assert {row["name"]: row["unit"] for row in found["rows"]}["net energy"] == "mJ"


def test_the_page_of_several(edge_sdk_command, saved: Path, other: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed")
    assert edge_sdk_command("report", saved, other, "--html", tmp_path / "compared.html").code == 0
    assert "2 runs compared" in (tmp_path / "compared.html").read_text(encoding="utf-8")


def test_an_interrupted_run_shows_its_samples_alone(edge_sdk_command, ring: Path, tmp_path: Path) -> None:
    ran = edge_sdk_command("report", ring)
    assert ran.code == 0
    assert "profile-1.ring: An interrupted run: samples only." in ran.out
    assert "ina3221 1-0040, VDD_IN (sensor_total): 3 samples over 2.00 s, mean 5.00 W, max 6.00 W" in ran.out
    found = edge_sdk_command("report", ring, "--json").json
    assert found["notice"].startswith("An interrupted run")
    assert found["channels"][0]["power_w"] == [4.0, 5.0, 6.0]


def test_a_ring_is_no_profile_to_compare_or_to_make_tables_of(edge_sdk_command, ring: Path, saved: Path) -> None:
    ran = edge_sdk_command("report", saved, ring)
    assert (ran.code, ran.out) == (2, "")
    assert "which cannot be compared with anything" in ran.err
    ran = edge_sdk_command("report", ring, "--csv", "tables")
    assert (ran.code, ran.out) == (2, "")
    assert "--csv wants one profile" in ran.err


def test_tables_are_of_one_profile(edge_sdk_command, saved: Path, other: Path) -> None:
    ran = edge_sdk_command("report", saved, other, "--csv", "tables")
    assert (ran.code, ran.out) == (2, "")
    assert "--csv wants one profile" in ran.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no such file"),
        ("{", "is no JSON"),
        ("[]", "it has no key 'schema'"),
        ('{"schema": "edge-sdk/profile/9"}', "is of schema edge-sdk/profile/9; this version of edge-sdk reads"),
        ('{"schema": "edge-sdk/profile/1"}', "no key created"),
    ],
)
def test_what_is_no_profile_is_said_in_a_line(edge_sdk_command, tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "profile.json"
    if text is not None:
        path.write_text(text)
    ran = edge_sdk_command("report", path)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"edge-sdk: {path}: ")
    assert says in ran.err
    assert ran.err.count("\n") == 1


def test_a_page_that_cannot_be_written_is_said_in_a_line(edge_sdk_command, saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed")
    ran = edge_sdk_command("report", saved, "--html", tmp_path / "no" / "report.html")
    assert (ran.code, ran.out) == (1, "")
    assert "cannot be written" in ran.err


def test_a_calibration_is_drawn_again_without_its_photos(edge_sdk_command, calibration: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed")
    html, folder = tmp_path / "again.html", tmp_path / "csv"
    ran = edge_sdk_command("report", calibration, "--html", html, "--csv", folder)
    assert ran.code == 0
    assert ran.out.startswith("INT8 in 55 of 80 groups: 0.912 of the optimized float's time")
    assert ran.err == f"written: {html}\nwritten: {folder / 'groups.csv'}, {folder / 'candidates.csv'}\n"
    assert "This page was drawn without the photos" in html.read_text(encoding="utf-8")
    assert edge_sdk_command("report", calibration, "--json").json == json.loads(calibration.read_text())


def test_a_calibration_is_shown_alone_and_refused_where_it_is_wrong(
    edge_sdk_command, calibration: Path, saved: Path
) -> None:
    ran = edge_sdk_command("report", saved, calibration)
    assert (ran.code, ran.out) == (2, "")
    assert f"{calibration}: a calibration, which is shown alone" in ran.err
    calibration.write_text('{"schema": "edge-sdk/calibration/9"}')
    ran = edge_sdk_command("report", calibration)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"edge-sdk: {calibration}: is of schema edge-sdk/calibration/9; this version of edge-sdk reads "
        "edge-sdk/calibration/1\n"
    )
