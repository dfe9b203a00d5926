"""Our own rows: what the planner left in a folder, read from its report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finished:
    """A file that is done and waits for its row.

    Args:
        name: Short.
        title: For people.
        path: Of the file.
        seconds: Wall time of planning it; None where it is not known.
    """

    name: str
    title: str
    path: Path
    seconds: float | None


def finished(folder: Path) -> tuple[str, list[Finished]]:
    """The planner's files in a folder: its pick, and every other file of the front that it kept.

    Args:
        folder: What ``edge-sdk calibrate --out`` wrote: report.json, and model files, which are told by the sha256 of
            the report's candidates and by nothing else, so that a stale file is never taken for a candidate.

    Returns:
        Name of the model that was planned, and the files, the pick first.

    Raises:
        FileNotFoundError: There is no report, or the pick's file is not there.
    """
    import hashlib

    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    by_hash = {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in sorted(folder.rglob("*.onnx"))}
    seconds = sum(report["seconds"].values()) if report.get("seconds") else None
    pick = report["pick"]["name"]
    found: list[Finished] = []
    for one in _candidates(report):
        file = by_hash.get(one["sha256"])
        picked = one["name"] == pick
        if file is None:
            if picked:
                raise FileNotFoundError(f"{folder}: the file of the pick {pick!r} is not there")
            continue
        if picked or one["kind"] == "hybrid":
            title = f"ours, {'the pick: ' if picked else ''}{one['name']}"
            found.append(Finished(f"ours-{one['name'].replace(' ', '-')}", title, file, seconds))
    return str(report["model"]), sorted(found, key=lambda row: "the pick" not in row.title)


def _candidates(report: dict[str, Any]) -> list[dict[str, Any]]:
    return list(report["candidates"])
