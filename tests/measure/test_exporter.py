"""The board for Prometheus: base units, nothing in the place of what is not known, and a server that is not for all."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from edge_sdk.conditions.base import Conditions
from edge_sdk.errors import SinkError, UsageError
from edge_sdk.measure.exporter import PREFIX, MetricsServer, PowerCollector, exposition
from edge_sdk.measure.watch import SensorNow, Snapshot, printable
from edge_sdk.result import Reading

from .moments import NO_SENSOR, ORIN, THROTTLED, of, w

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(snapshot: Snapshot) -> Samples:
    body, _ = exposition(PowerCollector(lambda: snapshot, "jetson-orin-nano"))
    families = text_string_to_metric_families(body.decode())
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def of_name(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples}


def test_power_has_its_method_and_rails_say_whether_they_are_in_the_total() -> None:
    samples = scrape(ORIN)
    assert of_name(samples, "power_watts", method="sensor_total") == 7.5412
    rail = {"sensor": "ina3221 1-0040", "method": "sensor_total"}
    assert of_name(samples, "rail_power_watts", rail="VDD_IN", in_total="true", **rail) == 7.5412
    assert of_name(samples, "rail_power_watts", rail="VDD_CPU_GPU_CV", in_total="false", **rail) == 2.31
    assert of_name(samples, "sensor_up", sensor="ina3221 1-0040") == 1
    assert of_name(samples, "sensor_read_seconds", sensor="ina3221 1-0040") == pytest.approx(0.00125)


def test_figures_are_in_base_units() -> None:
    samples = scrape(ORIN)
    assert of_name(samples, "temperature_celsius", zone="cpu-thermal") == 51.187
    assert of_name(samples, "clock_hertz", clock="cpu0") == pytest.approx(1510.4e6)
    assert of_name(samples, "load_ratio", unit="gpu") == pytest.approx(0.98)
    assert of_name(samples, "memory_bytes", kind="total") == 7619.5 * 2**20
    assert of_name(samples, "memory_bytes", kind="available") == 4513.2 * 2**20
    assert of_name(samples, "energy_joules_total", method="sensor_total") == 75.2
    assert of_name(samples, "measured_seconds_total", method="sensor_total") == 10.0


def test_what_has_no_value_is_not_there() -> None:
    samples = scrape(ORIN)
    assert not [labels for name, labels in samples if ("rail", "VDD_SOC") in labels]
    assert not [labels for name, labels in samples if ("zone", "cv0-thermal") in labels]
    none = scrape(NO_SENSOR)
    assert names(none) == {"info", "load_ratio"}


def test_an_energy_that_was_estimated_says_so() -> None:
    samples = scrape(replace(ORIN, energy_method="estimate"))
    assert of_name(samples, "energy_joules_total", method="estimate") == 75.2


def test_zero_is_a_value() -> None:
    zero = replace(ORIN, total=w("board", 0.0), energy_j=0.0, measured_s=0.0)
    samples = scrape(zero)
    assert of_name(samples, "power_watts", method="sensor_total") == 0
    assert of_name(samples, "energy_joules_total", method="sensor_total") == 0


def test_a_sensor_without_any_value_is_down() -> None:
    gone = replace(ORIN.sensors[0], readings=tuple(w(f"r{number}", None, "gone") for number in range(3)))
    samples = scrape(replace(ORIN, total=w("board", None, "gone"), sensors=(gone,)))
    assert of_name(samples, "sensor_up", sensor="ina3221 1-0040") == 0
    assert not names(samples) & {"power_watts", "rail_power_watts"}
    assert of_name(samples, "energy_joules_total", method="sensor_total") == 75.2  # of the time before


def test_throttling_is_1_by_cause_and_0_when_it_is_over() -> None:
    now = scrape(THROTTLED)
    assert of_name(now, "throttled", cause="any") == 1
    assert of_name(now, "throttled", cause="gpu-throttle-alert") == 1
    assert of_name(now, "throttled", cause="cpu-throttle-alert") == 0
    assert of_name(scrape(ORIN), "throttled", cause="any") == 0
    assert "throttled" not in names(scrape(NO_SENSOR))


def test_the_power_mode_is_a_label() -> None:
    assert of_name(scrape(ORIN), "power_mode_info", mode="25W") == 1


def test_reasons_are_in_no_label() -> None:
    body, _ = exposition(PowerCollector(lambda: NO_SENSOR, "raspberry-pi-4"))
    assert b"no sensor of its own" not in body
    body, _ = exposition(PowerCollector(lambda: ORIN, "jetson-orin-nano"))
    assert b"EAGAIN" not in body


def test_two_zones_of_one_name_are_two_series() -> None:
    zones = (of("acpitz", 30.0, "c"), of("acpitz", 40.0, "c"))
    samples = scrape(replace(ORIN, conditions=replace(ORIN.conditions, temperatures=zones)))
    assert of_name(samples, "temperature_celsius", zone="acpitz") == 30
    assert of_name(samples, "temperature_celsius", zone="acpitz #2") == 40


def test_every_name_has_the_prefix_and_ends_with_its_unit() -> None:
    body, kind = exposition(PowerCollector(lambda: THROTTLED, "jetson-orin-nano"))
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", body.decode(), re.MULTILINE))
    helped = re.findall(r"^# HELP (\S+) \S", body.decode(), re.MULTILINE)
    assert kind.startswith("text/plain")
    assert sorted(kinds) == sorted(helped)
    assert len(kinds) == 14
    assert all(name.startswith(PREFIX) for name in kinds)
    assert all((kind == "counter") == name.endswith("_total") for name, kind in kinds.items())


def test_no_name_is_one_of_the_live_loops() -> None:
    from edge_sdk.sinks import metrics

    source = open(metrics.__file__ or "", encoding="utf-8").read()  # noqa: SIM115, PTH123
    assert PREFIX == "edge_sdk_board_"
    assert '"board_' not in source


texts = st.text(max_size=40)


@given(st.lists(st.tuples(texts, st.none() | st.floats(0, 1e9)), max_size=8), texts)
def test_any_name_can_be_scraped(rails: list[tuple[str, float | None]], name: str) -> None:
    readings = tuple(Reading(printable(rail), value, "w", "external", 0) for rail, value in rails)
    sensor = SensorNow(printable(name), readings, (False,) * len(readings), 1.0)
    zones = tuple(replace(reading, unit="c", method=None) for reading in readings)
    conditions = Conditions(0, zones, throttling=tuple(reading.name for reading in readings))
    samples = scrape(replace(ORIN, sensors=(sensor, sensor), conditions=conditions))
    present = sum(value is not None for _, value in rails)
    assert sum(one == "rail_power_watts" for one, _ in samples) == 2 * present
    assert sum(one == "temperature_celsius" for one, _ in samples) == present


def test_a_registry_takes_the_newest_moment_at_each_scrape() -> None:
    moments = iter([ORIN, replace(ORIN, energy_j=99.0)])
    registry = CollectorRegistry()
    registry.register(PowerCollector(lambda: next(moments), "jetson-orin-nano"))
    name = f"{PREFIX}energy_joules_total"
    assert registry.get_sample_value(name, {"method": "sensor_total"}) == 75.2
    assert registry.get_sample_value(name, {"method": "sensor_total"}) == 99.0


def get(url: str, path: str | None = None, **headers: str) -> tuple[int, str, str]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    try:
        connection.request("GET", path or parts.path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["content-type"], answer.read().decode()
    finally:
        connection.close()


COLLECTOR = PowerCollector(lambda: ORIN, "jetson-orin-nano")


def test_it_is_served_to_this_machine_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with MetricsServer("127.0.0.1:0", COLLECTOR) as server:
        status, kind, body = get(server.url)
        assert status == 200
        assert kind.startswith("text/plain; version=")
        assert f'{PREFIX}power_watts{{method="sensor_total"}} 7.5412' in body
        assert get(server.url, "/")[0] == 404
        assert get(server.url, Host="evil.example")[0] == 421  # a web page that had its name lead here
    server.close()
    assert threading.active_count() == before
    with pytest.raises(OSError, match="refused"):
        get(server.url)


def test_beyond_this_machine_it_wants_a_token() -> None:
    with pytest.raises(UsageError, match="--prometheus-token TOKEN"):
        MetricsServer("0.0.0.0:0", COLLECTOR)


def test_with_a_token_nobody_gets_the_metrics_without_it() -> None:
    with MetricsServer("127.0.0.1:0", COLLECTOR, "0123456789abcdef") as server:
        assert get(server.url)[0] == 401
        assert get(server.url, Authorization="Bearer wrong-wrong-wrong")[0] == 401
        status, _, body = get(server.url, Authorization="Bearer 0123456789abcdef", Host="the-board.local:9180")
        assert status == 200
        assert PREFIX in body


@pytest.mark.parametrize("address", ["9180", "localhost", "127.0.0.1:99999", "http://127.0.0.1:9180"])
def test_an_address_that_means_nothing_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is no address to serve"):
        MetricsServer(address, COLLECTOR)


def test_an_address_in_use_is_told_with_how_to_mend_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SinkError, match="name another port"):
            MetricsServer(address, COLLECTOR)


def test_a_silent_client_holds_up_nobody() -> None:
    with MetricsServer("127.0.0.1:0", COLLECTOR) as server:
        parts = urlsplit(server.url)
        silent = [socket.create_connection((parts.hostname or "", parts.port or 0)) for _ in range(5)]
        try:
            assert get(server.url)[0] == 200
        finally:
            for one in silent:
                one.close()


@pytest.mark.parametrize(("module", "package"), [("prometheus_client", "prometheus-client"), ("uvicorn", "Uvicorn")])
def test_without_the_packages_the_extra_is_named(module: str, package: str) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from edge_sdk.measure.exporter import MetricsServer, PowerCollector\n"
        "MetricsServer('127.0.0.1:0', PowerCollector(lambda: None, 'b'))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    last = ran.stderr.splitlines()[-1]
    assert last == f"edge_sdk.errors.MissingDependencyError: {package} is not installed: pip install 'edge-sdk[http]'"
