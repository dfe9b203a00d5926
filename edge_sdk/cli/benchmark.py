"""``edge-sdk benchmark``: how fast a model is on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_sdk.cli import shared
from edge_sdk.errors import UsageError

if TYPE_CHECKING:
    from edge_sdk.detector import Detector


def command(
    model: str = typer.Argument(None, help=shared.MODEL_HELP),
    image: Path = typer.Option(None, "--image", help="Photo to detect in; left out: noise of 1280x720."),
    fps: float = typer.Option(30.0, "--fps", min=0.1, help="Rate of the fixed-rate camera run."),
    seconds: float = typer.Option(10.0, "--seconds", min=0.1, help="Least length of each run; 100 frames at least."),
    layers: bool = typer.Option(False, "--layers", help="Also the time of each layer, where the backend has it."),
    cold: bool = typer.Option(False, "--cold", help="Also fresh processes, from their start to the first detection."),
    every: bool = typer.Option(False, "--all", help="Every backend here that opens the file."),
    against: list[str] = typer.Option(
        None, "--against", help="Another model: both in turns, and nothing else; may be repeated."
    ),
    backend: str = shared.backend_option,
    threads: int = shared.threads_option,
    head: str = shared.head_option,
    card: Path = shared.card_option,
    option: list[str] = shared.option_option,
    as_json: bool = shared.json_option,
) -> None:
    """Time whole detections beside the bare engine.

    Opening, the first detection and the warm-up; then single-stream, fixed-rate camera and throughput runs. Each lasts
    until at least 10 s and 100 frames and gives percentiles as MLPerf LoadGen does. All figures are measured.

    With --against, the bare engine alone on several models in turns: the ratio to MODEL with its 95 % interval, which
    stands on a busy machine too.

    Example: edge-sdk benchmark yolox_nano.onnx --threads 1 --layers
    """
    from edge_sdk.backends.base import backends, choose
    from edge_sdk.detector import Detector, find_model
    from edge_sdk.device import this_device
    from edge_sdk.measure import cold_start

    path = find_model(model, backend)
    names = [backend]
    if every:
        if backend != "auto":
            raise UsageError("--all means every backend: leave --backend out")
        choose(path, this_device().target)  # says what is missing where there is none
        names = [b.name for b in backends().values() if path.suffix.lower() in b.suffixes and b.missing() is None]

    options = shared.parse_options(option)
    if against:
        taken = {"--image": image, "--cold": cold, "--all": every, "--head": head, "--card": card}
        stray = next((word for word, value in taken.items() if value), None)
        if stray is not None:
            raise UsageError(f"--against times the bare engine in turns: leave {stray} out")
        report = _in_turns([path, *map(find_model, against)], backend, threads, options, seconds, layers)
        if as_json:
            shared.print_json(report)
        else:
            _print_turns(report)
        return

    def make(name: str, count: int | None) -> Detector:
        return Detector(path, backend=name, threads=count, head=head, card=card, options=options)

    reports = []
    for name in names:
        began = time.perf_counter()
        with make(name, threads) as detector:
            opened_ms = (time.perf_counter() - began) * 1000
            report = _report(detector, opened_ms, lambda name=name: make(name, 1), image, fps, seconds, layers)
        report["cold"] = None
        if cold:
            with shared.progress("fresh processes", 100) as advance:
                started = cold_start.cold_start(
                    path, image=image, backend=name, threads=threads, head=head, card=card, options=options,
                    runs=cold_start.RUNS, progress=_following(advance),
                )  # fmt: skip
            report["cold"] = asdict(started)
        reports.append(report)
    if as_json:
        shared.print_json(reports[0] if not every else reports)
        return
    for report in reports:
        _print(report)


def _in_turns(
    paths: Sequence[Path], backend: str, threads: int | None, options: Mapping[str, str], seconds: float, layers: bool
) -> dict[str, Any]:
    from contextlib import ExitStack

    from edge_sdk.backends.base import choose, named
    from edge_sdk.device import this_device
    from edge_sdk.measure import turns

    target = this_device().target
    with ExitStack() as stack:
        sessions, engines = {}, {}
        for number, path in enumerate(paths):
            engine, part = (choose(path, target)[0], {}) if backend == "auto" else named(backend)
            opened = engine.open(path, target, threads=threads, options={**part, **options})
            # By number: the same file may stand against itself, which shows what the machine's noise comes to.
            sessions[str(number)] = stack.enter_context(opened)
            engines[str(number)] = engine.name
        with shared.progress("in turns", 100) as advance:
            found = turns.measure_in_turns(
                sessions, reference="0", seconds=seconds, rounds=turns.ROUNDS, progress=_following(advance)
            )
        rows = []
        for (name, turn), path in zip(found.models.items(), paths, strict=True):
            kernels = [asdict(layer) for layer in sessions[name].layers()] if layers else None
            rows.append(
                {
                    "model": path.name,
                    "path": str(path),
                    "backend": engines[name],
                    "active": sessions[name].active,
                    **asdict(turn),
                    "layers": kernels,
                }
            )
    return {
        "device": target.name,
        "method": "measured",
        "rounds": found.rounds,
        "passes": found.passes,
        "block": found.block,
        "clock": found.clock,
        "turns": rows,
    }


def _print_turns(report: dict[str, Any]) -> None:
    from rich.table import Table

    clock = "CPU time of the thread" if report["clock"] == "thread" else "wall clock"
    typer.echo(
        f"in turns on {report['device']}: {report['rounds']} rounds of {report['passes']} x {report['block']} runs, "
        f"{clock}; {report['turns'][0]['active']}"
    )
    table = Table("model", "median ms", "wall ms", "ratio", "95 % interval")
    for row in report["turns"]:
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        table.add_row(row["model"], f"{row['ms']:.2f}", f"{row['wall_ms']:.2f}", f"{row['ratio']:.3f}", interval)
    shared.console().print(table)
    for row in report["turns"]:
        if row["layers"]:
            typer.echo(row["model"])
            _print_layers(row["layers"])


def _report(
    detector: Detector,
    open_ms: float,
    make_single: Any,
    photo: Path | None,
    fps: float,
    seconds: float,
    layers: bool,
) -> dict[str, Any]:
    import numpy as np

    from edge_sdk.backends.base import cores
    from edge_sdk.device import this_device
    from edge_sdk.measure import latency
    from edge_sdk.measure.single_stream import SingleStream, read_layers
    from edge_sdk.sources.files import read_photo

    noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    image = noise if photo is None else read_photo(photo)
    workers = cores()
    stream = SingleStream(detector, image, open_ms=open_ms)
    with shared.progress(detector.path.name, 500) as advance:
        stream.first()
        warming = _following(advance)
        stream.warm_up(seconds, progress=warming)
        warming(1.0)  # it ends when latency is steady
        bare = latency.bare(detector, image, seconds=seconds, progress=_following(advance))
        stream.run(seconds, progress=_following(advance))
        single = stream.latency(layers=False)
        runs = [
            bare,
            latency.as_run(single),
            latency.camera(detector, image, fps=fps, seconds=seconds, progress=_following(advance)),
            latency.throughput(make_single, image, workers=workers, seconds=seconds, progress=_following(advance)),
        ]
    found, reason = read_layers(detector) if layers else ((), None)
    return {
        "model": detector.path.name,
        "device": this_device().target.name,
        "backend": detector.backend,
        "active": detector.session.active,
        "head": detector.head.name,
        "input": f"{image.shape[1]}x{image.shape[0]}" + (f" {photo}" if photo else " noise"),
        "camera_fps": fps,
        "throughput_workers": workers,
        "method": "measured",
        "runs": [asdict(run) for run in runs],
        "open_ms": single.open_ms,
        "first_ms": single.first_ms,
        "warm_up": single.warm_up,
        "warm_up_s": single.warm_up_s,
        "stages_ms": single.stages_ms,
        "early_stopping_ms": single.early_stopping_ms,
        "layers": [asdict(layer) for layer in found] if layers else None,
        "layers_reason": reason,
    }


def _following(advance: Callable[[int], None]) -> Callable[[float], None]:
    """Advances a bar by hundredths as it is told parts."""
    shown = 0

    def tell(part: float) -> None:
        nonlocal shown
        advance(int(part * 100) - shown)
        shown = int(part * 100)

    return tell


def _print(report: dict[str, Any]) -> None:
    from rich.table import Table

    typer.echo(f"{report['model']} on {report['device']}, {report['active']}, head {report['head']}, {report['input']}")
    typer.echo(f"open {report['open_ms']:.1f} ms, first detection {report['first_ms']:.2f} ms, {_warm(report)}")
    table = Table("run", "frames", "dropped", "rate /s", "p50 ms", "p90 ms", "p99 ms", "max ms")
    titles = {
        "bare": "bare engine",
        "single_stream": "single stream",
        "camera": f"camera {report['camera_fps']:g}/s",
        "throughput": f"{report['throughput_workers']} workers",
    }
    for run in report["runs"]:
        rate = f"{run['rate']:.1f}"
        table.add_row(
            titles[run["scenario"]], str(run["frames"]), str(run["dropped"]), rate, *_columns(run["latency_ms"])
        )
    shared.console().print(table)
    stages = Table("stage of the single stream", "p50 ms", "p90 ms", "p99 ms", "max ms")
    for stage, ms in report["stages_ms"].items():
        stages.add_row(stage, *_columns(ms))
    shared.console().print(stages)
    bare, single = report["runs"][0]["latency_ms"]["p50"], report["runs"][1]["latency_ms"]["p50"]
    typer.echo(f"single stream is {single / bare:.2f} of the bare engine ({single - bare:+.2f} ms)")
    early = report["early_stopping_ms"]["p90"]
    typer.echo(
        f"MLPerf's single-stream figure, p90: {report['runs'][1]['latency_ms']['p90']:.2f} ms"
        + ("" if early is None else f"; by early stopping, an upper bound with 99 % confidence: {early:.2f} ms")
    )
    if report["cold"] is not None:
        _print_cold(report["cold"])
    if report["layers"]:
        _print_layers(report["layers"])
    if report["layers_reason"] is not None:
        typer.echo(f"layers: {report['layers_reason']}")


def _print_layers(layers: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    rows = Table("slowest layers", "unit", "precision", "ms")
    for layer in sorted(layers, key=lambda layer: -(layer["time_ms"] or 0))[:15]:
        time_ms = "-" if layer["time_ms"] is None else f"{layer['time_ms']:.3f}"
        rows.add_row(", ".join(layer["nodes"]), layer["unit"], layer["precision"] or "-", time_ms)
    shared.console().print(rows)


def _columns(ms: dict[str, float]) -> list[str]:
    return [f"{ms[key]:.2f}" for key in ("p50", "p90", "p99", "max")]


def _warm(report: dict[str, Any]) -> str:
    if report["warm_up"] is None:
        return "not steady within the warm-up: the machine is busy, or its clocks move"
    count = report["warm_up"]
    return f"steady after {count} detection{'' if count == 1 else 's'} ({report['warm_up_s']:.2f} s)"


def _print_cold(cold: dict[str, Any]) -> None:
    parts = ", ".join(f"{stage} {ms['p50']:.0f}" for stage, ms in cold["stages_ms"].items())
    ms = cold["process_ms"]
    typer.echo(
        f"cold start to the first detection: p50 {ms['p50']:.0f} ms ({parts}), {ms['min']:.0f} to {ms['max']:.0f} ms, "
        f"{cold['runs']} processes, page cache {cold['page_cache']}"
    )
