"""Range methods for kinds of tensors: kept where they help photos, and not otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_sdk.calibration.cache import Cache
from edge_sdk.calibration.engines.base import named
from edge_sdk.calibration.graph import Graph
from edge_sdk.calibration.groups import Group, make_groups
from edge_sdk.calibration.policies import KINDS, kinds_of, tuned, tuned_once
from edge_sdk.calibration.prepare import ranged
from edge_sdk.calibration.ranges import Ranges, choose, collect
from edge_sdk.calibration.score import noise_to_signal
from edge_sdk.calibration.switchable import SwitchableModel
from edge_sdk.calibration.through import activations
from tests.calibration.engines.nets import CHANNELS, SIDE, Net

ENGINE = named("onnxruntime")
PHOTOS = 6
Outputs = Sequence[Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Bench:
    """A net of two gated convolutions and a last one, its ranges and photos."""

    graph: Graph
    groups: tuple[Group, ...]
    ranges: Ranges
    feeds: list[dict[str, NDArray[np.float32]]]
    truth: Outputs

    def losses(self, outputs: Outputs) -> NDArray[np.float64]:
        """The noise in what comes out."""
        return noise_to_signal(self.truth, outputs)

    def tuned(self, losses: Any = None, **options: Any) -> Any:
        return tuned(self.graph, ENGINE, self.groups, self.ranges, self.feeds, losses or self.losses, **options)

    def tuned_once(self, cache: Cache, feeds: Any) -> Any:
        return tuned_once(self.graph, ENGINE, self.groups, self.ranges, feeds, cache, {"model": "bench"})


@pytest.fixture(scope="module")
def bench() -> Bench:
    net = Net(3)
    x = net.conv("x", CHANNELS, CHANNELS, name="first")
    x = net.gated(x, name="gated1")
    x = net.gated(net.conv(x, CHANNELS, CHANNELS, 3, name="second"), name="gated2")
    x = net.conv(x, CHANNELS, CHANNELS, name="third")
    net.op("Sigmoid", net.conv(x, CHANNELS, CHANNELS, name="last"), name="scores")
    graph = Graph(net.model("scores:0"))
    groups = tuple(one for one in make_groups(graph, ENGINE.rules) if len(one.precisions) > 1)
    draw = np.random.default_rng(0)
    feeds = [{"x": draw.standard_t(3, (1, CHANNELS, SIDE, SIDE)).astype(np.float32)} for _ in range(PHOTOS)]
    statistics = collect(graph.model, feeds)
    ranges = choose(statistics, "uint8", tensors=ranged(graph, ENGINE, groups), through=activations(graph))
    with SwitchableModel(graph.model, (), {}, sections=1) as model:
        model.load(feeds)
        truth = model.probe(model.off)
    return Bench(graph, groups, ranges, feeds, truth)


class Verdicts:
    """Losses by number of the candidate: two masks are asked for each; the first is the ranges as they are."""

    def __init__(self, *values: float) -> None:
        self._values, self.asked = values, 0

    def __call__(self, outputs: Outputs) -> NDArray[np.float64]:
        assert len(outputs) == PHOTOS
        value = self._values[min(self.asked // 2, len(self._values) - 1)]
        self.asked += 1
        return np.full(PHOTOS, value)


def test_each_tensor_is_of_one_kind(bench: Bench) -> None:
    found = kinds_of(bench.graph, list(bench.ranges))
    assert set(found.values()) == set(KINDS)
    makers = {name: getattr(bench.graph.producer(name), "name", "input") for name in found}
    by_maker = {makers[name]: kind for name, kind in found.items()}
    assert by_maker["input"] == "all others"
    assert by_maker["first"] == by_maker["second"] == "inputs of activations"
    assert by_maker["third"] == "all others"
    assert by_maker["last"] == "outputs of the last layers"
    assert sum(kind == "outputs of activations" for kind in found.values()) == 2


def test_a_method_that_hurts_or_changes_nothing_is_left_out(bench: Bench) -> None:
    for verdicts in (Verdicts(0.5, 0.7), Verdicts(0.5)):
        ranges, tried = bench.tuned(verdicts)
        assert ranges.limits() == bench.ranges.limits()
        assert tried
        assert not any(one.kept for one in tried)
        assert all("left out" in one.line for one in tried)


def test_a_method_that_helps_some_photos_and_hurts_others_is_left_out(bench: Bench) -> None:
    """A mean that is better by chance is no reason."""
    asked = 0

    def mixed(outputs: Outputs) -> NDArray[np.float64]:
        nonlocal asked
        asked += 1
        values = np.full(PHOTOS, 0.5)
        return values if asked <= 2 else values + np.array([-0.4, 0.3, -0.1, 0.2, -0.2, 0.1])

    _, tried = bench.tuned(mixed)
    assert not any(one.kept for one in tried)


def test_a_method_that_helps_is_kept_and_the_next_is_held_against_it(bench: Bench) -> None:
    ranges, tried = bench.tuned(Verdicts(0.5, 0.4, 0.45))
    first, *others = tried
    assert first.kept
    assert (first.before, first.after) == (0.5, pytest.approx(0.4))
    assert not any(one.kept for one in others)
    assert others
    assert [one.before for one in others] == pytest.approx([0.4] * len(others))
    kinds = kinds_of(bench.graph, list(ranges))
    for name, one in ranges.items():
        if kinds[name] == first.kind:
            assert one.method == first.method
            assert (one.low, one.high) == (one.table[first.method].low, one.table[first.method].high)
        else:
            assert one == bench.ranges[name]


def test_real_losses_never_end_higher_than_they_began(bench: Bench) -> None:
    _, tried = bench.tuned()
    kept = [one for one in tried if one.kept]
    assert all(one.after < one.before for one in kept)
    assert tried == bench.tuned(workers=2)[1], "the same again, with photos side by side"


def test_progress_ends_where_it_said(bench: Bench) -> None:
    told: list[tuple[int, int]] = []
    _, tried = bench.tuned(progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, len(tried) + 2))
    assert all(done <= total for done, total in told)


def test_a_second_time_the_cache_answers_and_no_photo_is_opened(bench: Bench, tmp_path: Path) -> None:
    opened = 0

    def feeds() -> tuple[Any, Any]:
        nonlocal opened
        opened += 1
        return bench.feeds, Verdicts(0.5, 0.4, 0.45)

    first = bench.tuned_once(Cache(tmp_path), feeds)
    again = bench.tuned_once(Cache(tmp_path), feeds)
    assert opened == 1
    assert again[0].limits() == first[0].limits() != bench.ranges.limits()
    assert again[1] == first[1]
