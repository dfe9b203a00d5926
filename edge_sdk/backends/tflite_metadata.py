"""What exporters append to a .tflite file as a zip archive: metadata, and label lists."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path

from edge_sdk.literals import parse_literal

# The archive comes from outside: these keep a hostile one from filling the memory or the day.
_MAX_MEMBER_BYTES = 1 << 20
_MAX_MEMBERS = 16
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_metadata(model: Path) -> dict[str, str]:
    """The metadata in the zip archive at the end of a .tflite file, as texts by name.

    Members that end with ``.json`` or ``meta.txt`` are objects (JSON, or the Python literal that Ultralytics writes);
    the first other ``.txt`` is a list of labels, one a line, and becomes ``names`` where no object has it.

    Returns:
        An empty mapping where there is no archive, or a damaged one: the model runs without it.
    """
    stated: dict[str, str] = {}
    labels: dict[str, str] = {}
    try:
        with zipfile.ZipFile(model) as archive:
            texts = [member for member in archive.infolist() if member.filename.endswith((".json", ".txt"))]
            for member in texts[:_MAX_MEMBERS]:
                if member.file_size > _MAX_MEMBER_BYTES or member.compress_type not in _METHODS:
                    continue
                with archive.open(member) as file:
                    # No more than asked for is inflated, whatever the stated size leaves out.
                    text = file.read(_MAX_MEMBER_BYTES).decode("utf-8", errors="replace")
                if member.filename.endswith((".json", "meta.txt")):
                    stated.update(_as_mapping(text))
                elif not labels:
                    names = [line.strip() for line in text.split("\n")]
                    labels["names"] = json.dumps([name for name in names if name])
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, RuntimeError):
        return {}
    return {**labels, **stated}


def _as_mapping(text: str) -> dict[str, str]:
    value = parse_literal(text)
    if not isinstance(value, dict):
        return {}
    return {str(key): item if isinstance(item, str) else json.dumps(item, default=str) for key, item in value.items()}
