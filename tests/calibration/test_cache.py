"""The cache: what was computed is found again, whoever is killed, and what is damaged is never trusted."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.calibration.cache import Cache
from edge_sdk.errors import EdgeSdkError, SinkError, UsageError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip

# A planner in small: 40 probes and 8 artefacts, each noted in a trace before it is made and once it is kept.
WORKER = """
import hashlib, json, os, sys, time
from edge_sdk.calibration.cache import Cache

folder, trace = sys.argv[1:]
notes = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

def note(*words):
    os.write(notes, (" ".join(map(str, words)) + "\\n").encode())

def make(number):
    note("make", number)
    time.sleep(0.008)
    return {"score": number / 7, "boxes": [number * 0.1] * 3, "mask": "01" * 120}

def content(number):
    note("make", "file", number)
    return hashlib.sha256(str(number).encode()).digest() * 5000

cache = Cache(folder)
print("ready", flush=True)
results = []
for number in range(40):
    results.append(cache.get_or(Cache.key({"probe": number}), lambda: make(number)))
    note("kept", number)
    if number % 5 == 0:
        data = cache.get_bytes_or(Cache.key({"file": number}), lambda: content(number))
        results.append(hashlib.sha256(data).hexdigest())
        note("kept", "file", number)
print(json.dumps(results), flush=True)
"""


def key(name: str) -> str:
    return Cache.key({"name": name})


def refuse() -> object:
    raise AssertionError("it was made again")


def start(folder: Path, trace: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), str(trace)], stdout=subprocess.PIPE, text=True
    )  # fmt: skip


def finish(worker: subprocess.Popen[str]) -> str:
    out, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0
    return out.splitlines()[-1]


def test_a_value_is_made_once_and_found_by_another_process_later(tmp_path: Path) -> None:
    made = Cache(tmp_path).get_or(key("a"), lambda: {"snr_db": 7.4, "pair": (1, 2)})
    assert made == {"snr_db": 7.4, "pair": [1, 2]}
    assert Cache(tmp_path).get_or(key("a"), refuse) == made


@given(value=PLAIN)
def test_any_plain_value_comes_back_as_it_was(value: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("values")
    assert Cache(folder).put(key("v"), value) == value
    assert Cache(folder).get(key("v"), default="nothing") == value


def test_what_is_not_finite_comes_back_too(tmp_path: Path) -> None:
    Cache(tmp_path).put(key("a"), [math.inf, -math.inf, math.nan])
    up, down, none = Cache(tmp_path).get(key("a"))
    assert (up, down) == (math.inf, -math.inf)
    assert math.isnan(none)


def test_none_is_a_value_like_any_other(tmp_path: Path) -> None:
    Cache(tmp_path).put(key("a"), None)
    assert Cache(tmp_path).get_or(key("a"), refuse) is None
    assert Cache(tmp_path).get(key("b"), default=3) == 3


def test_the_order_of_a_keys_inputs_does_not_matter_and_their_values_do() -> None:
    assert Cache.key({"a": 1, "b": [True, None]}) == Cache.key({"b": [True, None], "a": 1})
    keys = {Cache.key({"mask": mask, "model": model}) for mask in ([0, 1], [1, 0], "01") for model in ("x", "y")}
    assert len(keys) == 6


@pytest.mark.parametrize("wrong", [{"a": {1, 2}}, {"a": math.nan}, {"a": object()}, {("a",): 1}])
def test_a_key_of_anything_but_plain_values_is_refused(wrong: dict[object, object]) -> None:
    with pytest.raises(UsageError, match="plain values"):
        Cache.key(wrong)  # type: ignore[arg-type]


def test_what_is_no_key_or_no_plain_value_is_refused(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for wrong in ("", "../../etc/passwd", "A" * 64):
        with pytest.raises(UsageError, match="no cache key"):
            cache.get(wrong)
        with pytest.raises(UsageError, match="no cache key"):
            cache.put_bytes(wrong, b"")
    with pytest.raises(UsageError, match="must be plain"):
        cache.put(key("a"), object())
    assert cache.size().probes == 0


def test_a_probe_that_raises_keeps_nothing_and_its_error_comes_through(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(ZeroDivisionError):
        cache.get_or(key("a"), lambda: 1 / 0)
    assert cache.get_or(key("a"), lambda: 5) == 5


def test_a_caller_that_changes_a_value_changes_only_its_own(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(key("a"), [1, 2])
    cache.get(key("a")).append(3)
    assert cache.get(key("a")) == [1, 2]


def test_of_two_that_made_the_same_value_both_get_the_first_ones(tmp_path: Path) -> None:
    one, other = Cache(tmp_path), Cache(tmp_path)

    def slow() -> str:
        one.put(key("a"), "first")
        return "second"

    assert other.get_or(key("a"), slow) == "first"
    assert Cache(tmp_path).get(key("a")) == "first"


def test_what_another_process_adds_is_seen_without_opening_again(tmp_path: Path) -> None:
    one, other = Cache(tmp_path), Cache(tmp_path)
    assert one.get(key("a")) is None
    other.put(key("a"), 1)
    assert one.get(key("a")) == 1


@pytest.mark.parametrize("torn", [b'{"key":"', b'{"key":"ab","crc":"00000000","value":1}', b"\xff\xfe"])
def test_a_torn_last_line_harms_nothing_before_or_after_it(tmp_path: Path, torn: bytes) -> None:
    Cache(tmp_path).put(key("before"), 1)
    with (tmp_path / "probes.jsonl").open("ab") as log:
        log.write(torn)
    cache = Cache(tmp_path)
    assert cache.get_or(key("before"), refuse) == 1
    cache.put(key("after"), 2)
    again = Cache(tmp_path)
    assert [again.get(key(name)) for name in ("before", "after")] == [1, 2]
    assert again.size().probes == 2


def test_cutting_the_log_anywhere_loses_at_most_what_was_cut(tmp_path: Path) -> None:
    for number in range(5):
        Cache(tmp_path).put(key(str(number)), {"number": number})
    log = tmp_path / "probes.jsonl"
    whole = log.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(0, len(whole), 7):
        log.write_bytes(whole[:length])
        cache = Cache(tmp_path)
        finished = sum(end < length for end in ends[1:])
        assert [cache.get(key(str(number))) is not None for number in range(5)] == [n < finished for n in range(5)]


def test_a_changed_byte_in_the_log_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Cache(tmp_path).put(key("a"), {"map": 0.2989})
    log = tmp_path / "probes.jsonl"
    log.write_bytes(log.read_bytes().replace(b"0.2989", b"0.3989"))
    with caplog.at_level(logging.WARNING):
        assert Cache(tmp_path).get(key("a")) is None
    assert "damaged line" in caplog.text


@pytest.mark.parametrize("damage", [
    lambda data: data[:-1], lambda data: data + b"x", lambda data: b"", lambda data: data[:20],
    lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
])  # fmt: skip
def test_a_damaged_artefact_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    content = b"weights\n" * 1000
    cache = Cache(tmp_path)
    cache.put_bytes(key("a"), content)
    assert cache.get_bytes(key("a")) == content
    (path,) = (tmp_path / "artefacts").glob("*/*")
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert cache.get_bytes(key("a")) is None
    assert "damaged" in caplog.text
    assert cache.get_bytes_or(key("a"), lambda: content) == content
    assert Cache(tmp_path).get_bytes(key("a")) == content


def test_killed_at_random_moments_it_repeats_no_finished_probe(tmp_path: Path) -> None:
    clean = finish(start(tmp_path / "clean", tmp_path / "clean.txt"))
    folder, trace = tmp_path / "killed", tmp_path / "killed.txt"
    moments = np.random.default_rng(20261121)
    unfinished = 0
    for _ in range(10):
        worker = start(folder, trace)
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.04))
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        unfinished += trace.read_text().count("kept") < 48 if trace.exists() else 1
    assert unfinished >= 4, "too late for most kills to hit anything"
    assert finish(start(folder, trace)) == clean
    kept: set[str] = set()
    made: dict[str, int] = {}
    for line in trace.read_text().splitlines():
        word, _, what = line.partition(" ")
        if word == "kept":
            kept.add(what)
        else:
            assert what not in kept, f"probe {what} was made again after it was kept"
            made[what] = made.get(what, 0) + 1
    assert len(kept) == 48
    assert sum(made.values()) <= 48 + 10, "each kill costs one probe at most"


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    workers = [start(tmp_path / "cache", tmp_path / f"{number}.txt") for number in range(4)]
    results = {finish(worker) for worker in workers}
    assert len(results) == 1
    _, *lines = (tmp_path / "cache/probes.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["key"] for line in lines) == sorted(Cache.key({"probe": n}) for n in range(40))


def test_threads_may_share_a_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def work() -> None:
        for number in range(30):
            assert cache.get_or(key(str(number)), lambda number=number: number) == number  # type: ignore[misc]

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Cache(tmp_path).size().probes == 30


def test_size_counts_what_is_there_and_clear_takes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    cache, other = Cache(tmp_path), Cache(tmp_path)
    cache.put(key("a"), 1)
    cache.put_bytes(key("b"), b"x" * 1000)
    assert other.get(key("a")) == 1
    size = cache.size()
    assert (size.probes, size.artefacts) == (1, 1)
    (artefact,) = (tmp_path / "artefacts").glob("*/*")
    assert size.bytes == (tmp_path / "probes.jsonl").stat().st_size + artefact.stat().st_size > 1000
    assert cache.clear() == size.bytes
    assert (tmp_path / "holiday.jpg").read_bytes() == b"mine"
    assert (Cache(tmp_path).get(key("a")), other.get_bytes(key("b"))) == (None, None)
    # What is in another's memory stays true, and what it puts from now on is kept again.
    assert other.get(key("a")) == 1
    other.put(key("c"), 3)
    assert other.put(key("a"), 2) == 2
    assert [Cache(tmp_path).get(key(name)) for name in "ac"] == [2, 3]
    assert cache.get(key("c")) == 3


def test_a_log_that_was_cleared_and_grew_longer_is_read_from_its_beginning(tmp_path: Path) -> None:
    reader, writer = Cache(tmp_path), Cache(tmp_path)
    writer.put(key("a"), 1)
    assert reader.get(key("a")) == 1
    writer.clear()
    for number in range(5):
        writer.put(key(str(number)), "x" * (50 + number))
    assert [reader.get(key(str(number))) for number in range(5)] == ["x" * (50 + number) for number in range(5)]


def test_what_a_killed_process_left_half_written_is_swept_later(tmp_path: Path) -> None:
    Cache(tmp_path).put_bytes(key("a"), b"x")
    (path,) = (tmp_path / "artefacts").glob("*/*")
    old, new = path.with_name(".old-1234"), path.with_name(".new-1234")
    for left in (old, new):
        left.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache = Cache(tmp_path)
    assert not old.exists()
    assert new.exists(), "another process may be writing it"
    assert cache.size().artefacts == 1


def test_by_default_it_lies_beside_the_fetched_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_SDK_CACHE", str(tmp_path))
    assert Cache().folder == tmp_path / "calibration"


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SinkError, match="no cache can be made here"):
        Cache(tmp_path / "file" / "cache")


def test_a_full_disk_is_a_clear_error_and_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    """In a process whose files may be no longer than 8 KiB."""
    code = (
        "import resource, signal, sys\n"
        "from edge_sdk.calibration.cache import Cache\nfrom edge_sdk.errors import SinkError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        "cache = Cache(sys.argv[1])\ncache.put(Cache.key({'a': 1}), 'x' * 4000)\n"
        "for act in (lambda: cache.put(Cache.key({'a': 2}), 'x' * 9000),\n"
        "            lambda: cache.put_bytes(Cache.key({'a': 3}), b'x' * 9000)):\n"
        "    try:\n        act()\n    except SinkError as error:\n        print(error)\n"
        "cache.put(Cache.key({'a': 4}), 4)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.count("cannot be written") == 2, ran.stdout
    cache = Cache(tmp_path)
    assert [cache.get(Cache.key({"a": number})) for number in (1, 2, 4)] == ["x" * 4000, None, 4]
    assert cache.size().artefacts == 0
    assert b"\n\n" not in (tmp_path / "probes.jsonl").read_bytes()


def test_every_error_is_the_sdks(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (tmp_path / "probes.jsonl").mkdir()
    for act in (lambda: cache.get(key("a")), lambda: cache.put(key("a"), 1)):
        with pytest.raises(EdgeSdkError):
            act()
