"""Shelly: the generation and the component that measures are found; what does not measure gives no 0 W.

The answers have the form of those in Shelly's documentation and of public captures, shortened.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors import shelly
from edge_sdk.sensors.base import Absent, Sensor, Wanted
from edge_sdk.sensors.gauge import Gauge
from edge_sdk.sensors.power import open_power
from edge_sdk.sensors.shelly import DRIVER, gen1_kind, gen1_power, gen2_component, gen2_power
from edge_sdk.targets import load
from edge_sdk.testing.fake_meter import FakeMeter

GEN2 = {"id": "shellyplusplugs-x", "gen": 2, "app": "PlusPlugS", "auth_en": False}
GEN1 = {"type": "SHPLG-S", "auth": False, "fw": "20230913"}
SWITCH = {"id": 0, "output": True, "apower": 7.4, "voltage": 231.2, "aenergy": {"total": 5.1, "by_minute": [0.0]}}
RELAY = {"id": 0, "output": True, "temperature": {"tC": 29.4}}
PLUG1 = {
    "relays": [{"ison": True}],
    "meters": [{"power": 4.55, "is_valid": True, "counters": [4.764, 4.757, 4.746], "total": 102}],
}
RELAY1 = {"relays": [{"ison": True}], "meters": [{"power": 0.00, "is_valid": True}]}  # a Shelly 1: no meter at all
EM1 = {"emeters": [{"power": -620.34, "is_valid": True, "total": 1.0}, {"power": 6.75, "is_valid": True, "total": 2.0}]}
PHASES = {"a_act_power": 1.5, "b_act_power": 2.0, "c_act_power": 3.0, "total_act_power": 6.5}


def gen2(component: str, status: dict[str, Any], **others: Any) -> dict[str, Any]:
    kind, _, number = component.partition(":")
    rpc = {"switch": "Switch", "pm1": "PM1", "em1": "EM1", "em": "EM"}[kind]
    return {
        "/shelly": GEN2,
        "/rpc/Shelly.GetStatus": {component: status, "sys": {}, **others},
        f"/rpc/{rpc}.GetStatus?id={number}": status,
    }


def opened(address: str) -> Sensor:
    return DRIVER.open(Wanted(address=address))


def wait_for(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("answers", "channel", "component", "watts"),
    [
        (gen2("switch:0", SWITCH), "", "switch:0", 7.4),
        (gen2("switch:1", {**SWITCH, "id": 1}), "/1", "switch:1", 7.4),
        (gen2("pm1:0", {"id": 0, "apower": 11.9}), "", "pm1:0", 11.9),
        (gen2("em1:1", {"id": 1, "act_power": 501.8, "calibration": "factory"}), "/1", "em1:1", 501.8),
        (gen2("em1:0", {"id": 0, "act_power": 0.0}, **{"switch:0": RELAY}), "", "em1:0", 0.0),
        (gen2("em:0", PHASES), "", "em:0", 6.5),
        (gen2("em:0", PHASES), "/2", "em:0", 3.0),
        ({"/shelly": GEN1, "/status": PLUG1}, "", "meter:0", 4.55),
        ({"/shelly": GEN1, "/status": EM1}, "/1", "emeter:1", 6.75),
    ],
)
def test_every_generation_is_read(answers: dict[str, Any], channel: str, component: str, watts: float) -> None:
    with FakeMeter(answers) as fake:
        sensor = opened(fake.host + channel)
        assert sensor.read() == (watts,)
        [only] = sensor.channels
        assert (only.name, only.quantity, only.method, only.in_total) == (component, "power", "external", True)
        assert (only.step, only.missing, sensor.refresh_s) == (0.1, None, 1.0)
        assert sensor.name == f"shelly {fake.host} {component}"
        sensor.close()


@pytest.mark.parametrize(
    ("answers", "channel", "reason"),
    [
        (
            gen2("switch:0", RELAY),
            "",
            "switches and does not measure: its 0 W would be no data (switch:0 has no apower",
        ),
        ({"/shelly": GEN1, "/status": RELAY1}, "", "switches and does not measure"),
        ({"/shelly": GEN1, "/status": {"relays": []}}, "", "has no meter 0"),
        ({"/shelly": GEN1, "/status": PLUG1}, "/1", "has no meter 1"),
        ({"/shelly": GEN1, "/status": EM1}, "", "negative: -620.340"),
        (gen2("switch:0", SWITCH), "/3", "measures no power on channel 3; it has switch:0"),
        (gen2("switch:0", {**SWITCH, "apower": None}), "", "gives no power"),
        ({"/shelly": {"model": "other"}}, "", "no Shelly"),
        ({"/shelly": [1]}, "", "no Shelly"),
        ({}, "", "HTTP 404"),
    ],
)
def test_one_that_does_not_measure_is_not_opened(answers: dict[str, Any], channel: str, reason: str) -> None:
    with FakeMeter(answers) as fake, pytest.raises(SensorError) as caught:
        opened(fake.host + channel)
    assert reason in str(caught.value)


@pytest.mark.parametrize("address", ["", "plug/x", "plug/-1", "plug/1/2", "plug/²"])
def test_a_wrong_address_is_a_usage_error(address: str) -> None:
    with pytest.raises(UsageError, match="shelly:HOST"):
        opened(address)


def test_an_unknown_option_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no such sensor option: phase"):
        DRIVER.open(Wanted(address="plug", options={"phase": "1"}))


@pytest.mark.parametrize(
    ("ask", "answers"), [("digest", gen2("switch:0", SWITCH)), ("basic", {"/shelly": GEN1, "/status": PLUG1})]
)
def test_a_locked_one_is_read_with_its_password(ask: str, answers: dict[str, Any]) -> None:
    with FakeMeter(answers, locked_with="kpqzxv", ask=ask) as fake:
        sensor = opened(f"admin:kpqzxv@{fake.host}")
        assert isinstance(sensor.read()[0], float)
        assert "kpqzxv" not in sensor.name
        sensor.close()
        with pytest.raises(SensorError, match="asks for a password"):
            opened(fake.host)


def test_one_that_is_back_is_read_again_without_being_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelly, "REFRESH_S", 0.02)
    with FakeMeter(gen2("switch:0", SWITCH)) as fake:
        sensor = opened(fake.host)
    wait_for(lambda: isinstance(sensor.read()[0], Absent))
    [gone] = sensor.read()
    assert isinstance(gone, Absent)
    assert gone.reason.startswith(fake.host)
    with FakeMeter(gen2("switch:0", {**SWITCH, "apower": 9.0}), port=int(fake.host.split(":")[1])) as back:
        wait_for(lambda: sensor.read() == (9.0,))
        back.answers["/rpc/Switch.GetStatus?id=0"] = {**SWITCH, "apower": 9.5}
        wait_for(lambda: sensor.read() == (9.5,))
        assert back.connections == 1
    sensor.close()


def test_a_board_measured_by_a_plug_has_its_power_from_there() -> None:
    with FakeMeter(gen2("switch:0", SWITCH), locked_with="kpqzxv") as fake:
        target = load("jetson-orin-nano")
        with open_power(f"shelly:admin:kpqzxv@{fake.host}", target=target, root=Path("/none")) as power:
            assert power.main is not None
            total = Gauge(power.main).read().total
            assert (total.value, total.method, total.reason) == (7.4, "external", None)
            assert "kpqzxv" not in repr([sensor.name for sensor in power.sensors])


def test_a_status_with_a_broken_meter_has_no_value() -> None:
    assert gen2_power("em1", {"act_power": 0.0, "errors": ["power_meter_failure"]}) == Absent(
        "the meter says power_meter_failure"
    )
    assert gen2_power("em1", {"act_power": 9999.0, "errors": ["out_of_range:act_power"]}) == Absent(
        "the meter says out_of_range:act_power"
    )
    assert gen2_power("switch", {"apower": 3.0, "errors": ["overtemp"]}) == 3.0
    assert gen1_power({"meters": [{"power": 0.0, "is_valid": False, "total": 3}]}, 0) == Absent(
        "the meter says that its value is not valid"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["switch:0", "pm1:0", "em:0", "apower", "errors", "meters", "emeters", "power", "is_valid"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from([None, 0, 1, 2]))
def test_any_json_is_a_power_a_reason_or_a_sensor_error(status: object, channel: int | None) -> None:
    for kind in ("switch", "pm1", "em1", "em"):
        value = gen2_power(kind, status, channel)
        assert isinstance(value, Absent) or value >= 0
    value = gen1_power(status, channel or 0)
    assert isinstance(value, Absent) or value >= 0
    for find in (lambda: gen2_component(status, channel), lambda: gen1_kind(status, channel or 0)):
        try:
            found = find()
        except SensorError:
            continue
        assert found.partition(":")[0] in ("switch", "pm1", "em1", "em", "meter", "emeter")
