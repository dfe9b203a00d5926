"""Whether a machine stayed the same while it was measured."""

from __future__ import annotations

from edge_sdk.conditions.base import NOT_READ, Conditions
from edge_sdk.conditions.throttling import OVER_CURRENT, UNDER_VOLTAGE

_ADVICE = {
    UNDER_VOLTAGE: "its supply or cable is too weak",
    OVER_CURRENT: "choose a lower power mode or a stronger supply",
}
_HEAT = "let it cool down, cool it better, or choose a lower power mode"


def why_not_steady(before: Conditions, after: Conditions) -> tuple[str, ...]:
    """Why what was measured between these two is worth nothing; a line for each reason, empty where there is none.

    What one of the two does not know, such as the power mode of a quick read, is no change.

    Args:
        before, after: One after the other, of one `ConditionsReader`.
    """
    return (
        *_other_mode(before, after),
        *_other_governors(before, after),
        *_throttling(before, after),
    )


def _other_mode(before: Conditions, after: Conditions) -> list[str]:
    first, last = before.power_mode, after.power_mode
    if first is None or last is None or first.name == last.name:
        return []
    return [f"the power mode changed from {first.name} to {last.name}; set it, and leave it alone while measuring"]


def _other_governors(before: Conditions, after: Conditions) -> list[str]:
    """Of what both know: a quick read of many processors knows only some."""
    first, last = dict(before.governors), dict(after.governors)
    changed = [
        f"{name} from {governor} to {last[name]}"
        for name, governor in first.items()
        if last.get(name, governor) != governor
    ]
    return [f"the governor changed: {', '.join(changed)}"] if changed else []


def _throttling(before: Conditions, after: Conditions) -> list[str]:
    quick_first = before.power_mode_reason == NOT_READ != after.power_mode_reason
    meanwhile = [one for one in after.throttled_since_boot if one not in before.throttled_since_boot]
    if quick_first:  # it did not ask the firmware what had been before
        meanwhile = []
    now = list(after.throttling or ())
    # What throttles at the end is told once, although a counter or a flag tells it too.
    meanwhile = [one for one in meanwhile if one not in now and one.partition(" (")[0] not in now]
    return [
        f"throttled {when}: {', '.join(causes)}; {_advice(causes)}"
        for when, causes in (
            ("before it began", list(before.throttling or ())),
            ("at the end", now),
            ("meanwhile", meanwhile),
        )
        if causes
    ]


def _advice(causes: list[str]) -> str:
    return "; ".join(dict.fromkeys(_ADVICE.get(cause.partition(" (")[0], _HEAT) for cause in causes))
