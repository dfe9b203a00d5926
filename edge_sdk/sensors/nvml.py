"""NVIDIA GPUs by their driver's library, NVML: an energy counter where there is one, else power.

Which calls work differs from GPU to GPU (a Jetson Orin has none), so that each is tried once, when it opens.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge_sdk.errors import MissingDependencyError, SensorError, UsageError, extra_hint, one_line
from edge_sdk.sensors.base import Absent, Channel, Value, Wanted, plausible

# The driver renews power 10 to 50 times a second, the energy counter about 10 times: arXiv 2312.02741 and reports.
REFRESH_S = 0.1
MISSING = "the GPU alone, not the machine"
AVERAGE_S = 1.0
AVERAGED = "an average over the last second on Ampere and later (GA100 excepted)"

_POWER_INSTANT = 186  # NVML_FI_DEV_POWER_INSTANT of nvml.h
_MOST_W = 10_000.0  # a GPU's; NVML's "not available" is 2^32 - 1 mW

Call = Literal["energy", "instant", "average"]
_CALLS: dict[Call, str] = {"energy": "energy counter", "instant": "power now", "average": "average power"}
# The field of the union that a value type is in; nvmlValueType_t of nvml.h.
_FIELDS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}


@dataclass(frozen=True)
class Gpu:
    """One GPU and what it gives.

    Args:
        name: Of its channel: "gpu-0".
        product: "NVIDIA Thor".
        handle: NVML's.
        refused: Why a call gives nothing, by call; those that are not in it work.
    """

    name: str
    product: str
    handle: Any
    refused: dict[Call, str]

    def gives(self, call: Call) -> bool:
        """Whether a call works."""
        return call not in self.refused


class NvmlSensor:
    """The GPUs; see `edge_sdk.sensors.base`. All give J, or all give W, so that they can be added up.

    Args:
        library: The module ``pynvml`` after nvmlInit, or a double of it; shut down when this is closed.
        gpus: What was found.
        in_total: Whether their sum is the total.

    Raises:
        SensorError: None of them gives anything; names what was tried.
    """

    name = "nvml"

    def __init__(self, library: Any, gpus: Sequence[Gpu], *, in_total: bool) -> None:
        self._library = library
        measuring = [gpu for gpu in gpus if any(gpu.gives(call) for call in _CALLS)]
        if not measuring:
            tried = "; ".join(
                f"{gpu.product}: " + ", ".join(f"{_CALLS[call]} ({why})" for call, why in gpu.refused.items())
                for gpu in gpus
            )
            raise SensorError(f"no sensor: NVML gives no power of {tried}")
        counting = all(gpu.gives("energy") for gpu in measuring)
        self._gpus = [(gpu, _call(gpu, counting)) for gpu in gpus]
        # An average over a second follows the load a second late, whatever the rate at which it is renewed.
        averaged = any(call == "average" for _, call in self._gpus)
        self.refresh_s = AVERAGE_S if averaged else REFRESH_S
        self.channels = tuple(
            Channel(
                gpu.name,
                "energy" if counting else "power",
                "counter" if call == "energy" else "sensor_total",
                in_total,
                missing=f"{MISSING}; {AVERAGED}" if call == "average" else MISSING,
            )
            for gpu, call in self._gpus
        )

    def read(self) -> Sequence[Value]:
        """One value a channel."""
        return [self._value(gpu, call) for gpu, call in self._gpus]

    def close(self) -> None:
        """Frees everything; may be called twice."""
        if self._library is not None:
            _shut(self._library)
            self._library = None

    def _value(self, gpu: Gpu, call: Call | None) -> Value:
        if call is None:
            return Absent(", ".join(f"{_CALLS[call]}: {why}" for call, why in gpu.refused.items()))
        if self._library is None:
            return Absent("closed")
        try:
            value = plausible(_ask(self._library, gpu.handle, call))
        except self._library.NVMLError as error:
            return Absent(f"NVML: {one_line(error)}")
        if call != "energy" and not isinstance(value, Absent) and value > _MOST_W:
            return Absent(f"absurd: {value:.0f} W")
        return value


class NvmlDriver:
    """See `edge_sdk.sensors.base.Driver`.

    Args:
        library: Gives a double of the module ``pynvml``; None is the module.
    """

    name = "nvml"
    usage = "nvml[:INDEX or UUID]  NVIDIA GPUs, or one of them, by their driver"

    def __init__(self, library: Callable[[], Any] | None = None) -> None:
        self._library = library

    def open(self, wanted: Wanted) -> NvmlSensor:
        """As `Driver.open`; raises MissingDependencyError too."""
        wanted.check_options()
        address = wanted.address or (wanted.rails[0].address if wanted.rails else "*")
        in_total = not wanted.rails or wanted.rails[0].in_total
        if wanted.root != Path("/"):
            raise SensorError("nvml: not asked, because this is a captured tree")
        library = (self._library or _pynvml)()
        try:
            library.nvmlInit()
        except library.NVMLError as error:
            raise SensorError(f"no NVIDIA driver answers here: {one_line(error)}") from error
        try:
            return NvmlSensor(library, _gpus(library, address), in_total=in_total)
        except library.NVMLError as error:
            _shut(library)
            raise SensorError(f"nvml: {one_line(error)}") from error
        except BaseException:
            _shut(library)
            raise


DRIVER = NvmlDriver()


def _gpus(library: Any, address: str) -> list[Gpu]:
    """The GPU of that index or UUID, or all of "*", each call tried."""
    count = library.nvmlDeviceGetCount()
    if count < 1:
        raise SensorError("the NVIDIA driver is here, but no GPU")
    if address == "*":
        handles = [(f"gpu-{index}", library.nvmlDeviceGetHandleByIndex(index)) for index in range(count)]
    elif address.isascii() and address.isdecimal():
        if len(address) > 4 or int(address) >= count:
            raise SensorError(f"nvml:{address[:40]}: no such GPU; there are {count}, counted from 0")
        handles = [(f"gpu-{int(address)}", library.nvmlDeviceGetHandleByIndex(int(address)))]
    elif address.startswith(("GPU-", "MIG-")):
        try:
            handles = [("gpu", library.nvmlDeviceGetHandleByUUID(address))]
        except library.NVMLError as error:
            raise SensorError(f"nvml:{address[:80]}: no such GPU: {one_line(error)}") from error
    else:
        raise UsageError(
            f"nvml:{address[:80]}: name a GPU by its index or its UUID (GPU-...); nvidia-smi -L lists them"
        )
    return [_probed(library, name, handle) for name, handle in handles]


def _probed(library: Any, name: str, handle: Any) -> Gpu:
    refused: dict[Call, str] = {}
    for call in _CALLS:
        try:
            value = _ask(library, handle, call)
        except library.NVMLError as error:
            refused[call] = one_line(error)
            continue
        except AttributeError:
            refused[call] = "this nvidia-ml-py is too old to ask"
            continue
        if call == "energy" and value == 0:  # nothing since the driver was loaded: it does not count
            refused[call] = "always 0"
        elif call != "energy" and value > _MOST_W:
            refused[call] = "not available"
    try:
        product = library.nvmlDeviceGetName(handle)
    except library.NVMLError:
        product = name
    return Gpu(
        name, product.decode("utf-8", "replace") if isinstance(product, bytes) else str(product), handle, refused
    )


def _call(gpu: Gpu, counting: bool) -> Call | None:
    """Which call to use: the best that gives what the other GPUs give too."""
    if counting:
        return "energy" if gpu.gives("energy") else None
    return "instant" if gpu.gives("instant") else "average" if gpu.gives("average") else None


def _ask(library: Any, handle: Any, call: Call) -> float:
    """J of the counter, W else."""
    if call == "energy":
        return float(library.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    if call == "average":
        return float(library.nvmlDeviceGetPowerUsage(handle)) / 1000
    field = library.nvmlDeviceGetFieldValues(handle, [_POWER_INSTANT])[0]
    if field.nvmlReturn != 0:
        raise library.NVMLError(field.nvmlReturn)
    return float(getattr(field.value, _FIELDS.get(field.valueType, "uiVal"))) / 1000


def _shut(library: Any) -> None:
    with suppress(library.NVMLError):  # it is closed either way
        library.nvmlShutdown()


def _pynvml() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise MissingDependencyError(f"nvidia-ml-py is not installed: {extra_hint('nvml')}") from error
