"""Trees of files that look like a board's /proc and /sys, from the captures and by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

MakeTree = Callable[[Mapping[str, Any]], Path]


@pytest.fixture(scope="session")
def identities(fixtures_dir: Path) -> Mapping[str, Any]:
    """The captured device-tree strings, by vendor."""
    return json.loads((fixtures_dir / "device_identity.json").read_text(encoding="utf-8"))


@pytest.fixture
def make_board(make_tree: MakeTree) -> Callable[..., Path]:
    """A tree with a device tree, and with other files on top."""

    def make(compatible: tuple[str, ...] = (), model: str | None = None, **files: str) -> Path:
        tree: dict[str, Any] = {path.replace("__", "/"): text for path, text in files.items()}
        if compatible:
            tree["/proc/device-tree/compatible"] = "".join(f"{entry}\0" for entry in compatible)
        if model is not None:
            tree["/proc/device-tree/model"] = f"{model}\0"
        return make_tree(tree)

    return make
