"""How figures and findings are put into words, on pages and in the terminal alike."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edge_sdk.measure.record import Energy, Figure, Profile
from edge_sdk.result import Method

Kind = Literal["ok", "warning", "rejected", "note"]

NONE = "-"
"""In place of a figure that is not there."""

METHODS: Mapping[Method, str] = {
    "counter": "measured by an energy counter",
    "sensor_total": "measured: all that the board can measure of its supply",
    "sensor_partial": "measured, but a part of the board only",
    "fit": "a line fitted through measured values, not a measurement of this board",
    "estimate": "modelled, not measured",
    "external": "measured by a meter outside the board",
}
"""What a method means, for people; see `edge_sdk.result.Reading`."""

_UNSURE: tuple[Method, ...] = ("sensor_partial", "fit", "estimate")
_MOST_DECIMALS = 6
_ABSURD = 1e12  # no figure of a profile is that large
# They turn the direction of text, and so make a name read as another.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Verdict:
    """What a run is worth.

    Args:
        kind: "ok": the energy stands. "warning": it stands with a reservation, or there is none. "rejected": the run
            gives no energy.
        line: In a sentence.
        details: Reasons or reserves, one a line.
    """

    kind: Kind
    line: str
    details: tuple[str, ...] = ()


def plain(text: str) -> str:
    """A text as it may be shown: control characters, line ends and lone surrogates do not get through.

    What comes from a file can so neither steer a terminal nor turn the text around it.
    """
    return "".join(
        " " if one in "\t\n\r\v\f\x85\u2028\u2029"
        else "\ufffd" if one in _TURNING or unicodedata.category(one) in ("Cc", "Cs")
        else one
        for one in text
    )  # fmt: skip


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters; the middle of a longer one is left out."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[: most - 1 - head]}…{text[len(text) - head :] if head else ''}"


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits: "0.0123", "12.3", "1,234"; in powers of ten only where it is absurd."""
    if value is None or not math.isfinite(value):
        return NONE
    return _fixed(value, _decimals(value, digits))


def figure(value: Figure | None, unit: str = "") -> str:
    """A figure with its interval: "61.2 mJ (59.8 to 62.6)". The interval says how many digits are worth printing."""
    if value is None:
        return NONE
    half = (value.high - value.low) / 2
    decimals = min(_decimals(half, 2), _decimals(value.value, 4)) if half > 0 else _decimals(value.value, 3)
    shown = [_fixed(one, decimals) for one in (value.value, value.low, value.high)]
    return f"{shown[0]}{unit and ' '}{unit} ({shown[1]} to {shown[2]})"


def count(many: int, thing: str, things: str | None = None) -> str:
    """ "1 query", "1,234 queries"."""
    return f"{many:,} {thing if many == 1 else things or thing + 's'}"


def value_of(facts: Mapping[str, Any], *names: str) -> str | None:
    """The first of these facts that is known, as text."""
    return next((fact(facts[name]) for name in names if facts.get(name) not in (None, "", [], {})), None)


def fact(value: Any) -> str:
    """A value of a profile's `model` or `device`, as text."""
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {fact(one)}" for key, one in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(fact(one) for one in value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return plain(str(value))


def model_of(profile: Profile) -> str:
    """The model's name."""
    return value_of(profile.model, "name", "path") or "a model without a name"


def board_of(profile: Profile) -> str:
    """The board, as people call it, and its power mode where it has one."""
    board = value_of(profile.device, "label", "target", "machine") or "an unknown board"
    mode = value_of(profile.device, "power_mode")
    return board if mode is None else f"{board}, power mode {mode}"


def engine_of(profile: Profile) -> str:
    """What ran the model."""
    return value_of(profile.model, "active", "backend", "engine") or "an unknown engine"


def latency_line(profile: Profile) -> str:
    """ "p50 23.4 ms, p90 24.1 ms, p99 31.0 ms, over 1,234 queries in 30.0 s"."""
    found = profile.latency.percentiles_ms
    parts = [f"{name} {number(found[name])} ms" for name in ("p50", "p90", "p99") if name in found]
    over = f"over {count(profile.latency.queries, 'query', 'queries')} in {number(profile.latency.seconds)} s"
    return ", ".join([*parts, over])


def start_entries(profile: Profile) -> tuple[tuple[str, str], ...]:
    """(what, text) of opening, first detection and warm-up."""
    latency = profile.latency
    unknown = "not measured"
    lasted = "" if latency.warm_up_s is None else f", in {number(latency.warm_up_s)} s"
    return (
        ("open the model", unknown if latency.open_ms is None else f"{number(latency.open_ms)} ms"),
        ("first detection", unknown if latency.first_ms is None else f"{number(latency.first_ms)} ms"),
        (
            "warm-up",
            "not steady within it"
            if latency.warm_up is None
            else f"steady after {count(latency.warm_up, 'detection')}{lasted}",
        ),
    )


def early_stopping_line(profile: Profile) -> str | None:
    """LoadGen's upper bounds; None where there are none."""
    bounds = {name: bound for name, bound in profile.latency.early_stopping_ms.items() if bound is not None}
    if not bounds:
        return None
    said = ", ".join(f"{plain(name)} at most {number(bound)} ms" for name, bound in bounds.items())
    return f"{said}, with 99 % confidence (LoadGen's early stopping estimate)"


def key(name: str) -> str:
    """A key of a profile's `model` or `device`, as people read it: "memory_mib" is "memory MiB"."""
    units = {"mib": "MiB", "mhz": "MHz", "hw": "height, width", "id": "id"}
    return " ".join(units.get(word, word) for word in plain(name).split("_"))


def energy_line(energy: Energy) -> str:
    """Net and gross energy per inference in a line, or that there is none."""
    if energy.rejected:
        return "no energy: the run is rejected"
    net = "no net energy" if energy.net_mj is None else f"net {figure(energy.net_mj, 'mJ')} per inference"
    return f"{net}, gross {figure(energy.gross_mj, 'mJ')}"


def method_line(energy: Energy) -> str:
    """How the watts came about: "estimate (modelled, not measured)"."""
    return f"{energy.method} ({METHODS[energy.method]})"


def provenance(energy: Energy) -> tuple[tuple[str, str], ...]:
    """(what, text) of where the watts come from: method, what they cover, what they lack."""
    return (
        ("method", method_line(energy)),
        ("covers", plain(energy.covers) if energy.covers is not None else "not written down"),
        ("missing", plain(energy.missing) if energy.missing is not None else "nothing that is known"),
    )


def verdict(profile: Profile) -> Verdict:
    """What a profile is worth, in words."""
    energy = profile.energy
    if energy is None:
        reason = plain(profile.energy_reason or "nobody said why")
        return Verdict("warning", "Latency only: no power was measured.", (f"because: {reason}",))
    if energy.rejected:
        return Verdict(
            "rejected",
            "This run gives no energy; its latency stands.",
            tuple(plain(reason) for reason in energy.rejected),
        )
    reserves = []
    if energy.net_refused is not None:
        reserves.append(f"no net energy: {plain(energy.net_refused)}")
    if energy.method in _UNSURE:
        reserves.append(f"the watts are {METHODS[energy.method]}; the interval does not hold that error")
    if reserves:
        line = "The run stands, with a reservation." if len(reserves) == 1 else "The run stands, with reservations."
        return Verdict("warning", line, tuple(reserves))
    return Verdict("ok", f"The run stands: {count(energy.repeats, 'repeat')}, none of them disturbed.")


def throttle_lines(profile: Profile) -> tuple[str, ...]:
    """When the board throttled, a line a stretch."""
    return tuple(
        f"{plain(one.cause)}, from {number(one.start_s, 4)} s to {number(one.end_s, 4)} s" for one in profile.throttling
    )


def listed(parts: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""


def _decimals(value: float, digits: int) -> int:
    if value == 0:
        return 0
    return min(_MOST_DECIMALS, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def _fixed(value: float, decimals: int) -> str:
    if abs(value) >= _ABSURD:
        return f"{value:.2e}"
    shown = f"{value:,.{decimals}f}"
    return shown.lstrip("-") if float(shown.replace(",", "")) == 0 else shown
