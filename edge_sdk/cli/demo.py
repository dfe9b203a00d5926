"""``edge-sdk demo``: the main job with nothing attached."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_sdk.cli import ending, shared

if TYPE_CHECKING:
    from rich.table import Table

    from edge_sdk.camera import Camera

_REDRAWS_PER_S = 4


def command(
    model: str = typer.Option(None, "--model", "-m", help=shared.MODEL_HELP),
    seconds: float = typer.Option(10.0, "--seconds", min=0.1, help="How long."),
    save: Path = typer.Option(Path("edge-sdk-demo.mp4"), "--save", help="Where the annotated clip goes."),
    backend: str = shared.backend_option,
    confidence: float = shared.confidence_option,
    classes: list[str] = typer.Option(
        None, "--class", help="Only this class; may be repeated. Left out: person, where the model knows it."
    ),
    threads: int = shared.threads_option,
    as_json: bool = typer.Option(False, "--json", help="Print the totals as JSON instead of the live table."),
) -> None:
    """Detect in a built-in scene; writes an annotated clip.

    Needs no camera, network or GPU.

    Example: edge-sdk demo --model yolox_nano.onnx --seconds 5
    """
    from edge_sdk.camera import Camera
    from edge_sdk.cli.outputs import check_written
    from edge_sdk.detector import Detector
    from edge_sdk.models.labels import name_of
    from edge_sdk.sinks.video import VideoSink

    seen: Counter[str] = Counter()
    with ExitStack() as stack:
        detector = stack.enter_context(Detector(model, backend=backend, confidence=confidence, threads=threads))
        names = detector.class_names
        # The scene shows people alone; a tie or a badge that is found beside them would only puzzle.
        detector.classes = classes or (["person"] if "person" in names else None)
        camera = stack.enter_context(Camera("demo", detector))
        sink = VideoSink(save, names, fps=camera.source.fps or 30.0, live=True)
        stack.callback(sink.close)  # also where the run does not begin
        redraw = stack.enter_context(_table(camera, seen, as_json))
        stack.enter_context(ending.gracefully(camera.stop))
        for result in camera.detect(seconds=seconds, sinks=[sink]):
            seen.update({name_of(names, i) or f"class {i}" for i in result.detections.class_id.tolist()})
            redraw()
    stats = camera.stats
    check_written([sink], camera)
    if as_json:
        shared.print_json(
            {
                "model": camera.detector.path.name,
                "active": camera.detector.session.active,
                "seconds": seconds,
                **stats.record(),
                "seen_in_frames": dict(seen),
                "power_reason": camera.power_reason,
                "clip": str(save),
            }
        )
        return
    typer.echo(f"annotated clip: {save}")


def _table(camera: Camera, seen: Counter[str], quiet: bool) -> Any:
    """A context manager that yields what redraws the live table."""
    import time
    from contextlib import contextmanager, nullcontext

    if quiet:
        return nullcontext(lambda: None)

    @contextmanager
    def live() -> Any:
        from rich.live import Live

        began = time.monotonic()
        screen = shared.console()
        with Live(console=screen, refresh_per_second=_REDRAWS_PER_S, transient=False) as display:
            last = 0.0

            def redraw() -> None:
                nonlocal last
                if time.monotonic() - last >= 1 / _REDRAWS_PER_S:
                    last = time.monotonic()
                    display.update(_rows(camera, seen, time.monotonic() - began))

            yield redraw
            display.update(_rows(camera, seen, time.monotonic() - began))
        if not screen.is_terminal:
            screen.print()  # Live ends its line on terminals alone

    return live()


def _rows(camera: Camera, seen: Counter[str], seconds: float) -> Table:
    from rich.table import Table

    stats = camera.stats
    table = Table(title=f"{camera.detector.path.name} on {camera.detector.session.active}", show_header=False)
    table.add_row("rate", f"{stats.processed / seconds:.1f} results/s over {seconds:.0f} s")
    for key, title in (("infer_ms", "inference"), ("total_ms", "capture to result")):
        ms = stats.percentiles[key]
        if ms:
            table.add_row(title, f"p50 {ms['p50']:.1f} ms, p90 {ms['p90']:.1f} ms, max {ms['max']:.1f} ms (measured)")
    dropped = ", ".join(f"{count} {cause}" for cause, count in stats.dropped.items()) or "none"
    table.add_row("frames", f"{stats.captured} captured, {stats.processed} processed, dropped: {dropped}")
    table.add_row("power", shared.power_text(stats.energy, camera.power_reason))
    found = ", ".join(f"{name} in {count}" for name, count in seen.most_common(4)) or "nothing yet"
    table.add_row("seen", f"{found} of {stats.processed} frames")
    return table
