"""What a run over photos has finished, on disk, so that an interrupted one continues."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.errors import SinkError, one_line

if TYPE_CHECKING:
    from edge_sdk.detector import Detector

log = logging.getLogger("edge_sdk")

SUFFIX = ".partial"
_JSON = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_SCHEMA = 1
# Each line is given to the kernel at once, so a run that is killed loses none. Only a lost power supply takes what has
# not reached the medium: some seconds of work, where asking an SD card after each photo would slow down every run.
_SYNC_S = 5.0


@dataclass
class _Done:
    """Where a photo's line begins, what the photo's file was then, and its number in the source now."""

    offset: int
    size: int
    mtime_ns: int
    number: int | None = None  # nobody has asked for it in this run


class Journal:
    """The finished photos of a run, a line each, in ``OUTPUT.partial``; `open` makes one.

    A sink that is given one writes through it, and at the run's end makes its file of it and removes it. A photo
    counts as finished while its file has the size and the time of change that it had then.
    """

    def __init__(self, path: Path, file: io.FileIO, done: dict[str, _Done]) -> None:
        self.path = path
        self._file = file
        self._done = done
        self._end = os.fstat(file.fileno()).st_size
        self._synced_s = time.monotonic()

    @classmethod
    def open(cls, output: Path, header: Mapping[str, Any]) -> Journal:
        """Continues an output's journal where it is of a run like this one; else begins one.

        The journal of another run is kept as ``OUTPUT.partial.old``. A line that was cut off, by a lost power supply
        or a kill, is left out together with all that follows it.

        Args:
            output: The file that the run writes.
            header: All that the results depend on, as plain values: see `run_header`.

        Raises:
            SinkError: It cannot be written, or another process is writing it.
        """
        path = output.with_name(output.name + SUFFIX)
        wanted = json.loads(json.dumps({"edge_sdk_journal": _SCHEMA, **header}))
        file = _locked(path)
        try:
            found, done, end = _load(path)
            if found != wanted and not _is_begun(path, wanted):
                kept = _free_name(path)
                path.replace(kept)
                log.warning("%s: is of another run (%s); it is kept as %s", path, _differences(found, wanted), kept)
                file.close()
                file, done, end = _locked(path), {}, 0
            lost = os.fstat(file.fileno()).st_size - end
            if lost:
                log.info("%s: its last %d bytes were cut off and are left out", path, lost)
                os.ftruncate(file.fileno(), end)
            journal = cls(path, file, done)
            if end == 0:
                journal._append(wanted)
        except OSError as error:
            file.close()
            raise _cannot(path, error) from error
        if done:
            log.info("%s: %d photos are finished", path, len(done))
        return journal

    def done(self, number: int, photo: Path) -> bool:
        """Whether a photo is finished and its file unchanged; it is then kept under this number.

        Args:
            number: Its place in the source, from 0: the id of its frame.
            photo: Its path.
        """
        known = self._done.get(_key(photo))
        if known is None or _stamp(photo) != (known.size, known.mtime_ns):
            return False
        known.number = number
        return True

    def add(self, number: int, photo: Path, record: Any) -> None:
        """Writes a photo's line.

        Args:
            number: Its place in the source, from 0: the id of its frame.
            photo: Its path.
            record: What was found in it, as plain values.

        Raises:
            SinkError: It could not be written; what was written before is whole.
        """
        size, mtime_ns = _stamp(photo) or (-1, -1)  # it has gone meanwhile: it will not be found finished
        line = {"photo": _key(photo), "size": size, "mtime_ns": mtime_ns, "record": record}
        begin = self._end
        try:
            self._append(line)
            if time.monotonic() - self._synced_s > _SYNC_S:
                self.sync()
        except (OSError, ValueError) as error:  # ValueError: it is closed, or the record has no JSON
            raise _cannot(self.path, error) from error
        self._done[_key(photo)] = _Done(begin, size, mtime_ns, number)

    def records(self) -> Iterator[tuple[int, Path, Any]]:
        """(number, photo, record) of the photos of this run, by number; those that the source no longer has are left
        out."""
        run = sorted((one.number, one.offset) for one in self._done.values() if one.number is not None)
        if gone := len(self._done) - len(run):
            log.warning("%s: %d finished photos are no longer in the source and are left out", self.path, gone)
        with self.path.open("rb") as file:
            for number, offset in run:
                file.seek(offset)
                line = json.loads(file.readline())
                yield number, Path(line["photo"]), line["record"]

    def sync(self) -> None:
        """Asks the medium to keep what was written."""
        os.fsync(self._file.fileno())
        self._synced_s = time.monotonic()

    def close(self) -> None:
        """Leaves the journal to the next run; may be called twice."""
        if not self._file.closed:
            with suppress(OSError):  # it is with the kernel; only a lost power supply could tell
                self.sync()
            self._file.close()

    def remove(self) -> None:
        """Takes the journal away, once the output is in its place; may be called twice."""
        _sync_folder(self.path.parent)  # first the output's name must be kept, then this one may go
        self.path.unlink(missing_ok=True)
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _append(self, line: Any) -> None:
        data = memoryview(_line(line))
        try:
            at = self._end
            while data:
                written = os.pwrite(self._file.fileno(), data, at)
                data, at = data[written:], at + written
            self._end = at
        except OSError:
            with suppress(OSError):  # half a line would hide those that follow it
                os.ftruncate(self._file.fileno(), self._end)
            raise


def run_header(detector: Detector, source: str, form: str) -> dict[str, Any]:
    """All that the results of a run over photos depend on, for `Journal.open`.

    Args:
        detector: With its thresholds as the run has them.
        source: The folder or pattern that is read.
        form: Of the records, such as ``coco``.

    Raises:
        ModelError: The model's file cannot be read.
    """
    from edge_sdk import __version__
    from edge_sdk.models import zoo

    return {
        "form": form,
        "version": __version__,
        "model": detector.path.name,
        "model_sha256": zoo.check(detector.path),
        "card_sha256": hashlib.sha256(repr(detector.card).encode()).hexdigest(),
        "head": detector.head.name,
        "backend": detector.backend,
        "active": detector.session.active,
        "confidence": detector.confidence,
        "iou": detector.iou,
        "classes": None if detector.classes is None else list(detector.classes),
        "source": os.path.abspath(source),  # noqa: PTH100  a pattern is no path
    }


def _locked(path: Path) -> io.FileIO:
    """The journal's file, made where it is not there, for this process alone."""
    try:
        while True:
            file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+")
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
            except FileNotFoundError:
                pass  # who had it has removed it meanwhile
            except BaseException:
                file.close()
                raise
            file.close()
    except BlockingIOError as error:
        raise SinkError(f"{path}: another process is writing it; wait for it, or name another output") from error
    except OSError as error:
        raise _cannot(path, error) from error


def _load(path: Path) -> tuple[Any, dict[str, _Done], int]:
    """The header, or None; the finished photos; and where the last whole line ends."""
    header, done, end = None, {}, 0
    with path.open("rb") as file:
        for line in file:
            try:
                if not line.endswith(b"\n"):
                    break
                entry = json.loads(line)
                if header is None:
                    if not isinstance(entry, dict) or "edge_sdk_journal" not in entry:
                        break
                    header = entry
                else:
                    done[str(entry["photo"])] = _Done(end, int(entry["size"]), int(entry["mtime_ns"]))
                    entry["record"]
            except (ValueError, KeyError, TypeError):
                break
            end += len(line)
    return header, done, end


def _is_begun(path: Path, header: Any) -> bool:
    """Whether the file is empty, or holds the beginning of this header and no more."""
    line = _line(header)
    with path.open("rb") as file:
        return line.startswith(file.read(len(line) + 1))


def _line(value: Any) -> bytes:
    return _JSON.encode(value).encode() + b"\n"


def _key(photo: Path) -> str:
    return os.path.abspath(photo)  # noqa: PTH100  as it is named: resolving links would ask the medium for each


def _stamp(photo: Path) -> tuple[int, int] | None:
    try:
        info = photo.stat()
    except OSError:
        return None
    return info.st_size, info.st_mtime_ns


def _free_name(path: Path) -> Path:
    """``OUTPUT.partial.old``, or with a number where there is one: nothing is written over."""
    name, number = path.with_name(f"{path.name}.old"), 2
    while name.exists():
        name, number = path.with_name(f"{path.name}.old{number}"), number + 1
    return name


def _differences(found: Any, wanted: Mapping[str, Any]) -> str:
    if not isinstance(found, Mapping):
        return "it has no header"
    return ", ".join(
        f"{key} {str(found.get(key))[:60]}, now {str(wanted.get(key))[:60]}"
        for key in {**wanted, **found}
        if found.get(key) != wanted.get(key)
    )


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some file systems have no such thing
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _cannot(path: Path, error: Exception) -> SinkError:
    return SinkError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or one_line(error)}")
