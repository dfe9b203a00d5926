"""NVML: each call tried once, the counter before power, and a Jetson Orin that has none of them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_sdk.errors import MissingDependencyError, SensorError, UsageError
from edge_sdk.sensors.base import Absent, Sensor, Wanted, drivers
from edge_sdk.sensors.gauge import Gauge
from edge_sdk.sensors.nvml import MISSING, NvmlDriver

NOT_SUPPORTED = 3


class NVMLError(Exception):
    """As pynvml's."""

    def __init__(self, value: int = NOT_SUPPORTED, text: str = "Not Supported") -> None:
        super().__init__(text)
        self.value = value


class Library:
    """pynvml with GPUs whose answers are written down.

    Args:
        gpus: By call, mJ or mW; what is not there is not supported. An error is raised.
        start: What nvmlInit raises.
    """

    NVMLError = NVMLError

    def __init__(self, *gpus: Mapping[str, Any], start: Exception | None = None) -> None:
        self.gpus = [dict(gpu) for gpu in gpus]
        self.start = start
        self.users = 0
        self.calls: list[str] = []

    def nvmlInit(self) -> None:
        if self.start is not None:
            raise self.start
        self.users += 1

    def nvmlShutdown(self) -> None:
        self.users -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        for index, gpu in enumerate(self.gpus):
            if gpu.get("uuid") == uuid:
                return index
        raise NVMLError(6, "Not Found")

    def nvmlDeviceGetName(self, handle: int) -> Any:
        return self._answer(handle, "name")

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> Any:
        return self._answer(handle, "energy")

    def nvmlDeviceGetPowerUsage(self, handle: int) -> Any:
        return self._answer(handle, "average")

    def nvmlDeviceGetFieldValues(self, handle: int, fields: Sequence[int]) -> list[Any]:
        assert list(fields) == [186]
        if "fields" in self.gpus[handle]:
            raise self.gpus[handle]["fields"]
        try:
            value = self._answer(handle, "instant")
        except NVMLError as error:
            return [SimpleNamespace(nvmlReturn=error.value, valueType=0, value=SimpleNamespace(dVal=0.0))]
        kind, name = (0, "dVal") if isinstance(value, float) else (1, "uiVal")
        return [SimpleNamespace(nvmlReturn=0, valueType=kind, value=SimpleNamespace(**{name: value}))]

    def _answer(self, handle: int, call: str) -> Any:
        self.calls.append(call)
        value = self.gpus[handle].get(call, NVMLError())
        if isinstance(value, Exception):
            raise value
        return value


def opened(library: Library, address: str = "") -> Sensor:
    """The sensor on a library."""
    return NvmlDriver(lambda: library).open(Wanted(address=address))


def captured(fixtures_dir: Path, name: str) -> Library:
    """A library with the answers of a real board."""
    text = (fixtures_dir / f"jetson/{name}.txt").read_text("utf-8")
    answers = dict(re.findall(r"^(nvml\w+)\S*\s+(= .*|FAILED .*)$", text, re.MULTILINE))
    gpu: dict[str, Any] = {"name": answers["nvmlDeviceGetName"][2:].strip()}
    power = answers["nvmlDeviceGetPowerUsage"]
    if not power.startswith("FAILED"):
        gpu["average"] = int(power[2:].split()[0])
    return Library(gpu)


class TestRealBoards:
    def test_thor_gives_power(self, fixtures_dir: Path) -> None:
        library = captured(fixtures_dir, "nvml_thor_r38_4")
        sensor = opened(library)
        total = Gauge(sensor).read().total
        assert total.value == 1.965
        assert total.method == "sensor_total"
        assert total.reason is not None
        assert total.reason.startswith(f"{MISSING}; an average over the last second on Ampere")

    def test_orin_gives_nothing_and_says_what_was_tried(self, fixtures_dir: Path) -> None:
        library = captured(fixtures_dir, "nvml_orin_nx_r36_4_7")
        with pytest.raises(SensorError) as refused:
            opened(library)
        assert str(refused.value) == (
            "no sensor: NVML gives no power of Orin (nvgpu): energy counter (Not Supported), "
            "power now (Not Supported), average power (Not Supported)"
        )
        assert library.users == 0

    def test_this_machine_is_asked_and_says_clearly_what_it_lacks_or_gives(self) -> None:
        pytest.importorskip("pynvml", reason="no nvidia-ml-py")
        try:
            sensor = drivers()["nvml"].open(Wanted())
        except SensorError as error:
            assert re.match(r"no NVIDIA driver answers here: |no sensor: |the NVIDIA driver is here", str(error))  # noqa: PT017
        else:
            assert all(isinstance(value, float) for value in sensor.read())
            sensor.close()


class TestTheChoice:
    def test_the_counter_is_preferred(self) -> None:
        library = Library({"name": "H200", "energy": 5_000_000, "instant": 90_000, "average": 91_000})
        sensor = opened(library)
        (channel,) = sensor.channels
        assert (channel.name, channel.quantity, channel.method) == ("gpu-0", "energy", "counter")
        assert sensor.read() == [5000.0]
        library.gpus[0]["energy"] = 5_120_000
        assert sensor.read() == [5120.0]

    def test_power_now_is_preferred_to_the_average(self) -> None:
        (channel,) = opened(Library({"instant": 90_000, "average": 91_000})).channels
        assert (channel.quantity, channel.method, channel.missing) == ("power", "sensor_total", MISSING)

    @pytest.mark.parametrize("answer", [90_500, 90_500.0])
    def test_the_type_of_a_field_is_heeded(self, answer: float) -> None:
        assert opened(Library({"instant": answer})).read() == [90.5]

    def test_each_call_is_tried_once_and_then_only_the_chosen_one(self) -> None:
        library = Library({"name": "T4", "instant": 30_000})
        sensor = opened(library)
        assert sorted(library.calls) == ["average", "energy", "instant", "name"]
        library.calls.clear()
        sensor.read()
        sensor.read()
        assert library.calls == ["instant", "instant"]

    def test_a_counter_that_stands_at_zero_does_not_count(self) -> None:
        (channel,) = opened(Library({"energy": 0, "average": 20_000})).channels
        assert channel.quantity == "power"

    def test_power_that_is_marked_as_not_available_is_none(self) -> None:
        with pytest.raises(SensorError, match=r"average power \(not available\)"):
            opened(Library({"average": 2**32 - 1}))

    def test_a_driver_or_binding_without_fields_is_no_error(self) -> None:
        for problem in (NVMLError(13, "Function Not Found"), AttributeError("nvmlDeviceGetFieldValues")):
            assert opened(Library({"fields": problem, "average": 20_000})).read() == [20.0]


class TestSeveral:
    def test_their_energies_are_added(self) -> None:
        library = Library({"energy": 1_000_000}, {"energy": 2_000_000})
        sensor = opened(library)
        assert [channel.name for channel in sensor.channels if channel.in_total] == ["gpu-0", "gpu-1"]
        assert sensor.read() == [1000.0, 2000.0]

    def test_where_one_has_no_counter_all_give_power_so_that_they_can_be_added(self) -> None:
        sensor = opened(Library({"energy": 1_000_000, "instant": 50_000}, {"average": 20_000}))
        assert {channel.quantity for channel in sensor.channels} == {"power"}
        assert Gauge(sensor).read().total.value == 70.0

    def test_one_that_measures_nothing_is_named(self) -> None:
        sensor = opened(Library({"average": 50_000}, {"name": "old"}))
        total = Gauge(sensor).read().total
        assert (total.value, total.method) == (50.0, "sensor_partial")
        assert total.reason is not None
        assert total.reason.startswith("without gpu-1 (energy counter: Not Supported, power now: Not Supported")

    def test_one_is_named_by_index_or_uuid(self) -> None:
        library = Library({"average": 10_000}, {"average": 20_000, "uuid": "GPU-123"})
        assert opened(library, "1").read() == [20.0]
        assert opened(library, "GPU-123").read() == [20.0]

    @pytest.mark.parametrize("address", ["2", "9999999999", "GPU-7"])
    def test_one_that_is_not_there_is_a_sensor_error(self, address: str) -> None:
        library = Library({"average": 10_000}, {"average": 20_000})
        with pytest.raises(SensorError, match="no such GPU"):
            opened(library, address)
        assert library.users == 0

    @pytest.mark.parametrize("address", ["-1", "first", "²", "GPU"])
    def test_an_address_that_means_nothing_is_a_usage_error(self, address: str) -> None:
        library = Library({"average": 10_000})
        with pytest.raises(UsageError, match="name a GPU by its index or its UUID"):
            opened(library, address)
        assert library.users == 0


class TestTrouble:
    def test_without_a_driver_it_says_so_in_a_line(self) -> None:
        for text in ("NVML Shared Library Not Found", "Driver Not Loaded"):
            with pytest.raises(SensorError, match=f"^no NVIDIA driver answers here: {text}$"):
                opened(Library(start=NVMLError(12, text)))

    def test_without_a_gpu_it_says_so(self) -> None:
        library = Library()
        with pytest.raises(SensorError, match="the NVIDIA driver is here, but no GPU"):
            opened(library)
        assert library.users == 0

    def test_without_the_package_it_names_the_extra(self) -> None:
        def missing() -> Any:
            raise MissingDependencyError("nvidia-ml-py is not installed: pip install 'edge-sdk[nvml]'")

        with pytest.raises(MissingDependencyError, match=r"edge-sdk\[nvml\]"):
            NvmlDriver(missing).open(Wanted())

    def test_a_captured_tree_does_not_ask_this_machine(self, tmp_path: Path) -> None:
        library = Library({"average": 10_000})
        with pytest.raises(SensorError, match="not asked, because this is a captured tree"):
            NvmlDriver(lambda: library).open(Wanted(root=tmp_path))

    def test_a_gpu_that_is_lost_is_absent_and_may_come_back(self) -> None:
        library = Library({"average": 10_000})
        sensor = opened(library)
        library.gpus[0]["average"] = NVMLError(15, "GPU is lost")
        assert sensor.read() == [Absent("NVML: GPU is lost")]
        library.gpus[0]["average"] = 11_000
        assert sensor.read() == [11.0]

    @pytest.mark.parametrize(("answer", "reason"), [(2**32 - 1, "absurd: 4294967 W"), (-5, "negative: -0.005")])
    def test_an_absurd_power_is_none(self, answer: int, reason: str) -> None:
        library = Library({"average": 10_000})
        sensor = opened(library)
        library.gpus[0]["average"] = answer
        assert sensor.read() == [Absent(reason)]

    def test_closing_twice_shuts_nvml_down_once(self) -> None:
        library = Library({"average": 10_000})
        sensor = opened(library)
        assert library.users == 1
        sensor.close()
        sensor.close()
        assert library.users == 0
        assert sensor.read() == [Absent("closed")]

    def test_an_option_means_nothing(self) -> None:
        with pytest.raises(UsageError, match="no such sensor option: rate"):
            NvmlDriver(Library).open(Wanted(options={"rate": "1"}))


def test_importing_the_drivers_does_not_import_pynvml() -> None:
    code = "import sys; from edge_sdk.sensors.base import drivers; drivers(); assert 'pynvml' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
