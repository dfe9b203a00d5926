"""Energy of the candidates: read in turns, kept, and a budget like the others. The sensor is a stand-in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import edge_sdk.calibration.energy
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.energy import EnergyMeter
from edge_sdk.calibration.outcome import Candidate
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


def test_at_a_steady_power_an_inference_draws_its_time(sensor: FakeSensor, tiny: Path, yolox: Path) -> None:
    meter = EnergyMeter()
    found = meter.measure({"small": tiny, "large": yolox})
    times = LocalTimer().time({"small": tiny, "large": yolox}, reference="large")
    for name, energy in found.items():
        # Both are times of the same file on a shared machine, a second apart.
        assert energy == pytest.approx(WATTS * times[name].ms, rel=1.0)
    assert found["small"] < found["large"]
    assert sensor.closed


def test_without_a_sensor_it_says_why(no_sensor: Path) -> None:
    with pytest.raises(SensorError, match=r"a budget of energy needs a power sensor: .*no energy counter"):
        EnergyMeter().check()


def test_a_sensor_that_falls_silent_is_no_zero(sensor: FakeSensor, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensor, "read", lambda: [None])
    with pytest.raises(SensorError, match="no energy could be read"):
        EnergyMeter().measure({"tiny": tiny})


def test_what_was_measured_once_is_kept_by_file_and_sensor(
    sensor: FakeSensor, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    candidate = Candidate("a", "hybrid", (True,), "0" * 64, 10)
    (first,) = EnergyMeter().of([candidate], {"a": tiny}, cache)
    assert first.energy_mj is not None
    assert first.energy_mj > 0
    reads = sensor.reads
    assert EnergyMeter().of([candidate], {"a": tiny}, cache) == (first,)
    assert sensor.reads == reads
    EnergyMeter("shelly:192.168.1.20").of([candidate], {"a": tiny}, cache)
    assert sensor.reads > reads


class Here(StandIn):
    """Recorded latencies of this machine."""

    @property
    def on(self) -> str:
        return LocalTimer(threads=1).on


Draws = Callable[[str], float]


@pytest.fixture
def drawn(sensor: FakeSensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file in INT8 draws 3 mJ, others 10."""

    def measure(self: EnergyMeter, files: dict[str, Path], **_: object) -> dict[str, float]:
        return {name: 3.0 if name == "uniform int8" else 10.0 for name in files}

    monkeypatch.setattr(EnergyMeter, "measure", measure)


@pytest.mark.usefixtures("drawn")
def test_a_budget_of_energy_decides(tiny: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", range(14))
    timer = Here(tmp_path / "timed")
    found = run(tiny, photos, tmp_path / "a", Request(count=5, max_energy_mj=4.0), timer=timer, out=None)
    assert found.pick.met
    assert found.pick.name == "uniform int8"
    assert "at most 4 mJ" in found.pick.why[0]
    assert found.picked.energy_mj == 3.0
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
