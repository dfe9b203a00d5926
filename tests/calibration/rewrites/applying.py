"""One rewrite on one small net."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.calibration.canonical import canonical
from edge_sdk.calibration.rewrites import Rewrite, Rewritten, rewrite

from .small import Small


def applied(
    one: Rewrite, net: Small, y: str, shape: Sequence[int], inputs: dict[str, Sequence[int]] | None = None
) -> Rewritten:
    """The net after the rewrite, which must have kept its outputs."""
    after = rewrite(canonical(net.model({y: shape}, inputs)), only=[one])
    assert after.refused == ()
    return after
