"""The simple answers that every plan is held against: no layer in the low precision, every one, all but the last."""

from __future__ import annotations

import numpy as np

from edge_sdk.calibration.engines.base import WEIGHTED
from edge_sdk.calibration.graph import reads
from edge_sdk.calibration.problem import Problem
from edge_sdk.calibration.switchable import Mask


def head_mask(problem: Problem) -> Mask:
    """Every group in the low precision but the output layers and what follows them; settled, pins kept.

    An output layer is the last group with weights on a way to an output: what Ultralytics' recipe leaves in float (the
    convolutions that end its `Detect` head, github.com/ultralytics/ultralytics pull 26220), found by the graph, so that
    it means the same for every detector.
    """
    graph = problem.graph
    group_of = {node: group for group in problem.groups for node in group.nodes}
    ends: set[str] = set()
    waiting, seen = list(graph.outputs), set(graph.outputs)
    while waiting:
        maker = graph.producer(waiting.pop())
        if maker is None:
            continue
        group = group_of[maker.name]
        ends.add(group.name)
        if maker.op_type in WEIGHTED:
            continue
        for tensor in reads(maker):
            if tensor and tensor not in seen:
                seen.add(tensor)
                waiting.append(tensor)
    mask = problem.on.copy()
    for place, group in enumerate(problem.free):
        if group.name in ends:
            mask[place] = problem.fixed.get(place, False)
    return problem.settle(np.asarray(mask, np.bool_))
