"""Profiles a model in each power mode of a board, and finds those that nobody beats in both energy and latency."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from edge_sdk.conditions.base import PowerMode
from edge_sdk.conditions.power_mode import PowerModes
from edge_sdk.errors import EdgeSdkError, PowerModeError, RebootNeededError, UsageError
from edge_sdk.measure.record import Profile
from edge_sdk.sensors.base import Absent

_log = logging.getLogger("edge_sdk")


def walk(
    modes: PowerModes,
    wanted: Sequence[str],
    measure: Callable[[str], Profile],
    kept: Mapping[str, Profile] | None = None,
) -> dict[str, Profile]:
    """Profiles each mode in turn, and puts the board back into the mode that it was in.

    Args:
        modes: Of the board.
        wanted: Names; none is all that there are.
        measure: Makes the profile, the mode being in force.
        kept: Profiles of an earlier, interrupted walk: their modes are not measured again.

    Returns:
        Profiles by mode, in the order of `wanted`. A mode that needs a reboot is left out, with a warning.

    Raises:
        UsageError: The board has no such mode, or none at all.
        PowerModeError: A mode could not be set, as where only root may; what was measured before it, `measure` has. Or
            it cannot be told which mode is set: the board could not be put back.
    """
    available = tuple(mode.name for mode in modes.available())
    if not available:
        raise UsageError(f"there are no power modes to walk through: {modes.why_none}")
    unknown = [name for name in wanted if name not in available]
    if unknown:
        raise UsageError(f"no such power mode: {', '.join(unknown)}; there are {', '.join(available)}")
    now = modes.current()
    if isinstance(now, Absent):
        raise PowerModeError(f"nothing was changed, because the board could not be put back afterwards: {now.reason}")
    before = now.name
    found: dict[str, Profile] = {}
    changed = False
    try:
        for name in wanted or available:
            if kept is not None and name in kept:
                found[name] = kept[name]
                continue
            if _name(modes) != name:
                changed = True  # before it is set: Ctrl-C may come while the tool runs, or right after
                try:
                    modes.set(name)
                except RebootNeededError as error:
                    _log.warning("%s; it is left out", error)
                    continue
            found[name] = measure(name)
    finally:
        if changed and _name(modes) != before:
            try:
                modes.set(before)
            except EdgeSdkError as error:
                _log.warning("the board stays in another power mode than %s: %s", before, error)
    return found


def _name(modes: PowerModes) -> str | None:
    mode = modes.current()
    return mode.name if isinstance(mode, PowerMode) else None


def front(profiles: Mapping[str, Profile]) -> tuple[str, ...]:
    """The modes that no other beats: none is at least as fast and as frugal, and better in one of the two.

    Energy is gross, because in a slower mode idle power is paid for longer. Modes without an energy are left out.
    """
    points = {
        name: (profile.latency.percentiles_ms["p50"], profile.energy.gross_mj.value)
        for name, profile in profiles.items()
        if profile.energy is not None and profile.energy.gross_mj is not None
    }
    return tuple(
        name
        for name, (ms, mj) in points.items()
        if not any(
            other_ms <= ms and other_mj <= mj and (other_ms, other_mj) != (ms, mj)
            for other_ms, other_mj in points.values()
        )
    )
