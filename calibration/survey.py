"""Every picture of a source looked at once, and those set aside that are broken, absurd or there twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.calibration import photos as pictures
from edge_sdk.calibration.likeness import Likeness, groups, leaders
from edge_sdk.calibration.photos import Found, LeftOut, Look, Progress
from edge_sdk.errors import BadFrameError, SourceError
from edge_sdk.models.card import ModelCard


@dataclass(frozen=True, eq=False)
class Survey:
    """All pictures that were looked at, and which of them can be used.

    Args:
        looks: Of photos in natural order, then of the frames of each clip.
        kept: Numbers of those that can be used; no two of them are nearly the same.
        groups: Of those kept: the number of the scene or clip.
        left_out: What takes no part, and why.
        frames: Of all clips.
    """

    looks: list[Look]
    kept: list[int]
    groups: list[int]
    left_out: list[LeftOut]
    frames: int


def look_through_source(found: Found, card: ModelCard, tell: Progress) -> Survey:
    """Looks at every picture once, and leaves out what is broken, absurd or there twice."""
    looks, left_out = _photos(found, card, tell)
    together = list(range(len(looks)))  # each photo a group of its own, each clip one
    frames = 0
    least = max(8, min(pictures.FRAMES, pictures.LARGEST_LOOK // (2 * max(1, len(found.clips)))))
    for number, clip in enumerate(found.clips, 1):
        shown = found.shown(clip)
        try:
            seen = pictures.look_through(clip, least)
        except SourceError as error:
            left_out.append(LeftOut(shown, "broken", _without_path(error, clip)))
            continue
        frames += seen.frames
        if seen.damaged:
            left_out.append(LeftOut(shown, "broken", "frames that could not be decoded", seen.damaged))
        bad = [look for look in seen.looks if pictures.absurd(look, card) is not None]
        if bad:
            why = pictures.absurd(bad[0], card) or ""
            left_out.append(LeftOut(shown, "absurd", f"frames such as {bad[0].index}: {why}", len(bad)))
        looks += [look for look in seen.looks if look not in bad]
        together += [-number] * (len(seen.looks) - len(bad))
        tell("look through the clips", number, len(found.clips))
    likeness = Likeness(looks)
    leader = leaders(likeness)
    left_out += _near_duplicates(found, looks, leader)
    kept = [one for one, first in enumerate(leader) if one == first]
    grouped = groups(likeness, together)
    return Survey(looks, kept, [grouped[one] for one in kept], left_out, frames)


def _photos(found: Found, card: ModelCard, tell: Progress) -> tuple[list[Look], list[LeftOut]]:
    looks: list[Look] = []
    left_out: list[LeftOut] = []
    first: dict[str, Path] = {}
    listed = pictures.even_sample(found.photos, pictures.LARGEST_LOOK)
    for number, path in enumerate(listed, 1):
        shown = found.shown(path)
        try:
            look = pictures.look_at_photo(path)
        except BadFrameError as error:
            left_out.append(LeftOut(shown, "broken", _without_path(error, path)))
        else:
            why = pictures.absurd(look, card)
            if look.sha256 in first:
                same = found.shown(first[look.sha256])
                left_out.append(LeftOut(shown, "duplicate", f"the same file as {same}"))
            elif why is not None:
                left_out.append(LeftOut(shown, "absurd", why))
            else:
                looks.append(look)
            first.setdefault(look.sha256, path)
        tell("look at the photos", number, len(listed))
    return looks, left_out


def _without_path(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _near_duplicates(found: Found, looks: Sequence[Look], leader: Sequence[int]) -> list[LeftOut]:
    """A line for each photo, and one for all such frames of a clip."""
    left_out: list[LeftOut] = []
    frames: dict[Path, int] = {}
    for one, first in enumerate(leader):
        if one == first:
            continue
        look = looks[one]
        if look.index is None:
            why = f"nearly the same picture as {found.shown(looks[first].path)}"
            left_out.append(LeftOut(found.shown(look.path), "near-duplicate", why))
        else:
            frames[look.path] = frames.get(look.path, 0) + 1
    return left_out + [
        LeftOut(found.shown(clip), "near-duplicate", "frames in which nothing new is seen", many)
        for clip, many in frames.items()
    ]
