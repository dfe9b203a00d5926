"""Profiles a model: its latency, the power that it draws and the energy of an inference, on this machine."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.conditions.environment import environment
from edge_sdk.conditions.reader import ConditionsReader
from edge_sdk.detector import Detector
from edge_sdk.device import system_root, this_device
from edge_sdk.measure.loadgen_rules import MIN_QUERIES
from edge_sdk.measure.recipe import Progress, Recipe, Run, run
from edge_sdk.measure.record import Energy, Latency, Profile
from edge_sdk.measure.single_stream import SingleStream
from edge_sdk.measure.tracks import channel_tracks, condition_tracks
from edge_sdk.measure.verdict import judge, throttle_stretches
from edge_sdk.models.card import ModelCard
from edge_sdk.sensors.base import total
from edge_sdk.sensors.gauge import Gauge
from edge_sdk.sensors.power import Power, open_power
from edge_sdk.shell import shell_for

NOISE_HW = (720, 1280)
_BUSY = 0.5  # of a core: more than this before the run is worth a note


def profile(
    model: str | Path | None = None,
    *,
    image: NDArray[np.uint8] | None = None,
    sensor: str | None = None,
    sensor_options: Mapping[str, str] | None = None,
    recipe: Recipe | None = None,
    layers: bool = True,
    max_hz: float = 50.0,
    ring: Path | None = None,
    progress: Progress | None = None,
    backend: str = "auto",
    threads: int | None = None,
    head: str | None = None,
    card: ModelCard | Path | str | None = None,
    options: Mapping[str, str] | None = None,
) -> Profile:
    """Measures latency, power and energy per inference by the recipe: settle, idle, work, idle again, three times over.

    It takes about a minute and a half. Where no sensor gives watts, latency alone is measured, for as long as one work
    window, and `Profile.energy_reason` says why.

    Args:
        model: A file, the name of a zoo model, or None for the embedded default.
        image: uint8 [h, w, 3] BGR to detect in; None is noise of 1280x720.
        sensor: As `open_power` takes it; None is the board's own.
        sensor_options: For its driver.
        recipe: How long what is done; None is the default.
        layers: Also the time of each layer, after the timed run, where the backend says.
        max_hz: The most reads a second of one sensor.
        ring: A file that samples are kept in as well: it survives a crash.
        progress: Told how far it is, 0..1, and what is done.
        backend, threads, head, card, options: As `Detector` takes them.

    Raises:
        SensorError, UsageError: As `open_power` raises them.
        ModelError, BackendError: As `Detector` raises them.
    """
    recipe = Recipe() if recipe is None else recipe
    picture = _noise() if image is None else image
    tell: Progress = (lambda _part, _doing: None) if progress is None else progress

    def opened() -> Detector:
        return Detector(model, backend=backend, threads=threads, head=head, card=card, options=options)

    with ExitStack() as stack:
        power = stack.enter_context(open_power(sensor, options=sensor_options))
        reader = ConditionsReader()
        facts = environment(system_root(), shell_for(system_root()))
        tell(0.0, "opening the model")
        stream = stack.enter_context(SingleStream.opened(opened, picture))
        tell(0.0, "warming up")
        stream.warm_up(recipe.work_s)
        reason = _why_no_power(power)
        measured: Run | None = None
        energy: Energy | None = None
        if reason is None:
            measured = run(
                stream.query, power, reader.read, recipe,
                lead_in=stream.unkept, max_hz=max_hz, ring=ring, progress=progress,
            )  # fmt: skip
            energy = judge(measured, power.covers)
            latency = stream.latency(layers=layers)
        else:
            stream.run(recipe.work_s, progress=lambda part: tell(part, "timing"))
            latency = stream.latency(layers=layers)
        model_facts = _model_facts(stream.detector, picture, image is None, threads)
    return _record(model_facts, facts, latency, measured, energy, reason, recipe)


def _noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*NOISE_HW, 3), np.uint8)


def _why_no_power(power: Power) -> str | None:
    """Why nothing can be integrated: no sensor, or one that gives no value."""
    if power.main is None:
        return power.reason or "no sensor gives this machine's power"
    gauge = Gauge(power.main)
    reading = gauge.read()
    if any(channel.in_total and channel.quantity == "energy" for channel in power.main.channels):
        raw = total(power.main.channels, reading.raw, reading.at_ns)
        return None if raw.value is not None else raw.reason
    if reading.total.value is None:
        return power.reason or reading.total.reason
    return None


def _record(
    model_facts: Mapping[str, Any],
    facts: Mapping[str, Any],
    latency: Latency,
    measured: Run | None,
    energy: Energy | None,
    reason: str | None,
    recipe: Recipe,
) -> Profile:
    return Profile(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=model_facts,
        device=_device_facts(facts),
        latency=latency,
        energy=energy,
        energy_reason=reason,
        sampling=measured.samplings if measured is not None else (),
        channels=channel_tracks(measured.traces, measured.began_ns) if measured is not None else (),
        conditions=condition_tracks(measured.conditions, measured.began_ns) if measured is not None else (),
        throttling=throttle_stretches(measured) if measured is not None else (),
        seconds=(measured.ended_ns - measured.began_ns) / 1e9 if measured is not None else latency.seconds,
        notes=tuple(_notes(facts, recipe, measured, latency.queries)),
    )


def _model_facts(detector: Detector, image: NDArray[np.uint8], is_noise: bool, threads: int | None) -> dict[str, Any]:
    from edge_sdk.backends.base import backends

    return {
        "name": detector.path.name,
        "sha256": sha256(detector.path),
        "file_mib": round(detector.path.stat().st_size / 2**20, 2),
        "backend": detector.backend,
        "active": detector.session.active,
        "engine": backends()[detector.backend].version(),
        "threads": threads,  # None is the backend's choice, which `active` may tell
        "head": detector.head.name,
        "input_hw": list(detector.card.input_hw),
        "image": f"{image.shape[1]}x{image.shape[0]}" + (" noise" if is_noise else ""),
    }


def _device_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    from edge_sdk import __version__

    identity = this_device()
    return {
        "target": identity.target.name,
        "label": identity.target.label,
        "machine": f"{sys.platform} {platform.machine()}",
        "edge_sdk": __version__,
        "python": platform.python_version(),
        **facts,
    }


def _notes(facts: Mapping[str, Any], recipe: Recipe, measured: Run | None, queries: int) -> Sequence[str]:
    shortcuts = recipe.stretched(measured.main.refresh_s).shortcuts if measured is not None else ()
    notes = [f"shorter than the recipe: {one}" for one in shortcuts]
    if queries < MIN_QUERIES:
        notes.append(f"{queries} queries, where MLPerf counts at least {MIN_QUERIES}: lengthen the work windows")
    load = facts.get("load_1min")
    if isinstance(load, (int, float)) and load > _BUSY:
        notes.append(f"something else was running: the load average was {load:.2f} before the run")
    return notes


def sha256(path: Path) -> str:
    """A file's checksum, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def default_ring() -> Path:
    """Where `edge-sdk profile` keeps its samples while it runs: in the cache, one file a process."""
    from edge_sdk.models.zoo import cache_folder

    return cache_folder().parent / "power" / f"profile-{os.getpid()}.ring"


def leftover_rings() -> list[Path]:
    """Rings of profiles whose process is gone: their samples are all that is left of a crash."""
    folder = default_ring().parent
    return [ring for ring in sorted(folder.glob("profile-*.ring")) if not _alive(ring)]


def _alive(ring: Path) -> bool:
    number = ring.stem.rpartition("-")[2]
    if not (number.isascii() and number.isdigit()):
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True
