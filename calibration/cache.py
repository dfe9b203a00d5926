"""What has been computed once: probe results and artefacts, found again by what they were computed from.

A key is the sha256 of the canonical JSON of all inputs (hashes, versions, a mask), so that nothing is ever out of date:
whatever changes makes another key. Small values are lines of one log, ``probes.jsonl``, that is only ever appended to;
artefacts are files of their own. Both carry checksums, and what does not match is as if it were not there.

A process that is killed at any moment loses at most the value that it was making. Several processes may share a cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.errors import SinkError, UsageError, one_line
from edge_sdk.files import replacing
from edge_sdk.models.zoo import cache_folder

_LOG = logging.getLogger("edge_sdk")

_KEY = re.compile(r"[0-9a-f]{64}")
_MAGIC = b"edge-sdk-artefact-1"
_HEAD_LENGTH = len('{"log":"0123456789abcdef"}')
_ABANDONED_S = 3600  # a temporary file that is older than this was left by a process that was killed


@dataclass(frozen=True)
class CacheSize:
    """What a cache holds.

    Args:
        probes: Values in the log.
        artefacts: Files beside it.
        bytes: Of all that on disk.
    """

    probes: int
    artefacts: int
    bytes: int


class Cache:
    """Values by key in a folder.

    Args:
        folder: Made where it is not there; None for ``calibration`` in the SDK's cache folder (EDGE_SDK_CACHE).

    Raises:
        SinkError: The folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        # Beside the fetched models, not among them.
        self.folder = cache_folder().parent / "calibration" if folder is None else Path(folder)
        self._log = self.folder / "probes.jsonl"
        self._objects = self.folder / "artefacts"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{self.folder}: no cache can be made here: {error.strerror or one_line(error)}") from error
        self._guard = threading.RLock()
        self._texts: dict[str, str] = {}
        self._read_to = 0  # how far the log has been read, and how that one begins
        self._begins = b""
        self._sweep()

    @staticmethod
    def key(inputs: Mapping[str, Any]) -> str:
        """sha256 of what a value is computed from: 64 hexadecimal digits.

        Args:
            inputs: Plain values: texts, whole numbers, finite floats, booleans, None, lists and mappings with texts as
                keys. The order of keys does not matter.

        Raises:
            UsageError: There is something else in it.
        """
        try:
            text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UsageError(f"a cache key is made of plain values: {one_line(error)}") from error
        return hashlib.sha256(text.encode()).hexdigest()

    # --- values in the log ---

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or `default`.

        Raises:
            UsageError: Not a key.
            SinkError: The log cannot be read.
        """
        text = self._text(key)
        return default if text is None else json.loads(text)

    def put(self, key: str, value: Any) -> Any:
        """Keeps a value; where another process was first, its value stays.

        Args:
            key: From `key`.
            value: Anything that JSON can hold; floats keep every digit, and NaN and infinities are allowed.

        Returns:
            What `get` will give from now on: lists where there were tuples.

        Raises:
            UsageError: Not a key, or nothing that JSON can hold.
            SinkError: The log cannot be written: a full disk, for example. It is as it was before.
        """
        try:
            text = json.dumps(value, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"a probe's value must be plain: {one_line(error)}") from error
        _check(key)
        with self._guard, self._locked():
            self._refresh()
            kept = self._texts.get(key)
            if kept is None:
                self._append(f'{{"key":"{key}","crc":"{_crc(key, text)}","value":{text}}}\n'.encode())
                self._texts[key] = kept = text
        return json.loads(kept)

    def get_or(self, key: str, make: Callable[[], Any]) -> Any:
        """The value of a key, made and kept where there is none yet.

        What comes back is the same whether it was made now or long ago. Two processes that ask at once may both make
        it; both get the first one's.

        Raises:
            UsageError: Not a key, or nothing that JSON can hold.
            SinkError: The log cannot be read or written.
            Exception: What `make` raised; nothing is kept.
        """
        text = self._text(key)
        return self.put(key, make()) if text is None else json.loads(text)

    # --- artefacts ---

    def get_bytes(self, key: str) -> bytes | None:
        """An artefact, or None where there is none or it is damaged; a damaged one is removed, with a warning.

        Raises:
            UsageError: Not a key.
        """
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        head, _, content = data.partition(b"\n")
        if head == _head(content):
            return content
        _LOG.warning("%s is damaged and will be made anew", path)
        self.forget(key)
        return None

    def put_bytes(self, key: str, content: bytes) -> None:
        """Keeps an artefact, whole or not at all.

        Raises:
            UsageError: Not a key.
            SinkError: It cannot be written.
        """
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary, temporary.open("wb") as file:
                file.write(_head(content) + b"\n")
                file.write(content)
        except SinkError:
            raise
        except OSError as error:
            raise SinkError(f"{path}: cannot be written: {error.strerror or one_line(error)}") from error

    def get_bytes_or(self, key: str, make: Callable[[], bytes]) -> bytes:
        """An artefact, made and kept where there is none yet.

        Raises:
            UsageError: Not a key.
            SinkError: It cannot be written.
            Exception: What `make` raised; nothing is kept.
        """
        content = self.get_bytes(key)
        if content is None:
            content = make()
            self.put_bytes(key, content)
        return content

    def forget(self, key: str) -> None:
        """Removes an artefact, if there is one.

        Raises:
            UsageError: Not a key.
        """
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    # --- the whole ---

    def size(self) -> CacheSize:
        """What it holds now, temporary files and all."""
        with self._guard:
            self._refresh()
            probes = len(self._texts)
        files = [path for path in self._objects.glob("*/*") if path.is_file()]
        lengths = [_length(path) for path in [self._log, *files]]
        return CacheSize(probes, sum(not path.name.startswith(".") for path in files), sum(lengths))

    def clear(self) -> int:
        """Removes all values and artefacts, and nothing else that lies in the folder.

        Returns:
            Bytes freed.
        """
        with self._guard, self._locked():
            freed = self.size().bytes
            self._log.unlink(missing_ok=True)
            shutil.rmtree(self._objects, ignore_errors=True)
            self._refresh()
        return freed

    def _text(self, key: str) -> str | None:
        """A value as JSON."""
        _check(key)
        with self._guard:
            if key not in self._texts:
                self._refresh()
            return self._texts.get(key)

    def _refresh(self) -> None:
        """Reads what has been appended to the log since the last time, by anybody."""
        try:
            with self._log.open("rb") as file:
                begins = file.read(_HEAD_LENGTH)
                if begins != self._begins or os.fstat(file.fileno()).st_size < self._read_to:
                    self._texts, self._read_to, self._begins = {}, 0, begins
                file.seek(self._read_to)
                # A line without an end is being written, or its writer was killed.
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            self._texts, self._read_to, self._begins = {}, 0, b""
            return
        except OSError as error:
            raise SinkError(f"{self._log}: cannot be read: {error.strerror or one_line(error)}") from error
        if whole:
            self._read_to += len(whole) + 1
            for line in whole.split(b"\n"):
                self._learn(line)

    def _learn(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            key, text = row["key"], json.dumps(row["value"], separators=(",", ":"))
            sound = isinstance(key, str) and row["crc"] == _crc(key, text)
        except (ValueError, KeyError, TypeError, RecursionError):
            sound = False
        if sound:
            self._texts.setdefault(key, text)
        elif line and not line.startswith(b'{"log":'):
            _LOG.warning("%s: a damaged line is left out", self._log)

    def _append(self, line: bytes) -> None:
        """Under the lock, with the log read to its end."""
        try:
            log = os.open(self._log, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise SinkError(f"{self._log}: cannot be written: {error.strerror or one_line(error)}") from error
        try:
            before = os.fstat(log).st_size
            try:
                if not before:
                    # Tells this log from one that was cleared: a new file may get the old one's inode.
                    line = b'{"log":"%s"}\n' % secrets.token_hex(8).encode() + line
                elif os.pread(log, 1, before - 1) != b"\n":
                    line = b"\n" + line  # ends what a killed writer left behind
                written = 0
                while written < len(line):
                    written += os.write(log, line[written:])
                os.fsync(log)
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(log, before)
                raise SinkError(f"{self._log}: cannot be written: {error.strerror or one_line(error)}") from error
        finally:
            os.close(log)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time; the kernel gives the lock back when its holder is killed."""
        try:
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise SinkError(f"{self.folder}: cannot be written: {error.strerror or one_line(error)}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _path(self, key: str) -> Path:
        _check(key)
        return self._objects / key[:2] / key

    def _sweep(self) -> None:
        """Removes temporary files that killed processes left."""
        for path in self._objects.glob("*/.*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()


def _check(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise UsageError(f"{key!r} is no cache key: make one with Cache.key")


def _crc(key: str, text: str) -> str:
    return f"{zlib.crc32(f'{key} {text}'.encode()):08x}"


def _head(content: bytes) -> bytes:
    return b"%s %s %d" % (_MAGIC, hashlib.sha256(content).hexdigest().encode(), len(content))


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
