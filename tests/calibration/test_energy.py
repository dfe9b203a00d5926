"""Energy of the candidates: read in turns, kept, and a budget like the others. The sensor is a stand-in."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import edge_sdk.calibration.energy
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.energy import EnergyMeter
from edge_sdk.calibration.outcome import Candidate
from edge_sdk.calibration.report_text import summary
from edge_sdk.calibration.request import Request
from edge_sdk.calibration.timing import LocalTimer
from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors.power import Power
from edge_sdk.testing.fake_sensor import FakeSensor
from tests.flows.stand_in import StandIn, run
from tests.models.tiny_yolox import write, write_photos

WATTS = 5.0


@pytest.fixture
def sensor(monkeypatch: pytest.MonkeyPatch) -> FakeSensor:
    """This machine draws 5 W, whatever it does."""
    fake = FakeSensor(lambda _: [WATTS], refresh_s=0.002)
    monkeypatch.setattr(
        edge_sdk.calibration.energy, "open_power", lambda *_, **__: Power([fake], None, "the whole board")
    )
    monkeypatch.setattr(edge_sdk.calibration.energy, "LEAST_S", 0.15)
    return fake


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.onnx")


def candidates(*names: str) -> list[Candidate]:
    return [Candidate(name, "hybrid", (True,), "0" * 64, 10) for name in names]


def test_at_a_steady_power_an_inference_draws_its_time(
    sensor: FakeSensor, tiny: Path, yolox: Path, tmp_path: Path
) -> None:
    files = {"small": tiny, "large": yolox}
    small, large = EnergyMeter().of(candidates(*files), files, Cache(tmp_path / "cache"))
    assert small.energy_mj is not None
    assert large.energy_mj is not None
    times = LocalTimer().time(files, reference="large")
    # Times of the same file on a shared machine, a second apart: the thread's own, or a few times that.
    assert 0.5 * WATTS * times["large"].ms < large.energy_mj < 6 * WATTS * times["large"].ms
    assert small.energy_mj < large.energy_mj
    assert sensor.closed


def test_files_take_turns_and_the_median_round_counts(
    sensor: FakeSensor, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write(tmp_path / "other.onnx")
    other.write_bytes(other.read_bytes() + b"\x72\x00")  # another file, the same model: an empty graph field's tail
    order, drawn = [], iter([1.0, 2.0, 30.0, 40.0, 5.0, 6.0])

    def turn(self: EnergyMeter, file: Path, power: Power, seconds: float) -> dict[str, object]:
        order.append(file.name)
        return {"mj": next(drawn), "method": "sensor_total"}

    monkeypatch.setattr(EnergyMeter, "_turn", turn)
    found = EnergyMeter().of(candidates("a", "b"), {"a": tiny, "b": other}, Cache(tmp_path / "cache"))
    assert order == ["tiny.onnx", "other.onnx", "other.onnx", "tiny.onnx", "tiny.onnx", "other.onnx"]
    assert [one.energy_mj for one in found] == [5.0, 6.0]


def test_without_a_sensor_it_says_why(no_sensor: Path) -> None:
    with pytest.raises(SensorError, match=r"a budget of energy needs a power sensor: .*no energy counter"):
        EnergyMeter().check()


def test_what_the_figures_are_of_is_said(sensor: FakeSensor) -> None:
    assert re.match(r"energy is of the whole board, idle power included, by .* \(sensor_total\)", EnergyMeter().check())


def test_a_sensor_that_falls_silent_is_no_zero(
    sensor: FakeSensor, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor, "read", lambda: [None])
    with pytest.raises(SensorError, match="no energy could be read"):
        EnergyMeter().of(candidates("tiny"), {"tiny": tiny}, Cache(tmp_path / "cache"))


def test_a_sensor_that_loses_a_rail_between_turns_is_refused(
    sensor: FakeSensor, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = iter(["sensor_total", "sensor_partial", "sensor_total"])
    monkeypatch.setattr(EnergyMeter, "_turn", lambda *_: {"mj": 1.0, "method": next(methods)})
    with pytest.raises(SensorError, match="sensor_partial and sensor_total in turn"):
        EnergyMeter().of(candidates("tiny"), {"tiny": tiny}, Cache(tmp_path / "cache"))


def test_a_turn_that_was_run_once_is_kept_by_file_machine_and_sensor(
    sensor: FakeSensor, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    first = EnergyMeter().of(candidates("a"), {"a": tiny}, cache)
    reads = sensor.reads
    assert EnergyMeter().of(candidates("a"), {"a": tiny}, cache) == first
    assert sensor.reads == reads
    EnergyMeter("shelly:192.168.1.20").of(candidates("a"), {"a": tiny}, cache)
    assert sensor.reads > reads
    reads = sensor.reads
    monkeypatch.setattr(LocalTimer, "on", "another machine")
    EnergyMeter().of(candidates("a"), {"a": tiny}, cache)
    assert sensor.reads > reads


def test_when_time_is_over_one_round_is_enough(sensor: FakeSensor, tiny: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    EnergyMeter().of(
        candidates("a"), {"a": tiny}, Cache(tmp_path / "cache"), stop=lambda: True,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(1, 3)]


class Here(StandIn):
    """Recorded latencies of this machine."""

    @property
    def on(self) -> str:
        return LocalTimer(threads=1).on


@pytest.fixture
def drawn(sensor: FakeSensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file in INT8 draws 3 mJ, others 10."""

    def of(self: EnergyMeter, found: list[Candidate], *_: object, **__: object) -> tuple[Candidate, ...]:
        return tuple(replace(one, energy_mj=3.0 if one.name == "uniform int8" else 10.0) for one in found)

    monkeypatch.setattr(EnergyMeter, "of", of)


@pytest.mark.usefixtures("drawn")
def test_a_budget_of_energy_decides(tiny: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", range(14))
    timer = Here(tmp_path / "timed")
    found = run(tiny, photos, tmp_path / "a", Request(count=5, max_energy_mj=4.0), timer=timer, out=None)
    assert found.pick.met
    assert found.pick.name == "uniform int8"
    assert "at most 4 mJ" in found.pick.why[0]
    assert found.picked.energy_mj == 3.0
    assert "draws 3 mJ" in found.pick.why[1]
    assert re.search(r"MiB +mJ\n", summary(found))
    assert any(note.startswith("energy is of the whole board") for note in found.notes)
    assert found.budgets == {"max_energy_mj": 4.0}
    assert "energy" in found.seconds
    tight = Request(count=5, max_energy_mj=1.0)
    none = run(tiny, photos, tmp_path / "b", tight, timer=timer, out=None, cache=tmp_path / "a/cache")
    assert not none.pick.met
    assert re.match("No candidate has at most 1 mJ", none.pick.why[0])


@pytest.mark.usefixtures("sensor")
def test_energy_of_another_machine_cannot_be_read_here(tiny: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", range(14))
    wanted = Request(count=5, max_energy_mj=4.0)
    for elsewhere in ({"timer": StandIn(tmp_path / "timed")}, {"timer": None, "estimate": True}):
        with pytest.raises(UsageError, match="plan on the board itself"):
            run(tiny, photos, tmp_path, wanted, out=None, **elsewhere)
