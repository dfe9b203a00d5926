"""Profiles of any content that the reader accepts, for hypothesis."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from edge_sdk.measure.record import (
    ChannelTrack,
    ConditionTrack,
    Energy,
    Figure,
    Latency,
    LayerTime,
    Profile,
    Sampling,
    Throttle,
    Window,
)
from edge_sdk.result import Method

texts = st.text(max_size=12)
reals = st.floats(-1e15, 1e15)
positive = st.floats(0, 1e15)
counts = st.integers(0, 10**12)
methods = st.sampled_from(get_args(Method))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | reals | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def several(strategy: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[Any]:
    return st.lists(strategy, max_size=most).map(tuple)


figures = st.tuples(reals, reals, reals).map(sorted).map(lambda three: Figure(three[1], three[0], three[2]))
named = st.sampled_from(["p50", "p90", "p99", "mean", "max"]) | texts


@st.composite
def tracks(draw: st.DrawFn, kind: type[Any]) -> Any:
    at_s = tuple(sorted(draw(st.lists(reals, max_size=6))))
    values = tuple(draw(maybe(reals)) for _ in at_s)
    if kind is ChannelTrack:
        return ChannelTrack(
            draw(texts), draw(texts), draw(st.booleans()), draw(methods), at_s, values, draw(maybe(texts))
        )
    return ConditionTrack(draw(texts), draw(st.sampled_from(["c", "mhz", "percent"])), at_s, values, draw(maybe(texts)))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    start_s, end_s = sorted((draw(reals), draw(reals)))
    return Window(
        kind=draw(st.sampled_from(["idle", "work"])), repeat=draw(counts), start_s=start_s, end_s=end_s,
        inferences=draw(counts), energy_j=draw(maybe(reals)), mean_w=draw(maybe(reals)),
        samples=draw(counts), updates=draw(counts), longest_gap_s=draw(reals),
    )  # fmt: skip


@st.composite
def energies(draw: st.DrawFn) -> Energy:
    rejected = draw(several(texts))
    return Energy(
        method=draw(methods), covers=draw(maybe(texts)), missing=draw(maybe(texts)), idle_w=draw(maybe(figures)),
        work_w=draw(maybe(figures)), gross_mj=None if rejected else draw(maybe(figures)),
        net_mj=None if rejected else draw(maybe(figures)), net_refused=draw(maybe(texts)), rejected=rejected,
        noise_mj=draw(maybe(reals)), repeats=draw(counts), windows=draw(several(windows())),
    )  # fmt: skip


layers = st.builds(LayerTime, several(texts), texts, maybe(texts), maybe(reals))
latencies = st.builds(
    Latency,
    queries=counts, seconds=positive, percentiles_ms=st.dictionaries(named, reals, max_size=4),
    stages_ms=st.dictionaries(texts, st.dictionaries(named, reals, max_size=3), max_size=3),
    times_ms=several(positive, 40), open_ms=maybe(reals), first_ms=maybe(reals), warm_up=maybe(counts),
    layers=several(layers), warm_up_s=maybe(reals), early_stopping_ms=st.dictionaries(named, maybe(reals), max_size=2),
    layers_reason=maybe(texts),
)  # fmt: skip
throttles = st.tuples(texts, reals, reals).map(lambda one: Throttle(one[0], *sorted(one[1:])))
samplings = st.builds(Sampling, texts, reals, reals, reals, counts, counts, reals, reals, reals)
facts = st.dictionaries(texts, json_values, max_size=3)
profiles = st.builds(
    Profile,
    created=texts, model=facts, device=facts,
    latency=latencies, energy=maybe(energies()), energy_reason=maybe(texts), sampling=several(samplings),
    channels=several(tracks(ChannelTrack)), conditions=several(tracks(ConditionTrack)), throttling=several(throttles),
    seconds=positive, notes=several(texts), schema=st.just("edge-sdk/profile/1"),
)  # fmt: skip
