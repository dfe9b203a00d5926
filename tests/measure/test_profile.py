"""A real detector profiled on simulated boards: their files change in real time, and the sensors read them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import edge_sdk
from edge_sdk.errors import ModelNotFoundError, SensorError, UsageError
from edge_sdk.measure.clock import SystemClock
from edge_sdk.measure.profile import default_ring, leftover_rings
from edge_sdk.testing.fake_meter import FakeMeter
from edge_sdk.testing.simulated_board import Load, SimulatedBoard

SHORT = edge_sdk.Recipe(settle_s=0.1, idle_s=0.6, work_s=0.6, repeats=2)


@pytest.fixture
def orin(tmp_path, monkeypatch):
    """This machine looks like an Orin Nano that draws 5 W whatever it does."""
    steady = Load(idle_w=5.0, wander_w=0.0, noise_w=0.02)
    with SimulatedBoard(tmp_path, SystemClock(), load=steady) as board:
        monkeypatch.setenv("EDGE_SDK_ROOT", str(tmp_path))
        yield board


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine of which nothing is known, and that has no sensor."""
    monkeypatch.setenv("EDGE_SDK_ROOT", str(tmp_path))


def test_a_board_with_a_sensor_gives_energy_and_everything_that_it_is_made_of(yolox: Path, orin) -> None:
    found = edge_sdk.profile(yolox, recipe=SHORT, backend="onnxruntime", threads=1)

    energy = found.energy
    assert energy.rejected == ()
    assert energy.method == "sensor_total"
    assert energy.covers.startswith("the module's input")
    work = [one for one in energy.windows if one.kind == "work"]
    milliseconds = [1000 * (one.end_s - one.start_s) / one.inferences for one in work]
    assert energy.gross_mj.value == pytest.approx(5.0 * sum(milliseconds) / len(work), rel=0.05)
    assert energy.net_mj is None  # the board draws no more at work
    assert "not twice the noise" in energy.net_refused
    assert [one.name for one in found.channels] == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]
    assert [one.in_total for one in found.channels] == [True, False, False]
    assert found.sampling[0].effective_hz > 20
    assert ("cpu-thermal", "c") in {(one.name, one.unit) for one in found.conditions}
    assert found.device["target"].startswith("jetson-orin-nano")
    assert (found.model["name"], len(found.model["sha256"])) == ("yolox_nano.onnx", 64)
    assert found.latency.queries == len(found.latency.times_ms) > 0
    assert found.latency.queries == sum(one.inferences for one in energy.windows)  # the lead-in is none
    assert (
        "shorter than the recipe: work windows of 0.649 s, where the recipe wants 10 s" in found.notes
    )  # 50 refreshes


def test_a_machine_without_a_sensor_gives_latency_alone_and_says_why(yolox: Path, nowhere) -> None:
    found = edge_sdk.profile(yolox, recipe=SHORT, backend="onnxruntime")

    assert found.energy is None
    assert "has no sensor of its own power that this version knows" in found.energy_reason
    assert found.latency.queries >= 100
    assert found.channels == ()


def test_a_sensor_that_gives_nothing_is_no_reason_to_make_something_up(yolox: Path, orin) -> None:
    orin.break_sensor()

    found = edge_sdk.profile(yolox, recipe=SHORT, backend="onnxruntime", layers=False)

    assert found.energy is None
    assert found.energy_reason.startswith("ina3221 gives nothing: in1_input: no number in it")
    assert found.latency.queries >= 100


def test_a_meter_that_the_user_names_gives_the_total_and_the_boards_own_is_read_beside_it(yolox: Path, orin) -> None:
    answers = {
        "/shelly": {"gen": 2, "app": "PlugS"},
        "/rpc/Shelly.GetStatus": {"switch:0": {"id": 0, "apower": 7.5}},
        "/rpc/Switch.GetStatus?id=0": {"id": 0, "apower": 7.5},
    }
    with FakeMeter(answers) as meter, edge_sdk.PowerMeter(f"shelly:{meter.host}") as power:
        threading.Event().wait(0.3)

    assert power.now.method == "external"
    assert power.now.value == pytest.approx(7.5)


def test_a_meter_that_is_not_there_is_an_error_before_the_model_is_opened(nowhere) -> None:
    with pytest.raises(SensorError):
        edge_sdk.profile("no-such-model", sensor="shelly:127.0.0.1:9")


def test_wrong_words_are_refused(yolox: Path, nowhere) -> None:
    with pytest.raises(UsageError, match="no such sensor"):
        edge_sdk.profile(yolox, sensor="nonsense:1")
    with pytest.raises(UsageError, match="name one with it"):
        edge_sdk.profile(yolox, sensor_options={"fit": "published"})
    with pytest.raises(ModelNotFoundError):
        edge_sdk.profile("no-such-model", recipe=SHORT)


def held() -> tuple[int, int]:
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


def test_a_profile_leaves_no_thread_and_no_descriptor(yolox: Path, orin) -> None:
    edge_sdk.profile(yolox, recipe=SHORT, backend="onnxruntime", image=np.zeros((64, 64, 3), np.uint8))
    before = held()

    edge_sdk.profile(yolox, recipe=SHORT, backend="onnxruntime", image=np.zeros((64, 64, 3), np.uint8))

    assert held() == before


def test_the_rings_of_dead_processes_are_found_and_those_of_living_ones_are_not() -> None:
    own = default_ring()
    own.parent.mkdir(parents=True)
    own.touch()
    dead = own.with_name("profile-999999999.ring")
    dead.touch()

    assert leftover_rings() == [dead]
