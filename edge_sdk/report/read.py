"""Profiles as files: written whole, and read as what they are, text that anybody may have written.

What a key must hold is read off the dataclasses in `edge_sdk.measure.record`: see `edge_sdk.report.typed`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.errors import ProfileError
from edge_sdk.files import replacing
from edge_sdk.measure.record import SCHEMA, ChannelTrack, ConditionTrack, Figure, Profile, Throttle, Window
from edge_sdk.report import typed

MOST_BYTES = 100 * 2**20
"""What a profile file may have: a run of 10 minutes at 50 Hz has some 5 MB."""

SCHEMA_FILE = Path(__file__).with_name("profile.schema.json")
"""JSON Schema (draft 2020-12) of what `write_profile` writes."""


def write_profile(profile: Profile, path: Path) -> None:
    """Writes a profile as JSON, whole or not at all.

    Raises:
        SinkError: It cannot be written.
        ValueError: It holds a number that is none, which JSON has no word for.
    """
    text = json.dumps(profile.record(), allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def read_profile(path: Path) -> Profile:
    """Reads a profile that `write_profile`, or ``edge-sdk profile --json``, wrote.

    Raises:
        ProfileError: It cannot be read, is too large, or is no profile of a version that this one reads; says which key
            is wrong.
    """
    try:
        return parse_profile(typed.bytes_of(path, MOST_BYTES, "profile"))
    except (typed.FormError, ProfileError) as error:
        raise ProfileError(f"{path}: {error}") from error


def parse_profile(data: bytes | str) -> Profile:
    """A profile out of its JSON.

    Raises:
        ProfileError: As of `read_profile`.
    """
    try:
        profile = typed.made(Profile, typed.table_of(data, SCHEMA, "profile"), "profile")
    except typed.FormError as error:
        raise ProfileError(str(error)) from error
    _check(profile)
    return profile


def _check(profile: Profile) -> None:
    """What the types do not say."""
    for place, track in enumerate(profile.channels):
        _check_track(f"channels[{place}]", track, track.power_w, "power_w")
    for place, condition in enumerate(profile.conditions):
        _check_track(f"conditions[{place}]", condition, condition.values, "values")
    stretches: list[tuple[str, Throttle | Window]] = [
        (f"throttling[{i}]", one) for i, one in enumerate(profile.throttling)
    ]
    energy = profile.energy
    if energy is not None:
        stretches += [(f"energy.windows[{place}]", window) for place, window in enumerate(energy.windows)]
        for name in ("idle_w", "work_w", "gross_mj", "net_mj"):
            figure: Figure | None = getattr(energy, name)
            if figure is not None and not figure.low <= figure.value <= figure.high:
                raise ProfileError(f"energy.{name}: its value is not between low and high")
        if energy.rejected and (energy.gross_mj is not None or energy.net_mj is not None):
            raise ProfileError(
                "energy.rejected: a run that is rejected gives no energy per inference, and this one has some"
            )
    for at, stretch in stretches:
        if not stretch.start_s <= stretch.end_s:
            raise ProfileError(f"{at}: it ends before it starts")
    if any(one < 0 for one in profile.latency.times_ms):
        raise ProfileError("latency.times_ms: a time is negative")
    if profile.seconds < 0:
        raise ProfileError("seconds: the run has a negative length")


def _check_track(at: str, track: ChannelTrack | ConditionTrack, values: Sequence[float | None], name: str) -> None:
    if len(track.at_s) != len(values):
        raise ProfileError(f"{at}: {len(track.at_s)} times in at_s, but {len(values)} values in {name}")
    if any(later < earlier for earlier, later in zip(track.at_s, track.at_s[1:], strict=False)):
        raise ProfileError(f"{at}.at_s: the times do not rise")
