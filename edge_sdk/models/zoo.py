"""The model zoo: which public models there are, and where on this machine their files lie.

Looking never downloads: `find` and `resolve` only read, `pull` is the one that fetches. A zoo model is
its bytes: a file counts as that model only if its sha256 is the one in zoo.toml, wherever it lies and
whatever it is called.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

from edge_sdk.errors import ChecksumError, ModelError, ModelNotFoundError, UsageError, one_line
from edge_sdk.files import replacing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes in all; the first falls back to 0 on a fresh start."""

STAMP_SUFFIX = ".verified"

_LOG = logging.getLogger("edge_sdk")
_SCAN_DEPTH = 4  # folders below a model folder
_SCAN_ENTRIES = 20_000  # in one model folder: EDGE_SDK_MODELS=/ must not hang
_SETTLED_NS = 2_000_000_000  # a file that changed within 2 s may change again without its times showing it
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class ZooModel:
    """A public model of the zoo.

    Args:
        name: What `Detector`, `--model` and `edge-sdk models` take.
        title: What it is, on one line.
        task: "object detection" and the like.
        publisher: Who offers the file.
        file: Its name in the cache, unique in the zoo.
        url: Where it is fetched.
        size_bytes, sha256: Of the one file that is this model.
        licence: SPDX name, of the weights.
        head: Reads the outputs; None for a model that is download only.
        note: What else to know; for a model without a head, why it has none.
    """

    name: str
    title: str
    task: str
    publisher: str
    file: str
    url: str
    size_bytes: int
    sha256: str
    licence: str
    head: str | None
    note: str | None


@dataclass(frozen=True)
class Copy:
    """A file on this machine that is a zoo model, its checksum verified."""

    path: Path
    where: Literal["cache", "offline"]


# --- the module's face ---------------------------------------------------------------------------


@cache
def zoo() -> Mapping[str, ZooModel]:
    """Every model of the zoo, by name, in the order of zoo.toml."""
    return parse((Path(__file__).parent / "zoo.toml").read_text(encoding="utf-8"))


def find(name: str) -> Path | None:
    """The file of a zoo model on this machine, its checksum verified, or None where it was not fetched yet.

    Raises:
        ModelNotFoundError: The zoo has no model of this name.
    """
    return Store.from_environment().find(name)


def pull(name: str, *, progress: Progress | None = None) -> Path:
    """The file of a zoo model, fetched into the cache unless it is on this machine already.

    Raises:
        ModelNotFoundError: The zoo has no model of this name.
        DownloadError: It could not be fetched.
        ChecksumError: What was fetched is another file; it was removed.
    """
    return Store.from_environment().pull(name, progress=progress)


def resolve(model: str | Path) -> Path:
    """The file that a user means: a path, the name of a zoo model, or a file in a model folder. Downloads nothing.

    Raises:
        ModelNotFoundError: There is none; the message says what would bring it, or lists close names.
        ChecksumError: Only a damaged copy of the zoo model is on this machine.
        UsageError: A name without suffix fits several files of one model folder.
    """
    return _existing(model) or Store.from_environment().resolve(model)


def cache_folder() -> Path:
    """Where fetched models lie: ``models`` in EDGE_SDK_CACHE, by default $XDG_CACHE_HOME/edge-sdk or ~/.cache/edge-sdk.

    Raises:
        ModelError: Nothing says where the home folder is.
    """
    own = os.environ.get("EDGE_SDK_CACHE")
    if own:
        return Path(own).expanduser().absolute() / "models"
    shared = os.environ.get("XDG_CACHE_HOME", "")
    try:  # the XDG specification: a relative path is to be ignored
        root = Path(shared) if shared.startswith("/") else Path.home() / ".cache"
    except RuntimeError as error:
        raise ModelError("there is no home folder for the model cache: set EDGE_SDK_CACHE to a folder") from error
    return root / "edge-sdk" / "models"


def offline_folders() -> tuple[Path, ...]:
    """The folders that EDGE_SDK_MODELS names; those that are not there are left out with a warning."""
    folders = []
    for text in os.environ.get("EDGE_SDK_MODELS", "").split(os.pathsep):
        folder = Path(text).expanduser().absolute()
        if text and folder.is_dir():
            folders.append(folder)
        elif text:
            _LOG.warning("EDGE_SDK_MODELS names %s, which is no folder", folder)
    return tuple(folders)


# --- the list ------------------------------------------------------------------------------------


def parse(text: str) -> dict[str, ZooModel]:
    """The models of a zoo file.

    Raises:
        ModelError: It is malformed; the message names the model and the key.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"zoo: not TOML: {one_line(error)}") from error
    publishers = table.get("publishers", {})
    models = {name: _model(name, entry, publishers) for name, entry in table.get("models", {}).items()}
    for key in ("file", "sha256"):
        values = [getattr(model, key) for model in models.values()]
        if len(set(values)) != len(values):
            raise ModelError(f"zoo: two models have the same {key}")
    return models


_ENTRY_KEYS = {"title", "task", "publisher", "path", "bytes", "sha256", "licence", "head", "note"}


def _model(name: str, entry: Mapping[str, Any], publishers: Mapping[str, Any]) -> ZooModel:
    unknown = sorted(set(entry) - _ENTRY_KEYS)
    if unknown:
        raise ModelError(f"zoo: {name} has the unknown key {unknown[0]!r}")
    wrong = [
        key
        for key, fits in (
            ("name", re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)),
            ("title", entry.get("title")),
            ("task", entry.get("task")),
            ("licence", entry.get("licence")),
            ("publisher", entry.get("publisher") in publishers),
            ("path", re.fullmatch(r"(\w[\w.-]*/)*\w[\w.-]*", str(entry.get("path", "")))),
            ("bytes", type(entry.get("bytes")) is int and entry["bytes"] > 0),
            ("sha256", re.fullmatch(r"[0-9a-f]{64}", str(entry.get("sha256", "")))),
            ("note", "head" in entry or entry.get("note")),  # download only: it says why
        )
        if not fits
    ]
    if wrong:
        raise ModelError(f"zoo: {name} has no valid {wrong[0]}")
    publisher = publishers[entry["publisher"]]
    return ZooModel(
        name=name,
        title=entry["title"],
        task=entry["task"],
        publisher=publisher["title"],
        file=entry["path"].rpartition("/")[2],
        url=publisher["url"].format(revision=publisher["revision"], path=entry["path"]),
        size_bytes=entry["bytes"],
        sha256=entry["sha256"],
        licence=entry["licence"],
        head=entry.get("head"),
        note=entry.get("note"),
    )


# --- where the files lie -------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """A zoo and the folders where its files may lie.

    Args:
        models: The zoo.
        cache: Where `pull` puts files.
        folders: Searched too, never written: an offline folder, a USB stick, a folder of your own models.
    """

    models: Mapping[str, ZooModel]
    cache: Path
    folders: tuple[Path, ...] = ()

    @classmethod
    def from_environment(cls) -> Store:
        """The zoo of the package, with the folders of EDGE_SDK_CACHE and EDGE_SDK_MODELS."""
        return cls(zoo(), cache_folder(), offline_folders())

    def model(self, name: str) -> ZooModel:
        """The zoo model of this name.

        Raises:
            ModelNotFoundError: There is none; the message lists close names.
        """
        if name not in self.models:
            raise ModelNotFoundError(
                f"the zoo has no model {name!r}{_close(name, self.models)}; see edge-sdk models list"
            )
        return self.models[name]

    def locate(self, model: ZooModel) -> Copy | None:
        """Where the model lies: in the cache, or in a folder under its own name or any other."""
        cached = self.cache / model.file
        if _is(cached, model, stamped=True):
            return Copy(cached, "cache")
        for folder in self.folders:
            files = [path for path in scan(folder) if path.name == model.file or _size(path) == model.size_bytes]
            for path in sorted(files, key=lambda path: path.name != model.file):
                if _is(path, model):
                    return Copy(path, "offline")
        return None

    def impostors(self, model: ZooModel) -> list[Path]:
        """Files that bear the model's file name and have other bytes: damaged, or another version."""
        named = [self.cache / model.file]
        named += [path for folder in self.folders for path in scan(folder) if path.name == model.file]
        return [path for path in named if path.is_file() and not _is(path, model, stamped=path == named[0])]

    def find(self, name: str) -> Path | None:
        """See the function of this name."""
        copy = self.locate(self.model(name))
        return copy.path if copy else None

    def pull(self, name: str, *, progress: Progress | None = None) -> Path:
        """See the function of this name."""
        model = self.model(name)
        copy = self.locate(model)
        if copy:
            if copy.where == "offline":
                self._drop_damaged(model)
            return copy.path
        from edge_sdk.models.download import fetch  # the network modules, only when it comes to that

        return fetch(
            model.url, self.cache / model.file, size_bytes=model.size_bytes, sha256=model.sha256, progress=progress
        )

    def resolve(self, model: str | Path) -> Path:
        """See the function of this name."""
        existing = _existing(model)
        if existing:
            return existing
        text = str(model)
        if "/" in text:
            raise ModelNotFoundError(f"{text}: no such file" if not Path(text).is_dir() else f"{text} is a folder")
        for entry in self.models.values():
            if text in (entry.name, entry.file, Path(entry.file).stem):
                return self._present(entry)
        mine = self._own_file(text)
        if mine:
            return mine
        pool = [*self.models, *(path.name for folder in self.folders for path in scan(folder))]
        raise ModelNotFoundError(
            f"there is no file and no zoo model {text!r}{_close(text, pool)}; see edge-sdk models list"
        )

    def _drop_damaged(self, model: ZooModel) -> None:
        """Removes a cached file that is never used: it has the model's name, and its bytes are wrong."""
        damaged = self.cache / model.file
        if damaged.is_file():
            with suppress(OSError):  # as it was, then: still not used, and `verify` still names it
                damaged.unlink()

    def _present(self, model: ZooModel) -> Path:
        copy = self.locate(model)
        if copy:
            return copy.path
        mend = f"edge-sdk models pull {model.name}"
        wrong = self.impostors(model)
        if wrong:
            raise ChecksumError(
                f"{wrong[0]} is not zoo model {model.name!r} (its sha256 is another) and was not used: "
                f"run '{mend}' for the right one, or give the file's path to use it as a model of your own"
            )
        raise ModelNotFoundError(
            f"zoo model {model.name!r} is not on this machine: fetch it with '{mend}' "
            f"({model.size_bytes / 1e6:.1f} MB), or put {model.file} into a folder named in EDGE_SDK_MODELS"
        )

    def _own_file(self, text: str) -> Path | None:
        """A file of the user's own in a model folder, by name or by name without suffix."""
        for folder in self.folders:
            files = list(scan(folder))
            named = [path for path in files if path.name == text]
            if named:
                return named[0]
            suffixes = _model_suffixes()
            stems = [path for path in files if path.stem == text and path.suffix.lower() in suffixes]
            if len({path.name for path in stems}) > 1:
                raise UsageError(
                    f"{text!r} fits {' and '.join(sorted({path.name for path in stems}))} in {folder}: say which"
                )
            if stems:
                return stems[0]
        return None


def scan(folder: Path) -> Iterator[Path]:
    """The files of a model folder and its subfolders, four deep, shallow ones first; hidden folders are left out."""
    level, seen = [folder], 0
    for _ in range(_SCAN_DEPTH + 1):
        below: list[Path] = []
        for parent in level:
            try:
                with os.scandir(parent) as opened:
                    entries = sorted(opened, key=lambda entry: entry.name)
            except OSError as error:
                _LOG.debug("model folder %s left out: %s", parent, one_line(error))
                continue
            for entry in entries:
                seen += 1
                if seen > _SCAN_ENTRIES:
                    _LOG.warning(
                        "model folder %s has over %d entries: the rest was not searched", folder, _SCAN_ENTRIES
                    )
                    return
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith("."):
                        below.append(Path(entry.path))
                elif entry.is_file():
                    yield Path(entry.path)
        level = below


def sha256_of(file: BinaryIO) -> str:
    """The sha256 of an open file from its start, in hex."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(_CHUNK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def check(path: Path) -> str:
    """The sha256 of a file, read now, whatever is remembered of it.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return sha256_of(file)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {one_line(error)}") from error


# --- remembering what was verified ---------------------------------------------------------------
#
# A start should not wait until 36 MB are hashed, so a verified file is remembered by its identity: device, inode,
# size, and the times of its last write and last change. The kernel sets the time of change at every write and
# rename and nobody can set it back, so bytes that were exchanged show. Within a process that holds for every
# file; across processes only in the cache, in a stamp beside the file, because a medium that was mounted anew
# may give another file the same identity.

_Identity = tuple[int, int, int, int, int]
_verified: dict[Path, tuple[_Identity, str]] = {}


def _is(path: Path, model: ZooModel, *, stamped: bool = False) -> bool:
    """Whether the file is the model, byte for byte."""
    if _size(path) != model.size_bytes:
        return False
    try:
        return _digest(path, stamped=stamped) == model.sha256
    except OSError as error:
        _LOG.warning("%s: cannot be read: %s", path, one_line(error))
        return False


def _size(path: Path) -> int | None:
    """Bytes of a regular file."""
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_size if stat.S_ISREG(info.st_mode) else None


def _identity(file: BinaryIO) -> _Identity:
    info = os.fstat(file.fileno())
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _digest(path: Path, *, stamped: bool) -> str:
    with path.open("rb") as file:
        identity = _identity(file)
        known = _verified.get(path)
        if known is None and stamped:
            known = _read_stamp(path)
        if known is not None and known[0] == identity:
            _verified[path] = known
            return known[1]
        digest = sha256_of(file)
        settled = time.time_ns() - identity[-1] > _SETTLED_NS
        if settled and _identity(file) == identity:
            _verified[path] = (identity, digest)
            if stamped:
                _write_stamp(path, identity, digest)
    return digest


def _stamp(path: Path) -> Path:
    return path.with_name(f".{path.name}{STAMP_SUFFIX}")


def _read_stamp(path: Path) -> tuple[_Identity, str] | None:
    """The stamp beside a cached file, unless somebody else could have written it."""
    try:
        with _stamp(path).open("rb") as file:
            info = os.fstat(file.fileno())
            if info.st_uid not in (os.getuid(), 0) or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return None
            noted = json.loads(file.read(_CHUNK_BYTES))
        device, inode, size, written, changed = map(int, noted["identity"])
        return (device, inode, size, written, changed), str(noted["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_stamp(path: Path, identity: _Identity, digest: str) -> None:
    with suppress(OSError), replacing(_stamp(path)) as temporary:  # a cache that cannot be written is only slower
        temporary.write_text(json.dumps({"identity": identity, "sha256": digest}), encoding="utf-8")
        temporary.chmod(0o644)  # one that others can write is not believed


# --- names ---------------------------------------------------------------------------------------


def _existing(model: str | Path) -> Path | None:
    """The path as it stands, if a file is there."""
    try:
        path = Path(model).expanduser()
        return path if path.is_file() else None
    except (OSError, RuntimeError) as error:
        raise ModelNotFoundError(f"{str(model)[:200]!r} cannot be a model: {one_line(error)}") from error


def _close(name: str, names: Mapping[str, Any] | list[str]) -> str:
    near = difflib.get_close_matches(name, list(dict.fromkeys(names)), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _model_suffixes() -> set[str]:
    from edge_sdk.backends.base import backends  # NumPy comes with it

    return {suffix for backend in backends().values() for suffix in backend.suffixes}
