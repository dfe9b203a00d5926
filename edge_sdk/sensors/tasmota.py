"""Plugs with Tasmota (or OpenBeken, which answers alike): the power that goes into the board's supply.

``Status 8`` answers ``{"StatusSNS": {"Time": ..., "ENERGY": {"Total": ..., "Power": 26, ...}}}``; Power is a list where
the device has several channels. Source: Tasmota's documentation, "JSON Status Responses" and "Commands" (WattRes), and
captured answers of real plugs.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from urllib.parse import quote

from edge_sdk.errors import SensorError
from edge_sdk.sensors.base import Absent, Channel, Sensor, Value, Wanted, plausible
from edge_sdk.sensors.http_meter import SIGNED_IN, HttpMeter, json_watts, meter_address
from edge_sdk.sensors.polled import Polled

REFRESH_S = 1.0


class _Tasmota:
    """The driver."""

    name = "tasmota"
    usage = "tasmota:HOST[/CHANNEL]  a plug with Tasmota; tasmota:USER:PASSWORD@HOST with a password"

    def open(self, wanted: Wanted) -> Sensor:
        """Opens it; see `Driver.open`."""
        wanted.check_options()
        address = meter_address(wanted.address, "tasmota:HOST[/CHANNEL]")
        channel = address.channel("tasmota:HOST[/CHANNEL]")
        target = "/cm?cmnd=Status%208"
        if address.password is not None:  # Tasmota takes them in the query only
            user = quote(address.user or "admin", safe="")
            target = f"/cm?user={user}&password={quote(address.password, safe='')}&cmnd=Status%208"
        meter = HttpMeter(address)
        try:
            answer = meter.get(target)
            first = tasmota_power(answer, channel)
            if isinstance(first, Absent):
                raise SensorError(f"{meter.label}: {first.reason}")
        except BaseException:
            meter.close()
            raise
        label = "power" if channel is None else f"power:{channel}"
        power = Channel(label, "power", "external", in_total=True, step=tasmota_step(answer))
        return Polled(
            f"tasmota {meter.label}",
            (power,),
            REFRESH_S,
            lambda: (tasmota_power(meter.get(target), channel),),
            close=meter.close,
            first=(first,),
        )


DRIVER = _Tasmota()


def tasmota_power(answer: object, channel: int | None = None) -> Value:
    """The power in the answer to ``Status 8``, in W.

    Args:
        answer: From JSON.
        channel: From 0, of a device with several; None is their sum.
    """
    if isinstance(answer, Mapping) and "WARNING" in answer:  # "Need user=<username>&password=<password>"
        return Absent(f"the plug asks for a user and a password: write {SIGNED_IN}")
    power = _power(answer)
    if power is None:
        return Absent("this plug measures no power: there is no ENERGY in its answer")
    if not isinstance(power, list):
        return json_watts(power) if not channel else Absent(f"this plug has no channel {channel}")
    values = [json_watts(one) for one in power[:16]]
    if channel is not None:
        return values[channel] if channel < len(values) else Absent(f"this plug has no channel {channel}")
    absent = [one for one in values if isinstance(one, Absent)]
    if absent or not values:
        return absent[0] if absent else Absent("the meter gives no power")
    return plausible(sum(one for one in values if not isinstance(one, Absent)))


def tasmota_step(answer: object) -> float:
    """What the plug rounds to, in W, from the digits it writes: 1 where nobody has set WattRes."""
    power = _power(answer)
    one = power[0] if isinstance(power, list) and power else power
    exponent = one.as_tuple().exponent if isinstance(one, Decimal) else 0
    return 10.0 ** max(-3, min(0, exponent)) if isinstance(exponent, int) else 1.0


def _power(answer: object) -> object:
    """What stands at StatusSNS.ENERGY.Power; None where nothing does."""
    for key in ("StatusSNS", "ENERGY", "Power"):
        answer = answer.get(key) if isinstance(answer, Mapping) else None
    return answer
