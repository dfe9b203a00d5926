"""``edge-sdk benchmark``: how fast a model is on this machine."""

from __future__ import annotations

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
    every: bool = typer.Option(False, "--all", help="Every backend here that opens the file."),
    backend: str = shared.backend_option,
    threads: int = shared.threads_option,
    head: str = shared.head_option,
    card: Path = shared.card_option,
    option: list[str] = shared.option_option,
    as_json: bool = shared.json_option,
) -> None:
    """Time whole detections beside the bare engine.

    Single-stream, fixed-rate camera and throughput runs. Each lasts until at least 10 s and 100 frames, as MLPerf
    LoadGen counts. All figures are measured.

    Example: edge-sdk benchmark yolox_nano.onnx --threads 1 --layers
    """
    from edge_sdk.backends.base import backends, choose
    from edge_sdk.detector import Detector, find_model
    from edge_sdk.device import this_device

    path = find_model(model)
    names = [backend]
    if every:
        if backend != "auto":
            raise UsageError("--all means every backend: leave --backend out")
        choose(path, this_device().target)  # says what is missing where there is none
        names = [b.name for b in backends().values() if path.suffix.lower() in b.suffixes and b.missing() is None]

    def make(name: str, count: int | None) -> Detector:
        options = shared.parse_options(option)
        return Detector(path, backend=name, threads=count, head=head, card=card, options=options)

    reports = []
    for name in names:
        with make(name, threads) as detector:
            reports.append(_report(detector, lambda name=name: make(name, 1), image, fps, seconds, layers))
    if as_json:
        shared.print_json(reports[0] if not every else reports)
        return
    for report in reports:
        _print(report)


def _report(
    detector: Detector, make_single: Any, photo: Path | None, fps: float, seconds: float, layers: bool
) -> dict[str, Any]:
    import numpy as np

    from edge_sdk.backends.base import cores
    from edge_sdk.device import this_device
    from edge_sdk.measure import latency
    from edge_sdk.sources.files import read_photo

    noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    image = noise if photo is None else read_photo(photo)
    workers = cores()
    with shared.progress(detector.path.name, 400) as advance:

        def follow() -> latency.Progress:
            shown = 0

            def tell(part: float) -> None:
                nonlocal shown
                advance(int(part * 100) - shown)
                shown = int(part * 100)

            return tell

        runs = [
            latency.bare(detector, image, seconds=seconds, progress=follow()),
            latency.single_stream(detector, image, seconds=seconds, progress=follow()),
            latency.camera(detector, image, fps=fps, seconds=seconds, progress=follow()),
            latency.throughput(make_single, image, workers=workers, seconds=seconds, progress=follow()),
        ]
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
        "layers": [asdict(layer) for layer in detector.session.layers()] if layers else None,
    }


def _print(report: dict[str, Any]) -> None:
    from rich.table import Table

    typer.echo(f"{report['model']} on {report['device']}, {report['active']}, head {report['head']}, {report['input']}")
    table = Table("run", "frames", "dropped", "rate /s", "p50 ms", "p90 ms", "p99 ms", "max ms")
    titles = {
        "bare": "bare engine",
        "single_stream": "single stream",
        "camera": f"camera {report['camera_fps']:g}/s",
        "throughput": f"{report['throughput_workers']} workers",
    }
    for run in report["runs"]:
        ms = run["latency_ms"]
        figures = [f"{ms[key]:.2f}" for key in ("p50", "p90", "p99", "max")]
        table.add_row(titles[run["scenario"]], str(run["frames"]), str(run["dropped"]), f"{run['rate']:.1f}", *figures)
    shared.console().print(table)
    bare, single = report["runs"][0]["latency_ms"]["p50"], report["runs"][1]["latency_ms"]["p50"]
    typer.echo(f"single stream is {single / bare:.2f} of the bare engine ({single - bare:+.2f} ms)")
    if report["layers"]:
        slowest = sorted(report["layers"], key=lambda layer: -(layer["time_ms"] or 0))[:15]
        rows = Table("slowest layers", "unit", "precision", "ms")
        for layer in slowest:
            time_ms = "-" if layer["time_ms"] is None else f"{layer['time_ms']:.3f}"
            rows.add_row(", ".join(layer["nodes"]), layer["unit"], layer["precision"] or "-", time_ms)
        shared.console().print(rows)
