"""``edge-sdk detect``: a camera, file, folder, glob or URL through a detector."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_sdk.cli import shared
from edge_sdk.errors import SourceError, UsageError

if TYPE_CHECKING:
    from edge_sdk.camera import Camera
    from edge_sdk.result import Result


def command(
    source: str = typer.Argument(
        None, help="A camera (0, /dev/video0, csi:0), photo, video, folder, glob, URL or demo."
    ),
    model: str = typer.Option(None, "--model", "-m", help=shared.MODEL_HELP),
    save: Path = typer.Option(None, "--save", help="Write what was drawn: a video (.mp4), a photo (.jpg) or a folder."),
    jsonl: str = typer.Option(
        None, "--jsonl", help="Write one JSON object a frame to this file; - is standard output."
    ),
    frames: int = typer.Option(None, "--frames", min=1, help="Stop after this many results."),
    seconds: float = typer.Option(None, "--seconds", min=0.001, help="Stop after this long."),
    width: int = typer.Option(None, "--width", min=1, help="Ask a camera for this width."),
    height: int = typer.Option(None, "--height", min=1, help="Ask a camera for this height."),
    fps: float = typer.Option(None, "--fps", min=0.1, help="Ask a camera for this rate."),
    backend: str = shared.backend_option,
    confidence: float = shared.confidence_option,
    iou: float = shared.iou_option,
    classes: list[str] = shared.classes_option,
    threads: int = shared.threads_option,
    head: str = shared.head_option,
    card: Path = shared.card_option,
    option: list[str] = shared.option_option,
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object a frame; the same as --jsonl -."),
) -> None:
    """Detect objects; print, draw and stream what is found.

    Example: edge-sdk detect street.mp4 --model yolox_nano.onnx --save out.mp4
    """
    from edge_sdk.camera import Camera
    from edge_sdk.sinks.base import Sink
    from edge_sdk.sinks.jsonl import JsonlSink
    from edge_sdk.sinks.video import picture_sink

    _check_outputs([save, None if jsonl in (None, "-") else Path(jsonl)], [source, model])
    streams = dict.fromkeys([*(["-"] if as_json else []), *([jsonl] if jsonl is not None else [])])
    sinks: list[Sink] = []
    camera: Camera | None = None
    try:
        with ExitStack() as stack:

            def add(sink: Sink) -> None:
                sinks.append(sink)
                stack.callback(sink.close)  # however the run ends, what was written so far is kept

            camera = stack.enter_context(
                Camera(
                    source,
                    model,
                    backend=backend,
                    confidence=confidence,
                    iou=iou,
                    classes=classes or None,
                    threads=threads,
                    head=head,
                    card=card,
                    options=shared.parse_options(option),
                    width=width,
                    height=height,
                    fps=fps,
                )
            )
            names = camera.detector.class_names
            total = _expected(camera, frames)
            if save is not None:  # first: it may refuse, and the others replace what is in their files
                _check_room(save, total)
                add(picture_sink(save, names, camera.source.fps, live=camera.source.live))
            for stream in streams:
                add(JsonlSink(stream, names))
            quiet = "-" in streams
            # A bar and lines on one screen would write over each other.
            with shared.progress(camera.source.name, total, wanted=shared.output_is_a_file()) as advance:
                for result in camera.detect(frames=frames, seconds=seconds):
                    for sink in sinks:
                        sink.put(result)
                    if not quiet:
                        typer.echo(_line(result, names, total))
                    advance(1)
    finally:
        # Also when somebody ends the run, which is how a camera's run ends, and when the source is lost.
        if camera is not None and camera.stats.captured:
            _summary(camera.stats)
            if save is not None and save.exists():
                typer.echo(f"written: {save}", err=True)
    stats = camera.stats
    if stats.captured and not stats.processed and stats.dropped.get("decode_error"):
        raise SourceError(f"{camera.source.name}: not one of {stats.captured} pictures could be read")


def _check_outputs(outputs: list[Path | None], inputs: list[str | None]) -> None:
    """No output may be an input: it would be replaced by what was drawn in it."""
    read = [Path(name) for name in inputs if name]
    for output in outputs:
        if output is None:
            continue
        if output == Path():
            raise UsageError("an output is named by an empty text; name a file or a folder")
        for path in read:
            if output.exists() and path.exists() and output.samefile(path):
                raise UsageError(f"{output}: is what is read, and would be lost; write to another name")


def _check_room(save: Path, expected: int | None) -> None:
    from edge_sdk.sources.files import PHOTO_SUFFIXES

    if save.suffix.lower() in PHOTO_SUFFIXES and expected != 1:
        count = "no known end" if expected is None else f"{expected} pictures"
        raise UsageError(f"--save {save}: one photo, but the source has {count}; name a video (.mp4) or a folder")


def _expected(camera: Camera, frames: int | None) -> int | None:
    total = camera.source.total
    return frames if total is None else total if frames is None else min(frames, total)


def _line(result: Result, names: tuple[str, ...], total: int | None) -> str:
    from edge_sdk.models.labels import name_of

    found = ", ".join(
        f"{name_of(names, one.class_id) or one.class_id} {one.confidence:.2f}" for one in result.detections
    )
    where = result.frame.source if Path(result.frame.source).suffix else ""
    timing = result.timing
    cost = timing.preprocess_ms + timing.infer_ms + timing.decode_ms
    number = f"{result.frame.id:5d}" if total is None else f"{result.frame.id + 1:5d}/{total}"
    return f"{number}  {cost:6.1f} ms  {where and Path(where).name + '  '}{found or 'nothing'}"


def _summary(stats: Any) -> None:
    said = {"shutdown": "waiting at the end"}
    dropped = ", ".join(
        f"{count} {said.get(cause, cause.replace('_', ' '))}" for cause, count in sorted(stats.dropped.items())
    )
    infer = stats.percentiles["infer_ms"]
    timing = f"; inference p50 {infer['p50']:.1f} ms, p99 {infer['p99']:.1f} ms" if infer else ""
    typer.echo(
        f"{stats.captured} captured, {stats.processed} processed, dropped: {dropped or 'none'}{timing}", err=True
    )
