"""A file that keeps the newest samples, and keeps them through a crash of the process that writes it.

A header (magic, length, checksum, JSON) says what is in it; after it come `capacity` records of one size that are
written in turn. Each carries its own sequence number and checksum, so that one that was torn by a crash, or decayed,
is recognised and left out, and no counter needs to be kept. Records are written with `os.pwrite` rather than through a
mapping: what the kernel has survives the process all the same, and a full disk is an error and not the signal SIGBUS.
"""

from __future__ import annotations

import json
import math
import os
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import SensorError, SinkError, UsageError, one_line
from edge_sdk.measure.trace import Trace
from edge_sdk.result import Method
from edge_sdk.sensors.base import Channel, Sensor

MAGIC = b"EDGERING"
SCHEMA = 1
NO_REASON = "no value; the ring file keeps no reasons"

_PREFIX = struct.Struct("<8sIII")  # magic, schema, length of the JSON, its CRC-32
_RECORD = struct.Struct("<IIQq")  # CRC-32 of what follows, sensor, sequence number from 1, at_ns; then the values
_MOST_JSON = 1 << 20
_MOST_BYTES = 1 << 32
_MOST_SENSORS, _MOST_CHANNELS = 64, 256
_BLOCK = 1 << 15  # records that are looked at together


@dataclass(frozen=True)
class Header:
    """What a ring file says of itself.

    Args:
        sensors: Name, channels and refresh time of each sensor.
        capacity: Records that it holds.
        width: Values of a record: the most channels that one of the sensors has.
        utc_less_monotonic_ns: Add it to a sample's ``at_ns`` for nanoseconds since 1970, UTC; at creation.
        offset: Where the records begin, in bytes.
    """

    sensors: tuple[tuple[str, tuple[Channel, ...], float], ...]
    capacity: int
    width: int
    utc_less_monotonic_ns: int
    offset: int

    @property
    def record_bytes(self) -> int:
        """Of one record."""
        return _RECORD.size + 8 * self.width


class Ring:
    """A ring file that is being written; appending is for one thread at a time. Made by `create`."""

    def __init__(self, path: Path, header: Header, descriptor: int) -> None:
        self.path = path
        self.header = header
        self._descriptor = descriptor
        self._sequence = 0
        self._closing = threading.Lock()  # a flush in another thread must not meet a file that has taken its number

    @classmethod
    def create(cls, path: Path, sensors: Sequence[Sensor], capacity: int) -> Ring:
        """A new file with room for `capacity` samples, all sensors' together.

        A ring that is there already, perhaps of a run that crashed, is kept beside it with ``.previous`` appended to
        its name; that of the run before is gone then.

        Raises:
            SinkError: It cannot be written, the disk has no room for it, or what is there is no ring.
            UsageError: The capacity is below 1, or the file would exceed 4 GiB.
        """
        if capacity < 1:
            raise UsageError(f"a ring holds at least 1 sample, not {capacity}")
        width = max((len(sensor.channels) for sensor in sensors), default=0)
        offset_ns = time.time_ns() - time.monotonic_ns()
        described = {
            "capacity": capacity,
            "utc_less_monotonic_ns": offset_ns,
            "sensors": [
                {
                    "name": sensor.name,
                    "refresh_s": sensor.refresh_s,
                    "channels": [asdict(channel) for channel in sensor.channels],
                }
                for sensor in sensors
            ],
        }
        text = json.dumps(described).encode()
        text += b" " * (-(_PREFIX.size + len(text)) % 8)
        prefix = _PREFIX.pack(MAGIC, SCHEMA, len(text), zlib.crc32(text))
        header = Header(
            tuple((sensor.name, tuple(sensor.channels), sensor.refresh_s) for sensor in sensors),
            capacity, width, offset_ns, len(prefix) + len(text),
        )  # fmt: skip
        size = header.offset + capacity * header.record_bytes
        if size > _MOST_BYTES:
            raise UsageError(f"a ring of {capacity} samples would take {size / 2**30:.1f} GiB; 4 GiB is the most")
        try:
            _keep_previous(path)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                os.posix_fallocate(descriptor, 0, size)  # a disk that is too full says so now
                os.pwrite(descriptor, prefix + text, 0)
                os.fsync(descriptor)
            except BaseException:
                os.close(descriptor)
                path.unlink(missing_ok=True)
                raise
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            raise SinkError(f"{path}: cannot be written: {error.strerror or one_line(error)}") from error
        return cls(path, header, descriptor)

    def append(self, sensor: int, at_ns: int, values: Sequence[float] | NDArray[np.float64]) -> None:
        """Writes one sample over the oldest.

        Args:
            sensor: Its place in the order of the sensors.
            at_ns: As in `Trace`.
            values: One a channel; NaN where there is none.

        Raises:
            SinkError: It cannot be written.
        """
        header = self.header
        self._sequence += 1
        body = struct.pack(f"<IQq{len(values)}d", sensor, self._sequence, at_ns, *values)
        body += bytes(header.record_bytes - 4 - len(body))
        place = header.offset + (self._sequence - 1) % header.capacity * header.record_bytes
        try:
            os.pwrite(self._descriptor, struct.pack("<I", zlib.crc32(body)) + body, place)
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be written: {error.strerror or one_line(error)}") from error

    def flush(self) -> None:
        """Waits until the disk has what was written; from any thread.

        Raises:
            SinkError: It cannot be written.
        """
        with self._closing:
            if self._descriptor < 0:
                return
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                raise SinkError(f"{self.path}: cannot be written: {error.strerror or one_line(error)}") from error

    def close(self) -> None:
        """Closes the file; may be called twice."""
        with self._closing:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _keep_previous(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        known = os.read(descriptor, len(MAGIC)) == MAGIC
    finally:
        os.close(descriptor)
    if not known:
        raise SinkError(f"{path}: is there already and is no ring of samples; it was left alone")
    path.replace(path.with_name(f"{path.name}.previous"))


def read(path: Path) -> tuple[Trace, ...]:
    """The samples in a ring file, one trace a sensor, also of a process that crashed or is still writing.

    Records that are torn or decayed are left out; of a file that was cut short, what is there is read.

    Raises:
        SensorError: It cannot be read, or is no ring file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SensorError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from error
    try:
        header = _header(path, descriptor)
        return _traces(header, _records(header, descriptor))
    except OSError as error:
        if isinstance(error, SensorError):
            raise
        raise SensorError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from error
    finally:
        os.close(descriptor)


def header(path: Path) -> Header:
    """What a ring file says of itself.

    Raises:
        SensorError: It cannot be read, or is no ring file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _header(path, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if isinstance(error, SensorError):
            raise
        raise SensorError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from error


def _header(path: Path, descriptor: int) -> Header:
    raw = os.pread(descriptor, _PREFIX.size, 0)
    if len(raw) < _PREFIX.size or not raw.startswith(MAGIC):
        raise SensorError(f"{path}: is no ring of samples")
    _, schema, length, checksum = _PREFIX.unpack(raw)
    if schema != SCHEMA:
        raise SensorError(f"{path}: a ring of version {schema}; this version reads {SCHEMA}")
    if length > _MOST_JSON:
        raise SensorError(f"{path}: its header is damaged: {length} bytes long")
    text = os.pread(descriptor, length, _PREFIX.size)
    if len(text) < length or zlib.crc32(text) != checksum:
        raise SensorError(f"{path}: its header is damaged")
    try:
        return _parse(json.loads(text), _PREFIX.size + length)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise SensorError(f"{path}: its header is damaged: {one_line(error)[:200]}") from error


def _parse(described: Any, offset: int) -> Header:
    sensors = tuple(
        (_text(one["name"]), tuple(_channel(channel) for channel in _list(one["channels"], _MOST_CHANNELS)),
         _seconds(one["refresh_s"]))
        for one in _list(described["sensors"], _MOST_SENSORS)
    )  # fmt: skip
    capacity, utc = described["capacity"], described["utc_less_monotonic_ns"]
    if type(capacity) is not int or type(utc) is not int or capacity < 1 or abs(utc) >= 1 << 63:
        raise ValueError("no whole number where one must be")
    width = max((len(channels) for _, channels, _ in sensors), default=0)
    found = Header(sensors, capacity, width, utc, offset)
    if offset + capacity * found.record_bytes > _MOST_BYTES:
        raise ValueError(f"{capacity} samples are too many")
    return found


def _channel(one: Any) -> Channel:
    step, missing = one["step"], one["missing"]
    if one["quantity"] not in ("power", "energy") or one["method"] not in get_args(Method):
        raise ValueError("no such quantity or method")
    return Channel(
        _text(one["name"]), one["quantity"], one["method"], bool(one["in_total"]),
        None if step is None else _seconds(step), None if missing is None else _text(missing),
    )  # fmt: skip


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text where one must be")
    return value


def _list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise TypeError(f"no list of at most {most} where one must be")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError("no number where one must be")
    return float(value)


def _records(header: Header, descriptor: int) -> NDArray[Any]:
    """The records that are whole, by sequence number."""
    layout = np.dtype(
        [("crc", "<u4"), ("sensor", "<u4"), ("sequence", "<u8"), ("at_ns", "<i8"), ("values", "<f8", (header.width,))]
    )
    step, kept = _BLOCK * header.record_bytes, []
    for start in range(0, header.capacity * header.record_bytes, step):
        length = min(step, header.capacity * header.record_bytes - start)
        raw = os.pread(descriptor, length, header.offset + start)
        whole = len(raw) // header.record_bytes
        records = np.frombuffer(raw[: whole * header.record_bytes], layout)
        used = np.flatnonzero((records["sequence"] > 0) & (records["sensor"] < len(header.sensors)))
        view = memoryview(raw)
        good = [
            index
            for index in used.tolist()
            if zlib.crc32(view[index * layout.itemsize + 4 : (index + 1) * layout.itemsize]) == records["crc"][index]
        ]
        kept.append(records[good])
        if len(raw) < length:
            break
    records = np.concatenate(kept)
    ordered: NDArray[Any] = records[np.argsort(records["sequence"], kind="stable")]
    return ordered


def _traces(header: Header, records: NDArray[Any]) -> tuple[Trace, ...]:
    traces = []
    for index, (name, channels, refresh_s) in enumerate(header.sensors):
        mine = records[records["sensor"] == index]
        at_ns = mine["at_ns"].astype(np.int64)
        if len(at_ns) > 1:  # nothing that this module writes, but a trace's times rise
            rising = np.concatenate(([True], at_ns[1:] > np.maximum.accumulate(at_ns)[:-1]))
            mine, at_ns = mine[rising], at_ns[rising]
        values = mine["values"][:, : len(channels)].astype(np.float64)
        values[np.isinf(values)] = np.nan
        absent = {
            channel.name: NO_REASON for column, channel in enumerate(channels) if np.isnan(values[:, column]).any()
        }
        traces.append(Trace(name, channels, refresh_s, at_ns, values, absent))
    return tuple(traces)
