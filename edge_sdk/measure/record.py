"""What a profile holds: plain values that JSON can carry, and reports are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edge_sdk.result import Method

SCHEMA = "edge-sdk/profile/1"


@dataclass(frozen=True)
class Figure:
    """A measured figure and its 95 % interval; the unit stands in the name of what holds it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Window:
    """A stretch of a run in which nothing, or only inference, was done.

    Args:
        kind: "idle": the model is open and nothing is asked of it. "work": inferences one after another.
        repeat: Counts from 0; the idle window after a repeat's work is the one before the next's.
        start_s, end_s: Since the beginning of the run.
        inferences: That were done in it, whole.
        energy_j: Integrated over the window; None where the sensor gave too little.
        mean_w: `energy_j` over the window's length.
        samples: In the window.
        updates: Those whose value differs from the one before: how often the sensor really renewed it.
        longest_gap_s: Between two samples that have a value.
    """

    kind: Literal["idle", "work"]
    repeat: int
    start_s: float
    end_s: float
    inferences: int
    energy_j: float | None
    mean_w: float | None
    samples: int
    updates: int
    longest_gap_s: float


@dataclass(frozen=True)
class Energy:
    """Energy per inference, by the recipe in docs/power.md.

    Args:
        method: How the watts came about; see `Reading.method`.
        covers: What they contain, in words; None where nobody wrote it down.
        missing: What they are known to lack; None where nothing is.
        idle_w, work_w: Mean power of the idle and of the work windows; None where no window could be integrated.
        gross_mj: Energy of the work windows over their inferences; None where the run is rejected.
        net_mj: The same less idle power; None where the run is rejected or `net_refused` says why.
        net_refused: Why there is no net energy though the run stands; None where there is one.
        rejected: Why the run gives no energy at all, a line for each reason; empty where it stands.
        noise_mj: Standard uncertainty of the net energy: that which it must exceed twice.
        repeats: How many work windows there are.
        windows: In their order.
    """

    method: Method
    covers: str | None
    missing: str | None
    idle_w: Figure | None
    work_w: Figure | None
    gross_mj: Figure | None
    net_mj: Figure | None
    net_refused: str | None
    rejected: tuple[str, ...]
    noise_mj: float | None
    repeats: int
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class LayerTime:
    """A layer as the engine ran it, read back after the timed run; see `edge_sdk.backends.base.Layer`."""

    nodes: tuple[str, ...]
    unit: str
    precision: str | None
    time_ms: float | None


@dataclass(frozen=True)
class Latency:
    """Single-stream latency: the next query when the last is complete, counted as MLPerf LoadGen counts.

    Args:
        queries: How many.
        seconds: Over which; at least 10 s and 100 queries.
        percentiles_ms: p50, p90, p95, p97, p99, p99.9, min, max and mean of whole detections, by LoadGen's rule: each
            percentile is an observed time, none is interpolated. LoadGen's single-stream figure is p90.
        stages_ms: The same of "preprocess", "infer" and "decode", over the same queries.
        times_ms: Of each query, in order, whole detections.
        open_ms: From nothing to an open model, in this process; None where it was open before.
        first_ms: The first whole detection after it; None where others came before.
        warm_up: How many detections it took until latency was steady, the first included; None where it was not within
            the warm-up.
        layers: The slowest first; empty where the backend does not say.
        warm_up_s: How long they took together.
        early_stopping_ms: LoadGen's early stopping estimates of "p90" and "p99": upper bounds with 99 % confidence;
            None of too few queries.
        layers_reason: Why there are no layers, or no times of them; None where there are.
    """

    queries: int
    seconds: float
    percentiles_ms: Mapping[str, float]
    stages_ms: Mapping[str, Mapping[str, float]]
    times_ms: tuple[float, ...]
    open_ms: float | None
    first_ms: float | None
    warm_up: int | None
    layers: tuple[LayerTime, ...] = ()
    warm_up_s: float | None = None
    early_stopping_ms: Mapping[str, float | None] = field(default_factory=dict)
    layers_reason: str | None = None


@dataclass(frozen=True)
class ChannelTrack:
    """One channel over time, for plots and CSV: watts at times; None where there was no value."""

    sensor: str
    name: str
    in_total: bool
    method: Method
    at_s: tuple[float, ...]
    power_w: tuple[float | None, ...]
    absent: str | None = None


@dataclass(frozen=True)
class ConditionTrack:
    """A temperature ("c"), clock ("mhz") or load ("percent") over time."""

    name: str
    unit: Literal["c", "mhz", "percent"]
    at_s: tuple[float, ...]
    values: tuple[float | None, ...]
    reason: str | None = None


@dataclass(frozen=True)
class Throttle:
    """A stretch in which the board throttled itself, by one cause."""

    cause: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Sampling:
    """How one sensor was read.

    Args:
        sensor: Its name.
        wanted_hz: The rate that was asked for.
        effective_hz: Samples over the time.
        refresh_s: The sensor's own time between two values, as far as it is known.
        samples, updates: Reads, and those whose value differed from the one before.
        longest_gap_s: Between two reads.
        read_ms: What one read takes, in the median.
        cost_percent: Processor time of the sampling, of one core.
    """

    sensor: str
    wanted_hz: float
    effective_hz: float
    refresh_s: float
    samples: int
    updates: int
    longest_gap_s: float
    read_ms: float
    cost_percent: float


@dataclass(frozen=True)
class Profile:
    """Latency, power and energy per inference of one model on one machine.

    Args:
        created: UTC, ISO 8601.
        model: name, sha256, backend, active, engine, head, input, threads, and the like.
        device: target, label, edge_sdk, python, machine, kernel, power_mode, governor, and the like; None for what is
            not known.
        latency: Always measured.
        energy: None where there is no sensor.
        energy_reason: Why there is none.
        sampling: One a sensor.
        channels, conditions, throttling: For the plots.
        seconds: Length of the run that the tracks show.
        notes: What a reader should know: background load, a first run that was thrown away.
    """

    created: str
    model: Mapping[str, Any]
    device: Mapping[str, Any]
    latency: Latency
    energy: Energy | None
    energy_reason: str | None
    sampling: tuple[Sampling, ...] = ()
    channels: tuple[ChannelTrack, ...] = ()
    conditions: tuple[ConditionTrack, ...] = ()
    throttling: tuple[Throttle, ...] = ()
    seconds: float = 0.0
    notes: Sequence[str] = field(default_factory=tuple)
    schema: str = SCHEMA

    def record(self) -> dict[str, Any]:
        """As plain values, the JSON of the schema in edge_sdk/report/profile.schema.json."""
        return asdict(self)
