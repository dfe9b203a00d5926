"""A tool that is a folder: its modules find each other by their bare names, as they do when the folder is run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace


@contextmanager
def modules_of(folder: Path, names: Sequence[str]) -> Iterator[SimpleNamespace]:
    """The modules by name; the next tool may have some of the same names, so they are forgotten afterwards."""
    sys.path.insert(0, str(folder))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)
