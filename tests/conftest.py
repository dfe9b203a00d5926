"""What every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Real models, photos, clips and device captures lie beside the checkout; they are never part of it.
SHARED = Path(os.environ.get("EDGE_SDK_TEST_DATA", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real test data; a test that asks for it is skipped where it is absent."""
    if not (SHARED / "models").is_dir():
        pytest.skip(f"no test data: there is no folder {SHARED.name}/ beside the checkout (set EDGE_SDK_TEST_DATA)")
    return SHARED


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the cache of whoever runs it."""
    for name in ("EDGE_SDK_TARGET", "EDGE_SDK_MODELS", "EDGE_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGE_SDK_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
