"""Tasmota: the power of one or several channels, with the password in the query; a plug without a meter says so."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import SensorError, UsageError
from edge_sdk.sensors import tasmota
from edge_sdk.sensors.base import Absent, Sensor, Wanted
from edge_sdk.sensors.tasmota import DRIVER, tasmota_power, tasmota_step
from edge_sdk.testing.fake_meter import FakeMeter

TARGET = "/cm?cmnd=Status%208"
# An answer in a public manual, and one that a dual meter really gave.
ONE = b"""{"StatusSNS":{"Time":"2019-09-06T20:06:19","ENERGY":{"TotalStartTime":"2019-08-18T11:07:55","Total":0.003,
"Yesterday":0.000,"Today":0.003,"Power":26,"ApparentPower":25,"ReactivePower":25,"Factor":0.06,"Voltage":239,
"Current":0.106}}}"""
TWO = b"""{"StatusSNS":{"Time":"2026-09-18T11:19:21","ENERGY":{"TotalStartTime":"2026-09-16T00:00:00",
"Total":[2.813,0.254],"Power":[52,5],"Factor":[0.79,0.50],"Voltage":235,"Current":[0.278,0.044]}}}"""
FINE = ONE.replace(b'"Power":26', b'"Power":26.40')
NONE = b'{"StatusSNS":{"Time":"2018-02-15T01:00:50","Switch1":"OFF"}}'
LOCKED = b'{"WARNING":"Need user=<username>&password=<password>"}'


def opened(address: str) -> Sensor:
    return DRIVER.open(Wanted(address=address))


def wait_for(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("body", "channel", "watts", "step"),
    [(ONE, "", 26.0, 1.0), (TWO, "", 57.0, 1.0), (TWO, "/1", 5.0, 1.0), (FINE, "", 26.4, 0.01)],
)
def test_a_plug_is_read(body: bytes, channel: str, watts: float, step: float) -> None:
    with FakeMeter({TARGET: body}) as fake:
        sensor = opened(fake.host + channel)
        assert sensor.read() == (watts,)
        [only] = sensor.channels
        assert (only.quantity, only.method, only.in_total, only.missing) == ("power", "external", True, None)
        assert only.step == pytest.approx(step)
        assert sensor.name == f"tasmota {fake.host}"
        sensor.close()


@pytest.mark.parametrize(
    ("body", "channel", "reason"),
    [
        (NONE, "", "measures no power: there is no ENERGY in its answer"),
        (b"{}", "", "measures no power"),
        (b'{"Command":"Unknown"}', "", "measures no power"),
        (TWO, "/2", "has no channel 2"),
        (ONE, "/1", "has no channel 1"),
        (LOCKED, "", "asks for a user and a password: write USER:PASSWORD@HOST"),
        (b'{"StatusSNS":{"ENERGY":{"Power":[]}}}', "", "gives no power"),
        (b'{"StatusSNS":{"ENERGY":{"Power":[1,"x"]}}}', "", "no number"),
        (b'{"StatusSNS":{"ENERGY":{"Power":-4}}}', "", "negative: -4.000"),
    ],
)
def test_one_that_gives_no_power_is_not_opened(body: bytes, channel: str, reason: str) -> None:
    with FakeMeter({TARGET: body}) as fake, pytest.raises(SensorError) as caught:
        opened(fake.host + channel)
    assert reason in str(caught.value)


def test_the_password_goes_into_the_query_and_nowhere_else() -> None:
    with FakeMeter({"/cm?user=admin&password=k%26pq%20%2Fz&cmnd=Status%208": ONE}) as fake:
        sensor = opened(f"admin:k&pq /z@{fake.host}")
        assert sensor.read() == (26.0,)
        assert "k&pq" not in sensor.name
        sensor.close()
        with pytest.raises(SensorError) as caught:
            opened(f"admin:kpqzxv@{fake.host}")
        assert str(caught.value) == f"{fake.host}: HTTP 404"


@pytest.mark.parametrize("address", ["", "plug/x", "user@plug"])
def test_a_wrong_address_is_a_usage_error(address: str) -> None:
    with pytest.raises(UsageError, match=r"tasmota:HOST|USER:PASSWORD@HOST"):
        opened(address)


def test_one_that_is_back_is_read_again_without_being_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasmota, "REFRESH_S", 0.02)
    with FakeMeter({TARGET: ONE}) as fake:
        sensor = opened(fake.host)
    wait_for(lambda: isinstance(sensor.read()[0], Absent))
    with FakeMeter({TARGET: FINE}, port=int(fake.host.split(":")[1])):
        wait_for(lambda: sensor.read() == (26.4,))
    sensor.close()


NUMBERS = st.integers() | st.floats() | st.decimals() | st.text(max_size=5) | st.none() | st.booleans()


@given(NUMBERS | st.lists(NUMBERS, max_size=4), st.sampled_from([None, 0, 1]))
def test_any_power_is_a_power_or_a_reason(power: Any, channel: int | None) -> None:
    answer = {"StatusSNS": {"ENERGY": {"Power": power}}}
    value = tasmota_power(answer, channel)
    assert isinstance(value, Absent) or value >= 0
    assert 0.001 <= tasmota_step(answer) <= 1.0


def test_the_step_is_that_of_the_digits() -> None:
    answer = json.loads('{"StatusSNS":{"ENERGY":{"Power":[3.10, 2.00]}}}', parse_float=Decimal)
    assert tasmota_step(answer) == pytest.approx(0.01)
