"""Who times files for the planner: this machine, a board over SSH, or a profile that was recorded once.

All of them time files in turns (`edge_sdk.measure.turns`) against one of them, because only a ratio of the same run
means much on a machine that is not idle.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk import targets
from edge_sdk.backends.base import Array, Layer, Session, count_of, named
from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.outcome import Origin, Timed
from edge_sdk.calibration.timing_record import SCHEMA, layers_from, read_record, row_of, rows_of, timed_from
from edge_sdk.conditions.environment import cpu_name
from edge_sdk.device import system_root, this_device
from edge_sdk.errors import BackendError, ModelError, UsageError, one_line
from edge_sdk.files import replacing
from edge_sdk.measure.turns import Turns, measure_in_turns

OPENINGS = 4
_RESAMPLES = 2000
_AT_ONCE = 16  # sessions that are open together
_OPEN_BYTES = 1 << 29  # and the size of their files together, of which each session takes a few times as much


class Timer(Protocol):
    """Times files.

    Attributes:
        method: How its figures are known.
        on: What they are of: the processor, the engine, threads.
        settings: Plain values that a figure depends on besides: part of its key in a cache.
    """

    @property
    def method(self) -> Origin: ...

    @property
    def on(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def time(self, files: Mapping[str, Path], *, reference: str) -> Mapping[str, Timed]:
        """Times files in turns.

        Args:
            files: By a name of the caller's.
            reference: The name of the one that the others are compared with.

        Raises:
            UsageError: No file has the reference's name.
            BackendError: The engine cannot open or run one.
        """
        ...

    def layers(self, file: Path) -> Sequence[Layer]:
        """What the engine runs, kernel by kernel in their order, with times where it tells them.

        Raises:
            BackendError: The engine cannot open or run it.
        """
        ...


class LocalTimer:
    """This machine.

    Args:
        backend: Engine, as `edge-sdk benchmark --backend` takes it.
        threads: Inside one inference. With one the thread's CPU time is counted, which other processes disturb little.
        target: Name of the board that this is; None finds it.
        options: Of the backend.
        openings: How often each file is opened anew. Where its weights and buffers come to lie in memory moves a file's
            time by 2 to 5 %, for as long as it is open (YOLOX-nano, AVX2).
        seconds, rounds, passes, block, seed: Of `edge_sdk.measure.turns.measure_in_turns`, seconds over all openings.
        feeds: Inputs by name, for models with open axes; None for noise.
    """

    method: Origin = "measured"

    def __init__(
        self,
        *,
        backend: str = "onnxruntime",
        threads: int = 1,
        target: str | None = None,
        options: Mapping[str, str] | None = None,
        seconds: float = 0.0,
        openings: int = OPENINGS,
        rounds: int = 8,
        passes: int = 1,
        block: int = 2,
        seed: int = 0,
        feeds: Mapping[str, Array] | None = None,
    ) -> None:
        if openings < 2:
            raise UsageError(f"openings must be 2 or more, not {openings}: an interval is taken over them")
        self._openings = openings
        self._backend, part = named(backend)
        self._options = {**part, **(options or {})}
        self._target = this_device().target if target is None else targets.load(target)
        self._threads, self._seconds, self._rounds, self._seed = threads, seconds, rounds, seed
        self._passes, self._block = passes, block
        self._feeds = feeds

    @cached_property
    def on(self) -> str:
        """The processor, the engine with its version, and threads."""
        return machine_line(_cpu_of_this_machine(), self._backend.name, self._backend.version(), self._threads)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of the comparison, and the backend's options."""
        return {
            "openings": self._openings, "rounds": self._rounds,
            "passes": self._passes, "block": self._block, "seconds": self._seconds,
            "seed": self._seed, "options": dict(self._options), "target": self._target.name,
        }  # fmt: skip

    def time(self, files: Mapping[str, Path], *, reference: str) -> Mapping[str, Timed]:
        """As `Timer.time`. Of many files so many are open at once as fit, the reference always among them."""
        check_reference(files, reference)
        found: dict[str, Timed] = {}
        for batch in batches(files, reference):
            opened = [self._turns({name: files[name] for name in batch}, reference, n) for n in range(self._openings)]
            base = np.array([min(one.models[reference].times_ms) for one in opened])
            for name in batch:
                best = np.array([min(one.models[name].times_ms) for one in opened])
                ms = float(np.median(np.concatenate([one.models[name].times_ms for one in opened])))
                found.setdefault(name, Timed(ms, *ratio_of(best, base), "measured"))
        return {name: found[name] for name in files}

    def _turns(self, files: Mapping[str, Path], reference: str, opening: int) -> Turns:
        with ExitStack() as stack:
            sessions = {name: stack.enter_context(self._open(file)) for name, file in files.items()}
            feeds = None if self._feeds is None else dict.fromkeys(sessions, self._feeds)
            return measure_in_turns(
                sessions, reference=reference, feeds=feeds, seconds=self._seconds / self._openings, rounds=self._rounds,
                passes=self._passes, block=self._block, seed=self._seed + opening,
            )  # fmt: skip

    def layers(self, file: Path) -> Sequence[Layer]:
        """As `Timer.layers`."""
        with self._open(file) as session:
            return session.layers()

    def _open(self, file: Path) -> Session:
        return self._backend.open(file, self._target, threads=self._threads, options=self._options)


def ratio_of(ours: NDArray[np.float64], base: NDArray[np.float64], *, seed: int = 0) -> tuple[float, float, float]:
    """The quickest run of all over the reference's, and a 95 % interval by a bootstrap over openings.

    What disturbs a run only ever makes it longer, so that the quickest of many is the steadiest figure: between
    repeats on a machine shared with others it moved by 2 %, where medians moved by 5 to 10 (YOLOX-nano, AVX2).

    Args:
        ours: [openings], the quickest run of each.
        base: [openings], the reference's.
        seed: Of the resampling.
    """
    drawn = np.random.default_rng(seed).integers(0, len(ours), (_RESAMPLES, len(ours)))
    ratio = float(ours.min() / base.min())
    low, high = np.percentile(ours[drawn].min(axis=1) / base[drawn].min(axis=1), [2.5, 97.5])
    return ratio, min(ratio, float(low)), max(ratio, float(high))


class RecordedTimer:
    """A profile that `Recording` saved: the figures of files by their sha256.

    Args:
        file: JSON.

    Raises:
        ModelError: It is no such profile, or damaged; the message says where.
    """

    method: Origin = "recorded"

    def __init__(self, file: Path) -> None:
        self._file = file
        record = read_record(file)
        self.on: str = record["on"]
        self._timed = {(row["sha256"], row["reference"]): row for row in record["timed"]}
        self._layers: Mapping[str, Any] = record["layers"]
        self.settings: Mapping[str, Any] = {"recorded": sha256_of_file(file)}

    def time(self, files: Mapping[str, Path], *, reference: str) -> Mapping[str, Timed]:
        """As `Timer.time`.

        Raises:
            BackendError: It has no figure of one of them against this reference.
        """
        check_reference(files, reference)
        hashes = {name: sha256_of_file(file) for name, file in files.items()}
        found = {}
        for name, sha256 in hashes.items():
            row = self._timed.get((sha256, hashes[reference]))
            if row is None:
                raise BackendError(
                    f"{self._file.name}: no figure of {name} (sha256 {sha256[:12]}...) against {reference}: record it "
                    "on the board, with the same model, photos and seed"
                )
            found[name] = timed_from(row, "recorded", self._file.name)
        return found

    def layers(self, file: Path) -> Sequence[Layer]:
        """As `Timer.layers`."""
        rows = self._layers.get(sha256_of_file(file))
        if rows is None:
            raise BackendError(f"{self._file.name}: no layers of {file.name}")
        return layers_from(rows, self._file.name)


class _Passing:
    """Says of itself what another timer says."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer

    @property
    def method(self) -> Origin:
        """The timer's."""
        return self._timer.method

    @property
    def on(self) -> str:
        """The timer's."""
        return self._timer.on

    @property
    def settings(self) -> Mapping[str, Any]:
        """The timer's."""
        return self._timer.settings


class Recording(_Passing):
    """Passes another timer's figures on and keeps them in a file, which `RecordedTimer` reads.

    Args:
        timer: That measures.
        file: JSON; what is in it already, of the same machine, stays.

    Raises:
        ModelError: The file is no recorded profile.
        UsageError: It is one of another machine.
    """

    def __init__(self, timer: Timer, file: Path) -> None:
        super().__init__(timer)
        self._file = file
        self._record: dict[str, Any] = {"schema": SCHEMA, "on": timer.on, "timed": [], "layers": {}}
        if file.exists():
            self._record = read_record(file)
            if self._record["on"] != timer.on:
                raise UsageError(f"{file} was recorded on {self._record['on']}, not on {timer.on}: name another file")

    def time(self, files: Mapping[str, Path], *, reference: str) -> Mapping[str, Timed]:
        """As `Timer.time`; later figures of the same files take the place of earlier ones."""
        found = self._timer.time(files, reference=reference)
        self.keep(files, found, reference=reference)
        return found

    def keep(self, files: Mapping[str, Path], found: Mapping[str, Timed], *, reference: str) -> None:
        """Writes figures that somebody else knew already.

        Args:
            files: By name.
            found: Their figures.
            reference: Name of the file that they were compared with.
        """
        base = sha256_of_file(files[reference])
        rows = {(row["sha256"], row["reference"]): row for row in self._record["timed"]}
        for name, timed in found.items():
            sha256 = sha256_of_file(files[name])
            rows[sha256, base] = {"sha256": sha256, "reference": base, **row_of(timed)}
        self._record["timed"] = [rows[key] for key in sorted(rows)]
        self._save()

    def layers(self, file: Path) -> Sequence[Layer]:
        """As `Timer.layers`."""
        found = self._timer.layers(file)
        self.keep_layers(file, found)
        return found

    def keep_layers(self, file: Path, found: Sequence[Layer]) -> None:
        """Writes layers that somebody else knew already."""
        self._record["layers"][sha256_of_file(file)] = rows_of(found)
        self._save()

    def _save(self) -> None:
        with replacing(self._file) as temporary:
            temporary.write_text(json.dumps(self._record, sort_keys=True, indent=1) + "\n", encoding="utf-8")


class CachedTimer(_Passing):
    """Asks another timer only for what is not in the cache, and keeps what it says as soon as a comparison is over.

    Args:
        timer: That measures.
        cache: Keys are the hashes of the files, `Timer.on` and `Timer.settings`.
    """

    def __init__(self, timer: Timer, cache: Cache) -> None:
        super().__init__(timer)
        self._cache = cache

    def time(self, files: Mapping[str, Path], *, reference: str) -> Mapping[str, Timed]:
        """As `Timer.time`."""
        check_reference(files, reference)
        base = sha256_of_file(files[reference])
        keys = {name: self._key("timed", sha256_of_file(file), base) for name, file in files.items()}
        missing = [name for name in files if self._cache.get(keys[name]) is None]
        if missing:
            wanted = {reference: files[reference], **{name: files[name] for name in missing}}
            for batch in batches(wanted, reference):
                part = {name: files[name] for name in batch}
                for name, timed in self._timer.time(part, reference=reference).items():
                    self._cache.put(keys[name], {**row_of(timed), "method": timed.method})
        found = {}
        for name in files:
            row = self._cache.get(keys[name])
            found[name] = timed_from(row, row["method"], "the cache")
        if isinstance(self._timer, Recording):  # what was known already belongs into its file too
            self._timer.keep(files, found, reference=reference)
        return found

    def layers(self, file: Path) -> Sequence[Layer]:
        """As `Timer.layers`."""
        key = self._key("layers", sha256_of_file(file))
        found = layers_from(self._cache.get_or(key, lambda: rows_of(self._timer.layers(file))), "the cache")
        if isinstance(self._timer, Recording):
            self._timer.keep_layers(file, found)
        return found

    def _key(self, *what: str) -> str:
        return Cache.key({"timing": [SCHEMA, *what], "on": self.on, "settings": dict(self.settings)})


def machine_line(cpu: str, backend: str, version: str | None, threads: int) -> str:
    """``AMD EPYC, onnxruntime 1.31.1, 1 thread``: what figures are of."""
    number = (version or "of unknown version").split(" (")[0]
    return f"{cpu}, {backend} {number}, {count_of(threads, 'thread')}"


def sha256_of_file(file: Path) -> str:
    """Of a file's bytes, in hexadecimal.

    Raises:
        ModelError: It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or one_line(error)}") from error
    return digest.hexdigest()


def _cpu_of_this_machine() -> str:
    try:
        text = (system_root() / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return cpu_name(text) or platform.machine()


def check_reference(files: Mapping[str, Path], reference: str) -> None:
    """Raises UsageError where no file has the reference's name."""
    if reference not in files:
        raise UsageError(f"there is no {reference!r} to compare with; there are {', '.join(files)}")


def batches(files: Mapping[str, Path], reference: str) -> Iterator[list[str]]:
    """Names in parts that can be open together, each with the reference first."""

    def size(name: str) -> int:
        try:
            return files[name].stat().st_size
        except OSError as error:
            raise ModelError(f"{files[name]}: cannot be read: {error.strerror or one_line(error)}") from error

    part, held = [reference], size(reference)
    for name in files:
        if name == reference:
            continue
        if len(part) > 1 and (len(part) == _AT_ONCE or held + size(name) > _OPEN_BYTES):
            yield part
            part, held = [reference], size(reference)
        part.append(name)
        held += size(name)
    yield part
