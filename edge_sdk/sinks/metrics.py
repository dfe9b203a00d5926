"""A run's accounting as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from edge_sdk.errors import MissingDependencyError, extra_hint
from edge_sdk.measure.running import PowerStats
from edge_sdk.pipeline.books import DROP_CAUSES, SinkStats, Stats
from edge_sdk.result import State
from edge_sdk.sources.base import without_credentials

STATES: tuple[State, ...] = get_args(State)
# What `Stats.dropped` may hold. All are always told, at 0 too: rate() misses the first step of a counter that appears.
_QUANTILES = {"p50": "0.5", "p90": "0.9", "p99": "0.99", "max": "1"}


class MetricsCollector:
    """A run's figures for a `prometheus_client` registry; they are read anew at each scrape.

    Give it to a registry of your own, ``registry.register(MetricsCollector(...))``, one a registry, or print it with
    `text`.

    Args:
        stats: Gives the accounting, such as ``lambda: camera.stats``; called in the thread that scrapes.
        camera: Value of the label ``camera``; credentials are removed.
        counts: Gives the newest counts of zones and lines by name, as `Result.counts` holds them.

    Raises:
        MissingDependencyError: prometheus-client is not installed.
    """

    def __init__(
        self, stats: Callable[[], Stats], camera: str, counts: Callable[[], Mapping[str, int]] | None = None
    ) -> None:
        _prometheus()
        self._stats = stats
        self._camera = _label(without_credentials(camera))
        self._counts = counts

    def describe(self) -> list[Any]:
        """Nothing: a registry need not scrape in order to know the names."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yields one metric family after the other."""
        stats = self._stats()
        yield self._counter("frames_captured", "Frames that came from the source, readable or not.", stats.captured)
        yield self._counter("frames_processed", "Frames that gave a result.", stats.processed)
        yield self._dropped(stats.dropped)
        yield self._gauge("frames_in_flight", "Frames between capture and result.", stats.in_flight)
        yield self._stages(stats.percentiles)
        yield self._state(stats.state)
        yield self._counter("reconnects", "Times that the camera came back after it was lost.", stats.reconnects)
        yield self._counter("stalls", "Times that the camera gave no frame for too long.", stats.stalls)
        if stats.energy is not None:
            yield from self._power(stats.energy)
        yield from self._sinks(stats.sinks)
        if self._counts is not None:
            yield self._zones(self._counts())

    def _dropped(self, dropped: Mapping[str, int]) -> Any:
        family = self._family("counter", "frames_dropped", "Frames that gave no result, by cause.", "cause")
        for cause, count in {**dict.fromkeys(DROP_CAUSES, 0), **dropped}.items():
            family.add_metric([self._camera, _label(cause)], count)
        return family

    def _stages(self, percentiles: Mapping[str, Mapping[str, float]]) -> Any:
        text = "Time of a stage over the latest 4096 results; total is a frame's age when its result is there."
        family = self._family("gauge", "stage_seconds", text, "stage", "quantile")
        for name, figures in percentiles.items():
            for figure, quantile in _QUANTILES.items():
                if figure in figures:  # none is before the first result
                    family.add_metric([self._camera, name.removesuffix("_ms"), quantile], figures[figure] / 1000)
        return family

    def _state(self, state: State) -> Any:
        family = self._family("gauge", "camera_state", "1 for the state that the camera is in.", "state")
        for one in STATES:
            family.add_metric([self._camera, one], float(one == state))
        return family

    def _power(self, energy: PowerStats) -> Iterator[Any]:
        """Nothing that is not known: a gauge that is away says more than one at 0."""
        power = self._family("gauge", "power_watts", "The newest power, by how it came about.", "method")
        latest = energy.latest
        if latest is not None and latest.value is not None and latest.method is not None:
            power.add_metric([self._camera, latest.method], latest.value)
        yield power
        joules = self._family("counter", "energy_joules", "Energy of the runs so far, idle power included.", "method")
        if energy.energy_j is not None and energy.method is not None:
            joules.add_metric([self._camera, energy.method], energy.energy_j)
        yield joules
        text = "Time of the runs without a value of power, which is not in the energy."
        yield self._counter("power_gaps_seconds", text, energy.gaps_s)

    def _sinks(self, sinks: Mapping[str, SinkStats]) -> Iterator[Any]:
        results = self._family("counter", "sink_results", "What became of a sink's results.", "sink", "outcome")
        waiting = self._family("gauge", "sink_waiting", "Results in a sink's queue.", "sink")
        for name, sink in sinks.items():
            for outcome in ("written", "dropped", "failed"):
                results.add_metric([self._camera, _label(name), outcome], getattr(sink, outcome))
            waiting.add_metric([self._camera, _label(name)], sink.waiting)
        yield results
        yield waiting

    def _zones(self, counts: Mapping[str, int]) -> Any:
        family = self._family("gauge", "zone_count", "Counts of zones and lines in the newest result.", "counter")
        for name, count in counts.items():
            family.add_metric([self._camera, _label(name)], count)
        return family

    def _counter(self, name: str, text: str, value: float) -> Any:
        family = self._family("counter", name, text)
        family.add_metric([self._camera], value)
        return family

    def _gauge(self, name: str, text: str, value: float) -> Any:
        family = self._family("gauge", name, text)
        family.add_metric([self._camera], value)
        return family

    def _family(self, kind: str, name: str, text: str, *labels: str) -> Any:
        """An empty family; counters get their "_total" from the library."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        return make(f"edge_sdk_{name}", text, labels=("camera", *labels))


def text(collector: MetricsCollector) -> tuple[bytes, str]:
    """Prometheus' text exposition format, UTF-8, and its content type."""
    client = _prometheus()
    registry = client.CollectorRegistry()
    registry.register(collector)
    return client.generate_latest(registry), client.CONTENT_TYPE_LATEST


def _label(value: str) -> str:
    """The value as UTF-8 can write it: the name of a file need not be UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode()


def _prometheus() -> Any:
    try:
        import prometheus_client
    except ImportError as error:
        raise MissingDependencyError(f"prometheus-client is not installed: {extra_hint('http')}") from error
    return prometheus_client
