"""Shelly plugs and meters: the power that goes into the board's supply, once a second, over the local network.

Power and not the energy counter, which the device carries forward by the minute. Formats: shelly-api-docs.shelly.cloud,
Gen1 (`/status`) and Gen2+ (`/rpc/<Component>.GetStatus`); `/shelly` tells the generation and needs no password.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_sdk.errors import SensorError
from edge_sdk.sensors.base import Absent, Channel, Sensor, Value, Wanted
from edge_sdk.sensors.http_meter import HttpMeter, json_watts, meter_address
from edge_sdk.sensors.polled import Polled

REFRESH_S = 1.0
STEP_W = 0.1
_UNMETERED = "this Shelly switches and does not measure: its 0 W would be no data"
_PHASES = "abc"


class _Shelly:
    """The driver."""

    name = "shelly"
    usage = "shelly:HOST[/CHANNEL]  a Shelly plug or meter, Gen1 to Gen4; shelly:USER:PASSWORD@HOST with a password"

    def open(self, wanted: Wanted) -> Sensor:
        """Opens it; see `Driver.open`."""
        wanted.check_options()
        address = meter_address(wanted.address, "shelly:HOST[/CHANNEL]")
        channel = address.channel("shelly:HOST[/CHANNEL]")
        meter = HttpMeter(address)
        try:
            component, ask = _find(meter, channel)
            first = ask()
            if isinstance(first, Absent):
                raise SensorError(f"{meter.label}: {first.reason}")
        except BaseException:
            meter.close()
            raise
        power = Channel(component, "power", "external", in_total=True, step=STEP_W)
        name = f"shelly {meter.label} {component}"
        return Polled(name, (power,), REFRESH_S, lambda: (ask(),), close=meter.close, first=(first,))


DRIVER = _Shelly()


def _find(meter: HttpMeter, channel: int | None) -> tuple[str, Callable[[], Value]]:
    """The component that measures, and what asks for its power."""
    about = meter.get("/shelly")
    if not isinstance(about, Mapping) or not ("gen" in about or "type" in about):
        raise SensorError(f"{meter.label}: what answers there is no Shelly")
    if "gen" not in about:
        kind = gen1_kind(meter.get("/status"), channel or 0)
        return f"{kind}:{channel or 0}", lambda: gen1_power(meter.get("/status"), channel or 0)
    component = gen2_component(meter.get("/rpc/Shelly.GetStatus"), channel)
    kind, _, number = component.partition(":")
    phase = channel if kind == "em" else None
    target = f"/rpc/{_RPC_NAMES[kind]}.GetStatus?id={number}"
    return component, lambda: gen2_power(kind, meter.get(target), phase)


_RPC_NAMES = {"switch": "Switch", "pm1": "PM1", "em1": "EM1", "em": "EM"}


def gen2_component(status: object, channel: int | None) -> str:
    """Which component of a Gen2 or later device measures a channel.

    Args:
        status: Of all components, as `Shelly.GetStatus` gives it.
        channel: From 0; a phase of a three-phase meter. None is the only or first one, and all phases together.

    Returns:
        Such as "switch:0"; "em:0" for every phase of a three-phase meter.

    Raises:
        SensorError: None does.
    """
    parts: Mapping[str, Any] = status if isinstance(status, Mapping) else {}
    number = channel or 0
    for kind, key in (("switch", "apower"), ("pm1", "apower"), ("em1", "act_power")):
        part = parts.get(f"{kind}:{number}")
        if isinstance(part, Mapping) and key in part:
            return f"{kind}:{number}"
    if isinstance(parts.get("em:0"), Mapping) and number < len(_PHASES):
        return "em:0"
    if isinstance(parts.get(f"switch:{number}"), Mapping):
        raise SensorError(f"{_UNMETERED} (switch:{number} has no apower)")
    there = sorted(name for name in parts if name.partition(":")[0] in _RPC_NAMES)[:8]
    raise SensorError(f"this Shelly measures no power on channel {number}; it has {', '.join(there) or 'no meter'}")


def gen2_power(kind: str, status: object, phase: int | None = None) -> Value:
    """The power in the status of one component, in W.

    Args:
        kind: "switch", "pm1", "em1" or "em".
        status: As `<Component>.GetStatus` gives it.
        phase: Of "em": 0 to 2; None is their sum.
    """
    if not isinstance(status, Mapping):
        return Absent("the meter's answer is no status")
    if kind == "em":
        key = "total_act_power" if phase is None else f"{_PHASES[phase]}_act_power"
    else:
        key = "act_power" if kind == "em1" else "apower"
    errors = status.get("errors")
    for error in errors if isinstance(errors, Sequence) and not isinstance(errors, str) else ():
        if error == "power_meter_failure" or str(error).startswith("out_of_range:"):
            return Absent(f"the meter says {str(error)[:40]}")
    if key not in status:
        return Absent(_UNMETERED)
    return json_watts(status[key])


def gen1_kind(status: object, channel: int) -> str:
    """What of a Gen1 device measures a channel: "emeter" or "meter".

    A relay without a meter answers too, ``{"power": 0.00, "is_valid": true}``; a meter also counts (``total``).

    Args:
        status: As `/status` gives it.
        channel: From 0.

    Raises:
        SensorError: Nothing does.
    """
    found = _gen1_part(status, channel)
    if found is None:
        raise SensorError(f"this Shelly has no meter {channel}")
    kind, part = found
    if "total" not in part:
        raise SensorError(_UNMETERED)
    return kind


def gen1_power(status: object, channel: int) -> Value:
    """The power in the `/status` of a Gen1 device, in W."""
    found = _gen1_part(status, channel)
    if found is None:
        return Absent(f"the meter's answer has no meter {channel}")
    _, part = found
    if part.get("is_valid") is not True:
        return Absent("the meter says that its value is not valid")
    return json_watts(part.get("power"))


def _gen1_part(status: object, channel: int) -> tuple[str, Mapping[str, Any]] | None:
    for kind in ("emeter", "meter"):
        parts = status.get(f"{kind}s") if isinstance(status, Mapping) else None
        if isinstance(parts, list) and channel < len(parts) and isinstance(parts[channel], Mapping):
            return kind, parts[channel]
    return None
