"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: machines that run tests are busy, and a slow example is no wrong one.
settings.register_profile("edge-sdk", deadline=None)
settings.load_profile("edge-sdk")

# Real models, photos, clips and device captures lie beside the checkout; they are never part of it.
SHARED = Path(os.environ.get("EDGE_SDK_TEST_DATA", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real test data; a test that asks for it is skipped where it is absent."""
    if not (SHARED / "models").is_dir():
        pytest.skip(f"no test data: there is no folder {SHARED.name}/ beside the checkout (set EDGE_SDK_TEST_DATA)")
    return SHARED


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the cache of whoever runs it."""
    for name in ("EDGE_SDK_TARGET", "EDGE_SDK_MODELS", "EDGE_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGE_SDK_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def yolox(shared: Path) -> Path:
    """A real detector: YOLOX-nano, COCO's eighty classes."""
    return shared / "models/yolox_nano/yolox_nano.onnx"


@pytest.fixture(scope="session")
def bear(shared: Path) -> Path:
    """A real photo of one bear."""
    return shared / "data/coco_eval/images/000000000285.jpg"


@pytest.fixture(scope="session")
def highway(shared: Path) -> Path:
    """A real clip: 38 frames of 1280x720 at 25 a second, two cars in each."""
    return shared / "data/videos/highway_cars_test_video.mp4"
