"""What the tests of reports may ask for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge_sdk.measure.record import Profile

from .profiles import make_profile


@pytest.fixture(name="make_profile")
def _make_profile() -> Callable[..., Profile]:
    """``make_profile("rejected", p50_ms=18.0, notes=())`` -> a made-up profile; see profiles.py."""
    return make_profile
