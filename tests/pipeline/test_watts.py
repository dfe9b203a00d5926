"""Power beside a camera's loop: the board's own sensors, or those that were given."""

from __future__ import annotations

import gc
import itertools
import json
import math
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import edge_sdk
from edge_sdk.errors import SensorError, SourceNotFoundError, UsageError
from edge_sdk.sensors.base import Absent
from edge_sdk.sensors.power import Power
from edge_sdk.testing.fake_sensor import FakeSensor
from edge_sdk.testing.fake_source import FakeSource


@pytest.fixture(scope="module")
def detector(shared: Path):
    with edge_sdk.Detector(shared / "models/yunet/yunet_n_320_320.onnx", threads=1) as one:
        yield one


def frames(**options) -> FakeSource:
    return FakeSource(itertools.repeat(np.zeros((48, 64, 3), np.uint8)), **options)


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_boards_own_power_is_in_every_result_and_its_energy_in_the_stats(
    jetson: Path, detector: edge_sdk.Detector
) -> None:
    with edge_sdk.Camera(frames(fps=100, live=True), detector) as camera:
        assert camera.power_reason is None
        results = list(camera.detect(seconds=0.8))
    for result in results:
        assert result.power is not None
        assert (result.power.value, result.power.unit) == (pytest.approx(4.785, abs=0.001), "w")
        assert (result.power.method, result.power.reason) == ("sensor_total", None)
        assert 0 <= time.monotonic_ns() - result.power.at_ns < 60e9
    energy = camera.stats.energy
    assert energy is not None
    assert energy.energy_j == pytest.approx(4.785 * energy.seconds, rel=0.05)
    assert energy.seconds >= 0.8
    assert energy.per_result_mj == pytest.approx(1000 * energy.energy_j / len(results))
    assert energy.method == "sensor_total"


def test_a_board_without_a_sensor_gives_none_and_says_why(no_sensor: Path, detector: edge_sdk.Detector) -> None:
    before = threading.active_count()
    with edge_sdk.Camera(frames(), detector) as camera:
        for result in camera.detect(frames=3):
            assert result.power is None
            assert not [one for one in threading.enumerate() if one.name == "edge-sdk-sampler"]
    assert camera.stats.energy is None
    assert camera.stats.record()["energy"] is None
    assert "no energy counter" in (camera.power_reason or "")
    assert threading.active_count() == before


def test_no_power_reads_no_sensor(jetson: Path, detector: edge_sdk.Detector) -> None:
    files = open_files()
    with edge_sdk.Camera(frames(), detector, power=False) as camera:
        assert open_files() == files
        assert next(iter(camera.detect(frames=1))).power is None
    assert (camera.stats.energy, camera.power_reason) == (None, "power was not asked for")


def test_power_is_read_only_while_it_detects(detector: edge_sdk.Detector) -> None:
    sensor = FakeSensor(lambda number: [5.0])
    with edge_sdk.Camera(frames(fps=50, live=True), detector, power=Power([sensor], None)) as camera:
        time.sleep(0.15)
        assert sensor.reads == 0
        detecting_s = 0.0
        for _ in range(2):
            began = time.monotonic()
            list(camera.detect(seconds=0.3))
            detecting_s += time.monotonic() - began
            reads = sensor.reads
            assert reads >= 3
            time.sleep(0.15)
            assert sensor.reads == reads
        energy = camera.stats.energy
        assert energy is not None
        assert energy.mean_w == pytest.approx(5.0)
        assert energy.seconds <= detecting_s  # the pauses between are not in it
    assert not sensor.closed
    assert sensor.clashes == 0


def test_a_sensor_that_fails_costs_the_value_and_not_the_run(detector: edge_sdk.Detector) -> None:
    sensor = FakeSensor(lambda number: [Absent("gone (ENODEV)")])
    with edge_sdk.Camera(frames(), detector, power=Power([sensor], None)) as camera:
        (result,) = camera.detect(frames=1)
    assert result.power is not None
    assert (result.power.value, result.power.method) == (None, None)
    assert result.power.reason == "VDD_IN (gone (ENODEV))"
    energy = camera.stats.energy
    assert energy is not None
    assert (energy.energy_j, energy.reason) == (None, "VDD_IN (gone (ENODEV))")


def test_a_sensor_that_is_named_must_be_there(no_sensor: Path, detector: edge_sdk.Detector) -> None:
    source = frames()
    with pytest.raises(SensorError, match="no energy counter"):
        edge_sdk.Camera(source, detector, power="rapl")
    assert source.closed
    with pytest.raises(UsageError, match="no such sensor"):
        edge_sdk.Camera(frames(), detector, power="crystal-ball")


def test_sensors_are_closed_with_the_camera_and_where_it_does_not_open(
    jetson: Path, detector: edge_sdk.Detector, tmp_path: Path
) -> None:
    edge_sdk.Camera(frames(), detector).close()
    files = open_files()
    with edge_sdk.Camera(frames(), detector) as camera:
        assert open_files() > files
        list(camera.detect(frames=1))
    assert open_files() == files
    with pytest.raises(SourceNotFoundError):
        edge_sdk.Camera(tmp_path / "none.mp4", detector)
    assert open_files() == files
    dropped = edge_sdk.Camera(frames(), detector)
    assert open_files() > files
    del dropped
    assert open_files() == files


def test_leaving_the_loop_leaves_no_thread(jetson: Path, detector: edge_sdk.Detector) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    for _ in edge_sdk.Camera(frames(fps=100, live=True), detector).detect():
        assert [one for one in threading.enumerate() if one.name == "edge-sdk-sampler"]
        break
    gc.collect()
    assert {thread.ident for thread in threading.enumerate()} <= before


def test_several_cameras_open_sensors_of_their_own(jetson: Path, detector: edge_sdk.Detector) -> None:
    with edge_sdk.Camera(frames(), detector) as one, edge_sdk.Camera(frames(), detector) as other:
        powers = [next(iter(camera.detect(frames=1))).power for camera in (one, other)]
        one.close()
        powers += [result.power for result in other.detect(frames=2)]
    assert [power and power.value for power in powers] == [pytest.approx(4.785, abs=0.001)] * 4


def test_a_camera_that_is_closed_in_another_thread_while_it_starts_leaves_nothing(
    jetson: Path, detector: edge_sdk.Detector
) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    for _ in range(10):
        camera = edge_sdk.Camera(frames(fps=500, live=True), detector)
        closing = threading.Thread(target=camera.close)
        results = camera.detect()
        closing.start()
        with suppress(UsageError):  # it was closed before it began
            for _result in results:
                pass
        closing.join()
    assert {thread.ident for thread in threading.enumerate()} <= before


def test_the_record_is_json_with_three_decimals(detector: edge_sdk.Detector) -> None:
    sensor = FakeSensor(lambda number: [math.pi])
    with edge_sdk.Camera(frames(fps=50, live=True), detector, power=Power([sensor], None)) as camera:
        list(camera.detect(seconds=0.6))
        record = json.loads(json.dumps(camera.stats.record()))["energy"]
    assert (record["mean_w"], record["method"], record["latest"]["value"]) == (3.142, "sensor_total", 3.142)
    assert {"seconds", "energy_j", "reason", "samples", "gaps_s", "per_result_mj"} <= set(record)


def test_an_unusual_failure_of_the_boards_own_sensors_stops_nobody(
    no_sensor: Path, detector: edge_sdk.Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> Power:
        raise SensorError("the bus is on fire")

    monkeypatch.setattr("edge_sdk.pipeline.watts.open_power", fails)
    with edge_sdk.Camera(frames(), detector) as camera:
        assert camera.power_reason == "the bus is on fire"
        assert next(iter(camera.detect(frames=1))).power is None
