"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_sdk.errors import SinkError, one_line

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` with the same suffix; flushed and renamed over it when the block succeeds.

    A block that raises leaves what was under the name before, and nothing beside it.

    Raises:
        SinkError: The folder is not there or cannot be written, there is a folder under the name, or the disk is full.
    """
    if path.is_dir():
        raise SinkError(f"{path}: cannot be written: it is a folder")
    temporary = path.parent / f".{path.stem[:40]}-{secrets.token_hex(4)}{path.suffix}"
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # less the umask, as any new file
    except OSError as error:
        raise SinkError(f"{path}: cannot be written: {error.strerror or one_line(error)} ({path.parent})") from error
    try:
        try:
            yield temporary
        except OSError as error:
            if error.errno not in _DISK or isinstance(error, SinkError):
                raise  # whatever else the block does has its own words
            raise SinkError(f"{path}: cannot be written: {error.strerror or one_line(error)}") from error
        try:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise SinkError(f"{path}: cannot be written: {error.strerror or one_line(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)
