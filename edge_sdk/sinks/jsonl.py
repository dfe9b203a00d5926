"""Results as JSON: one object a frame, one frame a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from edge_sdk.errors import SinkError, one_line
from edge_sdk.models.labels import name_of
from edge_sdk.result import Reading, Result
from edge_sdk.sinks.base import Sink


def as_record(result: Result, class_names: Sequence[str]) -> dict[str, Any]:
    """A result as plain values: what ``edge-sdk detect --json`` prints for each frame.

    Keys: frame, source, captured_ns, detections (xyxy in source pixels, confidence, class_id, class_name, track_id,
    and landmarks where the model has them), timing in milliseconds, power as a `Reading`, or null
    where no sensor is read, counts of zones and lines.
    """
    detections = []
    for found in result.detections:
        record: dict[str, Any] = {
            "xyxy": [round(value, 2) for value in found.xyxy],
            "confidence": round(found.confidence, 4),
            "class_id": found.class_id,
            "class_name": name_of(class_names, found.class_id),
            "track_id": found.track_id,
        }
        if found.landmarks is not None:
            record["landmarks"] = [[round(x, 2), round(y, 2)] for x, y in found.landmarks]
        detections.append(record)
    return {
        "frame": result.frame.id,
        "source": result.frame.source,
        "captured_ns": result.frame.captured_ns,
        "detections": detections,
        "timing": {name: round(value, 3) for name, value in asdict(result.timing).items()},
        "power": None if result.power is None else _power(result.power),
        "counts": dict(result.counts),
    }


def _power(reading: Reading) -> dict[str, Any]:
    return {**asdict(reading), "value": None if reading.value is None else round(reading.value, 3)}


class JsonlSink(Sink):
    """Writes one JSON object a line; each line is flushed, so that a cut-off run loses none.

    Args:
        path: The file, or ``-`` for standard output. An existing file is replaced.
        class_names: Names by class id.
    """

    complete = True

    def __init__(self, path: str | Path, class_names: Sequence[str]) -> None:
        self.name = f"jsonl:{path}"
        self.is_output = str(path) == "-"
        self._names = class_names
        self._stack = ExitStack()
        self._file: IO[str]
        if str(path) == "-":
            self._file = sys.stdout
            return
        try:
            self._file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115  close() closes it
        except OSError as error:
            raise SinkError(f"{path}: cannot be written: {error.strerror or one_line(error)}") from error
        self._stack.callback(self._file.close)

    def put(self, result: Result) -> None:
        with _as_sink_errors():
            self._file.write(json.dumps(as_record(result, self._names)) + "\n")
            self._file.flush()

    def close(self) -> None:
        with _as_sink_errors():
            self._stack.close()


@contextmanager
def _as_sink_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read standard output has gone: the command ends quietly
    except (OSError, ValueError) as error:  # ValueError: the file is closed
        reason = getattr(error, "strerror", None) or one_line(error)
        raise SinkError(f"results cannot be written: {reason}") from error
