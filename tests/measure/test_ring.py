"""A ring file outlives the process that writes it, and a damaged one harms nobody."""

from __future__ import annotations

import json
import math
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.errors import SensorError, SinkError, UsageError
from edge_sdk.measure.ring import MAGIC, NO_REASON, Ring, header, read
from edge_sdk.sensors.base import Channel
from edge_sdk.testing.fake_sensor import FakeSensor

THREE = (
    Channel("VDD_IN", "power", "sensor_total", True, 0.04, "carrier losses"),
    Channel("VDD_CPU_GPU_CV", "power", "sensor_total", False),
    Channel("package-0", "energy", "counter", False),
)


def sensors() -> list[FakeSensor]:
    return [
        FakeSensor(lambda number: [1.0, 2.0, 3.0], THREE, name="ina3221 1-0040"),
        FakeSensor(lambda number: [1.0], refresh_s=1.0, name="plug"),
    ]


def written(path: Path, samples: int = 10, capacity: int = 100) -> Path:
    with Ring.create(path, sensors(), capacity) as ring:
        for number in range(samples):
            ring.append(number % 2, 1000 + number, [float(number)] * (1 if number % 2 else 3))
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    first, second = read(written(tmp_path / "ring"))
    assert (first.sensor, first.channels, first.refresh_s) == ("ina3221 1-0040", THREE, 0.02)
    assert (second.sensor, second.refresh_s) == ("plug", 1.0)
    assert first.at_ns.tolist() == [1000, 1002, 1004, 1006, 1008]
    assert first.values.tolist() == [[float(number)] * 3 for number in (0, 2, 4, 6, 8)]
    assert second.values.tolist() == [[1.0], [3.0], [5.0], [7.0], [9.0]]
    assert first.absent == {}


def test_the_newest_samples_stay(tmp_path: Path) -> None:
    first, second = read(written(tmp_path / "ring", samples=1003, capacity=10))
    assert [*first.at_ns, *second.at_ns] == [1994, 1996, 1998, 2000, 2002, 1993, 1995, 1997, 1999, 2001]


def test_no_value_stays_none_and_says_that_reasons_are_not_kept(tmp_path: Path) -> None:
    with Ring.create(tmp_path / "ring", sensors(), 10) as ring:
        ring.append(0, 5, [1.0, math.nan, 3.0])
    first, second = read(tmp_path / "ring")
    assert np.isnan(first.values[0, 1])
    assert first.absent == {"VDD_CPU_GPU_CV": NO_REASON}
    assert len(second.at_ns) == 0


def test_an_empty_ring_has_no_samples(tmp_path: Path) -> None:
    assert [len(trace.at_ns) for trace in read(written(tmp_path / "ring", samples=0))] == [0, 0]


def test_its_times_can_be_told_in_utc(tmp_path: Path) -> None:
    about = header(written(tmp_path / "ring"))
    assert time.monotonic_ns() + about.utc_less_monotonic_ns == pytest.approx(time.time_ns(), abs=60e9)


def test_the_ring_of_a_crashed_run_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    path = written(tmp_path / "ring")
    written(path, samples=0)
    assert [len(trace.at_ns) for trace in read(path)] == [0, 0]
    assert [len(trace.at_ns) for trace in read(tmp_path / "ring.previous")] == [5, 5]


def test_a_file_that_is_no_ring_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "thesis.tex"
    mine.write_text("years of work")
    with pytest.raises(SinkError, match="is no ring of samples; it was left alone"):
        written(mine)
    assert mine.read_text() == "years of work"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot be written: No such file"):
        written(tmp_path / "none" / "ring")


def test_a_disk_without_room_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(SinkError, match="cannot be written: File too large"):
            written(tmp_path / "ring", capacity=10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("capacity", [0, -1, 1 << 40])
def test_a_capacity_that_cannot_be_is_refused(capacity: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"at least 1 sample|4 GiB is the most"):
        written(tmp_path / "ring", capacity=capacity)


def test_appending_to_a_closed_ring_is_an_error_and_flushing_it_is_not(tmp_path: Path) -> None:
    ring = Ring.create(tmp_path / "ring", sensors(), 10)
    ring.flush()
    ring.close()
    ring.close()
    ring.flush()
    with pytest.raises(SinkError, match="cannot be written"):
        ring.append(0, 1, [1.0, 2.0, 3.0])


def test_a_torn_record_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    path = written(tmp_path / "ring")
    about = header(path)
    with path.open("r+b") as file:
        file.seek(about.offset + 4 * about.record_bytes + about.record_bytes // 2)
        file.write(b"\xff" * (about.record_bytes // 2))
    first, second = read(path)
    assert first.at_ns.tolist() == [1000, 1002, 1006, 1008]
    assert len(second.at_ns) == 5


def test_of_a_file_that_was_cut_short_the_rest_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "ring")
    about = header(path)
    os.truncate(path, about.offset + 3 * about.record_bytes + 5)
    assert [len(trace.at_ns) for trace in read(path)] == [2, 1]


SAMPLES_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from edge_sdk.measure.sampler import Sampler
from edge_sdk.testing.fake_sensor import FakeSensor
sensors = [FakeSensor(lambda number: [float(number)], refresh_s=0.001, name=name) for name in ("a", "b")]
sampler = Sampler(sensors, max_hz=500, ring=Path(sys.argv[1]))
sampler.start()
while len(sampler.traces()[0].at_ns) < 50:
    time.sleep(0.01)
print("ready", flush=True)
while True:
    time.sleep(0.01)
    print(len(sampler.traces()[0].at_ns), flush=True)
"""


def test_samples_survive_the_killing_of_the_process_that_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    child = subprocess.Popen([sys.executable, "-c", SAMPLES_UNTIL_KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    for _ in range(10):
        known = int(child.stdout.readline())
    child.kill()
    rest = child.stdout.read().split()
    assert child.wait() == -signal.SIGKILL
    for trace in read(path):
        numbers = trace.values[:, 0]
        assert (numbers == np.arange(len(numbers))).all(), "a sample was lost or came twice"
        assert (np.diff(trace.at_ns) > 0).all()
    first = read(path)[0]
    whole = [int(line) for line in rest[:-1]]  # the last may be half a line
    assert len(first.at_ns) >= max([known, *whole])


def checked(path: Path) -> None:
    """Whatever the file holds, it is an error with the file's name, or traces that hold together."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    traces, said = (), str(path)
    try:
        traces = read(path)
    except SensorError as error:
        said = str(error)
    assert said.startswith(str(path))
    assert len(said) < 1000
    for trace in traces:
        assert trace.values.shape == (len(trace.at_ns), len(trace.channels))
        assert (np.diff(trace.at_ns.astype(object)) > 0).all()
        assert not np.isinf(trace.values).any()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # KiB


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(seed=st.integers(0, 2**32), flips=st.integers(1, 30), everywhere=st.booleans())
def test_flipped_bits_harm_nobody(tmp_path: Path, seed: int, flips: int, everywhere: bool) -> None:
    path = tmp_path / "flipped"
    path.unlink(missing_ok=True)
    content = bytearray(written(path, capacity=20).read_bytes())
    chance = random.Random(seed)  # noqa: S311  a case that can be had again
    for _ in range(flips):
        content[chance.randrange(len(content) if everywhere else 64)] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    checked(path)


@FUZZ
@given(st.data())
def test_a_flipped_bit_never_gives_a_wrong_sample(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "flipped"
    path.unlink(missing_ok=True)
    content = bytearray(written(path, capacity=20).read_bytes())
    start = header(path).offset
    content[data.draw(st.integers(start, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    for index, trace in enumerate(read(path)):
        for at_ns, row in zip(trace.at_ns, trace.values, strict=True):
            assert at_ns % 2 == index
            assert (row == at_ns - 1000).all()


@FUZZ
@given(length=st.integers(0, 3000), garbage=st.binary(max_size=200))
def test_cut_and_prolonged_files_harm_nobody(tmp_path: Path, length: int, garbage: bytes) -> None:
    path = tmp_path / "cut"
    path.unlink(missing_ok=True)
    content = written(path, capacity=20).read_bytes()
    path.write_bytes(content[:length] + garbage)
    checked(path)


@FUZZ
@given(st.binary(max_size=3000))
def test_garbage_harms_nobody(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(content)
    checked(path)
    path.write_bytes(MAGIC + content)
    checked(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def forged(path: Path, described: object) -> Path:
    """A file whose checksums are right and whose header is not."""
    text = json.dumps(described).encode()
    path.write_bytes(struct.pack("<8sIII", MAGIC, 1, len(text), zlib.crc32(text)) + text + bytes(500))
    return path


@FUZZ
@given(st.data())
def test_a_header_with_the_right_checksum_and_the_wrong_content_harms_nobody(
    tmp_path: Path, data: st.DataObject
) -> None:
    channel = {"name": "b", "quantity": "power", "method": "counter", "in_total": True, "step": None, "missing": None}
    sensor = {"name": "a", "refresh_s": 1.0, "channels": [channel]}
    described: dict[str, object] = {"capacity": 3, "utc_less_monotonic_ns": 0, "sensors": [sensor]}
    places: list[dict[str, object]] = [described, sensor, channel]
    place = data.draw(st.sampled_from(places))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    checked(forged(tmp_path / "forged", described))
    checked(forged(tmp_path / "forged", data.draw(JSON)))


@pytest.mark.parametrize("capacity", [10**9, 10**18, 10**40])
def test_an_absurd_capacity_allocates_nothing(capacity: int, tmp_path: Path) -> None:
    path = forged(tmp_path / "forged", {"capacity": capacity, "utc_less_monotonic_ns": 0, "sensors": []})
    with pytest.raises(SensorError, match="are too many"):
        read(path)


def test_a_number_too_large_for_any_is_a_damaged_header(tmp_path: Path) -> None:
    sensor = {"name": "a", "refresh_s": 10**400, "channels": []}
    path = forged(tmp_path / "forged", {"capacity": 1, "utc_less_monotonic_ns": 0, "sensors": [sensor]})
    with pytest.raises(SensorError, match="its header is damaged"):
        read(path)


def test_an_absurd_header_length_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    path.write_bytes(struct.pack("<8sIII", MAGIC, 1, 0xFFFFFFFF, 0) + bytes(100))
    with pytest.raises(SensorError, match="its header is damaged: 4294967295 bytes long"):
        read(path)


def test_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    path.write_bytes(struct.pack("<8sIII", MAGIC, 7, 2, 0) + b"{}")
    with pytest.raises(SensorError, match="a ring of version 7; this version reads 1"):
        read(path)


def test_a_pipe_and_a_folder_and_nothing_are_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "", "none"):
        with pytest.raises(SensorError, match=r"cannot be read|is no ring of samples"):
            read(tmp_path / name)
        with pytest.raises(SensorError, match=r"cannot be read|is no ring of samples"):
            header(tmp_path / name)
