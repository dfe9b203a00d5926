"""Profiles as boards give them, made up for tests: no figure in them is a measurement of anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

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

Kind = Literal["normal", "rejected", "no_sensor", "estimate", "absent", "long", "weird", "bare"]
KINDS: tuple[Kind, ...] = ("normal", "rejected", "no_sensor", "estimate", "absent", "long", "weird", "bare")
HOSTILE = "</script><script>alert(1)</script><b>\u202egpj.\x1b[31m{%y}&amp;\ud800"

_IDLE_W, _WORK_W = 3.5, 6.2
_SETTLE_S, _WINDOW_S = 3.0, 10.0


def make_profile(kind: Kind = "normal", *, p50_ms: float = 23.4, work_w: float = _WORK_W, **changes: Any) -> Profile:
    """A profile of one kind; `changes` replace its fields."""
    profile = {
        "normal": _normal,
        "rejected": _rejected,
        "no_sensor": _no_sensor,
        "estimate": _estimate,
        "absent": _absent,
        "long": _long,
        "weird": _weird,
        "bare": _bare,
    }[kind](p50_ms, work_w)
    return replace(profile, **changes)


def shortened(profile: Profile, most: int = 12) -> Profile:
    """The same with the first samples and latencies alone, where a test reads it again and again."""
    return replace(
        profile,
        latency=replace(profile.latency, times_ms=profile.latency.times_ms[:most], layers=profile.latency.layers[:2]),
        channels=tuple(replace(one, at_s=one.at_s[:most], power_w=one.power_w[:most]) for one in profile.channels),
        conditions=tuple(replace(one, at_s=one.at_s[:most], values=one.values[:most]) for one in profile.conditions),
    )


def _normal(p50_ms: float, work_w: float, seconds_each: float = _WINDOW_S, hz: float = 20.0) -> Profile:
    windows = _windows(p50_ms, work_w, seconds_each)
    end = windows[-1].end_s + 0.5
    at_s = np.round(np.arange(0.0, end, 1 / hz) + 0.004, 6)
    random = np.random.default_rng(5)
    busy = np.zeros(len(at_s))
    for window in windows:
        if window.kind == "work":
            busy[(at_s >= window.start_s - 0.5) & (at_s <= window.end_s)] = 1.0
    watts = np.round((_IDLE_W + (work_w - _IDLE_W) * busy + random.normal(0, 0.06, len(at_s))) / 0.04) * 0.04
    rail = np.round((0.6 + 0.75 * (work_w - _IDLE_W) * busy + random.normal(0, 0.04, len(at_s))) / 0.04) * 0.04
    inference_s = p50_ms / 1e3
    gross = work_w * inference_s * 1e3
    net = (work_w - _IDLE_W) * inference_s * 1e3
    return Profile(
        created="2026-11-21T12:00:00Z",
        model={
            "name": "yolox_nano.onnx", "sha256": "0" * 64, "backend": "onnxruntime", "active": "CUDAExecutionProvider",
            "engine": "onnxruntime 1.23.0", "head": "yolox", "image": "1280x720 noise", "input_hw": [416, 416],
            "file_mib": 3.49, "options": {},
        },
        device={
            "target": "jetson-orin-nano", "label": "Jetson Orin Nano", "edge_sdk": "0.1.0", "python": "3.10.12",
            "machine": "linux aarch64", "kernel": "5.15.148-tegra", "power_mode": "25W", "governors": "schedutil",
            "nvpmodel_id": 1, "clocks_pinned": False, "emc_mhz": None, "memory_mib": 7620,
        },
        latency=_latency(p50_ms, random),
        energy=Energy(
            method="sensor_total", covers="module and carrier, measured at VDD_IN", missing="losses of the supply",
            idle_w=Figure(_IDLE_W, _IDLE_W - 0.02, _IDLE_W + 0.02), work_w=Figure(work_w, work_w - 0.05, work_w + 0.04),
            gross_mj=Figure(gross, gross * 0.985, gross * 1.016), net_mj=Figure(net, net * 0.96, net * 1.04),
            net_refused=None, rejected=(), noise_mj=net * 0.02, repeats=3, windows=windows,
        ),
        energy_reason=None,
        sampling=(Sampling("ina3221 1-0040", hz, hz * 0.98, 0.013, len(at_s), len(at_s) - 40, 1.8 / hz, 0.31, 0.6),),
        channels=(
            ChannelTrack("ina3221 1-0040", "VDD_IN", True, "sensor_total", _tuple(at_s), _tuple(watts)),
            ChannelTrack("ina3221 1-0040", "VDD_CPU_GPU_CV", False, "sensor_partial", _tuple(at_s), _tuple(rail)),
            ChannelTrack("ina3221 1-0040", "VDD_SOC", False, "sensor_partial", _tuple(at_s), _tuple(0 * rail + 1.04)),
        ),
        conditions=_conditions(end, busy, at_s),
        seconds=end,
        notes=("load average 0.12 before the run",),
    )  # fmt: skip


def _rejected(p50_ms: float, work_w: float) -> Profile:
    profile = _normal(p50_ms, work_w)
    assert profile.energy is not None
    reasons = (
        "the board throttled: gpu-throttle-alert",
        "idle power drifted: 3.500 W in one idle window, 3.790 W in another, 8.0 % apart",
    )
    energy = replace(profile.energy, gross_mj=None, net_mj=None, noise_mj=None, rejected=reasons)
    stretches = (Throttle("gpu-throttle-alert", 20.0, 25.5), Throttle("gpu-throttle-alert", 47.0, 52.0))
    return replace(profile, energy=energy, throttling=stretches)


def _no_sensor(p50_ms: float, work_w: float) -> Profile:
    reason = "Raspberry Pi 4 has no sensor of its own power that this version knows; name a meter with --sensor"
    device = {"target": "raspberry-pi-4", "label": "Raspberry Pi 4", "machine": "linux aarch64", "power_mode": None}
    profile = _normal(p50_ms, work_w)
    latency = replace(profile.latency, layers=(), layers_reason="tflite tells no layers of a delegate")
    return replace(
        profile,
        latency=latency,
        energy=None,
        energy_reason=reason,
        sampling=(),
        channels=(),
        device=device,
        seconds=0.0,
    )


def _estimate(p50_ms: float, work_w: float) -> Profile:
    profile = _normal(p50_ms, work_w)
    assert profile.energy is not None
    energy = replace(
        profile.energy, method="estimate", covers="the whole board, under load of its processor alone",
        missing="whatever else draws power", net_mj=None,
        net_refused="4.1 mJ is below twice its noise of 3.2 mJ",
    )  # fmt: skip
    channels = (replace(profile.channels[0], sensor="load model", name="board", method="estimate"),)
    return replace(profile, energy=energy, channels=channels)


def _absent(p50_ms: float, work_w: float) -> Profile:
    profile = _normal(p50_ms, work_w)
    total, rail, soc = profile.channels
    many = len(total.at_s)
    gap = range(many // 3, many // 3 + many // 10)
    total = replace(
        total,
        power_w=tuple(None if place in gap else one for place, one in enumerate(total.power_w)),
        absent="EAGAIN: the sensor gave nothing",
    )
    rail = replace(rail, power_w=(None,) * many, absent="the channel is disabled")
    gated = replace(
        profile.conditions[1], values=(None,) * len(profile.conditions[1].at_s), reason="gated: read as -256000"
    )
    assert profile.energy is not None
    windows = tuple(
        replace(one, energy_j=None, mean_w=None, longest_gap_s=7.4) if place == 2 else one
        for place, one in enumerate(profile.energy.windows)
    )
    reasons = ("the samples do not cover idle window 2: a gap of 7.4 s",)
    energy = replace(
        profile.energy,
        idle_w=None,
        work_w=None,
        gross_mj=None,
        net_mj=None,
        noise_mj=None,
        rejected=reasons,
        windows=windows,
    )
    conditions = (profile.conditions[0], gated, *profile.conditions[2:])
    return replace(profile, energy=energy, channels=(total, rail, soc), conditions=conditions)


def _long(p50_ms: float, work_w: float) -> Profile:
    """About 600 s at 50 Hz, with one peak that lasts for a single sample."""
    profile = _normal(p50_ms, work_w, seconds_each=82.6, hz=50.0)
    total = profile.channels[0]
    watts = list(total.power_w)
    watts[12_345] = 14.8
    return replace(profile, channels=(replace(total, power_w=tuple(watts)), *profile.channels[1:]))


def _weird(p50_ms: float, work_w: float) -> Profile:
    profile = _normal(p50_ms, work_w)
    assert profile.energy is not None
    return replace(
        profile,
        model={
            **profile.model,
            "name": HOSTILE,
            "größe, 大きさ": "模型 🦊 ' \" <i>",
            HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}],
        },
        device={**profile.device, "label": f"Board {HOSTILE}", "power_mode": "<u>25W</u>"},
        energy=replace(profile.energy, covers=HOSTILE, missing=HOSTILE),
        channels=tuple(
            replace(one, name=f"{one.name} {HOSTILE}", sensor=HOSTILE, absent=HOSTILE) for one in profile.channels
        ),
        conditions=tuple(replace(one, name=f"{one.name} {HOSTILE}", reason=HOSTILE) for one in profile.conditions),
        throttling=(Throttle(HOSTILE, 20.0, 30.0),),
        sampling=tuple(replace(one, sensor=HOSTILE) for one in profile.sampling),
        latency=replace(
            profile.latency,
            layers=(LayerTime((HOSTILE, "/stem/conv"), HOSTILE, HOSTILE, 0.5),),
            stages_ms={**profile.latency.stages_ms, HOSTILE: {"p50": 1.0, "mean": 1.0}},
        ),
        notes=(HOSTILE, "=1+1"),
        created=HOSTILE,
    )


def _bare(p50_ms: float, work_w: float) -> Profile:
    """The least that a profile may have."""
    latency = Latency(1, p50_ms / 1e3, {"p50": p50_ms}, {}, (), None, None, None)
    return Profile("", {}, {}, latency, None, None)


def _windows(p50_ms: float, work_w: float, seconds_each: float) -> tuple[Window, ...]:
    windows = []
    at = 0.0
    many = int(seconds_each * 1e3 / p50_ms)
    for repeat in range(4):
        at += _SETTLE_S
        idle_w = _IDLE_W + 0.01 * repeat
        windows.append(_window("idle", repeat, at, seconds_each, 0, idle_w))
        at += seconds_each
        if repeat < 3:
            at += 0.5
            mean_w = work_w + 0.02 * (repeat - 1)
            windows.append(_window("work", repeat, at, seconds_each, many, mean_w))
            at += seconds_each
    return tuple(windows)


def _window(
    kind: Literal["idle", "work"], repeat: int, start_s: float, seconds: float, inferences: int, mean_w: float
) -> Window:
    return Window(
        kind=kind, repeat=repeat, start_s=start_s, end_s=start_s + seconds, inferences=inferences,
        energy_j=mean_w * seconds, mean_w=mean_w, samples=200, updates=190,
        longest_gap_s=0.09,
    )  # fmt: skip


def _latency(p50_ms: float, random: np.random.Generator) -> Latency:
    times = p50_ms * (0.985 + random.gamma(2.0, 0.012, 1280))
    times[[100, 700]] = p50_ms * 3.1  # as when something else wakes up
    parts = {"preprocess": 0.1, "infer": 0.82, "decode": 0.07}
    layers = tuple(
        LayerTime(
            (f"/backbone/dark{1 + place // 6}/conv{place}/Conv", f"/backbone/dark{1 + place // 6}/act{place}/Mul"),
            "gpu", "fp16" if place % 5 else "fp32", round(p50_ms / (12 + 3 * place), 4),
        )
        for place in range(48)
    )  # fmt: skip
    return Latency(
        queries=len(times), seconds=float(times.sum()) / 1e3, percentiles_ms=_percentiles(times),
        stages_ms={name: _percentiles(times * part) for name, part in parts.items()}, times_ms=_tuple(times),
        open_ms=812.4, first_ms=p50_ms * 2.7, warm_up=14, warm_up_s=0.61,
        early_stopping_ms={"p90": p50_ms * 1.04, "p99": None},
        layers=(*layers, LayerTime(("Reshape_7",), "cpu", None, None)),
    )  # fmt: skip


def _percentiles(times: np.ndarray) -> dict[str, float]:
    found = {name: float(np.percentile(times, float(name[1:]))) for name in ("p50", "p90", "p99")}
    return {"min": float(times.min()), **found, "max": float(times.max()), "mean": float(times.mean())}


def _conditions(end: float, busy: np.ndarray, at_s: np.ndarray) -> tuple[ConditionTrack, ...]:
    times = np.arange(0.0, end, 1.0)
    load = np.interp(times, at_s, busy)
    heat = np.cumsum(load - 0.4) * 0.12
    return (
        ConditionTrack("cpu-thermal", "c", _tuple(times), _tuple(np.round(46 + heat, 1))),
        ConditionTrack("gpu-thermal", "c", _tuple(times), _tuple(np.round(45 + 1.2 * heat, 1))),
        ConditionTrack("gpu", "mhz", _tuple(times), _tuple(np.where(load > 0.5, 918.0, 306.0))),
        ConditionTrack("cpu0", "mhz", _tuple(times), _tuple(np.where(load > 0.5, 1510.4, 729.6))),
        ConditionTrack("gpu", "percent", _tuple(times), _tuple(np.round(90 * load + 2, 1))),
    )


def _tuple(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
