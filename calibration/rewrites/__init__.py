"""Float rewrites: the same model, as the engine likes it. One file a rewrite.

They come before any quantization, so that the float baseline is the best float and not a straw man.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from edge_sdk.calibration.canonical import Canonical, noise
from edge_sdk.calibration.graph import Graph, save_model, sha256_of
from edge_sdk.calibration.rewrites.base import Applied, Edit, Rewrite, rewrites
from edge_sdk.calibration.same import Difference, Feeds, check_same
from edge_sdk.errors import ModelError

__all__ = ["Applied", "Edit", "Rewrite", "Rewritten", "rewrite", "rewrites"]


@dataclass(frozen=True, eq=False)
class Rewritten:
    """A model after the rewrites that an engine likes.

    Args:
        model: Nobody changes it.
        graph: The view of it.
        applied: What was done, in order; empty where there was nothing to do.
        refused: Rewrites that were left out because an output did not stay, one line each.
        sha256: Of the model's bytes, in hexadecimal.
        difference: How far it is from the canonical model on the feeds.
    """

    model: onnx.ModelProto
    graph: Graph
    applied: tuple[Applied, ...]
    refused: tuple[str, ...]
    sha256: str
    difference: Difference

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model, whole or not at all.

        Raises:
            SinkError: The folder is not there, or cannot be written.
        """
        save_model(self.model, path)


def rewrite(
    canonical: Canonical,
    *,
    engine: str = "onnxruntime",
    feeds: Feeds | Sequence[Feeds] | None = None,
    only: Sequence[Rewrite] | None = None,
) -> Rewritten:
    """Makes the best float model of a canonical one. Each rewrite is kept only if the outputs stay.

    Args:
        canonical: From `edge_sdk.calibration.canonical.canonical`.
        engine: Name of the backend that will run it; with another than a rewrite is for, it is left out.
        feeds: Real inputs to run on, once or several times; noise where they are left out.
        only: These rewrites instead of all.
    """
    graph = canonical.graph
    feeds = noise(graph) if feeds is None else feeds
    applied: list[Applied] = []
    refused: list[str] = []
    for one in rewrites() if only is None else only:
        if engine not in one.engines:
            continue
        changed, done = one(graph)
        if done is None:
            continue
        try:
            check_same(canonical.model, changed.model, feeds)
        except ModelError as error:
            refused.append(f"{one.name} was left out: {error}")
            continue
        graph = changed
        applied.append(done)
    difference = check_same(canonical.model, graph.model, feeds)
    return Rewritten(graph.model, graph, tuple(applied), tuple(refused), sha256_of(graph.model), difference)
